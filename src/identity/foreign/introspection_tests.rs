//! An issuer that is asked about tokens, and answers as the test says, on a clock that the test sets.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use http::StatusCode;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    task::{spawn_local, yield_now},
};
use url::Url;
use zeroize::Zeroizing;

use super::{
    answer,
    introspection::{AskedToken, Introspector, NotConfirmed, Unsaid, Verdict},
    jwt::NotTaken,
    signer::{NOW, issuer},
    source::{Ask, Asking, IssuerAnswer, NotFetched, Source},
    verified::VerifiedJwt,
};
use crate::{
    clock::Clock,
    config::{Introspection, Issuer},
    identity::token_digest::TokenDigest,
    ledger::AddressBlock,
    secret::Secret,
};

const INACTIVE: Result<String, NotConfirmed> = Err(NotConfirmed::NotTaken(NotTaken::Inactive));
const DOWN: Result<String, NotConfirmed> =
    Err(NotConfirmed::Unsaid(Unsaid::NoAnswer(NotFetched::Unreachable)));
const TOO_MANY: Result<String, NotConfirmed> = Err(NotConfirmed::Unsaid(Unsaid::TooMany));

/// The issuer: what it answers to everything, and what it was asked.
struct Host {
    answer: Mutex<Result<(u16, String), NotFetched>>,
    asked: Mutex<Vec<String>>,
    /// Answers come while it is not held.
    is_held: watch::Sender<bool>,
}

impl Source for Host {
    fn ask<'a>(&'a self, url: &'a Url, ask: Ask, most: usize) -> Asking<'a> {
        assert_eq!((url.as_str(), most), ("https://login.corp.example/introspect", answer::LONGEST));
        // `gate way:s%c` as a form has it, in base64.
        let authorization = ask.authorization.as_ref().unwrap();
        assert!(authorization.is_sensitive());
        assert_eq!(authorization.to_str().unwrap(), "Basic Z2F0ZSt3YXk6cyUyNWM=");
        self.asked.lock().push(ask.text().unwrap().to_owned());
        let mut held = self.is_held.subscribe();
        Box::pin(async move {
            let _ = held.wait_for(|is_held| !is_held).await;
            let (status, body) = self.answer.lock().clone()?;
            let status = StatusCode::from_u16(status).unwrap();
            Ok(IssuerAnswer { status, body: body.into(), fresh_for: None })
        })
    }
}

struct Played {
    introspector: Arc<Introspector>,
    host: Arc<Host>,
    /// Seconds since the test began.
    passed: Arc<AtomicU64>,
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW + seconds)
}

fn asked_issuer(prefix: Option<&str>) -> Arc<Issuer> {
    let introspection = Introspection {
        url: "https://login.corp.example/introspect".parse().unwrap(),
        client_id: "gate way".into(),
        client_secret: Secret::new("s%c".into()),
        cache_ttl: Duration::from_secs(30),
        token_prefix: prefix.map(str::to_owned),
    };
    Arc::new(Issuer { introspection: Some(introspection), ..issuer() })
}

fn played() -> Played {
    let host = Arc::new(Host {
        answer: Mutex::new(Err(NotFetched::Unreachable)),
        asked: Mutex::default(),
        is_held: watch::Sender::new(false),
    });
    let passed = Arc::new(AtomicU64::new(0));
    let of_clock = Arc::clone(&passed);
    let clock = Arc::new(Clock::by(move || at(of_clock.load(Ordering::Relaxed))));
    let members = Arc::new(BTreeSet::from(["groups".to_owned()]));
    let source = Arc::clone(&host) as Arc<dyn Source>;
    let introspector = Introspector::new(&asked_issuer(None), &members, &source, &clock, None).unwrap();
    let played = Played { introspector: Arc::new(introspector), host, passed };
    played.says(json!({}));
    played
}

fn token(token: &str) -> AskedToken {
    let digest = TokenDigest::of(token.as_bytes());
    AskedToken { digest, token: Zeroizing::new(token.as_bytes().to_vec()), jwt: None, from: None }
}

