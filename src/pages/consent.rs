//! The page that asks whether a program may come in.

use std::fmt;

use askama::Template;
use http::StatusCode;

use super::{
    page::{Form, Page},
    shown::Shown,
};

/// What the page has.
#[derive(Template)]
#[template(path = "consent.html")]
pub struct Consent<'a> {
    /// `proxy.name`
    pub gateway: &'a str,
    /// How the client calls itself.
    pub client: Shown<'a>,
    /// As whom it would come in.
    pub account: Shown<'a>,
    /// Where the answer goes.
    pub receiver: Receiver<'a>,
    /// What is known about the client.
    pub identified: Identified<'a>,
    /// The servers that it would reach, by all scopes that it asks for.
    pub servers: &'a [Shown<'a>],
    /// What it asks for.
    pub scopes: &'a [ScopeChoice<'a>],
    /// Of the answer.
    pub form: Form<'a>,
    /// `client_id`
    pub client_id: Shown<'a>,
    /// `redirect_uri`
    pub redirect_uri: Shown<'a>,
    /// `resource`
    pub resource: Shown<'a>,
}

/// Where an answer goes: whoever is there, comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receiver<'a> {
    /// A web site, by its host.
    Site(Shown<'a>),
    /// A program that listens on this computer.
    ThisComputer,
    /// An app on this computer that opens links of a scheme, as `cursor:`.
    App(Shown<'a>),
}

impl Receiver<'_> {
    /// Whether it is a web site.
    pub fn is_site(&self) -> bool {
        matches!(self, Self::Site(_))
    }
}

impl fmt::Display for Receiver<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Site(host) => host.fmt(f),
            Self::ThisComputer => f.write_str("a program on this computer"),
            Self::App(scheme) => write!(f, "an app on this computer ({scheme})"),
        }
    }
}

/// Who says what a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identified<'a> {
    /// The config of the gateway.
    Config,
    /// The web site of this host, which publishes a document about it.
    Site(Shown<'a>),
    /// Nobody but itself.
    Nobody,
}

/// What the field of a scope is called in front of the scope. Each has a name of its own, as no name may stand in a form twice;
/// its value means nothing.
pub const SCOPE_FIELD: &str = "scope:";

/// A scope to tick.
#[derive(Debug, Clone, Copy)]
pub struct ScopeChoice<'a> {
    /// The scope: a word, or several that go together.
    pub value: &'a str,
    /// Ticked, until somebody unticks it.
    pub is_checked: bool,
}

impl ScopeChoice<'_> {
    fn shown(&self) -> Shown<'_> {
        Shown::text(self.value)
    }

    /// What it means, for people.
    fn words(&self) -> String {
        let tags = self.value.split(' ').map(|word| word.strip_prefix("tag:"));
        match self.value.split_once(':') {
            Some(("tag", several)) if several.contains(' ') => {
                let tags: Vec<_> = tags.flatten().map(|tag| Shown::name(tag).to_string()).collect();
                format!("Use the servers with all of the tags {}", tags.join(", "))
            }
            Some(("server", name)) => format!("Use the server {}", Shown::name(name)),
            Some(("tag", tag)) => format!("Use the servers with the tag {}", Shown::name(tag)),
            _ if self.value == "mcp" => "Use all that you may use here".to_owned(),
            _ if self.value == "offline_access" => "Stay connected while you are away".to_owned(),
            _ => format!("Use tools that ask for {}", Shown::name(self.value)),
        }
    }
}

/// The page.
pub fn consent(view: &Consent<'_>) -> Page {
    Page::of(StatusCode::OK, view)
}
