//! What a config file says once everything in it is resolved: immutable, complete, nothing left to unwrap.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{HeaderName, HeaderValue};
use rustls::sign::CertifiedKey;
use url::{Position, Url};

use super::{
    SystemRoots,
    access::{Access, CallerLimits, Rule, RuleSubject},
    issuers::{Assignment, Issuer},
    oauth::OauthConfig,
    rule_lines::RuleLines,
    schemes::Schemes,
    tool_rules::ToolRules,
    upstream_auth::UpstreamAuth,
};
use crate::{
    ledger::Rate,
    mcp::schema::InputSchema,
    secret::{Secret, SecretKey},
};

/// One good config, as of one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// `proxy.name`: realm in challenges, name in logs.
    pub name: String,
    /// `proxy.baseUrl`: the URL that clients use.
    pub base_url: Option<Url>,
    /// `proxy.addr`, resolved to every address it stands for (`":8080"` is two).
    pub addr: Vec<SocketAddr>,
    /// `proxy.tls`; `None` is plain HTTP.
    pub tls: Option<Tls>,
    /// `proxy.auth.schemes` and `queryToken`: in which ways a request may present its credential.
    pub schemes: Schemes,
    /// `proxy.auth.tenants.header`: the field in which tenants present their tokens, if there are any.
    pub tenant_header: Option<HeaderName>,
    /// `proxy.auth.adminSeesAll`: whether the role `admin` passes the rules of servers.
    pub admin_sees_all: bool,
    /// Every credential of every token name, in file order.
    pub credentials: Vec<Credential>,
    /// `proxy.auth.users`, in file order.
    pub users: Vec<User>,
    /// `proxy.auth.issuers`, in file order.
    pub issuers: Vec<Arc<Issuer>>,
    /// `proxy.auth.assign`, in file order.
    pub assignments: Vec<Assignment>,
    /// `proxy.auth.sessions`.
    pub login_terms: LoginTerms,
    /// `proxy.auth.storage` and the keys of what is stored.
    pub login_store: LoginStore,
    /// What `"kind": "oauth"` makes of the gateway; `None` without it.
    pub oauth: Option<Arc<OauthConfig>>,
    /// `proxy.stateDir`: where the gateway keeps what it makes.
    pub state_dir: PathBuf,
    /// Names that `Host` may carry; see [`HostPattern`].
    pub allowed_hosts: Vec<HostPattern>,
    /// Origins that may call from a browser, serialised as in the header (`https://app.example.com`).
    /// The gateway's own (of `baseUrl`) is included; `"*"` allows any.
    pub allowed_origins: Vec<String>,
    /// Whether a loopback origin (`http://localhost:5173`) is the gateway's own: true when every address is loopback.
    pub loopback_origins: bool,
    /// `proxy.keepAlive`: silence after which an event stream gets a comment; zero is never.
    pub keep_alive: Duration,
    /// `proxy.limits`.
    pub limits: Limits,
    /// `proxy.rateLimits`.
    pub rate_limits: RateLimits,
    /// `proxy.trustedProxies`: balancers that may say whom they speak for.
    pub trusted_proxies: Vec<ipnet::IpNet>,
    /// `proxy.shutdownDelay`: how long the gateway is not ready before it drains.
    pub shutdown_delay: Duration,
    /// `proxy.shutdownGrace`: how long draining waits before it cuts.
    pub shutdown_grace: Duration,
    /// `proxy.workers`, with 0 already replaced by the number of cores.
    pub workers: usize,
    /// `proxy.admin.addr`: a listener for `/metrics` and `/servers`; without a token if it is on loopback.
    pub admin: Option<SocketAddr>,
    /// `proxy.log`.
    pub log: LogConfig,
    /// `proxy.audit`: a line for each decision about a request; `None` is none.
    pub audit: Option<AuditConfig>,
    /// `proxy.sessionKey`: makes session ids survive a restart and hold on a second node.
    pub session_key: Option<Secret>,
    /// `proxy.sessions.timeout`, default 5 min: `idleTimeout` of all servers as one, and of those that have none.
    pub session_timeout: Duration,
    /// `proxy.aggregate`: all servers as one.
    pub aggregate: Aggregate,
    /// Tells whether two gateways have the same config file: the first 48 bits of its SHA-256.
    pub hash: u64,
    /// `mcpServers`, in file order.
    pub servers: Vec<Server>,
    /// `proxy.allowEmpty`: whether it is meant that there is no server.
    pub allow_empty: bool,
    /// What is in files that cannot be used.
    pub lost: LostFiles,
    /// `proxy.debug`: whether `/debug` is served.
    pub debug: bool,
    /// The file without what may be a secret, if `/debug` is served.
    pub redacted: Option<Arc<serde_json::Value>>,
    /// Where the file says who may do what, for the audit. Nothing else depends on it: a line that moves changes nothing that
    /// runs.
    pub rules: Arc<RuleLines>,
    /// What the system trusts, if it was read to see whether there is any.
    pub system_roots: SystemRoots,
}

