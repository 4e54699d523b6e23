//! `proxy.auth.idp` and `allowedDomains`: an identity provider, and whom of its people the gateway admits.

use std::sync::Arc;

use url::Url;

use crate::{
    config::{
        idp::{IdpConfig, IdpProvider},
        issuers::Assignment,
        read::{
            context::Context,
            fields::Fields,
            reader::{Node, ReadText},
            reference::TextSource,
        },
        report::problem::Location,
        resolve::{bind, oauth},
        table::IDP_OBJECT,
    },
    secret::Secret,
};

/// Where browsers come back to.
const CALLBACK: &str = "/oauth/callback";
/// What the standard puts behind an issuer (OpenID Connect Discovery §4).
const DISCOVERY: &str = "/.well-known/openid-configuration";
/// MCP Front's names for what `idp` has.
const GOOGLE_KEYS: [&str; 3] = ["googleClientId", "googleClientSecret", "googleRedirectUri"];

/// What the keys say.
#[derive(Debug, Default)]
pub(crate) struct ReadIdp {
    /// The provider, if all of it is good. Its `redirect_uri` is empty where the config does not say it.
    known: Option<IdpConfig>,
    /// Which kind it is, whatever else is wrong with it.
    provider: Option<IdpProvider>,
    /// What can be read of `allowedDomains`, if there is one, whatever is wrong with the rest.
    domains: Option<Admitting>,
    /// The same of `allowedOrgs`.
    orgs: Option<Admitting>,
    /// Whether one is meant, whatever is wrong with it.
    pub(crate) is_there: bool,
    /// Whether no slip has hidden whether there is one.
    is_clear: bool,
    /// Whether there are pages at which people log in.
    is_on: bool,
    at: Location,
    redirect_at: Option<Location>,
}

/// A list of those who are let in. An empty one lets in everybody.
#[derive(Debug, Clone, Default)]
struct Admitting {
    /// What of it is good.
    names: Vec<String>,
    /// Whether that is all of it.
    is_whole: bool,
}

impl Admitting {
    /// Those who are let in still, if the list says so. What cannot be read lets in nobody.
    fn left(of: Option<&Self>) -> Option<&[String]> {
        of.filter(|of| !of.is_whole || !of.names.is_empty()).map(|of| &*of.names)
    }
}

impl ReadIdp {
    /// What a config says that has none of the keys.
    pub(super) fn none() -> Self {
        Self { is_clear: true, ..Self::default() }
    }

    /// The provider that the file has, or none; `None` if that cannot be known. One with a mistake may be meant to be as it was: what
    /// ends with it does not come back.
    pub(super) fn remaining(&self) -> Option<Option<Arc<IdpConfig>>> {
        match (self.is_clear, self.is_there, &self.known) {
            (false, ..) | (true, true, None) => None,
            (true, false, _) => Some(None),
            (true, true, Some(known)) => Some(Some(Arc::new(known.clone()))),
        }
    }

    /// Whom the file lets in still, if it says that, whatever else is wrong with it: people of these domains, and of these organizations.
    pub(super) fn remaining_admitted(&self) -> [Option<Vec<String>>; 2] {
        [&self.domains, &self.orgs].map(|list| Admitting::left(list.as_ref()).map(<[_]>::to_vec))
    }

    /// Whether people are meant to log in by it.
    pub(crate) fn has_people(&self) -> bool {
        self.is_there && self.is_on
    }

    /// As whom `assign` may name it.
    pub(super) fn name(&self) -> Option<Arc<str>> {
        self.provider.map(|provider| provider.name().into())
    }
}

