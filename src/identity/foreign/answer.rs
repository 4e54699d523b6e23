//! What an issuer answers that is asked about a token (RFC 7662 §2.2).
//!
//! `active` says that the token is good at its issuer, and not that it is for this gateway, nor that it is one to call with. So the
//! rest is looked at as in a JWT: for whom it is, until when, who it is about. What an answer leaves out, it does not say.

use std::{collections::BTreeSet, time::SystemTime};

use serde_json::Value;

use super::{
    jwt::{BOUND, FARTHEST, ID_TOKEN, Members, NOT_IN_ACCESS_TOKEN, NoTime, NotTaken},
    verified::VerifiedJwt,
};
use crate::config::Issuer;

/// Bytes of an answer at most.
pub const LONGEST: usize = 16 << 10;
/// What `token_type` is of a token that whoever has it may use: as RFC 6749 §7.1 has it, and as older servers write it.
const BEARER: [&str; 2] = ["bearer", "access_token"];
/// Members that say what a token is for, and what those are not that one calls with: as Keycloak and Ory have it.
const NOT_FOR_CALLS: [(&str, &str); 4] =
    [("typ", "Refresh"), ("typ", "Offline"), ("token_use", "refresh_token"), ("token_use", "refresh")];

/// An answer of which nothing is known yet.
pub struct Answer(Members);

impl Answer {
    /// The one that this text is, if it is a JSON object in which nothing is there twice.
    pub fn parse(body: &[u8]) -> Option<Self> {
        if body.len() > LONGEST {
            return None;
        }
        serde_json::from_slice(body).ok().map(Self)
    }

    /// Whether its token is good; until when, without the leeway.
    fn check(&self, issuer: &Issuer, now: SystemTime) -> Result<SystemTime, NotTaken> {
        let Self(members) = self;
        if members.0.get("active") != Some(&Value::Bool(true)) {
            return Err(NotTaken::Inactive);
        }
        if members.has("iss") && members.text("iss") != Some(&issuer.issuer) {
            return Err(NotTaken::Issuer);
        }
        let ends = match members.time("exp") {
            Ok(end) => end.unwrap_or(SystemTime::UNIX_EPOCH + FARTHEST),
            Err(NoTime) => return Err(NotTaken::Expired),
        };
        if ends + issuer.leeway <= now {
            return Err(NotTaken::Expired);
        }
        for member in ["nbf", "iat"] {
            let since = members.time(member).map_err(|NoTime| NotTaken::NotYet)?;
            if since.is_some_and(|since| since > now + issuer.leeway) {
                return Err(NotTaken::NotYet);
            }
        }
        let is_bearer = match members.0.get("token_type") {
            None | Some(Value::Null) => true,
            Some(Value::String(of)) => BEARER.iter().any(|bearer| of.eq_ignore_ascii_case(bearer)),
            Some(_) => false,
        };
        if !is_bearer || members.has(BOUND) || is_one_of(members, &NOT_FOR_CALLS) {
            return Err(NotTaken::Type);
        }
        if NOT_IN_ACCESS_TOKEN.iter().any(|member| members.has(member)) || is_one_of(members, &ID_TOKEN) {
            return Err(NotTaken::IdToken);
        }
        Ok(ends)
    }

    /// What the issuer says by it of whoever has the token, of the members that are asked about.
    pub fn said(
        self,
        issuer: &Issuer,
        asked: &BTreeSet<String>,
        now: SystemTime,
    ) -> Result<VerifiedJwt, NotTaken> {
        let expires = self.check(issuer, now)?;
        let Self(members) = self;
        if issuer.tenant_id.as_deref().is_some_and(|tenant| members.text("tid") != Some(tenant)) {
            return Err(NotTaken::Tenant);
        }
        let (subject, audiences) = (members.subject(issuer)?.to_owned(), members.audiences()?);
        let scope = members.scope(issuer);
        let mut claims = members.0;
        claims.retain(|name, _| asked.contains(name));
        Ok(VerifiedJwt { subject, audiences, scope, expires, claims })
    }

    /// Whether a JWT of this subject, which says all else itself, is still good; until when, without the leeway.
    pub fn confirms(&self, issuer: &Issuer, subject: &str, now: SystemTime) -> Result<SystemTime, NotTaken> {
        let expires = self.check(issuer, now)?;
        let Self(members) = self;
        let is_other = members.has(&issuer.principal_claim) && members.subject(issuer) != Ok(subject);
        if is_other { Err(NotTaken::Subject) } else { Ok(expires) }
    }
}

