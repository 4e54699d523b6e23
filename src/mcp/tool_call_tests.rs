use super::*;

fn guard(method: &str, name: &str) -> CallGuard<impl Fn(&str) -> bool> {
    let field = |value: &str| HeaderValue::from_bytes(value.as_bytes()).unwrap();
    let declared = |value: &str| Declared::read((!value.is_empty()).then(|| field(value)).as_ref());
    CallGuard::new(|tool: &str| tool != "drop", declared(method), declared(name))
}

fn verdict(text: &str) -> Result<Verdict, Malformed> {
    let mut guard = guard("", "");
    guard.push(text.as_bytes())?;
    guard.finish()
}

#[test]
fn only_calls_of_hidden_tools_are_refused() {
    const HIDDEN: Result<Verdict, Malformed> = Ok(Verdict::Refused(Refusal::Hidden));
    const PASSES: Result<Verdict, Malformed> = Ok(Verdict::Passes);
    for (text, wanted) in [
        (r#"{"id":1,"method":"tools/call","params":{"name":"drop"}}"#, HIDDEN),
        (r#"{"params":{"name":"dr\u006fp"},"method":"tools\/call"}"#, HIDDEN),
        (r#"{"id":1,"method":"tools/call","params":{"name":"read","arguments":{"name":"drop"}}}"#, PASSES),
        (r#"{"id":1,"method":"prompts/get","params":{"name":"drop"}}"#, PASSES),
        (r#"{"id":1,"method":"tools/list"}"#, PASSES),
        (r#"{"id":1,"method":"tools/call","params":{"name":"Drop"}}"#, PASSES),
        (r#"{"id":1,"result":{"method":"tools/call"}}"#, PASSES),
        // A call has a name, and it is one.
        (r#"{"id":1,"method":"tools/call","params":{"name":5}}"#, Err(Malformed::Unreadable)),
        (r#"{"id":1,"method":"tools/call","params":["drop"]}"#, Err(Malformed::Unreadable)),
        (r#"{"id":1,"method":"tools/call"}"#, Err(Malformed::NotJsonRpc)),
        (r#"{"id":1,"method":"tools/call","params":{"name":"read"}"#, Err(Malformed::Json)),
    ] {
        assert_eq!(verdict(text), wanted, "{text}");
    }
}

#[test]
fn the_piece_that_decides_is_the_one_that_completes_the_name() {
    let mut guard = guard("", "");
    for piece in [r#"{"method":"tools/call","params":{"#, r#""arguments":{},"name":"#, r#""dro"#, "p"] {
        assert_eq!(guard.push(piece.as_bytes()), Ok(Verdict::Open), "{piece}");
    }
    assert_eq!(guard.push(b"\""), Ok(Verdict::Refused(Refusal::Hidden)));
    assert_eq!(guard.answer(Refusal::Hidden), None);
    assert_eq!(guard.push(br#"},"id":9}"#), Ok(Verdict::Refused(Refusal::Hidden)));
    assert_eq!(
        guard.answer(Refusal::Hidden).unwrap(),
        r#"{"jsonrpc":"2.0","id":9,"error":{"code":-32602,"message":"Unknown tool: drop"}}"#
    );
}

#[test]
fn a_second_name_is_refused_although_the_first_passed() {
    let mut guard = guard("", "");
    let first = br#"{"method":"tools/call","params":{"name":"read","arguments":{}"#;
    assert_eq!(guard.push(first), Ok(Verdict::Passes));
    assert_eq!(guard.push(br#","name":"drop"}}"#), Err(Malformed::Ambiguous));
}

#[test]
fn header_fields_must_say_what_the_body_says() {
    let call = r#"{"id":"a","method":"tools/call","params":{"name":"grün"}}"#;
    for (method, name, agrees) in [
        ("", "", true),
        ("tools/call", "=?base64?Z3LDvG4=?=", true),
        ("", "=?base64?Z3LDvG4=?=", true),
        ("tools/list", "", false),
        ("Tools/Call", "", false),
        ("tools/call", "read", false),
        ("tools/call", "=?base64?cmVhZA==?=", false),
        ("tools/call", "=?base64?!?=", false),
        ("tools/call", "grün", false),
    ] {
        let mut guard = guard(method, name);
        let verdict = guard.push(call.as_bytes()).unwrap();
        let wanted = if agrees { Verdict::Passes } else { Verdict::Refused(Refusal::Mismatch) };
        assert_eq!(verdict, wanted, "{method} {name}");
    }
    let value = HeaderValue::from_static("tools/call");
    assert_eq!(Declared::read([&value, &value]), Declared::Unreadable);

    for (method, name, text, agrees) in [
        ("", "t", r#"{"id":1,"method":"tools/list"}"#, false),
        ("tools/list", "t", r#"{"id":1,"method":"tools/list"}"#, false),
        ("", "=?base64?!?=", r#"{"id":1,"method":"ping"}"#, false),
        ("", "t", r#"{"id":1,"result":{}}"#, false),
        ("", "t", r#"{"id":1,"method":"tasks/get","params":{"taskId":"t"}}"#, true),
        ("resources/read", "t", r#"{"id":1,"method":"resources/read","params":{"uri":"t"}}"#, true),
        ("", "t", r#"{"id":1,"method":"prompts/get","params":{"name":"u"}}"#, false),
    ] {
        let mut guard = guard(method, name);
        let wanted = if agrees { Verdict::Passes } else { Verdict::Refused(Refusal::Mismatch) };
        assert_eq!(guard.push(text.as_bytes()), Ok(wanted), "{method} {name} {text}");
    }

    let mut response = guard("tools/call", "");
    assert_eq!(response.push(br#"{"id":1,"result":{}}"#), Ok(Verdict::Refused(Refusal::Mismatch)));
    assert!(
        response
            .answer(Refusal::Mismatch)
            .unwrap()
            .starts_with(r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32020,"#)
    );
}
