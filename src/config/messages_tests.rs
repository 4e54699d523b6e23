//! What is said of each mistake that people make: the text, and a part of every line that is said of it.
#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::path::Path;

use tempfile::TempDir;

use super::{report::hint, table::key, *};

fn write(path: &Path, bytes: &[u8]) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, bytes).expect("written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("changed");
}

/// What is said of a config, a problem a line, without the name of the file and without excerpts.
fn said_of(config: &[u8]) -> Vec<Problem> {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("gate.json");
    write(&directory.path().join("two-lines.token"), b"first-line\nsecond-line\n");
    write(&path, config);
    write(&directory.path().join("quoted.token"), b"\"a-token-that-is-long\"\n");
    let env = |name: &str| match name {
        "PATH" => Some(directory.path().display().to_string()),
        "QUOTED" => Some("'a-token-that-is-long'".into()),
        "SECRET_FILE" => Some("/run/secrets/gate".into()),
        "HEX" => Some("0a1b2c3d4e5f6071".repeat(4)),
        _ => None,
    };
    load(&path, &env).problems
}

fn lines_of(config: &[u8]) -> Vec<String> {
    let shown = |problem: &Problem| {
        let text = problem.to_string();
        let place = format!("{}:", problem.file.display());
        text.strip_prefix(&place).unwrap_or(&text).to_owned()
    };
    said_of(config).iter().filter(|problem| problem.severity > Severity::Notice).map(shown).collect()
}

