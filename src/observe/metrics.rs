//! Counters for Prometheus. Labels come from the config, never from a peer; what is not configured is `other`.

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use http::{Method, StatusCode};
use parking_lot::Mutex;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use super::{End, Health};
use crate::{
    downstream::rejection::Rejection,
    error::{ErrorKind, Side},
    ledger::{RateKey, Resource},
    mcp::method::Method as RpcMethod,
};

/// Label of everything that is not a configured server.
pub(super) const OTHER: &str = "other";
/// Label of the certificate: the key of the config that it comes from.
const CERTIFICATE: &str = "proxy.tls";

/// Seconds to the response head: from a call that a local server answers at once to one that takes a minute.
const LATENCY_BUCKETS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Seconds to the end of an answer: fewer steps, since every server has them for each method.
const OPERATION_BUCKETS: &[f64] = &[0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// Seconds to the answer of an issuer, which has ten.
const REFRESH_BUCKETS: &[f64] = &[0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Every metric of one gateway. Clones of a handle count into the same number.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    /// Those of the process, whose names are every process's.
    of_process: Registry,
    requests: IntCounterVec,
    operations: HistogramVec,
    streams_open: IntGaugeVec,
    stream_bytes: IntCounterVec,
    auth_refused: IntCounterVec,
    http_rejected: IntCounterVec,
    rate_limited: IntCounterVec,
    token_used: IntCounterVec,
    decoy_used: IntCounterVec,
    oauth_tokens: IntCounterVec,
    cimd_rejected: IntCounterVec,
    upstream_errors: IntCounterVec,
    upstream_auth: IntCounterVec,
    upstream_credentials: IntGaugeVec,
    /// `upstream_refresh_seconds`: from asking an issuer for a new token to its answer.
    pub upstream_refresh: Histogram,
    stream_cut: IntCounterVec,
    child_restarts: IntCounterVec,
    config_reloads: IntCounterVec,
    capacity_used: IntGaugeVec,
    capacity_limit: IntGaugeVec,
    connections_limit: IntGauge,
    connections_waiting: IntGauge,
    /// `request_duration_seconds`: from the request head to the response head.
    pub request_duration: Histogram,
    /// `config_last_reload_successful`: 0 while the file on disk is not what runs.
    pub config_last_reload_successful: IntGauge,
    certificate_not_after: IntGaugeVec,
    token_expires: IntGaugeVec,
    jwks_age: IntGaugeVec,
    /// Names of the tokens that have such a gauge.
    expiring: Arc<Mutex<BTreeSet<String>>>,
    /// Tells whether two gateways run the same file.
    config_hash: IntGauge,
    config_last_reload_timestamp: IntGauge,
    /// `log_lines_dropped_total`: lines that the log could not write.
    pub log_lines_dropped: IntCounter,
    /// `audit_dropped_total`: audit lines that could not be written.
    pub audit_dropped: IntCounter,
    /// `panics_total`: tasks that ended by a defect; 0 is the only good value.
    pub panics: IntCounter,
    /// `accept_errors_total`: connections that the kernel would not hand over.
    pub accept_errors: IntCounter,
    /// `store_up`: 0 while logins cannot be kept.
    pub store_up: IntGauge,
    /// `connections_open`: client connections.
    pub connections_open: IntGauge,
    /// `connections_evicted_total`: connections without an admitted request that made room for others.
    pub connections_evicted: IntCounter,
}

/// What a read of the config came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// All of it is in force.
    Whole,
    /// All of it but files that cannot be used.
    Part,
    /// The last good one stays.
    Nothing,
}

/// What a client brings for tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenGrant {
    /// A code.
    Code,
    /// A refresh token.
    Refresh,
    /// A client's own proof alone.
    Credentials,
    /// What an issuer says of somebody.
    Assertion,
    /// Nothing, or something else; or nobody looked, since the client did not prove that it is one.
    Other,
}