impl Snapshot {
    /// What the URL of each place of the gateway begins with, if the config says so.
    pub fn base(&self) -> Option<Arc<str>> {
        match (&self.oauth, &self.base_url) {
            (Some(config), _) => Some(Arc::clone(&config.base)),
            (None, Some(url)) => Some(url.as_str().trim_end_matches('/').into()),
            (None, None) => None,
        }
    }

    /// Whether clients can read who issues tokens for a place (RFC 9728): there is somebody who does, and places have URLs.
    pub fn has_resource_metadata(&self) -> bool {
        self.oauth.is_some() || !self.issuers.is_empty() && self.base_url.is_some()
    }

    /// Whether there may be grants: of users, and with `"kind": "oauth"` of whoever has a token.
    pub fn has_grants(&self) -> bool {
        !self.users.is_empty() || self.oauth.is_some()
    }

    /// Whether there may be callers whom it does not name: nobody knows how many.
    pub fn admits_unnamed(&self) -> bool {
        !self.issuers.is_empty() || self.oauth.as_ref().is_some_and(|oauth| oauth.idp.is_some())
    }

    /// Whether logins are in a file.
    pub fn keeps_logins(&self) -> bool {
        self.has_grants() && self.login_store.storage == LoginStorage::File
    }
}

/// Parts of a config that are in files which cannot be used: a gateway that runs goes on with those that it has.
#[derive(Debug, Clone, Default)]
pub struct LostFiles {
    /// Servers whose `caFile`, `cwd` or `$file` is lost.
    pub servers: Vec<LostServer>,
    /// `proxy.sessionKey`.
    pub session_key: bool,
    /// `proxy.auth.jwtSecret` or `encryptionKey`.
    pub login_keys: bool,
}

/// A server of which a file cannot be used.
#[derive(Debug, Clone)]
pub struct LostServer {
    /// Key in `mcpServers`.
    pub name: Arc<str>,
    /// Who may use it.
    pub access: Access,
    /// Its tags, by which callers may be limited.
    pub tags: Vec<String>,
    /// Who may use which of its tools.
    pub tool_rules: Option<Arc<ToolRules>>,
    /// Its place among all servers.
    pub index: usize,
}

/// Where the certificate comes from.
#[derive(Debug, Clone)]
pub enum Tls {
    /// `{cert, key}`: read, parsed and seen to match; `None` if they were not.
    Files(Option<Arc<CertifiedKey>>),
    /// `{selfSigned: true}`: made by the gateway for these names.
    SelfSigned {
        /// DNS names and IP addresses to put into the certificate.
        names: Vec<String>,
    },
}

/// One secret that proves to be one token name. A name may have several, so that rotation can overlap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// Key in `proxy.auth.tokens`, or in `proxy.auth.tenants.tokens`.
    pub token_name: Arc<str>,
    /// Whether it is of a tenant.
    pub is_tenant: bool,
    /// `id`: label `credential` of `token_used_total`.
    pub id: Option<Arc<str>>,
    /// SHA-256 of the token. The token itself is not kept.
    pub digest: [u8; 32],
    /// After this moment the credential is refused.
    pub expires: Option<SystemTime>,
    /// Roles of the caller, such as `admin`. A decoy has none.
    pub roles: Vec<String>,
    /// `decoy`: it opens nothing, and an empty server answers whoever presents it.
    pub decoy: bool,
    /// `servers` and `tags`: what the caller is limited to.
    pub limits: CallerLimits,
}

