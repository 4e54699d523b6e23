//! Requests to the gateway as an authorization server. Whoever makes them is not known, so they count for their addresses.

use std::{cell::OnceCell, pin::Pin};

use http::{Method, Response};

use super::stranger::{self, Whole};
use crate::{
    body::Payload,
    endpoints::{
        oauth::{self, OauthRequest, metadata},
        table::OauthEndpoint,
    },
    error::{Error, ErrorKind},
    identity::Caller,
    request::{Request, rates},
    state::Live,
};

/// Answers one.
pub(super) async fn answer(
    request: &mut Request<'_>,
    endpoint: OauthEndpoint,
    report_decoy: fn(&Request<'_>, &Live, &Caller),
) -> Result<Response<Payload>, Error> {
    let Request { worker, connection, head, fields, client, .. } = *request;
    let ledger = &worker.shared.ledger;
    if let Err(error) = rates::check_address(request) {
        return refused(request, endpoint, error);
    }
    let most = (head.method == Method::POST).then(|| OauthRequest::most_body(endpoint));
    let is_metadata = endpoint == OauthEndpoint::ResourceMetadata;
    let is_served =
        |live: &Live| live.config.oauth.is_some() || is_metadata && live.config.has_resource_metadata();
    let Whole { body, live, _share } = &stranger::whole(request, most, is_served).await?;
    let Some(config) = &live.config.oauth else {
        request.record.mark_for_gateway();
        return metadata::of_resource(&live.config, head.uri.path(), head.uri.query());
    };
    let asked = &*request;
    let (known, replayed, refused) = (OnceCell::new(), OnceCell::new(), OnceCell::new());
    let oauth = OauthRequest {
        shared: &worker.shared,
        live,
        config,
        id: request.record.id(),
        head,
        fields,
        address: client.unwrap_or(connection.address),
        body,
        on_known: &|owner| rates::check_caller(asked, owner),
        on_decoy: &|caller| report_decoy(asked, live, caller),
        on_failed: &|| {
            connection.refused(ledger);
            rates::refusal_of(asked, ErrorKind::InvalidToken.into())
        },
        may_guess: &|| rates::check_guesses(asked),
        known: &known,
        replayed: &replayed,
        refused: &refused,
    };
    let answering: Pin<Box<dyn Future<Output = _> + '_>> = Box::pin(oauth::answer(&oauth, endpoint));
    let answered = answering.await;
    // Whoever likes may ask for pages, and be refused at them, as often as they like.
    if known.get().is_none() {
        request.record.mark_for_gateway();
    }
    if let Some(audited) = request.record.audited() {
        if let Some((identity, replay)) = replayed.get() {
            audited.set_replay(identity, *replay);
        }
        if let Some(identity) = known.get() {
            audited.set_login(identity);
        }
    }
    // A refusal at a page is an answer.
    let refused = answered.as_ref().err().or(refused.get());
    if let Some(error) = refused {
        rates::note_refused_login(request, error);
    }
    if let (Ok(_), Some(error)) = (&answered, refused) {
        request.record.failed(error);
    }
    answered
}

/// What is refused before it is looked at: to a browser by a page, where there are pages.
fn refused(
    request: &mut Request<'_>,
    endpoint: OauthEndpoint,
    error: Error,
) -> Result<Response<Payload>, Error> {
    let config = &request.live.config;
    if config.oauth.is_none() || !endpoint.is_page() {
        return Err(error);
    }
    let page = oauth::failed_page(&config.name, request.record.id().as_str(), &error);
    request.record.mark_for_gateway();
    request.record.failed(&error);
    Ok(page)
}
