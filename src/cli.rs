//! Arguments, subcommands and exit codes.

mod common;
mod edit;
mod explain;
mod store;
mod store_list;
mod token;
mod token_edit;
mod token_list;
mod token_places;
mod user;
mod user_list;
mod user_places;

use std::{
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::SystemTime,
};

use clap::{
    Args, Parser, Subcommand,
    builder::{PossibleValuesParser, TypedValueParser},
};

use self::common::{BAD_USAGE, ConfigFile, DEFAULT_FILE, FAILED, fail, print, print_problems};
use crate::{
    child::reaper,
    config::{self, Access, Level, LogFormat, Severity, Tls},
    downstream::self_signed::SelfMade,
    gateway::{LogFlags, exposed},
    identity::login::store as logins,
    secret::Secret,
};

/// A new config; `SHA256` is replaced by the hash of its token.
const STARTER: &str = include_str!("config/starter.json");

#[derive(Parser)]
#[command(
    name = "sluicegate",
    version,
    about = "The gateway in front of MCP servers, remote or local commands: HTTPS, bearer tokens, streaming, live config",
    after_help = "\
Examples:
  sluicegate demo                        see it work, with nothing to set up
  sluicegate init                        write a starter config and a token for it
  sluicegate check                       find every mistake in sluicegate.json
  sluicegate explain --as token:ci --server db
                                         see what a token may do, and which line says so
  sluicegate serve /etc/gate.json        run the gateway; it follows changes of the file

Exit codes: 0 ended as asked, 1 failed while running, 2 bad usage or bad config.",
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway
    #[command(after_help = "\
Signals: SIGTERM and SIGINT end it after open requests, and its commands with it; a second one at once. SIGHUP reloads
the config.

Examples:
  sluicegate serve
  DEV_TOKEN=… sluicegate serve gate.json")]
    Serve {
        #[command(flatten)]
        file: ConfigFile,
        /// Write the CA of a self-made certificate (`tls.selfSigned`) to this file, for clients to trust
        #[arg(long, value_name = "FILE")]
        ca_out: Option<PathBuf>,
        #[command(flatten)]
        log: LogArgs,
    },
    /// Run a gateway with a certificate, a token and a server made on the spot, and show what to try
    #[command(after_help = "\
Ctrl-C ends it, and nothing is left behind.

Examples:
  sluicegate demo                        HTTPS and a token, with a curl line for each thing to try
  sluicegate demo --oauth                a user and a password; a program logs in and tells each step")]
    Demo {
        /// With logins (OAuth) in place of the token: a program logs in by itself, then it is your turn
        #[arg(long)]
        oauth: bool,
    },
    /// Find every problem in a config without opening a port or running a command
    #[command(after_help = "\
Problems go to standard error, each on a line of its own: file:line:column: key.path: what is wrong, and how to mend
it; below it stands where that is, without the values that may be secrets. After a hundred comes their number.
Warnings and notices alone leave the exit code at 0.

Examples:
  sluicegate check
  sluicegate check gate.json && systemctl reload sluicegate
  jq . template.json | sluicegate check -")]
    Check(ConfigFile),
    /// Say whether a caller may use a server or a tool, and which line of the config decides
    #[command(after_help = "\
The answer goes to standard output: what is decided, and below it the line that decides, as file:line:column: key.path.
Where credentials of one token differ, because of their roles or because some have expired, each has its answer. A running
gateway decides the same by the same config. No port is opened and no command is run.

Exit codes: 0 allowed (by one of the credentials at least), 1 denied, 2 bad usage, bad config, or a name that it lacks.

Examples:
  sluicegate explain --as token:ci --server db
  sluicegate explain -c gate.json --token-name ci --server db --tool drop_table
  sluicegate explain --as nobody --server docs
  sluicegate explain --as token:ops --server metrics")]
    Explain(explain::Explain),
    /// Write a commented starter config, and show the token that opens it once
    #[command(after_help = "An existing file is never overwritten.")]
    Init {
        /// File to create
        #[arg(default_value = DEFAULT_FILE)]
        file: PathBuf,
    },
    /// Make, list, replace and revoke tokens
    #[command(subcommand)]
    Token(token::Token),
    /// Add, list, change and disable users, and make hashes of passwords
    #[command(subcommand)]
    User(user::User),
    /// Back up, list and end what is kept on disk: logins, and connections to servers
    #[command(subcommand)]
    Store(store::Store),
    /// What a running gateway starts beside its children: see `child::reaper`
    #[command(name = reaper::SUBCOMMAND, hide = true)]
    ReapChildren,
    /// Print the JSON Schema of the config, from which editors complete
    #[command(after_help = "\
Example:
  sluicegate schema > sluicegate.schema.json
and begin the config with  \"$schema\": \"./sluicegate.schema.json\"")]
    Schema,
}

#[derive(Args)]
struct LogArgs {
    /// Least severe level of the log, in place of `log.level` [possible values: debug, info, warn, error]
    #[arg(long, value_name = "LEVEL", hide_possible_values = true, value_parser = one_of(LEVELS, Level::named))]
    log_level: Option<Level>,
    /// Shape of a line of the log, in place of `log.format` [possible values: json, text]
    #[arg(long, value_name = "FORMAT", hide_possible_values = true, value_parser = one_of(FORMATS, LogFormat::named))]
    log_format: Option<LogFormat>,
}

const LEVELS: [&str; 4] = ["debug", "info", "warn", "error"];
const FORMATS: [&str; 2] = ["json", "text"];

