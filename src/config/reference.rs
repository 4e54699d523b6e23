//! References in string values: `$env:VAR`, `env:VAR`, `${VAR}` and their defaults.

/// Looks up a variable. An argument, so that a test can have its own environment.
pub type Env<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// Where the text of a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// Written in the config.
    Literal,
    /// From a variable or a file, at least in part.
    Elsewhere,
    /// From a default in the config, because a variable is not set.
    Default,
}

/// A string value with its references replaced.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Expanded {
    pub(super) value: String,
    pub(super) origin: Origin,
}

/// Replaces the references in `text`. What a variable holds is taken as it is, never expanded again.
///
/// The error is a sentence that names the variable.
pub(super) fn expand(text: &str, env: &Env<'_>) -> Result<Expanded, String> {
    if let Some(reference) = text.strip_prefix("$env:") {
        return match reference.split_once('|') {
            None => from_env(reference, env),
            Some((name, default)) => match lookup(name, env)? {
                Ok(value) => Ok(Expanded { value, origin: Origin::Elsewhere }),
                // The default may be a reference itself, which makes `$env:NEW|$env:OLD` work.
                Err(_) => expand(default, env).map(|Expanded { value, origin }| Expanded {
                    value,
                    origin: if origin == Origin::Literal { Origin::Default } else { origin },
                }),
            },
        };
    }
    match text.strip_prefix("env:") {
        Some(name) if is_name(name) => from_env(name, env),
        Some(rest) if rest.split_once('|').is_some_and(|(name, _)| is_name(name)) => Err(format!(
            "`env:` takes no default; write `$env:{}|…`",
            rest.split('|').next().unwrap_or_default()
        )),
        _ => interpolate(text, env),
    }
}

/// Whether the variable `name` is set and not empty; its value if so.
pub(super) fn from_env(name: &str, env: &Env<'_>) -> Result<Expanded, String> {
    match lookup(name, env)? {
        Ok(value) => Ok(Expanded { value, origin: Origin::Elsewhere }),
        Err(state) => Err(format!(
            "the environment variable {name} is {state}; set it, or add a default: `$env:{name}|…`"
        )),
    }
}

/// The outer error is a name that no variable can have, the inner one says why there is no value.
fn lookup(name: &str, env: &Env<'_>) -> Result<Result<String, &'static str>, String> {
    if !is_name(name) {
        // Not shown: it may be part of a secret in which `${` was meant as it stands.
        return Err("a reference needs a variable name of letters, digits and _, as in `$env:API_TOKEN`; \
                    write `$$` for a plain dollar sign"
            .into());
    }
    Ok(match env(name) {
        Some(value) if value.is_empty() => Err("empty"),
        Some(value) => Ok(value),
        None => Err("not set"),
    })
}

fn interpolate(text: &str, env: &Env<'_>) -> Result<Expanded, String> {
    let mut value = String::with_capacity(text.len());
    let mut origin = Origin::Literal;
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        value.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            value.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let Some((inside, after)) = after.split_once('}') else {
                return Err(
                    "`${` is never closed; end it with `}`, or write `$$` for a plain dollar sign".into()
                );
            };
            let (name, default) = match inside.split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (inside, None),
            };
            if default.is_some_and(|default| default.contains("${")) {
                return Err("references cannot stand inside `${…}`; write a plain default".into());
            }
            match (lookup(name, env)?, default) {
                (Ok(found), _) => {
                    value.push_str(&found);
                    // A default elsewhere in the same value stays the thing to warn about.
                    origin = if origin == Origin::Default { origin } else { Origin::Elsewhere };
                }
                (Err(_), Some(default)) => {
                    value.push_str(default);
                    origin = Origin::Default;
                }
                (Err(state), None) => {
                    return Err(format!(
                        "the environment variable {name} is {state}; set it, or add a default: `${{{name}:-…}}`"
                    ));
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

fn is_name(name: &str) -> bool {
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
            ("plain", "plain", Origin::Literal),
            ("$env:SET", "value", Origin::Elsewhere),
            ("env:SET", "value", Origin::Elsewhere),
            ("$env:SET|other", "value", Origin::Elsewhere),
            ("$env:UNSET|dev|token", "dev|token", Origin::Default),
            ("$env:EMPTY|dev", "dev", Origin::Default),
            ("$env:UNSET|$env:SET", "value", Origin::Elsewhere),
            ("$env:UNSET|$env:EMPTY|last", "last", Origin::Default),
            ("a-${SET}-b", "a-value-b", Origin::Elsewhere),
            ("${UNSET:-x}${SET}", "xvalue", Origin::Default),
            ("${UNSET:-}", "", Origin::Default),
            ("${TRICKY}", "${SET} $$", Origin::Elsewhere),
            ("$$env:SET", "$env:SET", Origin::Literal),
            ("pa$$word", "pa$word", Origin::Literal),
            ("pa$word$", "pa$word$", Origin::Literal),
            ("env:not a name", "env:not a name", Origin::Literal),
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
            ("$env:", "needs a variable name"),
            ("$env:9A", "needs a variable name"),
            ("${SET", "never closed"),
            ("${SET-x}", "needs a variable name"),
            ("${UNSET:-${SET}}", "plain default"),
            ("env:SET|x", "write `$env:SET|…`"),
        ] {
            let error = expand(text, &env).expect_err(text);
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
