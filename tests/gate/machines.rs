//! Programs that get tokens without a user who allows them anything: for themselves, and for people of whom an issuer says who they
//! are. What ends with what the config takes from them.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use test_support::issuer::{Signer, TestIssuer};

use crate::{
    harness::{DEV, Gate, Upstream, field, open_stream, passes, post, soon},
    oauth_tokens::{form, posted},
    process::Process,
    recorder::Recorder,
};

const BASE: &str = "http://localhost:8080";
const SECRET: &str = "secret-of-a-machine-0123456789-canary";
const BY_JWT: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

struct World {
    gate: Gate,
    signer: Signer,
    issuer: TestIssuer,
    directory: TempDir,
}

/// `ops` has a secret, `signer` a key, both are callers of their own; `assistant` acts for people of `corp`.
fn config(directory: &TempDir, url: &str, signer: &Signer, issuer: &TestIssuer) -> Value {
    let hash = hex::encode(Sha256::digest(SECRET));
    json!({
        "proxy": {
            "baseUrl": BASE,
            "stateDir": directory.path().join("state"),
            "auth": {
                "kind": "oauth",
                "tokens": { "dev": { "value": DEV, "roles": ["deploy"] } },
                "issuers": { "corp": issuer.config() },
                "assign": [{ "if": { "claim": "groups", "has": "eng" }, "roles": ["deploy"] }],
                "clients": {
                    "ops": { "secretSha256": hash, "grants": ["client_credentials"], "roles": ["deploy"] },
                    "signer": {
                        "jwks": { "keys": [signer.jwk()] },
                        "grants": ["client_credentials"],
                        "roles": ["deploy", "admin"],
                        "scopes": ["server:db", "server:code"],
                    },
                    "assistant": { "secretSha256": hash, "grants": [BEARER] },
                    "portal": { "secretSha256": hash, "redirectUris": ["https://portal.example/cb"] },
                    "phone": { "redirectUris": ["https://phone.example/cb"] },
                },
                "idJag": { "corp": ["assistant"] },
            },
        },
        "mcpServers": {
            "db": { "url": url },
            "code": { "url": url, "roles": ["deploy"] },
            "named": { "url": url, "authTokens": ["dev"] },
        },
    })
}

impl World {
    async fn start(url: &str) -> Self {
        let (directory, signer) = (TempDir::new().unwrap(), Signer::new("k1"));
        let issuer = TestIssuer::start().await;
        let gate = Gate::start(config(&directory, url, &signer, &issuer)).await;
        Self { gate, signer, issuer, directory }
    }

    fn config(&self, url: &str) -> Value {
        config(&self.directory, url, &self.signer, &self.issuer)
    }

    async fn send(&self, path: &str, fields: &str, pairs: &[(&str, &str)]) -> (u16, Value) {
        let (status, _, body) = self.gate.ask(&posted(path, fields, &form(pairs))).await;
        (status, serde_json::from_str(&body).unwrap_or_default())
    }

    /// As this client, with the secret that all have that have one.
    async fn ask(&self, client: &str, pairs: &[(&str, &str)]) -> (u16, Value) {
        let own = [("client_id", client), ("client_secret", SECRET)];
        self.send("/token", "", &[&own[..], pairs].concat()).await
    }

    async fn of_ops(&self, pairs: &[(&str, &str)]) -> (u16, Value) {
        self.ask("ops", &[&[("grant_type", "client_credentials")], pairs].concat()).await
    }

    /// As the client with a key, by what it signs.
    async fn signed(&self, path: &str, assertion: &str, pairs: &[(&str, &str)]) -> (u16, Value) {
        let own = [("client_assertion_type", BY_JWT), ("client_assertion", assertion)];
        self.send(path, "", &[&own[..], pairs].concat()).await
    }

    async fn of_signer(&self) -> String {
        let assertion = self.signer.sign(json!({ "typ": "JWT" }), &proof(json!({})));
        let (status, answer) =
            self.signed("/token", &assertion, &[("grant_type", "client_credentials")]).await;
        assert_eq!(status, 200, "{answer}");
        access(&answer)
    }