/// One of these words, as what it names.
fn one_of<const N: usize, T: Clone + Send + Sync + 'static>(
    words: [&'static str; N],
    named: fn(&str) -> T,
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(words).map(move |word| named(&word))
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    command(Cli::parse().command).unwrap_or_else(|message| fail(BAD_USAGE, &message))
}

/// The error is a bad usage.
fn command(command: Command) -> Result<ExitCode, String> {
    Ok(match command {
        Command::Serve { file, ca_out, log } => {
            let path = file.path()?;
            if path.as_os_str() == "-" {
                return Err(
                    "a gateway follows its file, and standard input is none; write it to a file first".into(),
                );
            }
            // Not by its path: that may lead to another version by then, or nowhere.
            reaper::enable("/proc/self/exe");
            let flags = LogFlags { level: log.log_level, format: log.log_format };
            crate::gateway::serve(&path, ca_out.as_deref(), flags)
        }
        Command::Demo { oauth } => crate::demo::run(oauth),
        Command::Check(file) => check(&file.path()?),
        Command::Explain(question) => explain::run(question)?,
        Command::Init { file } => token::with_token(|token| init(&file, token)),
        Command::Token(token) => token::run(token)?,
        Command::User(command) => user::run(command)?,
        Command::Store(command) => store::run(command)?,
        Command::ReapChildren => {
            reaper::run();
            ExitCode::SUCCESS
        }
        Command::Schema => print(&config::schema()),
    })
}

fn check(path: &Path) -> ExitCode {
    let (loaded, variables) = exposed::load(path);
    print_problems(&loaded);
    let Some(snapshot) = loaded.snapshot.as_ref().filter(|_| loaded.is_whole()) else {
        return ExitCode::from(BAD_USAGE);
    };
    let open = exposed::open_to_commands(snapshot, variables);
    if let Some(first) = open.first() {
        let (names, pid) = (first.variables.join(", "), first.pid);
        // A failure cannot be reported anywhere.
        let _ = writeln!(io::stderr(), "warning: {} ({names}, process {pid})", exposed::WARNING);
    }

    let fault = match &snapshot.tls {
        Some(Tls::SelfSigned { .. }) => SelfMade::fault(&snapshot.state_dir, SystemTime::now()),
        _ => None,
    };
    if let Some(fault) = &fault {
        let _ = writeln!(io::stderr(), "warning: the CA that is kept is not used; {fault}");
    }
    if snapshot.keeps_logins() {
        if let Some(fault) = logins::fault(&snapshot.login_store, &snapshot.state_dir) {
            return fail(BAD_USAGE, &format!("logins cannot be kept: {fault}"));
        }
        if snapshot.login_store.encryption_keys.is_empty() {
            let _ = writeln!(
                io::stderr(),
                "note: the key of logins is made by the gateway and kept beside them, so that a copy of the directory opens \
                 itself; `proxy.auth.encryptionKey` keeps it elsewhere"
            );
        }
    }

    let mut names: Vec<_> = snapshot.credentials.iter().map(|credential| &credential.token_name).collect();
    names.sort_unstable();
    names.dedup();
    let warnings = loaded.problems.iter().filter(|problem| problem.severity == Severity::Warning).count();
    let warnings = warnings + usize::from(fault.is_some());
    let users = snapshot.users.len();
    let is_open = !names.is_empty()
        || users > 0
        || snapshot.admits_unnamed()
        || snapshot.servers.iter().any(|server| server.access == Access::Public);
    let verdict = if is_open { "is good" } else { "has no mistake, but nobody can use it" };
    let of_users = if users > 0 { format!("{}, ", count(users, "user")) } else { String::new() };
    print(&format!(
        "{} {verdict}: {}, {}, {of_users}{}\n",
        path.display(),
        count(snapshot.servers.len(), "server"),
        count(names.len(), "token"),
        count(warnings, "warning"),
    ))
}

fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

fn init(file: &Path, token: &Secret) -> ExitCode {
    let config = STARTER.replace("SHA256", &token::sha256(token));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let shown = file.display();
    match options.open(file).and_then(|mut created| created.write_all(config.as_bytes())) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return fail(
                BAD_USAGE,
                &format!("{shown} is there already and stays as it is; name another file"),
            );
        }
        Err(error) => return fail(FAILED, &format!("cannot write {shown}: {error}")),
    }
    let file = if file == Path::new(DEFAULT_FILE) { String::new() } else { format!(" {shown}") };
    print(&format!(
        "Wrote {shown}. Its token \"dev\", shown only now:

  {token}

Next: put your servers into {shown}, then

  sluicegate check{file}
  sluicegate serve{file}

Call the server `example`:

  export TOKEN={token}
  curl {URL} -H \"Authorization: Bearer $TOKEN\" -H 'Content-Type: application/json' \\
    -H 'Accept: application/json, text/event-stream' -d '{INITIALIZE}'

For Claude Code, which keeps the name of the variable and looks it up when it starts:

  claude mcp add --transport http example {URL} --header 'Authorization: Bearer ${{TOKEN}}'

For other MCP clients:

  {{\"mcpServers\":{{\"example\":{{\"type\":\"http\",\"url\":\"{URL}\",\"headers\":{{\"Authorization\":\"Bearer {token}\"}}}}}}}}
",
        token = token.expose(),
    ))
}

/// Where the server of the starter config is served.
const URL: &str = "http://127.0.0.1:8080/example/mcp";
/// What begins a session.
const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"curl","version":"0"}}}"#;
