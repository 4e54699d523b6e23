//! What can go wrong with one request, and the one table that turns it into a response.

use std::{borrow::Cow, fmt, time::Duration};

use http::StatusCode;

use crate::ledger::{Limit, RateKey, Resource};

/// Why a request was not served.
///
/// An error has a public half, which the caller sees ([`ErrorKind`]: a status, a code, a sentence), and a private
/// half, which only the log sees (`cause`). Nothing of the request's secrets is in either.
#[derive(Debug, Clone)]
pub struct Error {
    /// What the caller gets.
    pub kind: ErrorKind,
    /// What the log has besides.
    pub cause: Option<Cow<'static, str>>,
    /// What the config asks for and the caller does not have, in place of the sentence of the kind.
    pub requirement: Option<Box<str>>,
    /// The scope that a token has to have.
    pub scope_needed: Option<Box<str>>,
    /// Where the caller connects their account at the server.
    pub connect_url: Option<Box<str>>,
    /// Seconds after which it is worth to try again, if that is known.
    pub retry_after: Option<u32>,
    /// Whether it counts for the address as a credential does that is not good: somebody was asked about one that nobody knows, and
    /// could not say what it is worth.
    pub counts_as_guess: bool,
}

/// Which side has to act for the error to go away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The caller sent something that it must change.
    Client,
    /// The gateway, or whoever runs it.
    Gateway,
    /// The MCP server behind the gateway.
    Upstream,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident: $side:ident, $status:ident, $code:literal, $sentence:literal;)*) => {
        /// What the caller gets: one row of the table of statuses.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum ErrorKind { $($(#[$doc])* $kind,)* }

        impl ErrorKind {
            /// Every kind, for tests over the table.
            pub const ALL: &'static [Self] = &[$(Self::$kind),*];

            /// Status of the response.
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$kind => StatusCode::$status,)* }
            }

            /// `error` in the body, `reason` in the log and in `auth_refused_total`.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$kind => $code,)* }
            }

            /// The sentence for a human, which says how to mend it.
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$kind => $sentence,)* }
            }

            /// Which side has to act.
            pub const fn side(self) -> Side {
                match self { $(Self::$kind => Side::$side,)* }
            }
        }
    };
}

