//! Events, read: the same however the stream is cut, and what the specification says.

use bytes::Bytes;
use sluicegate::mcp::sse::{end::EventEnd, reader::EventReader};

use super::event_reference::{self, Event, Read};

/// The first byte says where the stream is cut.
pub fn run(input: &[u8]) {
    let Some((&at, stream)) = input.split_first() else { return };
    let wanted = event_reference::read(stream);
    for pieces in super::cuts(stream, at) {
        assert_eq!(read(&pieces), wanted, "{}", stream.escape_ascii());
    }
    // Where an event is over, a comment may stand.
    let mut end = EventEnd::default();
    let mut commented = Vec::new();
    for (place, byte) in stream.iter().enumerate() {
        if end.is_between_events() && place > 0 {
            commented.extend_from_slice(b":\n\n");
        }
        end.push(&[*byte]);
        commented.push(*byte);
    }
    assert_eq!(event_reference::read(&commented), wanted, "{}", stream.escape_ascii());
}

fn read(pieces: &[&[u8]]) -> Read {
    let mut reader = EventReader::default();
    let mut read = Read::default();
    for piece in pieces {
        reader.push(Bytes::copy_from_slice(piece));
        while let Some(event) = reader.next().expect("no event is that large") {
            read.events.push(Event { name: event.name.to_vec(), data: event.data.to_vec() });
        }
    }
    read.last_id = reader.last_id().unwrap_or_default().to_vec();
    read.retry = reader.retry().map(|retry| u64::try_from(retry.as_millis()).expect("was read from one"));
    read
}
