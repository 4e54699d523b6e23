//! The kinds of `upstreamAuth` that are more than a text of the config: what each needs, and what does not go with it.

use std::sync::Arc;

use http::header::AUTHORIZATION;
use url::{Host, Url};

use crate::config::{
    read::context::Context,
    resolve::{
        tenants,
        upstream_auth::{asked::Asked, places},
    },
    table::{COMMAND, UPSTREAM_AUTH, URL},
    upstream_auth::{
        ClientAuthWay, ExchangeProfile, ExchangeSubject, Passthrough, ResourceParameter, SecondExchange,
        ShownAs, TokenExchange, TokenPlace, UpstreamAuth, UpstreamClientKey, UpstreamOauth, UserToken,
    },
};

/// What to say of any of them on a server of the config's own tools.
pub(super) const INLINE: &str = "has no effect on `inline`, whose tools are commands: they call nobody as anybody; remove it, and write what a \
                                 command needs into its `env`";

/// Keys by what they are about.
const ISSUER: &[&str] = &["issuer", "tokenUrl", "scopes", "resource", "allowPrivateIssuers"];
const BROWSER: &[&str] =
    &["authorizationUrl", "revocationUrl", "clientMetadataUrl", "autoRegister", "redirectUrl", "extraParams"];
const CLIENT: &[&str] = &["clientId", "clientSecret", "privateKey", "tokenAuth"];
const PLACE: &[&str] = &["header", "format", "tokenFormat"];
const SHOWN: &[&str] = &["displayName", "awaiting", "elicit"];

pub(super) fn resolve(cx: &mut Context<'_>, kind: &'static str, asked: &Asked<'_>) -> Option<UpstreamAuth> {
    let keys = &asked.keys;
    let groups: &[&[&str]] = match kind {
        "none" => &[],
        "client_credentials" => &[ISSUER, CLIENT, PLACE],
        "user_oauth" | "shared_oauth" => &[ISSUER, BROWSER, CLIENT, PLACE, SHOWN],
        "user_token" => &[PLACE, SHOWN, &["instructions", "helpUrl", "validation"]],
        "exchange" => &[
            CLIENT,
            PLACE,
            &["tokenUrl", "scopes", "resource", "profile", "subject", "audience"],
            &["serverTokenUrl", "serverClientId", "serverClientSecret"],
        ],
        _ => &[&["from", "unsafe"]],
    };
    keys.without_effect(cx, kind, &UPSTREAM_AUTH, groups);
    if matches!(kind, "none" | "passthrough")
        && let Some(at) = &asked.places.first
    {
        return cx.refuse(
            at,
            format!("is of the kind {kind:?}, which has no token for it; write another kind, or remove this"),
        );
    }
    if kind == "none" {
        return None;
    }
    if asked.server.has("inline") {
        return cx.refuse(&asked.at, INLINE);
    }
    needs_oauth(cx, kind, asked);
    let is_per_principal = matches!(kind, "user_oauth" | "user_token" | "exchange");
    if is_per_principal && asked.around.is_public {
        let message =
            "is for callers who are somebody, and with `public: true` nobody has to be; remove one of them";
        cx.error(&asked.at, message);
    }
    if asked.server.has(COMMAND) && !matches!(kind, "user_oauth" | "user_token") {
        let message = format!(
            "is for a server with a `url`: a command gets what is in its `env` once, when it starts; write that there, or the kind \
             \"user_oauth\" or \"user_token\", by which each caller has processes of their own, in place of {kind:?}"
        );
        return cx.refuse(&asked.at, message);
    }
    match kind {
        "client_credentials" => oauth(cx, asked, kind).map(UpstreamAuth::ClientCredentials),
        "user_oauth" => oauth(cx, asked, kind).map(UpstreamAuth::UserOauth),
        "shared_oauth" => oauth(cx, asked, kind).map(UpstreamAuth::SharedOauth),
        "user_token" => user_token(cx, asked).map(UpstreamAuth::UserToken),
        "exchange" => exchange(cx, asked).map(UpstreamAuth::Exchange),
        _ => passthrough(cx, asked).map(UpstreamAuth::Passthrough),
    }
}

/// People connect at pages, and what they get is stored.
fn needs_oauth(cx: &mut Context<'_>, kind: &str, asked: &Asked<'_>) {
    let auth = asked.around.auth;
    let is_of_people = matches!(kind, "user_oauth" | "shared_oauth" | "user_token");
    // One that cannot be read may be meant to be it.
    if is_of_people && auth.is_clear && !auth.oauth.is_on {
        let message = format!(
            "needs `\"kind\": \"oauth\"` and `baseUrl` in `proxy`, by which there are the pages at which people sign in and connect; write that, or \
             \"static\" in place of {kind:?}. Who has a token of the config signs in there with it"
        );
        cx.error(&asked.at, message);
    }
}

