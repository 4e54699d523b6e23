//! A login by an identity provider, and what the provider says of somebody later on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use http::StatusCode;
use parking_lot::Mutex;
use serde_json::{Map, Value};
use url::Url;

use super::{
    asking::Asking,
    claims::{display, together, with_verified_address},
    error::IdpError,
    github,
    id_token::{Expected, UnverifiedIdToken, is_subject, not_signed},
    metadata::{KeptMetadata, Metadata},
    secrets::LoginSecrets,
    token::{Grant, Proof, ask, bearer, tokens},
};
use crate::{
    config::{IdpConfig, IdpProvider, Issuer},
    identity::foreign::{
        jwt::ASYMMETRIC,
        keys::{IssuerKeys, NotVerified},
        source::{Ask, NotFetched, Source},
        token_endpoint::TokenResponse,
    },
    secret::Secret,
};

/// Bytes of an answer with tokens, or of userinfo, at most.
const LONGEST: usize = 64 << 10;
/// Bytes of a code at most.
const LONGEST_CODE: usize = 4 << 10;
const OFFLINE_ACCESS: &str = "offline_access";

/// An identity provider, as all workers share it.
#[derive(Clone)]
pub struct Idp {
    asking: Asking,
    shared: Arc<Shared>,
}

/// What is known of a provider.
#[derive(Default)]
struct Shared {
    metadata: KeptMetadata,
    keys: Mutex<Option<IssuerKeys>>,
    /// Whether it took the gateway's secret in the form, where it also lists the other way.
    takes_form: AtomicBool,
}

/// What a provider says of somebody, who is admitted by the config that was asked.
#[derive(Debug, Clone, PartialEq)]
pub struct IdpLogin {
    /// Who it is, to this provider.
    pub subject: String,
    /// How they are called, for pages and log: a verified address, a login name, or the subject.
    pub display: String,
    /// What it says of them. `email` is there only if it is verified, and `email_verified` with it.
    pub claims: Map<String, Value>,
    /// What the provider is asked by, the next time: to be sealed wherever it is kept. `None`: it cannot be asked again.
    pub keep: Option<Secret>,
}

impl std::fmt::Debug for Idp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Idp({})", self.config().provider.name())
    }
}

impl Idp {
    /// The provider of this config, which is asked by `source`.
    pub fn new(config: Arc<IdpConfig>, source: Arc<dyn Source>) -> Self {
        Self { asking: Asking { config, source }, shared: Arc::default() }
    }

    /// The same, if a reload left it where it was: what else the config says of it may have changed.
    pub fn of_reload(&self, config: &Arc<IdpConfig>) -> Option<Self> {
        let place =
            |config: &IdpConfig| (config.provider, Arc::clone(&config.issuer), config.discovery_url.clone());
        let asking = Asking { config: Arc::clone(config), source: Arc::clone(&self.asking.source) };
        (place(self.config()) == place(config)).then(|| Self { asking, shared: Arc::clone(&self.shared) })
    }

    /// What the config says of it.
    pub fn config(&self) -> &Arc<IdpConfig> {
        &self.asking.config
    }

