//! Which token a request presents, and how to keep it from going any further.

use std::borrow::Cow;

use percent_encoding::percent_decode;

use crate::{error::ErrorKind, secret::holds, validate::Occurrence};

/// The token that a request presents, not yet checked: `Authorization: Bearer <token>` (RFC 6750 §2.1), or `?token=`
/// if `query_token` allows it.
///
/// Anything else in that header, and more than one token, is an invalid token: of two, one would go on to the server.
pub fn presented<'a>(
    authorization: Occurrence<'a>,
    query: Option<&'a str>,
    query_token: bool,
) -> Result<Cow<'a, [u8]>, ErrorKind> {
    let in_query = token_parameter(query);
    if !matches!(in_query, Parameter::Not) && !query_token {
        return Err(ErrorKind::QueryTokenDisabled);
    }
    match (authorization, in_query) {
        (Occurrence::Not, Parameter::Not) => Err(ErrorKind::Unauthorized),
        (Occurrence::Not, Parameter::Once(token)) => Ok(percent_decode(token).into()),
        (Occurrence::Once(value), Parameter::Not) => {
            bearer(value.as_bytes()).map(Cow::Borrowed).ok_or(ErrorKind::InvalidToken)
        }
        _ => Err(ErrorKind::InvalidToken),
    }
}

/// What a request presents to a server that asks for no token, and that it is not to have all the same; empty if that is
/// nothing. Here the scheme does not matter.
pub fn unasked<'a>(
    authorization: Occurrence<'a>,
    query: Option<&'a str>,
) -> Result<Cow<'a, [u8]>, ErrorKind> {
    match (authorization, token_parameter(query)) {
        (Occurrence::Not, Parameter::Not) => Ok(Cow::default()),
        (Occurrence::Not, Parameter::Once(token)) => Ok(percent_decode(token).into()),
        (Occurrence::Once(value), Parameter::Not) => {
            let value = value.as_bytes().trim_ascii();
            let behind_scheme = value.iter().position(|byte| *byte == b' ').map(|at| &value[at + 1..]);
            Ok(behind_scheme.unwrap_or(value).trim_ascii().into())
        }
        _ => Err(ErrorKind::InvalidToken),
    }
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

/// `query` without `token` and without any parameter that holds `secret`; everything else byte for byte.
pub fn without_token<'a>(query: &'a str, secret: &[u8]) -> Cow<'a, str> {
    let betrays = |parameter: &[u8]| {
        parameter == b"token" || parameter.starts_with(b"token=") || holds(parameter, secret)
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
    use crate::validate;

    fn with(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (header::AUTHORIZATION, HeaderValue::from_str(value).unwrap())).collect()
    }

    fn presented<'a>(
        headers: &'a HeaderMap,
        query: Option<&'a str>,
        query_token: bool,
    ) -> Result<Cow<'a, [u8]>, ErrorKind> {
        presented_by(validate::fields(headers).authorization, query, query_token)
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
    fn two_tokens_are_none() {
        let (one, none) = (with(&["Bearer abc"]), with(&[]));
        for (headers, query) in [(&one, "token=x"), (&none, "token=x&a=1&token=x")] {
            assert_eq!(presented(headers, Some(query), true), Err(ErrorKind::InvalidToken), "{query}");
            let authorization = validate::fields(headers).authorization;
            assert_eq!(unasked(authorization, Some(query)), Err(ErrorKind::InvalidToken), "{query}");
        }
    }

    #[test]
    fn what_nobody_asked_for_is_known_whatever_its_scheme() {
        for (value, wanted) in
            [("Bearer abc", "abc"), ("Token  abc ", "abc"), ("Basic YWJj", "YWJj"), ("abc", "abc"), ("", "")]
        {
            let headers = with(&[value]);
            let authorization = validate::fields(&headers).authorization;
            assert_eq!(unasked(authorization, None).as_deref(), Ok(wanted.as_bytes()), "{value}");
        }
        assert_eq!(unasked(Occurrence::Not, Some("a=1")).as_deref(), Ok(b"".as_slice()));
    }

    #[test]
    fn the_query_goes_on_without_the_token_and_otherwise_unchanged() {
        assert_eq!(without_token("a=1&token=secret&b=%20", b"secret"), "a=1&b=%20");
        assert_eq!(without_token("token", b"secret"), "");
        assert_eq!(without_token("a=xsecretx&b", b"secret"), "b");
        assert_eq!(without_token("a=s%65cret&b", b"secret"), "b");
        assert_eq!(without_token("a=1&&b=", b"secret"), "a=1&&b=");
        assert_eq!(without_token("a=1", b""), "a=1");
    }
}
