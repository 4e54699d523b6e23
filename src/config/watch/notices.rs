//! Notices of the operating system about the files, reduced to what a watcher needs.
//!
//! Written by the notifier's thread, read by the watcher. However many notices come in, this stays as small as the
//! set of names that matter.

use std::{
    collections::HashSet,
    mem,
    path::PathBuf,
    time::{Duration, Instant},
};

use notify::{
    Event, EventKind,
    event::{AccessKind, AccessMode, ModifyKind},
};
use parking_lot::Mutex;
use tokio::sync::Notify;

#[derive(Default)]
pub(super) struct Notices {
    wake: Notify,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    names: HashSet<PathBuf>,
    /// Names that were removed or moved away, and with them what was watched under that name.
    lost: HashSet<PathBuf>,
    /// Files written to by someone who has not closed them yet.
    being_written: HashSet<PathBuf>,
    last: Option<Instant>,
}

impl Notices {
    /// Takes in one notice. About other names than those expected it does nothing: neighbours in a busy directory
    /// must cost next to nothing.
    pub(super) fn take(&self, notice: notify::Result<Event>) {
        let wake = match notice {
            Ok(event) => self.state.lock().take(&event),
            // Something went unnoticed; a look will find it.
            Err(_) => true,
        };
        if wake {
            self.wake.notify_one();
        }
    }

    /// Waits for a notice about an expected name.
    pub(super) async fn wait(&self) {
        self.wake.notified().await;
    }

    /// Replaces the names that matter; returns those lost since the last call.
    pub(super) fn expect(&self, names: HashSet<PathBuf>) -> HashSet<PathBuf> {
        let mut state = self.state.lock();
        state.being_written.retain(|path| names.contains(path));
        state.names = names;
        mem::take(&mut state.lost)
    }

    /// How long no write, rename or removal was noticed, if ever one was.
    pub(super) fn quiet_for(&self, now: Instant) -> Option<Duration> {
        self.state.lock().last.map(|last| now.saturating_duration_since(last))
    }

    /// Whether a process is known to have written to a file without closing it yet.
    pub(super) fn being_written(&self) -> bool {
        !self.state.lock().being_written.is_empty()
    }
}

impl State {
    fn take(&mut self, event: &Event) -> bool {
        if event.need_rescan() {
            // Notices were dropped, and that a writer closed his file may have been among them.
            self.being_written.clear();
            return true;
        }
        let closed = AccessKind::Close(AccessMode::Write);
        if matches!(event.kind, EventKind::Access(kind) if kind != closed) {
            // Someone reads, perhaps the watcher itself.
            return false;
        }
        let mut ours = event.paths.iter().filter(|path| self.names.contains(*path)).peekable();
        if ours.peek().is_none() {
            return false;
        }
        for path in ours {
            match event.kind {
                EventKind::Modify(ModifyKind::Data(_)) => {
                    self.being_written.insert(path.clone());
                }
                EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) => {
                    self.being_written.remove(path);
                    self.lost.insert(path.clone());
                }
                EventKind::Create(_) | EventKind::Access(_) => {
                    self.being_written.remove(path);
                }
                _ => {}
            }
        }
        if !matches!(event.kind, EventKind::Modify(ModifyKind::Metadata(_))) {
            self.last = Some(Instant::now());
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use notify::event::{CreateKind, DataChange, Flag};
    use tokio::time::timeout;

    use super::*;

    fn expecting(path: &str) -> Notices {
        let notices = Notices::default();
        notices.expect([path.into()].into());
        notices
    }

    async fn woken(notices: &Notices) -> bool {
        timeout(Duration::ZERO, notices.wait()).await.is_ok()
    }

    #[tokio::test]
    async fn neighbours_and_readers_wake_nobody() {
        let notices = expecting("/etc/gate/config.json");
        notices.take(Ok(Event::new(EventKind::Create(CreateKind::File)).add_path("/etc/gate/other".into())));
        let read = EventKind::Access(AccessKind::Open(AccessMode::Any));
        notices.take(Ok(Event::new(read).add_path("/etc/gate/config.json".into())));
        assert!(!woken(&notices).await);
    }

    #[tokio::test]
    async fn a_dropped_notice_wakes_like_one_that_came() {
        let notices = expecting("/etc/gate/config.json");
        notices.take(Ok(Event::new(EventKind::Other).set_flag(Flag::Rescan)));
        assert!(woken(&notices).await);
        notices.take(Err(notify::Error::generic("cannot read")));
        assert!(woken(&notices).await);
    }

    #[tokio::test]
    async fn a_thousand_notices_are_one_reason_to_look() {
        let notices = expecting("/etc/gate/config.json");
        let write = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        for _ in 0..1_000 {
            notices.take(Ok(Event::new(write).add_path("/etc/gate/config.json".into())));
        }
        assert!(woken(&notices).await);
        assert!(!woken(&notices).await);
    }
}