impl TokenGrant {
    const ALL: [Self; 5] = [Self::Code, Self::Refresh, Self::Credentials, Self::Assertion, Self::Other];
    /// The client got tokens.
    pub const SUCCESS: &str = "success";
    /// It came with what was used before, which ended a grant.
    pub const REPLAYED: &str = "replayed";
    const USUAL: [&str; 4] = [Self::SUCCESS, Self::REPLAYED, "invalid_grant", "invalid_client"];

    /// As the parameter `grant_type` says it (RFC 6749).
    pub fn of(grant_type: Option<&str>) -> Self {
        let is = |grant: &Self| *grant != Self::Other && grant_type == Some(grant.name());
        Self::ALL.into_iter().find(is).unwrap_or(Self::Other)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Code => "authorization_code",
            Self::Refresh => "refresh_token",
            Self::Credentials => "client_credentials",
            Self::Assertion => "urn:ietf:params:oauth:grant-type:jwt-bearer",
            Self::Other => OTHER,
        }
    }
}

impl Reload {
    const ALL: [Self; 3] = [Self::Whole, Self::Part, Self::Nothing];

    /// `result` of `config_reloads_total`.
    fn result(self) -> &'static str {
        match self {
            Self::Whole => "success",
            Self::Part => "partial",
            Self::Nothing => "failure",
        }
    }
}

