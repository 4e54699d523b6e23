//! Inline servers.

use super::*;

/// The tools of a server whose `inline.tools` are `tools`.
fn inline_tools(tools: &str) -> Vec<InlineTool> {
    let server = with_server(&format!(r#""inline": {{"tools": [{tools}]}}"#));
    match server.target {
        Target::Inline(inline) => inline.tools,
        other => panic!("{other:?}"),
    }
}

/// The arguments of the first tool, with what callers give in angle brackets.
fn templates(tools: &[InlineTool]) -> Vec<String> {
    let shown = |piece: &Piece| match piece {
        Piece::Text(text) => text.expose().to_owned(),
        Piece::Argument(name) => format!("<{name}>"),
    };
    tools[0].args.iter().map(|pieces| pieces.iter().map(shown).collect()).collect()
}

#[test]
fn inline_tools_have_their_commands_and_what_callers_may_give() {
    let server = with_server(
        r#""transportType": "inline", "inline": {"description": "Things", "tools": [
            {"name": "say", "description": "Says it", "inputSchema": {"type": "object", "properties": {"a": {"type": "string"}}},
             "command": "echo", "args": ["--", "{{a}}"], "env": {"K": {"$env": "KEY"}}, "timeout": "2s"},
            {"name": "plain", "command": "true"}
        ]}"#,
    );
    let Target::Inline(inline) = server.target else { panic!("{server:?}") };
    assert_eq!(inline.description.as_deref(), Some("Things"));
    let [say, plain] = inline.tools.as_slice() else { panic!("{inline:?}") };
    assert_eq!((&*say.name, say.description.as_deref(), &*say.command), ("say", Some("Says it"), "echo"));
    assert_eq!(say.env[0].1.expose(), "k1");
    assert_eq!(say.timeout, Duration::from_secs(2));
    assert_eq!(plain.timeout, Duration::from_secs(30));
    assert!(plain.input_schema.check(&serde_json::json!({})).is_ok());
    assert!(
        plain.input_schema.check(&serde_json::json!({ "a": 1 })).is_err(),
        "no arguments unless a schema says so"
    );
}

#[test]
fn braces_stand_for_properties_and_for_nothing_else() {
    let tools = inline_tools(
        r#"{"name": "t", "command": "c",
            "inputSchema": {"type": "object", "properties": {"a": {"type": "string"}, "n-1": {"type": "integer"}}},
            "args": ["--a={{a}}", "x{{ a }}y{{n-1}}", "{{n-1}}", "{{.Names}}", "{{json .}}", "{{", "{\"k\":{{n-1}}}", "", "$${KEY}", "${KEY}"]}"#,
    );
    let wanted = [
        "--a=<a>",
        "x<a>y<n-1>",
        "<n-1>",
        "{{.Names}}",
        "{{json .}}",
        "{{",
        "{\"k\":<n-1>}",
        "",
        "${KEY}",
        "k1",
    ];
    assert_eq!(templates(&tools), wanted);
}

#[test]
fn a_value_that_could_be_taken_for_an_option_is_warned_of() {
    let warned = |property: &str, args: &str| {
        let loaded = Place::new().load(&format!(
            r#"{{"mcpServers": {{"it": {{"public": true, "inline": {{"tools": [{{"name": "t", "command": "c",
                "inputSchema": {{"type": "object", "properties": {{"a": {property}}}}}, "args": {args}}}]}}}}}}}}"#
        ));
        let said = said(&loaded);
        good(loaded);
        said.contains("begins with - may set an option")
    };
    let text = r#"{"type": "string"}"#;
    assert!(warned(text, r#"["{{a}}"]"#));
    assert!(warned("{}", r#"["x", "{{a}}.txt"]"#));
    for (property, args) in [
        (text, r#"["--", "{{a}}"]"#),
        (text, r#"["--name={{a}}"]"#),
        (r#"{"type": "integer"}"#, r#"["{{a}}"]"#),
        (r#"{"type": "string", "pattern": "^[a-z]+$"}"#, r#"["{{a}}"]"#),
        (r#"{"enum": ["x", "y"]}"#, r#"["{{a}}"]"#),
    ] {
        assert!(!warned(property, args), "{property} {args}");
    }
}
