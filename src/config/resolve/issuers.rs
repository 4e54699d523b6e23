//! `proxy.auth.issuers` and `assign`: whose tokens are taken beside the gateway's own, and what those who come with them are given.

use std::{str::FromStr, sync::Arc};

use jsonwebtoken::Algorithm;
use url::Url;

use crate::config::{
    access::Rule,
    issuers::{Assignment, Condition, Introspection, Issuer},
    names::{is_format, user_name_fault},
    read::{
        context::Context,
        fields::Fields,
        reader::{Node, ReadText},
        reference::TextSource,
    },
    report::{hint, problem::Location, shown},
    resolve::{
        bind,
        callers::{KnownNames, caller_limits, words},
        idp::ReadIdp,
        oauth,
    },
    rule_lines::RuleOf,
    table::{ALGORITHMS, ASSIGNMENT, CONDITION, INTROSPECTION, ISSUER},
};
use crate::secret::Secret;

/// What the two keys say.
#[derive(Debug, Default)]
pub(crate) struct ReadIssuers {
    /// Every name in `issuers`.
    pub(super) names: KnownNames,
    /// Every issuer of whom all is good.
    pub(crate) known: Vec<Arc<Issuer>>,
    /// Every entry of which the condition is good.
    pub(crate) assignments: Vec<Assignment>,
    /// Whether no slip has hidden issuers.
    pub(crate) are_clear: bool,
    /// The same of assignments.
    pub(crate) are_assignments_clear: bool,
    /// Whether people log in by an identity provider.
    has_idp: bool,
    /// The places of those that have no `audiences`.
    without_audiences: Vec<Location>,
}

impl ReadIssuers {
    /// What a config says that has neither key.
    pub(crate) fn none() -> Self {
        let names = KnownNames::of(Vec::new());
        Self { names, are_clear: true, are_assignments_clear: true, ..Self::default() }
    }

    /// The roles that somebody may have, of whom these issuers know.
    pub(crate) fn roles(&self) -> Vec<String> {
        let of_some = self.assignments.iter().filter(|_| self.has_idp || !self.known.is_empty());
        of_some.flat_map(|assignment| &assignment.roles).cloned().collect()
    }
}

/// Reads the keys. `servers`: the names of the servers; what tags leave to callers goes into `tag_limits`.
pub(super) fn read(
    cx: &mut Context<'_>,
    auth: &Fields<'_>,
    idp: &ReadIdp,
    servers: &[&str],
    tag_limits: &mut Vec<(Location, Vec<String>)>,
) -> ReadIssuers {
    let mut read = ReadIssuers { has_idp: idp.has_people(), ..ReadIssuers::none() };
    read.are_clear = auth.has("issuers") || !auth.has_unknown();
    read.are_assignments_clear = auth.has("assign") || !auth.has_unknown();
    if let Some(node) = auth.get("issuers") {
        let what = "an object with a name for each issuer, as in { \"corp\": { \"issuer\": \"https://login.corp.example\" } }";
        match node.map_as(cx, what) {
            Some(entries) => read.names = KnownNames::of(read_issuers(cx, &entries, idp, &mut read)),
            None => (read.names, read.are_clear) = (KnownNames::default(), false),
        }
    }
    if let Some(node) = auth.get("assign") {
        let key = auth.key("assign");
        let mut names = read.names.clone();
        if idp.is_there {
            // One with a mistake may be meant by any name.
            names = idp.name().map_or_else(KnownNames::default, |name| names.and(name));
        } else if auth.lacks(&["issuers"]) {
            let message = "has no effect, because there are no `issuers` whose tokens it could be for, and no `idp`; add one, or remove it";
            cx.notice(&key, message);
        }
        for rule in [Rule::OwnRoles, Rule::OwnServers, Rule::OwnTags] {
            cx.rules.push((RuleOf::Auth, rule, key.clone()));
        }
        let entries = node.list(cx);
        read.are_assignments_clear = entries.is_some();
        for node in entries.unwrap_or_default() {
            let found = assignment(cx, &node, &names, servers, tag_limits);
            read.assignments.extend(found);
        }
    }
    read
}

