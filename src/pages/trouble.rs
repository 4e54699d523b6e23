//! The page for what did not go well.

use askama::Template;
use http::StatusCode;

use super::{page::Page, shown::Shown};

/// What the page has.
#[derive(Template)]
#[template(path = "trouble.html")]
pub struct Trouble<'a> {
    /// `proxy.name`
    pub gateway: &'a str,
    /// Of the response.
    pub status: StatusCode,
    /// What is wrong, in one sentence of the gateway's own.
    pub sentence: &'a str,
    /// What it is about, in words that may be of others.
    pub detail: Option<Shown<'a>>,
    /// What to do about it.
    pub way_on: WayOn,
    /// Under which the log has it.
    pub request_id: &'a str,
}

/// What somebody can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WayOn {
    /// The program has a registration that is not good here, or not any more.
    AddAnew,
    /// What the program began is over.
    StartAgain,
    /// Look at what is connected.
    Connections,
    /// Nothing but asking.
    AskOperator,
    /// Nothing but saying so.
    TellOperator,
    /// Ask for the program to be added to this key of the config.
    AskToAdd(&'static str),
}

impl<'a> Trouble<'a> {
    /// For an answer to a question that is over, or was never asked.
    pub fn over(gateway: &'a str, request_id: &'a str) -> Self {
        Self {
            gateway,
            status: StatusCode::BAD_REQUEST,
            sentence: "This request is over.",
            detail: None,
            way_on: WayOn::StartAgain,
            request_id,
        }
    }
}

/// The page.
pub fn trouble(view: &Trouble<'_>) -> Page {
    Page::of(view.status, view)
}
