//! A response body that passes with its framing as it is, sans-io: reads in, what passes of each out.
//!
//! Left out is what nobody needs of the framing: extensions and trailers of chunks, which hardly any body has.

use std::{io, ops::Range};

use super::{
    ExchangeError,
    codec::{Chunked, Cuts, Framing, ProtocolError, chunk_size},
};
use crate::mcp::sse::{
    end::{EventEnd, SplitMark},
    endpoint::{BYTE_ORDER_MARK, EndpointError},
    endpoint_guard::EndpointGuard,
};

/// Where the payload is, and where it ends.
#[derive(Debug, Clone)]
pub(super) enum Decoding {
    Length(u64),
    Chunked(Chunked),
    UntilClose,
}

impl Decoding {
    pub(super) fn new(framing: Framing) -> Self {
        match framing {
            Framing::None => Self::Length(0),
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Chunked::default()),
            Framing::UntilClose => Self::UntilClose,
        }
    }

    /// Walks over `bytes`, calling `payload` with each range of it that is payload. Returns how many bytes belong
    /// to this body.
    pub(super) fn walk(
        &mut self,
        bytes: &[u8],
        payload: impl FnMut(Range<usize>),
    ) -> Result<usize, ProtocolError> {
        self.walk_raw(bytes, payload, |_| {})
    }

    /// The same for a body that passes with its framing, calling `dispensable` with each range that does not pass.
    fn walk_raw(
        &mut self,
        bytes: &[u8],
        mut payload: impl FnMut(Range<usize>),
        dispensable: impl FnMut(Range<usize>),
    ) -> Result<usize, ProtocolError> {
        match self {
            Self::Length(left) => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= here as u64;
                payload(0..here);
                Ok(here)
            }
            Self::Chunked(chunked) => chunked.decode(bytes, payload, dispensable),
            Self::UntilClose => {
                payload(0..bytes.len());
                Ok(bytes.len())
            }
        }
    }

    /// Whether a chunk may begin here.
    fn is_between_chunks(&self) -> bool {
        matches!(self, Self::Chunked(chunked) if chunked.is_between_chunks())
    }

    /// Whether the body is complete. Without framing only the end of the connection tells.
    pub(super) fn is_end(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunked) => chunked.is_done(),
            Self::UntilClose => false,
        }
    }
}

/// The framing of one body that passes.
#[derive(Debug, Clone)]
pub struct RawFraming {
    decoding: Decoding,
    guard: Option<EndpointGuard>,
    /// Where what was handed out ends, if it is an event stream.
    end: EventEnd,
}

/// What passes of one read.
#[derive(Debug)]
pub struct Passed {
    /// So many bytes belong to the body.
    pub here: usize,
    /// How much of what passes is payload.
    pub payload: usize,
    /// What passes in place of those bytes, if it is not the bytes as they came.
    pub instead: Option<Vec<u8>>,
}

impl RawFraming {
    /// The beginning of a body with this framing. With a guard, it ends with an error where it has an `endpoint` event.
    pub fn new(framing: Framing, guard: Option<EndpointGuard>) -> Self {
        Self::from_decoding(Decoding::new(framing), guard)
    }

    pub(super) fn from_decoding(decoding: Decoding, guard: Option<EndpointGuard>) -> Self {
        Self { decoding, guard, end: EventEnd::default() }
    }

    /// Whether the framing is by chunks.
    pub fn is_chunked(&self) -> bool {
        matches!(self.decoding, Decoding::Chunked(_))
    }

    /// Whether the body is over.
    pub fn is_end(&self) -> bool {
        self.decoding.is_end()
    }

    /// Whether a chunk may be put in here, and in an event stream one with an event of its own.
    pub fn is_between_events(&self) -> bool {
        self.decoding.is_between_chunks() && self.end.is_between_events()
    }

    /// A chunk with a comment is put in here.
    pub fn comment(&mut self) {
        self.end.comment();
    }

    /// Takes what was read next. After an error, nothing of it may pass.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Passed, ExchangeError> {
        let (mut payload, mut cuts) = (0, Cuts::default());
        let (mut mark, was_between) = (Ok(None), self.decoding.is_between_chunks());
        let (guard, end) = (&mut self.guard, &mut self.end);
        let mut guarded: Result<(), EndpointError> = Ok(());
        let count = |range: Range<usize>| {
            let bytes = &bytes[range.clone()];
            payload += bytes.len();
            match end.has_late_mark(bytes) {
                Ok(false) => {}
                Ok(true) => mark = Ok(Some(range.start)),
                Err(split) => mark = Err(split),
            }
            end.push(bytes);
            if let (Some(guard), Ok(())) = (guard.as_mut(), guarded) {
                guarded = guard.look(bytes);
            }
        };
        let here = self.decoding.walk_raw(bytes, count, |range| cuts.push(range))?;
        guarded?;
        let split = |split: SplitMark| ExchangeError::Io(io::Error::other(split.to_string()));
        let Some(start) = mark.map_err(split)? else {
            return Ok(Passed { here, payload, instead: cuts.taken_out_of(&bytes[..here]) });
        };
        // The size of its chunk has to be here to be changed, and a chunk of nothing would be the last.
        let size = was_between.then(|| chunk_size(&bytes[..start])).flatten();
        let size = size.and_then(|size| size.checked_sub(BYTE_ORDER_MARK.len() as u64));
        let size = size.filter(|left| *left > 0).ok_or_else(|| split(SplitMark))?;
        let mut plainer = format!("{size:x}\r\n").into_bytes();
        cuts.begin_behind(start + BYTE_ORDER_MARK.len());
        plainer.extend_from_slice(&cuts.taken_out_of(&bytes[..here]).unwrap_or_default());
        Ok(Passed { here, payload: payload - BYTE_ORDER_MARK.len(), instead: Some(plainer) })
    }
}

#[cfg(test)]
#[path = "raw_tests.rs"]
mod tests;
