use std::{
    net::IpAddr,
    sync::{Arc, Mutex},
    task::Waker,
};

use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use proptest::prelude::*;

use tokio::io::DuplexStream;

use crate::{
    config::PerAddress,
    downstream::{connection::ListenerKind, frames::*, interim::Leave, slots::Connections},
    identity::Visitor,
    watchdog::Watchdog,
};

const PREFACE_BYTES: &[u8; PREFACE] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A path, literal and not kept.
fn path(path: &str) -> Vec<u8> {
    [&[0x04, path.len() as u8], path.as_bytes()].concat()
}

/// Whether a connection that sends this is rejected, in one piece and byte by byte. What comes then counts in any case.
fn is_rejected(frames: &[Vec<u8>]) -> bool {
    let behind = [frame(6, 0, 0, &[7; 8]), frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])].concat();
    let bytes = [PREFACE_BYTES.to_vec(), frames.concat()].concat();
    let outcome = |size| {
        let mut frames = Frames::new(1000, Rc::default());
        for piece in bytes.chunks(size) {
            assert_eq!(frames.push(piece), piece.len(), "in pieces of {size}");
        }
        let is_rejected = frames.is_rejected;
        frames.push(&behind);
        assert_eq!(frames.windows, 1, "in pieces of {size}");
        (is_rejected, frames.idle, frames.requests, frames.last_stream)
    };
    let whole = outcome(bytes.len());
    for size in [1, 2, 7] {
        assert_eq!(outcome(size), whole, "in pieces of {size}");
    }
    let count = |wanted: &dyn Fn(u8, &[u8]) -> bool| {
        frames.iter().filter(|frame| wanted(frame[3], &frame[HEAD..])).count() as u64
    };
    assert_eq!(whole.1, 2 + count(&|kind, payload| kind == SETTINGS || (kind == DATA && payload.is_empty())));
    assert_eq!(whole.2, count(&|kind, _| kind == HEADERS));
    whole.0
}

#[test]
fn a_fragment_is_found_however_its_header_block_is_framed() {
    let settings = || frame(4, 0, 0, &[]);
    let data = || frame(0, 0, 1, b"\x04\x02/#");
    for (text, wanted) in [("/a?b", false), ("/a#b", true), ("#", true)] {
        let block = path(text);
        let (first, rest) = block.split_at(1);
        let padded = [&[3], &block[..], b"###"].concat();
        let priority = [&[0, 0, 0, 3, 9], &block[..]].concat();
        let both = [&[2, 0x80, 0, 0, 3, 9], &block[..], b"##"].concat();
        for frames in [
            vec![settings(), frame(HEADERS, END_HEADERS, 1, &block), data()],
            vec![data(), frame(HEADERS, END_HEADERS | PADDED, 1, &padded)],
            vec![frame(HEADERS, END_HEADERS | PRIORITY, 1, &priority), settings()],
            vec![frame(HEADERS, END_HEADERS | PADDED | PRIORITY, 1, &both), data()],
            vec![frame(HEADERS, 0, 1, first), frame(CONTINUATION, END_HEADERS, 1, rest)],
            vec![
                frame(HEADERS, 0, 1, &[]),
                frame(CONTINUATION, 0, 1, &block),
                frame(CONTINUATION, END_HEADERS, 1, &[]),
                data(),
            ],
            // Trailers count like any other.
            vec![
                frame(HEADERS, END_HEADERS, 1, &path("/")),
                data(),
                frame(HEADERS, END_HEADERS | 1, 1, &block),
            ],
        ] {
            assert_eq!(is_rejected(&frames), wanted, "{text} {frames:?}");
        }
    }
}

