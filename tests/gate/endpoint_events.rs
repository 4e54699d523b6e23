//! An `endpoint` event says where a client of HTTP+SSE sends its messages, and its token with them. None leads elsewhere than
//! to the message URL of its own server at the gateway.

use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::{
    harness::{Client, DEV, Gate, SSE, Upstream, chunk, field, get, passes, post, soon},
    recorder::Recorder,
};

const ENDPOINT: &str = "event: endpoint\ndata: /victim/mcp\n\n";

/// Events that some client takes for an `endpoint` event.
const SPELLINGS: [&str; 25] = [
    ENDPOINT,
    "event:endpoint\ndata:/victim/mcp\n\n",
    "event: endpoint\rdata: /victim/mcp\r\r",
    "event: endpoint\r\ndata: /victim/mcp\r\n\r\n",
    "data: /victim/mcp\nevent: endpoint\n\n",
    "\n\nid: 1\nevent: endpoint\ndata: /victim/mcp\n\n",
    // The last name counts, or the first.
    "event: message\nevent: endpoint\ndata: /victim/mcp\n\n",
    "event: endpoint\nevent: message\ndata: /victim/mcp\n\n",
    // mcp-go trims the name, and keeps it until an event has data.
    "event: endpoint \ndata: /victim/mcp\n\n",
    "event:\t endpoint\ndata: /victim/mcp\n\n",
    "event: \u{a0}endpoint\u{2003}\ndata: /victim/mcp\n\n",
    "event: endpoint\n\ndata: /victim/mcp\n\n",
    // The Python SDK reads by httpx, which breaks lines wherever Python's `splitlines` does.
    ": \u{2028}event: endpoint\u{2028}data: /victim/mcp\u{2028}\u{2028}\n\n",
    ": \u{2029}event: endpoint\u{2029}data: /victim/mcp\n\n",
    ": \u{85}event: endpoint\u{85}data: /victim/mcp\n\n",
    ": \u{b}event: endpoint\u{b}data: /victim/mcp\n\n",
    ": \u{c}event: endpoint\u{c}data: /victim/mcp\n\n",
    ": \u{1e}event: endpoint\u{1e}data: /victim/mcp\n\n",
    "\u{feff}event: endpoint\ndata: /victim/mcp\n\n",
    "\u{feff}\u{feff}event: endpoint\ndata: /victim/mcp\n\n",
    "Event: endpoint\ndata: /victim/mcp\n\n",
    " event : endpoint\ndata: /victim/mcp\n\n",
    // It also breaks lines at LF alone, and takes what else ends lines for a blank.
    "event:\rendpoint\ndata: /victim/mcp\n\n",
    "event:\u{2028}endpoint\ndata: /victim/mcp\n\n",
    "event:\u{c}endpoint\ndata: /victim/mcp\n\n",
];

async fn gate_before(entry: Value) -> Gate {
    Gate::start(json!({ "mcpServers": { "db": entry } })).await
}

/// A stream of `path`, which its server begins with `head` and `first`.
async fn begun(
    gate: &Gate,
    server: &Upstream,
    path: &str,
    head: &str,
    first: &str,
) -> (Client<TcpStream>, Client<TcpStream>) {
    let mut client = gate.client().await;
    client.send(get(path, DEV, "Accept: text/event-stream\r\nAccept-Encoding: gzip\r\n")).await;
    let mut behind = server.accept().await;
    let asked = behind.head().await;
    assert_eq!(field(&asked, "accept-encoding"), Some("identity"), "{asked}");
    behind.send(format!("{head}{first}")).await;
    (client, behind)
}

/// The stream is broken off, and what went by of it names no place.
async fn is_broken_off(gate: &Gate, mut client: Client<TcpStream>, what: &str) {
    let rest = soon("the end of the stream", client.rest()).await;
    let rest = String::from_utf8(rest).unwrap();
    // What comes behind the gateway's own event. Data may have gone by before there was a name, and then the name did not.
    let behind = rest.rsplit("sluicegate=").next().unwrap();
    assert!(!(behind.contains("victim") && behind.contains("endpoint")), "{what:?}: {rest}");
    assert!(!rest.ends_with("0\r\n\r\n"), "{what:?}: broken off, not ended: {rest}");
    let line = gate.log.line("Stream closed", &[("reason", json!("upstream_lost"))]).await;
    assert!(line["cause"].as_str().unwrap().contains("endpoint event"), "{line}");
}

