//! Which credential a request presents, and how to keep it from going any further.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use percent_encoding::percent_decode;

use crate::{config::Schemes, error::ErrorKind, identity::Principal, mcp::header::Occurrence, secret::holds};

/// Longest value of a field that carries a credential. No token is that long.
const LONGEST: usize = 8 * 1024;
/// Shortest password that is looked for in what else a request says. A shorter one may be a part of any word, so it is known
/// only as the whole of something.
const SHORTEST_PART: usize = 8;

/// The field of the scheme `x-api-key`.
pub static X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// Name of the parameter that carries a token.
pub const TOKEN_PARAMETER: &str = "token";
/// Name of the cookie that carries a token.
pub const TOKEN_COOKIE: &str = "token";

/// What a request presents, and what therefore goes no further.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Presented<'a> {
    /// The secret that decides: a token, or what `Basic` has behind the name.
    pub token: Cow<'a, [u8]>,
    /// Whose secret it has to be.
    pub claim: Claim,
    /// What else in the request is a credential, or holds one.
    others: Vec<Cow<'a, [u8]>>,
}

impl<'a> Presented<'a> {
    /// A token and nothing else.
    pub fn bare(token: &'a [u8]) -> Self {
        Self { token: token.into(), ..Self::default() }
    }

    /// Whether something of it stands somewhere in `value`.
    pub fn is_in(&self, value: &[u8]) -> bool {
        let holds_token = match self.claim {
            Claim::Named(_) if self.token.len() < SHORTEST_PART => is_whole(value, &self.token),
            _ => holds(value, &self.token),
        };
        holds_token || self.others.iter().any(|other| holds(value, other))
    }

    /// Whether it may be a credential of `principal`, once that is known to have the secret.
    pub fn may_prove(&self, principal: &Principal) -> bool {
        match (&self.claim, principal) {
            (
                Claim::AnyToken,
                Principal::Token(_)
                | Principal::User(_)
                | Principal::Client(_)
                | Principal::Foreign(_)
                | Principal::Idp(_),
            )
            | (Claim::AnyTenant, Principal::Tenant(_)) => true,
            (Claim::Named(name), Principal::Token(own) | Principal::User(own)) => own.as_bytes() == name,
            _ => false,
        }
    }
}

/// Whose secret something is presented as.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Claim {
    /// Of a token or of a user's session, whatever the name is.
    #[default]
    AnyToken,
    /// Of this name, by `Basic`.
    Named(Vec<u8>),
    /// Of a tenant, by the field that is for them.
    AnyTenant,
}

/// A value of which there should be one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Given<'a> {
    #[default]
    Not,
    Once(&'a [u8]),
    Often,
}

impl<'a> Given<'a> {
    fn of(values: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut values = values.into_iter();
        match (values.next(), values.next()) {
            (None, _) => Self::Not,
            (Some(value), None) => Self::Once(value),
            (Some(_), Some(_)) => Self::Often,
        }
    }
}

impl<'a> From<Occurrence<'a>> for Given<'a> {
    fn from(field: Occurrence<'a>) -> Self {
        match field {
            Occurrence::Not => Self::Not,
            Occurrence::Once(value) => Self::Once(value.as_bytes()),
            Occurrence::Often => Self::Often,
        }
    }
}

/// The places of a request in which a credential may be. Those of schemes that are off are not looked for, except where that is
/// an error.
#[derive(Debug, Clone, Copy)]
pub struct CredentialFields<'a> {
    authorization: Given<'a>,
    x_api_key: Given<'a>,
    cookie: Given<'a>,
    query: Given<'a>,
    tenant: Given<'a>,
    schemes: Schemes,
}