/// Reads the keys. `is_on`: whether it is `"kind": "oauth"`.
pub(super) fn read(cx: &mut Context<'_>, auth: &Fields<'_>, is_on: bool) -> ReadIdp {
    let mut flat: Vec<_> = GOOGLE_KEYS.into_iter().filter(|name| auth.has(name)).collect();
    let has_idp = auth.has("idp");
    let domains = auth.has("allowedDomains").then(|| domains(cx, auth));
    let lets_in_anybody = match &domains {
        Some(domains) => domains.is_whole && domains.names.is_empty(),
        // Perhaps it is there by another name.
        None => !auth.has_unknown(),
    };
    if !auth.has(GOOGLE_KEYS[0]) {
        for name in flat.drain(..).filter(|_| !has_idp) {
            cx.notice(&auth.key(name), "has no effect without `googleClientId`; add that, or remove it");
        }
        google_keys(cx, auth, &mut ReadIdp::default());
    }
    let is_there = has_idp || !flat.is_empty();
    let at = auth.key(if has_idp { "idp" } else { flat.first().copied().unwrap_or("idp") });
    let mut read = ReadIdp {
        is_there,
        is_clear: has_idp || !auth.has_unknown(),
        domains,
        is_on,
        at: at.clone(),
        ..ReadIdp::default()
    };
    if !is_there {
        if auth.has("allowedDomains") {
            cx.notice(
                &auth.key("allowedDomains"),
                "has no effect without `idp`, whose people it is about; add one, or remove it",
            );
        }
        return read;
    }
    if has_idp && let Some(name) = flat.first() {
        cx.error(&auth.key(name), "is the same as a key of `idp`; keep that one");
    }
    if !is_on {
        let message = "has no effect without `\"kind\": \"oauth\"`, by which people come to the page where they log in; write that, or \
                       remove it";
        cx.notice(&at, message);
    }
    let found = cx.whole(|cx| match auth.get("idp") {
        Some(node) => object(cx, &node, &mut read),
        None => google(cx, auth, &mut read),
    });
    let assigns = auth.get("assign").and_then(|node| node.elements()).is_some_and(|all| !all.is_empty());
    let has_orgs = found.as_ref().is_none_or(|idp| !idp.allowed_orgs.is_empty());
    // What cannot be read is what is reported.
    if !has_orgs && !assigns && lets_in_anybody {
        if auth.has("allowedDomains") {
            let message = "is empty, so that everybody is let in who has an account there; name a domain, or write `allowedOrgs` or `assign`";
            cx.error(&auth.key("allowedDomains"), message);
        } else if auth.lacks(&["allowedDomains"]) {
            let message = "needs `allowedDomains`, `allowedOrgs` or `assign` that say whom it lets in: without them, that is everybody who \
                           has an account there";
            cx.error(&at, message);
        }
    }
    let allowed_domains = read.domains.as_ref().map_or(Vec::new(), |domains| domains.names.clone());
    read.known = found.map(|idp| IdpConfig { allowed_domains, ..idp });
    read
}

/// The provider, with what depends on the rest of `proxy`.
pub(super) fn resolve(
    cx: &mut Context<'_>,
    read: &ReadIdp,
    base: &str,
    assignments: &[Assignment],
) -> Option<Arc<IdpConfig>> {
    let mut idp = read.known.clone()?;
    let has_list = !idp.allowed_domains.is_empty() || !idp.allowed_orgs.is_empty();
    if !has_list && !assignments.is_empty() && !assignments.iter().any(Assignment::admits) {
        let message = "needs `allowedDomains`, `allowedOrgs`, or an entry of `assign` that says whom it lets in and gives them something: a \
                       condition that names only the provider, or only `email_verified`, is met by everybody who has an account there";
        cx.error(&read.at, message);
    }
    let own = format!("{base}{CALLBACK}");
    if idp.redirect_uri.is_empty() {
        idp.redirect_uri = own.into();
        return Some(Arc::new(idp));
    }
    let path = Url::parse(&idp.redirect_uri).map(|url| url.path().trim_end_matches('/').to_owned());
    let at = read.redirect_at.as_ref().unwrap_or(&read.at);
    if path.is_ok_and(|path| path != CALLBACK) {
        let message = format!(
            "leads to a place where the gateway does not take answers; register {own:?} at the provider, and remove this"
        );
        cx.error(at, message);
    } else if *idp.redirect_uri != own {
        let message = format!(
            "is not {own:?}, and a browser has its cookies at the host of `proxy.baseUrl` alone; register that one, unless both are one host"
        );
        cx.warning(at, message);
    }
    Some(Arc::new(idp))
}

