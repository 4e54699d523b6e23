//! What a member lists: asked for page by page, within bounds.

use std::{borrow::Cow, collections::HashSet};

use serde_json::value::RawValue;
use tokio::time::Instant;

use super::json;
use crate::{
    ledger::Share,
    mcp::{
        message::{Id, Malformed, Message, Part},
        splice::splice,
    },
};

/// Items that one list of one member may have. Far more than a model can choose from.
const ITEMS: usize = 10_000;

/// Pages that one list of one member may have: a server that gives a new cursor for each empty page ends here.
const PAGES: usize = 1_000;

/// Bytes that all lists of all members may hold, while they are gathered for one client.
pub(super) const BYTES: usize = 16 << 20;

/// [`MemberList::since`] of a list that came when it was not awaited any more. The client was notified of something new, and
/// gets this when it asks; to begin anew, and be late again, would go on forever.
pub(super) const ALWAYS_FRESH: u64 = u64::MAX;

/// What members are asked for, one page after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListKind {
    Tools,
    Prompts,
    Resources,
    Templates,
    /// `server/discover`: a list without items, of one page.
    Discover,
}

impl ListKind {
    pub(super) const ALL: [Self; 5] =
        [Self::Tools, Self::Prompts, Self::Resources, Self::Templates, Self::Discover];

    pub(super) fn method(self) -> &'static str {
        match self {
            Self::Tools => "tools/list",
            Self::Prompts => "prompts/list",
            Self::Resources => "resources/list",
            Self::Templates => "resources/templates/list",
            Self::Discover => "server/discover",
        }
    }

    /// What a server must declare to be asked.
    pub(super) fn capability(self) -> Option<&'static str> {
        match self {
            Self::Tools => Some("tools"),
            Self::Prompts => Some("prompts"),
            Self::Resources | Self::Templates => Some("resources"),
            Self::Discover => None,
        }
    }

    /// Where the items are in a result.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources => "resources",
            Self::Templates => "resourceTemplates",
            Self::Discover => "",
        }
    }
}

/// What is known of one list of one member.
#[derive(Default)]
pub(super) struct MemberList {
    pub(super) state: ListState,
    /// When it became so, on the core's own count. Who wants fresh news compares it with when it asked.
    pub(super) since: u64,
}

/// How far a list is.
#[derive(Default)]
pub(super) enum ListState {
    #[default]
    Unknown,
    /// Being asked for.
    Asking(RunningList),
    Known(CompleteList),
    /// The member did not answer, or with this error.
    Refused(Option<Message>),
}

/// A list on its way.
pub(super) struct RunningList {
    /// The request that the next page comes with.
    pub(super) number: u64,
    /// Nobody waits for it any more.
    pub(super) late: bool,
    /// When it was asked for.
    pub(super) asked: Instant,
    meta: Option<Box<str>>,
    cursors: HashSet<Box<str>>,
    known: CompleteList,
}

/// A complete list.
#[derive(Default)]
pub(super) struct CompleteList {
    pub(super) items: Vec<Item>,
    /// How long the member lets it be kept, at most (MCP 2026-07-28).
    pub(super) ttl_ms: Option<u64>,
    /// The answer to `server/discover`.
    pub(super) discovered: Option<Message>,
    /// Counts the items.
    held: Option<Share>,
}

/// One tool, prompt, resource or template.
pub(super) struct Item {
    /// `name`, `uri` or `uriTemplate`: what it is asked for by.
    pub(super) name: Box<str>,
    /// It as it came; `None` once it is not awaited, since calls need names only.
    pub(super) text: Option<Box<str>>,
}

/// What a page leads to.
pub(super) enum PageResult {
    /// This request, for the next one.
    Page(Message),
    /// The list is complete.
    Complete,
    /// The list is longer than what is kept: it ends here.
    TooMany,
    /// What was asked for cannot be read, for this reason.
    Broken(&'static str),
}

impl MemberList {
    /// Begins anew. Gives the request for the first page. Nobody waits for one that is `late` from the beginning.
    pub(super) fn begin(
        &mut self,
        ask: ListKind,
        number: u64,
        meta: Option<&str>,
        asked: Instant,
        late: bool,
    ) -> Result<Message, Malformed> {
        self.state = ListState::Asking(RunningList {
            number,
            late,
            asked,
            meta: meta.map(Box::from),
            cursors: HashSet::new(),
            known: CompleteList::default(),
        });
        request(ask, number, None, meta)
    }

    /// Names of what is known to be there.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.items().iter().map(|item| &*item.name)
    }

    pub(super) fn items(&self) -> &[Item] {
        match &self.state {
            ListState::Known(known) => &known.items,
            _ => &[],
        }
    }

    /// Drops the texts, and keeps the names.
    pub(super) fn drop_texts(&mut self) {
        if self.since == ALWAYS_FRESH {
            self.since = 0;
        }
        if let ListState::Known(known) = &mut self.state {
            known.items.iter_mut().for_each(|item| item.text = None);
            known.count();
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match &self.state {
            ListState::Known(known) => known.bytes(),
            ListState::Asking(asking) => asking.known.bytes(),
            ListState::Unknown | ListState::Refused(_) => 0,
        }
    }
}

impl CompleteList {
    fn bytes(&self) -> usize {
        self.items.iter().map(Item::bytes).sum()
    }

