//! Every key of the config, one entry each.
//!
//! An entry has the key's name, what it takes, what its absence means, and what users read about it. To add a key, add
//! an entry and read it where its object is resolved, by the same name. Then `SLUICEGATE_BLESS=1 cargo test --lib config`
//! writes `docs/config.md`, and a test asks for the key in `examples/full.json`. A test finds keys that nobody reads, or
//! that the reader takes otherwise than the table says.

mod auth;
mod callers;
mod idp;
mod issuers;
pub(crate) mod key;
mod limits;
mod oauth;
mod proxy;
mod rates;
mod server;
mod upstream_auth;

use std::time::Duration;

pub use self::server::INHERITED;
pub(super) use self::{
    auth::{AUTH, SCHEMES, TENANTS, TOKEN, USER},
    idp::IDP_OBJECT,
    issuers::{ALGORITHMS, ASSIGNMENT, CONDITION, INTROSPECTION, ISSUER},
    oauth::{CLIENT, GRANTS},
    proxy::ROOT,
    server::{ADMIN, COMMAND, INLINE_TOOL, SERVER, SERVER_NAMES, TOOL_RULE, URL},
    upstream_auth::{AUTH_CONFIG, SERVICE_AUTH, UPSTREAM_AUTH},
};
use crate::config::table::key::{ANY, Absent::Nothing, Object, ValueKind, key};

/// Where to find a text that is not in the config.
pub(super) static REFERENCE: Object = Object {
    name: "reference",
    doc: "Where to find a text that does not stand in the config.",
    one_of: &["$env", "$file", "$text"],
    keys: &[
        key("$env", ValueKind::Variable, Nothing, "Name of an environment variable that holds the text."),
        key(
            "$file",
            ValueKind::Path,
            Nothing,
            "File that holds the text, relative to the config; one line break at its end is not part of it.",
        ),
        key(
            "$text",
            ValueKind::Literal,
            Nothing,
            "The text itself, in which nothing is a reference: `env:HOME`.",
        ),
    ],
};

static TEXT: ValueKind = ValueKind::Text(ANY);
/// A word of the user's own.
static LABEL: ValueKind = ValueKind::Text(r"\S");
/// The name of a header (RFC 9110, section 5.1).
const HEADER_NAME: &str = "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$";
/// The name or path of a program.
const PROGRAM: ValueKind = ValueKind::Text(r"^[^\u0000]*[^\s\u0000][^\u0000]*$");

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
