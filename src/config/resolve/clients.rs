//! `proxy.auth.clients` and `idJag`: programs that the gateway knows without registration, and by what they get tokens.

use std::{collections::HashSet, sync::Arc};

use jsonwebtoken::jwk::{AlgorithmParameters, Jwk};
use sha2::{Digest as _, Sha256};

use crate::config::{
    access::Rule,
    oauth::{ClientKey, ClientProof, GrantTypes, OauthClient, OauthConfig},
    read::{
        context::Context,
        fields::Fields,
        reader::{Node, to_json},
    },
    redirect::{RedirectFault, RedirectTarget},
    report::{problem::Location, shown},
    resolve::{
        callers::{KnownNames, caller_limits, words},
        issuers::{issuer_name, url},
        oauth::scopes,
    },
    rule_lines::RuleOf,
    table::{CLIENT, GRANTS},
};

/// Keys of one client at most.
const MOST_KEYS: usize = 20;
/// Members that only the holder of a key has (RFC 7518 §6.2.2, §6.3.2, §6.4.1).
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// Reads `clients`. `servers`: the names of the servers; what tags leave to callers goes into `tag_limits`.
pub(super) fn read(
    cx: &mut Context<'_>,
    auth: &Fields<'_>,
    schemes: &[String],
    servers: &[&str],
    tag_limits: &mut Vec<(Location, Vec<String>)>,
) -> Vec<OauthClient> {
    let mut clients: Vec<OauthClient> = Vec::new();
    let Some(node) = auth.get("clients") else { return clients };
    let example =
        "an object with a `client_id` for each client, as in { \"portal\": { \"redirectUris\": [ … ] } }";
    let Some(entries) = node.map_as(cx, example) else { return clients };
    for (name, key, node) in entries.entries() {
        let is_name = matches!(name.len(), 1..=64)
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if !is_name {
            cx.error(
                &key,
                "has to be 1 to 64 letters, digits, `.`, `_` or `-`: it is the `client_id`; rename it",
            );
        } else if name.starts_with(OauthConfig::REGISTERED_CLIENT) {
            cx.error(&key, "begins as ids of clients do that registered themselves; rename it");
        }
        let Some(fields) = node.object(cx, &CLIENT) else { continue };
        clients.push(client(cx, name.into(), &key, &fields, schemes, servers, tag_limits));
    }
    clients
}

fn client(
    cx: &mut Context<'_>,
    name: Arc<str>,
    key: &Location,
    fields: &Fields<'_>,
    schemes: &[String],
    servers: &[&str],
    tag_limits: &mut Vec<(Location, Vec<String>)>,
) -> OauthClient {
    let (proof, has_proof) = proof(cx, fields);
    let grants = grants(cx, fields);
    let roles = words(cx, fields, "roles").unwrap_or_default();
    let limits = caller_limits(cx, fields, servers, tag_limits);
    let scopes = scopes(cx, fields, "scopes").unwrap_or_default();
    let mut redirect_uris: Vec<Arc<str>> = Vec::new();
    for text in fields.texts(cx, "redirectUris").unwrap_or_default() {
        match redirect_fault(&text.value, schemes) {
            None => redirect_uris.push(text.value.into()),
            Some(fault) => cx.error(&text.at, fault),
        }
    }
    for (is_there, word) in
        [(grants.credentials, GrantTypes::CREDENTIALS), (grants.assertions, GrantTypes::ASSERTIONS)]
    {
        if is_there && !has_proof && fields.has("grants") {
            let message = format!(
                "have {word:?}, for which the client has to prove itself: anybody could say that it is this one; add \
                 `secretSha256`, `jwks` or `jwksUrl`"
            );
            cx.error(&fields.key("grants"), message);
        }
    }
    if !roles.is_empty() && !has_proof {
        cx.warning(
            &fields.key("roles"),
            "have no effect without `secretSha256`, `jwks` or `jwksUrl`: anybody could say that it is this client; add one",
        );
    }
    if !grants.credentials {
        for of in ["servers", "tags"].into_iter().filter(|of| fields.has(of)) {
            let message = "have no effect without the grant \"client_credentials\": users of the client have their own; add that, or \
                           remove them";
            cx.notice(&fields.key(of), message);
        }
        if fields.has("scopes") && !grants.assertions {
            let message = "have no effect without the grant \"client_credentials\": what a user allows it is the user's to say; add that, \
                           or remove them";
            cx.notice(&fields.key("scopes"), message);
        }
    }
    let gets_codes = grants.codes && !fields.lacks(&["redirectUris"]);
    if !gets_codes && !grants.credentials && !grants.assertions {
        let message = match has_proof {
            true => {
                "gets no tokens, and can only ask about some: it has neither `redirectUris`, to which users could be sent back, nor a \
                 grant for itself; add what is missing, if it is to have any"
            }
            false => {
                "gets no tokens: it has neither `redirectUris`, to which users could be sent back, nor a grant for itself; add what is \
                 missing, or remove it"
            }
        };
        cx.notice(key, message);
    } else if !grants.codes && !redirect_uris.is_empty() {
        let message = "have no effect without the grant \"authorization_code\"; add that, or remove them";
        cx.notice(&fields.key("redirectUris"), message);
    }
    let at = |of| if fields.has(of) { fields.key(of) } else { key.clone() };
    let rules = [
        (Rule::OwnRoles, at("roles")),
        (Rule::OwnServers, at("servers")),
        (Rule::OwnTags, at("tags")),
        (Rule::Scope, at("scopes")),
    ];
    cx.rules.extend(rules.map(|(rule, at)| (RuleOf::Client(Arc::clone(&name)), rule, at)));
    OauthClient { name, proof, grants, redirect_uris, roles, limits, scopes }
}

