//! What becomes of the store of logins while the gateway runs.

use std::{
    io,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::{
    sync::oneshot::{self, error::TryRecvError},
    time::{sleep, timeout},
};

use crate::{
    clock::Clock,
    config::{Level, Snapshot},
    identity::login::{
        KeptLogins, Logins,
        store::{Opening, StoreFault},
    },
    state::GatewayState,
};

/// How long a disk has to open it, until the log says that it does not answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long to wait until it is tried again: twice as long each time, up to the longest.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Stores that may be opened at once: each of them but one hangs, and the config has named others since.
const MOST_OPENINGS: usize = 4;

/// Opens the store once somebody may log in by the config, and tries until it is open. Nothing waits for it: no reload, since
/// what a config takes away has to go in any case, and not the end of the process.
pub(super) async fn open(shared: Weak<GatewayState>) {
    let Some(mut changes) = shared.upgrade().map(|shared| shared.changes()) else { return };
    let mut openings = Openings::default();
    let mut tried: Option<Arc<Snapshot>> = None;
    let mut wait = FIRST_WAIT;
    loop {
        changes.borrow_and_update();
        let Some(shared) = shared.upgrade() else { return };
        let logins = &shared.logins;
        let (config, clock) = {
            let live = shared.live();
            (Arc::clone(&live.config), Arc::clone(&live.clock))
        };
        if logins.is_open() {
            return;
        }
        if !tried.as_ref().is_some_and(|tried| Arc::ptr_eq(tried, &config)) {
            wait = FIRST_WAIT;
        }
        tried = Some(Arc::clone(&config));
        let has_grants = config.has_grants();
        if has_grants {
            let opened = tokio::select! {
                biased;
                () = is_replaced(&shared, &config) => continue,
                opened = openings.opened(logins, &config, &clock) => opened,
            };
            match opened {
                Ok(_) if !is_same_store(&config, &shared.live().config) => continue,
                Ok(opened) => {
                    logins.keep_store(opened);
                    shared.live().keep_logins_but(&logins.taken_away());
                    shared.note_change();
                    shared.observer.log.line(Level::Info, "Users can log in from now on").send();
                    return;
                }
                Err(fault) => logins.report_store(Some(&fault)),
            }
        } else {
            openings.give_up_but(None);
            logins.report_store(None);
        }
        drop(shared);
        tokio::select! {
            changed = changes.changed() => match changed {
                Ok(()) => {}
                Err(_) => return,
            },
            () = sleep(wait), if has_grants => wait = (wait * 2).min(LONGEST_WAIT),
        }
    }
}

/// Resolves once the config in force has logins elsewhere than `config` has.
async fn is_replaced(shared: &GatewayState, config: &Snapshot) {
    let mut changes = shared.changes();
    while is_same_store(config, &shared.live().config) {
        if changes.changed().await.is_err() {
            return;
        }
    }
}

fn is_same_store(one: &Snapshot, other: &Snapshot) -> bool {
    other.has_grants() && one.login_store == other.login_store && one.state_dir == other.state_dir
}

/// Stores that are opened, each on a thread of its own, which a disk may keep for as long as it likes.
#[derive(Default)]
struct Openings(Vec<RunningOpening>);

struct RunningOpening {
    config: Arc<Snapshot>,
    is_wanted: Arc<AtomicBool>,
    opened: oneshot::Receiver<Result<KeptLogins, StoreFault>>,
}

impl Openings {
    /// The store that `config` names.
    async fn opened(
        &mut self,
        logins: &Arc<Logins>,
        config: &Arc<Snapshot>,
        clock: &Arc<Clock>,
    ) -> Result<KeptLogins, StoreFault> {
        if config.lost.login_keys {
            // Another key must not be made in its place.
            return Err(StoreFault::new("a file with `jwtSecret` or `encryptionKey` cannot be read"));
        }
        let fault = |why: &str| StoreFault::of(&config.state_dir, why);
        self.give_up_but(Some(config));
        let at = match self.0.iter().position(|running| is_same_store(&running.config, config)) {
            Some(at) => at,
            None if self.0.len() >= MOST_OPENINGS => {
                return Err(fault("waits for other places that the config has named, which do not answer"));
            }
            None => {
                let io = |error: io::Error| StoreFault::of(&config.state_dir, error);
                self.0.push(RunningOpening::start(logins, config, clock).map_err(io)?);
                self.0.len() - 1
            }
        };
        let running = &mut self.0[at];
        let opened = match timeout(PATIENCE, &mut running.opened).await {
            Ok(opened) => opened,
            Err(_) => {
                logins.report_store(Some(&fault("does not answer")));
                (&mut running.opened).await
            }
        };
        self.0.swap_remove(at);
        opened.unwrap_or_else(|_| Err(fault("the thread that opens it ended")))
    }

    /// What `config` does not name is not wanted any more, and what has ended is forgotten.
    fn give_up_but(&mut self, config: Option<&Snapshot>) {
        self.0.retain_mut(|running| {
            let is_wanted = config.is_some_and(|config| is_same_store(&running.config, config));
            running.is_wanted.store(is_wanted, Ordering::Relaxed);
            matches!(running.opened.try_recv(), Err(TryRecvError::Empty))
        });
    }
}

impl RunningOpening {
    fn start(logins: &Arc<Logins>, config: &Arc<Snapshot>, clock: &Arc<Clock>) -> io::Result<Self> {
        let (done, opened) = oneshot::channel();
        let is_wanted = Arc::new(AtomicBool::new(true));
        let of_thread = (Arc::clone(logins), Arc::clone(config), Arc::clone(clock), Arc::clone(&is_wanted));
        let run = move || {
            let (logins, config, clock, is_wanted) = of_thread;
            let opening = Opening { now: &|| clock.now(), is_wanted: &|| is_wanted.load(Ordering::Relaxed) };
            let _ = done.send(logins.open_store(&config.login_store, &config.state_dir, opening));
        };
        thread::Builder::new().name("store-open".into()).spawn(run)?;
        Ok(Self { config: Arc::clone(config), is_wanted, opened })
    }
}

/// Has what runs end by logins that were revoked elsewhere, and tells whether logins can be kept, until the gateway is gone.
pub(super) async fn watch(shared: Weak<GatewayState>) {
    let Some(mut status) = shared.upgrade().map(|shared| shared.logins.status()) else { return };
    let (mut revocations, mut faults, mut was_down) = (0, 0, None);
    loop {
        let now = status.borrow_and_update().clone();
        {
            let Some(shared) = shared.upgrade() else { return };
            let log = &shared.observer.log;
            shared.observer.metrics.store_up.set(i64::from(now.down.is_none()));
            if now.revocations != revocations {
                revocations = now.revocations;
                shared.note_change();
            }
            if now.faults != faults {
                let line = log.line(
                    Level::Error,
                    "Rows of logins do not open, and count for nothing: somebody changed the file",
                );
                let line = line.int("rows", now.faults - faults);
                line.text("row", now.last_fault.as_deref().unwrap_or_default()).send();
                faults = now.faults;
            }
            match (&was_down, &now.down) {
                (None, Some(cause)) => {
                    let msg = "Logins cannot be kept at present: nobody can log in or refresh";
                    log.line(Level::Error, msg).text("cause", cause).send();
                }
                (Some(_), None) if shared.logins.is_open() => {
                    log.line(Level::Info, "Logins are kept again").send();
                }
                _ => {}
            }
            was_down = now.down;
        }
        if status.changed().await.is_err() {
            return;
        }
    }
}
