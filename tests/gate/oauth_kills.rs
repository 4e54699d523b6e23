//! A gateway that is killed while clients refresh: each client gets on with the token that it has, and what was ended stays ended.
//! What people do at the pages is done by another gateway of the same file, which is gone before.

use std::{
    collections::HashMap,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    time::SystemTime,
};

use rustix::process::Signal;
use serde_json::{Value, json};
use sluicegate::oauth::flow::new_name;
use tempfile::TempDir;

use crate::{
    harness::{post, until},
    login::futures,
    login_store::try_ask,
    numbered::from_env,
    oauth_tokens::{HASH, Tokens, allowed_by, another_gateway, config, of_portal, redemption},
    process::Process,
    recorder::Recorder,
};

/// How often it is killed; `SLUICEGATE_KILLS` has another number.
const KILLS: usize = 3;
/// Clients at a time, each of a user of its own.
const CLIENTS: usize = 4;
/// Grants that each of them gets in a round.
const CODES: usize = 2;
/// Then others take their turns: a user has 200 codes an hour at most.
const ROUNDS_OF_A_USER: usize = 90;
/// Grants that each of them has at least, and so ends none of; and those that it begins the next round with at most.
const LEAST: usize = 1;
const KEPT: usize = 6;
/// It is killed after fewer answers than that, but for the first time, when something is to be there to be looked at.
const MOST_ANSWERS: usize = 60;

/// What a client knows of a grant. All of it was answered.
struct Known {
    /// What it came of, in this round.
    code: Option<String>,
    access: String,
    /// The refresh tokens, the last one last; of the others, the two before are kept.
    refresh: Vec<String>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Lives,
    /// A refresh was not answered.
    Refreshes,
    /// What ends it was not answered.
    Ends,
    Ended,
}

impl Known {
    fn new(code: String, answer: &Value) -> Self {
        let Tokens { access, refresh } = Tokens::of(answer);
        Self { code: Some(code), access, refresh: vec![refresh], state: State::Lives }
    }

    fn last(&self) -> &str {
        self.refresh.last().unwrap()
    }

    fn take(&mut self, answer: &Value) {
        let Tokens { access, refresh } = Tokens::of(answer);
        self.access = access;
        self.refresh.push(refresh);
        if self.refresh.len() > 3 {
            self.refresh.remove(0);
        }
        self.state = State::Lives;
    }
}

fn refresh(token: &str) -> String {
    of_portal("/token", &[("grant_type", "refresh_token"), ("refresh_token", token)])
}

async fn ask(gate: &Process, request: &str) -> (u16, Value) {
    try_ask(gate, request).await.expect("an answer")
}

/// Gets tokens, refreshes them and ends grants, until the gateway is gone. Counts the answers.
async fn use_them(gate: &Process, known: &mut Vec<Known>, mut codes: Vec<String>, answers: &AtomicUsize) {
    for turn in 0.. {
        if let Some(code) = codes.pop() {
            let Some((status, answer)) = try_ask(gate, &of_portal("/token", &redemption(&code))).await else {
                return;
            };
            assert_eq!(status, 200, "{answer}");
            known.push(Known::new(code, &answer));
            answers.fetch_add(1, Ordering::Relaxed);
        }
        let living = known.iter().filter(|one| one.state == State::Lives).count();
        let mut of_turn = known.iter_mut().filter(|one| one.state == State::Lives);
        let Some(one) = of_turn.nth(turn * 7 % living.max(1)) else { continue };
        // In each way that there is, and what it is answered with.
        let end = match (turn % 9, &one.refresh[..], &one.code) {
            (2, ..) => Some((of_portal("/revoke", &[("token", &one.access)]), 200)),
            (4, [older, _, _], _) => Some((refresh(older), 400)),
            (6, _, Some(code)) => Some((of_portal("/token", &redemption(code)), 400)),
            (8, ..) => Some((of_portal("/revoke", &[("token", one.last())]), 200)),
            _ => None,
        };
        if let Some((end, wanted)) = end.filter(|_| living > LEAST) {
            one.state = State::Ends;
            let Some((status, answer)) = try_ask(gate, &end).await else { return };
            assert_eq!(status, wanted, "{answer}");
            one.state = State::Ended;
        } else {
            one.state = State::Refreshes;
            let Some((status, answer)) = try_ask(gate, &refresh(one.last())).await else { return };
            assert_eq!(status, 200, "{answer}");
            one.take(&answer);
        }
        answers.fetch_add(1, Ordering::Relaxed);
    }
}

/// Somebody lets the portal in.
async fn codes_of(state: &Path, user: &str) -> Vec<String> {
    let pages = another_gateway(state);
    let mut codes = Vec::new();
    for _ in 0..CODES {
        let new = allowed_by(&pages, user);
        let code =
            pages.grants().unwrap().begin_code(&new_name().unwrap(), new, SystemTime::now()).await.unwrap();
        codes.push(code.expose().to_owned());
    }
    codes
}

