//! References in string values: `$env:VAR`, `env:VAR`, `${VAR}` and their defaults.

use crate::config::report::shown;

/// Looks up a variable. An argument, so that a test can have its own environment.
pub type Env<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// Where the text of a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextSource {
    /// Written in the config.
    Literal,
    /// From a variable or a file, at least in part.
    Elsewhere,
    /// From a default in the config, because a variable is not set.
    Default,
}

/// Why a reference leads nowhere.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unresolved {
    cause: String,
    /// How a default would be written.
    default: Option<String>,
    /// The variable that is not set or empty.
    variable: Option<String>,
}

impl Unresolved {
    /// A sentence that names the variable, and says what to do.
    pub(crate) fn message(&self) -> String {
        match &self.default {
            Some(default) => format!("{}; set it, or add a default: `{default}`", self.cause),
            None => self.cause.clone(),
        }
    }

    /// The same for a text that opens something: a default for it in the file would open it to whoever reads the file.
    pub(crate) fn message_for_secret(&self) -> String {
        match &self.default {
            Some(_) => format!("{}; set it where the gateway is started", self.cause),
            None => self.cause.clone(),
        }
    }

    /// The same for an argument of a program whose own environment is `own`: programs such as `mcp-remote` replace `${NAME}`
    /// in their arguments themselves.
    pub(crate) fn message_for_argument(&self, own: &[&str]) -> String {
        match &self.variable {
            Some(name) if own.contains(&&**name) => format!(
                "{name} is a variable of this server's `env`, and the gateway looks in its own environment; write `$${{{name}}}` \
                 if the program replaces it"
            ),
            _ => self.message_for_secret(),
        }
    }
}

impl Unresolved {
    /// Whether a variable has no value; else it is no reference as they are written.
    pub(crate) fn is_unset(&self) -> bool {
        self.variable.is_some()
    }
}

impl From<String> for Unresolved {
    fn from(cause: String) -> Self {
        Self { cause, default: None, variable: None }
    }
}

/// A string value with its references replaced.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Expanded {
    pub(crate) value: String,
    pub(crate) origin: TextSource,
}

/// Replaces the references in `text`. What a variable holds is taken as it is, never expanded again.
pub(crate) fn expand(text: &str, env: &Env<'_>) -> Result<Expanded, Unresolved> {
    if let Some(reference) = text.strip_prefix("$env:") {
        return match reference.split_once('|') {
            None => from_env(reference, env),
            Some((name, default)) => match lookup(name, env).map_err(|()| no_name(name, WHOLE))? {
                Ok(value) => Ok(Expanded { value, origin: TextSource::Elsewhere }),
                // The default may be a reference itself, which makes `$env:NEW|$env:OLD` work.
                Err(_) => expand(default, env).map(|Expanded { value, origin }| Expanded {
                    value,
                    origin: if origin == TextSource::Literal { TextSource::Default } else { origin },
                }),
            },
        };
    }
    match text.strip_prefix("env:") {
        Some(name) if is_name(name) => from_env(name, env),
        Some(rest) if rest.split_once('|').is_some_and(|(name, _)| is_name(name)) => {
            let name = rest.split('|').next().and_then(shown::variable).unwrap_or("API_TOKEN");
            Err(format!("`env:` takes no default; write `$env:{name}|…`").into())
        }
        _ => interpolate(text, env),
    }
}

/// The first variable that `text` refers to, if it refers to one.
pub(crate) fn first_variable(text: &str) -> Option<&str> {
    if let Some(reference) = text.strip_prefix("$env:") {
        return reference.split('|').next().filter(|name| is_name(name));
    }
    if let Some(name) = text.strip_prefix("env:").filter(|name| is_name(name)) {
        return Some(name);
    }
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('$') {
        rest = match after.strip_prefix('{') {
            // What is written as `$$` is a dollar sign.
            None => after.strip_prefix('$').unwrap_or(after),
            Some(inside) => {
                let (inside, _) = inside.split_once('}')?;
                return inside.split(":-").next().filter(|name| is_name(name));
            }
        };
    }
    None
}

/// Whether the variable `name` is set and not empty; its value if so.
pub(crate) fn from_env(name: &str, env: &Env<'_>) -> Result<Expanded, Unresolved> {
    match lookup(name, env).map_err(|()| no_name(name, WHOLE))? {
        Ok(value) => Ok(Expanded { value, origin: TextSource::Elsewhere }),
        Err(state) => Err(unset(name, state, |name| format!("$env:{name}|…"))),
    }
}

