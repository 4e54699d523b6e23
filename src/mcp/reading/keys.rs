//! The keys of a message that a gateway decides on or renames, and the ways in which they can be spelt.
//!
//! JSON has one spelling for a key, and its readers have many: Go's `encoding/json` and .NET's web defaults take any letter
//! case (Go also the Kelvin sign and the long s), the Python SDK takes `task_id` for `taskId` and `meta` for `_meta`, C
//! strings end at a zero byte. Two keys that one of them takes for the same fold to the same letters and digits here.

use crate::mcp::method::Method;

/// An object whose keys count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ObjectKind {
    /// The message.
    Message,
    /// `params`
    Params,
    /// `params._meta`, or `result._meta` of a server's response.
    Meta,
    /// `params.ref` (`completion/complete`).
    Reference,
    /// `params.notifications` (`subscriptions/listen`).
    Filter,
    /// `result` of a server's response.
    Result,
    /// `result.task` of a server's response.
    Task,
    /// `error` of a response.
    Error,
    /// Any other.
    Elsewhere,
}

/// A key that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MessageKey {
    // Those whose values are kept.
    Id,
    Method,
    Params,
    Result,
    Error,
    Name,
    Uri,
    TaskId,
    Progress,
    RequestId,
    Cursor,
    ProgressToken,
    Version,
    Capabilities,
    LogLevel,
    SubscriptionId,
    ReferenceType,
    ReferenceName,
    ReferenceUri,
    MadeTaskId,
    RelatedTask,
    Code,
    // Those whose values are only checked.
    JsonRpc,
    Level,
    Meta,
    Arguments,
    Reference,
    Filter,
    InitialVersion,
    InitialCapabilities,
    InitialClient,
    Client,
    ToolsChanged,
    PromptsChanged,
    ResourcesChanged,
    Subscriptions,
    ResultMeta,
    ResultTask,
}

impl MessageKey {
    /// How many are kept: those in front.
    pub(crate) const KEPT: usize = Self::Code as usize + 1;
}

/// Who wrote a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Author {
    /// Whoever got past the token check: nothing may be left to taste.
    Client,
    /// A server that is in the config, or the gateway. What it writes oddly is noticed, and no more.
    Server,
}

/// What a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// This one, as MCP writes it.
    Exact(MessageKey),
    /// One that does not count here.
    Other,
    /// One of MCP's own (`io.modelcontextprotocol/…`) that is not known.
    Reserved,
    /// One that some reader takes for one that counts, or that readers do not agree on.
    Second,
}

/// A key that is known in an object.
struct Known {
    /// As MCP writes it.
    name: &'static str,
    folded: Folded,
    key: MessageKey,
    /// The gateway renames its value, also in what a server writes.
    is_renamed: bool,
}

const fn known(name: &'static str, key: MessageKey) -> Known {
    Known { name, folded: Folded::of_ascii(name), key, is_renamed: false }
}

const fn renamed(name: &'static str, key: MessageKey) -> Known {
    Known { name, folded: Folded::of_ascii(name), key, is_renamed: true }
}

/// What MCP keeps for itself in `_meta`.
const RESERVED: &str = "io.modelcontextprotocol/";
const RESERVED_FOLDED: &str = "iomodelcontextprotocol";

static MESSAGE: &[Known] = &[
    renamed("jsonrpc", MessageKey::JsonRpc),
    renamed("id", MessageKey::Id),
    renamed("method", MessageKey::Method),
    renamed("params", MessageKey::Params),
    renamed("result", MessageKey::Result),
    renamed("error", MessageKey::Error),
];
static PARAMS: &[Known] = &[
    renamed("_meta", MessageKey::Meta),
    known("name", MessageKey::Name),
    known("arguments", MessageKey::Arguments),
    known("uri", MessageKey::Uri),
    known("taskId", MessageKey::TaskId),
    renamed("progressToken", MessageKey::Progress),
    renamed("requestId", MessageKey::RequestId),
    known("cursor", MessageKey::Cursor),
    known("level", MessageKey::Level),
    known("ref", MessageKey::Reference),
    known("notifications", MessageKey::Filter),
    known("protocolVersion", MessageKey::InitialVersion),
    known("capabilities", MessageKey::InitialCapabilities),
    known("clientInfo", MessageKey::InitialClient),
];
static META: &[Known] = &[
    renamed("progressToken", MessageKey::ProgressToken),
    known("io.modelcontextprotocol/protocolVersion", MessageKey::Version),
    known("io.modelcontextprotocol/clientCapabilities", MessageKey::Capabilities),
    known("io.modelcontextprotocol/clientInfo", MessageKey::Client),
    known("io.modelcontextprotocol/logLevel", MessageKey::LogLevel),
    renamed("io.modelcontextprotocol/subscriptionId", MessageKey::SubscriptionId),
    known("io.modelcontextprotocol/related-task", MessageKey::RelatedTask),
];
static REFERENCE: &[Known] = &[
    known("type", MessageKey::ReferenceType),
    known("name", MessageKey::ReferenceName),
    known("uri", MessageKey::ReferenceUri),
];
static FILTER: &[Known] = &[
    known("toolsListChanged", MessageKey::ToolsChanged),
    known("promptsListChanged", MessageKey::PromptsChanged),
    known("resourcesListChanged", MessageKey::ResourcesChanged),
    known("resourceSubscriptions", MessageKey::Subscriptions),
];
static RESULT: &[Known] = &[
    renamed("_meta", MessageKey::ResultMeta),
    known("task", MessageKey::ResultTask),
    known("taskId", MessageKey::MadeTaskId),
];
static TASK: &[Known] = &[known("taskId", MessageKey::MadeTaskId)];
static ERROR: &[Known] = &[known("code", MessageKey::Code)];