    /// What the assistant gets by what the issuer says of bob.
    async fn by_issuer(&self, says: Value, pairs: &[(&str, &str)]) -> (u16, Value) {
        let assertion = self.issuer.sign(json!({ "typ": "oauth-id-jag+jwt" }), &self.id_jag(says));
        self.ask("assistant", &[&[("grant_type", BEARER), ("assertion", &*assertion)], pairs].concat()).await
    }

    fn id_jag(&self, more: Value) -> Value {
        let mut all = proof(json!({
            "iss": self.issuer.url(), "sub": "bob", "client_id": "assistant", "resource": BASE, "scope": "mcp",
            "groups": ["eng"],
        }));
        merge(&mut all, &more);
        all
    }

    async fn status(&self, path: &str, token: &str) -> u16 {
        self.gate.ask(&post(path, token, "", "{}")).await.0
    }
}

fn merge(into: &mut Value, more: &Value) {
    for (name, value) in more.as_object().unwrap() {
        into[name] = value.clone();
    }
}

/// What a client says that has a key, each time with another id.
fn proof(more: Value) -> Value {
    static LAST: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let id = format!("id-{}", LAST.fetch_add(1, Ordering::Relaxed));
    let mut all =
        json!({ "iss": "signer", "sub": "signer", "aud": BASE, "iat": now, "exp": now + 200, "jti": id });
    merge(&mut all, &more);
    all
}

fn access(answer: &Value) -> String {
    answer["access_token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

fn error(answer: &Value) -> &str {
    answer["error"].as_str().unwrap_or_else(|| panic!("{answer}"))
}

#[tokio::test]
async fn a_client_with_a_secret_is_a_caller_of_its_own() {
    let server = Recorder::start().await;
    let world = World::start(&server.url("/mcp")).await;
    let (status, answer) = world.of_ops(&[]).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(
        (&answer["token_type"], &answer["expires_in"], &answer["scope"]),
        (&json!("Bearer"), &json!(3_600), &json!("mcp"))
    );
    assert!(answer.get("refresh_token").is_none(), "{answer}");
    let token = access(&answer);
    for (path, wanted) in [("/db", 200), ("/code", 200), ("/named", 403), ("/servers", 403)] {
        assert_eq!(world.status(path, &token).await, wanted, "{path}");
    }
    world.gate.log.line("Authenticated request", &[("principal", json!("client:ops"))]).await;
    assert!(server.requests().iter().all(|request| field(request, "authorization").is_none()));
    // Narrower, by place and by scope.
    let (_, answer) = world.of_ops(&[("resource", "http://LOCALHOST:8080/db/mcp")]).await;
    let at_db = access(&answer);
    assert_eq!((world.status("/db", &at_db).await, world.status("/code", &at_db).await), (200, 401));
    let (_, answer) = world.of_ops(&[("scope", "server:code openid offline_access")]).await;
    assert_eq!(answer["scope"], "server:code");
    let narrow = access(&answer);
    assert_eq!((world.status("/db", &narrow).await, world.status("/code", &narrow).await), (403, 200));
    for (name, value, wanted) in [
        ("scope", "openid", "invalid_scope"),
        ("scope", "server:none", "invalid_scope"),
        ("resource", "https://elsewhere.example/", "invalid_target"),
        ("resource", "http://localhost:8080/db/other", "invalid_target"),
    ] {
        let (status, answer) = world.of_ops(&[(name, value)]).await;
        assert_eq!((status, error(&answer)), (400, wanted), "{value}");
    }
    // By the field as well, and for others not at all.
    let basic = format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("ops:{SECRET}")));
    let asked = [("grant_type", "client_credentials")];
    assert_eq!(world.send("/token", &basic, &asked).await.0, 200);
    for (client, grant) in [
        ("portal", "client_credentials"),
        ("portal", BEARER),
        ("assistant", "client_credentials"),
        ("ops", "authorization_code"),
        ("ops", "refresh_token"),
        ("ops", BEARER),
    ] {
        let (status, answer) = world.ask(client, &[("grant_type", grant)]).await;
        assert_eq!((status, error(&answer)), (400, "unauthorized_client"), "{client} {grant}");
    }
    let (status, answer) = world.send("/token", "", &[("client_id", "phone"), asked[0]]).await;
    assert_eq!((status, error(&answer)), (400, "unauthorized_client"));
    let (status, answer) =
        world.send("/token", "", &[("client_id", "ops"), ("client_secret", "wrong"), asked[0]]).await;
    assert_eq!((status, error(&answer)), (401, "invalid_client"));
    let (_, _, metadata) = world
        .gate
        .ask(&posted("/.well-known/oauth-authorization-server", "", "").replacen("POST", "GET", 1))
        .await;
    for word in [
        "client_credentials",
        BEARER,
        "private_key_jwt",
        "urn:ietf:params:oauth:grant-profile:id-jag",
        "EdDSA",
    ] {
        assert!(metadata.contains(word), "{word} {metadata}");
    }
    let log = world.gate.log.text();
    assert!(!log.contains("canary") && !log.contains("sga_"), "{log}");
}