    /// Where a browser is sent to log in.
    pub async fn begin(&self, secrets: &LoginSecrets) -> Result<Url, IdpError> {
        let config = &**self.config();
        let metadata = self.metadata().await?;
        let mut url = match &metadata {
            None => github::authorization_url(config)?,
            Some(metadata) => place(&config.authorization_url, &metadata.authorization)?,
        };
        let mut scope = match config.provider {
            IdpProvider::Github => github::scope(config),
            _ => vec!["openid", "email", "profile"],
        };
        let asks_for_offline_access = config.provider == IdpProvider::Azure
            || config.provider == IdpProvider::Oidc
                && (metadata.as_ref().is_some_and(|metadata| metadata.has_offline_access)
                    || config.scopes.iter().any(|scope| scope == OFFLINE_ACCESS));
        scope.extend(asks_for_offline_access.then_some(OFFLINE_ACCESS));
        for more in &config.scopes {
            if !scope.contains(&&**more) {
                scope.push(more);
            }
        }
        let mut query = url.query_pairs_mut();
        query
            .append_pair("response_type", "code")
            .append_pair("client_id", &config.client_id)
            .append_pair("redirect_uri", &config.redirect_uri)
            .append_pair("scope", &scope.join(" "))
            .append_pair("state", secrets.state.expose())
            .append_pair("code_challenge", &secrets.challenge())
            .append_pair("code_challenge_method", "S256");
        if config.provider != IdpProvider::Github {
            query.append_pair("nonce", secrets.nonce.expose());
        }
        if config.provider == IdpProvider::Google {
            // Without `prompt`, Google gives a refresh token only the first time.
            query.append_pair("access_type", "offline").append_pair("prompt", "consent");
            if let [only] = &*config.allowed_domains {
                query.append_pair("hd", only);
            }
        } else if config.provider == IdpProvider::Oidc && asks_for_offline_access {
            // OpenID Connect Core §11. Entra, which asks nobody for it, would have an administrator consent.
            query.append_pair("prompt", "consent");
        }
        drop(query);
        Ok(url)
    }

    /// Who logged in, as the provider says for the code that their browser brought, and the `iss` beside it.
    pub async fn finish(
        &self,
        code: &Secret,
        iss: Option<&str>,
        secrets: &LoginSecrets,
        now: SystemTime,
    ) -> Result<IdpLogin, IdpError> {
        if !(1..=LONGEST_CODE).contains(&code.expose().len()) {
            return Err(IdpError::Broken("the code is none"));
        }
        let metadata = self.metadata().await?;
        self.check_iss(iss, metadata.as_deref())?;
        let grant = Grant::Code { code, verifier: &secrets.verifier };
        let tokens = self.tokens(grant, metadata.as_deref()).await?;
        let Some(metadata) = metadata else {
            let access = access(&tokens)?;
            let login = github::person(&self.asking, access).await?;
            return self
                .admit(login, Some(tokens.refresh().unwrap_or_else(|| Secret::new(access.to_owned()))));
        };
        let id_token = tokens.id_token.as_deref().ok_or(IdpError::Broken("it gave no ID token"))?;
        let said = self.of_id_token(id_token, &metadata, Some(secrets), now).await?;
        let login = self.with_user_info(said, &tokens, &metadata).await?;
        self.admit(login, tokens.refresh())
    }

    /// Asks the provider anew about somebody, by what it gave to be asked by. What it says of them is the second step, since most
    /// providers give something else each time to be asked by, and take what was used for stolen when it comes again: whoever asks keeps
    /// [`AskedAgain::next`] before that, and does not stop before there is an answer.
    pub async fn ask_again(&self, keep: &Secret) -> Result<AskedAgain, IdpError> {
        let metadata = self.metadata().await?;
        let is_access_token = metadata.is_none() && !github::is_refresh_token(keep.expose());
        let tokens = match is_access_token {
            true => None,
            false => Some(self.tokens(Grant::Refresh(keep), metadata.as_deref()).await?),
        };
        let next = tokens.as_ref().and_then(TokenResponse::refresh);
        Ok(AskedAgain { idp: self.clone(), metadata, tokens, before: keep.clone(), next })
    }

    /// RFC 9207 §2.4: whoever had the browser sent to two providers has it bring the code of one to the other.
    fn check_iss(&self, iss: Option<&str>, metadata: Option<&Metadata>) -> Result<(), IdpError> {
        let is_good = match (iss, metadata) {
            (Some(iss), Some(metadata)) => iss == metadata.issuer,
            (Some(iss), None) => {
                let issuer = &*self.config().issuer;
                iss.strip_prefix(issuer).is_some_and(|rest| ["", github::ISSUER_PATH].contains(&rest))
            }
            (None, metadata) => !metadata.is_some_and(|metadata| metadata.says_iss),
        };
        is_good.then_some(()).ok_or(IdpError::Broken("iss of the answer is another, or is missing"))
    }

