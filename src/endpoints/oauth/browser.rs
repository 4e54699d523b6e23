//! What the pages of a login and of a consent share: who is there, with which cookies, and what they are shown.

use std::{
    cell::Cell,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use http::{HeaderValue, Response, StatusCode, header};
use url::Url;

use super::OauthRequest;
use crate::{
    body::{Payload, response::empty},
    config::{IdpConfig, IdpProvider, Level, RedirectTarget, Registration, is_same_redirect},
    error::{Error, ErrorKind},
    identity::{
        Principal,
        login::{
            grants::{ClientGrant, Grants, PageLogin},
            keys::{NoKey, Purpose},
        },
    },
    ledger::{Rate, RateKey},
    oauth::{
        Client, ClientKind, NotAClient, NotFound,
        flow::{AuthorizationRequest, Awaiting, Flows, IdpFlow, new_name},
        is_own_path, is_refused_unread,
        registration::Registrar,
    },
    pages::{
        self, Asks, Form, Identified, NotSignedIn, Page, Shown, SignIn, Trouble, WayOn,
        cookie::{Cookie, Reach},
        csrf::{Csrf, FormOf, Purpose as FormPurpose},
    },
    policy::decide::{Ask, ManageAsk},
    secret::Secret,
    state::recheck::{NOT_ANSWERED, Rechecked, recheck},
    upstream::document::{DocumentUrl, NotFetched},
};

/// Requests of one address that nobody is logged in for: so many people may be behind one, and no more is made for strangers.
const OF_STRANGERS: Rate = Rate { count: 600, per: Duration::from_secs(60) };

/// Somebody's browser at the pages.
pub(super) struct Browser<'a> {
    pub(super) request: &'a OauthRequest<'a>,
    pub(super) now: SystemTime,
    reach: Reach,
    /// By which the browser is known before anybody has logged in.
    flow_cookie: String,
    /// Whether the answer sets that cookie: it has none yet, or what is made for it now is to be good for as long as it says.
    sets_flow: Cell<bool>,
    /// The value of the login cookie that it is to have from now on.
    signed_in: Option<HeaderValue>,
    /// The same, if somebody has just logged in.
    new_login: Option<Secret>,
}

/// What waits until somebody has signed in: as the forms carry it, and as it was read.
#[derive(Clone, Copy)]
pub(super) struct Waiting<'a>(pub(super) Option<(&'a str, &'a Awaiting)>);

impl<'a> Waiting<'a> {
    fn program(self) -> Option<&'a AuthorizationRequest> {
        self.0.and_then(|(_, awaiting)| awaiting.program())
    }
}

/// A client that asks for something, and whom the answer goes to.
pub(super) struct Authorization<'a> {
    pub(super) client: &'a Client,
    pub(super) redirect_target: &'a RedirectTarget,
    pub(super) asked: &'a AuthorizationRequest,
}

impl<'a> Browser<'a> {
    /// The one of this request.
    pub(super) fn of(request: &'a OauthRequest<'a>) -> Result<Self, Error> {
        let reach = Reach::of(&request.config.base);
        let known = Cookie::Flow.read(reach, &request.head.headers).filter(|cookie| cookie.len() <= 64);
        let flow_cookie = match known {
            Some(cookie) => cookie.to_owned(),
            None => new_name().map_err(no_key)?,
        };
        let now = request.live.clock.now();
        let sets_flow = Cell::new(known.is_none());
        Ok(Self { request, now, reach, flow_cookie, sets_flow, signed_in: None, new_login: None })
    }

