use proptest::prelude::*;

use crate::mcp::sse::endpoint::*;

const UPSTREAM: &str = "http://tools.internal:3000/v1/sse?key=1";

/// What the gateway puts in front; the real seal is tested with the session ids.
fn seal(path: &str, query: Option<&str>) -> String {
    match query {
        Some(query) => format!("/gate{path}?{query}&s"),
        None => format!("/gate{path}?s"),
    }
}

fn rewriter() -> EndpointRewriter<fn(&str, Option<&str>) -> String> {
    EndpointRewriter::new(UPSTREAM.parse().unwrap(), seal)
}

/// The stream as the client gets it, when the upstream sends these chunks and ends.
fn pass<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<u8>, EndpointError> {
    let mut rewriter = rewriter();
    let mut out = Vec::new();
    for chunk in chunks {
        out.extend(rewriter.push(Bytes::copy_from_slice(chunk))?);
    }
    out.extend(rewriter.finish());
    Ok(out)
}

fn whole(stream: &str) -> Result<String, EndpointError> {
    pass([stream.as_bytes()]).map(|out| String::from_utf8(out).unwrap())
}

#[track_caller]
fn rewrites(stream: &str, expected: &str) {
    assert_eq!(whole(stream).as_deref(), Ok(expected));
}

/// What the client is told when the upstream names `reference`.
fn endpoint(reference: &str) -> Result<String, EndpointError> {
    let out = whole(&format!("event: endpoint\ndata: {reference}\n\n"))?;
    Ok(out.strip_prefix("event: endpoint\ndata: ").unwrap().strip_suffix("\n\n").unwrap().to_owned())
}

/// Streams with everything the format allows, each with what the client must get.
const STREAMS: [(&str, &str); 12] = [
    // The TypeScript and the Python SDK.
    (
        "event: endpoint\ndata: /message?sessionId=7\n\n",
        "event: endpoint\ndata: /gate/message?sessionId=7&s\n\n",
    ),
    (
        "event: endpoint\r\ndata: /messages/?session_id=7\r\n\r\n: ping - now\r\n\r\nevent: message\r\ndata: {}\r\n\r\n",
        "event: endpoint\r\ndata: /gate/messages/?session_id=7&s\r\n\r\n: ping - now\r\n\r\nevent: message\r\ndata: {}\r\n\r\n",
    ),
    ("event: endpoint\rdata: m?a\r\rdata: x\r\r", "event: endpoint\rdata: /gate/v1/m?a&s\r\rdata: x\r\r"),
    ("\u{feff}event:endpoint\ndata:m\n\n\n", "\u{feff}event:endpoint\ndata:/gate/v1/m?s\n\n\n"),
    ("\u{feff}data: m\r\nevent: endpoint\r\n\r\n", "\u{feff}data: /gate/v1/m?s\r\nevent: endpoint\r\n\r\n"),
    ("\u{feff}\nevent: endpoint\ndata: m\n\n", "\u{feff}\nevent: endpoint\ndata: /gate/v1/m?s\n\n"),
    // Mixed line ends, and a CR that ends a line of its own before a blank line of LF only.
    ("event: endpoint\r\ndata: m\n\r\nrest", "event: endpoint\r\ndata: /gate/v1/m?s\n\r\nrest"),
    // Comments, ids and retries wherever they may stand.
    (
        ": hi\n\nid: 1\nretry: 500\ndata: m\n: between\nid\nevent: endpoint\nid: 2\n\nid: 3\n",
        ": hi\n\nid: 1\nretry: 500\ndata: /gate/v1/m?s\n: between\nid\nevent: endpoint\nid: 2\n\nid: 3\n",
    ),
    // Other events come first; the last name of an event counts.
    (
        "data: 1\ndata: 2\n\nevent: x\ndata: m\nevent: endpoint\n\nevent: message\ndata: n\n\n",
        "data: 1\ndata: 2\n\nevent: x\ndata: /gate/v1/m?s\nevent: endpoint\n\nevent: message\ndata: n\n\n",
    ),
    // Names that only look like it.
    (
        "event: Endpoint\ndata: m\n\nevents: endpoint\ndata: m\n\nevent: x\ndata: event: endpoint\n\n",
        "event: Endpoint\ndata: m\n\nevents: endpoint\ndata: m\n\nevent: x\ndata: event: endpoint\n\n",
    ),
    // What is cut off by the end of the stream is no event.
    (": hi\nid: 1\nevent: endpoint\ndata: m\n", ": hi\nid: 1\nevent: endpoint\n"),
    ("event: message\ndata: m\nda", "event: message\ndata: m\nda"),
];

