use std::sync::{Arc, Mutex};

use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use proptest::prelude::*;

use crate::downstream::frames::*;

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
        [asks(END_STREAM, 3, 6), asks(0, 7, 6), frame(DATA, END_STREAM, 9, b"")].concat(),
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
