use super::*;
use crate::identity::{
    Principal,
    login::{access_token::AccessClaims, session_token::SessionClaims},
};

const NOW: u64 = 1_800_000_000;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn claims(keys: &Keys) -> SessionClaims {
    SessionClaims {
        user: "alice".into(),
        grant: GrantId::new([7; 16]),
        fingerprint: Fingerprint::of(keys, "$argon2id$…").unwrap(),
        issued: at(NOW),
        expires: at(NOW + 900),
        grant_ends: at(NOW + 86_400),
    }
}

#[test]
fn a_token_says_what_it_was_made_of_and_only_to_the_gateway_that_made_it() {
    let (keys, others) = (Keys::random().unwrap(), Keys::random().unwrap());
    let [sealer, other] = [&keys, &others].map(|keys| TokenSealer::<SessionClaims>::new(keys).unwrap());
    for user in ["a", "alice", &"é".repeat(64)] {
        let claims = SessionClaims { user: user.into(), ..claims(&keys) };
        let token = sealer.seal(&claims).unwrap();
        assert!(token.expose().starts_with("sgs_") && token.expose().len() <= 400);
        assert!(token.expose().bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
        assert_eq!(sealer.open(token.expose().as_bytes(), at(NOW)), Some(claims.clone()));
        assert_eq!(other.open(token.expose().as_bytes(), at(NOW)), None);
        assert_ne!(sealer.seal(&claims).unwrap(), token, "each has a nonce of its own");
    }
    let too_long = SessionClaims { user: "n".repeat(129).into(), ..claims(&keys) };
    assert_eq!(sealer.seal(&too_long), Err(NoKey));
}

#[test]
fn a_token_with_any_bit_changed_or_any_byte_missing_is_none() {
    let keys = Keys::random().unwrap();
    let sealer = TokenSealer::<SessionClaims>::new(&keys).unwrap();
    let token = sealer.seal(&claims(&keys)).unwrap();
    let bytes = URL_SAFE_NO_PAD.decode(&token.expose()[4..]).unwrap();
    let opened = |bytes: &[u8]| sealer.opened(format!("sgs_{}", URL_SAFE_NO_PAD.encode(bytes)).as_bytes());
    assert!(opened(&bytes).is_some());
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(opened(&changed), None, "bit {bit}");
    }
    for length in 0..bytes.len() {
        assert_eq!(opened(&bytes[..length]), None);
        assert_eq!(opened(&bytes[length + 1..]), None);
    }
    assert_eq!(opened(&[&bytes[..], b"x"].concat()), None);
    assert_eq!(opened(&[0; 4000]), None);
    for bad in ["", "sgs_", "sgs_!", "sgr_x", &token.expose()[4..], &token.expose().to_uppercase()] {
        assert_eq!(sealer.opened(bad.as_bytes()), None, "{bad}");
    }
}

#[test]
fn whatever_the_clock_does_no_token_opens_outside_of_its_time() {
    let keys = Keys::random().unwrap();
    let sealer = TokenSealer::<SessionClaims>::new(&keys).unwrap();
    let token = sealer.seal(&claims(&keys)).unwrap();
    let opens = |now| sealer.open(token.expose().as_bytes(), at(now)).is_some();
    for good in [NOW - 60, NOW, NOW + 899] {
        assert!(opens(good), "{good}");
    }
    for bad in [0, NOW - 400 * 86_400, NOW - 61, NOW + 900, NOW + 86_400, NOW + 400 * 86_400] {
        assert!(!opens(bad), "{bad}");
    }
    let beyond = SessionClaims { grant_ends: at(NOW + 10), ..claims(&keys) };
    let token = sealer.seal(&beyond).unwrap();
    assert!(sealer.open(token.expose().as_bytes(), at(NOW + 10)).is_none(), "the grant has ended");
}

