//! `proxy.auth`: who may come in, and the tokens. Tokens are hashed here and forgotten.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::HeaderName;
use sha2::{Digest, Sha256};

use crate::config::{
    access::{CallerLimits, Rule},
    read::{
        context::Context,
        fields::Fields,
        reader::{Node, ReadText},
        reference::TextSource,
    },
    report::{foreign, problem::Location, shown},
    resolve::{
        callers::{KnownNames, caller_limits, words},
        clients,
        idp::{self, ReadIdp},
        issuers::{self, ReadIssuers},
        oauth::{self, ReadOauth},
        schemes, tenants,
        users::{self, ReadUsers},
    },
    rule_lines::RuleOf,
    schemes::Schemes,
    snapshot::{Credential, LoginStore, LoginTerms},
    table::{AUTH, TOKEN},
};

/// Shorter tokens can be guessed in an afternoon by someone who has a hash of them.
const SHORT: usize = 16;

/// What `proxy.auth` says.
#[derive(Debug, Default)]
pub(crate) struct Auth {
    pub(crate) schemes: Schemes,
    /// Those that may be meant to be on, though they cannot be read.
    pub(crate) may_schemes: Schemes,
    pub(crate) tenant_header: Option<HeaderName>,
    pub(crate) admin_sees_all: bool,
    /// Whether it may be meant to be on, though it cannot be read.
    pub(crate) may_admin_see_all: bool,
    pub(crate) credentials: Vec<Credential>,
    /// Every credential of which the token is known, whatever else is wrong with it.
    pub(crate) remaining: Vec<Credential>,
    pub(crate) users: ReadUsers,
    /// `idp` and whom it admits.
    pub(crate) idp: ReadIdp,
    /// `issuers` and `assign`.
    pub(crate) issuers: ReadIssuers,
    /// Whether `remaining` and `users` are all there is: no slip has hidden them, and they are of this kind of `auth`.
    pub(crate) is_clear: bool,
    /// Every name in `tokens`, whether its credentials are good or not.
    pub(crate) token_names: KnownNames,
    /// What the keys of OAuth say, which count with `"kind": "oauth"`.
    pub(crate) oauth: ReadOauth,
    /// `sessions`: how long logins last.
    pub(crate) login_terms: Option<LoginTerms>,
    /// `storage` and the keys of what is stored.
    pub(crate) login_store: LoginStore,
    /// Whether a file with one of these keys cannot be used.
    pub(crate) lost_login_keys: bool,
    /// The `tags` of callers, with their places.
    pub(crate) tag_limits: Vec<(Location, Vec<String>)>,
}

impl Auth {
    /// Whether anybody may be meant to log in, though nothing of what is said of them can be read.
    pub(crate) fn names_callers(&self) -> bool {
        let has_credential: HashSet<&str> = self.credentials.iter().map(|held| &*held.token_name).collect();
        self.idp.has_people()
            || self.credentials.iter().any(|held| !held.decoy)
            || self.users.names.all.as_deref().is_none_or(|names| !names.is_empty())
            || self.token_names.all.as_deref().is_none_or(|names| {
                // One that is all decoys is meant to let nobody in.
                names.iter().any(|name| !has_credential.contains(&**name))
            })
    }
}

