//! What becomes of the credentials of a token when it is rotated, revoked, or given an end.

use std::{fmt::Write as _, time::SystemTime};

use jsonc_parser::common::Ranged;

use super::{
    token_list::opened,
    token_places::{Held, Named, relative, rfc3339},
};
use crate::config::{self, Loaded, edit::Editor};

/// One change of a config: what there is, and what is to become of it.
pub(super) struct Change<'a> {
    pub(super) named: &'a Named<'a>,
    pub(super) id: Option<&'a str>,
    pub(super) loaded: &'a Loaded,
    pub(super) now: SystemTime,
}

/// What is said about a change that was made.
pub(super) struct Report {
    /// For standard output.
    pub(super) result: String,
    /// For standard error.
    pub(super) hints: String,
}

/// When tokens end that are rotated.
pub(super) struct Renewal {
    /// The end of the old ones, which are removed if it is absent.
    pub(super) old_until: Option<SystemTime>,
    /// The end of the new one, if it is not that of the old ones; the inner one is never.
    #[allow(clippy::option_option, reason = "the outer one is whether it is asked for")]
    pub(super) new_until: Option<Option<SystemTime>>,
}

impl<'a> Change<'a> {
    /// The credential that `--id` names; without it those that open something: neither decoys nor those that have expired.
    fn selected(&self) -> Result<Vec<&'a Held<'a>>, String> {
        let held = &self.named.held;
        let Some(id) = self.id else {
            let mut live = Vec::new();
            for held in held {
                if !held.is_decoy() && held.end()?.is_none_or(|end| end > self.now) {
                    live.push(held);
                }
            }
            return Ok(live);
        };
        let found: Vec<_> = held.iter().filter(|held| held.is_called(id)).collect();
        match *found {
            [only] => Ok(vec![only]),
            [] if held.is_empty() => Err("has no credential".into()),
            [] => Err(format!("has no such credential; name one of {}", self.named.labels())),
            _ => Err("has several credentials that are called so; name one by its place, as in @1".into()),
        }
    }

    /// Which one opens as long as the other does, if two are the same token.
    fn has_no_twins(&self) -> Result<(), String> {
        let held = &self.named.held;
        let twins = held.iter().enumerate().find_map(|(index, one)| {
            held[..index].iter().find(|other| other.is_same_token(one)).map(|other| (other, one))
        });
        match twins {
            None => Ok(()),
            Some((one, other)) => Err(format!(
                "has the same token twice, as {} and as {}, and the other one would still open; remove one of them in the \
                 config first, or revoke the name",
                one.place(),
                other.place()
            )),
        }
    }
}

impl Change<'_> {
    /// The name of a token is no part of it: what is taken from one name, another one would still open by.
    fn belongs_to_no_other(&self, affected: &[&Held<'_>]) -> Result<(), String> {
        let is_same = |digest: &[u8; 32]| {
            affected.iter().filter_map(|held| held.known).any(|known| known.digest == *digest)
        };
        let of_others = self.loaded.credentials.iter().map(|(_, credential)| credential);
        let other = of_others
            .filter(|other| *other.token_name != *self.named.name)
            .find(|other| is_same(&other.digest));
        match other {
            None => Ok(()),
            Some(other) => Err(format!(
                "has a token that {:?} has as well, which would still open; remove one of them in the config first",
                config::shown_name(&other.token_name).unwrap_or("…")
            )),
        }
    }
}

/// Lets a credential end at `end`, or never.
fn set_end(editor: &mut Editor<'_>, named: &Named<'_>, held: &Held<'_>, end: Option<SystemTime>) {
    let range = held.value.range();
    match (held.object(), end) {
        (Some(object), Some(end)) => editor.set(object, "expires", &format!("\"{}\"", rfc3339(end))),
        (Some(object), None) => editor.unset(object, "expires"),
        (None, Some(end)) => {
            let value = &named.text[range.start..range.end];
            let object = format!("{{ \"value\": {value}, \"expires\": \"{}\" }}", rfc3339(end));
            editor.replace(range.start..range.end, object);
        }
        (None, None) => {}
    }
}

