//! `sluicegate token list | rotate | revoke | expire`: what becomes of the config, and of nothing else in its file.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, SystemTime},
};

use jsonc_parser::{ast::Value as Ast, common::Ranged};
use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use sluicegate::config::read::parse::parse;
use tempfile::TempDir;

const OLD: &str = "an-old-token-0123456789";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn command(config: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
    command.arg("token").args(arguments).arg("-c").arg(config).env("CI_TOKEN", "a-token-of-the-environment");
    command
}

fn run(config: &Path, arguments: &[&str]) -> Output {
    command(config, arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs what has to end well, and returns what it writes to standard output.
fn done(config: &Path, arguments: &[&str]) -> String {
    let output = run(config, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Runs what has to be refused, and returns what it says.
fn refused(config: &Path, arguments: &[&str], code: i32) -> String {
    let before = fs::read(config).ok();
    let output = run(config, arguments);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert_eq!(text(&output.stdout), "", "{arguments:?}");
    assert_eq!(fs::read(config).ok(), before);
    said
}

fn sha256(token: &str) -> String {
    Sha256::digest(token.trim()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn rfc3339(moment: SystemTime) -> String {
    humantime::format_rfc3339_seconds(moment).to_string()
}

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A config with these tokens, and with servers that name some of them.
    fn config(&self, tokens: &str) -> PathBuf {
        let path = self.path("gate.json");
        let config = format!(
            r#"{{
  "proxy": {{ "addr": ":8080", "auth": {{ "tokens": {tokens} }} }},
  "mcpServers": {{
    "db": {{ "url": "http://127.0.0.1:1/mcp", "authTokens": ["ci"] }},
    "all": {{ "url": "http://127.0.0.1:1/mcp" }},
    "staff": {{ "url": "http://127.0.0.1:1/mcp", "roles": ["admin"] }},
    "open": {{ "url": "http://127.0.0.1:1/mcp", "public": true }},
  }},
}}"#
        );
        fs::write(&path, config).unwrap();
        path
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn to_json(value: &Ast<'_>) -> Value {
    match value {
        Ast::Object(object) => {
            let entries = object.properties.iter();
            entries
                .map(|entry| (entry.name.as_str().to_owned(), to_json(&entry.value)))
                .collect::<Map<_, _>>()
                .into()
        }
        Ast::Array(list) => list.elements.iter().map(to_json).collect(),
        Ast::StringLit(text) => text.value.as_ref().into(),
        Ast::NumberLit(number) => serde_json::from_str(number.value).unwrap(),
        Ast::BooleanLit(literal) => literal.value.into(),
        Ast::NullKeyword(_) => Value::Null,
    }
}

fn tree(text: &str) -> Value {
    to_json(&parse(text.trim_start_matches('\u{feff}')).unwrap().0)
}

fn token(path: &Path, name: &str) -> Value {
    tree(&fs::read_to_string(path).unwrap())["proxy"]["auth"]["tokens"][name].clone()
}

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
            let chosen = |credential: &Value| match live.is_empty() {
                true => all.len() == 1,
                false => !has_expired(credential),
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
        // Of comments only those inside of what is replaced as a whole may go.
        let is_whole = matches!(ask, Ask::Revoke | Ask::Rotate(Duration::ZERO));
        if !is_whole {
            // Those inside of roles are also in the new credential.
            let (kept, mut found) = (comments(&before), comments(&after).into_iter());
            prop_assert!(kept.iter().all(|comment| found.any(|other| other == *comment)), "{after}");
        }
        let broken = after.replace("\r\n", "");
        prop_assert!(style.line_break != "\r\n" || !broken.contains('\n'), "a line ends as no other does: {after}");
    }
}

#[test]
fn a_list_shows_what_each_credential_opens_and_no_secret() {
    let files = Files::new();
    let hash = sha256("another-token-0123456789");
    fs::write(files.path("t.token"), "a-token-in-a-file-0123456789\n").unwrap();
    let soon = rfc3339(SystemTime::now() + 6 * DAY + DAY / 2);
    let path = files.config(&format!(
        r#"{{ "ci": "$env:CI_TOKEN", "dev": {{ "value": {{ "$file": "t.token" }}, "expires": "{soon}" }}, "none": [],
        "ops": [{{ "id": "new", "sha256": "{hash}", "roles": ["admin"] }}, {{ "value": "{OLD}", "expires": "2020-01-01T00:00:00Z" }}] }}"#
    ));
    let table = done(&path, &["list"]);
    let words: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[0], ["NAME", "CREDENTIAL", "KIND", "ROLES", "EXPIRES", "SERVERS"]);
    assert_eq!(words[1], ["ci", "@1", "$env", "CI_TOKEN", "-", "never", "db,all"]);
    assert_eq!(words[2], ["dev", "@1", "$file", "t.token", "-", &soon, "(in", "6", "days)", "all"]);
    assert_eq!(words[3], ["none", "-", "none", "-", "-", "-"]);
    assert_eq!(words[4], ["ops", "new", "sha256", "admin", "never", "all,staff"]);
    assert_eq!(words[5][..5], ["ops", "@2", "literal", "-", "2020-01-01T00:00:00Z"]);
    assert!(words[5].contains(&"(expired") && words[5].ends_with(&["-"]), "{table}");
    let as_json = done(&path, &["list", "--json"]);
    for secret in [OLD, &hash, "a-token-in-a-file", "of-the-environment"] {
        assert!(!table.contains(secret) && !as_json.contains(secret));
    }
    let rows: Value = serde_json::from_str(&as_json).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 5);
    let ops = &rows[3];
    assert_eq!((&ops["credential"], &ops["servers"]), (&json!("new"), &json!(["all", "staff"])));
    assert_eq!((&rows[4]["expired"], &rows[0]["source"]), (&json!(true), &json!("CI_TOKEN")));
}

