//! Authorization servers that an MCP server names: where they are asked, and where nothing ever is.

use std::sync::Arc;

use sluicegate::{
    identity::foreign::source::{Ask, IssuerAnswer, NotFetched, Source as _},
    upstream::issuers::NamedIssuers,
};
use test_support::internet::{TestHost, TestInternet, json_answer};

use crate::harness::soon;

const URL: &str = "https://login.example:8443/token?v=1";
/// Of the public Internet.
const PUBLIC: &str = "93.184.216.34";
const MOST: usize = 1024;

async fn internet() -> (Arc<TestInternet>, TestHost, NamedIssuers) {
    let (internet, host) = TestInternet::new(&["login.example"], PUBLIC).await;
    let issuers = NamedIssuers::of(Arc::<TestInternet>::clone(&internet));
    (internet, host, issuers)
}

async fn ask(issuers: &NamedIssuers, url: &str) -> Result<IssuerAnswer, NotFetched> {
    let form = Ask::form(String::from("code=c").into(), None);
    soon("an answer", issuers.ask(&url.parse().unwrap(), form, MOST)).await
}

#[tokio::test]
async fn one_of_the_public_internet_is_asked_at_the_address_that_was_looked_at_and_at_any_port() {
    let (internet, host, issuers) = internet().await;
    let says = json_answer("{\"a\":1}", "");
    let (answer, head) = tokio::join!(ask(&issuers, URL), host.answer(&says));
    assert_eq!(&answer.unwrap().body[..], b"{\"a\":1}");
    assert!(head.starts_with("POST /token?v=1 HTTP/1.1\r\n"), "{head}");
    assert!(head.to_ascii_lowercase().contains("\r\nhost: login.example:8443\r\n"), "{head}");
    assert_eq!((internet.connected(), internet.resolved()), (vec![format!("{PUBLIC}:8443")], 1));
}

#[tokio::test]
async fn one_with_any_address_that_is_not_public_is_not_connected_to() {
    let (internet, _host, issuers) = internet().await;
    let not_global: Vec<_> = include_str!("../fixtures/not_global.txt").lines().collect();
    assert!(not_global.len() >= 60);
    for address in &not_global {
        for answer in [&[*address][..], &[PUBLIC, address], &[address, PUBLIC]] {
            internet.set("login.example", &[answer]);
            assert_eq!(ask(&issuers, URL).await.err(), Some(NotFetched::NotPublic), "{answer:?}");
        }
        let literal = if address.contains(':') { format!("[{address}]") } else { (*address).to_owned() };
        let asked = ask(&issuers, &format!("https://{literal}/token")).await;
        assert_eq!(asked.err(), Some(NotFetched::NotPublic), "{address}");
    }
    // In other dresses, and without TLS.
    for url in [
        "https://127.1/token",
        "https://0x7f.0.0.1/token",
        "https://2130706433/token",
        "https://[::ffff:127.0.0.1]/token",
        "http://login.example/token",
        "http://127.0.0.1/token",
    ] {
        assert_eq!(ask(&issuers, url).await.err(), Some(NotFetched::NotPublic), "{url}");
    }
    assert_eq!(ask(&issuers, "https://localhost/token").await.err(), Some(NotFetched::Unreachable));
    assert_eq!(internet.connected(), Vec::<String>::new());
}

#[tokio::test]
async fn a_name_that_points_elsewhere_a_moment_later_gains_nothing() {
    let (internet, host, issuers) = internet().await;
    internet.set("login.example", &[&[PUBLIC], &["127.0.0.1"]]);
    let says = json_answer("{}", "");
    let (answer, _) = tokio::join!(ask(&issuers, URL), host.answer(&says));
    assert!(answer.is_ok());
    assert_eq!(ask(&issuers, URL).await.err(), Some(NotFetched::NotPublic));
    assert_eq!(internet.connected(), vec![format!("{PUBLIC}:8443")]);
}

#[tokio::test]
async fn nobody_is_sent_elsewhere_and_of_an_answer_that_is_only_looked_at_nothing_is_read() {
    let (internet, host, issuers) = internet().await;
    let redirect = "HTTP/1.1 307 No\r\nLocation: https://127.0.0.1/token\r\nContent-Length: 0\r\n\r\n";
    let (answer, _) = tokio::join!(ask(&issuers, URL), host.answer(redirect));
    assert_eq!(answer.err(), Some(NotFetched::Redirect));
    assert_eq!(internet.connected().len(), 1);

    let challenge = "HTTP/1.1 401 No\r\nWWW-Authenticate: Bearer\r\nContent-Type: text/html\r\nContent-Length: 99999999\r\n\r\n";
    let url = URL.parse().unwrap();
    let head = async { soon("a head", issuers.head(&url, Ask::default())).await.unwrap() };
    let ((status, fields), _) = tokio::join!(head, host.answer(challenge));
    assert_eq!((status.as_u16(), fields["www-authenticate"].to_str().unwrap()), (401, "Bearer"));
}