impl Credential {
    /// Label `token_name` of metrics: the name, which of a tenant has `tenant:` in front.
    pub fn label(&self) -> Arc<str> {
        if self.is_tenant {
            format!("tenant:{}", self.token_name).into()
        } else {
            Arc::clone(&self.token_name)
        }
    }
}

/// A person who comes in by a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Key in `proxy.auth.users`.
    pub name: Arc<str>,
    /// `passwordHash`: argon2id in PHC form, with limits on what it costs.
    pub password_hash: Secret,
    /// Roles of the caller.
    pub roles: Vec<String>,
    /// `servers` and `tags`: what the caller is limited to.
    pub limits: CallerLimits,
    /// Whether it is let in no more.
    pub disabled: bool,
}

/// `proxy.auth.sessions`: how long a login lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoginTerms {
    /// `accessTtl`, default 15 min: how long a session token is good.
    pub access_ttl: Duration,
    /// `refreshTtl`, default 12 h: how long a refresh token is good.
    pub refresh_ttl: Duration,
    /// `maxAge`, default 30 days: after which a user logs in again, whatever was refreshed.
    pub max_age: Duration,
    /// `perUser`, default 20: logins of one user at a time.
    pub per_user: u64,
    /// `reuseGrace`, default 10 s: how long a refresh token that was used brings the same again.
    pub reuse_grace: Duration,
}

impl LoginTerms {
    /// Those of a config that says nothing.
    pub const DEFAULT: Self = Self {
        access_ttl: Duration::from_secs(15 * 60),
        refresh_ttl: Duration::from_secs(12 * 3600),
        max_age: Duration::from_secs(30 * 24 * 3600),
        per_user: 20,
        reuse_grace: Duration::from_secs(10),
    };

    /// Those of what OAuth clients get, however often it is refreshed, where the config does not say it. `per_user` is for one
    /// principal.
    pub const OF_CLIENTS: Self = Self {
        access_ttl: OauthConfig::TOKEN_TTL,
        refresh_ttl: OauthConfig::REFRESH_TOKEN_TTL,
        max_age: Duration::from_secs(365 * 24 * 3600),
        per_user: 100,
        reuse_grace: OauthConfig::REFRESH_REUSE_GRACE,
    };

    /// The same by this config.
    pub fn of_clients(config: &OauthConfig) -> Self {
        Self {
            access_ttl: config.token_ttl,
            refresh_ttl: config.refresh_token_ttl,
            max_age: Self::OF_CLIENTS.max_age.max(config.refresh_token_ttl),
            reuse_grace: config.refresh_reuse_grace,
            ..Self::OF_CLIENTS
        }
    }
}

/// Where logins are kept, and by which keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoginStore {
    /// `proxy.auth.storage`.
    pub storage: LoginStorage,
    /// `proxy.auth.jwtSecret`: what keys of session tokens are made of; none is what the gateway makes itself.
    pub jwt_secrets: Vec<Secret>,
    /// `proxy.auth.encryptionKey`: keys of what is secret in the file; none is what the gateway makes itself.
    pub encryption_keys: Vec<SecretKey>,
}

/// `proxy.auth.storage`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LoginStorage {
    /// In `logins.db` of `proxy.stateDir`.
    #[default]
    File,
    /// They end with the process.
    Memory,
}

/// `proxy.rateLimits`: how often something may happen. `None` is as often as it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimits {
    /// Requests of one caller with a credential.
    pub principal: Option<Rate>,
    /// Requests of one address.
    pub peer: Option<Rate>,
    /// Requests for one server.
    pub server: Option<Rate>,
    /// Credentials that are not good, of one address.
    pub auth_failures: Option<Rate>,
    /// Addresses for which the limits of addresses do not hold.
    pub allow: Vec<ipnet::IpNet>,
}

/// One entry of `allowedHosts`: a host name or address without brackets, lower case, and a port if one was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern {
    /// Lower-case host; IPv6 without brackets; `"*"` matches any.
    pub host: String,
    /// `Some` demands this port, `None` takes any.
    pub port: Option<u16>,
}

