//! Which server a resource belongs to, by what each lists.

use crate::link::{
    aggregate::{core::Core, lists::ListKind, member::LinkPhase},
    awaited::only,
};

impl Core {
    /// The member that lists this very URI; the first, if several do.
    pub(super) fn lister_of(&self, uri: &str) -> Option<usize> {
        self.granted().find(|at| self.members[*at].list(ListKind::Resources).names().any(|name| name == uri))
    }

    /// The member that a URI belongs to, or why it belongs to none: who lists it, else who shows a tool with it, else who has
    /// a template for it, else who gave it out in a result, else the only one that has something of the same scheme, else the
    /// only one that has resources at all. What several claim in one of these ways, and none lists, is no one's: any of them
    /// may say so to be asked for what is another's.
    ///
    /// No member is asked whether it has the URI: it may hold a secret of the server that made it up.
    pub(super) fn owner_of(&self, uri: &str) -> Result<usize, &'static str> {
        let names = |at: usize, ask| self.members[at].list(ask).names();
        let scheme = |uri: &str| uri.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
        let wanted = scheme(uri);
        if let Some(lister) = self.lister_of(uri) {
            return Ok(lister);
        }
        let claims: [&dyn Fn(usize) -> bool; 3] = [
            &|at| self.members[at].shows.has(uri),
            &|at| names(at, ListKind::Templates).any(|it| it == uri || fits(it, uri)),
            &|at| self.members[at].given.has(uri),
        ];
        for claims in claims {
            let mut claimants = self.granted().filter(|at| claims(*at));
            if let Some(claimant) = claimants.next() {
                let is_only = claimants.next().is_none();
                return if is_only { Ok(claimant) } else { Err(CONTESTED) };
            }
        }
        // Of two with files, neither is more likely to have this one.
        only(self.granted().filter(|at| {
            names(*at, ListKind::Resources)
                .chain(names(*at, ListKind::Templates))
                .any(|it| wanted.is_some() && scheme(it) == wanted)
        }))
        .or_else(|| {
            only(self.granted().filter(|at| {
                let peer = &self.members[*at];
                matches!(peer.phase, LinkPhase::Ready) && peer.offers(ListKind::Resources)
            }))
        })
        .ok_or("Unknown resource")
    }
}

/// Why no member is asked for a URI that several claim.
const CONTESTED: &str =
    "Several servers claim this resource, and none lists it; ask the server itself, at its own path";

/// Whether a URI may have come from a template (RFC 6570). What is in braces may be anything, which is more than the
/// RFC allows: it decides who is asked, not what exists.
fn fits(template: &str, uri: &str) -> bool {
    let mut literals = template.split('{').enumerate().map(|(at, piece)| match at {
        0 => piece,
        _ => piece.split_once('}').map_or("", |(_, literal)| literal),
    });
    let Some(mut rest) = literals.next().and_then(|first| uri.strip_prefix(first)) else { return false };
    let mut last = None;
    for literal in literals {
        if let Some(previous) = last.replace(literal) {
            let Some((_, after)) = rest.split_once(previous) else { return false };
            rest = after;
        }
    }
    match last {
        Some(literal) => rest.ends_with(literal),
        None => rest.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_fits_what_it_could_expand_to() {
        for (template, uri, wanted) in [
            ("db://{table}/rows/{id}", "db://users/rows/7", true),
            ("db://{table}/rows/{id}", "db://users/columns/7", false),
            ("db://{table}/rows", "db://users/rows", true),
            ("db://{table}/rows", "db://users/rows/1", false),
            ("file:///{+path}", "file:///a/b/c", true),
            ("file:///{+path}", "http:///a", false),
            ("note://x", "note://x", true),
            ("note://x", "note://xy", false),
            ("a{b", "ab", true),
            ("{a}{b}", "", true),
            ("x{a}yy", "xy", false),
        ] {
            assert_eq!(fits(template, uri), wanted, "{template} {uri}");
        }
    }
}
