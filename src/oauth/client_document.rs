//! Clients whose id is the URL of a document that says what they are (client id metadata documents).

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::client::{Client, ClientAuth, ClientKind, MOST_REDIRECTS, asks_for_codes, cut};
use crate::{
    config::GrantTypes,
    identity::login::attempts::{self, Attempts},
    ledger::AddressBlock,
    upstream::document::{DocumentUrl, Documents, NotFetched},
};

/// Bytes of a document at most.
const LONGEST: usize = 16 * 1024;
/// Documents that are kept, and failures.
const MOST: usize = 1000;
/// How long a document is kept at least and at most, whatever its host says.
const FRESH: (Duration, Duration) = (Duration::from_secs(5 * 60), Duration::from_secs(24 * 60 * 60));
/// How long it is kept if its host does not say.
const FRESH_UNSAID: Duration = Duration::from_secs(60 * 60);
/// How long it is known that there is none.
const FAILED: Duration = Duration::from_secs(60);

/// Why a URL names no client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAClient {
    /// No document came.
    NotFetched(NotFetched),
    /// It is not JSON that says what a client is.
    Malformed,
    /// It says that it is of another URL.
    OtherId,
    /// It has a secret, which everybody can read there.
    HasSecret,
    /// It says that the client proves itself in a way that is not known here.
    UnknownProof,
    /// The client does not ask for codes.
    NoCodes,
}

impl NotAClient {
    /// All that metrics and log call it.
    pub fn names() -> impl Iterator<Item = &'static str> {
        let read = [Self::Malformed, Self::OtherId, Self::HasSecret, Self::UnknownProof, Self::NoCodes];
        NotFetched::ALL.map(Self::NotFetched).into_iter().chain(read).map(Self::name)
    }

    /// Whether it may be otherwise a moment later, and says nothing of the client. A name without an address is of these: nobody
    /// can tell it from a resolver that does not answer.
    pub fn is_for_now(self) -> bool {
        let Self::NotFetched(why) = self else { return false };
        match why {
            NotFetched::Busy | NotFetched::Unresolved | NotFetched::Unreachable | NotFetched::Timeout => true,
            NotFetched::NotPublic | NotFetched::Redirect | NotFetched::NotADocument => false,
        }
    }

    /// As metrics and log call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotFetched(why) => why.name(),
            Self::Malformed => "malformed",
            Self::OtherId => "other_id",
            Self::HasSecret => "has_secret",
            Self::UnknownProof => "unknown_proof",
            Self::NoCodes => "no_codes",
        }
    }
}

#[derive(Deserialize)]
struct Document {
    client_id: String,
    client_name: String,
    redirect_uris: Vec<String>,
    token_endpoint_auth_method: Option<String>,
    grant_types: Option<Vec<String>>,
    response_types: Option<Vec<String>>,
    #[serde(default)]
    client_secret: Option<Box<RawValue>>,
    #[serde(default)]
    client_secret_expires_at: Option<Box<RawValue>>,
}

/// What the document at `url` says.
pub fn parse(url: &DocumentUrl, body: &[u8]) -> Result<Client, NotAClient> {
    // An object: serde would take a list of its values as well.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(NotAClient::Malformed);
    }
    let said: Document = serde_json::from_slice(body).map_err(|_| NotAClient::Malformed)?;
    if said.client_id != url.as_str() {
        return Err(NotAClient::OtherId);
    }
    if said.client_secret.is_some() || said.client_secret_expires_at.is_some() {
        return Err(NotAClient::HasSecret);
    }
    match said.token_endpoint_auth_method.as_deref() {
        None | Some("none") => {}
        Some(method) if method.starts_with("client_secret_") => return Err(NotAClient::HasSecret),
        Some(_) => return Err(NotAClient::UnknownProof),
    }
    if !asks_for_codes(said.grant_types.as_deref(), said.response_types.as_deref()) {
        return Err(NotAClient::NoCodes);
    }
    let name = cut(said.client_name.trim());
    if name.is_empty() || !(1..=MOST_REDIRECTS).contains(&said.redirect_uris.len()) {
        return Err(NotAClient::Malformed);
    }
    Ok(Client {
        id: url.as_str().into(),
        name: name.into(),
        redirect_uris: said.redirect_uris.into_iter().map(Arc::from).collect(),
        auth: ClientAuth::None,
        grants: GrantTypes::DEFAULT,
        kind: ClientKind::Document,
    })
}

/// The URL that an id of a client is, if it is one: with a path, as `https://example.com/client.json`.
pub(super) fn url(id: &str) -> Option<DocumentUrl> {
    DocumentUrl::parse(id).filter(|url| url.path() != "/")
}

/// Documents that were fetched.
#[derive(Default)]
pub struct CachedDocuments {
    documents: Documents,
    kept: Mutex<Kept>,
    /// Who has had documents fetched lately: a stranger must not have the gateway knock at the doors of others.
    asked: Attempts,
}

