//! A config as it may be shown to whoever runs the gateway: what the user chose from what there is, and none of the texts that the
//! user made up, since any of them may be a secret, or a reference to one.

use serde_json::{Map, Value, json};

use crate::config::{
    read::reader::Node,
    table::{
        ROOT,
        key::{Object, ValueKind},
    },
};

/// In place of what is not shown.
const HIDDEN: &str = "…";
/// Keys whose texts are names, labels or addresses, which logs and metrics show, too.
const SHOWN: [&str; 12] = [
    "addr",
    "allowedHosts",
    "allowedOrigins",
    "authTokens",
    "expires",
    "id",
    "name",
    "roles",
    "tags",
    "trustedProxies",
    "users",
    "version",
];
/// A longer text is no name.
const LONGEST: usize = 64;

/// The document, as the table of keys says what is in it. Keys that are not in the table mean nothing, and are left out.
pub(crate) fn redacted(root: &Node<'_>) -> Value {
    object(root, &ROOT)
}

fn object(node: &Node<'_>, kind: &'static Object) -> Value {
    let fields = node.fields().into_iter().flat_map(|fields| fields.entries());
    let known = fields.filter_map(|(name, _, node)| {
        let key = kind.key(name)?;
        Some((key.name.to_owned(), value(&node, key.name, &key.kind)))
    });
    known.collect::<Map<_, _>>().into()
}

/// What is shown of the value of `key`. What the table may get besides is hidden.
fn value(node: &Node<'_>, key: &str, kind: &ValueKind) -> Value {
    let hidden = || json!(HIDDEN);
    match kind {
        ValueKind::Bool => node.value.as_boolean_lit().map_or_else(hidden, |it| json!(it.value)),
        ValueKind::Number { .. } | ValueKind::Duration(_) => closed(node).unwrap_or_else(hidden),
        ValueKind::Word(words) => {
            node.literal().and_then(|text| words.find(text)).map_or_else(hidden, Value::from)
        }
        ValueKind::Text(_) if SHOWN.contains(&key) => {
            node.literal().filter(|text| is_name(text)).map_or_else(hidden, Value::from)
        }
        ValueKind::List(of) => match node.elements() {
            Some(elements) => elements.iter().map(|node| value(node, key, of)).collect(),
            None => hidden(),
        },
        ValueKind::OrNull(_) if node.is_null() => Value::Null,
        ValueKind::OrFalse(_) if node.value.as_boolean_lit().is_some_and(|it| !it.value) => false.into(),
        ValueKind::OrNull(of) | ValueKind::OrFalse(of) => value(node, key, of),
        ValueKind::OneOrMany(of) => match node.elements() {
            Some(elements) => elements.iter().map(|node| value(node, key, of)).collect(),
            None => value(node, key, of),
        },
        ValueKind::Map { of, .. } if node.is_plain_object() => {
            let entries = node.fields().into_iter().flat_map(|fields| fields.entries());
            entries
                .map(|(name, _, node)| (name.to_owned(), value(&node, key, of)))
                .collect::<Map<_, _>>()
                .into()
        }
        ValueKind::Object(kind) | ValueKind::SecretOr(kind) if node.is_plain_object() => object(node, kind),
        _ => hidden(),
    }
}

/// A number, or a time span with its unit.
fn closed(node: &Node<'_>) -> Option<Value> {
    match (node.value.as_number_lit(), node.literal()) {
        (Some(number), _) => serde_json::from_str(number.value).ok(),
        (None, Some(text)) => humantime::parse_duration(text).is_ok().then(|| text.into()),
        (None, None) => None,
    }
}

/// Whether a text is what it looks like: no reference, and nothing that looks like a token.
fn is_name(text: &str) -> bool {
    let is_reference = text.contains('$') || text.starts_with("env:");
    text.len() <= LONGEST && !is_reference && !text.starts_with("sg_")
}

