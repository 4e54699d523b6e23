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
    database::{Database, FileRows, News},
    secrets::Secrets,
    status::StoreStatus,
};
use crate::{
    config::LoginTerms,
    identity::login::{
        grant::{self, Grant, GrantRows as _, Issued, NotBegun, NotRefreshed},
        grant_id::GrantId,
        refresh_token::RefreshToken,
        session_token::TokenSealer,
        table::View,
    },
};

/// Questions that wait, at most.
const QUEUE: usize = 1024;
/// Questions that one transaction answers, at most: so many cost one wait for the disk.
const BATCH: usize = 64;
/// How long an answer is awaited.
const WAIT: Duration = Duration::from_secs(5);
/// How often it is looked whether another gateway has written.
const LOOK: Duration = Duration::from_millis(250);
/// How often what has ended is removed, at most.
const SWEEP: Duration = Duration::from_secs(10);

/// It cannot be read or written at present, or not in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::identity::login) struct Down;

/// What is to be revoked.
pub(in crate::identity::login) enum Revocable {
    /// The grant that a session token names.
    Grant(GrantId),
    /// The grant of a refresh token, if it is one.
    Token(RefreshToken),
}

enum Question {
    Begin(Box<Grant>, LoginTerms, SystemTime, Answer<Result<(Issued, bool), NotBegun>>),
    Refresh(RefreshToken, LoginTerms, SystemTime, Answer<Result<Issued, NotRefreshed>>),
    Revoke(Vec<Revocable>, Answer<Option<Arc<str>>>),
}

type Answer<T> = oneshot::Sender<T>;

struct Job {
    /// Afterwards, nobody awaits the answer.
    until: Instant,
    question: Question,
}

impl Job {
    /// Whether it is to be done: nobody would know of a login or a refresh that nobody awaits, and a logout is meant in any case.
    fn is_wanted(&self) -> bool {
        let is_left = match &self.question {
            Question::Begin(.., answer) => answer.is_closed(),
            Question::Refresh(.., answer) => answer.is_closed(),
            Question::Revoke(..) => return true,
        };
        !is_left && Instant::now() < self.until
    }
}

/// A handle to the thread. The thread ends with the last one.
pub(in crate::identity::login) struct FileStore {
    jobs: SyncSender<Job>,
}

impl FileStore {
    async fn ask<T>(&self, question: impl FnOnce(Answer<T>) -> Question) -> Result<T, Down> {
        let (answer, answered) = oneshot::channel();
        let job = Job { until: Instant::now() + WAIT, question: question(answer) };
        self.jobs.try_send(job).map_err(|_| Down)?;
        tokio::time::timeout(WAIT, answered).await.map_err(|_| Down)?.map_err(|_| Down)
    }

    pub(in crate::identity::login) async fn begin(
        &self,
        grant: Grant,
        terms: &LoginTerms,
        now: SystemTime,
    ) -> Result<(Issued, bool), NotBegun> {
        let question = |answer| Question::Begin(Box::new(grant), *terms, now, answer);
        self.ask(question).await.unwrap_or(Err(NotBegun::Down))
    }

    pub(in crate::identity::login) async fn refresh(
        &self,
        token: RefreshToken,
        terms: &LoginTerms,
        now: SystemTime,
    ) -> Result<Issued, NotRefreshed> {
        let question = |answer| Question::Refresh(token, *terms, now, answer);
        self.ask(question).await.unwrap_or(Err(NotRefreshed::Down))
    }

    /// Has it write what is revoked, and awaits nothing.
    pub(in crate::identity::login) fn write_revoked(&self) {
        let (answer, _) = oneshot::channel();
        // Where there is no room, there is enough to do, and it is written with that.
        let _ =
            self.jobs.try_send(Job { until: Instant::now(), question: Question::Revoke(Vec::new(), answer) });
    }

    /// Answers once these, and all that were revoked before, are written.
    pub(in crate::identity::login) async fn revoke(
        &self,
        these: Vec<Revocable>,
    ) -> Result<Option<Arc<str>>, Down> {
        self.ask(|answer| Question::Revoke(these, answer)).await
    }
}

/// What was written for somebody who did not await it any more, since the disk took too long.
enum Undelivered {
    Begun(GrantId),
    /// The refresh token of this generation.
    Refreshed(GrantId, u32),
}

/// An answer that waits for the disk. Returns what was lost if nobody awaits it any more.
type Ready = Box<dyn FnOnce() -> Option<Undelivered>>;

fn ready<T: 'static>(answer: Answer<T>, with: T, what: Option<Undelivered>) -> Ready {
    Box::new(move || answer.send(with).err().and(what))
}

/// What the thread has.
pub(super) struct Writer {
    database: Database,
    view: Arc<View>,
    sealer: Arc<ArcSwap<TokenSealer>>,
    secrets: Secrets,
    status: watch::Sender<StoreStatus>,
    /// When what has ended was last removed, and whether there is more of it.
    swept: Option<(SystemTime, bool)>,
    is_down: bool,
    /// What is to be put right.
    undelivered: Vec<Undelivered>,
    /// Rows that do not open, which were told.
    faults: HashSet<String>,
}

impl Writer {
    pub(super) fn new(
        database: Database,
        view: Arc<View>,
        sealer: Arc<ArcSwap<TokenSealer>>,
        secrets: Secrets,
        status: watch::Sender<StoreStatus>,
    ) -> Self {
        let (swept, is_down, undelivered, faults) = (None, false, Vec::new(), HashSet::new());
        Self { database, view, sealer, secrets, status, swept, is_down, undelivered, faults }
    }

