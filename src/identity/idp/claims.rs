//! What a provider says of somebody, and what of it is kept.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::config::{Assignment, Condition, IdpConfig, IdpProvider};

const EMAIL: &str = Condition::EMAIL[0];
const EMAIL_VERIFIED: &str = Condition::EMAIL[1];
/// Who is shown may be so long, in characters.
const LONGEST_DISPLAY: usize = 128;
/// The same in bytes.
const MOST_DISPLAY_BYTES: usize = 320;

/// All claims of somebody: those of the ID token, and those of userinfo where it has none. The address and whether it is verified are of
/// one of the two.
pub(super) fn together(id_token: Map<String, Value>, user_info: Map<String, Value>) -> Map<String, Value> {
    let mut all = user_info;
    let has_address = id_token.contains_key(EMAIL);
    // Userinfo may say whether the address of the ID token is verified, and of no other one.
    if has_address && (id_token.contains_key(EMAIL_VERIFIED) || all.get(EMAIL) != id_token.get(EMAIL)) {
        all.remove(EMAIL_VERIFIED);
    }
    for (name, value) in id_token {
        if name != EMAIL_VERIFIED || has_address {
            all.insert(name, value);
        }
    }
    all
}

/// The same, with an address only if it is known to be theirs.
pub(super) fn with_verified_address(
    config: &IdpConfig,
    mut claims: Map<String, Value>,
) -> Map<String, Value> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let is_verified = claims.get(EMAIL_VERIFIED) == Some(&Value::Bool(true));
    let address = match config.provider {
        // Anybody may have an account with any address, which once was theirs. Google knows of those that it gives, itself or for an
        // organization: <https://developers.google.com/identity/gsi/web/guides/verify-google-id-token>.
        IdpProvider::Google => text(EMAIL).filter(|address| {
            let domain = address.rsplit('@').next().unwrap_or_default().to_ascii_lowercase();
            is_verified && (["gmail.com", "googlemail.com"].contains(&&*domain) || text("hd").is_some())
        }),
        // Anybody may write any `email` into a directory of their own, and not into this one, whose administrators give names.
        IdpProvider::Azure => {
            text("preferred_username").filter(|name| config.tenant_id.is_some() && name.contains('@'))
        }
        IdpProvider::Github | IdpProvider::Oidc => text(EMAIL).filter(|_| is_verified),
    };
    // Only ASCII: there are letters of others, such as the sign of the kelvin, of which Unicode makes one of ASCII.
    let address = address.map(str::to_ascii_lowercase);
    claims.remove(EMAIL);
    claims.remove(EMAIL_VERIFIED);
    if let Some(address) = address {
        claims.insert(EMAIL.into(), address.into());
        claims.insert(EMAIL_VERIFIED.into(), true.into());
    }
    claims
}

/// How somebody is called.
pub(super) fn display(claims: &Map<String, Value>, subject: &str) -> String {
    let is_shown = |text: &&str| !text.trim().is_empty() && !text.contains(char::is_control);
    let texts =
        |names: &'static [&str]| names.iter().filter_map(|name| claims.get(*name)).filter_map(Value::as_str);
    // Anybody may call themselves what they like. What looks like an address is shown if it is known to be theirs.
    let own = texts(&["login", "preferred_username"]).filter(|name| !name.contains('@'));
    let name = texts(&[EMAIL]).chain(own).find(is_shown);
    // What is kept of a name is counted in bytes.
    let fits = |&(at, letter): &(usize, char)| at + letter.len_utf8() <= MOST_DISPLAY_BYTES;
    name.unwrap_or(subject)
        .char_indices()
        .take(LONGEST_DISPLAY)
        .take_while(fits)
        .map(|(_, letter)| letter)
        .collect()
}

/// What is kept of claims.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KeptClaims {
    /// Those that are.
    pub claims: Map<String, Value>,
    /// Names of those of which nothing is missing: what is not among the claims, the provider does not say.
    pub known: BTreeSet<String>,
    /// Names of those of which something did not fit, or which the provider itself left out.
    pub dropped: Vec<String>,
}

impl KeptClaims {
    /// Bytes of them at most, as JSON.
    pub const LONGEST: usize = 512;