fn shown(asked: &Asked<'_>) -> ShownAs {
    ShownAs {
        display_name: asked.keys.display_name.clone().unwrap_or_else(|| asked.around.name.into()),
        awaiting: asked.keys.awaiting,
        elicit: asked.keys.elicit,
    }
}

/// Where the token of a kind goes that has a place by default, or the way to one.
fn token_places(cx: &mut Context<'_>, asked: &Asked<'_>) -> Vec<TokenPlace> {
    let is_command = asked.server.has(COMMAND);
    let places =
        places::resolve(cx, asked.server, &asked.keys, &asked.places, (!is_command).then_some(AUTHORIZATION));
    if is_command && asked.places.first.is_none() {
        no_variable(cx, asked);
    }
    places
}

fn no_variable(cx: &mut Context<'_>, asked: &Asked<'_>) {
    let message = "needs a variable of the command for the token, since a command has no headers: \"env\": { \"TOKEN\": { \"$userToken\": \
                   \"{{token}}\" } }";
    cx.error(&asked.at, message);
}

/// By what the gateway proves itself, if that goes together.
fn client_key(cx: &mut Context<'_>, asked: &Asked<'_>) -> UpstreamClientKey {
    let keys = &asked.keys;
    if keys.has("clientSecret") && keys.has("privateKey") {
        cx.error(&keys.fields.key("privateKey"), "stands in place of `clientSecret`; keep one of them");
    }
    for name in ["clientSecret", "privateKey"] {
        if keys.has(name) && keys.lacks(&["clientId"]) {
            cx.error(
                &keys.fields.key(name),
                "proves that the gateway is a client of some `clientId`; write that, too",
            );
        }
    }
    let missing = match keys.token_auth {
        Some(ClientAuthWay::Basic | ClientAuthWay::Post) if !keys.has("clientSecret") => {
            Some("a `clientSecret`")
        }
        Some(ClientAuthWay::PrivateKeyJwt) if !keys.has("privateKey") => Some("a `privateKey`"),
        _ => None,
    };
    let at = keys.at("tokenAuth");
    if let Some(missing) = missing {
        cx.error(&at, format!("needs {missing}; add it, or write \"auto\""));
    }
    let unused = match keys.token_auth {
        Some(ClientAuthWay::None) => ["clientSecret", "privateKey"].into_iter().find(|name| keys.has(name)),
        _ => None,
    };
    if let Some(name) = unused {
        cx.error(&at, format!("sends no `{name}`, which is there; remove one of them"));
    }
    UpstreamClientKey {
        way: keys.token_auth,
        secret: keys.client_secret.clone(),
        private_key: keys.private_key.clone(),
    }
}

/// `client_credentials`, `user_oauth` and `shared_oauth`.
fn oauth(cx: &mut Context<'_>, asked: &Asked<'_>, kind: &str) -> Option<UpstreamOauth> {
    let keys = &asked.keys;
    let is_machine = kind == "client_credentials";
    let (has_page, has_token) = (keys.has("authorizationUrl"), keys.has("tokenUrl"));
    if !is_machine && has_page != has_token {
        let (this, other) = match has_page {
            true => ("authorizationUrl", "tokenUrl"),
            false => ("tokenUrl", "authorizationUrl"),
        };
        let message = format!("is one of two: with `{other}`, nothing is discovered; write both, or neither");
        cx.error(&keys.fields.key(this), message);
    }
    if is_machine && (keys.lacks(&["clientId"]) || keys.lacks(&["clientSecret", "privateKey"])) {
        let message = "needs a `clientId`, and a `clientSecret` or a `privateKey`: who the gateway is to the issuer, and what proves it";
        cx.error(&asked.at, message);
    }
    if !is_machine && has_page && has_token && keys.lacks(&["clientId"]) {
        let message = "needs a `clientId`: with `authorizationUrl` and `tokenUrl` nothing is discovered, so that the gateway cannot register \
                       itself; add it, or write an `issuer` in place of the two";
        cx.error(&asked.at, message);
    }
    if is_machine && keys.token_auth == Some(ClientAuthWay::None) {
        cx.error(
            &keys.at("tokenAuth"),
            "proves nothing, and a token without a user is for a client that does; remove it",
        );
    }
    if asked.server.has(COMMAND) && !has_token && !keys.has("issuer") {
        let message =
            "needs an `issuer`, or `authorizationUrl` and `tokenUrl`: a command names no issuer itself";
        cx.error(&asked.at, message);
    }
    if keys.has("clientSecret") && !has_token && !keys.has("issuer") {
        let message = "goes to whichever issuer the server names: write the `issuer` of the client, so that no server can have it sent \
                       to one of its own";
        cx.warning(&keys.fields.key("clientSecret"), message);
    }
    let client_key = client_key(cx, asked);
    let places = token_places(cx, asked);
    let base = asked.around.base.map(|base| base.text.value.trim().trim_end_matches('/'));
    Some(UpstreamOauth {
        issuer: keys.issuer.clone(),
        authorization_url: keys.authorization_url.clone(),
        token_url: keys.token_url.clone(),
        revocation_url: keys.revocation_url.clone(),
        client_id: keys.client_id.clone(),
        client_key,
        client_metadata_url: match &keys.client_metadata_url {
            Some(written) => written.clone(),
            None => base.and_then(|base| Url::parse(&format!("{base}{DOCUMENT}")).ok()).filter(is_public),
        },
        registers: keys.registers,
        redirect_uri: if is_machine { None } else { redirect(cx, asked, base) },
        scopes: keys.scopes.clone(),
        resource: keys.resource.clone(),
        extra_params: keys.extra_params.clone(),
        places,
        shown: shown(asked),
        allows_private_issuers: keys.allows_private_issuers,
    })
}