#[test]
fn what_h2_would_read_otherwise_is_rejected() {
    let block = path("/");
    for frames in [
        // It depends on itself, and its block would not count for h2.
        vec![frame(HEADERS, END_HEADERS | PRIORITY, 1, &[&[0x80, 0, 0, 1, 9], &block[..]].concat())],
        vec![frame(HEADERS, END_HEADERS | PADDED, 1, &[])],
        vec![frame(HEADERS, END_HEADERS | PADDED, 1, &[9, 1])],
        vec![frame(HEADERS, END_HEADERS | PRIORITY, 1, &[0; 4])],
        vec![frame(HEADERS, 0, 1, &block), frame(HEADERS, END_HEADERS, 3, &block)],
        vec![frame(HEADERS, 0, 1, &block), frame(0, 0, 1, &[])],
        vec![frame(HEADERS, 0, 1, &block), frame(CONTINUATION, END_HEADERS, 3, &block)],
        vec![frame(CONTINUATION, END_HEADERS, 1, &block)],
        vec![frame(HEADERS, END_HEADERS, 1, &[0xFF; 8])],
        // No more is held than a header list may have.
        vec![frame(HEADERS, 0, 1, &[b'x'; 3000]), frame(CONTINUATION, 0, 1, &[b'x'; 1001])],
        vec![frame(HEADERS, 0, 1, &[b'x'; 4001])],
    ] {
        assert!(is_rejected(&frames), "{frames:?}");
    }
}

#[test]
fn it_stops_behind_the_head_of_each_request_that_has_an_expect() {
    let asks = |flags, stream, cut: usize| {
        let block = [&path("/")[..], b"\x0f\x14\x0c100-continue"].concat();
        let (first, rest) = block.split_at(cut);
        [frame(HEADERS, flags, stream, first), frame(CONTINUATION, END_HEADERS, stream, rest)].concat()
    };
    let silent = |stream| frame(HEADERS, END_HEADERS, stream, &path("/"));
    let settings = frame(SETTINGS, 0, 0, b"\0\x03\0\0\0\x64\0\x01\0\0\0\0");
    let pieces = [
        [PREFACE_BYTES.to_vec(), settings, silent(1), frame(SETTINGS, ACK, 0, &[]), asks(0, 3, 0)].concat(),
        asks(END_STREAM, 5, 4),
        [frame(DATA, 0, 3, b"body"), silent(7), asks(0, 9, 18)].concat(),
        // Trailers are no request, nor is what comes too late to be one.
        [asks(END_STREAM, 9, 6), asks(END_STREAM, 3, 6), asks(0, 7, 6), frame(DATA, END_STREAM, 9, b"")]
            .concat(),
    ];
    let bytes = pieces.concat();
    for size in [1, 2, 7, bytes.len()] {
        let mut frames = Frames::new(1000, Rc::default());
        let (mut at, mut stops) = (0, Vec::new());
        while at < bytes.len() {
            let piece = &bytes[at..(at + size).min(bytes.len())];
            let seen = frames.push(piece);
            at += seen;
            match frames.expecting.take() {
                Some(stream) => stops.push((at, u32::from_be_bytes(stream))),
                None => assert_eq!(seen, piece.len()),
            }
        }
        let ends = pieces.iter().scan(0, |end, piece| {
            *end += piece.len();
            Some(*end)
        });
        let wanted: Vec<_> = ends.zip([3, 5, 9]).collect();
        assert_eq!(stops, wanted, "in pieces of {size}");
    }
}

#[test]
fn the_size_of_the_table_is_the_last_that_settings_name() {
    for (payload, wanted) in [
        (&b""[..], None),
        (b"\0\x01\0\0\x10\0", Some(4096)),
        (b"\0\x03\0\0\0\x64\0\x01\0\0\0\0", Some(0)),
        (b"\0\x01\0\0\0\0\0\x04\0\0\xff\xff\0\x01\0\0\0\x09", Some(9)),
        (b"\x01\0\0\0\0\x01\0\x01\0", None),
    ] {
        assert_eq!(table_size(payload), wanted);
    }
}

/// Reads what a client sends, and keeps it.
struct Tee<T>(T, Arc<Mutex<Vec<u8>>>);