/// `proxy.limits`: what one peer may cost. Each has a default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Open client connections; default: half of what the file descriptor limit leaves, at most 10,000 by default.
    pub max_connections: usize,
    /// `tlsHandshakeTimeout`, default 10 s: from accept to the end of the handshake.
    pub tls_handshake_timeout: Duration,
    /// `headerTimeout`, default 10 s: from the first wait for a request to the end of its head.
    pub header_timeout: Duration,
    /// `bodyTimeout`, default 30 s: longest silence of a client in the middle of a request body.
    pub body_timeout: Duration,
    /// `smallBodyTimeout`, default 30 s: longest time for a request body of at most 64 KiB by its length.
    pub small_body_timeout: Duration,
    /// `minBodyRate`, default 1 KiB: bytes a second that any other request body must bring; 0 is any.
    pub min_body_rate: u64,
    /// `slowReaderTimeout`, default 30 s: longest time a client may take no byte while some wait for it.
    pub slow_reader_timeout: Duration,
    /// `connectTimeout`, default 5 s: TCP and TLS connection to an upstream.
    pub connect_timeout: Duration,
    /// `upstreamTimeout`, default 60 s: from the request to the upstream's response head. A server's `timeout` wins.
    pub upstream_timeout: Duration,
    /// `maxHeaderBytes`, default 32 KiB: request line and headers.
    pub max_header_bytes: usize,
    /// `maxUriBytes`, default 8 KiB.
    pub max_uri_bytes: usize,
    /// `maxBodyBytes`, default 0 = unlimited: bodies are streamed, so a large one costs no memory here.
    pub max_body_bytes: u64,
    /// `maxSessions`, default 1,000: sessions that the gateway itself keeps (command servers, bridged transports, all
    /// servers as one), each perhaps a process.
    pub max_sessions: u64,
    /// `maxProcesses`, default 1,000: processes of command servers and inline tools.
    pub max_processes: u64,
    /// `maxRequests`, default as many as there are file descriptors for: admitted requests that run, streams included.
    pub max_requests: u64,
    /// `maxServerConnections`, default as many as there are file descriptors for: connections to servers of sessions that
    /// the gateway keeps, half of them for requests, a quarter for streams, a quarter for what has no answer.
    pub max_server_connections: u64,
    /// `maxHeldBytes`, default 128 MiB: messages and events that wait in memory. When they are that many, the gateway stops
    /// reading.
    pub max_held_bytes: u64,
    /// `perCaller`: what one caller may have at most, whatever is free.
    pub per_caller: PerCaller,
    /// `perAddress.connections`, default 256: connections of one address (IPv6: of one /64) that have not had an
    /// admitted request; `perAddress.handshakes`, default 64: those of them whose TLS handshakes have a turn.
    pub per_address: PerAddress,
}

/// `proxy.limits.perAddress`: how many connections of one address (IPv6: of one /64) may be without an admitted request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PerAddress {
    /// In all.
    pub connections: usize,
    /// Whose TLS handshakes have a turn.
    pub handshakes: usize,
}

/// `proxy.limits.perCaller`: limits of one caller beside the share that is left to others; 0 is no such limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PerCaller {
    /// `connections`.
    pub connections: u64,
    /// `sessions`, or MCP Front's `sessions.maxPerUser`.
    pub sessions: u64,
    /// `processes`.
    pub processes: u64,
    /// `requests`.
    pub requests: u64,
    /// `heldBytes`.
    pub held_bytes: u64,
}

/// `proxy.log`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogConfig {
    /// Least severe level that is written.
    pub level: Level,
    /// Shape of a line; `None` leaves it to what standard output is.
    pub format: Option<LogFormat>,
}

/// `proxy.audit`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditConfig {
    /// `file`, which lines are appended to; `None` is the log.
    pub file: Option<PathBuf>,
    /// `tools`, default false: whether a line names the tool that is called.
    pub tools: bool,
}

/// Severity of a log line, least severe first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Steps inside a request or a reload.
    Debug,
    /// Requests and life of the process.
    Info,
    /// Something to mend that has no effect on callers yet.
    Warn,
    /// Something failed.
    Error,
}

impl Level {
    /// The level that the config and the command line call so.
    pub fn named(word: &str) -> Self {
        match word {
            "debug" => Self::Debug,
            "warn" => Self::Warn,
            "error" => Self::Error,
            _ => Self::Info,
        }
    }
}

/// Shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// `time LEVEL msg key=value …` for a terminal.
    Text,
}

impl LogFormat {
    /// The shape that the config and the command line call so.
    pub fn named(word: &str) -> Self {
        if word == "text" { Self::Text } else { Self::Json }
    }
}