/// Where the variables of the gateway are not those of whoever edits its config, that is no reason to refuse.
#[test]
fn what_was_wrong_before_is_no_obstacle_and_what_would_be_is() {
    let files = Files::new();
    let path = files.config(&format!(r#"{{ "ci": "$env:NOT_SET_HERE", "dev": "{OLD}" }}"#));
    let new = done(&path, &["rotate", "ci"]);
    assert_eq!(token(&path, "ci")[0], json!({ "sha256": sha256(&new) }));
    assert_eq!(token(&path, "ci")[1]["value"], "$env:NOT_SET_HERE");
    done(&path, &["revoke", "ci"]);
    assert_eq!(token(&path, "ci"), json!([]));

    // Tokens that are named as the servers are, each with a list, are taken for those of another program.
    fs::write(
        &path,
        r#"{ "proxy": { "auth": { "tokens": { "a": ["a-token-0123456789"], "b": "b-token-0123456789" } } },
        "mcpServers": { "a": { "url": "http://127.0.0.1:1" }, "b": { "url": "http://127.0.0.1:1" } } }"#,
    )
    .unwrap();
    let said = refused(&path, &["revoke", "b"], 2);
    assert!(
        said.contains(":1:") && said.contains("MCP Front") && said.contains("nothing is written"),
        "{said}"
    );
    done(&path, &["revoke", "a"]);
    done(&path, &["revoke", "b"]);
}

#[test]
fn what_cannot_be_done_says_where_and_what_to_do() {
    let files = Files::new();
    let path = files.config(&format!(
        r#"{{ "ci": [{{ "value": "{OLD}", "roles": ["admin"] }}, "another-token-0123456789"], "none": [] }}"#
    ));
    for (arguments, words) in [
        (&["revoke", "cii"][..], "gate.json:2:"),
        (&["revoke", "cii"], "did you mean \"ci\"?"),
        (&["rotate", "ci"], "proxy.auth.tokens.ci: has credentials with different roles"),
        (&["rotate", "ci", "--id", "@3"], "name one of @1, @2"),
        (&["rotate", "none"], "it was revoked; `sluicegate token new` makes one"),
        (&["expire", "none", "7d"], "it was revoked"),
        (&["expire", "ci", "tomorrow"], "write a date"),
        (&["expire", "ci", "9999999999d"], "write a date"),
    ] {
        let said = refused(&path, arguments, 2);
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
    fs::write(&path, r#"{ "proxy": { "auth": { "tokens": { "ci": "a-token-0123456789", "ci": "b-token-0123456789" } } } }"#).unwrap();
    assert!(refused(&path, &["revoke", "ci"], 2).contains("is there twice"));
    fs::write(&path, "{ \"proxy\": ").unwrap();
    assert!(refused(&path, &["revoke", "ci"], 2).contains("gate.json:1:"));
    fs::write(&path, b"{ \"\xff\" }").unwrap();
    assert!(refused(&path, &["revoke", "ci"], 2).contains("UTF-8"));
    assert!(refused(&files.path("none.json"), &["revoke", "ci"], 2).contains("none.json"));
    assert!(refused(Path::new("-"), &["revoke", "ci"], 2).contains("standard input cannot be edited"));
    assert!(refused(files.0.path(), &["revoke", "ci"], 2).contains("cannot be edited"));
}

#[test]
fn one_credential_can_be_chosen() {
    let files = Files::new();
    let hash = sha256("another-token-0123456789");
    let tokens = format!(
        r#"{{ "ci": [{{ "id": "a", "value": "{OLD}", "roles": ["admin"] }}, {{ "id": "b", "sha256": "{hash}", "expires": "2020-01-01T00:00:00Z" }}] }}"#
    );
    let path = files.config(&tokens);
    done(&path, &["expire", "ci", "2027-01-31T01:00:00+01:00", "--id", "b"]);
    assert_eq!(token(&path, "ci")[1]["expires"], "2027-01-31T00:00:00Z");
    assert_eq!(token(&path, "ci")[0].get("expires"), None);
    let new = done(&path, &["rotate", "ci", "--id", "@1", "--grace", "0s"]);
    let credential = token(&path, "ci")[0].clone();
    assert_eq!((&credential["sha256"], &credential["roles"]), (&json!(sha256(&new)), &json!(["admin"])));
    assert_ne!(credential["id"], "a");
    assert_eq!(token(&path, "ci")[1]["id"], "b");
    done(&path, &["revoke", "ci", "--id", "b"]);
    assert_eq!(token(&path, "ci"), json!([credential]));
}

#[test]
fn nothing_is_lost_when_several_rotate_at_once() {
    const AT_ONCE: usize = 8;
    let files = Files::new();
    let path = files.config(&format!(r#"{{ "ci": "{OLD}", "dev": "another-token-0123456789" }}"#));
    let rotate = |_| {
        command(&path, &["rotate", "ci"])
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap()
    };
    let running: Vec<_> = (0..AT_ONCE).map(rotate).collect();
    let mut new: Vec<String> =
        running.into_iter().map(|child| sha256(&text(&child.wait_with_output().unwrap().stdout))).collect();
    let token = token(&path, "ci");
    let (old, added) = token.as_array().unwrap().split_last().unwrap();
    assert_eq!(old["value"], OLD);
    let mut added: Vec<String> = added.iter().map(|one| one["sha256"].as_str().unwrap().to_owned()).collect();
    new.sort();
    added.sort();
    assert_eq!(added, new);
    assert_eq!(files.names(), ["gate.json"]);
}

#[test]
fn links_lead_to_the_file_and_mode_and_owner_stay() {
    let files = Files::new();
    let path = files.config(&format!(r#"{{ "ci": "{OLD}" }}"#));
    // As Kubernetes mounts a directory of files.
    fs::create_dir(files.path("..2026")).unwrap();
    fs::rename(&path, files.path("..2026/gate.json")).unwrap();
    symlink("..2026", files.path("..data")).unwrap();
    symlink("..data/gate.json", &path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    // Whoever may not give a file away has no other owner to test.
    let _ = chown(&path, Some(1234), Some(1235));
    let before = fs::metadata(&path).unwrap();
    done(&path, &["revoke", "ci"]);
    assert_eq!(token(&path, "ci"), json!([]));
    let after = fs::metadata(&path).unwrap();
    assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
    assert_eq!((after.mode(), after.uid(), after.gid()), (before.mode(), before.uid(), before.gid()));
    assert_ne!(after.ino(), before.ino(), "it was written in place");
    assert_eq!(fs::read_dir(files.path("..data")).unwrap().count(), 1);
}

#[test]
fn a_file_with_a_second_name_is_written_in_place() {
    let files = Files::new();
    let path = files.config(&format!(r#"{{ "ci": "{OLD}" }}"#));
    fs::hard_link(&path, files.path("other.json")).unwrap();
    let before = fs::metadata(&path).unwrap();
    done(&path, &["rotate", "ci"]);
    done(&path, &["revoke", "ci"]);
    assert_eq!(fs::metadata(&path).unwrap().ino(), before.ino());
    assert_eq!(token(&files.path("other.json"), "ci"), json!([]));
    assert_eq!(files.names(), ["gate.json", "other.json"]);
}

#[test]
fn what_a_killed_command_leaves_is_in_nobody_s_way() {
    let files = Files::new();
    let path = files.config(&format!(r#"{{ "ci": "{OLD}" }}"#));
    fs::write(files.path(".gate.json.next"), "{ half").unwrap();
    done(&path, &["revoke", "ci"]);
    assert_eq!(token(&path, "ci"), json!([]));
    assert_eq!(files.names(), ["gate.json"]);
}

#[test]
fn a_file_that_may_not_grow_stays_as_it_is() {
    let files = Files::new();
    let path = files.config(&format!(r#"{{ "ci": "{OLD}", "dev": "{}" }}"#, "x".repeat(2000)));
    let before = fs::read_to_string(&path).unwrap();
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -f 1; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_sluicegate")]);
    let output = limited.args(["token", "rotate", "ci", "-c"]).arg(&path).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("ulimit -f") && output.stdout.is_empty(), "{said}");
    assert_eq!(fs::read_to_string(&path).unwrap(), before);
    assert_eq!(files.names(), ["gate.json"]);
}