/// `idp`
fn object(cx: &mut Context<'_>, node: &Node<'_>, read: &mut ReadIdp) -> Option<IdpConfig> {
    let fields = node.object(cx, &IDP_OBJECT)?;
    for (name, example) in [("provider", "\"google\""), ("clientId", "what the provider calls the gateway")] {
        if fields.lacks(&[name]) {
            cx.error(&node.at, format!("needs a `{name}`: {example}"));
        }
    }
    let provider = match fields.word(cx, "provider") {
        Some("google") => Some(IdpProvider::Google),
        Some("github") => Some(IdpProvider::Github),
        Some("azure") => Some(IdpProvider::Azure),
        Some("oidc") => Some(IdpProvider::Oidc),
        _ => None,
    };
    read.provider = provider;
    let client_id = fields.text(cx, "clientId").and_then(|text| word(cx, text));
    let client_secret = fields.get("clientSecret").and_then(|node| secret(cx, &node));
    let redirect_uri = fields.text(cx, "redirectUri").and_then(|text| redirect(cx, text, read));
    let place = |cx: &mut Context<'_>, name| fields.text_or_null(cx, name).and_then(|text| url(cx, &text));
    let (discovery_url, authorization_url) = (place(cx, "discoveryUrl"), place(cx, "authorizationUrl"));
    let (token_url, user_info_url) = (place(cx, "tokenUrl"), place(cx, "userInfoUrl"));
    let written = fields.text(cx, "issuer").filter(|text| url(cx, text).is_some());
    let tenant = fields.text_or_null(cx, "tenantId").and_then(|text| Some((tenant_id(cx, &text)?, text.at)));
    let tenant_id = match (tenant, provider) {
        (Some((id, _)), Some(IdpProvider::Azure)) => Some(id),
        (Some((_, at)), Some(_)) => {
            cx.notice(&at, "has no effect, because only `azure` has tenants; remove it");
            None
        }
        (None, Some(IdpProvider::Azure))
            if fields.lacks(&["tenantId"]) || fields.get("tenantId").is_some_and(|node| node.is_null()) =>
        {
            cx.refuse(
                &fields.key("tenantId"),
                "is missing: of `azure`, it says whose people may come; write the id of your tenant",
            )
        }
        _ => None,
    };
    let scopes = scopes(cx, &fields);
    read.orgs = fields.has("allowedOrgs").then(|| orgs(cx, &fields));
    let allowed_orgs = read.orgs.as_ref().map_or(Vec::new(), |orgs| orgs.names.clone());
    let recheck = fields.duration(cx, "recheck");
    if let (Some(text), Some(IdpProvider::Google | IdpProvider::Github | IdpProvider::Azure)) =
        (&written, provider)
    {
        cx.notice(&text.at, "has no effect, because the issuer of this provider is known; remove it");
    }
    let provider = provider?;
    let issuer: Arc<str> = match provider {
        IdpProvider::Google => IdpConfig::GOOGLE.into(),
        IdpProvider::Github => IdpConfig::GITHUB.into(),
        IdpProvider::Azure => IdpConfig::azure_issuer(&tenant_id.clone()?).into(),
        IdpProvider::Oidc => match (written, &discovery_url) {
            (Some(text), _) => text.value.into(),
            (None, Some(discovery)) => match discovery.as_str().strip_suffix(DISCOVERY) {
                Some(issuer) => issuer.into(),
                None => {
                    let message = "is not where the standard puts it, so that it does not say what the issuer is; write `issuer`, too";
                    return cx.refuse(&fields.key("discoveryUrl"), message);
                }
            },
            (None, None) => {
                if fields.lacks(&["issuer", "discoveryUrl"]) {
                    let message = "needs an `issuer`, or a `discoveryUrl`, which say whose people they are";
                    cx.error(&node.at, message);
                }
                return None;
            }
        },
    };
    Some(IdpConfig {
        provider,
        issuer,
        discovery_url,
        client_id: client_id?.into(),
        client_secret,
        redirect_uri: redirect_uri.unwrap_or_default().into(),
        authorization_url,
        token_url,
        user_info_url,
        scopes,
        tenant_id,
        allowed_orgs,
        allowed_domains: Vec::new(),
        recheck: recheck?,
    })
}

/// The same in MCP Front's words.
fn google(cx: &mut Context<'_>, auth: &Fields<'_>, read: &mut ReadIdp) -> Option<IdpConfig> {
    read.provider = Some(IdpProvider::Google);
    let client_id = auth.text(cx, "googleClientId").and_then(|text| word(cx, text));
    let (client_secret, redirect_uri) = google_keys(cx, auth, read);
    Some(IdpConfig {
        provider: IdpProvider::Google,
        issuer: IdpConfig::GOOGLE.into(),
        discovery_url: None,
        client_id: client_id?.into(),
        client_secret,
        redirect_uri: redirect_uri.unwrap_or_default().into(),
        authorization_url: None,
        token_url: None,
        user_info_url: None,
        scopes: Vec::new(),
        tenant_id: None,
        allowed_orgs: Vec::new(),
        allowed_domains: Vec::new(),
        recheck: IdpConfig::RECHECK,
    })
}

