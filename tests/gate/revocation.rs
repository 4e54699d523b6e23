//! What a server makes after a caller lost its right is not the caller's: on every kind of stream, whatever ends it, from
//! sources that always have something, with clients that read slowly or not at all.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::{
    harness::{Client, DEV, Gate, get, pause, post, shutdown, soon, until},
    mcp::{Session, SseSession, call, modern_call},
    tls::{Identity, connected},
};

const GOES: &str = "goes-token-0123456789abcdef";
/// How long after it lost its right a caller may still get what is made: the promise of docs/tokens.md.
const SOON: Duration = Duration::from_secs(1);

/// The longest time that nothing went on here, the gateway included: whoever else has the machine is not what is tested.
struct Standstill(Arc<Mutex<Duration>>);

impl Standstill {
    fn watch() -> Self {
        let longest = Arc::default();
        let noted: Arc<Mutex<Duration>> = Arc::clone(&longest);
        tokio::spawn(async move {
            while Arc::strong_count(&noted) > 1 {
                // Real time: it is what the machine takes.
                let began = Instant::now();
                pause().await;
                let mut longest = noted.lock().unwrap();
                *longest = began.elapsed().max(*longest);
            }
        });
        Self(longest)
    }

    fn longest(&self) -> Duration {
        *self.0.lock().unwrap()
    }
}

/// What ends a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Removed,
    Expired,
    Ungranted,
    Stopped,
    Shutdown,
}

impl Cause {
    fn reason(self) -> &'static str {
        match self {
            Self::Removed | Self::Expired | Self::Ungranted => "token_revoked",
            Self::Stopped | Self::Shutdown => "drain",
        }
    }
}

