//! What is behind the gateway, over HTTP/1.1: connections, requests, responses.

mod codec;
mod endpoint;
mod exchange;
mod outgoing;
mod pool;
mod request_body;
mod response;
mod spares;
mod trust;

pub use codec::{Framing, Head, KeepAlive, ProtocolError};
pub use endpoint::{Origin, Unusable, UpstreamSocket};
pub use exchange::{Exchange, ExchangeError};
pub use outgoing::{Inspect, Pass, Upload};
pub use pool::{DeferredRead, Pool, ReadOutcome, SCRATCH};
pub use request_body::RequestBody;
pub use response::{RawBody, ResponseBody};
pub use trust::{Trust, Trusts};