impl<T: AsyncRead + Unpin> AsyncRead for Tee<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.0).poll_read(cx, buf);
        self.1.lock().unwrap().extend_from_slice(&buf.filled()[before..]);
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Tee<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Names and values of a request's fields, by number, so that they repeat.
type Fields = Vec<(u8, u8)>;

/// What a real client sends for requests with these fields, each of whose values has a `#`.
fn sent(requests: &[Fields]) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    runtime.block_on(async {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let answer = service_fn(|_: Request<Incoming>| async {
            Ok::<_, std::convert::Infallible>(Response::new(Full::new(bytes::Bytes::new())))
        });
        let tee = TokioIo::new(Tee(theirs, Arc::clone(&seen)));
        let server =
            hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(tee, answer);
        let (mut client, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(ours)).await.unwrap();
        tokio::spawn(server);
        tokio::spawn(connection);
        for (number, fields) in requests.iter().enumerate() {
            let mut request = Request::get(format!("https://localhost/{number}?{number}"))
                .body(Full::new(bytes::Bytes::new()))
                .unwrap();
            for (name, value) in fields {
                let name = HeaderName::try_from(format!("x-{}", "n".repeat(usize::from(*name)))).unwrap();
                let value = HeaderValue::try_from(format!("{value}#{}", "v".repeat(usize::from(*value) * 4)))
                    .unwrap();
                request.headers_mut().append(name, value);
            }
            assert_eq!(client.send_request(request).await.unwrap().status(), 200);
        }
    });
    let seen = seen.lock().unwrap();
    seen.clone()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn the_table_of_a_real_client_is_followed_so_that_no_other_field_is_taken_for_a_path(
        requests in prop::collection::vec(prop::collection::vec((0u8..40, any::<u8>()), 0..12), 1..12),
        cuts in prop::collection::vec(1usize..200, 1..8),
    ) {
        let bytes = sent(&requests);
        let mut frames = Frames::new(1 << 20, Rc::default());
        let mut rest = &bytes[..];
        for cut in cuts.into_iter().cycle() {
            let (piece, behind) = rest.split_at(cut.min(rest.len()));
            prop_assert_eq!(frames.push(piece), piece.len());
            rest = behind;
            if rest.is_empty() {
                break;
            }
        }
        // And what that client would send next as its own path is one, by the newest entry of the table that is.
        prop_assert!(!frames.is_rejected);
        frames.push(&frame(HEADERS, END_HEADERS, 99, &path("/#")));
        prop_assert!(frames.is_rejected);
    }
}

#[test]
fn a_client_may_send_as_many_idle_frames_as_it_has_reason_for() {
    let began = Instant::now();
    let mut frames = Frames::new(1000, Rc::default());
    let mut budget = FrameBudget { since: began, idle: 0, requests: 0, sent: 0 };
    let mut is_disturbed = |idle, requests, sent, after: Duration| {
        (frames.idle, frames.requests) = (idle, requests);
        budget.sent += sent;
        budget.is_disturbed(&frames, began + after)
    };
    let soon = CALM_FOR - Duration::from_nanos(1);
    assert!(!is_disturbed(MOST_IDLE, 0, 0, Duration::ZERO));
    assert!(is_disturbed(MOST_IDLE + 1, 0, 0, soon));
    // A request is reason for one, and so is so much of an answer.
    assert!(!is_disturbed(MOST_IDLE + 5, 5, 0, soon) && is_disturbed(MOST_IDLE + 6, 5, 0, soon));
    assert!(is_disturbed(MOST_IDLE + 7, 5, 2 * BYTES_PER_IDLE - 1, soon));
    assert!(!is_disturbed(MOST_IDLE + 7, 5, 1, soon) && is_disturbed(MOST_IDLE + 8, 5, 0, soon));
    // After a while it begins anew.
    assert!(!is_disturbed(2 * MOST_IDLE, 5, 0, CALM_FOR));
    assert!(!is_disturbed(3 * MOST_IDLE, 5, 0, CALM_FOR + soon));
    assert!(is_disturbed(3 * MOST_IDLE + 1, 5, 0, CALM_FOR + soon));
    assert!(!is_disturbed(3 * MOST_IDLE + 2, 7, 0, CALM_FOR + soon));
}

