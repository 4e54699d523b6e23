//! Who is calling, and what may they do.

mod access;
mod doors;
mod hide;
mod presented;
mod tokens;

pub use access::may_use;
pub use doors::{host_is_allowed, origin_is_allowed};
pub use hide::path_without_tokens;
pub use presented::{holds, presented, without_token};
pub use tokens::TokenTable;
