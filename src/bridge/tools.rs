//! Which arguments of a server's tools are repeated in header fields (`x-mcp-header`, MCP 2026-07-28).
//!
//! The tools say so themselves, so before the first call they are listed. A server that is slow to list its tools is slow to
//! call them as well; one that cannot list them has none to check. Of all servers as one, those are missing that did not
//! list theirs in time, so there a list is no word on what is not in it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    error::{Error, ErrorKind},
    ledger::Owner,
    link::{Link, ToServer, shared::CallSender},
    mcp::{
        codes::METHOD_NOT_FOUND,
        message::{Id, Message, MessageKind, Part},
        modern::ToolHeaders,
        version::OWN_META,
    },
    servers::{ListedTools, SharedConversation},
};

/// How long a list holds. Tools change rarely, and a call by an old schema is refused at worst.
const FRESH: Duration = Duration::from_secs(60);
/// How long a tool that was not listed is taken for one that is not there, where lists may lack some: who calls what nobody
/// has must not keep all servers busy with their lists.
const AGAIN: Duration = Duration::from_secs(1);
/// Most pages of a list that are read.
const PAGES: u64 = 100;
/// Most tools of which something is remembered that the last list lacks.
const MOST_TOOLS: usize = 20_000;

/// What is known of the tools of this server, to check a call of `tool`. While one caller asks, the others wait for what it
/// learns. Without an answer there is nothing to check a call by, and so no call. `may_lack` says that a list may be good
/// and without some of the tools.
pub(super) async fn headers(
    conversation: &SharedConversation,
    owner: &Arc<Owner>,
    tool: Option<&str>,
    may_lack: bool,
) -> Result<Arc<ToolHeaders>, Error> {
    let tells = |listed: &ListedTools| {
        let knows = listed.is_complete || tool.is_none_or(|tool| listed.headers.lists(tool));
        knows && listed.asked.elapsed() < FRESH
    };
    if let Some(listed) = conversation.tools().0.filter(tells) {
        return Ok(listed.headers);
    }
    let came = Instant::now();
    let _turn = conversation.listing.lock().await;
    let (before, generation) = conversation.tools();
    if let Some(listed) = &before {
        if tells(listed) || listed.asked >= came {
            return Ok(Arc::clone(&listed.headers));
        }
        tokio::time::sleep(AGAIN.saturating_sub(listed.asked.elapsed())).await;
    }
    let asked = Instant::now();
    let List { mut tools, is_whole } = list(conversation.link.attach(owner)).await?;
    let is_complete = is_whole && !may_lack;
    // A tool that a list lacks may exist all the same, but for what a reload had forgotten.
    let is_of_now = conversation.tools().1 == generation;
    if let Some(before) = before.filter(|_| !is_complete && is_of_now)
        && before.headers.len() + tools.len() <= MOST_TOOLS
    {
        let newer = std::mem::replace(&mut tools, ToolHeaders::clone(&before.headers));
        tools.extend(newer);
    }
    let headers = Arc::new(tools);
    conversation.set_tools(ListedTools { headers: Arc::clone(&headers), asked, is_complete }, generation);
    Ok(headers)
}

/// What a server lists.
struct List {
    tools: ToolHeaders,
    /// Whether this is all of it.
    is_whole: bool,
}

/// What counts in the `result` of `tools/list` beside the tools.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page<'a> {
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
    #[serde(borrow)]
    next_cursor: Option<&'a RawValue>,
}

async fn list(mut link: Link<CallSender>) -> Result<List, Error> {
    let mut tools = ToolHeaders::default();
    let mut cursor = None;
    for page in 0..PAGES {
        let answer = ask(&mut link, page, cursor.as_deref()).await?;
        let Some(result) = answer.part(Part::Result) else {
            // It has none, or it does not say which.
            return Ok(List { tools, is_whole: answer.error_code() == Some(METHOD_NOT_FOUND) });
        };
        tools.extend(ToolHeaders::read(result));
        let page = serde_json::from_str::<Page<'_>>(result).ok();
        let (next, tools_text) = page.map_or((None, None), |page| (page.next_cursor, page.tools));
        match next.filter(|next| next.get().starts_with('"')) {
            Some(next) => cursor = Some(next.to_owned()),
            None => {
                let is_whole = tools_text.is_some_and(|tools| tools.get().starts_with('['));
                return Ok(List { tools, is_whole });
            }
        }
    }
    Ok(List { tools, is_whole: false })
}

