//! A server that says with whose credential it is called.

use crate::config::{
    read::fields::Fields,
    report::problem::Location,
    resolve::{
        bind::BaseUrl,
        tokens::Auth,
        upstream_auth::{keys::Keys, places::Places},
    },
};

/// What is around the server.
pub(in crate::config::resolve) struct Around<'a> {
    pub(in crate::config::resolve) name: &'a str,
    pub(in crate::config::resolve) auth: &'a Auth,
    /// `proxy.baseUrl`
    pub(in crate::config::resolve) base: Option<&'a BaseUrl>,
    pub(in crate::config::resolve) is_public: bool,
}

/// What a server says of it.
pub(super) struct Asked<'a> {
    pub(super) around: &'a Around<'a>,
    pub(super) server: &'a Fields<'a>,
    pub(super) keys: Keys<'a>,
    pub(super) places: Places,
    /// Where the kind is said.
    pub(super) at: Location,
}
