//! What a command's end says to the caller: a result of `tools/call`.

use std::{borrow::Cow, io, os::unix::process::ExitStatusExt, process::ExitStatus};

use serde_json::{Value, json};

use crate::{
    child::once::{Captured, Finished},
    config::InlineTool,
};

/// Bytes of standard output that a caller gets at most.
pub(super) const MOST_OUTPUT: usize = 1 << 20;

/// A call that failed for a reason that its caller can do something about.
pub(super) fn mistake(reason: &str) -> Value {
    json!({ "content": [text(reason)], "isError": true })
}

/// The result of a command that was run, or of the attempt.
pub(super) fn of(tool: &InlineTool, outcome: io::Result<Finished>) -> Value {
    let Finished { stdout, stderr, status } = match outcome {
        Ok(finished) => finished,
        // The kind only: the error itself may name the program, which is the operator's business.
        Err(error) => return mistake(&format!("The tool could not be started: {}.", error.kind())),
    };
    let is_good = status.is_some_and(|status| status.success());
    let mut content = Vec::new();
    if is_good || !stdout.bytes.is_empty() {
        content.push(text(&read(&stdout)));
    }
    if stdout.is_cut {
        content.push(text(&format!("[cut: the output is longer than {} KiB]", MOST_OUTPUT / 1024)));
    }
    if is_good {
        return json!({ "content": content });
    }
    content.push(text(&match status {
        Some(status) => ended(status),
        None => {
            let limit = humantime::format_duration(tool.timeout);
            format!("The command did not end within {limit} and was killed.")
        }
    }));
    if !stderr.bytes.is_empty() {
        content.push(text(&read(&stderr)));
    }
    json!({ "content": content, "isError": true })
}

fn ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("The command ended with exit code {code}."),
        (None, Some(signal)) => format!("The command was ended by signal {signal}."),
        (None, None) => "The command ended in an unknown way.".into(),
    }
}

fn text(text: &str) -> Value {
    json!({ "type": "text", "text": text })
}

/// What is not UTF-8 is replaced: a result is JSON.
fn read(captured: &Captured) -> Cow<'_, str> {
    String::from_utf8_lossy(&captured.bytes)
}
