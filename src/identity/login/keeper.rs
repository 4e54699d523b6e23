//! Who does acts: whoever asks, at once and in memory, or the thread that has the file.

use std::sync::Arc;

use super::{
    acts::Act,
    store::{Down, FileStore},
    table::View,
};

/// Where rows are kept.
enum Store {
    /// In the view alone.
    Memory,
    /// In a file, of which the view has what was last read.
    File(FileStore),
}

/// Does acts.
pub(super) struct Keeper {
    view: Arc<View>,
    store: Store,
}

impl Keeper {
    /// That of this process alone.
    pub(super) fn in_memory() -> Self {
        Self { view: Arc::default(), store: Store::Memory }
    }

    /// That of a file.
    pub(super) fn in_file(store: FileStore, view: Arc<View>) -> Self {
        Self { view, store: Store::File(store) }
    }

    /// What is in memory.
    pub(super) fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// Whether there is a file.
    pub(super) fn has_file(&self) -> bool {
        matches!(self.store, Store::File(_))
    }

    /// Does something to the rows. Answers once it is written.
    pub(super) async fn run<A: Act>(&self, act: A) -> Result<A::Answer, Down> {
        match &self.store {
            Store::Memory => Ok(self.view.change(|table| {
                let Ok((answer, _)) = act.run(table);
                answer
            })),
            Store::File(file) => file.run(act).await,
        }
    }

    /// From now on, what changes is written.
    pub(super) fn begin_to_write(&self) {
        if let Store::File(file) = &self.store {
            file.begin();
        }
    }

    /// Writes what is revoked at once, so that it is over also if this process ends. Awaits nothing.
    pub(super) fn write_revoked(&self) {
        if let Store::File(file) = &self.store {
            file.write_revoked();
        }
    }
}
