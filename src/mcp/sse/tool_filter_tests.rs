use proptest::prelude::*;

use crate::mcp::sse::tool_filter::*;

fn events() -> ListEvents<impl Fn(&str) -> bool> {
    ListEvents::new(|tool: &str| tool != "drop")
}

/// What comes out of a stream that comes in pieces of `size`.
fn filtered(stream: &str, size: usize) -> String {
    let mut events = events();
    let pieces = stream.as_bytes().chunks(size).map(|piece| events.push(piece).unwrap());
    String::from_utf8(pieces.flat_map(|piece| piece.to_vec()).collect()).unwrap()
}

#[test]
fn lists_are_shortened_and_all_else_passes_byte_for_byte() {
    let list = r#"{"id":1,"result":{"tools":[{"name":"drop"},{"name":"read"}]}}"#;
    let short = r#"{"id":1,"result":{"tools":[{"name":"read"}]}}"#;
    for end in ["\n", "\r", "\r\n"] {
        for (stream, wanted) in [
            (format!("event: message|data: {list}||"), format!("event: message|data: {short}||")),
            (format!("data:{list}|id: 7|retry:1||: ping||"), format!("data:{short}|id: 7|retry:1||: ping||")),
            (format!("\u{feff}data: {list}||data: x||"), format!("\u{feff}data: {short}||data: x||")),
            (
                format!("id: 1|data: {{\"id\":1,|data:|: c|data: {}|event: message||", &list[8..]),
                format!("id: 1|data: {{\"id\":1,  {}|: c|event: message||", &short[8..]),
            ),
            (format!("data|data|data: {list}||"), format!("data:  {short}||")),
            ("||event: endpoint|data: /message?x=1||data||data: {||".into(), String::new()),
            ("data: a|:c|data:  d||event:x||id||retry|event|: \u{e9}\t||".into(), String::new()),
        ] {
            let wanted = if wanted.is_empty() { &stream } else { &wanted };
            let (stream, wanted) = (stream.replace('|', end), wanted.replace('|', end));
            for size in [1, 2, 3, 7, 4096] {
                assert_eq!(filtered(&stream, size), wanted, "{end:?} in pieces of {size}");
            }
        }
    }
}

#[test]
fn an_event_whose_lines_end_in_different_ways_still_ends() {
    let list = r#"{"id":1,"result":{"tools":[{"name":"drop"},{"name":"read"}]}}"#;
    let short = r#"{"id":1,"result":{"tools":[{"name":"read"}]}}"#;
    for (stream, wanted) in [
        // A CR and the LF of the empty line would be one line end.
        (format!("data\rdata: {list}\n\n"), format!("data: {short}\n\n")),
        (format!("data\rid: 1\rdata: {list}\n\n"), format!("data: {short}\rid: 1\n\n")),
        (format!("data\rdata: {list}\r\n\n"), format!("data: {short}\r\n\n")),
        (format!("data\r\ndata: {list}\n\r\n"), format!("data: {short}\r\n\r\n")),
        (format!("data: {{\rdata: {}\rdata\n\n", &list[1..]), format!("data: {{ {} \n\n", &short[1..])),
    ] {
        for size in [1, 2, 3, 7, 4096] {
            assert_eq!(filtered(&stream, size), wanted, "in pieces of {size}");
        }
    }
}

