//! How members are greeted, and what the union of them says of itself.

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::link::aggregate::{
    core::{ClientState, Core},
    lists::{ListKind, ListState},
    member::{InitializeResult, LinkPhase, SlowPart},
    outstanding::RequestPurpose,
    replies::change,
    waiting::WaitFor,
};
use crate::{
    error::ErrorKind,
    mcp::{
        codes::{HEADER_MISMATCH, METHOD_NOT_FOUND, MISSING_CAPABILITY, UNSUPPORTED_VERSION},
        message::{Id, Message, Part},
        version::LEGACY,
    },
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Discovered {
    supported_versions: Vec<String>,
    #[serde(default)]
    ttl_ms: Option<u64>,
}

/// Adds what one more member says. Of what two say differently, that of the first counts.
fn join(all: &mut Value, more: &Value) {
    match (all, more) {
        (Value::Object(all), Value::Object(more)) => {
            for (name, value) in more {
                join(all.entry(name).or_insert(Value::Null), value);
            }
        }
        (all @ Value::Null, more) => *all = more.clone(),
        _ => {}
    }
}

impl Core {
    /// The client wants a session: every member gets its `initialize`.
    pub(super) fn initialize(&mut self, now: Instant, id: Id, message: &Message) {
        let params = message.part(Part::Params).unwrap_or("{}").into();
        self.era = ClientState::Session { params, initialized: false, level: None };
        for member in 0..self.members.len() {
            // Open already, if the client asked first whether MCP 2026-07-28 is spoken here.
            if self.is_ready(member) {
                self.members[member].forget();
                self.members[member].phase = LinkPhase::Opening { since: now, late: false };
                self.send_initialize(now, member);
            }
        }
        self.wait(now, id, message, 0, WaitFor::Initialize);
    }

    /// Sends a member the client's `initialize`. Also to one that comes later: it gets the very same, and with it the
    /// client's capabilities, so that it may ask for samples or elicit like those that were there before.
    pub(super) fn send_initialize(&mut self, now: Instant, member: usize) {
        let ClientState::Session { params, .. } = &self.era else { return };
        let params = params.clone();
        let number = self.outstanding.number();
        let request = Message::request(&Id::number(number), "initialize", &params);
        // It may be a process, which would stay as long as the client does.
        let until = now.checked_add(self.members[member].patience().start);
        self.send(member, number, RequestPurpose::Initialize, until, request);
    }

    /// A member answered `initialize`.
    pub(super) fn initialize_answered(&mut self, now: Instant, member: usize, message: &Message) {
        let result =
            message.part(Part::Result).and_then(|raw| serde_json::from_str::<InitializeResult>(raw).ok());
        let Some(result) = result else {
            return self.lose(now, member, ErrorKind::UpstreamUnreachable, "it refuses to initialize");
        };
        let peer = &mut self.members[member];
        if let LinkPhase::Opening { since, .. } = peer.phase
            && now - since <= self.settings.discovery_timeout
        {
            peer.set_slow(SlowPart::Link, false);
        }
        peer.greeting = Some(result);
        let ClientState::Session { initialized: true, level, .. } = &self.era else {
            return self.ready(member);
        };
        let level = level.clone();
        self.pass(member, Message::notification("notifications/initialized", "{}"));
        if let Some(level) = level.filter(|_| self.members[member].has("logging", false)) {
            let number = self.outstanding.number();
            let request = Message::request(&Id::number(number), "logging/setLevel", &level);
            self.send(member, number, RequestPurpose::Nobody, None, request);
        }
        self.ready(member);
    }

    pub(super) fn answer_initialize(&mut self, id: &Id) {
        let ClientState::Session { params, .. } = &self.era else { return };
        let asked = serde_json::from_str::<InitializeResult>(params).map(|params| params.protocol_version);
        // Each member goes on in the version that it agreed to. The client gets the oldest of them, since it must expect
        // nothing that a member does not know; what a newer member sends beyond that, the client's own capabilities allowed.
        // Versions are dates: the order of their text is the order of their age. One that is not published is not invented.
        let agreed = self.initialize_results().map(|(_, result)| result.protocol_version.clone()).min();
        let version = agreed
            .or_else(|| asked.ok())
            .filter(|version| !version.is_empty())
            .unwrap_or_else(|| LEGACY[0].into());
        let mut result = json!({
            "protocolVersion": version,
            "capabilities": self.capabilities(),
            "serverInfo": self.server_info(),
        });
        if let Some(instructions) = self.instructions() {
            result["instructions"] = instructions.into();
        }
        self.answer(id, Message::result_for(id, &result.to_string()));
    }

    /// A member answered `server/discover`.
    pub(super) fn discovered(&mut self, member: usize) {
        let peer = &mut self.members[member];
        let ListState::Known(known) = &peer.list(ListKind::Discover).state else { return };
        let Some(raw) = known.discovered.as_ref().and_then(|answer| answer.part(Part::Result)) else {
            return;
        };
        if let Ok(result) = serde_json::from_str::<InitializeResult>(raw) {
            peer.greeting = Some(result);
        }
    }

    /// For all if all of them speak MCP 2026-07-28, and one common version of it; else as a server of an older era would,
    /// so that the client falls back to `initialize`. So it does when no member answers: a session lets members join later.
    /// Silence is neither yes nor no, and costs only the silent.
    pub(super) fn answer_discover(&mut self, id: &Id) {
        let (mut common, mut ttl): (Option<Vec<String>>, Option<u64>) = (None, None);
        let (mut is_older, mut refused) = (false, None);
        for member in self.granted().collect::<Vec<_>>() {
            match &self.members[member].list(ListKind::Discover).state {
                ListState::Known(known) => {
                    let result = known.discovered.as_ref().and_then(|answer| answer.part(Part::Result));
                    match result.and_then(|raw| serde_json::from_str::<Discovered>(raw).ok()) {
                        Some(result) => {
                            let least = result.ttl_ms.unwrap_or(0);
                            ttl = Some(ttl.map_or(least, |known| known.min(least)));
                            match &mut common {
                                Some(common) => common.retain(|it| result.supported_versions.contains(it)),
                                None => common = Some(result.supported_versions),
                            }
                        }
                        None => is_older = true,
                    }
                }
                ListState::Refused(Some(error)) => {
                    if let Some(HEADER_MISMATCH | MISSING_CAPABILITY | UNSUPPORTED_VERSION) =
                        error.error_code()
                    {
                        // Only a server of MCP 2026-07-28 gives these.
                        refused.get_or_insert_with(|| error.clone());
                    } else {
                        is_older = true;
                    }
                }
                ListState::Refused(None) | ListState::Unknown | ListState::Asking(_) => {}
            }
        }
        match (common.filter(|common| !common.is_empty()), refused) {
            (Some(versions), _) if !is_older => {
                let mut result = json!({
                    "supportedVersions": versions,
                    "capabilities": self.capabilities(),
                    "ttlMs": ttl.unwrap_or(0),
                    "cacheScope": "private",
                    "resultType": "complete",
                    "_meta": { "io.modelcontextprotocol/serverInfo": self.server_info() },
                });
                if let Some(instructions) = self.instructions() {
                    result["instructions"] = instructions.into();
                }
                self.answer(id, Message::result_for(id, &result.to_string()));
            }
            (None, Some(error)) if !is_older => {
                self.answer(id, error.renamed(Part::Id, id));
            }
            _ => self.refuse(id, METHOD_NOT_FOUND, "Method not found"),
        }
    }

    fn initialize_results(&self) -> impl Iterator<Item = (usize, &InitializeResult)> {
        self.granted().filter_map(|member| Some((member, self.members[member].greeting.as_ref()?)))
    }

    fn server_info(&self) -> Value {
        json!({ "name": self.settings.name, "version": self.settings.version })
    }

    /// What any member can. Lists change when members come and go, whatever these say of their own. If one is missing, it
    /// may come with anything that has a list.
    fn capabilities(&self) -> Value {
        let is_complete = self.granted().all(|member| self.members[member].greeting.is_some());
        let any = |capability: &str| {
            self.initialize_results().any(|(_, greeting)| greeting.capabilities.get(capability).is_some())
        };
        let subscribes = self
            .initialize_results()
            .any(|(_, greeting)| greeting.capabilities["resources"]["subscribe"].as_bool() == Some(true));
        let mut capabilities = json!({});
        for listed in ["tools", "prompts", "resources"] {
            if any(listed) || !is_complete || listed == "tools" && self.settings.lazy {
                capabilities[listed] = json!({ "listChanged": true });
            }
        }
        if subscribes {
            capabilities["resources"]["subscribe"] = true.into();
        }
        // What is no part of MCP itself, members and clients agree on by name (MCP Apps and other extensions).
        for named in ["extensions", "experimental"] {
            let mut all = json!({});
            for (_, greeting) in self.initialize_results() {
                join(&mut all, &greeting.capabilities[named]);
            }
            if all.as_object().is_some_and(|all| !all.is_empty()) {
                capabilities[named] = all;
            }
        }
        for plain in ["completions", "logging"] {
            if any(plain) {
                capabilities[plain] = json!({});
            }
        }
        capabilities
    }

    fn instructions(&self) -> Option<String> {
        let each: Vec<_> = self
            .initialize_results()
            .filter_map(|(member, greeting)| {
                Some(format!("{}: {}", self.members[member].name, greeting.instructions.as_deref()?))
            })
            .collect();
        (!each.is_empty()).then(|| each.join("\n\n"))
    }

    /// Tells the client that a list is not what it was.
    pub(super) fn changed(&mut self, ask: ListKind) {
        let Some(method) = change(ask) else { return };
        match &self.era {
            ClientState::Session { initialized: true, .. } => {
                self.notify_client(Message::notification(method, "{}"), None)
            }
            ClientState::Session { .. } => {}
            ClientState::Stateless => {
                let notes = self.listens.changed(ask, method);
                self.tell(notes);
            }
        }
    }
}
