//! The methods of MCP that clients send, of all versions: a closed set.

/// The request that calls a tool.
pub const TOOLS_CALL: &str = "tools/call";
/// The request for the tools of a server.
pub const TOOLS_LIST: &str = "tools/list";
/// The request for notifications (MCP 2026-07-28).
pub const LISTEN: &str = "subscriptions/listen";

/// One of them, or any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Method(u8);

/// What a request is about: the member of `params` that names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestObject {
    /// `name`
    Name,
    /// `uri`
    Uri,
    /// `taskId`
    TaskId,
    /// `ref`
    Reference,
    /// Nothing that MCP has a name for.
    Unknown,
}

struct Row {
    name: &'static str,
    subject: RequestObject,
    /// `Mcp-Name` repeats what it is about (MCP 2026-07-28).
    is_repeated: bool,
}

const fn about(name: &'static str, subject: RequestObject) -> Row {
    Row { name, subject, is_repeated: false }
}

const fn repeated(name: &'static str, subject: RequestObject) -> Row {
    Row { name, subject, is_repeated: true }
}

const fn plain(name: &'static str) -> Row {
    about(name, RequestObject::Unknown)
}

/// Those that come most often are first, since they are looked for in this order.
static METHODS: [Row; Method::COUNT - 1] = [
    repeated(TOOLS_CALL, RequestObject::Name),
    plain(TOOLS_LIST),
    plain("initialize"),
    plain("notifications/initialized"),
    plain("ping"),
    repeated("resources/read", RequestObject::Uri),
    plain("resources/list"),
    plain("resources/templates/list"),
    plain("prompts/list"),
    repeated("prompts/get", RequestObject::Name),
    about("completion/complete", RequestObject::Reference),
    plain("notifications/cancelled"),
    plain("notifications/progress"),
    plain("server/discover"),
    plain(LISTEN),
    repeated("tasks/get", RequestObject::TaskId),
    about("tasks/result", RequestObject::TaskId),
    plain("tasks/list"),
    repeated("tasks/update", RequestObject::TaskId),
    repeated("tasks/cancel", RequestObject::TaskId),
    about("resources/subscribe", RequestObject::Uri),
    about("resources/unsubscribe", RequestObject::Uri),
    plain("logging/setLevel"),
    plain("notifications/roots/list_changed"),
    plain("notifications/tasks/status"),
];

impl Method {
    /// How many there are, with [`Method::OTHER`].
    pub const COUNT: usize = 26;
    /// None of MCP.
    pub const OTHER: Self = Self(Self::COUNT as u8 - 1);

    /// The method of this name.
    pub fn of(name: &str) -> Self {
        METHODS.iter().position(|row| row.name == name).map_or(Self::OTHER, |at| Self(at as u8))
    }

    /// All of MCP.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..Self::OTHER.0).map(Self)
    }

    fn row(self) -> Option<&'static Row> {
        METHODS.get(self.index())
    }

    /// Its name; `other` if it is none of MCP.
    pub fn name(self) -> &'static str {
        self.row().map_or("other", |row| row.name)
    }

    /// Its place among them.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// Whether it calls a tool.
    pub fn calls_tool(self) -> bool {
        self.0 == 0
    }

    /// What its requests are about.
    pub fn subject(self) -> RequestObject {
        self.row().map_or(RequestObject::Unknown, |row| row.subject)
    }

    /// Whether `Mcp-Name` repeats what its requests are about.
    pub fn repeats_name(self) -> bool {
        self.row().is_some_and(|row| row.is_repeated)
    }

    /// Whether nothing answers it.
    pub fn is_notification(self) -> bool {
        self.name().starts_with("notifications/")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_make_up_is_other() {
        for name in Method::all().map(Method::name) {
            assert_eq!(Method::of(name).name(), name);
        }
        for name in ["", "tools/Call", "tools/call ", "evil\n", "Other"] {
            assert_eq!(Method::of(name).name(), "other", "{name}");
        }
        assert!(Method::of("tools/call").calls_tool() && !Method::of("tools/list").calls_tool());
    }
}
