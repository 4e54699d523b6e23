//! What the gateway serves: the table of all paths, and what the gateway itself answers.

mod debug;
pub mod login;
mod manage;
mod metrics;
pub mod oauth;
mod probe;
pub mod server_list;
pub mod shown;
pub mod table;

use crate::state::{GatewayState, Live};

/// What an endpoint of the gateway's own answers from. Its method is one of the table's, and its caller may have it.
pub struct EndpointRequest<'a> {
    /// What there is to say.
    pub shared: &'a GatewayState,
    /// The config by which the caller was let in.
    pub live: &'a Live,
    /// What the path has for `{server}`.
    pub server: Option<&'a str>,
    /// It came by the admin listener.
    pub is_operator: bool,
}
