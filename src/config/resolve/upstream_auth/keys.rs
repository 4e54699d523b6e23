//! The keys of `upstreamAuth`, each by itself: what its value may be, whatever the kind is.

use std::sync::Arc;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RsaKeyPair};
use http::{HeaderName, HeaderValue};
use regex::{Regex, RegexBuilder};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use url::Url;

use crate::config::{
    read::{
        context::Context,
        fields::Fields,
        reader::{Node, ReadText},
        reference::TextSource,
    },
    report::problem::Location,
    resolve::{bind, issuers, oauth},
    table::key::Object,
    upstream_auth::{
        Awaiting, ClientAuthWay, ExchangeProfile, ExchangeSubject, ResourceParameter, TokenFormat,
    },
};
use crate::secret::Secret;

/// Bytes of `validation`, and of what it is compiled to.
const LONGEST_PATTERN: usize = 1024;
const LARGEST_PATTERN: usize = 256 * 1024;
/// Characters of `displayName`, and bytes of `instructions`.
const LONGEST_NAME: usize = 64;
const LONGEST_INSTRUCTIONS: usize = 4096;
/// Parameters of an authorization request that say who asks for what: they are the gateway's.
const OWN_PARAMETERS: [&str; 13] = [
    "client_id",
    "client_secret",
    "code_challenge",
    "code_challenge_method",
    "nonce",
    "redirect_uri",
    "request",
    "request_uri",
    "resource",
    "response_mode",
    "response_type",
    "scope",
    "state",
];
/// Headers that belong to the connection or to the protocol, so that a fixed value would break requests.
const RESERVED_HEADERS: &str = "host content-length content-type transfer-encoding connection proxy-connection keep-alive te \
     trailer upgrade expect accept last-event-id";

/// Whether the gateway sets this header itself, in whatever spelling: servers read `_` and `-` as one.
pub(in crate::config::resolve) fn is_reserved(name: &str) -> bool {
    let read = name.to_ascii_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    RESERVED_HEADERS.split(' ').any(|reserved| reserved == read) || read.starts_with("mcp-")
}

/// What the keys say. Of one that is wrong, that was noted.
pub(super) struct Keys<'a> {
    pub(super) fields: Fields<'a>,
    pub(super) issuer: Option<Arc<str>>,
    pub(super) authorization_url: Option<Url>,
    pub(super) token_url: Option<Url>,
    pub(super) revocation_url: Option<Url>,
    pub(super) client_id: Option<Arc<str>>,
    pub(super) client_secret: Option<Secret>,
    pub(super) private_key: Option<Secret>,
    pub(super) token_auth: Option<ClientAuthWay>,
    /// `None` if it is not there, else the document or that there is to be none.
    pub(super) client_metadata_url: Option<Option<Url>>,
    pub(super) registers: bool,
    pub(super) redirect_url: Option<(Url, ReadText)>,
    pub(super) scopes: Vec<String>,
    pub(super) resource: ResourceParameter,
    pub(super) extra_params: Vec<(String, String)>,
    pub(super) allows_private_issuers: bool,
    pub(super) header: Option<HeaderName>,
    pub(super) format: Option<TokenFormat>,
    pub(super) token: Option<Secret>,
    pub(super) display_name: Option<Box<str>>,
    pub(super) instructions: Option<Box<str>>,
    pub(super) help_url: Option<Url>,
    pub(super) validation: Option<Regex>,
    pub(super) awaiting: Awaiting,
    pub(super) elicit: bool,
    pub(super) profile: ExchangeProfile,
    pub(super) subject: ExchangeSubject,
    pub(super) audience: Option<Box<str>>,
    pub(super) server_token_url: Option<Url>,
    pub(super) server_client_id: Option<Arc<str>>,
    pub(super) server_client_secret: Option<Secret>,
    pub(super) from: Option<HeaderName>,
    pub(super) is_unsafe: bool,
}