impl Metrics {
    /// Builds and registers every metric; fails only on a duplicate name, which a test would show.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new_custom(Some("sluicegate".into()), None)?;
        let counter = |name: &str, help: &str| register(&registry, IntCounter::new(name, help)?);
        let gauge = |name: &str, help: &str| register(&registry, IntGauge::new(name, help)?);
        let counters = |name: &str, help: &str, labels: &[&str]| {
            register(&registry, IntCounterVec::new(Opts::new(name, help), labels)?)
        };
        let gauges = |name: &str, help: &str, label: &str| {
            register(&registry, IntGaugeVec::new(Opts::new(name, help), &[label])?)
        };
        let seconds = |name: &str, help: &str, buckets: &[f64]| {
            HistogramOpts::new(name, help).buckets(buckets.to_vec())
        };
        let metrics = Self {
            requests: counters("requests_total", "Requests answered.", &["server", "method", "status"])?,
            operations: register(
                &registry,
                HistogramVec::new(
                    seconds(
                        "server_operation_duration_seconds",
                        "From request head to the end of the answer, by what was asked.",
                        OPERATION_BUCKETS,
                    ),
                    &["server", "rpc_method"],
                )?,
            )?,
            streams_open: gauges("streams_open", "Event streams running now.", "server")?,
            stream_bytes: counters(
                "stream_bytes_total",
                "Body bytes: in = towards the server, out = towards the client.",
                &["server", "direction"],
            )?,
            auth_refused: counters("auth_refused_total", "Requests refused, by reason.", &["reason"])?,
            http_rejected: counters(
                "http_rejected_total",
                "Connections ended before a request could be judged, by reason.",
                &["reason"],
            )?,
            rate_limited: counters(
                "rate_limited_total",
                "Requests refused because there were too many in a short time, by the key of `rateLimits`.",
                &["key"],
            )?,
            token_used: counters(
                "token_used_total",
                "Requests admitted, by token name and credential.",
                &["token_name", "credential"],
            )?,
            decoy_used: counters("decoy_used_total", "Requests by a decoy, by token name.", &["token_name"])?,
            oauth_tokens: counters(
                "oauth_tokens_total",
                "Requests of clients for tokens, by what they bring and what became of it.",
                &["grant", "result"],
            )?,
            cimd_rejected: counters(
                "cimd_rejected_total",
                "Requests of clients whose metadata document cannot be used, by reason.",
                &["reason"],
            )?,
            upstream_errors: counters("upstream_errors_total", "Failures of servers.", &["server", "kind"])?,
            upstream_auth: counters(
                "upstream_auth_total",
                "What became of credentials for servers.",
                &["server", "result"],
            )?,
            upstream_credentials: register(
                &registry,
                IntGaugeVec::new(
                    Opts::new(
                        "upstream_credentials",
                        "Credentials for servers that are kept, by their state.",
                    ),
                    &["server", "state"],
                )?,
            )?,
            upstream_refresh: register(
                &registry,
                Histogram::with_opts(seconds(
                    "upstream_refresh_seconds",
                    "From asking an issuer for a new token of a server to its answer.",
                    REFRESH_BUCKETS,
                ))?,
            )?,
            stream_cut: counters("stream_cut_total", "Streams that the gateway ended.", &["reason"])?,
            child_restarts: counters(
                "child_restarts_total",
                "Processes started in place of one that ended by itself.",
                &["server"],
            )?,
            config_reloads: counters(
                "config_reloads_total",
                "Config files read after the first.",
                &["result"],
            )?,
            capacity_used: gauges("capacity_used", "What callers have of each resource now.", "resource")?,
            capacity_limit: gauges("capacity_limit", "How much there is of it.", "resource")?,
            connections_limit: gauge("connections_limit", "Client connections that there may be.")?,
            connections_waiting: gauge(
                "connections_waiting",
                "Client connections beyond the limit: the first to go, if no request of theirs is admitted.",
            )?,
            request_duration: register(
                &registry,
                Histogram::with_opts(seconds(
                    "request_duration_seconds",
                    "From request head to response head.",
                    LATENCY_BUCKETS,
                ))?,
            )?,
            config_last_reload_successful: gauge(
                "config_last_reload_successful",
                "1 if the config file on disk is what runs.",
            )?,
            certificate_not_after: gauges(
                "certificate_not_after_timestamp_seconds",
                "When the certificate expires that is presented; 0 without one.",
                "name",
            )?,
            expiring: Arc::default(),
            token_expires: gauges(
                "token_expires_seconds",
                "How long the last credential of a token is still good; below 0 it is not.",
                "token_name",
            )?,
            jwks_age: gauges(
                "jwks_age_seconds",
                "How old the keys of an issuer are that its tokens are checked by.",
                "issuer",
            )?,
            config_hash: gauge("config_hash", "48 bits of the hash of the config file that runs.")?,
            config_last_reload_timestamp: gauge(
                "config_last_reload_timestamp_seconds",
                "When the running config was loaded, in Unix time.",
            )?,
            log_lines_dropped: counter("log_lines_dropped_total", "Log lines that could not be written.")?,
            audit_dropped: counter("audit_dropped_total", "Audit lines that could not be written.")?,
            panics: counter("panics_total", "Tasks that ended by a defect of the gateway.")?,
            accept_errors: counter("accept_errors_total", "Failures to accept a connection.")?,
            store_up: gauge("store_up", "1 unless logins of users cannot be kept at present.")?,
            connections_open: gauge("connections_open", "Client connections open now.")?,
            connections_evicted: counter(
                "connections_evicted_total",
                "Connections without an admitted request that were closed to make room for others.",
            )?,
            of_process: Registry::new(),
            registry: registry.clone(),
        };
        gauges("build_info", "1; its label says which version runs.", "version")?
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1);
        #[cfg(target_os = "linux")]
        metrics.of_process.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        for rejection in Rejection::ALL {
            metrics.http_rejected.with_label_values(&[rejection.reason()]);
        }
        // What has not happened yet is 0, not absent: a rate sees the first time, too.
        for kind in ErrorKind::ALL {
            metrics.auth_refused.with_label_values(&[kind.code()]);
        }
        for limit in RateKey::ALL {
            metrics.rate_limited.with_label_values(&[limit.name()]);
        }
        for reason in End::CUTS.map(End::reason) {
            metrics.stream_cut.with_label_values(&[reason]);
        }
        for outcome in Reload::ALL {
            metrics.config_reloads.with_label_values(&[outcome.result()]);
        }
        for grant in TokenGrant::ALL {
            for result in TokenGrant::USUAL {
                metrics.oauth_tokens.with_label_values(&[grant.name(), result]);
            }
        }
        for resource in Resource::ALL {
            metrics.capacity(resource.name(), 0, 0);
        }
        metrics.certificate_not_after.with_label_values(&[CERTIFICATE]);
        metrics.store_up.set(1);
        Ok(metrics)
    }

    /// Something became of a credential for this server, which is one of the config.
    pub fn upstream_auth(&self, server: &str, result: &str) {
        self.upstream_auth.with_label_values(&[server, result]).inc();
    }

    /// So many credentials are kept for servers of the config, in these states, and no others.
    pub fn upstream_credentials<'a>(&self, counts: impl Iterator<Item = (&'a str, &'static str, usize)>) {
        self.upstream_credentials.reset();
        for (server, state, count) in counts {
            self.upstream_credentials
                .with_label_values(&[server, state])
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Handles of one server's counters, resolved once so that a request only adds to them.
    pub fn server(&self, name: &str) -> Arc<ServerMetrics> {
        for kind in ErrorKind::ALL.iter().filter(|kind| kind.side() == Side::Upstream && name != OTHER) {
            self.upstream_errors.with_label_values(&[name, kind.code()]);
        }
        Arc::new(ServerMetrics {
            name: name.into(),
            health: Arc::default(),
            requests: self.requests.clone(),
            by_status: Box::default(),
            operations: self.operations.clone(),
            by_method: Box::default(),
            streams_open: self.streams_open.with_label_values(&[name]),
            bytes_in: self.stream_bytes.with_label_values(&[name, "in"]),
            bytes_out: self.stream_bytes.with_label_values(&[name, "out"]),
        })
    }

    /// How much of a resource there is, and how much is used.
    pub fn capacity(&self, resource: &'static str, used: u64, limit: u64) {
        self.capacity_used.with_label_values(&[resource]).set(whole(used));
        self.capacity_limit.with_label_values(&[resource]).set(whole(limit));
    }

    /// How many client connections are open, and how many there may be.
    pub fn connections(&self, open: usize, limit: usize) {
        self.connections_limit.set(whole(limit));
        self.connections_waiting.set(whole(open.saturating_sub(limit)));
    }

    /// `token_used_total` of one credential.
    pub fn token_used(&self, token_name: &str, credential: &str) -> IntCounter {
        self.token_used.with_label_values(&[token_name, credential])
    }

    /// `decoy_used_total` of one decoy.
    pub fn decoy_used(&self, token_name: &str) -> IntCounter {
        self.decoy_used.with_label_values(&[token_name])
    }

    /// Counts a request for tokens; `result` is [`TokenGrant::SUCCESS`], [`TokenGrant::REPLAYED`], or the error that the client got.
    pub fn oauth_token(&self, grant: TokenGrant, result: &'static str) {
        self.oauth_tokens.with_label_values(&[grant.name(), result]).inc();
    }

    /// Shows these as reasons of `cimd_rejected_total`, too, though nothing was rejected yet.
    pub fn cimd_reasons(&self, reasons: impl IntoIterator<Item = &'static str>) {
        for reason in reasons {
            self.cimd_rejected.with_label_values(&[reason]);
        }
    }

    /// Counts a request of a client whose metadata document cannot be used.
    pub fn cimd_rejected(&self, reason: &'static str) {
        self.cimd_rejected.with_label_values(&[reason]).inc();
    }

    /// No credential of this name is a decoy any more.
    pub fn decoy_removed(&self, token_name: &str) {
        // Fails if it has no counter.
        let _ = self.decoy_used.remove_label_values(&[token_name]);
    }

    /// A credential is gone.
    pub fn token_removed(&self, token_name: &str, credential: &str) {
        // Fails if it has no counter.
        let _ = self.token_used.remove_label_values(&[token_name, credential]);
    }

    /// When tokens expire, each with the last of its credentials, as of `now`. Those that never do are left out.
    pub fn tokens_expire<'a>(
        &self,
        expiries: impl IntoIterator<Item = (&'a str, SystemTime)>,
        now: SystemTime,
    ) {
        // Nothing that is to stay is missing at any time: another scrape may be under way.
        let mut known = self.expiring.lock();
        let mut gone = std::mem::take(&mut *known);
        for (token_name, expires) in expiries {
            let left = match expires.duration_since(now) {
                Ok(left) => whole(left.as_secs()),
                Err(past) => -whole(past.duration().as_secs()),
            };
            self.token_expires.with_label_values(&[token_name]).set(left);
            gone.remove(token_name);
            known.insert(token_name.to_owned());
        }
        for token_name in gone {
            // Fails if it has no gauge.
            let _ = self.token_expires.remove_label_values(&[&token_name]);
        }
    }

    /// Sets how old the keys of issuers are; of one that is not among them, nothing is said.
    pub fn keys_age<'a>(&self, ages: impl Iterator<Item = (&'a str, Duration)>) {
        self.jwks_age.reset();
        for (issuer, age) in ages {
            self.jwks_age.with_label_values(&[issuer]).set(whole(age.as_secs()));
        }
    }

    /// Counts a refusal; `reason` is a code of [`crate::error::ErrorKind`].
    pub fn refused(&self, reason: &'static str) {
        self.auth_refused.with_label_values(&[reason]).inc();
    }

    /// Counts a request that a rate refused.
    pub fn rate_limited(&self, limit: RateKey) {
        self.rate_limited.with_label_values(&[limit.name()]).inc();
    }

    /// Counts a connection that ended before a request could be judged.
    pub fn rejected(&self, rejection: Rejection) {
        self.http_rejected.with_label_values(&[rejection.reason()]).inc();
    }

    /// Counts a failure of a server; `kind` is a code of [`crate::error::ErrorKind`].
    pub fn upstream_error(&self, server: &str, kind: &'static str) {
        self.upstream_errors.with_label_values(&[server, kind]).inc();
    }

    /// Counts a stream that the gateway ended.
    pub fn stream_cut(&self, reason: &'static str) {
        self.stream_cut.with_label_values(&[reason]).inc();
    }

    /// `child_restarts_total` of one command server.
    pub fn child_restarts(&self, server: &str) -> IntCounter {
        self.child_restarts.with_label_values(&[server])
    }

    /// Counts a read of the config file and says whether the file on disk is what runs.
    pub fn reloaded(&self, outcome: Reload) {
        self.config_reloads.with_label_values(&[outcome.result()]).inc();
        self.config_last_reload_successful.set(i64::from(outcome == Reload::Whole));
    }

    /// When the certificate expires that is presented.
    pub fn certificate_expires(&self, not_after: SystemTime) {
        self.certificate_not_after.with_label_values(&[CERTIFICATE]).set(unix_seconds(not_after));
    }

    /// The config that runs was loaded now.
    pub fn config_loaded(&self) {
        self.config_last_reload_timestamp.set(unix_seconds(SystemTime::now()));
    }

    /// Which config runs, by its hash.
    pub fn config_runs(&self, hash: u64) {
        self.config_hash.set(whole(hash));
    }

    /// The Prometheus text format, version 0.0.4.
    pub fn encode(&self) -> prometheus::Result<String> {
        let mut families = self.registry.gather();
        families.extend(self.of_process.gather());
        TextEncoder::new().encode_to_string(&families)
    }
}

