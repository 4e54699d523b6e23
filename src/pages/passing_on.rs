//! The page behind an answer: it leads on to the program.

use askama::Template;
use http::StatusCode;
use url::Url;

use super::{consent::RedirectTarget, page::Page, shown::Shown};

/// What the page has.
///
/// It is there because a redirect in the answer to a form is one that Chrome holds to `form-action`, whereas nothing keeps a page
/// from leading on.
#[derive(Template)]
#[template(path = "passing_on.html")]
pub struct PassingOn<'a> {
    /// `proxy.name`
    pub gateway: &'a str,
    /// How the client calls itself.
    pub client: Shown<'a>,
    /// What became of what it asked for.
    pub outcome: Outcome<'a>,
    /// Whether the browser goes there by itself.
    pub goes_on: bool,
    /// Who gets the answer.
    pub redirect_target: RedirectTarget<'a>,
    /// Where that is, with the answer: a redirect URI that was checked.
    pub target: &'a Url,
}

/// What became of what a client asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// It was let in.
    Approved,
    /// Somebody was asked, and said no.
    Denied,
    /// It cannot be, as this sentence says: nobody was asked.
    Faulty(&'a str),
}

/// The page.
pub fn passing_on(view: &PassingOn<'_>) -> Page {
    let status = match view.outcome {
        Outcome::Approved | Outcome::Denied => StatusCode::OK,
        Outcome::Faulty(_) => StatusCode::BAD_REQUEST,
    };
    Page::of(status, view)
}
