//! `mcpServers.NAME`.

use std::time::Duration;

use super::{InlineKeys, gate::HTTP};
use crate::config::{
    key::{
        FLAT, Flat, Given, HERE, Here, Label, MILLISECOND, Map, NONE, PathText, Variant, VariantKey, duration, key, keys, list,
        or, required, secs, words,
    },
    reader::Text,
    servers::check_program,
};

keys! {
    /// One MCP server: a `url`, a `command` or `inline`, and who may use it. Without `authTokens`, `roles` and `public`,
    /// any valid token may.
    pub(crate) struct ServerKeys has one of "url", "command", "inline" {
        pub(crate) here: Here = HERE,
        pub(crate) http: Variant<UrlKeys> = VariantKey("url"),
        pub(crate) stdio: Variant<CommandKeys> = VariantKey("command"),
        /// Tools that run commands, see [inline servers](../README.md#inline-servers).
        pub(crate) inline: Given<InlineKeys> = key("inline", NONE),
        /// What the server speaks.
        pub(crate) transport: Given<TransportType> = key(
            "transportType",
            or("`stdio` for a `command`, `inline` for `inline`, `sse` for a `url` that ends in `/sse`, else `streamable-http`"),
        )
        .or_as(&["type"]),
        /// Names in `proxy.auth.tokens` that may use this server. `[]` lets nobody in.
        pub(crate) auth_tokens: Given<Vec<Text>> = key("authTokens", or("any valid token may"))
            .examples(&[r#"["dev", "ci"]"#]),
        /// The caller's token must have one of these roles. `[]` lets nobody in.
        pub(crate) roles: Given<Vec<Label>> = key("roles", or("no role is asked for"))
            .examples(&[r#"["deploy"]"#]),
        /// Anyone may use this server, without a token.
        pub(crate) public: bool = key("public", false),
        /// Tags of this server, by which [`?tags=`](../README.md#all-servers-as-one) selects.
        pub(crate) tags: Vec<Label> = list("tags", &[]),
        pub(crate) settings: Flat<ServerSettings> = FLAT,
        /// How long a session that the gate keeps may be without a request or stream. Then it ends, and with it the
        /// process of a `command`.
        pub(crate) idle_timeout: Option<Duration> =
            duration("idleTimeout", secs(1), or("`proxy.sessions.timeout`")),
        /// The tool filter, and another place for `authTokens`.
        pub(crate) options: Option<OptionsKeys> = key("options", NONE),
    }
}

keys! {
    /// Keys of a server that depend on nothing else.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct ServerSettings {
        /// Longest wait for the response head. Where [messages pass](../README.md#any-transport), for the answer, which
        /// without this may be a stream that takes longer.
        pub timeout: Option<Duration> = duration("timeout", MILLISECOND, or("`proxy.limits.upstreamTimeout`")),
    }
}

keys! {
    /// A server reached over HTTP.
    pub(crate) struct UrlKeys {
        /// Endpoint of a server reached over HTTP or HTTPS.
        pub(crate) url: Given<Text> = key("url", NONE)
            .pattern(HTTP)
            .examples(&[r#""http://postgres-mcp:3000/sse""#]),
        /// Headers to add to every request; they replace the client's.
        pub(crate) headers: Map<Text> = key("headers", ())
            .examples(&[r#"{ "Authorization": "Bearer ${API_KEY}" }"#]),
        /// PEM certificates to trust in place of the system's.
        pub(crate) ca_file: Given<PathText> = key("caFile", or("the system's")).examples(&[r#""ca.pem""#]),
        /// Whether the query of a caller's URL goes on to the server, without the parameters that `url` has.
        pub(crate) pass_query: Option<bool> = key("passQuery", or("true if `url` has no query")),
        /// Whether the server may set cookies at its callers, for its own paths, and get them back; see
        /// [what does not pass](../README.md#what-does-not-pass).
        pub(crate) cookies: bool = key("cookies", false),
    }
}

/// What a command sees of the gate's environment unless `inheritEnv` says otherwise: enough to find programs, a home
/// and a language, and nothing that holds a secret.
pub const INHERITED: &[&str] =
    &["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR"];

keys! {
    /// A local command.
    pub(crate) struct CommandKeys {
        /// Program that speaks MCP on its standard input and output, see [local commands](../README.md#local-commands). It is
        /// looked for in the `PATH` that it gets.
        pub(crate) command: Given<Text> = key("command", NONE)
            .examples(&[r#""npx""#, r#""/usr/local/bin/notes-mcp""#])
            .check(check_program),
        /// Arguments, one an entry; there is no shell.
        pub(crate) args: Vec<Text> = list("args", &[]).examples(&[r#"["-y", "notes-mcp"]"#]),
        /// Environment variables, besides those of `inheritEnv`.
        pub(crate) env: Map<Text> = key("env", ()).examples(&[r#"{ "ROOT": "/data" }"#]),
        /// Working directory, relative to the config.
        pub(crate) cwd: Given<PathText> = key("cwd", or("the gate's")),
        /// Variables of the gate's own environment that the program may see.
        pub(crate) inherit_env: Vec<Text> = list("inheritEnv", INHERITED),
    }
}

words! {
    /// What a server speaks.
    pub(crate) enum TransportType: "transport" {
        /// MCP over HTTP at one endpoint.
        StreamableHttp = "streamable-http" | "streamableHttp" | "streamable" | "http",
        /// MCP over HTTP as in version 2024-11-05, with an event stream and a message endpoint.
        Sse = "sse",
        /// MCP on the standard streams of a `command`.
        Stdio = "stdio",
        /// Tools of the config, see `inline`.
        Inline = "inline",
    }
}

keys! {
    /// The tool filter, and another place for `authTokens`.
    pub(crate) struct OptionsKeys {
        /// Another place for the server's own `authTokens`.
        pub(crate) auth_tokens: Given<Vec<Text>> = key("authTokens", NONE),
        /// Hides tools of this server: they are on no list, and calls of them do not reach it. See
        /// [tool filter](../README.md#tool-filter).
        pub(crate) tool_filter: Option<ToolFilterKeys> = key("toolFilter", NONE),
    }
}

keys! {
    /// Which tools of a server exist for clients.
    pub(crate) struct ToolFilterKeys {
        /// What the list is of.
        pub(crate) mode: Given<FilterMode> = key("mode", required(r#"write "allow" or "block""#))
            .examples(&[r#""allow""#]),
        /// Names of tools, exactly.
        pub(crate) list: Given<Vec<Text>> = key("list", required(r#"name tools, as in ["search", "read"]"#))
            .examples(&[r#"["search", "read"]"#]),
    }
}

words! {
    /// What a tool filter does with its list.
    pub(crate) enum FilterMode: "mode" {
        /// Only the tools on the list exist.
        Allow = "allow",
        /// All but those do.
        Block = "block",
    }
}
