//! What is behind the gateway, over HTTP/1.1: connections, requests, responses. [`codec`] and [`RawFraming`] have no socket;
//! the fuzz targets in `fuzz/` drive them.

pub mod client;
pub mod codec;
pub mod document;
mod error;
mod exchange;
pub mod internet;
pub mod issuers;
mod origin;
mod outgoing;
mod pool;
mod raw;
mod request_body;
mod response;
mod spares;
mod trust;

pub use codec::{Framing, Head, KeepAlive, ProtocolError};
pub use error::ExchangeError;
pub use exchange::Exchange;
pub use origin::{Origin, Unusable, UpstreamSocket};
pub use outgoing::{Inspect, Pass, Upload};
pub use pool::{DeferredRead, Pool, ReadOutcome, SCRATCH};
pub use raw::{Passed, RawFraming};
pub use request_body::RequestBody;
pub use response::{RawBody, ResponseBody};
pub use spares::Spares;
pub use trust::{SystemTrust, Trust, Trusts};
