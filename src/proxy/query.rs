//! What of the caller's query goes on to a server.
//!
//! Of two parameters with one name some servers take the first and some the last, and what is one name differs: Starlette,
//! PHP and Rails decode escapes, PHP makes `_` of `.` and of a blank, PHP and Rails read `name[]` as `name`, ASP.NET
//! ignores case and knows `%u0061`. So a parameter that any of them could take for one of the config, or for the `token` by
//! which callers may prove who they are, is dropped.

use std::borrow::Cow;

use percent_encoding::percent_decode;

use crate::{
    config::HttpTarget,
    identity::presented::{Presented, TOKEN_PARAMETER, token_of},
};

/// Most layers of escapes that are taken off a name: servers take off one, and a proxy before them perhaps another.
const MOST_LAYERS: usize = 4;

/// The request target: the configured path and query, and what may pass of the caller's.
pub(super) fn target<'a>(to: &'a HttpTarget, query: &str) -> Cow<'a, str> {
    let configured = to.path_and_query();
    if query.is_empty() || !to.pass_query {
        return configured.into();
    }
    let (joint, query) = match to.url.query() {
        None => ('?', Cow::Borrowed(query)),
        Some(own) => ('&', without(query, own)),
    };
    if query.is_empty() { configured.into() } else { format!("{configured}{joint}{query}").into() }
}

/// `query` without the parameters that `own` has.
fn without<'a>(query: &'a str, own: &str) -> Cow<'a, str> {
    let own: Vec<Name> = parameters(own).filter_map(|(_, parameter)| Name::read(parameter)).collect();
    // A name that parsers do not agree on may be any.
    let passes =
        |parameter: &str| Name::read(parameter).is_some_and(|name| !own.iter().any(|own| own.is_like(&name)));
    with_those(query, passes)
}

/// `query` without `token`, in whatever spelling, and without any parameter that holds what is `presented`; everything else byte
/// for byte.
pub(super) fn without_token<'a>(query: &'a str, presented: &Presented<'_>) -> Cow<'a, str> {
    // As the gateway itself reads it: a `;` is a part of the value.
    let betrays = |part: &str| token_of(part.as_bytes()).is_some() || presented.is_in(part.as_bytes());
    if query.split('&').any(betrays) {
        let kept: Vec<_> = query.split('&').filter(|part| !betrays(part)).collect();
        with_those(&kept.join("&"), |parameter| !may_be_token(parameter)).into_owned().into()
    } else {
        with_those(query, |parameter| !may_be_token(parameter))
    }
}

/// Whether some server may take this parameter for `token`.
fn may_be_token(parameter: &str) -> bool {
    let name = parameter.split_once('=').map_or(parameter, |(name, _)| name);
    if name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return name.eq_ignore_ascii_case(TOKEN_PARAMETER);
    }
    let token = Name(vec![TOKEN_PARAMETER.to_owned()]);
    // A name that parsers do not agree on may be any.
    Name::read(parameter).is_none_or(|name| name.is_like(&token))
}

/// `query` with the parameters that pass. They keep their bytes and what separates them.
fn with_those(query: &str, passes: impl Fn(&str) -> bool) -> Cow<'_, str> {
    if parameters(query).all(|(_, parameter)| passes(parameter)) {
        return query.into();
    }
    let mut kept = String::with_capacity(query.len());
    for (separator, parameter) in parameters(query).filter(|(_, parameter)| passes(parameter)) {
        if !kept.is_empty() {
            kept.push_str(separator);
        }
        kept.push_str(parameter);
    }
    kept.into()
}

/// Each parameter and what separates it from the one before. `;` separates where RFC 1866 §8.2.1 is followed.
fn parameters(query: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut parts = query.split_inclusive(['&', ';']);
    let mut separator = "";
    std::iter::from_fn(move || {
        let part = parts.next()?;
        let parameter = part.trim_end_matches(['&', ';']);
        Some((std::mem::replace(&mut separator, &part[parameter.len()..]), parameter))
    })
}

/// What servers may take for the name of a parameter: its letters and digits, up to its end and up to each bracket, dot or the
/// like, behind which may stand an element of something with that name.
struct Name(Vec<String>);

impl Name {
    /// `None` if it has a byte that is not visible ASCII or a blank, whatever escapes it comes in.
    fn read(parameter: &str) -> Option<Self> {
        let raw = parameter.split_once('=').map_or(parameter, |(name, _)| name);
        let name = plain(raw)?;
        let ends = |c: char| matches!(c, '[' | ']' | '.' | '=' | '&' | ';' | ':' | '/' | '?');
        let letters = |text: &str| text.chars().filter(char::is_ascii_alphanumeric).collect::<String>();
        let parts = name.match_indices(ends).map(|(at, _)| letters(&name[..at]));
        Some(Self(parts.filter(|part| !part.is_empty()).chain([letters(&name)]).collect()))
    }

    fn is_like(&self, other: &Self) -> bool {
        self.0.iter().any(|name| other.0.contains(name))
    }
}

/// `raw` without escapes, in lower case.
fn plain(raw: &str) -> Option<String> {
    let mut name = raw.to_owned();
    for _ in 0..MOST_LAYERS {
        let bare = without_unicode_escapes(&name.replace('+', " "))?;
        let bare = String::from_utf8(percent_decode(bare.as_bytes()).collect()).ok()?;
        if !bare.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return None;
        }
        if bare == name {
            return Some(name.to_ascii_lowercase());
        }
        name = bare;
    }
    None
}

