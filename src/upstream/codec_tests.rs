//! Heads and chunks of servers, good and bad, in every way to cut them.

use proptest::prelude::*;

use super::*;

fn head(text: &str) -> Result<Option<(Head, Bytes)>, ProtocolError> {
    parse_head(text.as_bytes(), &Method::POST, &Spares::default())
}

#[test]
fn a_head_is_complete_only_with_its_empty_line() {
    let text = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Empty:\r\nTransfer-Encoding: chunked\r\n\r\n";
    for end in 0..text.len() {
        assert!(head(&text[..end]).unwrap().is_none(), "{end}");
    }
    let (parsed, behind) = head(&format!("{text}5\r\nhello")).unwrap().unwrap();
    assert_eq!(behind, "5\r\nhello");
    assert_eq!(parsed.framing, Framing::Chunked);
    assert_eq!(parsed.headers["content-type"], "text/event-stream");
    assert_eq!(parsed.headers["x-empty"], "");
    assert!(parsed.keep_alive.is_some());
}

#[test]
fn interim_responses_are_skipped_and_an_upgrade_is_refused() {
    let text = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";
    let (parsed, behind) = head(&format!("{text}x")).unwrap().unwrap();
    assert_eq!((parsed.status.as_u16(), &*behind), (202, b"x".as_slice()));
    assert_eq!(parsed.headers["content-length"], "0");
    assert!(head("HTTP/1.1 101 Switching Protocols\r\n\r\n").is_err());
}

