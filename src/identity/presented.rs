//! Which token a request presents, and how to keep it from going any further.

use std::borrow::Cow;

use percent_encoding::percent_decode;

use crate::{error::ErrorKind, mcp::header::Occurrence, secret::holds};

/// What a request presents, and what therefore goes no further.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Presented<'a> {
    /// The token that decides.
    pub token: Cow<'a, [u8]>,
    /// Another one, in the query.
    pub other: Option<Cow<'a, [u8]>>,
}

impl Presented<'_> {
    /// Whether something of it stands somewhere in `value`.
    pub fn is_in(&self, value: &[u8]) -> bool {
        holds(value, &self.token) || self.other.as_ref().is_some_and(|other| holds(value, other))
    }
}

/// The token that a request presents, not yet checked: `Authorization: Bearer <token>` (RFC 6750 §2.1), or `?token=`
/// if `query_token` allows it. Where both are there, the header decides.
///
/// Anything else in that header, and either given twice, is an invalid token.
pub fn presented<'a>(
    authorization: Occurrence<'a>,
    query: Option<&'a str>,
    query_token: bool,
) -> Result<Presented<'a>, ErrorKind> {
    let in_query = token_parameter(query);
    if !matches!(in_query, Parameter::Not) && !query_token {
        return Err(ErrorKind::QueryTokenDisabled);
    }
    let in_header = match authorization {
        Occurrence::Not => None,
        Occurrence::Once(value) => Some(bearer(value.as_bytes()).ok_or(ErrorKind::InvalidToken)?),
        Occurrence::Often => return Err(ErrorKind::InvalidToken),
    };
    joined(in_header, in_query)?.ok_or(ErrorKind::Unauthorized)
}

/// What a request presents to a server that asks for no token, and that it is not to have all the same. Here the scheme does
/// not matter.
pub fn unasked<'a>(
    authorization: Occurrence<'a>,
    query: Option<&'a str>,
) -> Result<Presented<'a>, ErrorKind> {
    let in_header = match authorization {
        Occurrence::Not => None,
        Occurrence::Once(value) => {
            let value = value.as_bytes().trim_ascii();
            let behind_scheme = value.iter().position(|byte| *byte == b' ').map(|at| &value[at + 1..]);
            Some(behind_scheme.unwrap_or(value).trim_ascii())
        }
        Occurrence::Often => return Err(ErrorKind::InvalidToken),
    };
    Ok(joined(in_header, token_parameter(query))?.unwrap_or_default())
}

fn joined<'a>(
    in_header: Option<&'a [u8]>,
    in_query: Parameter<'a>,
) -> Result<Option<Presented<'a>>, ErrorKind> {
    let in_query = match in_query {
        Parameter::Not => None,
        Parameter::Once(token) => Some(percent_decode(token).into()),
        Parameter::Often => return Err(ErrorKind::InvalidToken),
    };
    Ok(match in_header {
        Some(token) => Some(Presented { token: token.into(), other: in_query }),
        None => in_query.map(|token| Presented { token, other: None }),
    })
}

/// The credentials behind `Bearer`, whose case does not matter (RFC 9110 §11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(6)?;
    let token = rest.trim_ascii();
    let well_formed = scheme.eq_ignore_ascii_case(b"bearer")
        && rest.first() == Some(&b' ')
        && !token.is_empty()
        && !token.contains(&b' ');
    well_formed.then_some(token)
}

/// The parameter `token` of a query.
enum Parameter<'a> {
    Not,
    Once(&'a [u8]),
    Often,
}

fn token_parameter(query: Option<&str>) -> Parameter<'_> {
    let parameters = query.unwrap_or_default().as_bytes().split(|b| *b == b'&');
    let mut tokens = parameters.filter_map(|parameter| parameter.strip_prefix(b"token="));
    match (tokens.next(), tokens.next()) {
        (None, _) => Parameter::Not,
        (Some(token), None) => Parameter::Once(token),
        (Some(_), Some(_)) => Parameter::Often,
    }
}

