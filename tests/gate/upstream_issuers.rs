//! The gateway as a client of an authorization server, on sockets: from a server that says where that is to a token that is over.

use std::sync::Arc;

use serde_json::json;
use sluicegate::{
    clock::Clock,
    config::UpstreamOauth,
    credentials::oauth::{
        AuthorizationAsk, Discovered, OauthError, OauthRefusal, Outgoing, Purpose, TokenAnswer, TokenKind,
        UpstreamClient, authorization_url, client, discover, redeem, refresh, revoke, scopes,
    },
    secret::Secret,
};
use test_support::upstream_issuer::{Documents, Iss, Tokens, UpstreamIssuer};
use tokio::net::TcpStream;
use url::Url;

use crate::harness::{Client, post, soon};

const REDIRECT: &str = "https://gate.example/oauth/callback/db";
/// RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

fn secret(text: &str) -> Secret {
    Secret::new(text.into())
}

/// The gateway, as far as it is a client of this one.
struct Asker<'a> {
    upstream: &'a UpstreamIssuer,
    outgoing: Outgoing,
    config: UpstreamOauth,
}

impl<'a> Asker<'a> {
    fn of(upstream: &'a UpstreamIssuer) -> Self {
        let config = UpstreamOauth { allows_private_issuers: true, ..UpstreamOauth::default() };
        Self { upstream, outgoing: Outgoing::new(Arc::new(Clock::default())), config }
    }

    async fn discover(&self) -> Result<Discovered, OauthError> {
        let server = self.upstream.url().parse().unwrap();
        soon("discovery", discover(&self.outgoing, &self.config, Purpose::Code, &server, None)).await
    }

    /// All up to the answer that the browser brings.
    async fn begin(&self) -> (Discovered, UpstreamClient, Url) {
        let discovered = self.discover().await.unwrap();
        let client =
            client(&self.outgoing, &self.config, &discovered, REDIRECT, None, "the gate").await.unwrap();
        let scopes = scopes(&self.config, &discovered, &[]);
        let resource = discovered.resource.as_deref();
        let ask = AuthorizationAsk {
            state: "st",
            challenge: CHALLENGE,
            redirect_uri: REDIRECT,
            scopes: &scopes,
            resource,
        };
        let url = authorization_url(&discovered, &self.config, &client, &ask).unwrap();
        let back = self.upstream.sends_back(url.as_str()).await;
        (discovered, client, format!("https://gate.example{back}").parse().unwrap())
    }

    async fn connect(&self) -> (Discovered, UpstreamClient, TokenAnswer) {
        let (discovered, client, back) = self.begin().await;
        assert!(discovered.is_answered_by(parameter(&back, "iss").as_deref()));
        let code = secret(&parameter(&back, "code").unwrap());
        let resource = discovered.resource.as_deref();
        let redeemed =
            redeem(&self.outgoing, &discovered, &client, &code, &secret(VERIFIER), REDIRECT, resource).await;
        (discovered, client, redeemed.unwrap())
    }

    async fn refresh(
        &self,
        discovered: &Discovered,
        client: &UpstreamClient,
        token: &Secret,
    ) -> Result<TokenAnswer, OauthError> {
        let resource = discovered.resource.as_deref();
        soon("a refresh", refresh(&self.outgoing, discovered, client, token, &[], resource)).await
    }
}

fn parameter(url: &Url, name: &str) -> Option<String> {
    url.query_pairs().find(|(other, _)| other == name).map(|(_, value)| value.into_owned())
}

/// What the server says to a call with this token: its status, and whose account it is.
async fn call(upstream: &UpstreamIssuer, token: &Secret) -> (u16, Option<String>) {
    let mut client = Client::new(TcpStream::connect(upstream.server).await.unwrap());
    let message =
        json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "whoami" } });
    client.send(post("/mcp", token.expose(), "", &message.to_string())).await;
    let status = client.response().await.0;
    (status, upstream.calls().pop().unwrap().account)
}