#[test]
fn what_is_held_of_a_header_block_and_of_settings_has_its_limit() {
    let settings = |length: usize| vec![frame(SETTINGS, 0, 0, &vec![0; length])];
    assert!(!is_rejected(&[frame(HEADERS, 0, 1, &[b'x'; 4000])]));
    assert!(!is_rejected(&settings(MOST_SETTINGS)) && is_rejected(&settings(MOST_SETTINGS + 1)));
}

#[test]
fn a_frame_may_be_long() {
    // 70,001 bytes of path, as HPACK writes the number (RFC 7541 §5.1).
    let long = |end: &str| {
        let text = format!("/{}{end}", "a".repeat(70_000 - end.len()));
        [&b"\x04\x7f\xf2\xa1\x04"[..], text.as_bytes()].concat()
    };
    for (end, wanted) in [("", false), ("#", true)] {
        let data = frame(DATA, 0, 1, &vec![b'#'; 66_000]);
        let bytes = [PREFACE_BYTES.to_vec(), data, frame(HEADERS, END_HEADERS, 1, &long(end))].concat();
        for size in [1000, 65_536, bytes.len()] {
            let mut frames = Frames::new(1 << 20, Rc::default());
            bytes.chunks(size).for_each(|piece| assert_eq!(frames.push(piece), piece.len()));
            assert_eq!((frames.is_rejected, frames.requests), (wanted, 1), "{end} in pieces of {size}");
        }
    }
}

/// A client's side of a connection that holds so many bytes each way, and the client.
struct Http2 {
    stream: Http2Stream<DuplexStream>,
    client: DuplexStream,
    connection: Rc<Connection>,
    expectations: Rc<Expectations>,
}

impl Http2 {
    fn new(room: usize) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, r#"{"mcpServers": {}}"#).unwrap();
        let limits = crate::config::load(file.path(), &|_| None).snapshot.unwrap().limits;
        let per_address = PerAddress { connections: 9, handshakes: 9 };
        let address = IpAddr::from([192, 0, 2, 1]);
        let slot = Connections::new(9, 1, per_address).enter(address.into(), false, 0);
        let watched = Rc::new(Watchdog::default()).watch(Visitor::default());
        let connection =
            Connection::new((address, 1).into(), ListenerKind::Public, slot, Arc::new(limits), watched);
        let (connection, expectations) = (Rc::new(connection), Rc::<Expectations>::default());
        let (theirs, client) = tokio::io::duplex(room);
        let stream = Http2Stream::new(theirs, Rc::clone(&connection), Rc::clone(&expectations), 1000);
        Self { stream, client, connection, expectations }
    }

    fn client_sends(&mut self, bytes: &[u8]) {
        let written = Pin::new(&mut self.client).poll_write(&mut Context::from_waker(Waker::noop()), bytes);
        assert!(matches!(written, Poll::Ready(Ok(n)) if n == bytes.len()));
    }

    /// What h2 reads into so much room.
    fn reads(&mut self, room: usize) -> Poll<io::Result<Vec<u8>>> {
        read_from(&mut self.stream, room)
    }

    /// What has come to the client.
    fn client_has(&mut self) -> Vec<u8> {
        match read_from(&mut self.client, 1 << 20) {
            Poll::Ready(read) => read.unwrap(),
            Poll::Pending => Vec::new(),
        }
    }

    /// h2 writes this in parts; how much is taken at once.
    fn writes(&mut self, parts: &[&[u8]]) -> usize {
        let cx = &mut Context::from_waker(Waker::noop());
        let parts: Vec<_> = parts.iter().map(|part| io::IoSlice::new(part)).collect();
        match Pin::new(&mut self.stream).poll_write_vectored(cx, &parts) {
            Poll::Ready(written) => written.unwrap(),
            Poll::Pending => 0,
        }
    }

    /// A client asks to go on with its request, and h2 hands that over.
    fn asks(&mut self, stream: u32) -> Leave {
        self.client_sends(&asks(stream));
        assert_eq!(self.reads(1000).map(Result::unwrap), Poll::Ready(asks(stream)));
        assert!(self.reads(1000).is_pending());
        let fields =
            http::HeaderMap::from_iter([(http::header::EXPECT, HeaderValue::from_static("100-continue"))]);
        let leave = self.expectations.begins(&fields).unwrap();
        assert!(self.expectations.has_handed_over());
        leave
    }
}

