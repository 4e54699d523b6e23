//! Servers behind a URL or a command, and their tool filters.

use super::*;

#[test]
fn the_transport_follows_from_the_url_unless_it_is_named() {
    let transport = |server: &str| match with_server(server).target {
        Target::Http(http) => http.transport,
        other => panic!("{other:?}"),
    };
    for (server, expected) in [
        (r#""url": "http://h/mcp""#, McpTransport::StreamableHttp),
        (r#""url": "http://h/sse""#, McpTransport::Sse),
        (r#""url": "http://h/v1/sse/?key=1""#, McpTransport::Sse),
        (r#""url": "http://h/assess""#, McpTransport::StreamableHttp),
        (r#""url": "http://h/sse", "transportType": "streamable-http""#, McpTransport::StreamableHttp),
        (r#""url": "http://h/sse", "type": "http""#, McpTransport::StreamableHttp),
        (r#""url": "http://h/mcp", "transportType": "sse""#, McpTransport::Sse),
    ] {
        assert_eq!(transport(server), expected, "{server}");
    }
}

#[test]
fn headers_for_the_upstream_are_resolved_and_marked_as_secret() {
    let server =
        with_server(r#""url": "http://h", "timeout": 1.5, "headers": {"Authorization": "Bearer ${KEY}"}"#);
    assert_eq!(server.timeout, Some(Duration::from_millis(1500)));
    let Target::Http(http) = server.target else { panic!("{server:?}") };
    let (name, value) = &http.headers[0];
    assert_eq!((name.as_str(), value.to_str().ok()), ("authorization", Some("Bearer k1")));
    assert!(value.is_sensitive());
}

#[test]
fn a_command_gets_its_arguments_and_environment() {
    let server =
        with_server(r#""command": "node", "args": ["a.js", "${KEY}"], "env": {"K": "$env:KEY"}, "cwd": ".""#);
    let Target::Stdio(stdio) = server.target else { panic!("{server:?}") };
    assert_eq!(stdio.command, "node");
    assert_eq!(stdio.args.iter().map(|arg| arg.expose()).collect::<Vec<_>>(), ["a.js", "k1"]);
    assert_eq!(stdio.env[0].1.expose(), "k1");
    assert!(stdio.inherit_env.contains(&"PATH".to_owned()));
    assert!(
        stdio.cwd.is_some_and(|cwd| cwd.is_absolute()),
        "relative to the config, not to where the gateway was started"
    );
}

#[test]
fn a_disabled_server_is_read_and_marked() {
    assert!(with_server(r#""url": "http://h", "disabled": true"#).disabled);
    assert!(!with_server(r#""url": "http://h", "disabled": false"#).disabled);
}

#[test]
fn a_query_passes_unless_the_url_has_one_and_the_config_can_say_otherwise() {
    let passes = |server: &str| match with_server(server).target {
        Target::Http(target) => (target.pass_query, target.cookies),
        other => panic!("{other:?}"),
    };
    assert_eq!(passes(r#""url": "http://h/mcp""#), (true, false));
    assert_eq!(passes(r#""url": "http://h/mcp?a=1""#), (false, false));
    assert_eq!(passes(r#""url": "http://h/mcp?""#), (false, false));
    assert_eq!(passes(r#""url": "http://h/mcp?a=1", "passQuery": true, "cookies": true"#), (true, true));
    assert_eq!(passes(r#""url": "http://h/mcp", "passQuery": false"#), (false, false));
    for (said, wanted) in [
        ("", None),
        (r#", "passLastEventId": true"#, Some(true)),
        (r#", "passLastEventId": false"#, Some(false)),
    ] {
        let Target::Http(target) = with_server(&format!(r#""url": "http://h/mcp"{said}"#)).target else {
            panic!()
        };
        assert_eq!(target.pass_last_event_id, wanted, "{said}");
    }
    let said = said(
        &Place::new().load(r#"{"mcpServers": {"it": {"command": "x", "passQuery": true, "cookies": true}}}"#),
    );
    assert!(
        said.contains("passQuery: has no effect") || said.contains("passQuery: notice: has no effect"),
        "{said}"
    );
}

#[test]
fn a_header_that_the_gateway_sets_cannot_be_set_in_another_spelling() {
    for name in ["Host", "Content_Length", "mcp_session_id", "Mcp.Name", "last_event-id"] {
        let server =
            format!(r#"{{"mcpServers": {{"it": {{"url": "http://h", "headers": {{"{name}": "x"}}}}}}}}"#);
        let loaded = Place::new().load(&server);
        assert!(said(&loaded).contains("is set by the gateway"), "{name}: {}", said(&loaded));
    }
}

#[test]
fn a_tool_filter_allows_or_blocks_the_tools_on_its_list() {
    let filter = |filter: &str| format!(r#""url": "http://h", "options": {{"toolFilter": {filter}}}"#);
    let allow = with_server(&filter(r#"{"mode": "allow", "list": ["read", "find"]}"#)).tool_filter;
    let allow = allow.expect("a filter");
    assert!(allow.passes("read") && !allow.passes("drop") && !allow.passes("Read"));
    let block = with_server(&filter(r#"{"mode": "block", "list": ["drop"]}"#)).tool_filter;
    let block = block.expect("a filter");
    assert!(block.passes("read") && !block.passes("drop"));
    assert!(with_server(r#""url": "http://h", "options": {}"#).tool_filter.is_none());

    for (bad, place, message) in [
        (r#"{"list": []}"#, "toolFilter", "needs a `mode`"),
        (r#"{"mode": "allow"}"#, "toolFilter", "a `list` of names"),
        (r#"{"mode": "deny", "list": []}"#, "toolFilter.mode", "\"deny\" is no mode"),
        (r#"{"mode": "allow", "list": "read"}"#, "toolFilter.list", "must be a list"),
        (r#"{"mode": "allow", "list": [""]}"#, "toolFilter.list[0]", "is no name of a tool"),
        (r#"{"mode": "allow", "lst": []}"#, "toolFilter.lst", "did you mean `list`?"),
    ] {
        let loaded = Place::new().load(&format!(r#"{{"mcpServers": {{"it": {{{}}}}}}}"#, filter(bad)));
        assert!(loaded.snapshot.is_none(), "{bad}");
        let problem = &loaded.problems[0];
        assert!(problem.key_path.ends_with(place), "{bad}: {problem:?}");
        assert!(problem.message.contains(message), "{bad}: {problem:?}");
    }
    let open = Place::new()
        .load(&format!(r#"{{"mcpServers": {{"it": {{{}}}}}}}"#, filter(r#"{"mode": "allow", "list": []}"#)));
    assert!(said(&open).contains("hides every tool"), "{}", said(&open));
}
