//! `mcpServers.NAME`.

use super::{
    HEADER_NAME, LABEL, PROGRAM, TEXT,
    oauth::SCOPE,
    secs,
    upstream_auth::{AUTH_STRATEGY, REQUIRES_USER_TOKEN, SERVICE_AUTHS, UPSTREAM_AUTH_KEY},
};
use crate::config::table::key::{
    ANY,
    Absent::{Bool, Duration, Empty, List, Means, Nothing, Required},
    Names, Object, TIMEOUT, ValueKind, Word, Words, key,
};

/// What a server can be called. Reserved are the first segments of the paths in `endpoints::table`, which a test there holds
/// to this, and those of paths to come: a server of that name could not be reached.
pub(in crate::config) static SERVER_NAMES: Names = Names {
    pattern: "^[A-Za-z0-9_-]{1,64}$",
    reserved: &[
        "mcp",
        "sse",
        "message",
        "messages",
        "health",
        "status",
        "servers",
        "auth",
        "metrics",
        "debug",
        "oauth",
        "authorize",
        "token",
        "register",
        "revoke",
        "api",
        "my",
        ADMIN,
    ],
};

/// The last name that was reserved, when servers with it may have been there already.
pub(in crate::config) const ADMIN: &str = "admin";

/// Keys beside which alone others mean something.
pub(in crate::config) const URL: &str = "url";
pub(in crate::config) const COMMAND: &str = "command";

/// What a command sees of the gateway's environment unless `inheritEnv` says otherwise: enough to find programs, a home
/// and a language, and nothing that holds a secret.
pub const INHERITED: &[&str] =
    &["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR"];