/// The outer error is a name that no variable can have, the inner one says why there is no value.
fn lookup(name: &str, env: &Env<'_>) -> Result<Result<String, &'static str>, ()> {
    if !is_name(name) {
        return Err(());
    }
    Ok(match env(name) {
        Some(value) if value.is_empty() => Err("empty"),
        Some(value) => Ok(value),
        None => Err("not set"),
    })
}

/// What to say of a variable without a value. A name that does not look like one may be a token, in the wrong place.
fn unset(name: &str, state: &str, default: fn(&str) -> String) -> Unresolved {
    match shown::variable(name) {
        None => format!("the environment variable of this name is {state}; a reference has the name of a variable, not its value").into(),
        Some(name) => Unresolved {
            cause: format!("the environment variable {name} is {state}"),
            default: Some(default(name)),
            variable: Some(name.to_owned()),
        },
    }
}

/// Forms of a reference.
const WHOLE: &str = "$env:API_TOKEN";
const INSIDE: &str = "${API_TOKEN}";

/// What to say of a name that no variable can have. It is not shown: it may be part of a secret in which `${` was meant as it
/// stands.
fn no_name(name: &str, form: &str) -> Unresolved {
    let cause = match name.split_once(':') {
        Some(("env", name)) if is_name(name) => {
            let name = shown::variable(name).unwrap_or("API_TOKEN");
            format!("a variable is written `${{{name}}}` here, without `env:`")
        }
        Some(("input", id)) => {
            let id: String = shown::name(id)
                .unwrap_or_default()
                .chars()
                .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
                .collect();
            let variable = Some(&*id).filter(|id| is_name(id)).unwrap_or("API_TOKEN");
            format!(
                "a client asks its user for an input; here write `${{{variable}}}`, and set that variable"
            )
        }
        Some(("workspaceFolder" | "config" | "command" | "file", _)) => {
            "an editor fills this in, and the gateway does not; write out what it stands for".into()
        }
        _ if matches!(name, "/" | "pathSeparator") => {
            "an editor fills this in, and the gateway does not; write /".into()
        }
        _ => format!(
            "a reference needs a variable name of letters, digits and _, as in `{form}`; write `$$` for a plain dollar sign"
        ),
    };
    cause.into()
}

/// Variables that editors and clients have, and what stands for them here.
fn of_editor(name: &str) -> Option<&'static str> {
    Some(match name {
        "workspaceFolder"
        | "workspaceRoot"
        | "workspaceFolderBasename"
        | "cwd"
        | "fileDirname"
        | "CLAUDE_PLUGIN_ROOT"
        | "CLAUDE_PROJECT_DIR"
        | "__dirname" => "write out the absolute path that it stands for",
        "userHome" => "write `${HOME}`",
        _ => return None,
    })
}

/// Whether a name is behind a dollar sign, which some programs take for a variable: `$NAME`, in capitals.
pub(crate) fn has_bare_variable(text: &str) -> bool {
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let after = &rest[at + 1..];
        if let Some(after) = after.strip_prefix('$') {
            rest = after;
            continue;
        }
        let name =
            after.len() - after.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_').len();
        let name = &after[..name];
        if name.len() > 1 && is_name(name) && !name.contains(|c: char| c.is_ascii_lowercase()) {
            return true;
        }
        rest = after;
    }
    false
}

fn interpolate(text: &str, env: &Env<'_>) -> Result<Expanded, Unresolved> {
    let mut value = String::with_capacity(text.len());
    let mut origin = TextSource::Literal;
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        value.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            value.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let Some((inside, after)) = after.split_once('}') else {
                let cause = "`${` is never closed; end it with `}`, or write `$$` for a plain dollar sign";
                return Err(cause.to_owned().into());
            };
            let (name, default) = match inside.split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (inside, None),
            };
            if default.is_some_and(|default| default.contains("${")) {
                return Err("references cannot stand inside `${…}`; write a plain default".to_owned().into());
            }
            match (lookup(name, env).map_err(|()| no_name(inside, INSIDE))?, default) {
                (Ok(found), _) => {
                    value.push_str(&found);
                    // A default elsewhere in the same value stays the thing to warn about.
                    origin = if origin == TextSource::Default { origin } else { TextSource::Elsewhere };
                }
                (Err(_), Some(default)) => {
                    value.push_str(default);
                    origin = TextSource::Default;
                }
                (Err(state), None) => {
                    if let Some(way) = of_editor(name) {
                        return Err(
                            format!("an editor fills in {name}, and the gateway does not; {way}").into()
                        );
                    }
                    return Err(unset(name, state, |name| format!("${{{name}:-…}}")));
                }
            }
            rest = after;
        } else {
            value.push('$');
        }
    }
    value.push_str(rest);
    Ok(Expanded { value, origin })
}

