//! Somebody looks at what they let in, and takes it back; an operator looks at what others let in. Nobody else does.

use serde_json::json;
use sluicegate::{
    identity::{
        Principal,
        login::grants::{ClientGrant, NewCode, Redemption},
    },
    oauth::flow::new_name,
};
use test_support::{
    browser::{self, BASE, Browser, Got},
    tls::Identity,
    users::{CHEAP_HASHES, PASSWORD},
};

use crate::harness::{CI, DEV, Gate};

struct World {
    gate: Gate,
    tls: Identity,
}

impl World {
    async fn start() -> Self {
        let tls = Identity::new();
        let mut config = browser::config(&tls, &json!({ "db": { "url": "http://127.0.0.1:9/" } }));
        config["proxy"]["auth"]["users"]["root"] =
            json!({ "passwordHash": CHEAP_HASHES[1], "roles": ["admin"] });
        config["proxy"]["audit"] = json!({});
        let gate = Gate::start(config).await;
        Self { gate, tls }
    }

    async fn signed_in(&self, fields: &[(&str, &str)]) -> Browser<'_> {
        let mut browser = Browser::new(&self.gate, &self.tls);
        let page = browser.get("/oauth/login").await;
        let csrf = page.hidden("csrf");
        let mut form = vec![("csrf", csrf.as_str())];
        form.extend(fields);
        let got = browser.submit("/oauth/login", &form).await;
        assert_eq!(got.leads_to().as_deref(), Some("/oauth"), "{got:?}");
        browser
    }

    async fn user(&self, name: &str) -> Browser<'_> {
        self.signed_in(&[("username", name), ("password", PASSWORD)]).await
    }

    /// Somebody lets a program in.
    async fn let_in(&self, principal: &str, client: &str) {
        let shared = self.gate.gateway.shared();
        let live = shared.live().clone();
        let grants = shared.logins.grants().unwrap();
        let principal: Principal = principal.parse().unwrap();
        let slot = live.callers.iter().position(|caller| caller.identity.principal == principal).unwrap();
        let now = live.clock.now();
        let client = ClientGrant {
            client_id: "sgc_client".into(),
            client_name: client.into(),
            redirect_host: "claude.ai".into(),
            resource: format!("{BASE}/db").into(),
            scope: "mcp".into(),
        };
        let new = NewCode {
            principal,
            fingerprint: live.fingerprint(slot).unwrap(),
            client: client.into(),
            redirect_uri: "https://claude.ai/x".into(),
            challenge: [7; 32],
        };
        let code = grants.begin_code(&new_name().unwrap(), new, now).await.unwrap();
        let shown = Redemption {
            client_id: "sgc_client".into(),
            redirect_uri: Some("https://claude.ai/x".into()),
            challenge_of_verifier: Some([7; 32]),
            refresh_token_scopes: Vec::new(),
        };
        let terms = &live.config.login_terms;
        grants.redeem(code.expose(), shown, Box::new(|_, _, _| Ok(())), terms, now).await.unwrap();
    }
}

/// Where a form goes, and its fields.
type Form = (String, [(&'static str, String); 2]);

async fn send(browser: &mut Browser<'_>, (target, fields): &(String, [(&'static str, String); 2])) -> Got {
    let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    browser.submit(target, &fields).await
}

#[tokio::test]
async fn a_user_sees_what_they_let_in_and_takes_it_back() {
    let world = World::start().await;
    world.let_in("user:alice", "Claude").await;
    world.let_in("user:alice", "<b>Cursor\u{202e}").await;
    world.let_in("user:root", "Codex").await;
    let mut alice = world.user("alice").await;
    let page = alice.get("/oauth").await;
    assert_eq!(page.status, 200);
    for shown in
        ["Claude", "&#60;b&#62;Cursor⟨U+202E⟩", "claude.ai", "mcp", "https://mcp.example.com/db", "alice"]
    {
        assert!(page.body.contains(shown), "{shown}: {}", page.body);
    }
    assert!(!page.body.contains("Codex") && !page.body.contains("of others"), "{}", page.body);
    assert_eq!(alice.get("/my/tokens").await.status, 200);
    let gone = send(&mut alice, &page.revocation("Claude")).await;
    assert_eq!(gone.leads_to().as_deref(), Some("/oauth?did=revoked"), "{gone:?}");
    let page = alice.get("/oauth?did=revoked").await;
    assert!(page.body.contains("role=\"status\"") && !page.body.contains("Revoke Claude"), "{}", page.body);
    assert!(page.body.contains("Cursor"));
    let shared = world.gate.gateway.shared();
    let now = shared.live().clock.now();
    let left = shared.logins.grants().unwrap().list(&"user:alice".parse().unwrap(), now);
    let left: Vec<_> = left.iter().filter_map(|grant| grant.kind.client()).collect();
    assert_eq!(left.len(), 1, "the page is another one, and stays");
    assert!(left[0].client_name.contains("Cursor"));
}

