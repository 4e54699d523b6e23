//! An identity provider on a socket: it knows people, and sends browsers back at once as the one whom the test has at the browser.
//!
//! It is as strict as a good one: codes and refresh tokens are good once, a code needs its verifier, its client and its redirect.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::digest;
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};
use url::{Url, form_urlencoded};

use crate::{
    harness::{Client, field},
    issuer::Signer,
};

/// What the gateway is to it.
pub const CLIENT: &str = "the-gateway";
/// By which it proves that.
pub const CLIENT_SECRET: &str = "idp-secret-0123456789abcdef";

/// What it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// OpenID Connect, under its own name.
    Oidc,
    /// The same, under Google's.
    Google,
    /// OAuth and an API, as GitHub does.
    Github,
}

/// What it does when it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Answers,
    /// It says that it cannot.
    Fails,
    /// It says nothing.
    Hangs,
    /// It answers as before, but whoever asks at this path waits until it lets them go.
    HoldsAt(&'static str),
}

/// The provider.
pub struct TestIdp {
    pub addr: SocketAddr,
    pub speaks: Speaks,
    state: Arc<Mutex<State>>,
}

struct State {
    speaks: Speaks,
    url: String,
    mood: Mood,
    /// Those who wait go on once this changes.
    lets_go: watch::Sender<()>,
    signer: Signer,
    /// What is said of each, by subject.
    people: HashMap<String, Value>,
    /// Who is at the browser.
    at_browser: Option<String>,
    codes: HashMap<String, Login>,
    refresh_tokens: HashMap<String, Login>,
    access_tokens: HashMap<String, Login>,
    /// What the next ID tokens say instead.
    instead: Value,
    made: usize,
    seen: Vec<String>,
}

/// Who logged in, and what was asked for.
#[derive(Clone)]
struct Login {
    subject: String,
    asked: HashMap<String, String>,
}

impl TestIdp {
    pub async fn start() -> Self {
        Self::speaking(Speaks::Oidc).await
    }

    pub async fn speaking(speaks: Speaks) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            speaks,
            url: format!("http://{addr}"),
            mood: Mood::Answers,
            lets_go: watch::Sender::default(),
            signer: Signer::new("idp-1"),
            people: HashMap::new(),
            at_browser: None,
            codes: HashMap::new(),
            refresh_tokens: HashMap::new(),
            access_tokens: HashMap::new(),
            instead: json!({}),
            made: 0,
            seen: Vec::new(),
        }));
        let of_task = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(Client::new(stream), Arc::clone(&of_task)));
            }
        });
        Self { addr, speaks, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// What `iss` of its ID tokens is.
    pub fn issuer(&self) -> String {
        self.state().issuer()
    }

    /// It, as `proxy.auth.idp` has it.
    pub fn config(&self) -> Value {
        match self.speaks {
            Speaks::Oidc => json!({
                "provider": "oidc", "issuer": self.url(""), "clientId": CLIENT, "clientSecret": CLIENT_SECRET,
            }),
            Speaks::Google => json!({
                "provider": "google", "discoveryUrl": self.url("/.well-known/openid-configuration"),
                "clientId": CLIENT, "clientSecret": CLIENT_SECRET,
            }),
            Speaks::Github => json!({
                "provider": "github", "authorizationUrl": self.url("/login/oauth/authorize"),
                "tokenUrl": self.url("/login/oauth/access_token"), "userInfoUrl": self.url("/api/user"),
                "clientId": CLIENT, "clientSecret": CLIENT_SECRET,
            }),
        }
    }

    /// Somebody whom it knows, with this verified address, and who is at the browser from now on.
    pub fn has(&self, subject: &str, email: &str) {
        self.knows(
            subject,
            json!({ "email": email, "email_verified": true, "hd": email.split('@').next_back() }),
        );
        self.at_browser(subject);
    }

    /// What it says of somebody, new or not. Of people of GitHub: `login`, `email`, `email_verified`, `orgs`; their subject is a number.
    pub fn knows(&self, subject: &str, claims: Value) {
        self.state().people.insert(subject.into(), claims);
    }

    /// Who is at the browser.
    pub fn at_browser(&self, subject: &str) {
        self.state().at_browser = Some(subject.into());
    }

    /// Has whoever is at the browser refuse to log in.
    pub fn nobody_at_browser(&self) {
        self.state().at_browser = None;
    }

    /// Takes somebody out, with all that they have.
    pub fn removes(&self, subject: &str) {
        self.state().people.remove(subject);
    }

    /// Signs by another key from now on, and publishes no other.
    pub fn rotates_keys(&self) {
        let mut state = self.state();
        state.made += 1;
        state.signer = Signer::new(&format!("idp-{}", state.made));
    }

    /// Has its ID tokens say this instead: a claim that is null is left out.
    pub fn says_instead(&self, claims: Value) {
        self.state().instead = claims;
    }

    /// What it does when it is asked, from now on.
    pub fn is(&self, mood: Mood) {
        self.state().mood = mood;
    }

    /// Answers those whom it holds.
    pub fn lets_go(&self) {
        self.state().lets_go.send_replace(());
    }

    /// What it was asked so far: heads, and the names of what is in forms.
    pub fn requests(&self) -> Vec<String> {
        self.state().seen.clone()
    }

    /// How often something was asked for at a path.
    pub fn asked(&self, path: &str) -> usize {
        self.state().seen.iter().filter(|head| path_of(head) == Some(path)).count()
    }

    /// What a browser does that is sent to `url`: asks there, and is sent back. Returns where to, from the path on.
    pub async fn sends_back(&self, url: &str) -> String {
        let target =
            url.strip_prefix(&self.url("")).unwrap_or_else(|| panic!("{url} is not of this provider"));
        let mut client = Client::new(TcpStream::connect(self.addr).await.unwrap());
        client.send(format!("GET {target} HTTP/1.1\r\nHost: idp\r\n\r\n")).await;
        let (status, head, body) = client.response().await;
        assert_eq!(status, 302, "{body}");
        let back = Url::parse(field(&head, "location").unwrap()).unwrap();
        back[url::Position::BeforePath..].to_owned()
    }
}

