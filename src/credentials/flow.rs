//! Somebody connects an account at a server: they are sent to the issuer, come back, see what was granted, and keep it or do not.
//!
//! Whoever finishes it in a browser gets the credential, never whoever asked for it: what waits for an answer names the browser and who
//! is signed in there, and is gone with the first answer, whoever brings that. What the issuer gives waits in the same way, until
//! somebody has seen it and approves.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use url::Url;
use zeroize::Zeroizing;

use super::{
    ConnectedAs, NotTaken, ServerCredentials, Vault,
    oauth::{
        AuthorizationAsk, Discovered, OauthError, OauthRefusal, TokenAnswer, TokenKind, UpstreamClient,
        authorization_url, redeem, revoke, scopes,
    },
};
use crate::{
    config::{UpstreamAuth, UpstreamOauth},
    identity::{
        Principal,
        login::upstream::{NotKept, StoreDown, UpstreamOwner, Upstreams},
    },
    secret::Secret,
};

/// How long somebody may be at the issuer, and how long they may then take to decide.
pub const GOOD: Duration = Duration::from_secs(10 * 60);
/// Characters of a `state`, and of what names a grant that waits: 32 bytes in base64url.
const CHARS: usize = 43;
const CALLBACK: &str = "/oauth/callback";

/// Who connects what.
pub struct FlowAsk<'a> {
    /// Whose it is to be.
    pub owner: &'a UpstreamOwner,
    /// Who is signed in.
    pub principal: &'a Principal,
    /// By which their browser is known.
    pub cookie: &'a str,
    /// Where they go afterwards: a path of the gateway's own.
    pub return_to: Option<&'a str>,
    /// What the server asked for besides.
    pub scopes: &'a [String],
    /// The URL of the gateway.
    pub base: &'a str,
}

/// What a browser brings back.
pub struct FlowAnswer<'a> {
    /// `code`
    pub code: Option<&'a str>,
    /// `iss` (RFC 9207)
    pub iss: Option<&'a str>,
    /// `error`
    pub error: Option<&'a str>,
}

/// Why nothing is connected. Nobody is told anything of the other side's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlowError {
    /// Nothing waits for this answer: it is over, or of another browser, or of somebody else.
    Over,
    /// Somebody said no, here or at the issuer.
    Denied,
    /// The issuer does not give it.
    Refused(&'static str),
    /// The answer is not of the issuer that was asked.
    OtherIssuer,
    /// The issuer does not answer.
    Unavailable(&'static str),
    /// What the issuer or the server answers cannot be used.
    Broken(&'static str),
    /// There is no such server, or none that they may connect.
    NotAllowed,
    /// They have as many as they may have.
    Full,
    /// It cannot be kept at present.
    NotKept,
}

impl FlowError {
    const ALL: [Self; 9] = [
        Self::Over,
        Self::Denied,
        Self::Refused(""),
        Self::OtherIssuer,
        Self::Unavailable(""),
        Self::Broken(""),
        Self::NotAllowed,
        Self::Full,
        Self::NotKept,
    ];

    /// As it stands in `?code=`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Over => "over",
            Self::Denied => "denied",
            Self::Refused(_) => "refused",
            Self::OtherIssuer => "issuer",
            Self::Unavailable(_) => "unavailable",
            Self::Broken(_) => "broken",
            Self::NotAllowed => "not_allowed",
            Self::Full => "full",
            Self::NotKept => "not_kept",
        }
    }

    /// What a word means. Anybody can make a link with one, so that nothing is said but what is a word here.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|error| error.word() == word)
    }

    /// What people are told.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Over => "This connection was not begun in this browser by you, or it is over.",
            Self::Denied => "Nothing was connected, as it was denied.",
            Self::Refused(_) => "Nothing was connected: the other side refuses it.",
            Self::OtherIssuer => "Nothing was connected: the answer is not of the side that was asked.",
            Self::Unavailable(_) => "Nothing was connected: the other side does not answer at the moment.",
            Self::Broken(_) => "Nothing was connected: what the other side answers cannot be used.",
            Self::NotAllowed => "There is no such server here that you may connect.",
            Self::Full => "Nothing was connected: you have as many connections as there may be.",
            Self::NotKept => "Nothing was connected: it cannot be kept at the moment.",
        }
    }

    /// Why, for the log.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Refused(why) | Self::Unavailable(why) | Self::Broken(why) => why,
            other => other.word(),
        }
    }
}