    /// Where the provider is asked. `None`: it is GitHub, of which that is known.
    async fn metadata(&self) -> Result<Option<Arc<Metadata>>, IdpError> {
        let Asking { config, source } = &self.asking;
        match config.provider {
            IdpProvider::Github => Ok(None),
            _ => self.shared.metadata.get(config, &**source).await.map(Some),
        }
    }

    async fn tokens(&self, grant: Grant<'_>, metadata: Option<&Metadata>) -> Result<TokenResponse, IdpError> {
        let config = &**self.config();
        let url = match metadata {
            None => github::token_url(config)?,
            Some(metadata) => place(&config.token_url, &metadata.token)?,
        };
        let mut ways = Proof::ways(config, metadata.and_then(|metadata| metadata.proofs.as_deref()));
        if self.shared.takes_form.load(Ordering::Relaxed) {
            ways.reverse();
        }
        for way in ways {
            let answer = self.asking.ask(&url, ask(config, grant, way)?, LONGEST).await?;
            match tokens(&answer) {
                Err(IdpError::UNKNOWN_CLIENT) => {}
                Ok(tokens) => {
                    self.shared.takes_form.store(way == Proof::Post, Ordering::Relaxed);
                    return Ok(tokens);
                }
                Err(other) => return Err(other),
            }
        }
        Err(IdpError::UNKNOWN_CLIENT)
    }

    async fn of_id_token(
        &self,
        id_token: &str,
        metadata: &Metadata,
        login: Option<&LoginSecrets>,
        now: SystemTime,
    ) -> Result<(String, Map<String, Value>), IdpError> {
        let expected = Expected { config: self.config(), issuer: &metadata.issuer, login, now };
        let token = UnverifiedIdToken::parse(id_token)?;
        token.check(expected)?;
        let keys = self.keys(metadata)?.keys_with(token.key_id()?).await;
        let keys = keys.map_err(|why| match why {
            NotVerified::NotTaken(why) => not_signed(why),
            NotVerified::NoKeys => IdpError::Unavailable("its keys were never fetched"),
        })?;
        token.verify(&keys, expected)
    }

    /// Also what userinfo says, of a provider whose ID tokens may have nothing but the subject.
    async fn with_user_info(
        &self,
        (subject, claims): (String, Map<String, Value>),
        tokens: &TokenResponse,
        metadata: &Metadata,
    ) -> Result<(String, Map<String, Value>), IdpError> {
        let config = self.config();
        let url = match (config.provider, &config.user_info_url, &metadata.user_info) {
            (_, Some(url), _) | (IdpProvider::Oidc, None, Some(url)) => url,
            _ => return Ok((subject, claims)),
        };
        let sub = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
        let more = self.user_info(url, tokens, sub).await?;
        Ok((subject, together(claims, more)))
    }

    /// What userinfo says of this one (OpenID Connect Core §5.3).
    async fn user_info(
        &self,
        url: &Url,
        tokens: &TokenResponse,
        sub: &str,
    ) -> Result<Map<String, Value>, IdpError> {
        let ask = Ask { authorization: Some(bearer(access(tokens)?)?), ..Ask::default() };
        let answer = self.asking.ask(url, ask, LONGEST).await?;
        match answer.status {
            StatusCode::OK => {}
            _ => return Err(IdpError::Broken("userinfo refuses, and the gateway does not know why")),
        }
        let claims: Map<String, Value> =
            serde_json::from_slice(&answer.body).map_err(|_| IdpError::Broken("userinfo is none"))?;
        // §5.3.2: else somebody else's access token would give somebody else's rights.
        match claims.get("sub").and_then(Value::as_str) {
            Some(found) if found == sub => Ok(claims),
            _ => Err(IdpError::Broken("userinfo is of somebody else")),
        }
    }

    fn admit(
        &self,
        (subject, claims): (String, Map<String, Value>),
        keep: Option<Secret>,
    ) -> Result<IdpLogin, IdpError> {
        if !is_subject(&subject) {
            return Err(IdpError::Broken("its answer names nobody"));
        }
        let claims = with_verified_address(self.config(), claims);
        self.config().admits(&claims).map_err(IdpError::Refused)?;
        Ok(IdpLogin { display: display(&claims, &subject), subject, claims, keep })
    }

