//! The file as a file: who else has it, what it is, and what becomes of it when a command fails.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{Files, OLD, command, done, refused, sha256, text, token};

/// Whoever cannot have the new token keeps the old one.
#[test]
fn a_token_that_nobody_would_see_is_not_written() {
    let files = Files::new();
    let path = files.config(&format!(r#"{{ "ci": "{OLD}" }}"#));
    let before = fs::read(&path).unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let outputs: [Stdio; 3] = [writer.into(), full().into(), Stdio::null()];
    for output in outputs {
        let output = command(&path, &["rotate", "ci", "--grace", "0s"]).stdout(output).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("nothing is written"), "{said}");
        assert_eq!(fs::read(&path).unwrap(), before);
    }
    let closed = Command::new("sh")
        .args([
            "-c",
            "exec \"$@\" >&-",
            "sh",
            env!("CARGO_BIN_EXE_sluicegate"),
            "token",
            "rotate",
            "ci",
            "-c",
        ])
        .arg(&path)
        .status()
        .unwrap();
    assert_eq!((closed.code(), fs::read(&path).unwrap()), (Some(1), before));
    assert_eq!(files.names(), ["gate.json"]);
}

#[test]
fn what_no_gateway_would_read_is_not_written() {
    let files = Files::new();
    let path = files.config(&format!(r#"{{ "ci": "{OLD}" }}"#));
    let mut config = fs::read_to_string(&path).unwrap();
    config += &" ".repeat((1 << 20) - 20 - config.len());
    fs::write(&path, &config).unwrap();
    assert!(refused(&path, &["rotate", "ci"], 2).contains("larger than 1024 KiB"));
    done(&path, &["revoke", "ci"]);
    let path = files.config(&format!(r#"{{ "ci": "{OLD}" }}"#));
    for grace in ["8000y", "99999999999y"] {
        assert!(refused(&path, &["rotate", "ci", "--grace", grace], 2).contains("after the year 9999"));
    }
    assert!(refused(&path, &["rotate", "ci", "--expires", "8000y"], 2).contains("write a date"));
}

/// At whatever moment a command is killed, the config is the old one or the new one.
#[test]
fn a_command_that_is_killed_leaves_a_config_that_is_whole() {
    let files = Files::new();
    let path = files.config(&format!(r#"{{ "ci": "{OLD}" }}"#));
    let old = fs::read_to_string(&path).unwrap() + &" ".repeat(200_000);
    let new = old.replace(&format!("\"{OLD}\""), "[]");
    for step in 0..60 {
        fs::write(&path, &old).unwrap();
        let mut child =
            command(&path, &["revoke", "ci"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Real time: it says when a process of its own is killed, and whenever that is, the same has to hold.
        let until = Instant::now() + Duration::from_micros(step * 500);
        while Instant::now() < until && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        let _ = child.kill();
        child.wait().unwrap();
        let left = fs::read_to_string(&path).unwrap();
        assert!(left == old || left == new, "{} bytes are left", left.len());
    }
    // What a killed one leaves is in nobody's way.
    fs::write(&path, &old).unwrap();
    done(&path, &["revoke", "ci"]);
}

#[test]
fn nothing_is_lost_when_several_rotate_at_once() {
    const AT_ONCE: usize = 12;
    let files = Files::new();
    let path = files.config(&format!(r#"{{ "ci": "{OLD}", "dev": "another-token-0123456789" }}"#));
    let rotate =
        |_| command(&path, &["rotate", "ci"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
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
fn a_file_that_may_not_grow_stays_as_it_is() {
    let files = Files::new();
    let path =
        files.config(&format!(r#"{{ "ci": "{OLD}", "dev": "{}" }}"#, "a-long-token-0123456789-".repeat(100)));
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
