//! What is wrong with what servers and authorization servers say, and what comes of it: nothing that was had is lost, nothing is sent
//! where it should not be.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{played::*, *};
use crate::{config::UpstreamOauth, identity::foreign::source::NotFetched};

fn is_broken<T>(found: &Result<T, OauthError>) -> bool {
    matches!(found, Err(OauthError::Broken(_)))
}

#[tokio::test]
async fn metadata_of_another_resource_ends_it() {
    for other in [
        "https://evil.example/team/mcp",
        "http://mcp.example/team/mcp",
        "https://mcp.example:8443/team/mcp",
        "https://mcp.example/team/mcp/more",
        "https://mcp.example/tea",
        "https://mcp.example/other",
        "https://mcp.example/team/mcp?x=1",
        "https://mcp.example/team/mcp#x",
        "https://user@mcp.example/team/mcp",
        "urn:db",
        "",
    ] {
        let played = Played::new();
        played.world.has(OF_PATH, resource(json!({ "resource": other })));
        played.world.has(OF_ROOT, resource(json!({ "resource": "https://mcp.example" })));
        assert!(is_broken(&played.discover().await), "{other}");
        assert_eq!(played.world.places(), [SERVER, SERVER, OF_PATH], "{other}");
    }
    for prefix in [
        "https://mcp.example",
        "https://mcp.example/",
        "https://mcp.example/team",
        "https://mcp.example/team/",
        "https://MCP.example:443/team/mcp",
        "https://mcp.example/team/mcp/",
    ] {
        let played = Played::new();
        played.world.has(OF_PATH, resource(json!({ "resource": prefix })));
        assert_eq!(played.discover().await.unwrap().resource.as_deref(), Some(prefix));
    }
}

#[tokio::test]
async fn metadata_of_another_issuer_ends_it() {
    for other in [
        "https://login.example/",
        "https://LOGIN.example",
        "https://login.example:443",
        "https://evil.example",
    ] {
        let played = Played::new();
        played.world.has(OF_ISSUER, metadata(json!({ "issuer": other })));
        played.world.has("https://login.example/.well-known/openid-configuration", metadata(json!({})));
        assert!(is_broken(&played.discover().await), "{other}");
        assert_eq!(played.world.places().last().unwrap(), OF_ISSUER);
        // The one that a server of 2025-03-26 is itself.
        let played = Played::bare();
        played.world.has(
            "https://mcp.example/.well-known/oauth-authorization-server",
            metadata(json!({ "issuer": other })),
        );
        assert!(is_broken(&played.discover().await), "{other}");
    }
}

#[tokio::test]
async fn an_authorization_server_that_is_not_what_it_has_to_be_is_none() {
    for more in [
        json!({ "code_challenge_methods_supported": null }),
        json!({ "code_challenge_methods_supported": ["plain"] }),
        json!({ "token_endpoint": null }),
        json!({ "authorization_endpoint": null }),
        json!({ "authorization_endpoint": "javascript:alert(1)" }),
        json!({ "token_endpoint": "http://login.example/token" }),
        json!({ "token_endpoint": "https://user:secret@login.example/token" }),
        json!({ "token_endpoint": "https://login.example/token#x" }),
        json!({ "token_endpoint": "/token" }),
        json!({ "token_endpoint": "http://localhost:9/token" }),
    ] {
        let played = Played::new();
        played.world.has(OF_ISSUER, metadata(more.clone()));
        assert!(is_broken(&played.discover().await), "{more}");
    }
    for issuer in [
        "http://login.example",
        "http://127.0.0.1:9",
        "https://login.example?x",
        "https://login.example#x",
        "https://user@login.example",
        "file:///etc/passwd",
        "login",
        "",
    ] {
        let played = Played::new();
        played.world.has(OF_PATH, resource(json!({ "authorization_servers": [issuer] })));
        assert!(is_broken(&played.discover().await), "{issuer}");
        assert_eq!(played.world.places(), [SERVER, SERVER, OF_PATH], "{issuer}");
    }
    // It says who its issuer is, and that one says nothing: that is no server of 2025-03-26.
    let played = Played::bare();
    played.world.has(OF_PATH, resource(json!({})));
    assert!(is_broken(&played.discover().await));
    // What is not needed is not there.
    let played = Played::new();
    let odd = json!({ "registration_endpoint": "http://login.example/r", "revocation_endpoint": "ftp://x/" });
    played.world.has(OF_ISSUER, metadata(odd));
    let found = played.discover().await.unwrap();
    assert_eq!((found.registration, found.revocation), (None, None));
}

