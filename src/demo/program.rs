//! A program that logs in at the gateway of `sluicegate demo --oauth` by itself. It knows one URL, and finds all else as any client
//! of OAuth does (MCP 2025-11-25, section Authorization). It is its own browser, too.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderName, header};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use url::Url;

use super::wire::{Answer, Fault, Wire, form_text, short, text};
use crate::{pages::SCOPE_FIELD, secret::Secret};

/// What it calls itself.
const NAME: &str = "Demo program";
/// Where it would wait for its user's browser. Nobody listens there: it reads in the page where the browser would go.
const REDIRECT: &str = "http://127.0.0.1:9/callback";
/// What it asks for: all that its user may do, and to stay.
const SCOPE: [&str; 2] = ["mcp", "offline_access"];

/// Who signs in.
pub(super) struct Account {
    pub(super) user: &'static str,
    pub(super) password: Secret,
}

/// The program.
pub(super) struct Program {
    wire: Wire,
    /// The server that it is to use.
    place: String,
    /// Those of its browser.
    cookies: Vec<(String, String)>,
}

/// What says of itself who issues tokens.
struct Issuer {
    name: String,
    metadata: Value,
}

struct Tokens {
    access: Secret,
    refresh: Secret,
}

impl Program {
    /// One that is to use the server at the path `place` of the gateway at `base`.
    pub(super) fn new(base: &str, place: &str) -> Result<Self, Fault> {
        Ok(Self { wire: Wire::to(base)?, place: format!("{base}{place}"), cookies: Vec::new() })
    }

    /// Goes through all of it, once the gateway listens.
    pub(super) async fn run(&mut self, account: &Account) -> Result<(), Fault> {
        self.wire.listens().await?;
        let issuer = self.discover().await?;
        let id = self.register(&issuer).await?;
        let verifier = random()?;
        let code = self.be_let_in(&issuer, &id, &verifier, account).await?;
        let tokens = self.redeem(&issuer, &id, &code, &verifier).await?;
        self.list(&tokens).await?;
        self.call(&tokens).await?;
        let tokens = self.refresh(&issuer, &id, &tokens).await?;
        self.give_back(&issuer, &id, &tokens).await
    }

    /// What there is to tell so far.
    pub(super) fn told(&self) -> &str {
        self.wire.told()
    }

    /// From a call without a token to where tokens are.
    async fn discover(&mut self) -> Result<Issuer, Fault> {
        let refused = self.message(None, "tools/list", json!({})).await?.of(401)?;
        let challenge = refused.field(header::WWW_AUTHENTICATE).to_owned();
        let metadata_url = quoted(&challenge, "resource_metadata")?.to_owned();
        self.wire.tell(
            "The program calls the server without a token. It is refused, and told where to read on.",
            &format!("POST {}  tools/list", self.wire.path(&self.place)?),
            &format!("401  WWW-Authenticate: {challenge}"),
        );

        let of_place = self.wire.get(&metadata_url, &[]).await?.of(200)?.json()?;
        let name = of_place["authorization_servers"][0].as_str().ok_or("nobody issues tokens")?.to_owned();
        self.wire.tell(
            "It reads what this place is, and who issues tokens for it.",
            &format!("GET {}", self.wire.path(&metadata_url)?),
            &format!("200  resource {}, authorization_servers {name}", of_place["resource"]),
        );
        if text(&of_place, "resource")? != self.place {
            return Err("the metadata is of another place".into());
        }

        let of_issuer = format!("{name}/.well-known/oauth-authorization-server");
        let metadata = self.wire.get(&of_issuer, &[]).await?.of(200)?.json()?;
        if text(&metadata, "issuer")? != name {
            return Err("the metadata is of another issuer".into());
        }
        let mut at = Vec::new();
        for endpoint in ["registration", "authorization", "token", "revocation"] {
            at.push(self.wire.path(text(&metadata, &format!("{endpoint}_endpoint"))?)?);
        }
        self.wire.tell(
            "It reads what that one can do, and where. Here, the gateway does it itself.",
            &format!("GET {}", self.wire.path(&of_issuer)?),
            &format!("200  endpoints {}", at.join(", ")),
        );
        Ok(Issuer { name, metadata })
    }

