//! `/revoke`: a client gives back what it was allowed (RFC 7009). The whole grant ends, whichever of its tokens comes.

use std::sync::Arc;

use http::{Response, StatusCode};

use super::{
    client_proof::{LetIn, Proved, proved},
    refusal::Refusal,
    request::OauthRequest,
};
use crate::{
    body::{Payload, response::empty},
    error::{Error, ErrorKind},
    identity::login::{
        access_token::AccessClaims, grants::Token, refresh_token::RefreshToken, spent::NotSpent,
    },
};

/// Answers one. A token that is none, or of another client, is no error (§2.2): there is nothing that a client could do about it.
pub(super) async fn answer(request: &OauthRequest<'_>) -> Result<Response<Payload>, Error> {
    let Proved { form, client, .. } = match proved(request, LetIn::Ever).await? {
        Ok(proved) => proved,
        Err(refusal) => return Ok(refusal.answer(request)),
    };
    let Some(text) = form.get("token") else {
        return Ok(Refusal::request("token is missing.").answer(request));
    };
    let logins = &request.shared.logins;
    // Of one that nobody allowed anybody, no grant is kept that could be ended.
    let without_grant = logins.opened_access(text.as_bytes()).filter(|claims| !claims.principal.has_grants());
    if let Some(claims) = without_grant {
        if claims.client_id == client.id {
            end_token(request, &claims).await?;
        }
        return Ok(empty(StatusCode::OK));
    }
    let of_refresh =
        || RefreshToken::parse(text).map(|token| Token::ClientRefresh(token, Arc::clone(&client.id)));
    let of_access = || {
        let claims = logins.opened_access(text.as_bytes())?;
        (claims.client_id == client.id).then_some(Token::Access(claims))
    };
    if let Some(token) = of_refresh().or_else(of_access) {
        let grants = logins.grants().ok_or_else(Error::logins_not_kept)?;
        let ended = grants.revoke(vec![token], request.live.clock.now()).await;
        if !matches!(ended, Ok(None)) {
            request.shared.note_change();
        }
        // It is ended here, and would be there again after a restart: the client has to know that.
        if let Some(principal) = ended.map_err(|_| Error::logins_not_kept())?
            && let Some(identity) = request.live.identity_named(&principal)
        {
            // There is one of them.
            let _ = request.known.set(identity);
        }
    }
    Ok(empty(StatusCode::OK))
}

/// Ends a token that is of no grant.
async fn end_token(request: &OauthRequest<'_>, claims: &AccessClaims) -> Result<(), Error> {
    let grants = request.shared.logins.grants().ok_or_else(Error::logins_not_kept)?;
    let done = grants.end_token(&claims.client_id, claims, request.live.clock.now()).await;
    request.shared.note_change();
    if let Some(identity) = request.live.identity_named(&claims.principal) {
        // There is one of them.
        let _ = request.known.set(identity);
    }
    done.map_err(|why| match why {
        NotSpent::Again | NotSpent::Forgotten | NotSpent::Full => {
            let cause = "the client has given back as many tokens as may be remembered of one";
            ErrorKind::Unavailable.with_cause(cause)
        }
        NotSpent::Down => Error::logins_not_kept(),
    })
}