/// A status, and JSON.
type Answer = (u16, Value);

async fn serve(mut client: Client<TcpStream>, state: Arc<Mutex<State>>) {
    while let Some(head) = client.next_head().await {
        let length = field(&head, "content-length").map_or(0, |length| length.parse().unwrap());
        let form = pairs(&String::from_utf8(client.exactly(length).await).unwrap());
        let held = {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            let mut names: Vec<_> = form.keys().cloned().collect();
            names.sort();
            state.seen.push(head.clone() + &names.join(" "));
            let is_held = matches!(state.mood, Mood::HoldsAt(path) if path_of(&head) == Some(path));
            is_held.then(|| state.lets_go.subscribe())
        };
        if let Some(mut held) = held {
            // An error is the end of the test.
            let _ = held.changed().await;
        }
        let answer = {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            match state.mood {
                Mood::Answers | Mood::HoldsAt(_) => Some(state.answer(&head, &form)),
                Mood::Fails => Some(response(503, "Content-Type: text/html\r\n", "<h1>not now</h1>")),
                Mood::Hangs => None,
            }
        };
        match answer {
            Some(answer) => client.send(answer).await,
            None => std::future::pending().await,
        }
    }
}

fn path_of(head: &str) -> Option<&str> {
    head.split([' ', '?']).nth(1)
}

