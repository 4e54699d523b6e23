//! Documents that a stranger names: what is fetched, from where, and what never is.

use std::{net::IpAddr, sync::Arc};

use sluicegate::{
    ledger::AddressBlock,
    upstream::document::{Document, DocumentUrl, Documents, NotFetched},
};
use test_support::internet::{TestHost, TestInternet, json_answer};

use crate::harness::soon;

const URL: &str = "https://app.example/client.json?v=1";
/// Of the public Internet.
const PUBLIC: &str = "93.184.216.34";
const MOST: usize = 16 * 1024;

fn url(text: &str) -> DocumentUrl {
    DocumentUrl::parse(text).unwrap()
}

fn from(address: &str) -> AddressBlock {
    address.parse::<IpAddr>().unwrap().into()
}

async fn internet() -> (Arc<TestInternet>, TestHost, Documents) {
    let (internet, host) = TestInternet::new(&["app.example"], PUBLIC).await;
    let documents = Documents::of(Arc::<TestInternet>::clone(&internet));
    (internet, host, documents)
}

async fn fetch(documents: &Documents) -> Result<Arc<Document>, NotFetched> {
    soon("a document", documents.fetch(&url(URL), MOST, from("192.0.2.1"))).await
}

/// Fetches from a host that answers so.
async fn fetch_answer(answer: &str) -> Result<Arc<Document>, NotFetched> {
    let (_, host, documents) = internet().await;
    tokio::join!(fetch(&documents), host.answer(answer)).0
}

#[tokio::test]
async fn a_document_is_fetched_from_the_address_that_was_looked_at() {
    let (internet, host, documents) = internet().await;
    let answer = json_answer("{\"a\":1}", "Cache-Control: max-age=600\r\n");
    let (fetched, head) = tokio::join!(fetch(&documents), host.answer(&answer));
    let fetched = fetched.unwrap();
    assert_eq!(
        (&fetched.body[..], fetched.fresh_for.map(|age| age.as_secs())),
        (&b"{\"a\":1}"[..], Some(600))
    );
    assert!(head.starts_with("GET /client.json?v=1 HTTP/1.1\r\n"), "{head}");
    let head = head.to_ascii_lowercase();
    assert!(head.contains("\r\nhost: app.example\r\n") && head.contains("\r\naccept: application/json\r\n"));
    for never in ["authorization", "cookie", "referer", "origin", "x-forwarded", "192.0.2.1"] {
        assert!(!head.contains(never), "{head}");
    }
    assert_eq!((internet.connected(), internet.resolved()), (vec![format!("{PUBLIC}:443")], 1));
    assert_eq!(documents.running(), 0);
}

#[tokio::test]
async fn a_host_with_any_address_that_is_not_public_is_not_connected_to() {
    let (internet, _host, documents) = internet().await;
    let not_global: Vec<_> = include_str!("../fixtures/not_global.txt").lines().collect();
    assert!(not_global.len() >= 60);
    for address in &not_global {
        for answer in [&[*address][..], &[PUBLIC, address], &[address, PUBLIC]] {
            internet.set("app.example", &[answer]);
            assert_eq!(fetch(&documents).await, Err(NotFetched::NotPublic), "{answer:?}");
        }
        let literal = if address.contains(':') { format!("[{address}]") } else { (*address).to_owned() };
        assert_eq!(DocumentUrl::parse(&format!("https://{literal}/client.json")), None);
    }
    assert_eq!(internet.connected(), Vec::<String>::new());
}