/// `servers`: the names of the servers.
pub(crate) fn resolve(cx: &mut Context<'_>, node: Option<&Node<'_>>, servers: &[&str]) -> Auth {
    let none = || KnownNames::of(Vec::new());
    let Some(node) = node else {
        return Auth {
            token_names: none(),
            users: ReadUsers { names: none(), ..ReadUsers::default() },
            issuers: ReadIssuers::none(),
            idp: ReadIdp::none(),
            is_clear: true,
            ..Auth::default()
        };
    };
    let Some(mut fields) = node.unchecked_object(cx, &AUTH) else { return Auth::default() };
    let is_ours = kind(cx, &fields, servers);
    // The keys of another kind are not ours; `tokens` are read in any case, so that all that is wrong is reported at once.
    if is_ours {
        fields.check_names(cx);
    }
    let (on, may_be_on) = schemes::resolve(cx, &fields);
    let (admin_sees_all, may_admin_see_all) = switch(cx, &fields, "adminSeesAll");
    if fields.has("adminSeesAll") {
        cx.rules.push((RuleOf::Auth, Rule::AdminSeesAll, fields.key("adminSeesAll")));
    }
    let mut auth = Auth {
        schemes: on,
        may_schemes: may_be_on,
        admin_sees_all,
        may_admin_see_all,
        is_clear: is_ours,
        ..Auth::default()
    };
    let mut holders = Holders::new();
    match fields.get("tokens") {
        Some(tokens) => {
            let what = "an object with a name for each token, as in { \"dev\": { \"$env\": \"DEV_TOKEN\" } }";
            match tokens.map_as(cx, what) {
                Some(tokens) => {
                    let names = read_tokens(cx, &tokens, servers, &mut holders, &mut auth, false);
                    auth.token_names = KnownNames::of(names);
                }
                None => auth.is_clear = false,
            }
        }
        None => {
            auth.is_clear &= !fields.has_unknown();
            if is_ours && fields.lacks(&["tokens"]) {
                auth.token_names = none();
            }
        }
    }
    let tenants = tenants::resolve(cx, &fields);
    auth.tenant_header = tenants.header;
    auth.is_clear &= tenants.is_clear;
    if let Some(tokens) = tenants.tokens {
        read_tokens(cx, &tokens, servers, &mut holders, &mut auth, true);
    }
    auth.idp = idp::read(cx, &fields, oauth::is_on(&fields, is_ours));
    auth.issuers = issuers::read(cx, &fields, &auth.idp, servers, &mut auth.tag_limits);
    schemes::warn(cx, &fields, on, auth.token_names.all.as_deref().unwrap_or_default());
    let redirect_schemes = oauth::redirect_schemes(cx, &fields);
    let clients = clients::read(cx, &fields, &redirect_schemes, servers, &mut auth.tag_limits);
    let id_jag = clients::id_jag(cx, &fields, &clients, &auth.issuers.names);
    auth.oauth = oauth::read(cx, &fields, is_ours, redirect_schemes, clients, id_jag);
    auth.login_terms = fields.object(cx, "sessions").map(|sessions| {
        if !fields.has("users") {
            cx.notice(
                &fields.key("sessions"),
                "has no effect, because there are no `users` who could log in; add some, or remove it",
            );
        }
        users::login_terms(cx, &sessions)
    });
    let (login_store, has_files) =
        cx.with_files_as_parts(|cx| users::login_store(cx, &fields, auth.oauth.is_on));
    (auth.login_store, auth.lost_login_keys) = (login_store, !has_files);
    match fields.get("users") {
        Some(node) => match node.map_as(cx, "an object with a name for each user") {
            Some(fields) => auth.users = users::read(cx, &fields, servers, &mut auth.tag_limits),
            None => auth.is_clear = false,
        },
        None => {
            auth.is_clear &= !fields.has_unknown();
            if is_ours && fields.lacks(&["users"]) {
                auth.users.names = none();
            }
        }
    }
    auth
}

/// Whether a key is on, and whether it may be meant to be though it cannot be read.
fn switch(cx: &mut Context<'_>, fields: &Fields<'_>, name: &str) -> (bool, bool) {
    let read = fields.bool(cx, name);
    (read.unwrap_or_default(), read.unwrap_or(true) || !fields.has(name) && !fields.lacks(&[name]))
}

/// What to do where servers list their tokens.
const BY_SERVER: &str = "whose `tokens` say for each server which tokens open it. Here each token has a name, and a server \
     without `authTokens` is open to all of them: name the tokens, list in the `authTokens` of each server the names that may \
     use it, and only then write \"bearer_token\"";