    async fn register(&mut self, issuer: &Issuer) -> Result<String, Fault> {
        let url = text(&issuer.metadata, "registration_endpoint")?;
        let body = json!({ "client_name": NAME, "redirect_uris": [REDIRECT] });
        let registered = self.wire.post_json(url, &[], &body).await?.of(201)?.json()?;
        let id = text(&registered, "client_id")?.to_owned();
        self.wire.tell(
            "It says who it is, and gets an id. The gateway keeps nothing: what it said is in the id.",
            &format!("POST {}  {body}", self.wire.path(url)?),
            &format!("201  client_id {}", short(&id)),
        );
        Ok(id)
    }

    /// From `/authorize` to a code: what its user does in a browser.
    async fn be_let_in(
        &mut self,
        issuer: &Issuer,
        id: &str,
        verifier: &Secret,
        account: &Account,
    ) -> Result<Secret, Fault> {
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.expose()));
        let state = random()?;
        let scope = SCOPE.join(" ");
        let asked = form_text(&[
            ("response_type", "code"),
            ("client_id", id),
            ("redirect_uri", REDIRECT),
            ("state", state.expose()),
            ("scope", &scope),
            ("resource", &self.place),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]);
        let authorize = text(&issuer.metadata, "authorization_endpoint")?;
        let page = self.browse(&format!("{authorize}?{asked}"), None).await?;
        self.wire.tell(
            "It opens its user's browser, and keeps a secret (code_verifier), of which it shows the hash.",
            &format!(
                "GET {}?response_type=code&client_id={}&redirect_uri={REDIRECT}&scope={scope}&resource={}\
                 &code_challenge={}&code_challenge_method=S256&state={}",
                self.wire.path(authorize)?,
                short(id),
                self.place,
                short(&challenge),
                short(state.expose()),
            ),
            &format!("200  the page \"{}\"", heading(&page)),
        );

        let (csrf, flow) = (hidden(&page, "csrf")?, hidden(&page, "flow")?);
        let password = account.password.expose();
        let form = [("csrf", &*csrf), ("flow", &*flow), ("username", account.user), ("password", password)];
        let page = self.browse(&format!("{}/oauth/login", issuer.name), Some(&form)).await?;
        self.wire.tell(
            "The user signs in. The browser is known from now on, by a cookie that no script can read.",
            &format!("POST /oauth/login  username={}, password=…, csrf={}", account.user, short(&csrf)),
            &format!("200  the page \"{}\"", heading(&page)),
        );

        let (csrf, flow) = (hidden(&page, "csrf")?, hidden(&page, "flow")?);
        let ticked = SCOPE.map(|scope| format!("{SCOPE_FIELD}{scope}"));
        let mut form = vec![("csrf", &*csrf), ("flow", &*flow), ("answer", "approve")];
        form.extend(ticked.iter().map(|name| (&**name, "on")));
        let page = self.browse(&format!("{}/oauth/consent", issuer.name), Some(&form)).await?;
        let target = leads_to(&page)?;
        let value =
            |name: &str| target.query_pairs().find(|(other, _)| other == name).map(|(_, value)| value);
        let code = Secret::new(value("code").ok_or("the page leads back without a code")?.into_owned());
        // Another one may have answered, with a code of its own (RFC 9207), or to somebody else's question.
        if value("iss").as_deref() != Some(&issuer.name) || value("state").as_deref() != Some(state.expose())
        {
            return Err("the answer is not to what was asked".into());
        }
        self.wire.tell(
            "The user reads who asks for what, and approves. A page leads the browser back to the program, with a code.",
            &format!("POST /oauth/consent  answer=approve, {}, csrf={}", ticked.join(", "), short(&csrf)),
            &format!(
                "200  the page \"{}\", on to {REDIRECT}?code={}&state={}&iss={}",
                heading(&page),
                short(code.expose()),
                short(state.expose()),
                issuer.name
            ),
        );
        Ok(code)
    }

    async fn redeem(
        &mut self,
        issuer: &Issuer,
        id: &str,
        code: &Secret,
        verifier: &Secret,
    ) -> Result<Tokens, Fault> {
        let url = text(&issuer.metadata, "token_endpoint")?;
        let form = [
            ("grant_type", "authorization_code"),
            ("client_id", id),
            ("code", code.expose()),
            ("code_verifier", verifier.expose()),
            ("redirect_uri", REDIRECT),
        ];
        let answer = self.wire.post_form(url, &[], &form).await?.of(200)?.json()?;
        let sent = format!(
            "POST {}  grant_type=authorization_code, code={}, code_verifier={}",
            self.wire.path(url)?,
            short(code.expose()),
            short(verifier.expose())
        );
        self.tokens("The program changes the code for tokens, and shows its secret.", &sent, &answer)
    }

    async fn list(&mut self, tokens: &Tokens) -> Result<(), Fault> {
        let listed = self.message(Some(tokens), "tools/list", json!({})).await?.of(200)?.json()?;
        let tools = listed["result"]["tools"].as_array().ok_or("there are no tools")?;
        let names: Vec<_> = tools.iter().filter_map(|tool| tool["name"].as_str()).collect();
        self.wire.tell(
            "Now the server answers: it lists its tools.",
            &self.sent(tokens, "tools/list")?,
            &format!("200  {}", names.join(", ")),
        );
        Ok(())
    }

    async fn call(&mut self, tokens: &Tokens) -> Result<(), Fault> {
        let params = json!({ "name": "echo", "arguments": { "text": "hello" } });
        let called = self.message(Some(tokens), "tools/call", params).await?.of(200)?.json()?;
        self.wire.tell(
            "It calls one. The server never sees the token: the gateway takes it off.",
            &self.sent(tokens, "tools/call echo \"hello\"")?,
            &format!("200  {}", called["result"]["content"][0]["text"]),
        );
        Ok(())
    }

    async fn refresh(&mut self, issuer: &Issuer, id: &str, tokens: &Tokens) -> Result<Tokens, Fault> {
        let url = text(&issuer.metadata, "token_endpoint")?;
        let refresh = tokens.refresh.expose();
        let form = [("grant_type", "refresh_token"), ("client_id", id), ("refresh_token", refresh)];
        let answer = self.wire.post_form(url, &[], &form).await?.of(200)?.json()?;
        let path = self.wire.path(url)?;
        let sent = format!("POST {path}  grant_type=refresh_token, refresh_token={}", short(refresh));
        self.tokens(
            "Before the hour is over it gets the next tokens. Its user is not asked again.",
            &sent,
            &answer,
        )
    }

    /// Gives its tokens back, and sees that they open nothing any more.
    async fn give_back(&mut self, issuer: &Issuer, id: &str, tokens: &Tokens) -> Result<(), Fault> {
        let url = text(&issuer.metadata, "revocation_endpoint")?;
        let token = tokens.refresh.expose();
        self.wire.post_form(url, &[], &[("client_id", id), ("token", token)]).await?.of(200)?;
        let sent = format!("POST {}  token={}", self.wire.path(url)?, short(token));
        self.wire.tell("It gives back what it has. That ends all of its tokens.", &sent, "200");
        let refused = self.message(Some(tokens), "tools/list", json!({})).await?.of(401)?;
        let error = quoted(refused.field(header::WWW_AUTHENTICATE), "error")?;
        self.wire.tell(
            "So the token that it had a moment ago opens nothing.",
            &self.sent(tokens, "tools/list")?,
            &format!("401  error {error}"),
        );
        Ok(())
    }

    /// Tells of tokens that came.
    fn tokens(&mut self, what: &str, sent: &str, answer: &Value) -> Result<Tokens, Fault> {
        let of = |name| text(answer, name).map(|token| Secret::new(token.to_owned()));
        let tokens = Tokens { access: of("access_token")?, refresh: of("refresh_token")? };
        let got = format!(
            "200  access_token {}, refresh_token {}, expires_in {}, scope {}",
            short(tokens.access.expose()),
            short(tokens.refresh.expose()),
            answer["expires_in"],
            answer["scope"]
        );
        self.wire.tell(what, sent, &got);
        Ok(tokens)
    }

    /// Sends a message to the server.
    async fn message(&self, tokens: Option<&Tokens>, method: &str, params: Value) -> Result<Answer, Fault> {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let bearer = tokens.map(|tokens| format!("Bearer {}", tokens.access.expose()));
        let mut fields = vec![(header::ACCEPT, "application/json, text/event-stream")];
        fields.extend(bearer.as_deref().map(|bearer| (header::AUTHORIZATION, bearer)));
        self.wire.post_json(&self.place, &fields, &body).await
    }

    fn sent(&self, tokens: &Tokens, what: &str) -> Result<String, Fault> {
        let path = self.wire.path(&self.place)?;
        Ok(format!("POST {path}  {what}, Authorization: Bearer {}", short(tokens.access.expose())))
    }

    /// What a browser does: it keeps cookies, and says from which page a form comes.
    async fn browse(&mut self, url: &str, form: Option<&[(&str, &str)]>) -> Result<String, Fault> {
        let pairs: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let cookies = pairs.join("; ");
        let mut fields: Vec<(HeaderName, &str)> = Vec::new();
        if !cookies.is_empty() {
            fields.push((header::COOKIE, &cookies));
        }
        let origin = self.place.parse::<Url>().map_err(|e| e.to_string())?.origin().ascii_serialization();
        let answer = match form {
            None => self.wire.get(url, &fields).await?,
            Some(form) => {
                fields.push((header::ORIGIN, &origin));
                self.wire.post_form(url, &fields, form).await?
            }
        };
        let answer = answer.of(200)?;
        for set in answer.headers.get_all(header::SET_COOKIE) {
            let pair = set.to_str().ok().and_then(|set| set.split(';').next()?.split_once('='));
            let (name, value) = pair.ok_or("a cookie is none")?;
            self.cookies.retain(|(known, _)| known != name);
            self.cookies.push((name.to_owned(), value.to_owned()));
        }
        Ok(answer.body)
    }
}

