//! JSON texts made of other JSON texts, whose bytes stay as they are, and of which no more is read than is asked for.

use std::{borrow::Cow, fmt};

use serde::{
    Deserializer,
    de::{Error, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

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

/// The values of these keys of a JSON object. The others may be anything. `None` if it is no object, or has one of the keys
/// twice.
pub(super) fn fields<'a, const N: usize>(
    object: &'a str,
    keys: [&str; N],
) -> Option<[Option<&'a RawValue>; N]> {
    serde_json::Deserializer::from_str(object).deserialize_map(Fields(keys)).ok()
}

struct Fields<'k, const N: usize>([&'k str; N]);

impl<'de, const N: usize> Visitor<'de> for Fields<'_, N> {
    type Value = [Option<&'de RawValue>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [None; N];
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match self.0.iter().position(|wanted| *wanted == key) {
                Some(at) if found[at].is_some() => return Err(A::Error::custom("a key stands there twice")),
                Some(at) => found[at] = Some(map.next_value()?),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_left_out() {
        assert_eq!(object(&[("a", None), ("b", Some("1")), ("c", Some("[]"))]), r#"{"b":1,"c":[]}"#);
    }

    #[test]
    fn only_what_is_asked_for_is_read_of_an_object() {
        let read = |text| fields(text, ["a", "b"]).map(|found| found.map(|raw| raw.map(RawValue::get)));
        assert_eq!(read(r#"{"b": [1 ],"c":null,"c":7}"#), Some([None, Some("[1 ]")]));
        assert_eq!(read(r#"{"\u0061":{"a":1}}"#), Some([Some(r#"{"a":1}"#), None]));
        for text in ["[]", "7", r#"{"a":1,"a":1}"#, r#"{"a":1"#] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