    pub(super) fn grants(&self) -> Result<&'a Grants, Error> {
        self.request.shared.logins.grants().ok_or_else(Error::logins_not_kept)
    }

    /// Says to the audit who it is.
    pub(super) fn note(&self, login: &PageLogin) {
        if let Some(identity) = self.request.live.identity_of(&login.principal, login.fingerprint) {
            // There is one of them.
            let _ = self.request.known.set(identity);
        }
    }

    /// Who is logged in, and may still be.
    pub(super) async fn login(&self) -> Result<Option<PageLogin>, Error> {
        let Some(cookie) = self.login_cookie() else { return Ok(None) };
        let found = self.grants()?.find_page(cookie, self.now).await.map_err(|_| Error::logins_not_kept())?;
        if let Some(PageLogin { principal: principal @ Principal::Idp(_), .. }) = &found
            && recheck(self.request.shared, self.request.live, principal).await == Rechecked::Unanswered
        {
            return Err(ErrorKind::Unavailable.with_cause(NOT_ANSWERED));
        }
        Ok(found.filter(|login| self.request.live.has_principal(&login.principal, login.fingerprint)))
    }

    /// Whether somebody may see and end what others let in.
    pub(super) fn is_admin(&self, login: &PageLogin) -> bool {
        let live = self.request.live;
        live.identity_of(&login.principal, login.fingerprint)
            .is_some_and(|identity| live.decide(&identity, &Ask::Manage(ManageAsk::Servers)).is_allow())
    }

    /// The value of the login cookie, whatever it is worth.
    pub(super) fn login_cookie(&self) -> Option<&'a str> {
        Cookie::Login.read(self.reach, &self.request.head.headers)
    }

    /// Has the browser keep this from now on.
    pub(super) fn sign_in_with(&mut self, cookie: &str) {
        self.signed_in = Cookie::Login.set(self.reach, cookie);
        self.new_login = Some(Secret::new(cookie.into()));
    }

    /// Ends the login with this answer, if there is one.
    pub(super) async fn end_login(&self, response: &mut Response<Payload>) -> Result<(), Error> {
        let cookies = self.login_cookie().into_iter().chain(self.new_login.as_ref().map(Secret::expose));
        for cookie in cookies {
            self.grants()?.end_page(cookie).await.map_err(|_| Error::logins_not_kept())?;
            // The last field of one name counts (RFC 6265 §5.3).
            response.headers_mut().extend(Cookie::Login.end(self.reach).map(|end| (header::SET_COOKIE, end)));
        }
        Ok(())
    }

    /// Has the browser forget who was logged in.
    pub(super) fn sign_out(&mut self) {
        self.signed_in = Cookie::Login.end(self.reach);
    }

    fn flows(&self) -> Result<Flows, Error> {
        let key =
            self.request.shared.logins.key(Purpose::PendingRequest).map_err(|_| Error::logins_not_kept())?;
        Flows::new(&key).map_err(no_key)
    }

    /// By which the browser is known, which it keeps from now on for as long as that says.
    pub(super) fn cookie(&self) -> &str {
        self.sets_flow.set(true);
        &self.flow_cookie
    }

    /// What a client asks for, sealed for this browser.
    pub(super) fn seal(&self, asked: &AuthorizationRequest) -> Result<String, Error> {
        self.sets_flow.set(true);
        self.flows()?.seal(asked, &self.flow_cookie).map_err(no_key)
    }

    /// What a client asked for in this browser, a while ago.
    pub(super) fn open(&self, flow: &str) -> Result<Option<AuthorizationRequest>, Error> {
        Ok(self.flows()?.open(flow, &self.flow_cookie, self.now))
    }

    /// What waits in this browser until somebody has signed in, as a form carries it: what a client asks for, sealed, or the path of a
    /// page. `None`: it is over.
    pub(super) fn awaited(&self, flow: Option<&str>) -> Result<Option<Awaiting>, Error> {
        match flow {
            None => Ok(Some(Awaiting::Nothing)),
            // What is sealed never begins like that.
            Some(path) if path.starts_with('/') => {
                Ok(is_own_path(path).then(|| Awaiting::Page(path.to_owned())))
            }
            Some(flow) => Ok(self.open(flow)?.map(|asked| Awaiting::Program(asked.into()))),
        }
    }

    fn idp_flows(&self) -> Result<Flows, Error> {
        let key = self.request.shared.logins.key(Purpose::IdpLogin).map_err(|_| Error::logins_not_kept())?;
        Flows::new(&key).map_err(no_key)
    }

    /// What this browser takes to the identity provider; `None` if no URL has room for it.
    pub(super) fn seal_for_idp(&self, flow: &IdpFlow) -> Result<Option<String>, Error> {
        self.sets_flow.set(true);
        self.idp_flows()?.seal_for_idp(flow, &self.flow_cookie).map_err(no_key)
    }

    /// What it had taken there.
    pub(super) fn open_of_idp(&self, state: &str) -> Result<Option<IdpFlow>, Error> {
        Ok(self.idp_flows()?.open_of_idp(state, &self.flow_cookie, self.now))
    }

    /// What somebody is called who is logged in, or has let something in: a user by name, a token as one, somebody of the identity
    /// provider as that calls them, with whose word it is.
    pub(super) fn account_name(&self, principal: &Principal) -> String {
        let live = self.request.live;
        match live.account(principal).zip(live.idp()) {
            Some((account, idp)) => pages::name_by(&account.display, &shown_idp(idp.config())),
            None => shown_account(principal),
        }
    }

    fn csrf(&self) -> Result<Csrf, Error> {
        let key = self.request.shared.logins.key(Purpose::PageForm).map_err(|_| Error::logins_not_kept())?;
        Ok(Csrf::new([key]))
    }

    /// Whether a form came from the page that this browser was shown for it, and for this person.
    pub(super) fn is_own_form(
        &self,
        purpose: FormPurpose,
        login: Option<&PageLogin>,
        flow: Option<&str>,
        presented: Option<&str>,
    ) -> Result<bool, Error> {
        let csrf = self.csrf()?;
        let grant = login.map(|login| login.grant.bytes());
        Ok(csrf.holds(&self.form_of(purpose, grant.as_ref(), flow), presented.unwrap_or_default()))
    }

    fn form_of<'f>(
        &'f self,
        purpose: FormPurpose,
        grant: Option<&'f [u8; 16]>,
        flow: Option<&'f str>,
    ) -> FormOf<'f> {
        let owner = grant.map_or(self.flow_cookie.as_bytes(), |grant| &grant[..]);
        FormOf { owner, purpose, object: flow.unwrap_or_default().as_bytes() }
    }

    /// The field `csrf` of a form.
    pub(super) fn csrf_field(
        &self,
        purpose: FormPurpose,
        login: Option<&PageLogin>,
        flow: Option<&str>,
    ) -> Result<String, Error> {
        let grant = login.map(|login| login.grant.bytes());
        let field = self.csrf()?.field(&self.form_of(purpose, grant.as_ref(), flow));
        field.ok_or_else(Error::logins_not_kept)
    }

    /// Somebody who is not logged in is to get a page that costs something.
    pub(super) fn note_stranger(&self) -> Result<(), Error> {
        let often = &self.request.shared.clients.requests;
        let often = often.note_address(self.request.address_block(), OF_STRANGERS, Instant::now());
        often.map_err(|wait| Error::too_often(RateKey::Logins, wait))
    }

    /// The page at which somebody signs in, to go on to the page of this path afterwards.
    pub(super) async fn sign_in_for(&self, path: &str) -> Result<Response<Payload>, Error> {
        self.note_stranger()?;
        match is_own_path(path) {
            true => {
                let awaiting = Awaiting::Page(path.to_owned());
                self.sign_in(Waiting(Some((path, &awaiting))), "", false, None).await
            }
            false => self.lead_to("/oauth/login"),
        }
    }

    /// The page at which somebody signs in. If they can do so elsewhere, it says which client waits: an identity provider answers
    /// without a question where somebody is logged in already.
    pub(super) async fn sign_in(
        &self,
        waiting: Waiting<'_>,
        name: &str,
        is_by_token: bool,
        failure: Option<NotSignedIn>,
    ) -> Result<Response<Payload>, Error> {
        let live = self.request.live;
        self.sets_flow.set(true);
        let flow = waiting.0.map(|(flow, _)| flow);
        let is_for_page = waiting.0.is_some_and(|(_, awaiting)| matches!(awaiting, Awaiting::Page(_)));
        let idp = live.idp().map(|idp| shown_idp(idp.config()));
        let client = match waiting.program().filter(|_| idp.is_some()) {
            Some(asked) => match self.still_asked(asked).await? {
                Ok((client, target)) => Some((client, target, asked)),
                Err(page) => return Ok(page),
            },
            None => None,
        };
        let names = client.as_ref().map(|(client, target, _)| {
            let host = DocumentUrl::parse(&client.id).map(|url| url.host().to_owned()).unwrap_or_default();
            (target.name().to_string(), host)
        });
        let asks = client.as_ref().zip(names.as_ref()).map(|((client, target, asked), (name, host))| Asks {
            client: Shown::name(&client.name),
            redirect_target: shown_target(target, name),
            identified: shown_client(client, host),
            scope: Some(&*asked.scope).filter(|scope| !scope.trim().is_empty()).map(Shown::text),
        });
        let csrf = self.csrf_field(FormPurpose::SignIn, None, flow)?;
        let form = Form { csrf: &csrf, flow };
        let has_tokens = live.config.credentials.iter().any(|credential| !credential.is_tenant);
        let view = SignIn {
            gateway: self.gateway(),
            form,
            name,
            idp: idp.as_deref().map(Shown::name),
            asks,
            has_users: live.has_logins(),
            has_tokens,
            is_by_token,
            is_for_page,
            failure,
        };
        Ok(self.show(pages::sign_in(&view)))
    }

    pub(super) fn gateway(&self) -> &'a str {
        &self.request.live.config.name
    }

    /// A page that says what is wrong. Nobody is sent anywhere by it.
    pub(super) fn trouble(&self, sentence: &str, detail: Option<&str>, way_on: WayOn) -> Response<Payload> {
        let view = Trouble {
            gateway: self.gateway(),
            status: StatusCode::BAD_REQUEST,
            sentence,
            detail: detail.map(Shown::text),
            way_on,
            request_id: self.request.id.as_str(),
        };
        self.show(pages::trouble(&view))
    }

    /// The page that says that the gateway failed.
    pub(super) fn failed(&self, error: Error) -> Response<Payload> {
        let response = failed_page(self.gateway(), self.request.id.as_str(), &error);
        self.request.note_refusal(error);
        self.with_cookies(response)
    }

    /// What a form belongs to is over, or was never asked.
    pub(super) fn over(&self) -> Response<Payload> {
        self.show(pages::trouble(&Trouble::over(self.gateway(), self.request.id.as_str())))
    }

    /// The client of this id, which asks to be answered at `redirect_uri`, or the page that says why it is none.
    pub(super) async fn client(
        &self,
        id: &str,
        redirect_uri: Option<&str>,
    ) -> Result<Result<Arc<Client>, Response<Payload>>, Error> {
        if is_refused_unread(id, redirect_uri, self.request.config) {
            return Ok(Err(self.not_let_in(redirect_uri)));
        }
        let found = find_client(self.request, id).await?;
        Ok(found.map_err(|why| self.unknown_client(id, redirect_uri, why)))
    }

    /// The client of a request that was checked a while ago, and where that leads, or the page that says why it cannot be any more: the
    /// config may have changed, or the client's document.
    pub(super) async fn still_asked(
        &self,
        asked: &AuthorizationRequest,
    ) -> Result<Result<(Arc<Client>, RedirectTarget), Response<Payload>>, Error> {
        let client = match self.client(&asked.client_id, Some(&asked.redirect_uri)).await? {
            Ok(client) => client,
            Err(page) => return Ok(Err(page)),
        };
        let target = client.redirect_target(&asked.redirect_uri, self.request.config);
        Ok(match target {
            Some(target) => Ok((client, target)),
            None => Err(self.unknown_redirect(&client, &asked.redirect_uri)),
        })
    }

    /// The page that says that nobody is sent to `redirect_uri`.
    pub(super) fn unknown_redirect(&self, client: &Client, redirect_uri: &str) -> Response<Payload> {
        if client.redirect_uris.iter().any(|named| is_same_redirect(named, redirect_uri)) {
            return self.not_let_in(Some(redirect_uri));
        }
        let sentence = "This program asks to be answered at an address that it did not name before.";
        self.trouble(sentence, Some(redirect_uri), WayOn::AddAnew)
    }

    /// What there is to say where a client is not found.
    fn unknown_client(&self, id: &str, redirect_uri: Option<&str>, why: NotFound) -> Response<Payload> {
        let why = match why {
            NotFound::Unknown => {
                return self.trouble("This program is not known here.", None, WayOn::AddAnew);
            }
            NotFound::NotAllowed => return self.not_let_in(redirect_uri),
            NotFound::Document(why) => why,
        };
        let host = DocumentUrl::parse(id).map(|url| url.host().to_owned()).unwrap_or_default();
        let begin = match why {
            NotAClient::NotFetched(NotFetched::Unresolved) => {
                format!("The gateway could not look up {host}, where this program describes itself")
            }
            NotAClient::NotFetched(_) => {
                format!("The gateway could not read {host}, where this program describes itself")
            }
            _ => format!("The gateway cannot use what {host} says of this program"),
        };
        let detail = format!("{begin} ({}).", why.name());
        let (sentence, way_on) = match why.is_for_now() {
            true => ("What this program says of itself cannot be read at the moment.", WayOn::StartAgain),
            false => ("What this program says of itself cannot be used.", WayOn::TellOperator),
        };
        self.trouble(sentence, Some(&detail), way_on)
    }

    /// The page for a program that the config does not let come, or not to where it asks to be answered.
    fn not_let_in(&self, redirect_uri: Option<&str>) -> Response<Payload> {
        let config = self.request.config;
        let (detail, key) = match &config.registration {
            Registration::Hosts(_) => {
                let target =
                    redirect_uri.and_then(|uri| RedirectTarget::of(uri, &config.redirect_schemes).ok());
                let rule = "Only programs at hosts that the gateway lists may come";
                let detail = match target
                    .filter(|target| !target.is_allowed(&config.registration, &config.own_hosts))
                {
                    Some(target) => format!("{rule}; this one is answered at {}.", target.name()),
                    None => format!("{rule}."),
                };
                (detail, "registration")
            }
            Registration::Open | Registration::Off => {
                ("Only programs that the gateway's config names may come.".to_owned(), "clients")
            }
        };
        self.trouble("Programs of this kind are not let in here.", Some(&detail), WayOn::AskToAdd(key))
    }

    /// The answer that shows a page.
    pub(super) fn show(&self, page: Page) -> Response<Payload> {
        self.with_cookies(page.into_response().map(Payload::Whole))
    }

    /// Leads the browser on, where it answers no form: to that, Chrome holds the policy of the page that it was on.
    pub(super) fn lead_to(&self, target: &str) -> Result<Response<Payload>, Error> {
        // What follows a form is fetched, and never sent again (RFC 9110 §15.4.4).
        let status = if self.request.is_post() { StatusCode::SEE_OTHER } else { StatusCode::FOUND };
        let mut response = empty(status);
        let location = HeaderValue::try_from(target);
        let location =
            location.map_err(|_| ErrorKind::Internal.with_cause("a redirect is no header value"))?;
        response.headers_mut().insert(header::LOCATION, location);
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        Ok(self.with_cookies(response))
    }

    fn with_cookies(&self, mut response: Response<Payload>) -> Response<Payload> {
        let flow = self.sets_flow.get().then(|| Cookie::Flow.set(self.reach, &self.flow_cookie)).flatten();
        for cookie in flow.into_iter().chain(self.signed_in.clone()) {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
        response
    }
}

