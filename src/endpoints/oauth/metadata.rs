//! What clients read before they log in: what a place is and who issues tokens for it (RFC 9728), and what the authorization
//! server can do (RFC 8414).

use std::collections::BTreeSet;

use http::{Response, StatusCode};
use serde_json::json;

use super::request::OauthRequest;
use crate::{
    body::{Payload, response::uncached},
    config::{ClientProof, GrantTypes, OauthClient, OauthConfig, Registration, ScopeWord, Server, Snapshot},
    endpoints::table::{self, Answer, McpEndpoint},
    error::{Error, ErrorKind},
    identity::foreign::jwt::ASYMMETRIC,
};

/// Where clients look for it (RFC 9728 §3.1), in front of the path of the place.
const OF_RESOURCE: &str = "/.well-known/oauth-protected-resource";
/// The profile by which an issuer says for whom a client acts.
const ID_JAG: &str = "urn:ietf:params:oauth:grant-profile:id-jag";
/// Longest query of a place. It comes back in each challenge.
const LONGEST_QUERY: usize = 512;

/// Where the metadata is of the place that a request asked for: `resource_metadata` of a challenge. Clients compare what they find
/// there with what they asked for, so it has the path and the query as they came.
pub fn location(base: &str, path: &str, query: Option<&str>) -> String {
    match place(path, query.filter(|query| is_shown(query))) {
        // Where clients post messages is no place that they were given: they know the stream that told them of it.
        Some(place) if place.endpoint == McpEndpoint::Message => {
            let path = path.trim_end_matches('/').strip_suffix("message").unwrap_or_default();
            format!("{base}{OF_RESOURCE}{path}sse")
        }
        Some(Place { query: Some(query), .. }) => format!("{base}{OF_RESOURCE}{path}?{query}"),
        Some(Place { query: None, .. }) => format!("{base}{OF_RESOURCE}{path}"),
        None => format!("{base}{OF_RESOURCE}"),
    }
}

/// Whether a query may be repeated: it is short, holds no token, and cannot end a quoted string.
fn is_shown(query: &str) -> bool {
    let is_token =
        |field: &str| field.split('=').next().is_some_and(|name| name == "token" || name.contains('%'));
    query.len() <= LONGEST_QUERY && !query.contains(['"', '\\']) && !query.split('&').any(is_token)
}

struct Place<'a> {
    endpoint: McpEndpoint,
    query: Option<&'a str>,
}

/// What has the form of a place, whether there is such a server or not: so names cannot be probed.
fn place<'a>(path: &str, query: Option<&'a str>) -> Option<Place<'a>> {
    let found = table::find(path);
    let Answer::Mcp(endpoint) = found.endpoint.answer else { return None };
    found.server.is_none_or(Server::is_name).then_some(Place { endpoint, query })
}

/// What a place is: `path` and `query` are those of the request. Without OAuth, others alone issue tokens for it.
pub fn of_resource(snapshot: &Snapshot, path: &str, query: Option<&str>) -> Result<Response<Payload>, Error> {
    let base = snapshot.base().filter(|_| snapshot.has_resource_metadata()).ok_or(ErrorKind::NotFound)?;
    let resource = match (path.strip_prefix(OF_RESOURCE).unwrap_or_default(), query) {
        ("" | "/", _) => base.to_string(),
        (path, query) if query.is_none_or(is_shown) && place(path, query).is_some() => match query {
            Some(query) => format!("{base}{path}?{query}"),
            None => format!("{base}{path}"),
        },
        _ => return Err(ErrorKind::NotFound.into()),
    };
    let own = snapshot.oauth.as_ref();
    let mut scopes = vec![ScopeWord::ALL.to_owned()];
    scopes.extend(own.into_iter().flat_map(|config| advertised_tags(config, snapshot)));
    let issuers = snapshot.issuers.iter().map(|issuer| &*issuer.issuer);
    let servers: Vec<_> = own.map(|config| &*config.issuer).into_iter().chain(issuers).collect();
    Ok(answer(&json!({
        "resource": resource,
        "authorization_servers": servers,
        "scopes_supported": scopes,
        "bearer_methods_supported": ["header"],
        "resource_name": snapshot.name,
    })))
}