    /// Counts what is kept now.
    fn count(&mut self) {
        let bytes = self.bytes();
        if let Some(held) = &mut self.held {
            held.set(u64::try_from(bytes).unwrap_or(u64::MAX));
        }
    }
}

impl RunningList {
    /// Begins anew.
    pub(super) fn again(&mut self, ask: ListKind, number: u64) -> Result<Message, Malformed> {
        self.number = number;
        self.cursors.clear();
        self.known = CompleteList::default();
        request(ask, number, None, self.meta.as_deref())
    }

    /// Whether some of it came.
    pub(super) fn is_begun(&self) -> bool {
        !self.cursors.is_empty() || !self.known.items.is_empty()
    }

    /// What there is of a list that did not come as a whole: some of it is better than none.
    pub(super) fn broken(&mut self, error: Option<Message>) -> ListState {
        if self.is_begun() { ListState::Known(self.complete()) } else { ListState::Refused(error) }
    }

    /// Takes a page. `room` is how many bytes may be kept; `number` is that of the next request, if there is one. `held` counts
    /// the list, if nothing does yet.
    pub(super) fn take(
        &mut self,
        ask: ListKind,
        answer: Message,
        room: usize,
        number: u64,
        held: Share,
    ) -> Result<PageResult, Malformed> {
        self.known.held.get_or_insert(held);
        let next = self.take_page(ask, answer, room, number);
        self.known.count();
        next
    }

    fn take_page(
        &mut self,
        ask: ListKind,
        answer: Message,
        room: usize,
        number: u64,
    ) -> Result<PageResult, Malformed> {
        if ask == ListKind::Discover {
            self.known.discovered = Some(answer);
            return Ok(PageResult::Complete);
        }
        // What else is there may be anything: only what was asked for is read.
        let page = answer.part(Part::Result);
        let page = page.and_then(|result| json::fields(result, [ask.key(), "nextCursor", "ttlMs"]));
        let Some([items, cursor, ttl]) = page else {
            return Ok(PageResult::Broken("the result is no object"));
        };
        let ttl = ttl.and_then(|raw| serde_json::from_str::<u64>(raw.get()).ok()).unwrap_or(0);
        self.known.ttl_ms = Some(self.known.ttl_ms.map_or(ttl, |least| least.min(ttl)));
        let mut room = room;
        // `null` is how Go writes an empty list.
        let Ok(items) =
            items.map_or(Ok(None), |raw| serde_json::from_str::<Option<Vec<&RawValue>>>(raw.get()))
        else {
            return Ok(PageResult::Broken("what should be the list is none"));
        };
        // An item without a name, or with two, cannot be called: clients would not miss it.
        for item in items.iter().flatten().filter_map(|raw| Item::read(ask, raw)) {
            let Some(left) = room.checked_sub(item.bytes()).filter(|_| self.known.items.len() < ITEMS) else {
                return Ok(PageResult::TooMany);
            };
            room = left;
            self.known.items.push(item);
        }
        let cursor = cursor.map_or(Ok(None), |raw| serde_json::from_str::<Option<Cow<'_, str>>>(raw.get()));
        let Ok(cursor) = cursor else { return Ok(PageResult::Broken("nextCursor is no string")) };
        let Some(cursor) = cursor else { return Ok(PageResult::Complete) };
        if self.cursors.len() >= PAGES || !self.cursors.insert(cursor.as_ref().into()) {
            return Ok(PageResult::TooMany);
        }
        self.number = number;
        request(ask, number, Some(&cursor), self.meta.as_deref()).map(PageResult::Page)
    }

    /// The complete list.
    pub(super) fn complete(&mut self) -> CompleteList {
        std::mem::take(&mut self.known)
    }
}

/// What tools and prompts are asked for by.
const NAME: &str = "name";

impl Item {
    fn read(ask: ListKind, raw: &RawValue) -> Option<Self> {
        let key = match ask {
            ListKind::Tools | ListKind::Prompts => NAME,
            ListKind::Resources => "uri",
            ListKind::Templates | ListKind::Discover => "uriTemplate",
        };
        let [name] = json::fields(raw.get(), [key])?;
        let name = serde_json::from_str::<Cow<'_, str>>(name?.get()).ok()?;
        Some(Self { name: name.as_ref().into(), text: Some(raw.get().into()) })
    }

    fn bytes(&self) -> usize {
        self.name.len() + self.text.as_ref().map_or(0, |text| text.len())
    }

    /// The item under another name; its other bytes as they came.
    pub(super) fn named(&self, name: &str) -> Option<String> {
        let text = self.text.as_deref()?;
        let [own] = json::fields(text, [NAME])?;
        splice(text, &[(own?.get(), &json::quoted(name))])
    }
}

fn request(
    ask: ListKind,
    number: u64,
    cursor: Option<&str>,
    meta: Option<&str>,
) -> Result<Message, Malformed> {
    let cursor = cursor.map(json::quoted);
    let params = json::object(&[("cursor", cursor.as_deref()), ("_meta", meta)]);
    Message::request(&Id::number(number), ask.method(), &params)
}