#[tokio::test]
async fn a_client_with_a_key_proves_itself_wherever_it_has_to_and_once_by_each_signature() {
    let server = Recorder::start().await;
    let world = World::start(&server.url("/mcp")).await;
    let asked = [("grant_type", "client_credentials")];
    let sign = |more| world.signer.sign(json!({ "typ": "JWT" }), &proof(more));
    let first = sign(json!({}));
    let (status, answer) = world.signed("/token", &first, &asked).await;
    assert_eq!((status, &answer["scope"]), (200, &json!("server:db server:code")), "{answer}");
    let token = access(&answer);
    assert_eq!((world.status("/db", &token).await, world.status("/named", &token).await), (200, 403));
    // Each is used once, at whichever endpoint.
    for path in ["/token", "/oauth/introspect", "/revoke"] {
        let pairs = [asked[0], ("token", &*token)];
        let (status, answer) = world.signed(path, &first, &pairs).await;
        assert_eq!((status, error(&answer)), (401, "invalid_client"), "{path}");
    }
    let known = world.signed("/oauth/introspect", &sign(json!({})), &[("token", &token)]).await.1;
    assert_eq!((&known["active"], &known["sub"]), (&json!(true), &json!("client:signer")), "{known}");
    // The key has to be its own, and what it signs for this gateway and this purpose.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    for (text, status) in [
        (sign(json!({ "aud": format!("{BASE}/token") })), 401),
        (sign(json!({ "aud": [BASE, "https://other.example"] })), 401),
        (sign(json!({ "aud": [BASE] })), 200),
        (sign(json!({ "exp": now + 3_600 })), 401),
        (sign(json!({ "exp": now - 60 })), 401),
        (sign(json!({ "sub": "ops" })), 401),
        (sign(json!({ "iss": "ops", "sub": "ops" })), 401),
        (sign(json!({ "iss": "nobody", "sub": "nobody" })), 401),
        (sign(json!({ "jti": null })), 401),
        (Signer::new("k1").sign(json!({ "typ": "JWT" }), &proof(json!({}))), 401),
        (Signer::new("k2").sign(json!({ "typ": "JWT" }), &proof(json!({}))), 401),
        (world.signer.sign(json!({ "typ": "at+jwt" }), &proof(json!({}))), 401),
        ("no-jwt".to_owned(), 401),
    ] {
        let answer = world.signed("/token", &text, &asked).await;
        assert_eq!(answer.0, status, "{text} {answer:?}");
    }
    world.gate.log.line_with("cause", "its jti was used before").await;
    for (pairs, status) in [
        (vec![("client_assertion", &*sign(json!({}))), asked[0]], 401),
        (
            vec![
                ("client_id", "ops"),
                ("client_assertion_type", BY_JWT),
                ("client_assertion", &sign(json!({}))),
                asked[0],
            ],
            401,
        ),
        (
            vec![
                ("client_secret", SECRET),
                ("client_assertion_type", BY_JWT),
                ("client_assertion", &sign(json!({}))),
                asked[0],
            ],
            400,
        ),
        (vec![("client_id", "signer"), ("client_secret", SECRET), asked[0]], 401),
        (vec![("client_id", "signer"), asked[0]], 401),
    ] {
        assert_eq!(world.send("/token", "", &pairs).await.0, status, "{pairs:?}");
    }
    // It gives back what it has: that token alone.
    let other = world.of_signer().await;
    assert_eq!(world.signed("/revoke", &sign(json!({})), &[("token", &token)]).await.0, 200);
    assert_eq!((world.status("/db", &token).await, world.status("/db", &other).await), (401, 200));
    let known = world.signed("/oauth/introspect", &sign(json!({})), &[("token", &token)]).await.1;
    assert_eq!(known, json!({ "active": false }));
    let own = [("client_id", "ops"), ("client_secret", SECRET), ("token", &*other)];
    assert_eq!(world.send("/revoke", "", &own).await.0, 200);
    assert_eq!(world.status("/db", &other).await, 200, "it is not of the one who asked");
}

