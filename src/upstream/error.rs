//! Why a request to a server ends early.

use std::{fmt, io};

use super::ProtocolError;
use crate::{
    error::{Error, ErrorKind},
    mcp::sse::endpoint::EndpointError,
};

/// Why an exchange ended early.
#[derive(Debug)]
pub enum ExchangeError {
    /// The connection to the server failed or ended.
    Io(io::Error),
    /// The server broke HTTP/1.1.
    Protocol(ProtocolError),
    /// The client's body failed: it left, or broke framing.
    Client(hyper::Error),
    /// The client's body is larger than allowed.
    TooLarge,
    /// The client's body did not pass inspection.
    Refused(Error),
    /// The server's body would lead its client elsewhere.
    Endpoint(EndpointError),
}

impl fmt::Display for ExchangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(e) => e.fmt(f),
            Self::Protocol(e) => e.fmt(f),
            Self::Client(e) => e.fmt(f),
            Self::TooLarge => f.write_str("the request body is too large"),
            Self::Refused(e) => e.fmt(f),
            Self::Endpoint(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for ExchangeError {}

impl From<ExchangeError> for Error {
    fn from(e: ExchangeError) -> Self {
        match e {
            ExchangeError::TooLarge => ErrorKind::BodyTooLarge.into(),
            ExchangeError::Refused(e) => e,
            ExchangeError::Client(e) => ErrorKind::Malformed.with_cause(e.to_string()),
            ExchangeError::Io(_) | ExchangeError::Protocol(_) | ExchangeError::Endpoint(_) => {
                ErrorKind::UpstreamUnreachable.with_cause(e.to_string())
            }
        }
    }
}

impl From<io::Error> for ExchangeError {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

impl From<Error> for ExchangeError {
    fn from(e: Error) -> Self {
        Self::Refused(e)
    }
}

impl From<EndpointError> for ExchangeError {
    fn from(e: EndpointError) -> Self {
        Self::Endpoint(e)
    }
}

impl From<ProtocolError> for ExchangeError {
    fn from(e: ProtocolError) -> Self {
        Self::Protocol(e)
    }
}
