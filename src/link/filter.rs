//! A link to a server some of whose tools are not for the client.
//!
//! Calls of them never reach the server, and lists come without those that are hidden. What is decided on was read as every server
//! reads it when the message came in ([`Message::parse`]), and a list that cannot be read as every client reads it does not
//! pass ([`mcp::tool_list`](crate::mcp::tool_list)).

use std::borrow::Cow;

use tokio::sync::mpsc;

use super::{FromServer, Link, QUEUE, ServerEnd, ToServer};
use crate::{
    error::{Error, ErrorKind},
    mcp::{
        codes::INVALID_PARAMS,
        message::{self, Id, Message},
        method::TOOLS_CALL,
        tool_list::without_hidden,
    },
    policy::tools::{ToolCall, ToolView},
};

/// Is called for each message that does not pass because it may be a list and cannot be read.
pub type WithheldReport = Box<dyn Fn(&Error) + Send>;

/// The same conversation, with the tools of `view`. Must be called within a runtime.
pub fn wrap(link: Link, view: ToolView, report: WithheldReport) -> Link {
    let (filtered, server_end) = Link::pair();
    let ServerEnd { from_client, to_client } = server_end;
    let Link { to_server, from_server } = link;
    // Two tasks, so that a client that does not take what comes still reaches the server, as without a filter.
    tokio::spawn(calls(from_client, to_server, to_client.clone(), view.clone()));
    tokio::spawn(lists(from_server, to_client, view, report));
    filtered
}

/// What comes `from_server` for one caller, with the tools of `view` on lists. Must be called within a runtime.
pub fn lists_of(
    from_server: mpsc::Receiver<FromServer>,
    view: ToolView,
    report: WithheldReport,
) -> mpsc::Receiver<FromServer> {
    let (to_client, filtered) = mpsc::channel(QUEUE);
    tokio::spawn(lists(from_server, to_client, view, report));
    filtered
}

/// Passes on what the client sends, and ends with the client or the server. Dropping the sender is what ends the link behind.
async fn calls(
    mut from_client: mpsc::Receiver<ToServer>,
    to_server: mpsc::Sender<ToServer>,
    to_client: mpsc::Sender<FromServer>,
    view: ToolView,
) {
    loop {
        let sent = tokio::select! {
            sent = from_client.recv() => sent,
            () = to_server.closed() => None,
        };
        let Some(sent) = sent else { return };
        let passes = match &sent {
            ToServer::Message(sent) => check(&sent.message, &view),
            ToServer::Abandon(_) => Ok(()),
        };
        let is_over = match passes {
            Ok(()) => to_server.send(sent).await.is_err(),
            Err(Some(answer)) => to_client.send(answer).await.is_err(),
            Err(None) => false,
        };
        if is_over {
            return;
        }
    }
}

/// Whether a message may reach the server. The error is what its client gets instead; a notification gets nothing.
pub fn check(message: &Message, view: &ToolView) -> Result<(), Option<FromServer>> {
    if message.method() != TOOLS_CALL {
        return Ok(());
    }
    let refusal = match message.name() {
        Some(name) => match view.call(name) {
            ToolCall::Passes => return Ok(()),
            ToolCall::Hidden => Cow::Owned(format!("Unknown tool: {name}")),
            ToolCall::Forbidden(error) => {
                return Err(message.id().map(|id| FromServer::Failed { id: id.clone(), error }));
            }
        },
        None => "params.name is missing".into(),
    };
    Err(message.id().and_then(|id| {
        let message = Message::error_for(id, INVALID_PARAMS, &refusal).ok()?;
        Some(FromServer::Message { message, about: Some(id.clone()) })
    }))
}

/// Passes on what the server sends.
async fn lists(
    mut from_server: mpsc::Receiver<FromServer>,
    to_client: mpsc::Sender<FromServer>,
    view: ToolView,
    report: WithheldReport,
) {
    loop {
        let came = tokio::select! {
            came = from_server.recv() => came,
            () = to_client.closed() => None,
        };
        let Some(came) = came else { return };
        let passes = match came {
            FromServer::Message { message, about } => match shortened(message, &view) {
                Ok(message) => Some(FromServer::Message { message, about }),
                Err((id, error)) => {
                    report(&error);
                    // An answer to no known request is dropped.
                    id.map(|id| FromServer::Failed { id, error })
                }
            },
            FromServer::Failed { .. } | FromServer::Ended { .. } => Some(came),
        };
        if let Some(passes) = passes
            && to_client.send(passes).await.is_err()
        {
            return;
        }
    }
}