#[test]
fn only_the_data_of_the_endpoint_event_changes() {
    for (stream, expected) in STREAMS {
        rewrites(stream, expected);
    }
}

#[test]
fn no_split_into_two_or_into_single_bytes_changes_what_goes_out() {
    for (stream, expected) in STREAMS {
        let stream = stream.as_bytes();
        for at in 0..=stream.len() {
            assert_eq!(
                pass([&stream[..at], &stream[at..]]).as_deref(),
                Ok(expected.as_bytes()),
                "split at {at}"
            );
        }
        assert_eq!(pass(stream.chunks(1)).as_deref(), Ok(expected.as_bytes()), "single bytes");
    }
}

#[test]
fn what_comes_before_the_data_goes_out_at_once() {
    let mut rewriter = rewriter();
    let mut push = |chunk: &'static str| rewriter.push(chunk.into()).unwrap();
    assert_eq!(push(": one\n"), ": one\n");
    assert_eq!(push("data: early\n"), "");
    assert_eq!(push("\r"), "data: early\n\r");
    assert_eq!(push("\n: two\r"), "\n: two\r");
    assert_eq!(push("\nevent: endpoint\nda"), "\nevent: endpoint\n");
    assert_eq!(push("ta: m\r\n"), "");
    assert_eq!(push(": three\r\n"), "");
    assert_eq!(push("\r"), "data: /gate/v1/m?s\r\n: three\r\n\r");
    // An event that ends in CR does not wait for a LF that may never come, nor does anything behind it.
    assert_eq!(push("\nda"), "\nda");
}

#[test]
fn after_the_endpoint_event_chunks_are_not_even_copied() {
    let mut rewriter = rewriter();
    rewriter.push("event: endpoint\ndata: m\n\n".into()).unwrap();
    let chunk = Bytes::from_static(b"event: message\ndata: endpoint\n\n");
    let address = chunk.as_ptr();
    assert_eq!(rewriter.push(chunk).unwrap().as_ptr(), address);
    assert_eq!(rewriter.finish(), "");
}

#[test]
fn a_cut_off_endpoint_event_never_shows_the_upstreams_url() {
    for stream in [
        "event: endpoint\ndata: http://tools.internal:3000/m",
        "event: endpoint\ndata: http://tools.internal:3000/m\r\n",
        "data: http://tools.internal:3000/m\nevent: endpoint",
        "data: http://tools.internal:3000/m\nevent: endpoint\n",
        "\u{feff}event: endpoint\n: x\ndata: http://tools.internal:3000/m\nid: 1",
    ] {
        assert!(!whole(stream).unwrap().contains("internal"), "{stream:?}");
    }
}

#[test]
fn references_are_resolved_as_the_client_would() {
    for (reference, expected) in [
        ("/message", "/gate/message?s"),
        ("message", "/gate/v1/message?s"),
        ("../m?x", "/gate/m?x&s"),
        ("?x=1", "/gate/v1/sse?x=1&s"),
        ("?", "/gate/v1/sse?&s"),
        ("#frag", "/gate/v1/sse?key=1&s"),
        ("http://tools.internal:3000/m?x#y?z", "/gate/m?x&s"),
        ("HTTP://user:pass@TOOLS.internal:3000/m", "/gate/m?s"),
        ("//tools.internal:3000/m", "/gate/m?s"),
        (" /m  ", "/gate/m?s"),
    ] {
        assert_eq!(endpoint(reference).as_deref(), Ok(expected), "{reference:?}");
    }
}

#[test]
fn the_default_port_is_the_same_origin_as_no_port() {
    let upstream = "https://docs.example.com/sse".parse().unwrap();
    let mut rewriter = EndpointRewriter::new(upstream, seal);
    let out = rewriter.push("event: endpoint\ndata: https://docs.example.com:443/m\n\n".into()).unwrap();
    assert_eq!(out, "event: endpoint\ndata: /gate/m?s\n\n");
}