pub(crate) fn is_name(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "SET" => Some("value".into()),
            "TRICKY" => Some("${SET} $$".into()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn every_form_is_replaced() {
        for (text, value, origin) in [
            ("plain", "plain", TextSource::Literal),
            ("$env:SET", "value", TextSource::Elsewhere),
            ("env:SET", "value", TextSource::Elsewhere),
            ("$env:SET|other", "value", TextSource::Elsewhere),
            ("$env:UNSET|dev|token", "dev|token", TextSource::Default),
            ("$env:EMPTY|dev", "dev", TextSource::Default),
            ("$env:UNSET|$env:SET", "value", TextSource::Elsewhere),
            ("$env:UNSET|$env:EMPTY|last", "last", TextSource::Default),
            ("a-${SET}-b", "a-value-b", TextSource::Elsewhere),
            ("${UNSET:-x}${SET}", "xvalue", TextSource::Default),
            ("${UNSET:-}", "", TextSource::Default),
            ("${TRICKY}", "${SET} $$", TextSource::Elsewhere),
            ("$$env:SET", "$env:SET", TextSource::Literal),
            ("pa$$word", "pa$word", TextSource::Literal),
            ("pa$word$", "pa$word$", TextSource::Literal),
            ("env:not a name", "env:not a name", TextSource::Literal),
        ] {
            let expanded = Expanded { value: value.into(), origin };
            assert_eq!(expand(text, &env), Ok(expanded), "{text}");
        }
    }

    #[test]
    fn an_error_names_the_variable_and_the_way_out() {
        for (text, told) in [
            ("$env:UNSET", "variable UNSET is not set; set it, or add a default: `$env:UNSET|…`"),
            ("env:UNSET", "variable UNSET is not set"),
            ("$env:EMPTY", "variable EMPTY is empty"),
            ("x${UNSET}", "variable UNSET is not set; set it, or add a default: `${UNSET:-…}`"),
            ("$env:UNSET|${OTHER}", "variable OTHER is not set"),
            ("${env:SET}", "a variable is written `${SET}` here"),
            ("${input:api-key}", "here write `${API_KEY}`, and set that variable"),
            ("${workspaceFolder}/x", "write out the absolute path"),
            ("${workspaceFolder:x}/x", "write out what it stands for"),
            ("${userHome}", "write `${HOME}`"),
            ("$env:", "needs a variable name"),
            ("$env:9A", "needs a variable name"),
            ("${SET", "never closed"),
            ("${SET-x}", "a variable name of letters, digits and _, as in `${API_TOKEN}`"),
            ("${UNSET:-${SET}}", "plain default"),
            ("env:SET|x", "write `$env:SET|…`"),
        ] {
            let error = expand(text, &env).expect_err(text).message();
            assert!(error.contains(told), "{text}: {error}");
        }
    }

    #[test]
    fn a_secret_is_not_given_a_default() {
        let error = expand("$env:UNSET", &env).expect_err("unset");
        assert_eq!(
            error.message_for_secret(),
            "the environment variable UNSET is not set; set it where the gateway is started"
        );
    }

    #[test]
    fn the_first_variable_of_a_text_is_found_and_no_part_of_a_plain_one() {
        for (text, variable) in [
            ("$env:A", Some("A")),
            ("$env:A|b", Some("A")),
            ("env:A", Some("A")),
            ("x${A}${B}", Some("A")),
            ("${A:-b}", Some("A")),
            ("a$$${A}", Some("A")),
            ("a$${SECRET}b", None),
            ("pre$${NO}${YES}", Some("YES")),
            ("env:not a name", None),
            ("$env:not a name", None),
            ("a${SECRET", None),
            ("a$b", None),
            ("plain", None),
        ] {
            assert_eq!(first_variable(text), variable, "{text}");
        }
    }

    #[test]
    fn a_name_behind_a_dollar_sign_is_seen() {
        for (text, is_bare) in [
            ("$HOME/x", true),
            ("a $GITHUB_TOKEN", true),
            ("$$HOME", false),
            ("${HOME}", false),
            ("$env:HOME", false),
            ("pa$word", false),
            ("$5", false),
            ("A$B", false),
            ("$", false),
        ] {
            assert_eq!(has_bare_variable(text), is_bare, "{text}");
        }
    }
}