#[test]
fn what_another_key_of_the_same_secret_seals_is_no_token() {
    let keys = Keys::random().unwrap();
    let sealer = TokenSealer::<SessionClaims>::new(&keys).unwrap();
    let key = keys.first(Purpose::Fingerprint).unwrap();
    let (id, _) = sealer.keys[0];
    let mut text = vec![0; FIXED + 5];
    let other = RandomizedNonceKey::new(&AES_256_GCM, &*key).unwrap();
    let nonce = other.seal_in_place_append_tag(Aad::from(Purpose::SessionToken.label()), &mut text).unwrap();
    let token = format!("sgs_{}", URL_SAFE_NO_PAD.encode([&id[..], nonce.as_ref(), &text].concat()));
    assert_eq!(sealer.opened(token.as_bytes()), None);
    // Nor is it one if it was sealed for something else by the same key.
    let key = keys.first(Purpose::SessionToken).unwrap();
    let mut text = vec![0; FIXED + 5];
    let same = RandomizedNonceKey::new(&AES_256_GCM, &*key).unwrap();
    let nonce = same.seal_in_place_append_tag(Aad::from("another purpose"), &mut text).unwrap();
    let token = format!("sgs_{}", URL_SAFE_NO_PAD.encode([&id[..], nonce.as_ref(), &text].concat()));
    assert_eq!(sealer.opened(token.as_bytes()), None);
}

fn access(keys: &Keys) -> AccessClaims {
    AccessClaims {
        vouched: None,
        principal: Principal::User("alice".into()),
        grant: GrantId::new([7; 16]),
        fingerprint: Fingerprint::of(keys, "$argon2id$…").unwrap(),
        client_id: "https://client.example/metadata.json".into(),
        resource: "https://mcp.example.com/db/mcp".into(),
        scope: "mcp".into(),
        issued: at(NOW),
        expires: at(NOW + 3_600),
        grant_ends: at(NOW + 86_400),
    }
}

#[test]
fn an_access_token_says_all_that_it_was_made_of_however_long_that_is() {
    let keys = Keys::random().unwrap();
    let sealer = TokenSealer::<AccessClaims>::new(&keys).unwrap();
    for (principal, client_id, scope) in [
        (Principal::User("alice".into()), "ops".to_owned(), ""),
        (Principal::Token("ci".into()), format!("sgc_{}", "x".repeat(1_900)), "mcp tag:web"),
        (Principal::User("n".repeat(128).into()), "y".repeat(2_048), "server:db"),
    ] {
        let claims =
            AccessClaims { principal, client_id: client_id.into(), scope: scope.into(), ..access(&keys) };
        let token = sealer.seal(&claims).unwrap();
        assert!(token.expose().starts_with("sga_") && token.expose().len() < 8 * 1024);
        assert_eq!(sealer.open(token.expose().as_bytes(), at(NOW)), Some(claims));
    }
    let usual = sealer.seal(&access(&keys)).unwrap().expose().len();
    assert!((170..=900).contains(&usual), "{usual}");
    let too_long = AccessClaims { scope: "s".repeat(5_000).into(), ..access(&keys) };
    assert_eq!(sealer.seal(&too_long), Err(NoKey));
}

#[test]
fn a_token_of_one_kind_is_none_of_the_other() {
    let keys = Keys::random().unwrap();
    let (sessions, accesses) =
        (TokenSealer::<SessionClaims>::new(&keys).unwrap(), TokenSealer::<AccessClaims>::new(&keys).unwrap());
    let (session, access) = (sessions.seal(&claims(&keys)).unwrap(), accesses.seal(&access(&keys)).unwrap());
    assert_eq!(accesses.opened(session.expose().as_bytes()), None);
    assert_eq!(sessions.opened(access.expose().as_bytes()), None);
    assert_eq!(accesses.opened(session.expose().replacen("sgs_", "sga_", 1).as_bytes()), None);
    assert_eq!(sessions.opened(access.expose().replacen("sga_", "sgs_", 1).as_bytes()), None);
}