/// `proxy.aggregate`: how the servers of one token look as one, at `/mcp`, `/sse` and `/message`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aggregate {
    /// What tools and prompts are called.
    pub naming: Naming,
    /// `lazy`, default false: three meta-tools stand for all tools.
    pub lazy: bool,
    /// `discoveryTimeout`, default 5 s: longest wait for one server's lists; the others answer without it then.
    pub discovery_timeout: Duration,
}

/// What tools and prompts of several servers are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Naming {
    /// `mode: "prefixed"`: `server`, the separator, the server's own name for it.
    Prefixed {
        /// `separator`, default `__`.
        separator: Box<str>,
    },
    /// `mode: "flat"`: the server's own name.
    Flat {
        /// `onCollision`: what becomes of a name that two servers have.
        on_collision: Collision,
        /// `separator`, for names that get a prefix.
        separator: Box<str>,
    },
}

/// What becomes of a flat name that two servers have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collision {
    /// `error`, the default: neither is offered, and the log names both.
    Error,
    /// `first`: the server that comes first in the file has it.
    First,
    /// `prefix`: both get a prefix.
    Prefix,
}

/// `options.toolFilter`: which tools of a server exist for clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolFilter {
    /// `mode`: whether the list names what is allowed, or what is not.
    pub allows: bool,
    /// `list`: names of tools, exactly.
    pub list: std::collections::HashSet<Box<str>>,
}

impl ToolFilter {
    /// Whether clients may see and call the tool.
    pub fn passes(&self, tool: &str) -> bool {
        self.list.contains(tool) == self.allows
    }
}

/// One entry of `mcpServers`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Key in `mcpServers`: first segment of its paths, label in metrics.
    pub name: Arc<str>,
    /// What is behind it.
    pub target: Target,
    /// Who may use it.
    pub access: Access,
    /// Longest wait for the upstream's response head, if it differs from `limits.upstreamTimeout`.
    pub timeout: Option<Duration>,
    /// `keepAlive`, if it differs from `proxy.keepAlive`.
    pub keep_alive: Option<Duration>,
    /// `disabled`: it is not served.
    pub disabled: bool,
    /// Tags, for selectors.
    pub tags: Vec<String>,
    /// `idleTimeout`, default 5 min: how long a session that the gateway keeps may be without a request or stream before it
    /// is ended, and with it the process of a command server.
    pub idle_timeout: Duration,
    /// `options.toolFilter`.
    pub tool_filter: Option<Arc<ToolFilter>>,
    /// `tools`: who may use which of its tools.
    pub tool_rules: Option<Arc<ToolRules>>,
    /// `warm`, default false: a command is started once before it is needed.
    pub warm: bool,
    /// `upstreamAuth`: with whose credential it is called, where that is not the one of the config.
    pub upstream_auth: Option<Arc<UpstreamAuth>>,
}

impl Server {
    /// Name of all servers as one, in the log, in metrics and in grants. No server can have it: it is the first
    /// segment of a path of the gateway's own.
    pub const ALL: &'static str = "mcp";

    /// Whether a text has the form of a name, whether there is such a server or not. Those that are reserved have it too.
    pub fn is_name(text: &str) -> bool {
        matches!(text.len(), 1..=64)
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    }

    /// Name of the server that answers decoys. No server of a config can have it.
    pub const DECOY: &'static str = ".decoy";

    /// All servers as one. What is behind it is decided for each caller, so its target is an empty one.
    pub fn all(idle_timeout: Duration) -> Self {
        Self {
            name: Self::ALL.into(),
            target: Target::Inline(InlineTarget::default()),
            access: Access::AnyToken,
            timeout: None,
            keep_alive: None,
            disabled: false,
            tags: Vec::new(),
            idle_timeout,
            tool_filter: None,
            tool_rules: None,
            warm: false,
            upstream_auth: None,
        }
    }

    /// Whether a valid caller may use it: the part of the config that lets it in, or else the part that keeps it out.
    /// `admin_sees_all` is the key of that name.
    pub fn admits(&self, caller: RuleSubject<'_>, admin_sees_all: bool) -> Result<Rule, Rule> {
        self.access.decide((&self.name, &self.tags), caller, admin_sees_all)
    }

