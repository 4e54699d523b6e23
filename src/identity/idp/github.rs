//! People of GitHub, which has no ID tokens: its API says who has an access token.

use http::StatusCode;
use memchr::memmem;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use url::Url;

use super::{asking::Asking, error::IdpError, id_token::is_subject, token::bearer};
use crate::{
    config::IdpConfig,
    identity::foreign::source::{Ask, IssuerAnswer},
};

/// `iss` of its answers to browsers, if it writes one, is the issuer or this behind it.
pub(super) const ISSUER_PATH: &str = "/login/oauth";
/// The scope by which organizations are listed.
const READ_ORG: &str = "read:org";
/// What its refresh tokens begin with. Those of apps without refresh tokens have no end, and are what the gateway asks by.
const REFRESH_TOKEN: &str = "ghr_";
/// Bytes of an answer about somebody at most.
const LONGEST: usize = 64 << 10;
/// Organizations on a page, bytes of one, and how many pages are looked at.
const PAGE: usize = 100;
const LONGEST_PAGE: usize = 512 << 10;
const MOST_PAGES: usize = 3;

#[derive(Deserialize)]
struct User {
    id: u64,
    login: String,
}

#[derive(Deserialize)]
struct Address {
    email: String,
    primary: bool,
    verified: bool,
}

#[derive(Deserialize)]
struct Organization {
    login: String,
}

/// A place of GitHub's own site, or the one that the config has instead.
fn place(configured: Option<&Url>, own: &str) -> Result<Url, IdpError> {
    match configured {
        Some(url) => Ok(url.clone()),
        None => Url::parse(own).map_err(|_| IdpError::Broken("its address is none")),
    }
}

/// Where a browser is sent.
pub(super) fn authorization_url(config: &IdpConfig) -> Result<Url, IdpError> {
    place(config.authorization_url.as_ref(), "https://github.com/login/oauth/authorize")
}

/// Where codes become tokens.
pub(super) fn token_url(config: &IdpConfig) -> Result<Url, IdpError> {
    place(config.token_url.as_ref(), "https://github.com/login/oauth/access_token")
}

/// The scope that is asked for.
pub(super) fn scope(config: &IdpConfig) -> Vec<&str> {
    let mut scope = vec!["read:user", "user:email"];
    scope.extend((!config.allowed_orgs.is_empty()).then_some(READ_ORG));
    scope
}

/// Whether what is kept is a refresh token, and no access token.
pub(super) fn is_refresh_token(keep: &str) -> bool {
    keep.starts_with(REFRESH_TOKEN)
}

/// Who has this access token, and what GitHub says of them.
pub(super) async fn person(github: &Asking, access: &str) -> Result<(String, Map<String, Value>), IdpError> {
    let config = &github.config;
    let user_url = place(config.user_info_url.as_ref(), "https://api.github.com/user")?;
    let below = |name: &str| {
        let mut url = user_url.clone();
        url.set_path(&format!("{}/{name}", user_url.path().trim_end_matches('/')));
        url
    };
    let user: User = read(&get(github, &user_url, access, LONGEST).await?)?;
    let subject = user.id.to_string();
    if user.id == 0 || !is_subject(&user.login) {
        return Err(IdpError::Broken("its answer names nobody"));
    }
    let mut claims = Map::new();
    claims.insert("login".into(), user.login.into());
    // An app may have no right to addresses: then none is known.
    match get(github, &below("emails"), access, LONGEST).await {
        Ok(answer) => {
            let addresses: Vec<Address> = read(&answer)?;
            if let Some(address) = addresses.into_iter().find(|address| address.primary && address.verified) {
                claims.insert("email".into(), address.email.into());
                claims.insert("email_verified".into(), true.into());
            }
        }
        Err(NO_RIGHT) => {}
        Err(other) => return Err(other),
    }
    if !config.allowed_orgs.is_empty() || config.scopes.iter().any(|scope| scope == READ_ORG) {
        claims.insert(IdpConfig::ORGS.into(), json!(organizations(github, &below("orgs"), access).await?));
    }
    Ok((subject, claims))
}

/// The organizations that somebody is in. Whom one has invited, and who has not come, is not in it.
async fn organizations(github: &Asking, url: &Url, access: &str) -> Result<Vec<String>, IdpError> {
    let mut all = Vec::new();
    for page in 1..=MOST_PAGES {
        let mut url = url.clone();
        url.query_pairs_mut()
            .append_pair("per_page", &PAGE.to_string())
            .append_pair("page", &page.to_string());
        let found: Vec<Organization> = read(&get(github, &url, access, LONGEST_PAGE).await?)?;
        let is_last = found.len() < PAGE;
        all.extend(found.into_iter().map(|organization| organization.login));
        if is_last {
            break;
        }
    }
    Ok(all)
}

const NO_RIGHT: IdpError = IdpError::Refused("the gateway has no right to ask that of it");

async fn get(github: &Asking, url: &Url, access: &str, most: usize) -> Result<IssuerAnswer, IdpError> {
    let ask = Ask { authorization: Some(bearer(access)?), ..Ask::default() };
    let answer = github.ask(url, ask, most).await?;
    match answer.status {
        StatusCode::OK => Ok(answer),
        StatusCode::UNAUTHORIZED => {
            Err(IdpError::Refused("the provider does not know the person's token any more"))
        }
        // It says so where others say 429.
        StatusCode::FORBIDDEN if memmem::find(&answer.body.to_ascii_lowercase(), b"rate limit").is_some() => {
            Err(IdpError::Unavailable("the provider was asked too often"))
        }
        StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => Err(NO_RIGHT),
        _ => Err(IdpError::Broken("its API refuses, and the gateway does not know why")),
    }
}

fn read<T: DeserializeOwned>(answer: &IssuerAnswer) -> Result<T, IdpError> {
    serde_json::from_slice(&answer.body).map_err(|_| IdpError::Broken("an answer of its API is none"))
}
