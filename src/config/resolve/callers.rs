//! What all callers of the config have alike, whatever proves them: names that rules list, roles, limits.

use std::{collections::HashSet, sync::Arc};

use crate::config::{
    access::CallerLimits,
    read::{context::Context, fields::Fields},
    report::{hint, problem::Location, shown},
};

/// Names that rules may list.
#[derive(Debug, Clone, Default)]
pub(crate) struct KnownNames {
    /// In file order; `None` if they could not be read.
    pub(crate) all: Option<Vec<Arc<str>>>,
    set: HashSet<Arc<str>>,
}

impl KnownNames {
    pub(crate) fn of(all: Vec<Arc<str>>) -> Self {
        Self { set: all.iter().cloned().collect(), all: Some(all) }
    }

    /// With one more, if they could be read.
    pub(super) fn and(self, more: Arc<str>) -> Self {
        match self.all {
            Some(all) => Self::of(all.into_iter().chain([more]).collect()),
            None => self,
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Arc<str>> {
        self.set.get(name)
    }
}

/// `tags` or `roles`: words of the user's own.
pub(crate) fn words(cx: &mut Context<'_>, fields: &Fields<'_>, name: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    for text in fields.texts(cx, name)? {
        match text.value.trim().is_empty() {
            true => cx.error(&text.at, "is empty; write a word, or remove it"),
            false => words.push(text.value),
        }
    }
    Some(words)
}

/// Whether a word can be a scope (RFC 6749 §3.3).
pub(super) fn is_scope(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte))
}

/// What to say of one that cannot.
pub(super) const NO_SCOPE: &str = "is no scope; write visible ASCII without spaces, quotes and backslashes";

/// `servers` and `tags` of a caller.
pub(super) fn caller_limits(
    cx: &mut Context<'_>,
    fields: &Fields<'_>,
    known: &[&str],
    tag_limits: &mut Vec<(Location, Vec<String>)>,
) -> CallerLimits {
    let servers = fields.texts(cx, "servers").map(|texts| {
        for text in &texts {
            // Without a server that is known, that is what is reported.
            if known.is_empty() || known.contains(&&*text.value) {
                continue;
            }
            let names = known.iter().filter_map(|name| shown::name(name));
            let message = match hint::closest(&text.value, names).filter(|_| !cx.is_full()) {
                Some(near) => format!("is no server in `mcpServers`; did you mean {near:?}?"),
                None => "is no server in `mcpServers`; name one, or remove it".into(),
            };
            cx.error(&text.at, message);
        }
        texts.into_iter().map(|text| text.value.into()).collect::<Vec<Arc<str>>>()
    });
    let tags = words(cx, fields, "tags");
    let is_empty = |list: Option<usize>| list == Some(0);
    for (key, list) in [("servers", servers.as_ref().map(Vec::len)), ("tags", tags.as_ref().map(Vec::len))] {
        let is_written = fields.get(key).and_then(|node| node.elements()).is_some_and(|all| all.is_empty());
        if is_empty(list) && is_written {
            cx.warning(
                &fields.key(key),
                "leaves no server to this caller but public ones; remove it for no limit",
            );
        }
    }
    if let Some(tags) = tags.as_ref().filter(|tags| !tags.is_empty()) {
        tag_limits.push((fields.key("tags"), tags.clone()));
    }
    CallerLimits { servers, tags }
}