    /// Starts the thread; `news` is what was read last.
    pub(super) fn start(mut self, news: &News) -> io::Result<FileStore> {
        self.report(Ok(()), news);
        let (jobs, asked) = sync_channel(QUEUE);
        thread::Builder::new().name("store".into()).spawn(move || self.run(&asked))?;
        Ok(FileStore { jobs })
    }

    fn run(mut self, asked: &Receiver<Job>) {
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
    fn turn(&mut self, jobs: Vec<Job>) {
        let (unwritten, now) = self.view.change(|table| (table.unwritten.clone(), table.now));
        let asked = jobs.iter().filter_map(|job| match &job.question {
            Question::Begin(_, _, now, _) | Question::Refresh(_, _, now, _) => Some(*now),
            Question::Revoke(..) => None,
        });
        let now = asked.chain(now).max().unwrap_or(UNIX_EPOCH);
        let may_sweep = |(swept, is_more): (SystemTime, bool)| is_more || now >= swept + SWEEP;
        let sweeps = now != UNIX_EPOCH && self.swept.is_none_or(may_sweep);
        let is_down = self.is_down;
        let mut is_written = false;
        let mut done = Ok(Vec::new());
        let undelivered = &self.undelivered;
        if !jobs.is_empty() || !unwritten.is_empty() || !undelivered.is_empty() || sweeps || is_down {
            done = self
                .database
                .write(now, |rows| {
                    if is_down {
                        rows.probe()?;
                    }
                    for id in &unwritten {
                        grant::revoke(rows, *id)?;
                    }
                    for lost in undelivered {
                        match *lost {
                            Undelivered::Begun(id) => drop(grant::revoke(rows, id)?),
                            Undelivered::Refreshed(id, generation) => {
                                grant::renew_grace(rows, id, generation, now)?;
                            }
                        }
                    }
                    // Another gateway may have been waited for until now. What is asked goes before what nobody waits for.
                    let wanted = jobs.into_iter().filter(Job::is_wanted);
                    let answers = wanted.map(|job| answer(rows, job.question)).collect::<Result<_, _>>()?;
                    let is_more = if sweeps { rows.sweep()? } else { false };
                    Ok((answers, is_more))
                })
                .map(|(answers, is_more): (Vec<Ready>, bool)| {
                    if sweeps {
                        self.swept = Some((now, is_more));
                    }
                    is_written = true;
                    answers
                });
            if is_written {
                self.undelivered.clear();
            }
            if is_written && !unwritten.is_empty() {
                self.view.change(|table| table.unwritten.retain(|id| !unwritten.contains(id)));
            }
        }
        let (answers, wrote) = match done {
            Ok(answers) => (answers, Ok(())),
            Err(error) => (Vec::new(), Err(error)),
        };
        // Before anybody is answered, so that this process knows what it has answered.
        let mut news = News { has_revoked: false, has_salt: false, faults: Vec::new() };
        let read = self.database.has_news().and_then(|has_news| {
            if has_news || is_written || is_down {
                news = self.database.follow(&self.view)?;
            }
            Ok(())
        });
        self.report(wrote.and(read), &news);
        self.undelivered.extend(answers.into_iter().filter_map(|ready| ready()));
    }

    /// Tells what has become of it.
    fn report(&mut self, done: rusqlite::Result<()>, news: &News) {
        if news.has_salt {
            let keys = self.secrets.of_tokens(&self.database.secret, &self.database.salt);
            if let Ok(sealer) = TokenSealer::new(&keys) {
                self.sealer.store(Arc::new(sealer));
            }
        }
        let new_faults = news.faults.iter().filter(|fault| !self.faults.contains(*fault)).count();
        // Whoever can write to the file could make up any number of them.
        if self.faults.len() < 1_000 {
            self.faults.extend(news.faults.iter().cloned());
        }
        let is_down = done.is_err();
        if !news.has_revoked && !news.has_salt && new_faults == 0 && is_down == self.is_down {
            return;
        }
        self.is_down = is_down;
        self.status.send_modify(|status| {
            status.revocations += u64::from(news.has_revoked || news.has_salt);
            status.down =
                done.err().map(|error| format!("{}: {error}", self.database.path().display()).into());
            if new_faults > 0 {
                status.faults += new_faults as u64;
                status.last_fault = news.faults.last().map(|fault| fault.as_str().into());
            }
        });
    }
}

fn answer(rows: &mut FileRows<'_>, question: Question) -> rusqlite::Result<Ready> {
    Ok(match question {
        Question::Begin(grant, terms, now, answer) => {
            let begun = grant::begin(rows, *grant, &terms, now)?;
            let what = begun.as_ref().ok().map(|(issued, _)| Undelivered::Begun(issued.grant));
            ready(answer, begun, what)
        }
        Question::Refresh(token, terms, now, answer) => {
            let refreshed = grant::refresh(rows, &token, &terms, now)?;
            let is_new = refreshed.as_ref().is_ok_and(|issued| issued.is_new);
            let what = is_new.then(|| Undelivered::Refreshed(token.grant, token.generation + 1));
            ready(answer, refreshed, what)
        }
        Question::Revoke(these, answer) => {
            let mut whose = None;
            for this in these {
                let id = match this {
                    Revocable::Grant(id) => id,
                    Revocable::Token(token) => match rows.get(token.grant)? {
                        Some(grant) if token.is_of(&grant.secret) => grant.id,
                        _ => continue,
                    },
                };
                whose = grant::revoke(rows, id)?.or(whose);
            }
            ready(answer, whose, None)
        }
    })
}