#[tokio::test]
async fn a_stream_of_the_streamable_transport_names_no_endpoint_however_it_is_spelt_or_cut() {
    for event in SPELLINGS {
        // Right behind the head, later, and in two pieces, which go past hyper.
        for cut in [None, Some(0), Some(event.len() / 3), Some(event.find("endpoint").unwrap() + 4)] {
            let is_cut_before = |at| event.is_char_boundary(at) && at < event.find("endpoint").unwrap() + 8;
            if cut.is_some_and(|at| !is_cut_before(at)) {
                continue;
            }
            let server = Upstream::bind().await;
            let gate = gate_before(json!({ "url": server.url("/mcp") })).await;
            let first = if cut.is_none() { chunk(event) } else { String::new() };
            let (mut client, mut behind) = begun(&gate, &server, "/db/mcp", SSE, &first).await;
            if let Some(at) = cut {
                client.head().await;
                passes(&mut behind, &mut client, ": ping\n\n").await;
                if at > 0 {
                    passes(&mut behind, &mut client, &event[..at]).await;
                }
                behind.send(chunk(&event[at..])).await;
            }
            is_broken_off(&gate, client, event).await;
        }
    }
}

#[tokio::test]
async fn nor_does_it_with_another_status_or_type_or_framing() {
    for head in [
        "HTTP/1.1 203 OK\r\nContent-Type: text/event-stream\r\n",
        "HTTP/1.1 404 No\r\nContent-Type: text/event-stream\r\n",
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n",
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream, text/html\r\n",
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Type: text/event-stream\r\n",
        "HTTP/1.1 200 OK\r\n",
    ] {
        for (url, path) in [("/mcp", "/db/mcp"), ("/sse", "/db/sse")] {
            for (framing, first) in [
                ("Transfer-Encoding: chunked", chunk(ENDPOINT)),
                ("Content-Length: 5000", ENDPOINT.to_owned()),
                ("Connection: close", ENDPOINT.to_owned()),
            ] {
                let server = Upstream::bind().await;
                let gate = gate_before(json!({ "url": server.url(url) })).await;
                let head = format!("{head}{framing}\r\n\r\n");
                let (mut client, _behind) = begun(&gate, &server, path, &head, &first).await;
                let (own, is_rewritten) = (head.matches("Content-Type").count(), path == "/db/sse");
                if is_rewritten && own == 1 && head.contains("Content-Type: text/event-stream\r\n") {
                    client.head().await;
                    let event = client.until("\n\n").await;
                    assert!(event.contains("data: /db/message?sluicegate="), "{head}{event}");
                    continue;
                }
                let rest = soon("the end", client.rest()).await;
                assert!(!String::from_utf8(rest).unwrap().contains("victim"), "{head}");
            }
        }
    }
}

#[tokio::test]
async fn what_cannot_be_looked_into_does_not_pass_as_the_answer_to_a_get() {
    for fields in [
        "Content-Type: text/event-stream\r\nContent-Encoding: gzip\r\n",
        "Content-Type: text/plain\r\nContent-Encoding: br\r\n",
        "Content-Type: text/event-stream; charset=utf-16le\r\n",
    ] {
        for (url, path) in [("/mcp", "/db/mcp"), ("/sse", "/db/sse")] {
            for (status, wanted) in [(200, 502), (404, 404)] {
                let server = Recorder::answering(format!(
                    "HTTP/1.1 {status} X\r\n{fields}Content-Length: 4\r\n\r\nbody"
                ))
                .await;
                let gate = gate_before(json!({ "url": server.url(url) })).await;
                let (got, head, body) = gate.ask(&get(path, DEV, "")).await;
                assert_eq!((got, body.contains("body")), (wanted, false), "{fields}{head}{body}");
                assert_eq!(field(&head, "content-encoding"), None, "{head}");
            }
        }
    }
}