/// What a token is for is a URL of the gateway, or a word that the config has for it. `has_base`: whether `proxy.baseUrl` is there.
pub(super) fn refuse_without_audience(cx: &mut Context<'_>, read: &ReadIssuers, has_base: bool) {
    for at in read.without_audiences.iter().filter(|_| !has_base) {
        let message = "needs `proxy.baseUrl`, or `audiences`: without them, no `aud` says that a token is for this gateway; set one \
                       of them";
        cx.error(at, message);
    }
}

/// Reads all issuers, and says which names there are.
fn read_issuers(
    cx: &mut Context<'_>,
    entries: &Fields<'_>,
    idp: &ReadIdp,
    read: &mut ReadIssuers,
) -> Vec<Arc<str>> {
    let mut names: Vec<Arc<str>> = Vec::new();
    for (name, key, node) in entries.entries() {
        let name: Arc<str> = name.into();
        names.push(Arc::clone(&name));
        if idp.name().is_some_and(|of_idp| of_idp == name) {
            cx.error(&key, "is also what `assign` calls the people of `idp`; rename it");
        }
        let issuer = cx.whole(|cx| {
            if user_name_fault(&name).is_some() {
                let message = "an issuer needs a name of 1 to 128 characters on one line, without a colon, blanks at its ends and \
                               what nobody sees, and not `*`: who comes with its tokens is called `jwt:NAME:SUBJECT`";
                cx.error(&key, message);
            }
            issuer(cx, name, &node)
        });
        let Some(issuer) = issuer else { continue };
        if let Some(other) = read.known.iter().find(|other| other.issuer == issuer.issuer) {
            let message = format!(
                "has the same `issuer` as {:?}, and a token does not say which of them is meant; keep one of them",
                shown::name_or_hidden(&other.name)
            );
            cx.error(&key, message);
            continue;
        }
        if let Some(message) = unclear_prefix(&issuer, &read.known) {
            cx.error(&key, message);
            continue;
        }
        if issuer.audiences.is_empty() {
            read.without_audiences.push(key);
        }
        read.known.push(Arc::new(issuer));
    }
    names
}

/// What there is to say if a token could be one of this issuer and of another one: whoever is asked about a token gets it.
fn unclear_prefix(issuer: &Issuer, known: &[Arc<Issuer>]) -> Option<String> {
    let prefix = |of: &Issuer| Some(of.introspection.as_ref()?.token_prefix.clone().unwrap_or_default());
    let own = prefix(issuer)?;
    let is_unclear = |other: &&Arc<Issuer>| {
        prefix(other).is_some_and(|other| other.starts_with(&*own) || own.starts_with(&*other))
    };
    let other = known.iter().find(is_unclear)?;
    Some(format!(
        "is asked about tokens, as {:?} is, and a token does not say whose it is; give each of them an `introspection.tokenPrefix`, \
         neither of which begins with the other",
        shown::name_or_hidden(&other.name)
    ))
}

