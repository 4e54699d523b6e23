//! `/auth`: users log in, refresh what they got, and log out.

use std::{
    cell::{OnceCell, RefCell},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::{HeaderValue, Response, StatusCode, header};
use serde::{Deserialize, Deserializer};
use serde_json::json;

use super::table::LoginEndpoint;
use crate::{
    body::{
        Payload,
        response::{empty, uncached},
    },
    config::Level,
    error::{Error, ErrorKind},
    identity::{
        Caller, Identity, Principal, Proof, Standing,
        login::{
            Logins,
            grants::{
                GrantKind, Grants, Issued, KindTag, NotBegun, NotRefreshed, NotWritten, Objection, RefreshOf,
                Token,
            },
            keys::NoKey,
            refresh_token::RefreshToken,
            session_token::SessionClaims,
        },
        presented::Presented,
        verifier::Identified,
    },
    ledger::{AddressBlock, Owner, OwnerName},
    secret::Secret,
    state::{GatewayState, Live, LoginUser},
};

/// A request to one of these endpoints.
pub struct LoginRequest<'a> {
    /// State of the gateway.
    pub shared: &'a GatewayState,
    /// The config of the moment in which all of it had come.
    pub live: &'a Arc<Live>,
    /// Where it comes from.
    pub address: AddressBlock,
    /// The credential that it presents as requests to servers do, not yet checked.
    pub presented: Option<Presented<'a>>,
    /// Its whole body.
    pub body: &'a [u8],
    /// Is called with whoever presents a decoy.
    pub on_decoy: &'a dyn Fn(&Caller),
    /// Is asked whether a caller may go on, once it is known who that is.
    pub on_known: &'a dyn Fn(&Owner) -> Result<(), Error>,
    /// Gets the user whose refresh token was used again.
    pub replayed: &'a OnceCell<Arc<Identity>>,
}

/// An answer, and who has logged in by it.
pub struct LoginAnswer {
    /// What the client gets.
    pub response: Response<Payload>,
    /// Who it is for; `None` for a logout.
    pub identity: Option<Arc<Identity>>,
}

#[derive(Deserialize)]
struct LoginBody {
    username: String,
    #[serde(deserialize_with = "secret")]
    password: Secret,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RefreshBody {
    #[serde(deserialize_with = "secret")]
    refresh_token: Secret,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogoutBody {
    #[serde(default, deserialize_with = "some_secret")]
    refresh_token: Option<Secret>,
    #[serde(default, deserialize_with = "some_secret")]
    token: Option<Secret>,
}

/// As Atrax has it: either a user and a password, or a token.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AtraxBody {
    user_id: Option<String>,
    #[serde(default, deserialize_with = "some_secret")]
    password: Option<Secret>,
    #[serde(default, deserialize_with = "some_secret")]
    token: Option<Secret>,
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
    String::deserialize(deserializer).map(Secret::new)
}

fn some_secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    secret(deserializer).map(Some)
}