impl Played {
    /// It answers that tokens are good, and `more`.
    fn says(&self, more: Value) {
        let mut answer =
            json!({ "active": true, "sub": "u1", "aud": "x", "scope": "mcp", "exp": NOW + 3_600 });
        for (name, value) in more.as_object().unwrap() {
            answer[name] = value.clone();
        }
        self.answers(200, &answer.to_string());
    }

    fn answers(&self, status: u16, body: &str) {
        *self.host.answer.lock() = Ok((status, body.to_owned()));
    }

    fn is_down(&self) {
        *self.host.answer.lock() = Err(NotFetched::Unreachable);
    }

    fn wait(&self, seconds: u64) {
        self.passed.fetch_add(seconds, Ordering::Relaxed);
    }

    fn asked(&self) -> usize {
        self.host.asked.lock().len()
    }

    async fn verdict(&self, text: &str) -> Arc<Verdict> {
        self.introspector.ask(&token(text)).await.unwrap()
    }

    /// Whose token it is.
    async fn ask(&self, text: &str) -> Result<String, NotConfirmed> {
        self.introspector.ask(&token(text)).await.map(|verdict| verdict.said().subject.clone())
    }

    /// What a stream by this token does until the next look.
    async fn keep_asking(&self, verdict: &Arc<Verdict>) {
        self.introspector.keep_asking(verdict);
        for _ in 0..10 {
            yield_now().await;
        }
    }

    fn goes_on(&self, verdict: &Verdict) -> bool {
        self.introspector.lets_go_on(verdict)
    }
}

