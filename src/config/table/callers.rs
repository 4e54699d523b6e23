//! What all callers of the config have alike, whatever proves them.

use super::{LABEL, TEXT};
use crate::config::table::key::{
    Absent::{List, Means},
    Key, Names, ValueKind, key,
};

/// As HTTP has them beside a password (RFC 7617 §2).
pub(super) static USER_NAMES: Names =
    Names { pattern: r"^[^:\u0000-\u001f\u007f-\u009f]{1,128}$", reserved: &[] };

/// What a caller may do, whoever it is.
pub(super) const ROLES: Key = key(
    "roles",
    ValueKind::List(&LABEL),
    List(&[]),
    "Roles of the caller. `admin` may see `/metrics` and manage `/servers`, `metrics` may see `/metrics`; others \
     are for the `roles` of servers.",
)
.examples(&[r#"["metrics"]"#]);
/// What a caller is limited to.
pub(super) const SERVERS: Key = key(
    "servers",
    ValueKind::List(&TEXT),
    Means("no limit"),
    "The caller may use no servers but these, whatever their rules. `[]` leaves none. Public servers ask nobody.",
)
.examples(&[r#"["docs", "search"]"#]);
pub(super) const TAGS: Key = key(
    "tags",
    ValueKind::List(&LABEL),
    Means("no limit"),
    "The caller may use no servers but those with one of these `tags`, whatever their rules. `[]` leaves none. Public servers \
     ask nobody.",
)
.examples(&[r#"["web"]"#]);