/// A server reached over HTTP that says what time it is, as often as it is listened to.
async fn moments_over_http() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut gate = Client::new(stream);
                gate.head().await;
                gate.send(crate::harness::SSE).await;
                loop {
                    let event =
                        format!("data: made={:.6};{}\n\n", seconds(SystemTime::now()), "x".repeat(1000));
                    let chunk = crate::harness::chunk(&event);
                    if gate.stream.write_all(chunk.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    url
}

fn seconds(moment: SystemTime) -> f64 {
    moment.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64()
}

fn config(url: &str) -> Value {
    let server = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gate/moments_server.py");
    json!({
        "proxy": {
            "auth": { "tokens": { "goes": GOES, "ops": { "value": DEV, "roles": ["admin"] } } },
            // Who takes nothing while the machine does something else is no slow reader here.
            "limits": { "slowReaderTimeout": "10m" },
        },
        "mcpServers": {
            "bytes": { "url": url, "authTokens": ["goes"] },
            "small": {
                "command": "python3", "args": [server], "inheritEnv": ["PATH"], "authTokens": ["goes"],
            },
        },
    })
}

/// What a stream brought.
#[derive(Debug)]
struct Brought {
    kind: &'static str,
    /// The moments that the server made it.
    made: Vec<f64>,
}

/// A client that reads a stream, slowly and to its end.
struct Reader {
    bytes: Arc<AtomicUsize>,
    end: JoinHandle<Brought>,
}

/// How the clients of one test read: whether they are to go on behind the first bytes.
type GoOn = Arc<AtomicBool>;

/// Bytes behind which clients stop that do.
const FIRST: usize = 64 * 1024;

/// Reads pieces from `next`, which yields nothing at the end.
fn read_slowly<F>(kind: &'static str, go_on: &GoOn, mut next: F) -> Reader
where
    F: FnMut() -> Pin<Box<dyn Future<Output = Option<Vec<u8>>> + Send>> + Send + 'static,
{
    let bytes = Arc::new(AtomicUsize::new(0));
    let (count, go_on) = (Arc::clone(&bytes), Arc::clone(go_on));
    // Whoever lets data lie takes it at once in the end: nothing comes any more.
    let stops = !go_on.load(Ordering::Relaxed);
    let end = tokio::spawn(async move {
        let mut all = Vec::new();
        loop {
            while all.len() > FIRST && !go_on.load(Ordering::Relaxed) {
                pause().await;
            }
            let Some(piece) = next().await else { break };
            all.extend_from_slice(&piece);
            count.store(all.len(), Ordering::Relaxed);
            if all.ends_with(b"\r\n0\r\n\r\n") {
                break;
            }
            if stops && all.len() > FIRST {
                continue;
            }
            // Real time: as slow as the servers are once their first burst is over.
            tokio::time::sleep(Duration::from_micros(4 * piece.len() as u64)).await;
        }
        let text = String::from_utf8_lossy(&all);
        let made = text.split("made=").skip(1).filter_map(|rest| rest.split_once(';')?.0.parse().ok());
        Brought { kind, made: made.collect() }
    });
    Reader { bytes, end }
}

fn read_http1<T>(kind: &'static str, go_on: &GoOn, client: Client<T>) -> Reader
where
    T: AsyncRead + Unpin + Send + 'static,
{
    let stream = Arc::new(tokio::sync::Mutex::new(client.stream));
    read_slowly(kind, go_on, move || {
        let stream = Arc::clone(&stream);
        Box::pin(async move {
            let mut piece = vec![0; 1024];
            let read = stream.lock().await.read(&mut piece).await;
            piece.truncate(read.unwrap_or(0));
            (!piece.is_empty()).then_some(piece)
        })
    })
}

fn small(client: &Client<TcpStream>) {
    SockRef::from(&client.stream).set_recv_buffer_size(16 << 10).unwrap();
}

fn moments(as_: &str) -> Value {
    json!({ "as": as_ })
}

/// A request of its own connection, whose answer is read slowly.
async fn sent(gate: &Gate, kind: &'static str, go_on: &GoOn, request: String) -> Reader {
    let mut client = gate.client().await;
    small(&client);
    client.send(request).await;
    read_http1(kind, go_on, client)
}

/// A stream of each kind over HTTP/1.1.
async fn over_http1(gate: &Gate, go_on: &GoOn) -> Vec<Reader> {
    let mut readers = vec![
        sent(gate, "bytes past hyper", go_on, get("/bytes/mcp", GOES, "")).await,
        sent(gate, "bytes through hyper", go_on, get("/bytes/mcp", GOES, "Connection: close\r\n")).await,
        sent(
            gate,
            "call of 2026-07-28",
            go_on,
            modern_call("/small/mcp", GOES, 1, "moments", moments("progress")),
        )
        .await,
        sent(
            gate,
            "call of 2026-07-28, all servers",
            go_on,
            modern_call("/mcp", GOES, 1, "small__moments", moments("progress")),
        )
        .await,
    ];
    for (kind, path, tool) in [
        ("call of a session", "/small/mcp", "moments"),
        ("call of a session, all servers", "/mcp", "small__moments"),
    ] {
        let session = Session::open(gate, path, GOES).await;
        let client = session.sent(&call(1, tool, moments("progress"))).await;
        small(&client);
        readers.push(read_http1(kind, go_on, client));
    }
    let session = Session::open(gate, "/small/mcp", GOES).await;
    let listening = session.listen().await;
    small(&listening);
    readers.push(read_http1("stream of a session", go_on, listening));
    assert_eq!(session.post(&call(1, "moments", moments("update"))).await.0, 200);
    let session = SseSession::open(gate, "/small/sse", GOES).await;
    session.post(&call(1, "moments", moments("progress"))).await;
    small(&session.stream);
    readers.push(read_http1("HTTP+SSE", go_on, session.stream));
    readers
}

/// Streams of both body paths over HTTP/2, on a connection each.
async fn over_http2(gate: &Gate, identity: &Identity, go_on: &GoOn) -> Vec<Reader> {
    let mut readers = Vec::new();
    for (kind, request) in [
        ("bytes over HTTP/2", get("/bytes/mcp", GOES, "")),
        (
            "call of 2026-07-28 over HTTP/2",
            modern_call("/small/mcp", GOES, 1, "moments", moments("progress")),
        ),
    ] {
        let stream = connected(gate, identity, &["h2"]).await;
        SockRef::from(stream.get_ref().0).set_recv_buffer_size(16 << 10).unwrap();
        let (mut client, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(32 << 10)
            .handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        let response = client.send_request(as_http2(&request)).await.unwrap();
        assert_eq!(response.status(), 200, "{kind}");
        let body = Arc::new(tokio::sync::Mutex::new((response.into_body(), client)));
        readers.push(read_slowly(kind, go_on, move || {
            let body = Arc::clone(&body);
            Box::pin(async move {
                let frame = body.lock().await.0.frame().await?.ok()?;
                Some(frame.into_data().unwrap_or_default().to_vec())
            })
        }));
    }
    readers
}

fn as_http2(request: &str) -> Request<Full<Bytes>> {
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let (method, rest) = lines.next().unwrap().split_once(' ').unwrap();
    let uri = format!("https://localhost{}", rest.split_once(' ').unwrap().0);
    let mut built = Request::builder().method(method).uri(uri);
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        if !["Host", "Content-Length"].contains(&name) {
            built = built.header(name, value);
        }
    }
    built.body(Full::new(body.to_owned().into())).unwrap()
}

/// Runs streams into `cause`, and looks at when what they brought was made.
async fn nothing_made_later_is_delivered(cause: Cause, goes_on: bool, has_tls: bool) {
    let url = moments_over_http().await;
    let identity = Identity::new();
    let mut before = config(&url);
    if has_tls {
        before["proxy"]["tls"] = identity.config();
        before["proxy"]["allowedHosts"] = json!(["localhost"]);
    }
    let mut gate = Gate::start(before.clone()).await;
    let go_on = GoOn::new(goes_on.into());
    let readers = match has_tls {
        true => over_http2(&gate, &identity, &go_on).await,
        false => over_http1(&gate, &go_on).await,
    };
    let kinds = readers.len();
    let standstill = Standstill::watch();
    until("every stream brings something", || {
        readers.iter().all(|reader| reader.bytes.load(Ordering::Relaxed) > FIRST)
    })
    .await;
    let early = gate.log.all().iter().filter(|line| line["msg"] == "Stream closed").count();
    assert_eq!(early, 0, "{}", gate.log.text());

    let lost = match cause {
        Cause::Removed => {
            let mut after = before;
            after["proxy"]["auth"]["tokens"].as_object_mut().unwrap().remove("goes");
            for server in ["bytes", "small"] {
                after["mcpServers"][server]["authTokens"] = json!(["ops"]);
            }
            let lost = SystemTime::now();
            gate.reload(after);
            lost
        }
        Cause::Ungranted => {
            let mut after = before;
            for server in ["bytes", "small"] {
                after["mcpServers"][server]["authTokens"] = json!(["ops"]);
            }
            let lost = SystemTime::now();
            gate.reload(after);
            lost
        }
        Cause::Expired => {
            let mut after = before;
            let expires = SystemTime::now() + Duration::from_secs(1);
            let moment = humantime::format_rfc3339_micros(expires).to_string();
            after["proxy"]["auth"]["tokens"]["goes"] = json!({ "value": GOES, "expires": moment });
            gate.reload(after);
            expires
        }
        Cause::Stopped => {
            let lost = SystemTime::now();
            let run_state = |name| Arc::clone(&gate.gateway.shared().live().entries[name].run_state);
            if has_tls {
                for name in ["bytes", "small"] {
                    run_state(name).stop();
                }
                gate.gateway.shared().note_change();
            } else {
                for name in ["bytes", "small"] {
                    let stop = post(&format!("/servers/{name}/stop"), DEV, "", "");
                    assert_eq!(gate.ask(&stop).await.0, 200);
                }
            }
            lost
        }
        Cause::Shutdown => SystemTime::now(),
    };
    let log = gate.log.clone();
    if cause == Cause::Shutdown {
        soon("the end of the gateway", shutdown(gate.gateway, Duration::ZERO)).await;
    }
    // A stream whose client takes nothing ends as well: its server does not go on for nobody. All servers as one go on
    // where only this one is lost: the call fails then, and that is the end of its stream.
    let is_of_all = |line: &Value| {
        let is_its = |other: &Value| other["request_id"] == line["request_id"] && other["path"] == "/mcp";
        line["server"] == "mcp" || log.all().iter().any(is_its)
    };
    let goes_on_without = matches!(cause, Cause::Ungranted | Cause::Stopped);
    let closed = || log.all().into_iter().filter(|line| line["msg"] == "Stream closed").collect::<Vec<_>>();
    let of_all = if has_tls || !goes_on_without { 0 } else { 2 };
    until("every stream is closed", || goes_on || closed().len() >= kinds - of_all).await;
    go_on.store(true, Ordering::Relaxed);
    for reader in readers {
        let brought = soon("the end of a stream", reader.end).await.unwrap();
        let latest = brought.made.iter().copied().fold(0.0, f64::max);
        let late = latest - seconds(lost);
        assert!(
            late < (SOON + standstill.longest()).as_secs_f64(),
            "{}: made {late:.3} s later ({cause:?})",
            brought.kind
        );
        assert!(brought.made.len() > 50, "{}: {} events", brought.kind, brought.made.len());
    }
    until("every stream is closed", || closed().len() == kinds).await;
    for line in closed() {
        // Members ask for the grant at each event, and a server that is stopped ends its sessions, so that what is behind the
        // stream may be gone before the stream itself is ended. It is over then all the same.
        let may_end_well = is_of_all(&line) || cause == Cause::Stopped;
        let is_expected = match line["reason"].as_str().unwrap() {
            "upstream_end" => may_end_well,
            reason => reason == cause.reason() && !(is_of_all(&line) && goes_on_without),
        };
        assert!(is_expected, "{line}");
    }
}

macro_rules! stories {
    ($($name:ident: $cause:ident, $goes_on:literal;)*) => {$(
        #[tokio::test]
        async fn $name() {
            for has_tls in [false, true] {
                nothing_made_later_is_delivered(Cause::$cause, $goes_on, has_tls).await;
            }
        }
    )*};
}

stories! {
    a_slow_reader_gets_nothing_made_after_its_token_was_removed: Removed, true;
    a_slow_reader_gets_nothing_made_after_its_token_expired: Expired, true;
    a_slow_reader_gets_nothing_made_after_its_grant_was_taken_away: Ungranted, true;
    a_slow_reader_gets_nothing_made_after_the_server_was_stopped: Stopped, true;
    a_slow_reader_gets_nothing_made_after_the_cut_of_a_shutdown: Shutdown, true;
    who_lets_data_lie_gets_nothing_made_after_its_token_was_removed: Removed, false;
    who_lets_data_lie_gets_nothing_made_after_its_token_expired: Expired, false;
    who_lets_data_lie_gets_nothing_made_after_its_grant_was_taken_away: Ungranted, false;
    who_lets_data_lie_gets_nothing_made_after_the_server_was_stopped: Stopped, false;
    who_lets_data_lie_gets_nothing_made_after_the_cut_of_a_shutdown: Shutdown, false;
}