/// A number as a gauge has it.
fn whole(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

fn unix_seconds(at: SystemTime) -> i64 {
    whole(at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs())
}

fn register<C: prometheus::core::Collector + Clone + 'static>(
    registry: &Registry,
    metric: C,
) -> prometheus::Result<C> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

const METHODS: [&str; 5] = ["GET", "POST", "DELETE", "OPTIONS", "HEAD"];
/// Statuses that are labels of their own.
const STATUSES: [u16; 20] =
    [200, 202, 204, 400, 401, 403, 404, 405, 406, 408, 409, 413, 415, 421, 429, 500, 501, 502, 503, 504];
/// Labels of the others: a server can make up some nine hundred.
const CLASSES: [&str; 5] = ["2xx", "3xx", "4xx", "5xx", OTHER];
const STATUS_LABELS: usize = STATUSES.len() + CLASSES.len();

/// The counters of one server.
pub struct ServerMetrics {
    name: Box<str>,
    /// Whether the server works. It is here because what counts a request also learns that.
    pub health: Arc<Health>,
    requests: IntCounterVec,
    by_status: Box<[[OnceLock<IntCounter>; STATUS_LABELS]; METHODS.len()]>,
    operations: HistogramVec,
    by_method: Box<[OnceLock<Histogram>; RpcMethod::COUNT]>,
    /// `streams_open` of this server.
    pub streams_open: IntGauge,
    /// Request body bytes that went upstream.
    pub bytes_in: IntCounter,
    /// Response body bytes that came from upstream.
    pub bytes_out: IntCounter,
}

