//! Whatever a config looks like, a command changes what it is for and nothing else.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use jsonc_parser::common::Ranged;
use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::{Value, json};
use sluicegate::config::read::parse::parse;

use crate::{DAY, Files, OLD, done, rfc3339, run, sha256, text, tree};

// What a config may look like.

/// One credential of a token, without its secret.
fn any_credential() -> impl Strategy<Value = Value> {
    let roles = option::of(vec(select(vec!["admin", "deploy"]), 0..3));
    let expires = option::weighted(
        0.5,
        select(vec!["2020-01-01T00:00:00Z", "2026-11-28T00:00:00Z", "2100-01-01T00:00:00Z"]),
    );
    let form = prop_oneof![Just("sha256"), Just("value"), Just("plain"), Just("env"), Just("$env")];
    (form, roles, expires, option::of("[a-z]{3}")).prop_map(|(form, roles, expires, id)| {
        let mut credential = match form {
            "plain" => return json!("plain"),
            "env" => return json!("$env:CI_TOKEN"),
            "$env" => return json!({ "$env": "CI_TOKEN" }),
            form => json!({ form: "" }),
        };
        id.iter().for_each(|id| credential["id"] = json!(id));
        roles.iter().for_each(|roles| credential["roles"] = json!(roles));
        expires.iter().for_each(|end| credential["expires"] = json!(end));
        credential
    })
}

/// Tokens with a secret of its own for each credential.
fn any_tokens() -> impl Strategy<Value = Value> {
    let token = prop_oneof![any_credential(), vec(any_credential(), 0..4).prop_map(Value::from),];
    vec(token, 3).prop_map(|tokens| {
        let mut number = 0;
        let mut has_variable = false;
        let mut with_secret = |credential: &mut Value, place: usize| {
            number += 1;
            let secret = format!("a-literal-token-number-{number}");
            let is_variable = *credential == json!("$env:CI_TOKEN") || credential.get("$env").is_some();
            // One variable is one token.
            if is_variable && std::mem::replace(&mut has_variable, true) || *credential == json!("plain") {
                *credential = json!(secret);
            }
            if let Some(value) = credential.get_mut("sha256") {
                *value = json!(sha256(&secret));
            }
            if let Some(value) = credential.get_mut("value") {
                *value = json!(secret);
            }
            if let Some(id) = credential.get_mut("id") {
                *id = json!(format!("{}-{place}", id.as_str().unwrap()));
            }
        };
        let mut made = json!({});
        for (name, mut token) in ["ci", "dev", "ops"].into_iter().zip(tokens) {
            match &mut token {
                Value::Array(list) => {
                    list.iter_mut().enumerate().for_each(|(place, one)| with_secret(one, place))
                }
                one => with_secret(one, 0),
            }
            made[name] = token;
        }
        made
    })
}

/// How a config is written: line by line or in one, with comments and commas where they may be.
struct Style {
    line_break: &'static str,
    indent: &'static str,
    has_bom: bool,
    /// Decides what comes next, as long as it lasts.
    choices: std::cell::RefCell<std::vec::IntoIter<u8>>,
}

fn any_style() -> impl Strategy<Value = Style> {
    (select(vec!["\n", "\r\n"]), select(vec!["  ", "\t", "    "]), any::<bool>(), vec(any::<u8>(), 400))
        .prop_map(|(line_break, indent, has_bom, choices)| Style {
            line_break,
            indent,
            has_bom,
            choices: std::cell::RefCell::new(choices.into_iter()),
        })
}

impl std::fmt::Debug for Style {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {:?} {}", self.line_break, self.indent, self.has_bom)
    }
}

impl Style {
    fn choice(&self, of: u8) -> u8 {
        self.choices.borrow_mut().next().unwrap_or(0) % of
    }