impl From<StoreDown> for FlowError {
    fn from(_: StoreDown) -> Self {
        Self::NotKept
    }
}

impl From<NotKept> for FlowError {
    fn from(why: NotKept) -> Self {
        match why {
            NotKept::Full => Self::Full,
            NotKept::TooLong => Self::Broken("what is to be kept is too long"),
            NotKept::Down => Self::NotKept,
        }
    }
}

impl From<NotTaken> for FlowError {
    fn from(why: NotTaken) -> Self {
        match why {
            NotTaken::Invalid => Self::Broken("the token has another form than `validation` wants"),
            NotTaken::NotKept(why) => why.into(),
        }
    }
}

impl From<OauthError> for FlowError {
    fn from(why: OauthError) -> Self {
        match why {
            OauthError::Refused(OauthRefusal::AccessDenied) => Self::Denied,
            OauthError::Refused(_) => Self::Refused(why.reason()),
            OauthError::Unavailable(why) => Self::Unavailable(why),
            OauthError::Broken(why) => Self::Broken(why),
        }
    }
}

/// What waits, as the store has it.
#[derive(Serialize, Deserialize)]
enum Waits {
    /// For an answer of the issuer.
    #[serde(rename = "answer")]
    Answer(Pending),
    /// For somebody to approve what was granted.
    #[serde(rename = "approval")]
    Approval(Grant),
}

/// Whose it is, and for which server: alike of both.
#[derive(Clone, Serialize, Deserialize)]
struct Of {
    owner: String,
    principal: String,
    server: String,
    /// SHA-256 of the cookie by which the browser is known.
    cookie: [u8; 32],
    #[serde(default, skip_serializing_if = "Option::is_none")]
    return_to: Option<String>,
    /// Until when, in seconds since 1970.
    until: u64,
    /// Where they are.
    at: Discovered,
    /// Who the gateway is there, as [`UpstreamClient::written`].
    client: Zeroizing<String>,
    scopes: Vec<String>,
}

impl Of {
    fn is(&self, cookie: &str, principal: &Principal, now: SystemTime) -> bool {
        let is_browser: bool = self.cookie.ct_eq(&sha256(cookie)).into();
        is_browser && self.principal == principal.to_string() && in_seconds(now) < self.until
    }

    /// Who the gateway is at the issuer. `None`: the config names another issuer or client by now, and what is of one is not shown to
    /// another.
    fn client(&self, config: &UpstreamOauth) -> Option<UpstreamClient> {
        let client = UpstreamClient::read(self.client.as_bytes(), &config.client_key)?;
        let is_same = config.issuer.as_ref().is_none_or(|issuer| **issuer == *self.at.issuer)
            && config.token_url.as_ref().is_none_or(|url| *url == self.at.token)
            && config.client_id.as_ref().is_none_or(|id| **id == *client.client_id);
        is_same.then_some(client)
    }
}

/// A browser that is at the issuer.
#[derive(Serialize, Deserialize)]
pub struct Pending {
    of: Of,
    verifier: Zeroizing<String>,
    redirect_uri: String,
}

#[derive(Serialize, Deserialize)]
struct Grant {
    of: Of,
    tokens: TokenAnswer,
}

/// What an issuer granted, as somebody is shown it before they decide.
pub struct Granted {
    /// By which the decision finds it.
    pub id: Secret,
    /// At which issuer.
    pub issuer: Arc<str>,
    /// Whose account it is there, if that is known.
    pub account: Option<Box<str>>,
    /// What was granted.
    pub scopes: Vec<String>,
    /// Whether the issuer ends it if it is not kept.
    pub is_revocable: bool,
}

