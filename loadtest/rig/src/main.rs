//! Measures streaming HTTP/1.1 proxies side by side, over loopback. See `../README.md`.

mod args;
mod hist;
mod http;
mod load;
mod procstat;
mod relay;
mod report;
mod stdio;
mod sys;
mod upstream;

use std::process::ExitCode;

use args::Args;

const USAGE: &str = "\
usage:
  rig upstream --listen ADDR
  rig relay --listen ADDR --target ADDR
  rig stdio
  rig load sse|rpc|bulk --target ADDR --path PATH [--bearer TOKEN] [--conns N] [--warm S] [--secs S]
           [--body BYTES] [--rate POSTS_PER_S] [--tls] [--pid PID[,PID]] [--workload NAME] [--contender NAME]
  rig report RUNS.jsonl SUMMARY.json

Addresses are 127.x.y.z:PORT. `load` prints one JSON object; `report` turns a file of them into tables.";

fn main() -> ExitCode {
    match run(&Args::new(std::env::args().skip(1))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("rig: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    match (args.word(0), args.word(1), args.word(2)) {
        (Some("upstream"), None, _) => upstream::run(args.need("listen")?)?,
        (Some("relay"), None, _) => relay::run(args.need("listen")?, args.need("target")?)?,
        (Some("stdio"), None, _) => stdio::run()?,
        (Some("load"), Some(kind), None) => println!("{}", load::run(args.load(kind)?)?),
        (Some("report"), Some(runs), Some(summary)) => report::run(runs.as_ref(), summary.as_ref())?,
        _ => return Err(USAGE.into()),
    }
    Ok(())
}
