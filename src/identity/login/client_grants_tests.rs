//! What somebody allows a client at the pages, and what the client gets for it, in memory and in a file.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tempfile::TempDir;
use test_basics::waiting::until;

use super::{
    Logins,
    access_token::AccessClaims,
    fingerprint::Fingerprint,
    grants::{
        Admits, ClientGrant, Consent, GrantKind, Grants, Issued, KindTag, NewCode, NoCode, NotRedeemed,
        NotRefreshed, Objection, Redemption, RefreshOf, Token,
    },
    refresh_token::RefreshToken,
    store::Opening,
};
use crate::{
    config::{LoginStorage, LoginStore, LoginTerms, ScopeTags},
    identity::Principal,
    secret::Secret,
};

const TERMS: LoginTerms = LoginTerms::OF_CLIENTS;
const CLIENT: &str = "https://client.example/metadata.json";
const VERIFIER: [u8; 32] = [3; 32];

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
}

fn opening() -> Opening<'static> {
    Opening { now: &|| at(0), is_wanted: &|| true }
}

fn alice() -> Principal {
    Principal::User("alice".into())
}

const FINGERPRINT: [u8; 8] = [7; 8];

fn fingerprint() -> Fingerprint {
    Fingerprint::new(FINGERPRINT)
}

/// Gateways of each kind of store: one in memory, and two of one file.
fn each() -> impl Iterator<Item = (Vec<Arc<Logins>>, TempDir)> {
    [(LoginStorage::Memory, 1), (LoginStorage::File, 2)].into_iter().map(|(storage, gateways)| {
        let directory = TempDir::new().unwrap();
        let config = LoginStore { storage, ..LoginStore::default() };
        let open = || {
            let logins = Arc::new(Logins::new().unwrap());
            logins
                .keep_store(logins.open_store(&config, &directory.path().join("state"), opening()).unwrap());
            logins
        };
        ((0..gateways).map(|_| open()).collect(), directory)
    })
}

fn client() -> Arc<ClientGrant> {
    Arc::new(ClientGrant {
        client_id: CLIENT.into(),
        client_name: "Client".into(),
        redirect_host: "client.example".into(),
        resource: "https://mcp.example.com/db/mcp".into(),
        scope: "mcp".into(),
    })
}

fn new_code() -> NewCode {
    NewCode {
        principal: alice(),
        fingerprint: fingerprint(),
        client: client(),
        redirect_uri: "https://client.example/callback".into(),
        challenge: VERIFIER,
    }
}

fn shown() -> Redemption {
    Redemption {
        client_id: CLIENT.into(),
        redirect_uri: Some("https://client.example/callback".into()),
        challenge_of_verifier: Some(VERIFIER),
        refresh_token_scopes: Vec::new(),
    }
}

fn anybody() -> Admits {
    Box::new(|_, _, _| Ok(()))
}

async fn code(logins: &Logins, now: u64) -> Secret {
    code_of(logins, new_code(), now).await
}

/// A code of a request that there was not before.
async fn code_of(logins: &Logins, new: NewCode, now: u64) -> Secret {
    static REQUESTS: AtomicU64 = AtomicU64::new(0);
    let request = REQUESTS.fetch_add(1, Ordering::Relaxed).to_string();
    grants(logins).begin_code(&request, new, at(now)).await.unwrap()
}

async fn redeem(logins: &Logins, code: &Secret, now: u64) -> Result<Issued, NotRedeemed> {
    let grants = logins.grants().unwrap();
    grants.redeem(code.expose(), shown(), anybody(), &TERMS, at(now)).await.map(|(issued, _)| issued)
}

async fn begin(logins: &Logins, now: u64) -> Issued {
    redeem(logins, &code(logins, now).await, now).await.unwrap()
}

async fn refresh(logins: &Logins, token: &Secret, now: u64) -> Result<Issued, NotRefreshed> {
    refresh_as(logins, token, RefreshOf::Client(CLIENT.into()), now).await
}

async fn refresh_as(
    logins: &Logins,
    token: &Secret,
    of: RefreshOf,
    now: u64,
) -> Result<Issued, NotRefreshed> {
    let token = RefreshToken::parse(token.expose()).unwrap();
    logins.grants().unwrap().refresh(token, of, anybody(), &TERMS, at(now)).await
}

