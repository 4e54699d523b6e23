use super::*;

fn shown(text: &str) -> Result<Cow<'_, str>, ListError> {
    without_hidden(text, &|tool: &str| tool != "drop")
}

#[test]
fn hidden_tools_leave_and_the_rest_keeps_its_bytes() {
    for (list, wanted) in [
        (
            r#"{ "jsonrpc": "2.0", "id": 1.0, "result" : {"ttlMs":5, "tools":[ {"name":"drop"} , {"x":1e2, "name" : "re\u0061d"} ],"nextCursor":"c"}}"#,
            r#"{ "jsonrpc": "2.0", "id": 1.0, "result" : {"ttlMs":5, "tools":[{"x":1e2, "name" : "re\u0061d"}],"nextCursor":"c"}}"#,
        ),
        (r#"{"result":{"tools":[{"name":"dr\u006fp"}]}}"#, r#"{"result":{"tools":[]}}"#),
        (r#"{"r\u0065sult":{"to\u006fls":[{"name":"drop"}]}}"#, r#"{"r\u0065sult":{"to\u006fls":[]}}"#),
        // A tool without a name that can be read is none to show.
        (
            r#"{"result":{"tools":[{},{"name":1},5,{"name":"drop","name":"a"},{"name":"a"}]}}"#,
            r#"{"result":{"tools":[{"name":"a"}]}}"#,
        ),
        (
            r#"[{"result":{"tools":[{"name":"drop"}]}},{"method":"x"},{"result":{"tools":[{"name":"drop"},{"name":"a"}]}}]"#,
            r#"[{"result":{"tools":[]}},{"method":"x"},{"result":{"tools":[{"name":"a"}]}}]"#,
        ),
    ] {
        assert_eq!(shown(list).unwrap(), wanted);
    }
    for untouched in [
        r#"{"result":{"tools":[ {"name":"a"} , {"name":"b"} ]}}"#,
        r#"{"result":{"content":[{"tools":[{"name":"drop"}]}]}}"#,
        r#"{"method":"x","params":{"tools":[{"name":"drop"}]}}"#,
        r#"{"result":{"tools":{"name":"drop"}}}"#,
        r#"{"result":null}"#,
        r#"{"id":1,"error":{"code":1,"message":""}}"#,
        "/message?session=1",
        "{ not json",
        "",
        "7",
    ] {
        assert!(matches!(shown(untouched), Ok(Cow::Borrowed(text)) if text == untouched), "{untouched}");
    }
    for ambiguous in
        [r#"{"result":{},"result":{"tools":[]}}"#, r#"{"result":{"tools":[],"tools":[{"name":"drop"}]}}"#]
    {
        assert_eq!(shown(ambiguous), Err(ListError::Unreadable), "{ambiguous}");
    }
}

#[test]
fn a_body_is_held_to_its_end_unless_it_proves_to_be_something_else() {
    let passes = |tool: &str| tool != "drop";
    let mut body = ListBody::new(passes);
    for piece in [r#"{"result":{"tools":[{"na"#, r#"me":"drop"}]}}"#] {
        assert!(body.push(piece.into()).unwrap().is_empty());
    }
    assert_eq!(body.finish().unwrap(), r#"{"result":{"tools":[]}}"#);

    let large = "x".repeat(MAX_HELD);
    let mut body = ListBody::new(passes);
    let content = format!(r#"{{"result":{{"content":"{large}"#);
    assert_eq!(body.push(content.clone().into()).unwrap(), content);
    assert_eq!(body.push("more".into()).unwrap(), "more");
    assert!(body.finish().unwrap().is_empty());

    let mut body = ListBody::new(passes);
    let list = format!(r#"{{"id":1,"result":{{"_meta":{{}},"tools":[{{"name":"{large}"#);
    assert_eq!(body.push(list.into()), Err(ListError::TooLong));
}