#[tokio::test]
async fn a_name_that_points_elsewhere_a_moment_later_gains_nothing() {
    let (internet, host, documents) = internet().await;
    for address in include_str!("../fixtures/not_global.txt").lines() {
        let before = internet.resolved();
        internet.set("app.example", &[&[PUBLIC], &[address]]);
        let answer = json_answer("{}", "");
        let (fetched, _) = tokio::join!(fetch(&documents), host.answer(&answer));
        fetched.unwrap();
        assert_eq!(internet.resolved() - before, 1, "it is resolved once");
        assert_eq!(fetch(&documents).await, Err(NotFetched::NotPublic));
    }
    assert!(internet.connected().iter().all(|address| *address == format!("{PUBLIC}:443")));
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_only_json_of_the_size_is_a_document() {
    let of_size = |size: usize| json_answer(&format!("\"{}\"", "x".repeat(size - 2)), "");
    assert_eq!(fetch_answer(&of_size(MOST)).await.unwrap().body.len(), MOST);
    for (answer, why) in [
        (of_size(MOST + 1), NotFetched::NotADocument),
        (
            format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{}\r\n0\r\n\r\n",
                MOST + 1,
                "1".repeat(MOST + 1)
            ),
            NotFetched::NotADocument,
        ),
        (json_answer("{}", "").replace("application/json", "text/html"), NotFetched::NotADocument),
        (json_answer("{}", "").replace("200 OK", "404 Not Found"), NotFetched::NotADocument),
        (json_answer("{}", "").replace("200 OK", "401 Unauthorized"), NotFetched::NotADocument),
        (json_answer("{}", "").replace("200 OK", "206 Partial Content"), NotFetched::NotADocument),
        (json_answer("{}", "Content-Encoding: gzip\r\n"), NotFetched::NotADocument),
        (
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{}".into(),
            NotFetched::NotADocument,
        ),
        ("SSH-2.0-OpenSSH_9.9\r\n".into(), NotFetched::NotADocument),
        (
            json_answer("{}", "Location: https://10.0.0.1/x\r\n").replace("200 OK", "302 Found"),
            NotFetched::Redirect,
        ),
        (
            json_answer("{}", "Location: /client.json\r\n").replace("200 OK", "308 Permanent Redirect"),
            NotFetched::Redirect,
        ),
    ] {
        assert_eq!(fetch_answer(&answer).await, Err(why), "{}", &answer[..answer.len().min(90)]);
    }
}

#[tokio::test]
async fn a_host_whose_certificate_is_not_its_own_is_not_asked() {
    let (internet, host, documents) = internet().await;
    internet.set("other.example", &[&[PUBLIC]]);
    let other = url("https://other.example/client.json");
    let fetching = documents.fetch(&other, MOST, from("192.0.2.1"));
    let refused = async { host.accept_silently().await };
    // The handshake is the test's side's, and fails.
    let handshake = async { drop(refused.await) };
    assert_eq!(tokio::join!(fetching, handshake).0, Err(NotFetched::Unreachable));
    assert_eq!(fetch_unknown(&documents).await, Err(NotFetched::Unresolved));
}

async fn fetch_unknown(documents: &Documents) -> Result<Arc<Document>, NotFetched> {
    documents.fetch(&url("https://nowhere.example/x"), MOST, from("192.0.2.1")).await
}

#[tokio::test]
async fn who_asks_for_the_same_at_once_waits_for_one_fetch() {
    let (internet, host, documents) = internet().await;
    let answer = json_answer("{}", "");
    let hundred = async {
        let wanted = url(URL);
        let fetches: Vec<_> = (0..100).map(|_| documents.fetch(&wanted, MOST, from("192.0.2.1"))).collect();
        let mut all = Vec::new();
        let mut fetches: Vec<_> = fetches.into_iter().map(Box::pin).collect();
        // All of them begin before the host answers.
        for fetch in &mut fetches {
            let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(fetch.as_mut().poll(cx))).await;
            assert!(polled.is_pending());
        }
        // Who leaves takes nothing from the others, not even the one who began, however far that came.
        drop(fetches.remove(0));
        let left = internet.connected().len();
        for fetch in fetches {
            all.push(soon("the document", fetch).await.unwrap());
        }
        (all, left)
    };
    let ((all, left), _) = tokio::join!(hundred, host.answer(&answer));
    assert_eq!((all.len(), internet.connected().len() - left), (99, 1));
    assert!(all.iter().all(|document| Arc::ptr_eq(document, &all[0])));
    assert_eq!(documents.running(), 0);
}

type Fetching<'a> = std::pin::Pin<Box<dyn Future<Output = Result<Arc<Document>, NotFetched>> + 'a>>;

