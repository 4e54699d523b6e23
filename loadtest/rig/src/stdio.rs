//! An MCP server on stdin and stdout, as small and fast as can be: what is measured is what is before it.

use std::io::{self, BufRead as _, Write as _};

use serde_json::{Value, json};

/// Answers until its input ends.
pub fn run() -> io::Result<()> {
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if let Some(answer) = answer(&serde_json::from_slice(&line)?) {
            writeln!(output, "{answer}")?;
            output.flush()?;
        }
    }
}

/// The answer to a request; nothing is said to anything else.
fn answer(message: &Value) -> Option<Value> {
    let (id, params) = (message.get("id")?, &message["params"]);
    let result = match message["method"].as_str()? {
        "initialize" => json!({
            "protocolVersion": params["protocolVersion"],
            "capabilities": { "tools": {} },
            "serverInfo": { "name": "rig", "version": "1.0.0" },
        }),
        "tools/list" => json!({ "tools": [{
            "name": "echo",
            "description": "Returns its text",
            "inputSchema": { "type": "object", "properties": { "text": { "type": "string" } } },
        }] }),
        "tools/call" => json!({ "content": [{ "type": "text", "text": params["arguments"]["text"] }] }),
        "ping" => json!({}),
        _ => {
            let error = json!({ "code": -32601, "message": "Method not found" });
            return Some(json!({ "jsonrpc": "2.0", "id": id, "error": error }));
        }
    };
    Some(json!({ "jsonrpc": "2.0", "id": id, "result": result }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_answered_and_notifications_are_not() {
        let call = json!({ "id": "a", "method": "tools/call", "params": { "arguments": { "text": "hi" } } });
        let answered = answer(&call).unwrap();
        assert_eq!(answered["id"], "a");
        assert_eq!(answered["result"]["content"][0]["text"], "hi");
        assert_eq!(answer(&json!({ "id": 1, "method": "nope" })).unwrap()["error"]["code"], -32601);
        assert!(answer(&json!({ "method": "notifications/initialized" })).is_none());
    }
}
