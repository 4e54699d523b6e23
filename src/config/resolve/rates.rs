//! `proxy.rateLimits`: how often something may happen.

use std::time::Duration;

use crate::{
    config::{
        read::{context::Context, fields::Fields},
        resolve::bind,
        snapshot::RateLimits,
    },
    ledger::Rate,
};

/// What is not good is noted, and its value does not matter any more.
pub(crate) fn resolve(cx: &mut Context<'_>, proxy: &Fields<'_>) -> RateLimits {
    let fields = proxy.object_or_empty(cx, "rateLimits");
    let mut rate = |name| {
        let text = fields.text(cx, name)?;
        match read(&text.value) {
            Ok(rate) => rate,
            Err(why) => cx.refuse(&text.at, why),
        }
    };
    RateLimits {
        principal: rate("principal"),
        peer: rate("peer"),
        server: rate("server"),
        auth_failures: rate("authFailures"),
        allow: bind::networks(cx, &fields, "allow", None),
    }
}

/// `600/min`, or `off`.
fn read(text: &str) -> Result<Option<Rate>, &'static str> {
    const HOW: &str =
        "is no rate; write how many in which time, as in \"20/s\", \"600/min\" or \"5000/h\", or \"off\"";
    if text == "off" {
        return Ok(None);
    }
    let (count, per) = text.split_once('/').ok_or(HOW)?;
    let per = match per {
        "s" => Duration::from_secs(1),
        "min" => Duration::from_secs(60),
        "h" => Duration::from_secs(3_600),
        _ => return Err(HOW),
    };
    let is_number = !count.starts_with('0') && count.len() <= 7 && count.bytes().all(|b| b.is_ascii_digit());
    match count.parse() {
        Ok(count @ 1_u32..) if is_number => Ok(Some(Rate { count, per })),
        _ => Err(HOW),
    }
}
