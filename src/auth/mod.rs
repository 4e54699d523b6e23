//! Who is calling, and what may they do.

mod access;
mod doors;
mod presented;
mod tokens;

pub use access::may_use;
pub use doors::{host_is_address, host_is_allowed, host_is_loopback, origin_is_allowed, origin_is_of};
pub use presented::{Presented, presented, unasked, without_token};
pub use tokens::TokenTable;
