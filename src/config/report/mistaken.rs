//! Secrets that are none: a reference as another program writes it, an example, a text with quotes around it.
//!
//! Such a text would work as a token, and everybody who has seen the config or an example could use it.

use crate::config::read::reference::is_name;

/// What a text that was to be a secret is instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mistake {
    /// The path of a file, or a reference to one.
    File,
    /// A reference to a variable.
    Variable,
    /// A reference to a place that the gateway cannot read.
    Store,
    /// A text of an example, or one character again and again.
    Example,
    /// A quote at both ends.
    Quotes,
}

impl Mistake {
    pub(crate) fn is_reference(self) -> bool {
        matches!(self, Self::File | Self::Variable | Self::Store)
    }

    /// What to say of a secret that is in the config. The text is not shown: it may be a secret for all that.
    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::File => {
                "would be the secret itself, and looks like the path of a file; write { \"$file\": \"PATH\" }, or \
                 { \"$text\": \"…\" } if it is the secret"
            }
            Self::Variable => {
                "would be the secret itself, and looks like a reference to a variable; write \"$env:NAME\", or \
                 { \"$text\": \"…\" } if it is the secret"
            }
            Self::Store => {
                "would be the secret itself, and looks like a reference to a place that the gateway does not read; have the \
                 secret written to a file or set in a variable, and write { \"$file\": \"PATH\" } or \"$env:NAME\"; or \
                 { \"$text\": \"…\" } if it is the secret"
            }
            Self::Example => "is an example, not a secret; `sluicegate token new` makes a good one",
            Self::Quotes => "begins and ends with a quote, which would be part of the secret; remove them",
        }
    }

    /// What to say of the contents of a file.
    pub(crate) fn message_of_file(self, file: &str) -> String {
        match self {
            Self::File | Self::Variable | Self::Store => {
                format!(
                    "what stands in {file} is a reference, which is not followed; write the secret into it"
                )
            }
            Self::Example | Self::Quotes => format!("what stands in {file} {}", self.message()),
        }
    }

    /// What to say of the value of a variable.
    pub(crate) fn message_of_variable(self) -> String {
        match self {
            Self::File => {
                "the value of the variable is the path of a file; write { \"$file\": \"$env:NAME\" }".into()
            }
            Self::Variable | Self::Store => {
                "the value of the variable is a reference, which is not followed; set the variable to the secret".into()
            }
            Self::Quotes => {
                "the value of the variable begins and ends with a quote, which would be part of the secret; remove them \
                 where it is set (`docker --env-file` keeps them)"
                    .into()
            }
            Self::Example => format!("the value of the variable {}", self.message()),
        }
    }
}

/// What is wrong with `text` as a secret that opens this gateway, if it is none.
pub(crate) fn secret(text: &str) -> Option<Mistake> {
    let text = text.trim();
    let is_quoted = |quote| text.len() > 1 && text.starts_with(quote) && text.ends_with(quote);
    if is_quoted('"') || is_quoted('\'') {
        return Some(Mistake::Quotes);
    }
    reference(text).or_else(|| is_example(text).then_some(Mistake::Example))
}

/// Beginnings of references that other programs read, in small letters, with a space between two. A token hardly begins like
/// this by chance.
const BEGINNINGS: &[(Mistake, &str)] = &[
    (Mistake::File, "file: @file @/ @./ @~/ ./ ../ ~/ $("),
    (
        Mistake::Variable,
        "env: @env process.env import.meta.env. os.environ os.getenv getenv( env( env[ \
     <%= {{",
    ),
    (
        Mistake::Store,
        "secret: secrets: secrets. secretref: vault: keyring: keychain: sops: ssm: \
     arn:aws: @microsoft.keyvault(",
    ),
];

/// First parts of paths under which secrets are found.
const DIRECTORIES: &[&str] = &[
    "app", "config", "data", "etc", "home", "media", "mnt", "opt", "private", "root", "run", "secrets",
    "srv", "tmp", "usr", "users", "var", "vault",
];

