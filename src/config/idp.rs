//! `proxy.auth.idp`: an identity provider by which people log in, and whom of its people the gateway admits.

use std::{sync::Arc, time::Duration};

use serde_json::{Map, Value};
use url::Url;

use super::issuers::Condition;
use crate::secret::Secret;

/// Which kind of identity provider it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdpProvider {
    /// Accounts of Google.
    Google,
    /// Accounts of GitHub, which has no ID tokens.
    Github,
    /// Accounts of one tenant of Microsoft Entra.
    Azure,
    /// Any other that speaks OpenID Connect.
    Oidc,
}

impl IdpProvider {
    /// As the config and principals name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Google => "google",
            Self::Github => "github",
            Self::Azure => "azure",
            Self::Oidc => "oidc",
        }
    }
}

/// An identity provider, and the gateway as its client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdpConfig {
    /// `provider`
    pub provider: IdpProvider,
    /// Whose people they are, as `iss` of its ID tokens is, byte for byte: <https://accounts.google.com>, <https://github.com>,
    /// `https://login.microsoftonline.com/TENANT/v2.0`, or what the config says.
    pub issuer: Arc<str>,
    /// `discoveryUrl`: where its metadata is. `None`: where OpenID Connect Discovery §4 puts that of `issuer`.
    pub discovery_url: Option<Url>,
    /// `clientId`
    pub client_id: Arc<str>,
    /// `clientSecret`. `None`: the provider has the gateway as a public client.
    pub client_secret: Option<Secret>,
    /// `redirectUri`: where it sends browsers back to, as it is registered there.
    pub redirect_uri: Arc<str>,
    /// `authorizationUrl`, in place of what the metadata says.
    pub authorization_url: Option<Url>,
    /// `tokenUrl`, in place of what the metadata says.
    pub token_url: Option<Url>,
    /// `userInfoUrl`, in place of what the metadata says. Of GitHub Enterprise, `/user` of its API.
    pub user_info_url: Option<Url>,
    /// `scopes` beside those that the provider's kind needs.
    pub scopes: Vec<String>,
    /// `tenantId`: what `tid` of Entra's tokens is.
    pub tenant_id: Option<String>,
    /// `allowedOrgs`: who is in one of them is admitted. Empty: this admits everybody.
    pub allowed_orgs: Vec<String>,
    /// `allowedDomains`: whose verified address is in one of them is admitted. Empty: this admits everybody.
    pub allowed_domains: Vec<String>,
    /// `recheck`: how old what the provider said of somebody may be.
    pub recheck: Duration,
}

impl IdpConfig {
    /// `issuer` of Google.
    pub const GOOGLE: &str = "https://accounts.google.com";
    /// `issuer` of GitHub.
    pub const GITHUB: &str = "https://github.com";
    /// `recheck` where the config does not say it.
    pub const RECHECK: Duration = Duration::from_secs(24 * 60 * 60);
    /// The claim that has the organizations of somebody.
    pub const ORGS: &str = "orgs";

    /// Whose people they are: the issuer, and of GitHub the host that says who somebody is, since each has numbers of its own.
    pub fn place(&self) -> String {
        match (self.provider, &self.user_info_url) {
            (IdpProvider::Github, Some(url)) => {
                format!("{} {}", self.issuer, url.origin().ascii_serialization())
            }
            _ => self.issuer.to_string(),
        }
    }

    /// `issuer` of a tenant of Entra.
    pub fn azure_issuer(tenant_id: &str) -> String {
        format!("https://login.microsoftonline.com/{tenant_id}/v2.0")
    }