impl<'a> Keys<'a> {
    pub(super) fn read(cx: &mut Context<'_>, fields: Fields<'a>) -> Self {
        let issuer = fields.text_or_null(cx, "issuer");
        let place =
            |cx: &mut Context<'_>, name| fields.text_or_null(cx, name).and_then(|text| endpoint(cx, &text));
        let (mut format, mut validation) = (format(cx, &fields), None);
        if let Some(node) = fields.get("validation") {
            validation = pattern(cx, &node);
        }
        of_mcp_front(cx, &fields, &mut format, &mut validation);
        Self {
            issuer: issuer
                .filter(|text| issuers::url(cx, text, false).is_some())
                .map(|text| text.value.into()),
            authorization_url: place(cx, "authorizationUrl"),
            token_url: place(cx, "tokenUrl"),
            revocation_url: place(cx, "revocationUrl"),
            client_id: word(cx, &fields, "clientId").map(Into::into),
            client_secret: secret(cx, &fields, "clientSecret"),
            private_key: private_key(cx, &fields),
            token_auth: match fields.word(cx, "tokenAuth") {
                Some("client_secret_basic") => Some(ClientAuthWay::Basic),
                Some("client_secret_post") => Some(ClientAuthWay::Post),
                Some("none") => Some(ClientAuthWay::None),
                Some("private_key_jwt") => Some(ClientAuthWay::PrivateKeyJwt),
                _ => None,
            },
            client_metadata_url: metadata_url(cx, &fields),
            registers: fields.bool(cx, "autoRegister").unwrap_or(true),
            redirect_url: fields.text(cx, "redirectUrl").and_then(|text| Some((endpoint(cx, &text)?, text))),
            scopes: oauth::scopes(cx, &fields, "scopes").unwrap_or_default(),
            resource: resource(cx, &fields),
            extra_params: parameters(cx, &fields),
            allows_private_issuers: fields.bool(cx, "allowPrivateIssuers").unwrap_or_default(),
            header: header(cx, &fields),
            format,
            token: secret(cx, &fields, "token"),
            display_name: display_name(cx, &fields),
            instructions: instructions(cx, &fields),
            help_url: fields.text(cx, "helpUrl").and_then(|text| bind::http_url(cx, &text.value, &text.at)),
            validation,
            awaiting: match fields.word(cx, "awaiting") {
                Some("refuse") => Awaiting::Refuse,
                _ => Awaiting::Tool,
            },
            elicit: fields.bool(cx, "elicit").unwrap_or(true),
            profile: match fields.word(cx, "profile") {
                Some("entra_obo") => ExchangeProfile::EntraOnBehalfOf,
                Some("id_jag") => ExchangeProfile::IdJag,
                _ => ExchangeProfile::TokenExchange,
            },
            subject: match fields.word(cx, "subject") {
                Some("login") => ExchangeSubject::Login,
                _ => ExchangeSubject::Caller,
            },
            audience: word(cx, &fields, "audience").map(Into::into),
            server_token_url: place(cx, "serverTokenUrl"),
            server_client_id: word(cx, &fields, "serverClientId").map(Into::into),
            server_client_secret: secret(cx, &fields, "serverClientSecret"),
            from: header_name(cx, &fields, "from"),
            is_unsafe: fields.bool(cx, "unsafe").unwrap_or_default(),
            fields,
        }
    }

    /// Whether this key is there, and says something.
    pub(super) fn has(&self, name: &str) -> bool {
        self.fields.get(name).is_some_and(|node| !node.is_null())
    }

    /// Whether none of these is, nor a word that means one of them.
    pub(super) fn lacks(&self, names: &[&str]) -> bool {
        !names.iter().any(|name| self.has(name) || self.fields.meant.contains(name))
    }

    /// The place of a key, or of all of it.
    pub(super) fn at(&self, name: &str) -> Location {
        if self.fields.has(name) { self.fields.key(name) } else { self.fields.at.clone() }
    }

    /// Notes keys that mean nothing for this kind, of which these do.
    pub(super) fn without_effect(
        &self,
        cx: &mut Context<'_>,
        kind: &str,
        object: &'static Object,
        with: &[&[&str]],
    ) {
        const ALWAYS: [&str; 2] = ["kind", "provider"];
        let has_effect =
            |name: &str| ALWAYS.contains(&name) || with.iter().any(|group| group.contains(&name));
        for key in object.keys.iter().filter(|key| !has_effect(key.name) && self.fields.has(key.name)) {
            cx.notice(&self.fields.key(key.name), format!("has no effect with the kind {kind:?}; remove it"));
        }
    }
}

/// A URL of an authorization server, or of the gateway for it.
fn endpoint(cx: &mut Context<'_>, text: &ReadText) -> Option<Url> {
    let url = bind::http_url(cx, &text.value, &text.at)?;
    if text.value.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return cx.refuse(&text.at, "has a blank in it; remove that");
    }
    if !oauth::is_safe(&url) {
        let message = "is http://, over which anybody on the way could take the credential; write https://, or use a loopback address";
        return cx.refuse(&text.at, message);
    }
    Some(url)
}

