//! Every kind of secret that the gateway makes or knows, at every place that takes one of them: each is good at its own place, and
//! nowhere else.

use std::sync::atomic::{AtomicUsize, Ordering};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use test_support::browser::{Got, PLAIN, ask, form, link, query};

use crate::{
    harness::{DEV, Gate},
    oauth_pages::{CHALLENGE, VERIFIER},
    recorder::Recorder,
    users::{CHEAP_HASHES, PASSWORD, bare, log_in, login},
};

const PORTAL_SECRET: &str = "portal-secret-0123456789-canary";
const AUDITOR_SECRET: &str = "auditor-secret-0123456789-canary";
/// At another host than the gateway: at its own, a login would end with the answer.
const CALLBACK: &str = "http://127.0.0.1:7777/callback";

/// Kinds of secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    StaticToken,
    Password,
    SessionToken,
    SessionRefresh,
    LoginCookie,
    FlowCookie,
    /// The field `csrf` of a page at which somebody logs in.
    SignInField,
    /// That of one that asks for a consent.
    ConsentField,
    /// What a client asks for, sealed for the form.
    Question,
    Code,
    AccessToken,
    ClientRefresh,
    /// A client's secret that the config has.
    ClientSecret,
    /// What a registration gave, with a secret and without.
    ClientId,
    RegisteredId,
    RegisteredSecret,
}

use Kind::*;

const KINDS: [Kind; 16] = [
    StaticToken,
    Password,
    SessionToken,
    SessionRefresh,
    LoginCookie,
    FlowCookie,
    SignInField,
    ConsentField,
    Question,
    Code,
    AccessToken,
    ClientRefresh,
    ClientSecret,
    ClientId,
    RegisteredId,
    RegisteredSecret,
];

/// Places that take a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Bearer,
    ApiKey,
    XApiKey,
    Query,
    TokenCookie,
    /// As the password of the user, and of the token `dev`.
    BasicOfUser,
    BasicOfToken,
    LoginPassword,
    AtraxToken,
    SessionsNext,
    /// At `/token`.
    CodeField,
    RefreshField,
    IdField,
    SecretField,
    SecretByBasic,
    SecretOfRegistered,
    /// At `/oauth/introspect`.
    Introspected,
    /// At the pages.
    CookieOfLogin,
    CookieOfFlow,
    FieldOfSignIn,
    FieldOfConsent,
    QuestionAtConsent,
    QuestionAtLogin,
    PagePassword,
    PageToken,
    /// At `/authorize`.
    AskingId,
}

use Place::*;

/// Each place, and what it takes.
const PLACES: [(Place, &[Kind]); 26] = [
    (Bearer, &[StaticToken, SessionToken, AccessToken]),
    (ApiKey, &[StaticToken, SessionToken, AccessToken]),
    (XApiKey, &[StaticToken, SessionToken, AccessToken]),
    (Query, &[StaticToken, SessionToken, AccessToken]),
    (TokenCookie, &[StaticToken, SessionToken, AccessToken]),
    (BasicOfUser, &[Password, SessionToken, AccessToken]),
    (BasicOfToken, &[StaticToken]),
    (LoginPassword, &[Password]),
    (AtraxToken, &[StaticToken, SessionToken]),
    (SessionsNext, &[SessionRefresh]),
    (CodeField, &[Code]),
    (RefreshField, &[ClientRefresh]),
    (IdField, &[ClientId]),
    (SecretField, &[ClientSecret]),
    (SecretByBasic, &[ClientSecret]),
    (SecretOfRegistered, &[RegisteredSecret]),
    (Introspected, &[AccessToken]),
    (CookieOfLogin, &[LoginCookie]),
    (CookieOfFlow, &[FlowCookie]),
    (FieldOfSignIn, &[SignInField]),
    (FieldOfConsent, &[ConsentField]),
    (QuestionAtConsent, &[Question]),
    (QuestionAtLogin, &[Question]),
    (PagePassword, &[Password]),
    (PageToken, &[StaticToken]),
    (AskingId, &[ClientId, RegisteredId]),
];

