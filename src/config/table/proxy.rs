//! The file as a whole, and `proxy` but for `auth` and `limits`.

use super::{
    TEXT,
    auth::AUTH,
    limits::LIMITS,
    rates::RATE_LIMITS,
    secs,
    server::{SERVER, SERVER_NAMES},
};
use crate::config::snapshot::Server;
use crate::config::table::key::{
    ANY,
    Absent::{Bool, Duration, Empty, List, Means, Nothing, Number, Required, Text},
    Object, TIMEOUT, ValueKind, Word, Words, count, key,
};

pub(in crate::config) static ROOT: Object = Object {
    name: "config",
    doc: "The config: JSON, in which comments and trailing commas are allowed. Any text may hold references: $env:VAR, \
          $env:VAR|default and env:VAR as the whole value, ${VAR} and ${VAR:-default} anywhere, $$ for a plain dollar \
          sign.",
    one_of: &[],
    keys: &[
        key("$schema", ValueKind::Text(ANY), Nothing, "Where the schema is, for editors.")
            .examples(&[r#""./sluicegate.schema.json""#]),
        key(
            "version",
            ValueKind::Text(r"^(1\.0$|v0\.0\.1-DEV_EDITION)"),
            Nothing,
            "Version of the config format: `\"1.0\"`.",
        )
        .examples(&[r#""1.0""#]),
        key("proxy", ValueKind::Object(&PROXY), Empty, "The gateway itself."),
        key(
            "mcpServers",
            ValueKind::Map { names: &SERVER_NAMES, of: &ValueKind::Object(&SERVER) },
            Required,
            "The servers behind the gateway. A name is the first segment of its server's paths: `docs` is served at \
             `/docs/mcp`. It has 1 to 64 letters, digits, `-` or `_`.",
        )
        .examples(&[r#"{ "docs": { "url": "https://docs.example.com/mcp" } }"#]),
    ],
};

pub(in crate::config) static PROXY: Object = Object {
    name: "proxy",
    doc: "The gateway itself.",
    one_of: &[],
    keys: &[
        key(
            "name",
            ValueKind::Text(r"^[^\u0000-\u001f\u007f-\u009f]{1,256}$"),
            Text("Sluicegate"),
            "Name of the gateway: realm in challenges, name in logs. 1 to 256 bytes, on one line.",
        ),
        key(
            "baseUrl",
            ValueKind::Url,
            Nothing,
            "The URL that clients use. Its host is allowed in `Host`, its origin in `Origin`.",
        )
        .also(&["baseURL"])
        .examples(&[r#""https://mcp.example.com""#]),
        key(
            "addr",
            ValueKind::Text(r":\d{1,5}$"),
            Means("`\":8443\"` with `tls`, `\":8080\"` without"),
            "Where to listen. A port alone is every interface with `tls` or `allowPlainHttp`, and this machine only \
             without.",
        )
        .examples(&[r#"":8443""#, r#""127.0.0.1:8080""#, r#""[::1]:8080""#])
        .restart(""),
        key(
            "allowPlainHttp",
            ValueKind::Bool,
            Bool(false),
            "Serve plain HTTP to other machines too, because a balancer in front ends TLS. An `addr` that is a port \
             alone, and the default one, then is every interface.",
        ),
        key(
            "allowEmpty",
            ValueKind::Bool,
            Bool(false),
            "It is meant that there is no server. Without it, a gateway that runs with servers takes a config without any for \
             a mistake, and of that only what it takes away from tokens.",
        ),
        key(
            "tls",
            ValueKind::Object(&TLS),
            Means("plain HTTP, on this machine only"),
            "HTTPS. Its files are reloaded when they change.",
        )
        .restart("kind or names"),
        key("auth", ValueKind::Object(&AUTH), Means("there is no token"), "Who may come in."),
        key(
            "allowedHosts",
            ValueKind::List(&TEXT),
            Means("the host of `baseUrl`, and loopback names if only this machine can connect"),
            "Names that `Host` may carry, with or without a port; `\"*\"` is any.",
        )
        .examples(&[r#"["mcp.example.com"]"#]),
        key(
            "allowedOrigins",
            ValueKind::List(&TEXT),
            List(&[]),
            "Web origins that may call from a browser, besides that of `baseUrl` and, if only this machine can connect, \
             loopback ones; `\"*\"` is any.",
        )
        .examples(&[r#"["https://app.example.com"]"#]),
        key(
            "keepAlive",
            ValueKind::Duration(secs(0)),
            Duration(secs(15)),
            "Silence of an event stream after which a comment shows its client, and every middle box, that it lives; 0 sends \
             none. A server's `keepAlive` wins.",
        ),
        key("limits", ValueKind::Object(&LIMITS), Empty, "What one peer may cost."),
        key("rateLimits", ValueKind::Object(&RATE_LIMITS), Empty, "How often something may happen."),
        key(
            "shutdownDelay",
            ValueKind::Duration(secs(0)),
            Duration(secs(0)),
            "How long a shutdown serves on while `/health/ready` is 503, so that balancers send nobody any more when it \
             begins to drain: longer than they take to notice.",
        ),
        key(
            "shutdownGrace",
            ValueKind::Duration(secs(0)),
            Duration(secs(30)),
            "How long a shutdown waits for requests and streams before it cuts them.",
        ),
        key("workers", count(0, 1024), Number(0), "Threads that serve; 0 is one per core.").restart(""),
        key(
            "admin",
            ValueKind::Object(&ADMIN),
            Means("there is no such listener"),
            "A listener for `/metrics` and `/servers`, see [the admin listener](http.md#the-admin-listener).",
        ),
        key("log", ValueKind::Object(&LOG), Empty, "The log on standard output."),
        key(
            "audit",
            ValueKind::Object(&AUDIT),
            Means("there is no audit"),
            "A line for each decision about who may do what, see [audit](operate.md#audit).",
        )
        .examples(&[r#"{ "file": "audit.log" }"#]),
        key(
            "sessionKey",
            ValueKind::Secret(r"^[\s\S]{32,}$"),
            Means("a new one at each start"),
            "Secret of at least 32 characters. With it, sessions of servers that are reached byte for byte survive a \
             restart and hold on every node that has the same key.",
        )
        .examples(&[r#"{ "$env": "SESSION_KEY" }"#]),
        key(
            "sessions",
            ValueKind::Object(&SESSIONS),
            Empty,
            "Sessions that the gateway keeps for clients of every server.",
        ),
        key(
            "trustedProxies",
            ValueKind::List(&TEXT),
            List(&[]),
            "Addresses or networks of balancers. From them, and from nobody else, `X-Forwarded-For` or PROXY protocol \
             version 2 names the client: in the log, and for [capacity](capacity.md). A balancer that sends neither is not to be \
             listed, or its clients could name themselves.",
        )
        .examples(&[r#"["10.0.0.0/8", "fd00::/8"]"#]),
        key(
            "aggregate",
            ValueKind::Object(&AGGREGATE),
            Empty,
            "How [all servers look as one](aggregate.md).",
        ),
        key(
            "stateDir",
            ValueKind::Path,
            Means("`$STATE_DIRECTORY`, which systemd sets, or else `state` beside the config"),
            "Directory for what the gateway keeps: logins of `auth.users`, the CA of `tls.selfSigned`. It is made if it is needed and \
             not there. For logins, nobody else may look into it.",
        )
        .examples(&[r#""/var/lib/sluicegate""#])
        .restart(""),
        key(
            "debug",
            ValueKind::Bool,
            Bool(false),
            "Serve `/debug` to the role `admin`, and at the admin listener: the config in force without its texts, connections, \
             sessions, processes, shares, recent lines of the log. Without it there is no such path. See \
             [debug](operate.md#debug).",
        ),
    ],
};

static TLS: Object = Object {
    name: "tls",
    doc: "HTTPS: `cert` and `key`, or `selfSigned`.",
    one_of: &[],
    keys: &[
        key("cert", ValueKind::Path, Nothing, "PEM file with the certificate and its chain.")
            .examples(&[r#""cert.pem""#]),
        key("key", ValueKind::Path, Nothing, "PEM file with the private key, not encrypted.")
            .examples(&[r#""key.pem""#]),
        key(
            "selfSigned",
            ValueKind::Bool,
            Bool(false),
            "Make a certificate instead, and renew it. Clients have to trust its CA, which is made once and kept in \
             `proxy.stateDir` as `ca/root.pem`: for development, and for networks of your own.",
        ),
    ],
};

static ADMIN: Object = Object {
    name: "admin",
    doc: "A listener for `/metrics` and `/servers`, in plain HTTP. It asks for no token on a loopback address. Elsewhere \
          every request but `/health` needs one, of the role `admin`, or `metrics` for `/metrics`.",
    one_of: &[],
    keys: &[key(
        "addr",
        ValueKind::Text(r":\d{1,5}$"),
        Required,
        "Address and port; a port alone is this machine only.",
    )
    .examples(&[r#""127.0.0.1:9090""#, r#""0.0.0.0:9090""#])
    .restart("")],
};

static LOG: Object = Object {
    name: "log",
    doc: "The log on standard output.",
    one_of: &[],
    keys: &[
        key("level", ValueKind::Word(&LEVELS), Text("info"), "Least severe level that is written."),
        key(
            "format",
            ValueKind::Word(&FORMATS),
            Means("`\"json\"`, and `\"text\"` on a terminal"),
            "Shape of a line. On a terminal, text has colours, unless `NO_COLOR` is set or `TERM` is `dumb`.",
        )
        .restart(""),
    ],
};

pub(in crate::config) static AUDIT: Object = Object {
    name: "audit",
    doc: "A line for each decision about who may do what. No line has a secret, an argument, a query or a body.",
    one_of: &[],
    keys: &[
        key(
            "file",
            ValueKind::Path,
            Means("lines go to the log, whatever its level"),
            "File that lines are appended to, in a directory that is there. If it is made, only its owner may read it. SIGHUP \
             has it opened again, after a program that rotates logs has moved it.",
        )
        .examples(&[r#""/var/log/sluicegate/audit.log""#]),
        key(
            "tools",
            ValueKind::Bool,
            Bool(false),
            "Name the tool that a call is for. Clients choose what they call a tool. Where [bytes pass](servers.md#transports), it \
             is read of the body as far as that is here before the server is asked: all of one of at most 64 KiB. Of a larger one \
             the name is known behind a [tool filter](servers.md#tool-filter), to callers that a tool rule keeps something from, \
             and if `Mcp-Method` and `Mcp-Name` say it; else there is none.",
        ),
    ],
};

static LEVELS: Words = Words {
    words: &[
        Word("debug", &[], "steps inside a request or a reload"),
        Word("info", &[], "requests and life of the process"),
        Word("warn", &["warning"], "something to mend that stops nobody yet"),
        Word("error", &[], "something failed"),
    ],
    otherwise: "is no level; use debug, info, warn or error",
};

static FORMATS: Words = Words {
    words: &[
        Word("json", &[], "one JSON object a line"),
        Word("text", &[], "`time LEVEL msg key=value …`, for a terminal"),
    ],
    otherwise: "is no format; use json or text",
};

static SESSIONS: Object = Object {
    name: "sessions",
    doc: "Sessions that the gateway keeps for clients of every server.",
    one_of: &[],
    keys: &[
        // Clients pause between two requests.
        key(
            "timeout",
            ValueKind::Duration(secs(1)),
            Duration(Server::IDLE_TIMEOUT),
            "`idleTimeout` of every server that has none of its own.",
        ),
        key(
            "cleanupInterval",
            ValueKind::Ignored,
            Nothing,
            "Accepted for configs of MCP Front, and without effect.",
        )
        .deprecated("sessions end on time without it"),
        key(
            "maxPerUser",
            count(0, u64::MAX),
            Nothing,
            "MCP Front's name for `limits.perCaller.sessions`; 0 is no limit.",
        )
        .deprecated("write `limits.perCaller.sessions`"),
    ],
};

static AGGREGATE: Object = Object {
    name: "aggregate",
    doc: "How the servers that a token may use look as one, at `/mcp`, `/sse` and `/message`.",
    one_of: &[],
    keys: &[
        key(
            "separator",
            ValueKind::Text("^[A-Za-z0-9_./-]{1,16}$"),
            Text("__"),
            "What stands between server and tool in `server__tool`: 1 to 16 letters, digits, `_`, `-`, `.` or `/`.",
        )
        .examples(&[r#""__""#, r#"".""#, r#""_1mcp_""#]),
        key("mode", ValueKind::Word(&MODES), Text("prefixed"), "What tools and prompts are called."),
        key(
            "onCollision",
            ValueKind::Word(&COLLISIONS),
            Text("error"),
            "What becomes of a flat name that two servers have.",
        ),
        key(
            "lazy",
            ValueKind::Bool,
            Bool(false),
            "Three tools, `tool_list`, `tool_schema` and `tool_invoke`, stand for all: they find, describe and call them.",
        ),
        key(
            "discoveryTimeout",
            TIMEOUT,
            Duration(secs(5)),
            "Longest wait for one server to begin or to list; the others answer without it then.",
        ),
    ],
};

static MODES: Words = Words {
    words: &[
        Word("prefixed", &[], "every name begins with its server's"),
        Word("flat", &[], "names are the servers' own"),
    ],
    otherwise: "is no mode; use one of \"prefixed\", \"flat\"",
};

static COLLISIONS: Words = Words {
    words: &[
        Word("error", &[], "neither is offered, and the log names both"),
        Word("first", &[], "the server that comes first in the file has it"),
        Word("prefix", &[], "both get a prefix"),
    ],
    otherwise: "is no rule; use one of \"error\", \"first\", \"prefix\"",
};