/// Ends of the names of files that hold secrets.
const ENDS: &[&str] = &[".token", ".secret", ".txt", ".key", ".pem", ".env", ".json"];

fn reference(text: &str) -> Option<Mistake> {
    let plain = text.to_ascii_lowercase();
    let begins = |(_, all): &&(Mistake, &str)| all.split(' ').any(|begin| plain.starts_with(begin));
    if let Some((mistake, _)) = BEGINNINGS.iter().find(begins) {
        return Some(*mistake);
    }
    // `env.NAME`, `%NAME%`, `$NAME`.
    let is_shouted = |name: &str| is_name(name) && !name.contains(|c: char| c.is_ascii_lowercase());
    let inside = text.strip_prefix('%').and_then(|text| text.strip_suffix('%'));
    if plain.strip_prefix("env.").is_some_and(is_name)
        || inside.is_some_and(is_name)
        || text.strip_prefix('$').is_some_and(is_shouted)
    {
        return Some(Mistake::Variable);
    }
    // `$word:…`, `$word.…`.
    if let Some(rest) = plain.strip_prefix('$') {
        let word = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_lowercase()).len();
        if word > 1 && rest[word..].starts_with([':', '.', '(', '[', '{']) {
            return Some(match &rest[..word] {
                "file" | "path" | "include" => Mistake::File,
                "env" | "environ" | "var" | "process" => Mistake::Variable,
                _ => Mistake::Store,
            });
        }
    }
    // Base64 may begin with a slash, and has no dots.
    if let Some(path) = plain.strip_prefix('/') {
        let first = path.split('/').next().unwrap_or_default();
        if path.contains('.') || (first.len() < path.len() && DIRECTORIES.contains(&first)) {
            return Some(Mistake::File);
        }
    }
    if ENDS.iter().any(|end| plain.ends_with(end)) {
        return Some(Mistake::File);
    }
    let is_scheme = |scheme: &str| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    };
    plain.split_once("://").is_some_and(|(scheme, _)| is_scheme(scheme)).then_some(Mistake::Store)
}

/// Words of which placeholders for secrets consist in examples.
const WORDS: &str = "access actual api auth bearer change dummy enter example fixme gate goes here in insert is it \
     key long mcp me my of own password paste placeholder please put random real replace sample \
     secret secure some string super the this to todo token tokens value very with your";

/// Whether `text` consists of the words of examples and of nothing else, or of one character.
fn is_example(text: &str) -> bool {
    let text = text.strip_prefix("sg_").unwrap_or(text);
    let is_one = |text: &str| text.chars().all(|c| text.starts_with(c));
    // A shorter one is warned of as short.
    if text.len() > 2 && is_one(text) {
        return true;
    }
    let plain: String =
        text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    // No example is as long, and the search would take its time.
    if plain.len() < 3 || plain.len() > 128 || !text.is_ascii() {
        return false;
    }
    if is_one(&plain) || text.starts_with('<') && text.ends_with('>') {
        return true;
    }
    let words = plain.trim_end_matches(|c: char| c.is_ascii_digit());
    // Whether words lead to each place.
    let mut reached = vec![false; words.len() + 1];
    reached[0] = true;
    for at in 0..words.len() {
        if reached[at] {
            for word in WORDS.split(' ').filter(|word| words[at..].starts_with(word)) {
                reached[at + word.len()] = true;
            }
        }
    }
    !words.is_empty() && plain.len() - words.len() <= 4 && reached[words.len()]
}

