//! Who is calling.

mod tokens;

pub use tokens::TokenTable;
