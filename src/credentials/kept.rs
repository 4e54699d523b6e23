//! What the store keeps of a credential: a JSON text, which it seals.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    oauth::{Discovered, TokenAnswer, UpstreamClient},
    ready::{ReadyCredential, field_with},
};
use crate::{
    config::{TokenPlace, UpstreamOauth},
    identity::credential_key::CredentialKey,
};

/// How long before its end an access token is refreshed at the latest, but not earlier than after half of its time.
const AHEAD: Duration = Duration::from_secs(60);
/// Losses within this time count together. So many need somebody's attention: what keeps failing is not begun by itself again.
const TOGETHER: Duration = Duration::from_secs(600);
const NEED_ATTENTION: usize = 3;
/// Scopes that are remembered as wanted.
const MOST_WANTED: usize = 100;
/// Bytes of them: tokens have to have room beside.
const LONGEST_WANTED: usize = 4 << 10;

/// A credential as it is kept.
#[derive(Serialize, Deserialize)]
pub(super) struct Kept {
    /// Of the connection: another one each time that somebody connects or enters a token.
    connection: [u8; 16],
    /// Where the server was: scheme, host and port. `None` of a command.
    pub(super) origin: Option<String>,
    /// What goes to the server, and what brings another. `None`: it was lost.
    pub(super) tokens: Option<TokenAnswer>,
    /// When that was got.
    pub(super) got: SystemTime,
    /// Who gave it, and to whom, if somebody connected.
    pub(super) by: Option<GivenBy>,
    /// What it is good for.
    pub(super) scopes: Vec<String>,
    /// What the server wanted, and it is not good for.
    pub(super) wanted: Vec<String>,
    /// What the account is called.
    pub(super) account: Option<Box<str>>,
    /// When it was lost lately.
    lost: Vec<SystemTime>,
}

/// Who gave a credential, and to which client.
#[derive(Serialize, Deserialize)]
pub(super) struct GivenBy {
    pub(super) discovered: Discovered,
    pub(super) client_id: Box<str>,
    /// Who the gateway is there, as it writes that itself.
    client: Zeroizing<String>,
}

impl GivenBy {
    pub(super) fn new(discovered: Discovered, client: &UpstreamClient) -> Self {
        let written = String::from_utf8_lossy(&client.written()).into_owned();
        Self { discovered, client_id: Box::from(&*client.client_id), client: written.into() }
    }

    /// The client, with what the config has of it.
    pub(super) fn client(&self, oauth: &UpstreamOauth) -> Option<UpstreamClient> {
        UpstreamClient::read(self.client.as_bytes(), &oauth.client_key)
    }
}

impl Kept {
    /// A new connection, in place of one that was there.
    pub(super) fn new(
        connection: [u8; 16],
        tokens: TokenAnswer,
        by: Option<GivenBy>,
        asked: Vec<String>,
        now: SystemTime,
        before: Option<&Self>,
    ) -> Self {
        Self {
            connection,
            origin: None,
            got: now,
            by,
            scopes: tokens.scopes.clone().unwrap_or(asked),
            wanted: Vec::new(),
            account: tokens.account.clone(),
            tokens: Some(tokens),
            lost: before.map(|before| before.lost.clone()).unwrap_or_default(),
        }
    }

    /// The one that was kept so.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }

    /// As it is kept.
    pub(super) fn written(&self) -> Zeroizing<Vec<u8>> {
        // Room for all that may be in it, so that no copy stays behind.
        let mut body = Zeroizing::new(Vec::with_capacity(64 << 10));
        // Into memory, with keys that are text: nothing can fail.
        let _ = serde_json::to_writer(&mut *body, self);
        body
    }

    /// Which credential it is.
    pub(super) fn key(&self) -> CredentialKey {
        CredentialKey::of_caller(self.connection)
    }

    /// The same with tokens of a refresh: what they do not say is as it was.
    pub(super) fn refreshed(mut self, mut tokens: TokenAnswer, now: SystemTime) -> Self {
        let before = self.tokens.take();
        tokens.refresh = tokens.refresh.or_else(|| before.and_then(|before| before.refresh));
        if let Some(scopes) = &tokens.scopes {
            self.scopes.clone_from(scopes);
        }
        if tokens.account.is_some() {
            self.account.clone_from(&tokens.account);
        }
        Self { tokens: Some(tokens), got: now, ..self }
    }

    /// The same without tokens: they are not taken any more.
    pub(super) fn without_tokens(mut self, now: SystemTime) -> Self {
        self.lost.retain(|lost| now.duration_since(*lost).is_ok_and(|since| since < TOGETHER));
        self.lost.push(now);
        self.lost.truncate(NEED_ATTENTION + 1);
        Self { tokens: None, ..self }
    }

    /// Whether it was lost so often lately that nothing is to be begun by itself.
    pub(super) fn needs_attention(&self, now: SystemTime) -> bool {
        let lately = |lost: &&SystemTime| now.duration_since(**lost).is_ok_and(|since| since < TOGETHER);
        self.lost.iter().filter(lately).count() >= NEED_ATTENTION
    }

    /// The server wants these scopes. All that it is good for, and is to be good for; `None` if nothing of that is new.
    pub(super) fn wants(&mut self, scopes: Vec<String>) -> bool {
        let before = self.wanted.len();
        for scope in scopes {
            let bytes: usize = self.wanted.iter().map(String::len).sum();
            let has_room = self.wanted.len() < MOST_WANTED && bytes + scope.len() <= LONGEST_WANTED;
            if !self.wanted.contains(&scope) && has_room {
                self.wanted.push(scope);
            }
        }
        self.wanted.len() > before
    }

