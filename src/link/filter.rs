//! Tools of a server that are not for the client.
//!
//! Calls of them never reach the server, and lists come without those that are hidden. Whoever uses a link for long asks a
//! [`Filter`], which goes by the config in force; a single request has the tools of the config that admitted it. What is decided on was read as every server
//! reads it when the message came in ([`Message::parse`]), and a list that cannot be read as every client reads it does not
//! pass ([`mcp::tool_list`](crate::mcp::tool_list)).

use std::{borrow::Cow, cell::RefCell};

use tokio::sync::mpsc;

use super::{FromServer, QUEUE, ToServer};
use crate::{
    error::{Error, ErrorKind},
    identity::Identity,
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

/// Which tools there are for whoever uses a link, by the config in force; `None` is all of them. It is asked about every
/// message, so that a reload holds for conversations that run, and has to be cheap.
pub type ToolsInForce = Box<dyn Fn() -> Option<ToolView>>;

/// What of a conversation is for whoever uses it.
pub struct Filter {
    tools: ToolsInForce,
    /// The tools of the last [`Filter::has_changed`].
    known: RefCell<Option<ToolView>>,
    report: WithheldReport,
}

impl Filter {
    /// Lets through what `tools` says.
    pub fn new(tools: ToolsInForce, report: WithheldReport) -> Self {
        Self { known: RefCell::new(tools()), tools, report }
    }

    /// For a conversation all of whose tools are for whoever uses it.
    pub fn open() -> Self {
        Self::new(Box::new(|| None), Box::new(|_| ()))
    }

    /// Whether there are other tools than when it was asked last.
    pub fn has_changed(&self) -> bool {
        let now = (self.tools)();
        let has_changed = *self.known.borrow() != now;
        if has_changed {
            self.known.replace(now);
        }
        has_changed
    }

    /// Whether what a client sends may reach the server. The error is what the client gets instead; a notification gets nothing.
    pub fn outward(&self, sent: &ToServer) -> Result<(), Option<FromServer>> {
        match (sent, (self.tools)()) {
            (ToServer::Message(sent), Some(view)) => check(&sent.message, &view, sent.by.as_deref()),
            _ => Ok(()),
        }
    }

    /// What the client gets of what the server sends.
    pub fn inward(&self, came: FromServer) -> Option<FromServer> {
        match (self.tools)() {
            Some(view) => shown(came, &view, &self.report),
            None => Some(came),
        }
    }
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

/// Whether a message may reach the server. `by` is who sent it, where that is not who the tools are for. The error is what its client
/// gets instead; a notification gets nothing.
pub fn check(message: &Message, view: &ToolView, by: Option<&Identity>) -> Result<(), Option<FromServer>> {
    if message.method() != TOOLS_CALL {
        return Ok(());
    }
    let refusal = match message.name() {
        Some(name) => match view.call(name, by) {
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
        if let Some(passes) = shown(came, &view, &report)
            && to_client.send(passes).await.is_err()
        {
            return;
        }
    }
}

/// What of it is for the client.
fn shown(came: FromServer, view: &ToolView, report: &WithheldReport) -> Option<FromServer> {
    match came {
        FromServer::Message { message, about } => match shortened(message, view) {
            Ok(message) => Some(FromServer::Message { message, about }),
            Err((id, error)) => {
                report(&error);
                // An answer to no known request is dropped.
                id.map(|id| FromServer::Failed { id, error })
            }
        },
        FromServer::Failed { .. } | FromServer::Ended { .. } => Some(came),
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
    use std::{rc::Rc, sync::Arc, time::Duration};

    use super::*;
    use crate::config::{Server, ToolFilter};

    fn filter() -> Filter {
        filter_with(Box::new(|error| panic!("{error}")))
    }

    fn filter_with(report: WithheldReport) -> Filter {
        let filter = ToolFilter { allows: false, list: ["drop".into()].into() };
        let server = Server { tool_filter: Some(Arc::new(filter)), ..Server::all(Duration::ZERO) };
        Filter::new(Box::new(move || ToolView::of_all(&server)), report)
    }

    fn sent(text: &'static str) -> ToServer {
        ToServer::Message(Message::parse(text.into()).unwrap().into())
    }

    fn came(text: &str) -> FromServer {
        FromServer::Message { message: Message::from_server(text.to_owned().into()).unwrap(), about: None }
    }

    fn text(came: Option<FromServer>) -> String {
        match came {
            Some(FromServer::Message { message, .. }) => String::from_utf8(message.text().to_vec()).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_call_of_a_hidden_tool_is_answered_and_never_sent() {
        let filter = filter();
        let refused = |text| filter.outward(&sent(text)).unwrap_err();
        let call = r#"{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"dr\u006fp"}}"#;
        assert_eq!(
            text(refused(call)),
            r#"{"jsonrpc":"2.0","id":"a","error":{"code":-32602,"message":"Unknown tool: drop"}}"#
        );
        // One without a name calls nothing that could be looked up.
        let nameless = r#"{"id":2,"method":"tools/call","params":{"uri":"read"}}"#;
        assert!(text(refused(nameless)).starts_with(r#"{"jsonrpc":"2.0","id":2,"error":"#));
        // A call that wants no answer gets none.
        assert!(refused(r#"{"method":"tools/call","params":{"name":"drop"}}"#).is_none());
        let allowed =
            r#"{"id":3,"method":"tools/call","params":{"name":"read","arguments":{"name":"drop"}}}"#;
        assert!(filter.outward(&sent(allowed)).is_ok());
        assert!(filter.outward(&ToServer::Abandon(Id::number(1))).is_ok());
    }

    #[test]
    fn lists_come_without_hidden_tools_and_everything_else_as_it_is() {
        let filter = filter();
        let notification =
            r#"{"method":"notifications/message","params":{"result":{"tools":[{"name":"drop"}]}}}"#;
        assert_eq!(text(filter.inward(came(notification))), notification);
        let list = r#"{"id":1,"result":{"tools":[{"name":"drop"},{"name":"read"}]}}"#;
        assert_eq!(text(filter.inward(came(list))), r#"{"id":1,"result":{"tools":[{"name":"read"}]}}"#);
    }

    #[test]
    fn a_list_that_cannot_be_read_fails_its_request_or_reaches_nobody() {
        let (reports, reported) = std::sync::mpsc::channel();
        let filter = filter_with(Box::new(move |error| reports.send(error.kind).unwrap()));
        for (text, fails) in [
            (r#"{"id":1,"result":{"Tools":[{"name":"drop"}]}}"#, true),
            (r#"{"id":1,"result":{},"Result":{"tools":[{"name":"drop"}]}}"#, true),
            (r#"{"id":1,"result":{"tools":[],"tool\u017f":[{"name":"drop"}]}}"#, true),
            (r#"{"id":1,"result":{"tools":{"drop":{}}}}"#, true),
            // It does not say whose it is.
            (r#"{"result":{"Tools":[{"name":"drop"}]}}"#, false),
            (r#"{"method":"x","id":1,"result":{"Tools":[{"name":"drop"}]}}"#, false),
            (r#"{"method":"x","Result":{"tools":[{"name":"drop"}]}}"#, false),
        ] {
            let failed = match filter.inward(came(text)) {
                Some(FromServer::Failed { id, error }) => Some((id, error.kind)),
                None => None,
                other => panic!("{other:?}"),
            };
            let wanted = fails.then(|| (Id::number(1), ErrorKind::UpstreamUnreadable));
            assert_eq!(failed, wanted, "{text}");
            assert_eq!(reported.try_recv(), Ok(ErrorKind::UpstreamUnreadable), "{text}");
        }
        // A message that is a request of the server's and a list is a list.
        let both = r#"{"method":"x","id":1,"result":{"tools":[{"name":"drop"}]}}"#;
        assert_eq!(text(filter.inward(came(both))), r#"{"method":"x","id":1,"result":{"tools":[]}}"#);
    }

    #[test]
    fn what_is_in_force_is_asked_each_time_and_a_change_is_noticed_once() {
        let server = Rc::new(RefCell::new(Server::all(Duration::ZERO)));
        let in_force = Rc::clone(&server);
        let tools = move || ToolView::of_all(&in_force.borrow());
        let filter = Filter::new(Box::new(tools), Box::new(|error| panic!("{error}")));
        let call = || filter.outward(&sent(r#"{"id":1,"method":"tools/call","params":{"name":"drop"}}"#));
        let list = r#"{"id":1,"result":{"tools":[{"name":"drop"}]}}"#;
        assert!(!filter.has_changed() && call().is_ok());
        assert_eq!(text(filter.inward(came(list))), list);
        let hides = || Some(Arc::new(ToolFilter { allows: false, list: ["drop".into()].into() }));
        server.borrow_mut().tool_filter = hides();
        assert!(filter.has_changed() && !filter.has_changed() && call().is_err());
        assert_eq!(text(filter.inward(came(list))), r#"{"id":1,"result":{"tools":[]}}"#);
        // The same again is no change.
        server.borrow_mut().tool_filter = hides();
        assert!(!filter.has_changed());
    }

    #[tokio::test]
    async fn either_side_that_leaves_ends_the_lists_of_a_request_for_the_other() {
        let view = || filter_with(Box::new(|_| ())).known.take().unwrap();
        let (server, from_server) = mpsc::channel(1);
        drop(lists_of(from_server, view(), Box::new(|_| ())));
        test_basics::waiting::soon("the server", server.closed()).await;
        let (server, from_server) = mpsc::channel(1);
        let mut filtered = lists_of(from_server, view(), Box::new(|_| ()));
        drop(server);
        assert!(test_basics::waiting::soon("the end", filtered.recv()).await.is_none());
    }
}