/// 32 random bytes, as a verifier has them (RFC 7636 §4.1).
fn random() -> Result<Secret, Fault> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|e| e.to_string())?;
    Ok(Secret::new(URL_SAFE_NO_PAD.encode(bytes)))
}

/// A parameter of a challenge.
fn quoted<'a>(challenge: &'a str, name: &str) -> Result<&'a str, Fault> {
    between(challenge, &format!("{name}=\""), "\"").ok_or_else(|| format!("the challenge has no {name}"))
}

/// A hidden field of a page, which has nothing in it that HTML escapes.
fn hidden(page: &str, name: &str) -> Result<String, Fault> {
    let value = between(page, &format!("name=\"{name}\" value=\""), "\"");
    value.map(str::to_owned).ok_or_else(|| format!("the page has no field {name}"))
}

fn heading(page: &str) -> &str {
    between(page, "<h1>", "</h1>").unwrap_or_default()
}

/// Where a page leads on by itself.
fn leads_to(page: &str) -> Result<Url, Fault> {
    let target = between(page, "content=\"0; url=", "\"").ok_or("the page leads nowhere")?;
    target.replace("&#38;", "&").parse().map_err(|_| "the page leads to what is no URL".to_owned())
}

fn between<'a>(text: &'a str, begin: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(begin)?;
    rest.split_once(end).map(|(found, _)| found)
}