/// `%u0061` is `a` to ASP.NET. `None` if one stands for something else than visible ASCII or a blank.
fn without_unicode_escapes(name: &str) -> Option<String> {
    let mut parts = name.split("%u");
    let mut bare = parts.next()?.to_owned();
    for part in parts {
        match part.get(..4).and_then(|digits| u32::from_str_radix(digits, 16).ok()) {
            Some(code @ 0x20..=0x7E) => {
                bare.push(char::from_u32(code)?);
                bare.push_str(&part[4..]);
            }
            Some(_) => return None,
            None => {
                bare.push_str("%u");
                bare.push_str(part);
            }
        }
    }
    Some(bare)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_parameter_of_the_config_is_known_in_every_spelling() {
        let own = "read_only=true&filter[a]=1&v2&a.b=1";
        for dropped in [
            "read_only",
            "Read_Only=",
            "read%5Fonly=0",
            "read%255fonly",
            "re%u0061d_only",
            "re%U0061d_only%",
            " read_only",
            "read.only",
            "read+only",
            "read_only[]",
            "read_only]",
            "[read_only]",
            "read_only%5b%5d",
            "read_only.x",
            "read_only%3dx",
            "read_only%00",
            "r\u{e9}ad",
            "%ff",
            "%u2160",
            "%25252525252541",
            "filter=1",
            "filter[b]=1",
            "V%32",
            "a=1",
            "read.only[]x",
            "..read_only[x].y",
        ] {
            // An escape that is none stands for itself, which hides nothing.
            let wanted = if dropped.starts_with("re%U") { dropped } else { "" };
            assert_eq!(without(dropped, own), wanted, "{dropped}");
            assert_eq!(without(&format!("x=1&{dropped}&y=2"), own).contains(dropped), !wanted.is_empty());
        }
        for kept in ["x=read_only", "only", "read", "v", "v22=1", "b.a=1", "%", "%zz=1", "=1", ""] {
            assert_eq!(without(kept, own), kept, "{kept}");
        }
    }

    #[test]
    fn what_stays_keeps_its_bytes_and_its_separators() {
        assert_eq!(without("a=%7E;b&c=&&d", "x"), "a=%7E;b&c=&&d");
        assert_eq!(without("x=1;a=%7E&x&b;X=2;c&x", "x"), "a=%7E&b;c");
        assert_eq!(without("a=1&x", "x"), "a=1");
        assert_eq!(without("x;x&x", "x"), "");
    }

    #[test]
    fn the_query_goes_on_without_the_token_and_otherwise_unchanged() {
        let without =
            |query, token: &'static [u8]| without_token(query, &Presented::bare(token)).into_owned();
        assert_eq!(without("a=1&token=secret&b=%20", b"secret"), "a=1&b=%20");
        assert_eq!(without("token", b"secret"), "");
        assert_eq!(without("a=xsecretx&b", b"secret"), "b");
        assert_eq!(without("a=s%65cret&b", b"secret"), "b");
        assert_eq!(without("a=1&&b=", b"secret"), "a=1&&b=");
        assert_eq!(without("a=1", b""), "a=1");
        assert_eq!(without("token=se;cret&a=1;b", b"se;cret"), "a=1;b");
    }

    #[test]
    fn the_token_is_known_in_every_spelling() {
        let without = |query: &str| without_token(query, &Presented::bare(b"secret")).into_owned();
        for spelling in [
            "%74oken",
            "TOKEN",
            "Token",
            "t%6Fken",
            "%2574oken",
            "+token",
            "token+",
            "%20token",
            "token%00",
            "token[]",
            "token[a]",
            "token%5B%5D",
            "token.x",
            "to_ken",
            "token%3D",
            "%u0074oken",
            "[token]",
            "token%FF",
        ] {
            for (query, left) in [
                (format!("{spelling}=x"), ""),
                (format!("a=1&{spelling}=x&b=2"), "a=1&b=2"),
                (format!("a=1;{spelling}=x;b=2"), "a=1;b=2"),
                (spelling.to_owned(), ""),
            ] {
                assert_eq!(without(&query), left, "{query}");
            }
        }
        for kept in ["tokens=1", "mytoken=1", "page_token=1", "x=token", "a.token=1", "%zz=1", "=token"] {
            assert_eq!(without(kept), kept);
        }
    }

    proptest! {
        #[test]
        fn no_form_parser_finds_a_parameter_of_the_config(
            parts in prop::collection::vec("(read|%72ead|READ|r%45ad|re)?(_|%5f|%5F|%255f|[.]|[+]|%20)?(only|%6fnly|ONLY|on%6Cy)?(\\[\\]|%5B%5D|%00|=|&|;|=1&|%)?", 0..12),
        ) {
            let query = parts.concat();
            let kept = without(&query, "read_only=true&x=1");
            // As WHATWG URL parses forms, and with `;` as a separator and a second layer of escapes.
            for text in [kept.to_string(), kept.replace(';', "&"), kept.replace("%25", "%").replace(';', "&")] {
                for (name, _) in url::form_urlencoded::parse(text.as_bytes()) {
                    let name = name.to_lowercase().replace([' ', '.'], "_");
                    let name = name.split(['[', '\0']).next().unwrap_or_default();
                    prop_assert!(name != "read_only", "{query} -> {text}");
                }
            }
        }
    }
}
