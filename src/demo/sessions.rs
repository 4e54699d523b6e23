//! Clients: session ids of Streamable HTTP, open streams of HTTP+SSE.

use std::collections::{HashMap, VecDeque};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::HeaderValue;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::response::WAITING_EVENTS;

/// Sessions that are remembered; then the oldest is forgotten, and its client starts anew.
const MAX_SESSIONS: usize = 1024;

#[derive(Default)]
pub(super) struct Sessions {
    ids: Mutex<VecDeque<HeaderValue>>,
    streams: Mutex<HashMap<String, mpsc::Sender<Bytes>>>,
}

impl Sessions {
    pub(super) fn start(&self) -> Result<HeaderValue, getrandom::Error> {
        // Base64url is always a valid header value.
        let id = HeaderValue::try_from(random_id()?).unwrap_or(HeaderValue::from_static("-"));
        let mut ids = self.ids.lock();
        if ids.len() == MAX_SESSIONS {
            ids.pop_front();
        }
        ids.push_back(id.clone());
        Ok(id)
    }

    pub(super) fn knows(&self, id: &[u8]) -> bool {
        self.ids.lock().iter().any(|known| known.as_bytes() == id)
    }

    pub(super) fn end(&self, id: &[u8]) {
        self.ids.lock().retain(|known| known.as_bytes() != id);
    }

    /// Opens a stream whose first event tells where to post.
    pub(super) fn open_stream(&self) -> Result<mpsc::Receiver<Bytes>, getrandom::Error> {
        let id = random_id()?;
        let (to, events) = mpsc::channel(WAITING_EVENTS);
        // The channel is new and has room.
        let _ = to.try_send(format!("event: endpoint\ndata: /message?sessionId={id}\n\n").into());
        let mut streams = self.streams.lock();
        streams.retain(|_, open| !open.is_closed());
        streams.insert(id, to);
        Ok(events)
    }

    /// Where the answers of the stream with this id go, while its client is there.
    pub(super) fn stream(&self, id: &str) -> Option<mpsc::Sender<Bytes>> {
        self.streams.lock().get(id).filter(|open| !open.is_closed()).cloned()
    }
}

fn random_id() -> Result<String, getrandom::Error> {
    let mut id = [0; 16];
    getrandom::fill(&mut id)?;
    Ok(URL_SAFE_NO_PAD.encode(id))
}