    /// A comment, or a blank.
    fn gap(&self, may_end_line: bool, depth: usize) -> String {
        match self.choice(8) {
            0 => " /* a, [comment] */ ".to_owned(),
            1 if may_end_line => {
                format!(" // a {{comment}}, \"k\": 1{}{}", self.line_break, self.indent.repeat(depth))
            }
            _ => " ".to_owned(),
        }
    }

    fn write(&self, value: &Value, depth: usize) -> String {
        let entries: Vec<String> = match value {
            Value::Object(object) => {
                let entry = |(key, value): (&String, &Value)| {
                    format!("{key:?}:{}{}", self.gap(false, depth), self.write(value, depth + 1))
                };
                object.iter().map(entry).collect()
            }
            Value::Array(list) => list.iter().map(|value| self.write(value, depth + 1)).collect(),
            value => return value.to_string(),
        };
        let (open, close) = if value.is_object() { ('{', '}') } else { ('[', ']') };
        let is_long = self.choice(2) == 0;
        let line = |depth| match is_long {
            true => format!("{}{}", self.line_break, self.indent.repeat(depth)),
            false => String::new(),
        };
        let mut made = String::from(open);
        let count = entries.len();
        for (index, entry) in entries.into_iter().enumerate() {
            if is_long && self.choice(6) == 0 {
                made += &format!("{}// of the next", line(depth + 1));
            }
            made += &line(depth + 1);
            made += &self.gap(true, depth + 1);
            made += &entry;
            if self.choice(8) == 0 {
                made += " /* in front of a comma */";
            }
            if index + 1 < count || self.choice(2) == 0 {
                made.push(',');
            }
            made += &self.gap(true, depth + 1);
        }
        made + &line(depth) + &close.to_string()
    }
}

#[derive(Debug, Clone)]
enum Ask {
    Rotate(Duration),
    Revoke,
    Expire(Option<SystemTime>),
}

fn any_ask() -> impl Strategy<Value = Ask> {
    prop_oneof![
        Just(Ask::Rotate(Duration::ZERO)),
        Just(Ask::Rotate(7 * DAY)),
        Just(Ask::Revoke),
        Just(Ask::Expire(None)),
        Just(Ask::Expire(humantime::parse_rfc3339("2027-01-31T00:00:00Z").ok())),
    ]
}

fn end(credential: &Value) -> Option<SystemTime> {
    humantime::parse_rfc3339(credential.get("expires")?.as_str()?).ok()
}

fn with_end(credential: &Value, end: Option<String>) -> Value {
    let is_plain = credential.is_string() || credential.get("$env").is_some();
    let mut object = match (is_plain, &end) {
        (true, None) => return credential.clone(),
        (true, Some(_)) => json!({ "value": credential }),
        (false, _) => credential.clone(),
    };
    match end {
        Some(end) => object["expires"] = json!(end),
        None => drop(object.as_object_mut().unwrap().remove("expires")),
    }
    object
}

