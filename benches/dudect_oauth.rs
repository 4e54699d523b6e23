//! Whether the time in which something of OAuth is looked at says anything about it: Welch's t-test after dudect, as in
//! `dudect_token`.
//!
//! `cargo bench --bench dudect_oauth [-- FILTER]`. One class differs from something good in its last byte or character, the other in
//! all that proves it; both are as long. First codes, secrets and ids of clients, fields of forms, questions of clients, access
//! tokens and refresh tokens as functions look at them, then as a gateway does that is asked over loopback.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod timing;

use std::{
    io,
    path::Path,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use dudect_bencher::{
    BenchRng, CtRunner,
    rand::{Rng, RngExt},
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sluicegate::{
    config::{
        CallerLimits, ClientProof, GrantTypes, LoginStorage, LoginStore, LoginTerms, OauthClient,
        OauthConfig, Registration, ScopeTags,
    },
    identity::{
        Principal,
        login::{
            Logins,
            access_token::AccessClaims,
            fingerprint::Fingerprint,
            grant_id::GrantId,
            grants::{ClientGrant, Grants, KindTag, NewCode, Redemption},
            keys::Keys,
            refresh_token::{GrantKey, RefreshToken},
            sealed_token::TokenSealer,
            store::Opening,
        },
    },
    oauth::{
        Client,
        flow::{AuthorizationRequest, Flows, new_name},
        registration::Registrar,
    },
    pages::csrf::{Csrf, FormOf, Purpose},
    secret::Secret,
};
use test_support::{
    bench::Gate,
    browser::{PLAIN, form},
    harness::fields,
    users::{CHEAP_HASHES, bare},
};
use timing::{GATES, ROUNDS, TOKENS, USERS, Wire, ask, compare, guesses, run};

const CALLBACK: &str = "https://portal.example/callback";
/// Guesses of each code.
const OF_EACH: usize = 32;

/// `good` with another last character, and as many characters that nobody has drawn before.
fn texts(good: &str, rng: &mut BenchRng) -> [String; 2] {
    const LAST: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (rest, last) = good.split_at(good.len() - 1);
    let mut other = last.as_bytes()[0];
    while other == last.as_bytes()[0] {
        other = LAST[rng.random_range(0..LAST.len())];
    }
    let near = format!("{rest}{}", char::from(other));
    let mut far = vec![0; good.len()];
    rng.fill_bytes(&mut far);
    let far: String = URL_SAFE_NO_PAD.encode(far).chars().take(good.len()).collect();
    [near, far]
}

fn random_text(rng: &mut BenchRng) -> String {
    URL_SAFE_NO_PAD.encode(rng.random::<[u8; 32]>())
}

/// What comes of something that waits for nothing.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(ready) => ready,
        Poll::Pending => unreachable!("grants in memory wait for nothing"),
    }
}

fn allowed(principal: &str, fingerprint: Fingerprint) -> NewCode {
    NewCode {
        principal: Principal::User(principal.into()),
        fingerprint,
        client: Arc::new(ClientGrant {
            client_id: "phone".into(),
            client_name: "Phone".into(),
            redirect_host: "portal.example".into(),
            resource: PLAIN.into(),
            scope: "mcp".into(),
        }),
        redirect_uri: CALLBACK.into(),
        challenge: Sha256::digest("verifier").into(),
    }
}

fn redemption() -> Redemption {
    Redemption {
        client_id: "phone".into(),
        redirect_uri: Some(CALLBACK.into()),
        challenge_of_verifier: Some(Sha256::digest("verifier").into()),
        refresh_token_scopes: Vec::new(),
    }
}

const TERMS: LoginTerms = LoginTerms {
    access_ttl: Duration::from_secs(600),
    refresh_ttl: Duration::from_secs(6_000),
    max_age: Duration::from_secs(60_000),
    per_user: 1_000,
    reuse_grace: Duration::ZERO,
};

fn redeemed(grants: &Grants, code: &str) -> Option<Secret> {
    let all = Box::new(|_: &_, _, _: &_| Ok(()));
    let redeemed = grants.redeem(code, redemption(), all, &TERMS, SystemTime::now());
    now(redeemed).ok().map(|(issued, _)| issued.refresh_token)
}

