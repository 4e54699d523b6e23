//! `Accept`: neither the number of fields nor letter case, blanks and parameters change what a client takes.

use http::{HeaderMap, HeaderValue, header};
use sluicegate::mcp::accept::{is_both, names_events, prefers_events, takes_events, takes_only_json};

/// What is known of a client.
#[derive(Debug, PartialEq)]
struct Takes {
    events: bool,
    only_json: bool,
    names: bool,
    prefers: bool,
}

/// Each line of the input is one field.
pub fn run(input: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in input.split(|byte| *byte == b'\n') {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(header::ACCEPT, value);
        }
    }
    let takes = takes(&headers);
    assert_eq!(takes, reference(&headers));
    for value in headers.values().filter(|value| is_both(value)) {
        let alone = HeaderMap::from_iter([(header::ACCEPT, value.clone())]);
        assert!(takes_events(&alone) && !takes_only_json(&alone) && !prefers_events(&alone));
    }
    // What has bytes beyond ASCII is passed over as a whole, so it is left out here.
    let texts: Vec<&str> = headers.values().filter_map(|value| value.to_str().ok()).collect();
    let one = texts.join(",");
    let many = one.split(',').map(|range| format!(" {}\t;q=0.9;x=\"y\"", range.to_uppercase()));
    for (values, is_whole) in [(vec![one.clone()], true), (many.collect(), false)] {
        let mut other = HeaderMap::new();
        for value in values.into_iter().filter_map(|value| HeaderValue::try_from(value).ok()) {
            other.append(header::ACCEPT, value);
        }
        // A parameter ends at a comma, so one more field may be a range that was none.
        if is_whole || !one.contains(';') {
            assert_eq!(self::takes(&other), takes, "{texts:?}");
        }
    }
}

fn takes(headers: &HeaderMap) -> Takes {
    Takes {
        events: takes_events(headers),
        only_json: takes_only_json(headers),
        names: names_events(headers),
        prefers: prefers_events(headers),
    }
}

/// The media ranges, letter by letter, and what they come to.
fn reference(headers: &HeaderMap) -> Takes {
    let mut ranges: Vec<String> = Vec::new();
    for value in headers.get_all(header::ACCEPT) {
        if value.as_bytes().iter().any(|byte| *byte != b'\t' && !(b' '..=b'~').contains(byte)) {
            continue;
        }
        let (mut range, mut in_parameters) = (String::new(), false);
        for byte in value.as_bytes().iter().chain(b",") {
            match byte {
                b',' => {
                    ranges.push(std::mem::take(&mut range).trim().to_owned());
                    in_parameters = false;
                }
                b';' => in_parameters = true,
                _ if !in_parameters => range.push(char::from(byte.to_ascii_lowercase())),
                _ => {}
            }
        }
    }
    let has = |wanted: &[&str]| ranges.iter().any(|range| wanted.contains(&range.as_str()));
    let events = has(&["text/event-stream", "text/*", "*/*"]);
    let place = |wanted: &str| ranges.iter().position(|range| range == wanted);
    Takes {
        events,
        only_json: !events && has(&["application/json", "application/*"]),
        names: place("text/event-stream").is_some(),
        prefers: match (place("text/event-stream"), place("application/json")) {
            (Some(events), Some(json)) => events < json,
            (events, _) => events.is_some(),
        },
    }
}