/// How an issuer is asked about tokens.
fn introspection(cx: &mut Context<'_>, node: &Node<'_>) -> Option<Introspection> {
    let fields = node.object(cx, &INTROSPECTION)?;
    for (key, what) in [
        ("url", "a `url`, at which the issuer answers"),
        ("clientId", "a `clientId`, as which the gateway asks"),
        ("clientSecret", "a `clientSecret`, since an issuer tells nobody else what a token is"),
    ] {
        if fields.lacks(&[key]) {
            cx.error(&node.at, format!("needs {what}"));
        }
    }
    let url = fields.text(cx, "url").and_then(|text| url(cx, &text, true));
    let client_id = fields.text(cx, "clientId").and_then(|text| word(cx, text));
    let client_secret = fields.get("clientSecret").and_then(|node| client_secret(cx, &node));
    let cache_ttl = fields.duration(cx, "cacheTtl");
    if cache_ttl.is_some_and(|ttl| ttl > Introspection::LONGEST_CACHE_TTL) {
        let message = "is longer than 10 minutes, and a token that is revoked opens the gateway so long; ask more often";
        cx.error(&fields.key("cacheTtl"), message);
    }
    let token_prefix = fields.text(cx, "tokenPrefix");
    if let Some(text) = &token_prefix
        && !is_beginning(&text.value)
    {
        cx.error(
            &text.at,
            "is no beginning of a token; write letters, digits and `.`, `_`, `~`, `+`, `/` or `-`",
        );
    }
    Some(Introspection {
        url: url?,
        client_id: client_id?,
        client_secret: client_secret?,
        cache_ttl: cache_ttl?,
        token_prefix: token_prefix.map(|text| text.value),
    })
}

/// Whether a token may begin so (RFC 6750 §2.1).
fn is_beginning(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._~+/-".contains(&byte))
}

fn client_secret(cx: &mut Context<'_>, node: &Node<'_>) -> Option<Secret> {
    node.part_of_file(cx, |cx| {
        let text = node.secret(cx)?;
        if text.value.trim().is_empty() {
            return cx.refuse(&text.at, "is empty; write the secret that the issuer knows the gateway by");
        }
        if text.origin == TextSource::Literal {
            cx.plain_secret.get_or_insert(text.at.clone());
        }
        Some(Secret::new(text.value))
    })
}

fn issuer(cx: &mut Context<'_>, name: Arc<str>, node: &Node<'_>) -> Option<Issuer> {
    let fields = node.object(cx, &ISSUER)?;
    if fields.lacks(&["issuer"]) {
        cx.error(&node.at, "needs an `issuer`: the URL that `iss` of its tokens is");
    }
    let issuer = fields.text(cx, "issuer").filter(|text| url(cx, text, false).is_some());
    let jwks_url = fields.text_or_null(cx, "jwksUrl").and_then(|text| url(cx, &text, true));
    let audiences = words(cx, &fields, "audiences").unwrap_or_default();
    let algorithms = algorithms(cx, &fields);
    let types = types(cx, &fields);
    for (key, is_empty) in [("algorithms", algorithms.is_empty()), ("typ", types.is_empty())] {
        if is_empty && fields.get(key).and_then(|node| node.elements()).is_some_and(|all| all.is_empty()) {
            cx.warning(&fields.key(key), "is empty, so that no token is taken; name some, or remove it");
        }
    }
    if types.iter().any(|of| of == "jwt") {
        let message = "takes \"JWT\", which ID tokens have too: they are told from access tokens by `aud` alone, so let `audiences` \
                       have none that a client logs in with";
        cx.notice(&fields.key("typ"), message);
    }
    let principal_claim = fields.text(cx, "principalClaim").and_then(|text| word(cx, text));
    match principal_claim.as_deref() {
        Some("email") => {
            let message = "is an address, which may be given to somebody else, or not be verified; use \"sub\", and `email` in `assign`";
            cx.error(&fields.key("principalClaim"), message);
        }
        Some("preferred_username" | "upn" | "name" | "nickname") => {
            let message = "is a name that people may change, or be given after somebody else, and what is that one's is theirs then; use \"sub\"";
            cx.warning(&fields.key("principalClaim"), message);
        }
        _ => {}
    }
    let scope_claim = fields.text_or_null(cx, "scopeClaim").and_then(|text| word(cx, text));
    let tenant_id = fields.text(cx, "tenantId").and_then(|text| word(cx, text));
    let leeway = fields.duration(cx, "leeway");
    if leeway.is_some_and(|leeway| leeway > Issuer::LONGEST_LEEWAY) {
        let message = "is longer than 5 minutes, so that tokens would be good long after their end; set the clocks instead";
        cx.error(&fields.key("leeway"), message);
    }
    let introspection = match fields.get("introspection") {
        Some(node) => Some(introspection(cx, &node)?),
        None => None,
    };
    Some(Issuer {
        name,
        issuer: issuer?.value.into(),
        jwks_url,
        audiences,
        algorithms,
        types,
        principal_claim: principal_claim?,
        scope_claim,
        tenant_id,
        leeway: leeway?,
        stream_grace: fields.duration(cx, "streamGrace")?,
        introspection,
    })
}

