//! What is served where, to whom and how: the table of all endpoints. A new endpoint is a row here, an arm in [`find`],
//! and a function that answers. Tests hold [`find`] and the names that no server can have to the table.
//!
//! Paths match exactly; one trailing slash changes nothing.

use http::{Method, Response};

use crate::{
    body::Payload,
    config::Snapshot,
    downstream::connection::ListenerKind,
    endpoints::{EndpointRequest, debug, manage, metrics, probe},
    error::Error,
    policy::decide::ManageAsk,
};

/// A row of the table.
pub struct Endpoint {
    /// Where: `{server}` is one segment, and `*` is what is left, if anything. In front, `{server}` is no word that
    /// another row begins with.
    pub paths: &'static [&'static str],
    /// What is served there.
    pub methods: Methods,
    /// Who may have it at the public listener.
    public: Who,
    /// Who may have it at an admin listener that others than this machine can connect to.
    admin: Who,
    /// Which sites it serves at the public listener. The admin listener serves its own pages only.
    pub sites: Sites,
    /// Whether its requests are worth a line of the log each.
    pub log: LogRule,
    /// What answers.
    pub answer: Answer,
}

/// Methods, some of which may be for some versions of MCP only.
#[derive(Clone, Copy)]
pub struct Methods {
    /// As `Allow` has them (RFC 9110 §10.2.1).
    pub allow: &'static str,
    list: &'static [Method],
}

impl Methods {
    const READ: Self = Self { allow: "GET, HEAD", list: &[Method::GET, Method::HEAD] };
    const ACT: Self = Self { allow: "POST", list: &[Method::POST] };
    const PAGE: Self = Self { allow: "GET, HEAD, POST", list: &[Method::GET, Method::HEAD, Method::POST] };
    const EVENTS: Self = Self { allow: "GET, OPTIONS", list: &[Method::GET, Method::OPTIONS] };
    const MESSAGE: Self = Self { allow: "POST, OPTIONS", list: &[Method::POST, Method::OPTIONS] };
    const MCP: Self = Self {
        allow: "GET, POST, DELETE, OPTIONS",
        list: &[Method::GET, Method::POST, Method::DELETE, Method::OPTIONS],
    };

    /// Whether `method` is one of them.
    pub fn have(self, method: &Method) -> bool {
        self.list.contains(method)
    }
}

/// Who may have something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Everybody. No token is asked for.
    Anyone,
    /// Whoever the server's own rule admits.
    Server,
    /// Whoever may have this of the gateway itself.
    Manage(ManageAsk),
    /// Everybody, if there are users who may log in. No token is asked for then; without users it is hidden.
    Guest,
    /// No caller. As everywhere, a token is asked for before the answer shows that.
    Hidden,
    /// Nobody, and no token is asked for: clients would take the challenge for a login that there is.
    Nobody,
}

/// Whom the public listener serves, by `Host` and `Origin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sites {
    /// Everybody. Load balancers and kubelets use addresses for host names, and learn nothing.
    Any,
    /// Those of `proxy.allowedHosts` and `proxy.allowedOrigins`. Browsers may ask first, by `OPTIONS`.
    Listed,
    /// Those of `proxy.allowedHosts`, and pages of every origin, which may read the answer. Browsers may ask first. Nothing here
    /// reads a cookie, so that a page gets what anybody gets.
    Open,
    /// Those of `proxy.allowedHosts`. It is a page of the gateway's own, whose forms are sent by its own pages only.
    OwnPage,
}

/// How a request is logged that is not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogRule {
    /// On the level `debug`: it is for the gateway itself.
    Debug,
    /// On the level `info`.
    Info,
}