/// The answer to the request for one page.
async fn ask(link: &mut Link<CallSender>, page: u64, cursor: Option<&RawValue>) -> Result<Message, Error> {
    let cursor = cursor.map(|cursor| format!(r#""cursor":{cursor},"#)).unwrap_or_default();
    let params = format!(r#"{{{cursor}"_meta":{OWN_META}}}"#);
    let message = Message::request(&Id::number(page), "tools/list", &params)
        .map_err(|e| ErrorKind::Internal.with_cause(e.to_string()))?;
    // A link that takes nothing any more says why.
    let _ = link.to_server.send(ToServer::Message(message.into())).await;
    loop {
        let message = link.next_message().await?;
        if message.kind() == MessageKind::Response {
            return Ok(message);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, rc::Rc};

    use super::*;
    use crate::{
        link::{
            FromServer,
            shared::{Lease, SharedLink, SharedLinkSettings},
        },
        mcp::{modern, version::MODERN},
    };

    /// What a server answers to the n-th request for its list; `None` if it ends.
    type Lists = fn(usize) -> Option<&'static str>;

    const TOOLS: &str = r#""result":{"tools":[{"name":"t","inputSchema":{"type":"object","properties":{"a":{"type":"string","x-mcp-header":"A-B"}}}}]}"#;
    const NONE: &str = r#""result":{"tools":[]}"#;

    fn server(asked: Rc<Cell<usize>>, lists: Lists) -> SharedLink {
        let open = move || {
            let (link, mut far) = Link::pair();
            let asked = Rc::clone(&asked);
            tokio::task::spawn_local(async move {
                while let Some(ToServer::Message(outbound)) = far.from_client.recv().await {
                    asked.set(asked.get() + 1);
                    let Some(answer) = lists(asked.get()) else { return };
                    let id = outbound.message.id().unwrap();
                    let message = Message::from_server(format!(r#"{{"id":{id},{answer}}}"#).into()).unwrap();
                    let _ = far.to_client.send(FromServer::Message { message, about: None }).await;
                }
            });
            std::future::ready(Ok(link))
        };
        SharedLink::start(open, SharedLinkSettings::new(Duration::from_secs(60)))
    }

    fn on_worker(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(tokio::runtime::LocalOptions::default())
            .unwrap();
        runtime.block_on(test);
    }

    #[test]
    fn a_list_that_lacks_a_tool_or_is_an_error_is_no_word_on_that_tool() {
        let error =
            |n: usize| if n == 1 { Some(r#""error":{"code":-32603,"message":""}"#) } else { Some(TOOLS) };
        for (lists, may_lack) in
            [(error as Lists, false), (|n: usize| Some(if n == 1 { NONE } else { TOOLS }), true)]
        {
            on_worker(async {
                let asked = Rc::new(Cell::new(0));
                let conversation =
                    SharedConversation::new(server(Rc::clone(&asked), lists), Lease::default());
                let owner = Owner::unlimited();
                let headers = |tool| super::headers(&conversation, &owner, Some(tool), may_lack);
                let known = headers("t").await.unwrap();
                assert!(!known.lists("t"));
                let with_field = [("mcp-param-a-b", "x")];
                assert!(modern::check(&fields(&with_field), &call("x"), Some(&known)).is_err(), "unchecked");
                // It is asked again, by all at once, and then known for a while.
                let (one, two) = tokio::join!(headers("t"), headers("t"));
                assert!(one.unwrap().lists("t") && two.unwrap().lists("t"));
                assert!(headers("t").await.unwrap().lists("t"));
                assert_eq!(asked.get(), 2);
            });
        }
        // What was known stays so when a later list lacks it; and a complete list is the last word.
        for (may_lack, lists, wanted) in [(true, 2, true), (false, 1, false)] {
            on_worker(async {
                let asked = Rc::new(Cell::new(0));
                let first = if may_lack { TOOLS } else { NONE };
                let of: Lists =
                    if may_lack { |n| Some(if n == 1 { TOOLS } else { NONE }) } else { |_| Some(NONE) };
                assert_eq!(of(1), Some(first));
                let conversation = SharedConversation::new(server(Rc::clone(&asked), of), Lease::default());
                let owner = Owner::unlimited();
                let headers = |tool| super::headers(&conversation, &owner, Some(tool), may_lack);
                headers("t").await.unwrap();
                headers("other").await.unwrap();
                assert_eq!((asked.get(), headers("t").await.unwrap().lists("t")), (lists, wanted));
            });
        }
    }

    fn call(argument: &str) -> Message {
        let call = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"t","arguments":{{"a":"{argument}"}},"_meta":{OWN_META}}}}}"#
        );
        Message::parse(call.into()).unwrap()
    }

    fn fields(more: &[(&'static str, &'static str)]) -> http::HeaderMap {
        let fields = [("mcp-protocol-version", MODERN), ("mcp-method", "tools/call"), ("mcp-name", "t")];
        let fields = fields.iter().chain(more).map(|(name, value)| {
            (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))
        });
        fields.collect()
    }

    #[test]
    fn a_list_that_failed_is_no_empty_list_and_many_callers_ask_once() {
        on_worker(async {
            let asked = Rc::new(Cell::new(0));
            let lists: Lists = |n| (n > 1).then_some(TOOLS);
            let conversation = SharedConversation::new(server(Rc::clone(&asked), lists), Lease::default());
            let owner = Owner::unlimited();
            let headers = |conversation| super::headers(conversation, &owner, Some("t"), false);
            assert_eq!(headers(&conversation).await.unwrap_err().kind, ErrorKind::UpstreamUnreachable);
            let (one, two) = tokio::join!(headers(&conversation), headers(&conversation));
            assert!(Arc::ptr_eq(&one.unwrap(), &two.unwrap()));
            assert_eq!(asked.get(), 2);
            let known = headers(&conversation).await.unwrap();
            // The argument is there, and its field is not, or is in another spelling.
            assert!(modern::check(&fields(&[]), &call("x"), Some(&known)).is_err());
            assert!(modern::check(&fields(&[]), &call("x"), None).is_ok(), "the list is what refuses it");
            assert!(modern::check(&fields(&[("mcp-param-a-b", "x")]), &call("x"), Some(&known)).is_ok());
            let second = ("mcp-param-a_b", "y");
            for fields in [fields(&[second]), fields(&[("mcp-param-a-b", "x"), second])] {
                assert!(modern::check(&fields, &call("x"), Some(&known)).is_err());
            }
            let two = fields(&[("mcp-param-a-b", "x"), second]);
            assert!(modern::check(&two, &call("x"), None).is_err(), "two spellings of one field");
        });
    }
}
