use std::{io, path::PathBuf};

use tokio::io::AsyncReadExt;

use super::*;
use crate::{
    config::LogFormat,
    ledger::Owner,
    observe::{Log, Metrics},
    secret::Secret,
};

fn supervisor(target: StdioTarget) -> Arc<Supervisor> {
    let metrics = Metrics::new().unwrap();
    let log = Log::start(
        Level::Error,
        LogFormat::Json,
        false,
        Box::new(io::sink()),
        metrics.log_lines_dropped.clone(),
    );
    Supervisor::new(
        "db".into(),
        target,
        Arc::new(Observer::new(log.unwrap(), metrics)),
        Arc::default(),
        Default::default(),
    )
}

/// `command`, with nothing but its arguments and `PATH`.
pub(crate) fn target(command: &str, args: &[&str]) -> StdioTarget {
    StdioTarget {
        command: command.into(),
        args: args.iter().map(|arg| Secret::new((*arg).into())).collect(),
        env: Vec::new(),
        cwd: None,
        inherit_env: vec!["PATH".into()],
    }
}

/// What the command writes until it ends by itself.
async fn output(target: StdioTarget) -> String {
    let mut child = supervisor(target).start(&Owner::unlimited()).await.unwrap();
    let mut text = String::new();
    child.stdout.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn a_process_sees_the_variables_that_are_listed_and_no_others() {
    let mut env = target("env", &["-0"]);
    env.inherit_env = vec!["PATH".into(), "CARGO_MANIFEST_DIR".into(), "NO_SUCH_VARIABLE".into()];
    env.env = vec![
        ("KEY".into(), Secret::new("a b\nc".into())),
        ("CARGO_MANIFEST_DIR".into(), Secret::new("of the config".into())),
    ];
    let seen = output(env).await;
    let mut seen: Vec<_> = seen.split_terminator('\0').collect();
    seen.sort_unstable();
    let path = format!("PATH={}", std::env::var("PATH").unwrap());
    assert_eq!(seen, ["CARGO_MANIFEST_DIR=of the config", "KEY=a b\nc", &path]);
}

#[tokio::test]
async fn a_process_gets_three_pipes_and_no_other_descriptor() {
    // As a shell or a service manager may leave one to the gateway.
    let inherited = std::fs::File::open("/dev/null").unwrap();
    rustix::io::fcntl_setfd(&inherited, rustix::io::FdFlags::empty()).unwrap();
    // The fourth is how `ls` reads the directory.
    assert_eq!(output(target("ls", &["/proc/self/fd"])).await, "0\n1\n2\n3\n");
    drop(inherited);
}

#[tokio::test]
async fn a_process_leads_a_group_in_its_directory_with_its_arguments_as_they_are() {
    let script = r#"echo "$$ $(ps -o pgid= -p $$) $PWD $1""#;
    let mut shell = target("sh", &["-c", script, "sh", "$HOME *;"]);
    shell.cwd = Some(PathBuf::from("/proc"));
    let told = output(shell).await;
    let told: Vec<_> = told.split_whitespace().collect();
    assert_eq!(told[0], told[1]);
    assert_eq!(told[2..], ["/proc", "$HOME", "*;"]);
}

#[tokio::test]
async fn a_renewal_ends_what_runs_and_never_refuses_what_comes() {
    let supervisor = supervisor(target("cat", &[]));
    let mut before = supervisor.start(&Owner::unlimited()).await.unwrap();
    supervisor.renew();
    assert!(!supervisor.is_stopped());
    assert_eq!(before.life.event().await, ProcessEvent::Stop);
    let mut after = supervisor.start(&Owner::unlimited()).await.unwrap();
    // Real time: that nothing comes has no event.
    let unheard = tokio::time::timeout(Duration::from_millis(50), after.life.event()).await;
    assert!(unheard.is_err(), "{unheard:?}");
}