/// What answers, and with what it does so.
#[derive(Clone, Copy)]
pub enum Answer {
    /// The gateway, which reads no body.
    Gateway(fn(&EndpointRequest<'_>) -> Result<Response<Payload>, Error>),
    /// The gateway, which reads the body: users log in and out.
    Login(LoginEndpoint),
    /// The gateway as an authorization server, if the config makes it one.
    Oauth(OauthEndpoint),
    /// The server that the path names, or the aggregate where it names none. The body of a POST is one message.
    Mcp(McpEndpoint),
    /// Nothing.
    Nothing,
}

/// The endpoints at which users log in and out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginEndpoint {
    /// `/auth/login`: a password for tokens.
    Login,
    /// `/auth/refresh`: a refresh token for the next ones.
    Refresh,
    /// `/auth/logout`: the end of both.
    Logout,
    /// `/auth`: a login as Atrax has it.
    Atrax,
}

/// The endpoints of the gateway as an authorization server, and as the resource server of its tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OauthEndpoint {
    /// What a place is, and who issues tokens for it (RFC 9728).
    ResourceMetadata,
    /// What the authorization server can do (RFC 8414).
    ServerMetadata,
    /// Metadata that there is not.
    NoMetadata,
    /// `/authorize`: a client sends its user here.
    Authorize,
    /// `/token`: a code or a refresh token for the next ones.
    Token,
    /// `/register`: a client says who it is (RFC 7591).
    Register,
    /// `/revoke`: the end of a grant (RFC 7009).
    Revoke,
    /// `/oauth/introspect`: what a token is (RFC 7662).
    Introspect,
    /// `/oauth/login`: the page at which users log in.
    LogIn,
    /// `/oauth/callback`: the identity provider, or the issuer of a server's accounts, sends a browser back.
    Callback,
    /// `/oauth/consent`: the page at which they allow a client something.
    Consent,
    /// `/oauth/logout`: the end of a login of pages.
    LogOut,
    /// `/oauth`: what a user has allowed.
    Dashboard,
    /// `/oauth/grants/ID/revoke`: the end of one of those.
    RevokeGrant,
    /// `/oauth/authorize`: somebody connects an account of theirs at a server.
    Connect,
    /// `/oauth/connect`: the same, as MCP Front has it.
    ConnectElsewhere,
    /// `/oauth/approve`: they keep what was granted to them, or do not.
    Approve,
    /// `/oauth/success`: an account is connected.
    Connected,
    /// `/oauth/error`: none is.
    NotConnected,
    /// `/oauth/disconnect`: the end of a connection, or of a token that somebody entered.
    Disconnect,
    /// `/my/tokens/set`: somebody enters a token of theirs at a server.
    SetToken,
    /// `/oauth/client.json`, `/oauth/jwks.json`: who the gateway is to the issuers of servers' accounts.
    ClientDocument,
}

impl OauthEndpoint {
    /// Whether browsers are shown pages there.
    pub fn is_page(self) -> bool {
        matches!(
            self,
            Self::Authorize
                | Self::LogIn
                | Self::Callback
                | Self::Consent
                | Self::LogOut
                | Self::Dashboard
                | Self::RevokeGrant
        )
    }

    /// Whether clients look there for a login at any server, so that there is no challenge where there is none.
    fn is_looked_for(self) -> bool {
        matches!(
            self,
            Self::ResourceMetadata
                | Self::ServerMetadata
                | Self::NoMetadata
                | Self::Authorize
                | Self::Token
                | Self::Register
        )
    }
}

/// The endpoints of a server, or of all servers as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum McpEndpoint {
    /// `/{server}` and `/{server}/mcp`: Streamable HTTP.
    Mcp,
    /// `/{server}/sse`: the event stream of HTTP+SSE.
    Sse,
    /// `/{server}/message`: messages of HTTP+SSE.
    Message,
}

macro_rules! endpoints {
    ($($name:ident: $paths:expr, $methods:ident, $public:expr, $admin:expr, $sites:ident, $log:ident, $answer:expr;)*) => {
        $(static $name: Endpoint = Endpoint {
            paths: &$paths,
            methods: Methods::$methods,
            public: $public,
            admin: $admin,
            sites: Sites::$sites,
            log: LogRule::$log,
            answer: $answer,
        };)*

        /// The table.
        pub static ENDPOINTS: &[&Endpoint] = &[$(&$name),*];
    };
}

