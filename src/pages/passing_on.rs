//! The page behind an answer: it leads on to the program.

use askama::Template;
use http::StatusCode;
use url::Url;

use super::{consent::Receiver, page::Page, shown::Shown};

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
    /// Whether it was let in.
    pub is_approved: bool,
    /// Who gets the answer.
    pub receiver: Receiver<'a>,
    /// Where that is, with the answer: a redirect URI that was checked.
    pub target: &'a Url,
}

/// The page.
pub fn passing_on(view: &PassingOn<'_>) -> Page {
    Page::of(StatusCode::OK, view)
}