#[test]
fn framing_that_two_parsers_could_read_differently_is_refused() {
    let bad = [
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Content-Length: +5",
        "Content-Length: 5, 5",
        "Content-Length: -1",
        "Content-Length: 0x10",
        "Content-Length: 99999999999999999999",
        "Content-Length:",
        "Content-Length: 10000000000000000000",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: xchunked",
    ];
    for fields in bad {
        assert!(head(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n")).is_err(), "{fields}");
    }
    assert!(head("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
    assert!(head("SSH-2.0-OpenSSH\r\n\r\n").is_err());
}

#[test]
fn the_end_of_a_body_follows_rfc_9112() {
    let framing = |text: &str| head(text).unwrap().unwrap().0;
    assert_eq!(framing("HTTP/1.1 204 No Content\r\n\r\n").framing, Framing::None);
    assert_eq!(framing("HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n").framing, Framing::Length(12));
    let most = framing("HTTP/1.1 200 OK\r\nContent-Length: 9999999999999999999\r\n\r\n");
    assert_eq!(most.framing, Framing::Length(9_999_999_999_999_999_999), "as many digits as always fit");
    let close = framing("HTTP/1.1 200 OK\r\n\r\n");
    assert_eq!((close.framing, close.keep_alive), (Framing::UntilClose, None));
    let (to_head, _) =
        parse_head(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n", &Method::HEAD, &Spares::default())
            .unwrap()
            .unwrap();
    assert_eq!(to_head.framing, Framing::None);
}

#[test]
fn a_connection_is_kept_for_as_long_as_the_server_says() {
    let keep_alive = |start: &str, fields: &str| {
        let text = format!("HTTP/{start} 200 OK\r\nContent-Length: 0\r\n{fields}\r\n");
        head(&text).unwrap().unwrap().0.keep_alive
    };
    let promised = |seconds| Some(KeepAlive { promised: seconds });
    assert_eq!(keep_alive("1.1", ""), promised(None));
    let five = Some(Duration::from_secs(5));
    assert_eq!(keep_alive("1.1", "Keep-Alive: max=9, timeout=5\r\n"), promised(five));
    assert_eq!(keep_alive("1.1", "Keep-Alive: timeout=5\r\nX-Other: timeout=9\r\n"), promised(five));
    assert_eq!(keep_alive("1.1", "Keep-Alive: timeout=soon\r\n"), promised(None));
    assert_eq!(keep_alive("1.1", "Connection: x, Close\r\n"), None);
    assert_eq!(keep_alive("1.0", ""), None);
}

#[test]
fn a_head_without_end_is_refused_at_its_limit() {
    let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "a".repeat(MAX_HEAD));
    assert!(head(&endless).is_err());
}

#[test]
fn a_head_is_bounded_however_it_comes() {
    let with = |interim: usize, before: usize, length: usize| {
        let interim =
            format!("HTTP/1.1 103 Early Hints\r\nX: {}\r\n\r\n", "a".repeat(before)).repeat(interim);
        let text = format!("{interim}HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "a".repeat(length));
        (text.len(), head(&text).is_ok())
    };
    let (overhead, _) = with(0, 0, 0);
    assert_eq!(with(0, 0, MAX_HEAD - overhead), (MAX_HEAD, true));
    assert_eq!(with(0, 0, MAX_HEAD - overhead + 1), (MAX_HEAD + 1, false));
    let (overhead, _) = with(2, 1000, 0);
    assert_eq!(with(2, 1000, MAX_HEAD - overhead), (MAX_HEAD, true));
    assert_eq!(with(2, 1000, MAX_HEAD - overhead + 1), (MAX_HEAD + 1, false));
    assert!(with(MAX_INTERIM, 0, 0).1 && !with(MAX_INTERIM + 1, 0, 0).1);
}

fn decode_in_pieces(input: &[u8], cuts: &[usize]) -> Result<(Vec<u8>, usize, bool), ProtocolError> {
    let (mut decoder, mut out, mut consumed, mut from) = (Chunked::default(), Vec::new(), 0, 0);
    for to in cuts.iter().copied().chain([input.len()]) {
        let piece = &input[from..to.max(from)];
        consumed += decoder.decode(piece, |range| out.extend_from_slice(&piece[range]), |_| {})?;
        from = to.max(from);
    }
    Ok((out, consumed, decoder.is_done()))
}

#[test]
fn chunks_decode_the_same_wherever_the_input_is_split() {
    let input = b"5\r\nhello\r\n6;name=\"v\"\r\n world\r\n00\r\nTrailer: x\r\nOther: y\r\n\r\nHTTP/1.1 200";
    let body = input.len() - b"HTTP/1.1 200".len();
    for cut in 0..=input.len() {
        assert_eq!(decode_in_pieces(input, &[cut]).unwrap(), (b"hello world".to_vec(), body, true), "{cut}");
    }
    let every: Vec<usize> = (1..input.len()).collect();
    assert_eq!(decode_in_pieces(input, &every).unwrap(), (b"hello world".to_vec(), body, true));
}

#[test]
fn malformed_chunks_are_errors() {
    let bad: [&[u8]; 13] = [
        b";x\r\n",
        b"\r\n",
        b"x\r\n",
        b" 5\r\nhello\r\n",
        b"5 \r\nhello\r\n",
        b"5\nhello\r\n",
        b"5\r\nhelloX\r\n",
        b"5\r\nhello\n",
        b"00000000000000001\r\n",
        b"8000000000000000\r\n",
        b"ffffffffffffffff\r\n",
        b"5;\x01\r\n",
        b"0\r\nTrailer\n\r\n",
    ];
    for input in bad {
        assert!(decode_in_pieces(input, &[]).is_err(), "{}", input.escape_ascii());
    }
    let endless = [b"5;".as_slice(), &[b'a'; 2000]].concat();
    assert!(decode_in_pieces(&endless, &[]).is_err());
    assert!(
        decode_in_pieces(b"7fffffffffffffff\r\n", &[]).is_ok(),
        "the largest that every client can count to"
    );
}

#[test]
fn extensions_and_trailers_have_their_limits() {
    let extension =
        |length| decode_in_pieces(format!("1;{}\r\nx", "e".repeat(length)).as_bytes(), &[]).is_ok();
    assert!(extension(MAX_EXTENSION as usize) && !extension(MAX_EXTENSION as usize + 1));
    let trailers = |length: usize| {
        let lines = format!("T: {}\r\n", "t".repeat(length / 2 - 3)).repeat(2);
        decode_in_pieces(format!("0\r\n{lines}\r\n").as_bytes(), &[]).is_ok()
    };
    assert!(trailers(MAX_TRAILERS as usize) && !trailers(MAX_TRAILERS as usize + 2));
}

#[test]
fn a_decoder_says_where_in_the_body_it_is() {
    let mut decoder = Chunked::default();
    for (piece, is_between_chunks, is_done) in [
        ("", true, false),
        ("5", false, false),
        ("\r\n", false, false),
        ("hel", false, false),
        ("lo\r\n", true, false),
        ("1\r\nx\r\n2\r\nxy\r\n", true, false),
        ("0", false, false),
        ("\r\n", false, false),
        ("\r\n", false, true),
    ] {
        decoder.decode(piece.as_bytes(), |_| {}, |_| {}).unwrap();
        assert_eq!(
            (decoder.is_between_chunks(), decoder.is_done()),
            (is_between_chunks, is_done),
            "{piece:?}"
        );
    }
}

#[test]
fn a_chunk_that_is_here_as_a_whole_is_found_at_once() {
    assert_eq!(plain_chunk(b"5\r\nhello\r\n", 0), Some((3..8, 10)));
    assert_eq!(plain_chunk(b"5\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\n", 10), Some((13..23, 25)));
    let large = format!("12f00d\r\n{}\r\n", "x".repeat(0x12_f00d));
    assert_eq!(plain_chunk(large.as_bytes(), 0), Some((8..0x12_f015, 0x12_f017)));
    for other in [
        "5\r\nhello\r",
        "5\r\nhel",
        "5;x\r\nhello\r\n",
        "05\r\nhello\r\n",
        "0\r\n\r\n",
        "\r\n",
        "",
        "5\nhello\r\n",
        "5\r\nhelloX\r\n",
        "5\r\nhello\rX",
        "1000000\r\n",
    ] {
        assert_eq!(plain_chunk(other.as_bytes(), 0), None, "{other:?}");
    }
}

#[test]
fn the_size_of_a_chunk_is_what_its_first_digits_say() {
    for (head, size) in [
        ("1f\r\nx", Some(0x1f)),
        ("001F;a=b\r\n", Some(0x1f)),
        ("0\r\n", Some(0)),
        ("\r\n", None),
        ("", None),
    ] {
        assert_eq!(chunk_size(head.as_bytes()), size, "{head:?}");
    }
}

#[test]
fn what_is_cut_out_is_cut_out_once() {
    let without = |ranges: &[Range<usize>], begin: Option<usize>| {
        let mut cuts = Cuts::default();
        ranges.iter().for_each(|range| cuts.push(range.clone()));
        if let Some(begin) = begin {
            cuts.begin_behind(begin);
        }
        cuts.taken_out_of(b"0123456789").map(|kept| String::from_utf8(kept).unwrap())
    };
    assert_eq!(without(&[], None), None);
    assert_eq!(without(&[1..2, 2..4, 7..8], None).as_deref(), Some("045689"));
    assert_eq!(without(&[1..2, 7..8], Some(4)).as_deref(), Some("45689"));
    assert_eq!(without(&[1..2, 4..5], Some(4)).as_deref(), Some("56789"));
    assert_eq!(without(&[], Some(9)).as_deref(), Some("9"));
}

/// What a client gets of a body that comes cut like this, framing and all.
fn pass_in_pieces(input: &[u8], cuts: &[usize]) -> Result<Vec<u8>, ProtocolError> {
    let (mut decoder, mut out, mut from) = (Chunked::default(), Vec::new(), 0);
    for to in cuts.iter().copied().chain([input.len()]) {
        let piece = &input[from..to.max(from)];
        let mut cuts = Cuts::default();
        let here = decoder.decode(piece, |_| {}, |range| cuts.push(range))?;
        out.extend(cuts.taken_out_of(&piece[..here]).unwrap_or_else(|| piece[..here].to_vec()));
        from = to.max(from);
    }
    Ok(out)
}

/// The payload of a chunked body that is written in the plainest way, and `None` for any other. Zeros in front of a size
/// may be one.
fn plain_payload(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut payload = Vec::new();
    loop {
        let end = body.windows(2).position(|window| window == b"\r\n")?;
        let line = std::str::from_utf8(&body[..end]).ok()?;
        let is_plain = line.bytes().all(|byte| byte.is_ascii_hexdigit()) && !line.starts_with("00");
        let size = usize::from_str_radix(line, 16).ok().filter(|_| is_plain)?;
        if size == 0 {
            return (line == "0" && &body[end..] == b"\r\n\r\n").then_some(payload);
        }
        payload.extend_from_slice(body.get(end + 2..end + 2 + size)?);
        body = body.get(end + 2 + size..)?.strip_prefix(b"\r\n")?;
    }
}

#[test]
fn a_plain_body_passes_as_it_is_and_any_other_without_what_nobody_needs() {
    let plain = b"5\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\n";
    assert_eq!(pass_in_pieces(plain, &[]).unwrap(), plain);
    let input = b"5;a=b;c\r\nhello\r\n00a;\r\n0123456789\r\n0000;x=\"y\"\r\nX: 1\r\nY: 2;3\r\n\r\nHTTP/1.1";
    let passed = b"5\r\nhello\r\n0a\r\n0123456789\r\n0\r\n\r\n";
    for cut in 0..input.len() {
        assert_eq!(pass_in_pieces(input, &[cut]).unwrap(), passed, "{cut}");
    }
    let every: Vec<usize> = (1..input.len()).collect();
    assert_eq!(pass_in_pieces(input, &every).unwrap(), passed);
}

proptest! {
    #[test]
    fn whatever_is_chunked_and_cut_anyhow_a_client_decodes_the_same_and_sees_nothing_else(
        chunks in prop::collection::vec(
            ("0{0,9}", prop::collection::vec(any::<u8>(), 1..50), any::<bool>(), "(;[ -~\t]{0,9}){0,2}"),
            0..8,
        ),
        last in ("0{1,9}", "(;[ -~\t]{0,9}){0,2}", "([!-~][ -~\t]{0,9}\r\n){0,3}"),
        cuts in prop::collection::vec(0usize..800, 0..12),
    ) {
        let mut input = Vec::new();
        for (zeros, chunk, upper, extension) in &chunks {
            let size = if *upper { format!("{:X}", chunk.len()) } else { format!("{:x}", chunk.len()) };
            input.extend_from_slice(format!("{zeros}{size}{extension}\r\n").as_bytes());
            input.extend_from_slice(chunk);
            input.extend_from_slice(b"\r\n");
        }
        let (zeros, extension, trailers) = &last;
        input.extend_from_slice(format!("{zeros}{extension}\r\n{trailers}\r\n").as_bytes());
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(input.len())).collect();
        cuts.sort_unstable();
        let payload: Vec<u8> = chunks.iter().flat_map(|(_, chunk, _, _)| chunk.clone()).collect();
        let passed = pass_in_pieces(&input, &cuts).unwrap();
        prop_assert_eq!(plain_payload(&passed), Some(payload.clone()));
        prop_assert_eq!(passed, pass_in_pieces(&input, &[]).unwrap());
        prop_assert_eq!(decode_in_pieces(&input, &cuts).unwrap(), (payload, input.len(), true));
    }

    #[test]
    fn what_was_chunked_comes_back(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..10), cuts in prop::collection::vec(0usize..600, 0..8)) {
        let mut input = Vec::new();
        for chunk in &chunks {
            input.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            input.extend_from_slice(chunk);
            input.extend_from_slice(b"\r\n");
        }
        input.extend_from_slice(b"0\r\n\r\n");
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(input.len())).collect();
        cuts.sort_unstable();
        let (out, consumed, done) = decode_in_pieces(&input, &cuts).unwrap();
        prop_assert_eq!(out, chunks.concat());
        prop_assert_eq!(consumed, input.len());
        prop_assert!(done);
    }

    #[test]
    fn no_input_breaks_the_decoder(input in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_in_pieces(&input, &[]);
        let _ = parse_head(&input, &Method::GET, &Spares::default());
    }
}
