//! The `sluicegate` command.
fn main() -> std::process::ExitCode {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() { Some("demo") => sluicegate::demo::run(), _ => sluicegate::gateway::serve(std::path::Path::new(&args.nth(1).unwrap())) }
}
