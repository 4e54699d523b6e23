//! `/servers`: which servers there are, how they are, and what is done with them. Only what an operator may read aloud:
//! of a URL its origin, and no header, argument or variable.

use std::sync::Arc;

use http::{Response, StatusCode};
use serde::Serialize;

use crate::{
    body::{Payload, response::uncached},
    config::{Access, McpTransport, Server, Target},
    error::{Error, ErrorKind},
    observe::Health,
};

/// One server, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerView {
    /// Key in `mcpServers`.
    pub name: String,
    /// `stdio`, `streamable-http`, `sse` or `inline`.
    pub transport: &'static str,
    /// Scheme, host and port of its URL; path, user and query may hold secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Whether it takes requests.
    pub running: bool,
    /// Whether it takes none because it was stopped here.
    pub stopped: bool,
    /// Sessions that the gateway keeps for it.
    pub sessions: usize,
    /// Processes that run for it.
    pub processes: usize,
    /// How often a process of it was started again after it had ended by itself.
    pub restarts: u64,
    /// Why it cannot be used, or what is missing of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// When it answered last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_ok: Option<String>,
    /// What went wrong with it last, even if it is right again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
    /// `tags`.
    pub tags: Vec<String>,
    /// `public`: no token is asked for.
    pub public: bool,
    /// `authTokens`: names of the tokens that may use it; `None` leaves the choice to `roles`, or takes any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_tokens: Option<Vec<String>>,
    /// `users`: names of the users that may use it, in the same way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users: Option<Vec<String>>,
    /// `roles`: the caller needs one of them, so that an empty list admits no caller; `None` asks for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<String>>,
}

/// Something that went wrong with a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LastError {
    /// When.
    pub at: String,
    /// Why.
    pub cause: String,
}

impl ServerView {
    /// What the config says of a server, and how it fared, as of one that takes requests and has none now.
    pub fn of(server: &Server, health: &Health) -> Self {
        let (auth_tokens, users, roles) = match &server.access {
            Access::Public | Access::AnyToken => (None, None, None),
            Access::Only { tokens, users, roles } => {
                let names = |names: &Vec<Arc<str>>| names.iter().map(ToString::to_string).collect();
                (tokens.as_ref().map(names), users.as_ref().map(names), roles.clone())
            }
        };
        let (transport, origin) = match &server.target {
            Target::Stdio(_) => ("stdio", None),
            Target::Inline(_) => ("inline", None),
            Target::Http(http) => {
                let transport = match http.transport {
                    McpTransport::StreamableHttp => "streamable-http",
                    McpTransport::Sse => "sse",
                };
                (transport, Some(http.url.origin().ascii_serialization()))
            }
        };
        let shown = |at| humantime::format_rfc3339_millis(at).to_string();
        Self {
            name: server.name.to_string(),
            transport,
            origin,
            running: true,
            stopped: false,
            sessions: 0,
            processes: 0,
            restarts: 0,
            problem: health.problem(),
            last_ok: health.last_answer().map(shown),
            last_error: health
                .last_failure()
                .map(|last| LastError { at: shown(last.at), cause: last.cause.into() }),
            tags: server.tags.clone(),
            public: server.access == Access::Public,
            auth_tokens,
            users,
            roles,
        }
    }
}

/// `/servers`: all of them, in the order given.
pub fn list(servers: &[ServerView]) -> Result<Response<Payload>, Error> {
    #[derive(Serialize)]
    struct List<'a> {
        servers: &'a [ServerView],
    }
    json(&List { servers })
}

/// `/servers/{name}`, and what an action led to: one of them; `None` is one that is not in the config.
pub fn one(server: Option<&ServerView>) -> Result<Response<Payload>, Error> {
    json(server.ok_or(ErrorKind::NotFound)?)
}

fn json(shown: &impl Serialize) -> Result<Response<Payload>, Error> {
    let body =
        serde_json::to_string(shown).map_err(|error| ErrorKind::Internal.with_cause(error.to_string()))?;
    Ok(uncached(StatusCode::OK, "application/json", body))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        config::{HttpTarget, StdioTarget},
        secret::Secret,
    };

    fn server(name: &str, target: Target, access: Access) -> Server {
        Server {
            name: name.into(),
            target,
            access,
            timeout: None,
            disabled: false,
            tags: vec!["data".into()],
            keep_alive: None,
            idle_timeout: Server::IDLE_TIMEOUT,
            tool_filter: None,
            tool_rules: None,
            warm: false,
            upstream_auth: None,
        }
    }

    fn remote() -> Server {
        let target = HttpTarget {
            url: "https://db.example:3000/CANARY/sse?key=CANARY".parse().expect("a URL"),
            transport: McpTransport::Sse,
            headers: vec![(HeaderName::from_static("x-key"), HeaderValue::from_static("CANARY"))],
            ca_pem: None,
            pass_query: false,
            pass_last_event_id: None,
            cookies: false,
        };
        let access = Access::Only {
            tokens: Some(vec!["dev".into()]),
            users: Some(vec!["alice".into()]),
            roles: Some(vec!["deploy".into()]),
        };
        server("db", Target::Http(target), access)
    }

    fn local() -> Server {
        let target = StdioTarget {
            command: "CANARY".into(),
            args: vec![Secret::new("CANARY".into())],
            env: vec![("KEY".into(), Secret::new("CANARY".into()))],
            cwd: None,
            inherit_env: Vec::new(),
        };
        server("files", Target::Stdio(target), Access::Public)
    }

    fn shown(response: Result<Response<Payload>, Error>) -> Value {
        let Payload::Whole(bytes) = response.expect("an answer").into_body() else { panic!("a stream") };
        serde_json::from_slice(&bytes).expect("JSON")
    }

    #[test]
    fn servers_are_listed_with_what_may_be_read_aloud() {
        let mut down = ServerView::of(&local(), &Health::default());
        (down.running, down.restarts, down.problem) = (false, 3, Some("it ends at once".into()));
        let listed = shown(list(&[ServerView::of(&remote(), &Health::default()), down.clone()]));
        assert_eq!(
            listed,
            json!({ "servers": [
                { "name": "db", "transport": "sse", "origin": "https://db.example:3000", "running": true,
                  "stopped": false, "sessions": 0, "processes": 0, "restarts": 0, "tags": ["data"],
                  "public": false, "authTokens": ["dev"], "users": ["alice"], "roles": ["deploy"] },
                { "name": "files", "transport": "stdio", "running": false, "stopped": false, "sessions": 0,
                  "processes": 0, "restarts": 3, "problem": "it ends at once", "tags": ["data"], "public": true },
            ] })
        );
        assert!(!listed.to_string().contains("CANARY"));
        assert_eq!(shown(one(Some(&down))), listed["servers"][1]);
        assert_eq!(shown(list(&[])), json!({ "servers": [] }));
    }

    #[test]
    fn a_server_that_is_not_there_is_not_found() {
        assert_eq!(one(None).err().map(|error| error.kind), Some(ErrorKind::NotFound));
    }
}
