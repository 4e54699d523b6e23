//! What tests share that needs no gateway. It does not depend on the library, so the library's own unit tests take it and the
//! library is built only once for them.
//!
//! Everything here fails as tests do: by a panic that says what was expected.

pub mod spellings;
pub mod waiting;
