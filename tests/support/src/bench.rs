//! A gateway in this process, with a config file of its own, for benches.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use serde_json::{Value, json};
use sluicegate::{
    config::{self, Level, LogFormat, Snapshot},
    gateway::Gateway,
    observe::{Log, Metrics, Observer},
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

pub const TOKEN: &str = "bench-token-0123456789abcdef0123456789";

pub struct Gate {
    pub gateway: Gateway,
    pub config: PathBuf,
    /// Accepts; the gateway's workers have their own.
    runtime: Runtime,
    _dir: TempDir,
}

impl Gate {
    /// Starts a gateway with one worker that writes its log nowhere.
    pub fn start(servers: Value, tokens: Value) -> Self {
        Self::start_with(servers, json!({ "tokens": tokens }))
    }

    /// The same with all that `proxy.auth` may have. Nobody is refused for what they tried before.
    pub fn start_with(servers: Value, auth: Value) -> Self {
        let dir = TempDir::new().expect("a directory");
        let config = dir.path().join("sluicegate.json");
        let rates = json!({ "authFailures": "off" });
        let mut proxy = json!({ "addr": "127.0.0.1:0", "workers": 1, "auth": auth, "rateLimits": rates });
        if proxy["auth"]["kind"] == "oauth" {
            proxy["baseUrl"] = json!("http://localhost");
        }
        let text = json!({ "proxy": proxy, "mcpServers": servers }).to_string();
        std::fs::write(&config, text).expect("a config file");
        let metrics = Metrics::new().expect("metrics");
        let out = Box::new(std::io::sink());
        let log = Log::start(Level::Info, LogFormat::Json, false, out, metrics.log_lines_dropped.clone());
        let observer = Arc::new(Observer::new(log.expect("a log"), metrics));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let gateway = runtime.block_on(Gateway::start(&load(&config), observer)).expect("a gateway");
        Self { gateway, config, runtime, _dir: dir }
    }

    pub fn addr(&self) -> SocketAddr {
        self.gateway.addrs()[0]
    }

    /// Takes the config file as it is now.
    pub fn reload(&mut self) {
        let _inside = self.runtime.enter();
        self.gateway.reload(&load(&self.config)).expect("a good config");
    }
}

/// Reads a config that must be good.
pub fn load(path: &std::path::Path) -> Snapshot {
    let loaded = config::load(path, &|_| None);
    assert!(loaded.snapshot.is_some(), "{:#?}", loaded.problems.first());
    loaded.snapshot.expect("a good config")
}
