//! Which credentials are changed, and when they end.

use serde_json::json;

use crate::{Files, OLD, done, refused, run, sha256, text, token};

#[test]
fn a_rotation_keeps_the_end_unless_another_is_asked_for() {
    let files = Files::new();
    let tokens = format!(r#"{{ "ci": {{ "value": "{OLD}", "expires": "2100-01-01T00:00:00Z" }} }}"#);
    let path = files.config(&tokens);
    let output = run(&path, &["rotate", "ci"]);
    let said = text(&output.stderr);
    assert!(said.contains("new token ends at 2100-01-01T00:00:00Z") && said.contains("--expires"), "{said}");
    assert_eq!(token(&path, "ci")[0]["expires"], "2100-01-01T00:00:00Z");
    let path = files.config(&tokens);
    done(&path, &["rotate", "ci", "--expires", "never"]);
    assert_eq!(token(&path, "ci")[0].get("expires"), None);
    let path = files.config(&tokens.replace("2100", "2020"));
    let said = refused(&path, &["rotate", "ci"], 2);
    assert!(said.contains("say by --expires"), "{said}");
    assert!(refused(&path, &["rotate", "ci", "--expires", "2020-01-01"], 2).contains("has expired"));
    done(&path, &["rotate", "ci", "--expires", "2100-01-01"]);
    assert_eq!(token(&path, "ci")[0]["expires"], "2100-01-01T00:00:00Z");
}

#[test]
fn an_end_that_a_rotation_set_is_not_moved_back_without_being_named() {
    let files = Files::new();
    let path = files.config(&format!(r#"{{ "ci": "{OLD}" }}"#));
    done(&path, &["rotate", "ci", "--grace", "1h"]);
    let old = token(&path, "ci")[1]["expires"].clone();
    let output = run(&path, &["expire", "ci", "90d"]);
    assert!(text(&output.stderr).contains("@2: ends before that, and stays so"), "{}", text(&output.stderr));
    let end = token(&path, "ci")[0]["expires"].clone();
    assert!(end.is_string() && token(&path, "ci")[1]["expires"] == old);
    for when in ["91d", "never"] {
        assert!(
            refused(&path, &["expire", "ci", when], 2).contains("say by --id which one is to last longer")
        );
    }
    done(&path, &["expire", "ci", "never", "--id", "@1"]);
    assert_eq!(token(&path, "ci")[0].get("expires"), None);
    assert_eq!(token(&path, "ci")[1]["expires"], old);
    done(&path, &["expire", "ci", "1m"]);
    assert!(token(&path, "ci")[1]["expires"].as_str() < old.as_str());
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

/// A decoy that stays beside a token is for whoever has the old one.
#[test]
fn decoys_are_left_alone_unless_they_are_named() {
    let files = Files::new();
    let decoy = json!({ "id": "old", "value": "another-token-0123456789", "decoy": true });
    let path = files.config(&format!(r#"{{ "ci": ["{OLD}", {decoy}] }}"#));
    assert!(done(&path, &["list"]).contains("literal decoy"));
    done(&path, &["expire", "ci", "7d"]);
    done(&path, &["rotate", "ci"]);
    done(&path, &["rotate", "ci", "--grace", "0s"]);
    assert_eq!(token(&path, "ci").as_array().unwrap().len(), 2);
    assert_eq!(token(&path, "ci")[1], decoy);
    done(&path, &["rotate", "ci", "--grace", "0s", "--id", "old"]);
    assert_eq!(token(&path, "ci")[1]["decoy"], true);
    done(&path, &["revoke", "ci", "--id", "@1"]);
    for arguments in [&["rotate", "ci"][..], &["expire", "ci", "7d"]] {
        assert!(refused(&path, arguments, 2).contains("decoy"));
    }
    done(&path, &["revoke", "ci"]);
}
