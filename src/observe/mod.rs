//! What can be seen from outside: the log, the metrics, the audit, and the record of each request that feeds them.

mod append_file;
mod audit;
mod end;
mod health;
mod log;
mod metrics;
mod observer;
mod record;
mod recurring;
mod request_id;
mod trace;

pub use audit::{Audit, AuditedRequest, Replay};
pub use end::End;
pub use health::{Health, ServerFailure};
pub use log::{Log, LogLine};
pub use metrics::{Metrics, Reload, ServerMetrics, TokenGrant};
pub use observer::Observer;
pub use record::Record;
pub use recurring::{Group, Topic};
pub use request_id::{RequestId, RequestIds};
pub use trace::TraceId;