/// A text that is not empty.
fn word(cx: &mut Context<'_>, text: ReadText) -> Option<String> {
    match text.value.trim().is_empty() {
        true => cx.refuse(&text.at, "is empty; write a word, or remove it"),
        false => Some(text.value),
    }
}

/// A URL of an issuer. It is compared, and shown to nobody, as it is written.
pub(super) fn url(cx: &mut Context<'_>, text: &ReadText, may_have_query: bool) -> Option<Url> {
    let url = bind::http_url(cx, &text.value, &text.at)?;
    if text.value.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return cx.refuse(&text.at, "has a blank in it, and is compared byte by byte; remove it");
    }
    if url.query().is_some() && !may_have_query {
        return cx
            .refuse(&text.at, "has a query, which no issuer has (RFC 8414 §2); end it in front of the `?`");
    }
    if !oauth::is_safe(&url) {
        let message = "is http://, over which anybody on the way could give the gateway keys of his own; write https://, or use a \
                       loopback address";
        return cx.refuse(&text.at, message);
    }
    Some(url)
}

fn algorithms(cx: &mut Context<'_>, fields: &Fields<'_>) -> Vec<Algorithm> {
    let mut algorithms = Vec::new();
    for text in fields.texts(cx, "algorithms").unwrap_or_default() {
        let known = ALGORITHMS.find(&text.value).and_then(|word| Algorithm::from_str(word).ok());
        let upper = text.value.to_ascii_uppercase();
        match known {
            Some(algorithm) if algorithms.contains(&algorithm) => {}
            Some(algorithm) => algorithms.push(algorithm),
            None if upper == "NONE" => {
                let message = "is no signature, so that anybody could write a token; remove it";
                cx.error(&text.at, message);
            }
            None if upper.starts_with("HS") => {
                let message = "has one secret that both makes and checks tokens, so that whoever can check one could write any; let \
                               the issuer sign with a key pair, such as \"RS256\" or \"ES256\"";
                cx.error(&text.at, message);
            }
            None => cx.error(&text.at, format!("{} {}", text.shown(), ALGORITHMS.otherwise)),
        }
    }
    algorithms
}

/// Values of `typ`, as they are compared: media types, which have no letter case, and of which `application/` may be left out
/// (RFC 7515 §4.1.9).
fn types(cx: &mut Context<'_>, fields: &Fields<'_>) -> Vec<String> {
    let mut types = Vec::new();
    for text in fields.texts(cx, "typ").unwrap_or_default() {
        let whole = text.value.to_ascii_lowercase();
        let is_name = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphanumeric())
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte))
        };
        let (kind, name) = whole.split_once('/').unwrap_or(("application", &whole));
        if !is_name(name) || kind.is_empty() || !kind.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            cx.error(&text.at, "is no type; write it as `typ` of a token has it, as in \"at+jwt\"");
            continue;
        }
        types.push(whole.strip_prefix("application/").unwrap_or(&whole).to_owned());
    }
    types
}