impl<'a> CredentialFields<'a> {
    /// `authorization` is that of `headers`; `query` is the client's own.
    pub fn of(
        headers: &'a HeaderMap,
        authorization: Occurrence<'a>,
        query: Option<&'a str>,
        schemes: Schemes,
        tenant_header: Option<&HeaderName>,
    ) -> Self {
        let field = |name: &HeaderName| {
            Given::of(headers.get_all(name).iter().map(|value| value.as_bytes().trim_ascii()))
        };
        let x_api_key = if schemes.x_api_key { field(&X_API_KEY) } else { Given::Not };
        let tenant = tenant_header.map_or(Given::Not, field);
        let cookie = if schemes.cookie {
            Given::of(headers.get_all(header::COOKIE).iter().flat_map(token_cookies))
        } else {
            Given::Not
        };
        let query = query.map_or(Given::Not, |query| Given::of(token_parameters(query)));
        Self { authorization: authorization.into(), x_api_key, cookie, query, tenant, schemes }
    }

    /// The credential that the request presents, not yet checked. There has to be one, in one place, and in a form of that place
    /// (RFC 6750 §2: "MUST NOT use more than one method"). Two are refused even if they are the same: servers and proxies would
    /// not agree on which one counts.
    pub fn presented(&self) -> Result<Presented<'a>, ErrorKind> {
        if self.query != Given::Not && !self.schemes.query {
            return Err(ErrorKind::QueryTokenDisabled);
        }
        let mut found = None;
        for (given, read) in self.each() {
            match (given, &found) {
                (Given::Not, _) => {}
                (Given::Once(value), None) if value.len() <= LONGEST => {
                    found = Some(read(value, self.schemes).ok_or(ErrorKind::InvalidToken)?);
                }
                _ => return Err(ErrorKind::InvalidToken),
            }
        }
        found.ok_or(ErrorKind::Unauthorized)
    }

    /// What is presented to a server that asks for no credential, and that it is not to have all the same. In `Authorization`, the
    /// scheme does not matter.
    pub fn unasked(&self) -> Result<Presented<'a>, ErrorKind> {
        let mut presented = Presented::default();
        for (given, read) in self.each() {
            let value = match given {
                Given::Not => continue,
                Given::Once(value) => value,
                Given::Often => return Err(ErrorKind::InvalidToken),
            };
            // In what is no credential, a token may still be: `X-API-Key: Bearer TOKEN`.
            let known = read(value, self.schemes).unwrap_or_else(|| Presented::bare(behind_scheme(value)));
            if presented.token.is_empty() {
                presented.token = known.token;
                presented.claim = known.claim;
            } else {
                presented.others.push(known.token);
            }
            presented.others.extend(known.others);
        }
        Ok(presented)
    }

    /// Each place, and what reads a credential there.
    fn each(&self) -> [(Given<'a>, ReadCredential<'a>); 5] {
        [
            (self.authorization, of_authorization),
            (self.x_api_key, |value, _| bare(value)),
            (self.cookie, |value, _| bare(value)),
            (self.tenant, |value, _| Some(Presented { claim: Claim::AnyTenant, ..bare(value)? })),
            (self.query, |value, _| {
                Some(Presented { token: percent_decode(value).into(), ..Presented::default() })
            }),
        ]
    }
}

/// Whether a request tries the scheme `Basic`, and that is on.
pub fn tries_basic(authorization: Occurrence<'_>, schemes: Schemes) -> bool {
    let is_basic = |value: &HeaderValue| {
        value.as_bytes().get(..6).is_some_and(|start| start.eq_ignore_ascii_case(b"basic "))
    };
    schemes.basic && authorization.once().is_some_and(is_basic)
}

type ReadCredential<'a> = fn(&'a [u8], Schemes) -> Option<Presented<'a>>;

/// A token in a field of its own.
fn bare(value: &[u8]) -> Option<Presented<'_>> {
    let is_token = !value.is_empty() && !value.contains(&b' ');
    is_token.then(|| Presented::bare(value))
}

/// The credentials behind a scheme that is on. Its case does not matter (RFC 9110 §11.1).
fn of_authorization(value: &[u8], schemes: Schemes) -> Option<Presented<'_>> {
    let at = value.iter().position(|byte| *byte == b' ')?;
    let (scheme, rest) = (&value[..at], value[at..].trim_ascii());
    let is = |name: &[u8]| scheme.eq_ignore_ascii_case(name);
    if (schemes.bearer && is(b"bearer")) || (schemes.api_key && is(b"apikey")) {
        bare(rest)
    } else if schemes.basic && is(b"basic") {
        basic(rest)
    } else {
        None
    }
}

