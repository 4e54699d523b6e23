//! `proxy.auth`.

use crate::config::{
    key::{
        Book, Given, HERE, Here, Label, Map, NONE, Object, OneOrMany, Shape, Value, key, keys, list, or, read_object, words,
    },
    problem::Place,
    reader::{Context, Node, Text},
};

keys! {
    /// Who may come in.
    pub(crate) struct AuthKeys {
        pub(crate) here: Here = HERE,
        /// How callers prove who they are.
        _kind: AuthKind = key("kind", AuthKind::BearerToken),
        /// Accept the token as `?token=` too. It ends up in logs and histories of others on the way.
        pub(crate) query_token: bool = key("queryToken", false),
        /// Token names and what proves each of them: one credential, or a list of them, so that rotation can overlap. Only
        /// names appear in logs and metrics.
        pub(crate) tokens: Given<Map<OneOrMany<CredentialKeys>>> = key("tokens", or("there is no token"))
            .examples(&[r#"{ "ci": { "$env": "CI_TOKEN" } }"#]),
    }
}

words! {
    /// How callers prove who they are.
    enum AuthKind: "kind of auth" {
        /// By a token in the `Authorization` header.
        BearerToken = "bearer_token",
    }
}

/// The value of `auth`. Of another kind than ours, nothing else is read: its keys are another kind's.
pub(crate) struct Auth(pub(crate) AuthKeys);

impl Value for Auth {
    type Rule = ();
    type Default = ();

    fn read((): &(), cx: &mut Context<'_>, node: &Node<'_>) -> Option<Self> {
        if let Some(kind) = node.field("kind") {
            if kind.is_text("oauth") {
                cx.error(&kind.at, "OAuth is not supported yet; use \"bearer_token\"");
                return None;
            }
            AuthKind::read(&(), cx, &kind)?;
        }
        read_object(cx, node).map(Self)
    }

    fn from_default((): (), at: &dyn Fn() -> Place) -> Self {
        Self(AuthKeys::empty(&at()))
    }

    fn show((): ()) -> serde_json::Value {
        AuthKeys::show(())
    }

    fn shape((): &(), book: &mut Book) -> Shape {
        book.object::<AuthKeys>()
    }
}

keys! {
    /// A token with conditions; `sluicegate token new` prints one.
    pub(crate) struct TokenKeys has one of "sha256", "value" {
        pub(crate) here: Here = HERE,
        /// SHA-256 of the token, 64 hex digits, so that the config holds no secret.
        pub(crate) sha256: Given<Text> = key("sha256", NONE).pattern("^[0-9A-Fa-f]{64}$"),
        /// The token itself, in place of `sha256`; best a reference.
        pub(crate) value: Given<Text> = key("value", NONE).examples(&[r#"{ "$env": "CI_TOKEN" }"#]),
        /// When the token stops to work, in UTC.
        pub(crate) expires: Given<Text> = key("expires", or("never"))
            .pattern(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")
            .examples(&[r#""2027-01-31T00:00:00Z""#]),
        /// Roles of the caller. `admin` may see `/metrics` and manage `/servers`, `metrics` may see `/metrics`.
        pub(crate) roles: Vec<Label> = list("roles", &[]),
        /// Tags of the caller; without effect so far.
        pub(crate) tags: Vec<Label> = list("tags", &[]),
    }
}

/// What proves to be a token name.
pub(crate) enum CredentialKeys {
    /// The token itself.
    Plain(Text),
    /// A token with conditions.
    Token(TokenKeys),
}

impl CredentialKeys {
    /// Where it stands.
    pub(crate) fn at(&self) -> &Place {
        match self {
            Self::Plain(text) => &text.at,
            Self::Token(keys) => &keys.here.at,
        }
    }
}

impl Value for CredentialKeys {
    type Rule = ();
    type Default = &'static str;

    fn read((): &(), cx: &mut Context<'_>, node: &Node<'_>) -> Option<Self> {
        if node.is_plain_object() {
            return read_object(cx, node).map(Self::Token);
        }
        node.string(cx).map(Self::Plain)
    }

    fn from_default(default: &'static str, at: &dyn Fn() -> Place) -> Self {
        Self::Plain(Text::from_default(default, at))
    }

    fn show(default: &'static str) -> serde_json::Value {
        default.into()
    }

    fn shape((): &(), book: &mut Book) -> Shape {
        Shape::Either(vec![Shape::Text { pattern: None, is_secret: true }, book.object::<TokenKeys>()])
    }
}