fn code(runner: &mut CtRunner, rng: &mut BenchRng) {
    for _ in 0..ROUNDS {
        let logins = Logins::new().unwrap();
        let memory = LoginStore { storage: LoginStorage::Memory, ..LoginStore::default() };
        let opening = Opening { now: &SystemTime::now, is_wanted: &|| true };
        logins.keep_store(logins.open_store(&memory, Path::new("/"), opening).unwrap());
        let grants = logins.grants().unwrap();
        let fingerprint = logins.fingerprint(&Secret::new("hash".into())).unwrap();
        let made: Vec<_> = (0..TOKENS)
            .map(|_| {
                let code = now(grants.begin_code(
                    &new_name().unwrap(),
                    allowed("alice", fingerprint),
                    SystemTime::now(),
                ))
                .unwrap();
                code.expose().to_owned()
            })
            .collect();
        // Many of each: where a text happens to be looked for is no difference between the two kinds.
        let made: Vec<_> =
            made.iter().flat_map(|code| (0..OF_EACH).map(|_| texts(code, rng)).collect::<Vec<_>>()).collect();
        compare(runner, rng, &made, |text| redeemed(grants, text).is_some());
    }
}

fn client_secret(runner: &mut CtRunner, rng: &mut BenchRng) {
    for _ in 0..ROUNDS {
        let secret = random_text(rng);
        let client = Client::of_config(&OauthClient {
            name: "portal".into(),
            proof: ClientProof::Secret(Sha256::digest(&secret).into()),
            grants: GrantTypes::DEFAULT,
            redirect_uris: Vec::new(),
            roles: Vec::new(),
            limits: CallerLimits::ALL,
            scopes: Vec::new(),
        });
        let made: Vec<_> = (0..TOKENS).map(|_| texts(&secret, rng)).collect();
        compare(runner, rng, &made, |text| client.is_proved_by(Some(&Secret::new(text.to_owned()))));
    }
}

fn oauth_config() -> OauthConfig {
    OauthConfig {
        base: PLAIN.into(),
        issuer: PLAIN.into(),
        own_hosts: Vec::new(),
        token_ttl: OauthConfig::TOKEN_TTL,
        refresh_token_ttl: OauthConfig::REFRESH_TOKEN_TTL,
        refresh_token_scopes: Vec::new(),
        refresh_reuse_grace: OauthConfig::REFRESH_REUSE_GRACE,
        registration: Registration::Open,
        redirect_schemes: Vec::new(),
        require_resource: false,
        advertise_tags: false,
        scope_tags: ScopeTags::All,
        offers_tags: true,
        clients: Vec::new(),
        id_jag: Vec::new(),
    }
}

fn registration(auth_method: &str) -> Value {
    json!({ "redirect_uris": [CALLBACK], "token_endpoint_auth_method": auth_method })
}

/// An id that differs from one that was given in the last byte of its MAC, and one that does in all of it.
fn ids(good: &str, rng: &mut BenchRng) -> [String; 2] {
    const MAC: usize = 16;
    let bytes = URL_SAFE_NO_PAD.decode(&good[4..]).unwrap();
    let (mut near, mut far) = (bytes.clone(), bytes);
    near[MAC - 1] ^= 1;
    rng.fill_bytes(&mut far[..MAC]);
    [near, far].map(|bytes| format!("sgc_{}", URL_SAFE_NO_PAD.encode(bytes)))
}

fn client_id(runner: &mut CtRunner, rng: &mut BenchRng) {
    let (config, body) = (oauth_config(), registration("none").to_string());
    for _ in 0..ROUNDS {
        let registrar = Registrar::new(&rng.random());
        let made: Vec<_> = (0..TOKENS as u64)
            .map(|second| {
                let registered = registrar.register(body.as_bytes(), &config, second).unwrap();
                ids(&registered.client_id, rng)
            })
            .collect();
        compare(runner, rng, &made, |text| registrar.client(text).is_some());
    }
}

fn registered_secret(runner: &mut CtRunner, rng: &mut BenchRng) {
    let (config, body) = (oauth_config(), registration("client_secret_post").to_string());
    for _ in 0..ROUNDS {
        let registrar = Registrar::new(&rng.random());
        let registered = registrar.register(body.as_bytes(), &config, 7).unwrap();
        let client = registrar.client(&registered.client_id).unwrap();
        let answer = serde_json::to_value(&registered).unwrap();
        let made: Vec<_> =
            (0..TOKENS).map(|_| texts(answer["client_secret"].as_str().unwrap(), rng)).collect();
        compare(runner, rng, &made, |text| client.is_proved_by(Some(&Secret::new(text.to_owned()))));
    }
}

fn csrf_field(runner: &mut CtRunner, rng: &mut BenchRng) {
    for _ in 0..ROUNDS {
        let csrf = Csrf::new([&rng.random()]);
        let owner: [u8; 16] = rng.random();
        let form = FormOf { owner: &owner, purpose: Purpose::Consent, object: b"flow" };
        let field = csrf.field(&form).unwrap();
        let made: Vec<_> = (0..TOKENS).map(|_| texts(&field, rng)).collect();
        compare(runner, rng, &made, |text| csrf.holds(&form, text));
    }
}

