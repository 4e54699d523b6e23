//! One request, from its head to the end of its response, however it ends.

use std::{
    borrow::Cow,
    net::IpAddr,
    rc::Rc,
    sync::Arc,
    time::{Instant, SystemTime},
};

use http::{Method, StatusCode, uri::PathAndQuery};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    AuditedRequest, End, LogLine, Observer, RequestId, ServerMetrics, Topic, TraceId,
    log::{VALUE_BYTES, cut},
};
use crate::{
    config::Level,
    downstream::connection::Connection,
    error::{Error, ErrorKind, Side},
    identity::{Identity, Principal},
    ledger::Share,
    mcp::method::Method as RpcMethod,
    policy::decide::ManageAsk,
};

/// Status in the log of a request whose client left before it had an answer; nginx's number for it.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// Who asked, for which server.
struct AdmittedRequest {
    metrics: Arc<ServerMetrics>,
    /// `None` on a public server.
    identity: Arc<Identity>,
}

/// What is known of a request's meaning.
#[derive(Default)]
struct More {
    operation: Option<Operation>,
    /// The one of all servers as one that it is for.
    member: Option<Arc<ServerMetrics>>,
    /// One of the places for requests by decoys.
    decoy: Option<OwnedSemaphorePermit>,
    /// Code of the JSON-RPC error that answered it.
    rpc_error: Option<i64>,
    trace: Option<TraceId>,
    /// Why it failed or broke off, for the log.
    cause: Option<Cow<'static, str>>,
}

/// What the log shows for a path.
enum ShownPath {
    /// That of the request, of which the query is left out.
    Own(PathAndQuery),
    /// Another one, where the path itself must not be shown.
    Instead(Box<str>),
}

impl ShownPath {
    /// None at all. Not a variant of its own, for which the type would have to be larger.
    fn none() -> Self {
        Self::Instead(Box::default())
    }

    fn as_str(&self) -> &str {
        match self {
            Self::Own(path) => path.path(),
            Self::Instead(path) => path,
        }
    }
}

/// What a request asks of its server, as far as the gateway read it.
struct Operation {
    method: RpcMethod,
    /// The tool that it calls.
    tool: Option<Box<str>>,
}

/// The record of one request. It is written when it is dropped, so no way to end a request can skip it.
///
/// It lives as long as an event stream, so what only some requests have is in a box of its own.
pub struct Record {
    observer: Arc<Observer>,
    connection: Rc<Connection>,
    began: Instant,
    method: Method,
    path: ShownPath,
    id: RequestId,
    /// Whom the balancer that sent it forwards for.
    client: Option<Box<str>>,
    admission: Option<AdmittedRequest>,
    /// Until its line is written, where there is an audit.
    audited: Option<Box<AuditedRequest>>,
    /// What only some requests have, so that a record stays small for the others.
    more: Option<Box<More>>,
    /// Counts the request for its owner, for as long as it runs.
    share: Option<Share>,
    /// Requests for the gateway itself (health, preflight) are not worth a line each.
    level: Level,
    status: Option<StatusCode>,
    failure: Option<ErrorKind>,
    is_stream: bool,
    bytes_out: u64,
    end: Option<End>,
}

impl Record {
    /// A request whose head is complete. `id` goes into the log and into error bodies.
    pub fn begin(
        observer: Arc<Observer>,
        connection: Rc<Connection>,
        method: Method,
        path: Option<PathAndQuery>,
        id: RequestId,
    ) -> Self {
        connection.request_began(&method);
        Self {
            observer,
            connection,
            began: Instant::now(),
            method,
            path: path.map_or_else(ShownPath::none, ShownPath::Own),
            id,
            client: None,
            admission: None,
            audited: None,
            more: None,
            share: None,
            level: Level::Info,
            status: None,
            failure: None,
            is_stream: false,
            bytes_out: 0,
            end: None,
        }
    }

    /// `request_id`
    pub fn id(&self) -> RequestId {
        self.id
    }

    /// The request is for the gateway itself.
    pub fn mark_for_gateway(&mut self) {
        self.level = Level::Debug;
    }

    /// The request may pass to a server.
    pub fn admitted(&mut self, metrics: Arc<ServerMetrics>, identity: Arc<Identity>) {
        self.admission = Some(AdmittedRequest { metrics, identity });
    }

