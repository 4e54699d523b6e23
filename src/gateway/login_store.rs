//! What becomes of the store of logins while the gateway runs.

use std::{
    io,
    sync::{Arc, Weak},
    thread,
    time::{Duration, SystemTime},
};

use tokio::{sync::oneshot, time::sleep};

use crate::{
    config::{Level, Snapshot},
    identity::login::{KeptLogins, Logins, store::StoreFault},
    state::GatewayState,
};

/// How long a disk has to open it, until the log says that it does not answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long to wait until it is tried again: twice as long each time, up to the longest.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Opens the store once somebody may log in by the config, and tries until it is open. Nothing waits for it: no reload, since what a config
/// takes away has to go in any case, and not the end of the process.
pub(super) async fn open(shared: Weak<GatewayState>) {
    let Some(mut changes) = shared.upgrade().map(|shared| shared.changes()) else { return };
    let mut wait = FIRST_WAIT;
    loop {
        changes.borrow_and_update();
        let Some(shared) = shared.upgrade() else { return };
        let logins = &shared.logins;
        let config = Arc::clone(&shared.live().config);
        if logins.is_open() {
            return;
        }
        let has_grants = config.has_grants();
        if has_grants {
            let now = shared.live().clock.now();
            let opened = tokio::select! {
                opened = opened(logins, &config, now) => opened,
                () = is_replaced(&shared, &config) => continue,
            };
            match opened {
                Ok(opened) => {
                    logins.keep_store(opened);
                    // Of users who were taken away while no gateway had it.
                    shared.live().keep_logins();
                    shared.observer.log.line(Level::Info, "Users can log in from now on").send();
                    return;
                }
                Err(fault) => logins.report_store(Some(&fault)),
            }
        } else {
            logins.report_store(None);
        }
        drop(shared);
        tokio::select! {
            changed = changes.changed() => match changed {
                Ok(()) => wait = FIRST_WAIT,
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

/// Opens it on a thread of its own, which a disk may keep for as long as it likes.
async fn opened(
    logins: &Arc<Logins>,
    config: &Arc<Snapshot>,
    now: SystemTime,
) -> Result<KeptLogins, StoreFault> {
    if config.lost.login_keys {
        // Another key must not be made in its place.
        return Err(StoreFault::new("a file with `jwtSecret` or `encryptionKey` cannot be read"));
    }
    let (done, mut is_done) = oneshot::channel();
    let (of_thread, config_of_thread) = (Arc::clone(logins), Arc::clone(config));
    let run = move || {
        let Snapshot { login_store, state_dir, .. } = &*config_of_thread;
        let _ = done.send(of_thread.open_store(login_store, state_dir, now));
    };
    let fault = |error: io::Error| StoreFault::of(&config.state_dir, error);
    thread::Builder::new().name("store-open".into()).spawn(run).map_err(fault)?;
    let ended = || fault(io::Error::other("the thread that opens it ended"));
    tokio::select! {
        opened = &mut is_done => return opened.unwrap_or_else(|_| Err(ended())),
        () = sleep(PATIENCE) => {}
    }
    logins.report_store(Some(&fault(io::Error::other("does not answer"))));
    is_done.await.unwrap_or_else(|_| Err(ended()))
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
