//! JSON texts made of other JSON texts, whose bytes stay as they are.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

/// `text` as a JSON string.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
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
    fn requests_on_behalf_of_a_client_carry_its_meta_without_its_token() {
        let params = r#"{"cursor":"c","_meta":{"progressToken":1,"v":1.0e2}}"#;
        assert_eq!(meta(Some(params)).as_deref(), Some(r#"{"v":1.0e2}"#));
        assert_eq!(meta(Some("{}")), None);
        assert_eq!(object(&[("a", None), ("b", Some("1")), ("c", Some("[]"))]), r#"{"b":1,"c":[]}"#);
    }
}
