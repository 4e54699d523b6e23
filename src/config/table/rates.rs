//! `proxy.rateLimits`.

use super::TEXT;
use crate::config::table::key::{
    Absent::{List, Text},
    Key, Object, ValueKind, key,
};

/// So many in a second, a minute or an hour.
const RATE: ValueKind = ValueKind::Text(r"^(off|[1-9][0-9]{0,6}/(s|min|h))$");

const fn rate(name: &'static str, absent: &'static str, doc: &'static str) -> Key {
    key(name, RATE, Text(absent), doc).examples(&[r#""600/min""#, r#""20/s""#, r#""off""#])
}

pub(in crate::config) static RATE_LIMITS: Object = Object {
    name: "rateLimits",
    doc: "How many requests there may be in which time, as in `\"600/min\"`, `\"20/s\"` or `\"5000/h\"`; `\"off\"` is any number. All of \
          them may come at once; after that they come as evenly as the rate says. What is too much is answered with 429 and \
          `Retry-After`.",
    one_of: &[],
    keys: &[
        rate(
            "principal",
            "off",
            "Requests of one caller, by the name that its credential proves, from wherever it calls. All credentials of a token \
             name count together.",
        ),
        rate(
            "peer",
            "off",
            "Requests that come from one address, whoever makes them. Of IPv6, a /64 is one address. Behind a balancer of \
             `trustedProxies` it is the address of the client.",
        ),
        rate("server", "off", "Requests at the paths of one server, of all callers together. `/mcp` is one more server; what it calls counts for it alone."),
        rate(
            "authFailures",
            "20/min",
            "Credentials that are not good, from one address. Beyond it, more of them are answered with 429 in place of 401. They are \
             checked all the same, so that a good one is never refused because of others at its address.",
        ),
        key(
            "allow",
            ValueKind::List(&TEXT),
            List(&[]),
            "Addresses or networks for which `peer` and `authFailures` do not hold, such as those of a test or of an office.",
        )
        .examples(&[r#"["192.0.2.7", "10.0.0.0/8"]"#]),
    ],
};