use Answer::{Gateway, Login, Mcp, Nothing, Oauth};
use Who::{Anyone, Guest, Hidden, Nobody, Server};
const SCRAPER: Who = Who::Manage(ManageAsk::Metrics);
const OPERATOR: Who = Who::Manage(ManageAsk::Servers);
const DEBUGGER: Who = Who::Manage(ManageAsk::Debug);

// Of each: paths; methods; who may have it at the public listener, and at a remote admin listener; sites; log; answer.
endpoints! {
    HEALTH: ["/health", "/health/live"], READ, Anyone, Anyone, Any, Debug, Gateway(probe::health);
    READY: ["/health/ready"], READ, Anyone, Anyone, Any, Debug, Gateway(probe::ready);
    STATUS: ["/status"], READ, Anyone, OPERATOR, Any, Debug, Gateway(probe::status);
    METRICS: ["/metrics"], READ, SCRAPER, SCRAPER, Listed, Debug, Gateway(metrics::text_format);
    SERVERS: ["/servers"], READ, OPERATOR, OPERATOR, Listed, Debug, Gateway(manage::list);
    ONE_SERVER: ["/servers/{server}"], READ, OPERATOR, OPERATOR, Listed, Debug, Gateway(manage::show);
    START: ["/servers/{server}/start"], ACT, OPERATOR, OPERATOR, Listed, Debug, Gateway(manage::start);
    STOP: ["/servers/{server}/stop"], ACT, OPERATOR, OPERATOR, Listed, Debug, Gateway(manage::stop);
    RESTART: ["/servers/{server}/restart"], ACT, OPERATOR, OPERATOR, Listed, Debug, Gateway(manage::restart);
    DEBUG: ["/debug"], READ, DEBUGGER, DEBUGGER, Listed, Debug, Gateway(debug::index);
    DEBUG_CONFIG: ["/debug/config"], READ, DEBUGGER, DEBUGGER, Listed, Debug, Gateway(debug::config);
    DEBUG_CONNECTIONS: ["/debug/connections"], READ, DEBUGGER, DEBUGGER, Listed, Debug, Gateway(debug::connections);
    DEBUG_SESSIONS: ["/debug/sessions"], READ, DEBUGGER, DEBUGGER, Listed, Debug, Gateway(debug::sessions);
    DEBUG_PROCESSES: ["/debug/processes"], READ, DEBUGGER, DEBUGGER, Listed, Debug, Gateway(debug::processes);
    DEBUG_LEDGER: ["/debug/ledger"], READ, DEBUGGER, DEBUGGER, Listed, Debug, Gateway(debug::ledger);
    DEBUG_LOG: ["/debug/log"], READ, DEBUGGER, DEBUGGER, Listed, Debug, Gateway(debug::log);

    LOG_IN: ["/auth/login"], ACT, Guest, Hidden, Listed, Info, Login(LoginEndpoint::Login);
    REFRESH: ["/auth/refresh"], ACT, Guest, Hidden, Listed, Info, Login(LoginEndpoint::Refresh);
    LOG_OUT: ["/auth/logout"], ACT, Guest, Hidden, Listed, Info, Login(LoginEndpoint::Logout);
    AUTH: ["/auth"], ACT, Guest, Hidden, Listed, Info, Login(LoginEndpoint::Atrax);

    RESOURCE_METADATA: ["/.well-known/oauth-protected-resource/*"], READ, Anyone, Hidden, Open, Debug,
        Oauth(OauthEndpoint::ResourceMetadata);
    SERVER_METADATA: ["/.well-known/oauth-authorization-server"], READ, Anyone, Hidden, Open, Debug,
        Oauth(OauthEndpoint::ServerMetadata);
    NO_METADATA: METADATA_PATHS, READ, Anyone, Hidden, Open, Info, Oauth(OauthEndpoint::NoMetadata);
    AUTHORIZE: ["/authorize"], READ, Anyone, Hidden, OwnPage, Info, Oauth(OauthEndpoint::Authorize);
    TOKEN: ["/token"], ACT, Anyone, Hidden, Open, Info, Oauth(OauthEndpoint::Token);
    REGISTER: ["/register"], ACT, Anyone, Hidden, Open, Info, Oauth(OauthEndpoint::Register);
    REVOKE: ["/revoke"], ACT, Anyone, Hidden, Open, Info, Oauth(OauthEndpoint::Revoke);
    INTROSPECT: ["/oauth/introspect"], ACT, Anyone, Hidden, Listed, Info, Oauth(OauthEndpoint::Introspect);
    LOGIN_PAGE: ["/oauth/login"], PAGE, Anyone, Hidden, OwnPage, Info, Oauth(OauthEndpoint::LogIn);
    CALLBACK: ["/oauth/callback/*"], READ, Anyone, Hidden, OwnPage, Info, Oauth(OauthEndpoint::Callback);
    CONSENT: ["/oauth/consent"], PAGE, Anyone, Hidden, OwnPage, Info, Oauth(OauthEndpoint::Consent);
    LOG_OUT_PAGE: ["/oauth/logout"], ACT, Anyone, Hidden, OwnPage, Info, Oauth(OauthEndpoint::LogOut);
    DASHBOARD: ["/oauth", "/oauth/services", "/my/tokens"], READ, Anyone, Hidden, OwnPage, Info, Oauth(OauthEndpoint::Dashboard);
    GRANTS: ["/oauth/grants/*"], ACT, Anyone, Hidden, OwnPage, Info, Oauth(OauthEndpoint::RevokeGrant);
    CONNECT: ["/oauth/authorize/*"], PAGE, Anyone, Hidden, OwnPage, Info, Oauth(OauthEndpoint::Connect);
    CONNECT_ELSEWHERE: ["/oauth/connect"], READ, Anyone, Hidden, OwnPage, Info, Oauth(OauthEndpoint::ConnectElsewhere);
    APPROVE: ["/oauth/approve"], ACT, Anyone, Hidden, OwnPage, Info, Oauth(OauthEndpoint::Approve);
    CONNECTED: ["/oauth/success"], READ, Anyone, Hidden, OwnPage, Info, Oauth(OauthEndpoint::Connected);
    NOT_CONNECTED: ["/oauth/error"], READ, Anyone, Hidden, OwnPage, Info, Oauth(OauthEndpoint::NotConnected);
    DISCONNECT: ["/oauth/disconnect", "/my/tokens/delete"], ACT, Anyone, Hidden, OwnPage, Info,
        Oauth(OauthEndpoint::Disconnect);
    SET_TOKEN: ["/my/tokens/set"], ACT, Anyone, Hidden, OwnPage, Info, Oauth(OauthEndpoint::SetToken);
    CLIENT_DOCUMENT: ["/oauth/client.json", "/oauth/jwks.json"], READ, Anyone, Hidden, Open, Debug, Oauth(OauthEndpoint::ClientDocument);

    ALL_MCP: ["/mcp"], MCP, Server, Hidden, Listed, Info, Mcp(McpEndpoint::Mcp);
    ALL_SSE: ["/sse"], EVENTS, Server, Hidden, Listed, Info, Mcp(McpEndpoint::Sse);
    ALL_MESSAGE: ["/message"], MESSAGE, Server, Hidden, Listed, Info, Mcp(McpEndpoint::Message);
    MCP: ["/{server}", "/{server}/mcp"], MCP, Server, Hidden, Listed, Info, Mcp(McpEndpoint::Mcp);
    SSE: ["/{server}/sse"], EVENTS, Server, Hidden, Listed, Info, Mcp(McpEndpoint::Sse);
    MESSAGE: ["/{server}/message"], MESSAGE, Server, Hidden, Listed, Info, Mcp(McpEndpoint::Message);

    NO_LOGIN: ["/"], MCP, Nobody, Hidden, Listed, Info, Nothing;
    UNKNOWN: ["*"], MCP, Hidden, Hidden, Listed, Info, Nothing;
}