    /// Whether somebody of whom the provider says this is admitted, or why not: what is there of `allowedDomains` and `allowedOrgs`
    /// holds. `claims` are those of [`IdpLogin`](crate::identity::idp::IdpLogin), in which an address is a verified one.
    pub fn admits(&self, claims: &Map<String, Value>) -> Result<(), &'static str> {
        if !self.allowed_domains.is_empty() {
            let address = claims.get(Condition::EMAIL[0]).and_then(Value::as_str);
            let domain = address.and_then(domain_of).ok_or("no verified address is known of them")?;
            if !self.allowed_domains.iter().any(|allowed| allowed.eq_ignore_ascii_case(domain)) {
                return Err("the domain of their address is none of allowedDomains");
            }
        }
        if !self.allowed_orgs.is_empty() {
            let orgs = claims.get(Self::ORGS).and_then(Value::as_array).into_iter().flatten();
            let mut orgs = orgs.filter_map(Value::as_str);
            let is_allowed =
                |org: &str| self.allowed_orgs.iter().any(|allowed| allowed.eq_ignore_ascii_case(org));
            if !orgs.any(is_allowed) {
                return Err("they are in none of allowedOrgs");
            }
        }
        Ok(())
    }
}

/// The domain of an address. What has two parts that could be one, or space in it, is read differently by different readers, and has
/// none.
fn domain_of(address: &str) -> Option<&str> {
    let (local, domain) = address.split_once('@')?;
    let is_plain = !local.is_empty()
        && !domain.is_empty()
        && !domain.contains('@')
        && !address.contains(|c: char| c.is_whitespace() || c.is_control());
    is_plain.then_some(domain)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn admitted(domains: &[&str], orgs: &[&str], claims: Value) -> bool {
        let config = IdpConfig {
            provider: IdpProvider::Oidc,
            issuer: "https://login.corp.example".into(),
            discovery_url: None,
            client_id: "gate".into(),
            client_secret: None,
            redirect_uri: "https://gate.example/oauth/callback".into(),
            authorization_url: None,
            token_url: None,
            user_info_url: None,
            scopes: Vec::new(),
            tenant_id: None,
            allowed_orgs: orgs.iter().map(|&org| org.into()).collect(),
            allowed_domains: domains.iter().map(|&domain| domain.into()).collect(),
            recheck: IdpConfig::RECHECK,
        };
        let Value::Object(claims) = claims else { panic!("not an object") };
        config.admits(&claims).is_ok()
    }

    #[test]
    fn who_is_admitted_has_an_address_in_exactly_one_of_the_domains() {
        let domains = ["corp.example", "Other.Example"];
        for (address, is_admitted) in [
            ("alice@corp.example", true),
            ("alice@CORP.example", true),
            ("alice@other.example", true),
            ("alice+x@corp.example", true),
            ("alice@evil.corp.example", false),
            ("alice@evilcorp.example", false),
            ("alice@corp.example.evil.example", false),
            ("alice@corp.example.", false),
            ("alice@evil.example@corp.example", false),
            ("alice@corp.example@evil.example", false),
            ("\"alice@evil.example\"@corp.example", false),
            ("alice @corp.example", false),
            ("alice@corp.example\n", false),
            ("alice@\u{212a}orp.example", false),
            ("@corp.example", false),
            ("corp.example", false),
            ("alice@", false),
            ("", false),
        ] {
            assert_eq!(admitted(&domains, &[], json!({ "email": address })), is_admitted, "{address:?}");
        }
        for claims in [json!({}), json!({ "email": null }), json!({ "email": ["alice@corp.example"] })] {
            assert!(!admitted(&domains, &[], claims));
        }
    }

    #[test]
    fn who_is_admitted_is_in_one_of_the_organizations_and_both_have_to_hold() {
        let orgs = ["corp"];
        for (claims, is_admitted) in [
            (json!({ "orgs": ["other", "Corp"] }), true),
            (json!({ "orgs": ["corporation", "cor", "corp "] }), false),
            (json!({ "orgs": "corp" }), false),
            (json!({ "orgs": [["corp"], null, 1] }), false),
            (json!({ "orgs": [] }), false),
            (json!({ "groups": ["corp"] }), false),
            (json!({}), false),
        ] {
            assert_eq!(admitted(&[], &orgs, claims.clone()), is_admitted, "{claims}");
        }
        let both = json!({ "orgs": ["corp"], "email": "a@corp.example" });
        assert!(admitted(&["corp.example"], &orgs, both.clone()));
        assert!(!admitted(&["other.example"], &orgs, both.clone()));
        assert!(!admitted(&["corp.example"], &["other"], both));
        assert!(admitted(&[], &[], json!({})), "then `assign` alone says what they may do");
    }
}