/// Whether a text that is no secret of this gateway's holds a reference as another program writes it: what is not likely
/// to be there for another reason.
pub(crate) fn has_foreign_reference(text: &str) -> bool {
    // `Bearer …`, `--key=…`.
    let last = text.rsplit([' ', '=']).next().unwrap_or_default();
    let is_variable = |begin: &str| last.strip_prefix(begin).is_some_and(is_name);
    let is_path = |begin: &str| last.strip_prefix(begin).is_some_and(|rest| !rest.is_empty());
    let has_few_words = text.matches(' ').count() <= 1;
    has_few_words
        && (is_variable("process.env.") || is_variable("$env.") || is_path("$file:") || is_path("op://"))
        || text.contains("{{env.")
        || text.contains("{{ env.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_of_another_program_is_no_secret() {
        for (text, mistake) in [
            ("$file:ops-gate.token", Mistake::File),
            ("file:/run/secrets/ops.token", Mistake::File),
            ("file:///run/secrets/ops", Mistake::File),
            ("/run/secrets/ops", Mistake::File),
            ("/keys/ops.token", Mistake::File),
            ("./ops", Mistake::File),
            ("ops-gate.token", Mistake::File),
            ("@/run/secrets/ops", Mistake::File),
            ("$(cat /run/secrets/ops)", Mistake::File),
            ("$env.OPS_TOKEN", Mistake::Variable),
            ("env.OPS_TOKEN", Mistake::Variable),
            ("env:OPS-TOKEN", Mistake::Variable),
            ("process.env.OPS_TOKEN", Mistake::Variable),
            ("process.env['OPS_TOKEN']", Mistake::Variable),
            ("ENV:OPS_TOKEN", Mistake::Variable),
            ("$ENV:OPS_TOKEN", Mistake::Variable),
            ("{{env.OPS_TOKEN}}", Mistake::Variable),
            ("{{ .Values.token }}", Mistake::Variable),
            ("%OPS_TOKEN%", Mistake::Variable),
            ("$OPS_TOKEN", Mistake::Variable),
            ("$secret:ops", Mistake::Store),
            ("op://vault/gate/token", Mistake::Store),
            ("vault:secret/data/ops#token", Mistake::Store),
            ("ref+vault://secret/ops", Mistake::Store),
            ("arn:aws:secretsmanager:eu-west-1:1:secret:ops", Mistake::Store),
        ] {
            assert_eq!(secret(text), Some(mistake), "{text}");
            assert!(mistake.is_reference());
        }
    }

    #[test]
    fn an_example_is_no_secret() {
        for text in [
            "YOUR_TOKEN_GOES_HERE",
            "your-secret-token",
            "yourSecretToken",
            "changeme",
            "change-me-please",
            "sg_your_token_here",
            "<token>",
            "<your token>",
            "my-secret-token-1",
            "aaaaaaaaaaaaaaaaaaaaaa",
            "xxxx-xxxx-xxxx",
            "sg_...",
            "****************",
        ] {
            assert_eq!(secret(text), Some(Mistake::Example), "{text}");
        }
    }

    #[test]
    fn quotes_are_no_part_of_a_secret() {
        for text in ["\"a-token-that-is-long\"", "'a-token-that-is-long'", "\"a-token-that-is-long\"\n"] {
            assert_eq!(secret(text), Some(Mistake::Quotes), "{text}");
        }
    }

    #[test]
    fn what_may_be_a_secret_is_one() {
        for text in [
            "sg_Zm9vYmFyYmF6cXV4MTIzNDU2Nzg5MA",
            "/run8Zm9vYmFyYmF6cXV4MTIzNDU2Nzg5MA=",
            "/9j/4AAQSkZJRgABAQAAAQABAAD+KcQW2xZ=",
            "a-token-that-is-long",
            "bring-your-own-horse-and-battery",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N",
            "pa$word$that$is$long",
            "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9",
            "correct horse",
            "user:password-of-the-user",
            "envoy-token-0017",
            "environmental.protection",
            "100%sure%thing%",
            "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
        ] {
            assert_eq!(secret(text), None, "{text}");
        }
    }

    #[test]
    fn a_reference_of_another_program_is_seen_where_texts_are_free() {
        for (text, is_one) in [
            ("Bearer $file:x.token", true),
            ("--key=process.env.KEY", true),
            ("{{env.KEY}}", true),
            ("Bearer op://vault/item", true),
            ("$env.KEY", true),
            ("console.log(process.env.KEY)", false),
            ("let x = process.env.KEY", false),
            ("$file:", false),
            ("{{name}}", false),
            ("http://op", false),
            ("/run/secrets/x", false),
        ] {
            assert_eq!(has_foreign_reference(text), is_one, "{text}");
        }
    }
}