#[tokio::test]
async fn a_server_that_says_where_is_connected_to_and_its_tokens_are_good_until_they_are_over() {
    let upstream = UpstreamIssuer::start().await;
    upstream.wants("read write");
    upstream.at_browser("alice");
    let asker = Asker::of(&upstream);
    let (discovered, client, got) = asker.connect().await;
    assert_eq!(&*discovered.issuer, upstream.issuer());
    assert_eq!(got.scopes, Some(vec!["read".to_owned(), "write".to_owned()]), "of the challenge");
    assert_eq!(got.account.as_deref(), Some("alice@upstream.example"));
    assert_eq!(call(&upstream, &got.access).await, (200, Some("alice".into())));

    upstream.expires_access();
    assert_eq!(call(&upstream, &got.access).await, (401, None));
    let first = got.refresh.unwrap();
    let next = asker.refresh(&discovered, &client, &first).await.unwrap();
    assert_eq!(call(&upstream, &next.access).await, (200, Some("alice".into())));

    // It was good once. Whoever brings it again ends all that came of it.
    let again = asker.refresh(&discovered, &client, &first).await;
    assert_eq!(again.err(), Some(OauthError::Refused(OauthRefusal::InvalidGrant)));
    assert_eq!((call(&upstream, &next.access).await, upstream.reused()), ((401, None), 1));
    let late = asker.refresh(&discovered, &client, &next.refresh.unwrap()).await;
    assert_eq!(late.err(), Some(OauthError::Refused(OauthRefusal::InvalidGrant)));

    let (discovered, client, got) = asker.connect().await;
    let token = got.refresh.unwrap();
    revoke(&asker.outgoing, &discovered, &client, &token, TokenKind::Refresh).await.unwrap();
    assert_eq!(call(&upstream, &got.access).await, (401, None));
    assert_eq!((upstream.asked("/revoke"), upstream.asked("/register")), (1, 2));

    upstream.forgets_clients();
    let unknown = asker.refresh(&discovered, &client, &token).await;
    assert_eq!(unknown.err(), Some(OauthError::Refused(OauthRefusal::InvalidClient)));
}

#[tokio::test]
async fn an_authorization_server_that_is_not_well_costs_nothing_that_is_there() {
    let upstream = UpstreamIssuer::start().await;
    upstream.at_browser("alice");
    let asker = Asker::of(&upstream);
    let (discovered, client, got) = asker.connect().await;
    let token = got.refresh.unwrap();
    for (mood, is_for_now) in
        [(Tokens::Fails, true), (Tokens::Redirects, false), (Tokens::IsHuge, false), (Tokens::Babbles, false)]
    {
        upstream.tokens(mood.clone());
        match asker.refresh(&discovered, &client, &token).await {
            Err(OauthError::Unavailable(_)) if is_for_now => {}
            Err(OauthError::Broken(_)) if !is_for_now => {}
            other => panic!("{mood:?}: {other:?}"),
        }
    }
    assert_eq!(upstream.asked("/elsewhere"), 0);
    upstream.tokens(Tokens::Refuses("invalid_scope"));
    let refused = asker.refresh(&discovered, &client, &token).await.unwrap_err();
    assert_eq!(refused, OauthError::Refused(OauthRefusal::InvalidScope));
    assert!(!refused.reason().contains("canary"));
    upstream.tokens(Tokens::Gives);
    assert!(asker.refresh(&discovered, &client, &token).await.is_ok());
}

#[tokio::test]
async fn what_is_wrong_before_a_browser_is_sent_or_as_it_comes_back_is_seen() {
    let upstream = UpstreamIssuer::start().await;
    upstream.at_browser("alice");
    let asker = Asker::of(&upstream);
    for wrong in [Documents::WithoutPkce, Documents::OfOtherIssuer, Documents::OfOtherResource] {
        upstream.documents(wrong);
        assert!(matches!(asker.discover().await, Err(OauthError::Broken(_))), "{wrong:?}");
    }
    assert_eq!((upstream.asked("/register"), upstream.asked("/authorize")), (0, 0));
    upstream.documents(Documents::Right);
    for (iss, is_taken) in [(Iss::Right, true), (Iss::Wrong, false), (Iss::Missing, false)] {
        upstream.iss(iss);
        let (discovered, _, back) = asker.begin().await;
        assert_eq!(discovered.is_answered_by(parameter(&back, "iss").as_deref()), is_taken, "{iss:?}");
    }
    upstream.iss(Iss::Right);
    upstream.nobody_at_browser();
    let (_, _, back) = asker.begin().await;
    let refused = OauthError::of_answer(&parameter(&back, "error").unwrap());
    assert_eq!(refused, OauthError::Refused(OauthRefusal::AccessDenied));
    // A server that does not let everybody register, and one that may not be at a place of this network.
    upstream.registers(false);
    let discovered = asker.discover().await.unwrap();
    let none = client(&asker.outgoing, &asker.config, &discovered, REDIRECT, None, "the gate").await;
    assert!(matches!(none, Err(OauthError::Broken(_))));
    let config = UpstreamOauth { allows_private_issuers: false, ..asker.config.clone() };
    let before = upstream.asked("/.well-known/oauth-authorization-server");
    let strict = Asker { config, ..Asker::of(&upstream) };
    assert!(matches!(strict.discover().await, Err(OauthError::Broken(_))));
    assert_eq!(upstream.asked("/.well-known/oauth-authorization-server"), before);
}
