//! What a client is told that gets nothing (RFC 6749 §5.2), and JSON that no cache keeps.

use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use super::form::FormFault;
use crate::{
    body::{Payload, response::uncached},
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
}

impl Refusal {
    pub(super) const fn new(error: &'static str, description: &'static str) -> Self {
        Self { error, description, by_field: false, counted: error }
    }

    /// The client is none, or did not prove that it is the one. Clients register anew only if they are told so with this status.
    pub(super) const fn client(by_field: bool) -> Self {
        let description =
            "There is no such client, or it did not prove that it is the one. Register it anew.";
        Self { by_field, ..Self::new("invalid_client", description) }
    }

    pub(super) const GRANT: Self = Self::new(
        "invalid_grant",
        "It is not valid, its time is over, it was used, or it is of another client.",
    );
    /// The same to the client, and for the counters that it was used before.
    pub(super) const REPLAYED: Self = Self { counted: TokenGrant::REPLAYED, ..Self::GRANT };
    pub(super) const TARGET: Self =
        Self::new("invalid_target", "This is for another resource, or that is no place of this gateway.");
    pub(super) const SCOPE: Self = Self::new("invalid_scope", "This is more than was allowed.");

    pub(super) const fn request(description: &'static str) -> Self {
        Self::new("invalid_request", description)
    }

    pub(super) fn into_response(self) -> Response<Payload> {
        let is_client = self.error == "invalid_client";
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
