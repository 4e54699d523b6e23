//! What a client asks for, while somebody decides about it. Nothing of it is kept: it is sealed into the forms of the pages, and
//! opens only with the cookie of the browser that it was made for. So there is nothing that a flood of requests could fill, and
//! a form that one browser was given is nothing in another.
//!
//! base64url(nonce ‖ AES-256-GCM(JSON)), with the cookie as additional data.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::identity::login::{grants::CODE_KEPT, keys::NoKey};

/// How long somebody may take to decide, from when the client asked.
pub const GOOD: Duration = Duration::from_secs(60 * 60);
/// How far clocks of two gateways may differ.
const LEEWAY: Duration = Duration::from_secs(60);
/// Bytes of what is sealed at most.
const LONGEST: usize = 11 * 1024;
/// Bytes of it then, of which a form has to have room for so many.
pub const LONGEST_SEALED: usize = (NONCE_LEN + LONGEST + TAG).div_ceil(3) * 4;
const TAG: usize = 16;

// As long as a request is good, it is known whether it has had its code.
const _: () = assert!(GOOD.as_secs() + 2 * LEEWAY.as_secs() <= CODE_KEPT.as_secs());

/// What a client asks for, all of which was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorizationRequest {
    /// No other has it: one request brings one code, however often its forms are sent.
    #[serde(rename = "i")]
    pub id: String,
    /// When the client asked, in seconds since 1970.
    #[serde(rename = "t")]
    pub made: u64,
    /// Which client.
    #[serde(rename = "c")]
    pub client_id: String,
    /// Where it is to be sent back to.
    #[serde(rename = "r")]
    pub redirect_uri: String,
    /// What it wants back with the answer.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// SHA-256 of the verifier that it has.
    #[serde(rename = "v")]
    pub challenge: [u8; 32],
    /// For which place.
    #[serde(rename = "p")]
    pub resource: String,
    /// What it wants to do there: words with a blank between each two. Until somebody has logged in, all that it asked for, so that
    /// nobody learns from what is sealed, or how long it is, which names there are.
    #[serde(rename = "o")]
    pub scope: String,
    /// Whether it is to be asked about in any case (`prompt=consent`).
    #[serde(rename = "a", default, skip_serializing_if = "std::ops::Not::not")]
    pub must_ask: bool,
    /// Who has allowed this much, and is asked for something else before it is answered: the id of their login.
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    pub allowed_by: Option<[u8; 16]>,
}

/// What somebody waits with who logs in at the identity provider. It goes there and comes back, as `state`, and is good for nobody but
/// the browser that it was made for.
///
/// One code comes back with it, good or not; and one request of a client brings one code of the gateway, however often somebody logs in
/// for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdpFlow {
    /// When somebody went there, in seconds since 1970.
    #[serde(rename = "t")]
    pub made: u64,
    /// What the other secrets of the login are made of.
    #[serde(rename = "k")]
    pub key: String,
    /// At which provider: its fingerprint. A code of one is for no other.
    #[serde(rename = "f")]
    pub provider: [u8; 8],
    /// What waits until they have.
    #[serde(rename = "a", default, skip_serializing_if = "Awaiting::is_nothing")]
    pub awaiting: Awaiting,
}

/// What waits until somebody has signed in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Awaiting {
    /// Nothing: they see what they have.
    #[default]
    #[serde(rename = "n")]
    Nothing,
    /// A client asks for something.
    #[serde(rename = "c")]
    Program(Box<AuthorizationRequest>),
    /// A page of the gateway's own, by its path.
    #[serde(rename = "p")]
    Page(String),
}

impl Awaiting {
    /// Whether there is nothing.
    pub fn is_nothing(&self) -> bool {
        *self == Self::Nothing
    }

    /// What a client asks for, if one does.
    pub fn program(&self) -> Option<&AuthorizationRequest> {
        match self {
            Self::Program(asked) => Some(asked),
            Self::Nothing | Self::Page(_) => None,
        }
    }
}

impl IdpFlow {
    /// From then on it is good for nothing.
    pub fn ends(&self) -> SystemTime {
        UNIX_EPOCH.checked_add(Duration::from_secs(self.made)).map_or(UNIX_EPOCH, |made| made + IDP_GOOD)
    }
}

/// How long a login at the identity provider may take.
pub const IDP_GOOD: Duration = Duration::from_secs(10 * 60);
/// Bytes of what is sealed for it at most: it has to have room in a URL.
const LONGEST_FOR_IDP: usize = 4_500;

/// Seals requests, and opens them again.
pub struct Flows {
    key: RandomizedNonceKey,
}

