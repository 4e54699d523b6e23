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
    /// Whether that one is an admin.
    pub is_admin: bool,
    /// Where the answer goes.
    pub redirect_target: RedirectTarget<'a>,
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
pub enum RedirectTarget<'a> {
    /// A web site, by its host.
    Site(Shown<'a>),
    /// A program that listens on this computer.
    ThisComputer,
    /// An app on this computer that opens links of a scheme, as `cursor:`.
    App(Shown<'a>),
}

impl RedirectTarget<'_> {
    /// Whether it is a web site.
    pub fn is_site(&self) -> bool {
        matches!(self, Self::Site(_))
    }
}

impl fmt::Display for RedirectTarget<'_> {
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
#[derive(Debug, Clone)]
pub struct ScopeChoice<'a> {
    /// The scope: a word, or several that go together.
    pub value: &'a str,
    /// What it lets a program do.
    pub meaning: ScopeMeaning<'a>,
    /// Ticked, until somebody unticks it.
    pub is_checked: bool,
}

impl ScopeChoice<'_> {
    fn shown(&self) -> Shown<'_> {
        Shown::text(self.value)
    }
}

/// What a scope lets a program do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScopeMeaning<'a> {
    /// All that its user may.
    All,
    /// Come back without its user.
    Offline,
    /// Use a server.
    Server(&'a str),
    /// Use the servers with a tag.
    Tag(&'a str),
    /// Use the servers with all of these tags.
    Tags(Vec<&'a str>),
    /// Use the tools that ask for a word.
    Tools(&'a str),
}

impl fmt::Display for ScopeMeaning<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("Use all that you may use here"),
            Self::Offline => f.write_str("Stay connected while you are away"),
            Self::Server(name) => write!(f, "Use the server {}", Shown::name(name)),
            Self::Tag(tag) => write!(f, "Use the servers with the tag {}", Shown::name(tag)),
            Self::Tags(tags) => {
                let tags: Vec<_> = tags.iter().map(|tag| Shown::name(tag).to_string()).collect();
                write!(f, "Use the servers with all of the tags {}", tags.join(", "))
            }
            Self::Tools(word) => write!(f, "Use tools that ask for {}", Shown::name(word)),
        }
    }
}

/// The page.
pub fn consent(view: &Consent<'_>) -> Page {
    Page::of(StatusCode::OK, view)
}
