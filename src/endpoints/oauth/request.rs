//! A request to one of the endpoints of OAuth, and what of it they may look at.

use std::{cell::OnceCell, net::IpAddr, sync::Arc};

use http::{Method, header, request::Parts};

use super::form::{Form, FormFault};
use crate::{
    config::OauthConfig,
    downstream::head::RequestFields,
    endpoints::table::OauthEndpoint,
    error::Error,
    identity::{Caller, Identity},
    ledger::{AddressBlock, Owner},
    oauth::registration,
    observe::{Replay, RequestId},
    state::{GatewayState, Live},
};

/// A request to one of these endpoints. Its method is one of the table's, and its `Host` and `Origin` are.
pub struct OauthRequest<'a> {
    /// State of the gateway.
    pub shared: &'a Arc<GatewayState>,
    /// The config of the moment in which all of it had come.
    pub live: &'a Arc<Live>,
    /// What that says of OAuth.
    pub config: &'a OauthConfig,
    /// What the log calls it.
    pub id: RequestId,
    /// Method, target and fields.
    pub head: &'a Parts,
    /// What one walk over the fields found.
    pub fields: &'a RequestFields<'a>,
    /// The client, or that which a balancer forwards for.
    pub address: IpAddr,
    /// The whole body of a POST.
    pub body: &'a [u8],
    /// Is asked whether a caller may go on, once it is known who that is.
    pub on_known: &'a dyn Fn(&Owner) -> Result<(), Error>,
    /// Is called for a decoy, whatever it is used for.
    pub on_decoy: &'a dyn Fn(&Caller),
    /// Is called for each secret that is not good: a code, a token, a client's secret. It counts for the address, and the error is
    /// `RateLimited` or `GuessLimited` if there were too many.
    pub on_failed: &'a dyn Fn() -> Error,
    /// Is asked before somebody else is asked whether a secret is good: fails if too many of the address were not.
    pub may_guess: &'a dyn Fn() -> Result<(), Error>,
    /// Gets who it was that logged in, or whose grant it was about, for the audit.
    pub known: &'a OnceCell<Arc<Identity>>,
    /// Gets whose code or refresh token was used again.
    pub replayed: &'a OnceCell<(Arc<Identity>, Replay)>,
    /// See [`Self::note_refusal`].
    pub refused: &'a OnceCell<Error>,
}

impl<'a> OauthRequest<'a> {
    /// Most bytes of a body.
    pub fn most_body(endpoint: OauthEndpoint) -> usize {
        match endpoint {
            OauthEndpoint::Register => registration::LONGEST_REQUEST,
            _ => Form::MOST,
        }
    }

    /// Says to the log, the audit and the counters what it is refused with, where the answer is a page or an error as OAuth has it.
    pub fn note_refusal(&self, error: impl Into<Error>) {
        // The first one is why.
        let _ = self.refused.set(error.into());
    }

    /// The path, with the slash at its end if it has one.
    pub fn path(&self) -> &'a str {
        self.head.uri.path()
    }

    /// The query as it came, without its `?`.
    pub fn query(&self) -> Option<&'a str> {
        self.head.uri.query()
    }

    /// Whom it counts for while nobody knows who makes it.
    pub fn address_block(&self) -> AddressBlock {
        self.address.into()
    }

    /// Whether it is a POST, whose body is a form.
    pub fn is_post(&self) -> bool {
        self.head.method == Method::POST
    }

    /// The fields of the query.
    pub fn asked(&self) -> Result<Form, FormFault> {
        Form::parse(self.query().unwrap_or_default().as_bytes())
    }

    /// The fields of the body, which is `application/x-www-form-urlencoded`.
    pub fn form(&self) -> Result<Form, FormFault> {
        let mut types = self.head.headers.get_all(header::CONTENT_TYPE).iter();
        let only = types.next().filter(|_| types.next().is_none()).and_then(|value| value.to_str().ok());
        let essence = only.and_then(|value| value.split(';').next());
        match essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case(Form::TYPE)) {
            true => Form::parse(self.body),
            false => Err(FormFault::Type),
        }
    }
}