impl ObjectKind {
    fn keys(self) -> &'static [Known] {
        match self {
            Self::Message => MESSAGE,
            Self::Params => PARAMS,
            Self::Meta => META,
            Self::Reference => REFERENCE,
            Self::Filter => FILTER,
            Self::Result => RESULT,
            Self::Task => TASK,
            Self::Error => ERROR,
            Self::Elsewhere => &[],
        }
    }

    /// What `key` is here. `escaped` is how many bytes longer it is written than it is.
    pub(crate) fn spelling(self, author: Author, key: &str, escaped: usize) -> Spelling {
        let known = self.keys();
        if let Some(exact) = known.iter().find(|known| known.name == key)
            // PHP writes every slash as `\/`, which nobody takes for anything else. Other escapes are longer.
            && escaped <= usize::from(self == Self::Meta)
        {
            return Spelling::Exact(exact.key);
        }
        // Keys of MCP are of ASCII (and so is every key of `_meta`, says the specification). What is not may be the same to
        // who ignores case, width, accents or what is not seen.
        if author == Author::Client && !key.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Spelling::Second;
        }
        let folded = Folded::of(key);
        let folded = folded.bytes();
        let counts = |known: &&Known| author == Author::Client || known.is_renamed;
        if known.iter().filter(counts).any(|known| known.folded.bytes() == folded) {
            return Spelling::Second;
        }
        match self {
            Self::Meta if author == Author::Client && folded.starts_with(RESERVED_FOLDED.as_bytes()) => {
                let is_plain = key.starts_with(RESERVED) && escaped <= 1;
                if is_plain { Spelling::Reserved } else { Spelling::Second }
            }
            _ => Spelling::Other,
        }
    }
}

/// Whether some server may take `method` for another one, or not for itself.
pub(crate) fn is_ambiguous_method(method: &str) -> bool {
    if Method::of(method) != Method::OTHER {
        return false;
    }
    // MCP 2026-07-28 repeats the method in a header field.
    if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_graphic()) {
        return true;
    }
    let folded = Folded::of(method);
    Method::all().any(|known| Folded::of_ascii(known.name()).bytes() == folded.bytes())
}

/// Whether some reader takes `key` for `name`.
pub(crate) fn is_spelling_of(key: &str, name: &str) -> bool {
    letters(key).eq(letters(name))
}

/// What is left of a key for who reads it least exactly: its letters in lower case, and digits. Upper case first: there are
/// letters that only have that in common, the dotless i and the long s.
fn letters(key: &str) -> impl Iterator<Item = char> {
    let letters = key.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase);
    letters.filter(|letter| letter.is_alphanumeric())
}

/// The [`letters`] of a key, in place.
pub(crate) struct Folded {
    bytes: [u8; Self::MOST],
    length: usize,
}

impl Folded {
    /// Longer ones are like nothing that is known.
    const MOST: usize = 64;

    /// Folds a key of ASCII letters that is known when the program is built.
    const fn of_ascii(key: &str) -> Self {
        let mut folded = Self { bytes: [0; Self::MOST], length: 0 };
        let (key, mut at) = (key.as_bytes(), 0);
        while at < key.len() {
            if key[at].is_ascii_alphanumeric() {
                folded.bytes[folded.length] = key[at].to_ascii_lowercase();
                folded.length += 1;
            }
            at += 1;
        }
        folded
    }

    /// Folds `key`.
    pub(crate) fn of(key: &str) -> Self {
        let mut folded = Self { bytes: [0; Self::MOST], length: 0 };
        if key.is_ascii() {
            let letters = key.bytes().filter(u8::is_ascii_alphanumeric);
            letters.for_each(|byte| folded.push(byte.to_ascii_lowercase()));
        } else {
            letters(key).for_each(|letter| folded.push(u8::try_from(letter).unwrap_or(u8::MAX)));
        }
        folded
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
        }
        self.length += 1;
    }

    /// The letters and digits; none if there are too many to be known.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// Keys that a reader of any kind may take for one that counts, for tests.