/// Where the gateway says who it is.
const DOCUMENT: &str = "/oauth/client.json";
/// Where browsers come back to, with the server's name behind it.
const CALLBACK: &str = "/oauth/callback";

/// Whether an issuer somewhere can look at it, by its name.
fn is_public(url: &Url) -> bool {
    const PRIVATE: [&str; 8] =
        ["local", "localhost", "internal", "lan", "home", "test", "invalid", "example"];
    let Some(Host::Domain(name)) = url.host() else { return false };
    let last = name.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    url.scheme() == "https" && name.trim_end_matches('.').contains('.') && !PRIVATE.contains(&last)
}

fn redirect(cx: &mut Context<'_>, asked: &Asked<'_>, base: Option<&str>) -> Option<Arc<str>> {
    let base = base?;
    let own = format!("{base}{CALLBACK}/{}", asked.around.name);
    let Some((url, text)) = &asked.keys.redirect_url else { return Some(own.into()) };
    let path = url.path().trim_end_matches('/');
    let is_known =
        path == CALLBACK || path.strip_prefix(CALLBACK) == Some(&*format!("/{}", asked.around.name));
    if !is_known || url.query().is_some() {
        let message = format!(
            "leads to a place where the gateway does not take answers; register {own:?} at the issuer, and remove this"
        );
        return cx.refuse(&text.at, message);
    }
    if Url::parse(base).is_ok_and(|base| base.origin() != url.origin()) {
        let message = format!(
            "is not at `proxy.baseUrl`, and a browser has its cookies at that host alone; register {own:?}, unless both are one host"
        );
        cx.warning(&text.at, message);
    }
    Some(text.value.as_str().into())
}

fn user_token(cx: &mut Context<'_>, asked: &Asked<'_>) -> Option<UserToken> {
    let places = places::resolve(cx, asked.server, &asked.keys, &asked.places, None);
    if asked.places.first.is_none() && !asked.keys.fields.has("header") {
        if asked.server.has(COMMAND) {
            no_variable(cx, asked);
        } else if asked.server.has(URL) {
            let message = "needs a place for the token: \"header\": \"Authorization\" here (as `Bearer` and the token, unless `format` says otherwise), \
                           or in the server \"headers\": { \"X-API-Key\": { \"$userToken\": \"{{token}}\" } }";
            cx.error(&asked.at, message);
        }
    } else if asked.server.has(COMMAND) && asked.keys.fields.has("header") {
        cx.error(
            &asked.keys.fields.key("header"),
            "is for a server with a `url`; write `$userToken` into `env`",
        );
    }
    Some(UserToken {
        places,
        instructions: asked.keys.instructions.clone(),
        help_url: asked.keys.help_url.clone(),
        validation: asked.keys.validation.clone(),
        shown: shown(asked),
    })
}