/// A text that is not empty.
fn word(cx: &mut Context<'_>, fields: &Fields<'_>, name: &str) -> Option<String> {
    let text = fields.text_or_null(cx, name)?;
    match text.value.trim().is_empty() || text.value.contains(char::is_control) {
        true => cx.refuse(&text.at, "is empty, or has more than one line; write a word, or remove it"),
        false => Some(text.value),
    }
}

/// A secret that is not empty. It is never shown.
fn secret(cx: &mut Context<'_>, fields: &Fields<'_>, name: &str) -> Option<Secret> {
    let node = fields.get(name).filter(|node| !node.is_null())?;
    read_secret(cx, &node)
}

/// The secret that stands here.
pub(super) fn read_secret(cx: &mut Context<'_>, node: &Node<'_>) -> Option<Secret> {
    node.part_of_file(cx, |cx| {
        let text = node.secret(cx)?;
        if text.value.trim().is_empty() {
            return cx.refuse(&text.at, "is empty; write the secret, or remove it");
        }
        if HeaderValue::from_str(&text.value).is_err() {
            return cx
                .refuse(&text.at, "has a line break or another character that no secret has; remove it");
        }
        if text.origin == TextSource::Literal {
            cx.plain_secret.get_or_insert(text.at.clone());
        }
        Some(Secret::new(text.value))
    })
}

fn private_key(cx: &mut Context<'_>, fields: &Fields<'_>) -> Option<Secret> {
    let node = fields.get("privateKey").filter(|node| !node.is_null())?;
    node.part_of_file(cx, |cx| {
        let text = node.string(cx)?;
        let key = Secret::new(text.value);
        if !signs(&key) {
            let message = "is no key that can sign here: it has to be PKCS #8 in PEM, of the curve P-256 or RSA of 2,048 bits or more; \
                           `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256` makes one";
            return cx.refuse(&text.at, message);
        }
        if text.origin == TextSource::Literal {
            cx.plain_secret.get_or_insert(text.at.clone());
        }
        Some(key)
    })
}

/// Whether it is the key of an ES256 or RS256 signature.
fn signs(key: &Secret) -> bool {
    match PrivateKeyDer::from_pem_slice(key.expose().as_bytes()) {
        Ok(PrivateKeyDer::Pkcs8(der)) => {
            let der = der.secret_pkcs8_der();
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).is_ok()
                || RsaKeyPair::from_pkcs8(der).is_ok()
        }
        _ => false,
    }
}

fn metadata_url(cx: &mut Context<'_>, fields: &Fields<'_>) -> Option<Option<Url>> {
    let node = fields.get("clientMetadataUrl").filter(|node| !node.is_null())?;
    if is_false(&node) {
        return Some(None);
    }
    let text = node.string(cx)?;
    let url = endpoint(cx, &text)?;
    if url.scheme() != "https" || url.path() == "/" || url.query().is_some() {
        return cx.refuse(
            &text.at,
            "is no URL of such a document: it is https, has a path and no query; correct it, or remove it",
        );
    }
    Some(Some(url))
}

fn is_false(node: &Node<'_>) -> bool {
    node.value.as_boolean_lit().is_some_and(|literal| !literal.value)
}

fn resource(cx: &mut Context<'_>, fields: &Fields<'_>) -> ResourceParameter {
    let Some(node) = fields.get("resource") else { return ResourceParameter::Auto };
    if is_false(&node) {
        return ResourceParameter::Never;
    }
    let Some(text) = node.string(cx) else { return ResourceParameter::Auto };
    if text.value.eq_ignore_ascii_case("auto") {
        return ResourceParameter::Auto;
    }
    // RFC 8707 §2: an absolute URI, of whatever scheme.
    if !Url::parse(&text.value).is_ok_and(|url| url.fragment().is_none())
        || text.value.contains(char::is_whitespace)
    {
        cx.error(
            &text.at,
            "is no resource; write an absolute URI without a #fragment, \"auto\", or `false` for none",
        );
    }
    ResourceParameter::Is(text.value.into())
}

fn parameters(cx: &mut Context<'_>, fields: &Fields<'_>) -> Vec<(String, String)> {
    let mut parameters = Vec::new();
    let Some(entries) = fields.get("extraParams").and_then(|node| node.map(cx)) else { return parameters };
    for (name, key, node) in entries.entries() {
        let is_name = !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
        if !is_name {
            cx.error(&key, "is no name of a parameter; use letters, digits, `_`, `.` and `-`");
        } else if OWN_PARAMETERS.contains(&&*name.to_ascii_lowercase()) {
            cx.error(
                &key,
                "is set by the gateway; remove it, or use the key of `upstreamAuth` that is for it",
            );
        }
        if let Some(text) = node.string(cx) {
            parameters.push((name.to_owned(), text.value));
        }
    }
    parameters
}

