//! The methods of MCP that clients send: a closed set, for what must not grow by what clients make up.

/// One of them, or any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Method(u8);

/// Of all versions, those that come most often first, since that is how they are looked for. The last stands for all others.
const NAMES: [&str; Method::COUNT] = [
    "tools/call",
    "tools/list",
    "initialize",
    "notifications/initialized",
    "ping",
    "resources/read",
    "resources/list",
    "resources/templates/list",
    "prompts/list",
    "prompts/get",
    "completion/complete",
    "notifications/cancelled",
    "notifications/progress",
    "server/discover",
    "subscriptions/listen",
    "tasks/get",
    "tasks/result",
    "tasks/list",
    "tasks/update",
    "tasks/cancel",
    "resources/subscribe",
    "resources/unsubscribe",
    "logging/setLevel",
    "notifications/roots/list_changed",
    "notifications/tasks/status",
    "other",
];

impl Method {
    /// How many there are.
    pub const COUNT: usize = 26;

    /// The method of this name.
    pub fn of(name: &str) -> Self {
        let known = NAMES.iter().position(|known| *known == name).unwrap_or(Self::COUNT - 1);
        Self(known as u8)
    }

    /// Its name; `other` if it is none of MCP.
    pub fn name(self) -> &'static str {
        NAMES[self.index()]
    }

    /// Its place among them.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// Whether it calls a tool.
    pub fn calls_tool(self) -> bool {
        self.0 == 0
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
        for name in NAMES {
            assert_eq!(Method::of(name).name(), name);
        }
        for name in ["", "tools/Call", "tools/call ", "evil\n", "Other"] {
            assert_eq!(Method::of(name).name(), "other", "{name}");
        }
        assert!(Method::of("tools/call").calls_tool() && !Method::of("tools/list").calls_tool());
    }
}
