//! The pages on which somebody connects an account of theirs at a server, and those before and behind them.

use askama::Template;
use http::StatusCode;
use url::Url;

use super::{
    page::{Form, Page},
    shown::Shown,
};

/// A server that asks for an account, as its pages name it.
#[derive(Debug, Clone, Copy)]
pub struct Service<'a> {
    /// How people call it.
    pub name: Shown<'a>,
    /// Its name in the config, as forms send it.
    pub server: &'a str,
    /// One account is for all callers.
    pub is_shared: bool,
}

impl Service<'_> {
    pub(super) fn id(&self) -> Shown<'_> {
        Shown::name(self.server)
    }

    /// Whether the config calls it otherwise than people do: two servers may be called alike.
    pub(super) fn has_other_name(&self) -> bool {
        self.name.to_string() != self.server
    }
}

/// Asks whether somebody wants to connect an account.
#[derive(Template)]
#[template(path = "connect.html")]
pub struct Connect<'a> {
    /// `proxy.name`
    pub gateway: &'a str,
    /// As whom it would be connected.
    pub account: Shown<'a>,
    /// With what.
    pub service: Service<'a>,
    /// Where the account is: the host of the issuer.
    pub issuer: Shown<'a>,
    /// What the gateway asks for there.
    pub scopes: &'a [Shown<'a>],
    /// Of the answer.
    pub form: Form<'a>,
    /// Where somebody goes afterwards, if anywhere.
    pub return_to: Option<&'a str>,
}

/// Asks for a token of the server that somebody has.
#[derive(Template)]
#[template(path = "enter_token.html")]
pub struct EnterToken<'a> {
    /// `proxy.name`
    pub gateway: &'a str,
    /// Whose it is.
    pub account: Shown<'a>,
    /// Of which server.
    pub service: Service<'a>,
    /// How somebody gets one.
    pub instructions: Option<Shown<'a>>,
    /// Where somebody gets one.
    pub help: Option<&'a Url>,
    /// The last one that was entered cannot be one.
    pub is_wrong: bool,
    /// Of the answer.
    pub form: Form<'a>,
    /// Where somebody goes afterwards, if anywhere.
    pub return_to: Option<&'a str>,
}

/// Asks whether what was granted is to be kept.
#[derive(Template)]
#[template(path = "approve.html")]
pub struct Approve<'a> {
    /// `proxy.name`
    pub gateway: &'a str,
    /// Whose connection it is to be.
    pub account: Shown<'a>,
    /// With what.
    pub service: Service<'a>,
    /// The host of the issuer.
    pub issuer: Shown<'a>,
    /// Which account is connected there, if it says so.
    pub account_there: Option<Shown<'a>>,
    /// What was granted.
    pub scopes: &'a [Shown<'a>],
    /// Whether the issuer ends it if it is not kept.
    pub is_revocable: bool,
    /// Of the answer.
    pub form: Form<'a>,
}

/// Says that an account is connected.
#[derive(Template)]
#[template(path = "connected.html")]
pub struct Connected<'a> {
    /// `proxy.name`
    pub gateway: &'a str,
    /// With what.
    pub service: Service<'a>,
}

/// Offers to connect what a program needs, before it gets its answer.
#[derive(Template)]
#[template(path = "connect_first.html")]
pub struct ConnectFirst<'a> {
    /// `proxy.name`
    pub gateway: &'a str,
    /// The program that was let in.
    pub client: Shown<'a>,
    /// As whom.
    pub account: Shown<'a>,
    /// What is to be connected.
    pub offers: &'a [Offer<'a>],
    /// Of the answer.
    pub form: Form<'a>,
}

/// A server that waits for an account.
#[derive(Debug, Clone)]
pub struct Offer<'a> {
    /// Which.
    pub service: Service<'a>,
    /// Where it is connected.
    pub target: String,
    /// What the button says.
    pub button: &'static str,
}

/// The page.
pub fn connect(view: &Connect<'_>) -> Page {
    Page::of(StatusCode::OK, view)
}

/// The page.
pub fn enter_token(view: &EnterToken<'_>) -> Page {
    Page::of(if view.is_wrong { StatusCode::BAD_REQUEST } else { StatusCode::OK }, view)
}

/// The page.
pub fn approve(view: &Approve<'_>) -> Page {
    Page::of(StatusCode::OK, view)
}

/// The page.
pub fn connected(view: &Connected<'_>) -> Page {
    Page::of(StatusCode::OK, view)
}

/// The page.
pub fn connect_first(view: &ConnectFirst<'_>) -> Page {
    Page::of(StatusCode::OK, view)
}