/// Whether each name in `tokens` is one of a server, of which there are several: MCP Front's other format.
fn are_by_server(fields: &Fields<'_>, servers: &[&str], fits: fn(&Node<'_>) -> bool) -> bool {
    let Some(tokens) = fields.get("tokens").and_then(|node| node.fields()) else { return false };
    let entries = tokens.entries();
    // Lists of which none holds anything are tokens that were revoked.
    let is_empty = |node: &Node<'_>| node.elements().is_some_and(|of| of.is_empty());
    servers.len() > 1
        && !entries.iter().all(|(_, _, node)| is_empty(node))
        && tokens.names().all(|name| servers.contains(&name))
        && entries.iter().all(|(_, _, node)| fits(node))
}

/// Whether `kind` is one that there is.
fn kind(cx: &mut Context<'_>, fields: &Fields<'_>, servers: &[&str]) -> bool {
    let Some(kind) = fields.get("kind") else {
        // There, each entry is a list; a list of one token is seldom written here.
        let is_list =
            |node: &Node<'_>| node.elements().is_some_and(|of| of.iter().all(|node| !node.is_plain_object()));
        if are_by_server(fields, servers, is_list) {
            let message = format!("has no `kind`, and looks like a config of MCP Front's {BY_SERVER}");
            cx.error(&fields.key("tokens"), message);
            return false;
        }
        return true;
    };
    let plain = kind.literal().map(foreign::plain).unwrap_or_default();
    let is_spelled = |word: &str| kind.literal() == Some(word);
    let message = match (kind.literal(), plain.as_str()) {
        // MCP Front has both spellings, and they mean different things. To propose the one that is known here would open
        // each server to the tokens of all.
        (Some("bearerToken"), _) => format!("is a kind of MCP Front's {BY_SERVER}"),
        _ if !is_spelled("bearer_token") && !is_spelled("oauth") && are_by_server(fields, servers, |_| true) => {
            format!("is no kind here, and this looks like a config of MCP Front's {BY_SERVER}")
        }
        (_, "oauth2" | "masteroauth" | "proxyoauth" | "delegateoauth") => {
            "is no kind here; use \"oauth\", by which the gateway's own users log in".into()
        }
        (_, "oidc" | "jwt" | "jwks") => {
            "is no kind here; use \"bearer_token\", or \"oauth\", by which the gateway's own users log in: `issuers` says beside \
             either whose tokens are taken, too"
                .into()
        }
        (_, "basic" | "apikey") => {
            "is a scheme and no kind; use \"bearer_token\", and list the scheme in `schemes`".into()
        }
        (_, "password" | "session" | "none" | "noauth" | "public" | "bypassauth" | "anonymous") => {
            "is no kind of auth here; use \"bearer_token\", and give each caller a token".into()
        }
        _ => return fields.word(cx, "kind").is_some(),
    };
    cx.error(&kind.at, message);
    false
}

/// Who has which token, of those that were read so far: the name, and whether it is a tenant's.
type Holders = HashMap<[u8; 32], (Arc<str>, bool)>;

/// Adds the credentials of tokens, or of tenants, to `auth`, and says which names there are.
fn read_tokens(
    cx: &mut Context<'_>,
    tokens: &Fields<'_>,
    servers: &[&str],
    holders: &mut Holders,
    auth: &mut Auth,
    is_tenant: bool,
) -> Vec<Arc<str>> {
    let mut names: Vec<Arc<str>> = Vec::new();
    for (name, key, node) in tokens.entries() {
        let name: Arc<str> = name.into();
        names.push(name.clone());
        if name.is_empty() || name.len() > 128 || name.contains(char::is_control) {
            cx.error(
                &key,
                "a token needs a name of 1 to 128 characters on one line; logs and metrics show it",
            );
        }
        if name.starts_with("sg_") {
            cx.error(&key, "looks like a token, and a token's name is shown in logs and metrics; give it a name, and the token as its value");
        }
        let several = node.elements();
        if several.as_ref().is_some_and(Vec::is_empty) {
            cx.warning(&node.at, "has no credential, so nobody can use it; add one, or remove the name");
        }
        let mut ids = HashSet::new();
        for node in several.unwrap_or_else(|| vec![node]) {
            let read = read_credential(cx, &node, &name, servers, &mut auth.tag_limits);
            let Some((mut credential, is_good)) = read else { continue };
            credential.is_tenant = is_tenant;
            auth.remaining.push(credential.clone());
            cx.credentials.push((node.at.offset, credential.clone()));
            if <[u8; 32]>::from(Sha256::digest(&*name)) == credential.digest && !name.starts_with("sg_") {
                cx.error(&node.at, "is also its name, which logs and metrics show; give it another name");
            }
            if !is_good {
                continue;
            }
            if credential.id.as_ref().is_some_and(|id| !ids.insert(Arc::clone(id))) {
                cx.error(
                    &node.at,
                    "has the same `id` as one before it; give each its own, so that metrics tell them apart",
                );
            }
            match holders.insert(credential.digest, (name.clone(), is_tenant)) {
                Some(holder) if holder == (name.clone(), is_tenant) => {
                    cx.warning(&node.at, "is the same token as one before it; remove one of them");
                }
                Some((owner, _)) if is_tenant => {
                    let owner = shown::name_or_hidden(&owner);
                    let message = format!(
                        "is the same token as {owner:?} has; give each tenant a token that nobody else has"
                    );
                    cx.error(&node.at, message);
                }
                Some((owner, _)) => {
                    let owner = shown::name_or_hidden(&owner);
                    let message = format!(
                        "is the same token as {owner:?} has; keep one of the two names, and list it in the `authTokens` of every server that the token opens"
                    );
                    cx.error(&node.at, message);
                }
                None => auth.credentials.push(credential),
            }
        }
    }
    names
}

