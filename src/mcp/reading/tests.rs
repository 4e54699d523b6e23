use proptest::prelude::*;
use serde_json::Value as Json;
use test_basics::spellings;

use crate::mcp::reading::*;
use crate::mcp::{
    message::Message,
    reading::keys::{ObjectKind, exact},
};

fn parse(text: &str) -> Result<Message, Malformed> {
    Message::parse(text.to_owned().into())
}

fn from_server(text: &str) -> Message {
    Message::from_server(text.to_owned().into()).unwrap()
}

/// A message in which `members` are in an object that counts.
fn message(place: ObjectKind, members: &str) -> String {
    match place {
        ObjectKind::Message => format!("{{{members}}}"),
        ObjectKind::Params => format!(r#"{{"jsonrpc":"2.0","id":1,"method":"x/y","params":{{{members}}}}}"#),
        ObjectKind::Meta => format!(r#"{{"id":1,"method":"x/y","params":{{"_meta":{{{members}}}}}}}"#),
        ObjectKind::Reference => format!(r#"{{"id":1,"method":"x/y","params":{{"ref":{{{members}}}}}}}"#),
        ObjectKind::Filter => {
            format!(r#"{{"id":1,"method":"x/y","params":{{"notifications":{{{members}}}}}}}"#)
        }
        ObjectKind::Error => format!(r#"{{"id":1,"error":{{{members}}}}}"#),
        ObjectKind::Result | ObjectKind::Task | ObjectKind::Elsewhere => {
            unreachable!("no key of these counts in what a client writes")
        }
    }
}

/// A value that the key may have.
fn value(key: &str) -> &'static str {
    match key {
        "params" | "_meta" | "ref" | "notifications" | "arguments" => "{}",
        "method" => "\"x/y\"",
        _ => "7",
    }
}

#[test]
fn no_other_spelling_of_a_key_that_counts_passes_wherever_it_stands() {
    let (mut keys, mut tried) = (0, 0);
    for place in [
        ObjectKind::Message,
        ObjectKind::Params,
        ObjectKind::Meta,
        ObjectKind::Reference,
        ObjectKind::Filter,
        ObjectKind::Error,
    ] {
        for key in exact(place) {
            keys += 1;
            let value = value(key);
            let right = format!("\"{key}\":{value}");
            // What else the message needs.
            let rest = match key {
                "method" => "\"id\":1",
                "result" | "error" => "\"id\":1,\"x\":2",
                _ if place == ObjectKind::Message => "\"x\":1,\"method\":\"x/y\"",
                _ => "\"x\":1,\"y\":[{}]",
            };
            let whole = message(place, &format!("{rest},{right}"));
            assert!(parse(&whole).is_ok(), "{whole}");
            let mut spellings = spellings::spellings(key);
            assert!(spellings.len() >= spellings::MANY, "{key}: {}", spellings.len());
            spellings.push(format!("\"{key}\""));
            for spelling in spellings {
                let other = format!("{spelling}:{value}");
                let mut places = vec![
                    format!("{right},{other}"),
                    format!("{other},{right}"),
                    format!("{right},{rest},{other}"),
                    format!("{other},{rest},{right}"),
                ];
                if spelling[1..spelling.len() - 1] != *key {
                    // In place of the right one.
                    places.extend([format!("{other},{rest}"), format!("{rest},{other}")]);
                }
                for members in places {
                    tried += 1;
                    let text = message(place, &members);
                    assert_eq!(parse(&text).err(), Some(Malformed::Ambiguous), "{text}");
                }
            }
        }
    }
    assert!(keys >= 34 && tried >= keys * 6 * spellings::MANY, "{keys} keys, {tried} texts");
}

#[test]
fn what_mcp_keeps_for_itself_in_meta_comes_once_too() {
    let meta = |members: &str| parse(&message(ObjectKind::Meta, members));
    assert!(
        meta(r#""io.modelcontextprotocol/new":1,"io.modelcontextprotocol\/newer":2,"a.b/new":3"#).is_ok()
    );
    for members in [
        r#""io.modelcontextprotocol/new":1,"io.modelcontextprotocol/new":2"#,
        r#""io.modelcontextprotocol/new":1,"io.modelcontextprotocol/New":2"#,
        r#""io.modelcontextprotocol/new":1,"io.modelcontextprotocol\/new":2"#,
        r#""io.modelcontextprotocol/n\u0065w":1"#,
        r#""IO.modelcontextprotocol/new":1"#,
        r#""io_modelcontextprotocol_new":1"#,
    ] {
        assert_eq!(meta(members).unwrap_err(), Malformed::Ambiguous, "{members}");
    }
    let many: Vec<_> = (0..=MAX_RESERVED).map(|n| format!(r#""io.modelcontextprotocol/n{n}":1"#)).collect();
    assert!(meta(&many[1..].join(",")).is_ok());
    assert!(meta(&many.join(",")).is_err());
}

#[test]
fn what_stands_for_a_request_is_text_or_a_number_that_all_read_alike() {
    let long = format!("\"{}\"", "x".repeat(MAX_TEXT + 1));
    for (value, passes) in [
        ("0", true),
        ("-1", true),
        ("9007199254740991", true),
        ("-9007199254740991", true),
        (r#""""#, true),
        (r#""a\u0062\n""#, true),
        (r#""7""#, true),
        ("9007199254740992", false),
        ("-9007199254740992", false),
        ("12345678901234567890", false),
        ("1.0", false),
        ("1.5", false),
        ("1e0", false),
        ("1E+2", false),
        ("-0", false),
        ("true", false),
        ("{}", false),
        ("[1]", false),
        (r#""\ud800""#, false),
        (r#""a\u0000""#, false),
        (&long, false),
    ] {
        for text in [
            format!(r#"{{"id":{value},"method":"ping"}}"#),
            format!(r#"{{"id":{value},"result":{{}}}}"#),
            format!(r#"{{"id":1,"method":"ping","params":{{"_meta":{{"progressToken":{value}}}}}}}"#),
            format!(r#"{{"method":"notifications/progress","params":{{"progressToken":{value}}}}}"#),
            format!(r#"{{"method":"notifications/cancelled","params":{{"requestId":{value}}}}}"#),
            format!(
                r#"{{"method":"n","params":{{"_meta":{{"io.modelcontextprotocol/subscriptionId":{value}}}}}}}"#
            ),
        ] {
            assert_eq!(parse(&text).err(), (!passes).then_some(Malformed::Unreadable), "{text}");
        }
    }
    // No token is none: it is not renamed, and no reason to refuse a request.
    let without = parse(r#"{"id":1,"method":"ping","params":{"_meta":{"progressToken":null}}}"#).unwrap();
    assert_eq!((without.progress_token(), without.part(Part::ProgressToken)), (None, None));
}

#[test]
fn a_client_may_nest_so_deep_and_a_server_as_it_likes() {
    for (depth, passes) in [(128, true), (129, false), (3_000, false), (100_000, false)] {
        let arrays = depth - 3;
        let text = format!(
            r#"{{"id":1,"method":"tools/call","params":{{"name":"t","arguments":{{"x":{}{}}}}}}}"#,
            "[".repeat(arrays),
            "]".repeat(arrays)
        );
        assert_eq!(parse(&text).err(), (!passes).then_some(Malformed::TooDeep), "{depth}");
        assert!(!from_server(&text).is_ambiguous());
    }
}

#[test]
fn a_servers_message_that_can_be_read_in_two_ways_is_read_and_noted() {
    for (text, is_ambiguous) in [
        (r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, false),
        (r#"{"id":1,"ID":2,"result":{}}"#, true),
        (r#"{"id":1,"id":2,"result":{}}"#, true),
        (r#"{"id":1,"\u0069d":2,"result":{}}"#, true),
        (r#"{"id":1,"i\u0000d":2,"result":{}}"#, true),
        ("{\"\u{131}d\":2,\"result\":{},\"id\":1}", true),
        (r#"{"id":1,"result":{"Id":2,"größe":{}}}"#, false),
        (r#"{"method":"notifications/message","params":{"data":{},"Level":"x","Name":"y"}}"#, false),
        (r#"{"method":"notifications/progress","params":{"progressToken":1,"PROGRESSTOKEN":2}}"#, true),
        (r#"{"method":"notifications/progress","params":{"progress_token":2}}"#, true),
        (
            r#"{"id":1,"result":{"_meta":{"io.modelcontextprotocol/subscriptionId":1,"io.modelcontextprotocol/SubscriptionId":2}}}"#,
            true,
        ),
        (r#"{"id":1,"result":{"_meta":{"größe":1},"Meta":{}}}"#, true),
        (r#"{"id":1.0,"result":{}}"#, false),
    ] {
        let message = from_server(text);
        assert_eq!(message.is_ambiguous(), is_ambiguous, "{text}");
    }
    let end = from_server(r#"{"id":1,"result":{"_meta":{"io.modelcontextprotocol/subscriptionId":"s"}}}"#);
    assert_eq!(end.subscription_id(), Some(&Id::String("s".into())));
    for text in ["{", "[]", "{}", r#"{"id":1}"#, r#"{"method":7}"#] {
        assert!(Message::from_server(text.into()).is_err(), "{text}");
    }
}

#[test]
fn requests_on_behalf_of_a_client_carry_its_meta_without_its_token() {
    for (meta, wanted) in [
        (r#"{"progressToken":1,"v":1.0e2}"#, r#"{"v":1.0e2}"#),
        (r#"{"v":1 , "progressToken" : "a\"," }"#, r#"{"v":1  }"#),
        (r#"{"v":1,"progressToken":1,"w":[","]}"#, r#"{"v":1,"w":[","]}"#),
        (r#"{ "progressToken":1 }"#, "{  }"),
        (r#"{"v":","}"#, r#"{"v":","}"#),
        (r#"{"progressToken":null}"#, r#"{"progressToken":null}"#),
    ] {
        let message =
            parse(&format!(r#"{{"id":1,"method":"m","params":{{"a":{{}},"_meta":{meta}}}}}"#)).unwrap();
        assert_eq!(message.meta_without_token().as_deref(), Some(wanted), "{meta}");
        // Also behind a change that moved it.
        let moved = message.with(&[(Part::Id, "12345".into()), (Part::ProgressToken, "67".into())]).unwrap();
        let moved = moved.meta_without_token();
        assert_eq!(moved.as_deref(), Some(wanted), "{meta}");
    }
    for params in ["null", "{}", r#"{"_meta":null}"#] {
        let message = parse(&format!(r#"{{"id":1,"method":"m","params":{params}}}"#)).unwrap();
        assert_eq!(message.meta_without_token(), None, "{params}");
    }
}

#[test]
fn what_is_completed_is_said_by_the_type_of_its_reference() {
    for (reference, wanted) in [
        (r#"{"type":"ref/prompt","name":"a"}"#, Some((Reference::Prompt, "a"))),
        (r#"{"type":"ref/prompt","name":"a","uri":"b"}"#, Some((Reference::Prompt, "a"))),
        (r#"{"uri":"b","name":"a","type":"ref/resource"}"#, Some((Reference::Resource, "b"))),
        (r#"{"name":"a"}"#, Some((Reference::Prompt, "a"))),
        (r#"{"uri":"b"}"#, Some((Reference::Resource, "b"))),
        (r#"{"name":"a","uri":"b"}"#, None),
        (r#"{"type":"ref/prompt","uri":"b"}"#, None),
        (r#"{"type":"ref/tool","name":"a"}"#, None),
        (r#"{"type":1,"name":"a"}"#, None),
        (r#"{"type":"ref/prompt","name":["a"]}"#, None),
        (r#"["ref/prompt","a"]"#, None),
    ] {
        let text = format!(
            r#"{{"id":1,"method":"completion/complete","params":{{"name":"no","ref":{reference}}}}}"#
        );
        let message = parse(&text).unwrap();
        assert_eq!(message.reference().zip(message.name()), wanted, "{reference}");
        assert_eq!(message.part(Part::Name).is_some(), wanted.is_some());
    }
}

#[test]
fn capabilities_are_an_object() {
    for (value, wanted) in
        [("{}", true), (r#"{"roots":{}}"#, true), ("null", false), ("5", false), ("[]", false)]
    {
        let text = format!(
            r#"{{"id":1,"method":"ping","params":{{"_meta":{{"io.modelcontextprotocol/clientCapabilities":{value}}}}}}}"#
        );
        assert_eq!(parse(&text).unwrap().names_capabilities(), wanted, "{value}");
    }
}

/// Everything that a message says of itself.
fn told(message: &Message) -> String {
    format!(
        "{:?} {:?} {:?}",
        Part::ALL.map(|part| message.part(part)),
        (message.kind(), message.method(), message.id(), message.progress_token(), message.request_id()),
        (
            message.subscription_id(),
            message.name(),
            message.reference(),
            message.version(),
            message.names_capabilities(),
            message.sets_log_level(),
            message.has_cursor(),
            message.error_code(),
            message.is_ambiguous(),
            message.meta_without_token(),
        )
    )
}

/// Messages with most of what counts, in any order.
fn messages() -> impl Strategy<Value = String> {
    let id = prop_oneof![(0..5_000_000_u64).prop_map(|n| n.to_string()), "\"[a-z\\\\u0061]{0,0}[a-z]{0,9}\""];
    let text = "[a-z/ é]{0,12}".prop_map(|text| Json::from(text).to_string());
    let method = prop::sample::select(vec![
        "tools/call",
        "resources/read",
        "tasks/get",
        "completion/complete",
        "subscriptions/listen",
        "notifications/cancelled",
        "notifications/progress",
        "x/y",
    ]);
    let meta = (id.clone(), id.clone(), any::<bool>()).prop_map(|(token, subscription, swap)| {
        let mut members = [
            format!(r#""progressToken": {token}"#),
            format!(r#""io.modelcontextprotocol/subscriptionId":{subscription}"#),
            r#""io.modelcontextprotocol\/protocolVersion":"2026-07-28""#.to_owned(),
        ];
        if swap {
            members.reverse();
        }
        format!(r#""_meta":{{{}}}"#, members.join(" , "))
    });
    let params = (meta, id.clone(), id.clone(), text.clone(), text, any::<prop::sample::Index>()).prop_map(
        |(meta, token, request, name, uri, at)| {
            let mut members = vec![
                meta,
                format!(r#""progressToken":{token}"#),
                format!(r#""requestId" :{request}"#),
                format!(r#""name":{name}"#),
                format!(r#""uri":{uri}"#),
                format!(r#""taskId":{uri}"#),
                format!(r#""ref":{{"name":{name},"type":"ref/prompt"}}"#),
                r#""arguments":{"id":[1,{}]}"#.to_owned(),
                r#""notifications":{"toolsListChanged":true}"#.to_owned(),
            ];
            let at = at.index(members.len());
            members.rotate_left(at);
            members.truncate(1 + at);
            format!(r#""params":{{ {} }}"#, members.join(","))
        },
    );
    (params, prop::option::of(id), method, any::<prop::sample::Index>()).prop_map(
        |(params, id, method, at)| {
            let mut members =
                vec![params, format!(r#""method":"{method}""#), r#""jsonrpc":"2.0""#.to_owned()];
            members.extend(id.map(|id| format!(r#""id": {id}"#)));
            let at = at.index(members.len());
            members.rotate_left(at);
            format!(" {{ {} }} ", members.join(" ,"))
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_renamed_message_says_of_itself_what_its_text_says(
        text in messages(),
        id in prop_oneof![Just("70368744177663".to_owned()), Just("\"s\"".to_owned()), Just("0".to_owned())],
        name in "[a-z\"\\\\é]{0,30}",
        token in any::<u32>(),
        which in 0..64_u8,
    ) {
        let message = parse(&text).unwrap();
        let name = Json::from(name).to_string();
        let replacements: Vec<_> = [
            (Part::SubscriptionId, id.clone()),
            (Part::Id, id.clone()),
            (Part::Name, name),
            (Part::ProgressToken, token.to_string()),
            (Part::RequestId, id),
            (Part::Arguments, r#"{"more":"than before"}"#.to_owned()),
        ]
        .into_iter()
        .enumerate()
        .filter(|(at, _)| which >> at & 1 == 1)
        .map(|(_, (part, new))| (part, new.into()))
        .collect();
        let renamed = message.with(&replacements).unwrap();
        let read = Message::parse(renamed.text().clone()).unwrap();
        prop_assert_eq!(told(&renamed), told(&read), "{:?}", renamed.text());
        let Json::Object(old) = serde_json::from_str(&text).unwrap() else { unreachable!() };
        let Json::Object(new) = serde_json::from_slice(renamed.text()).unwrap() else { unreachable!() };
        prop_assert_eq!(old.keys().collect::<Vec<_>>(), new.keys().collect::<Vec<_>>());
    }
}