    /// Has a line of the audit written about the request.
    pub fn audit(&mut self, audited: AuditedRequest) {
        self.audited = Some(Box::new(audited));
    }

    /// Who makes the request, for the audit.
    pub fn set_identity(&mut self, identity: &Arc<Identity>) {
        if let Some(audited) = &mut self.audited {
            audited.set_identity(identity);
        }
    }

    /// Which server it is for, for the audit.
    pub fn set_server(&mut self, name: &Arc<str>) {
        if let Some(audited) = &mut self.audited {
            audited.set_server(name);
        }
    }

    /// It is for something of the gateway's own, for the audit: see [`AuditedRequest::set_managed`].
    pub fn set_managed(&mut self, what: Option<ManageAsk>) {
        if let Some(audited) = &mut self.audited {
            audited.set_managed(what);
        }
    }

    /// What the audit knows of it, if there is one.
    pub fn audited(&mut self) -> Option<&mut AuditedRequest> {
        self.audited.as_deref_mut()
    }

    fn more(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }

    fn operation(&self) -> Option<&Operation> {
        self.more.as_ref()?.operation.as_ref()
    }

    fn member(&self) -> Option<&ServerMetrics> {
        self.more.as_ref()?.member.as_deref()
    }

    /// The request is part of this trace.
    pub fn set_trace(&mut self, trace: Option<TraceId>) {
        if let Some(trace) = trace {
            self.more().trace = Some(trace);
        }
    }

    /// Whether it is part of a trace.
    pub fn is_traced(&self) -> bool {
        self.more.as_ref().is_some_and(|more| more.trace.is_some())
    }

    /// What it asks of its server; `name` is what the method is about, of which a tool is logged. Clients choose the name, so
    /// one that `has_secret`, something of what the request presents, is left out.
    pub fn set_operation(&mut self, method: &str, name: Option<&str>, has_secret: impl Fn(&[u8]) -> bool) {
        let method = RpcMethod::of(method);
        let is_shown = |name: &&str| method.calls_tool() && !has_secret(name.as_bytes());
        let tool: Option<Box<str>> = name.filter(is_shown).map(|tool| cut(tool, VALUE_BYTES).into());
        if let (Some(audited), Some(name)) = (&mut self.audited, name.filter(|_| method.calls_tool())) {
            audited.set_tool(name, tool.as_deref());
        }
        self.more().operation = Some(Operation { method, tool });
    }

    /// Which of all servers as one it is for; `name` is what that calls what the method is about.
    pub fn set_member(&mut self, metrics: Arc<ServerMetrics>, name: &str) {
        let more = self.more();
        more.member = Some(metrics);
        if let Some(tool) = more.operation.as_mut().and_then(|operation| operation.tool.as_mut()) {
            *tool = cut(name, VALUE_BYTES).into();
        }
    }

    /// Whether it is known what it asks.
    pub fn has_operation(&self) -> bool {
        self.operation().is_some()
    }

    /// The answer is a JSON-RPC error with this code, if it is one.
    pub fn answered(&mut self, error_code: Option<i64>) {
        if error_code.is_some() {
            self.more().rpc_error = error_code;
        }
    }

    /// The request is one of those that its owner may have at a time.
    pub fn hold(&mut self, share: Share) {
        if self.share.replace(share).is_none() {
            self.connection.note_awaited();
        }
    }

    /// The request is by a decoy, and has one of the places for those, for as long as it runs.
    pub fn hold_for_decoy(&mut self, place: OwnedSemaphorePermit) {
        self.more().decoy = Some(place);
    }