/// A credential, and whether it may be used.
fn read_credential(
    cx: &mut Context<'_>,
    node: &Node<'_>,
    name: &Arc<str>,
    servers: &[&str],
    tag_limits: &mut Vec<(Location, Vec<String>)>,
) -> Option<(Credential, bool)> {
    if !node.is_plain_object() {
        if node.literal().is_none() && !node.is_object() {
            return node.expected(cx, "text in double quotes, or an object such as { \"$env\": \"DEV_TOKEN\" } or { \"sha256\": \"…\" }");
        }
        let digest = read_plain_or_file(cx, node, false)?;
        let credential = Credential {
            token_name: name.clone(),
            is_tenant: false,
            id: None,
            digest,
            expires: None,
            roles: Vec::new(),
            decoy: false,
            limits: CallerLimits::ALL,
        };
        cx.rules.push((RuleOf::Credential(digest), Rule::OwnRoles, node.at.clone()));
        return Some((credential, true));
    }
    let fields = node.object(cx, &TOKEN)?;
    let id = read_id(cx, &fields);
    let expires = fields.get("expires").map(|node| read_expiry(cx, &node));
    let roles = words(cx, &fields, "roles").unwrap_or_default();
    let limits = caller_limits(cx, &fields, servers, tag_limits);
    let decoy = fields.bool(cx, "decoy");
    for key in ["roles", "servers", "tags"].into_iter().filter(|key| decoy == Some(true) && fields.has(key)) {
        cx.warning(
            &fields.key(key),
            "has no effect beside `decoy: true`, since a decoy opens nothing; remove it",
        );
    }
    let digest = match (fields.get("sha256"), fields.get("value")) {
        (Some(hash), None) => read_hash(cx, &hash)?,
        (None, Some(value)) => read_plain_or_file(cx, &value, true)?,
        (Some(_), Some(_)) => {
            return cx.refuse(&fields.key("value"), "cannot stand beside `sha256`; keep one of them");
        }
        (None, None) => {
            if fields.lacks(&["sha256", "value"]) {
                cx.error(&node.at, "needs a `sha256`; `sluicegate token new` prints a token and its hash");
            }
            return None;
        }
    };
    let at = |key| if fields.has(key) { fields.key(key) } else { node.at.clone() };
    let rules = [
        (Rule::Expires, at("expires")),
        (Rule::OwnRoles, at("roles")),
        (Rule::OwnServers, at("servers")),
        (Rule::OwnTags, at("tags")),
        (Rule::Decoy, at("decoy")),
    ];
    cx.rules.extend(rules.map(|(rule, at)| (RuleOf::Credential(digest), rule, at)));
    // An expiry that cannot be read must not become a token that never expires, nor a decoy one that opens something.
    let is_good = !matches!(expires, Some(None)) && (decoy.is_some() || !fields.has("decoy"));
    let expires = expires.flatten();
    let decoy = decoy.unwrap_or_default();
    let roles = if decoy { Vec::new() } else { roles };
    let token_name = name.clone();
    let read = Credential { token_name, is_tenant: false, id, digest, expires, roles, limits, decoy };
    Some((read, is_good))
}