kinds! {
    /// Framing or headers that two parsers could read differently.
    Malformed: Client, BAD_REQUEST, "bad_request", "The request is malformed.";
    /// A path that is not in canonical form.
    Path: Client, BAD_REQUEST, "bad_path", "The path is not canonical: no empty or dot segments, encoded slashes or dots, control bytes or fragment.";
    /// `Host` is not one of `proxy.allowedHosts`.
    ForbiddenHost: Client, FORBIDDEN, "forbidden_host", "This host name is not served here.";
    /// `Origin` is neither listed nor the gateway's own.
    ForbiddenOrigin: Client, FORBIDDEN, "forbidden_origin", "This origin may not call from a browser.";
    /// No token was sent.
    Unauthorized: Client, UNAUTHORIZED, "unauthorized", "A token is needed: send it as Authorization: Bearer <token>.";
    /// A token was sent that opens nothing: unknown, expired or malformed, which all look the same.
    InvalidToken: Client, UNAUTHORIZED, "invalid_token", "The token is not valid.";
    /// A user's name and password of which one is wrong. Which one, nobody learns.
    InvalidCredentials: Client, UNAUTHORIZED, "invalid_credentials", "The name or the password is wrong.";
    /// A client of OAuth that is none, or did not prove that it is the one. Clients register anew if they are told so with this status.
    InvalidClient: Client, UNAUTHORIZED, "invalid_client", "There is no such client, or it did not prove that it is the one. Register it anew.";
    /// A code or a refresh token of a client that brings nothing.
    InvalidGrant: Client, BAD_REQUEST, "invalid_grant", "It is not valid, its time is over, it was used, or it is of another client.";
    /// `?token=` while `proxy.auth.queryToken` is off.
    QueryTokenDisabled: Client, UNAUTHORIZED, "query_token_disabled", "Tokens in the query string are not accepted here: send Authorization: Bearer <token>.";
    /// A valid token without a grant for this server.
    InsufficientScope: Client, FORBIDDEN, "insufficient_scope", "This token has no grant for this resource.";
    /// A call of a tool that `options.toolFilter` or a rule of `tools` hides, where it cannot be answered as the server would.
    ToolNotAllowed: Client, FORBIDDEN, "tool_not_allowed", "This tool is not served here.";
    /// A call of a tool that a rule of `tools` keeps from the caller, and does not hide.
    ToolForbidden: Client, FORBIDDEN, "tool_forbidden", "This caller may not use this tool.";
    /// Nothing is served at this path.
    NotFound: Client, NOT_FOUND, "not_found", "Nothing is served at this path.";
    /// A session id that was not issued to this caller for this server.
    SessionNotFound: Client, NOT_FOUND, "session_not_found", "No such session: initialize a new one.";
    /// A message that belongs to a session, without one.
    SessionRequired: Client, BAD_REQUEST, "session_required", "This request needs a session: initialize one and send its Mcp-Session-Id.";
    /// A request with the id of one that is still running.
    DuplicateId: Client, BAD_REQUEST, "duplicate_id", "A request with this id is still running in this session.";
    /// The body is no JSON-RPC message.
    NotAMessage: Client, BAD_REQUEST, "not_a_message", "The body is not one JSON-RPC request, notification or response.";
    /// The body of a login is not what it has to be.
    InvalidRequest: Client, BAD_REQUEST, "invalid_request", "The body is not the JSON object that this path takes.";
    /// `?servers=` or `?tags=` that say nothing clear.
    Selector: Client, BAD_REQUEST, "bad_selector", "Select by servers=NAMES or by tags=TAGS, not both; match is any or all; no other selector is known.";
    /// The caller has to connect an account at the server first, or to enter a token for it.
    UpstreamAuthorizationRequired: Client, FORBIDDEN, "upstream_authorization_required", "This server is used with your own account there: connect it first, at the address in connect_url.";
    /// The path exists, the method does not.
    MethodNotAllowed: Client, METHOD_NOT_ALLOWED, "method_not_allowed", "This method is not served at this path.";
    /// A browser wants to load it as a page, a frame, a script or the like.
    NotAPage: Client, NOT_ACCEPTABLE, "not_a_page", "This path is for MCP clients: a browser cannot show it or load it as a part of a page.";
    /// The body stopped arriving.
    BodyTimeout: Client, REQUEST_TIMEOUT, "request_timeout", "The request body did not arrive in time.";
    /// The body is larger than `limits.maxBodyBytes`.
    BodyTooLarge: Client, PAYLOAD_TOO_LARGE, "payload_too_large", "The request body is larger than this gateway accepts.";
    /// The request target is longer than `limits.maxUriBytes`.
    UriTooLong: Client, URI_TOO_LONG, "uri_too_long", "The request target is longer than this gateway accepts.";
    /// A login whose body is of another type, such as a form that any page can send.
    NotJson: Client, UNSUPPORTED_MEDIA_TYPE, "not_json", "The body has to be JSON: send Content-Type: application/json.";
    /// More header fields than a request may have.
    HeadTooLarge: Client, REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large", "The request has more than 100 header fields.";
    /// An `Expect` other than `100-continue`.
    Expectation: Client, EXPECTATION_FAILED, "expectation_failed", "Only Expect: 100-continue is understood.";
    /// The upstream refuses, cannot be reached, or breaks the protocol.
    UpstreamUnreachable: Upstream, BAD_GATEWAY, "upstream_unreachable", "The MCP server behind this gateway cannot be reached.";
    /// The upstream answers with a redirect, which would lead clients past the gateway.
    UpstreamRedirect: Upstream, BAD_GATEWAY, "upstream_redirect", "The MCP server behind this gateway redirects elsewhere; its configured URL needs to be changed.";
    /// The upstream of a tool filter answers with what may be a list of tools and cannot be read as one.
    UpstreamUnreadable: Upstream, BAD_GATEWAY, "upstream_unreadable", "The MCP server behind this gateway answered with what cannot be read, so that its tools cannot be filtered.";
    /// The upstream refuses the credential that the gateway has for it, or asks for one. That is nothing that a login of the
    /// client's could mend.
    UpstreamUnauthorized: Upstream, BAD_GATEWAY, "upstream_unauthorized", "The MCP server behind this gateway does not accept the gateway's credential for it; whoever runs the gateway needs to look at the server's headers or upstreamAuth.";
    /// The credential for the upstream cannot be got at present: whoever gives it does not answer.
    UpstreamAuthUnavailable: Upstream, BAD_GATEWAY, "upstream_auth_unavailable", "The credential for the MCP server behind this gateway cannot be renewed at present; try again shortly.";
    /// No response head within the time-out.
    UpstreamTimeout: Upstream, GATEWAY_TIMEOUT, "upstream_timeout", "The MCP server behind this gateway did not answer in time.";
    /// The caller has as much of the gateway as one caller may have.
    CallerLimit: Client, TOO_MANY_REQUESTS, "caller_limit", "This caller has as much of the gateway as one caller may have: finish something, or try again shortly.";
    /// More than a rate of `proxy.rateLimits`.
    RateLimited: Client, TOO_MANY_REQUESTS, "rate_limited", "Too many requests in a short time: try again after as many seconds as Retry-After says.";
    /// One more token that is not good, of an address that sends many.
    GuessLimited: Client, TOO_MANY_REQUESTS, "rate_limited", "The token is not valid, and too many of this address were not: try another one after as many seconds as Retry-After says.";
    /// Draining, or out of a capacity limit.
    Unavailable: Gateway, SERVICE_UNAVAILABLE, "unavailable", "The gateway is shutting down or out of capacity; try again shortly.";
    /// Whoever runs the gateway has stopped the server, or disabled it. To clients it is the same, but for the sentence.
    Stopped: Gateway, SERVICE_UNAVAILABLE, "unavailable", "This server is stopped; it answers again when whoever runs the gateway starts it.";
    /// A defect of the gateway.
    Internal: Gateway, INTERNAL_SERVER_ERROR, "internal", "The gateway failed.";
}

