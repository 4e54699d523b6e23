//! The page on which people see which accounts they have connected, and what they let in.

use std::fmt;

use askama::Template;
use http::StatusCode;

use super::{
    connect::Service,
    page::Page,
    shown::{Moment, Shown},
};

/// What the page has.
#[derive(Template)]
#[template(path = "connections.html")]
pub struct Connections<'a> {
    /// `proxy.name`
    pub gateway: &'a str,
    /// Whose page it is.
    pub account: Shown<'a>,
    /// Of the form that signs out.
    pub sign_out_csrf: &'a str,
    /// What was done a moment ago.
    pub done: Option<Done>,
    /// The servers that ask for an account of this one.
    pub own_accounts: &'a [ShownAccount<'a>],
    /// What other accounts have connected, for those who may see it.
    pub accounts_of_others: Option<&'a [ShownAccount<'a>]>,
    /// What this account let in.
    pub own: &'a [ShownGrant<'a>],
    /// What other accounts let in, for those who may see it.
    pub others: Option<&'a [ShownGrant<'a>]>,
    /// How many of others are not on the page.
    pub not_shown: usize,
}

/// A program that was let in.
#[derive(Debug, Clone)]
pub struct ShownGrant<'a> {
    /// In the path of what revokes it.
    pub id: &'a str,
    /// Of the form that revokes it.
    pub csrf: &'a str,
    /// Whose it is, as the form sends it.
    pub owner: String,
    /// Who let it in.
    pub account: Shown<'a>,
    /// How the client calls itself.
    pub client: Shown<'a>,
    /// Where people were sent back to.
    pub redirect_target: Shown<'a>,
    /// What it may do.
    pub scope: Shown<'a>,
    /// Where it may do that.
    pub resource: Shown<'a>,
    /// When something came by it last.
    pub last_used: Moment,
    /// When it ends by itself.
    pub ends: Moment,
}

impl ShownGrant<'_> {
    /// Whose it is, as the config and the log name them.
    fn principal(&self) -> Shown<'_> {
        Shown::text(&self.owner)
    }
}

/// An account at a server, as far as anybody sees it.
#[derive(Debug, Clone)]
pub struct ShownAccount<'a> {
    /// Where a link of the page leads to it.
    pub anchor: Option<&'a str>,
    /// Of which server.
    pub service: Service<'a>,
    /// Whose connection it is.
    pub of: Shown<'a>,
    /// The same, as the form sends it.
    pub owner: String,
    /// How it stands with it.
    pub state: AccountState,
    /// Which account is connected, or how the token ends.
    pub who: Option<Shown<'a>>,
    /// What was granted.
    pub scopes: Option<Shown<'a>>,
    /// Since when it is connected.
    pub since: Option<Moment>,
    /// When it ends by itself.
    pub ends: Option<Moment>,
    /// What can be done about it.
    pub action: Option<AccountAction>,
    /// Of the form that disconnects it, if it is connected.
    pub disconnect: Option<&'a str>,
}

/// A button that leads to a page.
#[derive(Debug, Clone)]
pub struct AccountAction {
    /// Where it leads.
    pub target: String,
    /// What it says.
    pub button: &'static str,
}

/// How it stands with an account at a server, in the words of 1MCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountState {
    /// Nobody has connected one.
    Awaiting,
    /// Nobody has entered a token.
    AwaitingToken,
    /// The server is called with it.
    Connected,
    /// It was connected, and is not good any more.
    Reconnect,
    /// It may less than the server asks for.
    NeedsScopes,
}

impl AccountState {
    /// What the button says that leads on from there.
    pub fn button(self) -> Option<&'static str> {
        match self {
            Self::Awaiting => Some("Connect"),
            Self::AwaitingToken => Some("Enter token"),
            Self::Connected => None,
            Self::Reconnect | Self::NeedsScopes => Some("Reconnect"),
        }
    }
}

impl fmt::Display for AccountState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Awaiting => "Awaiting OAuth",
            Self::AwaitingToken => "Awaiting token",
            Self::Connected => "Connected",
            Self::Reconnect => "Reconnect",
            Self::NeedsScopes => "Needs scopes",
        })
    }
}

/// What a form did, as it stands in `?did=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// A program lost what it had.
    Revoked,
    /// An account is connected no more.
    Disconnected,
    /// A token was entered.
    TokenSet,
}

impl Done {
    /// The value of `did`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Disconnected => "disconnected",
            Self::TokenSet => "token",
        }
    }

    /// What a value of `did` means. Anybody can make a link with one, so that nothing is said but what is a word here.
    pub fn of(word: &str) -> Option<Self> {
        [Self::Revoked, Self::Disconnected, Self::TokenSet].into_iter().find(|done| done.word() == word)
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Revoked => "Revoked. What the program had open is ended.",
            Self::Disconnected => "Disconnected. What ran with the account is ended.",
            Self::TokenSet => "Saved. The server is called with your token from now on.",
        })
    }
}

/// The page.
pub fn connections(view: &Connections<'_>) -> Page {
    Page::of(StatusCode::OK, view).alone()
}