#[cfg(test)]
#[allow(clippy::expect_used, reason = "helpers of tests fail as tests do")]
mod tests {
    use super::*;
    use crate::config::{
        read::{lines::LineIndex, parse},
        table::key::objects,
    };

    fn shown(text: &str) -> Value {
        let (document, _) = parse::parse_lines(text, &LineIndex::new(text)).expect("JSON");
        redacted(&Node::root(&document))
    }

    /// A value of this kind in which every text is the canary, with every key of every object.
    fn baited(kind: &ValueKind, key: &str, depth: usize) -> Value {
        let canary = || if SHOWN.contains(&key) { json!("$env:X|CANARY") } else { json!("CANARY") };
        match *kind {
            _ if depth > 12 => canary(),
            ValueKind::List(of) | ValueKind::OneOrMany(of) => json!([baited(of, key, depth + 1)]),
            ValueKind::Map { of, .. } => json!({ "n": baited(of, key, depth + 1) }),
            ValueKind::Object(object) | ValueKind::SecretOr(object) => {
                let entry = |key: &crate::config::table::key::Key| {
                    (key.name.to_owned(), baited(&key.kind, key.name, depth + 1))
                };
                object.keys.iter().map(entry).collect::<Map<_, _>>().into()
            }
            _ => canary(),
        }
    }

    #[test]
    fn no_text_of_any_key_is_shown_that_may_be_a_secret() {
        let all = baited(&ValueKind::Object(&ROOT), "", 0);
        let text = all.to_string();
        assert!(text.matches("CANARY").count() > objects(&ROOT).len());
        let shown = shown(&text);
        assert!(!shown.to_string().contains("CANARY"), "{shown:#}");
        assert_eq!(shown["proxy"]["auth"]["tokens"]["n"][0]["sha256"], HIDDEN);
        // References in place of what they stand for.
        for reference in
            [json!({ "$env": "CANARY" }), json!({ "$file": "CANARY" }), json!({ "$text": "CANARY" })]
        {
            let bait = json!({ "proxy": { "name": reference, "sessionKey": reference,
                "auth": { "tokens": { "n": reference, "m": [reference] } } } });
            assert!(!self::shown(&bait.to_string()).to_string().contains("CANARY"));
        }
    }

    #[test]
    fn what_was_chosen_is_shown() {
        let config = r#"{
            // A comment.
            "_note": "CANARY", "description": "CANARY",
            "proxy": {
                "name": "Gate", "baseURL": "https://CANARY", "addr": "127.0.0.1:8080", "keepAlive": "15s",
                "limits": { "maxBodyBytes": 4096, "perCaller": { "sessions": 3 } }, "log": { "level": "WARN" },
                "auth": { "tokens": {
                    "ci": [{ "sha256": "CANARY", "roles": ["deploy", "sg_CANARY"], "expires": "2027-01-31T00:00:00Z" }],
                    "dev": "CANARY"
                } }
            },
            "mcpServers": {
                "db": { "url": "https://h/CANARY", "authTokens": ["ci"], "headers": { "X-Key": "CANARY" }, "public": false },
                "files": { "command": "CANARY", "args": ["CANARY"], "env": { "KEY": "CANARY" }, "cwd": "CANARY" }
            }
        }"#;
        assert_eq!(
            shown(config),
            json!({
                "proxy": {
                    "name": "Gate", "baseUrl": "…", "addr": "127.0.0.1:8080", "keepAlive": "15s",
                    "limits": { "maxBodyBytes": 4096, "perCaller": { "sessions": 3 } }, "log": { "level": "warn" },
                    "auth": { "tokens": {
                        "ci": [{ "sha256": "…", "roles": ["deploy", "…"], "expires": "2027-01-31T00:00:00Z" }],
                        "dev": "…",
                    } },
                },
                "mcpServers": {
                    "db": { "url": "…", "authTokens": ["ci"], "headers": { "X-Key": "…" }, "public": false },
                    "files": { "command": "…", "args": ["…"], "env": { "KEY": "…" }, "cwd": "…" },
                },
            })
        );
    }
}