/// A name and its secret, in base64 (RFC 7617 §2): up to the first colon it is the name.
fn basic(encoded: &[u8]) -> Option<Presented<'_>> {
    let mut name = STANDARD.decode(encoded).ok()?;
    let colon = name.iter().position(|byte| *byte == b':')?;
    let token = name.split_off(colon + 1);
    name.truncate(colon);
    let others = vec![Cow::Borrowed(encoded)];
    (!token.is_empty()).then(|| Presented { token: token.into(), claim: Claim::Named(name), others })
}

/// Whether `value`, or what it gives a name to, is `secret`.
fn is_whole(value: &[u8], secret: &[u8]) -> bool {
    !secret.is_empty()
        && value.strip_suffix(secret).is_some_and(|name| name.last().is_none_or(|last| *last == b'='))
}

fn behind_scheme(value: &[u8]) -> &[u8] {
    let value = value.trim_ascii();
    let behind = value.iter().position(|byte| *byte == b' ').map(|at| &value[at + 1..]);
    behind.unwrap_or(value).trim_ascii()
}

/// The values of the cookies `token` in a field.
fn token_cookies(field: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    field.as_bytes().split(|byte| *byte == b';').filter_map(|cookie| {
        let at = cookie.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (cookie[..at].trim_ascii(), cookie[at + 1..].trim_ascii());
        (name == TOKEN_COOKIE.as_bytes()).then_some(value)
    })
}

/// The values of the parameters `token` of a query.
fn token_parameters(query: &str) -> impl Iterator<Item = &[u8]> {
    query.as_bytes().split(|byte| *byte == b'&').filter_map(token_of)
}

