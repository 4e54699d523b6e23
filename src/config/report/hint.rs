//! What to say about a word that is not known.

use jsonc_parser::ast::Value;

use crate::config::{
    report::foreign,
    table::{
        COMMAND, ROOT, SERVER, URL,
        key::{Object, objects},
    },
};

/// Keys that open something. They are not proposed where another one may be meant.
const DANGEROUS: &[&str] = &["public", "allowPlainHttp", "queryToken", "selfSigned"];

/// What to say about a key that an object of this kind does not have, and which of its keys is meant, if one is.
pub(crate) fn unknown(name: &str, object: &Object) -> (Option<String>, Option<&'static str>) {
    let plain = foreign::plain(name);
    if let Some(same) = object.names().into_iter().find(|known| foreign::plain(known) == plain) {
        return (Some(format!("unknown key; did you mean `{same}`?")), Some(same));
    }
    if let Some(&foreign::Meaning { key, way, .. }) = foreign::meaning(object.name, name) {
        let meant = Some(key).filter(|key| !key.is_empty());
        let message = match way {
            "" => format!("unknown key; it is `{key}` here"),
            way => format!("unknown key; {way}"),
        };
        return (Some(message), meant);
    }
    if let Some(path) = elsewhere(&plain, object) {
        return (Some(format!("unknown key here; it belongs into `{path}`")), None);
    }
    let known = object.names().into_iter().filter(|known| !DANGEROUS.contains(known) || is_slip(name, known));
    match closest(name, known) {
        Some(near) => (Some(format!("unknown key; did you mean `{near}`?")), Some(near)),
        None => (None, None),
    }
}

/// What to say of an entry of `mcpServers` that is no server: a key of one, which is beside the servers, or what is to
/// hold for all of them. `None` if it may be one.
pub(crate) fn no_server(name: &str, value: &Value<'_>) -> Option<String> {
    let object = value.as_object();
    let knows = |key: &str| SERVER.key(key).is_some() || foreign::meaning(SERVER.name, key).is_some();
    let mut keys =
        object.into_iter().flat_map(|object| &object.properties).map(|property| property.name.as_str());
    if SERVER.key(name).is_some() && !keys.clone().any(knows) {
        return Some(format!("is a key of a server, and stands in it: {{ \"NAME\": {{ \"{name}\": … }} }}"));
    }
    let has_target = keys.clone().any(|key| [URL, COMMAND, "inline"].contains(&key));
    let is_for_all =
        keys.clone().next().is_some() && !has_target && keys.all(|key| SERVER.key(key).is_some());
    let meaning = foreign::meaning(ROOT.name, name).filter(|_| is_for_all)?;
    (meaning.way == foreign::NO_DEFAULTS).then(|| meaning.way.to_owned())
}

/// The object of the config that has a key of this name: one around this one, or else one in it, or else the first.
fn elsewhere(plain: &str, object: &Object) -> Option<String> {
    let has_it = |other: &Object| other.names().iter().any(|known| foreign::plain(known) == plain);
    let all = objects(&ROOT);
    let own = all.iter().find(|(_, other)| other.name == object.name).map_or("", |(path, _)| path);
    let is_in =
        |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('.'));
    let having = || {
        let is_other = |(path, other): &&(String, &Object)| {
            !path.is_empty() && other.name != object.name && has_it(other)
        };
        all.iter().filter(is_other).map(|(path, _)| path)
    };
    let around = having().filter(|path| is_in(own, path)).max_by_key(|path| path.len());
    around.or_else(|| having().find(|path| is_in(path, own))).or_else(|| having().next()).cloned()
}

/// Whether it is one letter wrong.
fn is_slip(name: &str, known: &str) -> bool {
    name.len().abs_diff(known.len()) <= 1
        && strsim::damerau_levenshtein(&name.to_lowercase(), &known.to_lowercase()) <= 1
}

/// The candidate that `name` is most likely a slip of.
pub(crate) fn closest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    let length = name.chars().count();
    candidates
        // A third of the letters wrong is still a slip; more is another word.
        .map(|candidate| (candidate.chars().count().max(3) / 3, candidate))
        .filter(|(most, candidate)| candidate.chars().count().abs_diff(length) <= *most)
        .map(|(most, candidate)| {
            (strsim::damerau_levenshtein(&name, &candidate.to_lowercase()), most, candidate)
        })
        .filter(|(distance, most, _)| distance <= most)
        .min_by_key(|(distance, ..)| *distance)
        .map(|(.., candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::table::SERVER;

    fn said(name: &str, object: &Object) -> String {
        unknown(name, object).0.unwrap_or_default()
    }

    fn proxy() -> &'static Object {
        let all = objects(&ROOT);
        all.into_iter().find(|(path, _)| path == "proxy").expect("it is there").1
    }

    #[test]
    fn a_slip_finds_the_key_that_was_meant() {
        for (slip, meant) in [
            ("authtokens", "authTokens"),
            ("ulr", "url"),
            ("transport_type", "transportType"),
            ("pubic", "public"),
        ] {
            assert_eq!(said(slip, &SERVER), format!("unknown key; did you mean `{meant}`?"));
        }
        assert_eq!(unknown("gibberish", &SERVER), (None, None));
    }

    #[test]
    fn a_word_of_another_program_is_translated() {
        assert_eq!(said("cmd", &SERVER), "unknown key; it is `command` here");
        assert_eq!(unknown("serverUrl", &SERVER).1, Some("url"));
    }

    #[test]
    fn a_key_of_another_level_is_told_its_place() {
        assert_eq!(said("auth", &ROOT), "unknown key here; it belongs into `proxy`");
        assert_eq!(said("tokens", proxy()), "unknown key here; it belongs into `proxy.auth`");
        assert_eq!(said("maxSessions", proxy()), "unknown key here; it belongs into `proxy.limits`");
        assert_eq!(
            said("toolFilter", &SERVER),
            "unknown key here; it belongs into `mcpServers.NAME.options`"
        );
    }

    #[test]
    fn the_place_that_is_named_is_the_nearest() {
        let of = |name: &str| {
            objects(&ROOT).into_iter().find(|(_, object)| object.name == name).expect("it is there").1
        };
        assert_eq!(said("timeout", of("options")), "unknown key here; it belongs into `mcpServers.NAME`");
        assert_eq!(said("tags", of("options")), "unknown key here; it belongs into `mcpServers.NAME`");
        assert_eq!(said("upstreamTimeout", &SERVER), "unknown key; it is `timeout` here");
        assert_eq!(said("maxConns", of("limits")), "unknown key; it is `maxConnections` here");
        for name in ["mcpServers", "servers"] {
            assert!(said(name, proxy()).contains("beside `proxy`, not in it"), "{}", said(name, proxy()));
        }
    }

    #[test]
    fn what_opens_is_not_proposed_to_who_meant_something_else() {
        assert!(!said("publish", &SERVER).contains("public"));
        assert!(!said("published", proxy()).contains("public"));
    }
}
