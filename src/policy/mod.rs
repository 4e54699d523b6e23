//! Who may do what: pure decisions over the config of a moment.

pub mod decide;
pub mod hosts;
pub mod selector;
pub mod tools;