    /// Adds to a line whose request it is about.
    pub fn point_out<'a>(&self, line: LogLine<'a>) -> LogLine<'a> {
        line.plain("peer", self.client.as_deref().unwrap_or(&self.connection.peer))
            .plain("request_id", self.id.as_str())
    }

    /// The request comes from this address, as a trusted balancer says.
    pub fn set_client(&mut self, client: IpAddr) {
        self.client = Some(client.to_string().into());
    }

    /// Whether the request may pass to a server, whose path is then one of the config.
    pub fn is_admitted(&self) -> bool {
        self.admission.is_some()
    }

    /// Shows `path` in the log in place of the request's own.
    pub fn show_path(&mut self, path: String) {
        self.path = ShownPath::Instead(path.into());
    }

    /// The request fails with `error`.
    pub fn failed(&mut self, error: &Error) {
        let code = error.kind.code();
        self.failure = Some(error.kind);
        self.level = if error.kind.side() == Side::Client { Level::Info } else { Level::Warn };
        self.keep_cause(error.cause.clone());
        match (&self.admission, error.kind.side()) {
            // Counted where it was found, which need not have been in a request: see `withheld`.
            _ if error.kind == ErrorKind::UpstreamUnreadable => {}
            (Some(admission), Side::Upstream) => {
                self.observer.metrics.upstream_error(admission.metrics.name(), code)
            }
            (None, Side::Upstream) => {}
            (_, Side::Client | Side::Gateway) => self.observer.metrics.refused(code),
        }
    }

    /// The response head is about to go out. An event stream has its own line at the end.
    pub fn responded(&mut self, status: StatusCode, is_stream: bool) {
        self.status = Some(status);
        self.is_stream = is_stream;
        self.observer.metrics.request_duration.observe(self.began.elapsed().as_secs_f64());
        self.metrics().request(&self.method, status);
        self.write_audit();
        if is_stream {
            self.metrics().streams_open.inc();
            self.write_request(None);
            // A slice of the buffer that the request was read into, which must not live as long as an idle stream.
            self.path = ShownPath::none();
        }
    }

    /// Response body bytes were handed over.
    pub fn sent(&mut self, bytes: usize) {
        self.bytes_out += bytes as u64;
        self.metrics().bytes_out.inc_by(bytes as u64);
    }

    /// Request body bytes went upstream.
    pub fn received(&mut self, bytes: u64) {
        self.metrics().bytes_in.inc_by(bytes);
    }

    /// The response is through, or was broken off.
    pub fn ended(&mut self, end: End) {
        // Of a stream whose credential has expired, another thread may have ended the server's side first.
        let not_after = self.admission.as_ref().and_then(|admission| admission.identity.not_after);
        let has_expired = || not_after.is_some_and(|not_after| not_after <= SystemTime::now());
        let is_revoked = end == End::UpstreamEnd && self.is_stream && has_expired();
        self.end.get_or_insert(if is_revoked { End::TokenRevoked } else { end });
    }

    fn metrics(&self) -> &ServerMetrics {
        self.admission.as_ref().map_or(&self.observer.other, |admission| &admission.metrics)
    }

    /// Says who asked for which server.
    fn identify<'a>(&self, line: LogLine<'a>) -> LogLine<'a> {
        let admission = self.admission.as_ref();
        let metrics = self.member().or(admission.map(|admission| &*admission.metrics));
        let principal = admission.map_or(&Principal::Nobody, |admission| &admission.identity.principal);
        let line = line.opt("token_name", principal.token_name().map(|name| &**name));
        // Of a token, its name says it.
        let line = match principal {
            Principal::User(_)
            | Principal::Tenant(_)
            | Principal::Client(_)
            | Principal::Foreign(_)
            | Principal::Idp(_) => line.text("principal", &principal.to_string()),
            Principal::Nobody | Principal::Token(_) => line,
        };
        let line = line.opt("client", admission.and_then(|admission| admission.identity.client()));
        line.opt("server", metrics.map(ServerMetrics::name))
    }

    /// Ends a line with how long it took, how much it was, and which request it is.
    fn finish(&self, line: LogLine<'_>) {
        let (operation, more) = (self.operation(), self.more.as_ref());
        line.opt_plain("rpc_method", operation.map(|operation| operation.method.name()))
            .opt("tool", operation.and_then(|operation| operation.tool.as_deref()))
            .opt_int("rpc_error", more.and_then(|more| more.rpc_error))
            .millis("duration_ms", self.began.elapsed())
            .int("bytes_out", self.bytes_out)
            .plain("peer", self.client.as_deref().unwrap_or(&self.connection.peer))
            .plain("request_id", self.id.as_str())
            .opt_plain("trace_id", more.and_then(|more| more.trace.as_ref()).map(TraceId::as_str))
            .send();
    }

    /// Why it was turned away by the gateway, rather than failed by its server or left by its client.
    fn refused(&self) -> Option<ErrorKind> {
        self.failure.filter(|kind| kind.side() != Side::Upstream)
    }

    fn cause(&self) -> Option<&str> {
        self.more.as_ref()?.cause.as_deref()
    }

    fn keep_cause(&mut self, cause: Option<Cow<'static, str>>) {
        if cause.is_some() || self.more.is_some() {
            self.more().cause = cause;
        }
    }

    /// `end` is how its response ended, if this is the line of that.
    fn write_request(&self, end: Option<End>) {
        let refused = self.refused();
        let begun = match (refused, &self.admission) {
            (Some(kind), _) => self.observer.recurring(Topic::Refused(kind)),
            (None, admission) => {
                let msg = match admission {
                    Some(by) if by.identity.principal == Principal::Nobody => "Public request",
                    Some(_) => "Authenticated request",
                    None => "Request",
                };
                Some(self.observer.log.line(self.level, msg))
            }
        };
        let Some(line) = begun else { return };
        let broken_off = end.filter(|end| *end != End::UpstreamEnd);
        let reason = self.failure.map(ErrorKind::code).or(broken_off.map(End::reason));
        let line = self
            .identify(line)
            .plain("method", self.shown_method())
            .str("path", self.shown_path())
            .int("status", self.status.map_or(CLIENT_CLOSED_REQUEST, |status| status.as_u16()))
            // A refusal has its reason already.
            .opt("reason", reason.filter(|_| refused.is_none()))
            .opt("cause", self.cause());
        self.finish(line);
    }

    /// The method, if it is one that exists: its name is the client's to choose.
    fn shown_method(&self) -> &str {
        match self.method {
            Method::GET | Method::POST | Method::DELETE | Method::OPTIONS | Method::HEAD | Method::PUT => {
                self.method.as_str()
            }
            _ => "other",
        }
    }

    /// What may be shown of the path. One that is not admitted may hold a token, and what is known of it comes with the answer.
    fn shown_path(&self) -> &str {
        match self.path {
            ShownPath::Own(_) if self.admission.is_none() => "…",
            _ => self.path.as_str(),
        }
    }

    /// Writes what was decided about it, once.
    fn write_audit(&mut self) {
        let Some(audited) = self.audited.take() else { return };
        let Some(line) = audited.line(self.failure) else { return };
        let line = line
            .plain("method", self.shown_method())
            .str("path", self.shown_path())
            .opt_plain("rpc_method", self.operation().map(|operation| operation.method.name()))
            .opt("tool", audited.tool());
        self.point_out(line).send();
    }

    fn write_stream_closed(&self, end: End) {
        let line = self.identify(self.observer.log.line(self.level, "Stream closed"));
        self.finish(line.str("reason", end.reason()).opt("cause", self.cause()));
    }

    /// Something of the server's answer does not pass, because of `error`: for the log and the counters.
    pub fn withheld(&mut self, error: &Error) {
        if let Some(admission) = &self.admission {
            self.observer.metrics.upstream_error(admission.metrics.name(), error.kind.code());
        }
        self.level = Level::Warn;
        self.keep_cause(error.cause.clone());
    }

    /// The server broke off its answer, because of `cause`. Its status was that of a success.
    pub fn upstream_lost(&mut self, cause: String) {
        if let Some(admission) = &self.admission {
            self.observer
                .metrics
                .upstream_error(admission.metrics.name(), ErrorKind::UpstreamUnreachable.code());
            admission.metrics.health.failed(&cause);
        }
        self.set_cause(cause);
    }

    /// Why the response broke off, for the log.
    pub fn set_cause(&mut self, cause: impl Into<Cow<'static, str>>) {
        self.keep_cause(Some(cause.into()));
    }
}

impl Record {
    /// How long the operation took, to the end of its answer. Where that comes on another stream (HTTP+SSE), its end is not
    /// seen here.
    fn observe_operation(&self) {
        let Some(&Operation { method, .. }) = self.operation() else { return };
        if self.status == Some(StatusCode::ACCEPTED) && !method.is_notification() {
            return;
        }
        let metrics = self.member().unwrap_or_else(|| self.metrics());
        metrics.operation(method, self.began.elapsed());
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.write_audit();
        self.observe_operation();
        // Whoever drops a response before its end is the connection, and it does so when the client is gone.
        let gone = if self.connection.was_slow_reader() { End::SlowReader } else { End::ClientGone };
        let end = self.end.unwrap_or(gone);
        if End::CUTS.contains(&end) {
            self.observer.metrics.stream_cut(end.reason());
        }
        if self.is_stream {
            self.metrics().streams_open.dec();
            self.write_stream_closed(end);
        } else {
            self.write_request(Some(end));
        }
        self.connection.request_ended(self.share.is_some());
    }
}