impl LoginRequest<'_> {
    /// Answers it.
    pub async fn answer(&self, endpoint: LoginEndpoint) -> Result<LoginAnswer, Error> {
        match endpoint {
            LoginEndpoint::Login => {
                let LoginBody { username, password } = self.parsed()?;
                let (user, issued) = self.log_in(&username, password).await?;
                self.tokens(user, &issued)
            }
            LoginEndpoint::Refresh => {
                let (user, issued) = self.refresh(&self.parsed::<RefreshBody>()?.refresh_token).await?;
                self.tokens(user, &issued)
            }
            LoginEndpoint::Logout => {
                let body = if self.body.is_empty() {
                    LogoutBody { refresh_token: None, token: None }
                } else {
                    self.parsed()?
                };
                let user = self.log_out(&body).await?.and_then(|principal| self.live.user(principal.name()?));
                let identity = user.map(|user| user.identity);
                Ok(LoginAnswer { response: empty(StatusCode::NO_CONTENT), identity })
            }
            LoginEndpoint::Atrax => match self.parsed()? {
                AtraxBody { user_id: Some(user_id), password: Some(password), token: None } => {
                    let (user, issued) = self.log_in(&user_id, password).await?;
                    let token = self.seal(&user.user.name, &issued)?;
                    Ok(self.atrax(user.identity, &token, Some(issued.expires)))
                }
                AtraxBody { user_id: None, password: None, token: Some(token) } => self.known(&token).await,
                _ => Err(ErrorKind::InvalidRequest.into()),
            },
        }
    }

    fn parsed<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Error> {
        // An object: serde would take a list of its values as well.
        if self.body.trim_ascii_start().first() != Some(&b'{') {
            return Err(ErrorKind::InvalidRequest.into());
        }
        // What the error quotes may be a password.
        serde_json::from_slice(self.body).map_err(|_| ErrorKind::InvalidRequest.into())
    }

    fn logins(&self) -> &Logins {
        &self.shared.logins
    }

    fn grants(&self) -> Result<&Grants, Error> {
        self.logins().grants().ok_or_else(Error::logins_not_kept)
    }

    /// Begins a grant for the user whose password this is.
    async fn log_in(&self, name: &str, password: Secret) -> Result<(LoginUser<'_>, Issued), Error> {
        let Self { shared, live, address, .. } = *self;
        let grants = self.grants()?;
        let user = live.user_by_password(name, password, address, ErrorKind::InvalidCredentials).await?;
        let fingerprint = live.fingerprint(user.slot).ok_or_else(Error::logins_not_kept)?;
        let (name, terms) = (&user.user.name, &live.config.login_terms);
        let begun = grants.begin(name, fingerprint, terms, live.clock.now()).await;
        let (issued, has_ended_another) = begun.map_err(|error| match error {
            NotBegun::Full => ErrorKind::Unavailable.with_cause("there are as many logins as may be"),
            NotBegun::TooLong => ErrorKind::Internal.with_cause("what is to be kept of a login is too long"),
            NotBegun::NoRandomness => no_key(NoKey),
            NotBegun::Down => Error::logins_not_kept(),
        })?;
        let is_kept = shared.keeps_begun(issued.grant, &issued.principal, fingerprint, has_ended_another);
        if has_ended_another {
            let msg = "A login ended the oldest one of its user, who has as many as one may have";
            shared.observer.log.line(Level::Info, msg).display("principal", &user.identity.principal).send();
        }
        if !is_kept {
            return Err(ErrorKind::Unavailable.with_cause("the user changed while the password was compared"));
        }
        shared
            .observer
            .log
            .line(Level::Info, "User logged in")
            .display("principal", &user.identity.principal)
            .send();
        Ok((user, issued))
    }

    async fn refresh(&self, token: &Secret) -> Result<(LoginUser<'_>, Issued), Error> {
        let Self { shared, live, .. } = *self;
        let token = RefreshToken::parse(token.expose()).ok_or(ErrorKind::InvalidToken)?;
        let grants = self.grants()?;
        // Before the token is used up.
        if let Some(user) = grants.principal_of(&token, KindTag::Session).as_ref().and_then(Principal::name) {
            (self.on_known)(&shared.ledger.owner(OwnerName::User(Arc::clone(user))))?;
        }
        let asked = Arc::clone(live);
        let admits = move |principal: &Principal, fingerprint, _: &GrantKind| {
            asked.has_principal(principal, fingerprint).then_some(()).ok_or(Objection::Caller)
        };
        let (terms, now) = (&live.config.login_terms, live.clock.now());
        let refreshed = grants.refresh(token, RefreshOf::Session, Box::new(admits), terms, now).await;
        let issued = refreshed.map_err(|error| match error {
            NotRefreshed::Invalid | NotRefreshed::Refused(_) => ErrorKind::InvalidToken.into(),
            NotRefreshed::Replayed(principal) => {
                shared.note_change();
                if let Some(user) = principal.name().and_then(|name| live.user(name)) {
                    // There is one of them.
                    let _ = self.replayed.set(user.identity);
                }
                let msg = "A refresh token was used again: its login is ended";
                shared.observer.log.line(Level::Warn, msg).display("principal", principal).send();
                ErrorKind::InvalidToken.into()
            }
            NotRefreshed::Down => Error::logins_not_kept(),
        })?;
        let user = live.user_of_grant(&issued.principal, issued.fingerprint);
        Ok((user.ok_or(ErrorKind::InvalidToken)?, issued))
    }

    /// Ends the grants of what was presented. As with RFC 7009 §2.2, a token that is not good is no error: there is nothing that
    /// a client could do about it. Says who it was, for the audit; tokens of several users are refused, since that is one.
    async fn log_out(&self, body: &LogoutBody) -> Result<Option<Principal>, Error> {
        let logins = self.logins();
        let of_session = |token: &[u8]| logins.opened(token).map(Token::Session);
        let of_refresh = |token: &str| RefreshToken::parse(token).map(Token::Refresh);
        let texts = [&body.refresh_token, &body.token].into_iter().flatten().map(Secret::expose);
        let given = texts.filter_map(|text| of_refresh(text).or_else(|| of_session(text.as_bytes())));
        let given = given.chain(self.presented.as_ref().and_then(|presented| of_session(&presented.token)));
        // Before it is said that there is nothing to end: without a store, nobody knows what a token is.
        let grants = self.grants()?;
        let given: Vec<_> = given.collect();
        if given.is_empty() {
            return Ok(None);
        }
        let users = given.iter().filter_map(|token| match token {
            Token::Session(claims) => Some(Principal::User(Arc::clone(&claims.user))),
            Token::Refresh(token) => grants.principal_of(token, KindTag::Session),
            Token::Access(_) | Token::ClientRefresh(..) => None,
        });
        let users: Vec<_> = users.collect();
        if users.iter().any(|user| *user != users[0]) {
            return Err(ErrorKind::InvalidRequest.into());
        }
        // Each is ended: more than one may be given.
        let ended = grants.revoke(given, self.live.clock.now()).await;
        // Whoever gives what never was a token makes nobody look.
        if !matches!(ended, Ok(None)) {
            self.shared.note_change();
        }
        // It is ended here, and would be there again after a restart: the client has to know that.
        ended.map_err(|NotWritten| Error::logins_not_kept())
    }

    fn seal(&self, user: &Arc<str>, issued: &Issued) -> Result<Secret, Error> {
        let claims = SessionClaims {
            user: Arc::clone(user),
            grant: issued.grant,
            fingerprint: issued.fingerprint,
            issued: self.live.clock.now(),
            expires: issued.expires,
            grant_ends: issued.grant_ends,
        };
        self.logins().seal(&claims).map_err(no_key)
    }

    /// What a login or a refresh brings.
    fn tokens(&self, user: LoginUser<'_>, issued: &Issued) -> Result<LoginAnswer, Error> {
        let body = json!({
            "token": self.seal(&user.user.name, issued)?.expose(),
            "expiresIn": self.seconds_to(issued.expires),
            "refreshToken": issued.refresh_token.expose(),
            "user": &*user.user.name,
            "roles": user.user.roles,
        });
        let response = uncached(StatusCode::OK, "application/json", body.to_string());
        Ok(LoginAnswer { response, identity: Some(user.identity) })
    }

    /// Whose token this is, whatever kind it is of.
    async fn known(&self, token: &Secret) -> Result<LoginAnswer, Error> {
        let presented = Ok(Presented::bare(token.expose().as_bytes()));
        let opened = RefCell::default();
        // Nobody logs in with what others issue. So they are not asked about it either.
        let nobody_asks = || Err(ErrorKind::InvalidToken.into());
        let caller = match self.live.identify(&presented, self.address, &opened, &nobody_asks) {
            Identified::Ready(found) => found?,
            Identified::Later(found) => {
                let caller = found.await?;
                self.shared.is_in_force(self.live)?;
                caller
            }
        };
        if caller.identity.is_decoy {
            (self.on_decoy)(&caller);
        }
        match &caller.standing {
            Standing::Named(slot) => (self.on_known)(&self.live.callers[*slot].owner)?,
            Standing::Foreign(owner) => (self.on_known)(owner)?,
            Standing::Nobody => {}
        }
        // What a program was given is not its user's to log in with: it is for some places, and for less time.
        if matches!(caller.identity.proof, Proof::Access { .. } | Proof::Foreign(_)) {
            return Err(ErrorKind::InvalidToken.into());
        }
        let ends = match caller.identity.proof {
            Proof::Session { .. } => {
                self.logins().opened(token.expose().as_bytes()).map(|claims| claims.expires)
            }
            _ => caller.identity.not_after,
        };
        Ok(self.atrax(caller.identity, token, ends))
    }

    /// To the nearest second, since some time has passed since it was given.
    fn seconds_to(&self, end: SystemTime) -> u64 {
        let left = end.duration_since(self.live.clock.now()).unwrap_or_default();
        (left + Duration::from_millis(500)).as_secs()
    }

    /// An answer as Atrax gives it, with the cookie that goes with it.
    fn atrax(&self, identity: Arc<Identity>, token: &Secret, ends: Option<SystemTime>) -> LoginAnswer {
        // What the formatter takes: the year 9999.
        let shown = ends.map(|end| end.min(UNIX_EPOCH + Duration::from_secs(253_402_300_799)));
        let shown = shown.map(|end| humantime::format_rfc3339_seconds(end).to_string());
        let name = identity.principal.name().map(|name| &**name);
        let body = json!({ "success": true, "userId": name, "roles": identity.roles, "expiresAt": shown });
        let mut response = uncached(StatusCode::OK, "application/json", body.to_string());
        if let Some(cookie) = self.cookie(token.expose(), ends) {
            response.headers_mut().insert(header::SET_COOKIE, cookie);
        }
        LoginAnswer { response, identity: Some(identity) }
    }

    /// The cookie `token`, if it can carry this one (RFC 6265 §4.1.1).
    fn cookie(&self, token: &str, ends: Option<SystemTime>) -> Option<HeaderValue> {
        let fits = |byte: u8| byte.is_ascii_graphic() && !b"\",;\\".contains(&byte);
        if !token.bytes().all(fits) {
            return None;
        }
        let age = ends.map(|end| format!("; Max-Age={}", self.seconds_to(end))).unwrap_or_default();
        let cookie = format!("token={token}; Path=/; HttpOnly; Secure; SameSite=Strict{age}");
        let mut cookie = HeaderValue::try_from(cookie).ok()?;
        cookie.set_sensitive(true);
        Some(cookie)
    }
}

fn no_key(_: NoKey) -> Error {
    ErrorKind::Internal.with_cause("the system gives no random numbers, or the cryptography fails")
}