/// What is done to the config.
struct Removal {
    /// Who loses by it.
    who: &'static str,
    after: Value,
    /// What requests of that one are answered with.
    status: u16,
    /// Whether a token of before is good again when it is undone.
    comes_back: bool,
}

fn removals(before: &Value) -> Vec<Removal> {
    let mut all = Vec::new();
    let mut change = |who, status, comes_back, of: &dyn Fn(&mut Value)| {
        let mut after = before.clone();
        of(&mut after["proxy"]["auth"]);
        all.push(Removal { who, after, status, comes_back });
    };
    let clients = |auth: &mut Value, name: &str| {
        auth["clients"].as_object_mut().unwrap().remove(name);
    };
    change("ops", 401, false, &|auth| clients(auth, "ops"));
    change("ops", 401, false, &|auth| {
        auth["clients"]["ops"]["secretSha256"] = json!(hex::encode(Sha256::digest("another")));
    });
    change("ops", 403, true, &|auth| auth["clients"]["ops"]["roles"] = json!([]));
    change("ops", 403, true, &|auth| auth["clients"]["ops"]["servers"] = json!(["db"]));
    change("ops", 401, true, &|auth| auth["clients"]["ops"]["scopes"] = json!(["server:db"]));
    change("signer", 401, false, &|auth| {
        auth["clients"]["signer"]["jwks"]["keys"] = json!([Signer::new("k2").jwk()]);
    });
    change("signer", 401, true, &|auth| auth["clients"]["signer"]["scopes"] = json!(["server:code"]));
    change("assistant", 401, false, &|auth| {
        clients(auth, "assistant");
        auth["idJag"] = json!({});
    });
    change("assistant", 401, false, &|auth| auth["idJag"]["corp"] = json!([]));
    change("assistant", 401, false, &|auth| {
        auth["idJag"] = json!({});
        auth["assign"] = json!([]);
        auth["issuers"] = json!({});
    });
    change("assistant", 401, false, &|auth| {
        auth["clients"]["assistant"]["secretSha256"] = json!(hex::encode(Sha256::digest("another")));
    });
    change("assistant", 403, true, &|auth| auth["assign"][0]["roles"] = json!(["other"]));
    all
}

