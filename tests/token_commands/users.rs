//! `sluicegate user add | passwd | disable | enable | remove | list`: what becomes of the config, and of nothing else in its file.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};

use crate::{Files, text, tree};

const HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA";

fn run(config: &Path, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
    command.arg("user").args(arguments).arg("-c").arg(config);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // One that refuses before it reads has closed it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn done(config: &Path, arguments: &[&str], input: &str) -> String {
    let output = run(config, arguments, input);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn refused(config: &Path, arguments: &[&str], input: &str) -> String {
    let before = fs::read(config).ok();
    let output = run(config, arguments, input);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments:?} {said}");
    assert_eq!(text(&output.stdout), "", "{arguments:?}");
    assert_eq!(fs::read(config).ok(), before, "{arguments:?}");
    said
}

fn config(files: &Files, text: &str) -> PathBuf {
    let path = files.path("gate.json");
    fs::write(&path, text).unwrap();
    path
}

/// A config with these users, and a server that some may use.
fn with_users(files: &Files, users: &str) -> PathBuf {
    let config_text = format!(
        r#"{{
  // What is here stays.
  "proxy": {{ "addr": ":8080", "auth": {{ "users": {users} }} }},
  "mcpServers": {{ "db": {{ "url": "http://127.0.0.1:1/mcp", "tags": ["web"] }} }},
}}
"#
    );
    config(files, &config_text)
}

fn users(path: &Path) -> Value {
    tree(&fs::read_to_string(path).unwrap())["proxy"]["auth"]["users"].clone()
}

/// The file with every hash of argon2id that is not [`HASH`] as `NEW`.
fn with_new(path: &Path) -> String {
    let written = fs::read_to_string(path).unwrap();
    let mut parts = written.split("\"$argon2id$");
    let mut made = parts.next().unwrap().to_owned();
    for part in parts {
        let (hash, rest) = part.split_once('"').unwrap();
        let is_known = HASH.ends_with(hash);
        made += &if is_known { format!("\"{HASH}\"") } else { "NEW".to_owned() };
        made += rest;
    }
    made
}

#[test]
fn a_user_is_put_where_users_are_and_nothing_else_changes() {
    let files = Files::new();
    let server = r#""mcpServers": { "db": { "url": "http://127.0.0.1:1/mcp" } }"#;
    let add = ["add", "alice"];
    for (before, after) in [
        (
            format!("{{ {server} }}"),
            format!(
                r#"{{ {server}, "proxy": {{ "auth": {{ "users": {{ "alice": {{ "passwordHash": NEW }} }} }} }} }}"#
            ),
        ),
        (
            format!("{{\n  \"proxy\": {{ }}, // c\n  {server}\n}}\n"),
            format!(
                "{{\n  \"proxy\": {{ \"auth\": {{ \"users\": {{ \"alice\": {{ \"passwordHash\": NEW }} }} }}  }}, // c\n  {server}\n}}\n"
            ),
        ),
        (
            format!(
                "{{\r\n\t\"proxy\": {{ \"auth\": {{\r\n\t\t\"queryToken\": true\r\n\t}} }},\r\n\t{server}\r\n}}"
            ),
            format!(
                "{{\r\n\t\"proxy\": {{ \"auth\": {{\r\n\t\t\"queryToken\": true,\r\n\t\t\"users\": {{ \"alice\": {{ \"passwordHash\": NEW }} }}\r\n\t}} }},\r\n\t{server}\r\n}}"
            ),
        ),
        (
            format!(
                "\u{feff}{{ \"proxy\": {{ \"auth\": {{ \"users\": {{\n  \"//bob\": \"is gone\",\n  \"bob\": {{ \"passwordHash\": \"{HASH}\" }}, // b\n}} }} }}, {server} }}"
            ),
            format!(
                "\u{feff}{{ \"proxy\": {{ \"auth\": {{ \"users\": {{\n  \"//bob\": \"is gone\",\n  \"bob\": {{ \"passwordHash\": \"{HASH}\" }}, // b\n  \"alice\": {{ \"passwordHash\": NEW }},\n}} }} }}, {server} }}"
            ),
        ),
    ] {
        let path = config(&files, &before);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(done(&path, &add, "secret word\n"), "alice: added\n");
        assert_eq!(with_new(&path), after);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(files.names(), ["gate.json"], "nothing is left behind");
    }
    let path = with_users(&files, "{}");
    done(
        &path,
        &["add", "zo\u{eb} \"x\"", "--role", "dev", "--role", "ops", "--tag", "web", "--server", "db"],
        "pass w\u{f6}rd",
    );
    let entry = &users(&path)["zo\u{eb} \"x\""];
    assert!(
        entry["passwordHash"].as_str().unwrap().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
        "{entry}"
    );
    assert_eq!(
        [&entry["roles"], &entry["tags"], &entry["servers"]],
        [&json!(["dev", "ops"]), &json!(["web"]), &json!(["db"])]
    );
}