#[cfg(test)]
pub(crate) fn exact(place: ObjectKind) -> impl Iterator<Item = &'static str> {
    place.keys().iter().map(|known| known.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACES: [ObjectKind; 7] = [
        ObjectKind::Message,
        ObjectKind::Params,
        ObjectKind::Meta,
        ObjectKind::Reference,
        ObjectKind::Filter,
        ObjectKind::Result,
        ObjectKind::Error,
    ];

    #[test]
    fn the_tables_fold_as_keys_do_and_name_each_key_once() {
        let mut met = Vec::new();
        for Known { name, folded, key, .. } in PLACES.into_iter().flat_map(ObjectKind::keys) {
            assert_eq!(Folded::of(name).bytes(), folded.bytes(), "{name}");
            assert!(!met.contains(key), "{name}");
            met.push(*key);
        }
        for method in Method::all().map(Method::name) {
            assert_eq!(Folded::of(method).bytes(), Folded::of_ascii(method).bytes(), "{method}");
            assert!(!is_ambiguous_method(method));
        }
    }

    #[test]
    fn what_some_reader_takes_for_a_key_is_a_second_spelling_of_it() {
        let client = |place: ObjectKind, key: &str| place.spelling(Author::Client, key, 0);
        for key in
            ["ID", "Id", "_id", "i-d", "i\u{ad}d", "\u{131}d", "ıd", "id\u{301}", "ｉｄ", "idé", "id\u{7f}"]
        {
            assert_eq!(client(ObjectKind::Message, key), Spelling::Second, "{key}");
        }
        for key in ["param\u{17f}", "Params", "PARAMS"] {
            assert_eq!(client(ObjectKind::Message, key), Spelling::Second, "{key}");
        }
        for key in ["progress_token", "PROGRESSTOKEN", "progressTo\u{212a}en", "task_id", "meta", "Meta"] {
            assert_eq!(client(ObjectKind::Params, key), Spelling::Second, "{key}");
        }
        for key in [
            "io_modelcontextprotocol_log_level",
            "io.modelcontextprotocol/LogLevel",
            "IO.modelcontextprotocol/new",
            "io.modelcontextprotocol.new",
            "io.modelcontextprotocol/subscription-id",
        ] {
            assert_eq!(client(ObjectKind::Meta, key), Spelling::Second, "{key}");
        }
        assert_eq!(client(ObjectKind::Meta, "io.modelcontextprotocol/new"), Spelling::Reserved);
        for key in ["traceparent", "com.example/progressToken", "id"] {
            assert_eq!(client(ObjectKind::Meta, key), Spelling::Other, "{key}");
        }
        assert_eq!(client(ObjectKind::Message, "trace"), Spelling::Other);
        assert_eq!(ObjectKind::Message.spelling(Author::Client, "id", 5), Spelling::Second, "an escape");
        let slash = "io.modelcontextprotocol/logLevel";
        assert_eq!(
            ObjectKind::Meta.spelling(Author::Client, slash, 1),
            Spelling::Exact(MessageKey::LogLevel)
        );
        assert_eq!(ObjectKind::Meta.spelling(Author::Client, slash, 5), Spelling::Second);
    }

    #[test]
    fn of_what_a_server_writes_only_what_is_renamed_counts() {
        let server = |place: ObjectKind, key: &str| place.spelling(Author::Server, key, 0);
        assert_eq!(server(ObjectKind::Message, "ID"), Spelling::Second);
        assert_eq!(server(ObjectKind::Message, "\u{131}d"), Spelling::Second);
        assert_eq!(server(ObjectKind::Params, "RequestId"), Spelling::Second);
        assert_eq!(server(ObjectKind::Params, "Name"), Spelling::Other);
        assert_eq!(server(ObjectKind::Params, "größe"), Spelling::Other);
        assert_eq!(server(ObjectKind::Meta, "io.modelcontextprotocol/SubscriptionId"), Spelling::Second);
        assert_eq!(server(ObjectKind::Meta, "io.modelcontextprotocol/LogLevel"), Spelling::Other);
    }

    #[test]
    fn a_method_that_some_server_takes_for_another_one_is_ambiguous() {
        for method in [
            "Tools/Call",
            "tools.call",
            "tools//call",
            "toolscall",
            "TOOLS/CALL",
            "",
            " ping",
            "tools/call\n",
            "tool\u{17f}/call",
        ] {
            assert!(is_ambiguous_method(method), "{method}");
        }
        for method in ["tools/call", "vendor/method", "tools/callTwice", "notifications/of/some/extension"] {
            assert!(!is_ambiguous_method(method), "{method}");
        }
    }
}