fn is_one_of(members: &Members, kinds: &[(&str, &str)]) -> bool {
    kinds.iter().any(|(member, value)| members.text(member) == Some(value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::identity::foreign::signer::{ISSUER, NOW, issuer};

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds)
    }

    /// A good answer, with `more` in place of what is there.
    fn answer(more: Value) -> Answer {
        let mut answer = json!({
            "active": true, "sub": "u1", "aud": ["https://mcp.example.com"], "scope": "mcp tag:web", "exp": NOW + 600,
            "iss": ISSUER, "nbf": NOW - 10, "iat": NOW - 10, "token_type": "Bearer", "client_id": "cli", "groups": ["eng"],
        });
        for (name, value) in more.as_object().unwrap() {
            if value.is_null() {
                answer.as_object_mut().unwrap().remove(name);
            } else {
                answer[name] = value.clone();
            }
        }
        Answer::parse(answer.to_string().as_bytes()).unwrap()
    }

    fn said(more: Value) -> Result<VerifiedJwt, NotTaken> {
        answer(more).said(&issuer(), &["client_id".to_owned()].into(), at(NOW))
    }

    #[test]
    fn an_answer_says_of_a_token_what_a_jwt_says_of_itself() {
        let good = said(json!({})).unwrap();
        assert_eq!((&*good.subject, good.expires), ("u1", at(NOW + 600)));
        assert_eq!(good.audiences, ["https://mcp.example.com"]);
        assert_eq!(good.scope.unwrap(), ["mcp", "tag:web"]);
        assert_eq!(Value::Object(good.claims), json!({ "client_id": "cli" }), "the rest is only memory");
        for less in ["iss", "exp", "nbf", "iat", "token_type", "client_id"] {
            assert!(said(json!({ less: null })).is_ok(), "{less}");
        }
        assert_eq!(said(json!({ "scope": null })).unwrap().scope, Some(vec![]), "it opens nothing");
        assert!(said(json!({ "token_type": "access_token" })).is_ok());
        let named = Issuer { principal_claim: "username".into(), ..issuer() };
        let by_name = |more| answer(more).said(&named, &BTreeSet::new(), at(NOW)).map(|said| said.subject);
        assert_eq!(by_name(json!({ "username": "bob" })), Ok("bob".into()));
        assert_eq!(by_name(json!({})), Err(NotTaken::Subject), "`sub` is somebody else's name for them");
    }

    #[test]
    fn what_is_not_said_to_be_a_good_token_for_calls_is_none() {
        use NotTaken::*;
        for (more, why) in [
            (json!({ "active": false }), Inactive),
            (json!({ "active": null }), Inactive),
            (json!({ "active": "true" }), Inactive),
            (json!({ "active": 1 }), Inactive),
            (json!({ "active": [true] }), Inactive),
            (json!({ "iss": format!("{ISSUER}/") }), Issuer),
            (json!({ "iss": 1 }), Issuer),
            (json!({ "exp": NOW - 30 }), Expired),
            (json!({ "exp": "soon" }), Expired),
            (json!({ "nbf": NOW + 31 }), NotYet),
            (json!({ "iat": NOW + 31 }), NotYet),
            (json!({ "token_type": "DPoP" }), Type),
            (json!({ "token_type": "refresh_token" }), Type),
            (json!({ "token_type": 1 }), Type),
            (json!({ "cnf": { "jkt": "x" } }), Type),
            (json!({ "typ": "Refresh" }), Type),
            (json!({ "typ": "Offline" }), Type),
            (json!({ "token_use": "refresh_token" }), Type),
            (json!({ "typ": "ID" }), IdToken),
            (json!({ "token_use": "id" }), IdToken),
            (json!({ "nonce": "n" }), IdToken),
            (json!({ "sub": null }), Subject),
            (json!({ "sub": "" }), Subject),
            (json!({ "sub": "a\nb" }), Subject),
            (json!({ "sub": 7 }), Subject),
            (json!({ "aud": null }), Audience),
            (json!({ "aud": [] }), Audience),
            (json!({ "aud": ["a", 1] }), Audience),
        ] {
            assert_eq!(said(more.clone()), Err(why), "{more}");
        }
        for bad in ["", "[]", "true", "null", r#"{"active":true"#, r#"{"active":false,"active":true}"#] {
            assert!(Answer::parse(bad.as_bytes()).is_none(), "{bad}");
        }
        let long = |bytes: usize| format!("{{\"active\":true}}{}", " ".repeat(bytes - 15));
        assert!(Answer::parse(long(LONGEST).as_bytes()).is_some());
        assert!(Answer::parse(long(LONGEST + 1).as_bytes()).is_none());
        let tenant = crate::config::Issuer { tenant_id: Some("t1".into()), ..issuer() };
        let of_tenant = |more| answer(more).said(&tenant, &BTreeSet::new(), at(NOW)).map(drop);
        assert_eq!(of_tenant(json!({ "tid": "t1" })), Ok(()));
        assert_eq!(of_tenant(json!({})), Err(Tenant));
    }

    #[test]
    fn of_a_jwt_it_says_whether_that_is_still_good() {
        let confirms = |more: Value| answer(more).confirms(&issuer(), "u1", at(NOW));
        assert_eq!(confirms(json!({})), Ok(at(NOW + 600)));
        assert!(confirms(json!({ "aud": null, "sub": null, "scope": null })).is_ok());
        assert_eq!(confirms(json!({ "sub": "u2" })), Err(NotTaken::Subject));
        assert_eq!(confirms(json!({ "active": false })), Err(NotTaken::Inactive));
        assert_eq!(confirms(json!({ "exp": NOW - 30 })), Err(NotTaken::Expired));
    }
}