fn grants(logins: &Logins) -> &Grants {
    logins.grants().unwrap()
}

#[tokio::test]
async fn a_code_of_one_gateway_brings_a_grant_at_another_and_what_it_brings_says_for_whom() {
    for (gateways, _directory) in each() {
        let (one, other) = (&gateways[0], gateways.last().unwrap());
        let issued = redeem(other, &code(one, 0).await, 59).await.unwrap();
        assert_eq!((&issued.principal, &issued.kind), (&alice(), &GrantKind::Client(client())));
        assert_eq!((issued.expires, issued.grant_ends), (at(59 + 3_600), at(59 + 365 * 86_400)));
        assert_eq!(issued.fingerprint, fingerprint());
        assert!(refresh(one, &issued.refresh_token, 60).await.is_ok());
        assert_eq!(grants(other).find(issued.grant, at(60)), (true, Some(client())));
    }
}

#[tokio::test]
async fn a_code_that_comes_twice_ends_what_it_brought() {
    for (gateways, _directory) in each() {
        let (one, other) = (&gateways[0], gateways.last().unwrap());
        let code = code(one, 0).await;
        let issued = redeem(one, &code, 1).await.unwrap();
        let next = refresh(one, &issued.refresh_token, 2).await.unwrap();
        // Also minutes later, when it could bring nothing any more.
        assert_eq!(redeem(other, &code, 300).await.unwrap_err(), NotRedeemed::Replayed(alice()));
        assert!(grants(other).is_revoked(issued.grant));
        until("both know", || grants(one).is_revoked(issued.grant)).await;
        assert_eq!(refresh(one, &next.refresh_token, 301).await.unwrap_err(), NotRefreshed::Invalid);
        assert_eq!(redeem(one, &code, 302).await.unwrap_err(), NotRedeemed::Invalid);
    }
}

#[tokio::test]
async fn a_request_has_one_code_wherever_it_is_allowed_and_none_once_that_was_used() {
    for (gateways, _directory) in each() {
        let (one, other) = (&gateways[0], gateways.last().unwrap());
        let allow = |logins, request, new, now| grants(logins).begin_code(request, new, at(now));
        let first = allow(one, "one", new_code(), 0).await.unwrap();
        assert_eq!(allow(other, "one", new_code(), 30).await, Ok(first.clone()), "a second click");
        assert_ne!(allow(other, "another", new_code(), 30).await.unwrap(), first);
        // Who allows something else by it has none, and takes none away.
        let wider = ClientGrant { scope: "mcp offline_access".into(), ..(*client()).clone() };
        for changed in [
            NewCode { principal: Principal::User("bob".into()), ..new_code() },
            NewCode { client: wider.into(), ..new_code() },
            NewCode { challenge: [4; 32], ..new_code() },
        ] {
            assert_eq!(allow(other, "one", changed, 30).await, Err(NoCode::Over));
        }
        let issued = redeem(other, &first, 59).await.unwrap();
        for now in [59, 600, 3_600, 3_659] {
            grants(one).sweep(at(now));
            assert_eq!(allow(one, "one", new_code(), now).await, Err(NoCode::Over), "{now}");
        }
        assert!(!grants(other).is_revoked(issued.grant));
        // The time of one that nobody came for is over as well.
        allow(one, "late", new_code(), 3_600).await.unwrap();
        assert_eq!(allow(one, "late", new_code(), 3_660).await, Err(NoCode::Over));
    }
}

