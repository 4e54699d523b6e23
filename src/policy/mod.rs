//! Who may do what: pure decisions over the config of a moment.

pub mod access;
pub mod hosts;
pub mod selector;
