use proptest::prelude::*;

use crate::downstream::connection::requests::*;

const LONGEST: usize = 1024;

/// What begins on a connection that brings `pieces`: one verdict for each request, up to the first that is not served.
fn verdicts<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Option<Fault>> {
    let mut requests = Requests::new(LONGEST);
    let mut verdicts = Vec::new();
    for piece in pieces {
        requests.received(piece);
        while requests.progress() == HeadProgress::Complete && !requests.are_over() {
            verdicts.push(requests.begins());
        }
    }
    verdicts
}

fn verdicts_of(bytes: &str) -> Vec<Option<Fault>> {
    verdicts([bytes.as_bytes()])
}

/// One that is served, with its framing and its body.
fn good(fields_and_body: &str) -> String {
    format!(
        "POST /db/mcp?x=1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer 0123456789\r\n{fields_and_body}"
    )
}

/// Requests of every framing, and what they are.
fn all_kinds() -> Vec<(String, Option<Fault>)> {
    let long = "x".repeat(200);
    let mut kinds: Vec<_> = [
        "\r\n",
        "Content-Length: 0\r\n\r\n",
        "Content-Length: 2\r\n\r\n{}",
        "content-length:5\r\n\r\n{\n#\n}",
        "CONTENT-LENGTH: \t 0004 \r\nX-A: #\r\n\r\n\r\n\r\n",
        "Content-Type: a\r\nContent-Length: 22\r\nX-B: c\r\n\r\nGET /#x HTTP/1.1\nA: b\n\n",
        "Content-Lengthy: 9\r\nX-Content-Length: 9\r\nContent-Length-X: 9\r\nContent_Length: 9\r\n\r\n",
        "Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
        "Upgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "transfer-encoding:Chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        "TRANSFER-ENCODING: CHUNKED\r\n\r\n00a \t;ext=\"#\"\r\n0123456789\r\n01\r\n\n\r\n000;x\r\nX-T: #\r\nX-U: v\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n1A\r\nGET /#x HTTP/1.1\r\nA: b\r\n\r\n\r\n0\r\n\r\n",
    ]
    .map(|rest| (good(rest), None))
    .into();
    kinds.push((format!("\r\n\n\r\n{}", good("Content-Length: 1\r\n\r\n\n")), None));
    kinds.push((good(&format!("X-A: {long}\r\nContent-Length: 200\r\nX-B: {long}\r\n\r\n{long}")), None));
    kinds.push((good(&format!("Transfer-Encoding: chunked\r\n\r\nc8\r\n{long}\r\n0\r\n\r\n")), None));
    kinds.push(("GET / HTTP/1.0\r\n\r\n".into(), None));
    kinds
}