#[tokio::test]
async fn what_a_config_takes_from_a_program_ends_its_tokens_and_streams_and_those_of_no_other() {
    let server = Upstream::bind().await;
    let url = server.url("/mcp");
    let mut world = World::start(&url).await;
    let mut before = world.config(&url);
    // The stream is of a server with a rule.
    before["mcpServers"]["db"]["roles"] = json!(["deploy"]);
    for Removal { who, mut after, status, comes_back } in removals(&before) {
        if after["proxy"]["auth"]["clients"]["ops"]["servers"] == json!(["db"]) {
            after["proxy"]["auth"]["clients"]["ops"]["servers"] = json!(["code"]);
        }
        world.gate.reload(before.clone());
        let token = match who {
            "ops" => access(&world.of_ops(&[]).await.1),
            "signer" => world.of_signer().await,
            _ => access(&world.by_issuer(json!({}), &[]).await.1),
        };
        let (mut cut, _behind_cut) = open_stream(world.gate.addr, &server, &token).await;
        let (mut kept, mut behind_kept) = open_stream(world.gate.addr, &server, DEV).await;
        let mut same = before.clone();
        same["proxy"]["keepAlive"] = json!("14s");
        world.gate.reload(same);
        passes(&mut behind_kept, &mut kept, "data: 1\n\n").await;
        world.gate.reload(after.clone());
        assert_eq!(world.status("/db", &token).await, status, "{who} {}", after["proxy"]["auth"]);
        soon("the end of the stream", cut.rest()).await;
        passes(&mut behind_kept, &mut kept, "data: 2\n\n").await;
        // What a rule takes away may come back.
        world.gate.reload(before.clone());
        let is_back = world.status("/servers", &token).await != 401;
        assert_eq!(is_back, comes_back, "{who} {}", after["proxy"]["auth"]);
    }
    // Given back, it ends at once, too.
    world.gate.reload(before);
    let token = access(&world.of_ops(&[]).await.1);
    let (mut cut, _behind_cut) = open_stream(world.gate.addr, &server, &token).await;
    let own = [("client_id", "ops"), ("client_secret", SECRET), ("token", &*token)];
    assert_eq!(world.send("/revoke", "", &own).await.0, 200);
    soon("the end of the stream", cut.rest()).await;
    assert_eq!(world.status("/db", &token).await, 401);
}

/// A file with a mistake changes nothing, and what it takes away is taken away all the same.
#[tokio::test]
async fn what_a_refused_file_takes_from_a_program_is_gone() {
    let server = Recorder::start().await;
    let url = server.url("/mcp");
    let mut world = World::start(&url).await;
    let before = world.config(&url);
    for Removal { who, mut after, .. } in removals(&before) {
        world.gate.reload(before.clone());
        let token = match who {
            "ops" => access(&world.of_ops(&[]).await.1),
            "signer" => world.of_signer().await,
            _ => access(&world.by_issuer(json!({}), &[]).await.1),
        };
        let path = if after["proxy"]["auth"]["clients"]["signer"]["scopes"] == json!(["server:code"]) {
            "/db"
        } else {
            "/code"
        };
        assert_eq!(world.status(path, &token).await, 200, "{who}");
        after["proxy"]["keepAlive"] = json!("a while");
        let file = world.directory.path().join("refused.json");
        std::fs::write(&file, after.to_string()).unwrap();
        let remaining = sluicegate::config::load(&file, &|_| None).remaining.unwrap();
        assert!(world.gate.gateway.restrict(&remaining).unwrap().is_some());
        let status = world.status(path, &token).await;
        assert!(matches!(status, 401 | 403), "{who} {status} {}", after["proxy"]["auth"]);
    }
}

