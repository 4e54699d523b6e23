//! What an issuer says of somebody, and what somebody is given for it.

use std::time::SystemTime;

use serde_json::{Map, Value};

use crate::config::{Condition, Issuer};

const EMAIL: &str = Condition::EMAIL[0];
const EMAIL_VERIFIED: &str = Condition::EMAIL[1];

/// What an issuer says of somebody.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedJwt {
    /// Who it is, to this issuer.
    pub subject: String,
    /// For whom the token is.
    pub audiences: Vec<String>,
    /// Words of its scope. `None`: tokens of this issuer have none, and rules alone limit what they open. A token that should have one
    /// and has not has no words.
    pub scope: Option<Vec<String>>,
    /// When it ends, without the leeway.
    pub expires: SystemTime,
    /// All that it says.
    pub claims: Map<String, Value>,
}

impl VerifiedJwt {
    /// Words of a scope. One with more opens nothing.
    const MOST_WORDS: usize = 256;

    /// The words of the scope in a claim: a text of words (RFC 8693 §4.2), or a list of them; Entra and Okta call it `scp`. What is
    /// neither has no words. `None`: there is no such claim.
    pub fn scope_of(claims: &Map<String, Value>, claim: &str) -> Option<Vec<String>> {
        let or_scp = || claims.get("scp").filter(|_| claim == "scope");
        let words: Vec<&str> = match claims.get(claim).or_else(or_scp)? {
            Value::String(text) => text.split(' ').collect(),
            Value::Array(all) => all.iter().map(Value::as_str).collect::<Option<_>>().unwrap_or_default(),
            _ => Vec::new(),
        };
        // What has a blank in it is no word, and would be several to who writes them in a row.
        let is_word = |word: &&str| !word.is_empty() && !word.contains(char::is_whitespace);
        let are_few = words.iter().filter(|word| !word.is_empty()).count() <= Self::MOST_WORDS;
        Some(words.into_iter().filter(|word| are_few && is_word(word)).map(str::to_owned).collect())
    }

    /// Whether the same is said, but for how long it holds.
    pub fn is_same(&self, other: &Self) -> bool {
        let Self { subject, audiences, scope, expires: _, claims } = self;
        (subject, audiences, scope, claims) == (&other.subject, &other.audiences, &other.scope, &other.claims)
    }

    /// Whether this token of `issuer` meets a condition of `assign`: all that is there holds.
    pub fn meets(&self, condition: &Condition, issuer: &Issuer) -> bool {
        // In the tenant that the config names, its administrators give addresses.
        let said =
            Said { claims: &self.claims, by: &issuer.name, gives_addresses: issuer.tenant_id.is_some() };
        said.meets(condition)
    }
}

/// What somebody says of somebody else.
#[derive(Debug, Clone, Copy)]
pub struct Said<'a> {
    /// What.
    pub claims: &'a Map<String, Value>,
    /// What the config calls who says it.
    pub by: &'a str,
    /// Whether an address counts of which it is not said whether it is verified.
    pub gives_addresses: bool,
}

impl Said<'_> {
    /// Whether it meets a condition of `assign`: all that is there holds.
    pub fn meets(&self, condition: &Condition) -> bool {
        let Condition { issuer: of, email, claim } = condition;
        of.as_ref().is_none_or(|name| **name == *self.by)
            && email
                .as_ref()
                .is_none_or(|pattern| self.email().is_some_and(|address| is_address_of(&address, pattern)))
            && claim.as_ref().is_none_or(|(name, text)| self.has(name, text))
    }

    /// The address, in lower case, if it is known to be theirs.
    fn email(&self) -> Option<String> {
        let is_verified = match self.claims.get(EMAIL_VERIFIED) {
            Some(said) => *said == Value::Bool(true),
            None => self.gives_addresses,
        };
        let address = self.claims.get(EMAIL).and_then(Value::as_str).filter(|_| is_verified)?;
        // Only ASCII: there are letters of others, such as the sign of the kelvin, of which Unicode makes one of ASCII.
        Some(address.to_ascii_lowercase())
    }

    /// Whether a claim is this text, or has it in its list. A boolean or a whole number is the text that JSON writes for it.
    fn has(&self, claim: &str, text: &str) -> bool {
        // Whoever may write any address into a profile must not be somebody else by it.
        if claim == EMAIL && self.email().is_none() {
            return false;
        }
        let is_text = |value: &Value| match value {
            Value::String(is) => is == text,
            Value::Bool(is) => text == if *is { "true" } else { "false" },
            Value::Number(is) => (is.is_i64() || is.is_u64()) && is.to_string() == text,
            _ => false,
        };
        match self.claims.get(claim) {
            Some(Value::Array(all)) => all.iter().any(is_text),
            Some(one) => is_text(one),
            None => false,
        }
    }
}

