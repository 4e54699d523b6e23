//! Which arguments of a server's tools are repeated in header fields (`x-mcp-header`, MCP 2026-07-28).
//!
//! The tools say so themselves, so before the first call they are listed. A server that is slow to list its tools is slow to
//! call them as well; one that cannot list them has none to check.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    error::{Error, Kind},
    ledger::Owner,
    link::{FromServer, Link, ToServer},
    mcp::{
        message::{Id, Kind as MessageKind, Message, Part},
        modern::ToolHeaders,
        version::MODERN,
    },
    state::Joint,
};

/// How long a list holds. Tools change rarely, and a call by an old schema is refused at worst.
const FRESH: Duration = Duration::from_secs(60);
/// Most pages of a list that are read.
const PAGES: u64 = 100;

/// What is known of the tools of this server. While one caller asks, the others wait for what it learns. Without an answer
/// there is nothing to check a call by, and so no call.
pub(super) async fn headers(joint: &Joint, owner: &Arc<Owner>) -> Result<Arc<ToolHeaders>, Error> {
    let mut known = joint.tool_headers.lock().await;
    if let Some((asked, known)) = &*known
        && asked.elapsed() < FRESH
    {
        return Ok(Arc::clone(known));
    }
    let listed = Arc::new(list(joint.link.attach(owner)).await?);
    *known = Some((Instant::now(), Arc::clone(&listed)));
    Ok(listed)
}

async fn list(mut link: Link) -> Result<ToolHeaders, Error> {
    let mut tools = ToolHeaders::default();
    let mut cursor = None;
    for page in 0..PAGES {
        let Some(result) = ask(&mut link, page, cursor.as_ref()).await? else { break };
        tools.extend(ToolHeaders::read(&result));
        let result: serde_json::Value = serde_json::from_str(&result).unwrap_or_default();
        match &result["nextCursor"] {
            next @ serde_json::Value::String(_) => cursor = Some(next.clone()),
            _ => break,
        }
    }
    Ok(tools)
}

/// One page; `None` if the server says that it has none.
async fn ask(
    link: &mut Link,
    page: u64,
    cursor: Option<&serde_json::Value>,
) -> Result<Option<String>, Error> {
    let mut params = serde_json::json!({ "_meta": {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
    } });
    if let Some(cursor) = cursor {
        params["cursor"] = cursor.clone();
    }
    let message = Message::request(&Id::number(page), "tools/list", &params.to_string())
        .map_err(|e| Kind::Internal.because(e.to_string()))?;
    // A link that takes nothing any more says why.
    let _ = link.to_server.send(ToServer::Message(message.into())).await;
    loop {
        match link.from_server.recv().await {
            Some(FromServer::Message { message, .. }) if message.kind() == MessageKind::Response => {
                return Ok(message.part(Part::Result).map(str::to_owned));
            }
            Some(FromServer::Message { .. }) => {}
            Some(FromServer::Failed { error, .. }) => return Err(error),
            Some(FromServer::Ended { cause }) => return Err(Kind::UpstreamUnreachable.because(cause)),
            None => return Err(Kind::UpstreamUnreachable.because("it ended")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, rc::Rc};

    use super::*;
    use crate::{
        link::shared::{Lease, Settings, Shared},
        mcp::modern,
    };

    /// A server that lists nothing for the first who asks, because it ends, and its tool from then on.
    fn server(asked: Rc<Cell<usize>>) -> Shared {
        let open = move || {
            let (link, mut far) = Link::pair();
            let asked = Rc::clone(&asked);
            tokio::task::spawn_local(async move {
                while let Some(ToServer::Message(outbound)) = far.from_client.recv().await {
                    asked.set(asked.get() + 1);
                    if asked.get() == 1 {
                        return;
                    }
                    let tools = r#"{"tools":[{"name":"t","inputSchema":{"type":"object","properties":{"a":{"type":"string","x-mcp-header":"A"}}}}]}"#;
                    let id = outbound.message.id().unwrap();
                    let message = Message::result_for(id, tools).unwrap();
                    let _ = far.to_client.send(FromServer::Message { message, about: None }).await;
                }
            });
            std::future::ready(Ok(link))
        };
        Shared::start(open, Settings::new(Duration::from_secs(60)))
    }

    #[test]
    fn a_list_that_failed_is_no_empty_list_and_many_callers_ask_once() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(tokio::runtime::LocalOptions::default())
            .unwrap();
        runtime.block_on(async {
            let asked = Rc::new(Cell::new(0));
            let joint = Joint::new(server(Rc::clone(&asked)), Lease::default());
            let owner = Owner::unlimited();
            let headers = |joint| super::headers(joint, &owner);
            assert_eq!(headers(&joint).await.unwrap_err().kind, Kind::UpstreamUnreachable);
            let (one, two) = tokio::join!(headers(&joint), headers(&joint));
            assert!(Arc::ptr_eq(&one.unwrap(), &two.unwrap()));
            assert_eq!(asked.get(), 2);
            // The argument is there, and its field is not.
            let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"a":"x"},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}"#;
            let fields = [("mcp-protocol-version", MODERN), ("mcp-method", "tools/call"), ("mcp-name", "t")];
            let fields = fields.into_iter().map(|(name, value)| {
                (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))
            });
            let known = headers(&joint).await.unwrap();
            let call = Message::parse(call.into()).unwrap();
            let fields: http::HeaderMap = fields.collect();
            assert!(modern::check(&fields, &call, Some(&known)).is_err());
            assert!(modern::check(&fields, &call, None).is_ok(), "the list is what refuses it");
        });
    }
}