/// At which clients look for metadata that there is not.
const METADATA_PATHS: [&str; 3] =
    ["/.well-known/oauth-authorization-server/*", "/.well-known/openid-configuration/*", "/.well-known/*"];

/// What is served at a path.
#[derive(Clone, Copy)]
pub struct FoundEndpoint<'a> {
    /// The row of the table.
    pub endpoint: &'static Endpoint,
    /// What the path has for `{server}`. Whether there is such a server is not known yet.
    pub server: Option<&'a str>,
}

/// Longest segment that means anything: a server's name has at most as many bytes.
pub(super) const LONGEST: usize = 64;
/// Longest path that leads anywhere: what it is made of are at most three segments.
const LONGEST_PATH: usize = 4 * (LONGEST + 1);

/// Finds what is served at `path`: one look at the first segment, and at what follows.
pub fn find(path: &str) -> FoundEndpoint<'_> {
    let found = |endpoint| FoundEndpoint { endpoint, server: None };
    // A stranger's path may have 8 KiB, none of which is worth a look.
    if path.len() > LONGEST_PATH {
        return found(if path.starts_with("/.well-known/") { &NO_METADATA } else { &UNKNOWN });
    }
    // An array: a search for one character costs more than a path of this length has.
    let mut segments = path.strip_suffix('/').unwrap_or(path).split(['/']).skip(1);
    let first = segments.next();
    let (second, third, fourth) = (segments.next(), segments.next(), segments.next());
    if fourth.is_some() && first != Some(".well-known") && first != Some("oauth") {
        return found(&UNKNOWN);
    }
    let of_server = |endpoint, server| FoundEndpoint { endpoint, server: Some(server) };
    match (first.unwrap_or_default(), second, third) {
        ("health", None | Some("live"), None) => found(&HEALTH),
        ("health", Some("ready"), None) => found(&READY),
        ("status", None, None) => found(&STATUS),
        ("metrics", None, None) => found(&METRICS),
        ("servers", None, None) => found(&SERVERS),
        ("servers", Some(server), None) => of_server(&ONE_SERVER, server),
        ("servers", Some(server), Some("start")) => of_server(&START, server),
        ("servers", Some(server), Some("stop")) => of_server(&STOP, server),
        ("servers", Some(server), Some("restart")) => of_server(&RESTART, server),
        ("debug", None, None) => found(&DEBUG),
        ("debug", Some("config"), None) => found(&DEBUG_CONFIG),
        ("debug", Some("connections"), None) => found(&DEBUG_CONNECTIONS),
        ("debug", Some("sessions"), None) => found(&DEBUG_SESSIONS),
        ("debug", Some("processes"), None) => found(&DEBUG_PROCESSES),
        ("debug", Some("ledger"), None) => found(&DEBUG_LEDGER),
        ("debug", Some("log"), None) => found(&DEBUG_LOG),
        ("auth", Some("login"), None) => found(&LOG_IN),
        ("auth", Some("refresh"), None) => found(&REFRESH),
        ("auth", Some("logout"), None) => found(&LOG_OUT),
        ("auth", None, None) => found(&AUTH),
        ("mcp", None, None) => found(&ALL_MCP),
        ("sse", None, None) => found(&ALL_SSE),
        ("message", None, None) => found(&ALL_MESSAGE),
        (".well-known", Some("oauth-protected-resource"), _) => found(&RESOURCE_METADATA),
        (".well-known", Some("oauth-authorization-server"), None) => found(&SERVER_METADATA),
        (".well-known", ..) => found(&NO_METADATA),
        ("authorize", None, None) => found(&AUTHORIZE),
        ("token", None, None) => found(&TOKEN),
        ("register", None, None) => found(&REGISTER),
        ("revoke", None, None) => found(&REVOKE),
        ("oauth", Some("introspect"), None) => found(&INTROSPECT),
        ("oauth", Some("login"), None) => found(&LOGIN_PAGE),
        ("oauth", Some("callback"), _) => found(&CALLBACK),
        ("oauth", Some("consent"), None) => found(&CONSENT),
        ("oauth", Some("logout"), None) => found(&LOG_OUT_PAGE),
        ("oauth", None | Some("services"), None) | ("my", Some("tokens"), None) => found(&DASHBOARD),
        ("oauth", Some("authorize"), _) => found(&CONNECT),
        ("oauth", Some("connect"), None) => found(&CONNECT_ELSEWHERE),
        ("oauth", Some("approve"), None) => found(&APPROVE),
        ("oauth", Some("success"), None) => found(&CONNECTED),
        ("oauth", Some("error"), None) => found(&NOT_CONNECTED),
        ("oauth", Some("disconnect"), None) | ("my", Some("tokens"), Some("delete")) => found(&DISCONNECT),
        ("my", Some("tokens"), Some("set")) => found(&SET_TOKEN),
        ("oauth", Some("client.json" | "jwks.json"), None) => found(&CLIENT_DOCUMENT),
        ("oauth", Some("grants"), _) => found(&GRANTS),
        ("", None, None) => found(&NO_LOGIN),
        // No server can have these names.
        ("health" | "status" | "metrics" | "servers" | "debug" | "auth" | "mcp" | "sse" | "message", ..)
        | ("" | "register" | "authorize" | "token" | "revoke" | "oauth" | "my", ..) => found(&UNKNOWN),
        (server, None | Some("mcp"), None) => of_server(&MCP, server),
        (server, Some("sse"), None) => of_server(&SSE, server),
        (server, Some("message"), None) => of_server(&MESSAGE, server),
        _ => found(&UNKNOWN),
    }
}