    /// What is kept of `claims`: the address, what else the config asks about, then the rest of groups, roles and organizations, as much
    /// as fits. Of a list that is too long, entries that the config names are kept before others. An entry of `assign` that comes later
    /// may ask for one that was not, and then the provider is asked again.
    pub fn of(claims: &Map<String, Value>, config: &IdpConfig, assignments: &[Assignment]) -> Self {
        let asked = || assignments.iter().filter_map(|of| of.condition.claim.as_ref());
        let mut names = vec![EMAIL, EMAIL_VERIFIED, "hd", "login"];
        for name in asked().map(|(name, _)| &**name).chain([IdpConfig::ORGS, "groups", "roles"]) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let mut kept = Self::default();
        let mut used = "{}".len();
        let present = || names.iter().filter_map(|&name| Some((name, claims.get(name)?)));
        for (name, value) in present().filter(|(_, value)| is_scalar(value)) {
            kept.keep(&mut used, name, value);
        }
        let is_asked = |name: &str, entry: &Value| {
            // A boolean or a number is the text that JSON writes for it.
            let written = entry.as_str().map_or_else(|| entry.to_string(), str::to_owned);
            let is_org = name == IdpConfig::ORGS
                && config.allowed_orgs.iter().any(|allowed| allowed.eq_ignore_ascii_case(&written));
            is_org || asked().any(|(of, text)| of == name && *text == written)
        };
        for takes_asked in [true, false] {
            for (name, value) in present() {
                for entry in value.as_array().into_iter().flatten().filter(|entry| is_scalar(entry)) {
                    if is_asked(name, entry) == takes_asked {
                        kept.keep_entry(&mut used, name, entry);
                    }
                }
            }
        }
        // Entra leaves groups out of a token in which there would be too many.
        let elsewhere = claims.get("_claim_names").and_then(Value::as_object);
        for name in elsewhere.into_iter().flat_map(Map::keys).filter(|name| names.contains(&&***name)) {
            kept.note(name);
        }
        let known = names.into_iter().filter(|name| !kept.dropped.iter().any(|dropped| dropped == name));
        kept.known = known.map(str::to_owned).collect();
        kept
    }

    /// Whether a limit of `assignments` hangs on something that did not fit: without it, somebody might have more.
    pub fn loses_limit(&self, assignments: &[Assignment]) -> bool {
        let limits = assignments.iter().filter(|of| of.limits_somebody());
        limits.flat_map(|of| of.condition.claims()).any(|claim| self.dropped.iter().any(|name| name == claim))
    }

    fn keep(&mut self, used: &mut usize, name: &str, value: &Value) {
        let bytes = in_json(&name.into()) + in_json(value) + ":,".len();
        if *used + bytes <= Self::LONGEST {
            *used += bytes;
            self.claims.insert(name.into(), value.clone());
        } else {
            self.note(name);
        }
    }

    fn keep_entry(&mut self, used: &mut usize, name: &str, entry: &Value) {
        let is_new = !self.claims.contains_key(name);
        let around = if is_new { in_json(&name.into()) + ":[],".len() } else { 0 };
        let bytes = around + in_json(entry) + ",".len();
        if *used + bytes > Self::LONGEST {
            return self.note(name);
        }
        *used += bytes;
        let list = self.claims.entry(name).or_insert_with(|| Value::Array(Vec::new()));
        list.as_array_mut().into_iter().for_each(|list| list.push(entry.clone()));
    }

    fn note(&mut self, name: &str) {
        if !self.dropped.iter().any(|noted| noted == name) {
            self.dropped.push(name.into());
        }
    }
}

fn is_scalar(value: &Value) -> bool {
    matches!(value, Value::String(_) | Value::Bool(_) | Value::Number(_))
}

