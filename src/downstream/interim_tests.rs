use proptest::prelude::*;

use crate::downstream::interim::*;

const END_STREAM: u8 = 0x01;
const DATA: u8 = 0;
const PING: u8 = 6;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

fn go_on(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, STATUS)
}

/// Takes so many bytes at a time, and is stuck in between where that is none.
struct Sink {
    taken: Vec<u8>,
    takes: Vec<usize>,
    turn: usize,
}

impl Sink {
    fn new(takes: Vec<usize>) -> Self {
        Self { taken: Vec::new(), takes, turn: 0 }
    }
}

impl AsyncWrite for Sink {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let most = self.takes.get(self.turn % self.takes.len().max(1)).copied().unwrap_or(usize::MAX);
        self.turn += 1;
        let here = most.min(buf.len());
        self.taken.extend_from_slice(&buf[..here]);
        if here == 0 { Poll::Pending } else { Poll::Ready(Ok(here)) }
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// One side of a connection, with requests that came with an `Expect`.
struct Side {
    outgoing: OutgoingFrames,
    sink: Sink,
}

impl Side {
    fn new(takes: Vec<usize>) -> Self {
        Self { outgoing: OutgoingFrames::new(Rc::default()), sink: Sink::new(takes) }
    }

    fn expectations(&self) -> &Rc<Expectations> {
        &self.outgoing.expectations
    }

    /// A request comes as h2 hands it over.
    fn asks(&self, stream: u32) -> Leave {
        let expectations = self.expectations();
        expectations.gives(stream.to_be_bytes(), &Context::from_waker(Waker::noop()));
        assert!(expectations.withholds());
        let fields = HeaderMap::from_iter([(header::EXPECT, "100-continue".parse().unwrap())]);
        assert!(expectations.begins(&HeaderMap::new()).is_none());
        let leave = expectations.begins(&fields).unwrap();
        assert!(expectations.has_handed_over() && !expectations.withholds());
        leave
    }

    /// Writes as h2 does, as far as the sink takes it at once; says how much that is.
    fn writes(&mut self, bytes: &[u8]) -> usize {
        let cx = &mut Context::from_waker(Waker::noop());
        let Poll::Ready(Ok(most)) = self.outgoing.poll_due(&mut self.sink, cx) else { return 0 };
        match Pin::new(&mut self.sink).poll_write(cx, &bytes[..most.min(bytes.len())]) {
            Poll::Ready(Ok(written)) => {
                self.outgoing.push(&bytes[..written]);
                written
            }
            _ => 0,
        }
    }

    fn writes_all(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = &rest[self.writes(rest)..];
        }
    }

    /// As when h2 flushes. What has been sent since the last time.
    fn sent(&mut self) -> Vec<u8> {
        let cx = &mut Context::from_waker(Waker::noop());
        while self.outgoing.poll_due(&mut self.sink, cx).is_pending() {}
        std::mem::take(&mut self.sink.taken)
    }
}

#[test]
fn it_is_sent_once_and_only_while_it_is_of_use() {
    let mut side = Side::new(vec![]);
    let (first, second) = (side.asks(1), side.asks(3));
    assert!(side.sent().is_empty());
    second.give();
    assert_eq!(side.sent(), go_on(3));
    first.give();
    assert_eq!(side.sent(), go_on(1));
    assert!(side.sent().is_empty());
    let leave = side.asks(5);
    side.writes_all(&frame(HEADERS, END_HEADERS, 7, b"other"));
    leave.give();
    assert!(side.sent().ends_with(&go_on(5)));
    // The answer, a reset of either side, and the end of what the client sends.
    let ends: [fn(&mut Side); 4] = [
        |side| side.writes_all(&frame(HEADERS, END_HEADERS, 9, b"answer")),
        |side| side.writes_all(&frame(HEADERS, END_HEADERS | END_STREAM, 9, b"answer")),
        |side| side.writes_all(&frame(RST_STREAM, 0, 9, &[0; 4])),
        |side| side.expectations().ended(9_u32.to_be_bytes()),
    ];
    for end in ends {
        let leave = side.asks(9);
        end(&mut side);
        side.sent();
        leave.give();
        assert!(side.sent().is_empty() && side.expectations().open.borrow().is_empty());
        // It was asked for, and the end came before it was sent.
        let leave = side.asks(9);
        side.writes(&frame(DATA, 0, 11, b"piece")[..3]);
        leave.give();
        side.writes_all(&frame(DATA, 0, 11, b"piece")[3..HEAD]);
        side.expectations().ended(9_u32.to_be_bytes());
        side.writes_all(b"piece");
        assert_eq!(side.sent(), frame(DATA, 0, 11, b"piece"));
    }
}

#[test]
fn h2_gets_nothing_behind_a_head_until_it_has_handed_over_what_it_has() {
    let expectations = Rc::new(Expectations::default());
    let cx = Context::from_waker(Waker::noop());
    assert!(!expectations.withholds() && !expectations.has_handed_over());
    expectations.gives([0, 0, 0, 1], &cx);
    // It has other things to do before it looks at the head, such as to wait until it can write.
    assert!(!expectations.has_handed_over());
    assert!(expectations.withholds() && expectations.withholds());
    // It has refused the request.
    assert!(expectations.has_handed_over());
    assert!(!expectations.withholds() && !expectations.has_handed_over());
    let fields = HeaderMap::from_iter([(header::EXPECT, "100-continue".parse().unwrap())]);
    assert!(expectations.begins(&fields).is_none());
}

