//! What a caller may do: a pure table.

use crate::config::{Access, Credential};

/// Whether the holder of `credential` may use a server with this rule. Public servers ask nobody.
pub fn may_use(access: &Access, credential: &Credential) -> bool {
    match access {
        Access::Public | Access::AnyToken => true,
        Access::Only { tokens, roles } => {
            let named = tokens.as_ref().is_none_or(|tokens| tokens.contains(&credential.token_name));
            let has_one = |roles: &Vec<String>| roles.iter().any(|role| credential.roles.contains(role));
            named && roles.as_ref().is_none_or(has_one)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(name: &str, roles: &[&str]) -> Credential {
        Credential {
            token_name: name.into(),
            id: None,
            digest: [0; 32],
            expires: None,
            roles: roles.iter().map(ToString::to_string).collect(),
        }
    }

    fn only(tokens: Option<&[&str]>, roles: Option<&[&str]>) -> Access {
        Access::Only {
            tokens: tokens.map(|names| names.iter().map(|name| (*name).into()).collect()),
            roles: roles.map(|roles| roles.iter().map(ToString::to_string).collect()),
        }
    }

    #[test]
    fn a_rule_that_names_tokens_admits_those_and_an_empty_one_nobody() {
        assert!(may_use(&only(Some(&["dev", "ci"]), None), &holder("ci", &[])));
        assert!(!may_use(&only(Some(&["dev"]), None), &holder("ci", &["admin"])));
        assert!(!may_use(&only(Some(&[]), None), &holder("dev", &[])));
        assert!(!may_use(&only(None, Some(&[])), &holder("dev", &["admin"])));
        assert!(!may_use(&only(Some(&["dev"]), Some(&[])), &holder("dev", &["admin"])));
        assert!(may_use(&Access::AnyToken, &holder("dev", &[])));
    }

    #[test]
    fn names_and_roles_must_both_hold_where_both_are_given() {
        assert!(may_use(&only(None, Some(&["deploy", "admin"])), &holder("dev", &["admin"])));
        assert!(!may_use(&only(None, Some(&["deploy"])), &holder("dev", &["admin"])));
        assert!(!may_use(&only(Some(&["dev"]), Some(&["deploy"])), &holder("dev", &[])));
    }
}
