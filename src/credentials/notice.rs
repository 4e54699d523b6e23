//! What a client is told of a server whose credential is missing, from what the config says of it.

use std::sync::Arc;

use url::form_urlencoded;

use super::ready::Missing;
use crate::{
    config::{Awaiting, UpstreamAuth},
    mcp::connect::{AccountState, ConnectNotice, Wanted},
};

/// What is told of the server of this name. `base` is the URL of the gateway, without a slash at its end.
pub fn notice(
    server: &Arc<str>,
    auth: &UpstreamAuth,
    base: Option<&str>,
    missing: &Missing,
) -> ConnectNotice {
    let name: String = form_urlencoded::byte_serialize(server.as_bytes()).collect();
    let shown = auth.shown();
    let (wants, url) = match (auth, missing) {
        (_, Missing::NoSubject(why)) => (Wanted::OtherToken(why), None),
        (UpstreamAuth::UserToken(token), _) => (
            Wanted::Token { instructions: token.instructions.clone() },
            base.map(|base| format!("{base}/my/tokens#{name}").into()),
        ),
        (UpstreamAuth::UserOauth(oauth) | UpstreamAuth::SharedOauth(oauth), missing) => {
            let (state, scopes) = match missing {
                Missing::Scopes(scopes) => (AccountState::NeedsScopes, scopes),
                Missing::Reconnect => (AccountState::Reconnect, &oauth.scopes),
                Missing::Awaiting | Missing::Token | Missing::NoSubject(_) => {
                    (AccountState::Awaiting, &oauth.scopes)
                }
            };
            let by_admin = matches!(auth, UpstreamAuth::SharedOauth(_));
            (
                Wanted::Account { state, scopes: scopes.clone(), by_admin },
                base.map(|base| format!("{base}/oauth/authorize?server_id={name}").into()),
            )
        }
        // Nothing that people could do is missing of the others.
        (
            UpstreamAuth::ClientCredentials(_) | UpstreamAuth::Exchange(_) | UpstreamAuth::Passthrough(_),
            _,
        ) => (Wanted::OtherToken("the server asks for a credential that this request does not bring"), None),
    };
    ConnectNotice {
        server: Arc::clone(server),
        display_name: display_name(server, auth).into(),
        has_tool: url.is_some() && shown.is_some_and(|shown| shown.awaiting == Awaiting::Tool),
        elicits: shown.is_some_and(|shown| shown.elicit),
        url,
        wants,
    }
}

/// What people call the server.
pub fn display_name<'a>(server: &'a str, auth: &'a UpstreamAuth) -> &'a str {
    auth.shown().map(|shown| &*shown.display_name).filter(|name| !name.is_empty()).unwrap_or(server)
}
