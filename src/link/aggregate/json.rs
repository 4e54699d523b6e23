//! Texts put together from other texts, whose bytes stay as they are.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

/// `text` as a JSON string.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// `whole` with other text for some of its parts, which must be slices of it; `None` if one is not, or two overlap.
pub(super) fn splice(whole: &str, parts: &[(&str, &str)]) -> Option<String> {
    let mut found = Vec::with_capacity(parts.len());
    for (part, new) in parts {
        found.push((part.as_ptr().addr().checked_sub(whole.as_ptr().addr())?, part.len(), *new));
    }
    found.sort_unstable();
    let mut text = String::with_capacity(whole.len() + 64);
    let mut at = 0;
    for (start, length, new) in found {
        text.push_str(whole.get(at..start)?);
        text.push_str(new);
        at = start + length;
    }
    text.push_str(whole.get(at..)?);
    Some(text)
}

/// The `_meta` of a client's request, for requests that are made on its behalf. Its progress token stays behind: it
/// stands for one request, and these are many.
pub(super) fn meta(params: Option<&str>) -> Option<String> {
    #[derive(Deserialize)]
    struct Params<'a> {
        #[serde(borrow, default, rename = "_meta")]
        meta: Option<BTreeMap<String, &'a RawValue>>,
    }
    let mut meta = serde_json::from_str::<Params<'_>>(params?).ok()?.meta?;
    meta.remove("progressToken");
    serde_json::to_string(&meta).ok()
}

/// A JSON object of those members that are there. Values are JSON.
pub(super) fn object(members: &[(&str, Option<&str>)]) -> String {
    let mut text = String::from("{");
    for (key, value) in members.iter().filter_map(|(key, value)| Some((key, (*value)?))) {
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(&quoted(key));
        text.push(':');
        text.push_str(value);
    }
    text.push('}');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_replaced_and_the_rest_keeps_its_bytes() {
        let whole = String::from(r#"{ "a":1.0e2, "b":2 }"#);
        let parts = [(&whole[17..18], "\"x\""), (&whole[6..11], "0")];
        assert_eq!(splice(&whole, &parts).unwrap(), r#"{ "a":0, "b":"x" }"#);
        assert_eq!(splice(&whole, &[(&whole[1..5], ""), (&whole[4..8], "")]), None);
    }

    #[test]
    fn requests_on_behalf_of_a_client_carry_its_meta_without_its_token() {
        let params = r#"{"cursor":"c","_meta":{"progressToken":1,"v":1.0e2}}"#;
        assert_eq!(meta(Some(params)).as_deref(), Some(r#"{"v":1.0e2}"#));
        assert_eq!(meta(Some("{}")), None);
        assert_eq!(object(&[("a", None), ("b", Some("1")), ("c", Some("[]"))]), r#"{"b":1,"c":[]}"#);
    }
}