/// What the authorization server can do.
pub fn of_server(request: &OauthRequest<'_>) -> Result<Response<Payload>, Error> {
    let OauthRequest { config, live, .. } = *request;
    let at = |path: &str| format!("{}{path}", config.base);
    let mut methods = vec!["none", "client_secret_basic", "client_secret_post"];
    let has_keys =
        |client: &OauthClient| matches!(client.proof, ClientProof::Keys(_) | ClientProof::KeysAt(_));
    let signs = config.clients.iter().any(has_keys);
    if signs {
        methods.push("private_key_jwt");
    }
    let mut grants = vec![GrantTypes::CODES, GrantTypes::REFRESH];
    if config.clients.iter().any(OauthClient::is_caller) {
        grants.push(GrantTypes::CREDENTIALS);
    }
    if !config.id_jag.is_empty() {
        grants.push(GrantTypes::ASSERTIONS);
    }
    let mut scopes = vec![ScopeWord::ALL.to_owned(), ScopeWord::OFFLINE.to_owned()];
    scopes.extend(advertised_tags(config, &live.config));
    let rules = live.config.servers.iter().filter_map(|server| server.tool_rules.as_ref());
    let of_tools: BTreeSet<&str> = rules.flat_map(|rules| rules.all_scopes()).collect();
    scopes.extend(of_tools.into_iter().map(str::to_owned));
    let is_open = config.registration != Registration::Off;
    let mut metadata = json!({
        "issuer": &*config.issuer,
        "authorization_endpoint": at("/authorize"),
        "token_endpoint": at("/token"),
        "revocation_endpoint": at("/revoke"),
        "introspection_endpoint": at("/oauth/introspect"),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": grants,
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": methods,
        "revocation_endpoint_auth_methods_supported": methods,
        "introspection_endpoint_auth_methods_supported": &methods[1..],
        "scopes_supported": scopes,
        "authorization_response_iss_parameter_supported": true,
        "client_id_metadata_document_supported": is_open,
    });
    if signs {
        let algorithms = ASYMMETRIC.map(|algorithm| format!("{algorithm:?}"));
        for endpoint in ["token", "revocation", "introspection"] {
            metadata[format!("{endpoint}_endpoint_auth_signing_alg_values_supported")] = json!(algorithms);
        }
    }
    if !config.id_jag.is_empty() {
        // Enterprise-Managed Authorization of MCP §6.
        metadata["authorization_grant_profiles_supported"] = json!([ID_JAG]);
    }
    if is_open {
        metadata["registration_endpoint"] = at("/register").into();
    }
    Ok(answer(&metadata))
}

/// The scopes of tags, if anybody may know them.
fn advertised_tags(config: &OauthConfig, snapshot: &Snapshot) -> impl Iterator<Item = String> {
    let is_shown = config.advertise_tags && config.offers_tags;
    let servers = snapshot.servers.iter().filter(move |_| is_shown);
    let tags: BTreeSet<&String> = servers.flat_map(|server| &server.tags).collect();
    let tags: Vec<_> =
        tags.into_iter().filter(|tag| is_word(tag)).map(|tag| ScopeWord::Tag(tag).to_string()).collect();
    tags.into_iter()
}

/// Whether a tag can be a part of a scope (RFC 6749 §3.3).
fn is_word(tag: &str) -> bool {
    tag.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte))
}

fn answer(metadata: &serde_json::Value) -> Response<Payload> {
    uncached(StatusCode::OK, "application/json", metadata.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_the_form_of_one_whether_there_is_such_a_server_or_not() {
        let is_place = |path: &str| place(path, None).is_some();
        for good in ["/mcp", "/sse/", "/message", "/db", "/db/", "/db/mcp", "/none/sse", "/a_b-C9/message/"] {
            assert!(is_place(good), "{good}");
        }
        for bad in [
            "/",
            "",
            "/health",
            "/servers/db",
            "/oauth",
            "/token",
            "/db/other",
            "/db/mcp/x",
            "/mcp/mcp",
            "/d\"b/mcp",
            "/d.b",
            &format!("/{}", "n".repeat(65)),
        ] {
            assert!(!is_place(bad), "{bad}");
        }
    }

    #[test]
    fn a_query_is_repeated_unless_it_holds_a_token_or_could_end_a_quoted_string() {
        for good in ["", "a=b", "tokens=1&x=token", "servers=a,b&x=%22"] {
            assert!(is_shown(good), "{good}");
        }
        for bad in ["token=x", "a=b&token", "%74oken=x", "a=\"", "a=\\", &"x".repeat(513)] {
            assert!(!is_shown(bad), "{bad}");
        }
    }
}
