//! The audit: one line for each decision about a request, in a file of its own or in the log.
//!
//! A line is written when the answer begins, since what a request asks for is known by then, or when the request ends without
//! one. Writing never blocks a request: it is the log's writer ([`Log`]), with a thread and a queue of its own where there is a
//! file. What the audit says of a rule comes from the same function that lets requests pass ([`decide`]).

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use http::StatusCode;

use super::{Group, Log, LogLine, Observer, Topic, append_file::AppendFile, recurring::Recurring};
use crate::{
    config::{AuditConfig, Level, LogFormat, Rule, RuleLines, RuleOf, Server},
    error::ErrorKind,
    identity::Identity,
    policy::decide::{Ask, Decision, DenyKind, ManageAsk, Policy, Servers, decide},
};

/// `proxy.audit`, as it runs.
pub struct Audit {
    writer: Arc<AuditWriter>,
    shows_tools: bool,
}

/// Where audit lines go.
struct AuditWriter {
    lines: Log,
    /// `None` if that is the log.
    file: Option<PathBuf>,
    reopens: Arc<AtomicBool>,
    /// Refusals of callers that nobody knows, and of decoys, which recur as often as they like.
    strangers: Recurring,
}

impl Audit {
    /// The audit that `config` asks for. What writes to the same place before goes on.
    pub fn start(config: &AuditConfig, before: Option<&Self>, observer: &Observer) -> Self {
        let kept = before.map(|audit| &audit.writer).filter(|writer| writer.file == config.file);
        let writer = kept.map_or_else(|| Arc::new(AuditWriter::start(config, observer)), Arc::clone);
        Self { writer, shows_tools: config.tools }
    }

    /// Has the file opened again, under its name: the one before was moved.
    pub fn reopen(&self) {
        self.writer.reopens.store(true, Ordering::Relaxed);
    }

    /// Says which refusals of strangers have no line. For each tick of a worker.
    pub fn tick(&self) {
        self.writer.write_left_out(false);
    }

    /// Writes what waits, for no longer than a second, and ends the writer of the file.
    pub fn close(&self) {
        self.writer.write_left_out(true);
        if self.writer.file.is_some() {
            self.writer.lines.close();
        }
    }
}

impl AuditWriter {
    fn start(config: &AuditConfig, observer: &Observer) -> Self {
        let reopens = Arc::<AtomicBool>::default();
        let lines = config.file.as_ref().and_then(|path| {
            let file = AppendFile::new(path.clone(), Arc::clone(&reopens), observer.log.clone());
            let dropped = observer.metrics.audit_dropped.clone();
            let started =
                Log::start_as("audit", Level::Info, LogFormat::Json, false, Box::new(file), dropped);
            let report = |error: &std::io::Error| {
                let msg = "The audit has no thread, so its lines are in this log";
                observer.log.line(Level::Error, msg).text("cause", &error.to_string()).send();
            };
            started.inspect_err(report).ok()
        });
        let file = config.file.clone().filter(|_| lines.is_some());
        let lines = lines.unwrap_or_else(|| observer.log.clone());
        Self { lines, file, reopens, strangers: observer.another_recurring() }
    }

    fn line(&self) -> LogLine<'_> {
        self.lines.line_at_any_level(Level::Info, MSG)
    }

    fn write_left_out(&self, at_end: bool) {
        for (topic, left_out) in self.strangers.overdue(Instant::now(), at_end) {
            let reason = topic.reason().or(matches!(topic, Topic::Decoy(_)).then_some(Rule::Decoy.word()));
            let line = self.line().plain("verdict", Verdict::Deny.word()).opt("reason", reason);
            line.int("suppressed", left_out).send();
        }
    }
}

/// The last config that asked for it is gone, and all requests that began by one. Nobody waits for what is left to be written.
impl Drop for AuditWriter {
    fn drop(&mut self) {
        self.write_left_out(true);
        if self.file.is_some() {
            self.lines.end();
        }
    }
}

/// `msg` of a line.
const MSG: &str = "Audit";

/// What came a second time, and so ended all that had come of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    /// A refresh token of a session.
    SessionRefresh,
    /// A refresh token of a client.
    ClientRefresh,
    /// A code of a client.
    Code,
}

impl Replay {
    /// The key of the config that refuses it. That a code is good once is nothing that a config says.
    fn rule(self) -> Option<&'static str> {
        match self {
            Self::SessionRefresh => Some("proxy.auth.sessions.reuseGrace"),
            Self::ClientRefresh => Some("proxy.auth.refreshReuseGrace"),
            Self::Code => None,
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Self::SessionRefresh | Self::ClientRefresh => "refresh_token_reused",
            Self::Code => "code_reused",
        }
    }
}

/// What was decided.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Allow,
    Deny,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// What a request asks for.
enum Asked {
    /// A server, or all of them as one.
    Server(Arc<str>),
    /// Something of the gateway's own.
    Manage(ManageAsk),
    /// The same at an admin listener on loopback, where no token is asked for.
    Local,
    /// A login, or a change of what came of one.
    Login,
    /// What was had before, with what was used before.
    Replay(Replay),
}