#[test]
fn another_password_a_switch_and_a_removal_change_that_and_nothing_else() {
    let files = Files::new();
    let entry =
        format!("{{\n    \"passwordHash\": \"{HASH}\", // since May\n    \"roles\": [\"dev\"] /* r */ }}");
    let both = format!("{{\n  \"alice\": {entry},\n  \"bob\": {{ \"passwordHash\": \"{HASH}\" }}\n}}");
    let path = with_users(&files, &both);
    let before = fs::read_to_string(&path).unwrap();
    assert_eq!(
        done(&path, &["passwd", "alice"], "new\n"),
        "alice: has another password; what came of the old one ends\n"
    );
    assert_eq!(with_new(&path), before.replacen(&format!("\"{HASH}\""), "NEW", 1));

    let path = with_users(&files, &both);
    assert_eq!(done(&path, &["disable", "alice"], ""), "alice: disabled; what came of its logins ends\n");
    let disabled = before.replacen(
        "\"roles\": [\"dev\"] /* r */ }",
        "\"roles\": [\"dev\"], /* r */\n    \"disabled\": true }",
        1,
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), disabled);
    assert_eq!(done(&path, &["disable", "alice"], ""), "alice: is disabled already\n");
    done(&path, &["passwd", "alice"], "new\n");
    assert_eq!(users(&path)["alice"]["disabled"], true, "a password lets nobody in again");
    assert_eq!(done(&path, &["enable", "alice"], ""), "alice: may log in again\n");
    assert_eq!(done(&path, &["enable", "alice"], ""), "alice: is not disabled\n");
    assert_eq!(users(&path)["alice"].as_object().unwrap().len(), 2);

    assert_eq!(done(&path, &["remove", "bob"], ""), "bob: removed; what came of its logins ends\n");
    assert_eq!(users(&path).as_object().unwrap().keys().collect::<Vec<_>>(), ["alice"]);
    let path = with_users(&files, &both);
    let shown = done(&path, &["remove", "bob", "--dry-run"], "");
    assert!(shown.contains("bob") && !shown.contains("c2FsdHNhbHQ"), "{shown}");
    assert_eq!(fs::read_to_string(&path).unwrap(), before);
}

