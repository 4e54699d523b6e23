//! JSON texts made of other JSON texts, whose bytes stay as they are.

/// `text` as a JSON string.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
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
    fn what_is_not_there_is_left_out() {
        assert_eq!(object(&[("a", None), ("b", Some("1")), ("c", Some("[]"))]), r#"{"b":1,"c":[]}"#);
    }
}