pub(in crate::config) static SERVER: Object = Object {
    name: "server",
    doc: "One MCP server: a `url`, a `command` or `inline`, and who may use it. Without `authTokens`, `users`, `roles` and \
          `public`, any valid caller may.",
    one_of: &[URL, COMMAND, "inline"],
    keys: &[
        key(URL, ValueKind::Url, Nothing, "Endpoint of a server reached over HTTP or HTTPS.")
            .examples(&[r#""http://postgres-mcp:3000/sse""#]),
        key(
            COMMAND,
            PROGRAM,
            Nothing,
            "Program of this machine that speaks MCP on its standard input and output, see [local \
             commands](servers.md#local-commands). It is looked for in the `PATH` that it gets.",
        )
        .examples(&[r#""npx""#, r#""/usr/local/bin/notes-mcp""#]),
        key(
            "inline",
            ValueKind::Object(&INLINE),
            Nothing,
            "Tools that run commands, see [inline servers](servers.md#inline-servers).",
        ),
        key(
            "transportType",
            ValueKind::Word(&TRANSPORTS),
            Means(
                "`stdio` for a `command`, `inline` for `inline`, `sse` for a `url` that ends in `/sse`, else `streamable-http`",
            ),
            "What the server speaks.",
        )
        .also(&["type"]),
        key(
            "authTokens",
            ValueKind::List(&TEXT),
            Means("any token may, unless there is `users`"),
            "Names in `proxy.auth.tokens` that may use this server. `[]` lets no token in.",
        )
        .examples(&[r#"["dev", "ci"]"#]),
        key(
            "users",
            ValueKind::List(&TEXT),
            Means("any user may, unless there is `authTokens`"),
            "Names in `proxy.auth.users` that may use this server. `[]` lets no user in.",
        )
        .examples(&[r#"["alice"]"#]),
        key(
            "disabled",
            ValueKind::Bool,
            Bool(false),
            "The server is not served, as if it had been [stopped](operate.md#managing-servers). The rest of its entry has \
             to be good all the same.",
        ),
        key("public", ValueKind::Bool, Bool(false), "Anyone may use this server, without a token."),
        key(
            "roles",
            ValueKind::List(&LABEL),
            Means("no role is asked for"),
            "The caller must have one of these roles. `[]` lets nobody in.",
        )
        .examples(&[r#"["deploy"]"#]),
        key(
            "tools",
            ValueKind::Map { names: &TOOL_PATTERNS, of: &ValueKind::Object(&TOOL_RULE) },
            Empty,
            "Who may use which tools: the name of a tool, or a pattern in which `*` is any text, and what it asks for. Every \
             entry that fits a tool must be met. See [tool rules](servers.md#tool-rules).",
        )
        .examples(&[r#"{ "delete_*": { "roles": ["admin"] } }"#]),
        key(
            "tags",
            ValueKind::List(&LABEL),
            List(&[]),
            "Tags of this server, by which [`?tags=`](aggregate.md) selects, and `tags` of callers limit them.",
        ),
        key(
            "timeout",
            TIMEOUT,
            Means("`proxy.limits.upstreamTimeout`"),
            "Longest wait for the response head. Where [messages pass](servers.md#transports), for the answer, which \
             without this may be a stream that takes longer.",
        )
        .examples(&[r#""90s""#]),
        key("keepAlive", ValueKind::Duration(secs(0)), Means("`proxy.keepAlive`"), "The same of this server's event streams.")
            .examples(&[r#""50s""#]),
        key(
            "idleTimeout",
            ValueKind::Duration(secs(1)),
            Means("`proxy.sessions.timeout`"),
            "How long a session that the gateway keeps may be without a request or stream. Then it ends, and with it the \
             process of a `command`.",
        )
        .examples(&[r#""10m""#]),
        key(
            "headers",
            ValueKind::Map { names: &HEADER_NAMES, of: &ValueKind::SecretOrToken(r"^[\t -~]*$") },
            Empty,
            "Headers to add to every request; they replace the client's. Those that the gateway sets itself cannot be set \
             (`Host`, `Content-Type`, `Accept`, `Mcp-*` and the like). With `$userToken`, the token of whoever calls stands in it, see \
             [credentials](credentials.md).",
        )
        .beside(URL)
        .examples(&[r#"{ "Authorization": "Bearer ${API_KEY}" }"#]),
        key(
            "caFile",
            ValueKind::Path,
            Means("the system's"),
            "PEM certificates to trust in place of the system's.",
        )
        .beside(URL)
        .examples(&[r#""ca.pem""#]),
        key(
            "passQuery",
            ValueKind::Bool,
            Means("`true` if `url` has no query"),
            "Whether the query of a caller's URL goes on to the server, without the parameters that `url` has.",
        )
        .beside(URL),
        key(
            "passLastEventId",
            ValueKind::Bool,
            Means("`true` if only one token may use the server"),
            "Whether a caller's `Last-Event-ID` goes on to the server. Say `true` if the server gives the events of a \
             stream only to the session that they were made for; see [what does not \
             pass](http.md#what-does-not-pass).",
        )
        .beside(URL),
        key(
            "cookies",
            ValueKind::Bool,
            Bool(false),
            "Whether the server may set cookies at its callers, for its own paths, and get them back; see [what does not \
             pass](http.md#what-does-not-pass).",
        )
        .beside(URL),
        UPSTREAM_AUTH_KEY,
        AUTH_STRATEGY,
        REQUIRES_USER_TOKEN,
        SERVICE_AUTHS,
        key("args", ValueKind::List(&TEXT), List(&[]), "Arguments, one an entry; there is no shell.")
            .beside(COMMAND)
            .examples(&[r#"["-y", "notes-mcp"]"#]),
        key(
            "env",
            ValueKind::Map { names: &VARIABLE_NAMES, of: &ValueKind::SecretOrToken(VARIABLE) },
            Empty,
            "Environment variables, besides those of `inheritEnv`. With `$userToken`, the token of whoever calls stands in it: then \
             each caller has processes of their own, see [credentials](credentials.md).",
        )
            .beside(COMMAND)
            .examples(&[r#"{ "ROOT": "/data" }"#]),
        key("cwd", ValueKind::Path, Means("the gateway's"), "Working directory, relative to the config.")
            .beside(COMMAND)
            .examples(&[r#""notes""#]),
        key(
            "inheritEnv",
            ValueKind::List(&TEXT),
            List(INHERITED),
            "Variables of the gateway's own environment that the program may see; a list takes the place of the defaults.",
        )
        .beside(COMMAND),
        key(
            "warm",
            ValueKind::Bool,
            Bool(false),
            "Whether the program is started once with the gateway, and ended when it has answered: so that what it installs \
             first (`npx`, `uvx`) is there when somebody comes.",
        )
        .beside(COMMAND),
        key("options", ValueKind::Object(&OPTIONS), Empty, "The tool filter, and another place for `authTokens`."),
    ],
};

static TRANSPORTS: Words = Words {
    words: &[
        Word(
            "streamable-http",
            &["http", "streamableHttp", "streamable", "streamable_http"],
            "MCP over HTTP at one endpoint",
        ),
        Word(
            "sse",
            &[],
            "MCP over HTTP as in version 2024-11-05, with an event stream and a message endpoint",
        ),
        Word("stdio", &[], "MCP on the standard streams of a `command`"),
        Word("inline", &[], "tools of the config"),
    ],
    otherwise: "is no transport; use \"streamable-http\", \"sse\", \"stdio\" or \"inline\"",
};

static HEADER_NAMES: Names = Names { pattern: HEADER_NAME, reserved: &[] };

const VARIABLES: ValueKind = ValueKind::Map { names: &VARIABLE_NAMES, of: &ValueKind::Secret(VARIABLE) };
const VARIABLE: &str = r"^[^\u0000]*$";
static VARIABLE_NAMES: Names = Names { pattern: r"^[^=\u0000]+$", reserved: &[] };

static OPTIONS: Object = Object {
    name: "options",
    doc: "The tool filter, and another place for `authTokens`.",
    one_of: &[],
    keys: &[
        key(
            "authTokens",
            ValueKind::List(&TEXT),
            Nothing,
            "Another place for the server's own `authTokens`.",
        ),
        key(
            "toolFilter",
            ValueKind::Object(&TOOL_FILTER),
            Nothing,
            "Hides tools of this server: they are on no list, and calls of them do not reach it. See [tool \
             filter](servers.md#tool-filter).",
        ),
    ],
};

static TOOL_FILTER: Object = Object {
    name: "toolFilter",
    doc: "Which tools of a server exist for clients.",
    one_of: &[],
    keys: &[
        key("mode", ValueKind::Word(&FILTER_MODES), Required, "What the list is of.")
            .examples(&[r#""allow""#]),
        key("list", ValueKind::List(&ValueKind::Text(r"^[\s\S]+$")), Required, "Names of tools, exactly.")
            .examples(&[r#"["search", "read"]"#]),
    ],
};

static FILTER_MODES: Words = Words {
    words: &[Word("allow", &[], "only the tools on the list exist"), Word("block", &[], "all but those do")],
    otherwise: "is no mode; use \"allow\" or \"block\"",
};

static TOOL_PATTERNS: Names = Names { pattern: r"^[\s\S]+$", reserved: &[] };

pub(in crate::config) static TOOL_RULE: Object = Object {
    name: "toolRule",
    doc: "What the tools of a name or pattern ask for.",
    one_of: &[],
    keys: &[
        key(
            "roles",
            ValueKind::List(&LABEL),
            Means("no role is asked for"),
            "The caller must have one of these roles. `[]` keeps the tools from everybody.",
        )
        .examples(&[r#"["admin"]"#]),
        key(
            "users",
            ValueKind::List(&TEXT),
            Means("no user is asked for"),
            "The caller must be one of these users. `[]` keeps the tools from everybody.",
        )
        .examples(&[r#"["alice"]"#]),
        key(
            "scopes",
            ValueKind::List(&SCOPE),
            Means("no scope is asked for"),
            "A client of [OAuth](identity.md) must have been allowed all of these, besides what opens the server. Else a call is 403 and \
             says so, so that the client can ask for them. Whoever comes by a token of the config or a session token has every scope.",
        )
        .examples(&[r#"["files:write"]"#]),
        key(
            "hide",
            ValueKind::Bool,
            Bool(true),
            "Whether the tool is as if it did not exist for whoever may not use it. With `false` it is listed, and a call of \
             it is 403 and says what it requires.",
        ),
    ],
};

static INLINE: Object = Object {
    name: "inline",
    doc: "Tools that run a command for each call, never through a shell. See [inline \
          servers](servers.md#inline-servers).",
    one_of: &[],
    keys: &[
        key(
            "description",
            ValueKind::Text(ANY),
            Nothing,
            "What the tools are for, as a whole; clients show it to the model.",
        ),
        key(
            "tools",
            ValueKind::List(&ValueKind::Object(&INLINE_TOOL)),
            Required,
            "The tools, each of a name of its own. At most 16 of their commands run at a time.",
        )
        .examples(&[r#"[{ "name": "uptime", "command": "uptime" }]"#]),
    ],
};

pub(in crate::config) static INLINE_TOOL: Object = Object {
    name: "tool",
    doc: "One tool and its command.",
    one_of: &[],
    keys: &[
        key(
            "name",
            ValueKind::Text("^[A-Za-z0-9_./-]{1,128}$"),
            Required,
            "What clients call it: 1 to 128 letters, digits, `_`, `-`, `.` or `/`.",
        )
        .examples(&[r#""history""#]),
        key("description", ValueKind::Text(ANY), Nothing, "What it does, for the model that chooses it."),
        key(
            "inputSchema",
            ValueKind::JsonSchema,
            Means("there are no arguments"),
            "JSON Schema of its arguments, of the type `object`: draft 2020-12, unless its `$schema` names an older one. \
             It may refer only to itself.",
        )
        .examples(&[r#"{ "type": "object", "properties": { "path": { "type": "string" } } }"#]),
        key("command", PROGRAM, Required, "Program to run.").examples(&[r#""git""#]),
        key(
            "args",
            ValueKind::List(&ValueKind::Text(r"^[^\u0000]*$")),
            List(&[]),
            "Its arguments. `{{name}}` is replaced by what the caller gives for that property; an argument for which \
             nothing is given is left out.",
        )
        .examples(&[r#"["log", "--max-count={{limit}}", "--", "{{path}}"]"#]),
        key(
            "env",
            VARIABLES,
            Empty,
            "Its environment, besides the variables that every command inherits (`PATH`, `HOME` and others that hold no \
             secret).",
        )
        .examples(&[r#"{ "GIT_PAGER": "cat" }"#]),
        // What people wait for an answer.
        key(
            "timeout",
            TIMEOUT,
            Duration(secs(30)),
            "After this the command is killed, and the call fails.",
        ),
    ],
};
