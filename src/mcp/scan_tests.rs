use proptest::prelude::*;
use serde_json::{Value as Json, value::RawValue};

use super::*;

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

fn found(text: &str) -> (Option<String>, Name, Option<String>) {
    let whole = scan(text.as_bytes(), &[]).unwrap_or_else(|e| panic!("{text}: {e}"));
    let bytes = crumbs(text.as_bytes()).unwrap();
    assert_eq!((whole.method(), whole.name(), whole.id()), (bytes.method(), bytes.name(), bytes.id()));
    (whole.method().map(str::to_owned), whole.name().clone(), whole.id().map(Id::to_string))
}

fn text(name: &str) -> Name {
    Name::Text(name.into())
}

#[test]
fn method_name_and_id_are_found_wherever_they_stand() {
    for (message, method, name, id) in [
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"}}"#,
            "tools/call",
            text("a"),
            "1",
        ),
        (
            r#"{"params":{"arguments":{"name":"x"},"name":"a"},"method":"m","id":"7"}"#,
            "m",
            text("a"),
            r#""7""#,
        ),
        (r#" { "method" : "tools\/call" , "id" : -1.5e+3 } "#, "tools/call", Name::Absent, "-1.5e+3"),
        (
            r#"{"m\u0065thod":"m","p\u0061rams":{"n\u0061me":"gr\u00fcn"},"\u0069d":1}"#,
            "m",
            text("grün"),
            "1",
        ),
        (r#"{"method":"m","params":{"name":"\ud83d\ude00 😀"},"id":1}"#, "m", text("😀 😀"), "1"),
        (r#"{"method":"m","params":{"name":5},"id":1}"#, "m", Name::Unreadable, "1"),
        (r#"{"method":"m","params":{"name":null},"id":1}"#, "m", Name::Unreadable, "1"),
        (r#"{"method":"m","params":{"name":{"name":"a"}},"id":1}"#, "m", Name::Unreadable, "1"),
        (r#"{"method":"m","params":{"name":["a"]},"id":1}"#, "m", Name::Unreadable, "1"),
        (r#"{"method":"m","params":{"name":"a\ud800"},"id":1}"#, "m", Name::Unreadable, "1"),
        (r#"{"method":"m","params":{"name":"\ud800a"},"id":1}"#, "m", Name::Unreadable, "1"),
        (r#"{"method":"m","params":{"name":"\udc00"},"id":1}"#, "m", Name::Unreadable, "1"),
        (r#"{"method":"m","params":{"name":"a\u0000b"},"id":1}"#, "m", Name::Unreadable, "1"),
        (r#"{"method":"m","params":[{"name":"a"}],"id":1}"#, "m", Name::Absent, "1"),
        (r#"{"method":"m","params":["name","a"],"id":1}"#, "m", Name::Absent, "1"),
        (r#"{"method":"m","other":{"name":"a"},"id":1}"#, "m", Name::Absent, "1"),
        (r#"{"method":"m","params":{"x":{"name":"a"},"y":[{"name":"b"}]},"id":1}"#, "m", Name::Absent, "1"),
        // A server that matches keys in any case reads these.
        (r#"{"METHOD":"m","Params":{"Name":"a"},"ID":1}"#, "m", text("a"), "1"),
        ("{\"method\":\"m\",\"param\u{17f}\":{\"name\":\"a\"},\"\u{131}d\":1}", "m", text("a"), "1"),
    ] {
        assert_eq!(found(message), (Some(method.into()), name, Some(id.into())), "{message}");
    }
    assert_eq!(found(r#"{"id":null,"result":{"method":"m"}}"#), (None, Name::Absent, None));
    assert_eq!(found(r#"{"id":{"method":"m"},"result":1}"#), (None, Name::Absent, None));
}

#[test]
fn what_two_servers_could_read_differently_is_refused() {
    let long = format!(r#"{{"method":"m","params":{{"{}":1}}}}"#, "x".repeat(crate::mcp::walk::MAX_TEXT + 1));
    for (message, why) in [
        (r#"{"method":"a","method":"b"}"#, Malformed::Json),
        (r#"{"method":"a","m\u0065thod":"b"}"#, Malformed::Json),
        (r#"{"method":"a","Method":"b"}"#, Malformed::Json),
        (r#"{"method":"a","params":{},"params":{}}"#, Malformed::Json),
        ("{\"method\":\"a\",\"params\":{},\"param\u{17f}\":{}}", Malformed::Json),
        (r#"{"method":"a","id":1,"\u0069d":2}"#, Malformed::Json),
        (r#"{"method":"a","jsonrpc":"2.0","jsonrpc":"2.0"}"#, Malformed::Json),
        (r#"{"method":"a","params":{"name":"a","name":"b"}}"#, Malformed::Json),
        (r#"{"method":"a","params":{"name":"a","n\u0061me":"b"}}"#, Malformed::Json),
        (r#"{"method":"a","params":{"name":"a","NAME":"b"}}"#, Malformed::Json),
        (r#"{"method":"a","params":{"name":"a","x":[{}],"name":null}}"#, Malformed::Json),
        (r#"{"method\ud800":"a"}"#, Malformed::Json),
        (r#"{"params":{"na\udc00me":"a"}}"#, Malformed::Json),
        (r#"{"params":{"name\u0000":"a"}}"#, Malformed::Json),
        (&long, Malformed::Json),
        (r#"{"method":5}"#, Malformed::NotJsonRpc),
        (r#"{"method":null}"#, Malformed::NotJsonRpc),
        (r#"{"method":["tools/call"]}"#, Malformed::NotJsonRpc),
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
    let deep = |depth: usize| format!(r#"{{"x":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    assert!(scan(deep(crate::mcp::walk::MAX_DEPTH - 1).as_bytes(), &[]).is_ok());
    assert!(scan(deep(crate::mcp::walk::MAX_DEPTH).as_bytes(), &[]).is_err());
    let long = format!(r#"{{"method":"m","params":{{"x":"{}","name":"a"}}}}"#, "é\\n".repeat(100_000));
    assert_eq!(found(&long), (Some("m".into()), text("a"), None));
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
        "n\\u0061me",
        "m\\u0065thod",
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

/// The verdict that a scan must come to, from serde's reading of the whole text.
fn expected(text: &str) -> Option<(Option<String>, Name)> {
    let Members(top) = serde_json::from_str(text).ok()?;
    let spelt = |key: &str, name: &str| key.to_lowercase() == name;
    let readable = |key: &str| !key.contains('\0');
    let once = |name: &str, members: &[(String, &RawValue)]| {
        members.iter().filter(|(key, _)| spelt(key, name)).count() <= 1
    };
    if !["method", "params", "id", "jsonrpc"].iter().all(|name| once(name, &top)) {
        return None;
    }
    let (mut method, mut name) = (None, Name::Absent);
    for (key, value) in &top {
        if !readable(key) {
            return None;
        }
        if spelt(key, "method") {
            let text: String =
                serde_json::from_str(value.get()).ok().filter(|text: &String| readable(text))?;
            method = Some(text);
        }
        if spelt(key, "params") && value.get().starts_with('{') {
            let Members(params) = serde_json::from_str(value.get()).ok()?;
            if !once("name", &params) || !params.iter().all(|(key, _)| readable(key)) {
                return None;
            }
            if let Some((_, value)) = params.iter().find(|(key, _)| spelt(key, "name")) {
                name = match serde_json::from_str::<String>(value.get()) {
                    Ok(text) if readable(&text) => Name::Text(text.into()),
                    _ => Name::Unreadable,
                };
            }
        }
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
        let scanned = scanned.map(|scan| (scan.method().map(str::to_owned), scan.name().clone()));
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
