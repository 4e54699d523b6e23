//! `$userToken` in `headers` and `env` of a server: where the token of whoever calls stands.

use http::HeaderName;

use crate::config::{
    read::{context::Context, fields::Fields},
    report::problem::Location,
    resolve::upstream_auth::keys::{Keys, NO_FORMAT, fits_everywhere, is_reserved},
    table::{COMMAND, URL},
    upstream_auth::{TokenField, TokenFormat, TokenPlace},
};

/// Where `$userToken` stands in a server, and the first of it.
#[derive(Default)]
pub(super) struct Places {
    pub(super) found: Vec<TokenPlace>,
    pub(super) first: Option<Location>,
}

/// Reads those that are.
pub(super) fn read(cx: &mut Context<'_>, server: &Fields<'_>) -> Places {
    let mut places = Places::default();
    // Elsewhere, the whole key has no effect.
    let key = match (server.has(URL), server.has(COMMAND)) {
        (true, false) => "headers",
        (false, true) => "env",
        _ => return places,
    };
    let Some(entries) = server.get(key).and_then(|node| node.fields()) else { return places };
    for (name, _, node) in entries.entries().into_iter().filter(|(.., node)| node.is_user_token()) {
        places.first.get_or_insert(node.at.clone());
        let Some(text) = node.user_token() else {
            // Says that it has to be all there is.
            node.string(cx);
            continue;
        };
        let parsed = TokenFormat::parse(text).filter(|format| match key {
            "headers" => fits_everywhere(format),
            _ => !text.contains('\0'),
        });
        let Some(format) = parsed else {
            cx.error(&node.at, NO_FORMAT.replace("{token}", "{{token}}"));
            continue;
        };
        places.found.extend(match key {
            "env" => Some(TokenPlace::Env { name: name.into(), format }),
            // What is wrong with the name was noted.
            _ => HeaderName::from_bytes(name.as_bytes())
                .ok()
                .filter(|name| !is_reserved(name.as_str()))
                .map(|header| TokenPlace::Header(TokenField { header, format })),
        });
    }
    places
}

/// Where the token goes: to each `$userToken`, else into the header that the keys say, or `otherwise`. `headers` are those of the
/// config that say something else.
pub(super) fn resolve(
    cx: &mut Context<'_>,
    server: &Fields<'_>,
    keys: &Keys<'_>,
    written: &Places,
    otherwise: Option<HeaderName>,
) -> Vec<TokenPlace> {
    if written.first.is_some() {
        if keys.fields.has("header") {
            let message = "says where the token goes, and so does `$userToken`; keep one of them";
            cx.error(&keys.fields.key("header"), message);
        }
        let within = |outer: &TokenFormat| match &keys.format {
            Some(format) => format.within(outer),
            None => outer.clone(),
        };
        let place = |place: &TokenPlace| match place {
            TokenPlace::Header(field) => {
                TokenPlace::Header(TokenField { header: field.header.clone(), format: within(&field.format) })
            }
            TokenPlace::Env { name, format } => {
                TokenPlace::Env { name: name.clone(), format: within(format) }
            }
        };
        return written.found.iter().map(place).collect();
    }
    let Some(header) = keys.header.clone().or(otherwise) else { return Vec::new() };
    let entries = server.get("headers").and_then(|node| node.fields()).map(|fields| fields.entries());
    let same =
        entries.unwrap_or_default().into_iter().find(|(name, ..)| name.eq_ignore_ascii_case(header.as_str()));
    if let Some((_, at, _)) = same {
        cx.error(
            &at,
            "is also where the token of `upstreamAuth` goes, which would replace it; keep one of them",
        );
    }
    let format = keys.format.clone().unwrap_or_else(TokenFormat::bearer);
    vec![TokenPlace::Header(TokenField { header, format })]
}