/// Begins to fetch, and has the host take the connection and say nothing.
async fn begin<'a>(
    documents: &'a Documents,
    host: &TestHost,
    url: &'a DocumentUrl,
    address: &str,
) -> (Fetching<'a>, tokio::net::TcpStream) {
    let mut fetching: Fetching<'a> = Box::pin(documents.fetch(url, MOST, from(address)));
    tokio::select! {
        fetched = &mut fetching => panic!("nobody answers, and yet {fetched:?}"),
        connection = host.accept_silently() => (fetching, connection),
    }
}

#[tokio::test]
async fn one_who_has_much_fetched_leaves_room_for_others() {
    let (internet, host, documents) = internet().await;
    let slow: Vec<_> = (0..5).map(|number| url(&format!("https://app.example/{number}"))).collect();
    let mut stranger = Vec::new();
    for url in &slow {
        stranger.push(begin(&documents, &host, url, "192.0.2.1").await);
    }
    let (oldest, _) = stranger.remove(0);
    assert_eq!(oldest.await, Err(NotFetched::Busy), "four of one address; its own oldest gave way");
    let answer = json_answer("{}", "");
    let other = documents.fetch(&slow[0], MOST, from("198.51.100.1"));
    tokio::join!(other, host.answer(&answer)).0.unwrap();
    for (fetching, _) in &mut stranger {
        let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(fetching.as_mut().poll(cx))).await;
        assert!(polled.is_pending(), "nobody else lost anything");
    }
    drop(stranger);
    assert_eq!((documents.running(), internet.connected().len()), (0, 6));
}

/// As many as there may be are fetched from a host that says nothing, for as few as that takes, and then for as many.
#[tokio::test]
async fn documents_that_do_not_come_keep_nobody_from_those_that_do() {
    let (_, host, documents) = internet().await;
    let slow: Vec<_> = (0..64).map(|number| url(&format!("https://app.example/{number}"))).collect();
    let (good, answer) = (url("https://app.example/good.json"), json_answer("{}", ""));
    for of_each in [4, 1] {
        let mut strangers = Vec::new();
        for (number, url) in slow.iter().enumerate() {
            let address = format!("10.0.{}.1", number / of_each);
            strangers.push(begin(&documents, &host, url, &address).await);
        }
        for address in ["192.0.2.1", "198.51.100.1", "192.0.2.1"] {
            let fetching = documents.fetch(&good, MOST, from(address));
            tokio::join!(fetching, host.answer(&answer)).0.unwrap();
        }
        // The first took the place of the one that had waited longest, of any of those who had most; then there was one.
        let mut gave_way = Vec::new();
        for (number, (fetching, _)) in strangers.iter_mut().enumerate() {
            let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(fetching.as_mut().poll(cx))).await;
            if let std::task::Poll::Ready(answer) = polled {
                assert_eq!(answer, Err(NotFetched::Busy));
                gave_way.push(number);
            }
        }
        let [one] = gave_way[..] else { panic!("nobody else lost anything: {gave_way:?}") };
        assert_eq!(one % of_each, 0);
    }
    assert_eq!(documents.running(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_last_address_of_a_host_has_all_the_time_that_is_left() {
    let (internet, _host, documents) = internet().await;
    internet.set("app.example", &[&["93.184.216.34", "93.184.216.35", "93.184.216.36"]]);
    // None of them says anything. The first two are given up, the last one is still being tried when the time is over.
    assert_eq!(documents.fetch(&url(URL), MOST, from("192.0.2.1")).await, Err(NotFetched::Timeout));
    assert_eq!(internet.connected().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_says_nothing_is_left_after_five_seconds() {
    let (_, host, documents) = internet().await;
    // Real time: none, the clock of this test is paused and goes on by itself.
    let began = tokio::time::Instant::now();
    let wanted = url(URL);
    let fetching = documents.fetch(&wanted, MOST, from("192.0.2.1"));
    let silent = async {
        let connection = host.accept_silently().await;
        std::future::pending::<()>().await;
        drop(connection);
    };
    let fetched = tokio::select! {
        fetched = fetching => fetched,
        () = silent => unreachable!(),
    };
    assert!(matches!(fetched, Err(NotFetched::Timeout | NotFetched::Unreachable)), "{fetched:?}");
    assert!(began.elapsed() <= std::time::Duration::from_secs(6));
    assert_eq!(documents.running(), 0);
}