/// A gateway with a user for each place, since nobody logs in often by one name.
async fn gate(server: &Recorder) -> Gate {
    let users: serde_json::Map<_, _> =
        (0..PLACES.len()).map(|number| (user(number), json!({ "passwordHash": CHEAP_HASHES[0] }))).collect();
    let client = |secret: &str, roles: &[&str]| {
        let secret = hex::encode(Sha256::digest(secret));
        json!({ "secretSha256": secret, "redirectUris": [CALLBACK], "roles": roles })
    };
    Gate::start(json!({
        "proxy": {
            "baseUrl": PLAIN,
            // Nobody is refused for what somebody else at this address has tried.
            "trustedProxies": ["127.0.0.1"],
            "auth": {
                "kind": "oauth",
                "storage": "memory",
                "schemes": ["bearer", "apikey", "x-api-key", "basic", "cookie"],
                "queryToken": true,
                "tokens": { "dev": DEV },
                "users": users,
                "clients": {
                    "portal": client(PORTAL_SECRET, &[]),
                    "auditor": client(AUDITOR_SECRET, &["admin"]),
                    "phone": { "redirectUris": [CALLBACK] },
                },
            },
        },
        "mcpServers": { "db": { "url": server.url("/mcp") } },
    }))
    .await
}

fn user(number: usize) -> String {
    format!("user{number}")
}

fn authorize(client_id: &str) -> String {
    let asked = [
        ("response_type", "code"),
        ("client_id", client_id),
        ("redirect_uri", CALLBACK),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    link(&format!("/authorize?{}", query(&asked)), "")
}

/// Somebody, with one of each kind, none of which was used.
struct Somebody<'a> {
    gate: &'a Gate,
    user: String,
    secrets: Vec<(Kind, String)>,
}

/// By whom requests come, each from another address.
static ADDRESSES: AtomicUsize = AtomicUsize::new(0);

impl<'a> Somebody<'a> {
    async fn new(gate: &'a Gate, number: usize) -> Self {
        let mut some = Self { gate, user: user(number), secrets: vec![(StaticToken, DEV.into())] };
        let session = log_in(&mut gate.client().await, &some.user).await;
        let registered = some.registered("none").await;
        let confidential = some.registered("client_secret_post").await;
        let id = registered["client_id"].as_str().unwrap();
        // The page at which one logs in, and the one that asks.
        let sign_in = some.ask(authorize(id)).await;
        let flow_cookie = sign_in.cookies();
        let fields = [
            ("csrf", &*sign_in.hidden("csrf")),
            ("flow", &sign_in.hidden("flow")),
            ("username", &some.user),
            ("password", PASSWORD),
        ];
        let consent = some.submit("/oauth/login", &flow_cookie, &fields).await;
        // That of the request is set anew with each page of it.
        let cookies = consent.cookies();
        let login_cookie = cookies.split("; ").find(|cookie| cookie.starts_with("sg-login=")).unwrap();
        let allow = async |page: &Got| {
            let (csrf, flow) = (page.hidden("csrf"), page.hidden("flow"));
            let fields = [("csrf", &*csrf), ("flow", &flow), ("answer", "approve"), ("scope:mcp", "on")];
            let done = some.submit("/oauth/consent", &cookies, &fields).await;
            done.answer("code").unwrap_or_else(|| panic!("{done:?}"))
        };
        let code = allow(&consent).await;
        let asked = authorize("portal").replacen("\r\n\r\n", &format!("\r\nCookie: {cookies}\r\n\r\n"), 1);
        let of_portal = allow(&some.ask(asked.clone()).await).await;
        let tokens = some.redeem(("portal", PORTAL_SECRET), &of_portal).await;
        let question = some.ask(asked).await;
        let value = |name| text_of(&value_of(&tokens), name);
        let all = [
            (Password, PASSWORD.to_owned()),
            (SessionToken, session.session),
            (SessionRefresh, session.refresh),
            (LoginCookie, login_cookie.split_once('=').unwrap().1.to_owned()),
            (FlowCookie, flow_cookie.split_once('=').unwrap().1.to_owned()),
            (SignInField, some.ask(link("/oauth/login", &cookie(&flow_cookie))).await.hidden("csrf")),
            (ConsentField, question.hidden("csrf")),
            (Question, question.hidden("flow")),
            (Code, code),
            (AccessToken, value("access_token")),
            (ClientRefresh, value("refresh_token")),
            (ClientSecret, PORTAL_SECRET.to_owned()),
            (ClientId, id.to_owned()),
            (RegisteredId, text_of(&confidential, "client_id")),
            (RegisteredSecret, text_of(&confidential, "client_secret")),
        ];
        some.secrets.extend(all);
        some
    }

    fn secret(&self, kind: Kind) -> &str {
        &self.secrets.iter().find(|(other, _)| *other == kind).unwrap().1
    }

