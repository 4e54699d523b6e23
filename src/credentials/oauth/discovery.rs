//! Where the authorization server of a server is, and what it says of itself (RFC 9728, RFC 8414, OpenID Connect Discovery; MCP
//! 2025-03-26 for servers that say nothing).
//!
//! Whatever is not there is looked for at the next place. Whatever is there and is wrong ends it: who can put something wrong there is
//! not to choose what is used instead. And who cannot answer at the moment is asked again later, and is not taken for one who has nothing.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::{Deserialize, de::DeserializeOwned};
use url::{Origin, Url};

use super::{
    challenge::{Challenge, distinct},
    discovered::Discovered,
    error::OauthError,
    outgoing::{Outgoing, Reach},
};
use crate::{
    config::{ClientAuthWay, ResourceParameter, UpstreamOauth, is_loopback},
    identity::foreign::source::{Ask, AskBody, NotFetched, appended, inserted},
};

/// What tokens are to be got by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// By codes, which browsers bring.
    Code,
    /// By what the gateway has (RFC 6749 §4.4): no browser is sent anywhere.
    ClientCredentials,
}

const OFFLINE_ACCESS: &str = "offline_access";
/// How long a server may take to say what it asks for.
const PROBE_TIME: std::time::Duration = std::time::Duration::from_secs(5);
/// What it is asked, by a client without a token.
const PROBE: &str = concat!(
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"#,
    r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","#,
    r#""io.modelcontextprotocol/clientInfo":{"name":"sluicegate","version":""#,
    env!("CARGO_PKG_VERSION"),
    r#""},"io.modelcontextprotocol/clientCapabilities":{}}}}"#
);

/// Where the server at `server_url` has its tokens from. `challenge`: what it last said that it asks for; without one it is asked.
pub async fn discover(
    outgoing: &Outgoing,
    oauth: &UpstreamOauth,
    purpose: Purpose,
    server_url: &Url,
    challenge: Option<&Challenge>,
) -> Result<Discovered, OauthError> {
    let look = Look { outgoing, oauth, purpose, server: server_url, origin: server_url.origin() };
    if let Some(configured) = look.configured() {
        return Ok(configured);
    }
    let asked = match challenge {
        Some(_) => None,
        None => look.challenge().await,
    };
    let challenge = challenge.or(asked.as_ref());
    let resource = look.resource_metadata(challenge).await?;
    let (issuer, metadata) = look.issuer_metadata(resource.as_ref()).await?;
    let mut discovered = look.read(issuer, metadata, resource)?;
    discovered.scopes_of_challenge = challenge.filter(|it| it.scope.is_some()).map(Challenge::scopes);
    Ok(discovered)
}

/// What is looked for.
struct Look<'a> {
    outgoing: &'a Outgoing,
    oauth: &'a UpstreamOauth,
    purpose: Purpose,
    server: &'a Url,
    origin: Origin,
}

/// What a server says of itself (RFC 9728 §2).
#[derive(Deserialize)]
struct ResourceDocument {
    resource: String,
    authorization_servers: Option<Vec<String>>,
    scopes_supported: Option<Vec<String>>,
}

/// What an authorization server says of itself (RFC 8414 §2).
#[derive(Deserialize)]
struct IssuerDocument {
    issuer: String,
    authorization_endpoint: Option<String>,
    token_endpoint: Option<String>,
    registration_endpoint: Option<String>,
    revocation_endpoint: Option<String>,
    code_challenge_methods_supported: Option<Vec<String>>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    scopes_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
    #[serde(default)]
    client_id_metadata_document_supported: bool,
}

/// Who the issuer is, and by whose word.
struct Issuer {
    name: String,
    /// The config names it, so it may be anywhere, and what it names may be.
    is_configured: bool,
}