fn google_keys(
    cx: &mut Context<'_>,
    auth: &Fields<'_>,
    read: &mut ReadIdp,
) -> (Option<Secret>, Option<String>) {
    let client_secret = auth.get("googleClientSecret").and_then(|node| secret(cx, &node));
    let redirect_uri = auth.text(cx, "googleRedirectUri").and_then(|text| redirect(cx, text, read));
    (client_secret, redirect_uri)
}

/// `allowedDomains`
fn domains(cx: &mut Context<'_>, auth: &Fields<'_>) -> Admitting {
    admitting(cx, auth, "allowedDomains", |cx, text| {
        let is_domain = !text.value.is_empty()
            && !text.value.contains(|c: char| c.is_whitespace() || c.is_control() || c == '@' || c == '*');
        match is_domain {
            true => Some(text.value.to_ascii_lowercase()),
            false => cx.refuse(
                &text.at,
                "is no domain; write what is behind the `@`, all of it, as in \"company.com\"",
            ),
        }
    })
}

/// `allowedOrgs`
fn orgs(cx: &mut Context<'_>, idp: &Fields<'_>) -> Admitting {
    admitting(cx, idp, "allowedOrgs", |cx, text| match text.value.trim().is_empty() {
        true => cx.refuse(&text.at, "is empty; write a word, or remove it"),
        false => Some(text.value),
    })
}

/// What can be read of such a list that is there.
fn admitting(
    cx: &mut Context<'_>,
    fields: &Fields<'_>,
    name: &str,
    mut read: impl FnMut(&mut Context<'_>, ReadText) -> Option<String>,
) -> Admitting {
    let mut names = Vec::new();
    let is_whole = cx.whole(|cx| {
        names.extend(fields.texts(cx, name)?.into_iter().filter_map(|text| read(cx, text)));
        Some(())
    });
    Admitting { names, is_whole: is_whole.is_some() }
}

fn scopes(cx: &mut Context<'_>, fields: &Fields<'_>) -> Vec<String> {
    let mut scopes = Vec::new();
    for text in fields.texts(cx, "scopes").unwrap_or_default() {
        match super::callers::is_scope(&text.value) {
            true => scopes.push(text.value),
            false => cx.error(&text.at, super::callers::NO_SCOPE),
        }
    }
    scopes
}

fn tenant_id(cx: &mut Context<'_>, text: &ReadText) -> Option<String> {
    let is_name = !text.value.is_empty()
        && text.value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte));
    let lower = text.value.to_ascii_lowercase();
    match &*lower {
        "common" | "organizations" | "consumers" => cx.refuse(
            &text.at,
            "is everybody who has an account at Microsoft; write the id of your tenant, as in \"72f988bf-86f1-41af-91ab-2d7cd011db47\"",
        ),
        _ if !is_name => cx.refuse(&text.at, "is no id of a tenant; write it as Entra shows it"),
        _ => Some(lower),
    }
}

fn word(cx: &mut Context<'_>, text: ReadText) -> Option<String> {
    match text.value.trim().is_empty() {
        true => cx.refuse(&text.at, "is empty; write what the provider calls the gateway"),
        false => Some(text.value),
    }
}

fn secret(cx: &mut Context<'_>, node: &Node<'_>) -> Option<Secret> {
    let text = node.secret(cx)?;
    if text.value.trim().is_empty() {
        return cx.refuse(&text.at, "is empty; write the secret that the provider gave, or remove it");
    }
    if text.origin == TextSource::Literal {
        cx.plain_secret.get_or_insert(text.at.clone());
    }
    Some(Secret::new(text.value))
}

fn redirect(cx: &mut Context<'_>, text: ReadText, read: &mut ReadIdp) -> Option<String> {
    url(cx, &text)?;
    read.redirect_at = Some(text.at);
    Some(text.value)
}

/// A URL of the provider, or of the gateway for it.
fn url(cx: &mut Context<'_>, text: &ReadText) -> Option<Url> {
    let url = bind::http_url(cx, &text.value, &text.at)?;
    if text.value.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return cx.refuse(&text.at, "has a blank in it; remove that");
    }
    if !oauth::is_safe(&url) {
        let message = "is http://, over which anybody on the way could log in as somebody else; write https://, or use a loopback address";
        return cx.refuse(&text.at, message);
    }
    Some(url)
}