#[tokio::test]
async fn a_client_acts_for_somebody_of_an_issuer_at_the_place_that_this_one_says() {
    let server = Recorder::start().await;
    let world = World::start(&server.url("/mcp")).await;
    let (status, answer) = world.by_issuer(json!({}), &[]).await;
    assert_eq!((status, &answer["scope"]), (200, &json!("mcp")), "{answer}");
    assert!(answer.get("refresh_token").is_none());
    let token = access(&answer);
    for (path, wanted) in [("/db", 200), ("/code", 200), ("/named", 403)] {
        assert_eq!(world.status(path, &token).await, wanted, "{path}");
    }
    let fields = [("principal", json!("jwt:corp:bob")), ("client", json!("assistant"))];
    world.gate.log.line("Authenticated request", &fields).await;
    // What the issuer says limits it: who it is, where, and what.
    let (_, answer) = world.by_issuer(json!({ "groups": ["sales"] }), &[]).await;
    assert_eq!(world.status("/code", &access(&answer)).await, 403);
    let (_, answer) = world.by_issuer(json!({ "resource": format!("{BASE}/db/mcp") }), &[]).await;
    let at_db = access(&answer);
    assert_eq!((world.status("/db", &at_db).await, world.status("/code", &at_db).await), (200, 401));
    let (_, answer) =
        world.by_issuer(json!({ "scope": "server:db openid" }), &[("scope", "mcp server:db")]).await;
    assert_eq!(answer["scope"], "server:db");
    for (says, pairs, wanted) in [
        (json!({ "scope": "openid" }), vec![], "invalid_scope"),
        (json!({ "scope": null }), vec![], "invalid_scope"),
        (json!({ "scope": "server:db" }), vec![("scope", "server:code")], "invalid_scope"),
        (json!({ "resource": format!("{BASE}/db") }), vec![("resource", BASE)], "invalid_target"),
        (json!({ "resource": "https://elsewhere.example/" }), vec![], "invalid_grant"),
        (json!({ "resource": null }), vec![], "invalid_grant"),
        (json!({ "client_id": "ops" }), vec![], "invalid_grant"),
        (json!({ "aud": "the-gateway" }), vec![], "invalid_grant"),
        (json!({ "iss": "https://elsewhere.example" }), vec![], "invalid_grant"),
        (json!({ "groups": vec!["x".repeat(100); 20] }), vec![], "invalid_grant"),
    ] {
        let (status, answer) = world.by_issuer(says.clone(), &pairs).await;
        assert_eq!((status, error(&answer)), (400, wanted), "{says} {pairs:?}");
    }
    // Each is used once; and it is nothing else than what it is.
    let text = world.issuer.sign(json!({ "typ": "oauth-id-jag+jwt" }), &world.id_jag(json!({})));
    let asked = [("grant_type", BEARER), ("assertion", &*text)];
    assert_eq!(world.ask("assistant", &asked).await.0, 200);
    assert_eq!(error(&world.ask("assistant", &asked).await.1), "invalid_grant");
    world.gate.log.line_with("cause", "its jti was used before").await;
    for typ in ["at+jwt", "JWT"] {
        let other = world.issuer.sign(json!({ "typ": typ }), &world.id_jag(json!({})));
        let asked = [("grant_type", BEARER), ("assertion", &*other)];
        assert_eq!(error(&world.ask("assistant", &asked).await.1), "invalid_grant", "{typ}");
    }
    assert_eq!(world.status("/db", &text).await, 401);
    // Others who may not, and who do not prove who they are.
    let text =
        world.issuer.sign(json!({ "typ": "oauth-id-jag+jwt" }), &world.id_jag(json!({ "client_id": "ops" })));
    let asked = [("grant_type", BEARER), ("assertion", &*text)];
    assert_eq!(error(&world.ask("ops", &asked).await.1), "unauthorized_client");
    let public = [("client_id", "assistant"), asked[0], asked[1]];
    assert_eq!(error(&world.send("/token", "", &public).await.1), "invalid_client");
}

#[tokio::test]
async fn keys_may_be_elsewhere_and_logins_in_memory() {
    let server = Upstream::bind().await;
    let url = server.url("/mcp");
    let mut world = World::start(&url).await;
    let mut config = world.config(&url);
    config["proxy"]["auth"]["storage"] = json!("memory");
    config["proxy"]["auth"]["clients"]["signer"] =
        json!({ "jwksUrl": world.issuer.host.url("/keys"), "grants": ["client_credentials"] });
    world.gate = Gate::start(config.clone()).await;
    let sign = |more| world.issuer.sign(json!({ "typ": "JWT" }), &proof(more));
    let asked = [("grant_type", "client_credentials")];
    let text = sign(json!({}));
    let (status, answer) = world.signed("/token", &text, &asked).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(world.signed("/token", &text, &asked).await.0, 401, "it was used");
    let stranger = world.signer.sign(json!({ "typ": "JWT" }), &proof(json!({})));
    assert_eq!(world.signed("/token", &stranger, &asked).await.0, 401);
    // What it has goes on while nothing changes, and ends when it is given back.
    let token = access(&answer);
    let (mut stream, mut behind) = open_stream(world.gate.addr, &server, &token).await;
    let mut same = config.clone();
    same["proxy"]["keepAlive"] = json!("14s");
    world.gate.reload(same);
    passes(&mut behind, &mut stream, "data: 1\n\n").await;
    assert_eq!(world.signed("/revoke", &sign(json!({})), &[("token", &token)]).await.0, 200);
    soon("the end of the stream", stream.rest()).await;
    // Without its keys, nobody can say what it signs is worth.
    let down = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nowhere = format!("http://{}/keys", down.local_addr().unwrap());
    drop(down);
    config["proxy"]["auth"]["clients"]["signer"]["jwksUrl"] = json!(nowhere);
    world.gate.reload(config);
    assert_eq!(world.signed("/token", &sign(json!({})), &asked).await.0, 503);
}

