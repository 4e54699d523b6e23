//! Conversations that callers share.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use tokio::sync::Mutex as AsyncMutex;

use crate::{link::shared::Shared as SharedLink, mcp::modern::ToolHeaders};

/// Conversations with one server that several callers share (MCP 2026-07-28): one for a server, and for all servers as one
/// one for each set of them that somebody sees.
#[derive(Default)]
pub struct SharedLinks(Mutex<HashMap<Box<str>, Arc<Joint>>>);

/// A conversation that callers share, and what all of them need to know of the server.
pub struct Joint {
    /// The conversation.
    pub link: SharedLink,
    /// What arguments of its tools are repeated in header fields, and when that was asked.
    pub tool_headers: AsyncMutex<Option<(Instant, Arc<ToolHeaders>)>>,
}

impl SharedLinks {
    /// Most conversations of all servers as one; each costs a few KiB when it is not used. With more than that, they are
    /// begun anew.
    const MOST: usize = 256;

    /// The conversation of this name, which is begun with `start` if there is none any more.
    pub fn get(&self, key: &str, start: impl FnOnce() -> SharedLink) -> Arc<Joint> {
        let mut links = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(joint) = links.get(key).filter(|joint| !joint.link.is_over()) {
            return Arc::clone(joint);
        }
        if links.len() >= Self::MOST {
            // Who is attached stays so.
            links.clear();
        }
        let joint = Arc::new(Joint { link: start(), tool_headers: AsyncMutex::default() });
        links.insert(key.into(), Arc::clone(&joint));
        joint
    }

    /// Ends them for everyone, once those who are attached have left.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn a_conversation_whose_thread_is_gone_is_begun_anew() {
        let links = SharedLinks::default();
        let (mut joints, mut begun) = (Vec::new(), 0);
        for _ in 0..2 {
            let options = tokio::runtime::LocalOptions::default();
            let runtime = tokio::runtime::Builder::new_current_thread().build_local(options).unwrap();
            runtime.block_on(async {
                for _ in 0..2 {
                    joints.push(links.get("", || {
                        begun += 1;
                        let never = || std::future::ready(Err(Kind::UpstreamUnreachable.into()));
                        SharedLink::start(never, std::time::Duration::MAX)
                    }));
                }
            });
        }
        assert_eq!(begun, 2);
        assert!(Arc::ptr_eq(&joints[0], &joints[1]) && Arc::ptr_eq(&joints[2], &joints[3]));
    }
}
