//! The file as a whole, and `proxy` but for `auth` and `limits`.

use std::time::Duration;

use super::{Auth, Limits, ServerKeys};
use crate::{
    config::{
        aggregate::check_separator,
        key::{
            ANY, Anything, FLAT, Flat, Given, HERE, Here, MILLISECOND, Map, NONE, PathText, Placed, duration, key, keys, list,
            number, object, or, required, secs, words,
        },
        reader::Text,
        resolve::{check_name, check_session_key, check_version, note_cleanup},
        snapshot::Server,
    },
    secret::Secret,
};

keys! {
    /// The config: JSON, in which comments and trailing commas are allowed.
    pub(crate) struct RootKeys {
        pub(crate) here: Here = HERE,
        /// Where the schema is, for editors.
        _schema: Option<Text> = key("$schema", NONE).examples(&[r#""./sluicegate.schema.json""#]),
        /// Version of the config format.
        _version: Option<Text> = key("version", NONE).examples(&[r#""1.0""#]).check(check_version),
        /// The gate itself.
        pub(crate) proxy: Given<ProxyKeys> = key("proxy", NONE),
        /// The servers behind the gate. A name is the first segment of its server's paths: `docs` is served at
        /// `/docs/mcp`. It has 1 to 64 letters, digits, `-` or `_`, and is not one of the gate's own paths.
        pub(crate) servers: Given<Map<ServerKeys>> =
            key("mcpServers", required(r#"list the servers behind the gate, as in { "docs": { "url": "…" } }"#))
                .pattern("^[A-Za-z0-9_-]{1,64}$")
                .examples(&[r#"{ "docs": { "url": "https://docs.example.com/mcp" } }"#]),
    }
}

keys! {
    /// The gate itself.
    pub(crate) struct ProxyKeys {
        pub(crate) here: Here = HERE,
        /// The URL that clients use. Its host is allowed in `Host`, its origin in `Origin`.
        pub(crate) base_url: Given<Text> = key("baseUrl", NONE)
            .or_as(&["baseURL"])
            .pattern(HTTP)
            .examples(&[r#""https://mcp.example.com""#]),
        /// Where to listen. A port alone is every interface with `tls`, and this machine only without.
        pub(crate) addr: Given<Text> = key("addr", or("`\":8443\"` with `tls`, `\":8080\"` without"))
            .examples(&[r#"":8443""#, r#""127.0.0.1:8080""#, r#""[::1]:8080""#])
            .restart(),
        /// Serve plain HTTP to other machines too, because a balancer in front ends TLS.
        pub(crate) allow_plain_http: Placed<bool> = key("allowPlainHttp", false),
        /// HTTPS. Whether there is any, and of which kind, changes at the next start; files are reloaded when they change.
        pub(crate) tls: Given<TlsKeys> = key("tls", or("plain HTTP, on this machine only")),
        /// Who may come in.
        pub(crate) auth: Given<Auth> = key("auth", or("there is no token")),
        /// Names that `Host` may carry, with or without a port; `"*"` is any.
        pub(crate) allowed_hosts: Given<Vec<Text>> =
            key("allowedHosts", or("the host of `baseUrl`, and loopback names if only this machine can connect"))
                .examples(&[r#"["mcp.example.com"]"#]),
        /// Web origins that may call from a browser, besides that of `baseUrl` and, if only this machine can connect,
        /// loopback ones; `"*"` is any.
        pub(crate) allowed_origins: Vec<Text> =
            list("allowedOrigins", &[]).examples(&[r#"["https://app.example.com"]"#]),
        /// Addresses or networks of balancers. From them, and from nobody else, `X-Forwarded-For` or PROXY protocol
        /// version 2 names the client: in the log, and for [capacity](../README.md#capacity).
        pub(crate) trusted_proxies: Vec<Text> =
            list("trustedProxies", &[]).examples(&[r#"["10.0.0.0/8", "fd00::/8"]"#]),
        /// A listener for `/metrics` and `/servers`, see [the admin listener](../README.md#the-admin-listener).
        pub(crate) admin: Given<AdminKeys> = key("admin", or("there is no such listener")),
        pub(crate) settings: Flat<Settings> = FLAT,
        /// Sessions that the gate keeps for clients of every server.
        pub(crate) sessions: SessionsKeys = object("sessions"),
        /// How [all servers look as one](../README.md#all-servers-as-one).
        pub(crate) aggregate: AggregateKeys = object("aggregate"),
    }
}

/// How an HTTP URL begins. Parsers of URLs let spaces pass in front, and any letter case.
pub(crate) const HTTP: &str = r"^\s*[Hh][Tt][Tt][Pp][Ss]?:";

keys! {
    /// Keys of `proxy` that depend on nothing else.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Settings {
        /// Name of the gate: realm in challenges, name in logs.
        pub name: String = key("name", "Sluicegate").pattern("^.{1,256}$").check(check_name),
        /// What one peer may cost.
        pub limits: Limits = object("limits"),
        /// The log on standard output.
        pub log: Log = object("log"),
        /// How long a shutdown waits for requests and streams before it cuts them.
        pub shutdown_grace: Duration = duration("shutdownGrace", Duration::ZERO, secs(30)),
        /// Threads that serve; 0 is one per core.
        pub workers: usize = number("workers", 0, 1024, 0).restart(),
        /// Secret of at least 32 characters. With it, sessions of servers that are reached byte for byte survive a restart
        /// and hold on every node that has the same key.
        pub session_key: Option<Secret> = key("sessionKey", or("a new one at each start"))
            .pattern(r"^[\s\S]{32,}$")
            .examples(&[r#"{ "$env": "SESSION_KEY" }"#])
            .check(check_session_key),
        /// Reserved; nothing is served at `/debug` yet.
        _debug: bool = key("debug", false),
    }
}

keys! {
    /// HTTPS: `cert` and `key`, or `selfSigned`.
    pub(crate) struct TlsKeys {
        pub(crate) here: Here = HERE,
        /// PEM file with the certificate and its chain.
        pub(crate) cert: Given<PathText> = key("cert", NONE).examples(&[r#""cert.pem""#]),
        /// PEM file with the private key, not encrypted.
        pub(crate) key: Given<PathText> = key("key", NONE).examples(&[r#""key.pem""#]),
        /// Make a certificate at the start instead. Clients have to be told not to verify it, so it is for development only.
        pub(crate) self_signed: bool = key("selfSigned", false),
    }
}

keys! {
    /// A listener for `/metrics` and `/servers`, in plain HTTP. It asks for no token on a loopback address. Elsewhere every
    /// request but `/health` needs one, of the role `admin`, or `metrics` for `/metrics`.
    pub(crate) struct AdminKeys {
        /// Address and port; a port alone is this machine only.
        pub(crate) addr: Given<Text> = key("addr", required(r#"write it as in "127.0.0.1:9090""#))
            .examples(&[r#""127.0.0.1:9090""#, r#""0.0.0.0:9090""#])
            .restart(),
    }
}

keys! {
    /// The log on standard output.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Log {
        /// Least severe level that is written.
        pub level: Level = key("level", Level::Info),
        /// Shape of a line.
        pub format: LogFormat = key("format", LogFormat::Json).restart(),
    }
}

words! {
    /// Severity of a log line, least severe first.
    #[derive(PartialOrd, Ord)]
    pub enum Level: "level" {
        /// Steps inside a request or a reload.
        Debug = "debug",
        /// Requests and life of the process.
        Info = "info",
        /// Something to mend that stops nobody yet.
        Warn = "warn" | "warning",
        /// Something failed.
        Error = "error",
    }
}

words! {
    /// Shape of a log line.
    pub enum LogFormat: "format" {
        /// One JSON object a line.
        Json = "json",
        /// `time LEVEL msg key=value …` for a terminal.
        Text = "text",
    }
}

keys! {
    /// Sessions that the gate keeps for clients of every server.
    pub(crate) struct SessionsKeys {
        /// `idleTimeout` of every server that has none of its own.
        pub(crate) timeout: Duration = duration("timeout", secs(1), Server::IDLE_TIMEOUT),
        /// Accepted for configs of MCP Front, and without effect.
        _cleanup_interval: Option<Anything> = key("cleanupInterval", NONE)
            .deprecated("sessions end on time without it")
            .check(note_cleanup),
        /// MCP Front's name for `limits.perCaller.sessions`; 0 is no limit.
        pub(crate) max_per_user: Given<u64> =
            number("maxPerUser", 0, ANY, NONE).deprecated("write `limits.perCaller.sessions`"),
    }
}

keys! {
    /// How the servers that a token may use look as one, at `/mcp`, `/sse` and `/message`.
    pub(crate) struct AggregateKeys {
        /// What tools and prompts are called.
        pub(crate) mode: Mode = key("mode", Mode::Prefixed),
        /// What stands between server and tool in `server__tool`: 1 to 16 letters, digits, `_`, `-`, `.` or `/`.
        pub(crate) separator: Placed<Text> = key("separator", "__")
            .pattern("^[A-Za-z0-9_./-]{1,16}$")
            .examples(&[r#""__""#, r#"".""#, r#""_1mcp_""#])
            .check(check_separator),
        /// What becomes of a flat name that two servers have.
        pub(crate) on_collision: Placed<Collision> = key("onCollision", Collision::Error),
        /// Three tools, `tool_list`, `tool_schema` and `tool_invoke`, stand for all: they find, describe and call them.
        pub(crate) lazy: bool = key("lazy", false),
        /// Longest wait for one server to begin or to list; the others answer without it then.
        pub(crate) discovery_timeout: Duration = duration("discoveryTimeout", MILLISECOND, secs(5)),
    }
}

words! {
    /// What tools and prompts of several servers are called.
    pub(crate) enum Mode: "mode" {
        /// Every name begins with its server's.
        Prefixed = "prefixed",
        /// Names are the servers' own.
        Flat = "flat",
    }
}

words! {
    /// What becomes of a flat name that two servers have.
    pub enum Collision: "rule" {
        /// Neither is offered, and the log names both.
        Error = "error",
        /// The server that comes first in the file has it.
        First = "first",
        /// Both get a prefix.
        Prefix = "prefix",
    }
}
