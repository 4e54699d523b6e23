//! Accounts that a client needs which somebody has let in, and that they have not connected: asked for once, before the client gets its
//! answer. It is the one way that works whatever the client can show.

use http::Response;
use url::form_urlencoded::byte_serialize;

use super::{
    accounts::Account,
    browser::{Authorization, Browser},
    places,
};
use crate::{
    body::Payload,
    error::Error,
    identity::login::grants::PageLogin,
    oauth::flow::AuthorizationRequest,
    pages::{self, ConnectFirst, Form, Offer, Shown, csrf::Purpose},
};

/// Characters of a request that has to come back as a part of a URL, at most. A longer one gets its answer without being asked.
const LONGEST: usize = 5 * 1024;

/// The page that asks for accounts; `None` if there is nothing to ask for. `authorization` is what was allowed.
pub(super) async fn page(
    browser: &Browser<'_>,
    authorization: &Authorization<'_>,
    login: &PageLogin,
) -> Result<Option<Response<Payload>>, Error> {
    let mut waiting = Vec::new();
    let reached = places::reached(browser.request, login, authorization.asked);
    for name in &reached {
        let Some(account) = Account::of(browser, login, name) else { continue };
        // What is for everybody is not for this moment.
        if account.service().is_shared {
            continue;
        }
        if let Some(button) = account.stand().await?.state.button() {
            waiting.push((account, button));
        }
    }
    if waiting.is_empty() {
        return Ok(None);
    }
    let asked = AuthorizationRequest { allowed_by: Some(login.grant.bytes()), ..authorization.asked.clone() };
    let flow = browser.seal(&asked)?;
    if flow.len() > LONGEST {
        return Ok(None);
    }
    let back = format!("/oauth/consent?flow={flow}");
    let back: String = byte_serialize(back.as_bytes()).collect();
    let offers: Vec<_> = waiting
        .iter()
        .map(|(account, button)| Offer {
            service: account.service(),
            target: format!("{}&return={back}", account.target()),
            button,
        })
        .collect();
    let csrf = browser.csrf_field(Purpose::Consent, Some(login), Some(&flow))?;
    let name = browser.account_name(&login.principal);
    Ok(Some(browser.show(pages::connect_first(&ConnectFirst {
        gateway: browser.gateway(),
        client: Shown::name(&authorization.client.name),
        account: Shown::name(&name),
        offers: &offers,
        form: Form { csrf: &csrf, flow: Some(&flow) },
    }))))
}