fn question(runner: &mut CtRunner, rng: &mut BenchRng) {
    let made = SystemTime::now();
    let asked = AuthorizationRequest {
        id: new_name().unwrap(),
        made: made.duration_since(UNIX_EPOCH).unwrap().as_secs(),
        client_id: "phone".into(),
        redirect_uri: CALLBACK.into(),
        state: Some("state".into()),
        challenge: [7; 32],
        resource: PLAIN.into(),
        scope: "mcp".into(),
        must_ask: false,
    };
    for _ in 0..ROUNDS {
        let (flows, moment) = (Flows::new(&rng.random()).unwrap(), made);
        let made: Vec<_> = (0..TOKENS)
            .map(|_| {
                let sealed = flows.seal(&asked, "cookie").unwrap();
                let prefixed = Secret::new(format!("sgx_{sealed}"));
                guesses(&prefixed, 16, rng).map(|text| text[4..].to_owned())
            })
            .collect();
        compare(runner, rng, &made, |text| flows.open(text, "cookie", moment).is_some());
    }
}

fn access_token(runner: &mut CtRunner, rng: &mut BenchRng) {
    for _ in 0..ROUNDS {
        let keys = Keys::random().unwrap();
        let sealer = TokenSealer::<AccessClaims>::new(&keys).unwrap();
        let moment = SystemTime::now();
        let claims = AccessClaims {
            vouched: None,
            principal: Principal::User("alice".into()),
            grant: GrantId::new(rng.random()),
            fingerprint: Fingerprint::of(&keys, "hash").unwrap(),
            client_id: "phone".into(),
            resource: PLAIN.into(),
            scope: "mcp".into(),
            issued: moment,
            expires: moment,
            grant_ends: moment,
        };
        let made: Vec<_> = (0..TOKENS).map(|_| guesses(&sealer.seal(&claims).unwrap(), 16, rng)).collect();
        compare(runner, rng, &made, |text| sealer.opened(text.as_bytes()).is_some());
    }
}

fn refresh_token(runner: &mut CtRunner, rng: &mut BenchRng) {
    for _ in 0..ROUNDS {
        let key = GrantKey::new(&Keys::random().unwrap()).unwrap();
        let grant = GrantId::new(rng.random());
        let made: Vec<_> = (0..TOKENS as u32)
            .map(|generation| guesses(&key.make(KindTag::Client, grant, generation), 32, rng))
            .collect();
        compare(runner, rng, &made, |text| {
            RefreshToken::parse(text).is_some_and(|token| key.has_made(KindTag::Client, &token))
        });
    }
}

/// Users at the endpoints. Each has as many codes or grants as one may have at a time, or fewer.
const PEOPLE: usize = 32;

/// Clients at the endpoints that have a secret, and their secrets.
fn secrets(rng: &mut BenchRng) -> Vec<String> {
    (0..USERS / 8).map(|_| random_text(rng)).collect()
}

fn gate(secrets: &[String]) -> Gate {
    let users: serde_json::Map<_, _> = (0..PEOPLE)
        .map(|number| (format!("user{number}"), json!({ "passwordHash": CHEAP_HASHES[0] })))
        .collect();
    let mut clients = json!({ "phone": { "redirectUris": [CALLBACK] } });
    for (number, secret) in secrets.iter().enumerate() {
        let secret = hex::encode(Sha256::digest(secret));
        clients[format!("portal{number}")] = json!({ "secretSha256": secret, "redirectUris": [CALLBACK] });
    }
    let auth = json!({ "kind": "oauth", "storage": "memory", "users": users, "clients": clients });
    Gate::start_with(json!({}), auth)
}

/// Times requests that each of a pair of guesses makes.
fn ask_all(
    runner: &mut CtRunner,
    rng: &mut BenchRng,
    gate: &Gate,
    guesses: impl IntoIterator<Item = [String; 2]>,
    is_refused: fn(&str) -> bool,
) {
    let mut kinds = [Vec::new(), Vec::new()];
    for guess in guesses {
        kinds.iter_mut().zip(guess).for_each(|(kind, request)| kind.push(request));
    }
    let wire = Wire::open(gate).unwrap();
    ask(runner, rng, &wire, &kinds, is_refused);
}

fn codes(gate: &Gate) -> Vec<String> {
    let logins = &gate.gateway.shared().logins;
    let fingerprint = logins.fingerprint(&Secret::new(CHEAP_HASHES[0].into())).unwrap();
    let grants = logins.grants().unwrap();
    (0..USERS)
        .map(|number| {
            let new = allowed(&format!("user{}", number % PEOPLE), fingerprint);
            now(grants.begin_code(&new_name().unwrap(), new, SystemTime::now())).unwrap().expose().to_owned()
        })
        .collect()
}

fn is_no_grant(answer: &str) -> bool {
    answer.contains("\"invalid_grant\"")
}

