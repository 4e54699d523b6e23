//! Which arguments of a server's tools are repeated in header fields (`x-mcp-header`, MCP 2026-07-28).
//!
//! The tools say so themselves, so before the first call they are listed. A server that is slow to list its tools is slow to
//! call them as well; one that cannot list them has none to check.

use std::{
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    link::{FromServer, Link, ToServer},
    mcp::{
        message::{Id, Message, Part},
        modern::ToolHeaders,
        version::MODERN,
    },
    state::Joint,
};

/// How long a list holds. Tools change rarely, and a call by an old schema is refused at worst.
const FRESH: Duration = Duration::from_secs(60);
/// Most pages of a list that are read.
const PAGES: u64 = 100;

/// What is known of the tools of this server.
pub(super) async fn headers(joint: &Joint) -> Arc<ToolHeaders> {
    let known = joint.tool_headers.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some((asked, known)) = known
        && asked.elapsed() < FRESH
    {
        return known;
    }
    let listed = Arc::new(list(joint.link.attach()).await);
    let mut known = joint.tool_headers.lock().unwrap_or_else(PoisonError::into_inner);
    *known = Some((Instant::now(), Arc::clone(&listed)));
    listed
}

async fn list(mut link: Link) -> ToolHeaders {
    let mut tools = ToolHeaders::default();
    let mut cursor = None;
    for page in 0..PAGES {
        let Some(result) = ask(&mut link, page, cursor.as_ref()).await else { break };
        tools.extend(ToolHeaders::read(&result));
        let result: serde_json::Value = serde_json::from_str(&result).unwrap_or_default();
        match &result["nextCursor"] {
            next @ serde_json::Value::String(_) => cursor = Some(next.clone()),
            _ => break,
        }
    }
    tools
}

/// One page; `None` if the server has none.
async fn ask(link: &mut Link, page: u64, cursor: Option<&serde_json::Value>) -> Option<String> {
    let mut params = serde_json::json!({ "_meta": {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
    } });
    if let Some(cursor) = cursor {
        params["cursor"] = cursor.clone();
    }
    let message = Message::request(&Id::number(page), "tools/list", &params.to_string()).ok()?;
    link.to_server.send(ToServer::Message(message.into())).await.ok()?;
    loop {
        match link.from_server.recv().await? {
            FromServer::Message { message, .. } if message.id().is_some() => {
                return message.part(Part::Result).map(str::to_owned);
            }
            FromServer::Message { .. } => {}
            FromServer::Failed { .. } | FromServer::Ended { .. } => return None,
        }
    }
}
