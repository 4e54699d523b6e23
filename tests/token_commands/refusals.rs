//! What is refused, and what is not.

use std::{fs, path::Path};

use serde_json::json;

use crate::{Files, OLD, done, refused, run, sha256, text, token, two_servers};

/// Where the variables of the gateway are not those of whoever edits its config, that is no reason to refuse.
#[test]
fn variables_that_are_not_set_here_are_no_obstacle() {
    let files = Files::new();
    // More of them than are shown.
    let others: String =
        (0..150).map(|number| format!(r#", "t{number}": "$env:NOT_SET_{number}""#)).collect();
    let path = files.config(&format!(r#"{{ "ci": "$env:NOT_SET_HERE", "dev": "{OLD}"{others} }}"#));
    let new = done(&path, &["rotate", "ci"]);
    assert_eq!(token(&path, "ci")[0], json!({ "sha256": sha256(&new) }));
    assert_eq!(token(&path, "ci")[1]["value"], "$env:NOT_SET_HERE");
    done(&path, &["expire", "dev", "7d"]);
    let output = run(&path, &["revoke", "ci"]);
    let said = text(&output.stderr);
    assert!(output.status.success() && said.contains("NOT_SET_HERE is not set"), "{said}");
    assert!(said.contains("loads the whole of it now"), "{said}");
    assert_eq!(token(&path, "ci"), json!([]));
    assert!(text(&run(&path, &["revoke", "t7"]).stderr).contains("NOT_SET_7 is not set"));
    // An end that is not known must not become a later one, or none.
    let end = r#"{ "ci": { "value": "an-old-token-0123456789", "expires": "$env:NOT_SET_HERE" } }"#;
    let path = files.config(end);
    for arguments in [
        &["rotate", "ci"][..],
        &["rotate", "ci", "--expires", "90d"],
        &["expire", "ci", "7d"],
        &["expire", "ci", "2020-01-01", "--id", "@1"],
        &["expire", "ci", "never", "--id", "@1"],
    ] {
        let said = refused(&path, arguments, 2);
        assert!(said.contains("`expires` of @1 that cannot be read here"), "{said}");
    }
    // So a file that this user may not read.
    let path = files.config(r#"{ "ci": { "$file": "not-there" }, "dev": { "$file": "nor-this" } }"#);
    done(&path, &["rotate", "ci"]);
    done(&path, &["expire", "dev", "7d"]);
    done(&path, &["revoke", "dev"]);
}

/// A file with a mistake opens nothing. No command may be what makes it open something.
#[test]
fn a_config_that_is_refused_is_not_made_one_that_is_loaded() {
    let files = Files::new();
    let hash = sha256(OLD);
    for (tokens, words) in [
        // MCP Front's form, in which each server has its own tokens; read as ours, each would open both.
        (r#""a": ["a-token-0123456789"], "b": ["b-token-0123456789"]"#.to_owned(), "MCP Front"),
        // A hash that everybody who reads the config has would be a token.
        (format!(r#""a": "{hash}""#), "looks like the SHA-256"),
        (format!(r#""a": {{ "sha256": "{hash}", "expires": "2020-01-31" }}"#), "no date and time"),
        (format!(r#""a": {{ "sha256": "{hash}", "roles": ["x"], "roles": ["admin"] }}"#), "there twice"),
        (format!(r#""a": {{ "sha256": "{hash}", "rolse": ["x"] }}"#), "rolse"),
        (
            format!(
                r#""a": [{{ "id": "k", "sha256": "{hash}" }}, {{ "id": "k", "value": "b-token-0123456789" }}]"#
            ),
            "same `id`",
        ),
        (format!(r#""a": "{OLD}", "c": "{OLD}""#), "same token as"),
        (r#""a": { "$file": "x", "$env": "Y" }"#.to_owned(), "take one of"),
    ] {
        let path = two_servers(&files, &format!(r#""auth": {{ "tokens": {{ {tokens} }} }}"#), ["", ""]);
        let all = [
            &["rotate", "a"][..],
            &["rotate", "a", "--grace", "0s"],
            &["expire", "a", "30d"],
            &["expire", "a", "never", "--id", "@1"],
        ];
        for arguments in all {
            let said = refused(&path, arguments, 2);
            assert!(said.contains(words) && said.contains("mend it first"), "{arguments:?}: {said}");
        }
        for arguments in [&["revoke", "a"][..], &["revoke", "a", "--id", "@1"]] {
            let said = refused(&path, arguments, 2);
            let is_named = said.contains(words) && said.contains("nothing is written");
            assert!(is_named || said.contains("has as well"), "{arguments:?}: {said}");
        }
    }
    // Nor one that is loaded to one that is not.
    let tokens = r#""auth": { "tokens": { "a": ["a-token-0123456789"], "b": "b-token-0123456789" } }"#;
    let path = two_servers(&files, tokens, ["", ""]);
    let said = refused(&path, &["revoke", "b"], 2);
    assert!(said.contains("would have this mistake then") && said.contains("MCP Front"), "{said}");
    done(&path, &["revoke", "a"]);
    done(&path, &["revoke", "b"]);
}

/// What a file with a mistake takes away, a gateway that runs takes away all the same.
#[test]
fn revoking_works_in_a_config_with_another_mistake_and_says_so() {
    let files = Files::new();
    let auth = format!(r#""auth": {{ "tokens": {{ "ci": "{OLD}", "dev": "another-token-0123456789" }} }}"#);
    let path = two_servers(&files, &auth, [r#", "timout": "5s""#, ""]);
    let output = run(&path, &["revoke", "ci"]);
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("timout") && said.contains("no gateway loads it"), "{said}");
    assert_eq!(token(&path, "ci"), json!([]));
    for arguments in [&["rotate", "dev"][..], &["expire", "dev", "7d"]] {
        assert!(refused(&path, arguments, 2).contains("timout"));
    }
    // Unless nobody can know what the tokens are.
    let kind = auth.replace("\"tokens\"", "\"kind\": \"bearer-tokn\", \"tokens\"");
    let path = two_servers(&files, &kind, ["", ""]);
    let said = refused(&path, &["revoke", "ci"], 2);
    assert!(said.contains("bearer-tokn") && said.contains("cannot know what is taken away"), "{said}");
}

/// Also where a variable that is not set hides that two names have one token.
#[test]
fn a_token_that_another_name_has_is_not_taken_away_by_half() {
    let files = Files::new();
    let path = files.config(&format!(
        r#"{{ "ci": {{ "value": "{OLD}", "expires": "$env:NOT_SET_HERE" }}, "dev": {{ "sha256": "{}" }} }}"#,
        sha256(OLD)
    ));
    for arguments in [
        &["revoke", "ci"][..],
        &["revoke", "ci", "--id", "@1"],
        &["revoke", "dev"],
        &["rotate", "dev", "--grace", "0s"],
        &["expire", "dev", "2020-01-01"],
    ] {
        let said = refused(&path, arguments, 2);
        assert!(said.contains("has as well, which would still open"), "{arguments:?}: {said}");
    }
}

/// The other of two that are the same token would go on opening.
#[test]
fn of_a_token_that_is_there_twice_no_half_is_taken_away() {
    let files = Files::new();
    let hash = sha256(OLD);
    let path = files.config(&format!(
        r#"{{ "ci": [{{ "id": "x", "sha256": "{hash}", "expires": "2020-01-01T00:00:00Z" }}, {{ "id": "y", "value": "{OLD}" }}] }}"#
    ));
    for arguments in [
        &["revoke", "ci", "--id", "x"][..],
        &["rotate", "ci", "--id", "x", "--grace", "0s"],
        &["expire", "ci", "2020-01-01", "--id", "y"],
        &["rotate", "ci"],
    ] {
        let said = refused(&path, arguments, 2);
        assert!(said.contains("the same token twice, as @1 and as @2"), "{said}");
    }
    done(&path, &["revoke", "ci"]);
    let path =
        files.config(r#"{ "ci": [{ "value": "$env:NOT_SET_HERE", "id": "x" }, "$env:NOT_SET_HERE"] }"#);
    assert!(refused(&path, &["revoke", "ci", "--id", "x"], 2).contains("the same token twice"));
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
        (&["rotate", "none"], "`sluicegate token new` prints an entry, which goes into the place of `[]`"),
        (&["expire", "none", "7d"], "was revoked"),
        (&["expire", "ci", "tomorrow"], "write a date"),
        (&["expire", "ci", "9999999999d"], "write a date"),
    ] {
        let said = refused(&path, arguments, 2);
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
    fs::write(&path, r#"{ "proxy": { "auth": { "tokens": { "ci": "a-token-0123456789", "ci": "b-token-0123456789" } } } }"#).unwrap();
    assert!(refused(&path, &["revoke", "ci"], 2).contains("is there twice"));
    let locked = files.config(&format!(r#"{{ "ci": "{OLD}" }}"#));
    let lock = fs::File::open(&locked).unwrap();
    lock.lock_shared().unwrap();
    assert!(refused(&locked, &["revoke", "ci"], 1).contains("has locked"));
    drop(lock);
    fs::write(&path, "{ \"proxy\": ").unwrap();
    assert!(refused(&path, &["revoke", "ci"], 2).contains("gate.json:1:"));
    fs::write(&path, b"{ \"\xff\" }").unwrap();
    assert!(refused(&path, &["revoke", "ci"], 2).contains("UTF-8"));
    assert!(refused(&files.path("none.json"), &["revoke", "ci"], 2).contains("none.json"));
    assert!(refused(Path::new("-"), &["revoke", "ci"], 2).contains("standard input cannot be edited"));
    assert!(refused(files.0.path(), &["revoke", "ci"], 2).contains("is a directory"));
}
