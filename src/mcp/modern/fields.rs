//! Fields of a head that repeat what a body says, each once.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::mcp::codes::HEADER_MISMATCH;

/// How the names of fields begin that repeat an argument.
pub(super) const PARAM_PREFIX: &str = "mcp-param-";

/// The code and the reason of a refusal.
pub(super) type RejectionReason = (i64, Cow<'static, str>);

pub(super) fn is_param(name: &HeaderName) -> bool {
    name.as_str().starts_with(PARAM_PREFIX)
}

/// Whether two fields are one to who makes variables of their names (CGI, WSGI, Rack, PHP), and are spelt differently.
pub(super) fn is_second_spelling(one: &HeaderName, other: &HeaderName) -> bool {
    one != other && one.as_str().len() == other.as_str().len() && folded(one) == folded(other)
}

/// A name with all punctuation alike.
pub(super) fn folded(name: &HeaderName) -> Vec<u8> {
    name.as_str().bytes().map(|byte| if byte.is_ascii_alphanumeric() { byte } else { b'-' }).collect()
}

/// The value of a field that may be there once: of two, one hop would take the first and another the last.
pub(super) fn only<'a>(
    headers: &'a HeaderMap,
    name: &str,
) -> Result<Option<&'a HeaderValue>, RejectionReason> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        _ => Err((HEADER_MISMATCH, format!("the header {name} is there more than once").into())),
    }
}

pub(super) fn missing(name: &str) -> RejectionReason {
    (HEADER_MISMATCH, format!("the header {name} is missing").into())
}

pub(super) fn differs(name: &str) -> RejectionReason {
    (HEADER_MISMATCH, format!("the header {name} differs from the body").into())
}