#[tokio::test]
async fn an_operator_sees_what_others_let_in_and_never_a_value() {
    let world = World::start().await;
    world.let_in("user:alice", "Claude").await;
    world.let_in("token:ci", "nightly").await;
    let mut root = world.user("root").await;
    let page = root.get("/oauth").await;
    for shown in
        ["No program has been let in.", "Applications of others", "Claude", "nightly", "the token ci"]
    {
        assert!(page.body.contains(shown), "{shown}: {}", page.body);
    }
    for secret in ["sgr_", "sga_", "sgp_", CI, DEV] {
        assert!(!page.body.contains(secret), "{secret}");
    }
    let gone = send(&mut root, &page.revocation("nightly")).await;
    assert_eq!(gone.leads_to().as_deref(), Some("/oauth?did=revoked"), "{gone:?}");
    assert!(!root.get("/oauth").await.body.contains("nightly"));
    let by_root = [("verdict", json!("allow")), ("principal", json!("user:root"))];
    let path = ("path", json!("/oauth/grants/…/revoke"));
    world.gate.log.line("Audit", &[&by_root[..], &[path]].concat()).await;
    // A token that logs in at the page has a page of its own.
    let mut ci = world.signed_in(&[("token", CI)]).await;
    let page = ci.get("/oauth").await;
    assert!(page.body.contains("the token ci") && !page.body.contains("Claude"), "{}", page.body);
}

#[tokio::test]
async fn nothing_is_revoked_by_who_may_not_or_by_a_form_of_somebody_else() {
    let world = World::start().await;
    world.let_in("user:alice", "Claude").await;
    world.let_in("user:root", "Codex").await;
    let (mut alice, mut root) = (world.user("alice").await, world.user("root").await);
    let own = alice.get("/oauth").await.revocation("Claude");
    let page = root.get("/oauth").await;
    let (of_root, of_alice_by_root) = (page.revocation("Codex"), page.revocation("Claude"));
    let with = |(target, fields): &Form, name, value: &str| {
        let fields = fields.clone().map(|(other, old)| match other == name {
            true => (other, value.to_owned()),
            false => (other, old),
        });
        (target.clone(), fields)
    };
    let mut stranger = Browser::new(&world.gate, &world.tls);
    let got = stranger.get("/oauth").await;
    assert_eq!(got.leads_to().as_deref(), Some("/oauth/login"));
    assert_eq!(send(&mut stranger, &own).await.leads_to().as_deref(), Some("/oauth/login"));
    for form in [
        of_root.clone(),
        of_alice_by_root.clone(),
        with(&own, "csrf", ""),
        with(&own, "account", "user:root"),
        with(&own, "csrf", &of_root.1[0].1),
        (of_root.0.clone(), own.1.clone()),
        ("/oauth/grants/x/y/revoke".into(), own.1.clone()),
        ("/oauth/grants/x".into(), own.1.clone()),
    ] {
        let got = send(&mut alice, &form).await;
        assert_eq!((got.status, got.leads_to()), (400, None), "{form:?}");
    }
    let fields: Vec<_> = own.1.iter().map(|(name, value)| (*name, value.as_str())).collect();
    for origin in [None, Some("null"), Some("https://evil.example"), Some("http://mcp.example.com")] {
        assert_eq!(alice.submit_from(&own.0, &fields, origin).await.status, 403, "{origin:?}");
        assert_eq!(alice.submit_from("/oauth/logout", &fields, origin).await.status, 403, "{origin:?}");
    }
    assert!(alice.get("/oauth").await.body.contains("Claude"));
    assert!(root.get("/oauth").await.body.contains("Codex"));
}

#[tokio::test]
async fn who_signs_out_is_out_also_with_the_cookie_of_before() {
    let world = World::start().await;
    let mut alice = world.user("alice").await;
    let page = alice.get("/oauth").await;
    assert!(page.head.contains("cross-origin-opener-policy: same-origin"), "{}", page.head);
    let before = alice.cookies.clone();
    let refused = alice.submit("/oauth/logout", &[("csrf", "x")]).await;
    assert_eq!(refused.status, 400);
    assert_eq!(alice.get("/oauth").await.status, 200);
    let csrf = page.hidden("csrf");
    let out = alice.submit("/oauth/logout", &[("csrf", &csrf)]).await;
    assert_eq!(out.leads_to().as_deref(), Some("/oauth/login"), "{out:?}");
    assert!(!alice.cookies.contains_key("__Host-sg-login"));
    let by_alice = [("verdict", json!("allow")), ("principal", json!("user:alice"))];
    let path = ("path", json!("/oauth/logout"));
    world.gate.log.line("Audit", &[&by_alice[..], &[path]].concat()).await;
    alice.cookies = before;
    assert_eq!(alice.get("/oauth").await.leads_to().as_deref(), Some("/oauth/login"));
}

#[tokio::test]
async fn who_is_no_operator_any_more_revokes_nothing_of_others_and_the_audit_says_who_tried() {
    let mut world = World::start().await;
    world.let_in("user:alice", "Claude").await;
    let (cookies, form) = {
        let mut root = world.user("root").await;
        let page = root.get("/oauth").await;
        (root.cookies.clone(), page.revocation("Claude"))
    };
    let mut config = browser::config(&world.tls, &json!({ "db": { "url": "http://127.0.0.1:9/" } }));
    config["proxy"]["auth"]["users"]["root"] = json!({ "passwordHash": CHEAP_HASHES[1] });
    config["proxy"]["audit"] = json!({});
    world.gate.reload(config);
    let mut root = Browser::new(&world.gate, &world.tls);
    root.cookies = cookies;
    assert_eq!(send(&mut root, &form).await.status, 400);
    let denied = [("verdict", json!("deny")), ("principal", json!("user:root"))];
    let reason = ("reason", json!("insufficient_scope"));
    world.gate.log.line("Audit", &[&denied[..], &[reason]].concat()).await;
    assert!(world.user("alice").await.get("/oauth").await.body.contains("Revoke Claude"));
}