fn read_id(cx: &mut Context<'_>, fields: &Fields<'_>) -> Option<Arc<str>> {
    let id = fields.text(cx, "id")?;
    let is_good = matches!(id.value.len(), 1..=64)
        && id.value.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if !is_good {
        cx.error(
            &id.at,
            "has to be 1 to 64 letters, digits, `.`, `_` or `-`, since metrics show it; shorten it",
        );
    }
    is_good.then(|| id.value.into())
}

/// What is wrong with a file closes this credential, and nothing else. `is_value`: whether it is at `value`.
fn read_plain_or_file(cx: &mut Context<'_>, node: &Node<'_>, is_value: bool) -> Option<[u8; 32]> {
    match node.is_file() {
        true => cx.part(|cx| read_plain(cx, node, is_value)),
        false => read_plain(cx, node, is_value),
    }
}

fn read_plain(cx: &mut Context<'_>, node: &Node<'_>, is_value: bool) -> Option<[u8; 32]> {
    let text = node.secret(cx)?;
    let token = &text.value;
    // The file is to be mended, not what names it.
    let file = node
        .file()
        .map(|file| format!("what stands in {} ", shown::path(file).unwrap_or("the file")))
        .unwrap_or_default();
    if token.is_empty() {
        return cx.refuse(
            &text.at,
            "is empty, which would let anyone in; `sluicegate token new` makes a good one",
        );
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        let scheme = token.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("bearer "));
        let message = match token.trim() {
            _ if scheme => "begins with `Bearer `, which the client puts in front; leave it out",
            trimmed if token.contains('\n') && trimmed.contains('\n') => {
                "has several lines; a token is one line, and a file for each token"
            }
            trimmed if trimmed.bytes().all(|byte| byte.is_ascii_graphic()) => {
                "begins or ends with a space or a line break that no header can carry; remove it"
            }
            _ => {
                "has a space or a character that cannot be sent in a header; use letters, digits and -._~+/="
            }
        };
        return cx.refuse(&text.at, format!("{file}{message}"));
    }
    if !is_no_hash(cx, &text, is_value) {
        return None;
    }
    match text.origin {
        TextSource::Default => {
            cx.warning(
                &text.at,
                "opens with the default that stands in this file; set the variable before others connect",
            );
        }
        _ if token.len() < SHORT => {
            let message = "is short enough to be guessed; `sluicegate token new` makes a good one";
            cx.warning(&text.at, format!("{message} (at least {SHORT} characters)"));
        }
        _ => {}
    }
    if text.origin == TextSource::Literal {
        cx.plain_secret.get_or_insert(text.at.clone());
    }
    Some(Sha256::digest(token).into())
}

/// Whether the token is not the hash of one, with which every reader of the config would get in. 64 hex digits are what
/// `openssl rand -hex 32` prints too, so that `value` is believed, and a variable or a file is only warned of.
fn is_no_hash(cx: &mut Context<'_>, text: &ReadText, is_value: bool) -> bool {
    let prefix = text.value.get(..7).is_some_and(|prefix| {
        prefix.eq_ignore_ascii_case("sha256:")
            || prefix.eq_ignore_ascii_case("sha256-")
            || prefix.eq_ignore_ascii_case("sha256=")
    });
    if prefix && decode_hex(&text.value[7..]).is_some() {
        cx.error(
            &text.at,
            "is the hash of a token; write { \"sha256\": \"…\" }, with the 64 hex digits only",
        );
        return false;
    }
    if decode_hex(&text.value).is_none() {
        return true;
    }
    let is_here = text.origin == TextSource::Literal;
    match (is_here, is_value) {
        (true, false) => {
            cx.error(
                &text.at,
                "looks like the SHA-256 of a token; write { \"sha256\": \"…\" }, or { \"value\": \"…\" } if it is the token \
                 itself",
            );
            return false;
        }
        (true, true) => cx.warning(
            &text.at,
            "looks like the SHA-256 of a token, and opens as the token itself; write `sha256` instead of `value` if it is \
             a hash",
        ),
        (false, false) => cx.warning(
            &text.at,
            "has the form of a SHA-256, and opens as the token itself; write { \"sha256\": … } if it is a hash, \
             { \"value\": … } if it is the token",
        ),
        (false, true) => {}
    }
    true
}

