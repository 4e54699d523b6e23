//! `sluicegate serve` as a process of its own: the real watcher, real signals, the log on standard output.

use std::{
    fs,
    io::{Read, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::harness::{Client, Lines, PATIENCE, get, pause, until, with_defaults};

/// A gateway that runs; killed when dropped.
pub struct Process {
    child: Child,
    pub addr: SocketAddr,
    pub log: Lines,
    pub path: PathBuf,
    _dir: TempDir,
}

impl Process {
    /// Runs a gateway with `config` and waits until it listens.
    pub async fn start(config: Value) -> Self {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("sluicegate.json");
        fs::write(&path, text(config)).unwrap();
        Self::with_file(dir, path).await
    }

    /// Runs a gateway with the config that is at `path`, somewhere in `dir`.
    pub async fn with_file(dir: TempDir, path: PathBuf) -> Self {
        Self::run(serve(&path), dir, path).await
    }

    /// The same by `command`, which has to write its log to standard output.
    pub async fn run(mut command: Command, dir: TempDir, path: PathBuf) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let log = Lines::default();
        let (mut from, mut to) = (child.stdout.take().unwrap(), log.clone());
        std::thread::spawn(move || {
            let mut bytes = [0; 16 * 1024];
            while let Ok(n @ 1..) = from.read(&mut bytes) {
                to.write_all(&bytes[..n]).unwrap();
            }
        });
        let listening = log.line("Listening", &[]).await;
        let addr = listening["addr"].as_str().unwrap().parse().unwrap();
        Self { child, addr, log, path, _dir: dir }
    }

    /// Replaces the config as a careful program does: a new file, renamed over the old one.
    pub fn save(&self, config: Value) {
        save(&self.path, &text(config));
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Lets it have no more descriptors than it has now.
    pub fn lower_open_files(&self) {
        let files = fs::read_dir(format!("/proc/{}/fd", self.id())).unwrap();
        let open: Vec<u64> =
            files.map(|file| file.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
        let free = (0..).find(|number| !open.contains(number)).unwrap();
        let maximum = getrlimit(Resource::Nofile).maximum;
        let limit = Rlimit { current: Some(free), maximum };
        prlimit(Some(Pid::from_child(&self.child)), Resource::Nofile, limit).unwrap();
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the end of the process and returns its exit code.
    pub async fn exited(&mut self) -> Option<i32> {
        self.ended().await.code()
    }

    /// Waits for the end of the process and returns how it ended.
    pub async fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        until("the end of the process", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }

    /// A line of `/proc/…/status` in bytes: `VmRSS`, `VmHWM`.
    #[cfg(target_os = "linux")]
    pub fn memory(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    }

    pub async fn client(&self) -> Client<TcpStream> {
        Client::new(TcpStream::connect(self.addr).await.unwrap())
    }

    /// One GET on a connection of its own: status and body.
    pub async fn get(&self, path: &str, token: &str) -> (u16, String) {
        let mut client = self.client().await;
        client.send(get(path, token, "")).await;
        let (status, _, body) = client.response().await;
        (status, body)
    }

    /// Asks at `path` until the answer has `status`, and returns how long that took.
    pub async fn answers(&self, path: &str, token: &str, status: u16) -> Duration {
        // Real time: whoever measures gets it.
        let began = Instant::now();
        loop {
            let (answer, body) = self.get(path, token).await;
            if answer == status {
                return began.elapsed();
            }
            assert!(began.elapsed() < PATIENCE, "still {answer} instead of {status} at {path}: {body}");
            pause().await;
        }
    }

    /// The value of a metric, asked for with the token of an admin.
    pub async fn metric(&self, token: &str, name: &str) -> f64 {
        let (status, text) = self.get("/metrics", token).await;
        assert_eq!(status, 200, "{text}");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command `sluicegate serve -c path`, of the program that `SLUICEGATE_BIN` names, if it does.
pub fn serve(path: &Path) -> Command {
    let mut command = Command::new(program());
    command.arg("serve").arg("-c").arg(path);
    command
}

/// The gateway's program: what `SLUICEGATE_BIN` names, or what was built beside the test that runs.
pub fn program() -> PathBuf {
    if let Some(named) = std::env::var_os("SLUICEGATE_BIN") {
        return named.into();
    }
    // A test runs as target/PROFILE/deps/NAME-HASH.
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(Path::parent).unwrap().join("sluicegate")
}

/// A config as a person might write it: one thing a line.
pub fn text(config: Value) -> String {
    format!("{:#}\n", with_defaults(config))
}

/// Writes `text` to a new file and renames it to `path`.
pub fn save(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(&new, path).unwrap();
}