impl Authorization<'_> {
    /// What the client gets if somebody allows it this.
    pub(super) fn grant(&self, scope: &str) -> ClientGrant {
        ClientGrant {
            client_id: self.client.id.clone(),
            client_name: self.client.name.clone(),
            redirect_host: self.redirect_target.name().into(),
            resource: self.asked.resource.as_str().into(),
            scope: scope.into(),
        }
    }

    /// Whether it is asked about each time: nobody vouches for the client, or any program of the machine may be at the other end.
    pub(super) fn is_always_asked(&self) -> bool {
        !self.client.is_verified() || self.redirect_target.is_local()
    }
}

/// The page that says so, for any browser.
pub fn failed_page(gateway: &str, request_id: &str, error: &Error) -> Response<Payload> {
    let view = Trouble {
        gateway,
        status: error.kind.status(),
        sentence: error.sentence(),
        detail: None,
        way_on: WayOn::AskOperator,
        request_id,
    };
    let mut response = pages::trouble(&view).into_response().map(Payload::Whole);
    if let Some(seconds) = error.retry_after() {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// The client of this id. If it has a document that is no good, that is counted.
pub(super) async fn find_client(
    request: &OauthRequest<'_>,
    id: &str,
) -> Result<Result<Arc<Client>, NotFound>, Error> {
    let OauthRequest { shared, config, .. } = *request;
    let found = shared.clients.find(id, config, &registrar(request)?, request.address_block()).await;
    if let Err(NotFound::Document(why)) = found {
        shared.observer.metrics.cimd_rejected(why.name());
        let msg = "The metadata document of a client cannot be used";
        shared.observer.log.line(Level::Debug, msg).plain("reason", why.name()).send();
    }
    Ok(found)
}

pub(super) fn registrar(request: &OauthRequest<'_>) -> Result<Registrar, Error> {
    let key = request.shared.logins.key(Purpose::RegisteredClient).map_err(|_| Error::logins_not_kept())?;
    Ok(Registrar::new(&key))
}

/// A user by name, a token as one.
fn shown_account(principal: &Principal) -> String {
    match principal {
        Principal::User(name) => name.to_string(),
        Principal::Token(name) => format!("the token {name}"),
        Principal::Nobody
        | Principal::Tenant(_)
        | Principal::Client(_)
        | Principal::Foreign(_)
        | Principal::Idp(_) => principal.to_string(),
    }
}

/// A redirect target as people see it; `name` is what it is called.
pub(super) fn shown_target<'n>(target: &RedirectTarget, name: &'n str) -> pages::RedirectTarget<'n> {
    match target {
        RedirectTarget::Site(_) => pages::RedirectTarget::Site(Shown::text(name)),
        RedirectTarget::Loopback => pages::RedirectTarget::ThisComputer,
        RedirectTarget::App(_) => pages::RedirectTarget::App(Shown::text(name)),
    }
}

/// Who says what a client is; `host` is that of its id.
pub(super) fn shown_client<'n>(client: &Client, host: &'n str) -> Identified<'n> {
    match client.kind {
        ClientKind::Config => Identified::Config,
        ClientKind::Document => Identified::Site(Shown::text(host)),
        ClientKind::Registered => Identified::Nobody,
    }
}

/// What people call the identity provider.
pub(super) fn shown_idp(config: &IdpConfig) -> String {
    let host = || Url::parse(&config.issuer).ok()?.host_str().map(str::to_owned);
    match config.provider {
        IdpProvider::Google => "Google".into(),
        IdpProvider::Github => "GitHub".into(),
        IdpProvider::Azure => "Microsoft".into(),
        IdpProvider::Oidc => host().unwrap_or_else(|| "your identity provider".into()),
    }
}

pub(super) fn no_key(_: NoKey) -> Error {
    ErrorKind::Internal.with_cause("the system gives no random numbers, or the cryptography fails")
}