/// By what the client proves itself, and whether it is meant to, though that cannot be read.
fn proof(cx: &mut Context<'_>, fields: &Fields<'_>) -> (ClientProof, bool) {
    const WAYS: [&str; 3] = ["secretSha256", "jwks", "jwksUrl"];
    let secret = fields.get("secretSha256").and_then(|node| secret(cx, &node)).map(ClientProof::Secret);
    let keys = fields.get("jwks").and_then(|node| keys(cx, &node)).map(ClientProof::Keys);
    let at = fields.text(cx, "jwksUrl").and_then(|text| url(cx, &text, true)).map(ClientProof::KeysAt);
    let named: Vec<_> = WAYS.into_iter().filter(|way| fields.has(way)).collect();
    if let [_, second, ..] = named[..] {
        let message = "is another way for the client to prove itself beside the first, and it is to have one: keep that which it uses";
        cx.error(&fields.key(second), message);
    }
    (secret.or(keys).or(at).unwrap_or(ClientProof::None), !named.is_empty())
}

/// Where one cannot be read, the file is refused, and takes none away.
fn grants(cx: &mut Context<'_>, fields: &Fields<'_>) -> GrantTypes {
    let texts = fields.texts(cx, "grants").unwrap_or_default();
    let mut words = Vec::new();
    for text in &texts {
        match GRANTS.find(&text.value) {
            Some(word) => words.push(word),
            None => cx.error(&text.at, format!("{} {}", text.shown(), GRANTS.otherwise)),
        }
    }
    let are_all_read =
        fields.get("grants").is_none_or(|node| node.elements().is_some_and(|all| all.len() == words.len()));
    if are_all_read { GrantTypes::of(words) } else { GrantTypes::ALL }
}

fn keys(cx: &mut Context<'_>, node: &Node<'_>) -> Option<Arc<[ClientKey]>> {
    const EXAMPLE: &str = "a JWK Set, as in { \"keys\": [{ \"kty\": \"OKP\", \"kid\": \"k1\", … }] }";
    let Some(set) = node.fields() else { return node.expected(cx, EXAMPLE) };
    let entries = set.entries();
    let Some((_, at, all)) = entries.iter().find(|(name, ..)| *name == "keys") else {
        return cx.refuse(&node.at, format!("is no set of keys; write {EXAMPLE}"));
    };
    let all = all.list(cx)?;
    if all.is_empty() || all.len() > MOST_KEYS {
        return cx.refuse(at, format!("has to have 1 to {MOST_KEYS} keys"));
    }
    let mut ids = HashSet::new();
    let keys: Vec<_> = all.iter().filter_map(|node| key(cx, node, &mut ids)).collect();
    Some(keys.into()).filter(|keys: &Arc<[ClientKey]>| !keys.is_empty())
}