fn read_from(stream: &mut (impl AsyncRead + Unpin), room: usize) -> Poll<io::Result<Vec<u8>>> {
    let mut space = vec![0; room];
    let mut buf = ReadBuf::new(&mut space);
    let read = Pin::new(stream).poll_read(&mut Context::from_waker(Waker::noop()), &mut buf);
    read.map_ok(|()| buf.filled().to_vec())
}

fn asks(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &[&path("/")[..], b"\x0f\x14\x0c100-continue"].concat())
}

/// How a request is told to go on.
fn go_on(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, b"\x08\x03100")
}

#[test]
fn what_is_behind_a_head_with_an_expect_is_for_h2_once_it_has_handed_that_over() {
    let mut http2 = Http2::new(1 << 16);
    let behind = [frame(DATA, 0, 3, b"body"), asks(5), frame(DATA, 0, 5, b"more")].concat();
    http2.client_sends(&[PREFACE_BYTES.to_vec(), asks(3), behind.clone()].concat());
    let first = [PREFACE_BYTES.to_vec(), asks(3)].concat();
    assert_eq!(http2.reads(1000).map(Result::unwrap), Poll::Ready(first));
    assert!(http2.reads(1000).is_pending());
    assert!(http2.expectations.has_handed_over());
    // In small parts, up to the next such head.
    let mut seen = Vec::new();
    while let Poll::Ready(read) = http2.reads(10) {
        seen.extend(read.unwrap());
    }
    assert_eq!(seen, [frame(DATA, 0, 3, b"body"), asks(5)].concat());
    assert!(http2.expectations.has_handed_over());
    http2.client_sends(b"and what comes then");
    assert_eq!(http2.reads(1000).map(Result::unwrap), Poll::Ready(frame(DATA, 0, 5, b"more")));
    assert_eq!(http2.reads(1000).map(Result::unwrap), Poll::Ready(b"and what comes then".to_vec()));
}

#[test]
fn a_path_with_a_fragment_is_reported_for_its_connection() {
    let mut http2 = Http2::new(1 << 16);
    http2.client_sends(&[PREFACE_BYTES.to_vec(), frame(HEADERS, END_HEADERS, 1, &path("/a"))].concat());
    let _ = http2.reads(1000);
    assert!(!http2.connection.is_rejected());
    let leave = http2.asks(3);
    http2.client_sends(&frame(HEADERS, END_HEADERS, 5, &path("/a#b")));
    assert!(http2.reads(1000).is_ready());
    assert!(http2.connection.is_rejected());
    // From there on nobody is told to go on.
    leave.give();
    assert_eq!((http2.writes(&[b""]), http2.client_has()), (0, vec![]));
}