    /// Whether what was begun with the one goes on with the other. Who may use it, and which of its tools, is another question.
    pub fn serves_like(&self, other: &Self) -> bool {
        self.target.serves_like(&other.target)
            && self.disabled == other.disabled
            && self.is_called_like(other)
    }

    /// Whether both are called with the same credentials: of the same issuers, by the same client, in the same places.
    pub fn is_called_like(&self, other: &Self) -> bool {
        match (&self.upstream_auth, &other.upstream_auth) {
            (None, None) => true,
            (Some(one), Some(other)) => one.serves_like(other),
            _ => false,
        }
    }

    /// How long a session that the gateway keeps may lie idle, unless `idleTimeout` says otherwise.
    pub const IDLE_TIMEOUT: Duration = Duration::from_secs(5 * 60);
}

/// What is behind a server name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// An MCP server reached over HTTP.
    Http(HttpTarget),
    /// A local command that speaks MCP on stdin and stdout.
    Stdio(StdioTarget),
    /// Tools that the config itself defines.
    Inline(InlineTarget),
}

impl Target {
    /// Whether a conversation with the one goes on with the other: they differ in nothing but what is looked at where bytes
    /// pass, with each request.
    pub fn serves_like(&self, other: &Self) -> bool {
        let (Self::Http(one), Self::Http(other)) = (self, other) else { return self == other };
        let HttpTarget { url, transport, headers, ca_pem, pass_query: _, pass_last_event_id: _, cookies: _ } =
            one;
        (url, transport, headers, ca_pem) == (&other.url, &other.transport, &other.headers, &other.ca_pem)
    }
}

/// Tools that the config itself defines: each runs a command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InlineTarget {
    /// What they are for, as a whole, for the model that uses them.
    pub description: Option<String>,
    /// In file order; names are unique.
    pub tools: Vec<InlineTool>,
}

/// A tool that runs a command, never through a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InlineTool {
    /// What clients call it.
    pub name: Box<str>,
    /// What it does, for the model that chooses it.
    pub description: Option<String>,
    /// What a caller's arguments have to look like.
    pub input_schema: InputSchema,
    /// Program to run.
    pub command: String,
    /// Its arguments: each is what its pieces make together.
    pub args: Vec<Vec<Piece>>,
    /// Its environment, besides what every command inherits.
    pub env: Vec<(String, Secret)>,
    /// `timeout`, default 30 s: after it the command is killed and the call fails.
    pub timeout: Duration,
}

/// A part of one argument of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Text of the config.
    Text(Secret),
    /// What the caller gives for this property of the input schema.
    Argument(Box<str>),
}

/// An MCP server reached over HTTP or HTTPS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpTarget {
    /// Endpoint: scheme `http` or `https`, a host, no user info, no fragment.
    pub url: Url,
    /// Which transport it speaks.
    pub transport: McpTransport,
    /// `headers`: added to every request, replacing what the client sent under the same name. Values are marked sensitive.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// `caFile`: PEM certificates to trust instead of the system's (contents, so that equality sees a change).
    pub ca_pem: Option<Arc<[u8]>>,
    /// `passQuery`: whether callers' queries go on; by default if `url` has none.
    pub pass_query: bool,
    /// `passLastEventId`: whether `Last-Event-ID` goes on; by default if the server has one caller only.
    pub pass_last_event_id: Option<bool>,
    /// `cookies`, default false: whether the server may have cookies at its callers.
    pub cookies: bool,
}

impl HttpTarget {
    /// Path and query of the endpoint.
    pub fn path_and_query(&self) -> &str {
        &self.url[Position::BeforePath..Position::AfterQuery]
    }
}

/// A local command that speaks MCP on stdin and stdout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StdioTarget {
    /// Program to run.
    pub command: String,
    /// Its arguments.
    pub args: Vec<Secret>,
    /// Its environment.
    pub env: Vec<(String, Secret)>,
    /// Its working directory.
    pub cwd: Option<PathBuf>,
    /// Variables of the gateway's own environment that it may see.
    pub inherit_env: Vec<String>,
}

/// MCP transports over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum McpTransport {
    /// One endpoint: POST, GET, DELETE (MCP 2025-03-26 and later), or POST only (2026-07-28).
    StreamableHttp,
    /// Two endpoints: an event stream and a message endpoint (MCP 2024-11-05).
    Sse,
}
