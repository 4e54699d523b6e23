//! The fields that an object can have: what a key's absence means, and groups of keys.

use std::ops::Deref;

use super::{
    Absent, Book, Entry, Facts, Found, Key, Object, Value, Visitor,
    book::{Absence, shape_of},
};
use crate::config::{
    problem::Place,
    reader::{Context, Fields, Node},
};

/// A field of an object: a key or several.
pub(crate) trait Field: Sized {
    /// What describes it.
    type Key: 'static;

    /// Reads it from an object that is there.
    fn take(key: &Self::Key, cx: &mut Context<'_>, fields: &Fields<'_>) -> Self;

    /// What it is in an object that is not there but would stand at `at`.
    fn absent(key: &Self::Key, at: &Place) -> Self;

    /// Shows its keys.
    fn visit(key: &'static Self::Key, visitor: &mut Visitor<'_>);
}

/// Finds a key by any of its names. `None` if it is absent; a second name of it is an error, and then there is no node.
fn find<'a>(
    facts: &Facts,
    cx: &mut Context<'_>,
    fields: &Fields<'a>,
) -> Option<(Found, Option<Node<'a>>)> {
    let names = std::iter::once(&facts.name).chain(facts.others);
    let mut there = names.filter(|name| fields.has(name));
    let name = there.next()?;
    let (key, node) = (fields.key(name), fields.get(name));
    let found = Found { key, at: node.as_ref().map_or_else(|| fields.at.clone(), |node| node.at.clone()) };
    if let Some(other) = there.next() {
        cx.error(&fields.key(other), format!("is the same as `{name}`; keep one of them"));
        return Some((found, None));
    }
    Some((found, node))
}

impl<T: Value, A> Key<T, A> {
    /// Where it stands, if it does, and its value, if that is good.
    fn look_up(&self, cx: &mut Context<'_>, fields: &Fields<'_>) -> (Option<Found>, Option<T>) {
        let Some((found, node)) = find(&self.facts, cx, fields) else { return (None, None) };
        let value = node.and_then(|node| T::read(&self.rule, cx, &node));
        if let (Some(check), Some(value)) = (self.check, &value) {
            check(cx, &found, value);
        }
        (Some(found), value)
    }

    fn entry(&self, book: &mut Book, absent: impl FnOnce(&Self) -> Absence) -> Entry {
        let shape = book.within(self.facts.name, |book| shape_of::<T>(&self.rule, book));
        Entry { facts: self.facts, shape: shape.with_pattern(self.facts.pattern), absent: absent(self), beside: None }
    }
}

/// A key with a default.
impl<T: Value + 'static> Field for T {
    type Key = Key<T, T::Default>;

    fn take(key: &Self::Key, cx: &mut Context<'_>, fields: &Fields<'_>) -> Self {
        let (_, value) = key.look_up(cx, fields);
        value.unwrap_or_else(|| Self::absent(key, &fields.at))
    }

    fn absent(key: &Self::Key, at: &Place) -> Self {
        match key.computed {
            Some((_, value)) => value(),
            None => T::from_default(key.absent, &|| at.key(key.facts.name, at.offset)),
        }
    }

    fn visit(key: &'static Self::Key, visitor: &mut Visitor<'_>) {
        let absent = |key: &Self::Key| match key.computed {
            Some((words, _)) => Absence::Means(words),
            None => Absence::Default(T::show(key.absent)),
        };
        visitor(&key.facts, &|book| key.entry(book, absent));
    }
}

/// A key that may be absent.
impl<T: Value + 'static> Field for Option<T> {
    type Key = Key<T, Absent>;

    fn take(key: &Self::Key, cx: &mut Context<'_>, fields: &Fields<'_>) -> Self {
        Given::<T>::take(key, cx, fields).value
    }

    fn absent(_: &Self::Key, _: &Place) -> Self {
        None
    }

    fn visit(key: &'static Self::Key, visitor: &mut Visitor<'_>) {
        Given::<T>::visit(key, visitor);
    }
}

/// A key that may be absent, for those who have to know whether it is there at all, or where.
pub(crate) struct Given<T> {
    found: Option<Found>,
    /// `None` if it is absent or not good.
    pub(crate) value: Option<T>,
}

impl<T> Given<T> {
    /// Where it stands, if it does.
    pub(crate) fn found(&self) -> Option<&Found> {
        self.found.as_ref()
    }

    /// Where it stands, and its value, if that is good.
    pub(crate) fn both(&self) -> Option<(&Found, &T)> {
        self.found.as_ref().zip(self.value.as_ref())
    }

    /// As [`Given::both`].
    pub(crate) fn into_both(self) -> Option<(Found, T)> {
        self.found.zip(self.value)
    }

    /// Whether the file has it, good or not.
    pub(crate) fn is_there(&self) -> bool {
        self.found.is_some()
    }
}

