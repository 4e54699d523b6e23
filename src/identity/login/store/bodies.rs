//! What the sealed columns say, as JSON. A key that is not known is a fault: a newer gateway may mean a limit by it.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use hex::FromHex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::{
    identity::{
        login::{
            account::{Account, KeptAccount},
            code::{Code, CodeState, NewCode},
            consent::{Consent, KeptConsent},
            fingerprint::Fingerprint,
            grant::Grant,
            grant_id::GrantId,
            kind::{ClientGrant, GrantKind},
            refresh_token::GrantSecret,
        },
        principal::Principal,
    },
    secret::Secret,
};

/// Bytes of a grant as the first version of the file had it.
const FIRST_VERSION: usize = 92;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GrantBody {
    id: String,
    kind: KindBody,
    fingerprint: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<Zeroizing<String>>,
    generation: u32,
    began: i64,
    rotated: i64,
    used: i64,
    refresh_ends: i64,
    tokens_end: i64,
    ends: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KindBody {
    Session,
    Page,
    Client(ClientBody),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClientBody {
    id: String,
    name: String,
    host: String,
    resource: String,
    scope: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CodeBody {
    made: i64,
    /// As long as nobody has come with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    new: Option<NewCodeBody>,
    /// What it brought, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    grant: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewCodeBody {
    fingerprint: String,
    client: ClientBody,
    redirect: String,
    challenge: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConsentBody {
    given: i64,
    fingerprint: String,
    client: String,
    #[serde(alias = "host")]
    redirect: String,
    resource: String,
    scope: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AccountBody {
    fingerprint: String,
    display: String,
    claims: Map<String, Value>,
    /// As earlier versions wrote it, nothing is known of claims that are not there.
    #[serde(default)]
    known: BTreeSet<String>,
    checked: i64,
    asked: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keep: Option<Zeroizing<String>>,
}

impl ClientBody {
    fn of(client: &ClientGrant) -> Self {
        Self {
            id: client.client_id.to_string(),
            name: client.client_name.to_string(),
            host: client.redirect_host.to_string(),
            resource: client.resource.to_string(),
            scope: client.scope.to_string(),
        }
    }

    fn client(self) -> ClientGrant {
        ClientGrant {
            client_id: self.id.into(),
            client_name: self.name.into(),
            redirect_host: self.host.into(),
            resource: self.resource.into(),
            scope: self.scope.into(),
        }
    }
}

/// A text that is to be sealed.
type Text = Zeroizing<Vec<u8>>;

fn text(body: &impl Serialize) -> Option<Text> {
    serde_json::to_vec(body).ok().map(Zeroizing::new)
}

fn bytes<const N: usize>(hex: &str) -> Option<[u8; N]>
where
    [u8; N]: FromHex,
{
    <[u8; N]>::from_hex(hex).ok()
}

pub(super) fn of_grant(grant: &Grant) -> Option<Text> {
    let kind = match &grant.kind {
        GrantKind::Session => KindBody::Session,
        GrantKind::Page => KindBody::Page,
        GrantKind::Client(client) => KindBody::Client(ClientBody::of(client)),
    };
    text(&GrantBody {
        id: hex::encode(grant.id.bytes()),
        kind,
        fingerprint: hex::encode(grant.fingerprint.bytes()),
        secret: grant.own_secret.as_ref().map(|secret| Zeroizing::new(hex::encode(secret.bytes()))),
        generation: grant.generation,
        began: millis(grant.began),
        rotated: millis(grant.rotated),
        used: millis(grant.used),
        refresh_ends: millis(grant.refresh_ends),
        tokens_end: millis(grant.tokens_end),
        ends: millis(grant.ends),
    })
}

pub(super) fn grant(principal: Principal, text: &[u8]) -> Option<Grant> {
    let body: GrantBody = serde_json::from_slice(text).ok()?;
    let own_secret = match &body.secret {
        Some(secret) => Some(GrantSecret::new(bytes(secret)?)),
        None => None,
    };
    Some(Grant {
        id: GrantId::new(bytes(&body.id)?),
        kind: match body.kind {
            KindBody::Session => GrantKind::Session,
            KindBody::Page => GrantKind::Page,
            KindBody::Client(client) => GrantKind::Client(client.client().into()),
        },
        principal,
        fingerprint: Fingerprint::new(bytes(&body.fingerprint)?),
        own_secret,
        generation: body.generation,
        began: moment(body.began),
        rotated: moment(body.rotated),
        used: moment(body.used),
        refresh_ends: moment(body.refresh_ends),
        tokens_end: moment(body.tokens_end),
        ends: moment(body.ends),
    })
}

/// A grant as the first version of the file had it: of a session, with a secret of its own.
pub(super) fn first_grant(principal: Principal, text: &[u8]) -> Option<Grant> {
    if text.len() != FIRST_VERSION {
        return None;
    }
    let (id, rest) = text.split_first_chunk()?;
    let (fingerprint, rest) = rest.split_first_chunk()?;
    let (secret, rest) = rest.split_first_chunk()?;
    let (generation, rest) = rest.split_first_chunk()?;
    let (rotated, rest) = rest.split_first_chunk()?;
    let (refresh_ends, rest) = rest.split_first_chunk()?;
    let (tokens_end, rest) = rest.split_first_chunk()?;
    let ends = rest.first_chunk()?;
    let moment = |bytes: &[u8; 8]| moment(i64::from_be_bytes(*bytes));
    Some(Grant {
        id: GrantId::new(*id),
        kind: GrantKind::Session,
        principal,
        fingerprint: Fingerprint::new(*fingerprint),
        own_secret: Some(GrantSecret::new(*secret)),
        generation: u32::from_be_bytes(*generation),
        // It was not written when it began.
        began: moment(rotated),
        rotated: moment(rotated),
        used: moment(rotated),
        refresh_ends: moment(refresh_ends),
        tokens_end: moment(tokens_end),
        ends: moment(ends),
    })
}

pub(super) fn of_code(code: &Code) -> Option<Text> {
    let (new, grant) = match &code.state {
        CodeState::New(new) => (Some(&**new), None),
        CodeState::Used(grant) => (None, grant.map(|grant| hex::encode(grant.bytes()))),
    };
    let new = new.map(|new| NewCodeBody {
        fingerprint: hex::encode(new.fingerprint.bytes()),
        client: ClientBody::of(&new.client),
        redirect: new.redirect_uri.to_string(),
        challenge: hex::encode(new.challenge),
    });
    text(&CodeBody { made: millis(code.made), new, grant })
}

pub(super) fn code(principal: Principal, text: &[u8]) -> Option<Code> {
    let body: CodeBody = serde_json::from_slice(text).ok()?;
    let state = match (body.new, body.grant) {
        (Some(new), None) => CodeState::New(Box::new(NewCode {
            principal: principal.clone(),
            fingerprint: Fingerprint::new(bytes(&new.fingerprint)?),
            client: new.client.client().into(),
            redirect_uri: new.redirect.into(),
            challenge: bytes(&new.challenge)?,
        })),
        (None, Some(grant)) => CodeState::Used(Some(GrantId::new(bytes(&grant)?))),
        (None, None) => CodeState::Used(None),
        (Some(_), Some(_)) => return None,
    };
    Some(Code { principal, made: moment(body.made), state })
}

pub(super) fn of_consent(kept: &KeptConsent) -> Option<Text> {
    let Consent { fingerprint, client_id, redirect_uri, resource, scope, .. } = &kept.consent;
    text(&ConsentBody {
        given: millis(kept.given),
        fingerprint: hex::encode(fingerprint.bytes()),
        client: client_id.to_string(),
        redirect: redirect_uri.to_string(),
        resource: resource.to_string(),
        scope: scope.to_string(),
    })
}

pub(super) fn consent(principal: Principal, text: &[u8]) -> Option<KeptConsent> {
    let body: ConsentBody = serde_json::from_slice(text).ok()?;
    let consent = Consent {
        principal,
        fingerprint: Fingerprint::new(bytes(&body.fingerprint)?),
        client_id: body.client.into(),
        redirect_uri: body.redirect.into(),
        resource: body.resource.into(),
        scope: body.scope.into(),
    };
    Some(KeptConsent { consent, given: moment(body.given) })
}

pub(super) fn of_account(kept: &KeptAccount) -> Option<Text> {
    let KeptAccount { account, keep, asked } = kept;
    text(&AccountBody {
        fingerprint: hex::encode(account.fingerprint.bytes()),
        display: account.display.to_string(),
        claims: account.claims.clone(),
        known: account.known.clone(),
        checked: millis(account.checked),
        asked: millis(*asked),
        keep: keep.as_ref().map(|keep| Zeroizing::new(keep.expose().to_owned())),
    })
}

pub(super) fn account(principal: Principal, text: &[u8]) -> Option<KeptAccount> {
    let AccountBody { fingerprint, display, claims, known, checked, asked, keep } =
        serde_json::from_slice(text).ok()?;
    let account = Account {
        principal,
        fingerprint: Fingerprint::new(bytes(&fingerprint)?),
        display: display.into(),
        claims,
        known,
        checked: moment(checked),
    };
    let keep = keep.map(|keep| Secret::new(keep.as_str().to_owned()));
    Some(KeptAccount { account: Arc::new(account), keep, asked: moment(asked) })
}

pub(super) fn millis(moment: SystemTime) -> i64 {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

pub(super) fn moment(millis: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or_default())
}