fn exchange(cx: &mut Context<'_>, asked: &Asked<'_>) -> Option<TokenExchange> {
    let (keys, auth) = (&asked.keys, asked.around.auth);
    if keys.lacks(&["tokenUrl"]) {
        cx.error(
            &asked.at,
            "needs a `tokenUrl`: who changes the caller's token for one that is good at the server",
        );
    }
    let has_issuers = auth.issuers.names.all.as_deref().is_none_or(|names| !names.is_empty());
    match keys.subject {
        ExchangeSubject::Caller if auth.is_clear && !has_issuers => {
            let message = "exchanges the token of another issuer by which a caller comes, and there are no `issuers` in `proxy.auth`; add one";
            cx.error(&asked.at, message);
        }
        // A login keeps nothing that could be exchanged.
        ExchangeSubject::Login => {
            let message = "\"login\" cannot be used yet: the gateway keeps no token of the identity provider; leave it out, for the token of one \
                           of `issuers` by which the caller comes";
            cx.error(&keys.at("subject"), message);
        }
        _ => {}
    }
    let resource: Option<Box<str>> = match &keys.resource {
        ResourceParameter::Is(resource) => Some((&**resource).into()),
        ResourceParameter::Auto | ResourceParameter::Never => None,
    };
    let lacks = |names: &[&str]| keys.lacks(names);
    let missing = match keys.profile {
        ExchangeProfile::TokenExchange if lacks(&["audience", "resource", "scopes"]) => Some(
            "needs an `audience`, a `resource` or `scopes`: without them nothing says for which server the token is",
        ),
        ExchangeProfile::EntraOnBehalfOf if lacks(&["scopes"]) => Some(
            "needs `scopes`, by which Entra knows for which server the token is, as in [\"api://graph/.default\"]",
        ),
        ExchangeProfile::IdJag if lacks(&["audience"]) || lacks(&["serverTokenUrl"]) => Some(
            "needs an `audience`, the issuer of the server, and its `serverTokenUrl`, which takes what the identity provider says",
        ),
        _ => None,
    };
    if let Some(message) = missing {
        cx.error(&keys.at("profile"), message);
    }
    if keys.profile == ExchangeProfile::EntraOnBehalfOf && lacks(&["clientId"]) {
        let message =
            "needs a `clientId`, and a `clientSecret` or `privateKey`: Entra knows the gateway by them";
        cx.error(&keys.at("profile"), message);
    }
    let client_key = client_key(cx, asked);
    let second = match keys.profile {
        ExchangeProfile::IdJag => keys.server_token_url.clone().map(|token_url| SecondExchange {
            token_url,
            client_id: keys.server_client_id.clone().or_else(|| keys.client_id.clone()),
            client_key: match &keys.server_client_secret {
                Some(secret) => {
                    UpstreamClientKey { way: None, secret: Some(secret.clone()), private_key: None }
                }
                None => UpstreamClientKey { way: None, secret: None, private_key: keys.private_key.clone() },
            },
        }),
        _ => {
            for name in ["serverTokenUrl", "serverClientId", "serverClientSecret"] {
                if keys.fields.has(name) {
                    cx.notice(
                        &keys.fields.key(name),
                        "has no effect without `\"profile\": \"id_jag\"`; remove it",
                    );
                }
            }
            None
        }
    };
    let places = token_places(cx, asked);
    Some(TokenExchange {
        profile: keys.profile,
        subject: keys.subject,
        token_url: keys.token_url.clone()?,
        client_id: keys.client_id.clone(),
        client_key,
        audience: keys.audience.clone(),
        resource,
        scopes: keys.scopes.clone(),
        second,
        places,
    })
}

fn passthrough(cx: &mut Context<'_>, asked: &Asked<'_>) -> Option<Passthrough> {
    let keys = &asked.keys;
    if !keys.is_unsafe && !keys.fields.meant.contains(&"unsafe") {
        let message = "sends what a caller gives on to the server as it is: whoever runs that server can use it wherever it is good. Use \
                       \"user_oauth\", \"user_token\" or \"exchange\"; or write `\"unsafe\": true`, if that is meant";
        cx.error(&asked.at, message);
    }
    let Some(from) = &keys.from else {
        if keys.lacks(&["from"]) {
            let message = "needs a `from`: the header of the caller's that goes on, such as \"X-Upstream-Authorization\"";
            cx.error(&asked.at, message);
        }
        return None;
    };
    let at = keys.fields.key("from");
    if *from == AUTHORIZATION {
        if !asked.around.is_public {
            let message = "has what the gateway knows its callers by, which is never passed on: whoever runs the server could come here as \
                           them; take another header, such as \"X-Upstream-Authorization\". Only on a server with `public: true` the gateway \
                           reads no credential";
            return cx.refuse(&at, message);
        }
    } else {
        let name = from.as_str().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let is_of_tenants =
            asked.around.auth.tenant_header.as_ref().is_some_and(|header| header.as_str() == name);
        if tenants::is_taken(&name) || is_of_tenants || name != from.as_str() {
            let message = "is a header that means something to the gateway, or to what is between; take another, such as \
                           \"X-Upstream-Authorization\"";
            return cx.refuse(&at, message);
        }
    }
    let entries = asked.server.get("headers").and_then(|node| node.fields()).map(|fields| fields.entries());
    let same =
        entries.unwrap_or_default().into_iter().find(|(name, ..)| name.eq_ignore_ascii_case("authorization"));
    if let Some((_, at, _)) = same {
        cx.error(&at, "is also where `passthrough` puts what the caller gives; keep one of them");
    }
    if keys.is_unsafe {
        let message = "passes a caller's credential on to the server as it is, which can use it wherever it is good; \"user_oauth\", \"user_token\" \
                       and \"exchange\" do not";
        cx.warning(&asked.at, message);
    }
    Some(Passthrough { from: from.clone() })
}