#[tokio::test]
async fn two_gateways_of_one_file_take_each_signature_once_and_give_up_what_was_given_back_at_either() {
    let server = Upstream::bind().await;
    let (directory, signer) = (TempDir::new().unwrap(), Signer::new("k1"));
    let issuer = TestIssuer::start().await;
    let config = config(&directory, &server.url("/mcp"), &signer, &issuer);
    let (one, other) = tokio::join!(Process::start(config.clone()), Process::start(config));
    let send = async |gateway: &Process, path: &str, pairs: &[(&str, &str)]| {
        let mut client = gateway.client().await;
        client.send(posted(path, "", &form(pairs))).await;
        let (status, _, body) = client.response().await;
        (status, serde_json::from_str::<Value>(&body).unwrap_or_default())
    };
    let mut tokens = Vec::new();
    for (first, second) in [(&one, &other), (&other, &one)] {
        let text = signer.sign(json!({ "typ": "JWT" }), &proof(json!({})));
        let pairs = [
            ("client_assertion_type", BY_JWT),
            ("client_assertion", &*text),
            ("grant_type", "client_credentials"),
        ];
        let (status, answer) = send(first, "/token", &pairs).await;
        assert_eq!(status, 200, "{answer}");
        tokens.push(access(&answer));
        assert_eq!(send(second, "/token", &pairs).await.0, 401, "it was used at the other");
    }
    let (mut stream, _behind) = open_stream(other.addr, &server, &tokens[0]).await;
    let text = signer.sign(json!({ "typ": "JWT" }), &proof(json!({})));
    let pairs = [("client_assertion_type", BY_JWT), ("client_assertion", &*text), ("token", &*tokens[0])];
    assert_eq!(send(&one, "/revoke", &pairs).await.0, 200);
    soon("the end of the stream at the other", stream.rest()).await;
    for gateway in [&one, &other] {
        assert_eq!(gateway.get("/db", &tokens[0]).await.0, 401);
    }
}

/// Whether the file was refused, or was put there while the gateway did not run.
#[tokio::test]
async fn what_a_config_took_from_a_program_does_not_come_back_after_a_restart() {
    let server = Recorder::start().await;
    let url = server.url("/mcp");
    let mut world = World::start(&url).await;
    let before = world.config(&url);
    let mut without = before.clone();
    for name in ["ops", "assistant"] {
        without["proxy"]["auth"]["clients"].as_object_mut().unwrap().remove(name);
    }
    without["proxy"]["auth"]["idJag"] = json!({});
    for runs in [true, false] {
        let of_ops = access(&world.of_ops(&[]).await.1);
        let tokens = [of_ops, access(&world.by_issuer(json!({}), &[]).await.1), world.of_signer().await];
        for token in &tokens {
            assert_eq!(world.status("/db", token).await, 200);
        }
        if runs {
            let mut refused = without.clone();
            refused["proxy"]["keepAlive"] = json!("a while");
            let file = world.directory.path().join("refused.json");
            std::fs::write(&file, refused.to_string()).unwrap();
            let remaining = sluicegate::config::load(&file, &|_| None).remaining.unwrap();
            assert!(world.gate.gateway.restrict(&remaining).unwrap().is_some());
        } else {
            world.gate = Gate::start(without.clone()).await;
        }
        // As at the end of a process.
        world.gate.gateway.shared().logins.grants().unwrap().flush().await.unwrap();
        world.gate = Gate::start(before.clone()).await;
        let statuses = [
            world.status("/db", &tokens[0]).await,
            world.status("/db", &tokens[1]).await,
            world.status("/db", &tokens[2]).await,
        ];
        assert_eq!(statuses, [401, 401, 200], "while it ran: {runs}");
        // They come again.
        assert_eq!(world.status("/db", &access(&world.of_ops(&[]).await.1)).await, 200);
        assert_eq!(world.status("/db", &access(&world.by_issuer(json!({}), &[]).await.1)).await, 200);
    }
}