impl Flows {
    /// One whose requests others of the same key open.
    pub fn new(key: &[u8; 32]) -> Result<Self, NoKey> {
        RandomizedNonceKey::new(&AES_256_GCM, key).map(|key| Self { key }).map_err(|_| NoKey)
    }

    /// A request for the browser that has this cookie.
    pub fn seal(&self, request: &AuthorizationRequest, cookie: &str) -> Result<String, NoKey> {
        let text = serde_json::to_vec(request).map_err(|_| NoKey)?;
        if text.len() > LONGEST {
            return Err(NoKey);
        }
        self.seal_text(text, cookie)
    }

    /// What somebody takes to the identity provider; `None` if no URL has room for it.
    pub fn seal_for_idp(&self, flow: &IdpFlow, cookie: &str) -> Result<Option<String>, NoKey> {
        let text = serde_json::to_vec(flow).map_err(|_| NoKey)?;
        if text.len() > LONGEST_FOR_IDP {
            return Ok(None);
        }
        self.seal_text(text, cookie).map(Some)
    }

    fn seal_text(&self, mut text: Vec<u8>, cookie: &str) -> Result<String, NoKey> {
        let nonce = self.key.seal_in_place_append_tag(Aad::from(cookie.as_bytes()), &mut text);
        let nonce = nonce.map_err(|_| NoKey)?;
        Ok(URL_SAFE_NO_PAD.encode([&nonce.as_ref()[..], &text].concat()))
    }

    /// The request that is in it, if it is for the browser of this cookie, and was made not too long ago.
    pub fn open(&self, sealed: &str, cookie: &str, now: SystemTime) -> Option<AuthorizationRequest> {
        let text = self.open_text(sealed, cookie)?;
        let request: AuthorizationRequest = serde_json::from_slice(&text).ok()?;
        is_good(request.made, GOOD, now).then_some(request)
    }

    /// What somebody had taken to the identity provider, by the same rules.
    pub fn open_of_idp(&self, sealed: &str, cookie: &str, now: SystemTime) -> Option<IdpFlow> {
        let text = self.open_text(sealed, cookie)?;
        let flow: IdpFlow = serde_json::from_slice(&text).ok()?;
        // What a client asks for lives no longer by it than without.
        let is_asked = |asked: &AuthorizationRequest| is_good(asked.made, GOOD, now);
        (is_good(flow.made, IDP_GOOD, now) && flow.awaiting.program().is_none_or(is_asked)).then_some(flow)
    }

    fn open_text(&self, sealed: &str, cookie: &str) -> Option<Zeroizing<Vec<u8>>> {
        if sealed.len() > LONGEST_SEALED {
            return None;
        }
        let mut bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(sealed).ok()?);
        let (nonce, text) = bytes.split_first_chunk_mut::<NONCE_LEN>()?;
        let text = self.key.open_in_place(Nonce::from(&*nonce), Aad::from(cookie.as_bytes()), text).ok()?;
        Some(Zeroizing::new(text.to_vec()))
    }
}

/// Whether what was made then, in seconds since 1970, is good for so long.
fn is_good(made: u64, good: Duration, now: SystemTime) -> bool {
    let made = UNIX_EPOCH.checked_add(Duration::from_secs(made));
    made.is_some_and(|made| made <= now + LEEWAY && now < made + good)
}