/// Nothing of a key is shown: it may be a private one.
fn key(cx: &mut Context<'_>, node: &Node<'_>, ids: &mut HashSet<Arc<str>>) -> Option<ClientKey> {
    let json = to_json(node.value);
    if PRIVATE.iter().any(|member| json.get(member).is_some()) {
        let message = "is a private key, by which whoever reads this file could sign; write the public one, and take another pair";
        return cx.refuse(&node.at, message);
    }
    let text = json.to_string();
    let is_taken = |jwk: &Jwk| {
        matches!(
            jwk.algorithm,
            AlgorithmParameters::RSA(_)
                | AlgorithmParameters::EllipticCurve(_)
                | AlgorithmParameters::OctetKeyPair(_)
        )
    };
    let Some(jwk) = serde_json::from_value::<Jwk>(json).ok().filter(is_taken) else {
        let message = "is no public key that is taken; write one as RFC 7517 has it, of the `kty` \"RSA\" (2,048 bits or more), \"EC\" \
                       (P-256, P-384) or \"OKP\" (Ed25519)";
        return cx.refuse(&node.at, message);
    };
    let Some(id) = jwk.common.key_id.filter(|id| !id.is_empty()) else {
        return cx.refuse(&node.at, "needs a `kid`, by which the client says which key it is");
    };
    let id: Arc<str> = id.into();
    if !ids.insert(Arc::clone(&id)) {
        return cx.refuse(&node.at, "has the same `kid` as another; give each key its own");
    }
    let credential = ClientProof::digest("key", text.as_bytes());
    Some(ClientKey { id, json: text.into(), credential })
}

/// Reads `idJag`: who may bring what which issuer says.
pub(super) fn id_jag(
    cx: &mut Context<'_>,
    auth: &Fields<'_>,
    clients: &[OauthClient],
    issuers: &KnownNames,
) -> Vec<(Arc<str>, Arc<str>)> {
    let mut pairs = Vec::new();
    let Some(node) = auth.get("idJag") else { return pairs };
    let example = "an object of names of `issuers`, each with a list of names of `clients`, as in { \"corp\": [\"assistant\"] }";
    let Some(entries) = node.map_as(cx, example) else { return pairs };
    for (name, key, node) in entries.entries() {
        let issuer = issuer_name(cx, name, &key, issuers);
        for text in node.strings(cx).unwrap_or_default() {
            let Some(client) = clients.iter().find(|client| *client.name == *text.value) else {
                let known: Vec<_> = clients.iter().filter_map(|client| shown::name(&client.name)).collect();
                let message = match known.is_empty() {
                    true => "is no name in `clients`, which has none; add one there".to_owned(),
                    false => format!("is no name in `clients`; name one of {}", shown::first_names(&known)),
                };
                cx.error(&text.at, message);
                continue;
            };
            if !client.grants.assertions {
                let message =
                    format!("needs {:?} in the `grants` of the client; add it there", GrantTypes::ASSERTIONS);
                cx.error(&text.at, message);
            }
            if let Some(issuer) = &issuer {
                pairs.push((Arc::clone(issuer), Arc::clone(&client.name)));
            }
        }
    }
    pairs
}

/// The value is never shown: it may be the secret itself.
fn secret(cx: &mut Context<'_>, node: &Node<'_>) -> Option<[u8; 32]> {
    let text = node.string(cx)?;
    let mut digest = [0; 32];
    let decoded = hex::decode_to_slice(&text.value, &mut digest).ok();
    match decoded.map(|()| digest) {
        Some(digest) if digest == <[u8; 32]>::from(Sha256::digest("")) => {
            cx.refuse(&text.at, "is the hash of nothing; hash the secret itself")
        }
        Some(digest) => Some(digest),
        None => cx.refuse(&text.at, "must be 64 hex digits; `printf %s \"$SECRET\" | sha256sum` prints them"),
    }
}

/// What is wrong with a redirect of the config's own.
fn redirect_fault(text: &str, schemes: &[String]) -> Option<&'static str> {
    Some(match RedirectTarget::of(text, schemes).err()? {
        RedirectFault::TooLong => "is longer than 2,048 bytes; shorten it",
        RedirectFault::NoUrl => "is no URL; write all of it, as in \"https://portal.example.com/callback\"",
        RedirectFault::Fragment => "has a #fragment, which no redirect can have (RFC 6749 §3.1.2); remove it",
        RedirectFault::User => "has a user name or password in it; remove it",
        RedirectFault::Scheme => {
            "is neither https, nor http to the user's own machine, nor of one of the `redirectSchemes`; write https://, or add its scheme \
             there"
        }
    })
}