impl ServerMetrics {
    /// Name of the server.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Counts one answered request.
    pub fn request(&self, method: &Method, status: StatusCode) {
        let known = STATUSES.iter().position(|known| status.as_u16() == *known);
        let (slot, label) = match known {
            Some(slot) => (slot, status.as_str()),
            None => {
                let class = match status.as_u16() {
                    code @ 200..=599 => usize::from(code / 100) - 2,
                    _ => CLASSES.len() - 1,
                };
                (STATUSES.len() + class, CLASSES[class])
            }
        };
        match METHODS.iter().position(|known| method.as_str() == *known) {
            Some(m) => self.by_status[m][slot].get_or_init(|| self.counter(METHODS[m], label)).inc(),
            None => self.counter(OTHER, label).inc(),
        }
    }

    /// Notes how long one operation took.
    pub fn operation(&self, method: RpcMethod, took: Duration) {
        let labels = || self.operations.with_label_values(&[&*self.name, method.name()]);
        self.by_method[method.index()].get_or_init(labels).observe(took.as_secs_f64());
    }

    fn counter(&self, method: &str, status: &str) -> IntCounter {
        self.requests.with_label_values(&[&*self.name, method, status])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_tells_of_every_token_while_another_is_made_and_of_none_that_is_gone() {
        let tokens: Vec<String> = (0..200).map(|number| number.to_string()).collect();
        let metrics = Metrics::new().unwrap();
        let now = SystemTime::now();
        let scrape = |tokens: &[String]| {
            metrics.tokens_expire(tokens.iter().map(|token| (&**token, now)), now);
            let text = metrics.encode().unwrap();
            text.matches("sluicegate_token_expires_seconds{").count()
        };
        let scrapes = || (0..50).all(|_| scrape(&tokens) == tokens.len());
        let are_whole = std::thread::scope(|scope| {
            let others: Vec<_> = (0..3).map(|_| scope.spawn(scrapes)).collect();
            others.into_iter().all(|other| other.join().unwrap())
        });
        assert!(are_whole, "a scrape lacked a token");
        assert_eq!(scrape(&tokens[1..]), 199);
        assert_eq!(scrape(&[]), 0);
    }

    #[test]
    fn a_method_or_status_that_a_peer_invents_makes_no_label_of_its_own_choice() {
        let metrics = Metrics::new().unwrap();
        let server = metrics.server("db");
        server.request(&Method::POST, StatusCode::OK);
        for status in [418, 499] {
            server.request(&Method::from_bytes(b"BREW").unwrap(), StatusCode::from_u16(status).unwrap());
        }
        let text = metrics.encode().unwrap();
        assert!(
            text.contains(r#"sluicegate_requests_total{method="POST",server="db",status="200"} 1"#),
            "{text}"
        );
        assert!(
            text.contains(r#"sluicegate_requests_total{method="other",server="db",status="4xx"} 2"#),
            "{text}"
        );
        assert!(!text.contains("BREW") && !text.contains("status=\"418\""));
    }
}
