//! Memory that the requests of a worker use one after the other, so that an ordinary one asks the allocator for little.

use std::cell::RefCell;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

/// Bytes that short texts are cut from.
const CHUNK: usize = 4096;
/// A text of more bytes gets memory of its own.
const SHORT: usize = 1024;
/// Room for a request head and a small body: one allocation, of a size that allocators keep at hand.
const REQUEST_BYTES: usize = 1024;
/// Buffers that are kept.
const BUFFERS: usize = 64;
/// Maps that are kept.
const MAPS: usize = 64;
/// A map with room for more fields is not kept.
const FIELDS: usize = 48;

/// Memory of a worker's that is free.
#[derive(Default)]
pub struct Spares {
    maps: RefCell<Vec<HeaderMap>>,
    buffers: RefCell<Vec<Vec<u8>>>,
    chunk: RefCell<BytesMut>,
}

impl Spares {
    /// An empty map with room for `fields`.
    pub fn map(&self, fields: usize) -> HeaderMap {
        let mut map = self.maps.borrow_mut().pop().unwrap_or_default();
        map.reserve(fields);
        map
    }

    /// Keeps the memory of a map whose fields are not needed any more. hyper reads each head of a connection into the map of the
    /// answer before it, so that maps go round.
    pub fn give(&self, mut map: HeaderMap) {
        if !(1..=FIELDS).contains(&map.capacity()) {
            return;
        }
        map.clear();
        let mut maps = self.maps.borrow_mut();
        if maps.len() < MAPS {
            maps.push(map);
        }
    }

    /// An empty buffer for a request to a server.
    pub fn buffer(&self) -> Vec<u8> {
        self.buffers.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(REQUEST_BYTES))
    }

    /// Keeps a buffer that is not needed any more, unless it has grown.
    pub fn give_buffer(&self, mut buffer: Vec<u8>) {
        let mut buffers = self.buffers.borrow_mut();
        if buffer.capacity() == REQUEST_BYTES && buffers.len() < BUFFERS {
            buffer.clear();
            buffers.push(buffer);
        }
    }

    /// A copy of `text`, which should not be held for long: it shares its memory with others.
    pub fn copy(&self, text: &[u8]) -> Bytes {
        if text.len() > SHORT {
            return Bytes::copy_from_slice(text);
        }
        let mut chunk = self.chunk.borrow_mut();
        if chunk.capacity() < text.len() {
            // The same bytes again, if no text that was cut from them is left.
            chunk.reserve(CHUNK);
        }
        chunk.extend_from_slice(text);
        chunk.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header};

    use super::*;

    #[test]
    fn a_map_comes_back_empty_and_with_its_room() {
        let spares = Spares::default();
        let mut map = spares.map(10);
        map.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer abc"));
        let room = map.capacity();
        spares.give(map);
        let map = spares.map(1);
        assert!(map.is_empty());
        assert_eq!(map.capacity(), room);
    }

    #[test]
    fn neither_large_maps_nor_many_are_kept() {
        let spares = Spares::default();
        spares.give(HeaderMap::with_capacity(10 * FIELDS));
        spares.give(HeaderMap::new());
        assert_eq!(spares.maps.borrow().len(), 0);
        for _ in 0..2 * MAPS {
            spares.give(HeaderMap::with_capacity(8));
        }
        assert_eq!(spares.maps.borrow().len(), MAPS);
    }

    #[test]
    fn a_buffer_comes_back_empty_unless_it_has_grown() {
        let spares = Spares::default();
        let mut buffer = spares.buffer();
        buffer.extend_from_slice(b"authorization: Bearer abc");
        spares.give_buffer(buffer);
        let mut buffer = spares.buffer();
        assert!(buffer.is_empty());
        buffer.resize(2 * REQUEST_BYTES, 0);
        spares.give_buffer(buffer);
        spares.give_buffer(Vec::new());
        assert_eq!(spares.buffers.borrow().len(), 0);
    }

    #[test]
    fn copies_do_not_overlap() {
        let spares = Spares::default();
        let texts: Vec<_> = (0..100u8).map(|n| vec![n; usize::from(n) * 20]).collect();
        let copies: Vec<_> = texts.iter().map(|text| spares.copy(text)).collect();
        assert_eq!(copies, texts);
    }
}