#[test]
fn a_query_stays_byte_for_byte() {
    for query in ["a=%2F%2f&b=c+d", "'quoted'\"<>`{}|^\\", "a?b?c", "&&==", "sluicegate=1", "%zz%"] {
        assert_eq!(endpoint(&format!("/m?{query}")), Ok(format!("/gate/m?{query}&s")));
    }
}

#[test]
fn another_origin_is_refused() {
    for reference in [
        "http://169.254.169.254/latest",
        "http://tools.internal:3001/m",
        "http://tools.internal/m",
        "https://tools.internal:3000/m",
        "//evil.example/m",
        "\\\\evil.example\\m",
        "/\\evil.example/m",
        "http://tools.internal:3000@evil.example/m",
        "http://tools.internal:3000.evil.example/m",
        "file:///etc/passwd",
        "javascript:alert(1)",
    ] {
        let refused = endpoint(reference).unwrap_err();
        assert!(
            matches!(refused, EndpointError::ForeignOrigin | EndpointError::InvalidUrl),
            "{reference:?}: {refused:?}"
        );
    }
    assert_eq!(endpoint("//evil.example/m"), Err(EndpointError::ForeignOrigin));
}

#[test]
fn an_event_that_clients_read_differently_and_a_second_one_end_the_stream() {
    for stream in [
        "event: endpoint\ndata: /mess\ndata: age\n\n",
        "data\nevent: endpoint\ndata: m\n\n",
        "event: endpoint\nid: 1\n\ndata: m\n\n",
        "event: endpoint\n\rdata: m\n\r",
        "event: endpoint\nevent: message\ndata: m\n\n",
        "event:  endpoint\ndata: m\n\n",
        "event: endpoint \ndata: m\n\n",
        "event: endpoints\ndata: m\n\n",
        "Event: endpoint\ndata: m\n\n",
        " event: endpoint\ndata: m\n\n",
        "data: m\n\u{feff}event: endpoint\n\n",
        ": x\u{2028}event: endpoint\u{2028}data: m\n\n",
        "event:\rendpoint\ndata: m\n\n",
        "event\r: endpoint\ndata: m\n\n",
        "event: endpoint\ndata: m\n\nevent:\rendpoint\ndata: m\n\n",
        "event: endpoint\ndata: m\n: x\u{b}event: endpoint\u{b}data: m\n\n",
        "event: endpoint\ndata: m\n\nevent: endpoint\ndata: m\n\n",
        "event: endpoint\r\ndata: m\r\n\r\nid: 1\r\nevent: endpoint\r\n",
        "event: endpoint\ndata: m\n\ndata: x\nevent:endpoint",
        // Who breaks lines at LF only takes what is in front of a CR for data of this event.
        "data: http://evil/\rdata: x\r\rdata: m\nevent: endpoint\n\n",
        "data: http://evil/\n\rdata: m\nevent: endpoint\n\n",
        "data: http://evil/\n\revent: endpoint\rdata: m\n\n",
        // Others take what is behind one of their own line ends for it, or a field written in another way.
        ": x\u{b}data: http://evil/\nevent: endpoint\ndata: m\n\n",
        "event: endpoint\n: x\u{2028}data: http://evil/\ndata: m\n\n",
        "event: endpoint\ndata: m\nid: 1\u{85}data: http://evil/\n\n",
        "data: http://evil/\n\u{c}\nevent: endpoint\ndata: m\n\n",
        // Who sees an empty line here has the whole event before the others.
        "id: 1\u{b}data: http://evil/\nevent: endpoint\n\u{b}",
        " data: http://evil/\nevent: endpoint\ndata: m\n\n",
        "event: endpoint\nData: http://evil/\ndata: m\n\n",
        "event: endpoint\ndata\t: http://evil/\ndata: m\n\n",
        "event: endpoint\ndata: m\n\u{feff}data: http://evil/\n\n",
    ] {
        assert_eq!(whole(stream), Err(EndpointError::Stray), "{stream:?}");
        for at in 0..stream.len() {
            let (a, b) = stream.as_bytes().split_at(at);
            assert_eq!(pass([a, b]), Err(EndpointError::Stray), "{stream:?} {at}");
        }
    }
}