/// Heads behind which nothing is looked at.
fn faulty() -> Vec<(String, Option<Fault>)> {
    let mut faulty = vec![
        ("GET /# HTTP/1.1\r\nHost: a\r\n\r\n".into(), Some(Fault::Fragment)),
        ("GET /x#y HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx".into(), Some(Fault::Fragment)),
        (format!("GET /{}#y HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(200)), Some(Fault::Fragment)),
        ("GET / HTTP/1.1\n\n".into(), Some(Fault::BareLf)),
        ("GET /# HTTP/1.1\nHost: a\r\n\r\n".into(), Some(Fault::BareLf)),
    ];
    let whole = good("Content-Length: 2\r\nX-A: 0123456789\r\n\r\n");
    for (at, _) in whole.match_indices("\r\n") {
        faulty.push((format!("{}{}{{}}", &whole[..at], &whole[at + 1..]), Some(Fault::BareLf)));
    }
    faulty
}

#[test]
fn every_kind_of_request_is_followed_to_its_end() {
    for (first, _) in all_kinds() {
        for (second, verdict) in all_kinds().into_iter().chain(faulty()) {
            assert_eq!(verdicts_of(&format!("{first}{second}")), [None, verdict], "{first:?} {second:?}");
        }
    }
}

#[test]
fn it_does_not_matter_how_the_bytes_come() {
    for (fault, verdict) in faulty() {
        let kinds = all_kinds();
        let all: String = kinds.iter().map(|(kind, _)| kind.as_str()).chain([fault.as_str()]).collect();
        let mut wanted = vec![None; kinds.len()];
        wanted.push(verdict);
        assert_eq!(verdicts_of(&all), wanted, "{fault:?}");
        assert_eq!(verdicts(all.as_bytes().chunks(1)), wanted, "{fault:?}");
        let in_two = |at| [&all.as_bytes()[..at], &all.as_bytes()[at..]];
        assert!((0..all.len()).all(|at| verdicts(in_two(at)) == wanted), "{fault:?}");
    }
}

#[test]
fn lines_of_every_length_are_seen() {
    for length in 0..3 * BLOCK {
        let of = |end: &str| good(&format!("X-A: {}{end}Content-Length: 1\r\n\r\n\n", "x".repeat(length)));
        assert_eq!(verdicts_of(&of("\r\n").repeat(3)), [None; 3], "{length}");
        assert_eq!(verdicts_of(&(of("\r\n") + &of("\n"))), [None, Some(Fault::BareLf)], "{length}");
    }
}

#[test]
fn behind_what_is_not_certain_nothing_is_served() {
    let next = good("\r\n");
    for unclear in [
        good("Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}"),
        good("Content-Length: 2\r\ncontent-length: 3\r\n\r\n{}"),
        good("Content-Length: 2, 2\r\n\r\n{}"),
        good("Content-Length: +2\r\n\r\n{}"),
        good("Content-Length: 0x2\r\n\r\n{}"),
        good("Content-Length:\r\n\r\n"),
        good("Content-Length: 99999999999999999999999\r\n\r\n"),
        good("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        good("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n"),
        good("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        good("Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        good("Transfer-Encoding: identity\r\n\r\n"),
        "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n".into(),
    ] {
        let mut requests = Requests::new(LONGEST);
        requests.received(unclear.as_bytes());
        assert_eq!(requests.begins(), None, "{unclear:?}");
        assert!(requests.are_over(), "{unclear:?}");
        requests.received(next.as_bytes());
        assert_eq!(requests.begins(), Some(Fault::Unknown), "{unclear:?}");
    }
    for broken in [
        "\r\n",
        " 1\r\nx\r\n",
        "x\r\n",
        "1\nx\r\n",
        "1 1\r\nx\r\n",
        "1;\rx\r\nx\r\n",
        "-1\r\n",
        "0\n\r\n",
        "0\r\n\n",
        "0\r\nA: b\n\r\n",
        "10000000000000000\r\n",
    ] {
        let mut requests = Requests::new(LONGEST);
        requests.received(good("Transfer-Encoding: chunked\r\n\r\n").as_bytes());
        assert_eq!((requests.begins(), requests.are_over()), (None, false));
        requests.received(broken.as_bytes());
        assert!(requests.are_over(), "{broken:?}");
        requests.received(next.as_bytes());
        assert_eq!(requests.begins(), Some(Fault::Unknown), "{broken:?}");
    }
}

#[test]
fn behind_a_fault_nothing_is_served_but_what_came_before_is() {
    let mut requests = Requests::new(LONGEST);
    let all = format!("{}GET /# HTTP/1.1\r\n\r\n{}", good("\r\n").repeat(2), good("\r\n"));
    requests.received(all.as_bytes());
    assert_eq!((requests.begins(), requests.are_over()), (None, false));
    assert_eq!((requests.begins(), requests.are_over()), (None, false));
    assert_eq!((requests.begins(), requests.are_over()), (Some(Fault::Fragment), true));
    assert_eq!((requests.begins(), requests.are_over()), (Some(Fault::Unknown), true));
}

#[test]
fn a_request_whose_head_was_not_seen_is_not_served() {
    let mut requests = Requests::new(LONGEST);
    requests.received(b"GET / HTTP/1.1\r\n");
    assert_eq!((requests.begins(), requests.are_over()), (Some(Fault::Unknown), true));
}

#[test]
fn progress_is_that_of_the_next_request() {
    let mut requests = Requests::new(LONGEST);
    for (bytes, progress) in [
        ("", HeadProgress::None),
        ("\r\n", HeadProgress::None),
        ("P", HeadProgress::Begun),
        ("OST / HTTP/1.1\r\nContent-Length: 3\r\n", HeadProgress::Begun),
        ("\r\n", HeadProgress::Complete),
    ] {
        requests.received(bytes.as_bytes());
        assert_eq!(requests.progress(), progress, "{bytes:?}");
    }
    assert_eq!(requests.begins(), None);
    for (bytes, progress) in
        [("a\n", HeadProgress::None), ("b", HeadProgress::None), ("G", HeadProgress::Begun)]
    {
        requests.received(bytes.as_bytes());
        assert_eq!(requests.progress(), progress, "{bytes:?}");
    }
}

#[test]
fn of_a_line_without_end_no_more_is_kept_than_a_head_may_have() {
    for begun in
        ["", "GET ", "GET / HTTP/1.1\r\nA: ", "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;"]
    {
        let mut requests = Requests::new(LONGEST);
        requests.received(begun.as_bytes());
        for _ in 0..2 * LONGEST {
            requests.received(b"x");
            assert!(requests.line.capacity() <= 2 * LONGEST);
        }
        assert_eq!((requests.at, requests.line.capacity()), (At::Lost, 0), "{begun:?}");
    }
}

/// What hyper would have a head end with, and all that this looks for, written the slow way.
fn slow_verdict(head: &[u8]) -> Option<(usize, Option<Fault>)> {
    let (mut at, mut fault, mut is_first) = (0, None, true);
    loop {
        let end = at + head[at..].iter().position(|b| *b == b'\n')?;
        let line = &head[at..end];
        at = end + 1;
        if is_first && line.contains(&b'#') {
            fault = Some(Fault::Fragment);
        }
        if !line.ends_with(b"\r") {
            fault = Some(Fault::BareLf);
        }
        if !is_first && matches!(line, b"" | b"\r") {
            return Some((at, fault));
        }
        is_first = false;
    }
}

proptest! {
    #[test]
    fn a_head_of_any_bytes_ends_where_it_does_the_slow_way(
        rest in prop::collection::vec(prop::sample::select(b"\r\n\n#eE: ab".as_slice()), 0..300),
        cut in 0usize..300,
    ) {
        let bytes = [b"G", rest.as_slice()].concat();
        let mut requests = Requests::new(LONGEST);
        let cut = cut.min(bytes.len());
        requests.received(&bytes[..cut]);
        requests.received(&bytes[cut..]);
        match slow_verdict(&bytes) {
            None => prop_assert_eq!(requests.progress(), HeadProgress::Begun),
            Some((_, fault)) => prop_assert_eq!(requests.begins(), fault),
        }
    }

    #[test]
    fn line_feeds_are_found_where_they_are(
        bytes in prop::collection::vec(prop::sample::select(b"\n\r\x0b\x8a\0a".as_slice()), 0..130),
    ) {
        let found = line_feeds(&bytes);
        for at in 0..BLOCK {
            prop_assert_eq!(found >> at & 1 == 1, bytes.get(at) == Some(&b'\n'), "{}", at);
        }
    }

    #[test]
    fn nothing_that_comes_is_too_much(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..20)) {
        let mut requests = Requests::new(LONGEST);
        for piece in &pieces {
            requests.received(piece);
        }
        requests.begins();
    }
}
