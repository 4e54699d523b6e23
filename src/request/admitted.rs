//! A request that may pass to a server.

use std::{sync::Arc, time::Duration};

use crate::{
    endpoints::table::McpEndpoint,
    identity::{Admission, AdmittedParty, Caller, Proof, presented::Presented},
    ledger::Owner,
    mcp::seal::SessionOwner,
    secret::Secret,
    servers::ServerEntry,
    state::Live,
};

/// A request that may pass.
pub struct Admitted<'a> {
    /// The config that it was admitted by, and keeps to its end.
    pub live: Arc<Live>,
    /// To this server.
    pub entry: Arc<ServerEntry>,
    /// At this of its endpoints.
    pub mcp_endpoint: McpEndpoint,
    /// Who makes it.
    pub caller: Caller,
    /// What was presented, so that it is kept from going on in another field.
    pub presented: Presented<'a>,
    /// For whom what the request takes of the gateway is counted.
    pub owner: Arc<Owner>,
}

impl Admitted<'_> {
    /// To what the session ids of this request belong: the server, and whose they are.
    pub fn session_owner(&self) -> (&str, SessionOwner<'_>) {
        (&self.entry.server.name, self.caller.identity.principal.session_owner())
    }

    /// The token that the request came by, if an issuer of the config vouches for its caller by it.
    pub fn foreign_token(&self) -> Option<Secret> {
        let identity = &self.caller.identity;
        let is_verified = matches!(identity.proof, Proof::Foreign(_)) && identity.vouched.is_some();
        let token = String::from_utf8(self.presented.token.to_vec()).ok().filter(|_| is_verified)?;
        Some(Secret::new(token))
    }

    /// Longest silence of an event stream; zero is any.
    pub fn keep_alive(&self) -> Duration {
        self.entry.server.keep_alive.unwrap_or(self.live.config.keep_alive)
    }

    /// What lets this request run, for as long as it does.
    pub fn admission(&self) -> Admission {
        self.admission_to(self.caller.as_credential())
    }

    /// What lets a session run that this request begins.
    pub fn session_admission(&self) -> Admission {
        self.admission_to(self.caller.as_principal())
    }

    fn admission_to(&self, to: AdmittedParty) -> Admission {
        Admission::new(to, Arc::clone(&self.entry.server.name), self.entry.run_state.stops())
    }
}