fn in_json(value: &Value) -> usize {
    value.to_string().len()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{config::CallerLimits, identity::idp::played::config};

    fn asks_for(claim: &str, has: &str) -> Assignment {
        let condition = Condition { claim: Some((claim.into(), has.into())), ..Condition::default() };
        Assignment { condition, roles: Vec::new(), limits: CallerLimits::default() }
    }

    #[test]
    fn a_limit_that_hangs_on_what_does_not_fit_is_not_lost_unnoticed() {
        let groups: Vec<_> = (0..30).map(|n| format!("00000000-0000-0000-0000-0000000000{n:02}")).collect();
        let claims = object(json!({ "groups": groups }));
        let all: Vec<_> = groups.iter().map(|group| asks_for("groups", group)).collect();
        let config = config(IdpProvider::Oidc);
        let kept = KeptClaims::of(&claims, &config, &all);
        assert_eq!(kept.dropped, ["groups"]);
        assert!(!kept.loses_limit(&all), "who has less roles has no more");
        let limit = CallerLimits { servers: Some(vec!["db".into()]), tags: None };
        let limited = Assignment { limits: limit, ..asks_for("groups", "contractors") };
        assert!(kept.loses_limit(&[all, vec![limited.clone()]].concat()));
        let few = KeptClaims::of(
            &object(json!({ "groups": ["contractors"] })),
            &config,
            std::slice::from_ref(&limited),
        );
        assert!(!few.loses_limit(&[limited]));
    }

    #[test]
    fn what_looks_like_an_address_is_shown_if_it_is_theirs_and_nothing_is_longer_than_can_be_kept() {
        let shown = |claims: Value| display(&object(claims), "u1");
        assert_eq!(shown(json!({ "email": "a@corp.example", "login": "a" })), "a@corp.example");
        assert_eq!(shown(json!({ "preferred_username": "ceo@corp.example" })), "u1");
        assert_eq!(shown(json!({ "preferred_username": "alice" })), "alice");
        let long = shown(json!({ "preferred_username": "\u{20ac}".repeat(200) }));
        assert!(long.len() <= MOST_DISPLAY_BYTES && long.len() > MOST_DISPLAY_BYTES - 3, "{}", long.len());
    }

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(object) => object,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn of_claims_what_the_config_asks_about_is_kept_and_then_what_fits() {
        let mut config = config(IdpProvider::Oidc);
        config.allowed_orgs = vec!["corp".into()];
        let few = object(json!({
            "email": "alice@corp.example", "email_verified": true, "sub": "u1", "aud": "gate", "hd": "corp.example",
            "groups": ["eng", 7, { "deep": 1 }], "roles": "reader", "team": "x", "level": 3, "secret": "no", "orgs": ["Corp"],
        }));
        let kept = KeptClaims::of(
            &few,
            &config,
            &[asks_for("team", "y"), asks_for("level", "3"), asks_for("none", "x")],
        );
        let expected = json!({
            "email": "alice@corp.example", "email_verified": true, "hd": "corp.example", "groups": ["eng", 7],
            "roles": "reader", "team": "x", "level": 3, "orgs": ["Corp"],
        });
        assert_eq!((Value::Object(kept.claims), kept.dropped), (expected, Vec::<String>::new()));

        let ids: Vec<String> = (0..200).map(|at| format!("7c1b5f3e-0000-4000-8000-{at:012}")).collect();
        let mut orgs: Vec<String> = (0..100).map(|at| format!("org-{at}")).collect();
        orgs.push("CORP".into());
        let many = object(json!({
            "email": "alice@corp.example", "email_verified": true, "groups": ids, "orgs": orgs, "long": "x".repeat(600),
            "_claim_names": { "roles": "src1", "address": "src1" },
        }));
        let asked = [asks_for("groups", &ids[199]), asks_for("groups", &ids[7]), asks_for("long", "x")];
        let kept = KeptClaims::of(&many, &config, &asked);
        let bytes = Value::Object(kept.claims.clone()).to_string().len();
        assert!(bytes <= KeptClaims::LONGEST && bytes > KeptClaims::LONGEST - 45, "{bytes}");
        let has =
            |name: &str, text: &str| kept.claims[name].as_array().unwrap().iter().any(|entry| entry == text);
        assert!(has("groups", &ids[199]) && has("groups", &ids[7]) && has("orgs", "CORP"));
        assert_eq!(config.admits(&kept.claims), Ok(()));
        assert!(kept.claims.contains_key("email_verified") && !kept.claims.contains_key("long"));
        assert_eq!(kept.dropped, ["long", "groups", "orgs", "roles"]);
        assert_eq!(
            kept.known.iter().map(String::as_str).collect::<Vec<_>>(),
            ["email", "email_verified", "hd", "login"]
        );
    }
}