#[test]
fn a_client_that_floods_is_told_to_calm_down() {
    let mut http2 = Http2::new(1 << 16);
    let pings = frame(6, 0, 0, &[7; 8]).repeat(usize::try_from(MOST_IDLE).unwrap());
    http2.client_sends(&[PREFACE_BYTES.to_vec(), frame(HEADERS, END_HEADERS, 9, &path("/")), pings].concat());
    assert!(matches!(http2.reads(1 << 16), Poll::Ready(Ok(_))));
    assert_eq!(http2.client_has(), b"");
    http2.client_sends(&frame(6, 0, 0, &[7; 8]).repeat(2));
    assert!(matches!(http2.reads(1 << 16), Poll::Ready(Err(_))));
    assert_eq!(http2.client_has(), frame(GOAWAY, 0, 0, &[0, 0, 0, 9, 0, 0, 0, 11]));

    // Not within a frame of h2's own.
    let mut http2 = Http2::new(1 << 16);
    let pings = frame(6, 0, 0, &[7; 8]).repeat(usize::try_from(MOST_IDLE + 1).unwrap());
    http2.client_sends(&[PREFACE_BYTES.to_vec(), pings].concat());
    assert_eq!(http2.writes(&[b"\0\0\x04\0\0"]), 5);
    assert!(matches!(http2.reads(1 << 16), Poll::Ready(Err(_))));
    assert_eq!(http2.client_has(), b"\0\0\x04\0\0");
}

#[test]
fn what_is_sent_is_reason_for_frames_of_the_client() {
    let mut http2 = Http2::new(1 << 16);
    let answer = frame(DATA, 0, 1, &vec![b'x'; 10 * BYTES_PER_IDLE as usize]);
    assert_eq!(http2.writes(&[&answer]), answer.len());
    let pings = frame(6, 0, 0, &[7; 8]).repeat(usize::try_from(MOST_IDLE + 10).unwrap());
    http2.client_sends(&[PREFACE_BYTES.to_vec(), pings].concat());
    assert!(matches!(http2.reads(1 << 16), Poll::Ready(Ok(_))));
    http2.client_sends(&frame(6, 0, 0, &[7; 8]));
    assert!(matches!(http2.reads(1 << 16), Poll::Ready(Err(_))));
}

#[test]
fn leave_to_go_on_comes_between_two_frames_however_they_are_written() {
    let answers = [frame(DATA, 0, 1, b"first"), frame(DATA, 0, 1, &[b's'; 300]), frame(DATA, 0, 1, b"third")];
    let whole = answers.concat();
    for (room, cut, parts) in [
        (1 << 16, 5, 1),
        (1 << 16, 11, 2),
        (16, 5, 3),
        (16, 14, 2),
        (16, 20, 7),
        (500, 320, 2),
        (500, 330, 3),
    ] {
        let mut http2 = Http2::new(1 << 16);
        http2.client_sends(PREFACE_BYTES);
        let _ = http2.reads(1000);
        let leave = http2.asks(3);
        let (theirs, client) = tokio::io::duplex(room);
        (http2.stream.inner, http2.client) = (theirs, client);
        let (mut at, mut came) = (0, Vec::new());
        let mut leave = Some(leave);
        while at < whole.len() {
            let end = if at < cut { cut } else { whole.len() };
            let size = (end - at).div_ceil(parts);
            let pieces: Vec<_> = whole[at..end].chunks(size).collect();
            let taken = http2.writes(&pieces);
            assert!(taken > 0);
            at += taken;
            came.extend(http2.client_has());
            if at >= cut
                && let Some(leave) = leave.take()
            {
                leave.give();
            }
        }
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(matches!(Pin::new(&mut http2.stream).poll_flush(cx), Poll::Ready(Ok(()))));
        came.extend(http2.client_has());
        // Behind the frame that was under way.
        let ends = [0, answers[0].len(), answers[0].len() + answers[1].len(), whole.len()];
        let end = ends.into_iter().find(|end| *end >= cut).unwrap();
        assert_eq!(came, [&whole[..end], &go_on(3), &whole[end..]].concat(), "{room} {cut} {parts}");
        assert!(http2.stream.is_write_vectored());
        assert!(matches!(Pin::new(&mut http2.stream).poll_shutdown(cx), Poll::Ready(Ok(()))));
        assert!(matches!(read_from(&mut http2.client, 9), Poll::Ready(Ok(end)) if end.is_empty()));
    }
}

