//! Challenges of servers: what was read of one is what it says, however it is written.

use http::{HeaderMap, HeaderValue, header};
use sluicegate::credentials::oauth::Challenge;

/// Each line of the input is one field.
pub fn run(input: &[u8]) {
    let fields = input.split(|byte| *byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok());
    let headers: HeaderMap = fields.map(|value| (header::WWW_AUTHENTICATE, value)).collect();
    let Some(found) = Challenge::of(&headers) else { return };
    let text: Vec<u8> = headers.values().flat_map(|value| value.as_bytes().to_ascii_lowercase()).collect();
    assert!(text.windows(6).any(|window| window == b"bearer"));
    for scope in found.scopes() {
        let listed = found.scope.as_deref().unwrap_or_default();
        assert!(listed.split(' ').any(|other| other == scope) && !scope.contains(['"', '\\']));
    }
    // By the standard: each parameter once, all quoted (RFC 9110 §11.2).
    let mut written = String::from("Bearer");
    let url = found.resource_metadata.as_ref().map(|url| url.to_string());
    let mut joint = " ";
    for (name, value) in [("resource_metadata", &url), ("scope", &found.scope), ("error", &found.error)] {
        if let Some(value) = value {
            written += &format!("{joint}{name}=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""));
            joint = ", ";
        }
    }
    let of = |fields: &[&str]| {
        let values = fields.iter().filter_map(|field| HeaderValue::try_from(*field).ok());
        Challenge::of(&values.map(|value| (header::WWW_AUTHENTICATE, value)).collect())
    };
    // Quoting makes it longer, perhaps too long.
    if written.len() < 4096 {
        let found = Some(found);
        assert_eq!(of(&[&written]), found);
        assert_eq!(of(&[&format!("Basic realm=\"Bearer scope=x, \\\"\", {written}")]), found);
        assert_eq!(of(&["DPoP algs=\"ES256\"", &written, "Bearer scope=other"]), found);
    }
}