/// Of each text: what is said of it, each line by its beginning and a part of the rest.
fn check(rows: &[(&str, &[(&str, &str)])]) {
    let mut faults = Vec::new();
    for (config, wanted) in rows {
        let found = lines_of(config.as_bytes());
        let fits =
            |(line, (begin, part)): (&String, &(&str, &str))| line.starts_with(begin) && line.contains(part);
        if found.len() != wanted.len() || !found.iter().zip(*wanted).all(fits) {
            faults.push(format!("{config}\nwanted {wanted:#?}\nfound {found:#?}\n"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// A config with this in its `proxy`, on line 2.
macro_rules! proxy {
    ($text:literal) => {
        concat!(
            "{\n\"proxy\": {",
            $text,
            "},\n\"mcpServers\": {\"a\": {\"url\": \"http://h/mcp\", \"public\": true}}}"
        )
    };
}

/// A config with this in its `mcpServers`, on line 2.
macro_rules! servers {
    ($text:literal) => {
        concat!(
            "{\"proxy\": {\"auth\": {\"tokens\": {\"dev\": {\"sha256\": \"",
            "0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9",
            "\"}}}}, \"mcpServers\": {\n",
            $text,
            "}}"
        )
    };
}

/// A config with this in its `tokens`, on line 2.
macro_rules! tokens {
    ($text:literal) => {
        concat!(
            "{\"proxy\": {\"auth\": {\"tokens\": {\n",
            $text,
            "}}}, \"mcpServers\": {\"a\": {\"url\": \"http://h/mcp\"}}}"
        )
    };
}

/// A config with `"kind": "oauth"` and this in its `proxy` and its `auth`, which is on line 2.
macro_rules! oauth {
    ($proxy:literal, $auth:literal) => {
        concat!(
            "{\"proxy\": {",
            $proxy,
            "\"auth\": {\n\"kind\": \"oauth\"",
            $auth,
            "}},\n\"mcpServers\": {\"a\": {\"url\": \"http://h/mcp\", \"public\": true}}}"
        )
    };
}

#[test]
fn that_nobody_can_log_in_is_said_only_where_nobody_is_named() {
    let message = "needs somebody who can log in; add `users`, `tokens`, or an `idp`";
    for nobody in [
        oauth!("\"baseUrl\": \"http://localhost:8080\", ", ""),
        oauth!("\"baseUrl\": \"http://localhost:8080\", ", ", \"users\": {}, \"tokens\": {}"),
        oauth!("\"baseUrl\": \"http://localhost:8080\", \"wrong\": 1, ", ""),
        oauth!(
            "\"baseUrl\": \"http://localhost:8080\", ",
            ", \"tokens\": {\"bait\": {\"value\": \"a-token-that-is-long\", \"decoy\": true}}"
        ),
    ] {
        let found = lines_of(nobody.as_bytes());
        assert!(found.iter().any(|line| line.contains(message)), "{nobody}\n{found:#?}");
    }
    let beside = oauth!(
        "\"baseUrl\": \"http://localhost:8080\", ",
        ", \"issuers\": {\"corp\": {\"issuer\": \"https://a\"}}"
    );
    let found = lines_of(beside.as_bytes());
    let does_not = "who comes with a token of one of `issuers` does not log in here";
    assert!(found.iter().any(|line| line.contains(does_not)), "{found:#?}");
    for (somebody, fault) in [
        (
            oauth!(
                "\"baseUrl\": \"http://localhost:8080\", ",
                ", \"users\": {\"alice\": {\"passwordHash\": {\"$file\": \"nowhere\"}}}"
            ),
            "the file does not exist",
        ),
        (
            oauth!(
                "\"baseUrl\": \"http://localhost:8080\", ",
                ", \"users\": {\"alice\": {\"passwordHash\": {\"$file\": \"quoted.token\"}}}"
            ),
            "is no argon2id hash",
        ),
        (
            oauth!("\"baseUrl\": \"http://localhost:8080\", ", ", \"users\": {\"alice\": \"password123\"}"),
            "must be an object",
        ),
        (
            oauth!(
                "\"baseUrl\": \"http://localhost:8080\", ",
                ", \"tokens\": {\"ci\": {\"$file\": \"nowhere\"}}"
            ),
            "the file does not exist",
        ),
        (
            oauth!("\"baseUrl\": \"http://localhost:8080\", ", ", \"user\": {\"alice\": {}}"),
            "did you mean `users`?",
        ),
    ] {
        let found = lines_of(somebody.as_bytes());
        assert!(found.iter().any(|line| line.contains(fault)), "{somebody}\n{found:#?}");
        assert!(!found.iter().any(|line| line.contains(message)), "{somebody}\n{found:#?}");
    }
}

#[test]
fn a_login_that_is_half_set_up_says_what_to_write() {
    check(&[
        (
            oauth!("\"addr\": \"127.0.0.1:18090\", ", ", \"tokens\": {\"dev\": \"a-token-that-is-long\"}"),
            &[(
                "2:1: proxy.auth.kind:",
                "compare what their tokens are for, such as \"http://127.0.0.1:18090\"",
            )],
        ),
        (
            oauth!("\"addr\": \"[::1]:18090\", ", ", \"tokens\": {\"dev\": \"a-token-that-is-long\"}"),
            &[("2:1: proxy.auth.kind:", "such as \"http://[::1]:18090\"")],
        ),
        (
            oauth!("\"addr\": \":80\", ", ", \"tokens\": {\"dev\": \"a-token-that-is-long\"}"),
            &[("2:1: proxy.auth.kind:", "such as \"http://127.0.0.1\"")],
        ),
        (
            oauth!(
                "\"allowedHosts\": [\"gate.example\"], \"allowPlainHttp\": true, ",
                ", \"tokens\": {\"dev\": \"a-token-that-is-long\"}"
            ),
            &[("2:1: proxy.auth.kind:", "such as \"https://mcp.example.com\"")],
        ),
        // At another host than the gateway.
        (
            oauth!(
                "\"baseUrl\": \"http://localhost:8080\", ",
                ", \"issuer\": \"https://your-domain.com\", \"tokens\": {\"dev\": \"a-token-that-is-long\"}"
            ),
            &[(
                "2:28: proxy.auth.issuer:",
                "no client would find the gateway there; set `proxy.baseUrl` to it, or remove this",
            )],
        ),
        (
            oauth!(
                "\"baseUrl\": \"http://localhost:8080\", \"allowedHosts\": [\"localhost\", \"your-domain.com\"], ",
                ", \"issuer\": \"https://your-domain.com\", \"tokens\": {\"dev\": \"a-token-that-is-long\"}"
            ),
            &[("2:28: proxy.auth.issuer:", "warning: is at another origin than `proxy.baseUrl`")],
        ),
        (
            oauth!(
                "\"baseUrl\": \"http://localhost:8080\", ",
                ", \"issuer\": \"http://localhost:8080/\", \"tokens\": {\"dev\": \"a-token-that-is-long\"}"
            ),
            &[],
        ),
        (
            oauth!(
                "\"baseUrl\": \"http://localhost:8080\", ",
                ", \"registration\": true, \"tokens\": {\"dev\": \"a-token-that-is-long\"}"
            ),
            &[(
                "2:34: proxy.auth.registration:",
                "must be \"open\", \"off\" or a list of hosts, as in [\"claude.ai\"], not true or false",
            )],
        ),
    ]);
}

#[test]
fn decoys_that_do_not_do_what_is_meant() {
    check(&[
        (
            tokens!(
                "\"bait\": { \"value\": \"a-token-that-is-long\", \"decoy\": true, \"roles\": [\"admin\"] }"
            ),
            &[
                ("1:12:", "every token is a decoy, so nobody can use a server"),
                ("2:59:", "has no effect beside `decoy: true`, since a decoy opens nothing; remove it"),
            ],
        ),
        (
            tokens!("\"bait\": { \"value\": \"a-token-that-is-long\", \"decoy\": \"yes\" }"),
            &[("2:53:", "must be true or false")],
        ),
        (
            "{\"proxy\": {\"auth\": {\"tokens\": {\"dev\": \"another-token-that-is-long\",\n\
             \"bait\": { \"value\": \"a-token-that-is-long\", \"decoy\": true }}}},\n\
             \"mcpServers\": {\"a\": {\"url\": \"http://h/mcp\", \"authTokens\": [\"bait\"]}}}",
            &[("3:16:", "nobody can use this server, because no valid token or user meets its `authTokens`")],
        ),
    ]);
}

#[test]
fn debugging_that_nobody_can_see() {
    let message = "serves `/debug` to nobody, because no token has the role `admin`";
    check(&[
        (proxy!("\"debug\": true"), &[("2:11:", message)]),
        (proxy!("\"debug\": true, \"admin\": { \"addr\": \"127.0.0.1:9090\" }"), &[]),
        (proxy!("\"debug\": \"yes\""), &[("2:20:", "must be true or false")]),
    ]);
}

#[test]
fn places_where_no_audit_can_be() {
    check(&[
        (
            proxy!("\"audit\": { \"file\": \"\" }"),
            &[("2:30:", "is not a path; name the file that lines are appended to")],
        ),
        (
            proxy!("\"audit\": { \"file\": \"gate.json\" }"),
            &[("2:30:", "is the config itself; name another file")],
        ),
        (proxy!("\"audit\": { \"file\": \".\" }"), &[("2:30:", "is a directory; name a file in it")]),
        (
            proxy!("\"audit\": { \"file\": \"not/there.log\" }"),
            &[(
                "2:30:",
                "is in a directory that is not there or cannot be entered; create it, or correct the path",
            )],
        ),
        (proxy!("\"audit\": true"), &[("2:20:", "must be an object")]),
    ]);
}

#[test]
fn texts_that_are_no_json() {
    check(&[
        (
            "{\"mcpServers\": {}}\n}",
            &[("2:1:", "the file goes on after its closing bracket; remove what follows, or that")],
        ),
        (
            "{\"mcpServers\": {},\n \"proxy\": {}},\n \"version\": \"1.0\"}",
            &[("2:14:", "remove what follows, or that bracket")],
        ),
        (
            "{\n \"proxy\": {}\n \"mcpServers\": {}}",
            &[("2:13:", "a comma is missing here, between two entries")],
        ),
        (
            "{\n \"proxy\": {\n  \"addr: \"127.0.0.1:1\"\n }}",
            &[("3:3:", "the double quote at the end of this key is missing")],
        ),
        (
            "{\n \"proxy\": {\n  addr\": \"127.0.0.1:1\"\n }}",
            &[("3:3:", "the double quote in front of this key is missing")],
        ),
        (
            "{\n \"proxy\": {\n  \"addr\": 127.0.0.1:1\"\n }}",
            &[("3:11:", "the double quote in front of this value is missing")],
        ),
        (
            "{\n \"proxy\": {\n  \"addr\": \"127.0.0.1:1,\n  \"name\": \"x\"\n }}",
            &[("3:11:", "the string that begins here is not closed on its line")],
        ),
        (
            "{\n \"proxy\": {\n  \"addr\": \"127.0.0.1:1\n }}",
            &[("3:11:", "the string that begins here is not closed on its line")],
        ),
        (
            "{\n \"proxy\": {\n  \"name\": \"a \"b\" c\"\n }}",
            &[("3:15:", "write \\\" for a quote inside of a text")],
        ),
        (
            "{\n  \"proxy\": {\n    \"log\": {\n      \"level\": \"info\"\n  },\n  \"mcpServers\": {}\n}\n",
            &[(
                "3:12:",
                "this { is not closed: what closes it, on line 5, stands as if it closed another one",
            )],
        ),
        (
            "{\n \"proxy\": {\n  \"log\": {}",
            &[("2:11:", "this { is never closed: the file is cut off, or a } is missing")],
        ),
        (
            "{\n \"a\": [\n  1\n",
            &[("2:7:", "this [ is never closed: the file is cut off, or a ] is missing")],
        ),
        (
            "{\n \"a\": [1, 2\n}",
            &[("3:1:", "this } comes while the [ of line 2 is open; a ] is missing in front of it")],
        ),
        (
            "{\n \"a\": {\"b\": 1 ]\n}",
            &[("2:15:", "this ] comes while the { of line 2 is open; a } is missing")],
        ),
        (
            "{\n “proxy”: {}}",
            &[("2:2:", "“ is a typographic quote, which word processors and web pages make; write \"")],
        ),
        ("{\n \"proxy\": {\"name\": “x”}}", &[("2:20:", "“ is a typographic quote")]),
        ("{\n \"proxy\": {\"name\": ‘x’}}", &[("2:20:", "‘ is a typographic quote")]),
        ("{\n 'proxy': {}}", &[("2:2:", "strings stand in double quotes here, not in single ones")]),
        ("{\n \"a\": `x`}", &[("2:7:", "not in backticks")]),
        ("{\n # a comment\n}", &[("2:2:", "comments begin with // here, not with #")]),
        ("{\n \"a\": True}", &[("2:7:", "write true, in small letters")]),
        ("{\n \"a\": False}", &[("2:7:", "write false, in small letters")]),
        ("{\n \"a\": None}", &[("2:7:", "is null in JSON; leave the key out instead")]),
        ("{\n \"a\": yes}", &[("2:7:", "write true")]),
        ("{\n \"a\": 1;\n \"b\": 2}", &[("2:8:", "entries are separated by commas, not by ;")]),
        ("{\n \"a\" = 1}", &[("2:6:", "a colon stands between a key and its value, not =")]),
        ("{\n \"a\" 1}", &[("2:5:", "a colon is missing here, between the key and its value")]),
        ("{\n \"a\"}", &[("2:5:", "a colon and a value are missing here")]),
        ("{\n \"a\": }", &[("2:7:", "a value is missing in front of this }")]),
        ("{\n \"a\": , \"b\": 1}", &[("2:7:", "nothing stands in front of this comma")]),
        ("{\n \"a\": 1,, \"b\": 1}", &[("2:9:", "nothing stands in front of this comma")]),
        ("{\n a: 1}", &[("2:2:", "keys stand in double quotes here: write \"key\": value")]),
        ("{\n {}}", &[("2:2:", "a key is missing in front of this")]),
        ("{\n \"a\": [\"b\": 1]}", &[("2:11:", "a colon too many; entries with keys stand in { … }")]),
        ("proxy:\n  addr: :8080\n", &[("1:1:", "this looks like YAML, and the config is JSON")]),
        ("# gate\n---\nproxy:\n", &[("2:1:", "this looks like YAML")]),
        ("[proxy]\naddr = 1\n", &[("1:1:", "this looks like TOML or INI")]),
        ("<config/>", &[("1:1:", "this looks like XML or HTML")]),
        ("{\n \"a\": 02}", &[("2:7:", "a number has no leading zero")]),
        ("{\n \"a\": +2}", &[("2:7:", "a number has no + in front")]),
        ("{\n \"a\": .5}", &[("2:7:", "a number has digits on both sides of its point")]),
        ("{\n \"a\": 30s}", &[("2:7:", "a number with a unit is text: put it in double quotes")]),
        ("{\n \"a\": info}", &[("2:7:", "this is no JSON value; put text in double quotes")]),
        ("{\n \"a\": $HOME}", &[("2:7:", "a reference is text: put it in double quotes")]),
        ("{\n \"a\": ...}", &[("2:7:", "a placeholder is left here")]),
        ("{\n \"a\": \"C:\\Users\"}", &[("2:10:", "write \\\\ for a backslash, as in \"C:\\\\Users\"")]),
        ("{\n\u{200b}\"a\": 1}", &[("2:1:", "an invisible character (U+200B) stands here; remove it")]),
        (
            "\"mcpServers\": {\n}",
            &[("1:1:", "the braces around this are missing; put { in front of it, and } at its end")],
        ),
        ("", &[("1:1:", "the file is empty; `sluicegate init` writes a starter")]),
        ("{\"a\": 1, /* x", &[("1:10:", "this comment is never closed; end it with */")]),
    ]);
}

#[test]
fn files_that_are_no_text() {
    for (bytes, wanted) in [
        (&b"\xff\xfe{\0}\0"[..], "1:1: the config is UTF-16; save it as UTF-8"),
        (
            b"{\n \"name\": \"caf\xe9\"}",
            "2:14: the config has a byte here that is not UTF-8 text; save it as UTF-8",
        ),
        (b"{\0\"\0a\0", "1:2: a zero byte: this is UTF-16, or no text at all; save the file as UTF-8"),
    ] {
        assert_eq!(lines_of(bytes), [wanted]);
    }
    // A byte order mark, other line breaks and tabs are no mistakes, and do not shift columns.
    for (text, place) in
        [("\u{feff}{\"mcpServers\": {}}", "1:16:"), ("{\r\n\t\"mcpServers\": {}}\r\n", "2:16:")]
    {
        let found = lines_of(text.as_bytes());
        assert!(
            found.len() == 1 && found[0].starts_with(place) && found[0].contains("warning: is empty"),
            "{found:?}"
        );
    }
}

#[test]
fn words_of_other_programs_and_keys_of_other_levels() {
    check(&[
        ("{\"mcpServer\": {}}", &[("1:2: mcpServer:", "did you mean `mcpServers`?")]),
        ("{\"mcp_servers\": {}}", &[("1:2: mcp_servers:", "did you mean `mcpServers`?")]),
        (
            "{\"servers\":\n{\"a\": {\"url\": \"${env:X}\"}}}",
            &[("1:2: servers:", "is `mcpServers` here"), ("2:15: servers.a.url:", "written `${X}` here")],
        ),
        ("{\"servers\": []}", &[("1:2: servers:", "an object with one entry for each server")]),
        (
            "{\"gibberish\": 1}",
            &[
                ("1:1: mcpServers:", "is missing"),
                ("1:2: gibberish:", "known here: $schema, version, proxy, mcpServers"),
            ],
        ),
        ("{\"auth\": {},\n\"mcpServers\": {}}", &[("1:2: auth:", "it belongs into `proxy`")]),
        ("{\"addr\": \":1\",\n\"mcpServers\": {}}", &[("1:2: addr:", "it belongs into `proxy`")]),
        ("{\"tokens\": {},\n\"mcpServers\": {}}", &[("1:2: tokens:", "it belongs into `proxy.auth`")]),
        (proxy!("\n\"tokens\": {}"), &[("3:1: proxy.tokens:", "it belongs into `proxy.auth`")]),
        (
            "{\"port\": 1,\n\"mcpServers\": {}}",
            &[("1:2: port:", "\"proxy\": { \"addr\": \"127.0.0.1:8080\" }")],
        ),
        (
            "{\"inputs\": [],\n\"mcpServers\": {}}",
            &[("1:2: inputs:", "write `${NAME}` where `${input:NAME}` stands")],
        ),
        (servers!("\"a\": {\"cmd\": \"x\"}"), &[("2:7: mcpServers.a.cmd:", "it is `command` here")]),
        (servers!("\"a\": {\"endpoint\": \"x\"}"), &[("2:7:", "it is `url` here")]),
        (servers!("\"a\": {\"serverUrl\": \"x\"}"), &[("2:7:", "it is `url` here")]),
        (servers!("\"a\": {\"url\": \"http://h\", \"arguments\": []}"), &[("2:26:", "it is `args` here")]),
        (servers!("\"a\": {\"url\": \"http://h\", \"environment\": {}}"), &[("2:26:", "it is `env` here")]),
        (
            servers!("\"a\": {\"url\": \"http://h\", \"workingDirectory\": \"\"}"),
            &[("2:26:", "it is `cwd` here")],
        ),
        (
            servers!("\"a\": {\"url\": \"http://h\", \"disabledTools\": []}"),
            &[("2:26:", "\"toolFilter\": { \"mode\": \"block\"")],
        ),
        (
            servers!("\"a\": {\"url\": \"http://h\", \"autoApprove\": []}"),
            &[("2:26:", "the gateway cannot, so remove it")],
        ),
        (
            servers!("\"a\": {\"url\": \"http://h\", \"enabled\": false}"),
            &[("2:26:", "`\"disabled\": true`")],
        ),
        (servers!("\"a\": {\"url\": \"http://h\", \"serviceAuths\": []}"), &[]),
        (
            servers!("\"a\": {\"url\": \"http://h\", \"serviceAuths\": [{\"tokens\": [\"x\"]}]}"),
            &[("2:44:", "list the names of those that may use this server")],
        ),
        (tokens!("\"a\": {\"token\": \"x\"}"), &[("2:7: proxy.auth.tokens.a.token:", "it is `value` here")]),
        (tokens!("\"a\": {\"hash\": \"x\"}"), &[("2:7: proxy.auth.tokens.a.hash:", "it is `sha256` here")]),
        (
            servers!(
                "\"a\": {\"url\": \"http://h\", \"qqqqqqqq\": 1},\n\"b\": {\"url\": \"http://h\", \"qqqqqqqq\": 1}"
            ),
            &[("2:26:", "known here: url, command"), ("3:26:", "are listed at the first one")],
        ),
    ]);
}

/// The words of the configs that people come with: of clients, and of other gateways.
#[test]
fn every_word_that_another_program_has_is_known() {
    const SERVER: &str = "serverUrl httpUrl endpoint transport requestInit enabled disabledTools excludeTools includeTools \
        enabledTools allowedTools autoApprove alwaysAllow trust timeout_ms requestTimeout connectionTimeout initTimeout \
        name icon gallery version metadata note dev sandbox auth restartOnExit maxRestarts restartDelay stderr \
        instructionOverride toolDescriptionOverrides template inheritParentEnv envFilter envFile \
        delimiter discovery cacheTtl maxConnsPerUser tokenFormat config id cmd arguments environment workingDirectory token bearer image port";
    const ROOT: &str = "servers inputs mcp port host auth preferences hooks users bearerKeys mcpProxy general serverDefaults \
        mcpTemplates templateSettings instructionTemplates master_oauth hosting logging routing security gallery app \
        lazyLoading groups addr tokens baseURL kind url command";
    const AUTH: &str = "type options token clientId sessionSecret domains audience \
        jwksUri allowedOrgs firestoreDatabase firestoreCollection gcpProject allowedOrigins allowedRedirectUriHosts \
        allowAnyRedirectUriHost dangerouslyAcceptIssuerAudience location paramName prefix";
    const CLIENT: &str = "grantTypes jwksUri secret redirectUri scope clientId";
    const TOKEN: &str = "token hash secret expiry expiresAt ttl role scopes env file name";
    let all = key::objects(&table::ROOT);
    for (of, words) in
        [("server", SERVER), ("config", ROOT), ("auth", AUTH), ("client", CLIENT), ("token", TOKEN)]
    {
        let object =
            all.iter().map(|(_, object)| *object).chain([&table::ROOT]).find(|object| object.name == of);
        let object = object.expect("an object of the table");
        for word in words.split_whitespace() {
            let message = hint::unknown(word, object).0;
            assert!(message.is_some_and(|message| !message.contains("did you mean")), "{of}: {word}");
        }
    }
    check(&[
        (
            servers!("\"a\": {\"command\": \"sh\", \"env\": {\"PATH\": \"/bin\"}, \"type\": \"docker\"}"),
            &[("2:57:", "is \"stdio\" here")],
        ),
        (
            servers!("\"a\": {\"url\": \"http://h\", \"type\": \"aggregate\"}"),
            &[("2:34:", "all servers are one at `/mcp` here")],
        ),
        (servers!("\"a\": {\"url\": \"http://h\", \"type\": \"streamable_http\"}"), &[]),
    ]);
}

#[test]
fn values_that_are_not_what_they_should_be() {
    check(&[
        (proxy!("\"addr\": 8080"), &[("2:19: proxy.addr:", "must be text in double quotes, not a number")]),
        (proxy!("\"addr\": \":99999\""), &[("2:19: proxy.addr:", "needs a port from 1 to 65535")]),
        (
            servers!("\"a\": {\"url\": \"127.0.0.1:3000/mcp\"}"),
            &[("2:14:", "must start with http:// or https://")],
        ),
        (
            servers!("\"a\": {\"url\": \"localhost:3000/mcp\"}"),
            &[("2:14:", "must start with http:// or https://")],
        ),
        (
            servers!("\"a\": {\"url\": \"file:///srv/x.js\"}"),
            &[("2:14:", "\"command\": \"node\", \"args\": [\"PATH\"]")],
        ),
        (servers!("\"a\": {\"url\": \"http://my host/mcp\"}"), &[("2:14:", "has a space in it")]),
        (
            servers!("\"a\": {\"url\": \"http://h:99999/mcp\"}"),
            &[("2:14:", "has a port that is none (1 to 65535)")],
        ),
        (
            "{\"proxy\": {\"auth\": {\"tokens\": []}},\n\"mcpServers\": {}}",
            &[("1:31: proxy.auth.tokens:", "as in { \"dev\": { \"$env\": \"DEV_TOKEN\" } }, not a list")],
        ),
        (tokens!("\"dev\": null"), &[("2:8: proxy.auth.tokens.dev:", "or an object such as")]),
        (
            tokens!("\"dev\": {\"value\": \"a-token-that-is-long\", \"expires\": \"2027-01-31\"}"),
            &[("2:53:", "is no date and time; write it in UTC")],
        ),
        (
            tokens!(
                "\"dev\": {\"value\": \"a-token-that-is-long\", \"expires\": \"2027-01-31T00:30:00+01:00\"}"
            ),
            &[("2:53:", "is not in UTC; write it as \"2027-01-30T23:30:00Z\"")],
        ),
        (
            tokens!("\"dev\": {\"value\": \"a-token-that-is-long\", \"expires\": 1800000000}"),
            &[("2:53:", "must be a moment in double quotes, as in")],
        ),
        (tokens!("\"dev\": \"\""), &[("2:8:", "is empty, which would let anyone in")]),
        (
            tokens!("\"dev\": \"Bearer a-token-that-is-long\""),
            &[("2:8:", "begins with `Bearer `, which the client puts in front; leave it out")],
        ),
        (
            tokens!("\"dev\": \"a-token-that\\nis-long\""),
            &[("2:8:", "has several lines; a token is one line")],
        ),
        (
            tokens!("\"dev\": \"a-token-that-is-long\\n\""),
            &[("2:8:", "begins or ends with a space or a line break")],
        ),
        // Only the cause is told.
        (
            tokens!("\"dev\": \"a-token-that\nis-long\""),
            &[("2:21: proxy.auth.tokens.dev:", "a line break or control character inside a string")],
        ),
        (
            tokens!("\"dev\": {\"$file\": \"two-lines.token\"}"),
            &[
                ("1:12: proxy.auth:", "there is no token"),
                ("2:8:", "what stands in two-lines.token has several lines"),
            ],
        ),
        (
            tokens!("\"dev\": {\"sha256\": \"sg_0123456789abcdef\"}"),
            &[("2:19:", "is a token, and its hash is to stand here")],
        ),
        (
            tokens!("\"dev\": {\"sha256\": \"0123456789abcdef\"}"),
            &[("2:19:", "must be 64 hex digits, not these 16 characters")],
        ),
        (servers!("\"my docs\": {\"url\": \"http://h\"}"), &[("2:1:", "write \"my-docs\"")]),
        (servers!("\"io.github/docs.v2\": {\"url\": \"http://h\"}"), &[("2:1:", "write \"docs-v2\"")]),
        (servers!("\"\": {\"url\": \"http://h\"}"), &[("2:1:", "write \"server\"")]),
        (
            servers!("\"metrics\": {\"url\": \"http://h\"}"),
            &[("2:1:", "`/metrics` is a path of the gateway's own; write \"metrics-server\"")],
        ),
        (
            servers!("\"admin\": {\"url\": \"http://h\"}"),
            &[(
                "2:1:",
                "`/admin` has become a path of the gateway's own; write \"admin-server\", and `/admin-server/mcp` in its clients",
            )],
        ),
        (
            servers!("\"a\": {\"url\": \"http://h\", \"authTokens\": \"dev\"}"),
            &[("2:40:", "must be a list of names of tokens, as in [\"dev\"]")],
        ),
        (
            servers!("\"a\": {\"url\": \"http://h\", \"authTokens\": [\"developer\"]}"),
            &[(
                "2:41:",
                "is no name in proxy.auth.tokens; name one of \"dev\". A token's value stands there, not here",
            )],
        ),
        (
            servers!("\"a\": {\"url\": \"http://h\", \"authTokens\": [\"dve\"]}"),
            &[("2:41:", "did you mean \"dev\"?")],
        ),
        (
            servers!("\"a\": {\"url\": \"http://h\", \"users\": [\"alice\"]}"),
            &[(
                "2:36:",
                "is no name in proxy.auth.users, which has none; a user's name stands here, its `passwordHash` there",
            )],
        ),
        (
            servers!("\"a\": {\"url\": \"http://h\", \"users\": \"alice\"}"),
            &[("2:35:", "must be a list of names of users, as in [\"alice\"]")],
        ),
        (
            servers!("\"a\": {\"url\": \"http://h\", \"users\": [], \"public\": true}"),
            &[("2:35:", "cannot stand beside `public: true`")],
        ),
        (
            servers!("\"a\": {\"url\": \"http://h\", \"tags\": \"x\"}"),
            &[("2:34:", "put brackets around this text")],
        ),
        (
            servers!("\"a\": {\"url\": \"$env:UNSET\"}"),
            &[("2:14:", "the environment variable UNSET is not set; set it, or add a default")],
        ),
        (
            tokens!("\"dev\": \"$env:UNSET\""),
            &[("2:8:", "UNSET is not set; set it where the gateway is started")],
        ),
        (
            servers!("\"a\": {\"url\": \"${env:API_URL}\"}"),
            &[("2:14:", "a variable is written `${API_URL}` here")],
        ),
        (
            servers!("\"a\": {\"url\": \"${input:api-key}\"}"),
            &[("2:14:", "here write `${API_KEY}`, and set that variable")],
        ),
        (
            servers!("\"a\": {\"url\": \"${workspaceFolder}\"}"),
            &[("2:14:", "an editor fills in workspaceFolder, and the gateway does not")],
        ),
        (
            "{\n\"version\": \"1.0\",\n\"version\": \"1.0\",\n\"mcpServers\": {}}",
            &[("3:1: version:", "this key is there twice, first on line 2")],
        ),
    ]);
}

/// What is no secret would open the gateway to whoever has seen the config, or an example.
#[test]
fn what_is_no_secret_does_not_become_one() {
    let file = "write { \"$file\": \"PATH\" }, or { \"$text\": \"…\" } if it is the secret";
    let variable = "looks like a reference to a variable; write \"$env:NAME\"";
    let example = "is an example, not a secret; `sluicegate token new` makes a good one";
    let quotes = "the value of the variable begins and ends with a quote";
    check(&[
        (tokens!("\"dev\": \"$file:ops-gate.token\""), &[("2:8: proxy.auth.tokens.dev:", file)]),
        (tokens!("\"dev\": {\"value\": \"/run/secrets/ops\"}"), &[("2:18:", file)]),
        (tokens!("\"dev\": [\"$env.OPS_TOKEN\"]"), &[("2:9: proxy.auth.tokens.dev[0]:", variable)]),
        (tokens!("\"dev\": \"$OPS_TOKEN\""), &[("2:8:", variable)]),
        (tokens!("\"dev\": \"{{ env.OPS_TOKEN }}\""), &[("2:8:", variable)]),
        (
            tokens!("\"dev\": \"op://vault/gate/token\""),
            &[("2:8:", "a place that the gateway does not read")],
        ),
        (tokens!("\"dev\": \"YOUR_TOKEN_GOES_HERE\""), &[("2:8:", example)]),
        (tokens!("\"dev\": \"aaaaaaaaaaaaaaaaaaaaaa\""), &[("2:8:", example)]),
        (tokens!("\"dev\": \"$env:UNSET|your-secret-token\""), &[("2:8:", example)]),
        (tokens!("\"dev\": \"$env:QUOTED\""), &[("2:8:", quotes)]),
        (tokens!("\"dev\": {\"$env\": \"QUOTED\"}"), &[("2:8:", quotes)]),
        (
            tokens!("\"dev\": {\"$file\": \"quoted.token\"}"),
            &[
                ("1:12: proxy.auth:", "there is no token"),
                ("2:8:", "what stands in quoted.token begins and ends with a quote"),
            ],
        ),
        (
            tokens!("\"dev\": \"$env:SECRET_FILE\""),
            &[("2:8:", "is the path of a file; write { \"$file\": \"$env:NAME\" }")],
        ),
        // Whoever means it can say so.
        (tokens!("\"dev\": {\"$text\": \"$file:ops-gate.token\"}"), &[]),
        (tokens!("\"dev\": \"$$file:ops-gate.token\""), &[]),
        (proxy!("\"sessionKey\": \"$file:the-key-of-the-sessions-of-the-gate\""), &[("2:25:", file)]),
        (proxy!("\"sessionKey\": \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\""), &[("2:25:", example)]),
        (
            servers!("\"a\": {\"url\": \"http://h\", \"headers\": {\"X\": \"Bearer $file:x.token\"}}"),
            &[("2:43:", "warning: looks like a reference, which has another form here")],
        ),
    ]);
}

#[test]
fn the_hash_of_a_token_does_not_open_the_gate() {
    check(&[
        (
            tokens!("\"dev\": \"0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9\""),
            &[("2:8:", "write { \"sha256\": \"…\" }, or { \"value\": \"…\" } if it is the token itself")],
        ),
        (
            tokens!(
                "\"dev\": {\"value\": \"sha256:0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9\"}"
            ),
            &[("2:18:", "is the hash of a token; write { \"sha256\": \"…\" }")],
        ),
        (
            tokens!(
                "\"dev\": {\"value\": \"0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9\"}"
            ),
            &[("2:18:", "warning: looks like the SHA-256 of a token, and opens as the token itself")],
        ),
        (
            tokens!("\"dev\": \"$env:HEX\""),
            &[("2:8:", "warning: has the form of a SHA-256, and opens as the token itself")],
        ),
        (tokens!("\"dev\": {\"value\": \"$env:HEX\"}"), &[]),
    ]);
}

#[test]
fn rules_for_tools() {
    check(&[
        (
            servers!("\"a\": {\"url\": \"http://h\", \"tools\": [\"read\"]}"),
            &[("2:35:", "must be an object, as in { \"delete_*\": { \"roles\": [\"admin\"] } }")],
        ),
        (
            servers!(
                "\"a\": {\"url\": \"http://h\", \"public\": true, \"tools\": {\"x\": {\"roles\": [\"r\"]}}}"
            ),
            &[("2:51:", "cannot stand beside `public: true`, which knows no caller")],
        ),
        (
            servers!("\"a\": {\"url\": \"http://h\", \"tools\": {\"\": {\"roles\": [\"r\"]}}}"),
            &[("2:36:", "is no name of a tool; write 1 to")],
        ),
        (
            servers!("\"a\": {\"url\": \"http://h\", \"tools\": {\"x\": {}}}"),
            &[(
                "2:36:",
                "warning: asks for nothing, so it keeps the tool from nobody; give it `roles`, `users` or `scopes`",
            )],
        ),
        (
            servers!(
                "\"a\": {\"url\": \"http://h\", \"tools\": {\"x\": {\"roles\": [], \"users\": [\"al\"], \"role\": 1}}}"
            ),
            &[
                ("2:42:", "warning: keeps the tool from everybody; name some"),
                ("2:55:", "warning: keeps the tool from everybody; name some"),
                ("2:65:", "is no name in proxy.auth.users, which has none"),
                ("2:72:", "unknown key; did you mean `roles`?"),
            ],
        ),
    ]);
}

#[test]
fn what_callers_are_limited_to() {
    check(&[
        (
            tokens!("\"dev\": {\"value\": \"a-token-that-is-long\", \"servers\": [], \"tags\": []}"),
            &[
                (
                    "2:42:",
                    "servers: warning: leaves no server to this caller but public ones; remove it for no limit",
                ),
                ("2:57:", "tags: warning: leaves no server to this caller but public ones"),
                ("2:88:", "a: warning: nobody can use this server, because no valid token or user meets"),
            ],
        ),
        (
            tokens!(
                "\"dev\": {\"value\": \"a-token-that-is-long\", \"servers\": [\"b\", \"CANARY-0123456789-abcdef\"]}"
            ),
            &[
                ("2:54:", "is no server in `mcpServers`; did you mean \"a\"?"),
                ("2:59:", "is no server in `mcpServers`; name one, or remove it"),
            ],
        ),
        (
            tokens!("\"dev\": {\"value\": \"a-token-that-is-long\", \"tags\": [\"web\"]}"),
            &[
                (
                    "2:42:",
                    "tags: warning: no server has one of these tags, so they leave none to this caller",
                ),
                ("2:78:", "warning: nobody can use this server"),
            ],
        ),
    ]);
    let notices = said_of(
        br#"{"proxy": {"auth": {"tokens": {"dev": {"value": "a-token-that-is-long", "tags": ["x"]}}}}, "mcpServers": {
            "a": {"url": "http://h/mcp", "tags": ["x"]}, "b": {"url": "http://h/mcp", "tags": ["y", "x"]}}}"#,
    );
    let said: Vec<_> = notices.iter().map(|notice| &*notice.message).collect();
    let limit = "limit this caller to the servers with one of them, and public ones: \"a\", \"b\"";
    assert!(said.contains(&limit), "{said:#?}");
}

#[test]
fn users() {
    const GOOD: &str = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA";
    let with = |users: &str| {
        format!(
            "{{\"proxy\": {{\"auth\": {{\"users\": {{\n{users}}}}}}}, \"mcpServers\": {{\"a\": {{\"url\": \"http://h/mcp\"}}}}}}"
        )
    };
    let hash = |from: &str, to: &str| {
        with(&format!("\"alice\": {{\"passwordHash\": \"{}\"}}", GOOD.replace(from, to)))
    };
    let no_hash = ("2:27:", "other hashes cannot stand here; `sluicegate user hash` prints one");
    let too_dear = ("2:27:", "costs more than a login may, or less than argon2id can");
    let texts = [
        (hash("", ""), vec![]),
        (hash("argon2id", "argon2i"), vec![no_hash]),
        (hash(GOOD, "CANARY-password"), vec![no_hash]),
        (hash("m=19456", "m=65537"), vec![too_dear]),
        (hash("t=2", "t=5"), vec![too_dear]),
        (hash("t=2", "t=0"), vec![too_dear]),
        (hash("p=1", "p=5"), vec![too_dear]),
        (hash("m=19456", "m=7"), vec![too_dear]),
        (hash("m=19456", "m=1024"), vec![("2:27:", "warning: costs so little")]),
        (with("\"alice\": {}"), vec![("2:10:", "needs a `passwordHash`; `sluicegate user hash` prints one")]),
        (with("\"a:b\": {}"), vec![("2:1:", "without a colon"), ("2:8:", "needs a `passwordHash`")]),
        (
            with("\"alice\": \"secret\""),
            vec![(
                "2:10:",
                "must be an object with a `passwordHash`, which `sluicegate user hash` prints, not text",
            )],
        ),
        (
            with(&format!(
                "\"alice\": {{\"passwordHash\": \"{GOOD}\", \"servers\": [\"b\"], \"disabled\": 1}}"
            )),
            vec![
                ("2:", "is no server in `mcpServers`; did you mean \"a\"?"),
                ("2:", "must be true or false"),
            ],
        ),
    ];
    let rows: Vec<_> = texts.iter().map(|(text, wanted)| (&**text, &**wanted)).collect();
    check(&rows);
}

/// A config with these `issuers`, and this behind them in `auth`, on line 2.
macro_rules! issuers {
    ($issuers:literal, $auth:literal) => {
        concat!(
            "{\"proxy\": {\"baseUrl\": \"http://localhost:8080\", \"auth\": {\"issuers\": {\n",
            $issuers,
            "}",
            $auth,
            "}}, \"mcpServers\": {\"a\": {\"url\": \"http://h/mcp\"}}}"
        )
    };
}

#[test]
fn tokens_of_others_that_would_not_be_taken_or_too_many_of_them() {
    let bare = "is http://, over which anybody on the way could give the gateway keys of his own";
    let name = "an issuer needs a name of 1 to 128 characters on one line, without a colon";
    check(&[
        (issuers!("\"corp\": {\"issuer\": \"https://a\"}", ""), &[]),
        (issuers!("\"corp\": \"https://a\"", ""), &[("2:9:", "must be an object")]),
        (issuers!("\"co:rp\": {\"issuer\": \"https://a\"}", ""), &[("2:1:", name)]),
        (issuers!("\"corp\": {}", ""), &[("2:9:", "needs an `issuer`: the URL that `iss` of its tokens is")]),
        (
            issuers!("\"corp\": {\"issuer\": \"login.corp\"}", ""),
            &[("2:20:", "must start with http:// or https://")],
        ),
        (issuers!("\"corp\": {\"issuer\": \"http://login.corp\"}", ""), &[("2:20:", bare)]),
        (issuers!("\"corp\": {\"issuer\": \"http://127.0.0.1:1/x\"}", ""), &[]),
        (
            issuers!("\"corp\": {\"issuer\": \"https://a/?x\"}", ""),
            &[("2:20:", "has a query, which no issuer has")],
        ),
        (issuers!("\"corp\": {\"issuer\": \"https://a/#x\"}", ""), &[("2:20:", "has a #fragment")]),
        (
            issuers!("\"corp\": {\"issuer\": \" https://a\"}", ""),
            &[("2:20:", "has a blank in it, and is compared byte by byte")],
        ),
        (
            issuers!("\"corp\": {\"issuer\": \"https://a\", \"jwksUrl\": \"http://a/keys\"}", ""),
            &[("2:44: proxy.auth.issuers.corp.jwksUrl:", bare)],
        ),
        (
            issuers!("\"corp\": {\"issuer\": \"https://a\"}, \"team\": {\"issuer\": \"https://a\"}", ""),
            &[("2:34: proxy.auth.issuers.team:", "has the same `issuer` as \"corp\"")],
        ),
        (
            issuers!(
                "\"corp\": {\"issuer\": \"https://a\", \"algorithms\": [\"none\", \"HS256\", \"ES512\"]}",
                ""
            ),
            &[
                ("2:48:", "is no signature, so that anybody could write a token"),
                (
                    "2:56:",
                    "has one secret that both makes and checks tokens, so that whoever can check one could write any",
                ),
                ("2:65:", "\"ES512\" is no algorithm that is taken; use some of \"RS256\""),
            ],
        ),
        (
            issuers!("\"corp\": {\"issuer\": \"https://a\", \"algorithms\": [], \"typ\": []}", ""),
            &[
                ("2:33:", "algorithms: warning: is empty, so that no token is taken"),
                ("2:51:", "typ: warning: is empty, so that no token is taken"),
            ],
        ),
        (
            issuers!(
                "\"corp\": {\"issuer\": \"https://a\", \"typ\": [\"a b\"], \"leeway\": \"6m\", \"tenantId\": \" \"}",
                ""
            ),
            &[
                ("2:41:", "is no type; write it as `typ` of a token has it, as in \"at+jwt\""),
                ("2:49:", "is longer than 5 minutes, so that tokens would be good long after their end"),
                ("2:77:", "is empty; write a word, or remove it"),
            ],
        ),
        (
            issuers!(
                "\"corp\": {\"issuer\": \"https://a\", \"jwks_uri\": \"https://a/k\", \"audience\": \"x\", \"roles\": []}",
                ""
            ),
            &[
                ("2:33:", "unknown key; it is `jwksUrl` here"),
                ("2:60:", "unknown key; is `audiences` here, a list of values of `aud`"),
                (
                    "2:77:",
                    "unknown key; what those get who come with its tokens is in `assign` beside `issuers`",
                ),
            ],
        ),
        (
            issuers!(
                "\"corp\": {\"issuer\": \"https://a\", \"introspection_endpoint\": \"https://a/i\", \"clientId\": \"g\"}",
                ""
            ),
            &[
                ("2:33:", "unknown key; is `url` in `introspection` here"),
                ("2:74:", "unknown key; the gateway is a client of the issuer only to ask it about tokens"),
            ],
        ),
    ]);
}

#[test]
fn how_an_issuer_is_asked_about_tokens() {
    const GOOD: &str = r#""url": "https://a/i", "clientId": "g", "clientSecret": "s-of-the-gateway""#;
    let with = |introspection: &str| {
        let corp = format!(r#""corp": {{"issuer": "https://a", "introspection": {{{introspection}}}}}"#);
        format!(
            "{{\"proxy\": {{\"baseUrl\": \"https://m\", \"auth\": {{\"issuers\": {{{corp}}}}}}}, \"mcpServers\": {{}}}}"
        )
    };
    for (introspection, said) in [
        ("", "needs a `url`, at which the issuer answers"),
        ("", "needs a `clientId`"),
        ("", "needs a `clientSecret`"),
        (r#""url": "http://a/i", "clientId": "g", "clientSecret": "s""#, "is http://"),
        (r#""url": "https://a/i", "clientId": " ", "clientSecret": "s""#, "is empty; write a word"),
        (r#""url": "https://a/i", "clientId": "g", "clientSecret": " ""#, "is empty; write the secret"),
        (&format!(r#"{GOOD}, "cacheTtl": "11m""#), "is longer than 10 minutes"),
        (&format!(r#"{GOOD}, "tokenPrefix": "a b""#), "is no beginning of a token"),
        (&format!(r#"{GOOD}, "tokenPrefix": """#), "is no beginning of a token"),
        (&format!(r#"{GOOD}, "ttl": "1m""#), "unknown key; it is `cacheTtl` here"),
    ] {
        let problems = lines_of(with(introspection).as_bytes()).join("\n");
        assert!(problems.contains(said), "{introspection}: {problems}");
        assert!(!problems.contains("s-of-the-gateway"), "{problems}");
    }
}

#[test]
fn what_those_are_given_who_come_with_tokens_of_others() {
    let address = "is no address; write all of it, as in \"alice@corp.example\", or \"*@corp.example\" for all of a host";
    check(&[
        (
            issuers!("\"corp\": {\"issuer\": \"https://a\"}", ",\n\"assign\": {}"),
            &[("3:11:", "must be a list [ … ], not an object")],
        ),
        (
            issuers!("\"corp\": {\"issuer\": \"https://a\"}", ",\n\"assign\": [{\"roles\": [\"r\"]}]"),
            &[("3:12: proxy.auth.assign[0]:", "needs an `if` that says whom it is for")],
        ),
        (
            issuers!(
                "\"corp\": {\"issuer\": \"https://a\"}",
                ",\n\"assign\": [{\"if\": {}, \"roles\": [\"r\"]}]"
            ),
            &[(
                "3:19: proxy.auth.assign[0].if:",
                "is empty, which would be everybody with a token of any issuer",
            )],
        ),
        (
            issuers!(
                "\"corp\": {\"issuer\": \"https://a\"}",
                ",\n\"assign\": [{\"if\": {\"issuer\": \"corp\"}}]"
            ),
            &[("3:12:", "warning: gives nothing; add `roles`, `servers` or `tags`")],
        ),
        (
            issuers!(
                "\"corp\": {\"issuer\": \"https://a\"}",
                ",\n\"assign\": [{\"if\": {\"issuer\": \"crop\"}, \"roles\": [\"r\"]}, {\"if\": {\"issuer\": \"other\"}, \"roles\": [\"r\"]}]"
            ),
            &[
                ("3:30:", "is no name in `issuers`; did you mean \"corp\"?"),
                ("3:74:", "is no name in `issuers`; name one of \"corp\""),
            ],
        ),
        (
            issuers!(
                "\"corp\": {\"issuer\": \"https://a\"}",
                ",\n\"assign\": [{\"if\": {\"claim\": \"g\"}, \"roles\": [\"r\"]}, {\"if\": {\"has\": \"g\"}, \"roles\": [\"r\"]}]"
            ),
            &[
                ("3:20:", "needs `has` beside it: a text that the claim is, or has in its list"),
                ("3:60:", "needs `claim` beside it: the claim that has it"),
            ],
        ),
        (
            issuers!(
                "\"corp\": {\"issuer\": \"https://a\"}",
                ",\n\"assign\": [{\"if\": {\"email\": \"corp.example\", \"group\": \"g\"}, \"servers\": [\"b\"]}]"
            ),
            &[
                ("3:29:", address),
                ("3:45:", "unknown key; is `claim` here, the name of the claim, and beside it what it `has`"),
                ("3:72:", "is no server in `mcpServers`"),
            ],
        ),
    ]);
    for email in
        ["@corp.example", "*@", "a*@corp.example", "*@*", "a@b@c", "a b@c", "*@*.corp.example", "a@c\u{202e}"]
    {
        let assign = format!("\"assign\": [{{\"if\": {{\"email\": \"{email}\"}}, \"roles\": [\"r\"]}}]");
        let config = format!(
            "{{\"proxy\": {{\"auth\": {{\"issuers\": {{\"a\": {{\"issuer\": \"https://a\", \"audiences\": [\"x\"]}}}}, {assign}}}}}, \"mcpServers\": {{}}}}"
        );
        let found = lines_of(config.as_bytes());
        assert!(found.iter().any(|line| line.contains(address)), "{email}: {found:#?}");
    }
    let notices = |auth: &str| {
        let config = format!("{{\"proxy\": {{\"auth\": {{{auth}}}}}, \"mcpServers\": {{}}}}");
        said_of(config.as_bytes()).iter().map(|notice| notice.message.clone()).collect::<String>()
    };
    let assign = "\"assign\": [{\"if\": {\"email\": \"*@a\"}, \"roles\": [\"r\"]}]";
    assert!(
        notices(assign)
            .contains("has no effect, because there are no `issuers` whose tokens it could be for")
    );
    let two = "\"issuers\": {\"a\": {\"issuer\": \"https://a\", \"audiences\": [\"x\"]}, \"b\": {\"issuer\": \"https://b\", \"audiences\": [\"x\"]}}";
    assert!(notices(&format!("{two}, {assign}")).contains("is for tokens of every one of `issuers`"));
}

#[test]
fn the_url_of_the_gate_fits_what_it_speaks() {
    check(&[
        (
            proxy!("\"baseUrl\": \"https://h\""),
            &[(
                "2:22: proxy.baseUrl:",
                "warning: is https://, and without `tls` the gateway speaks plain HTTP",
            )],
        ),
        (proxy!("\"baseUrl\": \"https://h\", \"trustedProxies\": [\"127.0.0.1\"]"), &[]),
        (proxy!("\"baseUrl\": \"http://h\""), &[]),
        (
            proxy!(
                "\"rateLimits\": {\"principal\": \"600/minute\", \"peer\": \"0/s\", \"server\": \"5/min\", \"allow\": [\"here\"]}"
            ),
            &[
                (
                    "2:39: proxy.rateLimits.principal:",
                    "is no rate; write how many in which time, as in \"20/s\"",
                ),
                ("2:61: proxy.rateLimits.peer:", "is no rate"),
                ("2:97: proxy.rateLimits.allow[0]:", "is no address or network"),
            ],
        ),
        (
            proxy!("\"baseUrl\": \"http://h\", \"tls\": {\"selfSigned\": true}"),
            &[("2:22: proxy.baseUrl:", "warning: is http://, and with `tls` the gateway speaks HTTPS only")],
        ),
    ]);
}

#[test]
fn a_name_is_not_the_token() {
    check(&[
        (
            tokens!("\"sg_abcdefghijklmnopqrstuv\": \"sg_abcdefghijklmnopqrstuv\""),
            &[("2:1:", "looks like a token, and a token's name is shown in logs and metrics")],
        ),
        (
            tokens!("\"the-token-of-the-team\": \"the-token-of-the-team\""),
            &[("2:26:", "is also its name, which logs and metrics show; give it another name")],
        ),
    ]);
}

#[test]
fn what_a_program_gets_of_the_environment() {
    check(&[
        (
            servers!(
                "\"a\": {\"command\": \"sh\", \"args\": [\"--header\", \"Authorization:${AUTH_HEADER}\"], \"env\": {\"PATH\": \"/bin\", \
                 \"AUTH_HEADER\": \"x\"}}"
            ),
            &[("2:45:", "write `$${AUTH_HEADER}` if the program replaces it")],
        ),
        (
            servers!(
                "\"a\": {\"command\": \"sh\", \"args\": [\"--key=${API_KEY}\"], \"env\": {\"PATH\": \"/bin\"}}"
            ),
            &[("2:33:", "API_KEY is not set; set it where the gateway is started")],
        ),
        (
            servers!("\"a\": {\"command\": \"no-such\", \"inheritEnv\": [\"NAME\"]}"),
            &[(
                "2:18:",
                "warning: is not found, because `inheritEnv` takes the place of its defaults and has no \"PATH\"",
            )],
        ),
        (
            servers!("\"a\": {\"command\": \"sh\", \"env\": {\"PATH\": \"/bin\"}, \"inheritEnv\": [\"*\"]}"),
            &[("2:64:", "warning: passes nothing")],
        ),
    ]);
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    check(&[
        // A kind that is none does not hide the tokens.
        (
            "{\"proxy\": {\"auth\": {\"kind\": \"token\",\n\"tokens\": {\"dev\": \"\"}}},\n\"mcpServers\": {}}",
            &[
                ("1:29: proxy.auth.kind:", "\"token\" is no kind of auth; use \"bearer_token\""),
                ("2:19: proxy.auth.tokens.dev:", "is empty"),
            ],
        ),
    ]);
}

#[test]
fn no_hint_opens_every_server_to_every_token() {
    let config = |kind: &str| {
        format!(
            "{{\"proxy\": {{\"auth\": {{\"kind\": \"{kind}\", \"tokens\": {{\n\"database\": [\"token-of-the-database-1\"],\n\"files\": [\
             \"token-of-the-files-123\"]}}}}}},\n\"mcpServers\": {{\"database\": {{\"url\": \"http://a/mcp\"}},\n\"files\": {{\"url\": \
             \"http://b/mcp\"}}}}}}"
        )
    };
    let found = lines_of(config("bearerToken").as_bytes());
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].contains("list in the `authTokens` of each server the names that may use it, and only then"),
        "{found:?}"
    );
    for word in ["BearerToken", "bearertoken", "bearer-token", "static"] {
        let found = lines_of(config(word).as_bytes());
        assert!(
            found.len() == 1 && found[0].contains("and only then write \"bearer_token\""),
            "{word}: {found:?}"
        );
    }
    // Nor is there a kind without the word.
    let found = lines_of(config("x").replace("\"kind\": \"x\", ", "").as_bytes());
    assert!(found.len() == 1 && found[0].contains("and only then write \"bearer_token\""), "{found:?}");
    // A token of two servers stays as its clients have it.
    let shared = config("bearerToken").replace("token-of-the-files-123", "token-of-the-database-1");
    let found = lines_of(shared.as_bytes());
    assert!(
        found.len() == 2 && found[1].contains("keep one of the two names, and list it in the `authTokens`"),
        "{found:?}"
    );
    // Whoever changes only the word is told what that opens.
    let found = lines_of(config("bearer_token").as_bytes());
    for name in ["database", "files"] {
        let wanted = format!(
            "any token may use this server, though one has its name; write \"authTokens\": [\"{name}\"]"
        );
        assert!(found.iter().any(|line| line.contains(&wanted)), "{found:?}");
    }
}

#[test]
fn what_works_and_was_probably_not_meant_is_a_warning() {
    check(&[
        (
            servers!("\"a\": {\"url\": \"http://h\", \"timeout\": 15000}"),
            &[(
                "2:37:",
                "warning: is 4h 10m, because a number is seconds; write \"15000ms\" if it is milliseconds",
            )],
        ),
        (servers!("\"a\": {\"url\": \"http://h\", \"timeout\": 30}"), &[]),
        (
            servers!("\"a\": {\"url\": \"http://h\", \"headers\": {\"X\": \"$API_KEY\"}}"),
            &[("2:43:", "warning: a name behind a dollar sign is passed as it stands; write `${NAME}`")],
        ),
        (servers!("\"a\": {\"url\": \"http://h\", \"headers\": {\"X\": \"$$API_KEY\"}}"), &[]),
        (
            servers!("\"a\": {\"command\": \"no-such-program\"}"),
            &[("2:18:", "warning: is not found in the `PATH` that it gets")],
        ),
        (servers!("\"a\": {\"command\": \"npx -y x\"}"), &[("2:18:", "arguments stand in `args`")]),
        (
            servers!("\"a\": {\"command\": \"two-lines.token\"}"),
            &[("2:18:", "warning: is found in the `PATH` that it gets, and may not be run")],
        ),
        (servers!("\"a\": {\"command\": \"/nowhere/x\"}"), &[("2:18:", "warning: does not exist")]),
        (servers!("\"a\": {\"command\": \"sh\", \"env\": {\"PATH\": \"/usr/bin:/bin\"}}"), &[]),
        (
            "{\n\"mcpServers\": {\"a\": {\"url\": \"http://h\"},\n\"b\": {\"url\": \"http://h\"}}}",
            &[("1:1: proxy.auth:", "warning: there is no token, so nobody can use a server")],
        ),
    ]);
}

#[test]
fn comments_in_the_form_of_keys_mean_nothing() {
    check(&[
        (
            "{\"_comment\": 1, \"//\": 2, \"description\": 3, \"proxy\": {\"//addr\": 1, \"description\": \"x\",\n\"auth\": {\"tokens\": \
             {\"//\": \"x\", \"a\": {\"value\": \"a-token-that-is-long\", \"_of\": \"me\"}}}},\n\"mcpServers\": {\"//old\": 1, \"_note\": \"x\", \
             \"a\": {\"description\": 7, \"url\": \"http://h\", \"headers\": {\"//\": \"x\"}}}}",
            &[],
        ),
        (servers!("\"a\": {\"url\": \"http://h\", \"headers\": {\"X\": {\"$text\": \"env:HOME\"}}}"), &[]),
        (
            servers!("\"a\": {\"url\": \"http://h\", \"headers\": {\"X\": {\"$text\": 5}}}"),
            &[("2:53:", "text in double quotes, which is taken as it stands")],
        ),
    ]);
}

/// Wherever a secret stands, and whatever is wrong beside it, no message and no line that is shown holds it.
#[test]
fn no_secret_is_shown_wherever_it_stands() {
    const CANARY: &str = "CANARY-0123456789-abcdef";
    let lines = [
        r#""proxy": { "sessionKey": "CANARY", "wrong1": 1, "baseUrl": "https://u:CANARY@h/", "addr": "CANARY", "name": "CANARY\n","#,
        r#""allowedHosts": ["CANARY CANARY"], "allowedOrigins": ["CANARY"], "trustedProxies": ["CANARY"],"#,
        r#""log": { "level": "CANARY", "format": "CANARY", "CANARX": 1 }, "limits": { "headerTimeout": "CANARY", "maxUriBytes": "CANARY" },"#,
        r#""tls": { "cert": "CANARY\n", "key": "CANARY\n", "wrong2": 1 }, // CANARY"#,
        r#""auth": { "kind": "CANARY", "queryToken": "CANARY", "tokens": { "a": ["CANARY x", "CANARY", "CANARY"], "b": { "sha256": "CANARY", "wrong3": 1 },"#,
        r#""c": { "value": "CANARY y", "expires": "CANARY", "roles": "CANARY", "wrong4": "CANARY" }, "d": "$env:CANARY CANARY", "e": { "$env": "CANARY" }, "kind": "CANARY z", "f": 12345678, "sg_CANARY": "dev", "CANARY": 5, "CANARY z": [5], "g": { "$file": "sg_CANARY" }, "h": { "$env": "SECRETTOKEN0123456789" }, "": { "value": "CANARY" } } } },"#,
        r#""mcpServers": { "a": { "url": "CANARY://CANARY", "wrong5": "CANARY", "headers": { "Authorization": "Bearer CANARY\n", "type": "CANARY\n" },"#,
        r#""authTokens": ["CANARY"], "roles": ["CANARY", ""], "tags": [""], "timeout": "CANARY", "type": "CANARY", "caFile": "CANARY\n" },"#,
        r#""b": { "command": "\u0000CANARY", "args": ["--key=CANARY", 5], "env": { "KEY": "CANARY\u0000", "level": "CANARY", "timeout": 5 }, "cwd": "CANARY", "wrong6": ["CANARY"] },"#,
        r#""c": { "command": "x", "inline": { "tools": [{ "name": "CANARY CANARY", "command": "", "args": ["{{CANARY}}", 5] }] }, "options": { "toolFilter": { "mode": "CANARY", "list": "CANARY" } } },"#,
        // In the place of keys, and of what names a variable or a file.
        r#""e": { "url": "http://h", "caFile": "CANARY", "headers": { "Authorization: Bearer CANARY": "", "CANARY": { "$env": "CANARY_" }, "CANARY x": 5, "X": { "$file": "CANARY" } } },"#,
        r#""f": { "command": "x", "cwd": "CANARY", "env": { "KEY=CANARY": "", "CANARY ": 5, "ABCDEFGHIJ0123456789": { "$env": "SECRETTOKEN0123456789" }, "A": "$env:SECRETTOKEN0123456789", "B": "env:SECRETTOKEN0123456789|x", "C": "${input:CANARY}", "D": "${env:SECRETTOKEN0123456789}" } },"#,
        r#""CANARY": { "url": 5, "CANARY": 5 }, "canary-0123456789-abcdef": {}, "https://CANARY/x": {} },"#,
        r#""CANARY": 1, "sg_CANARY": { "CANARY": 1 }"#,
    ];
    let whole = format!("{{\n{}\n}}", lines.join("\n")).replace("CANARY", CANARY);
    let mut texts = vec![whole.clone()];
    // And of texts that are no JSON any more: a character is missing, or one too many, anywhere.
    for at in (0..whole.len()).filter(|at| whole.is_char_boundary(*at)) {
        if !"\"{}[]:,".contains(&whole[at..=at]) {
            continue;
        }
        let (before, from, after) = (&whole[..at], &whole[at..], &whole[at + 1..]);
        texts.push(match texts.len() % 4 {
            0 => format!("{before}{after}"),
            1 => format!("{before}“{after}"),
            2 => format!("{before}\"{from}"),
            _ => format!("{before}\n{from}"),
        });
    }
    let mut shown = 0;
    for text in &texts {
        for problem in said_of(text.as_bytes()) {
            let told = problem.with_excerpt();
            assert!(!told.contains("0123456789") && !told.contains("12345678"), "{told}\nin\n{text}");
            shown += 1;
        }
    }
    assert!(shown > texts.len() && said_of(whole.as_bytes()).len() > 30, "{shown}");
}

#[test]
fn what_belongs_into_a_server_is_sent_there() {
    const NONE: &str = "there are no defaults or templates for servers here";
    check(&[
        ("{\"defaults\": {\"url\": \"http://h/mcp\"}, \"mcpServers\": {}}", &[("1:2: defaults:", NONE)]),
        (proxy!("\"defaults\": {\"headers\": {\"X\": \"y\"}}"), &[("2:11: proxy.defaults:", NONE)]),
        (
            servers!(
                "\"url\": \"http://h/mcp\",\n\"headers\": {\"X\": \"y\"},\n\"env\": {\"A\": \"b\"},\n\"command\": \"sh\",\n\"args\": []"
            ),
            &[
                (
                    "2:1: mcpServers.url:",
                    "is a key of a server, and stands in it: { \"NAME\": { \"url\": … } }",
                ),
                ("3:1: mcpServers.headers:", "{ \"headers\": … }"),
                ("4:1: mcpServers.env:", "{ \"env\": … }"),
                ("5:1: mcpServers.command:", "{ \"command\": … }"),
                ("6:1: mcpServers.args:", "{ \"args\": … }"),
            ],
        ),
        (
            servers!("\"defaults\": {\"headers\": {\"X\": \"y\"}, \"timeout\": \"9s\"}"),
            &[("2:1: mcpServers.defaults:", NONE)],
        ),
        // Names like any other, where there is a server.
        (servers!("\"env\": {\"url\": \"http://h/mcp\"}, \"defaults\": {\"url\": \"http://h/mcp\"}"), &[]),
        (servers!("\"options\": {\"cmd\": \"sh\"}"), &[("2:13: mcpServers.options.cmd:", "`command`")]),
    ]);
}

#[test]
fn a_container_that_is_to_have_a_variable_which_its_command_lacks() {
    const LACKS: &str = "passes on a variable that the command itself does not have";
    check(&[
        (
            servers!(
                "\"a\": {\"command\": \"/x/docker\", \"args\": [\"run\", \"-i\",\n\"-e\", \"ONE\",\n\"--env\", \"TWO\",\n\"--env=THREE\",\n\"-eFOUR\", \"image\"]}"
            ),
            &[
                ("2:18: mcpServers.a.command:", "does not exist"),
                ("3:7: mcpServers.a.args[3]:", "\"env\": { \"ONE\": \"${ONE}\" }"),
                ("4:10: mcpServers.a.args[5]:", "TWO"),
                ("5:1: mcpServers.a.args[6]:", LACKS),
                ("6:1: mcpServers.a.args[7]:", LACKS),
            ],
        ),
        (
            servers!(
                "\"a\": {\"command\": \"sh\", \"args\": [\"-e\", \"ONE\"], \"env\": {\"PATH\": \"/bin\"}},\n\"b\": {\"command\": \"/x/podman\", \"env\": {\"ONE\": \"1\"}, \"inheritEnv\": [\"HEX\"], \"args\": [\"run\", \"-e\", \"ONE\", \"-e\", \"HEX\", \"-e\", \"TWO=2\", \"-e\"]}"
            ),
            &[("3:18: mcpServers.b.command:", "does not exist")],
        ),
    ]);
}

/// What is long and wrong all over is told as soon as what is short, and not all of it.
#[test]
fn a_hundred_problems_are_told_and_then_their_number() {
    let entries = |count: usize| (0..count).map(|index| format!("\"wrong{index}\": 1")).collect::<Vec<_>>();
    let found = said_of(format!("{{{}}}", entries(40_000).join(",\n")).as_bytes());
    assert_eq!(found.len(), 101);
    assert_eq!((found[99].line, &*found[99].key_path), (99, "wrong98"));
    assert_eq!(found[100].message, "and 39901 more like these; mend those above first");
    // On one line, each problem counts the columns of the line.
    let found = said_of(format!("{{{}}}", entries(40_000).join(",")).as_bytes());
    assert_eq!((found.len(), found[100].severity), (101, Severity::Error));

    let found = said_of(format!("{{\"proxy\": {{{}}}}}", entries(100).join(",\n")).as_bytes());
    assert!(found.last().is_some_and(|last| last.message.starts_with("and 1 more")), "{:?}", found.last());
    // What stops the config is told before what does not.
    let server = |index: usize| format!("\"s{index}\": {{\"command\": \"no-such-program\"}}");
    let servers: Vec<_> = (0..200).map(server).collect();
    let found = said_of(format!("{{\"mcpServers\": {{{},\n\"bad\": 5}}}}", servers.join(",\n")).as_bytes());
    assert!(found.iter().any(|problem| problem.key_path == "mcpServers.bad"), "{:?}", found.last());
    assert_eq!(found.last().map(|last| last.severity), Some(Severity::Warning));
}

#[test]
fn the_place_is_shown_as_it_stands_in_the_file() {
    let found =
        said_of("{\n  \"proxy\": {\n\t\"adr\": \":8080\" // here\n  },\n  \"mcpServers\": {}\n}".as_bytes());
    let [problem] = found.as_slice() else { panic!("{found:#?}") };
    let file = problem.file.display();
    assert_eq!(
        problem.with_excerpt(),
        format!(
            "{file}:3:2: proxy.adr: unknown key; did you mean `addr`?\n  |\n3 |  \"adr\": \"…\" // …\n  |  ^^^^^\n"
        )
    );
    assert!(Path::new(&problem.file).is_absolute());
}