    async fn ask(&self, request: String) -> Got {
        let number = ADDRESSES.fetch_add(1, Ordering::Relaxed);
        let from =
            format!("\r\nX-Forwarded-For: 10.{}.{}.{}\r\n", number >> 16, number >> 8 & 255, number & 255);
        ask(&mut self.gate.client().await, &request.replacen("\r\n", &from, 1)).await
    }

    async fn submit(&self, path: &str, cookies: &str, fields: &[(&str, &str)]) -> Got {
        self.ask(form(path, &cookie(cookies), fields)).await
    }

    async fn registered(&self, auth_method: &str) -> Value {
        let body = json!({ "redirect_uris": [CALLBACK], "token_endpoint_auth_method": auth_method });
        let got = self.ask(bare("/register", &body)).await;
        assert_eq!(got.status, 201, "{got:?}");
        value_of(&got)
    }

    async fn redeem(&self, (id, secret): (&str, &str), code: &str) -> Got {
        let mut fields = vec![("client_id", id), ("grant_type", "authorization_code"), ("code", code)];
        fields.extend([("redirect_uri", CALLBACK), ("code_verifier", VERIFIER)]);
        if !secret.is_empty() {
            fields.push(("client_secret", secret));
        }
        self.ask(form("/token", "", &fields)).await
    }

    /// Cookies of somebody who is logged in, with these in place of theirs.
    fn cookies(&self, flow: &str, login: &str) -> String {
        format!("sg-flow={flow}; sg-login={login}")
    }

    /// Whether the place takes it.
    async fn is_taken(&self, place: Place, text: &str) -> bool {
        let at_server = async |path: &str, field: String| {
            let request =
                format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{field}Content-Length: 2\r\n\r\n{{}}");
            self.ask(request).await.status == 200
        };
        let basic =
            |name: &str| format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("{name}:{text}")));
        // Of a client that is one, what comes next is looked at.
        let is_client = async |more: &str, fields: &[(&str, &str)]| {
            let fields = [&[("grant_type", "x")][..], fields].concat();
            let got = self.ask(form("/token", more, &fields)).await;
            assert!([400, 401].contains(&got.status), "{got:?}");
            got.body.contains("unsupported_grant_type")
        };
        let (flow, signed_in) = (self.secret(FlowCookie), self.secret(LoginCookie));
        let deny = async |cookies: &str, csrf: &str, question: &str| {
            let fields = [("csrf", csrf), ("flow", question), ("answer", "deny")];
            self.submit("/oauth/consent", cookies, &fields).await.answer("error").is_some()
        };
        let sign_in = async |cookies: &str, csrf: &str, more: &[(&str, &str)]| {
            let got = self.submit("/oauth/login", cookies, &[&[("csrf", csrf)], more].concat()).await;
            got.cookies().contains("sg-login=")
        };
        let good = [("username", &*self.user), ("password", PASSWORD)];
        let flow_cookie = format!("sg-flow={flow}");
        match place {
            Bearer => at_server("/db", format!("Authorization: Bearer {text}\r\n")).await,
            ApiKey => at_server("/db", format!("Authorization: ApiKey {text}\r\n")).await,
            XApiKey => at_server("/db", format!("X-API-Key: {text}\r\n")).await,
            Query => at_server(&format!("/db?{}", query(&[("token", text)])), String::new()).await,
            TokenCookie => at_server("/db", cookie(&format!("token={text}"))).await,
            BasicOfUser => at_server("/db", basic(&self.user)).await,
            BasicOfToken => at_server("/db", basic("dev")).await,
            LoginPassword => self.ask(login(&self.user, text)).await.status == 200,
            AtraxToken => self.ask(bare("/auth", &json!({ "token": text }))).await.status == 200,
            SessionsNext => {
                self.ask(bare("/auth/refresh", &json!({ "refreshToken": text }))).await.status == 200
            }
            CodeField => self.redeem((self.secret(ClientId), ""), text).await.status == 200,
            RefreshField => {
                let fields = [
                    ("client_id", "portal"),
                    ("client_secret", PORTAL_SECRET),
                    ("grant_type", "refresh_token"),
                    ("refresh_token", text),
                ];
                self.ask(form("/token", "", &fields)).await.status == 200
            }
            IdField => is_client("", &[("client_id", text)]).await,
            SecretField => is_client("", &[("client_id", "portal"), ("client_secret", text)]).await,
            SecretByBasic => {
                let encoded =
                    STANDARD.encode(format!("portal:{}", query(&[("", text)]).trim_start_matches('=')));
                is_client(&format!("Authorization: Basic {encoded}\r\n"), &[]).await
            }
            SecretOfRegistered => {
                is_client("", &[("client_id", self.secret(RegisteredId)), ("client_secret", text)]).await
            }
            Introspected => {
                let fields = [("client_id", "auditor"), ("client_secret", AUDITOR_SECRET), ("token", text)];
                let got = self.ask(form("/oauth/introspect", "", &fields)).await;
                value_of(&got)["active"] == true
            }
            CookieOfLogin => {
                let got = self.ask(link("/oauth", &cookie(&self.cookies(flow, text)))).await;
                got.status == 200
            }
            CookieOfFlow => sign_in(&format!("sg-flow={text}"), self.secret(SignInField), &good).await,
            FieldOfSignIn => sign_in(&flow_cookie, text, &good).await,
            FieldOfConsent => deny(&self.cookies(flow, signed_in), text, self.secret(Question)).await,
            QuestionAtConsent => deny(&self.cookies(flow, signed_in), self.secret(ConsentField), text).await,
            QuestionAtLogin => {
                // Who sends it without a login is asked to log in, if it is one.
                let fields = [("csrf", "x"), ("flow", text), ("answer", "deny")];
                self.submit("/oauth/consent", &flow_cookie, &fields).await.asks_for("password")
            }
            PagePassword => {
                let fields = [("username", &*self.user), ("password", text)];
                sign_in(&flow_cookie, self.secret(SignInField), &fields).await
            }
            PageToken => sign_in(&flow_cookie, self.secret(SignInField), &[("token", text)]).await,
            AskingId => self.ask(authorize(text)).await.asks_for("password"),
        }
    }
}