/// What the audit knows of one request, until its line is written.
pub struct AuditedRequest {
    audit: Arc<Audit>,
    /// The servers of the config that the request began by, and the lines of its rules.
    servers: Arc<dyn Servers>,
    admin_sees_all: bool,
    rules: Arc<RuleLines>,
    identity: Option<Arc<Identity>>,
    asked: Option<Asked>,
    tool: Option<AskedTool>,
}

/// A tool that is called.
struct AskedTool {
    server: Arc<str>,
    /// Its own name for it, as far as it may be shown.
    shown: Option<Box<str>>,
    decision: Option<Decision>,
}

impl AuditedRequest {
    /// A request of which nothing is known yet.
    pub fn new(
        audit: &Arc<Audit>,
        servers: Arc<dyn Servers>,
        admin_sees_all: bool,
        rules: &Arc<RuleLines>,
    ) -> Self {
        let (audit, rules) = (Arc::clone(audit), Arc::clone(rules));
        Self { audit, servers, admin_sees_all, rules, identity: None, asked: None, tool: None }
    }

    /// It is for this server, or for all as one.
    pub fn set_server(&mut self, name: &Arc<str>) {
        self.asked = Some(Asked::Server(Arc::clone(name)));
    }

    /// It is for something of the gateway's own. `None` is the admin listener on loopback, where no token is asked for.
    pub fn set_managed(&mut self, what: Option<ManageAsk>) {
        self.asked = Some(what.map_or(Asked::Local, Asked::Manage));
    }

    /// It is this caller's.
    pub fn set_identity(&mut self, identity: &Arc<Identity>) {
        self.identity = Some(Arc::clone(identity));
    }

    /// It is this user's or token's, who has logged in by it, got something for a client, or ended what came of that.
    pub fn set_login(&mut self, identity: &Arc<Identity>) {
        self.asked = Some(Asked::Login);
        self.set_identity(identity);
    }

    /// What this user or token was given was used again by it.
    pub fn set_replay(&mut self, identity: &Arc<Identity>, replay: Replay) {
        self.asked = Some(Asked::Replay(replay));
        self.set_identity(identity);
    }

    /// Whether its line names the tool that it calls.
    pub fn shows_tools(&self) -> bool {
        self.audit.shows_tools
    }

    /// It calls this tool of the server that it is for.
    pub(super) fn set_tool(&mut self, name: &str, shown: Option<&str>) {
        if let Some(Asked::Server(server)) = &self.asked {
            let server = Arc::clone(server);
            self.set_tool_of(&server, name, shown);
        }
    }

    /// It calls this tool of a server, which may be one behind all servers as one.
    fn set_tool_of(&mut self, server: &Arc<str>, name: &str, shown: Option<&str>) {
        let is_member = matches!(&self.asked, Some(Asked::Server(asked)) if **asked == *Server::ALL);
        let ask = match is_member {
            true => Ask::MemberTool { server, name },
            false => Ask::Tool { server, name },
        };
        // Of all servers as one, it is not known yet whose tool it is.
        let is_known = self.servers.server(server).is_some();
        let identity = self.identity.as_ref().filter(|_| is_known);
        let decision = identity.map(|identity| decide(&self.policy(), identity, &ask));
        self.tool = Some(AskedTool { server: Arc::clone(server), shown: shown.map(Box::from), decision });
    }

    /// The tool that it calls is this one, of a server behind all servers as one. A name is shown only if that by which the client
    /// called it may be, and it `may_be_shown`.
    pub fn set_member(&mut self, server: &Arc<str>, name: &str, may_be_shown: bool) {
        let is_shown = may_be_shown && self.tool.as_ref().is_some_and(|tool| tool.shown.is_some());
        self.set_tool_of(server, name, is_shown.then_some(name));
    }

