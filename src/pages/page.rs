//! What all pages are made of: the frame, the style sheet, the header fields that go with them.

use std::{fmt::Write as _, sync::LazyLock};

use askama::Template;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use sha2::{Digest as _, Sha256};

/// The one style sheet, which stands in each page: a page loads nothing.
pub(super) const STYLE: &str = include_str!("../../templates/style.css");

/// What a page may do: no script, nothing from elsewhere, forms for the gateway itself only, no frame of others around it.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let policy = format!(
        "default-src 'none'; style-src '{}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        hash(in_template(STYLE))
    );
    // It has no character that a field cannot have; without a policy, nothing would be shown.
    HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("sandbox; default-src 'none'"))
});

/// As a policy names it (CSP level 3, section 2.3.1).
pub(super) fn hash(style: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(style)))
}

/// What of a file stands in a page: templates lose the line break at their end.
fn in_template(file: &str) -> &str {
    file.strip_suffix('\n').unwrap_or(file)
}

/// What a form of a page has besides what people fill in.
#[derive(Debug, Clone, Copy)]
pub struct Form<'a> {
    /// The field `csrf`, of [`Csrf`](super::csrf::Csrf).
    pub csrf: &'a str,
    /// The field `flow`: what is asked for, if the form belongs to a question of a program.
    pub flow: Option<&'a str>,
}

/// A page, as it goes out.
#[derive(Debug)]
pub struct Page {
    status: StatusCode,
    html: String,
    is_alone: bool,
}

impl Page {
    pub(super) fn of(status: StatusCode, template: &impl Template) -> Self {
        let mut html = String::with_capacity(template_size(template));
        // Fails only if a value cannot be written, and all of them are texts.
        let is_whole = template.render_into(&mut html).is_ok();
        if !is_whole {
            html.clear();
            let _ = html.write_str("<!doctype html><title>Error</title><p>The page cannot be shown.</p>");
        }
        Self {
            status: if is_whole { status } else { StatusCode::INTERNAL_SERVER_ERROR },
            html,
            is_alone: false,
        }
    }

    /// Cuts the page off from what opened it.
    ///
    /// Not for pages that a program sends people through: some programs are web pages that open this one in a window and wait there
    /// for the answer, which comes by `window.opener`.
    pub(super) fn alone(self) -> Self {
        Self { is_alone: true, ..self }
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Its text.
    pub fn html(&self) -> &str {
        &self.html
    }

    /// The response that shows it.
    pub fn into_response(self) -> Response<Bytes> {
        let mut response = Response::new(Bytes::from(self.html));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        let fields = [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (header::CACHE_CONTROL, "no-store"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            // With `no-referrer`, browsers send `Origin: null` from a form.
            (header::REFERRER_POLICY, "same-origin"),
            (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        ];
        for (name, value) in fields {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.insert(header::CONTENT_SECURITY_POLICY, POLICY.clone());
        if self.is_alone {
            let name = HeaderName::from_static("cross-origin-opener-policy");
            headers.insert(name, HeaderValue::from_static("same-origin"));
        }
        response
    }
}

/// Bytes to begin with: what is fixed in a page, and some more.
fn template_size<T: Template>(_: &T) -> usize {
    T::SIZE_HINT + 1024
}