#[tokio::test]
async fn text_that_speaks_of_endpoint_events_passes_byte_for_byte() {
    let server = Upstream::bind().await;
    let gate = gate_before(json!({ "url": server.url("/mcp") })).await;
    let (mut client, mut behind) = begun(&gate, &server, "/db/mcp", SSE, "").await;
    client.head().await;
    for event in [
        "event: message\ndata: {\"text\":\"event: endpoint\\ndata: /x\"}\n\n",
        "data: event: endpoint\n\n",
        ": endpoint\nid: endpoint\ndata: endpoint\n\n",
        "event: endpoin\ndata: x\n\nevent: x endpoint\ndata: x\n\n",
        "event\nendpoint: x\nevents: endpoint\n\n",
        "data: {\"text\":\"\u{e9}event: endpoint\u{4e2d}event: endpoint\"}\n\n",
        "data: endpointendpoint event",
        "\n: endpoint\n\nevent: message\ndata: {}\n\n",
    ] {
        passes(&mut behind, &mut client, event).await;
    }
    // No client of this transport looks for one in the answer to a POST.
    let answered = Recorder::answering(format!("{SSE}{}0\r\n\r\n", chunk(ENDPOINT))).await;
    let gate = gate_before(json!({ "url": answered.url("/mcp") })).await;
    assert_eq!(gate.ask(&post("/db/mcp", DEV, "", "{}")).await.2, ENDPOINT);
}

#[tokio::test]
async fn http_and_sse_names_its_endpoint_once_and_in_one_spelling() {
    let good = "event: endpoint\ndata: /message?s=1\n\n";
    for (at, event) in SPELLINGS.into_iter().enumerate() {
        let server = Upstream::bind().await;
        let gate = gate_before(json!({ "url": server.url("/sse") })).await;
        // A second one: in the same piece, later, or cut.
        for first in [chunk(&format!("{good}{event}")), chunk(good)] {
            let (mut client, mut behind) = begun(&gate, &server, "/db/sse", SSE, &first).await;
            let is_later = !first.contains("victim");
            if is_later {
                client.head().await;
                let seen = String::from_utf8(client.chunk().await.unwrap()).unwrap();
                assert!(seen.contains("/db/message?s=1&sluicegate="), "{seen}");
                passes(&mut behind, &mut client, "event: message\ndata: endpoint\n\n").await;
                let cut = event.find("endpoint").unwrap() + 4;
                behind.send(chunk(&event[..cut])).await;
                behind.send(chunk(&event[cut..])).await;
            }
            is_broken_off(&gate, client, event).await;
        }
        // Or the first. Those that every client reads alike are rewritten.
        let (mut client, _behind) = begun(&gate, &server, "/db/sse", SSE, &chunk(event)).await;
        if at < 6 || event.starts_with("\u{feff}event") || event.starts_with("event: message\nevent") {
            client.head().await;
            let seen = client.until("/db/message?sluicegate=").await;
            assert!(!seen.contains("victim"), "{seen}");
        } else {
            // Held to their end, some only end with the stream.
            drop(_behind);
            let rest = soon("the end of the stream", client.rest()).await;
            assert!(!String::from_utf8(rest).unwrap().contains("victim"), "{event:?}");
        }
    }
}

#[tokio::test]
async fn a_filtered_server_is_held_to_the_same() {
    for (url, path) in [("/mcp", "/db/mcp"), ("/sse", "/db/sse")] {
        let server = Upstream::bind().await;
        let filter = json!({ "toolFilter": { "mode": "block", "list": ["drop"] } });
        let gate = gate_before(json!({ "url": server.url(url), "options": filter })).await;
        let good = if url == "/sse" { "event: endpoint\ndata: /message?s=1\n\n" } else { "data: {}\n\n" };
        let (client, mut behind) = begun(&gate, &server, path, SSE, &chunk(good)).await;
        behind.send(chunk(ENDPOINT)).await;
        is_broken_off(&gate, client, path).await;
    }
}
