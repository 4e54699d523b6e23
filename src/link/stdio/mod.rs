//! A link to a local command that speaks MCP on its standard input and output, one message a line.
//!
//! One process, one link. If either fails, the process or its user, that one conversation ends: a process that reads nothing
//! blocks its own writer, one that floods its output is read no faster than its user takes what it says.

mod lines;
mod reader;

use std::{
    borrow::Cow,
    convert::Infallible,
    future::pending,
    io::{self, IoSlice},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{
    io::AsyncWriteExt,
    net::unix::pipe,
    sync::mpsc::{Receiver, Sender},
    time::timeout,
};

use crate::link::stdio::reader::Reader;
use crate::link::{
    FromServer, Link, Outbound, QUEUE, ServerEnd, ToServer,
    awaited::{Awaited, Callers, to_log},
};
use crate::{
    child::{Child, EndReason, Life, ProcessEvent, Supervisor},
    error::Error,
    ledger::Owner,
    mcp::message::Message,
};

/// A process that closes a pipe is most often about to end: how long to wait for the better reason.
const BETTER_REASON: Duration = Duration::from_millis(100);
/// How long the user of an ended process may take nothing of what it wrote, which lies in the pipe.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Starts a process for `owner` and opens a link to it, of which these are the callers. The process ends with the link; see
/// [`Supervisor::start`] for errors.
pub async fn open(supervisor: &Arc<Supervisor>, owner: &Arc<Owner>, callers: Callers) -> Result<Link, Error> {
    let child = supervisor.start(owner).await?;
    let (link, server_end) = Link::pair();
    let supervisor = Arc::clone(supervisor);
    tokio::spawn(async move { converse(child, server_end, &supervisor, callers).await });
    Ok(link)
}

/// Why a conversation does not go on.
enum Over {
    /// Its user has nothing more to say.
    Unneeded,
    /// The server is to be stopped.
    Stopped,
    /// The process has ended.
    Exited(Cow<'static, str>),
    /// The process closed a pipe.
    Broken(&'static str),
}

impl From<ProcessEvent> for Over {
    fn from(event: ProcessEvent) -> Self {
        match event {
            ProcessEvent::Exited(how) => Self::Exited(how),
            ProcessEvent::Stop => Self::Stopped,
        }
    }
}

async fn converse(child: Child, server_end: ServerEnd, server: &Supervisor, callers: Callers) {
    let Child { stdin, stdout, mut life } = child;
    let ServerEnd { from_client, to_client } = server_end;
    let report = to_log(Arc::clone(server.observer()), Arc::clone(server.name()));
    // Both sides are of one task, so that neither ever waits for it.
    let awaited = Arc::new(Mutex::new(Awaited::new(callers, report)));
    let mut reader = Reader::new(stdout, server, &life, Arc::clone(&awaited));
    // Whatever comes first, this lets go of the process's standard input.
    let mut over = tokio::select! {
        over = write(stdin, from_client, &awaited) => over,
        () = reader.forward(&to_client) => Over::Broken("the process closed its standard output"),
        () = to_client.closed() => Over::Unneeded,
        event = life.event() => event.into(),
    };
    if let Over::Unneeded = over
        && let Some(start) = life.first_start()
    {
        over = tokio::select! {
            () = start.over() => Over::Unneeded,
            () = reader.forward(&to_client) => Over::Unneeded,
            event = life.event() => event.into(),
        };
    }
    let (why, cause) = match over {
        Over::Exited(how) => return last_words(reader, to_client, how).await,
        Over::Broken(what) => match timeout(BETTER_REASON, life.exited()).await {
            Ok(how) => return last_words(reader, to_client, how).await,
            Err(_) => (EndReason::Broken, what),
        },
        Over::Stopped => (EndReason::Unneeded, "the server was stopped, restarted or configured anew"),
        Over::Unneeded => {
            life.end(EndReason::Unneeded);
            // What it was asked before may still be answered, if there is someone to take it.
            let how = until_exit(&mut life, reader.forward(&to_client)).await;
            return last_words(reader, to_client, how).await;
        }
    };
    life.end(why);
    let report_end = async move {
        // Fails when its user is gone.
        let _ = to_client.send(FromServer::Ended { cause: cause.into() }).await;
    };
    // A process that cannot write what it has to say might not come to its end.
    tokio::join!(report_end, until_exit(&mut life, reader.discard()));
}

async fn until_exit(life: &mut Life, reading: impl Future<Output = ()>) -> Cow<'static, str> {
    let read_on = async {
        reading.await;
        pending::<Infallible>().await
    };
    tokio::select! {
        how = life.exited() => how,
        never = read_on => match never {},
    }
}

/// A process may well answer and end: passes on what is left of its output, and that it has ended.
async fn last_words(mut reader: Reader, to_client: Sender<FromServer>, cause: Cow<'static, str>) {
    reader.read_what_is_left();
    loop {
        let before = reader.progress();
        let is_over = timeout(LAST_WORDS, reader.forward(&to_client)).await.is_ok();
        if is_over || reader.progress() == before {
            break;
        }
    }
    // Fails when its user is gone.
    let _ = to_client.send(FromServer::Ended { cause }).await;
}

/// Writes the client's messages, those that wait in one go, until there are no more or nobody reads them.
async fn write(
    mut stdin: pipe::Sender,
    mut from_client: Receiver<ToServer>,
    awaited: &Mutex<Awaited>,
) -> Over {
    let mut has_session = false;
    loop {
        // Not kept: most of its life, a link is idle.
        let mut waiting = Vec::new();
        if from_client.recv_many(&mut waiting, QUEUE).await == 0 {
            return Over::Unneeded;
        }
        // Kept until they are written, and counted for as long.
        let messages: Vec<Message> = {
            let mut awaited = awaited.lock();
            waiting.into_iter().filter_map(|what| message(what, &mut has_session, &mut awaited)).collect()
        };
        let lines: Vec<Bytes> = messages.iter().map(Message::line).collect();
        if write_lines(&mut stdin, &lines).await.is_err() {
            return Over::Broken("the process closed its standard input");
        }
    }
}

/// A message as the process gets it. What the gateway says itself is of the era that the
/// conversation is of: one that begins with `initialize` is a session, which none of MCP 2026-07-28 is.
fn message(what: ToServer, has_session: &mut bool, awaited: &mut Awaited) -> Option<Message> {
    match what {
        ToServer::Message(Outbound { message, .. }) => {
            *has_session |= message.method() == "initialize" && !message.names_version();
            awaited.begin(&message);
            Some(message)
        }
        ToServer::Abandon(id) => {
            awaited.give_up(&id);
            if *has_session { Message::cancelled(&id).ok() } else { Message::cancelled_modern(&id).ok() }
        }
    }
}

async fn write_lines(stdin: &mut pipe::Sender, lines: &[Bytes]) -> io::Result<()> {
    let mut slices: Vec<_> =
        lines.iter().flat_map(|line| [IoSlice::new(line), IoSlice::new(b"\n")]).collect();
    let mut rest = slices.as_mut_slice();
    while !rest.is_empty() {
        let written = stdin.write_vectored(rest).await?;
        IoSlice::advance_slices(&mut rest, written);
    }
    Ok(())
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
