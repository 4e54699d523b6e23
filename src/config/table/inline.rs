//! `mcpServers.NAME.inline`.

use std::time::Duration;

use crate::config::{
    key::{Given, HERE, Here, Json, MILLISECOND, Map, NONE, duration, key, keys, list, or, required, secs},
    reader::Text,
    servers::check_program,
};

keys! {
    /// Tools that run a command for each call, never through a shell.
    pub(crate) struct InlineKeys {
        /// What the tools are for, as a whole; clients show it to the model.
        pub(crate) description: Option<String> = key("description", NONE),
        /// The tools, each of a name of its own.
        pub(crate) tools: Given<Vec<ToolKeys>> =
            key("tools", required(r#"add them, as in { "tools": [{ "name": "…", "command": "…" }] }"#))
                .examples(&[r#"[{ "name": "uptime", "command": "uptime" }]"#]),
    }
}

keys! {
    /// One tool and its command.
    pub(crate) struct ToolKeys {
        pub(crate) here: Here = HERE,
        /// What clients call it: 1 to 128 letters, digits, `_`, `-`, `.` or `/`.
        pub(crate) name: Given<Text> = key("name", required("add what clients call it"))
            .pattern("^[A-Za-z0-9_./-]{1,128}$")
            .examples(&[r#""history""#]),
        /// What it does, for the model that chooses it.
        pub(crate) description: Option<String> = key("description", NONE),
        /// JSON Schema of its arguments, of the type `object`: draft 2020-12, unless its `$schema` names an older one. It
        /// may refer only to itself.
        pub(crate) input_schema: Given<Json> = key("inputSchema", or("there are no arguments"))
            .examples(&[r#"{ "type": "object", "properties": { "path": { "type": "string" } } }"#]),
        /// Program to run.
        pub(crate) command: Given<Text> = key("command", required("add the program to run"))
            .examples(&[r#""git""#])
            .check(check_program),
        /// Its arguments. `{{name}}` is replaced by what the caller gives for that property; an argument for which nothing is
        /// given is left out.
        pub(crate) args: Vec<Text> = list("args", &[])
            .examples(&[r#"["log", "--max-count={{limit}}", "--", "{{path}}"]"#]),
        /// Its environment, besides the variables that every command inherits (`PATH`, `HOME` and others that hold no
        /// secret).
        pub(crate) env: Map<Text> = key("env", ()),
        /// After this the command is killed, and the call fails.
        // What people wait for an answer.
        pub(crate) timeout: Duration = duration("timeout", MILLISECOND, secs(30)),
    }
}