/// What has to become of a token; `None` if it has to be refused. `new` is the token that was printed, and `until` the end
/// that the old ones got.
fn expected(before: &Value, ask: &Ask, new: &str, until: &str, now: SystemTime) -> Option<Value> {
    let all: Vec<Value> = before.as_array().cloned().unwrap_or_else(|| vec![before.clone()]);
    let has_expired = |credential: &Value| end(credential).is_some_and(|end| end <= now);
    let live: Vec<&Value> = all.iter().filter(|credential| !has_expired(credential)).collect();
    match ask {
        Ask::Revoke => Some(json!([])),
        Ask::Expire(to) => {
            let of_several = live.len() > 1;
            let is_later = |credential: &Value| match (end(credential), to) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(before), Some(to)) => before > *to,
            };
            let chosen = |credential: &Value| match live.is_empty() {
                true => all.len() == 1,
                false => !has_expired(credential) && (!of_several || is_later(credential)),
            };
            all.iter().any(chosen).then(|| {
                let one = |credential: &Value| match chosen(credential) {
                    true => with_end(credential, to.map(rfc3339)),
                    false => credential.clone(),
                };
                match before {
                    Value::Array(list) => list.iter().map(one).collect(),
                    credential => one(credential),
                }
            })
        }
        Ask::Rotate(grace) => {
            let sources = if live.is_empty() { all.iter().collect() } else { live };
            let roles = |credential: &&Value| credential.get("roles").cloned();
            let first = sources.first()?;
            if sources.iter().any(|other| roles(other) != roles(first)) {
                return None;
            }
            let mut entry = json!({ "sha256": sha256(new) });
            let last = sources.iter().map(|credential| end(credential)).collect::<Option<Vec<_>>>();
            if let Some(last) = last.and_then(|ends| ends.into_iter().max()) {
                if last <= now {
                    return None;
                }
                entry["expires"] = json!(rfc3339(last));
            }
            if sources.iter().any(|credential| credential.get("id").is_some()) {
                entry["id"] = json!(&rfc3339(now)[..10]);
            }
            roles(first).into_iter().for_each(|roles| entry["roles"] = roles);
            if grace.is_zero() {
                return Some(if before.is_array() { json!([entry]) } else { entry });
            }
            let one = |credential: &Value| match end(credential) {
                Some(end) if end <= now + *grace => credential.clone(),
                _ => with_end(credential, Some(until.to_owned())),
            };
            Some(std::iter::once(entry).chain(all.iter().map(one)).collect())
        }
    }
}

/// The comments of a text.
fn comments(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for known in
        ["/* a, [comment] */", "// a {comment}, \"k\": 1", "// of the next", "/* in front of a comma */"]
    {
        found.extend(text.match_indices(known));
    }
    found.sort_unstable();
    found.into_iter().map(|(_, comment)| comment).collect()
}

fn value_of_token(text: &str, name: &str) -> std::ops::Range<usize> {
    let (document, _) = parse(text).unwrap();
    let mut value = &document;
    for key in ["proxy", "auth", "tokens", name] {
        let object = value.as_object().unwrap();
        value = &object.properties.iter().find(|property| property.name.as_str() == key).unwrap().value;
    }
    value.range().start..value.range().end
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// The tree is as it has to be, and whatever is not the token's value is as it was, byte for byte.
    #[test]
    fn a_command_changes_what_it_is_for_and_nothing_else(tokens in any_tokens(), style in any_style(), ask in any_ask()) {
        let config = json!({
            "proxy": { "name": "é", "auth": { "kind": "bearer_token", "tokens": tokens } },
            "mcpServers": {
                "db": { "url": "http://127.0.0.1:1/mcp", "authTokens": ["ci"] },
                "all": { "url": "http://127.0.0.1:1/mcp" },
            },
        });
        let body = style.write(&config, 0);
        let before = format!("{}{body}{}", if style.has_bom { "\u{feff}" } else { "" }, style.line_break);
        let files = Files::new();
        let path = files.path("gate.json");
        fs::write(&path, &before).unwrap();
        let arguments: Vec<String> = match &ask {
            Ask::Rotate(grace) => vec!["rotate".into(), "ci".into(), "--grace".into(), format!("{}s", grace.as_secs())],
            Ask::Revoke => vec!["revoke".into(), "ci".into()],
            Ask::Expire(None) => vec!["expire".into(), "ci".into(), "never".into()],
            Ask::Expire(Some(end)) => vec!["expire".into(), "ci".into(), rfc3339(*end)],
        };
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let dry: Vec<&str> = arguments.iter().copied().chain(["--dry-run"]).collect();
        let shown = text(&run(&path, &dry).stdout);
        prop_assert!(!shown.contains("a-literal-token") && !shown.contains("sg_"), "{shown}");
        prop_assert_eq!(fs::read_to_string(&path).unwrap(), &before[..]);

        let now = SystemTime::now();
        let output = run(&path, &arguments);
        let after = fs::read_to_string(&path).unwrap();
        let old = config["proxy"]["auth"]["tokens"]["ci"].clone();
        let new = text(&output.stdout);
        let said = text(&output.stderr);
        // The end is that of the moment at which the command ran.
        let until = said.split_once("open until ").map_or("", |(_, rest)| &rest[..20]);
        if let Ask::Rotate(grace) = ask && !until.is_empty() {
            let late = humantime::parse_rfc3339(until).unwrap().duration_since(now + grace).unwrap_or_default();
            prop_assert!(late < Duration::from_secs(60), "{}", until);
        }
        let Some(wanted) = expected(&old, &ask, &new, until, now) else {
            prop_assert_eq!(output.status.code(), Some(2), "{}", said);
            prop_assert_eq!(after, before);
            return Ok(());
        };
        prop_assert!(output.status.success(), "{said}\n{before}");
        let mut wanted_tree = config.clone();
        wanted_tree["proxy"]["auth"]["tokens"]["ci"] = wanted;
        prop_assert_eq!(tree(&after), wanted_tree, "{}", after);

        let bom = before.len() - before.trim_start_matches('\u{feff}').len();
        prop_assert_eq!(after.starts_with('\u{feff}'), bom > 0);
        let (old_range, new_range) = (value_of_token(&before[bom..], "ci"), value_of_token(&after[bom..], "ci"));
        prop_assert_eq!(&before[..bom + old_range.start], &after[..bom + new_range.start]);
        prop_assert_eq!(&before[bom + old_range.end..], &after[bom + new_range.end..]);
        // Of comments only those inside of what is replaced or removed as a whole may go.
        let is_whole = matches!(ask, Ask::Revoke | Ask::Rotate(Duration::ZERO) | Ask::Expire(None));
        if !is_whole {
            // Those inside of roles are also in the new credential.
            let (kept, mut found) = (comments(&before), comments(&after).into_iter());
            prop_assert!(kept.iter().all(|comment| found.any(|other| other == *comment)), "{after}");
        }
        let broken = after.replace("\r\n", "");
        prop_assert!(style.line_break != "\r\n" || !broken.contains('\n'), "a line ends as no other does: {after}");
    }
}