fn cookie(pairs: &str) -> String {
    format!("Cookie: {pairs}\r\n")
}

fn value_of(got: &Got) -> Value {
    serde_json::from_str(&got.body).unwrap_or_else(|_| panic!("{got:?}"))
}

fn text_of(answer: &Value, name: &str) -> String {
    answer[name].as_str().unwrap_or_else(|| panic!("no {name} in {answer}")).to_owned()
}

#[tokio::test]
async fn no_secret_of_the_gateway_passes_for_another() {
    let server = Recorder::start().await;
    let gate = gate(&server).await;
    let mut tried = 0;
    for (number, (place, takes)) in PLACES.into_iter().enumerate() {
        let some = Somebody::new(&gate, number).await;
        // What it takes comes last: that may use up others.
        let (others, own): (Vec<_>, Vec<_>) = KINDS.into_iter().partition(|kind| !takes.contains(kind));
        for kind in others.into_iter().chain(own) {
            let is_taken = some.is_taken(place, some.secret(kind)).await;
            assert_eq!(is_taken, takes.contains(&kind), "{kind:?} at {place:?}");
            tried += 1;
        }
    }
    assert_eq!(tried, KINDS.len() * PLACES.len());
    let seen = server.requests().concat();
    let log = gate.log.text();
    for secret in [DEV, PORTAL_SECRET, AUDITOR_SECRET, PASSWORD] {
        assert!(!log.contains(secret) && !seen.contains(secret), "{secret}");
    }
}

/// What ends one kind ends no other.
#[tokio::test]
async fn what_is_given_back_ends_nothing_of_another_kind() {
    let server = Recorder::start().await;
    let gate = gate(&server).await;
    let some = Somebody::new(&gate, 0).await;
    for kind in KINDS.into_iter().filter(|kind| ![AccessToken, ClientRefresh].contains(kind)) {
        let fields =
            [("client_id", "portal"), ("client_secret", PORTAL_SECRET), ("token", some.secret(kind))];
        assert_eq!(some.ask(form("/revoke", "", &fields)).await.status, 200, "{kind:?}");
    }
    for kind in KINDS.into_iter().filter(|kind| ![SessionToken, SessionRefresh].contains(kind)) {
        for key in ["token", "refreshToken"] {
            let got = some.ask(bare("/auth/logout", &json!({ key: some.secret(kind) }))).await;
            assert_eq!(got.status, 204, "{kind:?}");
        }
    }
    for (place, kind) in [
        (Bearer, SessionToken),
        (Bearer, AccessToken),
        (Bearer, StaticToken),
        (Introspected, AccessToken),
        (CookieOfLogin, LoginCookie),
        (SessionsNext, SessionRefresh),
        (RefreshField, ClientRefresh),
        (CodeField, Code),
    ] {
        assert!(some.is_taken(place, some.secret(kind)).await, "{kind:?} at {place:?}");
    }
}