#[tokio::test]
async fn what_a_client_was_allowed_is_forgotten_once_it_gives_it_back() {
    let consent = |client_id: &str| Consent {
        principal: alice(),
        fingerprint: fingerprint(),
        client_id: client_id.into(),
        redirect_uri: "https://client.example/cb".into(),
        resource: "https://mcp.example.com/db/mcp".into(),
        scope: "mcp".into(),
    };
    let other_client = "https://other.example/client";
    for (gateways, _directory) in each() {
        let (one, other) = (&gateways[0], gateways.last().unwrap());
        for by_access in [false, true] {
            for client in [CLIENT, other_client] {
                grants(one).remember_consent(consent(client), at(0)).await.unwrap();
            }
            let has = |client| grants(one).has_consent(consent(client), ScopeTags::All, at(2));
            let issued = begin(one, 1).await;
            // What is given back is another client's: nothing is forgotten.
            let token = RefreshToken::parse(issued.refresh_token.expose()).unwrap();
            let wrong = Token::ClientRefresh(token.clone(), other_client.into());
            grants(other).revoke(vec![wrong], at(2)).await.unwrap();
            assert_eq!((has(CLIENT).await, has(other_client).await), (Ok(true), Ok(true)));
            let token = if by_access {
                Token::Access(AccessClaims {
                    vouched: None,
                    principal: alice(),
                    grant: issued.grant,
                    fingerprint: fingerprint(),
                    client_id: CLIENT.into(),
                    resource: "https://mcp.example.com/db/mcp".into(),
                    scope: "mcp".into(),
                    issued: at(1),
                    expires: issued.expires,
                    grant_ends: issued.grant_ends,
                })
            } else {
                Token::ClientRefresh(token, CLIENT.into())
            };
            // At another gateway, which may not have heard of the grant.
            grants(other).revoke(vec![token], at(2)).await.unwrap();
            assert_eq!((has(CLIENT).await, has(other_client).await), (Ok(false), Ok(true)), "{by_access}");
        }
    }
}

#[tokio::test]
async fn of_what_others_let_in_so_many_are_shown_as_are_asked_for_the_last_first() {
    for (gateways, _directory) in each() {
        let one = &gateways[0];
        let (bob, carol) = (Principal::User("bob".into()), Principal::Token("carol".into()));
        begin(one, 0).await;
        grants(one).begin_page(&bob, fingerprint(), at(0)).await.unwrap();
        for (principal, second) in [(&bob, 1), (&carol, 3), (&bob, 2), (&bob, 4)] {
            let code = code_of(one, NewCode { principal: principal.clone(), ..new_code() }, second).await;
            redeem(one, &code, second).await.unwrap();
        }
        let shown = |most, now| {
            let (shown, count) = grants(one).of_others(&alice(), most, at(now));
            let shown: Vec<_> = shown.iter().map(|(of, grant)| (of.clone(), grant.began)).collect();
            (shown, count)
        };
        assert_eq!(shown(2, 5), (vec![(bob.clone(), at(4)), (carol.clone(), at(3))], 4));
        let all = [(&bob, 4), (&carol, 3), (&bob, 2), (&bob, 1)];
        assert_eq!(shown(9, 5), (all.map(|(of, second)| (of.clone(), at(second))).to_vec(), 4));
        assert_eq!(shown(9, 4 + 720 * 3_600), (vec![], 0), "they are over");
    }
}