impl Look<'_> {
    /// What the config says, if that is all there is to know.
    fn configured(&self) -> Option<Discovered> {
        let oauth = self.oauth;
        let token = oauth.token_url.clone()?;
        if self.purpose == Purpose::Code && oauth.authorization_url.is_none() {
            return None;
        }
        let is_assumed = oauth.issuer.is_none();
        let issuer = oauth.issuer.clone().unwrap_or_else(|| token.origin().ascii_serialization().into());
        let anywhere = [Some(&token), oauth.revocation_url.as_ref()].into_iter().flatten().cloned().collect();
        Some(Discovered {
            issuer,
            is_assumed,
            resource: self.resource(None),
            authorization: oauth.authorization_url.clone(),
            token,
            registration: None,
            revocation: oauth.revocation_url.clone(),
            says_iss: false,
            takes_client_document: false,
            ways: None,
            scopes_of_challenge: None,
            scopes_of_resource: None,
            has_offline_access: false,
            anywhere,
        })
    }

    /// What the server asks for, if it says so to one who has nothing.
    async fn challenge(&self) -> Option<Challenge> {
        let field = |name, value| (HeaderName::from_static(name), HeaderValue::from_static(value));
        let accept = |what| (header::ACCEPT, HeaderValue::from_static(what));
        let post = Ask {
            body: Some(AskBody::Json(PROBE.to_owned().into())),
            authorization: None,
            fields: vec![
                accept("application/json, text/event-stream"),
                field("mcp-protocol-version", "2026-07-28"),
                field("mcp-method", "tools/list"),
            ],
        };
        // That is how servers of HTTP+SSE are opened.
        let get = Ask { fields: vec![accept("text/event-stream")], ..Ask::default() };
        for ask in [post, get] {
            let head = self.outgoing.head(Reach::Anywhere, self.server, ask, PROBE_TIME).await;
            if let Ok((StatusCode::UNAUTHORIZED, headers)) = head
                && let Some(challenge) = Challenge::of(&headers)
            {
                return Some(challenge);
            }
        }
        None
    }

    async fn resource_metadata(
        &self,
        challenge: Option<&Challenge>,
    ) -> Result<Option<ResourceDocument>, OauthError> {
        const NAME: &str = "oauth-protected-resource";
        let mut root = self.server.clone();
        root.set_path("/");
        let mut places: Vec<Url> =
            challenge.and_then(|it| it.resource_metadata.clone()).into_iter().collect();
        for place in [inserted(self.server, NAME), inserted(&root, NAME)] {
            if !places.contains(&place) {
                places.push(place);
            }
        }
        for place in places {
            let Some(document) = self.document(&place, false).await? else { continue };
            let Some(document) = parse::<ResourceDocument>(&document) else { continue };
            return match self.is_of_server(&document.resource) {
                true => Ok(Some(document)),
                false => Err(OauthError::Broken(
                    "its protected resource metadata is of another resource: `resource` is not the URL of the server, nor a prefix of it",
                )),
            };
        }
        Ok(None)
    }

    /// Whether this is the server, or what it is in (RFC 9728 §3.3). The config may know it by another name.
    fn is_of_server(&self, resource: &str) -> bool {
        if let ResourceParameter::Is(named) = &self.oauth.resource
            && **named == *resource
        {
            return true;
        }
        let Ok(url) = Url::parse(resource) else { return false };
        let path = url.path().strip_suffix('/').unwrap_or(url.path());
        let rest = self.server.path().strip_prefix(path);
        url.origin() == self.origin
            && url.username().is_empty()
            && url.password().is_none()
            && url.fragment().is_none()
            && (url.query().is_none() || url.query() == self.server.query())
            && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Who the issuer is, and what it says of itself. Without a document, it is a server of 2025-03-26, at whose places all is expected.
    async fn issuer_metadata(
        &self,
        resource: Option<&ResourceDocument>,
    ) -> Result<(Issuer, Option<IssuerDocument>), OauthError> {
        let named = resource.and_then(|resource| resource.authorization_servers.as_ref()?.first());
        let issuer = match (&self.oauth.issuer, named) {
            (Some(configured), _) => Issuer { name: configured.to_string(), is_configured: true },
            (None, Some(named)) => Issuer { name: named.clone(), is_configured: false },
            (None, None) => return self.issuer_of_old().await,
        };
        let no_issuer = OauthError::Broken("its issuer is no URL that may be one");
        let url = Url::parse(&issuer.name).map_err(|_| no_issuer)?;
        if url.query().is_some() || url.fragment().is_some() || !url.has_host() {
            return Err(no_issuer);
        }
        let mut places = vec![inserted(&url, "oauth-authorization-server")];
        for place in [inserted(&url, "openid-configuration"), appended(&url, "openid-configuration")] {
            if !places.contains(&place) {
                places.push(place);
            }
        }
        for place in places {
            let Some(document) = self.document(&place, issuer.is_configured).await? else { continue };
            let Some(document) = parse::<IssuerDocument>(&document) else { continue };
            return match document.issuer == issuer.name {
                true => Ok((issuer, Some(document))),
                false => Err(OTHER_ISSUER),
            };
        }
        Err(OauthError::Broken("its authorization server has no metadata where it should be"))
    }

    /// The same of a server that does not say who its issuer is (MCP 2025-03-26): it is at its own origin.
    async fn issuer_of_old(&self) -> Result<(Issuer, Option<IssuerDocument>), OauthError> {
        let mut root = self.server.clone();
        root.set_path("/");
        let name = self.origin.ascii_serialization();
        let document = self.document(&inserted(&root, "oauth-authorization-server"), false).await?;
        let Some(document) = document.and_then(|document| parse::<IssuerDocument>(&document)) else {
            return Ok((Issuer { name, is_configured: false }, None));
        };
        // Nothing says whether the origin is written with its slash.
        match document.issuer.strip_suffix('/').unwrap_or(&document.issuer) == name {
            true => {
                let issuer = Issuer { name: document.issuer.clone(), is_configured: false };
                Ok((issuer, Some(document)))
            }
            false => Err(OTHER_ISSUER),
        }
    }

    fn read(
        &self,
        issuer: Issuer,
        metadata: Option<IssuerDocument>,
        resource: Option<ResourceDocument>,
    ) -> Result<Discovered, OauthError> {
        let oauth = self.oauth;
        let is_of_old = metadata.is_none();
        let at_origin = |path: &str| Some(format!("{}{path}", self.origin.ascii_serialization()));
        let metadata = metadata.unwrap_or_else(|| IssuerDocument {
            issuer: issuer.name.clone(),
            authorization_endpoint: at_origin("/authorize"),
            token_endpoint: at_origin("/token"),
            registration_endpoint: at_origin("/register"),
            revocation_endpoint: None,
            code_challenge_methods_supported: None,
            token_endpoint_auth_methods_supported: None,
            scopes_supported: None,
            authorization_response_iss_parameter_supported: false,
            client_id_metadata_document_supported: false,
        });
        let has_s256 =
            metadata.code_challenge_methods_supported.iter().flatten().any(|method| method == "S256");
        if self.purpose == Purpose::Code && !is_of_old && !has_s256 {
            return Err(OauthError::Broken("its authorization server does not list S256 for PKCE"));
        }
        let mut anywhere: Vec<Url> =
            [&oauth.token_url, &oauth.revocation_url].into_iter().flatten().cloned().collect();
        let mut place = |configured: &Option<Url>, said: Option<String>| {
            if let Some(configured) = configured {
                return Ok(Some(configured.clone()));
            }
            let Some(url) = said.and_then(|said| Url::parse(&said).ok()) else { return Ok(None) };
            if !carries_secrets(&url) {
                return Err(NOT_SAFE);
            }
            if self.reach(&url, issuer.is_configured)? == Reach::Anywhere && !anywhere.contains(&url) {
                anywhere.push(url.clone());
            }
            Ok(Some(url))
        };
        let token = place(&oauth.token_url, metadata.token_endpoint)?;
        let token = token.ok_or(OauthError::Broken("its metadata has no token endpoint"))?;
        let authorization = match self.purpose {
            Purpose::Code => Some(
                place(&oauth.authorization_url, metadata.authorization_endpoint)?
                    .ok_or(OauthError::Broken("its metadata has no authorization endpoint"))?,
            ),
            Purpose::ClientCredentials => None,
        };
        // Where these are not as they should be, they are not there.
        let registration = place(&None, metadata.registration_endpoint).unwrap_or_default();
        let revocation = place(&oauth.revocation_url, metadata.revocation_endpoint).unwrap_or_default();
        let known =
            |names: Vec<String>| names.iter().filter_map(|name| ClientAuthWay::of_name(name)).collect();
        Ok(Discovered {
            is_assumed: false,
            resource: self.resource(resource.as_ref()),
            authorization,
            token,
            registration,
            revocation,
            says_iss: metadata.authorization_response_iss_parameter_supported,
            takes_client_document: metadata.client_id_metadata_document_supported,
            ways: metadata.token_endpoint_auth_methods_supported.map(known),
            scopes_of_challenge: None,
            scopes_of_resource: resource.and_then(|resource| resource.scopes_supported).map(distinct),
            has_offline_access: metadata.scopes_supported.iter().flatten().any(|it| it == OFFLINE_ACCESS),
            issuer: issuer.name.into(),
            anywhere,
        })
    }

    /// What tokens are asked for, for all that the config and the server say.
    fn resource(&self, said: Option<&ResourceDocument>) -> Option<Arc<str>> {
        match &self.oauth.resource {
            ResourceParameter::Never => None,
            ResourceParameter::Is(resource) => Some(Arc::clone(resource)),
            ResourceParameter::Auto => Some(match said {
                // Byte for byte: some authorization servers compare it so.
                Some(document) => document.resource.as_str().into(),
                None => {
                    let mut url = self.server.clone();
                    // Keys of servers stand in queries, and this goes through browsers.
                    url.set_query(None);
                    url.set_fragment(None);
                    let text = url.as_str();
                    let is_bare = url.path() == "/";
                    if is_bare { text.strip_suffix('/').unwrap_or(text).into() } else { text.into() }
                }
            }),
        }
    }

    /// What is at a place. `None`: nothing is there.
    async fn document(&self, url: &Url, is_configured: bool) -> Result<Option<Bytes>, OauthError> {
        let reach = self.reach(url, is_configured)?;
        match self.outgoing.ask(reach, url, Ask::default()).await {
            Ok(answer) if answer.status == StatusCode::OK => Ok(Some(answer.body)),
            // A host that has nothing there says so, or shows a page, or sends to one.
            Ok(_) | Err(NotFetched::NotADocument | NotFetched::Redirect) => Ok(None),
            Err(why) => Err(why.into()),
        }
    }

    /// Where a place may be.
    fn reach(&self, url: &Url, is_configured: bool) -> Result<Reach, OauthError> {
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err(NOT_SAFE);
        }
        // The server's own place is the config's word.
        if is_configured || url.origin() == self.origin {
            return Ok(Reach::Anywhere);
        }
        match (url.scheme(), self.oauth.allows_private_issuers) {
            ("https", false) => Ok(Reach::Public),
            ("https", true) => Ok(Reach::Anywhere),
            ("http", true) if is_loopback(url) => Ok(Reach::Anywhere),
            _ => Err(NOT_SAFE),
        }
    }
}

const OTHER_ISSUER: OauthError =
    OauthError::Broken("the metadata of its authorization server is of another issuer");
const NOT_SAFE: OauthError =
    OauthError::Broken("it names a place that is not over HTTPS, or has more than a place has");

/// Whether codes and secrets may go there.
fn carries_secrets(url: &Url) -> bool {
    url.scheme() == "https" || url.scheme() == "http" && is_loopback(url)
}

/// An object that says what it has to.
fn parse<T: DeserializeOwned>(document: &[u8]) -> Option<T> {
    // serde would take a list of its values as well.
    let is_object = document.trim_ascii_start().first() == Some(&b'{');
    is_object.then(|| serde_json::from_slice(document).ok()).flatten()
}