/// A grant that somebody decides about.
pub struct Approval(Grant);

/// The configuration of a server to which people connect in a browser.
pub fn connects_by(config: &UpstreamAuth) -> Option<&UpstreamOauth> {
    match config {
        UpstreamAuth::UserOauth(oauth) | UpstreamAuth::SharedOauth(oauth) => Some(oauth),
        UpstreamAuth::ClientCredentials(_)
        | UpstreamAuth::UserToken(_)
        | UpstreamAuth::Exchange(_)
        | UpstreamAuth::Passthrough(_) => None,
    }
}

/// Where a browser is sent that connects an account.
pub async fn begin(
    credentials: &ServerCredentials,
    vault: &Vault,
    ask: &FlowAsk<'_>,
) -> Result<Url, FlowError> {
    let config = connects_by(credentials.config()).ok_or(FlowError::NotAllowed)?;
    let (store, server) = (upstreams(vault)?, credentials.server());
    let at = credentials.discovered(None).await?;
    let client = credentials.client(&at).await?;
    let own = format!("{}{CALLBACK}/{server}", ask.base);
    let redirect_uri = match config.redirect_uri.as_deref().unwrap_or(&own) {
        // What everybody may read names no server.
        uri if uri == own && *client.client_id == *client_document(ask.base) => {
            format!("{}{CALLBACK}", ask.base)
        }
        uri => uri.to_owned(),
    };
    let (state, verifier) = (random_text()?, random_text()?);
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&*verifier));
    let scopes = scopes(config, &at, ask.scopes);
    let asks = AuthorizationAsk {
        state: &state,
        challenge: &challenge,
        redirect_uri: &redirect_uri,
        scopes: &scopes,
        resource: at.resource.as_deref(),
    };
    let url = authorization_url(&at, config, &client, &asks)?;
    let (now, written) = (vault.clock.now(), client.written());
    let written = std::str::from_utf8(&written).map_err(|_| FlowError::Broken("its client is no text"))?;
    let of = Of {
        owner: ask.owner.to_string(),
        principal: ask.principal.to_string(),
        server: server.to_string(),
        cookie: sha256(ask.cookie),
        return_to: ask.return_to.map(str::to_owned),
        until: in_seconds(now + GOOD),
        at: Discovered::clone(&at),
        client: Zeroizing::new(written.to_owned()),
        scopes,
    };
    let waits = Waits::Answer(Pending { of, verifier, redirect_uri });
    store.begin_flow(id_of_state(&state), ask.principal, body(&waits)?, now + GOOD).await?;
    Ok(url)
}

/// Where the gateway says who it is, for issuers that read that.
pub fn client_document(base: &str) -> String {
    format!("{base}/oauth/client.json")
}

