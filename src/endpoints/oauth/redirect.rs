//! What a client is answered: the browser of its user carries a code or an error back to it (RFC 6749 §4.1.2, RFC 9207).
//!
//! A browser is led on by itself only to where the config vouches for, or where somebody has seen that it goes and has decided. To
//! any other address, which anybody can register, there is a link: else the gateway would be what makes people trust that address
//! (RFC 9700 §4.11.2).

use std::borrow::Cow;

use http::Response;
use url::Url;

use super::browser::{Authorization, Browser, shown_target};
use crate::{
    body::Payload,
    config::{RedirectTarget, ScopeWord},
    error::{Error, ErrorKind},
    oauth::Client,
    pages::{self, Outcome, PassingOn, Shown},
};

/// Words of a scope that an answer repeats.
const MOST_WORDS: usize = 8;

/// What is wrong with a request, for the client: `error`, and `error_description`.
#[derive(Debug, Clone)]
pub(super) struct Fault(&'static str, Cow<'static, str>);

/// One that is always told alike.
pub(super) const fn fault(error: &'static str, description: &'static str) -> Fault {
    Fault(error, Cow::Borrowed(description))
}

impl Fault {
    pub(super) const NOBODY: Self = fault("login_required", "Nobody is signed in.");
    pub(super) const NOT_ASKED: Self = fault("consent_required", "Nobody has allowed this before.");

    /// There is no such place, as is seen without a look at which servers there are.
    pub(super) fn no_place(base: &str) -> Self {
        let description = format!("resource is no place of this gateway: it has to begin with {base}");
        Self("invalid_target", description.into())
    }

    /// The config may have lost a server meanwhile, or the client never knew which there are. Of its words, those are repeated that may
    /// stand in an answer (RFC 6749 §4.1.2.1).
    pub(super) fn unknown_scope(scope: &str) -> Self {
        let is_plain = |word: &&str| {
            !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte))
        };
        let words = scope.split(' ').filter(|word| *word != ScopeWord::OFFLINE).filter(is_plain);
        let words = words.take(MOST_WORDS).collect::<Vec<_>>().join(" ");
        Self("invalid_scope", format!("Nothing of this scope is known here: {words}").into())
    }
}

/// Where an answer goes.
#[derive(Clone, Copy)]
pub(super) struct Redirect<'a> {
    pub(super) client: &'a Client,
    pub(super) redirect_target: &'a RedirectTarget,
    /// The client's own.
    pub(super) redirect_uri: &'a str,
    pub(super) state: Option<&'a str>,
}

impl<'a> Authorization<'a> {
    pub(super) fn redirect(&self) -> Redirect<'a> {
        Redirect {
            client: self.client,
            redirect_target: self.redirect_target,
            redirect_uri: &self.asked.redirect_uri,
            state: self.asked.state.as_deref(),
        }
    }
}

impl Redirect<'_> {
    /// The client gets a code.
    pub(super) async fn allowed(
        &self,
        browser: &Browser<'_>,
        code: &str,
    ) -> Result<Response<Payload>, Error> {
        self.answer(browser, Outcome::Approved, &[("code", code)]).await
    }

    /// Somebody was asked, and said no.
    pub(super) async fn denied(&self, browser: &Browser<'_>) -> Result<Response<Payload>, Error> {
        self.answer(browser, Outcome::Denied, &[("error", "access_denied")]).await
    }

    /// What the client asks for cannot be. Nobody has decided anything.
    pub(super) async fn refused(
        &self,
        browser: &Browser<'_>,
        fault: Fault,
    ) -> Result<Response<Payload>, Error> {
        let Fault(error, description) = fault;
        let outcome = Outcome::Faulty(&description);
        self.answer(browser, outcome, &[("error", error), ("error_description", &description)]).await
    }

    async fn answer(
        &self,
        browser: &Browser<'_>,
        outcome: Outcome<'_>,
        answer: &[(&str, &str)],
    ) -> Result<Response<Payload>, Error> {
        let Self { client, redirect_target, .. } = *self;
        let config = browser.request.config;
        let target = self.target(&config.issuer, answer)?;
        let goes_on =
            !matches!(outcome, Outcome::Faulty(_)) || client.is_vouched_for_at(redirect_target, config);
        // To a redirect that answers a form, Chrome holds the policy of the page that it was on.
        let mut response = if goes_on && !browser.request.is_post() {
            browser.lead_to(target.as_str())?
        } else {
            let name = redirect_target.name();
            let view = PassingOn {
                gateway: browser.gateway(),
                client: Shown::name(&client.name),
                outcome,
                goes_on,
                redirect_target: shown_target(redirect_target, &name),
                target: &target,
            };
            browser.show(pages::passing_on(&view))
        };
        // Cookies know no port (RFC 6265 §8.5): whatever listens at another one of the gateway's host would get that of the login,
        // and could allow itself all that its user may.
        if is_at_host_of(&target, &config.base) {
            browser.end_login(&mut response).await?;
        }
        Ok(response)
    }

    fn target(&self, issuer: &str, answer: &[(&str, &str)]) -> Result<Url, Error> {
        let url = Url::parse(self.redirect_uri);
        let mut url = url.map_err(|_| ErrorKind::Internal.with_cause("a redirect URI is no URL"))?;
        {
            let mut query = url.query_pairs_mut();
            query.extend_pairs(answer);
            query.extend_pairs(self.state.map(|state| ("state", state)));
            query.append_pair("iss", issuer);
        }
        Ok(url)
    }
}

fn is_at_host_of(target: &Url, base: &str) -> bool {
    let base = Url::parse(base);
    matches!(target.scheme(), "http" | "https") && base.is_ok_and(|base| base.host() == target.host())
}
