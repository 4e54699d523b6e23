//! What a request of MCP 2026-07-28 repeats of its body in header fields.

use http::HeaderValue;

use crate::link::remote::server::HeaderFields;
use crate::{
    error::{Error, ErrorKind},
    mcp::{
        header::{self, METHOD, NAME, PROTOCOL_VERSION},
        message::Message,
        method::Method,
    },
};

/// The fields for a message of this version, without `Mcp-Param-*`.
pub(super) fn fields(message: &Message, version: &str) -> Result<HeaderFields, Error> {
    let mut fields = vec![(PROTOCOL_VERSION, plain(version)?), (METHOD, plain(message.method())?)];
    if let Some(name) = message.name().filter(|_| Method::of(message.method()).repeats_name()) {
        fields.push((NAME, header::encode(name)));
    }
    Ok(fields)
}

/// A value that must be what the body says and so cannot be mended.
fn plain(value: &str) -> Result<HeaderValue, Error> {
    HeaderValue::from_str(value).map_err(|_| {
        ErrorKind::Malformed.with_cause("the version or the method cannot be the value of a header field")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<(String, String)> {
        let message = Message::parse(text.to_owned().into()).unwrap();
        let fields = fields(&message, "2026-07-28").unwrap();
        fields.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect()
    }

    fn name(name: &str) -> Option<String> {
        let name = serde_json::Value::from(name);
        let fields = of(&format!(r#"{{"id":1,"method":"tools/call","params":{{"name":{name}}}}}"#));
        assert_eq!(
            fields[..2],
            [
                ("mcp-protocol-version".into(), "2026-07-28".into()),
                ("mcp-method".into(), "tools/call".into()),
            ]
        );
        fields.get(2).map(|(_, value)| value.clone())
    }

    #[test]
    fn a_name_goes_as_it_is_or_in_base64() {
        assert_eq!(name("get weather").as_deref(), Some("get weather"));
        assert_eq!(name("").as_deref(), Some(""));
        assert_eq!(name("wetter/köln").as_deref(), Some("=?base64?d2V0dGVyL2vDtmxu?="));
        assert_eq!(name(" x").as_deref(), Some("=?base64?IHg=?="));
        assert_eq!(name("a\r\nevil: 1").as_deref(), Some("=?base64?YQ0KZXZpbDogMQ==?="));
        assert_eq!(name("=?base64?eA==?=").as_deref(), Some("=?base64?PT9iYXNlNjQ/ZUE9PT89?="));
    }

    #[test]
    fn only_methods_that_name_something_have_a_name() {
        assert_eq!(of(r#"{"id":1,"method":"tools/list","params":{"name":"x"}}"#).len(), 2);
        let read = of(r#"{"id":1,"method":"resources/read","params":{"name":"no","uri":"file:///a"}}"#);
        assert_eq!(read[2], ("mcp-name".into(), "file:///a".into()));
    }

    #[test]
    fn a_method_cannot_bring_in_a_field_of_its_own() {
        let injected = r#"{"id":1,"method":"a\r\nhost: b"}"#;
        assert!(Message::parse(injected.into()).is_err(), "not even so far");
        let message = Message::from_server(injected.into()).unwrap();
        assert_eq!(fields(&message, "2026-07-28").unwrap_err().kind, ErrorKind::Malformed);
        let message = Message::parse(r#"{"id":1,"method":"a"}"#.into()).unwrap();
        assert_eq!(fields(&message, "2026\r\n").unwrap_err().kind, ErrorKind::Malformed);
    }
}