/// Whether this may be the `state` of somebody who connects an account. Those of other logins are longer.
pub fn is_state(text: &str) -> bool {
    text.len() == CHARS && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// What waits for the answer with this `state`, which it does no more. Only who began it, in the browser in which they did, gets it.
pub async fn take(
    vault: &Vault,
    state: &str,
    cookie: &str,
    principal: &Principal,
) -> Result<Pending, FlowError> {
    let now = vault.clock.now();
    let waits = upstreams(vault)?.take_flow(id_of_state(state), now).await?;
    match waits.and_then(|body| serde_json::from_slice(&body).ok()) {
        Some(Waits::Answer(pending)) if pending.of.is(cookie, principal, now) => Ok(pending),
        _ => Err(FlowError::Over),
    }
}

impl Pending {
    /// For which server it is.
    pub fn server(&self) -> &str {
        &self.of.server
    }

    /// Whose it is to be.
    pub fn owner(&self) -> Result<UpstreamOwner, FlowError> {
        self.of.owner.parse().map_err(|_| FlowError::Over)
    }

    /// Whether this path of the gateway is where the browser was to come back to. A redirect URI elsewhere is led here by somebody else.
    pub fn came_to(&self, base: &str, path: &str) -> bool {
        let own = self.redirect_uri.strip_prefix(base);
        own.is_none_or(|own| own == path.strip_suffix('/').unwrap_or(path))
    }

    /// What the issuer grants for the answer that a browser brought. It waits from now on for who began it to decide.
    pub async fn finish(
        self,
        credentials: &ServerCredentials,
        vault: &Vault,
        answer: &FlowAnswer<'_>,
    ) -> Result<Granted, FlowError> {
        let Self { of, verifier, redirect_uri } = self;
        let config = connects_by(credentials.config()).ok_or(FlowError::NotAllowed)?;
        let client = of.client(config).ok_or(FlowError::Over)?;
        // Of an error nothing is read before it is known who says it.
        if !of.at.is_answered_by(answer.iss) {
            return Err(FlowError::OtherIssuer);
        }
        if let Some(error) = answer.error {
            return Err(OauthError::of_answer(error).into());
        }
        let code = answer.code.ok_or(FlowError::Broken("it gives no code"))?;
        let (code, verifier) = (Secret::new(code.to_owned()), Secret::new(verifier.to_string()));
        let resource = of.at.resource.as_deref();
        let outgoing = vault.outgoing();
        let tokens = redeem(&outgoing, &of.at, &client, &code, &verifier, &redirect_uri, resource).await?;
        let until = vault.clock.now() + GOOD;
        let granted = Granted {
            id: Secret::new(random_text()?.to_string()),
            issuer: Arc::clone(&of.at.issuer),
            account: tokens.account.clone(),
            scopes: tokens.scopes.clone().unwrap_or_else(|| of.scopes.clone()),
            is_revocable: of.at.revocation.is_some(),
        };
        let principal: Principal = of.principal.parse().map_err(|_| FlowError::Over)?;
        let grant = Grant { of: Of { until: in_seconds(until), ..of }, tokens };
        let stored = grant.keep(vault, &granted.id, &principal, until).await;
        match stored {
            Ok(()) => Ok(granted),
            Err((why, grant)) => {
                Approval(grant).give_back(credentials, vault).await;
                Err(why)
            }
        }
    }
}

impl Grant {
    /// Keeps it until somebody has decided, and a while longer, so that what is decided too late, or never, can still be given back.
    async fn keep(
        self,
        vault: &Vault,
        id: &Secret,
        principal: &Principal,
        until: SystemTime,
    ) -> Result<(), (FlowError, Self)> {
        let waits = Waits::Approval(self);
        let kept = async {
            let store = upstreams(vault)?;
            store.begin_flow(id_of_grant(id.expose()), principal, body(&waits)?, until + GOOD).await?;
            Ok(())
        };
        match (kept.await, waits) {
            (Err(why), Waits::Approval(grant)) => Err((why, grant)),
            _ => Ok(()),
        }
    }
}

/// What somebody decides about, which does not wait for it any more. Only who began it, in the browser in which they did, decides.
pub async fn decide(
    vault: &Vault,
    id: &str,
    cookie: &str,
    principal: &Principal,
) -> Result<Decided, FlowError> {
    let now = vault.clock.now();
    let waits = upstreams(vault)?.take_flow(id_of_grant(id), now).await?;
    match waits.and_then(|body| serde_json::from_slice(&body).ok()) {
        Some(Waits::Approval(grant)) if grant.of.is(cookie, principal, now) => {
            Ok(Decided::InTime(Approval(grant)))
        }
        Some(Waits::Approval(grant)) => Ok(Decided::Never(Approval(grant))),
        _ => Err(FlowError::Over),
    }
}

/// What nobody has decided about, if it still waits: it is nobody's any more.
pub async fn forget(vault: &Vault, id: &Secret) -> Option<Approval> {
    let now = vault.clock.now();
    let waits = upstreams(vault).ok()?.take_flow(id_of_grant(id.expose()), now).await.ok()??;
    match serde_json::from_slice(&waits).ok()? {
        Waits::Approval(grant) => Some(Approval(grant)),
        Waits::Answer(_) => None,
    }
}

/// Whether a decision counts.
pub enum Decided {
    /// It does.
    InTime(Approval),
    /// It comes too late, or from another browser, or from somebody else. All that is left is to give it back.
    Never(Approval),
}

impl Approval {
    /// For which server it is.
    pub fn server(&self) -> &str {
        &self.0.of.server
    }

    /// Whose it is to be.
    pub fn owner(&self) -> Result<UpstreamOwner, FlowError> {
        self.0.of.owner.parse().map_err(|_| FlowError::Over)
    }

    /// Where they go afterwards.
    pub fn return_to(&self) -> Option<&str> {
        self.0.of.return_to.as_deref()
    }

    /// Keeps it.
    pub async fn approve(self, credentials: &Arc<ServerCredentials>) -> Result<(), FlowError> {
        let owner = self.owner()?;
        let config = connects_by(credentials.config()).ok_or(FlowError::NotAllowed)?;
        let Grant { of, tokens } = self.0;
        let client = of.client(config).ok_or(FlowError::Over)?;
        let connected = ConnectedAs { tokens, discovered: of.at, client, scopes: of.scopes };
        Ok(credentials.connect(&owner, connected).await?)
    }

    /// Has the issuer end it, as well as that can be done: nobody has it any more, whatever comes of that.
    pub async fn give_back(self, credentials: &ServerCredentials, vault: &Vault) {
        let Grant { of, tokens } = self.0;
        let Some(config) = connects_by(credentials.config()) else { return };
        let Some(client) = of.client(config) else { return };
        let (token, kind) = match &tokens.refresh {
            Some(refresh) => (refresh, TokenKind::Refresh),
            None => (&tokens.access, TokenKind::Access),
        };
        let _ = revoke(&vault.outgoing(), &of.at, &client, token, kind).await;
    }
}

fn upstreams(vault: &Vault) -> Result<&Upstreams, FlowError> {
    vault.upstreams().ok_or(FlowError::NotKept)
}

fn body(value: &impl Serialize) -> Result<Zeroizing<Vec<u8>>, FlowError> {
    // With room for all, so that nothing of it stays where it was before it grew.
    let mut body = Zeroizing::new(Vec::with_capacity(32 << 10));
    serde_json::to_writer(&mut *body, value)
        .map_err(|_| FlowError::Broken("what is to be kept cannot be written"))?;
    Ok(body)
}

fn random_text() -> Result<Zeroizing<String>, FlowError> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes).map_err(|_| FlowError::NotKept)?;
    Ok(Zeroizing::new(URL_SAFE_NO_PAD.encode(*bytes)))
}

fn sha256(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

fn id_of_state(state: &str) -> [u8; 32] {
    Sha256::new().chain_update(b"state\0").chain_update(state).finalize().into()
}

/// Another one than that of a `state`, which issuers know.
fn id_of_grant(id: &str) -> [u8; 32] {
    Sha256::new().chain_update(b"grant\0").chain_update(id).finalize().into()
}

fn in_seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_has_a_word_of_its_own_and_a_sentence() {
        for error in FlowError::ALL {
            assert_eq!(FlowError::of(error.word()), Some(error));
            assert!(error.sentence().ends_with('.'));
        }
        for word in ["", "Over", "access_denied", "<b>"] {
            assert_eq!(FlowError::of(word), None);
        }
    }

    #[test]
    fn a_state_is_known_by_its_form_and_names_no_grant() {
        let state = random_text().unwrap();
        assert!(is_state(&state));
        for other in ["", &state[1..], &format!("{}=", &state[1..]), &format!("{}x", &*state)] {
            assert!(!is_state(other), "{other}");
        }
        assert_ne!(*state, *random_text().unwrap());
        assert_ne!(id_of_state(&state), id_of_grant(&state));
    }
}