#[derive(Default)]
struct Kept {
    good: HashMap<Arc<str>, Good>,
    /// Apart from those that are good, so that they push none of them out.
    failed: HashMap<Arc<str>, (NotAClient, Instant)>,
}

struct Good {
    client: Arc<Client>,
    until: Instant,
    used: Instant,
}

impl Kept {
    fn find(&mut self, url: &str, now: Instant) -> Option<Result<Arc<Client>, NotAClient>> {
        if let Some(good) = self.good.get_mut(url).filter(|good| now < good.until) {
            good.used = now;
            return Some(Ok(Arc::clone(&good.client)));
        }
        self.failed.get(url).filter(|(_, until)| now < *until).map(|(why, _)| Err(*why))
    }

    /// Makes room for one more: what is over goes, and else what was not used for longest.
    fn keep(&mut self, client: &Arc<Client>, fresh_for: Option<Duration>, now: Instant) {
        let until = now + fresh_for.unwrap_or(FRESH_UNSAID).clamp(FRESH.0, FRESH.1);
        self.failed.remove(&client.id);
        if self.good.len() >= MOST && !self.good.contains_key(&client.id) {
            self.good.retain(|_, good| now < good.until);
        }
        if self.good.len() >= MOST && !self.good.contains_key(&client.id) {
            let oldest = self.good.iter().min_by_key(|(_, good)| good.used).map(|(id, _)| Arc::clone(id));
            oldest.map(|oldest| self.good.remove(&oldest));
        }
        self.good.insert(Arc::clone(&client.id), Good { client: Arc::clone(client), until, used: now });
    }

    fn fail(&mut self, url: &str, why: NotAClient, now: Instant) {
        if self.failed.len() >= MOST && !self.failed.contains_key(url) {
            self.failed.retain(|_, (_, until)| now < *until);
        }
        if self.failed.len() >= MOST && !self.failed.contains_key(url) {
            let oldest =
                self.failed.iter().min_by_key(|(_, (_, until))| *until).map(|(url, _)| Arc::clone(url));
            oldest.map(|oldest| self.failed.remove(&oldest));
        }
        self.good.remove(url);
        self.failed.insert(url.into(), (why, now + FAILED));
    }
}

impl CachedDocuments {
    /// None so far, of those that this fetches.
    pub fn of(documents: Documents) -> Self {
        Self { documents, kept: Mutex::default(), asked: Attempts::default() }
    }

    /// The client whose document is there, for somebody at this address.
    pub(super) async fn client(
        &self,
        url: &DocumentUrl,
        address: AddressBlock,
    ) -> Result<Arc<Client>, NotAClient> {
        if let Some(known) = self.kept.lock().find(url.as_str(), Instant::now()) {
            return known;
        }
        if self.asked.note_address(address, attempts::RATE, Instant::now()).is_err() {
            return Err(NotAClient::NotFetched(NotFetched::Busy));
        }
        let fetched = self.documents.fetch(url, LONGEST, address).await;
        let now = Instant::now();
        let mut kept = self.kept.lock();
        // Of all who waited for it, one has read it by now.
        if let Some(known) = kept.find(url.as_str(), now) {
            return known;
        }
        let read = fetched.map_err(NotAClient::NotFetched);
        match read.and_then(|document| Ok((parse(url, &document.body)?, document.fresh_for))) {
            Ok((client, fresh_for)) => {
                let client = Arc::new(client);
                kept.keep(&client, fresh_for, now);
                Ok(client)
            }
            Err(why) => {
                // That there was no room says nothing about the document.
                if why != NotAClient::NotFetched(NotFetched::Busy) {
                    kept.fail(url.as_str(), why, now);
                }
                Err(why)
            }
        }
    }

