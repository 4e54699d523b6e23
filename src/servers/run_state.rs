//! Whether a server is to run.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Whether a server is to run, which `POST /servers/{name}/stop` turns off.
pub struct RunState {
    /// Whether the config says that it is not to run.
    disabled: bool,
    stopped: AtomicBool,
    stops: AtomicU64,
    epoch: AtomicU64,
}

/// The last epoch of any server.
static EPOCHS: AtomicU64 = AtomicU64::new(0);

impl Default for RunState {
    fn default() -> Self {
        Self::new(false)
    }
}

impl RunState {
    /// The switch of a server that runs until it is stopped, or of one that is `disabled` and never does.
    pub fn new(disabled: bool) -> Self {
        let run_state = Self {
            disabled,
            stopped: AtomicBool::default(),
            stops: AtomicU64::default(),
            epoch: AtomicU64::default(),
        };
        run_state.begin_epoch();
        run_state
    }

    /// A number that no server had before: it is another one since the server was stopped, restarted or configured anew.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// What was begun with the server so far is of no more use.
    pub fn begin_epoch(&self) {
        self.epoch.store(EPOCHS.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Whether the server was stopped, or is disabled.
    pub fn is_stopped(&self) -> bool {
        self.disabled || self.stopped.load(Ordering::Relaxed)
    }

    /// How often it was stopped or restarted.
    pub fn stops(&self) -> u64 {
        self.stops.load(Ordering::Relaxed)
    }

    /// Stops the server: what was begun with it is of no more use.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.end();
    }

    /// Lets the server run.
    pub fn start(&self) {
        self.stopped.store(false, Ordering::Relaxed);
    }

    /// Lets the server run; what was begun with it is of no more use.
    pub fn restart(&self) {
        self.end();
        self.start();
    }

    fn end(&self) {
        self.stops.fetch_add(1, Ordering::Relaxed);
        self.begin_epoch();
    }
}