fn read_hash(cx: &mut Context<'_>, node: &Node<'_>) -> Option<[u8; 32]> {
    let text = node.string(cx)?;
    // The value is never shown: it may be the token itself, pasted into the wrong place.
    match decode_hex(&text.value) {
        Some(digest) if digest == <[u8; 32]>::from(Sha256::digest("")) => cx
            .refuse(&text.at, "is the hash of nothing; hash the token itself, or use `sluicegate token new`"),
        Some(digest) => Some(digest),
        None if text.value.starts_with("sg_") => {
            let message =
                "is a token, and its hash is to stand here; `printf %s \"$TOKEN\" | sha256sum` prints it";
            cx.refuse(&text.at, message)
        }
        None => {
            let length = text.value.chars().count();
            cx.refuse(
                &text.at,
                format!("must be 64 hex digits, not these {length} characters; `sluicegate token new` prints an entry"),
            )
        }
    }
}

fn decode_hex(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    hex::decode_to_slice(text, &mut digest).ok()?;
    Some(digest)
}

fn read_expiry(cx: &mut Context<'_>, node: &Node<'_>) -> Option<SystemTime> {
    if node.literal().is_none() && !node.is_object() {
        return node.expected(cx, "a moment in double quotes, as in \"2027-01-31T00:00:00Z\"");
    }
    let text = node.string(cx)?;
    let Ok(expires) = humantime::parse_rfc3339(&text.value) else {
        let message = match in_utc(&text.value) {
            Some(utc) => format!("is not in UTC; write it as \"{utc}\""),
            None => "is no date and time; write it in UTC, as in \"2027-01-31T00:00:00Z\"".into(),
        };
        return cx.refuse(&text.at, message);
    };
    if expires <= cx.now {
        // A warning, so that a config does not become unusable by the passing of time.
        cx.warning(&text.at, "has passed, so this credential is refused; remove it, or give it a later date");
    }
    Some(expires)
}

/// A moment with an offset from UTC (RFC 3339), in UTC.
pub(crate) fn in_utc(text: &str) -> Option<humantime::Rfc3339Timestamp> {
    let (local, offset) = text.split_at_checked(text.len().checked_sub("+00:00".len())?)?;
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    let number = |digits: &str| digits.parse::<u64>().ok().filter(|_| digits.len() == 2);
    let offset_length = Duration::from_secs(
        number(hours).filter(|hours| *hours < 24)? * 3600
            + number(minutes).filter(|minutes| *minutes < 60)? * 60,
    );
    let local = humantime::parse_rfc3339(&format!("{local}Z")).ok()?;
    let utc = match offset.as_bytes()[0] {
        b'+' => local.checked_sub(offset_length)?,
        b'-' => local.checked_add(offset_length)?,
        _ => return None,
    };
    // What the formatter takes.
    let is_fit =
        utc >= SystemTime::UNIX_EPOCH && utc < SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_800);
    is_fit.then(|| humantime::format_rfc3339(utc))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_is_taken_in_either_case_and_nothing_else_is() {
        let hash = "9F86D081884C7D659A2FEAA0C55AD015A3BF4F1B2B0B822CD15D6C15B0F00a08";
        assert_eq!(decode_hex(hash), Some(Sha256::digest("test").into()));
        for bad in [&hash[..62], &hash.replace('9', "+"), &hash.replace('9', " "), &"é".repeat(32), ""] {
            assert_eq!(decode_hex(bad), None, "{bad}");
        }
    }
}