    /// How many documents are kept, how many failures, and how many fetches run.
    pub fn counts(&self) -> (usize, usize, usize) {
        let kept = self.kept.lock();
        (kept.good.len(), kept.failed.len(), self.documents.running())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const URL: &str = "https://vscode.dev/oauth/client-metadata.json";

    /// As VS Code has it.
    fn document() -> Value {
        json!({
            "client_id": URL,
            "client_name": "Visual Studio Code",
            "client_uri": "https://vscode.dev/product",
            "grant_types": [
                "authorization_code",
                "refresh_token",
                "urn:ietf:params:oauth:grant-type:device_code",
            ],
            "response_types": ["code"],
            "redirect_uris": ["http://127.0.0.1:33418", "https://vscode.dev/redirect"],
            "token_endpoint_auth_method": "none",
            "application_type": "native",
        })
    }

    fn with(key: &str, value: Value) -> Value {
        let mut document = document();
        document[key] = value;
        document
    }

    fn parsed(document: &Value) -> Result<Client, NotAClient> {
        parse(&url(URL).unwrap(), document.to_string().as_bytes())
    }

    #[test]
    fn a_document_says_what_its_client_is() {
        let client = parsed(&document()).unwrap();
        assert_eq!((&*client.id, &*client.name), (URL, "Visual Studio Code"));
        assert_eq!(
            (client.redirect_uris.len(), client.auth, client.kind),
            (2, ClientAuth::None, ClientKind::Document)
        );
        for (document, why) in [
            (json!([URL, "x", ["http://localhost/"]]), NotAClient::Malformed),
            (json!("x"), NotAClient::Malformed),
            (json!({}), NotAClient::Malformed),
            (with("client_id", json!("https://vscode.dev/oauth/client-metadata")), NotAClient::OtherId),
            (with("client_id", json!([URL])), NotAClient::Malformed),
            (with("client_name", json!(null)), NotAClient::Malformed),
            (with("client_name", json!("  ")), NotAClient::Malformed),
            (with("redirect_uris", json!([])), NotAClient::Malformed),
            (with("redirect_uris", json!("http://localhost/")), NotAClient::Malformed),
            (with("redirect_uris", json!(vec!["http://localhost/"; 21])), NotAClient::Malformed),
            (with("client_secret", json!("x")), NotAClient::HasSecret),
            (with("client_secret_expires_at", json!(0)), NotAClient::HasSecret),
            (with("token_endpoint_auth_method", json!("client_secret_post")), NotAClient::HasSecret),
            (with("token_endpoint_auth_method", json!("client_secret_jwt")), NotAClient::HasSecret),
            (with("token_endpoint_auth_method", json!("private_key_jwt")), NotAClient::UnknownProof),
            (with("grant_types", json!(["client_credentials"])), NotAClient::NoCodes),
            (with("response_types", json!(["token"])), NotAClient::NoCodes),
        ] {
            assert_eq!(parsed(&document), Err(why), "{document}");
        }
        // As one that registers itself may leave them empty.
        assert!(
            parsed(&with("grant_types", json!([]))).is_ok()
                && parsed(&with("response_types", json!([]))).is_ok()
        );
        let twice = format!(r#"{{"client_id":"https://x.example/x",{}"#, &document().to_string()[1..]);
        assert_eq!(parse(&url(URL).unwrap(), twice.as_bytes()), Err(NotAClient::Malformed));
        assert_eq!(url("https://example.com/"), None);
    }

    fn client(id: &str) -> Arc<Client> {
        let mut client = parsed(&document()).unwrap();
        client.id = id.into();
        Arc::new(client)
    }

    #[test]
    fn a_document_is_kept_as_long_as_its_host_says_within_bounds_and_a_failure_for_a_minute() {
        let (mut kept, now) = (Kept::default(), Instant::now());
        for (said, seconds) in [(None, 3600), (Some(0), 300), (Some(600), 600), (Some(999_999), 86_400)] {
            kept.keep(&client("a"), said.map(Duration::from_secs), now);
            let at = |seconds| now + Duration::from_secs(seconds);
            assert!(kept.find("a", at(seconds - 1)).is_some_and(|found| found.is_ok()), "{said:?}");
            assert!(kept.find("a", at(seconds)).is_none(), "{said:?}");
        }
        kept.fail("a", NotAClient::OtherId, now);
        assert_eq!(kept.find("a", now), Some(Err(NotAClient::OtherId)), "it is no client any more");
        assert_eq!(kept.find("a", now + FAILED), None);
        kept.keep(&client("a"), None, now);
        assert!(kept.find("a", now).unwrap().is_ok());
    }

    #[test]
    fn no_more_are_kept_than_may_be_and_those_in_use_stay() {
        let (mut kept, now) = (Kept::default(), Instant::now());
        let at = |milliseconds: usize| now + Duration::from_millis(milliseconds as u64);
        kept.keep(&client("in use"), None, now);
        for number in 0..2 * MOST {
            kept.keep(&client(&number.to_string()), None, at(number));
            kept.fail(&format!("bad {number}"), NotAClient::Malformed, at(number));
            assert!(kept.find("in use", at(number)).is_some(), "{number}");
        }
        assert_eq!((kept.good.len(), kept.failed.len()), (MOST, MOST));
        assert!(kept.find(&(2 * MOST - 1).to_string(), at(2 * MOST)).is_some());
        assert!(kept.find("0", at(2 * MOST)).is_none());
    }

    proptest! {
        #[test]
        fn whatever_a_host_answers_is_an_error_or_a_client_of_that_url(
            id in "(https://vscode.dev/oauth/client-metadata.json|https://x.example/y)",
            name in "\\PC{0,20}",
            uris in prop::collection::vec("\\PC{0,30}", 0..25),
            cut in 0..400_usize,
        ) {
            let document = json!({ "client_id": id, "client_name": name, "redirect_uris": uris }).to_string();
            let body = &document.as_bytes()[..document.len().min(cut)];
            if let Ok(client) = parse(&url(URL).unwrap(), body) {
                prop_assert_eq!((&*client.id, id.as_str()), (URL, URL));
                prop_assert!((1..=MOST_REDIRECTS).contains(&client.redirect_uris.len()));
            }
        }

        #[test]
        fn whatever_bytes_come_nothing_breaks(body: Vec<u8>) {
            prop_assert!(parse(&url(URL).unwrap(), &body).is_err());
        }
    }
}
