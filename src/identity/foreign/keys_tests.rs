//! Keys of an issuer whose host answers as the test says, on a clock that is paused.

use std::{
    collections::VecDeque,
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::StatusCode;
use parking_lot::Mutex;
use tokio::{
    sync::oneshot,
    task::{JoinHandle, spawn_local, yield_now},
    time::{Instant, advance},
};
use url::Url;

use super::{
    jwks,
    jwt::{NotTaken, UnverifiedJwt},
    keys::{IssuerKeys, Known, NotVerified, Waiting},
    signer::{ED25519, ISSUER, NOW, OTHER_RSA, P256, RSA, Signer, claims, issuer, key_set},
    source::{Ask, Asking, IssuerAnswer, NotFetched, Source},
};
use crate::config::Issuer;

const KEYS_URL: &str = "https://keys.corp.example/keys";
const REFUSED: Result<String, NotVerified> = Err(NotVerified::NotTaken(NotTaken::UnknownKey));

/// What the host answers.
enum Answer {
    Document(String, Option<u64>),
    Fails(NotFetched),
    /// This, once the test lets it.
    Held(oneshot::Receiver<()>, Box<Answer>),
    Never,
}

/// The host of an issuer: its answers in their order, and what it was asked for.
#[derive(Default)]
struct Host {
    answers: Mutex<VecDeque<Answer>>,
    asked: Mutex<Vec<String>>,
}

impl Source for Host {
    fn ask<'a>(&'a self, url: &'a Url, ask: Ask, most: usize) -> Asking<'a> {
        assert_eq!(most, jwks::LONGEST);
        assert!(ask.body.is_none() && ask.authorization.is_none());
        self.asked.lock().push(url.to_string());
        let answer = self.answers.lock().pop_front();
        Box::pin(async {
            let mut answer = answer.unwrap_or(Answer::Fails(NotFetched::Unreachable));
            loop {
                match answer {
                    Answer::Document(text, fresh_for) => {
                        let fresh_for = fresh_for.map(Duration::from_secs);
                        return Ok(IssuerAnswer { status: StatusCode::OK, body: text.into(), fresh_for });
                    }
                    Answer::Fails(why) => return Err(why),
                    Answer::Held(until, then) => {
                        let _ = until.await;
                        answer = *then;
                    }
                    Answer::Never => std::future::pending().await,
                }
            }
        })
    }
}

impl Host {
    fn will(&self, answer: Answer) {
        self.answers.lock().push_back(answer);
    }

    fn will_publish(&self, signers: &[&Signer]) {
        self.will(Answer::Document(key_set(signers), None));
    }

    /// Publishes these once the sender is dropped.
    fn will_publish_later(&self, signers: &[&Signer]) -> oneshot::Sender<()> {
        let (lets, until) = oneshot::channel();
        self.will(Answer::Held(until, Box::new(Answer::Document(key_set(signers), None))));
        lets
    }

    /// How often it was asked.
    fn asked(&self) -> usize {
        self.asked.lock().len()
    }
}

fn with_url() -> Arc<Issuer> {
    Arc::new(Issuer { jwks_url: Some(KEYS_URL.parse().unwrap()), ..issuer() })
}

/// An issuer of which the config says where its keys are, and its host.
fn played() -> (IssuerKeys, Arc<Host>) {
    let host = Arc::new(Host::default());
    (IssuerKeys::new(with_url(), Arc::clone(&host) as Arc<dyn Source>), host)
}

/// The same, where these keys are there already.
async fn with_keys(signers: &[&Signer]) -> (IssuerKeys, Arc<Host>) {
    let (keys, host) = played();
    host.will_publish(signers);
    assert_eq!(verify(&keys, signers[0]).await, Ok("u1".into()));
    (keys, host)
}

/// Who is admitted by a token of this key.
async fn verify(keys: &IssuerKeys, signer: &Signer) -> Result<String, NotVerified> {
    let token = signer.token();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
    let token = UnverifiedJwt::parse(token.as_bytes()).unwrap();
    keys.verify(token, now).await.map(|said| said.subject)
}

/// The same, beside what else goes on.
fn begin(keys: &IssuerKeys, signer: &'static Signer) -> JoinHandle<Result<String, NotVerified>> {
    let keys = keys.clone();
    spawn_local(async move { verify(&keys, signer).await })
}

/// Lets all that can go on do so.
async fn settle() {
    for _ in 0..20 {
        yield_now().await;
    }
}

async fn pass(seconds: u64) {
    advance(Duration::from_secs(seconds)).await;
    settle().await;
}

fn failed(keys: &IssuerKeys) -> Option<NotFetched> {
    keys.status().failed
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn keys_are_fetched_when_a_token_needs_them_once_for_all_who_wait() {
    let (keys, host) = played();
    assert_eq!((host.asked(), keys.status().keys), (0, None));
    let lets = host.will_publish_later(&[&RSA, &P256]);
    let all: Vec<_> = (0..20).map(|at| begin(&keys, if at % 2 == 0 { &RSA } else { &P256 })).collect();
    settle().await;
    assert!(all.iter().all(|one| !one.is_finished()));
    drop(lets);
    for one in all {
        assert_eq!(one.await.unwrap(), Ok("u1".into()));
    }
    assert!(matches!(keys.known("rsa"), Known::Keys(_)), "and then nobody waits");
    assert_eq!((host.asked(), failed(&keys)), (1, None));
    pass(7).await;
    assert_eq!(keys.status().keys, Some((2, Duration::from_secs(7))));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn who_does_not_want_to_wait_gets_the_token_back() {
    let (keys, host) = played();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
    let (good, other) = (RSA.token(), OTHER_RSA.token());
    let token = |text: &'static str| UnverifiedJwt::parse(text.as_bytes()).unwrap();
    let (good, other) = (token(good.leak()), token(other.leak()));
    host.will_publish(&[&RSA]);
    let good = keys.verify_now(good, now).err().unwrap();
    settle().await;
    assert_eq!(keys.verify_now(good, now).ok().unwrap().unwrap().subject, "u1");
    assert_eq!(keys.verify_now(other, now).ok().unwrap().err(), Some(NotTaken::UnknownKey.into()));
    let (keys, _) = played();
    assert!(keys.verify_now(token(RSA.token().leak()), now).is_err());
    settle().await;
    let refused = keys.verify_now(token(RSA.token().leak()), now);
    assert_eq!(refused.ok().unwrap().err(), Some(NotVerified::NoKeys));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_token_that_its_issuer_cannot_have_signed_has_nothing_fetched() {
    let (keys, host) = played();
    let mut over = claims();
    over["exp"] = (NOW - 31).into();
    let mut nameless = RSA.header();
    nameless.as_object_mut().unwrap().remove("kid");
    for (header, claims, why) in
        [(RSA.header(), over, NotTaken::Expired), (nameless, claims(), NotTaken::UnknownKey)]
    {
        let token = RSA.signed(&header.to_string(), &claims.to_string());
        let token = UnverifiedJwt::parse(token.as_bytes()).unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
        assert_eq!(keys.verify(token, now).await.err(), Some(why.into()));
    }
    assert_eq!(host.asked(), 0);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn when_the_one_who_asked_first_leaves_the_others_get_the_keys() {
    let (keys, host) = played();
    let lets = host.will_publish_later(&[&RSA]);
    let first = begin(&keys, &RSA);
    let second = begin(&keys, &RSA);
    settle().await;
    first.abort();
    settle().await;
    drop(lets);
    assert_eq!(second.await.unwrap(), Ok("u1".into()));
    assert_eq!(host.asked(), 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn when_the_worker_that_fetches_ends_the_next_who_comes_begins_anew() {
    let (keys, host) = played();
    host.will(Answer::Never);
    let other_worker = {
        let keys = keys.clone();
        std::thread::spawn(move || {
            let options = tokio::runtime::LocalOptions::default();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build_local(options);
            runtime.unwrap().block_on(async {
                assert!(matches!(keys.known("rsa"), Known::Wait(_)));
                settle().await;
            });
        })
    };
    other_worker.join().unwrap();
    assert_eq!((host.asked(), failed(&keys)), (1, None));
    host.will_publish(&[&RSA]);
    assert_eq!(verify(&keys, &RSA).await, Ok("u1".into()));
    assert_eq!(host.asked(), 2);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn keys_stay_fresh_as_their_host_says_within_bounds_and_then_are_fetched_while_they_are_used() {
    for (said, seconds) in [(None, 3600), (Some(0), 300), (Some(600), 600), (Some(999_999), 86_400)] {
        let (keys, host) = played();
        host.will(Answer::Document(key_set(&[&RSA]), said));
        assert_eq!(verify(&keys, &RSA).await, Ok("u1".into()));
        pass(seconds - 1).await;
        assert!(matches!(keys.known("rsa"), Known::Keys(_)));
        settle().await;
        assert_eq!(host.asked(), 1, "{said:?}");
        pass(1).await;
        let lets = host.will_publish_later(&[&P256]);
        for _ in 0..10 {
            assert!(matches!(keys.known("rsa"), Known::Keys(_)), "nobody waits for it");
            settle().await;
        }
        assert_eq!(host.asked(), 2, "{said:?}");
        drop(lets);
        settle().await;
        assert!(matches!(keys.known("p256"), Known::Keys(_)));
        assert!(matches!(keys.known("rsa"), Known::Refused), "the issuer took it back");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn whatever_happens_to_the_host_the_last_good_keys_stay() {
    let (keys, host) = with_keys(&[&RSA]).await;
    pass(3600).await;
    let document = |text: &str| Answer::Document(text.into(), Some(0));
    for (answer, why) in [
        (Answer::Fails(NotFetched::Unreachable), NotFetched::Unreachable),
        (Answer::Fails(NotFetched::Redirect), NotFetched::Redirect),
        (Answer::Fails(NotFetched::NotADocument), NotFetched::NotADocument),
        (Answer::Never, NotFetched::Timeout),
        (document("<html>"), NotFetched::NotAKeySet),
        (document("{}"), NotFetched::NotAKeySet),
        (document(""), NotFetched::NotAKeySet),
        (document(&" ".repeat(jwks::LONGEST + 1)), NotFetched::NotAKeySet),
    ] {
        host.will(answer);
        let before = host.asked();
        for _ in 0..10 {
            assert_eq!(verify(&keys, &RSA).await, Ok("u1".into()));
            settle().await;
        }
        pass(5).await;
        assert_eq!((host.asked(), failed(&keys)), (before + 1, Some(why)));
        pass(24).await;
        assert_eq!(verify(&keys, &RSA).await, Ok("u1".into()));
        settle().await;
        assert_eq!(host.asked(), before + 1, "not more than each 30 s");
        pass(1).await;
    }
    assert_eq!(keys.status().keys.unwrap().0, 1);
    host.will_publish(&[&RSA, &P256]);
    assert_eq!(verify(&keys, &RSA).await, Ok("u1".into()));
    settle().await;
    assert_eq!((keys.status().keys, failed(&keys)), (Some((2, Duration::ZERO)), None));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_issuer_can_take_all_its_keys_back() {
    let (keys, host) = with_keys(&[&RSA]).await;
    pass(3600).await;
    host.will_publish(&[]);
    assert_eq!(verify(&keys, &RSA).await, Ok("u1".into()));
    settle().await;
    assert_eq!(verify(&keys, &RSA).await, REFUSED);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_new_key_is_found_and_ids_of_no_key_have_one_fetch_begin_each_30_s() {
    let (keys, host) = with_keys(&[&RSA]).await;
    pass(29).await;
    assert_eq!(verify(&keys, &P256).await, REFUSED, "30 s have not passed since the last fetch");
    assert_eq!(host.asked(), 1);
    pass(1).await;
    let lets = host.will_publish_later(&[&RSA, &P256]);
    let waiting: Vec<_> = (0..5).map(|_| begin(&keys, &P256)).collect();
    settle().await;
    assert_eq!(verify(&keys, &RSA).await, Ok("u1".into()), "whose key is there does not wait");
    drop(lets);
    for one in waiting {
        assert_eq!(one.await.unwrap(), Ok("u1".into()));
    }
    for _ in 0..100 {
        assert_eq!(verify(&keys, &OTHER_RSA).await, REFUSED);
    }
    assert_eq!(host.asked(), 2);
    pass(30).await;
    for _ in 0..100 {
        assert_eq!(verify(&keys, &OTHER_RSA).await, REFUSED);
    }
    assert_eq!(host.asked(), 3);
    assert_eq!(failed(&keys), Some(NotFetched::Unreachable));
    pass(6).await;
    assert_eq!(verify(&keys, &OTHER_RSA).await, REFUSED);
    assert_eq!(host.asked(), 3, "nor sooner after one that failed");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn as_long_as_there_never_were_keys_the_answer_is_to_come_again() {
    let (keys, host) = played();
    for (fetches, why) in [NotFetched::Unreachable, NotFetched::Redirect].into_iter().enumerate() {
        host.will(Answer::Fails(why));
        for _ in 0..10 {
            assert_eq!(verify(&keys, &RSA).await, Err(NotVerified::NoKeys));
        }
        assert_eq!((host.asked(), failed(&keys)), (fetches + 1, Some(why)));
        pass(5).await;
    }
    host.will_publish(&[&RSA]);
    assert_eq!(verify(&keys, &RSA).await, Ok("u1".into()));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_host_that_never_answers_keeps_nobody_for_longer_than_5_s() {
    let (keys, host) = played();
    host.will(Answer::Never);
    let since = Instant::now();
    assert_eq!(verify(&keys, &RSA).await, Err(NotVerified::NoKeys));
    assert_eq!(since.elapsed().as_secs(), 5);
    settle().await;
    assert_eq!(failed(&keys), Some(NotFetched::Timeout));
    pass(5).await;
    host.will_publish(&[&RSA]);
    assert_eq!(verify(&keys, &RSA).await, Ok("u1".into()));
    pass(30).await;
    host.will(Answer::Never);
    let since = Instant::now();
    assert_eq!(verify(&keys, &P256).await, REFUSED);
    assert_eq!(since.elapsed().as_secs(), 5);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn no_more_than_64_wait_and_their_places_are_free_again() {
    let (keys, host) = played();
    let wait = |id: &str| match keys.known(id) {
        Known::Wait(waiting) => waiting,
        known => panic!("{known:?}"),
    };
    let lets = host.will_publish_later(&[&RSA]);
    let mut waiting: Vec<Waiting> = (0..64).map(|_| wait("rsa")).collect();
    assert!(matches!(keys.known("rsa"), Known::Unavailable));
    assert_eq!(verify(&keys, &RSA).await, Err(NotVerified::NoKeys));
    drop(waiting.pop());
    let last = begin(&keys, &RSA);
    settle().await;
    drop(lets);
    assert_eq!(last.await.unwrap(), Ok("u1".into()));
    drop(waiting);

    pass(30).await;
    host.will(Answer::Never);
    let waiting: Vec<Waiting> = (0..64).map(|_| wait("p256")).collect();
    assert!(matches!(keys.known("p256"), Known::Unavailable), "nobody can say yet");
    assert!(matches!(keys.known("rsa"), Known::Keys(_)));
    let mut one = pin!(waiting.into_iter().next().unwrap().ended());
    settle().await;
    tokio::select! {
        biased;
        () = &mut one => panic!("the fetch still runs"),
        () = settle() => {}
    }
    pass(5).await;
    one.await;
    assert!(matches!(keys.known("p256"), Known::Refused));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_reload_that_leaves_the_issuer_where_it_was_keeps_its_keys() {
    let (keys, host) = with_keys(&[&RSA]).await;
    let renamed =
        Arc::new(Issuer { name: "other".into(), types: vec!["jwt".into()], ..(*with_url()).clone() });
    let kept = keys.of_reload(&renamed).unwrap();
    assert!(matches!(kept.known("rsa"), Known::Keys(_)));
    assert_eq!((&*kept.issuer().name, host.asked()), ("other", 1));
    assert_eq!(verify(&kept, &RSA).await, Err(NotTaken::Type.into()), "by the rules of now");
    let elsewhere = Issuer { issuer: "https://login.corp.example/".into(), ..(*with_url()).clone() };
    assert!(keys.of_reload(&Arc::new(elsewhere)).is_none());
    assert!(keys.of_reload(&Arc::new(issuer())).is_none());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn without_an_address_of_keys_the_metadata_says_where_they_are() {
    let metadata = |issuer: &str| {
        Answer::Document(format!(r#"{{"issuer":"{issuer}","jwks_uri":"{KEYS_URL}"}}"#), Some(1))
    };
    let oidc = format!("{ISSUER}/.well-known/openid-configuration");
    let oauth = format!("{ISSUER}/.well-known/oauth-authorization-server");
    let evil = "https://evil.example";
    let (unreachable, none) = (NotFetched::Unreachable, NotFetched::NotADocument);
    for (answers, asked, outcome) in [
        (vec![metadata(ISSUER)], vec![&*oidc, KEYS_URL], None),
        (vec![Answer::Fails(none), metadata(ISSUER)], vec![&*oidc, &*oauth, KEYS_URL], None),
        (vec![metadata(evil), metadata(ISSUER)], vec![&*oidc, &*oauth, KEYS_URL], None),
        (vec![metadata(evil), Answer::Fails(none)], vec![&*oidc, &*oauth], Some(NotFetched::OtherIssuer)),
        (vec![Answer::Fails(none), Answer::Fails(none)], vec![&*oidc, &*oauth], Some(none)),
        (vec![Answer::Fails(unreachable), Answer::Fails(none)], vec![&*oidc, &*oauth], Some(unreachable)),
        (vec![Answer::Never], vec![&*oidc], Some(NotFetched::Timeout)),
        (vec![metadata(ISSUER), Answer::Fails(none)], vec![&*oidc, KEYS_URL], Some(none)),
    ] {
        let host = Arc::new(Host::default());
        let keys = IssuerKeys::new(Arc::new(issuer()), Arc::clone(&host) as Arc<dyn Source>);
        answers.into_iter().for_each(|answer| host.will(answer));
        host.will(Answer::Document(key_set(&[&RSA, &ED25519]), None));
        let verified = verify(&keys, &ED25519).await;
        settle().await;
        assert_eq!(verified, if outcome.is_none() { Ok("u1".into()) } else { Err(NotVerified::NoKeys) });
        assert_eq!((host.asked.lock().join(" "), failed(&keys)), (asked.join(" "), outcome));
    }
}