/// `query` without `token` and without any parameter that holds what is `presented`; everything else byte for byte.
pub fn without_token<'a>(query: &'a str, presented: &Presented<'_>) -> Cow<'a, str> {
    let betrays = |parameter: &[u8]| {
        parameter == b"token" || parameter.starts_with(b"token=") || presented.is_in(parameter)
    };
    // As bytes, in which to look for one costs less.
    if query.as_bytes().split(|b| *b == b'&').any(betrays) {
        let kept = query.split('&').filter(|parameter| !betrays(parameter.as_bytes()));
        kept.collect::<Vec<_>>().join("&").into()
    } else {
        query.into()
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, header};

    use super::{presented as presented_by, *};

    fn with(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (header::AUTHORIZATION, HeaderValue::from_str(value).unwrap())).collect()
    }

    fn authorization(headers: &HeaderMap) -> Occurrence<'_> {
        headers.get_all(header::AUTHORIZATION).iter().fold(Occurrence::Not, Occurrence::and)
    }

    fn presented<'a>(
        headers: &'a HeaderMap,
        query: Option<&'a str>,
        query_token: bool,
    ) -> Result<Cow<'a, [u8]>, ErrorKind> {
        let presented = presented_by(authorization(headers), query, query_token);
        presented.map(|presented| presented.token)
    }

    #[test]
    fn only_one_bearer_token_counts() {
        for good in ["Bearer abc", "bearer abc", "BEARER   abc "] {
            assert_eq!(presented(&with(&[good]), None, false).as_deref(), Ok(b"abc".as_slice()), "{good}");
        }
        for bad in [
            "Basic YWJj",
            "abc",
            "Bearer",
            "Bearer ",
            "Bearerabc",
            "Bearer a b",
            "Bearer\tabc",
            "",
            "Béarer x",
        ] {
            assert_eq!(presented(&with(&[bad]), None, false), Err(ErrorKind::InvalidToken), "{bad}");
        }
        assert_eq!(
            presented(&with(&["Bearer abc", "Bearer abc"]), None, false),
            Err(ErrorKind::InvalidToken)
        );
        assert_eq!(presented(&with(&[]), None, false), Err(ErrorKind::Unauthorized));
    }

    #[test]
    fn a_token_in_the_query_counts_only_where_it_is_allowed() {
        let none = with(&[]);
        assert_eq!(presented(&none, Some("a=1&token=x%2By"), true).as_deref(), Ok(b"x+y".as_slice()));
        assert_eq!(presented(&none, Some("token=x"), false), Err(ErrorKind::QueryTokenDisabled));
        assert_eq!(presented(&none, Some("mytoken=x&tokens=y"), false), Err(ErrorKind::Unauthorized));
        assert_eq!(
            presented(&with(&["Bearer abc"]), Some("token=x"), false),
            Err(ErrorKind::QueryTokenDisabled)
        );
    }

    #[test]
    fn of_two_tokens_the_header_decides_and_neither_goes_on() {
        let (one, none) = (with(&["Bearer abc"]), with(&[]));
        for query in ["token=x%2By", "a=1&token=x+y&b"] {
            let query = query.replace("%2B", "+");
            let both = presented_by(authorization(&one), Some(&query), true).unwrap();
            assert_eq!(*both.token, *b"abc");
            assert!(both.is_in(b"-abc-") && both.is_in(b"-x+y-") && !both.is_in(b"-ab-"));
            assert_eq!(unasked(authorization(&one), Some(&query)), Ok(both));
        }
        for headers in [&one, &none] {
            let twice = Some("token=x&a=1&token=x");
            assert_eq!(presented(headers, twice, true), Err(ErrorKind::InvalidToken));
            assert_eq!(unasked(authorization(headers), twice), Err(ErrorKind::InvalidToken));
        }
    }

    #[test]
    fn what_nobody_asked_for_is_known_whatever_its_scheme() {
        for (value, wanted) in
            [("Bearer abc", "abc"), ("Token  abc ", "abc"), ("Basic YWJj", "YWJj"), ("abc", "abc"), ("", "")]
        {
            let headers = with(&[value]);
            let found = unasked(authorization(&headers), None).unwrap();
            assert_eq!(*found.token, *wanted.as_bytes(), "{value}");
        }
        assert_eq!(unasked(Occurrence::Not, Some("a=1")), Ok(Presented::default()));
        let twice = with(&["Bearer a", "Bearer a"]);
        assert_eq!(unasked(authorization(&twice), None), Err(ErrorKind::InvalidToken));
    }

    #[test]
    fn the_query_goes_on_without_the_token_and_otherwise_unchanged() {
        let without = |query, token: &'static [u8]| {
            without_token(query, &Presented { token: token.into(), other: None }).into_owned()
        };
        assert_eq!(without("a=1&token=secret&b=%20", b"secret"), "a=1&b=%20");
        assert_eq!(without("token", b"secret"), "");
        assert_eq!(without("a=xsecretx&b", b"secret"), "b");
        assert_eq!(without("a=s%65cret&b", b"secret"), "b");
        assert_eq!(without("a=1&&b=", b"secret"), "a=1&&b=");
        assert_eq!(without("a=1", b""), "a=1");
    }
}