fn response(status: u16, fields: &str, body: &str) -> String {
    format!("HTTP/1.1 {status} Status\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
}

fn pairs(text: &str) -> HashMap<String, String> {
    form_urlencoded::parse(text.as_bytes()).into_owned().collect()
}

impl State {
    fn issuer(&self) -> String {
        match self.speaks {
            Speaks::Oidc => self.url.clone(),
            Speaks::Google => "https://accounts.google.com".into(),
            Speaks::Github => "https://github.com".into(),
        }
    }

    fn make(&mut self, what: &str) -> String {
        self.made += 1;
        format!("{what}-{}-0123456789abcdef", self.made)
    }

    fn answer(&mut self, head: &str, form: &HashMap<String, String>) -> String {
        let target = head.split(' ').nth(1).unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let answer = match path {
            "/.well-known/openid-configuration" => (200, self.metadata()),
            "/keys" => return self.signer.answer(),
            "/authorize" | "/login/oauth/authorize" => return self.authorize(pairs(query)),
            "/token" | "/login/oauth/access_token" => self.token(head, form),
            "/userinfo" | "/api/user" | "/api/user/emails" | "/api/user/orgs" => self.person(path, head),
            _ => (404, json!({})),
        };
        response(answer.0, "Content-Type: application/json\r\n", &answer.1.to_string())
    }

    fn metadata(&self) -> Value {
        let at = |path: &str| format!("{}{path}", self.url);
        json!({
            "issuer": self.issuer(),
            "authorization_endpoint": at("/authorize"),
            "token_endpoint": at("/token"),
            "userinfo_endpoint": at("/userinfo"),
            "jwks_uri": at("/keys"),
            "scopes_supported": ["openid", "email", "profile", "offline_access"],
            "response_types_supported": ["code"],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": true,
        })
    }

    /// Sends the browser back, as the one who is there. What would be wrong with the request is shown, as a test's mistake.
    fn authorize(&mut self, asked: HashMap<String, String>) -> String {
        let is = |name: &str, value: &str| asked.get(name).is_some_and(|found| found == value);
        let has = |name: &str| asked.get(name).is_some_and(|found| !found.is_empty());
        let is_good = is("client_id", CLIENT)
            && is("response_type", "code")
            && is("code_challenge_method", "S256")
            && ["code_challenge", "redirect_uri", "scope", "state"].into_iter().all(has)
            && (self.speaks == Speaks::Github || has("nonce"));
        if !is_good {
            return response(400, "", &format!("{asked:?}"));
        }
        let mut back = Url::parse(&asked["redirect_uri"]).unwrap();
        back.query_pairs_mut().append_pair("state", &asked["state"]);
        if self.speaks != Speaks::Github {
            back.query_pairs_mut().append_pair("iss", &self.issuer());
        }
        match self.at_browser.clone() {
            None => drop(back.query_pairs_mut().append_pair("error", "access_denied")),
            Some(subject) => {
                let code = self.make("code");
                back.query_pairs_mut().append_pair("code", &code);
                self.codes.insert(code, Login { subject, asked });
            }
        }
        response(302, &format!("Location: {back}\r\n"), "")
    }

    fn token(&mut self, head: &str, form: &HashMap<String, String>) -> Answer {
        let is = |name: &str, value: &str| form.get(name).is_some_and(|found| found == value);
        let basic = format!("Basic {}", STANDARD.encode(format!("{CLIENT}:{CLIENT_SECRET}")));
        let by_field = field(head, "authorization") == Some(&*basic);
        let by_form = is("client_id", CLIENT) && is("client_secret", CLIENT_SECRET);
        if !(by_field || by_form) {
            return self.refuses(401, "invalid_client");
        }
        let login = match form.get("grant_type").map(String::as_str) {
            Some("authorization_code") => {
                let login = form.get("code").and_then(|code| self.codes.remove(code));
                let verifier = form.get("code_verifier").map_or("", String::as_str);
                let digest = digest::digest(&digest::SHA256, verifier.as_bytes());
                let challenge = URL_SAFE_NO_PAD.encode(digest);
                login.filter(|login| {
                    login.asked["code_challenge"] == challenge
                        && is("redirect_uri", &login.asked["redirect_uri"])
                })
            }
            Some("refresh_token") => {
                form.get("refresh_token").and_then(|token| self.refresh_tokens.remove(token)).map(|login| {
                    let mut asked = login.asked;
                    asked.remove("nonce");
                    Login { asked, ..login }
                })
            }
            _ => None,
        };
        let Some(login) = login.filter(|login| self.people.contains_key(&login.subject)) else {
            return self.refuses(400, "invalid_grant");
        };
        let access_token = self.make("gho");
        self.access_tokens.insert(access_token.clone(), login.clone());
        let mut tokens = json!({ "access_token": access_token, "token_type": "Bearer", "expires_in": 300 });
        if self.speaks != Speaks::Github {
            tokens["id_token"] = json!(self.id_token(&login));
            if login.asked["scope"].contains("offline_access") || login.asked.contains_key("access_type") {
                let token = self.make("refresh");
                self.refresh_tokens.insert(token.clone(), login);
                tokens["refresh_token"] = json!(token);
            }
        }
        (200, tokens)
    }

    fn refuses(&self, status: u16, error: &str) -> Answer {
        match self.speaks {
            Speaks::Github => {
                (200, json!({ "error": if status == 400 { "bad_verification_code" } else { error } }))
            }
            _ => (status, json!({ "error": error })),
        }
    }

    fn id_token(&self, login: &Login) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let mut claims = json!({
            "iss": self.issuer(), "sub": login.subject, "aud": CLIENT, "iat": now, "exp": now + 300,
        });
        if let Some(nonce) = login.asked.get("nonce") {
            claims["nonce"] = json!(nonce);
        }
        for more in [&self.people[&login.subject], &self.instead] {
            for (name, value) in more.as_object().unwrap() {
                claims[name] = value.clone();
            }
        }
        claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        self.signer.sign(json!({ "typ": "JWT" }), &claims)
    }

    /// Who has the access token.
    fn person(&self, path: &str, head: &str) -> Answer {
        let token = field(head, "authorization").and_then(|value| value.strip_prefix("Bearer "));
        let login = token.and_then(|token| self.access_tokens.get(token));
        let Some((subject, claims)) = login.and_then(|login| self.people.get_key_value(&login.subject))
        else {
            return (401, json!({ "message": "Bad credentials" }));
        };
        match path {
            "/userinfo" => {
                let mut claims = claims.clone();
                claims["sub"] = json!(subject);
                (200, claims)
            }
            "/api/user" => (200, json!({ "id": subject.parse::<u64>().unwrap(), "login": claims["login"] })),
            "/api/user/emails" => (
                200,
                json!([{ "email": claims["email"], "primary": true, "verified": claims["email_verified"] == true }]),
            ),
            _ => {
                let orgs = claims["orgs"].as_array().into_iter().flatten();
                (200, orgs.map(|org| json!({ "login": org })).collect())
            }
        }
    }
}
