//! What `list` shows, and what it does not.

use std::{fs, time::SystemTime};

use serde_json::{Value, json};

use crate::{DAY, Files, OLD, done, rfc3339, run, sha256, text, token, two_servers};

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

/// What metrics call a credential is what `--id` takes.
#[test]
fn an_id_is_what_the_list_shows() {
    let files = Files::new();
    let auth = format!(
        r#""sessionKey": "0123456789abcdef0123456789abcdefXYZ.-Q", "auth": {{ "tokens": {{ "ci": ["{OLD}", {{ "id": "2027-build-server-of-team-1", "value": "another-token-0123456789" }}] }} }}"#
    );
    let path = two_servers(&files, &auth, ["", ""]);
    let rows: Value = serde_json::from_str(&done(&path, &["list", "--json"])).unwrap();
    let label = rows[0]["credential"].as_str().unwrap();
    assert_eq!((label.len(), &rows[1]["credential"]), (8, &json!("@2")), "the second looks like a secret");
    done(&path, &["expire", "ci", "1d", "--id", label]);
    done(&path, &["expire", "ci", "2d", "--id", "2027-build-server-of-team-1"]);
    done(&path, &["expire", "ci", "3d", "--id", "@2"]);
    assert!(token(&path, "ci").as_array().unwrap().iter().all(|one| one["expires"].is_string()));
}

#[test]
fn a_list_shows_no_part_of_a_secret_and_nothing_that_a_terminal_obeys() {
    let files = Files::new();
    let hash = sha256(OLD);
    let path = files.config(&format!(
        r#"{{ "a": "longsecret$${{HUNTER2HUNTER}}xyz", "b": {{ "$text": "aa${{SECRETPART}}moresecret00" }},
        "c": {{ "sha256": "{hash}", "roles": ["ghp_0123456789abcdefghijklmnopqrstuvwxyz", "\u001b[31mcrimson\u009b", "team:deploy"] }} }}"#
    ));
    for arguments in [&["list"][..], &["list", "--json"]] {
        let shown = text(&run(&path, arguments).stdout);
        for secret in ["HUNTER", "SECRETPART", "ghp_", "crimson", "\u{1b}", "\u{9b}"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        assert!(shown.contains("literal") && shown.contains("team:deploy"), "{shown}");
    }
}