    /// All that it is good for, and is to be good for.
    pub(super) fn all_scopes(&self) -> Vec<String> {
        let mut all = self.scopes.clone();
        all.extend(self.wanted.iter().filter(|wanted| !self.scopes.contains(wanted)).cloned());
        all
    }

    /// What is sent of it: each token in its place. `None` without one that can be sent.
    pub(super) fn ready(
        &self,
        places: &[TokenPlace],
        key: CredentialKey,
        version: u64,
    ) -> Option<ReadyCredential> {
        let tokens = self.tokens.as_ref().filter(|tokens| tokens.fault.is_none())?;
        ready(tokens, places, key, version, self.got)
    }

    /// From when on it is to be refreshed, if it can be.
    pub(super) fn due(&self) -> Option<SystemTime> {
        let tokens = self.tokens.as_ref()?;
        tokens.refresh.as_ref()?;
        due(tokens, self.got)
    }
}

/// A credential with this token in all its places.
pub(super) fn ready(
    tokens: &TokenAnswer,
    places: &[TokenPlace],
    key: CredentialKey,
    version: u64,
    got: SystemTime,
) -> Option<ReadyCredential> {
    let (mut fields, mut env) = (Vec::new(), Vec::new());
    for place in places {
        match place {
            TokenPlace::Header(field) => fields.push(field_with(field, &tokens.access)?),
            TokenPlace::Env { name, format } => env.push((name.to_string(), format.with(&tokens.access))),
        }
    }
    Some(ReadyCredential { fields, env, key, version, got, ends: tokens.ends })
}

/// From when on it is time to get another: a tenth of its time before it ends, a minute at least, and half of its time at most.
pub(super) fn due(tokens: &TokenAnswer, got: SystemTime) -> Option<SystemTime> {
    let ends = tokens.ends?;
    let lasts = ends.duration_since(got).unwrap_or_default();
    Some(ends - (lasts / 10).max(AHEAD).min(lasts / 2))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::secret::Secret;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
    }

    fn tokens(access: &str, refresh: Option<&str>, lasts: Option<u64>) -> TokenAnswer {
        TokenAnswer {
            access: Secret::new(access.into()),
            refresh: refresh.map(|text| Secret::new(text.into())),
            ends: lasts.map(at),
            scopes: None,
            account: None,
            fault: None,
        }
    }

    fn kept(tokens: TokenAnswer) -> Kept {
        Kept::new([7; 16], tokens, None, vec!["a".into()], at(0), None)
    }

    #[test]
    fn a_token_is_refreshed_a_minute_or_a_tenth_ahead_and_never_in_its_first_half() {
        for (lasts, ahead) in
            [(36_000, 3_600), (3_600, 360), (600, 60), (300, 60), (100, 50), (10, 5), (0, 0)]
        {
            assert_eq!(kept(tokens("x", Some("r"), Some(lasts))).due(), Some(at(lasts - ahead)), "{lasts}");
        }
        assert_eq!(kept(tokens("x", None, Some(600))).due(), None, "there is nothing to refresh it by");
        assert_eq!(kept(tokens("x", Some("r"), None)).due(), None, "it does not say when it ends");
    }

    #[test]
    fn what_a_refresh_does_not_say_is_as_it_was() {
        let before = kept(TokenAnswer { account: Some("alice".into()), ..tokens("x", Some("r"), None) });
        let same = before.refreshed(tokens("y", None, Some(60)), at(5));
        let now = same.tokens.as_ref().unwrap();
        assert_eq!((now.access.expose(), now.refresh.as_ref().unwrap().expose()), ("y", "r"));
        assert_eq!(
            (&*same.scopes, same.account.as_deref(), same.got),
            (&["a".into()][..], Some("alice"), at(5))
        );
        let scopes = Some(vec!["b".into()]);
        let other = same.refreshed(TokenAnswer { scopes, ..tokens("z", Some("s"), None) }, at(6));
        assert_eq!(other.tokens.as_ref().unwrap().refresh.as_ref().unwrap().expose(), "s");
        assert_eq!(other.scopes, ["b"]);
        assert!(other.key() == CredentialKey::of_caller([7; 16]), "it is the same connection");
    }

    #[test]
    fn it_is_read_as_it_was_written_and_shows_itself_only_there() {
        let written = kept(tokens("secret-access", Some("secret-refresh"), Some(60))).written();
        let read = Kept::read(&written).unwrap();
        assert_eq!(read.tokens.unwrap().access.expose(), "secret-access");
        assert!(Kept::read(b"{}").is_none() && Kept::read(&written[1..]).is_none());
    }

    #[test]
    fn three_losses_in_ten_minutes_need_somebody_whoever_connects_in_between() {
        let mut it = kept(tokens("x", None, None));
        for (second, needs) in [(0, false), (100, false), (599, true)] {
            it = it.without_tokens(at(second));
            assert!(it.tokens.is_none());
            assert_eq!(it.needs_attention(at(second)), needs, "{second}");
            it = Kept::new([8; 16], tokens("x", None, None), None, Vec::new(), at(second), Some(&it));
        }
        assert!(it.needs_attention(at(599)) && !it.needs_attention(at(600)));
    }

    #[test]
    fn scopes_that_are_wanted_are_asked_for_besides_those_that_are_there() {
        let mut it = kept(tokens("x", None, None));
        assert!(it.wants(vec!["b".into(), "a".into(), "b".into()]));
        assert!(!it.wants(vec!["b".into()]), "that is known");
        assert_eq!(it.all_scopes(), ["a", "b"]);
    }
}
