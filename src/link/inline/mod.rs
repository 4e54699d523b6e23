//! A server of tools that the config defines: it speaks MCP of both eras itself, and runs a command for each call.
//!
//! `rpc` decides what a message comes to, `arguments` makes a command line of a template and a call, [`once`] runs it;
//! here is the conversation: which calls run, which are cancelled, and who gets which answer.

mod arguments;
mod result;
mod rpc;
#[cfg(test)]
#[path = "inline_tests.rs"]
mod tests;
mod turns;

use std::{collections::HashMap, io, sync::Arc, time::Instant};

use serde_json::Value;
use tokio::task::{AbortHandle, JoinError, JoinSet, spawn_blocking};

use self::{result::MOST_OUTPUT, rpc::InlineReply, turns::Turns};
use super::{FromServer, Link, ServerEnd, ToServer};
use crate::{
    child::once::{self, Finished, RunLimits},
    config::{INHERITED, InlineTarget, InlineTool, Level, StdioTarget},
    error::{Error, ErrorKind},
    ledger::{Owner, Resource},
    mcp::{
        codes::INVALID_REQUEST,
        era::Era,
        message::{Id, Message, Part},
    },
    observe::{Health, Observer},
    secret::Secret,
};

/// Commands of one server that run at a time, over all of its links; further calls wait for their turn. A command costs
/// far more than the request that asks for it.
const RUNNING: usize = 16;
/// Calls of one link that may run or wait; further ones are refused. Bounds what a client can pile up here.
const CALLS: usize = 16;
/// Bytes of arguments that are read as they come. Larger ones wait for their turn unread.
const MOST_AT_ONCE: usize = 16 << 10;
/// Bytes of standard error, of which a caller needs the reason and no more.
const MOST_ERRORS: usize = 64 << 10;

/// Tools that the config defines, with what their links share.
pub struct InlineServer {
    name: Arc<str>,
    target: InlineTarget,
    observer: Arc<Observer>,
    health: Arc<Health>,
    turns: Arc<Turns>,
}

impl InlineServer {
    /// The server `name`, whose tools are those of `target`.
    pub fn new(name: Arc<str>, target: InlineTarget, observer: Arc<Observer>, health: Arc<Health>) -> Self {
        Self { name, target, observer, health, turns: Turns::new(RUNNING) }
    }

    /// One call, from its turn to its result. Dropping it ends the command.
    async fn call(
        self: &Arc<Self>,
        owner: &Arc<Owner>,
        tool: usize,
        request: Message,
    ) -> Result<Value, Error> {
        // A mistake is answered at once. But a large text may be many times as large when it is read, so that waits for
        // its turn, and keeps nobody else from being served meanwhile.
        let size = request.part(Part::Arguments).map_or(0, str::len);
        let is_large = size > MOST_AT_ONCE && size <= arguments::MOST;
        let turn = if is_large { self.turns.take(owner).await } else { None };
        let (server, of_call) = (Arc::clone(self), request.clone());
        let line = move || match server.target.tools.get(tool) {
            Some(tool) => arguments::line(tool, of_call.part(Part::Arguments)),
            // The index was found in the same list.
            None => Err("This tool is gone.".into()),
        };
        let line = match is_large {
            true => {
                spawn_blocking(line).await.unwrap_or_else(|_| Err("The arguments cannot be read.".into()))
            }
            false => line(),
        };
        let line = match line {
            Ok(line) => line,
            Err(reason) => return Ok(result::mistake(&reason)),
        };
        let Some(tool) = self.target.tools.get(tool) else {
            return Ok(result::mistake("This tool is gone."));
        };
        let _turn = match turn {
            Some(turn) => Some(turn),
            None => self.turns.take(owner).await,
        };
        let share = owner.take(Resource::Processes);
        let share = share.map_err(|limit| Error::out_of(Resource::Processes, limit))?;
        let began = Instant::now();
        let limits = RunLimits { time: tool.timeout, stdout: MOST_OUTPUT, stderr: MOST_ERRORS };
        let outcome = once::run(command(tool, line), limits, share, &self.observer).await;
        self.note(tool, &outcome, began);
        Ok(result::of(tool, outcome))
    }

    /// The log gets what is in the config, and the outcome: neither arguments nor output.
    fn note(&self, tool: &InlineTool, outcome: &io::Result<Finished>, began: Instant) {
        let log =
            |level, msg| self.observer.log.line(level, msg).str("server", &self.name).str("tool", &tool.name);
        let failed = |kind: ErrorKind, why: &str| {
            // Another tool of the server may run.
            self.health.note(&format!("tool {:?} {why}", tool.name));
            self.observer.metrics.upstream_error(&self.name, kind.code());
        };
        let line = match outcome {
            Err(error) => {
                let cause = error.kind().to_string();
                failed(ErrorKind::UpstreamUnreachable, &format!("could not be started: {cause}"));
                log(Level::Warn, "Inline tool could not be started").str("cause", &cause)
            }
            Ok(Finished { status: None, .. }) => {
                failed(ErrorKind::UpstreamTimeout, "took too long");
                log(Level::Warn, "Inline tool took too long")
            }
            Ok(Finished { status: Some(status), .. }) => {
                self.health.answered();
                log(Level::Debug, "Inline tool ran").str("ended", &status.to_string())
            }
        };
        line.millis("duration_ms", began.elapsed()).send();
    }
}

