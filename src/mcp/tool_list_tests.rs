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
            r#"{"result":{"tools":[{},{"name":1},5,{"name":"drop","name":"a"},{"name":"a","Name":"drop"},{"n\u0061me\u0000":"a"},{"name":null},{"name":{}},["a"],{"name":"a"}]}}"#,
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
        r#"{"result":{"tools":null},"x":{"Tools":[],"tools":1}}"#,
        r#"{"result":null}"#,
        r#"{"id":1,"error":{"code":1,"message":"","Result":{"tools":[]}}}"#,
        r#"[1,null,"x",{"method":"x"},{"result":{"content":[]}}]"#,
        "[]",
        // No JSON, and nothing that a client could take for a result.
        "/result/message?session=1",
        "{ not json",
        "result",
        "",
        "7",
    ] {
        assert!(matches!(shown(untouched), Ok(Cow::Borrowed(text)) if text == untouched), "{untouched}");
    }
    for ambiguous in [
        r#"{"result":{},"result":{"tools":[]}}"#,
        r#"{"result":{},"Result":{"tools":[]}}"#,
        r#"{"RESULT":{"tools":[]}}"#,
        r#"{"re\u017fult":{"tools":[]}}"#,
        r#"{"result\u0000":{"tools":[]}}"#,
        r#"{"result":{"tools":[],"tools":[{"name":"drop"}]}}"#,
        r#"{"result":{"tools":null,"Tools":[{"name":"drop"}]}}"#,
        r#"{"result":{"tool\u017f":[{"name":"drop"}]}}"#,
        r#"{"result":{"tools":{"name":"drop"}}}"#,
        r#"{"result":{"tools":"drop"}}"#,
        r#"{"result":[{"tools":[]}]}"#,
        r#"{"result":"{}"}"#,
        r#"[{"result":{"Tools":[]}}]"#,
        r#"[[{"result":{"tools":[]}}]]"#,
        r#"{"result":{"tools":[{"name":"drop"}]}"#,
        r#"{"result":{"tools":[{"name":"drop"}],}}"#,
        r#"{"r\u0065sult":{"tools":NaN}}"#,
        "\u{feff}{\"result\":{}}",
        "{\"RESULT\":\n{}}x",
    ] {
        assert_eq!(shown(ambiguous), Err(ListError::Unreadable), "{ambiguous}");
    }
}

#[test]
fn a_body_passes_if_it_is_json_or_nothing() {
    let body =
        |text: &'static [u8]| body_without_hidden(Bytes::from_static(text), &|tool: &str| tool != "drop");
    assert_eq!(body(br#"{"result":{"tools":[{"name":"drop"}]}}"#).unwrap(), r#"{"result":{"tools":[]}}"#);
    for same in [br#"{"result":{"tools":[{"name":"a"}]}}"#.as_slice(), br#"{"error":{}}"#, b"[]", b""] {
        assert_eq!(body(same).unwrap(), same);
    }
    for bad in [b"{ not json".as_slice(), b"7", b"{\"x\":\"\xff\"}", b" ", b"{}{}", b"[[]]"] {
        assert_eq!(body(bad), Err(ListError::Unreadable), "{}", bad.escape_ascii());
    }
}

#[test]
fn a_result_is_looked_for_in_whatever_a_client_could_read() {
    for text in [
        br#"{"result":null}"#.as_slice(),
        br#"{"Result":1}"#,
        br#"[{"id":1},{"re\u0073ult":{}}]"#,
        b"[[]]",
        b"\xef\xbb\xbf{\"result\":1}",
        br#"{'\x72esult':1}"#,
        b"{\0\"\0r\0e\0s\0u\0l\0t\0",
        "{\"re\u{17f}ult\":1}".as_bytes(),
        "x{re\u{17f}ULT".as_bytes(),
    ] {
        assert!(holds_result(text), "{}", text.escape_ascii());
    }
    for text in [
        br#"{"error":{"result":1}}"#.as_slice(),
        b"[]",
        b"[{}]",
        b"",
        b"no result",
        b"{oh no}",
        b"7",
        b"{\xff}",
    ] {
        assert!(!holds_result(text), "{}", text.escape_ascii());
    }
}