/// The message without hidden tools, whatever kind it is: a client may take any of them for a list. The error is that it cannot
/// be read; with the request that it answers.
fn shortened(message: Message, view: &ToolView) -> Result<Message, (Option<Id>, Error)> {
    let text = std::str::from_utf8(message.text()).unwrap_or_default();
    let shorter = match without_hidden(text, &|tool| view.lists(tool)) {
        Ok(Cow::Borrowed(_)) => return Ok(message),
        Ok(Cow::Owned(shorter)) => Message::from_server(shorter.into())
            .map(|shorter| shorter.held_like(&message))
            .map_err(|e| e.to_string()),
        Err(e) => Err(e.to_string()),
    };
    shorter.map_err(|why| {
        let answers = message.id().filter(|_| message.kind() == message::MessageKind::Response);
        (answers.cloned(), ErrorKind::UpstreamUnreadable.with_cause(why))
    })
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::config::{Server, ToolFilter};

    fn filtered() -> (Link, ServerEnd) {
        filtered_with(Box::new(|error| panic!("{error}")))
    }

    fn filtered_with(report: WithheldReport) -> (Link, ServerEnd) {
        let (link, server_end) = Link::pair();
        let filter = ToolFilter { allows: false, list: ["drop".into()].into() };
        let server = Server { tool_filter: Some(Arc::new(filter)), ..Server::all(Duration::ZERO) };
        (wrap(link, ToolView::of_all(&server).unwrap(), report), server_end)
    }

    fn message(text: &'static str) -> ToServer {
        ToServer::Message(Message::parse(text.into()).unwrap().into())
    }

    async fn reaches_server(server_end: &mut ServerEnd) -> String {
        match server_end.from_client.recv().await.unwrap() {
            ToServer::Message(sent) => String::from_utf8(sent.message.text().to_vec()).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    async fn reaches_client(link: &mut Link) -> String {
        match link.from_server.recv().await.unwrap() {
            FromServer::Message { message, .. } => String::from_utf8(message.text().to_vec()).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_call_of_a_hidden_tool_is_answered_and_never_sent() {
        let (mut link, mut server_end) = filtered();
        let call = r#"{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"dr\u006fp"}}"#;
        link.to_server.send(message(call)).await.unwrap();
        assert_eq!(
            reaches_client(&mut link).await,
            r#"{"jsonrpc":"2.0","id":"a","error":{"code":-32602,"message":"Unknown tool: drop"}}"#
        );
        // One without a name calls nothing that could be looked up.
        let nameless = r#"{"id":2,"method":"tools/call","params":{"uri":"read"}}"#;
        link.to_server.send(message(nameless)).await.unwrap();
        assert!(reaches_client(&mut link).await.starts_with(r#"{"jsonrpc":"2.0","id":2,"error":"#));
        // A call that wants no answer gets none.
        link.to_server.send(message(r#"{"method":"tools/call","params":{"name":"drop"}}"#)).await.unwrap();
        let allowed =
            r#"{"id":3,"method":"tools/call","params":{"name":"read","arguments":{"name":"drop"}}}"#;
        link.to_server.send(message(allowed)).await.unwrap();
        assert_eq!(reaches_server(&mut server_end).await, allowed, "the first that the server sees");
    }

    #[tokio::test]
    async fn lists_come_without_hidden_tools_and_everything_else_as_it_is() {
        let (mut link, server_end) = filtered();
        let notification =
            r#"{"method":"notifications/message","params":{"result":{"tools":[{"name":"drop"}]}}}"#;
        let list = r#"{"id":1,"result":{"tools":[{"name":"drop"},{"name":"read"}]}}"#;
        for text in [notification, list] {
            let message = Message::from_server(text.into()).unwrap();
            server_end.to_client.send(FromServer::Message { message, about: None }).await.unwrap();
        }
        assert_eq!(reaches_client(&mut link).await, notification);
        assert_eq!(reaches_client(&mut link).await, r#"{"id":1,"result":{"tools":[{"name":"read"}]}}"#);
    }

    #[tokio::test]
    async fn a_list_that_cannot_be_read_fails_its_request_or_reaches_nobody() {
        let (reports, mut reported) = mpsc::unbounded_channel();
        let (mut link, server_end) = filtered_with(Box::new(move |error| reports.send(error.kind).unwrap()));
        for text in [
            r#"{"id":1,"result":{"Tools":[{"name":"drop"}]}}"#,
            r#"{"id":1,"result":{},"Result":{"tools":[{"name":"drop"}]}}"#,
            r#"{"id":1,"result":{"tools":[],"tool\u017f":[{"name":"drop"}]}}"#,
            r#"{"id":1,"result":{"tools":{"drop":{}}}}"#,
            // It does not say whose it is.
            r#"{"result":{"Tools":[{"name":"drop"}]}}"#,
            r#"{"method":"x","id":1,"result":{"Tools":[{"name":"drop"}]}}"#,
            r#"{"method":"x","Result":{"tools":[{"name":"drop"}]}}"#,
        ] {
            let message = Message::from_server(text.into()).unwrap();
            let fails = message.kind() == message::MessageKind::Response && message.id().is_some();
            server_end.to_client.send(FromServer::Message { message, about: None }).await.unwrap();
            assert_eq!(reported.recv().await, Some(ErrorKind::UpstreamUnreadable), "{text}");
            if fails {
                match link.from_server.recv().await.unwrap() {
                    FromServer::Failed { id, error } => {
                        assert_eq!(
                            (id, error.kind),
                            (Id::number(1), ErrorKind::UpstreamUnreadable),
                            "{text}"
                        );
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        // A message that is a request of the server's and a list is a list.
        let both = r#"{"method":"x","id":1,"result":{"tools":[{"name":"drop"}]}}"#;
        let message = Message::from_server(both.into()).unwrap();
        server_end.to_client.send(FromServer::Message { message, about: None }).await.unwrap();
        assert_eq!(reaches_client(&mut link).await, r#"{"method":"x","id":1,"result":{"tools":[]}}"#);
    }

    #[tokio::test]
    async fn either_side_that_leaves_ends_the_conversation_for_the_other() {
        let soon = Duration::from_secs(5);
        let (link, mut server_end) = filtered();
        drop(link);
        assert!(tokio::time::timeout(soon, server_end.from_client.recv()).await.unwrap().is_none());
        tokio::time::timeout(soon, server_end.to_client.closed()).await.unwrap();

        let (mut link, server_end) = filtered();
        drop(server_end);
        assert!(tokio::time::timeout(soon, link.from_server.recv()).await.unwrap().is_none());
        tokio::time::timeout(soon, link.to_server.closed()).await.unwrap();
    }
}