    /// The end of credentials is left out: whoever is identified was found valid.
    fn policy(&self) -> Policy<'_> {
        Policy { servers: &*self.servers, now: None, admin_sees_all: self.admin_sees_all }
    }

    /// Begins the line of what was decided, if anything was. `failure` is what the request failed with.
    pub(super) fn line(&self, failure: Option<ErrorKind>) -> Option<LogLine<'_>> {
        let decision = self.decision();
        let replay = match self.asked {
            Some(Asked::Replay(replay)) => Some(replay),
            _ => None,
        };
        let (verdict, reason) = match (failure.filter(|kind| self.is_denial(*kind)), &decision) {
            _ if replay.is_some() => (Verdict::Deny, None),
            (Some(kind), _) => (Verdict::Deny, Some(kind)),
            // A tool that does not exist for the caller: the answer is one of JSON-RPC, and the request did not fail.
            (None, Some(Decision::Deny { kind, .. })) => (Verdict::Deny, Some((*kind).into())),
            // Who may pass may fail for other reasons.
            (None, Some(Decision::Allow { .. })) => (Verdict::Allow, failure),
            (None, None) if matches!(self.asked, Some(Asked::Login)) => (Verdict::Allow, None),
            (None, None) => return None,
        };
        let recurs = match (&self.identity, reason) {
            // Nobody knows who it is, but at a listener that asks nobody. Whoever uses a decoy is no friend either.
            (None, Some(kind)) if !matches!(self.asked, Some(Asked::Local)) => Some(Topic::Refused(kind)),
            (Some(identity), _) if identity.is_decoy => {
                Some(Topic::Decoy(Group::of(&identity.principal.to_string())))
            }
            _ => None,
        };
        let left_out = match recurs {
            Some(topic) => self.audit.writer.strangers.admit(topic, Instant::now())?,
            None => 0,
        };
        let mut line = self.audit.writer.line();
        if left_out > 0 {
            line = line.int("suppressed", left_out);
        }
        line = line.plain("verdict", verdict.word());
        if let Some(identity) = &self.identity {
            line = line
                .str("principal", &identity.principal.to_string())
                .opt("token_name", identity.principal.token_name().map(|name| &**name))
                .opt("client", identity.client());
        }
        line = line.opt("server", self.server().map(|name| &**name));
        let key = replay.and_then(Replay::rule).or(reason.and_then(rule_of_refusal));
        line = match (key, &decision) {
            (Some(key), _) => line.plain("rule", key),
            (None, _) if matches!(self.asked, Some(Asked::Local)) => line.plain("rule", "proxy.admin"),
            (None, Some(decision)) if decision.is_allow() == (verdict == Verdict::Allow) => {
                self.add_rule(line, decision.rule())
            }
            // Something that no rule says: the session is another's.
            (None, _) => line,
        };
        // The answer is no refusal, or one that says less.
        let more = match decision.as_ref().map(Decision::rule) {
            Some(Rule::Decoy) => Some(Rule::Decoy.word()),
            _ => replay.map(Replay::reason),
        };
        Some(line.opt("reason", more.or(reason.map(ErrorKind::code))))
    }

    /// The tool that it calls, if that is to be shown.
    pub(super) fn tool(&self) -> Option<&str> {
        self.tool.as_ref()?.shown.as_deref().filter(|_| self.audit.shows_tools)
    }

    fn server(&self) -> Option<&Arc<str>> {
        match (&self.tool, &self.asked) {
            (Some(tool), _) => Some(&tool.server),
            (None, Some(Asked::Server(server))) => Some(server),
            (None, _) => None,
        }
    }

    /// What was decided about the caller; `None` if it is not known who that is, or what they ask for.
    fn decision(&self) -> Option<Decision> {
        if self.identity.as_ref().is_some_and(|identity| identity.is_decoy) {
            return Some(Decision::Deny { kind: DenyKind::Forbidden, scope_needed: None, rule: Rule::Decoy });
        }
        let ask = match self.asked.as_ref()? {
            Asked::Local => return Some(Decision::Allow { rule: Rule::AnyToken }),
            Asked::Login | Asked::Replay(_) => return None,
            Asked::Manage(what) => Ask::Manage(*what),
            Asked::Server(name) => Ask::server(name),
        };
        let of_tool = self.tool.as_ref().and_then(|tool| tool.decision.clone());
        of_tool.or_else(|| Some(decide(&self.policy(), self.identity.as_ref()?, &ask)))
    }

    /// Whether a failure is a no to whoever calls, and not one to how.
    fn is_denial(&self, kind: ErrorKind) -> bool {
        let is_known = self.identity.is_some();
        match (kind, kind.status()) {
            (_, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) | (ErrorKind::InvalidGrant, _) => true,
            // Somebody guesses.
            (ErrorKind::RateLimited | ErrorKind::GuessLimited, _) => !is_known,
            // A session that is another's, or a server that is not there.
            (_, StatusCode::NOT_FOUND) => is_known,
            _ => false,
        }
    }

    /// Adds the line of the config that decides, or what decides where no line does.
    fn add_rule<'a>(&self, line: LogLine<'a>, rule: Rule) -> LogLine<'a> {
        let of_caller = self.identity.as_ref().and_then(|identity| identity.rule_of());
        let of_server = self.server().map(|name| RuleOf::Server(Arc::clone(name)));
        let places = [of_server, of_caller, Some(RuleOf::Auth)];
        let found = places.into_iter().flatten().find_map(|of| self.rules.get(of, rule));
        match found {
            Some(found) => line.text("rule", &found.key_path).int("line", found.line),
            None => line.plain("rule", rule.word()),
        }
    }
}

/// The key of the config that refuses whoever is not known.
fn rule_of_refusal(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::ForbiddenHost => Some("proxy.allowedHosts"),
        ErrorKind::ForbiddenOrigin => Some("proxy.allowedOrigins"),
        ErrorKind::QueryTokenDisabled => Some("proxy.auth.queryToken"),
        ErrorKind::InvalidToken | ErrorKind::GuessLimited => Some("proxy.auth.tokens"),
        ErrorKind::InvalidCredentials => Some("proxy.auth.users"),
        ErrorKind::InvalidClient => Some("proxy.auth.clients"),
        ErrorKind::Unauthorized => Some(Rule::NoCredential.word()),
        _ => None,
    }
}