#[test]
fn nothing_waits_while_nothing_is_due_and_leave_comes_with_a_flush() {
    let mut http2 = Http2::new(1 << 16);
    http2.client_sends(PREFACE_BYTES);
    let _ = http2.reads(1000);
    let leave = http2.asks(3);
    let answer = frame(DATA, 0, 1, b"answer");
    let cx = &mut Context::from_waker(Waker::noop());
    assert_eq!(http2.writes(&[b"", &answer[..4], &answer[4..]]), answer.len(), "all at once");
    let written = Pin::new(&mut http2.stream).poll_write(cx, &answer);
    assert!(matches!(written, Poll::Ready(Ok(n)) if n == answer.len()));
    leave.give();
    assert!(matches!(Pin::new(&mut http2.stream).poll_flush(cx), Poll::Ready(Ok(()))));
    assert_eq!(http2.client_has(), [&answer[..], &answer[..], &go_on(3)[..]].concat());
}

#[test]
fn who_has_ended_its_side_is_not_told_to_go_on() {
    for (ends, is_told) in [
        (frame(DATA, 0, 3, b"x"), true),
        (frame(DATA, END_STREAM, 3, b"x"), false),
        (frame(DATA, END_STREAM, 5, b"x"), true),
        (frame(RST_STREAM, 0, 3, &[0, 0, 0, 8]), false),
        (frame(6, ACK, 3, &[7; 8]), true),
        (frame(HEADERS, END_HEADERS | END_STREAM, 3, &[]), false),
        (frame(HEADERS, END_HEADERS | END_STREAM, 5, &path("/")), true),
    ] {
        let mut http2 = Http2::new(1 << 16);
        http2.client_sends(PREFACE_BYTES);
        let _ = http2.reads(1000);
        let leave = http2.asks(3);
        http2.client_sends(&ends);
        assert!(http2.reads(1000).is_ready());
        leave.give();
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(matches!(Pin::new(&mut http2.stream).poll_flush(cx), Poll::Ready(Ok(()))));
        assert_eq!(http2.client_has(), if is_told { go_on(3) } else { vec![] }, "{ends:?}");
    }
}

#[test]
fn settings_of_the_client_hold_once_they_are_acknowledged() {
    let smaller = || frame(SETTINGS, 0, 0, b"\0\x01\0\0\0\x05");
    let mut http2 = Http2::new(1 << 16);
    http2.client_sends(PREFACE_BYTES);
    let _ = http2.reads(1000);
    let (first, second) = (http2.asks(3), http2.asks(5));
    // None of these is a setting of the client's that h2 will acknowledge.
    http2.client_sends(&[frame(SETTINGS, ACK, 0, &[]), frame(6, 0, 0, &[7; 8]), smaller()].concat());
    let _ = http2.reads(1000);
    let cx = &mut Context::from_waker(Waker::noop());
    // Settings of h2's own acknowledge nothing.
    let own = frame(SETTINGS, 0, 0, &[]);
    assert_eq!(http2.writes(&[&own]), own.len());
    first.give();
    assert!(matches!(Pin::new(&mut http2.stream).poll_flush(cx), Poll::Ready(Ok(()))));
    assert_eq!(http2.client_has(), [own, go_on(3)].concat());
    let acknowledged = frame(SETTINGS, ACK, 0, &[]);
    assert_eq!(http2.writes(&[&acknowledged]), acknowledged.len());
    second.give();
    assert!(matches!(Pin::new(&mut http2.stream).poll_flush(cx), Poll::Ready(Ok(()))));
    let resized = frame(HEADERS, END_HEADERS, 5, b"\x25\x08\x03100");
    assert_eq!(http2.client_has(), [acknowledged, resized].concat());
}