impl Endpoint {
    /// Who may have it at a listener.
    pub fn who(&self, listener_kind: ListenerKind) -> Who {
        match (listener_kind, self.admin) {
            (ListenerKind::Public, _) => self.public,
            (ListenerKind::Admin { is_remote: true }, who) => who,
            // On this machine no token is asked for.
            (ListenerKind::Admin { is_remote: false }, Who::Hidden | Who::Nobody) => Who::Nobody,
            (ListenerKind::Admin { is_remote: false }, _) => Who::Anyone,
        }
    }

    /// What is served there by this config. What is off is a path like any that leads nowhere, or that clients try at any
    /// server.
    pub fn by(&'static self, config: &Snapshot) -> &'static Self {
        match self.answer {
            _ if self.public == DEBUGGER && !config.debug => &UNKNOWN,
            Answer::Oauth(endpoint) if config.oauth.is_none() => {
                if endpoint == OauthEndpoint::ResourceMetadata && config.has_resource_metadata() {
                    self
                } else if endpoint.is_looked_for() {
                    &NO_LOGIN
                } else {
                    &UNKNOWN
                }
            }
            _ => self,
        }
    }

    /// Whether it is for operators, who need no token at an admin listener on loopback.
    pub fn is_managed(&self) -> bool {
        matches!(self.public, Who::Manage(_))
    }

    /// Whether load balancers ask for it, some of them over HTTP/1.0 and without a `Host`.
    pub fn is_health(&self) -> bool {
        self.admin == Who::Anyone
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::reserved_names;

    /// Words that a path of the table can begin with, so that no server can have them for a name.
    fn first_words() -> Vec<&'static str> {
        let firsts = ENDPOINTS.iter().flat_map(|row| row.paths).filter_map(|path| path.split('/').nth(1));
        firsts.filter(|first| !["{server}", "*"].contains(first)).collect()
    }

    fn matches(pattern: &str, path: &str) -> bool {
        let mut path = path.strip_suffix('/').unwrap_or(path).split('/');
        let is_root = pattern == "/";
        for (at, wanted) in pattern.split('/').take(if is_root { 1 } else { usize::MAX }).enumerate() {
            match (wanted, path.next()) {
                ("*", _) => return true,
                ("{server}", Some(name)) if at > 1 || !first_words().contains(&name) => {}
                (wanted, Some(segment)) if wanted == segment => {}
                _ => return false,
            }
        }
        path.next().is_none()
    }

    fn is_found(path: &str) {
        let wanted = ENDPOINTS.iter().find(|row| row.paths.iter().any(|pattern| matches(pattern, path)));
        let (wanted, found) = (*wanted.expect("the last row matches all"), find(path));
        assert!(
            std::ptr::eq(found.endpoint, wanted),
            "{path}: {:?} is found, and the table has {:?}",
            found.endpoint.paths,
            wanted.paths
        );
        let has_server = wanted.paths.iter().any(|path| path.contains("{server}"));
        assert_eq!(found.server.is_some(), has_server, "{path}");
    }

    #[test]
    fn each_row_of_the_table_is_found_at_its_paths() {
        for row in ENDPOINTS {
            for pattern in row.paths {
                let (path, rest) = (pattern.replace("{server}", "db"), "x/y/z/mcp");
                for path in [path.replace('*', "x"), path.replace('*', rest), path.replace('*', "x") + "/"] {
                    let path = if *pattern == "*" { "/db/x" } else { path.trim_end_matches("//") };
                    assert!(std::ptr::eq(find(path).endpoint, *row), "{path}");
                    is_found(path);
                }
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_found_is_the_first_row_of_the_table_that_matches(
            path in proptest::collection::vec(
                proptest::sample::select(vec![
                    "db", "x", "auth", "login", "logout", "refresh", "mcp", "sse", "message", "health", "live", "ready", "status", "metrics", "servers", "start",
                    "stop", "restart", "register", "authorize", "token", ".well-known", "oauth-protected-resource", "oauth-authorization-server", "revoke", "oauth", "introspect",
                    "consent", "callback", "grants", "services", "connect", "disconnect", "approve", "success", "error",
                    "client.json", "jwks.json", "my", "tokens", "set", "delete", "admin", "debug", "config", "log",
                    "Health", "healthx", "{server}", "*",
                ]),
                0..5,
            ),
            has_slash in proptest::bool::ANY,
        ) {
            let path = format!("/{}", path.join("/"));
            is_found(&if has_slash && path != "/" { path + "/" } else { path });
        }
    }

    #[test]
    fn a_path_is_as_long_as_a_name_can_make_it() {
        let name = "n".repeat(LONGEST);
        assert_eq!(find(&format!("/{name}/mcp")).server, Some(&*name));
        assert_eq!(find(&format!("/servers/{name}/restart")).server, Some(&*name));
        assert!(std::ptr::eq(find(&format!("/{}", "n".repeat(8191))).endpoint, &UNKNOWN));
        assert!(std::ptr::eq(find(&format!("/.well-known/{}", "n".repeat(1000))).endpoint, &NO_METADATA));
    }

    #[test]
    fn no_server_can_have_the_name_of_a_path() {
        /// Of paths to come.
        const LATER: [&str; 3] = ["messages", "api", "admin"];
        let is_name = |word: &&str| !word.is_empty() && !word.contains('.');
        let words: BTreeSet<_> = first_words().into_iter().filter(is_name).chain(LATER).collect();
        let reserved: BTreeSet<_> = reserved_names().iter().copied().collect();
        assert_eq!(reserved, words);
        assert!(reserved_names().contains(&"admin"));
    }

    #[test]
    fn methods_are_allowed_in_the_words_of_the_list() {
        for Endpoint { methods, paths, .. } in ENDPOINTS {
            let listed: Vec<_> = methods.list.iter().map(Method::as_str).collect();
            assert_eq!(listed.join(", "), methods.allow, "{paths:?}");
        }
    }
}
