use super::*;

const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;

fn head(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    fields
        .iter()
        .map(|(name, value)| (HeaderName::try_from(*name).unwrap(), HeaderValue::from_static(value)))
        .fold(HeaderMap::new(), |mut map, (name, value)| {
            map.append(name, value);
            map
        })
}

fn request(method: &str, params: &str) -> Message {
    let comma = if params.is_empty() { "" } else { "," };
    let params = format!("{{{params}{comma}{META}}}");
    Message::request(&Id::number(7), method, &params).unwrap()
}

fn parse(text: &str) -> Message {
    Message::parse(text.to_owned().into()).unwrap()
}

fn code(outcome: Result<Vec<(HeaderName, HeaderValue)>, ModernRejection>) -> Option<i64> {
    outcome.err().map(|failure| failure.code)
}

const V: (&str, &str) = ("mcp-protocol-version", "2026-07-28");

#[test]
fn what_the_head_repeats_has_to_be_there_once_and_to_agree() {
    let list = || request("tools/list", "");
    let call = || request("tools/call", r#""name":"greet","arguments":{}"#);
    let method = ("mcp-method", "tools/call");
    for (fields, message, wanted) in [
        (&[V, ("Mcp-Method", "tools/list")][..], list(), None),
        (&[V, ("MCP-METHOD", "\ttools/list ")], list(), None),
        (&[V], list(), Some(HEADER_MISMATCH)),
        (&[V, ("mcp-method", "prompts/list")], list(), Some(HEADER_MISMATCH)),
        (&[V, ("mcp-method", "TOOLS/LIST")], list(), Some(HEADER_MISMATCH)),
        (&[V, ("mcp-method", "tools/list"), ("mcp-method", "tools/list")], list(), Some(HEADER_MISMATCH)),
        (&[("mcp-method", "tools/list")], list(), Some(HEADER_MISMATCH)),
        (&[V, V, ("mcp-method", "tools/list")], list(), Some(HEADER_MISMATCH)),
        (
            &[("mcp-protocol-version", "2025-11-25"), ("mcp-method", "tools/list")],
            list(),
            Some(HEADER_MISMATCH),
        ),
        // Nothing that has a name.
        (&[V, ("mcp-method", "tools/list"), ("mcp-name", "x")], list(), None),
        (&[V, method, ("mcp-name", "greet")], call(), None),
        (&[V, method, ("mcp-name", "  greet  ")], call(), None),
        (&[V, method, ("mcp-name", "=?base64?Z3JlZXQ=?=")], call(), None),
        (&[V, method], call(), Some(HEADER_MISMATCH)),
        (&[V, method, ("mcp-name", "Greet")], call(), Some(HEADER_MISMATCH)),
        (&[V, method, ("mcp-name", "=?base64?Z3JlZXQ?=")], call(), Some(HEADER_MISMATCH)),
        (&[V, method, ("mcp-name", "greet"), ("mcp-name", "greet")], call(), Some(HEADER_MISMATCH)),
        // That it has no name is for the server to say, but then the head has none either.
        (&[V, method], request("tools/call", ""), None),
        (&[V, method, ("mcp-name", "greet")], request("tools/call", ""), Some(HEADER_MISMATCH)),
        (
            &[V, ("mcp-method", "resources/read"), ("mcp-name", "file:///a")],
            request("resources/read", r#""uri":"file:///a""#),
            None,
        ),
        (
            &[V, ("mcp-method", "prompts/get"), ("mcp-name", "=?base64?Z3LDvG4=?=")],
            request("prompts/get", r#""name":"grün""#),
            None,
        ),
        (
            &[V, ("mcp-method", "tasks/cancel"), ("mcp-name", "t1")],
            request("tasks/cancel", r#""taskId":"t2""#),
            Some(HEADER_MISMATCH),
        ),
    ] {
        assert_eq!(code(check(&head(fields), &message, None)), wanted, "{fields:?} {message:?}");
    }
}

#[test]
fn a_body_that_is_not_of_this_version_is_told_so_first() {
    let meta = |meta: &str| {
        parse(&format!(r#"{{"id":101,"method":"server/discover","params":{{"_meta":{{{meta}}}}}}}"#))
    };
    let version = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28""#;
    let capabilities = r#""io.modelcontextprotocol/clientCapabilities":{}"#;
    for message in [
        parse(r#"{"id":101,"method":"server/discover"}"#),
        parse(r#"{"id":101,"method":"server/discover","params":{"_meta":null}}"#),
        meta(""),
        meta(version),
        meta(capabilities),
        meta(&format!(r#""io.modelcontextprotocol/protocolVersion":1,{capabilities}"#)),
    ] {
        let failure = check(&head(&[V]), &message, None).unwrap_err();
        assert_eq!(failure.code, INVALID_PARAMS, "{message:?}");
        let body = Message::parse(failure.body()).unwrap();
        assert_eq!((body.id(), body.error_code()), (Some(&Id::number(101)), Some(INVALID_PARAMS)));
    }
    // Who the client is, it may keep to itself.
    let message = meta(&format!("{version},{capabilities}"));
    assert_eq!(code(check(&head(&[V, ("mcp-method", "server/discover")]), &message, None)), None);
}

#[test]
fn a_notification_needs_no_meta_but_what_it_says_has_to_agree() {
    let bare = Message::notification("notifications/cancelled", r#"{"requestId":1}"#).unwrap();
    let fields = [V, ("mcp-method", "notifications/cancelled")];
    assert_eq!(code(check(&head(&fields), &bare, None)), None);
    let failure = check(&head(&[V]), &bare, None).unwrap_err();
    assert_eq!(
        failure.body(),
        r#"{"jsonrpc":"2.0","error":{"code":-32020,"message":"the header Mcp-Method is missing"}}"#
    );
    let other = Message::notification(
        "notifications/cancelled",
        r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":"2027-01-01"}}"#,
    );
    assert_eq!(code(check(&head(&fields), &other.unwrap(), None)), Some(HEADER_MISMATCH));
    let unreadable = Message::notification(
        "notifications/cancelled",
        r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":20260728}}"#,
    );
    let unreadable = unreadable.unwrap();
    assert!(crate::mcp::era::is_modern(&HeaderMap::new(), Some(&unreadable)));
    assert_eq!(code(check(&head(&fields), &unreadable, None)), Some(INVALID_PARAMS));
    let response = parse(r#"{"id":1,"result":{}}"#);
    assert_eq!(code(check(&head(&fields), &response, None)), Some(INVALID_REQUEST));
}

#[test]
fn arguments_that_a_tool_wants_repeated_have_to_agree_with_their_fields() {
    let tools = ToolHeaders::read(
        r#"{"tools":[{"name":"t","inputSchema":{"type":"object","properties":{
            "region":{"type":"string","x-mcp-header":"Region"},
            "limits":{"type":"object","properties":{"rows":{"type":"integer","x-mcp-header":"Rows"}}},
            "dry":{"type":"boolean","x-mcp-header":"Dry"},
            "query":{"type":"string"}}}}]}"#,
    );
    for (arguments, fields, is_right) in [
        (r#"{"region":"us-west1"}"#, &[("mcp-param-region", "us-west1")][..], true),
        (r#"{"region":"us-west1"}"#, &[("Mcp-Param-Region", " us-west1 ")], true),
        (r#"{"region":"us-west1"}"#, &[("mcp-param-region", "us-east1")], false),
        (r#"{"region":"us-west1"}"#, &[], false),
        (r#"{"region":"a"}"#, &[("mcp-param-region", "a"), ("mcp-param-region", "a")], false),
        (r#"{"region":"Hello"}"#, &[("mcp-param-region", "=?base64?SGVsbG8=?=")], true),
        (r#"{"region":"Hello"}"#, &[("mcp-param-region", "=?base64?SGVsbG8?=")], false),
        (r#"{"region":"Hello"}"#, &[("mcp-param-region", "=?base64?SGVs!!!bG8=?=")], false),
        (r#"{"region":"SGVsbG8="}"#, &[("mcp-param-region", "SGVsbG8=")], true),
        (r#"{"region":"=?base64?SGVsbG8="}"#, &[("mcp-param-region", "=?base64?SGVsbG8=")], true),
        (r#"{"region":"\u0061"}"#, &[("mcp-param-region", "a")], true),
        (r#"{"region":""}"#, &[("mcp-param-region", "")], true),
        (r#"{"region":null}"#, &[], true),
        (r#"{"region":null}"#, &[("mcp-param-region", "null")], false),
        ("{}", &[], true),
        ("{}", &[("mcp-param-region", "us-west1")], false),
        (r#"{"region":"a","region":"b"}"#, &[("mcp-param-region", "b")], false),
        (r#"{"region":"a","region":"b"}"#, &[("mcp-param-region", "a")], false),
        // Which of them a server takes, who knows.
        (r#"{"region":"a","Region":"b"}"#, &[("mcp-param-region", "a")], false),
        (r#"{"Region":"a"}"#, &[], false),
        (r#"{"region\u0000":"a"}"#, &[], false),
        (r#"{"region":"a","\ud800":1}"#, &[("mcp-param-region", "a")], false),
        (r#"{"region":"a\ud800"}"#, &[], false),
        (r#"["us-west1"]"#, &[], false),
        ("null", &[], true),
        (r#"{"query":"a","query":"b"}"#, &[], true),
        (r#"{"limits":{"rows":42}}"#, &[("mcp-param-rows", "42")], true),
        (r#"{"limits":{"rows":42}}"#, &[("mcp-param-rows", "42.0")], true),
        (r#"{"limits":{"rows":42.0}}"#, &[("mcp-param-rows", "42")], true),
        (r#"{"limits":{"rows":-7}}"#, &[("mcp-param-rows", "-7")], true),
        (r#"{"limits":{"rows":42}}"#, &[("mcp-param-rows", "42.5")], false),
        (r#"{"limits":{"rows":42}}"#, &[("mcp-param-rows", "+42")], false),
        (r#"{"limits":{"rows":42}}"#, &[("mcp-param-rows", "4.2e1")], false),
        (r#"{"limits":{"rows":9007199254740993}}"#, &[("mcp-param-rows", "9007199254740992")], false),
        (r#"{"limits":{"rows":42}}"#, &[], false),
        (r#"{"limits":[]}"#, &[], false),
        (r#"{"limits":[42]}"#, &[], false),
        (r#"{"limits":null}"#, &[], true),
        (r#"{"dry":false}"#, &[("mcp-param-dry", "false")], true),
        (r#"{"dry":false}"#, &[("mcp-param-dry", "False")], false),
        (r#"{"dry":{}}"#, &[], true),
        (r#"{"dry":{}}"#, &[("mcp-param-dry", "{}")], false),
        // Not of this tool: passed on, and no one's concern.
        ("{}", &[("mcp-param-query", "x")], true),
    ] {
        let message = request("tools/call", &format!(r#""name":"t","arguments":{arguments}"#));
        let fields = [&[V, ("mcp-method", "tools/call"), ("mcp-name", "t")], fields].concat();
        let outcome = check(&head(&fields), &message, Some(&tools));
        assert_eq!(code(outcome.clone()), (!is_right).then_some(HEADER_MISMATCH), "{arguments} {fields:?}");
        assert_eq!(code(check(&head(&fields), &message, None)), None, "nothing is known of the tools");
        if is_right {
            assert_eq!(outcome.unwrap().len(), fields.len() - 3, "all Mcp-Param-* fields pass on");
        }
    }
}

#[test]
fn a_tool_with_annotations_that_break_the_rules_is_left_out_and_no_other() {
    for (schema, is_right) in [
        (r#"{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}"#, true),
        (r#"{"properties":{"a":{"properties":{"b":{"type":"integer","x-mcp-header":"A"}}}}}"#, true),
        (r#"{"properties":{"a":{"type":"string","x-mcp-header":"A","default":{"x-mcp-header":"B"}}}}"#, true),
        (r#"{"properties":{"x-mcp-header":{"type":"string","x-mcp-header":"A"}}}"#, true),
        (r#"{"properties":{"a":{"type":"string","x-mcp-header":""}}}"#, false),
        (r#"{"properties":{"a":{"type":"string","x-mcp-header":7}}}"#, false),
        (r#"{"properties":{"a":{"type":"object","x-mcp-header":"A"}}}"#, false),
        (r#"{"properties":{"a":{"type":"array","items":{"type":"string"},"x-mcp-header":"A"}}}"#, false),
        (r#"{"properties":{"a":{"type":"null","x-mcp-header":"A"}}}"#, false),
        (r#"{"properties":{"a":{"type":"number","x-mcp-header":"A"}}}"#, false),
        (r#"{"properties":{"a":{"type":["string","null"],"x-mcp-header":"A"}}}"#, false),
        (r#"{"properties":{"a":{"x-mcp-header":"A"}}}"#, false),
        (
            r#"{"properties":{"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"string","x-mcp-header":"a"}}}"#,
            false,
        ),
        (r#"{"properties":{"a":{"type":"string","x-mcp-header":"My Region"}}}"#, false),
        (r#"{"properties":{"a":{"type":"string","x-mcp-header":"Region:Primary"}}}"#, false),
        (r#"{"properties":{"a":{"type":"string","x-mcp-header":"Région"}}}"#, false),
        (r#"{"properties":{"a":{"type":"string","x-mcp-header":"Region\t1"}}}"#, false),
        (r#"{"properties":{"a":{"type":"string","x-mcp-header":"Region\r\nX: y"}}}"#, false),
        (r#"{"type":"string","x-mcp-header":"A"}"#, false),
        (r#"{"properties":{"l":{"type":"array","items":{"type":"string","x-mcp-header":"A"}}}}"#, false),
        (r#"{"anyOf":[{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}]}"#, false),
        (r#"{"$defs":{"d":{"type":"string","x-mcp-header":"A"}}}"#, false),
        (r#"{"if":{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}}"#, false),
    ] {
        let other =
            r#"{"name":"other","inputSchema":{"properties":{"o":{"type":"string","x-mcp-header":"O"}}}}"#;
        let tools = ToolHeaders::read(&format!(
            r#"{{"tools":[{{"name":"t","inputSchema":{schema}}},{other},{{"inputSchema":7}},null]}}"#
        ));
        let refuses =
            |tool: &str, arguments: &str| tools.compare(tool, &HeaderMap::new(), Some(arguments)).is_err();
        let arguments = r#"{"a":"v","x-mcp-header":"v"}"#;
        let nested = r#"{"a":{"b":1}}"#;
        assert_eq!(refuses("t", arguments) || refuses("t", nested), is_right, "{schema}");
        assert!(refuses("other", r#"{"o":"v"}"#), "{schema}");
    }
    assert!(ToolHeaders::read("no JSON").compare("t", &HeaderMap::new(), None).is_ok());
}

#[test]
fn pages_of_the_list_add_up() {
    let page = |tool: &str| {
        ToolHeaders::read(&format!(
            r#"{{"tools":[{{"name":"{tool}","inputSchema":{{"properties":{{"a":{{"type":"string","x-mcp-header":"A"}}}}}}}}]}}"#
        ))
    };
    let mut tools = page("one");
    tools.extend(page("two"));
    for tool in ["one", "two"] {
        assert!(tools.compare(tool, &HeaderMap::new(), Some(r#"{"a":"v"}"#)).is_err(), "{tool}");
    }
}

#[test]
fn responses_get_the_status_that_a_server_of_this_version_gives_them() {
    for (response, status) in [
        (r#"{"id":1,"result":{}}"#, 200),
        (r#"{"id":1,"error":{"code":-32020,"message":""}}"#, 400),
        (r#"{"id":1,"error":{"code":-32021,"message":""}}"#, 400),
        (r#"{"id":1,"error":{"code":-32022,"message":""}}"#, 400),
        (r#"{"id":1,"error":{"code":-32601,"message":""}}"#, 404),
        (r#"{"id":1,"error":{"code":-32602,"message":""}}"#, 200),
        (r#"{"id":1,"error":{"code":-32603,"message":""}}"#, 200),
        (r#"{"id":1,"error":{"code":502,"message":""}}"#, 200),
    ] {
        assert_eq!(super::status(&parse(response)), status, "{response}");
    }
}
