use crate::mcp::seal::*;

const DEV: SessionOwner<'_> = SessionOwner::Token("dev");

fn key() -> SessionKey {
    SessionKey::from_secret(&Secret::new("a secret of two nodes".into()))
}

fn sealed(id: &str) -> Vec<u8> {
    key().seal("db", DEV, id.as_bytes()).unwrap().as_bytes().to_vec()
}

/// Everyone who is not `dev` on `db`, and every pair whose names run together to the same text.
const OTHERS: [(&str, SessionOwner<'_>); 10] = [
    ("db", SessionOwner::Token("ci")),
    ("db", SessionOwner::Token("")),
    ("db", SessionOwner::Nobody),
    ("db", SessionOwner::User("dev")),
    ("db", SessionOwner::User("")),
    ("files", DEV),
    ("dbd", SessionOwner::Token("ev")),
    ("d", SessionOwner::Token("bdev")),
    ("", SessionOwner::Token("dbdev")),
    ("dbdev", SessionOwner::Nobody),
];

#[test]
fn the_caller_gets_back_what_the_upstream_named() {
    let presented = sealed("a1b2-c3");
    assert_eq!(presented.len(), 22 + 7);
    assert!(presented.ends_with(b"a1b2-c3"));
    assert_eq!(key().open("db", DEV, &presented), Some(&b"a1b2-c3"[..]));
    assert!(key().seal("db", DEV, b"a1b2-c3").unwrap().is_sensitive(), "it is not for logs");
}

#[test]
fn every_visible_character_may_be_in_an_id_and_nothing_else() {
    for byte in 0..=255u8 {
        let id = [b'x', byte];
        match key().seal("db", DEV, &id) {
            Ok(sealed) => {
                assert!((0x21..=0x7E).contains(&byte));
                assert_eq!(key().open("db", DEV, sealed.as_bytes()), Some(&id[..]));
            }
            Err(InvalidSessionId) => assert!(!(0x21..=0x7E).contains(&byte)),
        }
    }
    assert_eq!(key().seal("db", DEV, b"").unwrap_err(), InvalidSessionId);
}

#[test]
fn nobody_else_can_use_it_and_not_on_another_server() {
    let presented = sealed("id");
    for (server, owner) in OTHERS {
        assert_eq!(key().open(server, owner, &presented), None, "{server} {owner:?}");
        let theirs = key().seal(server, owner, b"id").unwrap();
        assert_eq!(key().open("db", DEV, theirs.as_bytes()), None, "{server} {owner:?}");
        assert_eq!(key().open(server, owner, theirs.as_bytes()), Some(&b"id"[..]));
    }
}

#[test]
fn a_changed_bit_anywhere_or_a_missing_end_makes_it_worthless() {
    let presented = sealed("some-session-id");
    for at in 0..presented.len() {
        for bit in 0..8 {
            let mut forged = presented.clone();
            forged[at] ^= 1 << bit;
            assert_eq!(key().open("db", DEV, &forged), None, "bit {bit} of byte {at}");
        }
        assert_eq!(key().open("db", DEV, &presented[..at]), None, "cut to {at} bytes");
        assert_eq!(key().open("db", DEV, &presented[at + 1..]), None, "without {at} bytes");
    }
    assert_eq!(key().open("db", DEV, &[&presented[..], b"x"].concat()), None);
    assert_eq!(key().open("db", DEV, b"some-session-id"), None, "the upstream's own id");
}

#[test]
fn a_second_node_with_the_same_secret_knows_it_and_a_restart_without_one_does_not() {
    let other = SessionKey::from_secret(&Secret::new("another secret".into()));
    assert!(key().open("db", DEV, &sealed("id")).is_some());
    assert!(other.open("db", DEV, &sealed("id")).is_none());

    let first = SessionKey::random().unwrap();
    let presented = first.seal("db", DEV, b"id").unwrap();
    assert!(first.clone().open("db", DEV, presented.as_bytes()).is_some());
    assert!(SessionKey::random().unwrap().open("db", DEV, presented.as_bytes()).is_none());
}

#[test]
fn the_format_is_fixed_because_nodes_of_two_versions_share_sessions() {
    // HMAC-SHA256 with key SHA-256("sluicegate session key v1\0" + secret), worked out with another implementation.
    assert_eq!(sealed("id"), b"0RQ_uIDKN8x8AedMxabutwid");
    assert_eq!(
        key().seal_message("db", DEV, "/m", Some("a=1")),
        "/db/message?a=1&sluicegate=K7nkFUB-se5AYu8OrbrXhQL20"
    );
}

fn open_message(query: &str) -> Option<String> {
    key().open_message("db", DEV, query)
}

/// The query of the message URL for this upstream URL.
fn sealed_query(path: &str, query: Option<&str>) -> String {
    let url = key().seal_message("db", DEV, path, query);
    url.strip_prefix("/db/message?").unwrap().to_owned()
}

#[test]
fn a_message_url_leads_back_to_the_upstreams_own() {
    for (path, query, upstream) in [
        ("/message", Some("sessionId=7"), "/message?sessionId=7"),
        ("/messages/", Some("session_id=a%2Fb+c&x"), "/messages/?session_id=a%2Fb+c&x"),
        ("/m", None, "/m"),
        ("/m", Some(""), "/m?"),
        ("/", Some("sluicegate=1"), "/?sluicegate=1"),
        ("/", Some("a&sluicegate=1&sluicegate=2"), "/?a&sluicegate=1&sluicegate=2"),
    ] {
        let sealed = sealed_query(path, query);
        assert_eq!(open_message(&sealed).as_deref(), Some(upstream));
        if let Some(query) = query {
            assert!(sealed.starts_with(&format!("{query}&sluicegate=")), "the query stays as it is");
        }
    }
}

#[test]
fn a_message_url_serves_no_one_else() {
    let query = sealed_query("/message", Some("sessionId=7"));
    for (server, owner) in OTHERS {
        assert_eq!(key().open_message(server, owner, &query), None, "{server} {owner:?}");
    }
}

#[test]
fn nothing_in_a_message_url_can_be_changed() {
    for upstream_query in [Some("sessionId=7"), None] {
        let query = sealed_query("/message", upstream_query);
        for at in 0..query.len() {
            for byte in [b'A', b'0', b'&', b'=', b'%'] {
                let mut forged = query.clone().into_bytes();
                forged[at] = byte;
                let forged = String::from_utf8(forged).unwrap();
                assert!(forged == query || open_message(&forged).is_none(), "{forged}");
            }
            assert_eq!(open_message(&query[..at]), None);
            assert_eq!(open_message(&query[at + 1..]), None);
        }
        assert_eq!(open_message(&format!("{query}&x=1")), None);
        assert_eq!(open_message(&format!("x=1&{query}")), None);
        assert_eq!(open_message(&format!("&{query}")), None);
    }
    for query in
        ["", "sluicegate=", "&sluicegate=", "sessionId=7", "sluicegate=éééééééééééé", "sluicegate=aé"]
    {
        assert_eq!(open_message(query), None, "{query:?}");
    }
}

#[test]
fn what_a_client_escapes_on_its_own_does_not_break_the_seal() {
    let sealed = sealed_query("/m", Some("q='a'|{b}\"<[c]>"));
    let escaped = sealed.replace('\'', "%27").replace('"', "%22").replace('<', "%3C").replace('>', "%3E");
    assert_eq!(open_message(&escaped).as_deref(), Some("/m?q=%27a%27|{b}%22%3C[c]%3E"));

    let sealed = sealed_query("/m", Some("q=a%26b"));
    assert_eq!(open_message(&sealed.replace("%26", "&")), None, "an escape that matters is not undone");
}

#[test]
fn a_session_id_is_no_message_url_and_the_key_does_not_show() {
    let id = sealed("x");
    let mac = str::from_utf8(&id[..22]).unwrap();
    assert_eq!(open_message(&format!("sluicegate={mac}{}", URL_SAFE_NO_PAD.encode("x"))), None);
    assert_eq!(format!("{:?}", key()), "SessionKey(…)");
}

#[test]
fn what_a_client_puts_behind_a_sealed_query_is_told_from_what_is_the_servers() {
    for (query, up_to, behind) in [
        ("a=1&sluicegate=xyz", "a=1&sluicegate=xyz", ""),
        ("a=1&sluicegate=xyz&token=t", "a=1&sluicegate=xyz", "token=t"),
        ("sluicegate=xyz&token=t&b", "sluicegate=xyz", "token=t&b"),
        ("sluicegate=xyz", "sluicegate=xyz", ""),
        // A server may use the same names; the gateway's is the last.
        ("token=s&sluicegate=1&sluicegate=2&&token=t", "token=s&sluicegate=1&sluicegate=2", "token=t"),
        // Nothing is sealed here.
        ("token=t&a=1", "", "token=t&a=1"),
        ("xsluicegate=1&a=1", "", "xsluicegate=1&a=1"),
        ("", "", ""),
    ] {
        assert_eq!((up_to_seal(query), behind_seal(query)), (up_to, behind), "{query}");
    }
    for query in [None, Some("token=s&a")] {
        let sealed = sealed_query("/m", query);
        let sent = format!("{sealed}&token=t");
        assert_eq!((up_to_seal(&sent), behind_seal(&sent)), (&sealed[..], "token=t"));
        assert!(open_message(up_to_seal(&sent)).is_some());
    }
}

#[test]
fn a_credential_has_a_name_that_says_nothing_of_it() {
    let digest = [7; 32];
    let name = key().name_of_credential(&digest);
    // Nodes with the same secret log the same name. Worked out with another implementation.
    assert_eq!(name, "Ax2H3Gxe");
    assert_ne!(key().name_of_credential(&[8; 32]), name);
    let other = SessionKey::from_secret(&Secret::new("another secret".into()));
    assert_ne!(other.name_of_credential(&digest), name, "without the key it cannot be worked out");
}

#[test]
fn a_request_that_comes_back_is_that_of_its_caller_and_of_this_hour() {
    let (alice, digest) = (SessionOwner::User("alice"), [7; 32]);
    let sealed = key().seal_request("github", alice, &digest, 1_000);
    let opens = |server, owner, digest: [u8; 32], now, sealed: &str| {
        key().opens_request(server, owner, &digest, now, sealed)
    };
    assert!(opens("github", alice, digest, 999, &sealed));
    assert!(!opens("github", alice, digest, 1_000, &sealed), "its time is over");
    assert!(!opens("gitlab", alice, digest, 999, &sealed));
    assert!(!opens("github", SessionOwner::User("bob"), digest, 999, &sealed));
    assert!(!opens("github", SessionOwner::Token("alice"), digest, 999, &sealed));
    assert!(!opens("github", alice, [8; 32], 999, &sealed), "another call");
    let longer = sealed.replacen("1000", "2000", 1);
    for wrong in [&*longer, "", ".", "1000", "1000.", "x.y"] {
        assert!(!opens("github", alice, digest, 999, wrong), "{wrong}");
    }
}