#[test]
fn data_that_is_not_one_url_is_refused() {
    for stream in [
        "event: endpoint\ndata\n\n",
        "event: endpoint\ndata:\n\n",
        "event: endpoint\ndata: \n\n",
        "event: endpoint\ndata: /a b\n\n",
        "event: endpoint\ndata: /m\t?x\n\n",
        "event: endpoint\ndata: /m?\u{e9}\n\n",
        "event: endpoint\ndata: /m?\0\n\n",
        "event: endpoint\ndata: http://\n\n",
    ] {
        assert_eq!(whole(stream), Err(EndpointError::InvalidUrl), "{stream:?}");
    }
    assert_eq!(pass([&b"event: endpoint\ndata: /\xFF\n\n"[..]]), Err(EndpointError::InvalidUrl));
}

#[test]
fn what_is_held_back_is_bounded_however_it_arrives() {
    let fits = format!("data: {}\n", "x".repeat(MAX_HELD - 8));
    for (stream, ok) in [
        (format!("{fits}\n{fits}\n"), true),
        (format!("{fits}x\n"), false),
        (format!("data: {}\r\n\n", "x".repeat(MAX_HELD - 8)), false),
        (format!(":{}", "x".repeat(MAX_HELD)), false),
        ("data: 123456\n".repeat(MAX_HELD), false),
        (": 123456\n".repeat(MAX_HELD), true),
    ] {
        let stream = stream.as_bytes();
        for size in [1, 7, 4096, stream.len()] {
            match pass(stream.chunks(size)) {
                Ok(out) => assert!(ok && out == stream),
                Err(error) => assert!(!ok && error == EndpointError::TooLong, "{error}"),
            }
        }
    }
}

/// Pieces that make most random concatenations meaningful event streams.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => prop::sample::select(vec!["\n", "\r", "\r\n", "\n\n", "\r\n\r\n"]),
        8 => prop::sample::select(vec!["event: endpoint", "event:endpoint", "data: ", "data:m?x", "data: /m"]),
        4 => prop::sample::select(vec![":", " ", "data", "event", "id: 1", "\u{feff}", "event: x", "http://evil/"]),
    ]
    .prop_map(|piece| piece.as_bytes().to_vec())
    .boxed()
    .prop_union(prop::collection::vec(any::<u8>(), 0..4).boxed())
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(piece(), 0..24).prop_map(|pieces| pieces.concat())
}

/// Name and data of every event, read the slow and plain way.
fn events(stream: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(stream);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text).replace("\r\n", "\n").replace('\r', "\n");
    let Some((complete, _)) = text.rsplit_once('\n') else { return Vec::new() };
    let (mut events, mut name, mut data) = (Vec::new(), String::new(), Vec::new());
    for line in complete.split('\n') {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            _ if line.is_empty() => {
                if !data.is_empty() {
                    events.push((name.clone(), data.join("\n")));
                }
                name.clear();
                data.clear();
            }
            "event" => value.clone_into(&mut name),
            "data" => data.push(value.to_owned()),
            _ => {}
        }
    }
    events
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn chunking_changes_nothing(stream in stream(), cuts in prop::collection::vec(1usize..9, 1..64)) {
        let mut rest = &stream[..];
        let mut chunks = Vec::new();
        for size in cuts.into_iter().cycle() {
            if rest.is_empty() { break }
            let (chunk, left) = rest.split_at(size.min(rest.len()));
            chunks.push(chunk);
            rest = left;
        }
        prop_assert_eq!(pass(chunks), pass([&stream[..]]));
    }

    #[test]
    fn a_client_sees_the_same_events_but_for_the_first_endpoint(stream in stream()) {
        if let Ok(out) = pass([&stream[..]]) {
            let mut expected = events(&stream);
            if let Some(first) = expected.iter_mut().find(|(name, _)| name == "endpoint") {
                let reference = first.1.trim_matches(' ').to_owned();
                let url = Url::parse(UPSTREAM).unwrap().join(&reference).unwrap();
                // As it was written: `Url` would percent-encode some of it.
                let written = reference.split('#').next().and_then(|rest| Some(rest.split_once('?')?.1));
                first.1 = seal(url.path(), written.or(url.query()));
            }
            prop_assert_eq!(events(&out), expected);
        }
    }

    #[test]
    fn a_stream_without_an_endpoint_event_passes_byte_for_byte(stream in stream()) {
        let stream: Vec<u8> = stream.into_iter().map(|byte| if byte == b'v' { b'w' } else { byte }).collect();
        prop_assert_eq!(pass([&stream[..]]), Ok(stream));
    }
}