#[tokio::test]
async fn one_who_cannot_answer_is_not_taken_for_one_who_has_nothing() {
    let of_origin = "https://mcp.example/.well-known/oauth-authorization-server";
    for (place, more) in [(OF_PATH, 2), (OF_ROOT, 3), (of_origin, 4)] {
        for why in [NotFetched::Unreachable, NotFetched::Timeout, NotFetched::Failing, NotFetched::Busy] {
            let played = Played::bare();
            played.world.has(place, why);
            assert!(matches!(played.discover().await, Err(OauthError::Unavailable(_))), "{place} {why:?}");
            assert_eq!(played.world.places().len(), more + 1, "{place}");
        }
        let played = Played::bare();
        played.world.has(place, NotFetched::NotPublic);
        assert!(is_broken(&played.discover().await));
        // A page, or a way to one, is nothing.
        for why in [NotFetched::NotADocument, NotFetched::Redirect] {
            played.world.has(place, why);
            assert!(played.discover().await.is_ok());
        }
    }
}

#[tokio::test]
async fn what_a_server_names_is_a_strangers_word() {
    let place = |url: &str| format!("Bearer resource_metadata=\"{url}\"");
    // Without HTTPS nothing is asked at all; over HTTPS it has to be of the public Internet, which is seen where it is connected to.
    for local in [
        "http://127.0.0.1:8080/prm",
        "http://169.254.169.254/latest",
        "http://10.0.0.1/",
        "http://mcp.example/x",
    ] {
        let played = Played::new();
        *played.world.challenge.lock() = Some(place(local));
        assert!(is_broken(&played.discover().await), "{local}");
        assert_eq!(played.world.places(), [SERVER], "{local}");
    }
    let other = "https://10.0.0.1/prm";
    let mut played = Played::new();
    *played.world.challenge.lock() = Some(place(other));
    assert!(played.discover().await.is_ok());
    assert!(played.world.last(other).is_public && played.world.last(OF_ISSUER).is_public);
    played.config.allows_private_issuers = true;
    let found = played.discover().await.unwrap();
    assert!(!played.world.last(other).is_public && !played.world.last(OF_ISSUER).is_public);
    assert_eq!(found.reach(&found.token), Reach::Anywhere);
    for (local, is_asked) in [("http://127.0.0.1:8080/prm", true), ("http://10.0.0.1/prm", false)] {
        *played.world.challenge.lock() = Some(place(local));
        assert_eq!(played.discover().await.is_ok(), is_asked);
        assert_eq!(!played.world.asked(local).is_empty(), is_asked);
    }
}

#[tokio::test]
async fn a_server_that_is_asked_over_plain_http_gets_no_codes_so() {
    for (server, is_good) in [("http://mcp.example/mcp", false), ("http://127.0.0.1:9/mcp", true)] {
        let mut played = Played::bare();
        played.server = server.parse().unwrap();
        assert_eq!(played.discover().await.is_ok(), is_good, "{server}");
    }
}

#[tokio::test]
async fn what_comes_of_a_registration_is_a_client_or_none() {
    for answer in [
        (400, json!({ "error": "invalid_redirect_uri" })),
        (401, json!({})),
        (200, json!({})),
        (200, json!({ "client_id": "" })),
        (200, json!({ "client_id": "a\nb" })),
        (200, json!({ "client_id": "x".repeat(4096) })),
        (200, json!({ "client_id": "c", "client_secret": "x".repeat(9000) })),
        (200, json!({ "client_id": "c", "token_endpoint_auth_method": "tls_client_auth" })),
        (200, json!([])),
    ] {
        let played = Played::new();
        played.world.has(REGISTER, answer.clone());
        assert!(is_broken(&played.client().await), "{answer:?}");
    }
    let played = Played::new();
    played.world.has(REGISTER, NotFetched::Failing);
    assert!(matches!(played.client().await, Err(OauthError::Unavailable(_))));
    // Where there is no way to be a client, that is said.
    let no_way = async |change: fn(&mut UpstreamOauth), more: Value| {
        let mut played = Played::new();
        change(&mut played.config);
        played.world.has(OF_ISSUER, metadata(more));
        played.world.has(REGISTER, json!({ "client_id": "c" }));
        let client = played.client().await;
        assert!(played.world.asked(REGISTER).is_empty() && is_broken(&client));
    };
    no_way(|config| config.registers = false, json!({})).await;
    no_way(|_| {}, json!({ "registration_endpoint": null })).await;
    let key = |config: &mut UpstreamOauth| {
        config.client_id = Some("gate".into());
        config.client_key.private_key = Some(secret("no key"));
    };
    no_way(key, json!({ "token_endpoint_auth_methods_supported": ["private_key_jwt"] })).await;
}