#[tokio::test(flavor = "local")]
async fn a_yes_is_one_for_a_while_and_a_no_for_a_shorter_one() {
    let played = played();
    assert_eq!(played.ask("a+b/c~d").await, Ok("u1".into()));
    assert_eq!(played.host.asked.lock()[0], "token=a%2Bb%2Fc%7Ed&token_type_hint=access_token");
    played.wait(29);
    assert_eq!((played.ask("a+b/c~d").await, played.asked()), (Ok("u1".into()), 1));
    played.wait(1);
    assert_eq!((played.ask("a+b/c~d").await, played.asked()), (Ok("u1".into()), 2));
    assert_eq!((played.ask("other").await, played.asked()), (Ok("u1".into()), 3), "each is asked about");
    played.answers(200, r#"{"active":false}"#);
    for _ in 0..100 {
        assert_eq!(played.ask("bad").await, INACTIVE);
    }
    assert_eq!(played.asked(), 4);
    played.wait(10);
    assert_eq!((played.ask("bad").await, played.asked()), (INACTIVE, 5));
    // It ends with the token, if that is before.
    played.says(json!({ "exp": NOW + 45 }));
    assert_eq!((played.ask("short").await, played.asked()), (Ok("u1".into()), 6));
    played.wait(34);
    assert_eq!((played.ask("short").await, played.asked()), (Ok("u1".into()), 7), "by the leeway");
    played.wait(1);
    assert_eq!(played.ask("short").await, Err(NotConfirmed::NotTaken(NotTaken::Expired)));
}

#[tokio::test(flavor = "local")]
async fn one_question_is_on_its_way_for_all_who_want_to_know() {
    let played = Arc::new(played());
    played.host.is_held.send_replace(true);
    let ask = || {
        let played = Arc::clone(&played);
        spawn_local(async move { played.ask("a").await })
    };
    let all: Vec<_> = (0..100).map(|_| ask()).collect();
    let leaves = ask();
    for _ in 0..5 {
        yield_now().await;
    }
    leaves.abort();
    assert_eq!(played.asked(), 1);
    played.host.is_held.send_replace(false);
    for one in all {
        assert_eq!(one.await.unwrap(), Ok("u1".into()));
    }
    assert_eq!(played.asked(), 1);
}

#[tokio::test(flavor = "local")]
async fn an_issuer_that_does_not_answer_says_nothing_of_any_token() {
    let played = played();
    assert_eq!(played.ask("known").await, Ok("u1".into()));
    played.is_down();
    assert_eq!(played.ask("a").await, DOWN);
    assert_eq!((played.ask("b").await, played.asked()), (DOWN, 2), "it is left alone for a second");
    assert_eq!(played.ask("known").await, Ok("u1".into()), "what it said a moment ago holds");
    played.wait(1);
    for (status, body, why) in [
        (401, r#"{"error":"invalid_client"}"#, Unsaid::Refused),
        (500, "{}", Unsaid::Refused),
        (200, "[]", Unsaid::Unreadable),
        (200, r#"{"active":true,"active":false}"#, Unsaid::Unreadable),
    ] {
        played.answers(status, body);
        let of_another = format!("{status}-{}", body.len());
        assert_eq!(played.ask(&of_another).await, Err(NotConfirmed::Unsaid(why)), "{status} {body}");
    }
    played.says(json!({}));
    assert_eq!(played.ask("a").await, Ok("u1".into()), "at once");
    played.wait(30);
    played.is_down();
    assert_eq!(played.ask("known").await, DOWN);
}

#[tokio::test(flavor = "local")]
async fn tokens_that_nobody_knows_are_asked_about_at_a_rate_that_the_issuer_can_bear() {
    let played = played();
    assert_eq!(played.ask("known").await, Ok("u1".into()));
    played.answers(200, r#"{"active":false}"#);
    played.wait(29);
    let mut refused = 0;
    for n in 0..10_000 {
        let found = played.ask(&format!("garbage-{n}")).await;
        assert!(found == INACTIVE || found == TOO_MANY, "{found:?}");
        refused += usize::from(found == TOO_MANY);
    }
    assert_eq!((played.asked(), refused), (1 + 50, 10_000 - 50));
    assert_eq!(played.ask("known").await, Ok("u1".into()));
    played.says(json!({}));
    played.wait(1);
    for n in 0..100 {
        let _ = played.ask(&format!("more-{n}")).await;
    }
    let before = played.asked();
    assert_eq!(
        (played.ask("known").await, played.asked()),
        (Ok("u1".into()), before + 1),
        "it is no new one"
    );
    // However many there are, so many are on their way.
    played.host.is_held.send_replace(true);
    let played = Arc::new(played);
    for n in 0..100 {
        let played = Arc::clone(&played);
        played.wait(1);
        spawn_local(async move { played.ask(&format!("held-{n}")).await });
        yield_now().await;
    }
    assert_eq!(played.asked(), before + 1 + 32);
}

#[tokio::test(flavor = "local")]
async fn one_address_takes_no_more_of_the_questions_than_its_part() {
    let played = Arc::new(played());
    let from = |octet: u8| Some(AddressBlock::from(IpAddr::from([192, 0, 2, octet])));
    let ask = |text: String, octet: u8| {
        let asked = AskedToken { from: from(octet), ..token(&text) };
        let played = Arc::clone(&played);
        async move { played.introspector.ask(&asked).await.map(|verdict| verdict.said().subject.clone()) }
    };
    // As it fails to say anything of them, nobody counts them.
    played.answers(403, "{}");
    for n in 0..100 {
        let found = ask(format!("garbage-{n}"), 1).await;
        assert_eq!(found, if n < 20 { Err(NotConfirmed::Unsaid(Unsaid::Refused)) } else { TOO_MANY }, "{n}");
    }
    assert_eq!(played.asked(), 20);
    played.says(json!({}));
    assert_eq!(ask("good".into(), 2).await, Ok("u1".into()));
    // Nor does it have all places of those that take long.
    played.wait(1);
    played.host.is_held.send_replace(true);
    for n in 0..10 {
        spawn_local(ask(format!("slow-{n}"), 1));
    }
    let other = spawn_local(ask("other".into(), 2));
    for _ in 0..10 {
        yield_now().await;
    }
    assert_eq!(played.asked(), 21 + 8 + 1);
    played.host.is_held.send_replace(false);
    assert_eq!(other.await.unwrap(), Ok("u1".into()));
}

#[tokio::test(flavor = "local")]
async fn an_issuer_that_fails_is_not_asked_at_each_request() {
    let played = played();
    assert_eq!(played.ask("known").await, Ok("u1".into()));
    played.wait(30);
    played.answers(400, "{}");
    for _ in 0..100 {
        assert_eq!(played.ask("known").await, Err(NotConfirmed::Unsaid(Unsaid::Refused)));
    }
    assert_eq!(played.asked(), 2);
    // What it does not say of one token, it says of another.
    *played.host.answer.lock() = Err(NotFetched::Timeout);
    assert_eq!(played.ask("slow").await, Err(NotConfirmed::Unsaid(Unsaid::NoAnswer(NotFetched::Timeout))));
    played.says(json!({}));
    assert_eq!(played.ask("other").await, Ok("u1".into()));
    played.wait(1);
    assert_eq!(played.ask("known").await, Ok("u1".into()));
}

#[tokio::test(flavor = "local")]
async fn who_was_let_in_before_a_reload_is_no_stranger_after_it() {
    let played = played();
    for n in 0..40 {
        assert_eq!(played.ask(&format!("good-{n}")).await, Ok("u1".into()));
    }
    let (members, host) =
        (Arc::new(BTreeSet::from(["team".to_owned()])), Arc::clone(&played.host) as Arc<dyn Source>);
    let before = &*played.introspector;
    let passed = Arc::clone(&played.passed);
    let clock = Arc::new(Clock::by(move || at(passed.load(Ordering::Relaxed))));
    let after = Introspector::new(before.issuer(), &members, &host, &clock, Some(before));
    let after = Played {
        introspector: Arc::new(after.unwrap()),
        host: played.host.clone(),
        passed: played.passed.clone(),
    };
    let strangers: Vec<_> = (0..60).map(|n| format!("garbage-{n}")).collect();
    for stranger in &strangers {
        let _ = after.ask(stranger).await;
    }
    assert_eq!(after.ask("one more").await, TOO_MANY);
    for n in 0..40 {
        assert_eq!(after.ask(&format!("good-{n}")).await, Ok("u1".into()), "{n}");
    }
}

#[tokio::test(flavor = "local")]
async fn what_runs_by_a_token_ends_once_its_issuer_takes_that_back() {
    let played = played();
    let stream = played.verdict("a").await;
    played.keep_asking(&stream).await;
    assert_eq!(played.asked(), 1, "it is not time");
    played.wait(30);
    assert!(!stream.is_good(at(30)) && played.goes_on(&stream));
    played.keep_asking(&stream).await;
    assert!(played.asked() == 2 && stream.is_good(at(30)));
    assert!(Arc::ptr_eq(&stream, &played.verdict("a").await), "what is said of it is the same");
    played.answers(200, r#"{"active":false}"#);
    played.wait(30);
    played.keep_asking(&stream).await;
    assert!(!played.goes_on(&stream));
    assert_eq!((played.ask("a").await, played.asked()), (INACTIVE, 3));
    played.keep_asking(&stream).await;
    assert_eq!(played.asked(), 3);
    // Good once more, it is another one.
    played.says(json!({}));
    played.wait(10);
    assert_eq!(played.ask("a").await, Ok("u1".into()));
    assert!(!played.goes_on(&stream));
}

#[tokio::test(flavor = "local")]
async fn what_runs_goes_on_for_a_while_if_nobody_can_say_more() {
    let played = played();
    let stream = played.verdict("a").await;
    played.is_down();
    played.wait(30);
    for _ in 0..20 {
        played.keep_asking(&stream).await;
    }
    assert_eq!(played.asked(), 2, "it is asked again a while later, and not at each look");
    played.wait(5);
    played.keep_asking(&stream).await;
    assert_eq!(played.asked(), 3);
    played.wait(294);
    assert!(played.goes_on(&stream));
    played.wait(1);
    assert!(!played.goes_on(&stream));
    played.says(json!({}));
    played.keep_asking(&stream).await;
    assert!(played.goes_on(&stream));
}

#[tokio::test(flavor = "local")]
async fn what_runs_ends_if_something_else_is_said_of_its_token() {
    for (more, is_same) in [
        (json!({ "exp": NOW + 7_200 }), true),
        (json!({ "iat": NOW + 1, "jti": "x" }), true),
        (json!({ "scope": "mcp other" }), false),
        (json!({ "scope": "" }), false),
        (json!({ "sub": "u2" }), false),
        (json!({ "aud": ["x", "y"] }), false),
        (json!({ "groups": ["eng"] }), false),
    ] {
        let played = played();
        let stream = played.verdict("a").await;
        played.says(more.clone());
        played.wait(30);
        // Whoever asks: a stream of it, or a request.
        played.keep_asking(&stream).await;
        assert_eq!(played.goes_on(&stream), is_same, "{more}");
        let other = played.verdict("b").await;
        played.wait(30);
        played.says(json!({ "scope": "none" }));
        let _ = played.verdict("b").await;
        assert!(!played.goes_on(&other), "{more}");
    }
}

#[tokio::test(flavor = "local")]
async fn of_a_jwt_the_issuer_says_only_whether_it_is_still_good() {
    let played = played();
    let jwt = VerifiedJwt {
        subject: "u1".into(),
        audiences: vec!["of the token".into()],
        scope: None,
        expires: at(40),
        claims: serde_json::Map::new(),
    };
    let asked = AskedToken { jwt: Some(jwt.clone()), ..token("a") };
    let said = |outcome: Result<Arc<Verdict>, _>| outcome.map(|verdict| verdict.said().clone());
    assert_eq!(said(played.introspector.ask(&asked).await), Ok(jwt.clone()));
    played.wait(30);
    let stream = played.introspector.ask(&asked).await.unwrap();
    assert_eq!(stream.said(), &jwt);
    played.says(json!({ "sub": "u2" }));
    let other = AskedToken { jwt: Some(jwt), ..token("b") };
    assert_eq!(
        said(played.introspector.ask(&other).await),
        Err(NotConfirmed::NotTaken(NotTaken::Subject)),
        "it is somebody else's"
    );
    played.answers(200, r#"{"active":false}"#);
    played.wait(30);
    played.keep_asking(&stream).await;
    assert!(!played.goes_on(&stream));
}

#[test]
fn no_token_of_the_gateway_and_none_of_another_issuer_is_sent_to_an_issuer() {
    let clock = Arc::new(Clock::default());
    let (members, host) = (Arc::default(), played().host as Arc<dyn Source>);
    let of = |prefix| Introspector::new(&asked_issuer(prefix), &members, &host, &clock, None).unwrap();
    let (any, own) = (of(None), of(Some("corp_")));
    for good in ["a", "corp_x", "2YotnFZFEjr1zCsicMWpAA==", "eyJ.a.b.c.d", "sg-a", "sgA_x", "asg_"] {
        assert!(any.may_have(good.as_bytes()), "{good}");
        assert_eq!(own.may_have(good.as_bytes()), good.starts_with("corp_"), "{good}");
    }
    let longest = "a".repeat(8 << 10);
    assert!(any.may_have(longest.as_bytes()));
    for bad in
        ["", "=", "==", "a=b", "a b", "a&b", "a%20", "é", "sg_x", "sga_x", "sgs_x", "sgr_x", "sgc_x", "sgp_x"]
    {
        assert!(!any.may_have(bad.as_bytes()), "{bad}");
    }
    assert!(!any.may_have((longest + "a").as_bytes()));
    assert!(
        Introspector::new(&Arc::new(issuer()), &members, &host, &clock, None).is_none(),
        "nobody is asked"
    );
}