#[test]
fn comments_and_events_pass_at_once_and_a_cut_event_does_not() {
    let mut events = events();
    assert_eq!(events.push(b": ping\n").unwrap(), ": ping\n");
    assert_eq!(events.push(b"id: 1\nda").unwrap(), "id: 1\n");
    assert_eq!(events.push(b"ta: {}\n").unwrap(), "");
    assert_eq!(events.push(b"\n").unwrap(), "data: {}\n\n");
    assert_eq!(events.push(br#"data: {"result":{"tools":[{"name":"drop"}"#).unwrap(), "");
}

#[test]
fn an_event_of_any_size_passes_unless_it_lists_tools() {
    let large = "x".repeat(MAX_HELD);
    let list = r#"data: {"result":{"tools":[{"name":"drop"}]}}"#;
    let result = format!("data: {{\"result\":{{\"content\":\"{large}\",\n");
    let mut events = events();
    let mut out = events.push(result.as_bytes()).unwrap().to_vec();
    let rest = format!("data: \"more\":\"{large}\"}}}}\n\n{list}\n\n");
    out.extend(events.push(rest.as_bytes()).unwrap());
    let wanted =
        format!("{result}data: \"more\":\"{large}\"}}}}\n\ndata: {{\"result\":{{\"tools\":[]}}}}\n\n");
    assert!(out == wanted.as_bytes());

    for too_long in [format!("data: {{\"result\":{{\"tools\":[\ndata: \"{large}"), format!(": {large}")] {
        assert_eq!(
            crate::mcp::sse::tool_filter::tests::events().push(too_long.as_bytes()),
            Err(ListError::TooLong)
        );
    }
    // What it turns out to be behind what was let go ends the stream before the event ends.
    for (rest, error) in [
        ("\"},\ndata:\"tools\":[{\"name\":\"drop\"}]}}\n\n", ListError::TooLong),
        ("\"},\ndata:\"Tools\":[{\"name\":\"drop\"}]}}\n\n", ListError::Unreadable),
        ("\"},\"Tools\":[]}}\n\n", ListError::Unreadable),
        ("\u{1}\"}}}\n\n", ListError::Unreadable),
        ("\"}}\n\n", ListError::Unreadable),
        ("\"}}}}\n\n", ListError::Unreadable),
    ] {
        for size in [1, 7, 4096] {
            let mut events = crate::mcp::sse::tool_filter::tests::events();
            let start = format!("data: {{\"result\":{{\"_meta\":{{\"x\":\"{large}");
            assert!(events.push(start.as_bytes()).unwrap().starts_with(b"data: {\"result"));
            let outcomes: Vec<_> = rest.as_bytes().chunks(size).map(|piece| events.push(piece)).collect();
            let at = outcomes.iter().position(Result::is_err).unwrap();
            assert_eq!(outcomes[at], Err(error), "{rest:?}");
            assert!(outcomes[..at].iter().flatten().all(|out| !out.ends_with(b"\n\n")), "{rest:?}");
        }
    }
}

#[test]
fn an_event_that_a_client_may_take_for_a_list_ends_the_stream() {
    for data in [
        "data: {\"result\":{\"Tools\":[]}}",
        "data: \u{feff}{\"result\":{\"tools\":[]}}",
        "data: {\"result\":{\"tools\":[],}}",
        "event: other\ndata:{\"result\":\ndata:NaN}",
        "data: {\ndata: \"re\ndata: sult\":{}}",
    ] {
        for size in [1, 3, 4096] {
            let mut events = events();
            let stream = format!("data: ok\n\n{data}\n\ndata: after\n\n");
            let mut out = Vec::new();
            let failed = stream.as_bytes().chunks(size).find_map(|piece| match events.push(piece) {
                Ok(passed) => {
                    out.extend(passed);
                    None
                }
                Err(e) => Some(e),
            });
            // A key cut by a line break is none, for whoever joins the lines.
            if data.contains("re\n") {
                assert_eq!((failed, out), (None, stream.clone().into_bytes()));
            } else {
                assert_eq!(failed, Some(ListError::Unreadable), "{data}");
                assert!(!out.windows(6).any(|window| window == b"result" || window == b"\"resul"), "{data}");
            }
        }
    }
}

#[test]
fn a_line_that_is_no_field_ends_the_stream() {
    for line in [
        "x",
        "datum: 1",
        "dat: 1",
        "Data: 1",
        "data : 1",
        " data: 1",
        "events: 1",
        "\u{feff}\u{feff}data: 1",
        "{\"result\":{}}",
        ": a\u{2028}b",
        "id: \u{2029}",
        "event: \u{85}",
        "retry: 1\u{b}",
        "id\u{c}: 1",
        ": \0",
    ] {
        for before in ["", ": ok\n", "data: {}\n"] {
            let stream = format!("{before}{line}\n\n");
            for size in [1, 2, 3, 4096] {
                let mut events = events();
                let outcomes: Vec<_> =
                    stream.as_bytes().chunks(size).map(|piece| events.push(piece)).collect();
                assert!(outcomes.contains(&Err(ListError::Unreadable)), "{stream:?} in pieces of {size}");
            }
        }
    }
}

#[test]
fn where_a_stream_is_cut_does_not_decide_whether_an_event_passes_that_is_no_text() {
    for key in ["R[esult", "result"] {
        let stream = [format!("data: {{\"{key}\":{{\"x\":\"").as_bytes(), b"\xff\"}}\n\n"].concat();
        for size in 1..=stream.len() {
            let mut events = events();
            let failed = stream.chunks(size).find_map(|piece| events.push(piece).err());
            assert_eq!(failed, Some(ListError::Unreadable), "{key} in pieces of {size}");
        }
    }
}

proptest! {
    #[test]
    fn pieces_change_nothing_and_neither_does_a_filter_that_has_nothing_to_hide(
        lines in prop::collection::vec(("((data:|event:|id:|retry:|:)[ -z|}~]{0,9}|data|event|id|)", "\r\n|\n|\r"), 0..20),
        size in 1..20usize,
    ) {
        let stream: String = lines.iter().flat_map(|(line, end)| [line.as_str(), end]).chain(["\n\n"]).collect();
        prop_assert_eq!(filtered(&stream, size), filtered(&stream, stream.len()));
        prop_assert_eq!(filtered(&stream, size), stream);
    }
}