#[test]
fn a_table_that_was_asked_for_is_spoken_of_until_h2_has_done_so() {
    let resized = |update: &[u8]| frame(HEADERS, END_HEADERS, 1, &[update, STATUS].concat());
    let acknowledges = |side: &mut Side| {
        side.writes_all(&frame(SETTINGS, ACK, 0, &[]));
        side.sent();
    };
    for (settings, wanted) in [
        (&[None][..], &[][..]),
        (&[Some(4096)], &[]),
        (&[Some(u32::MAX)], &[]),
        (&[Some(0)], &[0x20]),
        (&[Some(30)], &[0x3E]),
        // RFC 7541 §5.1, with a prefix of 5 bits.
        (&[Some(31)], &[0x3F, 0]),
        (&[Some(1337)], &[0x3F, 0x9A, 0x0A]),
        (&[Some(4095)], &[0x3F, 0xE0, 0x1F]),
        (&[Some(100), None, Some(0), Some(4096)], &[0x20]),
    ] {
        let mut side = Side::new(vec![]);
        for table in settings {
            side.expectations().settings(*table);
        }
        // It holds when the client knows that it does.
        side.asks(1).give();
        assert_eq!(side.sent(), go_on(1));
        for _ in settings {
            acknowledges(&mut side);
        }
        for _ in 0..2 {
            side.asks(1).give();
            assert_eq!(side.sent(), resized(wanted), "{settings:?}");
        }
        side.writes_all(&frame(HEADERS, END_HEADERS, 3, b"spoken of"));
        side.sent();
        side.asks(1).give();
        assert_eq!(side.sent(), go_on(1), "{settings:?}");
    }
    // What h2 had not acknowledged when it wrote its block is new to it.
    let mut side = Side::new(vec![]);
    side.expectations().settings(Some(0));
    side.expectations().settings(Some(50));
    acknowledges(&mut side);
    side.writes_all(&frame(HEADERS, END_HEADERS, 3, b"spoken of"));
    acknowledges(&mut side);
    side.asks(1).give();
    assert!(side.sent().ends_with(&resized(&[0x3F, 19])));
}

/// What h2 may write: a frame, or a header block in several.
fn written() -> impl Strategy<Value = Vec<u8>> {
    let payload = || prop::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        payload().prop_map(|payload| frame(DATA, 0, 101, &payload)),
        payload().prop_map(|payload| frame(PING, 0, 0, &payload)),
        prop::collection::vec(payload(), 1..4).prop_map(|pieces| {
            let last = pieces.len() - 1;
            let frame_of = |(at, piece): (usize, &Vec<u8>)| {
                let flags = if at == last { END_HEADERS } else { 0 };
                frame(if at == 0 { HEADERS } else { CONTINUATION }, flags, 101, piece)
            };
            pieces.iter().enumerate().flat_map(frame_of).collect()
        }),
    ]
}

#[test]
fn what_becomes_due_while_another_is_under_way_follows_it() {
    let mut side = Side::new(vec![3, 0, 30]);
    let (first, second) = (side.asks(1), side.asks(3));
    first.give();
    side.writes(&[0]);
    second.give();
    assert_eq!(side.sent(), [go_on(1), go_on(3)].concat());
}

proptest! {
    #[test]
    fn it_stands_between_frames_however_they_are_written(
        written in prop::collection::vec(written(), 1..12),
        takes in prop::collection::vec(0usize..30, 1..20),
        steps in prop::collection::vec((any::<bool>(), 1usize..60), 1..60),
    ) {
        prop_assume!(takes.iter().any(|most| *most > 0));
        let mut side = Side::new(takes);
        let (bytes, mut stream) = (written.concat(), 1);
        let mut rest = &bytes[..];
        for (gives, piece) in steps {
            if gives {
                side.asks(stream).give();
                stream += 2;
            }
            rest = &rest[side.writes(&rest[..piece.min(rest.len())])..];
        }
        while !rest.is_empty() {
            rest = &rest[side.writes(rest)..];
        }
        let sent = side.sent();
        // Taken apart again: h2's in their order and whole, and ours between them, each once.
        let mut rest = &sent[..];
        let (mut theirs, mut told) = (Vec::new(), Vec::new());
        let mut units = written.iter();
        while !rest.is_empty() {
            if rest[3] == HEADERS && rest[5..HEAD] != [0, 0, 0, 101] {
                told.push(u32::from_be_bytes(rest[5..HEAD].try_into().unwrap()));
                let own = go_on(told[told.len() - 1]);
                prop_assert!(rest.starts_with(&own));
                rest = &rest[own.len()..];
            } else {
                let unit = units.next().unwrap();
                prop_assert!(rest.starts_with(unit));
                theirs.extend_from_slice(unit);
                rest = &rest[unit.len()..];
            }
        }
        prop_assert_eq!(theirs, bytes);
        prop_assert_eq!(told, (1..stream).step_by(2).collect::<Vec<_>>());
    }
}
