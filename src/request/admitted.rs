//! A request that may pass to a server.

use std::{sync::Arc, time::Duration};

use crate::{
    config::Credential,
    endpoints::table::McpEndpoint,
    identity::{Admission, AdmittedParty, presented::Presented},
    ledger::Owner,
    servers::ServerEntry,
    state::Live,
};

/// A request that may pass.
pub struct Admitted<'a> {
    /// The config that it was admitted by, and keeps to its end.
    pub live: Arc<Live>,
    /// To this server.
    pub route: Arc<ServerEntry>,
    /// At this of its endpoints.
    pub mcp_endpoint: McpEndpoint,
    /// Index of the credential; `None` on a public server.
    pub credential: Option<usize>,
    /// What was presented, so that it is kept from going on in another field.
    pub presented: Presented<'a>,
    /// For whom what the request takes of the gateway is counted.
    pub owner: Arc<Owner>,
}

impl Admitted<'_> {
    fn holder(&self) -> Option<&Credential> {
        self.credential.map(|index| &self.live.credentials[index].credential)
    }

    /// Name of the token; `None` on a public server.
    pub fn token_name(&self) -> Option<&Arc<str>> {
        self.holder().map(|credential| &credential.token_name)
    }

    /// Whom the session ids of this request belong to: server and token name.
    pub fn session_owner(&self) -> (&str, Option<&str>) {
        (&self.route.server.name, self.holder().map(|credential| &*credential.token_name))
    }

    /// Longest silence of an event stream; zero is any.
    pub fn keep_alive(&self) -> Duration {
        self.route.server.keep_alive.unwrap_or(self.live.keep_alive)
    }

    /// What lets this request run, for as long as it does.
    pub fn grant(&self) -> Admission {
        let to = self
            .holder()
            .map_or(AdmittedParty::Anyone, |credential| AdmittedParty::Credential(credential.digest));
        Admission::new(to, Arc::clone(&self.route.server.name), self.route.run_state.stops())
    }

    /// What lets a session run that this request begins: it is the token name's, not the credential's.
    pub fn session_grant(&self) -> Admission {
        let to =
            self.token_name().map_or(AdmittedParty::Anyone, |name| AdmittedParty::Name(Arc::clone(name)));
        Admission { to, ..self.grant() }
    }
}