#[tokio::test]
async fn what_a_token_endpoint_says_no_with_is_known_or_costs_nothing() {
    use OauthRefusal::*;
    let played = Played::new();
    for (status, error, refusal) in [
        (400, "invalid_grant", InvalidGrant),
        (401, "invalid_client", InvalidClient),
        (400, "unauthorized_client", UnauthorizedClient),
        (400, "invalid_scope", InvalidScope),
        (400, "invalid_target", InvalidTarget),
        (403, "access_denied", AccessDenied),
        (200, "bad_refresh_token", InvalidGrant),
        (400, "interaction_required", InteractionRequired),
        (400, "<script>", Other),
    ] {
        let refused = OauthError::Refused(refusal);
        let answer = json!({ "error": error, "error_description": "canary", "error_uri": "https://canary" });
        assert_eq!(played.refresh((status, answer.clone())).await.err(), Some(refused), "{error}");
        assert_eq!(played.redeem((status, answer)).await.err(), Some(refused), "{error}");
        assert!(!refused.reason().contains("canary") && !refused.reason().contains("script"));
    }
    for answer in [
        Answer::from((400, json!({ "error": "temporarily_unavailable" }))),
        NotFetched::Failing.into(),
        NotFetched::Unreachable.into(),
        NotFetched::Timeout.into(),
    ] {
        assert!(matches!(played.refresh(answer).await, Err(OauthError::Unavailable(_))));
    }
    for answer in [
        Answer::from((401, json!({}))),
        (403, json!({})).into(),
        json!([]).into(),
        Answer::Json(200, "<html>".into()),
        Answer::Json(200, format!("{{\"access_token\":\"{}\"}}", "x".repeat(70_000))),
        NotFetched::Redirect.into(),
        NotFetched::NotPublic.into(),
    ] {
        assert!(is_broken(&played.refresh(answer).await), "nothing is lost by it");
    }
    let long = json!({ "access_token": "x".repeat(8193), "token_type": "Bearer" });
    assert!(is_broken(&played.redeem(long).await));
}

#[tokio::test]
async fn what_one_issuer_gave_is_never_shown_to_another() {
    let played = Played::new();
    played.world.has(TOKEN, tokens());
    let discovered = played.discover().await.unwrap();
    let other = UpstreamClient { issuer: "https://other.example".into(), ..confidential() };
    let (code, resource) = (secret("c"), Some(SERVER));
    let redeemed = redeem(&played.outgoing, &discovered, &other, &code, &code, REDIRECT, resource).await;
    let refreshed = refresh(&played.outgoing, &discovered, &other, &code, &[], resource).await;
    assert!(is_broken(&redeemed) && is_broken(&refreshed));
    assert!(played.world.asked(TOKEN).is_empty());
    for bad in [String::new(), "x".repeat(8193)] {
        let code = secret(&bad);
        let redeemed =
            redeem(&played.outgoing, &discovered, &confidential(), &code, &code, REDIRECT, resource).await;
        assert!(is_broken(&redeemed) && played.world.asked(TOKEN).is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn who_hangs_is_waited_for_and_keeps_nobody_from_others() {
    let played = Played::new();
    let other = "https://other.example/token";
    let discovered = played.discover().await.unwrap();
    let elsewhere = Discovered { token: other.parse().unwrap(), ..discovered.clone() };
    played.world.has(TOKEN, Answer::Never);
    played.world.has(other, tokens());
    played.world.asked.lock().clear();
    let (client, scopes) = (confidential(), []);
    let began = Instant::now();
    let token = secret("rt");
    let asking = |discovered| refresh(&played.outgoing, discovered, &client, &token, &scopes, None);
    let hanging: Vec<_> = (0..20).map(|_| Box::pin(asking(&discovered))).collect();
    let mut hanging = hanging;
    let all = async {
        for one in &mut hanging {
            // Each is begun before one of them is waited for.
            assert!(tokio::time::timeout(Duration::ZERO, one).await.is_err());
        }
        assert_eq!(played.world.asked(TOKEN).len(), 4, "so many at one place");
        assert!(asking(&elsewhere).await.is_ok(), "others are asked meanwhile");
        for one in &mut hanging {
            assert!(matches!(one.await, Err(OauthError::Unavailable(_))));
        }
    };
    all.await;
    // What was sent is not cut off while the issuer may be at it, and each has its turn in the end.
    assert!(began.elapsed() >= Duration::from_secs(40) && began.elapsed() <= Duration::from_secs(20 * 40));
    assert_eq!(played.outgoing.places(), 0);
    // A revocation is not waited for as long.
    played.world.has("https://login.example/revoke", Answer::Never);
    let began = Instant::now();
    let revoked = revoke(&played.outgoing, &discovered, &client, &token, TokenKind::Access).await;
    assert!(revoked.is_err() && began.elapsed() < Duration::from_secs(6));
}
