//! What the demo server can do: answer, tell the time, and stream.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{
    modern,
    response::event,
    rpc::{self, Failure},
};
use crate::mcp::codes::INVALID_PARAMS;

const MAX_EVENTS: u64 = 10_000;
const MAX_INTERVAL_MS: u64 = 60_000;
const DEFAULT_INTERVAL_MS: u64 = 1_000;

/// What a method comes to.
pub(super) enum Outcome {
    Result(Value),
    Countdown(Timing),
}

/// How many events, how far apart.
pub(super) struct Timing {
    events: u64,
    interval: Duration,
}

/// A call of `countdown`, to be streamed.
pub(super) struct Countdown {
    id: Value,
    timing: Timing,
    progress_token: Option<Value>,
    may_log: bool,
    result: Value,
}

pub(super) fn list() -> Value {
    let schema = |properties: Value, required: &[&str]| json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false });
    json!({ "tools": [
        {
            "name": "echo",
            "description": "Says back what it is told.",
            "inputSchema": schema(json!({ "text": { "type": "string" } }), &["text"]),
        },
        { "name": "clock", "description": "Tells the time, in UTC.", "inputSchema": schema(json!({}), &[]) },
        {
            "name": "countdown",
            "description": "Counts down to 1, one event at a time, then answers.",
            "inputSchema": schema(json!({
                "n": { "type": "integer", "minimum": 1, "maximum": MAX_EVENTS },
                "interval_ms": {
                    "type": "integer", "minimum": 0, "maximum": MAX_INTERVAL_MS, "default": DEFAULT_INTERVAL_MS,
                },
            }), &["n"]),
        },
    ]})
}

/// Arguments that do not fit are a result that says so, for the model to mend; an unknown tool is an error.
pub(super) fn call(params: &Value) -> Result<Outcome, Failure> {
    let arguments = &params["arguments"];
    Ok(match params["name"].as_str() {
        Some("echo") => Outcome::Result(match arguments["text"].as_str() {
            Some(said) => text(said),
            None => mistake("text must be a string"),
        }),
        Some("clock") => {
            Outcome::Result(text(&humantime::format_rfc3339_seconds(SystemTime::now()).to_string()))
        }
        Some("countdown") => match timing(arguments) {
            Ok(timing) => Outcome::Countdown(timing),
            Err(reason) => Outcome::Result(mistake(reason)),
        },
        _ => return Err(Failure::new(INVALID_PARAMS, "unknown tool")),
    })
}

fn timing(arguments: &Value) -> Result<Timing, &'static str> {
    // 5.0 is an integer, as JSON Schema sees it.
    let whole = |value: &Value| {
        let float = || value.as_f64().filter(|float| float.fract() == 0.0 && (0.0..=1e9).contains(float));
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is whole and in bounds"
        )]
        value.as_u64().or_else(|| float().map(|float| float as u64))
    };
    let events = whole(&arguments["n"]).filter(|n| (1..=MAX_EVENTS).contains(n));
    let interval = match arguments.get("interval_ms") {
        Some(interval) => whole(interval).filter(|ms| *ms <= MAX_INTERVAL_MS),
        None => Some(DEFAULT_INTERVAL_MS),
    };
    Ok(Timing {
        events: events.ok_or("n must be an integer from 1 to 10000")?,
        interval: Duration::from_millis(interval.ok_or("interval_ms must be an integer from 0 to 60000")?),
    })
}

fn text(text: &str) -> Value {
    json!({ "content": [{ "type": "text", "text": text }] })
}

fn mistake(reason: &str) -> Value {
    json!({ "content": [{ "type": "text", "text": reason }], "isError": true })
}

impl Countdown {
    /// Before 2026-07-28 a server that declares `logging` may send log messages unasked.
    pub(super) fn legacy(id: Value, timing: Timing, params: &Value) -> Self {
        Self { id, timing, progress_token: progress_token(params), may_log: true, result: text("liftoff") }
    }

    /// Since then only at a level that the request names; the ones sent here are of level `info`.
    pub(super) fn modern(id: Value, timing: Timing, params: &Value, log_level: Option<&Value>) -> Self {
        let may_log = matches!(log_level.and_then(Value::as_str), Some("debug" | "info"));
        let result = modern::complete(text("liftoff"));
        Self { id, timing, progress_token: progress_token(params), may_log, result }
    }

    /// Sends an event, waits an interval, and so on, then the result; stops at once when the client is gone.
    pub(super) async fn run(self, to: &mpsc::Sender<Bytes>) {
        for left in (1..=self.timing.events).rev() {
            if to.send(self.tick(left)).await.is_err() {
                return;
            }
            // Timers have a resolution of 1 ms; without an interval the events come as fast as they are read.
            if !self.timing.interval.is_zero() {
                tokio::select! {
                    () = tokio::time::sleep(self.timing.interval) => {}
                    () = to.closed() => return,
                }
            }
        }
        // A client that left just now misses nothing that it wants.
        let _ = to.send(event(&rpc::result(&self.id, &self.result))).await;
    }

    /// Progress if the request has a token for it, else a log message if it may be, else a comment to watch.
    fn tick(&self, left: u64) -> Bytes {
        let total = self.timing.events;
        if let Some(token) = &self.progress_token {
            event(&json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": {
                "progressToken": token, "progress": total - left + 1, "total": total, "message": left.to_string(),
            }}))
        } else if self.may_log {
            event(&json!({ "jsonrpc": "2.0", "method": "notifications/message", "params": {
                "level": "info", "logger": "countdown", "data": left.to_string(),
            }}))
        } else {
            format!(": {left}\n\n").into()
        }
    }
}

fn progress_token(params: &Value) -> Option<Value> {
    params.get("_meta")?.get("progressToken").cloned()
}