fn code_endpoint(runner: &mut CtRunner, rng: &mut BenchRng) {
    for _ in 0..GATES {
        let gate = gate(&[]);
        let request = |code: &str| {
            let pairs = [("grant_type", "authorization_code"), ("client_id", "phone"), ("code", code)];
            form("/token", "", &[&pairs[..], &[("code_verifier", "verifier")]].concat())
        };
        let made: Vec<_> =
            codes(&gate).iter().map(|code| texts(code, rng).map(|code| request(&code))).collect();
        ask_all(runner, rng, &gate, made, is_no_grant);
    }
}

fn refresh_endpoint(runner: &mut CtRunner, rng: &mut BenchRng) {
    /// Grant, generation, proof.
    const WHOLE: usize = 16 + 4 + 32;
    for _ in 0..GATES {
        let gate = gate(&[]);
        let grants = gate.gateway.shared().logins.grants().unwrap();
        let request = |token: &str| {
            let pairs = [("grant_type", "refresh_token"), ("client_id", "phone"), ("refresh_token", token)];
            form("/token", "", &pairs)
        };
        let made: Vec<_> = codes(&gate)
            .iter()
            .map(|code| {
                let good = redeemed(grants, code).unwrap();
                let ([near, _], [_, none]) = (guesses(&good, 32, rng), guesses(&good, WHOLE, rng));
                [near, none].map(|token| request(&token))
            })
            .collect();
        ask_all(runner, rng, &gate, made, is_no_grant);
    }
}

fn is_no_client(answer: &str) -> bool {
    answer.contains("\"invalid_client\"")
}

fn secret_endpoint(runner: &mut CtRunner, rng: &mut BenchRng) {
    for _ in 0..GATES {
        let secrets = secrets(rng);
        let gate = gate(&secrets);
        let request = |number: usize, secret: &str| {
            let id = format!("portal{number}");
            form("/token", "", &[("grant_type", "x"), ("client_id", &id), ("client_secret", secret)])
        };
        let made: Vec<_> = secrets
            .iter()
            .enumerate()
            .map(|(number, secret)| texts(secret, rng).map(|secret| request(number, &secret)))
            .collect();
        ask_all(runner, rng, &gate, made, is_no_client);
    }
}

fn client_id_endpoint(runner: &mut CtRunner, rng: &mut BenchRng) {
    for _ in 0..GATES {
        let gate = gate(&[]);
        // More than ten a minute are refused.
        let wire = Wire::open(&gate).unwrap();
        let made: Vec<_> = (0..8)
            .map(|_| {
                wire.exchange(bare("/register", &registration("none")).as_bytes());
                let answer: Value = serde_json::from_str(&wire.body()).unwrap();
                let request = |id: String| form("/token", "", &[("grant_type", "x"), ("client_id", &id)]);
                ids(answer["client_id"].as_str().unwrap(), rng).map(request)
            })
            .collect();
        ask_all(runner, rng, &gate, made, is_no_client);
    }
}

fn csrf_endpoint(runner: &mut CtRunner, rng: &mut BenchRng) {
    for _ in 0..GATES {
        let gate = gate(&[]);
        let wire = Wire::open(&gate).unwrap();
        let made: Vec<_> = (0..USERS / 8)
            .map(|_| {
                wire.exchange(b"GET /oauth/login HTTP/1.1\r\nHost: localhost\r\n\r\n");
                let page = wire.answer();
                let cookie = fields(&page, "set-cookie").next().unwrap().split(';').next().unwrap();
                let cookie = format!("Cookie: {cookie}\r\n");
                let field = page.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap();
                let request = |csrf: String| {
                    let pairs = [("csrf", &*csrf), ("username", "user0"), ("password", "a wrong one")];
                    form("/oauth/login", &cookie, &pairs)
                };
                texts(field, rng).map(request)
            })
            .collect();
        ask_all(runner, rng, &gate, made, |answer| answer.starts_with("HTTP/1.1 400 "));
    }
}

fn main() -> io::Result<()> {
    run(vec![
        ("code_near_or_far", code),
        ("client_secret_near_or_far", client_secret),
        ("client_id_near_or_far", client_id),
        ("secret_of_registered_client_near_or_far", registered_secret),
        ("csrf_field_near_or_far", csrf_field),
        ("question_near_or_far", question),
        ("access_token_near_or_far", access_token),
        ("refresh_token_near_or_far", refresh_token),
        ("endpoint_code_near_or_unknown", code_endpoint),
        ("endpoint_refresh_near_or_unknown", refresh_endpoint),
        ("endpoint_secret_near_or_far", secret_endpoint),
        ("endpoint_client_id_near_or_far", client_id_endpoint),
        ("endpoint_csrf_near_or_far", csrf_endpoint),
    ])
}
