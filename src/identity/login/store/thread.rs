//! The thread that has the file. Whoever asks it awaits an answer; nobody waits for a disk who serves.

use std::{
    collections::HashSet,
    io,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use tokio::sync::{oneshot, watch};

use super::{
    database::{Database, News},
    rows::FileRows,
    secrets::Secrets,
    status::StoreStatus,
};
use crate::identity::login::{
    acts::{
        Act, Undelivered,
        grants::{Revoke, end, note_uses},
    },
    grant_id::GrantId,
    sources::Sources,
    table::View,
    token_sealers::TokenSealers,
};

/// Acts that wait, at most.
const QUEUE: usize = 1024;
/// Acts that one transaction does, at most: so many cost one wait for the disk.
const BATCH: usize = 64;
/// How long an answer is awaited.
const WAIT: Duration = Duration::from_secs(5);
/// How often it is looked whether another gateway has written.
const LOOK: Duration = Duration::from_millis(250);
/// How often what has ended is removed, at most.
const SWEEP: Duration = Duration::from_secs(10);
/// Grants whose last use is written at once, at most.
const USES: usize = 500;

/// It cannot be read or written at present, or not in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::identity::login) struct Down;

/// An act, and who awaits what comes of it.
struct Asked<A: Act> {
    act: A,
    answer: oneshot::Sender<A::Answer>,
    /// Afterwards, nobody awaits the answer.
    until: Instant,
}

/// An act of any kind.
trait Job: Send {
    /// Whether it is to be done: nobody would know of a login or a refresh that nobody awaits, and a logout is meant in any case.
    fn is_wanted(&self) -> bool;
    /// The time of day by which it is done, if it goes by one.
    fn now(&self) -> Option<SystemTime>;
    fn run(self: Box<Self>, rows: &mut FileRows<'_>) -> rusqlite::Result<Ready>;
}

/// An answer that waits for the disk. Returns what was lost if nobody awaits it any more.
type Ready = Box<dyn FnOnce() -> Option<Undelivered>>;

impl<A: Act> Job for Asked<A> {
    fn is_wanted(&self) -> bool {
        A::IS_MEANT_IN_ANY_CASE || !self.answer.is_closed() && Instant::now() < self.until
    }

    fn now(&self) -> Option<SystemTime> {
        self.act.now()
    }

    fn run(self: Box<Self>, rows: &mut FileRows<'_>) -> rusqlite::Result<Ready> {
        let Self { act, answer, .. } = *self;
        let (with, undelivered) = act.run(rows)?;
        Ok(Box::new(move || answer.send(with).err().and(undelivered)))
    }
}

/// A handle to the thread. The thread ends with the last one.
pub(in crate::identity::login) struct FileStore {
    jobs: SyncSender<Box<dyn Job>>,
    begin: SyncSender<()>,
}

impl FileStore {
    /// Lets the thread begin.
    pub(in crate::identity::login) fn begin(&self) {
        let _ = self.begin.try_send(());
    }

    /// Does something to the rows. Answers once it is written.
    pub(in crate::identity::login) async fn run<A: Act>(&self, act: A) -> Result<A::Answer, Down> {
        let (answer, answered) = oneshot::channel();
        let job = Asked { act, answer, until: Instant::now() + WAIT };
        self.jobs.try_send(Box::new(job)).map_err(|_| Down)?;
        tokio::time::timeout(WAIT, answered).await.map_err(|_| Down)?.map_err(|_| Down)
    }

    /// Has it write what is revoked, and awaits nothing.
    pub(in crate::identity::login) fn write_revoked(&self) {
        let (answer, _) = oneshot::channel();
        let act = Revoke { these: Vec::new(), consents: Vec::new() };
        // Where there is no room, there is enough to do, and it is written with that.
        let _ = self.jobs.try_send(Box::new(Asked { act, answer, until: Instant::now() }));
    }
}

/// What one transaction did.
#[derive(Default)]
struct Done {
    answers: Vec<Ready>,
    /// When what has ended was removed, if it was, and whether there is more of it.
    swept: Option<(SystemTime, bool)>,
    /// What is written as revoked.
    revoked: HashSet<GrantId>,
    /// What is written of the sources of tokens.
    sources: Option<Arc<Sources>>,
    is_written: bool,
}

/// What the thread has.
pub(super) struct Writer {
    database: Database,
    view: Arc<View>,
    sealers: Arc<ArcSwap<TokenSealers>>,
    secrets: Secrets,
    status: watch::Sender<StoreStatus>,
    /// When what has ended was last removed, and whether there is more of it.
    swept: Option<(SystemTime, bool)>,
    /// Why nothing can be kept at present.
    down: Option<Arc<str>>,
    /// What is to be put right.
    undelivered: Vec<Undelivered>,
    /// Rows that do not open, which were told.
    faults: HashSet<String>,
}

impl Writer {
    pub(super) fn new(
        database: Database,
        view: Arc<View>,
        sealers: Arc<ArcSwap<TokenSealers>>,
        secrets: Secrets,
        status: watch::Sender<StoreStatus>,
    ) -> Self {
        let (swept, down, undelivered, faults) = (None, None, Vec::new(), HashSet::new());
        Self { database, view, sealers, secrets, status, swept, down, undelivered, faults }
    }

    /// Starts the thread; `news` is what was read last.
    pub(super) fn start(mut self, news: News) -> io::Result<FileStore> {
        let (jobs, asked) = sync_channel(QUEUE);
        let (begin, begins) = sync_channel(1);
        let run = move || {
            // One that nobody keeps writes nothing and tells nothing.
            if begins.recv().is_ok() {
                self.report(Ok(()), &news);
                self.run(&asked);
            }
        };
        thread::Builder::new().name("store".into()).spawn(run)?;
        Ok(FileStore { jobs, begin })
    }

    fn run(mut self, asked: &Receiver<Box<dyn Job>>) {
        loop {
            let first = asked.recv_timeout(LOOK);
            let is_last = matches!(first, Err(RecvTimeoutError::Disconnected));
            let jobs: Vec<_> = first.into_iter().chain(asked.try_iter()).take(BATCH).collect();
            self.turn(jobs);
            if is_last {
                return;
            }
        }
    }

    /// Answers these, writes what is to be written, and reads what others wrote.
    fn turn(&mut self, jobs: Vec<Box<dyn Job>>) {
        // What is written into files that nobody finds is lost.
        if let Err(cause) = self.database.is_in_place() {
            return self.report(Err(cause), &News::default());
        }
        let done = self.write(jobs);
        let cause = |error: rusqlite::Error| format!("{}: {error}", self.database.path().display());
        let done = done.map_err(cause).and_then(|done| self.database.is_in_place().map(|()| done));
        let (done, wrote) = match done {
            Ok(done) => (done, Ok(())),
            Err(cause) => (Done::default(), Err(cause)),
        };
        if done.is_written {
            self.undelivered.clear();
            if let Some(swept) = done.swept {
                self.swept = Some(swept);
            }
            if !done.revoked.is_empty() {
                self.view.change(|table| table.unwritten.retain(|id| !done.revoked.contains(id)));
            }
            if let Some(sources) = &done.sources {
                let is_it = |unwritten: &mut Arc<Sources>| Arc::ptr_eq(unwritten, sources);
                self.view.change(|table| table.unwritten_sources.take_if(is_it));
            }
        }
        // Before anybody is answered, so that this process knows what it has answered.
        let mut news = News::default();
        let read = self.database.has_news().and_then(|has_news| {
            if has_news || done.is_written || self.down.is_some() {
                news = self.database.follow(&self.view)?;
            }
            Ok(())
        });
        news.faults.extend(self.database.take_faults());
        let read = read.map_err(|error| format!("{}: {error}", self.database.path().display()));
        self.report(wrote.and(read), &news);
        self.undelivered.extend(done.answers.into_iter().filter_map(|ready| ready()));
    }

    /// Does these, and what is to be written besides, in one transaction.
    fn write(&mut self, jobs: Vec<Box<dyn Job>>) -> rusqlite::Result<Done> {
        let (unwritten, sources, now) =
            self.view.change(|table| (table.unwritten.clone(), table.unwritten_sources.clone(), table.now));
        let asked = jobs.iter().filter_map(|job| job.now());
        let now = asked.chain(now).max().unwrap_or(UNIX_EPOCH);
        let may_sweep = |(swept, is_more): (SystemTime, bool)| is_more || now >= swept + SWEEP;
        let sweeps = now != UNIX_EPOCH && self.swept.is_none_or(may_sweep);
        let uses = if sweeps { self.view.unwritten_uses(USES) } else { Vec::new() };
        let (is_down, undelivered) = (self.down.is_some(), &self.undelivered);
        let has_work =
            !jobs.is_empty() || !unwritten.is_empty() || sources.is_some() || !undelivered.is_empty();
        if !has_work && !sweeps && !is_down {
            return Ok(Done::default());
        }
        self.database.write(now, |rows| {
            if is_down {
                rows.probe()?;
            }
            for id in &unwritten {
                end(rows, *id)?;
            }
            if let Some(sources) = &sources {
                rows.keep_sources(sources)?;
            }
            for lost in undelivered {
                lost.undo(rows, now)?;
            }
            // Another gateway may have been waited for until now. What is asked goes before what nobody waits for.
            let wanted = jobs.into_iter().filter(|job| job.is_wanted());
            let answers = wanted.map(|job| job.run(rows)).collect::<Result<_, _>>()?;
            note_uses(rows, &uses)?;
            let is_more = if sweeps { rows.sweep()? } else { false };
            Ok(Done {
                answers,
                swept: sweeps.then_some((now, is_more)),
                revoked: unwritten,
                sources,
                is_written: true,
            })
        })
    }

    /// Tells what has become of it.
    fn report(&mut self, done: Result<(), String>, news: &News) {
        if news.has_salt {
            let keys = self.secrets.of_tokens(&self.database.secret, &self.database.salt);
            if let Ok(sealers) = TokenSealers::new(&keys) {
                self.sealers.store(Arc::new(sealers));
            }
        }
        let new_faults = news.faults.iter().filter(|fault| !self.faults.contains(*fault)).count();
        // Whoever can write to the file could make up any number of them.
        if self.faults.len() < 1_000 {
            self.faults.extend(news.faults.iter().cloned());
        }
        let down = done.err().map(Arc::<str>::from);
        let is_same = self.down == down;
        if !news.has_revoked && !news.has_salt && new_faults == 0 && is_same {
            return;
        }
        self.down.clone_from(&down);
        self.status.send_modify(|status| {
            // What others say of a store that is not in use yet is not for this one to take back.
            if !is_same {
                status.down = down;
            }
            status.revocations += u64::from(news.has_revoked || news.has_salt);
            if new_faults > 0 {
                status.faults += new_faults as u64;
                status.last_fault = news.faults.last().map(|fault| fault.as_str().into());
            }
        });
    }
}
