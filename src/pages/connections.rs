//! The page on which people see what they let in.

use std::fmt;

use askama::Template;
use http::StatusCode;

use super::{
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

/// What a form did, as it stands in `?did=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// A program lost what it had.
    Revoked,
}

impl Done {
    /// The value of `did`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
        }
    }

    /// What a value of `did` means. Anybody can make a link with one, so that nothing is said but what is a word here.
    pub fn of(word: &str) -> Option<Self> {
        [Self::Revoked].into_iter().find(|done| done.word() == word)
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Revoked => "Revoked. What the program had open is ended.",
        })
    }
}

/// The page.
pub fn connections(view: &Connections<'_>) -> Page {
    Page::of(StatusCode::OK, view).alone()
}
