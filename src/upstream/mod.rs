//! What stands behind the gate, over HTTP/1.1: connections, requests, responses.

mod codec;
mod endpoint;
mod exchange;
mod pool;

pub use codec::{Framing, Head, ProtocolError};
pub use endpoint::{Endpoint, Transport, Unusable};
pub use exchange::{Exchange, ExchangeError, ResponseBody};
pub use pool::{Pool, SCRATCH};