/// Both ends of a line, and all that the parser passes over.
#[test]
fn whatever_the_reader_takes_can_be_edited() {
    let files = Files::new();
    let hash = sha256("another-token-0123456789");
    let servers = r#""mcpServers": { "a": { "url": "http://127.0.0.1:1/mcp" } }"#;
    for tokens in [
        format!("{{\r//c, \"ci\"\r\"ci\":\r{{\"sha256\": \"{hash}\" // d,\r}},\r}}"),
        format!("{{\"ci\"\u{a0}:\u{2003}[\"{OLD}\"\u{a0},\u{a0}//, \n{{\"sha256\":\"{hash}\"\u{b}}}\u{c}]}}"),
        format!(
            "{{\"\\u0063i\": [\"{OLD}\"\t/* , */\t, {{\"s\\u0068a256\":\"{hash}\", \"roles\": [ // r\n ],}},],}}"
        ),
        r#"{"//ci":[],"ci":{"value":{"$env":"CI_TOKEN"},"_old":{"sha256":1}}}"#.to_owned(),
    ] {
        for commands in [
            &[
                &["rotate", "ci", "--id", "@1"][..],
                &["expire", "ci", "7d"],
                &["revoke", "ci", "--id", "@2"],
                &["revoke", "ci"],
            ][..],
            &[
                &["expire", "ci", "2100-01-01", "--id", "@1"],
                &["expire", "ci", "never", "--id", "@1"],
                &["rotate", "ci", "--grace", "0s", "--id", "@1"],
            ],
        ] {
            let path = files.path("gate.json");
            fs::write(
                &path,
                format!("{{ \"proxy\": {{ \"auth\": {{ \"tokens\": {tokens} }} }}, {servers} }}"),
            )
            .unwrap();
            for arguments in commands {
                done(&path, arguments);
            }
        }
    }
}