impl<T: Value + 'static> Field for Given<T> {
    type Key = Key<T, Absent>;

    fn take(key: &Self::Key, cx: &mut Context<'_>, fields: &Fields<'_>) -> Self {
        let (found, value) = key.look_up(cx, fields);
        // It may be there under a wrong name, which is an error already.
        if let (None, Absent::Required(way_out), false) = (&found, key.absent, fields.has_unknown) {
            cx.error(&fields.at.key(key.facts.name, fields.at.offset), format!("is missing; {way_out}"));
        }
        Self { found, value }
    }

    fn absent(_: &Self::Key, _: &Place) -> Self {
        Self { found: None, value: None }
    }

    fn visit(key: &'static Self::Key, visitor: &mut Visitor<'_>) {
        let absent = |key: &Self::Key| match key.absent {
            Absent::Means(words) => Absence::Means(words),
            Absent::Required(_) => Absence::Required,
        };
        visitor(&key.facts, &|book| key.entry(book, absent));
    }
}

/// A key with a default, for those who have to know where it stands.
pub(crate) struct Placed<T> {
    found: Option<Found>,
    pub(crate) value: T,
}

impl<T> Placed<T> {
    /// Where it stands, if it does.
    pub(crate) fn found(&self) -> Option<&Found> {
        self.found.as_ref()
    }
}

impl<T: Value + 'static> Field for Placed<T> {
    type Key = Key<T, T::Default>;

    fn take(key: &Self::Key, cx: &mut Context<'_>, fields: &Fields<'_>) -> Self {
        let (found, value) = key.look_up(cx, fields);
        Self { found, value: value.unwrap_or_else(|| T::absent(key, &fields.at)) }
    }

    fn absent(key: &Self::Key, at: &Place) -> Self {
        Self { found: None, value: T::absent(key, at) }
    }

    fn visit(key: &'static Self::Key, visitor: &mut Visitor<'_>) {
        T::visit(key, visitor);
    }
}

/// No key: where the object stands, and whether it has keys that are unknown.
pub(crate) struct Here {
    pub(crate) at: Place,
    pub(crate) has_unknown: bool,
}

/// Describes what needs no description: see [`Here`] and [`Flat`].
pub(crate) struct Undescribed;

pub(crate) const HERE: Undescribed = Undescribed;
pub(crate) const FLAT: Undescribed = Undescribed;

impl Undescribed {
    pub(crate) const fn doc(self, _: &'static str) -> Self {
        self
    }
}

impl Field for Here {
    type Key = Undescribed;

    fn take(_: &Undescribed, _: &mut Context<'_>, fields: &Fields<'_>) -> Self {
        Self { at: fields.at.clone(), has_unknown: fields.has_unknown }
    }

    fn absent(_: &Undescribed, at: &Place) -> Self {
        Self { at: at.clone(), has_unknown: false }
    }

    fn visit(_: &'static Undescribed, _: &mut Visitor<'_>) {}
}

/// Keys that stand in the same object as those around them, and are a struct of their own for the sake of those who
/// use them.
pub(crate) struct Flat<O>(pub(crate) O);

impl<O> Deref for Flat<O> {
    type Target = O;

    fn deref(&self) -> &O {
        &self.0
    }
}

impl<O: Object> Field for Flat<O> {
    type Key = Undescribed;

    fn take(_: &Undescribed, cx: &mut Context<'_>, fields: &Fields<'_>) -> Self {
        Self(O::of(cx, fields))
    }

    fn absent(_: &Undescribed, at: &Place) -> Self {
        Self(O::empty(at))
    }

    fn visit(_: &'static Undescribed, visitor: &mut Visitor<'_>) {
        O::keys(visitor);
    }
}

/// Keys that mean something beside one of them only, the tag, as `args` does beside `command`. Without it they are not
/// read.
pub(crate) struct Variant<O> {
    /// The keys, if the tag is there.
    pub(crate) keys: Option<O>,
    /// Those that stand there without it.
    pub(crate) stray: Vec<Place>,
}

/// Describes a [`Variant`] by its tag.
pub(crate) struct VariantKey(pub(crate) &'static str);

impl VariantKey {
    pub(crate) const fn doc(self, _: &'static str) -> Self {
        self
    }
}

impl<O: Object> Field for Variant<O> {
    type Key = VariantKey;

    fn take(key: &VariantKey, cx: &mut Context<'_>, fields: &Fields<'_>) -> Self {
        if fields.has(key.0) {
            return Self { keys: Some(O::of(cx, fields)), stray: Vec::new() };
        }
        let names = O::names();
        let stray = names.into_iter().filter(|name| fields.has(name)).map(|name| fields.key(name));
        Self { keys: None, stray: stray.collect() }
    }

    fn absent(_: &VariantKey, _: &Place) -> Self {
        Self { keys: None, stray: Vec::new() }
    }

    fn visit(key: &'static VariantKey, visitor: &mut Visitor<'_>) {
        O::keys(&mut |facts, entry| {
            let beside = (facts.name != key.0).then_some(key.0);
            visitor(facts, &|book| Entry { beside, ..entry(book) });
        });
    }
}