    /// The keys of its ID tokens.
    fn keys(&self, metadata: &Metadata) -> Result<IssuerKeys, IdpError> {
        let url = metadata.keys.as_ref().ok_or(NotFetched::NoKeysUrl)?;
        let mut kept = self.shared.keys.lock();
        if let Some(keys) = kept.as_ref().filter(|keys| keys.issuer().jwks_url.as_ref() == Some(url)) {
            return Ok(keys.clone());
        }
        let issuer = signer(self.config(), &metadata.issuer, url);
        let keys = IssuerKeys::new(Arc::new(issuer), Arc::clone(&self.asking.source));
        *kept = Some(keys.clone());
        Ok(keys)
    }
}

/// A provider that was asked anew about somebody.
pub struct AskedAgain {
    idp: Idp,
    metadata: Option<Arc<Metadata>>,
    /// `None`: it is GitHub, which is asked by an access token that stays.
    tokens: Option<TokenResponse>,
    before: Secret,
    next: Option<Secret>,
}

impl AskedAgain {
    /// What it is to be asked by the next time, if that is something else from now on.
    pub fn next(&self) -> Option<&Secret> {
        self.next.as_ref()
    }

    /// What it says of the one of this subject now.
    pub async fn login(self, subject: &str, now: SystemTime) -> Result<IdpLogin, IdpError> {
        let Self { idp, metadata, tokens, before, next } = self;
        let said = match (&metadata, &tokens) {
            (None, None) => github::person(&idp.asking, before.expose()).await?,
            (None, Some(tokens)) => github::person(&idp.asking, access(tokens)?).await?,
            (Some(metadata), Some(tokens)) => match tokens.id_token.as_deref() {
                Some(id_token) => {
                    let said = idp.of_id_token(id_token, metadata, None, now).await?;
                    idp.with_user_info(said, tokens, metadata).await?
                }
                // OpenID Connect Core §12.2: there may be none.
                None if idp.config().provider != IdpProvider::Azure => {
                    let url = place(&idp.config().user_info_url, &metadata.user_info)?;
                    let claims = idp.user_info(&url, tokens, subject).await?;
                    (subject.to_owned(), claims)
                }
                None => return Err(IdpError::Broken("it gave no ID token")),
            },
            (Some(_), None) => return Err(IdpError::Broken("it was not asked for tokens")),
        };
        let login = idp.admit(said, Some(next.unwrap_or(before)))?;
        match login.subject == subject {
            true => Ok(login),
            false => Err(IdpError::Broken("it answers for somebody else than was asked about")),
        }
    }
}

/// The access token that a provider gave.
fn access(tokens: &TokenResponse) -> Result<&str, IdpError> {
    tokens.access().ok_or(IdpError::Broken("it gave no access token"))
}

/// The place that the config has, or the one that the metadata has.
fn place(configured: &Option<Url>, said: &Option<Url>) -> Result<Url, IdpError> {
    let place = configured.as_ref().or(said.as_ref());
    place.cloned().ok_or(IdpError::Broken("its metadata does not say where it may be asked"))
}

/// The provider, as one whose keys are fetched. None of its tokens is an access token of the gateway.
fn signer(config: &IdpConfig, issuer: &str, jwks_url: &Url) -> Issuer {
    Issuer {
        name: config.provider.name().into(),
        issuer: issuer.into(),
        jwks_url: Some(jwks_url.clone()),
        audiences: Vec::new(),
        algorithms: ASYMMETRIC.to_vec(),
        types: Vec::new(),
        principal_claim: Issuer::PRINCIPAL_CLAIM.into(),
        scope_claim: None,
        tenant_id: config.tenant_id.clone(),
        leeway: Duration::ZERO,
        stream_grace: Duration::ZERO,
        introspection: None,
    }
}
