//! What a client is told that gets nothing (RFC 6749 §5.2), and JSON that no cache keeps.

use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use super::{OauthRequest, form::FormFault};
use crate::{
    body::{Payload, response::uncached},
    error::ErrorKind,
    observe::TokenGrant,
};

/// Why a client gets nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) error: &'static str,
    pub(super) description: &'static str,
    /// The client tried to prove itself by a header field, which is answered by one.
    pub(super) by_field: bool,
    /// As what it is counted: as a rule the error.
    pub(super) counted: &'static str,
    /// What it is to the log and the audit, if something was presented that is not good.
    pub(super) kind: Option<ErrorKind>,
    /// Why, for the log alone.
    pub(super) cause: Option<&'static str>,
}

impl Refusal {
    pub(super) const fn new(error: &'static str, description: &'static str) -> Self {
        Self { error, description, by_field: false, counted: error, kind: None, cause: None }
    }

    const fn of(kind: ErrorKind) -> Self {
        Self { kind: Some(kind), ..Self::new(kind.code(), kind.sentence()) }
    }

    /// The client is none, or did not prove that it is the one.
    pub(super) const fn client(by_field: bool) -> Self {
        Self { by_field, ..Self::of(ErrorKind::InvalidClient) }
    }

    /// The same, with a reason that its sender is not told.
    pub(super) const fn because(self, cause: &'static str) -> Self {
        Self { cause: Some(cause), ..self }
    }

    pub(super) const UNAUTHORIZED: Self =
        Self::new("unauthorized_client", "The config does not give this client tokens in this way.");
    pub(super) const GRANT: Self = Self::of(ErrorKind::InvalidGrant);
    /// The same to the client, and for the counters that it was used before.
    pub(super) const REPLAYED: Self = Self { counted: TokenGrant::REPLAYED, ..Self::GRANT };
    pub(super) const TARGET: Self =
        Self::new("invalid_target", "This is for another resource, or that is no place of this gateway.");
    pub(super) const SCOPE: Self = Self::new("invalid_scope", "This is more than was allowed.");

    pub(super) const fn request(description: &'static str) -> Self {
        Self::new("invalid_request", description)
    }

    pub(super) fn answer(self, request: &OauthRequest<'_>) -> Response<Payload> {
        if let Some(kind) = self.kind {
            match self.cause {
                Some(cause) => request.note_refusal(kind.with_cause(cause)),
                None => request.note_refusal(kind),
            }
        }
        let is_client = self.kind == Some(ErrorKind::InvalidClient);
        let status = if is_client { StatusCode::UNAUTHORIZED } else { StatusCode::BAD_REQUEST };
        let body = json!({ "error": self.error, "error_description": self.description });
        let mut response = answer(status, &body);
        if is_client && self.by_field {
            let challenge = HeaderValue::from_static("Basic realm=\"client\", charset=\"UTF-8\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

impl From<FormFault> for Refusal {
    fn from(fault: FormFault) -> Self {
        Self::request(fault.sentence())
    }
}

/// JSON that no cache keeps.
pub(super) fn answer(status: StatusCode, body: &Value) -> Response<Payload> {
    uncached(status, "application/json", body.to_string())
}
