use super::*;

/// What passes of these pieces: what goes out, how much of it is payload, and how much of the pieces belongs to the body.
fn pass(raw: &mut RawFraming, pieces: &[&str]) -> Result<(String, usize, usize), ExchangeError> {
    let (mut out, mut payload, mut here) = (Vec::new(), 0, 0);
    for piece in pieces {
        let passed = raw.push(piece.as_bytes())?;
        payload += passed.payload;
        here += passed.here;
        out.extend(passed.instead.unwrap_or_else(|| piece.as_bytes()[..passed.here].to_vec()));
    }
    Ok((String::from_utf8(out).unwrap(), payload, here))
}

fn chunked() -> RawFraming {
    RawFraming::new(Framing::Chunked, None)
}

#[test]
fn a_body_with_a_length_ends_behind_it() {
    let mut raw = RawFraming::new(Framing::Length(7), None);
    assert!(!raw.is_chunked() && !raw.is_between_events());
    assert_eq!(pass(&mut raw, &["hel"]).unwrap(), ("hel".to_owned(), 3, 3));
    assert!(!raw.is_end());
    assert_eq!(pass(&mut raw, &["lo", "", "!!HTTP/1.1"]).unwrap(), ("lo!!".to_owned(), 4, 4));
    assert!(raw.is_end());
    assert!(RawFraming::new(Framing::None, None).is_end());
}

#[test]
fn a_body_without_framing_ends_with_its_connection() {
    let mut raw = RawFraming::new(Framing::UntilClose, None);
    assert_eq!(
        pass(&mut raw, &["data: 1\n\n", "0\r\n\r\n"]).unwrap(),
        ("data: 1\n\n0\r\n\r\n".to_owned(), 14, 14)
    );
    assert!(!raw.is_end() && !raw.is_chunked() && !raw.is_between_events());
}

#[test]
fn chunks_pass_without_what_nobody_needs() {
    let mut raw = chunked();
    assert!(raw.is_chunked());
    let passed = pass(&mut raw, &["3;x\r\nabc\r", "\n2\r\nde\r\n0\r\nT: 1\r\n\r\nHTTP/1.1"]).unwrap();
    assert_eq!(passed, ("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n".to_owned(), 5, 28));
    assert!(raw.is_end());
    assert!(pass(&mut chunked(), &["x\r\n"]).is_err());
}

#[test]
fn a_comment_may_be_put_in_between_events_that_end_with_their_chunk() {
    let mut raw = chunked();
    for (piece, may) in [
        ("", true),
        ("9\r\ndata: 1\n\n", false),
        ("\r\n", true),
        ("8\r\ndata: 2\n\r\n", false),
        ("1\r\n\n\r\n", true),
        ("1", false),
    ] {
        raw.push(piece.as_bytes()).unwrap();
        assert_eq!(raw.is_between_events(), may, "{piece:?}");
    }
}

#[test]
fn a_byte_order_mark_behind_a_comment_is_taken_out() {
    let begun = || {
        let mut raw = chunked();
        raw.comment();
        raw
    };
    let mut raw = begun();
    let passed = pass(&mut raw, &["c\r\n\u{feff}data: 1\n\n\r\n"]).unwrap();
    assert_eq!(passed, ("9\r\ndata: 1\n\n\r\n".to_owned(), 9, 17));
    // What comes then is the server's, and passes.
    assert_eq!(pass(&mut raw, &["3\r\n\u{feff}\r\n"]).unwrap().0, "3\r\n\u{feff}\r\n");
    // With what nobody needs in front of it and behind it.
    let passed = pass(&mut begun(), &["00d;x\r\n\u{feff}data: 12\n\n\r\n1;y\r\nz\r\n"]).unwrap();
    assert_eq!(passed, ("a\r\ndata: 12\n\n\r\n1\r\nz\r\n".to_owned(), 11, 30));
    // Its chunk would be the last, or its size has passed.
    assert!(pass(&mut begun(), &["3\r\n\u{feff}\r\n"]).is_err());
    assert!(pass(&mut begun(), &["c\r\n", "\u{feff}data: 1\n\n\r\n"]).is_err());
    assert!(begun().push(b"2\r\n\xEF\xBB\r\n").is_err(), "in parts");
    assert_eq!(pass(&mut chunked(), &["3\r\n\u{feff}\r\n"]).unwrap().0, "3\r\n\u{feff}\r\n", "no comment");
}

#[test]
fn a_guard_lets_no_endpoint_event_pass() {
    let mut raw = RawFraming::new(Framing::Chunked, Some(EndpointGuard::default()));
    assert!(pass(&mut raw, &["10\r\ndata: endpoint\n\n\r\n"]).is_ok());
    assert!(pass(&mut raw, &["8\r\nevent: e\r\n", "8\r\nndpoint\n\r\n"]).is_err());
}