/// Whether an address is this one, or, where `*` is what is before the `@`, one of that domain. What is there twice, or has space in
/// it, is read differently by different readers.
fn is_address_of(address: &str, pattern: &str) -> bool {
    let Some((local, domain)) = address.split_once('@') else { return false };
    let is_plain = !local.is_empty()
        && !domain.is_empty()
        && !domain.contains('@')
        && !address.contains(|c: char| c.is_whitespace() || c.is_control());
    is_plain
        && match pattern.strip_prefix("*@") {
            Some(any_of) => domain == any_of,
            None => address == pattern,
        }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::identity::foreign::signer::issuer;

    fn token(claims: Value) -> VerifiedJwt {
        let Value::Object(claims) = claims else { panic!("not an object") };
        VerifiedJwt {
            subject: "u1".into(),
            audiences: Vec::new(),
            scope: None,
            expires: SystemTime::UNIX_EPOCH,
            claims,
        }
    }

    fn email(pattern: &str) -> Condition {
        Condition { email: Some(pattern.into()), ..Condition::default() }
    }

    fn claim(name: &str, text: &str) -> Condition {
        Condition { claim: Some((name.into(), text.into())), ..Condition::default() }
    }

    #[test]
    fn an_address_counts_once_it_is_verified() {
        let (plain, mut tenant) = (issuer(), issuer());
        tenant.tenant_id = Some("t1".into());
        let of =
            |address: &str, verified: Value| token(json!({ "email": address, "email_verified": verified }));
        for (address, pattern, is_met) in [
            ("alice@company.com", "alice@company.com", true),
            ("Alice@Company.COM", "alice@company.com", true),
            ("alice@company.com", "*@company.com", true),
            ("ALICE@COMPANY.COM", "*@company.com", true),
            ("alice@evil.company.com", "*@company.com", false),
            ("alice@evilcompany.com", "*@company.com", false),
            ("alice@company.com.evil.example", "*@company.com", false),
            ("alice@company.com@evil.example", "*@company.com", false),
            ("alice@evil.example@company.com", "*@company.com", false),
            ("\"alice@evil.example\"@company.com", "*@company.com", false),
            ("alice @company.com", "*@company.com", false),
            ("alice@company.com ", "*@company.com", false),
            ("alice@company.com\n", "*@company.com", false),
            ("alice\u{0}@company.com", "*@company.com", false),
            ("alice@\u{a0}company.com", "*@\u{a0}company.com", false),
            ("@company.com", "*@company.com", false),
            ("alice@", "*@", false),
            ("alice", "*@company.com", false),
            ("", "*@company.com", false),
            ("alice@\u{212a}ompany.com", "*@kompany.com", false),
            ("bob@company.com", "alice@company.com", false),
            ("bob@company.com", "b*@company.com", false),
            ("bob@company.com", "*", false),
        ] {
            assert_eq!(
                of(address, json!(true)).meets(&email(pattern), &plain),
                is_met,
                "{address:?} {pattern}"
            );
        }
        let pattern = email("*@company.com");
        for verified in [json!(false), json!("true"), json!(1), json!(null), json!([true])] {
            let token = of("alice@company.com", verified);
            assert!(!token.meets(&pattern, &plain) && !token.meets(&pattern, &tenant), "{token:?}");
        }
        let unsaid = token(json!({ "email": "alice@company.com" }));
        assert!(!unsaid.meets(&pattern, &plain));
        assert!(unsaid.meets(&pattern, &tenant));
        // Nor by the other way to ask for it.
        assert!(!unsaid.meets(&claim("email", "alice@company.com"), &plain));
        assert!(unsaid.meets(&claim("email", "alice@company.com"), &tenant));
        for address in [json!(["alice@company.com"]), json!(null), json!({})] {
            assert!(!token(json!({ "email": address, "email_verified": true })).meets(&pattern, &plain));
        }
    }

    #[test]
    fn a_claim_is_a_text_or_has_it_in_its_list() {
        let token = token(json!({
            "groups": ["eng", "ops", 7, true, ["deep"]], "team": "eng", "mfa": true, "level": 3, "part": 1.5,
            "minus": -1, "nothing": null, "address": { "country": "de" },
        }));
        for (name, text, is_met) in [
            ("groups", "eng", true),
            ("groups", "ops", true),
            ("groups", "7", true),
            ("groups", "true", true),
            ("groups", "en", false),
            ("groups", "Eng", false),
            ("groups", "eng ops", false),
            ("groups", "deep", false),
            ("groups", "", false),
            ("team", "eng", true),
            ("team", "eng ", false),
            ("mfa", "true", true),
            ("mfa", "false", false),
            ("level", "3", true),
            ("level", "3.0", false),
            ("part", "1.5", false),
            ("minus", "-1", true),
            ("nothing", "null", false),
            ("nothing", "", false),
            ("address", "de", false),
            ("unsaid", "", false),
        ] {
            assert_eq!(token.meets(&claim(name, text), &issuer()), is_met, "{name} {text}");
        }
    }

    #[test]
    fn all_of_a_condition_holds() {
        let token = token(json!({ "email": "alice@company.com", "email_verified": true, "groups": ["eng"] }));
        let all = Condition { issuer: Some("corp".into()), ..email("*@company.com") };
        let all = Condition { claim: Some(("groups".into(), "eng".into())), ..all };
        assert!(token.meets(&all, &issuer()));
        for one_fails in [
            Condition { issuer: Some("Corp".into()), ..all.clone() },
            Condition { email: Some("*@other.com".into()), ..all.clone() },
            Condition { claim: Some(("groups".into(), "ops".into())), ..all.clone() },
        ] {
            assert!(!token.meets(&one_fails, &issuer()), "{one_fails:?}");
        }
    }
}