/// What runs for a call of `tool` with these arguments.
fn command(tool: &InlineTool, line: Vec<String>) -> StdioTarget {
    StdioTarget {
        command: tool.command.clone(),
        args: line.into_iter().map(Secret::new).collect(),
        env: tool.env.clone(),
        cwd: None,
        inherit_env: INHERITED.iter().map(|&name| name.to_owned()).collect(),
    }
}

/// Begins a conversation with the server. It ends when the link is dropped, and with it all commands that it runs.
pub fn open(server: Arc<InlineServer>, owner: Arc<Owner>) -> Link {
    let (link, server_end) = Link::pair();
    tokio::spawn(Conversation { server, owner, server_end, calls: Calls::default() }.run());
    link
}

struct Conversation {
    server: Arc<InlineServer>,
    /// For whom it runs commands.
    owner: Arc<Owner>,
    server_end: ServerEnd,
    calls: Calls,
}

/// Calls that run or wait for their turn.
#[derive(Default)]
struct Calls {
    tasks: JoinSet<FromServer>,
    handles: HashMap<Id, AbortHandle>,
}

impl Conversation {
    async fn run(mut self) {
        loop {
            let back = tokio::select! {
                next = self.server_end.from_client.recv() => match next {
                    Some(next) => self.take(next),
                    None => return,
                },
                Some(ended) = self.calls.tasks.join_next(), if !self.calls.tasks.is_empty() => {
                    self.calls.ended(ended)
                }
            };
            if let Some(back) = back
                && self.server_end.to_client.send(back).await.is_err()
            {
                return;
            }
        }
    }

    /// Takes what the client has; returns what is to be sent at once.
    fn take(&mut self, next: ToServer) -> Option<FromServer> {
        let message = match next {
            ToServer::Abandon(id) => {
                self.calls.cancel(&id);
                return None;
            }
            ToServer::Message(outbound) => outbound.message,
        };
        match rpc::answer(&self.server.name, &self.server.target, &message) {
            InlineReply::Answer(answer) => answer.map(|message| FromServer::Message { message, about: None }),
            InlineReply::Cancel(id) => {
                self.calls.cancel(&id);
                None
            }
            InlineReply::Call(tool) => self.start(tool, message),
        }
    }

    /// Runs a tool. The request is kept to the end: it counts what is kept of it.
    fn start(&mut self, tool: usize, request: Message) -> Option<FromServer> {
        let id = request.response_id()?.clone();
        if self.calls.handles.contains_key(&id) {
            let message = rpc::error(&id, INVALID_REQUEST, "a call with this id is running")?;
            return Some(FromServer::Message { message, about: None });
        }
        if self.calls.handles.len() >= CALLS {
            let error = ErrorKind::CallerLimit.with_cause("too many calls of one session at a time");
            return Some(FromServer::Failed { id, error });
        }
        let (server, owner) = (Arc::clone(&self.server), Arc::clone(&self.owner));
        let (era, key) = (Era::of(&request), id.clone());
        let task = async move {
            let result = match server.call(&owner, tool, request).await {
                Ok(result) => result,
                Err(error) => return FromServer::Failed { id, error },
            };
            let Some(mut message) = rpc::result(&id, era, result) else { return failed(id) };
            match message.pass_to(&owner) {
                Ok(()) => FromServer::Message { message, about: None },
                Err(limit) => FromServer::Failed { id, error: Error::out_of(Resource::Bytes, limit) },
            }
        };
        self.calls.handles.insert(key, self.calls.tasks.spawn(task));
        None
    }
}

impl Calls {
    /// Drops the call if it runs, and with it its command; its answer is not awaited.
    fn cancel(&mut self, id: &Id) {
        if let Some(handle) = self.handles.remove(id) {
            handle.abort();
        }
    }

    /// What the client gets at the end of a task.
    fn ended(&mut self, ended: Result<FromServer, JoinError>) -> Option<FromServer> {
        let back = match ended {
            Ok(back) => Some(back),
            Err(error) if error.is_cancelled() => None,
            Err(error) => {
                let lost = self.handles.iter().find(|(_, handle)| handle.id() == error.id());
                lost.map(|(id, _)| failed(id.clone()))
            }
        };
        self.handles.retain(|_, handle| !handle.is_finished());
        back
    }
}

fn failed(id: Id) -> FromServer {
    FromServer::Failed { id, error: ErrorKind::Internal.with_cause("an inline tool's call was lost") }
}