fn header_name(cx: &mut Context<'_>, fields: &Fields<'_>, name: &str) -> Option<HeaderName> {
    let text = fields.text(cx, name)?;
    HeaderName::from_bytes(text.value.as_bytes())
        .ok()
        .or_else(|| cx.refuse(&text.at, "is no header name; use letters, digits and -, as in \"X-API-Key\""))
}

fn header(cx: &mut Context<'_>, fields: &Fields<'_>) -> Option<HeaderName> {
    let name = header_name(cx, fields, "header")?;
    match is_reserved(name.as_str()) {
        true => cx.refuse(
            &fields.key("header"),
            "is set by the gateway for every request; write another, as in \"X-API-Key\"",
        ),
        false => Some(name),
    }
}

/// What to say of a format that is none.
pub(super) const NO_FORMAT: &str =
    "has to have `{token}` in it, once, where the token goes; as in \"Bearer {token}\"";

fn format(cx: &mut Context<'_>, fields: &Fields<'_>) -> Option<TokenFormat> {
    let text = fields.text(cx, "format")?;
    let format = TokenFormat::parse(&text.value).filter(fits_everywhere);
    format.or_else(|| cx.refuse(&text.at, NO_FORMAT))
}

/// Whether what is around the token can be in a header, and so in a variable.
pub(super) fn fits_everywhere(format: &TokenFormat) -> bool {
    [&format.before, &format.after].into_iter().all(|text| HeaderValue::from_str(text).is_ok())
}

/// MCP Front has one word for two things: its documents write a pattern there, and its program puts the token into it.
fn of_mcp_front(
    cx: &mut Context<'_>,
    fields: &Fields<'_>,
    format: &mut Option<TokenFormat>,
    validation: &mut Option<Regex>,
) {
    let Some(node) = fields.get("tokenFormat") else { return };
    let parsed = node.literal().and_then(TokenFormat::parse).filter(fits_everywhere);
    let same = match parsed {
        Some(parsed) => {
            *format = Some(parsed);
            "format"
        }
        None => {
            *validation = pattern(cx, &node);
            "validation"
        }
    };
    if fields.has(same) {
        cx.error(&fields.key("tokenFormat"), format!("is the same as `{same}`; keep one of them"));
    }
}

/// A pattern of the whole of a token, in which nothing is a reference.
fn pattern(cx: &mut Context<'_>, node: &Node<'_>) -> Option<Regex> {
    let Some(text) = node.literal() else {
        return node.expected(cx, "a regular expression in double quotes");
    };
    if text.is_empty() || text.len() > LONGEST_PATTERN {
        return cx.refuse(&node.at, format!("has to have 1 to {LONGEST_PATTERN} bytes; shorten it"));
    }
    let compile = |text: &str| {
        RegexBuilder::new(text)
            .size_limit(LARGEST_PATTERN)
            .dfa_size_limit(LARGEST_PATTERN)
            .nest_limit(64)
            .build()
    };
    // By itself first: what closes a group of somebody else's is not one.
    match compile(text).and_then(|_| compile(&format!("^(?:{text})$"))) {
        Ok(regex) => Some(regex),
        Err(regex::Error::CompiledTooBig(_)) => {
            cx.refuse(&node.at, "takes too much memory; repeat less, as in \"[a-z0-9]{8,}\"")
        }
        Err(_) => cx.refuse(
            &node.at,
            "is no regular expression of the crate `regex`, which has neither look-around nor back-references; write a plainer one",
        ),
    }
}

fn display_name(cx: &mut Context<'_>, fields: &Fields<'_>) -> Option<Box<str>> {
    let text = fields.text(cx, "displayName")?;
    let name = text.value.trim();
    if name.is_empty() || name.chars().count() > LONGEST_NAME || name.contains(char::is_control) {
        let message = format!("has to be 1 to {LONGEST_NAME} characters on one line; shorten it");
        return cx.refuse(&text.at, message);
    }
    Some(name.into())
}

fn instructions(cx: &mut Context<'_>, fields: &Fields<'_>) -> Option<Box<str>> {
    let text = fields.text(cx, "instructions")?;
    let is_odd = |c: char| c.is_control() && c != '\n';
    if text.value.trim().is_empty() || text.value.len() > LONGEST_INSTRUCTIONS || text.value.contains(is_odd)
    {
        let message = format!("has to be 1 to {LONGEST_INSTRUCTIONS} bytes of plain text; shorten it");
        return cx.refuse(&text.at, message);
    }
    Some(text.value.into())
}