/// An entry of `assign`, if whom it is for is certain.
fn assignment(
    cx: &mut Context<'_>,
    node: &Node<'_>,
    issuers: &KnownNames,
    servers: &[&str],
    tag_limits: &mut Vec<(Location, Vec<String>)>,
) -> Option<Assignment> {
    let fields = node.object(cx, &ASSIGNMENT)?;
    let condition = match fields.get("if") {
        Some(node) => cx.whole(|cx| condition(cx, &node, issuers)),
        None => {
            if fields.lacks(&["if"]) {
                let message =
                    "needs an `if` that says whom it is for, as in { \"email\": \"*@corp.example\" }";
                cx.error(&node.at, message);
            }
            None
        }
    };
    let roles = words(cx, &fields, "roles").unwrap_or_default();
    let limits = caller_limits(cx, &fields, servers, tag_limits);
    if fields.lacks(&["roles", "servers", "tags"]) && !fields.has_unknown() {
        cx.warning(&node.at, "gives nothing; add `roles`, `servers` or `tags`, or remove it");
    }
    Some(Assignment { condition: condition?, roles, limits })
}

fn condition(cx: &mut Context<'_>, node: &Node<'_>, issuers: &KnownNames) -> Option<Condition> {
    let fields = node.object(cx, &CONDITION)?;
    if fields.lacks(&["issuer", "email", "claim", "has"]) {
        let message = "is empty, which would be everybody with a token of any issuer; name an `issuer`, an `email`, or a `claim` and \
                       what it `has`";
        cx.error(&node.at, message);
    }
    let issuer = fields.text(cx, "issuer").and_then(|text| issuer_name(cx, &text.value, &text.at, issuers));
    let email = fields.text(cx, "email").and_then(|text| email(cx, &text));
    let claim = fields.text(cx, "claim").and_then(|text| word(cx, text));
    let has = fields.text(cx, "has").and_then(|text| word(cx, text));
    match (fields.has("claim"), fields.has("has")) {
        (true, false) if fields.lacks(&["has"]) => cx.error(
            &fields.key("claim"),
            "needs `has` beside it: a text that the claim is, or has in its list",
        ),
        (false, true) if fields.lacks(&["claim"]) => {
            cx.error(&fields.key("has"), "needs `claim` beside it: the claim that has it")
        }
        _ => {}
    }
    if !fields.has("issuer") && issuers.all.as_ref().is_some_and(|all| all.len() > 1) {
        let message = "is for tokens of every one of `issuers`, and each of them says what it likes of those whom it knows; add \
                       `issuer` if one is meant";
        cx.notice(&node.at, message);
    }
    Some(Condition { issuer, email, claim: claim.zip(has) })
}

/// The name of an issuer, if there is one of this name.
pub(super) fn issuer_name(
    cx: &mut Context<'_>,
    name: &str,
    at: &Location,
    issuers: &KnownNames,
) -> Option<Arc<str>> {
    let all = issuers.all.as_ref()?;
    if let Some(known) = issuers.get(name) {
        return Some(Arc::clone(known));
    }
    let names: Vec<_> = all.iter().filter_map(|name| shown::name(name)).collect();
    let near = hint::closest(name, names.iter().copied()).filter(|_| !cx.is_full());
    let message = match near {
        Some(near) => format!("is no name in `issuers`; did you mean {near:?}?"),
        None if names.is_empty() => "is no name in `issuers`, which has none; add one there".into(),
        None => format!("is no name in `issuers`; name one of {}", shown::first_names(&names)),
    };
    cx.refuse(at, message)
}

fn email(cx: &mut Context<'_>, text: &ReadText) -> Option<String> {
    let is_part = |part: &str| {
        !part.is_empty()
            && !part.contains(|c: char| {
                c.is_whitespace() || c.is_control() || is_format(c) || c == '@' || c == '*'
            })
    };
    match text.value.split_once('@') {
        Some((name, host)) if is_part(host) && (name == "*" || is_part(name)) => {
            Some(text.value.to_ascii_lowercase())
        }
        _ => cx.refuse(
            &text.at,
            "is no address; write all of it, as in \"alice@corp.example\", or \"*@corp.example\" for all of a host",
        ),
    }
}
