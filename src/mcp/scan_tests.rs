use proptest::prelude::*;
use serde_json::{Value as Json, value::RawValue};

use super::*;
use crate::mcp::{message::Message, reading::keys::is_ambiguous_method};

/// Scans `text` cut at `cuts`.
fn scan(text: &[u8], cuts: &[usize]) -> Result<Scan, Malformed> {
    let mut scan = Scan::default();
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
    cuts.extend([0, text.len()]);
    cuts.sort_unstable();
    for pair in cuts.windows(2) {
        scan.push(&text[pair[0]..pair[1]])?;
    }
    scan.finish()?;
    Ok(scan)
}

/// The same found byte by byte.
fn crumbs(text: &[u8]) -> Result<Scan, Malformed> {
    scan(text, &(0..text.len()).collect::<Vec<_>>())
}

type Found = (Option<String>, Option<String>, Option<String>);

/// Method, name and id: `None` for a name that is not there, and one that cannot be read is `Some("?")`.
fn said(scan: &Scan) -> Found {
    let name = match scan.name() {
        ScannedName::Absent => None,
        ScannedName::Text(name) => Some(name.to_owned()),
        ScannedName::Unreadable => Some("?".to_owned()),
    };
    (scan.method().map(str::to_owned), name, scan.id().map(|id| id.to_string()))
}

fn found(text: &str) -> Found {
    let whole = said(&scan(text.as_bytes(), &[]).unwrap_or_else(|e| panic!("{text}: {e}")));
    assert_eq!(whole, said(&crumbs(text.as_bytes()).unwrap()), "{text}");
    let message = Message::parse(text.to_owned().into()).unwrap();
    assert_eq!(message.method(), whole.0.as_deref().unwrap_or_default(), "{text}");
    assert_eq!(message.id().map(Id::to_string), whole.2, "{text}");
    whole
}

