//! The commands around the config, run as a user runs them.
#![allow(clippy::expect_used, reason = "helpers of tests fail as tests do")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/config");

/// The binary with an environment of its own, started in `directory`.
fn sluicegate(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
    // Of programs there are those that fixtures have.
    command.current_dir(directory).env_clear().env("EMPTY", "").env("PATH", "bin").stdin(Stdio::null());
    command
}

fn run(directory: &Path, arguments: &[&str]) -> Output {
    sluicegate(directory).args(arguments).output().expect("the binary runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

fn write(path: &Path, contents: impl AsRef<[u8]>, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, contents).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("changed");
}

/// A directory with every fixture, and with the files that they name.
fn fixtures() -> TempDir {
    let directory = TempDir::new().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    for fixture in names() {
        let text = fs::read_to_string(Path::new(FIXTURES).join(format!("{fixture}.json"))).expect("readable");
        write(&path(&format!("{fixture}.json")), text, 0o600);
    }

    let certificate = |params: rcgen::CertificateParams| {
        let key = rcgen::KeyPair::generate().expect("a key");
        (params.self_signed(&key).expect("a certificate").pem(), key.serialize_pem())
    };
    let params = || rcgen::CertificateParams::new(vec!["gate.example".to_owned()]).expect("a name");
    let (pem, key) = certificate(params());
    write(&path("good.pem"), pem, 0o644);
    write(&path("good.key"), &key, 0o600);
    write(&path("loose.key"), &key, 0o644);
    let (_, key) = certificate(params());
    write(&path("other.key"), key, 0o600);
    let mut expired = params();
    expired.not_before = rcgen::date_time_ymd(2020, 1, 1);
    expired.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let (pem, key) = certificate(expired);
    write(&path("expired.pem"), pem, 0o644);
    write(&path("expired.key"), key, 0o600);

    write(&path("loose.token"), "a-token-that-is-long-enough\n", 0o644);
    write(&path("large"), vec![b'x'; (1 << 20) + 1], 0o600);
    fs::create_dir(path("directory")).expect("created");
    fs::create_dir(path("bin")).expect("created");
    for program in PROGRAMS {
        write(&path("bin").join(program), "", 0o755);
    }
    let made = Command::new("mkfifo").arg(path("fifo")).status().expect("mkfifo runs");
    assert!(made.success());
    directory
}

/// What fixtures run.
const PROGRAMS: &[&str] = &["a", "b", "c", "e", "echo", "h", "node"];

/// Lines of what is said that are not below a problem, to show where it is.
fn problems(said: &str) -> Vec<&str> {
    let is_excerpt = |line: &str| {
        line.trim_start_matches([' ', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']).starts_with('|')
    };
    said.lines().filter(|line| !is_excerpt(line)).collect()
}

/// The names of all fixtures: `NAME.json` is a config, `NAME.expected` what `check` says about it.
fn names() -> Vec<String> {
    let stem = |path: PathBuf| path.file_stem().expect("a name").to_string_lossy().into_owned();
    let mut names: Vec<String> = fs::read_dir(FIXTURES)
        .expect("fixtures exist")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(stem)
        .collect();
    names.sort();
    assert!(names.len() >= 15, "only {names:?} were found");
    names
}

#[test]
fn every_mistake_has_its_line() {
    let directory = fixtures();
    let mut wrong = Vec::new();
    for name in names() {
        let output = run(directory.path(), &["check", "-c", &format!("{name}.json")]);
        let said = stderr(&output);
        let expected_file = Path::new(FIXTURES).join(format!("{name}.expected"));
        // `SLUICEGATE_BLESS=1 cargo test` writes what is said now; the diff is for a human to read.
        if std::env::var_os("SLUICEGATE_BLESS").is_some() {
            fs::write(&expected_file, &said).expect("written");
        }
        let expected = fs::read_to_string(&expected_file).unwrap_or_default();
        if said != expected {
            wrong.push(format!("{name}: expected\n{expected}but it said\n{said}"));
        }
        assert!(!said.contains("CANARY"), "{name} shows a secret: {said}");

        let good =
            problems(&said).iter().all(|line| line.contains(": warning: ") || line.contains(": notice: "));
        assert_eq!(output.status.code(), Some(if good { 0 } else { 2 }), "{name}: {said}");
        let verdict = stdout(&output);
        let is_said =
            verdict.contains("is good: ") || verdict.contains("has no mistake, but nobody can use it: ");
        assert_eq!(is_said, good, "{name}");
        for line in problems(&said) {
            let mut parts = line.splitn(4, ':');
            assert_eq!(parts.next(), Some(format!("{name}.json").as_str()), "{line}");
            for _ in 0..2 {
                assert!(
                    parts.next().is_some_and(|number| number.parse::<usize>().is_ok_and(|n| n > 0)),
                    "{line}"
                );
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_config_of_the_page_about_balancers_is_good() {
    let page = include_str!("../docs/balancers.md");
    let (_, rest) = page.split_once("```jsonc\n").expect("a config");
    let (config, _) = rest.split_once("```").expect("its end");
    let directory = TempDir::new().expect("a directory");
    write(&directory.path().join("gate.json"), config, 0o600);
    let output = sluicegate(directory.path())
        .args(["check", "gate.json"])
        .env("TEAM_TOKEN", "a-token-that-is-long-enough")
        .output()
        .expect("runs");
    assert!(output.status.success(), "{}", stderr(&output));
    // Its names are those of the Secret that the page makes.
    for name in
        ["--from-file=sluicegate.json", "--from-file=team-token", "key: team-token", "key: sluicegate.json"]
    {
        assert!(page.contains(name), "{name}");
    }
}

#[test]
fn seven_mistakes_are_seven_lines() {
    let directory = fixtures();
    let output = run(directory.path(), &["check", "-c", "seven-mistakes.json"]);
    let said = stderr(&output);
    assert_eq!(problems(&said).len(), 7, "{said}");
    // Each with the place where it is, and a mark below that.
    assert_eq!(said.matches("\n4 |     \"adr\": \"…\",\n  |     ^^^^^\n").count(), 1, "{said}");
    assert!(said.matches('^').count() > 7, "{said}");
}

#[test]
fn the_file_is_named_with_or_without_an_option_or_comes_from_standard_input() {
    let directory = fixtures();
    let named = run(directory.path(), &["check", "-c", "seven-mistakes.json"]);
    assert_eq!(stderr(&run(directory.path(), &["check", "seven-mistakes.json"])), stderr(&named));
    assert_eq!(run(directory.path(), &["serve", "seven-mistakes.json"]).status.code(), Some(2));
    assert_eq!(run(directory.path(), &["check", "a.json", "-c", "b.json"]).status.code(), Some(2));

    for arguments in [&["check", "-"][..], &["check", "-c", "-"]] {
        let config = fs::File::open(directory.path().join("seven-mistakes.json")).expect("readable");
        let output = sluicegate(directory.path()).args(arguments).stdin(config).output().expect("runs");
        assert_eq!(stderr(&output), stderr(&named).replace("seven-mistakes.json:", "-:"));
    }
    let output = run(directory.path(), &["serve", "-"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("write it to a file first"), "{}", stderr(&output));
}

#[test]
fn a_server_that_nothing_can_vouch_for_is_told_and_the_others_are_good() {
    let directory = fixtures();
    let servers =
        r#""a": {"url": "https://h/mcp", "public": true}, "b": {"url": "http://h/mcp", "public": true}"#;
    write(&directory.path().join("trust.json"), format!(r#"{{"mcpServers": {{{servers}}}}}"#), 0o600);
    write(&directory.path().join("no.pem"), "", 0o644);
    let mut check = sluicegate(directory.path());
    check.args(["check", "trust.json"]).env("SSL_CERT_FILE", "no.pem").env("SSL_CERT_DIR", "directory");
    let output = check.output().expect("runs");
    let said = stderr(&output);
    assert_eq!(problems(&said).len(), 2, "{said}");
    assert!(
        said.contains(
            "mcpServers.a.url: warning: cannot be reached, because this system has no certificates"
        )
    );
    assert_eq!(output.status.code(), Some(0));
    let snapshot_of_odd_host = r#"{"mcpServers": {"a": {"url": "https://-a..b/mcp", "public": true}}}"#;
    write(&directory.path().join("host.json"), snapshot_of_odd_host, 0o600);
    let said = stderr(&run(directory.path(), &["check", "host.json"]));
    assert!(said.contains("has a host that no certificate can be for"), "{said}");
}

#[test]
fn a_gate_that_nobody_can_use_is_not_called_good() {
    let directory = fixtures();
    write(&directory.path().join("closed.json"), r#"{"mcpServers": {"a": {"url": "http://h/mcp"}}}"#, 0o600);
    let output = run(directory.path(), &["check", "closed.json"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        stdout(&output),
        "closed.json has no mistake, but nobody can use it: 1 server, 0 tokens, 1 warning\n"
    );
}

const EXPLAINED: &str = r#"{
  "proxy": { "auth": { "tokens": {
    "ci": [
      { "id": "new", "value": "ci-token-0123456789abcdef", "roles": ["deploy"] },
      { "value": "old-ci-token-0123456789abcdef", "expires": "2020-01-01T00:00:00Z" },
    ],
    "dev": "dev-token-0123456789abcdef",
    "ops": { "value": "ops-token-0123456789abcdef", "roles": ["admin"] },
  } } },
  "mcpServers": {
    "db": {
      "url": "http://127.0.0.1:1/mcp", "authTokens": ["dev"],
      "options": { "toolFilter": { "mode": "block", "list": ["drop"] } },
    },
    "any": { "url": "http://127.0.0.1:1/mcp", "disabled": true },
    "docs": { "url": "http://127.0.0.1:1/mcp", "public": true },
    "release": { "url": "http://127.0.0.1:1/mcp", "roles": ["deploy"] },
    "old": { "url": "http://127.0.0.1:1/mcp", "options": { "authTokens": ["ops"] } },
  },
}
"#;

#[test]
fn explain_says_what_is_decided_and_which_line_decides() {
    let directory = TempDir::new().expect("a directory");
    write(&directory.path().join("gate.json"), EXPLAINED, 0o600);
    let explain = |arguments: &str| {
        let arguments: Vec<&str> =
            ["explain", "-c", "gate.json"].into_iter().chain(arguments.split(' ')).collect();
        let output = run(directory.path(), &arguments);
        assert_eq!(stderr(&output), "", "{arguments:?}");
        (output.status.code(), stdout(&output))
    };
    let cases = [
        (
            "--as token:dev --server db",
            0,
            "token:dev: may use the server `db`\n  gate.json:12:40: mcpServers.db.authTokens: names the token\n",
        ),
        (
            "--token-name ops --server db",
            1,
            "token:ops: may not use the server `db` (403 insufficient_scope)\n  \
             gate.json:12:40: mcpServers.db.authTokens: does not name the caller\n",
        ),
        (
            "--token-name dev --server db --tool drop",
            1,
            "token:dev: may not use the tool `drop` of the server `db` (a call is answered as that of an unknown tool)\n  \
             gate.json:13:20: mcpServers.db.options.toolFilter: hides the tool from everybody\n",
        ),
        (
            "--token-name dev --server db --tool read",
            0,
            "token:dev: may use the tool `read` of the server `db`\n  \
             gate.json:13:20: mcpServers.db.options.toolFilter: leaves the tool to clients\n",
        ),
        (
            "--as token:dev --server any",
            0,
            "token:dev: may use the server `any`\n  gate.json:15:5: mcpServers.any: any valid caller may\n\
             note: the server is disabled, so its requests are answered with 503\n",
        ),
        (
            "--as nobody --server docs",
            0,
            "nobody: may use the server `docs`\n  gate.json:16:48: mcpServers.docs.public: opens the server to \
             everybody, without a credential\n",
        ),
        (
            "--as nobody --server db",
            1,
            "nobody: may not use the server `db` (401 unauthorized)\n  there is no credential, and one is needed\n",
        ),
        (
            "--as token:ci --server release",
            0,
            "token:ci (id new): may use the server `release`\n  gate.json:17:51: mcpServers.release.roles: asks for a \
             role that the caller has\ntoken:ci (credential 2): may not use the server `release` \
             (401 invalid_token)\n  gate.json:5:51: proxy.auth.tokens.ci[1].expires: the credential has expired\n",
        ),
        (
            "--as token:ops --server old",
            0,
            "token:ops: may use the server `old`\n  \
             gate.json:18:60: mcpServers.old.options.authTokens: names the token\n",
        ),
        (
            "--as token:ops --server servers",
            0,
            "token:ops: may use `/servers` and its actions\n  \
             gate.json:8:53: proxy.auth.tokens.ops.roles: the caller has a role that opens it\n",
        ),
        (
            "--as token:dev --server metrics",
            1,
            "token:dev: may not use `/metrics` (403 insufficient_scope)\n  \
             gate.json:7:12: proxy.auth.tokens.dev: the caller has no role that opens it\n",
        ),
        (
            "--as token:dev --server mcp",
            0,
            "token:dev: may use the aggregate of all servers, in which each has its own rule\n  \
             any valid caller may\n",
        ),
    ];
    for (arguments, code, said) in cases {
        assert_eq!(explain(arguments), (Some(code), said.to_owned()), "{arguments}");
    }
}

#[test]
fn explain_says_which_words_of_a_scope_mean_nothing() {
    const OAUTH: &str = r#"{
  "proxy": { "baseUrl": "http://localhost:8080", "auth": { "kind": "oauth", "tokens": { "dev": "a-token-that-is-long" } } },
  "mcpServers": { "hello": { "url": "http://h/mcp", "tags": ["web"] } }
}"#;
    let directory = TempDir::new().expect("a directory");
    write(&directory.path().join("gate.json"), OAUTH, 0o600);
    let refused = "token:dev: may not use the server `hello` (403 insufficient_scope, it takes the scope";
    let why = "\n  the scope of the token does not reach it\n";
    for (scope, code, said) in [
        (
            "foo",
            1,
            format!(
                "{refused} \"server:hello\"){why}note: `foo` means nothing here; a client that asks for it alone gets `mcp`\n"
            ),
        ),
        (
            "tag:nosuch",
            1,
            format!(
                "{refused} \"server:hello\"){why}note: `tag:nosuch` means nothing here; a client that asks for it alone is refused\n"
            ),
        ),
        ("offline_access", 1, format!("{refused} \"server:hello\"){why}")),
    ] {
        let arguments =
            ["explain", "-c", "gate.json", "--as", "token:dev", "--server", "hello", "--scope", scope];
        let output = run(directory.path(), &arguments);
        assert_eq!((output.status.code(), stdout(&output)), (Some(code), said), "{scope}");
    }
}

#[test]
fn explain_says_with_whose_credential_a_server_is_called_and_never_which() {
    let directory = TempDir::new().expect("a directory");
    let config = r#"{
        "proxy": { "baseUrl": "https://mcp.example.com", "auth": {
            "kind": "oauth", "tokens": { "dev": "token-of-dev-alone" },
            "issuers": { "corp": { "issuer": "https://login.corp.example" } } } },
        "mcpServers": {
            "plain": { "url": "https://h/mcp", "headers": { "Authorization": "CANARY" } },
            "own": { "url": "https://h/mcp", "upstreamAuth": { "kind": "user_oauth", "clientId": "gate", "clientSecret": "CANARY" } },
            "shared": { "url": "https://h/mcp", "oauth": { "clientId": "gate", "clientSecret": "CANARY" } },
            "entered": { "url": "https://h/mcp", "upstreamAuth": { "kind": "user_token", "header": "X-Key" } },
            "fetched": { "url": "https://h/mcp", "upstreamAuth": { "kind": "client_credentials", "clientId": "gate", "clientSecret": "CANARY" } },
            "made": { "url": "https://h/mcp", "upstreamAuth": { "kind": "exchange", "tokenUrl": "https://h/t", "audience": "a" } },
            "passed": { "url": "https://h/mcp", "upstreamAuth": { "kind": "passthrough", "unsafe": true, "from": "X-Up" } },
            "closed": { "url": "https://h/mcp", "authTokens": [], "upstreamAuth": { "kind": "user_oauth" } }
        } }"#;
    write(&directory.path().join("gate.json"), config, 0o600);
    let explain = |principal: &str, server: &str| {
        let output =
            run(directory.path(), &["explain", "--as", principal, "--server", server, "-c", "gate.json"]);
        stdout(&output) + &stderr(&output)
    };
    let called = "note: the server is called with ";
    for (principal, server, said) in [
        (
            "token:dev",
            "own",
            "the account of their own that token:dev connects at https://mcp.example.com/oauth (`user_oauth`)",
        ),
        ("token:dev", "shared", "the account that an admin connects, for all callers (`shared_oauth`)"),
        (
            "token:dev",
            "entered",
            "the token of their own that token:dev enters at https://mcp.example.com/oauth (`user_token`)",
        ),
        (
            "token:dev",
            "fetched",
            "a token that the gateway fetches for itself, for all callers (`client_credentials`)",
        ),
        (
            "jwt:corp:alice",
            "made",
            "a token that is made of the one by which jwt:corp:alice comes (`exchange`)",
        ),
        ("token:dev", "passed", "what the caller sends in `x-up`, as it is (`passthrough`)"),
    ] {
        let found = explain(principal, server);
        assert!(found.contains(&format!("{called}{said}\n")), "{found}");
        assert!(!found.contains("CANARY"), "{found}");
    }
    let found = explain("token:dev", "made");
    assert!(found.contains("note: calls fail: the server takes a token that is made of one of"), "{found}");
    for server in ["plain", "closed"] {
        let found = explain("token:dev", server);
        assert!(!found.contains(called), "{found}");
    }
}

#[test]
fn explain_names_what_there_is_where_it_is_asked_for_what_there_is_not() {
    let directory = TempDir::new().expect("a directory");
    write(&directory.path().join("sluicegate.json"), EXPLAINED, 0o600);
    write(&directory.path().join("bad.json"), r#"{"mcpServers": {"a": {}}}"#, 0o600);
    let cases = [
        (
            "--as token:dve --server db",
            "sluicegate.json: no token of this name has a credential in `proxy.auth.tokens`; did you mean \"dev\"?",
        ),
        ("--as token:elsewhere --server db", "name one of \"ci\", \"dev\", \"ops\""),
        (
            "--as token:dev --server dbs",
            "sluicegate.json: there is no such server in `mcpServers`; did you mean \"db\"?",
        ),
        ("--as token:dev --server elsewhere", "name one of \"db\", \"any\", \"docs\", \"release\", \"old\""),
        ("--as token:dev --server mcp --tool x", "name the server of the tool"),
        (
            "--as dev --server db",
            "write `token:NAME`, `user:NAME`, `tenant:NAME`, `client:NAME`, `jwt:ISSUER:SUBJECT`, `idp:PROVIDER:SUBJECT` or `nobody`",
        ),
        ("--as token:dev --token-name dev --server db", "cannot be used with"),
        ("--server db", "--as <PRINCIPAL>"),
        ("--as token:dev", "--server <SERVER>"),
        ("-c bad.json --as token:dev --server a", "bad.json:1:22: mcpServers.a: needs a `url`"),
        ("-c nowhere.json --as token:dev --server a", "nowhere.json:1:1: the config does not exist"),
    ];
    for (arguments, said) in cases {
        let arguments: Vec<&str> = ["explain"].into_iter().chain(arguments.split(' ')).collect();
        let output = run(directory.path(), &arguments);
        assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(2), ""), "{arguments:?}");
        assert!(stderr(&output).contains(said), "{arguments:?}: {}", stderr(&output));
    }
    // What stands in the place of a name may be a token.
    let secret = "sg_0123456789abcdefghijklmnopqrstuvwxyz";
    let output = run(directory.path(), &["explain", "--token-name", secret, "--server", "db"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(!stderr(&output).contains(secret), "{}", stderr(&output));
}

#[test]
fn a_bad_config_at_start_exits_2_with_every_problem() {
    let directory = fixtures();
    let checked = run(directory.path(), &["check", "-c", "seven-mistakes.json"]);
    let served = run(directory.path(), &["serve", "-c", "seven-mistakes.json"]);
    assert_eq!(served.status.code(), Some(2));
    assert!(stderr(&served).contains("  |     ^^^^^"), "{}", stderr(&served));
    for problem in stderr(&checked).lines() {
        assert!(stderr(&served).contains(problem), "{problem}");
    }
}

#[test]
fn a_starter_config_passes_at_once_and_is_never_overwritten() {
    let directory = TempDir::new().expect("a directory");
    let made = run(directory.path(), &["init"]);
    assert_eq!(made.status.code(), Some(0), "{}", stderr(&made));
    let said = stdout(&made);
    let token = said.lines().map(str::trim).find(|line| line.starts_with("sg_")).expect("a token");

    // What to do next, with this token: a call, a client that keeps the name of a variable, one that does not.
    assert!(said.contains(&format!(
        "export TOKEN={token}\n  curl http://127.0.0.1:8080/example/mcp -H \"Authorization: Bearer $TOKEN\""
    )));
    assert!(said.contains("/example/mcp --header 'Authorization: Bearer ${TOKEN}'\n"), "{said}");
    let entry =
        said.lines().map(str::trim).find(|line| line.starts_with("{\"mcpServers\"")).expect("an entry");
    let entry: serde_json::Value = serde_json::from_str(entry).expect("JSON");
    assert_eq!(entry["mcpServers"]["example"]["headers"]["Authorization"], format!("Bearer {token}"));

    let file = directory.path().join("sluicegate.json");
    let config = fs::read_to_string(&file).expect("written");
    assert!(!config.contains(token), "the config holds the hash only");
    assert!(config.contains(&sha256(token)));
    let mode = std::os::unix::fs::MetadataExt::mode(&file.metadata().expect("there"));
    assert_eq!(mode & 0o777, 0o600);

    let checked = run(directory.path(), &["check"]);
    assert_eq!(stdout(&checked), "sluicegate.json is good: 1 server, 1 token, 0 warnings\n");
    assert_eq!(checked.status.code(), Some(0));

    let again = run(directory.path(), &["init"]);
    assert_eq!(again.status.code(), Some(2));
    assert!(stderr(&again).contains("there already"), "{}", stderr(&again));
    assert_eq!(fs::read_to_string(&file).expect("there"), config);
}

#[test]
fn a_new_token_comes_with_its_entry_and_is_never_the_same() {
    let directory = TempDir::new().expect("a directory");
    let first = run(directory.path(), &["token", "new", "ci"]);
    assert_eq!(first.status.code(), Some(0));
    let lines: Vec<String> = stdout(&first).lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("sg_") && lines[0].len() == 46, "{lines:?}");
    assert_eq!(lines[1], format!("\"ci\": {{ \"sha256\": \"{}\" }}", sha256(&lines[0])));
    assert_ne!(stdout(&run(directory.path(), &["token", "new", "ci"])), stdout(&first));
}

#[test]
fn the_schema_is_json() {
    let output = run(Path::new("."), &["schema"]);
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
}

#[test]
fn without_a_config_the_way_in_is_shown() {
    let directory = TempDir::new().expect("a directory");
    for command in ["serve", "check"] {
        let output = run(directory.path(), &[command]);
        assert_eq!(output.status.code(), Some(2));
        let said = stderr(&output);
        assert!(said.contains("sluicegate init") && said.contains("sluicegate demo"), "{said}");
    }
    let output = run(directory.path(), &["serve", "-c", "nowhere.json"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("nowhere.json:1:1: the config does not exist"), "{}", stderr(&output));
}

#[test]
fn bad_usage_is_2_and_help_is_0() {
    let directory = TempDir::new().expect("a directory");
    for arguments in [&[][..], &["srve"], &["check", "--nope"], &["token"], &["serve", "-c"]] {
        assert_eq!(run(directory.path(), arguments).status.code(), Some(2), "{arguments:?}");
    }
    for arguments in [&["--help"][..], &["--version"], &["serve", "--help"], &["token", "new", "--help"]] {
        let output = run(directory.path(), arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(!output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let directory = TempDir::new().expect("a directory");
    for arguments in [&["schema"][..], &["token", "new"], &["explain", "--help"], &["--help"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = sluicegate(directory.path()).args(arguments).stdout(writer).output().expect("runs");
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
        assert!(!stderr(&output).contains("panicked"), "{}", stderr(&output));
    }
}

#[test]
fn a_config_that_is_no_file_is_refused_and_not_waited_for() {
    let directory = fixtures();
    std::os::unix::fs::symlink("loop", directory.path().join("loop")).expect("linked");
    for (name, told) in [
        ("fifo", "is not a regular file"),
        ("directory", "is a directory"),
        ("large", "is larger than 1024 KiB"),
        ("loop", "cannot be read"),
        ("/dev/zero", "is not a regular file"),
    ] {
        let output = run(directory.path(), &["check", "-c", name]);
        assert_eq!(output.status.code(), Some(2), "{name}");
        assert!(stderr(&output).contains(&format!("{name}:1:1: the config {told}")), "{}", stderr(&output));
    }
}

fn sha256(text: &str) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}
