//! The page behind the button of an identity provider: it leads on to that.

use askama::Template;
use http::StatusCode;
use url::Url;

use super::{page::Page, shown::Shown};

/// What the page has. It is there for the same reason as [`PassingOn`](super::PassingOn).
#[derive(Template)]
#[template(path = "to_idp.html")]
pub struct ToIdp<'a> {
    /// `proxy.name`
    pub gateway: &'a str,
    /// Where the provider is.
    pub host: Shown<'a>,
    /// The same, with what it is asked for.
    pub target: &'a Url,
}

/// The page.
pub fn to_idp(view: &ToIdp<'_>) -> Page {
    Page::of(StatusCode::OK, view)
}