#[test]
fn method_name_and_id_are_found_wherever_they_stand() {
    for (message, method, name, id) in [
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"}}"#,
            "tools/call",
            Some("a"),
            "1",
        ),
        (
            r#"{"params":{"arguments":{"name":"x"},"name":"a"},"method":"m","id":"7"}"#,
            "m",
            Some("a"),
            r#""7""#,
        ),
        (r#" { "method" : "tools\/call" , "id" : -15 } "#, "tools/call", None, "-15"),
        (r#"{"method":"m","params":{"name":"gr\u00fcn"},"id":1}"#, "m", Some("grün"), "1"),
        (r#"{"method":"m","params":{"name":"\ud83d\ude00 😀"},"id":1}"#, "m", Some("😀 😀"), "1"),
        (r#"{"method":"m","params":{"name":5},"id":1}"#, "m", Some("?"), "1"),
        (r#"{"method":"m","params":{"name":null},"id":1}"#, "m", Some("?"), "1"),
        (r#"{"method":"m","params":{"name":{"name":"a"}},"id":1}"#, "m", Some("?"), "1"),
        (r#"{"method":"m","params":{"name":["a"]},"id":1}"#, "m", Some("?"), "1"),
        (r#"{"method":"m","params":null,"id":1}"#, "m", None, "1"),
        (r#"{"method":"m","other":{"name":"a"},"id":1}"#, "m", None, "1"),
        (r#"{"method":"m","params":{"x":{"name":"a"},"y":[{"name":"b"}]},"id":1}"#, "m", None, "1"),
    ] {
        let wanted = (Some(method.into()), name.map(str::to_owned), Some(id.into()));
        assert_eq!(found(message), wanted, "{message}");
    }
    assert_eq!(found(r#"{"id":null,"result":{"method":"m"}}"#), (None, None, None));
    assert_eq!(found(r#"{"id":"x","error":{"method":"m"}}"#), (None, None, Some(r#""x""#.into())));
}

#[test]
fn what_two_servers_could_read_differently_is_refused() {
    let long = format!(r#"{{"method":"m","params":{{"{}":1}}}}"#, "x".repeat(crate::mcp::walk::MAX_TEXT + 1));
    let digits = format!(r#"{{"method":"m","params":{{"x":{{"y":[{}]}}}}}}"#, "1".repeat(1025));
    for (message, why) in [
        (r#"{"method":"a","method":"b"}"#, Malformed::Ambiguous),
        (r#"{"method":"a","m\u0065thod":"b"}"#, Malformed::Ambiguous),
        (r#"{"m\u0065thod":"a"}"#, Malformed::Ambiguous),
        (r#"{"method":"a","Method":"b"}"#, Malformed::Ambiguous),
        (r#"{"METHOD":"a"}"#, Malformed::Ambiguous),
        (r#"{"method":"a","params":{},"params":{}}"#, Malformed::Ambiguous),
        ("{\"method\":\"a\",\"params\":{},\"param\u{17f}\":{}}", Malformed::Ambiguous),
        ("{\"method\":\"a\",\"\u{131}d\":1}", Malformed::Ambiguous),
        (r#"{"method":"a","id":1,"\u0069d":2}"#, Malformed::Ambiguous),
        (r#"{"method":"a","jsonrpc":"2.0","jsonrpc":"2.0"}"#, Malformed::Ambiguous),
        (r#"{"method":"a","params":{"name":"a","name":"b"}}"#, Malformed::Ambiguous),
        (r#"{"method":"a","params":{"name":"a","n\u0061me":"b"}}"#, Malformed::Ambiguous),
        (r#"{"method":"a","params":{"name":"a","NAME":"b"}}"#, Malformed::Ambiguous),
        (r#"{"method":"a","params":{"name":"a","x":[{}],"name":null}}"#, Malformed::Ambiguous),
        (r#"{"method\ud800":"a"}"#, Malformed::Ambiguous),
        (r#"{"params":{"na\udc00me":"a"}}"#, Malformed::Ambiguous),
        (r#"{"params":{"name\u0000":"a"}}"#, Malformed::Ambiguous),
        (&long, Malformed::Ambiguous),
        (&digits, Malformed::TooDeep),
        (r#"{"method":5}"#, Malformed::NotJsonRpc),
        (r#"{"method":null}"#, Malformed::NotJsonRpc),
        (r#"{"method":["tools/call"]}"#, Malformed::NotJsonRpc),
        (r#"{"method":"Tools/Call"}"#, Malformed::NotJsonRpc),
        (r#"{"method":"a\u0000"}"#, Malformed::NotJsonRpc),
        (r#"{"method":"m","params":[{"name":"a"}]}"#, Malformed::Unreadable),
        (r#"{"method":"m","params":{"name":"a\ud800"},"id":1}"#, Malformed::Unreadable),
        (r#"{"method":"m","params":{"name":"\ud800a"},"id":1}"#, Malformed::Unreadable),
        (r#"{"method":"m","params":{"name":"\udc00"},"id":1}"#, Malformed::Unreadable),
        (r#"{"method":"m","params":{"uri":"a\u0000b"},"id":1}"#, Malformed::Unreadable),
        (r#"{"method":"m","params":{"cursor":"\ud800"},"id":1}"#, Malformed::Unreadable),
        (r#"{"method":"m","jsonrpc":"2.0\u0000","id":1}"#, Malformed::Unreadable),
        (r#"{"method":"m","params":["name","a"],"id":1}"#, Malformed::Unreadable),
        (r#"{"method":"m","params":{"_meta":["a"]},"id":1}"#, Malformed::Unreadable),
        (r#"{"id":{"method":"m"},"result":1}"#, Malformed::Unreadable),
        (r#"{"id":1,"method":"tools/call","params":{"name":["a"]}}"#, Malformed::Unreadable),
        (r#"{"id":1,"method":"a","result":{}}"#, Malformed::NotJsonRpc),
        (r#"{"id":1,"method":"a","error":null}"#, Malformed::NotJsonRpc),
        (r#"{"id":1,"error":{},"result":{}}"#, Malformed::NotJsonRpc),
        (r#"{"id":null,"method":"a"}"#, Malformed::NotJsonRpc),
        (r#"{"id":1}"#, Malformed::NotJsonRpc),
        (r#"[{"method":"a"}]"#, Malformed::NotAnObject),
        ("5", Malformed::NotAnObject),
        ("\u{feff}{}", Malformed::NotAnObject),
        (r#"{"method":"a"}{"method":"b"}"#, Malformed::Json),
        (r#"{"method":"a"} x"#, Malformed::Json),
        (r#"{"method":"a"}]"#, Malformed::Json),
        (r#"{"method":"a",}"#, Malformed::Json),
        (r#"{"method":"a"/**/}"#, Malformed::Json),
        (r#"{'method':'a'}"#, Malformed::Json),
        (r#"{method:"a"}"#, Malformed::Json),
        (r#"{"x":[1}"#, Malformed::Json),
        (r#"{"x":01}"#, Malformed::Json),
        (r#"{"x":NaN}"#, Malformed::Json),
        (r#"{"x":"\x41"}"#, Malformed::Json),
        ("{\"x\":\"a\nb\"}", Malformed::Json),
        (r#"{"method":"a""#, Malformed::Json),
        ("", Malformed::Json),
    ] {
        assert_eq!(scan(message.as_bytes(), &[]).err(), Some(why), "{message}");
        assert_eq!(crumbs(message.as_bytes()).err(), Some(why), "{message}");
        assert_eq!(Message::parse(message.to_owned().into()).err(), Some(why), "{message}");
    }
    let utf16: Vec<u8> = r#"{"method":"a"}"#.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for bytes in [
        &b"{\"x\":\"\xff\"}"[..],
        b"{\"x\":\"\xc0\xa2\"}",
        b"{\"x\":\"\xed\xa0\x80\"}",
        b"{\"x\":\"\xe2\x82\"}",
        &utf16,
    ] {
        assert!(scan(bytes, &[]).is_err() && crumbs(bytes).is_err(), "{bytes:x?}");
    }
}

#[test]
fn nesting_has_a_bound_and_long_strings_have_none() {
    let deep = |depth: usize| format!(r#"{{"method":"m","x":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    assert!(scan(deep(crate::mcp::walk::MAX_DEPTH - 1).as_bytes(), &[]).is_ok());
    assert!(scan(deep(crate::mcp::walk::MAX_DEPTH).as_bytes(), &[]).is_err());
    let long = format!(r#"{{"method":"m","params":{{"x":"{}","name":"a"}}}}"#, "é\\n".repeat(100_000));
    assert_eq!(found(&long), (Some("m".into()), Some("a".into()), None));
}

/// JSON texts, nearly JSON texts, and messages whose keys are easily mistaken.
fn texts() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec![
        "method",
        "params",
        "id",
        "jsonrpc",
        "name",
        "Name",
        "x",
        "Id",
        "result",
        "arguments",
        "",
    ]);
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        any::<f64>().prop_filter("finite", |n| n.is_finite()).prop_map(|n| format!("{n:e}")),
        any::<i32>().prop_map(|n| n.to_string()),
        any::<String>().prop_map(|s| Json::from(s).to_string()),
        "\"([a-z/]|\\\\u[0-9a-fA-F]{4}|\\\\[\"\\\\/bfnrt]|[ -~]){0,12}\"",
        Just("\"tools/call\"".to_owned()),
        Just("\"m\"".to_owned()),
    ];
    let value = leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(" ,"))),
            prop::collection::vec((key.clone(), inner), 0..6).prop_map(|members| {
                let members: Vec<_> = members.iter().map(|(k, v)| format!("\"{k}\" :{v}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    });
    (
        value,
        any::<prop::sample::Index>(),
        prop::option::weighted(0.3, "[\\PC\"\\\\{}\\[\\],:0-9\u{0}-\u{1f}]"),
    )
        .prop_map(|(mut text, at, noise)| {
            if let Some(noise) = noise {
                let at = (0..=at.index(text.len() + 1)).rev().find(|at| text.is_char_boundary(*at));
                text.insert_str(at.unwrap_or(0), &noise);
            }
            text
        })
}

/// What serde reads, as a list of members, so that nothing is merged.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Members<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        from.deserialize_map(Visitor)
    }
}

/// A string that all readers take for the same.
fn readable(text: &str) -> Option<String> {
    serde_json::from_str(text).ok().filter(|text: &String| !text.contains('\0'))
}

/// The verdict that a scan must come to, from serde's reading of the whole text.
fn expected(text: &str) -> Option<(Option<String>, Option<String>)> {
    const TOP: [&str; 6] = ["method", "params", "id", "jsonrpc", "result", "error"];
    let Members(top) = serde_json::from_str(text).ok()?;
    let once = |names: &[&str], members: &[(String, &RawValue)]| {
        names.iter().all(|name| {
            let mut spelt = members.iter().filter(|(key, _)| {
                let letters = key.chars().filter(|c| c.is_alphanumeric());
                letters.collect::<String>().to_lowercase() == *name
            });
            spelt.next().is_none_or(|(key, _)| *key == **name && text.contains(&format!("\"{name}\"")))
                && spelt.next().is_none()
        })
    };
    let is_plain = |members: &[(String, &RawValue)]| {
        members.iter().all(|(key, _)| key.bytes().all(|byte| matches!(byte, b' '..=b'~')))
    };
    if !once(&TOP, &top) || !is_plain(&top) {
        return None;
    }
    let get = |name: &str| top.iter().find(|(key, _)| key == name).map(|(_, value)| value.get());
    let method = match get("method") {
        Some(method) => {
            Some(serde_json::from_str(method).ok().filter(|method: &String| !is_ambiguous_method(method))?)
        }
        None => None,
    };
    let is_id = |id: &str| match serde_json::from_str(id) {
        Ok(Json::String(id)) => !id.contains('\0') && id.len() <= 1024,
        Ok(Json::Number(_)) => id.parse::<i64>().is_ok_and(|n| n.unsigned_abs() < 1 << 53) && id != "-0",
        Ok(Json::Null) => method.is_none(),
        _ => false,
    };
    let has_error = get("error").is_some_and(|error| error != "null");
    match method {
        Some(_) if get("result").is_some() || get("error").is_some() => return None,
        None if get("result").is_some() == has_error => return None,
        _ if !get("id").is_none_or(is_id) => return None,
        _ => {}
    }
    let mut name = None;
    if let Some(params) = get("params").filter(|params| *params != "null") {
        let Members(params) = serde_json::from_str(params).ok()?;
        let names = ["name", "arguments"];
        if !once(&names, &params) || !is_plain(&params) {
            return None;
        }
        if let Some((_, value)) = params.iter().find(|(key, _)| key == "name") {
            let value = value.get();
            name = Some(if value.starts_with('"') { readable(value)? } else { "?".to_owned() });
        }
        if matches!(method.as_deref(), Some("tools/call" | "prompts/get")) && name.as_deref() == Some("?") {
            return None;
        }
    }
    if let Some(version) = get("jsonrpc").filter(|version| version.starts_with('"')) {
        readable(version)?;
    }
    Some((method, name))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_text_in_any_pieces_is_read_as_serde_reads_it_whole(
        text in texts(),
        cuts in prop::collection::vec(any::<usize>(), 0..8),
    ) {
        let scanned = scan(text.as_bytes(), &cuts).ok();
        let scanned = scanned.map(|scan| said(&scan)).map(|(method, name, _)| (method, name));
        prop_assert_eq!(scanned, expected(&text), "{}", text);
    }

    #[test]
    fn any_bytes_are_taken_without_harm(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        cuts in prop::collection::vec(any::<usize>(), 0..8),
    ) {
        let whole = scan(&bytes, &[]).is_ok();
        prop_assert_eq!(whole, scan(&bytes, &cuts).is_ok());
        prop_assert!(!whole || serde_json::from_slice::<Members<'_>>(&bytes).is_ok());
    }
}