/// The value of a parameter, if it is `token` in the one spelling by which it counts.
pub fn token_of(parameter: &[u8]) -> Option<&[u8]> {
    parameter.strip_prefix(TOKEN_PARAMETER.as_bytes())?.strip_prefix(b"=")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEARER: Schemes = Schemes { bearer: true, ..Schemes::NONE };
    const QUERY: Schemes = Schemes { query: true, ..BEARER };
    /// alice:secret-of-alice
    const ALICE: &str = "YWxpY2U6c2VjcmV0LW9mLWFsaWNl";

    /// A request with these fields, and a query.
    struct Asked {
        headers: HeaderMap,
        query: Option<&'static str>,
        tenant_header: Option<HeaderName>,
    }

    fn with(fields: &[(&'static str, &str)], query: Option<&'static str>) -> Asked {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        Asked { headers, query, tenant_header: None }
    }

    fn bearing(values: &[&str], query: Option<&'static str>) -> Asked {
        with(&values.iter().map(|value| ("authorization", *value)).collect::<Vec<_>>(), query)
    }

    impl Asked {
        fn fields(&self, schemes: Schemes) -> CredentialFields<'_> {
            let all = self.headers.get_all(header::AUTHORIZATION).iter();
            let authorization = all.fold(Occurrence::Not, Occurrence::and);
            CredentialFields::of(
                &self.headers,
                authorization,
                self.query,
                schemes,
                self.tenant_header.as_ref(),
            )
        }

        fn presented(&self, schemes: Schemes) -> Result<Presented<'_>, ErrorKind> {
            self.fields(schemes).presented()
        }

        fn token(&self, schemes: Schemes) -> Result<String, ErrorKind> {
            let presented = self.presented(schemes)?;
            Ok(String::from_utf8(presented.token.into_owned()).unwrap())
        }

        fn unasked(&self, schemes: Schemes) -> Result<Presented<'_>, ErrorKind> {
            self.fields(schemes).unasked()
        }
    }

    #[test]
    fn only_one_bearer_token_counts() {
        for good in ["Bearer abc", "bearer abc", "BEARER   abc "] {
            assert_eq!(bearing(&[good], None).token(BEARER).as_deref(), Ok("abc"), "{good}");
        }
        let bad = [
            "Basic YWJj",
            "abc",
            "Bearer",
            "Bearer ",
            "Bearerabc",
            "Bearer a b",
            "Bearer\tabc",
            "",
            "Béarer x",
        ];
        for bad in bad {
            assert_eq!(bearing(&[bad], None).token(Schemes::ALL), Err(ErrorKind::InvalidToken), "{bad}");
        }
        let twice = bearing(&["Bearer abc", "Bearer abc"], None);
        assert_eq!(twice.token(BEARER), Err(ErrorKind::InvalidToken));
        assert_eq!(with(&[], None).token(BEARER), Err(ErrorKind::Unauthorized));
    }

    #[test]
    fn a_scheme_that_is_off_presents_nothing() {
        let basic = format!("bAsIc {ALICE}");
        let none = Schemes::NONE;
        for (field, value, own, token) in [
            ("authorization", "bearer abc", Schemes { bearer: true, ..none }, "abc"),
            ("authorization", "aPiKeY abc", Schemes { api_key: true, ..none }, "abc"),
            ("authorization", &*basic, Schemes { basic: true, ..none }, "secret-of-alice"),
            ("x-api-key", " abc\t", Schemes { x_api_key: true, ..none }, "abc"),
            ("cookie", "a=1; token=abc;token2=x", Schemes { cookie: true, ..none }, "abc"),
            ("cookie", " token = abc ", Schemes { cookie: true, ..none }, "abc"),
        ] {
            let asked = with(&[(field, value)], None);
            assert_eq!(asked.token(own).as_deref(), Ok(token), "{value}");
            assert_eq!(asked.token(Schemes::ALL).as_deref(), Ok(token), "{value}");
            // A field of its own means nothing then, and another scheme of `Authorization` is refused.
            let refused =
                if field == "authorization" { ErrorKind::InvalidToken } else { ErrorKind::Unauthorized };
            assert_eq!(asked.token(none), Err(refused), "{value}");
            let others = Schemes {
                bearer: !own.bearer,
                basic: !own.basic,
                api_key: !own.api_key,
                x_api_key: !own.x_api_key,
                cookie: !own.cookie,
                query: true,
            };
            assert_eq!(asked.token(others), Err(refused), "{value}");
        }
        // What is off does not make it two.
        let both = with(&[("authorization", "Bearer abc"), ("x-api-key", "x"), ("cookie", "token=y")], None);
        assert_eq!(both.token(BEARER).as_deref(), Ok("abc"));
    }

    #[test]
    fn basic_has_a_name_whose_secret_it_has_to_be() {
        let of = |value: &str| {
            let value = format!("Basic {}", STANDARD.encode(value));
            let asked = bearing(&[&value], None);
            let presented = asked.presented(Schemes::ALL)?;
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            let Claim::Named(name) = &presented.claim else { panic!("{:?}", presented.claim) };
            Ok((text(name), text(&presented.token)))
        };
        let pair = |name: &str, token: &str| Ok((name.to_owned(), token.to_owned()));
        assert_eq!(of("alice:x"), pair("alice", "x"));
        assert_eq!(of("alice:x:y:"), pair("alice", "x:y:"));
        assert_eq!(of(":x"), pair("", "x"));
        assert_eq!(of("zoë:pass wörd"), pair("zoë", "pass wörd"));
        for bad in ["", ":", "alice", "alice:"] {
            assert_eq!(of(bad), Err(ErrorKind::InvalidToken), "{bad}");
        }
        for bad in [
            "YWxpY2U6eA",
            "YWxpY2U6eA=",
            "YWxpY2U6eA===",
            "YWxpY2U6eB==",
            "YWxp Y2U6eA==",
            "YWxpY2U6eA=\t=",
            "é",
        ] {
            let asked = bearing(&[&format!("Basic {bad}")], None);
            assert_eq!(asked.token(Schemes::ALL), Err(ErrorKind::InvalidToken), "{bad}");
        }
        let value = format!("Basic {ALICE}");
        let asked = bearing(&[&value], None);
        let presented = asked.presented(Schemes::ALL).unwrap();
        for held in ["x secret-of-alice", &format!("x{ALICE}y"), "secret%2Dof-alice"] {
            assert!(presented.is_in(held.as_bytes()), "{held}");
        }
        assert!(!presented.is_in(b"alice"));
        let short = format!("Basic {}", STANDARD.encode("alice:json"));
        let asked = bearing(&[&short], None);
        for presented in [asked.presented(Schemes::ALL).unwrap(), asked.unasked(Schemes::ALL).unwrap()] {
            assert!(presented.is_in(b"json") && presented.is_in(b"a=json"));
            assert!(presented.is_in(STANDARD.encode("alice:json").as_bytes()));
            assert!(!presented.is_in(b"application/json"), "a word of everybody's");
        }
        let of = |name: &str| Principal::Token(name.into());
        assert!(presented.may_prove(&of("alice")) && !presented.may_prove(&of("alic")));
        assert!(
            !presented.may_prove(&Principal::Nobody)
                && !presented.may_prove(&Principal::Tenant("alice".into()))
        );
        let nameless = bearing(&["Bearer x"], None);
        assert!(nameless.presented(BEARER).unwrap().may_prove(&of("alice")));
    }

    #[test]
    fn a_tenant_has_a_field_of_its_own_and_the_others_have_none_of_it() {
        let name = HeaderName::from_static("x-tenant-token");
        let asked = |fields: &[(&'static str, &str)]| Asked {
            tenant_header: Some(name.clone()),
            ..with(fields, None)
        };
        let (acme, token) = (Principal::Tenant("acme".into()), Principal::Token("acme".into()));
        let tenant = asked(&[("x-tenant-token", " abc ")]);
        let presented = tenant.presented(Schemes::NONE).unwrap();
        assert_eq!(*presented.token, *b"abc");
        assert!(presented.may_prove(&acme) && !presented.may_prove(&token));
        let bearer = asked(&[("authorization", "Bearer abc")]);
        let presented = bearer.presented(BEARER).unwrap();
        assert!(presented.may_prove(&token) && !presented.may_prove(&acme));
        for bad in [
            &[("x-tenant-token", "abc"), ("x-tenant-token", "abc")][..],
            &[("x-tenant-token", "abc"), ("authorization", "Bearer abc")],
            &[("x-tenant-token", "abc"), ("x-api-key", "abc")],
            &[("x-tenant-token", "")],
            &[("x-tenant-token", "Bearer abc")],
        ] {
            assert_eq!(asked(bad).token(Schemes::ALL), Err(ErrorKind::InvalidToken), "{bad:?}");
        }
        let unasked = asked(&[("x-tenant-token", "abc"), ("authorization", "Bearer def")]);
        let presented = unasked.unasked(BEARER).unwrap();
        assert!(presented.is_in(b"-abc-") && presented.is_in(b"-def-"));
        // Without tenants it means nothing.
        assert_eq!(with(&[("x-tenant-token", "abc")], None).token(BEARER), Err(ErrorKind::Unauthorized));
    }

    #[test]
    fn a_browser_is_asked_for_a_password_only_if_it_tried_one() {
        let tries = |values: &[&str], schemes| {
            let asked = bearing(values, None);
            let all = asked.headers.get_all(header::AUTHORIZATION).iter();
            tries_basic(all.fold(Occurrence::Not, Occurrence::and), schemes)
        };
        assert!(tries(&["BASIC x"], Schemes::ALL));
        assert!(!tries(&["Basic x"], BEARER));
        for other in [&["Bearer x"][..], &["Basicx"], &["Basic"], &[], &["Basic x", "Basic x"]] {
            assert!(!tries(other, Schemes::ALL), "{other:?}");
        }
    }

    #[test]
    fn a_token_in_the_query_counts_only_where_it_is_allowed() {
        let asked = |query| with(&[], Some(query));
        assert_eq!(asked("a=1&token=x%2By").token(QUERY).as_deref(), Ok("x+y"));
        assert_eq!(asked("token=x").token(BEARER), Err(ErrorKind::QueryTokenDisabled));
        assert_eq!(asked("mytoken=x&tokens=y").token(BEARER), Err(ErrorKind::Unauthorized));
        let both = bearing(&["Bearer abc"], Some("token=x"));
        assert_eq!(both.token(BEARER), Err(ErrorKind::QueryTokenDisabled));
    }

    #[test]
    fn two_credentials_are_refused_even_if_they_are_the_same() {
        let basic = format!("Basic {ALICE}");
        let places = [
            ("authorization", "Bearer abc"),
            ("authorization", "ApiKey abc"),
            ("authorization", &*basic),
            ("x-api-key", "abc"),
            ("cookie", "token=abc"),
        ];
        for one in places {
            for other in places {
                let asked = with(&[one, other], None);
                assert_eq!(asked.token(Schemes::ALL), Err(ErrorKind::InvalidToken), "{one:?} {other:?}");
            }
            let asked = with(&[one], Some("token=abc"));
            assert_eq!(asked.token(Schemes::ALL), Err(ErrorKind::InvalidToken), "{one:?}");
        }
        for twice in [
            with(&[], Some("token=x&a=1&token=x")),
            with(&[("cookie", "token=abc; token=abc")], None),
            with(&[("cookie", "token=; a=1"), ("cookie", "token=abc")], None),
        ] {
            assert_eq!(twice.token(Schemes::ALL), Err(ErrorKind::InvalidToken));
            assert_eq!(twice.unasked(Schemes::ALL), Err(ErrorKind::InvalidToken));
        }
    }

    #[test]
    fn a_credential_is_not_empty_and_has_an_end() {
        for (field, value) in
            [("x-api-key", ""), ("x-api-key", "a b"), ("x-api-key", "Bearer abc"), ("cookie", "token=")]
        {
            let asked = with(&[(field, value)], None);
            assert_eq!(asked.token(Schemes::ALL), Err(ErrorKind::InvalidToken), "{value:?}");
        }
        let (fits, long) = ("x".repeat(LONGEST), "x".repeat(LONGEST + 1));
        assert!(with(&[("x-api-key", &fits)], None).token(Schemes::ALL).is_ok());
        let long_cookie = format!("token={long}");
        let long_bearer = format!("Bearer {}", &fits[6..]);
        for (field, value) in
            [("x-api-key", &long), ("cookie", &long_cookie), ("authorization", &long_bearer)]
        {
            let asked = with(&[(field, value)], None);
            assert_eq!(asked.token(Schemes::ALL), Err(ErrorKind::InvalidToken), "{field}");
        }
    }

    #[test]
    fn what_nobody_asked_for_is_known_wherever_it_is() {
        for (value, wanted) in
            [("Bearer abc", "abc"), ("Token  abc ", "abc"), ("Basic YWJj", "YWJj"), ("abc", "abc"), ("", "")]
        {
            let asked = bearing(&[value], None);
            for schemes in [BEARER, Schemes::ALL] {
                assert_eq!(*asked.unasked(schemes).unwrap().token, *wanted.as_bytes(), "{value}");
            }
        }
        assert_eq!(with(&[], Some("a=1")).unasked(BEARER), Ok(Presented::default()));
        let twice = bearing(&["Bearer a", "Bearer a"], None);
        assert_eq!(twice.unasked(BEARER), Err(ErrorKind::InvalidToken));
        let all = with(
            &[
                ("authorization", &*format!("Basic {ALICE}")),
                ("x-api-key", "Bearer key-of-alice"),
                ("cookie", "a=b; token=cookie-of-alice"),
            ],
            Some("token=query%2Dof-alice"),
        );
        let presented = all.unasked(Schemes::ALL).unwrap();
        for held in [ALICE, "secret-of-alice", "key-of-alice", "cookie-of-alice", "query-of-alice"] {
            assert!(presented.is_in(format!("-{held}-").as_bytes()), "{held}");
        }
        assert!(!presented.is_in(b"alice") && !presented.is_in(b"a=b"));
        let presented = all.unasked(BEARER).unwrap();
        assert!(presented.is_in(ALICE.as_bytes()) && presented.is_in(b"query-of-alice"));
        assert!(!presented.is_in(b"key-of-alice"), "a field of a scheme that is off is none");
    }
}
