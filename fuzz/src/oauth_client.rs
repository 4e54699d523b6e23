//! What strangers say of clients: registrations, metadata documents, redirect URIs, sealed requests.

use std::sync::LazyLock;

use sluicegate::{
    config::{OauthConfig, RedirectTarget, is_same_redirect},
    oauth::{
        client_document,
        flow::Flows,
        registration::{LONGEST_ID, Registrar},
    },
    upstream::document::DocumentUrl,
};
use url::{Position, Url};

static CONFIG: LazyLock<OauthConfig> = LazyLock::new(|| OauthConfig::at("https://mcp.example.com"));

/// The first byte says what it is.
pub fn run(input: &[u8]) {
    let Some((&kind, input)) = input.split_first() else { return };
    match kind % 4 {
        0 => registration(input),
        1 => document(input),
        2 => redirect(input),
        _ => sealed(input),
    }
}

/// What a client registered is what the gateway knows of it afterwards, and serde_json reads the same of the body.
fn registration(body: &[u8]) {
    let registrar = Registrar::new(&[7; 32]);
    if let Ok(id) = std::str::from_utf8(body) {
        assert!(registrar.client(id).is_none(), "nobody makes up an id");
    }
    let Ok(registered) = registrar.register(body, &CONFIG, 1) else { return };
    let said: serde_json::Value = serde_json::from_slice(body).expect("it was read as JSON");
    let client = registrar.client(&registered.client_id).expect("it is known again");
    assert!(registered.client_id.len() <= LONGEST_ID && !client.redirect_uris.is_empty());
    for uri in &client.redirect_uris {
        assert!(
            said["redirect_uris"].as_array().is_some_and(|uris| uris.iter().any(|other| *other == **uri))
        );
        assert!(client.redirect_target(uri, &CONFIG).is_some(), "{uri}");
    }
}

/// A document is of its URL, or of none.
fn document(body: &[u8]) {
    let url = DocumentUrl::parse("https://a.example/c").expect("a URL");
    let Ok(client) = client_document::parse(&url, body) else { return };
    let said: serde_json::Value = serde_json::from_slice(body).expect("it was read as JSON");
    assert_eq!(said["client_id"], "https://a.example/c");
    assert!(said.get("client_secret").is_none_or(serde_json::Value::is_null));
    assert!((1..=20).contains(&client.redirect_uris.len()));
}

/// Two URIs, with a line break between them. Where the first may be registered and the second matches it, a browser goes to the
/// same host and path.
fn redirect(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (registered, asked) = text.split_once('\n').unwrap_or((text, text));
    let Ok(target) = RedirectTarget::of(registered, &CONFIG.redirect_schemes) else { return };
    let registered_url = Url::parse(registered).expect("a URL");
    if let RedirectTarget::Site(site) = &target {
        assert_eq!(&registered_url[Position::BeforeHost..Position::AfterPort], site);
        assert_eq!(registered_url.scheme(), "https");
    }
    if !is_same_redirect(registered, asked) {
        return;
    }
    let url = Url::parse(asked).expect("a URL");
    let place = |url: &Url| {
        (
            url.scheme().to_owned(),
            url.host_str().map(str::to_owned),
            url.path().to_owned(),
            url.query().map(str::to_owned),
        )
    };
    assert_eq!(place(&url), place(&registered_url), "{registered} {asked}");
    assert!(url.port() == registered_url.port() || url.scheme() == "http", "{registered} {asked}");
    assert!(url.username().is_empty() && url.fragment().is_none());
}

/// Nothing opens that was not sealed.
fn sealed(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let flows = Flows::new(&[7; 32]).expect("a key");
    assert!(flows.open(text, "cookie", std::time::UNIX_EPOCH).is_none());
}