/// Puts a credential with this hash in front of the others.
pub(super) fn rotate(
    change: &Change<'_>,
    editor: &mut Editor<'_>,
    sha256: &str,
    renewal: &Renewal,
) -> Result<Report, String> {
    let (named, now) = (change.named, change.now);
    let selected = change.selected()?;
    let is_other = |held: &&Held<'_>| !held.is_decoy();
    let sources: Vec<_> =
        if selected.is_empty() { named.held.iter().filter(is_other).collect() } else { selected };
    let Some(first) = sources.first() else {
        if !named.held.is_empty() {
            return Err("has only decoys; say by --id which one is replaced by another decoy".into());
        }
        return Err("was revoked, so there is no token to replace; `sluicegate token new` prints an entry, which goes into the \
             place of `[]`"
            .into());
    };
    change.has_no_twins()?;
    change.belongs_to_no_other(&sources)?;
    if !sources.iter().all(|other| other.is_like(first)) {
        return Err(format!(
            "has credentials with different roles or other conditions; say by --id which one is replaced: {}",
            named.labels()
        ));
    }
    let new_until = match renewal.new_until {
        Some(end) => end,
        None => latest(&sources)?,
    };
    if new_until.is_some_and(|end| end <= now) {
        let message = "would be replaced by a token that has expired; say by --expires when the new one ends, or `never`";
        return Err(message.into());
    }
    let has_id = sources.iter().any(|held| held.id().is_some());
    let id = if has_id { format!("\"id\": \"{}\", ", named.fresh_id(now)) } else { String::new() };
    let expires = new_until.map(|end| format!(", \"expires\": \"{}\"", rfc3339(end))).unwrap_or_default();
    let entry = format!("{{ {id}\"sha256\": \"{sha256}\"{expires}{} }}", first.conditions_text());
    put_in_front(change, editor, &entry, &sources, renewal.old_until)?;

    let mut hints = String::from("The token on standard output is shown only now: give it to the client.\n");
    // Writing to a string does not fail.
    let _ = match renewal.old_until {
        Some(end) => writeln!(
            hints,
            "The config has its hash. The old tokens of the name still open until {} at most ({}).",
            rfc3339(end),
            relative(end, now)
        ),
        None => {
            writeln!(hints, "The config has its hash. The token that it replaces opens nothing any more.")
        }
    };
    if let Some(end) = new_until {
        let whose = if renewal.new_until.is_some() {
            ""
        } else {
            ", when the old one did; --expires sets another end"
        };
        let _ = writeln!(hints, "The new token ends at {} ({}){whose}.", rfc3339(end), relative(end, now));
    }
    Ok(Report { result: String::new(), hints })
}

