//! A list of a filtered server passes if it can be read as every client reads it, and only then.

use serde_json::{Value, json};

use crate::{
    harness::{Client, DEV, Gate, SSE, Upstream, chunk, field, get, post, soon, until},
    recorder::Recorder,
};

const LIST: &str = r#"{"jsonrpc":"2.0","id":2,"method":"tools/list"}"#;
const TOOLS: &str = r#"{"jsonrpc":"2.0","id":2,"result":{"tools":[{"name":"read"},{"name":"drop"}]}}"#;
const SHOWN: &str = r#"{"jsonrpc":"2.0","id":2,"result":{"tools":[{"name":"read"}]}}"#;
const JSON: &str = "Content-Type: application/json\r\n";

async fn gate_before(url: &str) -> Gate {
    let options = json!({ "toolFilter": { "mode": "block", "list": ["drop"] } });
    Gate::start(json!({ "mcpServers": { "db": { "url": url, "options": options } } })).await
}

fn answer(status: u16, fields: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut answer =
        format!("HTTP/1.1 {status} X\r\n{fields}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
    answer.extend_from_slice(body);
    answer
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// Texts that some client reads as a list with the hidden tool, and that are no JSON, or none that all read alike.
fn unreadable() -> Vec<Vec<u8>> {
    let mut texts: Vec<Vec<u8>> = [
        format!("\u{feff}{TOOLS}"),
        TOOLS.replace("\"id\":2", "\"id\":NaN"),
        TOOLS.replace("\"id\":2", "\"id\":2,"),
        TOOLS.replace("}]}}", "},]}}"),
        TOOLS.replace("\"id\":2", "\"id\":\"\u{1}\""),
        TOOLS.replace("\"id\":2", "\"id\":\"\t\""),
        TOOLS.replace("\"id\":2", "\"id\":02"),
        TOOLS.replace("\"id\":2", "id:2"),
        TOOLS.replace("\"id\":2", "'id':2"),
        format!("/**/{TOOLS}"),
        format!("{TOOLS}x"),
        format!("{TOOLS}{TOOLS}"),
        TOOLS[..TOOLS.len() - 1].to_owned(),
        // A second spelling of what is decided on.
        TOOLS.replace("tools", "Tools"),
        TOOLS.replace("tools", "TOOLS"),
        TOOLS.replace("tools", "tool\u{17f}"),
        TOOLS.replace("result", "Result"),
        TOOLS.replace("result", "re\u{17f}ult"),
        TOOLS.replace("\"tools\":", "\"tools\":[],\"tools\":"),
        TOOLS.replace("\"tools\":", "\"tools\":[],\"Tools\":"),
        TOOLS.replace("\"result\":", "\"result\":{},\"result\":"),
        TOOLS.replace("\"result\":", "\"result\":{},\"r\\u0065sult\":"),
        TOOLS.replace("\"tools\"", "\"tools\\u0000\""),
        TOOLS.replace("\"result\"", "\"result\\u0000\""),
        // Not where a list stands.
        r#"{"id":2,"result":[{"tools":[{"name":"drop"}]}]}"#.to_owned(),
        r#"{"id":2,"result":{"tools":{"drop":{"name":"drop"}}}}"#.to_owned(),
        r#"{"id":2,"result":{"tools":"[{\"name\":\"drop\"}]"}}"#.to_owned(),
        r#"{"id":2,"result":"{\"tools\":[{\"name\":\"drop\"}]}"}"#.to_owned(),
        format!("[[{TOOLS}]]"),
        format!("[{}]", TOOLS.replace("tools", "Tools")),
    ]
    .map(String::into_bytes)
    .to_vec();
    texts.push(utf16(TOOLS));
    texts.push([b"{\"x\":\"\xff\",".as_slice(), &TOOLS.as_bytes()[1..]].concat());
    texts
}

/// Asserts that the gateway did not pass the list on, and says so in the log and in the metrics.
async fn is_withheld(gate: &Gate, what: &str) {
    let line = gate.log.line("Authenticated request", &[("level", json!("WARN"))]).await;
    assert!(line["cause"].as_str().is_some_and(|cause| !cause.is_empty()), "{what}: {line}");
    let series = r#"upstream_errors_total{kind="upstream_unreadable",server="db"} 1"#;
    until(&format!("{what} is counted"), || gate.metrics().contains(series)).await;
}

#[tokio::test]
async fn a_list_that_cannot_be_read_is_502() {
    let mut answers: Vec<Vec<u8>> = unreadable().iter().map(|text| answer(200, JSON, text)).collect();
    for fields in [
        "",
        "Content-Type: text/json\r\n",
        "Content-Type: text/plain\r\n",
        "Content-Type: text/html; x=application/json\r\n",
        "Content-Type: application/jsonp\r\n",
        "Content-Type: application/json, application/json\r\n",
        "Content-Type: application/json\r\nContent-Type: application/json\r\n",
        "Content-Type: application/json; charset=utf-7\r\n",
        "Content-Type: application/json\r\nContent-Encoding: gzip\r\n",
        "Content-Type: application/json\r\nContent-Encoding: identity\r\nContent-Encoding: br\r\n",
        "Content-Type: text/event-stream\r\nContent-Encoding: gzip\r\n",
        "Content-Type: text/event-stream; charset=utf-7\r\n",
    ] {
        answers.push(answer(200, fields, TOOLS));
    }
    // Under any other status that says that all is well.
    answers.push(answer(201, "Content-Type: text/plain\r\n", TOOLS));
    answers.push(answer(203, JSON, format!("\u{feff}{TOOLS}")));
    answers.push(answer(206, JSON, &TOOLS[40..]));
    for response in answers {
        let shown = response.escape_ascii().to_string();
        let server = Recorder::answering(response).await;
        let gate = gate_before(&server.url("/mcp")).await;
        let (status, head, body) = gate.ask(&post("/db", DEV, "", LIST)).await;
        assert_eq!(status, 502, "{shown}\n{head}{body}");
        assert!(body.contains("upstream_unreadable") && !body.contains("drop"), "{shown}\n{body}");
        is_withheld(&gate, &shown).await;
    }
}

#[tokio::test]
async fn a_list_that_can_be_read_is_shortened_under_whatever_status_it_comes() {
    for (status, fields, body, wanted) in [
        (200, JSON, TOOLS, SHOWN),
        (201, "Content-Type: Application/JSON; charset=\"utf-8\"\r\n", TOOLS, SHOWN),
        (200, "Content-Type: application/json\r\nContent-Encoding: identity\r\n", TOOLS, SHOWN),
        (200, JSON, &format!("\r\n\t {TOOLS} \n"), &format!("\r\n\t {SHOWN} \n")),
        (200, JSON, &format!("[{TOOLS},{TOOLS}]"), &format!("[{SHOWN},{SHOWN}]")),
        (
            200,
            JSON,
            &TOOLS.replace("\"tools\"", "\"t\\u006fols\""),
            &SHOWN.replace("\"tools\"", "\"t\\u006fols\""),
        ),
        (
            200,
            JSON,
            &TOOLS.replace("\"name\":\"read\"", "\"name\":\"read\",\"Name\":\"drop\""),
            r#"{"jsonrpc":"2.0","id":2,"result":{"tools":[]}}"#,
        ),
        // What holds no list passes as it is.
        (200, JSON, r#"{"id":2,"error":{"code":-32601,"message":"result: {tools}"}}"#, ""),
        (200, JSON, r#"{ "id":2, "result":{"tools":null} }"#, ""),
        (200, JSON, r#"{"id":2,"result":{}}"#, ""),
        (200, JSON, r#"{"id":2,"result":null}"#, ""),
        (200, JSON, "", ""),
        (200, "", "", ""),
    ] {
        let etag = format!("{fields}ETag: \"x\"\r\nContent-Digest: sha-256=:x:\r\n");
        let server = Recorder::answering(answer(status, &etag, body)).await;
        let gate = gate_before(&server.url("/mcp")).await;
        let (got, head, said) = gate.ask(&post("/db", DEV, "", LIST)).await;
        let wanted = if wanted.is_empty() { body } else { wanted };
        assert_eq!((got, said.as_str()), (status, wanted), "{head}");
        assert_eq!(field(&head, "content-length"), Some(&*wanted.len().to_string()), "{head}");
        if wanted != body {
            assert_eq!((field(&head, "etag"), field(&head, "content-digest")), (None, None), "{head}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_says_that_the_list_comes_elsewhere_passes_without_its_body() {
    for (status, fields) in
        [(202, JSON), (202, "Content-Type: text/plain\r\n"), (202, ""), (202, "Content-Encoding: gzip\r\n")]
    {
        let server = Recorder::answering(answer(status, fields, TOOLS)).await;
        let gate = gate_before(&server.url("/mcp")).await;
        let (got, head, body) = gate.ask(&post("/db", DEV, "", LIST)).await;
        assert_eq!((got, body.as_str()), (status, ""), "{head}");
        assert_eq!((field(&head, "content-type"), field(&head, "content-encoding")), (None, None), "{head}");
    }
    let server = Recorder::answering("HTTP/1.1 204 No Content\r\n\r\n").await;
    let gate = gate_before(&server.url("/mcp")).await;
    assert_eq!(gate.ask(&post("/db", DEV, "", LIST)).await.0, 204);
}

#[tokio::test]
async fn an_answer_with_another_status_keeps_it_and_its_body_unless_that_may_hold_a_result() {
    let error =
        r#"{"jsonrpc":"2.0","id":2,"error":{"code":-32601,"message":"no result","data":{"result":{}}}}"#;
    for (status, fields, body) in [
        (400, JSON, error),
        (404, "", error),
        (404, "Content-Type: text/plain\r\n", "Not Found"),
        (405, "", ""),
        (429, "Content-Type: text/html\r\n", "<p>too many results</p>"),
        (500, "Content-Type: text/html\r\n", "<style>p { color: red }</style>"),
        (503, JSON, "[]"),
        (600, JSON, "\"what\""),
    ] {
        let server = Recorder::answering(answer(status, fields, body)).await;
        let gate = gate_before(&server.url("/mcp")).await;
        let (got, head, said) = gate.ask(&post("/db", DEV, "", LIST)).await;
        assert_eq!((got, said.as_str()), (status, body), "{head}");
    }
    let mut bodies = unreadable();
    bodies.extend(
        [TOOLS, &format!("[{TOOLS}]"), r#"{"result":null}"#, "<p>{result}</p>", r#"{ "r\u0065sult" :{} "#]
            .map(|text| text.as_bytes().to_vec()),
    );
    for body in bodies {
        for (status, fields) in [(400, JSON), (500, ""), (304 + 100, "Content-Type: text/plain\r\n")] {
            let shown = body.escape_ascii().to_string();
            let server = Recorder::answering(answer(status, fields, &body)).await;
            let gate = gate_before(&server.url("/mcp")).await;
            let (got, head, said) = gate.ask(&post("/db", DEV, "", LIST)).await;
            assert_eq!((got, said.as_str()), (status, ""), "{shown}\n{head}");
            is_withheld(&gate, &shown).await;
        }
    }
    let server = Recorder::answering(answer(404, "Content-Encoding: gzip\r\n", "xx")).await;
    let gate = gate_before(&server.url("/mcp")).await;
    let (got, head, said) = gate.ask(&post("/db", DEV, "", LIST)).await;
    assert_eq!((got, said.as_str()), (404, ""), "{head}");
    is_withheld(&gate, "a compressed refusal").await;
}

/// An event stream through the gateway: the client's side and the server's.
async fn stream(
    gate: &Gate,
    server: &Upstream,
    request: &str,
) -> (Client<tokio::net::TcpStream>, Client<tokio::net::TcpStream>) {
    let mut client = gate.client().await;
    client.send(request).await;
    let mut behind = server.accept().await;
    behind.head().await;
    behind.send(SSE).await;
    assert!(client.head().await.starts_with("HTTP/1.1 200 "));
    (client, behind)
}

#[tokio::test]
async fn on_every_event_stream_each_message_is_read_and_one_that_cannot_be_ends_it() {
    // A line break ends an event's line, so what has one is no event.
    let texts = unreadable().into_iter().filter(|text| !text.contains(&b'\n') && !text.contains(&b'\r'));
    for text in texts.chain([TOOLS.replace("tools", "Tools").replace(',', ",\ndata:").into_bytes()]) {
        let server = Upstream::bind().await;
        let gate = gate_before(&server.url("/mcp")).await;
        for (round, request) in [
            post("/db", DEV, "", LIST),
            get("/db", DEV, "Accept: text/event-stream\r\n"),
            get("/db", DEV, "Last-Event-ID: 7\r\n"),
            // A server that has one stream for all of a session's answers.
            post("/db", DEV, "", r#"{"id":3,"method":"tools/call","params":{"name":"read"}}"#),
        ]
        .into_iter()
        .enumerate()
        {
            let name = ["", "event: message\n", "event: other\n", ""][round];
            let (mut client, mut behind) = stream(&gate, &server, &request).await;
            behind.send(chunk("id: 1\ndata:\n\ndata: no message\n\n")).await;
            let mut passed = client.until("no message\n\n").await;
            behind.send(chunk(&format!("{name}data: {TOOLS}\n\n"))).await;
            passed += &client.until("}}\n\n").await;
            assert!(passed.contains(SHOWN), "{passed}");
            let mut event = format!("{name}data:").into_bytes();
            event.extend_from_slice(&text);
            event.extend_from_slice(b"\n\n");
            behind.send([format!("{:x}\r\n", event.len()).as_bytes(), &event, b"\r\n"].concat()).await;
            behind.send(chunk("data: after\n\n")).await;
            let rest = soon("the end of the stream", client.rest()).await;
            let rest = String::from_utf8_lossy(&rest);
            let shown = text.escape_ascii().to_string();
            assert!(
                !rest.contains("drop") && !rest.contains("after") && !rest.contains("0\r\n\r\n"),
                "{shown}\n{rest}"
            );
            let counted =
                format!(r#"upstream_errors_total{{kind="upstream_unreadable",server="db"}} {}"#, round + 1);
            until("it is counted", || gate.metrics().contains(&counted)).await;
        }
        let line = gate.log.line("Stream closed", &[("reason", json!("upstream_lost"))]).await;
        assert!(line["cause"].as_str().is_some_and(|cause| cause.contains("list of tools")), "{line}");
    }
}

#[tokio::test]
async fn a_stream_that_cannot_be_read_does_not_begin_whatever_was_asked() {
    for fields in [
        "Content-Type: text/event-stream\r\nContent-Encoding: gzip\r\n",
        "Content-Type: text/event-stream; charset=utf-7\r\n",
        "Content-Type: text/event-stream\r\nContent-Type: text/event-stream\r\n",
        "Content-Type: text/html, Text/Event-Stream\r\n",
    ] {
        let server = Recorder::answering(answer(200, fields, format!("data: {TOOLS}\n\n"))).await;
        let gate = gate_before(&server.url("/mcp")).await;
        let ping = post("/db", DEV, "", r#"{"id":1,"method":"ping"}"#);
        let (status, head, body) = gate.ask(&ping).await;
        assert_eq!(status, 502, "{fields}{head}");
        assert!(body.contains("upstream_unreadable"), "{body}");
    }
}

#[tokio::test]
async fn over_http_and_sse_the_list_comes_on_the_stream_and_nothing_with_the_post() {
    let server = Upstream::bind().await;
    let gate = gate_before(&server.url("/sse")).await;
    let (mut client, mut behind) = stream(&gate, &server, &get("/db/sse", DEV, "")).await;
    behind.send(chunk("event: endpoint\ndata: /results/message?s=1\n\n")).await;
    let endpoint = client.until("\n\n").await;
    let url = endpoint.lines().find_map(|line| line.strip_prefix("data: ")).unwrap().to_owned();
    for (status, fields, wanted) in [
        (202, "", 202),
        (200, "Content-Type: text/plain\r\n", 200),
        (200, "", 200),
        (200, JSON, 502),
        (500, "", 500),
    ] {
        let mut poster = gate.client().await;
        poster.send(post(&url, DEV, "", LIST)).await;
        let mut behind = server.accept().await;
        behind.until(LIST).await;
        behind.send(answer(status, fields, format!("\u{feff}{TOOLS}"))).await;
        let (got, head, body) = poster.response().await;
        assert_eq!(got, wanted, "{head}");
        assert!(!body.contains("drop"), "{body}");
    }
    behind.send(chunk(&format!("event: message\ndata: {TOOLS}\n\n"))).await;
    assert!(client.until("}}\n\n").await.contains(SHOWN));
    behind.send(chunk(&format!("event: message\ndata: {}\n\n", TOOLS.replace("tools", "Tools")))).await;
    assert!(!String::from_utf8_lossy(&client.rest().await).contains("drop"));
}

#[tokio::test]
async fn what_a_server_may_take_for_the_request_of_a_list_is_answered_as_one() {
    let server = Recorder::answering(answer(200, JSON, TOOLS)).await;
    let gate = gate_before(&server.url("/mcp")).await;
    for request in [
        r#"{"id":2,"method":"vendor/list"}"#,
        r#"{"id":2,"method":"tools/list/all"}"#,
        r#"{"id":2,"result":{}}"#,
    ] {
        let (status, _, body) = gate.ask(&post("/db", DEV, "", request)).await;
        assert_eq!((status, body.as_str()), (200, SHOWN), "{request}");
    }
    // A GET that is answered at once, whatever it carries, and what a server may answer with what it kept.
    assert_eq!(gate.ask(&get("/db", DEV, "")).await.2, SHOWN);
    let ping = r#"{"id":1,"method":"ping"}"#;
    assert_eq!(gate.ask(&post("/db", DEV, "", ping).replacen("POST", "GET", 1)).await.2, SHOWN);
    assert_eq!(gate.ask(&post("/db", DEV, "Last-Event-ID: 1\r\n", ping)).await.2, SHOWN);
    assert_eq!(
        gate.ask(&post("/db", DEV, "", ping)).await.2,
        TOOLS,
        "nothing that a ping is answered with is a list"
    );
}

#[tokio::test]
async fn a_list_whose_server_stops_in_the_middle_is_504_and_one_that_breaks_off_502() {
    let server = Upstream::bind().await;
    let options = json!({ "toolFilter": { "mode": "block", "list": ["drop"] } });
    let gate = Gate::start(json!({ "mcpServers": { "db": { "url": server.url("/mcp"), "options": options, "timeout": "300ms" } } })).await;
    for (breaks, status) in [(false, 504), (true, 502)] {
        let mut client = gate.client().await;
        client.send(post("/db", DEV, "", LIST)).await;
        let mut behind = server.accept().await;
        behind.until(LIST).await;
        behind.send(&answer(200, JSON, TOOLS)[..100]).await;
        if breaks {
            drop(behind);
        }
        let (got, _, body) = client.response().await;
        assert_eq!(got, status, "{body}");
    }
}

/// A server reached message by message: the client speaks HTTP+SSE, the server Streamable HTTP.
#[tokio::test]
async fn message_by_message_a_list_that_cannot_be_read_fails_its_request() {
    let server = Upstream::bind().await;
    let gate = gate_before(&server.url("/mcp")).await;
    let mut client = gate.client().await;
    client.send(get("/db/sse", DEV, "Accept: text/event-stream\r\n")).await;
    client.head().await;
    let endpoint = client.until("\n\n").await;
    let url = endpoint.lines().find_map(|line| line.strip_prefix("data: ")).unwrap().to_owned();
    for (round, text) in [
        TOOLS.replace("tools", "Tools"),
        TOOLS.replace("\"tools\":", "\"tools\":[],\"Tools\":"),
        TOOLS.replace("\"result\":", "\"result\":{},\"Result\":"),
    ]
    .iter()
    .enumerate()
    {
        let request = post(&url, DEV, "", LIST);
        let posted = gate.ask(&request);
        let answered = async {
            let mut behind = server.accept().await;
            behind.until(LIST).await;
            behind
                .send([&answer(200, &format!("{JSON}Connection: close\r\n"), text)[..], b""].concat())
                .await;
        };
        let (posted, ()) = tokio::join!(posted, answered);
        assert_eq!(posted.0, 202);
        let event = client.until("\n\n").await;
        let data = event.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!((&data["id"], &data["error"]["code"]), (&json!(2), &json!(502)), "{text}");
        let counted =
            format!(r#"upstream_errors_total{{kind="upstream_unreadable",server="db"}} {}"#, round + 1);
        until("it is counted", || gate.metrics().contains(&counted)).await;
    }
    let line = gate.log.line("A list of tools that cannot be read was withheld", &[]).await;
    assert_eq!((&line["server"], &line["level"]), (&json!("db"), &json!("WARN")));
}