#[tokio::test]
async fn a_code_with_anything_wrong_brings_nothing_and_is_used_up() {
    let wrong = [
        Redemption { client_id: "https://client.example/other.json".into(), ..shown() },
        Redemption { redirect_uri: Some("https://client.example/callback/".into()), ..shown() },
        Redemption { challenge_of_verifier: Some([4; 32]), ..shown() },
        Redemption { challenge_of_verifier: None, ..shown() },
    ];
    for (gateways, _directory) in each() {
        let one = &gateways[0];
        for wrong in wrong.clone() {
            let code = code(one, 0).await;
            let redeemed = grants(one).redeem(code.expose(), wrong.clone(), anybody(), &TERMS, at(1)).await;
            assert_eq!(redeemed.map(drop).unwrap_err(), NotRedeemed::Invalid, "{wrong:?}");
            assert_eq!(redeem(one, &code, 1).await.unwrap_err(), NotRedeemed::Invalid, "{wrong:?}");
        }
        for late in [60, 61, 601] {
            let code = code(one, 0).await;
            assert_eq!(redeem(one, &code, late).await.unwrap_err(), NotRedeemed::Invalid);
        }
        for objection in [Objection::Caller, Objection::Resource] {
            let code = code(one, 0).await;
            let refuses: Admits = Box::new(move |principal, fingerprint, kind| {
                assert_eq!((principal, fingerprint), (&alice(), Fingerprint::new(FINGERPRINT)));
                assert_eq!(kind.client(), Some(&client()));
                Err(objection)
            });
            let redeemed = grants(one).redeem(code.expose(), shown(), refuses, &TERMS, at(1)).await;
            assert_eq!(redeemed.map(drop).unwrap_err(), NotRedeemed::Refused(objection));
        }
        for none in ["", "x", &"x".repeat(43)] {
            let redeemed = grants(one).redeem(none, shown(), anybody(), &TERMS, at(1)).await;
            assert_eq!(redeemed.map(drop).unwrap_err(), NotRedeemed::Invalid);
        }
        assert!(grants(one).list(&alice(), at(2)).is_empty());
        let without_uri = Redemption { redirect_uri: None, ..shown() };
        let code = code(one, 0).await;
        assert!(grants(one).redeem(code.expose(), without_uri, anybody(), &TERMS, at(1)).await.is_ok());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_hundred_who_come_with_one_code_one_has_a_grant_and_it_does_not_last() {
    for (gateways, _directory) in each() {
        let code = code(&gateways[0], 0).await;
        let redeeming: Vec<_> = (0..100)
            .map(|n| {
                let (logins, code) = (Arc::clone(&gateways[n % gateways.len()]), code.clone());
                tokio::spawn(async move { redeem(&logins, &code, 1).await })
            })
            .collect();
        let mut begun = Vec::new();
        for redeemed in redeeming {
            begun.extend(redeemed.await.unwrap().ok());
        }
        assert_eq!(begun.len(), 1);
        until("it is over everywhere", || gateways.iter().all(|one| grants(one).is_revoked(begun[0].grant)))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_refreshes_at_once_are_one_rotation_wherever_they_come() {
    for (gateways, _directory) in each() {
        let token = begin(&gateways[0], 0).await.refresh_token;
        let refreshing: Vec<_> = (0..100)
            .map(|n| {
                let (logins, token) = (Arc::clone(&gateways[n % gateways.len()]), token.clone());
                tokio::spawn(async move { refresh(&logins, &token, 1).await.unwrap() })
            })
            .collect();
        let (mut successors, mut rotations) = (Vec::new(), 0);
        for refreshed in refreshing {
            let issued = refreshed.await.unwrap();
            rotations += u32::from(issued.is_new);
            successors.push(issued.refresh_token);
        }
        assert_eq!(rotations, 1);
        assert!(successors.iter().all(|successor| *successor == successors[0] && *successor != token));
        // Within the grace the same, later a replay.
        assert_eq!(refresh(&gateways[0], &token, 120).await.unwrap().refresh_token, successors[0]);
        let replayed = refresh(&gateways[0], &token, 121).await;
        assert_eq!(replayed.unwrap_err(), NotRefreshed::Replayed(alice()));
        assert_eq!(refresh(&gateways[0], &successors[0], 122).await.unwrap_err(), NotRefreshed::Invalid);
    }
}

#[tokio::test]
async fn a_token_of_one_kind_is_nothing_where_another_is_expected() {
    for (gateways, _directory) in each() {
        let one = &gateways[0];
        let of_client = begin(one, 0).await.refresh_token;
        let (session, _) = grants(one).begin(&"alice".into(), fingerprint(), &TERMS, at(0)).await.unwrap();
        let (cookie, page, _) = grants(one).begin_page(&alice(), fingerprint(), at(0)).await.unwrap();
        let client = || RefreshOf::Client(CLIENT.into());
        let another = RefreshOf::Client("https://client.example/other.json".into());
        for (token, wrong) in
            [(&of_client, RefreshOf::Session), (&of_client, another), (&session.refresh_token, client())]
        {
            assert_eq!(refresh_as(one, token, wrong, 1).await.unwrap_err(), NotRefreshed::Invalid);
        }
        for token in [&of_client, &session.refresh_token] {
            let as_cookie = token.expose().replacen("sgr_", "sgp_", 1);
            for text in [token.expose(), &as_cookie] {
                assert_eq!(grants(one).find_page(text, at(1)).await, Ok(None));
            }
            let text = token.expose();
            let redeemed = grants(one).redeem(text, shown(), anybody(), &TERMS, at(1)).await;
            assert_eq!(redeemed.map(drop).unwrap_err(), NotRedeemed::Invalid);
        }
        let as_refresh = Secret::new(cookie.expose().replacen("sgp_", "sgr_", 1));
        for of in [RefreshOf::Session, client()] {
            assert_eq!(refresh_as(one, &as_refresh, of, 1).await.unwrap_err(), NotRefreshed::Invalid);
        }
        // Nor does a logout of one kind end a grant of another.
        let token = |text: &Secret| RefreshToken::parse(text.expose()).unwrap();
        let others = vec![
            Token::Refresh(token(&of_client)),
            Token::Refresh(token(&as_refresh)),
            Token::ClientRefresh(token(&session.refresh_token), CLIENT.into()),
            Token::ClientRefresh(token(&of_client), "another".into()),
        ];
        assert_eq!(grants(one).revoke(others, at(1)).await, Ok(None));
        assert_eq!(grants(one).find_page(cookie.expose(), at(1)).await, Ok(Some(page)));
        assert!(refresh_as(one, &session.refresh_token, RefreshOf::Session, 1).await.is_ok());
        let refreshed = refresh(one, &of_client, 1).await.unwrap();
        let its = vec![Token::ClientRefresh(token(&refreshed.refresh_token), CLIENT.into())];
        assert_eq!(grants(one).revoke(its, at(2)).await, Ok(Some(alice())));
        assert!(grants(one).is_revoked(refreshed.grant));
    }
}

#[tokio::test]
async fn a_login_at_the_pages_lasts_as_long_as_it_is_used_and_twelve_hours_at_most() {
    for (gateways, _directory) in each() {
        let (one, other) = (&gateways[0], gateways.last().unwrap());
        let (cookie, page, _) = grants(one).begin_page(&alice(), fingerprint(), at(0)).await.unwrap();
        assert_eq!((&page.principal, page.ends), (&alice(), at(12 * 3_600)));
        // At another gateway, which may not have heard of it.
        let found = |logins, now| grants(logins).find_page(cookie.expose(), at(now));
        assert_eq!(found(other, 0).await, Ok(Some(page.clone())));
        for now in (3_000..12 * 3_600).step_by(3_000) {
            assert_eq!(found(one, now).await, Ok(Some(page.clone())), "{now}");
        }
        assert_eq!(found(one, 12 * 3_600).await, Ok(None));

        let (idle, _, _) = grants(one).begin_page(&alice(), fingerprint(), at(0)).await.unwrap();
        assert_eq!(grants(one).find_page(idle.expose(), at(3_600)).await, Ok(None));
        let (left, page, _) = grants(one).begin_page(&alice(), fingerprint(), at(0)).await.unwrap();
        assert_eq!(grants(other).end_page(left.expose()).await, Ok(Some(alice())));
        assert_eq!(grants(other).find_page(left.expose(), at(1)).await, Ok(None));
        until("both know", || grants(one).is_revoked(page.grant)).await;
        assert_eq!(grants(one).find_page(left.expose(), at(1)).await, Ok(None));
        assert_eq!(grants(one).end_page(left.expose()).await, Ok(None));
    }
}

#[tokio::test]
async fn logins_at_the_pages_that_ended_leave_nothing_behind() {
    for (gateways, _directory) in each() {
        let one = &gateways[0];
        // As each second.
        grants(one).sweep(at(0));
        let mut ended = Vec::new();
        for now in 0..30 {
            let (cookie, page, _) = grants(one).begin_page(&alice(), fingerprint(), at(now)).await.unwrap();
            if now % 2 == 0 {
                grants(one).end_page(cookie.expose()).await.unwrap();
                ended.push(page.grant);
            }
        }
        grants(one).sweep(at(200));
        until("they are forgotten", || !ended.iter().any(|id| grants(one).is_revoked(*id))).await;
    }
}

#[tokio::test]
async fn what_was_allowed_is_listed_and_ended_by_whom_it_is_of() {
    for (gateways, _directory) in each() {
        let (one, other) = (&gateways[0], gateways.last().unwrap());
        let issued = begin(one, 0).await;
        until("the other has it", || grants(other).list(&alice(), at(0)).len() == 1).await;
        grants(one).note_use(issued.grant, at(3_600));
        let list = grants(one).list(&alice(), at(3_700));
        assert_eq!(list.len(), 1);
        assert_eq!((&list[0].kind, list[0].began, list[0].used), (&issued.kind, at(0), at(3_600)));
        // What is known of its use is written, and so the other gateway sees it.
        grants(one).sweep(at(3_700));
        until("the use is known", || grants(other).list(&alice(), at(3_700))[0].used == at(3_600)).await;

        let shown_id = &list[0].shown_id;
        let bob = Principal::User("bob".into());
        assert_eq!(grants(other).revoke_id(&bob, shown_id).await, Ok(None));
        assert_eq!(grants(other).revoke_id(&Principal::Token("alice".into()), shown_id).await, Ok(None));
        assert!(!grants(other).is_revoked(issued.grant));
        assert_eq!(grants(other).revoke_id(&alice(), shown_id).await, Ok(Some(issued.kind.clone())));
        assert!(grants(other).list(&alice(), at(3_700)).is_empty());
        until("both know", || grants(one).is_revoked(issued.grant)).await;
        assert_eq!(refresh(one, &issued.refresh_token, 3_701).await.unwrap_err(), NotRefreshed::Invalid);
        assert_eq!(grants(one).revoke_id(&alice(), shown_id).await, Ok(None));
    }
}

#[tokio::test]
async fn a_consent_is_remembered_until_it_is_taken_back_or_the_password_is_another() {
    for (gateways, _directory) in each() {
        let (one, other) = (&gateways[0], gateways.last().unwrap());
        let given = Consent {
            principal: alice(),
            fingerprint: fingerprint(),
            client_id: CLIENT.into(),
            redirect_uri: "https://client.example/cb".into(),
            resource: "https://mcp.example.com/db/mcp".into(),
            scope: "mcp tag:web".into(),
        };
        assert_eq!(grants(one).has_consent(given.clone(), ScopeTags::All, at(0)).await, Ok(false));
        grants(one).remember_consent(given.clone(), at(0)).await.unwrap();
        assert_eq!(grants(other).has_consent(given.clone(), ScopeTags::All, at(1)).await, Ok(true));
        let less = Consent { scope: "mcp".into(), ..given.clone() };
        assert_eq!(grants(other).has_consent(less.clone(), ScopeTags::All, at(1)).await, Ok(true));
        let another = Consent { fingerprint: Fingerprint::new([8; 8]), ..given.clone() };
        assert_eq!(grants(other).has_consent(another, ScopeTags::All, at(1)).await, Ok(false));
        assert_eq!(
            grants(other).has_consent(given.clone(), ScopeTags::All, at(366 * 86_400)).await,
            Ok(false)
        );

        let issued = begin(one, 1).await;
        let list = grants(one).list(&alice(), at(1));
        assert_eq!(grants(one).revoke_id(&alice(), &list[0].shown_id).await, Ok(Some(issued.kind)));
        assert_eq!(
            grants(other).has_consent(less, ScopeTags::All, at(2)).await,
            Ok(false),
            "they are asked again"
        );
    }
}

#[tokio::test]
async fn nobody_has_more_codes_grants_or_consents_than_one_may_have() {
    for (gateways, _directory) in each() {
        let one = &gateways[0];
        let codes = [code(one, 0).await, code(one, 1).await];
        for now in 2..21 {
            code(one, now).await;
        }
        assert_eq!(redeem(one, &codes[0], 21).await.unwrap_err(), NotRedeemed::Invalid, "used up");
        let first = redeem(one, &codes[1], 21).await.unwrap();
        for n in 0..100 {
            let client_id: Arc<str> = format!("https://client{n}.example/").into();
            let client = Arc::new(ClientGrant { client_id: Arc::clone(&client_id), ..(*client()).clone() });
            let new = NewCode { client, ..new_code() };
            let code = code_of(one, new, 22 + n).await;
            let shown = Redemption { client_id, ..shown() };
            grants(one).redeem(code.expose(), shown, anybody(), &TERMS, at(22 + n)).await.unwrap();
        }
        assert!(grants(one).is_revoked(first.grant));
        assert_eq!(grants(one).list(&alice(), at(122)).len(), 100);
        // Those of another kind have places of their own.
        let (session, _) = grants(one).begin(&"alice".into(), fingerprint(), &TERMS, at(0)).await.unwrap();
        assert!(grants(one).has(session.grant, at(122)));

        // Of somebody who has no codes.
        let consent = |n: u64| Consent {
            principal: Principal::User("bob".into()),
            fingerprint: fingerprint(),
            client_id: format!("https://client.example/{n}").into(),
            redirect_uri: "https://client.example/cb".into(),
            resource: "https://mcp.example.com".into(),
            scope: "mcp".into(),
        };
        for n in 0..101 {
            grants(one).remember_consent(consent(n), at(n)).await.unwrap();
        }
        for (n, is_there) in [(0, false), (1, true), (100, true)] {
            assert_eq!(
                grants(one).has_consent(consent(n), ScopeTags::All, at(101)).await,
                Ok(is_there),
                "{n}"
            );
        }
        let too_long = ClientGrant { client_id: "x".repeat(2_049).into(), ..(*client()).clone() };
        let too_long = NewCode { client: too_long.into(), ..new_code() };
        assert_eq!(grants(one).begin_code("x", too_long, at(0)).await.unwrap_err(), NoCode::TooLong);
    }
}

#[tokio::test]
async fn who_has_had_many_codes_is_asked_again() {
    for (gateways, _directory) in each() {
        let one = &gateways[0];
        let consent = Consent {
            principal: alice(),
            fingerprint: fingerprint(),
            client_id: client().client_id.clone(),
            redirect_uri: "https://client.example/cb".into(),
            resource: "https://mcp.example.com".into(),
            scope: "mcp".into(),
        };
        grants(one).remember_consent(consent.clone(), at(0)).await.unwrap();
        let is_asked =
            async || !grants(one).has_consent(consent.clone(), ScopeTags::All, at(100)).await.unwrap();
        for n in 0..100 {
            assert!(!is_asked().await, "{n}");
            code_of(one, new_code(), n / 10).await;
        }
        assert!(is_asked().await, "the other hundred are for what somebody clicks at");
        grants(one).sweep(at(10_000));
    }
}

#[tokio::test]
async fn a_code_that_was_used_is_remembered_however_many_come_after_it() {
    for (gateways, _directory) in each() {
        let one = &gateways[0];
        let asked = |request: &'static str| grants(one).begin_code(request, new_code(), at(0));
        let code = asked("first").await.unwrap();
        let issued = redeem(one, &code, 1).await.unwrap();
        let pushed_out = asked("second").await.unwrap();
        for n in 2..200 {
            code_of(one, new_code(), n / 10).await;
        }
        assert_eq!(asked("first").await.unwrap_err(), NoCode::Over);
        assert_eq!(asked("second").await.unwrap_err(), NoCode::Over, "though nobody came with it");
        assert_eq!(redeem(one, &pushed_out, 21).await.unwrap_err(), NotRedeemed::Invalid);
        assert_eq!(redeem(one, &code, 21).await.unwrap_err(), NotRedeemed::Replayed(alice()));
        assert!(grants(one).is_revoked(issued.grant));
        // As many as one may have; another one has as many.
        assert_eq!(asked("another").await.unwrap_err(), NoCode::Full);
        let bob = NewCode { principal: Principal::User("bob".into()), ..new_code() };
        grants(one).begin_code("of bob", bob, at(20)).await.unwrap();
    }
}

#[tokio::test]
async fn what_a_client_has_not_come_for_yet_ends_with_what_it_has() {
    for (gateways, _directory) in each() {
        let (one, other) = (&gateways[0], gateways.last().unwrap());
        let first = code(one, 0).await;
        let issued = redeem(one, &first, 1).await.unwrap();
        let waits = code(one, 2).await;
        let of_another = ClientGrant { client_id: "another".into(), ..(*client()).clone() };
        let of_another = code_of(one, NewCode { client: of_another.into(), ..new_code() }, 2).await;
        let shown_id = grants(one).list(&alice(), at(2))[0].shown_id.clone();
        assert_eq!(grants(one).revoke_id(&alice(), &shown_id).await, Ok(Some(issued.kind)));
        assert_eq!(redeem(other, &waits, 3).await.unwrap_err(), NotRedeemed::Invalid);
        let shown = Redemption { client_id: "another".into(), ..shown() };
        grants(other).redeem(of_another.expose(), shown, anybody(), &TERMS, at(3)).await.unwrap();
    }
}

#[tokio::test]
async fn grants_of_a_token_end_with_it_as_those_of_users_do() {
    for (gateways, _directory) in each() {
        let one = &gateways[0];
        let ci = Principal::Token("ci".into());
        let new = NewCode { principal: ci.clone(), ..new_code() };
        let code = code_of(one, new, 0).await;
        let (of_ci, of_alice) = (redeem(one, &code, 1).await.unwrap(), begin(one, 1).await);
        assert_eq!(of_ci.principal, ci);
        grants(one).keep(|principal, of, _| *principal == alice() && of == fingerprint());
        assert!(grants(one).is_revoked(of_ci.grant) && !grants(one).is_revoked(of_alice.grant));
        grants(one).keep(|_, of, _| of != fingerprint());
        assert!(grants(one).is_revoked(of_alice.grant));
    }
}

#[tokio::test]
async fn without_a_refresh_token_a_grant_is_over_with_its_access_token() {
    for (gateways, _directory) in each() {
        let one = &gateways[0];
        for (scopes, lasts) in [(&["offline_access"][..], false), (&["offline_access", "mcp"], true)] {
            let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
            let shown = Redemption { refresh_token_scopes: scopes, ..shown() };
            let code = code(one, 0).await;
            let redeemed = grants(one).redeem(code.expose(), shown, anybody(), &TERMS, at(0)).await;
            let issued = redeemed.unwrap().0;
            assert!(grants(one).has(issued.grant, at(3_599)));
            assert_eq!(grants(one).has(issued.grant, at(3_600)), lasts);
            let refreshed = refresh(one, &issued.refresh_token, 1).await;
            assert_eq!(refreshed.is_ok(), lasts);
        }
    }
}

#[test]
fn each_kind_has_its_own_byte() {
    let bytes = [KindTag::Session, KindTag::Page, KindTag::Client].map(|kind| kind as u8);
    assert_eq!(bytes, [1, 2, 3], "they are in tokens that are out there");
}

#[tokio::test]
async fn a_client_that_asks_again_and_again_takes_the_place_of_its_own_and_of_no_other() {
    let of_other =
        || Arc::new(ClientGrant { client_id: "https://other.example/client".into(), ..(*client()).clone() });
    for (gateways, _directory) in each() {
        let logins = &gateways[0];
        let new = NewCode { client: of_other(), ..new_code() };
        let redemption = Redemption { client_id: of_other().client_id.clone(), ..shown() };
        let begun = code_of(logins, new.clone(), 0).await;
        let (other, _) = grants(logins)
            .redeem(begun.expose(), redemption.clone(), anybody(), &TERMS, at(0))
            .await
            .unwrap();
        let waits = code_of(logins, new, 1).await;
        let mut last = None;
        for second in 2..150 {
            last = Some(begin(logins, second.min(30)).await);
        }
        assert!(grants(logins).has(last.unwrap().grant, at(31)));
        assert!(grants(logins).has(other.grant, at(31)) && !grants(logins).is_revoked(other.grant));
        let own = grants(logins)
            .list(&alice(), at(31))
            .into_iter()
            .filter_map(|grant| grant.kind.client().cloned());
        assert_eq!(own.filter(|client| *client.client_id == *CLIENT).count(), 10);
        let late = grants(logins).redeem(waits.expose(), redemption, anybody(), &TERMS, at(31)).await;
        assert!(late.is_ok(), "its code waited all the while");
    }
}