/// Whether it is over altogether.
async fn assert_is_dead(gate: &Process, one: &Known, why: &str) {
    for token in &one.refresh {
        let (status, answer) = ask(gate, &refresh(token)).await;
        assert_eq!((status, &answer["error"]), (400, &json!("invalid_grant")), "{why}: revived");
    }
    assert_eq!(ask(gate, &post("/db", &one.access, "", "{}")).await.0, 401, "{why}: revived");
}

/// Whether its client gets on.
async fn assert_gets_on(gate: &Process, one: &mut Known, why: &str) {
    let last = one.last().to_owned();
    if let ([.., before, _], State::Lives) = (&one.refresh[..], one.state) {
        let (status, answer) = ask(gate, &refresh(before)).await;
        assert_eq!((status, &answer["refresh_token"]), (200, &json!(last)), "{why}: lost: {answer}");
    }
    let (status, answer) = ask(gate, &refresh(&last)).await;
    assert_eq!(status, 200, "{why}: lost: {answer}");
    let (_, again) = ask(gate, &refresh(&last)).await;
    assert_eq!(again["refresh_token"], answer["refresh_token"], "{why}: two successors");
    assert_eq!(ask(gate, &post("/db", &one.access, "", "{}")).await.0, 200, "{why}");
    one.take(&answer);
}

/// `SLUICEGATE_KILLS=1000 cargo test --test gate killed` is the whole of it.
#[tokio::test]
async fn a_gateway_that_is_killed_while_clients_refresh_has_lost_no_token_and_revived_no_grant() {
    let (server, directory) = (Recorder::start().await, TempDir::new().unwrap());
    let state = directory.path().join("state");
    let kills = from_env("SLUICEGATE_KILLS", KILLS);
    let user = |round: usize, client: usize| format!("user{}-{client}", round / ROUNDS_OF_A_USER);
    let users = (0..kills).flat_map(|round| (0..CLIENTS).map(move |client| user(round, client)));
    let users: HashMap<_, _> = users.map(|user| (user, json!({ "passwordHash": *HASH }))).collect();
    let auth = json!({ "users": users, "refreshReuseGrace": "1h" });
    let config = config(&state, &server.url("/mcp"), auth);
    let mut gate = Process::start(config.clone()).await;
    let mut known: Vec<Vec<Known>> = (0..CLIENTS).map(|_| Vec::new()).collect();
    let mut dead: Vec<Known> = Vec::new();
    let (mut got_on, mut unanswered, mut checked) = (0, 0, 0);
    for round in 0..kills {
        let mut codes = Vec::new();
        for client in 0..CLIENTS {
            codes.push(codes_of(&state, &user(round, client)).await);
        }
        let answers = AtomicUsize::new(0);
        let mut random = [0; 2];
        getrandom::fill(&mut random).unwrap();
        let killed_after = match round {
            0 => MOST_ANSWERS,
            _ => usize::from(u16::from_le_bytes(random)) % MOST_ANSWERS,
        };
        let kill = async {
            until("enough is answered", || answers.load(Ordering::Relaxed) >= killed_after).await;
            gate.signal(Signal::KILL);
        };
        let all = known.iter_mut().zip(codes).map(|(known, codes)| use_them(&gate, known, codes, &answers));
        tokio::join!(futures(all), kill);
        gate.exited().await;
        gate = Process::start(config.clone()).await;
        let why = format!("round {round}");
        for known in &mut known {
            for one in known.iter_mut() {
                unanswered += usize::from([State::Refreshes, State::Ends].contains(&one.state));
                match one.state {
                    State::Lives | State::Refreshes => {
                        assert_gets_on(&gate, one, &why).await;
                        got_on += 1;
                    }
                    // One or the other, and the same for all of it.
                    State::Ends => match ask(&gate, &refresh(one.last())).await {
                        (200, answer) => one.take(&answer),
                        _ => one.state = State::Ended,
                    },
                    State::Ended => {}
                }
            }
            let (ended, mut living): (Vec<_>, Vec<_>) =
                known.drain(..).partition(|one| one.state == State::Ended);
            dead.extend(ended);
            for mut one in living.drain(..living.len().saturating_sub(KEPT)) {
                assert_eq!(ask(&gate, &of_portal("/revoke", &[("token", one.last())])).await.0, 200);
                one.state = State::Ended;
                dead.push(one);
            }
            living.iter_mut().for_each(|one| one.code = None);
            *known = living;
        }
        // Those that ended last, and one of those before in turn.
        let newest = dead.len().saturating_sub(3 * CLIENTS);
        let in_turn = (newest > 0).then(|| round % newest.max(1));
        for index in in_turn.into_iter().chain(newest..dead.len()) {
            assert_is_dead(&gate, &dead[index], &why).await;
            checked += 1;
        }
    }
    for one in &dead {
        assert_is_dead(&gate, one, "at the end").await;
    }
    println!(
        "{kills} kills, {unanswered} requests without an answer: {got_on} times a client got on, {} grants that were ended \
         stayed so, looked at {} times",
        dead.len(),
        checked + dead.len(),
    );
    assert!(got_on > 0 && !dead.is_empty());
}
