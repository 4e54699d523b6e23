//! The page at which people sign in.

use std::fmt;

use askama::Template;
use http::StatusCode;

use super::{
    consent::{Identified, RedirectTarget},
    page::{Form, Page},
    shown::Shown,
};

/// What the page has.
#[derive(Template)]
#[template(path = "sign_in.html")]
pub struct SignIn<'a> {
    /// `proxy.name`
    pub gateway: &'a str,
    /// Of both forms.
    pub form: Form<'a>,
    /// The name that was tried, for the next try.
    pub name: &'a str,
    /// What the identity provider is called, if there is one.
    pub idp: Option<Shown<'a>>,
    /// The program that waits, as it is to be known before anybody is sent to the identity provider.
    pub asks: Option<Asks<'a>>,
    /// There are users who can sign in by a password.
    pub has_users: bool,
    /// There are tokens by which somebody can sign in.
    pub has_tokens: bool,
    /// The last try was one with a token.
    pub is_by_token: bool,
    /// Somebody goes on to a page of the gateway's own afterwards, and not to a program.
    pub is_for_page: bool,
    /// Why the last try did not succeed.
    pub failure: Option<NotSignedIn>,
}

/// A program that asks to be let in. Nothing of it depends on which servers there are, as nobody has logged in.
#[derive(Debug, Clone, Copy)]
pub struct Asks<'a> {
    /// How it calls itself.
    pub client: Shown<'a>,
    /// Where the answer goes.
    pub redirect_target: RedirectTarget<'a>,
    /// What is known about it.
    pub identified: Identified<'a>,
    /// What it asks for, in its own words; `None`: it does not say.
    pub scope: Option<Shown<'a>>,
}

/// Why nobody is signed in. It says nothing about who there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotSignedIn {
    /// No such name, password or token.
    Wrong,
    /// Somebody at this address tries too often.
    TooOften,
    /// More sign in at this moment than passwords can be compared.
    Busy,
}

impl NotSignedIn {
    fn status(self) -> StatusCode {
        match self {
            // Not 401, which has to say how else to authenticate (RFC 9110 §15.5.2): a browser would ask by itself.
            Self::Wrong => StatusCode::FORBIDDEN,
            Self::TooOften => StatusCode::TOO_MANY_REQUESTS,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl fmt::Display for NotSignedIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wrong => "Name, password or token is wrong.",
            Self::TooOften => "Too many tries. Wait a minute, then try again.",
            Self::Busy => "Many people sign in at this moment. Try again in a few seconds.",
        })
    }
}

/// The page.
pub fn sign_in(view: &SignIn<'_>) -> Page {
    Page::of(view.failure.map_or(StatusCode::OK, NotSignedIn::status), view)
}