/// The last end of some credentials.
fn latest(sources: &[&Held<'_>]) -> Result<Option<SystemTime>, String> {
    let mut latest = None;
    for held in sources {
        match held.end()? {
            None => return Ok(None),
            end => latest = latest.max(end),
        }
    }
    Ok(latest)
}

/// Writes the new credential, and lets the old ones end.
fn put_in_front(
    change: &Change<'_>,
    editor: &mut Editor<'_>,
    entry: &str,
    sources: &[&Held<'_>],
    old_until: Option<SystemTime>,
) -> Result<(), String> {
    let named = change.named;
    let gone: Vec<usize> = match change.id {
        None => named.held.iter().filter(|held| !held.is_decoy()).map(|held| held.index).collect(),
        Some(_) => sources.iter().map(|held| held.index).collect(),
    };
    let range = named.property.value.range();
    match (named.list(), old_until) {
        (None, None) => editor.replace(range.start..range.end, entry),
        (None, Some(end)) => {
            let mut inner = Editor::new(named.text);
            for held in sources {
                end_by(&mut inner, named, held, end)?;
            }
            let value = inner.within(range.start..range.end);
            editor.make_list(named.property, entry, &value);
        }
        (Some(list), None) => {
            let Some((first, others)) = gone.split_first() else { return Ok(()) };
            let replaced = named.held[*first].value.range();
            editor.replace(replaced.start..replaced.end, entry);
            editor.remove_elements(list, |index| others.contains(&index));
        }
        (Some(list), Some(end)) => {
            editor.push_front(list, entry);
            for held in sources {
                end_by(editor, named, held, end)?;
            }
        }
    }
    Ok(())
}

/// Lets a credential end at `end`, if it does not before. Whether it is changed.
fn end_by(
    editor: &mut Editor<'_>,
    named: &Named<'_>,
    held: &Held<'_>,
    end: SystemTime,
) -> Result<bool, String> {
    let is_later = held.end()?.is_none_or(|before| before > end);
    if is_later {
        set_end(editor, named, held, Some(end));
    }
    Ok(is_later)
}

/// Removes the credentials. The name stays, so that no `authTokens` loses it and no server is opened to others by that.
pub(super) fn revoke(change: &Change<'_>, editor: &mut Editor<'_>) -> Result<Report, String> {
    let named = change.named;
    let gone: Vec<usize> = match change.id {
        None => (0..named.held.len()).collect(),
        Some(_) => {
            change.has_no_twins()?;
            change.selected()?.iter().map(|held| held.index).collect()
        }
    };
    change.belongs_to_no_other(&gone.iter().map(|index| &named.held[*index]).collect::<Vec<_>>())?;
    match named.list() {
        Some(list) => editor.remove_elements(list, |index| gone.contains(&index)),
        None => {
            let range = named.property.value.range();
            editor.replace(range.start..range.end, "[]");
        }
    }
    let credentials = gone.iter().map(|index| &named.held[*index]);
    let mut servers: Vec<_> =
        credentials.flat_map(|held| opened(change.loaded, held, change.now).unwrap_or_default()).collect();
    servers.sort_unstable();
    servers.dedup();
    let name = config::shown_name(named.name).unwrap_or("…");
    let left = match named.held.len() - gone.len() {
        0 => "The token opens nothing any more".to_owned(),
        1 => "Another credential of the name stays".to_owned(),
        count => format!("{count} other credentials of the name stay"),
    };
    let removed = match gone.len() {
        1 => "1 credential removed".to_owned(),
        count => format!("{count} credentials removed"),
    };
    let opened = match (servers.is_empty(), change.loaded.snapshot.is_some()) {
        (true, true) => ", which opened no server",
        (true, false) => "",
        (false, _) => ", which opened ",
    };
    let result = match gone.is_empty() {
        true => format!("{name}: has no credential, so it opens nothing already\n"),
        false => format!("{name}: {removed}{opened}{}. {left}\n", servers.join(", ")),
    };
    Ok(Report { result, hints: String::new() })
}

/// Gives credentials another end. Of several, none gets a later one: an old one that a rotation lets end does.
pub(super) fn expire(
    change: &Change<'_>,
    editor: &mut Editor<'_>,
    end: Option<SystemTime>,
) -> Result<Report, String> {
    let (named, now) = (change.named, change.now);
    let selected = change.selected()?;
    let selected: Vec<_> = match (selected.is_empty(), &*named.held) {
        (true, []) => return Err("was revoked, so there is nothing that could expire".into()),
        (true, [only]) if !only.is_decoy() => vec![only],
        (true, _) => {
            return Err(format!(
                "has only credentials that have expired, or decoys; say by --id which one is to open again: {}",
                named.labels()
            ));
        }
        (false, _) => selected,
    };
    change.has_no_twins()?;
    change.belongs_to_no_other(&selected)?;
    // An end that is not known may be an earlier one.
    for held in &selected {
        held.end()?;
    }
    let (mut changed, mut kept) = (Vec::new(), Vec::new());
    match (&*selected, end) {
        ([only], end) => {
            set_end(editor, named, only, end);
            changed.push(only.label());
        }
        (several, Some(end)) => {
            for held in several {
                match end_by(editor, named, held, end)? {
                    true => changed.push(held.label()),
                    false => kept.push(held.label()),
                }
            }
        }
        (several, None) => {
            for held in several {
                match held.end()? {
                    None => changed.push(held.label()),
                    Some(_) => kept.push(held.label()),
                }
            }
        }
    }
    if changed.is_empty() {
        return Err(format!(
            "has several credentials, which all end before that; say by --id which one is to last longer: {}",
            named.labels()
        ));
    }
    let name = config::shown_name(named.name).unwrap_or("…");
    let what = match end {
        Some(end) if end <= now => format!("expired at {}", rfc3339(end)),
        Some(end) => format!("expires at {} ({})", rfc3339(end), relative(end, now)),
        None => "never expires".to_owned(),
    };
    let hints = match kept.is_empty() {
        true => String::new(),
        false => format!("{}: ends before that, and stays so; --id gives it a later end\n", kept.join(", ")),
    };
    Ok(Report { result: format!("{name} ({}): {what}\n", changed.join(", ")), hints })
}
