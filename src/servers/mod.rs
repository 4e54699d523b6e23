//! The servers of the config, as they run: what is behind each, what of it outlives a reload, and who may use it.

mod backend;
mod entry;
mod key_holders;
mod quarantine;
mod run_state;
mod shared_links;

pub use self::{
    backend::{Backend, Origins},
    entry::{EndCause, PastCallers, ServerEntry},
    key_holders::{KeyHolder, KeyHolders},
    quarantine::Quarantine,
    run_state::RunState,
    shared_links::{ListedTools, MemberKey, SharedConversation, SharedKey, SharedLinks},
};
