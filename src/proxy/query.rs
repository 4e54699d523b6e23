//! What of the caller's query goes on to a server.
//!
//! Of two parameters with one name some servers take the first and some the last, and what is one name differs: Starlette,
//! PHP and Rails decode escapes, PHP makes `_` of `.` and of a blank, PHP and Rails read `name[]` as `name`, ASP.NET
//! ignores case and knows `%u0061`. So a parameter that any of them could take for one of the config is dropped.

use std::borrow::Cow;

use percent_encoding::percent_decode;

use crate::config::HttpTarget;

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

/// `query` without the parameters that `own` has. The others keep their bytes and what separates them.
fn without<'a>(query: &'a str, own: &str) -> Cow<'a, str> {
    let own: Vec<Name> = parameters(own).filter_map(|(_, parameter)| Name::read(parameter)).collect();
    let passes = |parameter: &str| {
        // A name that parsers do not agree on may be any.
        Name::read(parameter).is_some_and(|name| !own.iter().any(|own| own.is_like(&name)))
    };
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