#[test]
fn what_cannot_be_done_is_said_before_a_password_is_asked_for() {
    let files = Files::new();
    let path = with_users(&files, &format!(r#"{{ "alice": {{ "passwordHash": "{HASH}" }} }}"#));
    let said = refused(&path, &["add", "alice"], "");
    assert!(
        said.contains("gate.json:3:52: proxy.auth.users.alice: is there already")
            && said.contains("user passwd"),
        "{said}"
    );
    for command in ["passwd", "disable", "enable", "remove"] {
        let said = refused(&path, &[command, "alise"], "");
        assert!(
            said.contains("proxy.auth.users: has no user of this name; did you mean \"alice\"?"),
            "{said}"
        );
    }
    for (name, words) in [
        ("a:b", "without a colon"),
        ("//a", "is a comment in the config"),
        ("", "1 to 128 characters"),
        ("*", "cannot be called `*`"),
        (" bob", "with a blank"),
        ("bob ", "with a blank"),
        ("bo\u{202e}b", "that nobody sees"),
        ("bo\u{200b}b", "that nobody sees"),
        ("bo\tb", "on one line"),
    ] {
        let said = refused(&path, &["add", name], "secret\n");
        assert!(said.contains(words), "{name} {said}");
    }
    let text = fs::read_to_string(&path).unwrap();
    let with_token = text.replacen("\"users\"", "\"tokens\": { \"ci\": { \"$env\": \"CI\" } }, \"users\"", 1);
    let said = refused(&config(&files, &with_token), &["add", "ci"], "secret\n");
    assert!(said.contains("there is a token of this name"), "{said}");
    let path = with_users(&files, &format!(r#"{{ "alice": {{ "passwordHash": "{HASH}" }} }}"#));
    for (password, words) in
        [("\n", "1 to 1024 bytes"), ("", "1 to 1024 bytes"), (&*"x".repeat(1025), "1 to 1024 bytes")]
    {
        for arguments in [["add", "bob"], ["passwd", "alice"]] {
            let said = refused(&path, &arguments, password);
            assert!(said.contains(words), "{said}");
        }
    }
    let said = refused(&path, &["add", "bob", "--server", "none"], "secret\n");
    assert!(
        said.contains(
            "nothing is written: the config would have this mistake then: proxy.auth.users.bob.servers"
        ),
        "{said}"
    );
    let said = refused(Path::new("-"), &["add", "bob"], "secret\n");
    assert!(said.contains("standard input has the password"), "{said}");
    // A password has no place among the arguments.
    assert!(refused(&path, &["add", "bob", "--password", "x"], "").contains("--password"));

    let hash_file = files.path("alice.hash");
    fs::write(&hash_file, HASH).unwrap();
    for (hash, words) in [
        (r#""$env:ALICE_HASH""#, "in the variable ALICE_HASH"),
        (r#""${ALICE_HASH}""#, "in the variable ALICE_HASH"),
        (r#"{ "$env": "ALICE_HASH" }"#, "in the variable ALICE_HASH"),
        (r#"{ "$file": "alice.hash" }"#, "in the file alice.hash"),
    ] {
        let path = with_users(&files, &format!(r#"{{ "alice": {{ "passwordHash": {hash} }} }}"#));
        let said = refused(&path, &["passwd", "alice"], "new\n");
        assert!(
            said.contains(words) && said.contains("put there what `sluicegate user hash` prints"),
            "{said}"
        );
        assert_eq!(fs::read_to_string(&hash_file).unwrap(), HASH);
        done(&path, &["disable", "alice"], "");
    }
}

#[test]
fn a_config_with_a_mistake_lets_nobody_in_by_a_command() {
    let files = Files::new();
    let entry = format!(r#"{{ "passwordHash": "{HASH}" }}"#);
    let path = with_users(
        &files,
        &format!(r#"{{ "alice": {entry}, "bob": {{ "passwordHash": "{HASH}", "rolse": [] }} }}"#),
    );
    for arguments in [&["add", "carol"][..], &["passwd", "alice"], &["enable", "alice"]] {
        let said = refused(&path, arguments, "secret\n");
        assert!(said.contains("rolse") && said.contains("mend it first"), "{said}");
    }
    // What takes something away is done all the same: a gateway that runs goes by it.
    done(&path, &["disable", "alice"], "");
    assert_eq!(users(&path)["alice"]["disabled"], true);
    done(&path, &["remove", "alice"], "");
    assert!(refused(&path, &["remove", "bob"], "").contains("this mistake would be gone"));

    let path = with_users(&files, &format!(r#"{{ "alice": {entry}, "alice": {entry} }}"#));
    for command in ["passwd", "disable", "remove"] {
        let said = refused(&path, &[command, "alice"], "secret\n");
        assert!(said.contains("is there twice"), "{said}");
    }

    // The last one counts for some readers, and the first for others.
    let twice =
        format!(r#"{{ "alice": {{ "passwordHash": "{HASH}", "disabled": false, "disabled": false }} }}"#);
    let path = with_users(&files, &twice);
    let before = fs::read_to_string(&path).unwrap();
    for command in ["disable", "enable"] {
        let said = refused(&path, &[command, "alice"], "");
        for part in ["proxy.auth.users.alice.disabled: ", "is there twice", "keep one of them"] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), before);
    let text = format!(
        r#"{{ "proxy": {{ "auth": {{ "users": {{ "alice": {entry} }} }} }}, "mcpServers": {{ "db": {{ "url": "http://127.0.0.1:1", "users": ["alice"] }} }} }}"#
    );
    let path = config(&files, &text);
    let said = refused(&path, &["remove", "alice"], "");
    assert!(said.contains("the config would have this mistake then: mcpServers.db.users"), "{said}");
    done(&path, &["disable", "alice"], "");
    let path = config(&files, "{ \"proxy\": [] }");
    assert!(refused(&path, &["disable", "alice"], "").contains("proxy: is no object"));
}

#[test]
fn a_list_shows_who_there_is_and_nothing_secret() {
    let files = Files::new();
    let path = with_users(
        &files,
        &format!(
            r#"{{
      "alice": {{ "passwordHash": "{HASH}", "roles": ["dev", "ops"], "tags": ["web"] }},
      "bob": {{ "passwordHash": {{ "$text": "{HASH}" }}, "disabled": true }},
      "carol": {{ "passwordHash": {{ "$file": "carol.hash" }}, "servers": [] }} }}"#
        ),
    );
    fs::write(files.path("carol.hash"), HASH).unwrap();
    assert_eq!(
        done(&path, &["list"], ""),
        "\
NAME   STATE     PASSWORD          ROLES    TAGS  SERVERS
alice  active    hash              dev,ops  web   db
bob    disabled  hash              -        -     -
carol  active    $file carol.hash  -        -     -
"
    );
    let listed: Value = serde_json::from_str(&done(&path, &["list", "--json"], "")).unwrap();
    assert_eq!(
        listed[0],
        json!({ "name": "alice", "disabled": false, "password": "hash", "source": null, "roles": ["dev", "ops"], "tags": ["web"], "servers": ["db"] })
    );
    assert_eq!(listed[2]["source"], "carol.hash");
    let path = config(&files, r#"{ "mcpServers": {}, "proxy": { "allowEmpty": true } }"#);
    assert_eq!(done(&path, &["list"], ""), "NAME  STATE  PASSWORD  ROLES  TAGS  SERVERS\n");
}

#[test]
fn users_that_are_added_at_once_are_all_there() {
    const AT_ONCE: usize = 8;
    let files = Files::new();
    let path = with_users(&files, "{}");
    std::thread::scope(|scope| {
        for number in 0..AT_ONCE {
            let path = &path;
            scope.spawn(move || done(path, &["add", &format!("user{number}")], "secret\n"));
        }
    });
    assert_eq!(users(&path).as_object().unwrap().len(), AT_ONCE);
}

/// Runs what it is told on a terminal of its own, and passes on what is typed and shown.
const TERMINAL: &str = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";

#[test]
fn at_a_terminal_a_password_is_asked_for_twice_and_not_shown() {
    let files = Files::new();
    for (first, second, is_taken) in
        [("secret word", "secret word", true), ("secret word", "secret wort", false)]
    {
        let path = with_users(&files, "{}");
        let mut command = Command::new("python3");
        command
            .args(["-c", TERMINAL, env!("CARGO_BIN_EXE_sluicegate"), "user", "add", "alice", "-c"])
            .arg(&path);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut keys, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut shown = String::new();
        for (prompt, typed) in [("Password: ", first), ("Again: ", second)] {
            let mut byte = [0];
            while !shown.ends_with(prompt) {
                screen.read_exact(&mut byte).unwrap();
                shown.push(byte[0].into());
            }
            keys.write_all(format!("{typed}\n").as_bytes()).unwrap();
        }
        screen.read_to_string(&mut shown).unwrap();
        assert_eq!(child.wait().unwrap().success(), is_taken, "{shown}");
        assert!(!shown.contains("secret") && shown.contains("not the same") != is_taken, "{shown}");
        assert_eq!(users(&path).get("alice").is_some(), is_taken);
    }
}
