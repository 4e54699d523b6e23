//! What the log shows of a `Host` that is not allowed.

use crate::{
    error::{Error, ErrorKind},
    policy::hosts::host_is_address,
};

/// A refusal that names the host to whoever runs the gateway.
pub fn forbidden(host: &str, way_out: &str, is_secret: impl Fn(&str) -> bool) -> Error {
    let shown = if host_is_address(host) { Some(host.to_owned()) } else { shown_host(host, is_secret) };
    ErrorKind::ForbiddenHost.with_cause(match shown {
        Some(shown) => format!("Host \"{shown}\" {way_out}"),
        None => format!("Host, {} characters that are no name of a host, {way_out}", host.chars().count()),
    })
}

/// As much of a host name as tells which it is; nothing, if that may be a token, which people paste anywhere. So a name
/// without a dot is shown only if it is shorter than a token should be, and of a long label only the beginning is.
fn shown_host(host: &str, is_secret: impl Fn(&str) -> bool) -> Option<String> {
    const LABELS: usize = 8;
    /// One less than a token should have: see `config::resolve::tokens`.
    const LABEL: usize = 15;
    let is_named = |label: &str| label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    let is_port = |port: &str| port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if is_port(port) => (name, &host[name.len()..]),
        _ => (host, ""),
    };
    let is_hidden = (!name.contains('.') && (name.len() > LABEL || !is_named(name)))
        || is_secret(host)
        || is_secret(name)
        || name.split('.').take(LABELS).any(&is_secret);
    if is_hidden {
        return None;
    }
    let mut labels = name.split('.').map(|label| match label.get(..LABEL / 2) {
        _ if !is_named(label) => "…".to_owned(),
        Some(beginning) if label.len() > LABEL => format!("{beginning}…"),
        _ => label.to_owned(),
    });
    let mut shown = labels.by_ref().take(LABELS).collect::<Vec<_>>().join(".");
    if labels.next().is_some() {
        shown.push_str(".…");
    }
    shown.push_str(port);
    Some(shown)
}