impl ErrorKind {
    /// The error for this status of a server's answer, if it says that the gateway's own credential failed (RFC 9110
    /// §15.5.2, §15.5.8). It does not pass, because clients take it for theirs, throw a good token away and log in for
    /// ever.
    pub fn refuse_challenge(status: StatusCode) -> Result<(), Error> {
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                Err(Self::UpstreamUnauthorized.with_cause(format!("the server answered {}", status.as_u16())))
            }
            _ => Ok(()),
        }
    }

    /// This kind, with a cause for the log.
    pub fn with_cause(self, cause: impl Into<Cow<'static, str>>) -> Error {
        Error { cause: Some(cause.into()), ..self.into() }
    }
}

impl Error {
    /// The caller lacks what a tool requires.
    pub fn tool_forbidden(requirement: String) -> Self {
        Self { requirement: Some(requirement.into()), ..ErrorKind::ToolForbidden.into() }
    }

    /// The client was not allowed this scope.
    pub fn out_of_scope(needed: Box<str>) -> Self {
        Self { scope_needed: Some(needed), ..ErrorKind::InsufficientScope.into() }
    }

    /// The sentence for a human, which says how to mend it.
    pub fn sentence(&self) -> &str {
        self.requirement.as_deref().unwrap_or_else(|| self.kind.sentence())
    }

    /// What `Retry-After` says, where it is worth to try again.
    pub fn retry_after(&self) -> Option<u32> {
        match self.kind {
            ErrorKind::Unavailable
            | ErrorKind::Stopped
            | ErrorKind::CallerLimit
            | ErrorKind::UpstreamAuthUnavailable => Some(5),
            ErrorKind::RateLimited | ErrorKind::GuessLimited => Some(self.retry_after.unwrap_or(1)),
            _ => None,
        }
    }

    /// The caller has no credential for the server yet, and gets one at `connect_url`, if the gateway has pages.
    pub fn not_connected(connect_url: Option<String>) -> Self {
        let connect_url = connect_url.map(String::into_boxed_str);
        Self { connect_url, ..ErrorKind::UpstreamAuthorizationRequired.into() }
    }

    /// The same, with this in place of the sentence of its kind.
    pub fn requiring(self, requirement: &str) -> Self {
        Self { requirement: Some(requirement.into()), ..self }
    }

    /// The server was stopped, or is disabled.
    pub fn stopped() -> Self {
        ErrorKind::Stopped.with_cause("the server was stopped")
    }

    /// More than the rate `limit` allows; there is room again after `wait`.
    pub fn too_often(limit: RateKey, wait: Duration) -> Self {
        let kind =
            if limit == RateKey::AuthFailures { ErrorKind::GuessLimited } else { ErrorKind::RateLimited };
        let whole_seconds = wait.as_nanos().div_ceil(1_000_000_000);
        Self {
            retry_after: Some(u32::try_from(whole_seconds).unwrap_or(u32::MAX)),
            ..kind.with_cause(limit.name())
        }
    }

    /// The store of logins cannot be read or written at present.
    pub fn logins_not_kept() -> Self {
        ErrorKind::Unavailable.with_cause("logins cannot be kept at present")
    }

    /// The place of what was waited for is another login's by now.
    pub fn gave_way() -> Self {
        ErrorKind::Unavailable.with_cause("it made room for other logins")
    }

    /// There is no more of `resource` for this caller, or for anybody.
    pub fn out_of(resource: Resource, limit: Limit) -> Self {
        let resource = resource.name();
        match limit {
            Limit::Caller => ErrorKind::CallerLimit.with_cause(format!("{resource}: the caller's limit")),
            Limit::Gateway => ErrorKind::Unavailable.with_cause(format!("{resource}: the gateway's limit")),
        }
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self {
            kind,
            cause: None,
            requirement: None,
            scope_needed: None,
            connect_url: None,
            retry_after: None,
            counts_as_guess: false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Some(cause) => write!(f, "{}: {cause}", self.kind.code()),
            None => f.write_str(self.kind.code()),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_table_blames_the_side_that_its_status_blames() {
        assert!(!ErrorKind::ALL.is_empty());
        for kind in ErrorKind::ALL {
            assert_eq!(kind.status().is_client_error(), kind.side() == Side::Client, "{kind:?}");
            assert!(kind.code().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{kind:?}");
            assert!(kind.sentence().ends_with('.'), "{kind:?}");
        }
    }
}
