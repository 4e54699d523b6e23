//! The table, the reader and the schema agree about what is a good config.
#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::path::Path;

use boon::{Compiler, SchemaIndex, Schemas, ValidationError};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use crate::config::{
    load,
    table::{
        REFERENCE, ROOT,
        key::{Absent, Key, LONGEST, Object, ValueKind, objects},
    },
};

/// The schema, ready to check with.
struct Schema {
    schemas: Schemas,
    index: SchemaIndex,
}

impl Schema {
    fn new() -> Self {
        let schema: Json = serde_json::from_str(&crate::config::schema()).expect("the schema is JSON");
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.add_resource("schema:///config", schema).expect("added");
        let index = compiler.compile("schema:///config", &mut schemas).expect("the schema is a JSON Schema");
        Self { schemas, index }
    }

    fn check<'v>(&self, config: &'v Json) -> Result<(), Box<ValidationError<'_, 'v>>> {
        self.schemas.validate(config, self.index).map_err(Box::new)
    }
}

/// The reader, with every file and variable that configs here name.
struct Reader(TempDir);

impl Reader {
    fn new() -> Self {
        let directory = TempDir::new().expect("a directory");
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(vec!["h".to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("a certificate").pem();
        let write =
            |name: &str, text: &str| std::fs::write(directory.path().join(name), text).expect("written");
        write("cert.pem", &certificate);
        write("ca.pem", &certificate);
        write("key.pem", &key.serialize_pem());
        write("text", "0123456789abcdef0123456789abcdef");
        std::fs::create_dir(directory.path().join("notes")).expect("created");
        Self(directory)
    }

    fn check(&self, config: &Json) -> Result<(), String> {
        let path = self.0.path().join("gate.json");
        std::fs::write(&path, config.to_string()).expect("written");
        let loaded = load(&path, &|_| Some("0123456789abcdef0123456789abcdef".into()));
        match loaded.snapshot {
            Some(_) => Ok(()),
            None => Err(loaded.problems.iter().map(|problem| format!("{problem}\n")).collect()),
        }
    }
}

/// An object that is good as it is, to which the key in question is added.
fn base(object: &Object) -> Json {
    match object.name {
        "proxy" => json!({ "allowedHosts": ["h"] }),
        "tls" => json!({ "cert": "cert.pem", "key": "key.pem" }),
        "token" => json!({ "value": "a-token-that-is-long-enough" }),
        "user" => {
            json!({ "passwordHash": "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA" })
        }
        "issuer" => json!({ "issuer": "https://login.h", "audiences": ["a"] }),
        "idp" => {
            json!({ "provider": "oidc", "clientId": "a", "issuer": "https://login.i", "tenantId": "t", "allowedOrgs": ["o"] })
        }
        "introspection" => {
            json!({ "url": "https://login.h/i", "clientId": "gate", "clientSecret": "secret-of-the-gateway" })
        }
        "assignment" => json!({ "if": { "claim": "groups", "has": "eng" } }),
        "condition" => json!({ "claim": "groups", "has": "eng" }),
        "admin" => json!({ "addr": "127.0.0.1:9090" }),
        "server" => json!({ "url": "https://h/mcp" }),
        "upstreamAuth" => json!({ "kind": "none" }),
        "toolFilter" => json!({ "mode": "allow", "list": ["a"] }),
        "inline" => json!({ "tools": [] }),
        "tool" => json!({ "name": "a", "command": "c" }),
        _ => json!({}),
    }
}

/// A good config in which the object at `path` is what `change` makes of one that is good as it is.
fn config_with(path: &str, change: impl FnOnce(&mut Json)) -> Json {
    let all = objects(&ROOT);
    let known = |path: &str| all.iter().find(|(known, _)| known == path).map(|(_, object)| *object);
    let tokens = json!({ "dev": "token-of-dev-alone", "ci": "token-of-ci-alone" });
    let mut config = json!({ "proxy": base(known("proxy").expect("known")), "mcpServers": {} });
    let issuers = json!({ "text": { "issuer": "https://login.text", "audiences": ["a"] } });
    config["proxy"]["auth"] = json!({ "tokens": tokens, "issuers": issuers, "allowedDomains": ["h"] });
    let (mut here, mut parent) = (&mut config, String::new());
    for segment in path.split('.').filter(|segment| !segment.is_empty()) {
        let name = segment.trim_end_matches("[]");
        if let Some(object) = known(&parent).filter(|object| object.one_of.contains(&name)) {
            remove(here, object.one_of);
        }
        let full = if parent.is_empty() { segment.to_owned() } else { format!("{parent}.{segment}") };
        let new = known(&full).map_or(json!({}), base);
        let fields = here.as_object_mut().expect("an object");
        if segment.ends_with("[]") {
            fields.insert(name.into(), json!([new]));
            here = &mut fields[name][0];
        } else {
            here = fields.entry(if name == "NAME" { "it" } else { name }).or_insert(new);
        }
        parent = full;
    }
    change(here);
    config
}

fn remove(object: &mut Json, names: &[&str]) {
    object.as_object_mut().expect("an object").retain(|name, _| !names.contains(&name.as_str()));
}

/// Puts the key into its object, beside what it is beside.
fn put(object: &mut Json, described: &Object, key: &Key, name: &str, value: &Json) {
    if described.one_of.contains(&key.name) || key.beside == Some("command") {
        remove(object, described.one_of);
    }
    if key.beside == Some("command") {
        object["command"] = "c".into();
    }
    if name != key.name {
        remove(object, &[key.name]);
    }
    object[name] = value.clone();
}

/// Values to try for a key, good and bad.
fn values(key: &Key) -> Vec<Json> {
    let mut values = vec![
        json!(null),
        json!(true),
        json!(false),
        json!(0),
        json!(1),
        json!(-1),
        json!(1.5),
        json!(""),
        json!(" "),
        json!("a b"),
        json!("a\nb"),
        json!("a\0b"),
        json!("é"),
        json!("a"),
        json!("text"),
        json!("xy".repeat(20)),
        json!("xy".repeat(150)),
        json!("1.0"),
        json!("5s"),
        json!("true"),
        json!([]),
        json!(["a"]),
        json!(["dev"]),
        json!([""]),
        json!([" "]),
        json!([5]),
        json!([null]),
        json!({}),
        json!({ "a": 1 }),
        json!({ "type": "object" }),
        json!({ "type": "string" }),
        json!("$env:VAR"),
        json!("${VAR}"),
        json!("$env:VAR|text"),
        json!({ "$env": "VAR" }),
        json!({ "$env": 5 }),
        json!({ "$file": "text" }),
        json!({ "$env": "VAR", "$file": "text" }),
        json!({ "$env": "VAR", "other": "text" }),
        json!(["$env:VAR"]),
    ];
    values.extend(key.examples.iter().map(|text| serde_json::from_str(text).expect("an example is JSON")));
    values.extend(crate::config::report::schema::default(key));
    match key.kind {
        ValueKind::Object(object) => values.push(base(object)),
        ValueKind::Number { least, most, .. } => {
            values.extend([json!(least), json!(most), json!(least.saturating_sub(1))]);
            values.extend(most.checked_add(1).map(Json::from));
        }
        ValueKind::Duration(least) => {
            let (least, most) = (least.as_secs_f64(), LONGEST.as_secs_f64());
            values.extend([least, most, least / 2.0, most + 1.0].map(Json::from));
            values.extend(["1h 30m", " 1.5s ", "0", "3 parsecs", "5", "s", "1µs1s"].map(Json::from));
        }
        ValueKind::Word(words) => {
            for word in words.words {
                values.extend([json!(word.0), json!(word.0.to_uppercase()), json!(format!("{}s", word.0))]);
                values.extend(word.1.iter().map(|other| json!(other)));
            }
        }
        ValueKind::Map { of, .. } => {
            let good = match of {
                ValueKind::Object(object) => base(object),
                _ => json!("a-text-that-is-long-enough"),
            };
            for name in
                ["a", "", "a b", "a=b", "a\nb", "a\0b", "mcp", "auth", "é", &"n".repeat(65), &"n".repeat(200)]
            {
                values.push(json!({ name: good }));
            }
            values.push(json!({ "a": 5 }));
            values.push(json!({ "a": "line\nbreak" }));
        }
        _ => {}
    }
    values.extend(match key.name {
        "sha256" | "secretSha256" => {
            vec![json!("0a".repeat(32)), json!("0g".repeat(32)), json!("0A".repeat(33))]
        }
        "expires" => {
            vec![json!("2027-01-31"), json!("2027-01-31T00:00:00+01:00"), json!("2027-01-31T00:00:00.5Z")]
        }
        "cert" | "caFile" => vec![json!("cert.pem")],
        "separator" => vec![json!("12345678901234567")],
        _ => vec![],
    });
    values
}

/// What the reader may refuse though the schema takes it, because a schema cannot say it; and why.
fn is_beyond_a_schema(object: &Object, key: &Key, value: &Json) -> bool {
    let text = value.to_string();
    match (object.name, key.name) {
        // What a reference leads to is not known.
        _ if text.contains('$') => true,
        // Grammars of their own.
        ("proxy" | "admin", "addr") | ("proxy", "baseUrl") | ("server", "url") => true,
        ("issuer", "issuer" | "jwksUrl") => true,
        ("idp", "issuer" | "redirectUri") | ("auth", "googleRedirectUri") => true,
        ("idp", "discoveryUrl" | "authorizationUrl" | "tokenUrl" | "userInfoUrl") => true,
        ("auth", "issuer" | "registration") | ("client", "redirectUris") => true,
        ("proxy", "allowedHosts" | "allowedOrigins" | "trustedProxies") | ("rateLimits", "allow") => true,
        // Files have to be there, and what they are for.
        _ if matches!(key.kind, ValueKind::Path) => true,
        // A pattern knows no size.
        _ if matches!(key.kind, ValueKind::Duration(_)) && *value == "0" => true,
        // A duration has no most of its own, and no least that is longer than a second.
        ("issuer", "leeway") | ("idp", "recheck") | ("introspection", "cacheTtl") => true,
        // It depends on other keys.
        ("issuer", "audiences") => *value == json!([]),
        ("assignment", "if") => *value == json!({}),
        ("condition", "issuer") => true,
        ("proxy", "tls") => true,
        ("auth", "kind") => text.eq_ignore_ascii_case("\"oauth\""),
        ("server", "upstreamAuth" | "auth_strategy" | "requiresUserToken") => true,
        // Grammars of their own, or what goes with others only.
        ("upstreamAuth", "kind" | "issuer" | "authorizationUrl" | "tokenUrl" | "revocationUrl") => true,
        ("upstreamAuth", "clientMetadataUrl" | "redirectUrl" | "helpUrl" | "serverTokenUrl") => true,
        ("upstreamAuth", "privateKey" | "resource" | "displayName" | "validation" | "tokenFormat") => true,
        ("upstreamAuth", "clientId" | "audience" | "serverClientId" | "instructions") => true,
        ("upstreamAuth", "clientSecret" | "serverClientSecret" | "token") | ("serviceAuth", "userToken") => {
            true
        }
        ("server" | "options", "authTokens") | ("server", "users" | "transportType") => true,
        ("token" | "user" | "client" | "assignment", "servers") | ("toolRule", "users") => true,
        ("auth", "idJag") | ("client", "jwksUrl") => true,
        // It has names of its own, which nothing else says of a key.
        ("client", "grants" | "jwks") => true,
        ("tls", "selfSigned") => true,
        // A schema does not know the words of examples.
        ("auth" | "tenants", "tokens") if *value == json!({ "type": "string" }) => true,
        _ => false,
    }
}

#[test]
fn reader_and_schema_agree_about_every_key() {
    let (schema, reader) = (Schema::new(), Reader::new());
    let mut faults = Vec::new();
    for (path, object) in objects(&ROOT) {
        for (key, name) in object.keys.iter().flat_map(|key| key.names().map(move |name| (key, name))) {
            let (mut taken, mut refused) = (0, 0);
            for value in values(key) {
                let config = config_with(&path, |here| put(here, object, key, name, &value));
                match (reader.check(&config), schema.check(&config)) {
                    (Ok(()), Ok(())) => taken += 1,
                    (Err(_), Err(_)) => refused += 1,
                    (Ok(()), Err(error)) => {
                        faults.push(format!("{path}.{name}: {value}: only the schema refuses it: {error:#}"));
                    }
                    (Err(_), Ok(())) if is_beyond_a_schema(object, key, &value) => {}
                    (Err(error), Ok(())) => {
                        faults.push(format!("{path}.{name}: {value}: only the reader refuses it: {error}"));
                    }
                }
            }
            if taken == 0 {
                faults.push(format!("{path}.{name}: no value is good"));
            }
            if refused == 0 && !matches!(key.kind, ValueKind::Ignored) {
                faults.push(format!("{path}.{name}: no value is bad; does the reader read it?"));
            }
        }
    }
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn reader_and_schema_agree_about_keys_that_are_missing_or_too_many() {
    let (schema, reader) = (Schema::new(), Reader::new());
    for (path, object) in objects(&ROOT) {
        let verdict = |change: &dyn Fn(&mut Json)| {
            let config = config_with(&path, change);
            let (read, fits) = (reader.check(&config), schema.check(&config));
            assert_eq!(read.is_ok(), fits.is_ok(), "{path}: {config}\n{read:?}\n{fits:#?}");
            read.is_ok()
        };
        assert!(verdict(&|_| {}), "{path}");
        assert!(!verdict(&|here| here["noSuchKey"] = 1.into()), "{path}");
        for key in object.keys.iter().filter(|key| matches!(key.absent, Absent::Required)) {
            assert!(!verdict(&|here| remove(here, &[key.name])), "{path}.{}", key.name);
        }
        if let [first, second, ..] = object.one_of {
            assert!(!verdict(&|here| remove(here, object.one_of)), "{path}");
            assert!(!verdict(&|here| (here[*first], here[*second]) = ("a".into(), "a".into())), "{path}");
        }
    }
}

#[test]
fn the_token_of_a_caller_stands_where_the_schema_says() {
    let (schema, reader) = (Schema::new(), Reader::new());
    let token = json!({ "$userToken": "Bearer {{token}}" });
    let with = |server: Json| {
        json!({ "proxy": { "baseUrl": "https://h", "allowedHosts": ["h"],
            "auth": { "kind": "oauth", "tokens": { "dev": "token-of-dev-alone" } } },
            "mcpServers": { "a": server } })
    };
    for (server, is_good) in [
        (json!({ "url": "https://h/mcp", "headers": { "X-Key": token } }), true),
        (json!({ "command": "c", "env": { "KEY": token } }), true),
        (json!({ "url": "https://h/mcp", "headers": { "X-Key": { "$userToken": "none" } } }), false),
        (
            json!({ "url": "https://h/mcp", "headers": { "X-Key": { "$userToken": "{token}", "$env": "A" } } }),
            false,
        ),
        (json!({ "url": token }), false),
        (json!({ "command": "c", "args": [token] }), false),
        (json!({ "command": token }), false),
        (json!({ "inline": { "tools": [{ "name": "a", "command": "c", "env": { "KEY": token } }] } }), false),
    ] {
        let config = with(server);
        let read = reader.check(&config);
        assert_eq!(read.is_ok(), is_good, "{config}\n{read:?}");
        assert_eq!(schema.check(&config).is_ok(), is_good, "{config}");
    }
}

#[test]
fn a_reference_is_read_as_the_schema_says() {
    let (schema, reader) = (Schema::new(), Reader::new());
    let names: Vec<_> = REFERENCE.names();
    assert_eq!(names, REFERENCE.one_of);
    for (reference, is_good) in [
        (json!({ "$env": "VAR" }), true),
        (json!({ "$file": "text" }), true),
        (json!({ "$file": { "$env": "VAR" } }), true),
        (json!({ "$file": { "$file": "text" } }), false),
        (json!({ "$env": { "$env": "VAR" } }), false),
        (json!({ "$env": "NOT A NAME" }), false),
        (json!({ "$env": "VAR", "$file": "text" }), false),
    ] {
        let config = json!({ "proxy": { "name": reference }, "mcpServers": {} });
        assert_eq!(schema.check(&config).is_ok(), is_good, "{reference}");
        // The variable holds no path.
        let is_read = reader.check(&config).is_ok();
        assert!(is_read == is_good || reference["$file"].is_object(), "{reference}");
    }
}

fn document(path: &Path) -> Json {
    let text = std::fs::read_to_string(path).expect("readable");
    let (document, _) = crate::config::read::parse::parse(&text).expect("it parses");
    crate::config::read::reader::to_json(&document)
}

#[test]
fn the_examples_fit_the_schema() {
    let schema = Schema::new();
    let mut seen = 0;
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples")).expect("examples exist")
    {
        let path = entry.expect("readable").path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let document = document(&path);
            schema.check(&document).unwrap_or_else(|error| panic!("{}: {error:#}", path.display()));
            seen += 1;
        }
    }
    assert!(seen >= 6, "only {seen} examples were found");
}

#[test]
fn the_full_example_has_every_key() {
    /// Keys that cannot be there, and why.
    const EXCUSED: &[(&str, &str, &str)] = &[
        ("tls", "cert", "stands in place of `selfSigned`"),
        ("tls", "key", "stands in place of `selfSigned`"),
        ("sessions", "maxPerUser", "is the same as `limits.perCaller.sessions`"),
        ("auth", "googleClientId", "is the same as a key of `idp`"),
        ("auth", "googleClientSecret", "is the same as a key of `idp`"),
        ("auth", "googleRedirectUri", "is the same as a key of `idp`"),
        ("idp", "issuer", "is known of all providers but \"oidc\""),
        ("server", "auth_strategy", "is Master MCP Server's"),
        ("server", "requiresUserToken", "is MCP Front's"),
        ("server", "serviceAuths", "is MCP Front's"),
        ("serviceAuth", "type", "is MCP Front's"),
        ("serviceAuth", "name", "is MCP Front's"),
        ("serviceAuth", "userToken", "is MCP Front's"),
        ("upstreamAuth", "tokenFormat", "is MCP Front's"),
        ("upstreamAuth", "provider", "is Master MCP Server's"),
        ("upstreamAuth", "from", "is unsafe, and warned of"),
        ("upstreamAuth", "unsafe", "is unsafe, and warned of"),
    ];
    let full = document(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/full.json")));
    let mut found = Vec::new();
    collect(&ROOT, &full, &mut found);
    for (path, object) in objects(&ROOT) {
        for key in object.keys {
            let is_there = found.contains(&(object.name, key.name));
            let is_excused = EXCUSED.iter().any(|(of, name, _)| *of == object.name && *name == key.name);
            assert!(is_there || is_excused, "{path}.{} is missing", key.name);
            assert!(!(is_there && is_excused), "{path}.{} needs no excuse", key.name);
        }
    }
}

/// Notes every key of `value` that `object` has, and of the objects in it.
fn collect(object: &'static Object, value: &Json, found: &mut Vec<(&'static str, &'static str)>) {
    for (name, value) in value.as_object().into_iter().flatten() {
        let key = object.key(name).unwrap_or_else(|| panic!("{name} is no key"));
        found.push((object.name, key.name));
        descend(&key.kind, value, found);
    }
}

fn descend(kind: &ValueKind, value: &Json, found: &mut Vec<(&'static str, &'static str)>) {
    match *kind {
        ValueKind::Object(object) => collect(object, value, found),
        ValueKind::SecretOr(object)
            if value.is_object() && value.get("$env").or(value.get("$file")).is_none() =>
        {
            collect(object, value, found);
        }
        ValueKind::OneOrMany(of) if !value.is_array() => descend(of, value, found),
        ValueKind::List(of) | ValueKind::OneOrMany(of) => {
            value.as_array().into_iter().flatten().for_each(|value| descend(of, value, found));
        }
        ValueKind::Map { of, .. } => {
            value.as_object().into_iter().flatten().for_each(|(_, value)| descend(of, value, found));
        }
        _ => {}
    }
}

#[test]
fn what_is_said_of_words_names_each() {
    for (path, object) in objects(&ROOT) {
        for key in object.keys {
            let ValueKind::Word(words) = key.kind else { continue };
            assert!(words.words.iter().all(|word| words.otherwise.contains(word.0)), "{path}.{}", key.name);
        }
    }
}