/// What nothing else is called: the value of a cookie, by which a browser is known that somebody may log in with, or the id of a
/// request. Fails if the system has no randomness to give.
pub fn new_name() -> Result<String, NoKey> {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes).map_err(|_| NoKey)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn request() -> AuthorizationRequest {
        AuthorizationRequest {
            id: "id".into(),
            made: 1_800_000_000,
            client_id: "https://claude.ai/oauth/mcp-oauth-client-metadata".into(),
            redirect_uri: "https://claude.ai/api/mcp/auth_callback".into(),
            state: Some("state".into()),
            challenge: [7; 32],
            resource: "https://mcp.example.com".into(),
            scope: "mcp offline_access".into(),
            must_ask: true,
            allowed_by: None,
        }
    }

    #[test]
    fn a_request_opens_in_the_browser_that_it_was_made_for_and_for_an_hour() {
        let flows = Flows::new(&[1; 32]).unwrap();
        let now = at(1_800_000_000);
        let sealed = flows.seal(&request(), "cookie").unwrap();
        assert_eq!(flows.open(&sealed, "cookie", now), Some(request()));
        assert_ne!(flows.seal(&request(), "cookie").unwrap(), sealed, "no two are alike");
        assert!(!sealed.contains("claude"));
        for cookie in ["", "cooki", "cookie ", "other"] {
            assert_eq!(flows.open(&sealed, cookie, now), None, "{cookie}");
        }
        assert_eq!(Flows::new(&[2; 32]).unwrap().open(&sealed, "cookie", now), None);
        let opens = |moment| flows.open(&sealed, "cookie", moment).is_some();
        assert!(opens(now + GOOD - Duration::from_secs(1)) && opens(now - LEEWAY));
        for bad in [at(0), now - LEEWAY - Duration::from_secs(1), now + GOOD, now + 9 * GOOD] {
            assert!(!opens(bad));
        }
    }

    #[test]
    fn a_sealed_request_with_any_byte_changed_or_missing_is_none() {
        let flows = Flows::new(&[1; 32]).unwrap();
        let now = at(1_800_000_000);
        let sealed = flows.seal(&request(), "cookie").unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(&sealed).unwrap();
        let opens = |bytes: &[u8]| flows.open(&URL_SAFE_NO_PAD.encode(bytes), "cookie", now).is_some();
        assert!(opens(&bytes));
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(!opens(&changed) && !opens(&bytes[..at]) && !opens(&bytes[at + 1..]), "{at}");
        }
        for bad in ["", "A", "!", &"A".repeat(99_999)] {
            assert_eq!(flows.open(bad, "cookie", now), None);
        }
    }

    #[test]
    fn a_login_at_the_identity_provider_comes_back_to_its_browser_within_ten_minutes() {
        let flows = Flows::new(&[1; 32]).unwrap();
        let now = at(1_800_000_000);
        let flow = IdpFlow {
            made: 1_800_000_000,
            key: "k".into(),
            provider: [1; 8],
            awaiting: Awaiting::Program(request().into()),
        };
        let sealed = flows.seal_for_idp(&flow, "cookie").unwrap().unwrap();
        assert!(sealed.len() < 1_000, "{}", sealed.len());
        let opens = |cookie, now| flows.open_of_idp(&sealed, cookie, now);
        assert_eq!(opens("cookie", now), Some(flow.clone()));
        assert!(opens("cookie", now + IDP_GOOD - Duration::from_secs(1)).is_some());
        for (cookie, now) in [("other", now), ("", now), ("cookie", now + IDP_GOOD), ("cookie", at(0))] {
            assert_eq!(opens(cookie, now), None);
        }
        // Neither is the other, even by one key.
        assert_eq!(flows.open(&sealed, "cookie", now), None);
        let asked = flows.seal(&request(), "cookie").unwrap();
        assert_eq!(flows.open_of_idp(&asked, "cookie", now), None);
        let long = AuthorizationRequest { state: Some("s".repeat(LONGEST_FOR_IDP)), ..request() };
        let long = IdpFlow { awaiting: Awaiting::Program(long.into()), ..flow };
        assert_eq!(flows.seal_for_idp(&long, "cookie"), Ok(None));
    }

    #[test]
    fn what_no_form_has_room_for_is_not_sealed() {
        let flows = Flows::new(&[1; 32]).unwrap();
        let longest = AuthorizationRequest {
            client_id: "c".repeat(1400),
            redirect_uri: "r".repeat(2048),
            state: Some("s".repeat(1024)),
            resource: "p".repeat(1024),
            scope: "o".repeat(1024),
            ..request()
        };
        assert!(flows.seal(&longest, "cookie").unwrap().len() <= LONGEST_SEALED);
        let longer = AuthorizationRequest { state: Some("s".repeat(LONGEST)), ..request() };
        assert_eq!(flows.seal(&longer, "cookie"), Err(NoKey));
    }

    proptest! {
        #[test]
        fn whatever_is_asked_for_comes_back_as_it_was(
            state in prop::option::of("\\PC{0,100}"),
            redirect_uri in "\\PC{0,100}",
            challenge: [u8; 32],
            cookie in "[!-~]{0,40}",
        ) {
            let flows = Flows::new(&[1; 32]).unwrap();
            let request = AuthorizationRequest { state, redirect_uri, challenge, ..request() };
            let sealed = flows.seal(&request, &cookie).unwrap();
            prop_assert_eq!(flows.open(&sealed, &cookie, at(1_800_000_001)), Some(request));
        }

        #[test]
        fn whatever_text_comes_opens_nothing(text in "[A-Za-z0-9_-]{0,300}") {
            prop_assert_eq!(Flows::new(&[1; 32]).unwrap().open(&text, "cookie", at(1)), None);
        }
    }
}
