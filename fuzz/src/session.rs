//! Session ids: what was sealed opens for its caller and its server, and for nobody else.

use std::sync::LazyLock;

use sluicegate::{
    mcp::seal::{SessionKey, SessionOwner},
    secret::Secret,
};

static KEY: LazyLock<SessionKey> =
    LazyLock::new(|| SessionKey::from_secret(&Secret::new("a key of thirty-two characters.".into())));
static OTHER: LazyLock<SessionKey> =
    LazyLock::new(|| SessionKey::from_secret(&Secret::new("another of thirty-two characters".into())));

/// Two callers, an id, and a place at which it is changed. A name that is empty is none, and `@` begins that of a user.
pub fn run(input: &[u8]) {
    let Some((&place, input)) = input.split_first() else { return };
    let mut parts = input.splitn(5, |byte| *byte == 0);
    let mut text = || String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let (server, name, other_server, other_name) = (text(), text(), text(), text());
    let id = parts.next().unwrap_or_default();
    let (name, other_name) = (owner(&name), owner(&other_name));
    // Nobody opens what was not sealed.
    assert_eq!(KEY.open(&server, name, id), None);
    header(&server, name, &other_server, other_name, id, place);
    if let Ok(id) = std::str::from_utf8(id) {
        assert_eq!(KEY.open_message(&server, name, id), None);
        let (path, query) = match id.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (id, None),
        };
        url(&server, name, &other_server, other_name, path, query, place);
    }
}

fn owner(name: &str) -> SessionOwner<'_> {
    match name.strip_prefix('@') {
        Some(name) => SessionOwner::User(name),
        None if name.is_empty() => SessionOwner::Nobody,
        None => SessionOwner::Token(name),
    }
}

fn header(
    server: &str,
    name: SessionOwner<'_>,
    other_server: &str,
    other_name: SessionOwner<'_>,
    id: &[u8],
    place: u8,
) {
    let is_visible = !id.is_empty() && id.iter().all(u8::is_ascii_graphic);
    let sealed = KEY.seal(server, name, id);
    assert_eq!(sealed.is_ok(), is_visible);
    let Ok(sealed) = sealed else { return };
    assert_eq!(KEY.open(server, name, sealed.as_bytes()), Some(id));
    assert_eq!(OTHER.open(server, name, sealed.as_bytes()), None);
    assert!(sealed.is_sensitive());
    if (server, name) != (other_server, other_name) {
        assert_eq!(KEY.open(other_server, other_name, sealed.as_bytes()), None);
    }
    let mut changed = sealed.as_bytes().to_vec();
    let at = usize::from(place) % changed.len();
    changed[at] ^= 1;
    assert_eq!(KEY.open(server, name, &changed), None);
    assert_eq!(KEY.open(server, name, &sealed.as_bytes()[..at]), None);
}

fn url(
    server: &str,
    name: SessionOwner<'_>,
    other_server: &str,
    other_name: SessionOwner<'_>,
    path: &str,
    query: Option<&str>,
    place: u8,
) {
    let sealed = KEY.seal_message(server, name, path, query);
    let presented = sealed.strip_prefix(&format!("/{server}/message?")).expect("leads to the server");
    let target = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    assert_eq!(KEY.open_message(server, name, presented).as_deref(), Some(&*target));
    assert_eq!(OTHER.open_message(server, name, presented), None);
    if (server, name) != (other_server, other_name) {
        assert_eq!(KEY.open_message(other_server, other_name, presented), None);
    }
    // Some clients escape what others do not. Nothing else may change: cut off, it does not open.
    let at = usize::from(place) % presented.len().max(1);
    if let Some(cut) = presented.get(..at) {
        assert_eq!(KEY.open_message(server, name, cut), None);
    }
    let escaped = presented.replace('\'', "%27").replace('"', "%22");
    if let Some(opened) = KEY.open_message(server, name, &escaped) {
        assert_eq!(
            opened.replace("%27", "'").replace("%22", "\""),
            target.replace("%27", "'").replace("%22", "\"")
        );
    } else {
        panic!("{escaped} does not open");
    }
    // The same bytes are no session id.
    assert_eq!(KEY.open(server, name, presented.as_bytes()), None);
}
