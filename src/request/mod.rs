//! A request on its way: what it was admitted to, and how it is refused.

pub mod admitted;
pub mod host_hint;
pub mod refuse;
