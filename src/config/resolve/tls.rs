//! `proxy.tls`: a certificate and key that are seen to work together before anything listens.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls::{
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use url::{Host, Url};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName};

use crate::config::{
    read::{context::Context, fields::Fields, reader::ReadText},
    report::problem::Location,
    resolve::bind,
    snapshot::{HostPattern, Tls},
};

/// `None` after an error.
pub(crate) fn resolve(
    cx: &mut Context<'_>,
    fields: &Fields<'_>,
    hosts: &[HostPattern],
    base_url: Option<&Url>,
) -> Option<Tls> {
    let self_signed = fields.bool(cx, "selfSigned").unwrap_or_default();
    match (fields.get("cert"), fields.get("key")) {
        (None, None) if self_signed => Some(Tls::SelfSigned { names: names(hosts) }),
        (cert, key) if self_signed => {
            if let Some(node) = cert.or(key) {
                cx.error(&node.at, "cannot stand beside `selfSigned: true`; keep one of them");
            }
            None
        }
        (Some(cert), Some(key)) => {
            // Both are read even if one is bad: its problem and its path (to watch) are wanted in any case.
            let (cert, key) = (cert.path(cx), key.path(cx));
            let has_both = cert.is_some() && key.is_some();
            let pair = cx.part(|cx| {
                let chain = cert.as_ref().and_then(|path| read_chain(cx, path, base_url));
                let key = key.as_ref().and_then(|path| read_key(cx, path));
                pair(cx, &fields.at, chain?, key?)
            });
            has_both.then_some(Tls::Files(pair))
        }
        _ => {
            if fields.lacks(&["cert"]) && fields.lacks(&["key"])
                || fields.lacks(&["selfSigned"]) && fields.meant.is_empty()
            {
                cx.error(&fields.at, "needs both `cert` and `key` (PEM files), or `selfSigned: true`");
            }
            None
        }
    }
}

fn names(hosts: &[HostPattern]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in hosts.iter().map(|host| host.host.clone()).chain(bind::loopback_names()) {
        if name != "*" && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn read_chain(
    cx: &mut Context<'_>,
    path: &ReadText,
    base_url: Option<&Url>,
) -> Option<Vec<CertificateDer<'static>>> {
    let contents = cx.read(&path.value, &path.at)?;
    let chain = certificates(cx, &contents.bytes, &path.at)?;
    // One that is out of date is a certificate all the same. Clients that check will refuse it, and others are served: a
    // start after a renewal that was missed is no outage for everybody.
    for certificate in &chain {
        let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else {
            return cx.refuse(&path.at, "holds something that is not an X.509 certificate; export it again");
        };
        if let Some(message) = out_of_date(&parsed, cx.now) {
            cx.warning(&path.at, message);
        }
    }
    if let Some(host) = base_url.and_then(Url::host)
        && let Some(names) = chain.first().and_then(|leaf| other_names(leaf, &host))
    {
        let names = if names.is_empty() { "none at all".to_owned() } else { names.join(", ") };
        let message = format!(
            "the certificate is not for {host}, the host of `baseUrl`, but for {names}; clients will refuse it"
        );
        cx.warning(&path.at, message);
    }
    Some(chain)
}

/// The names that a certificate is for, if `host` is not among them (RFC 9525: subject alternative names, and a `*` for one
/// label in front).
fn other_names(certificate: &CertificateDer<'_>, host: &Host<&str>) -> Option<Vec<String>> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let names = parsed.subject_alternative_name().ok()?.map(|names| &names.value.general_names);
    let (domain, address) = match *host {
        Host::Domain(name) => (name.trim_end_matches('.'), None),
        Host::Ipv4(ip) => ("", Some(IpAddr::from(ip))),
        Host::Ipv6(ip) => ("", Some(IpAddr::from(ip))),
    };
    let below = domain.split_once('.').map(|(_, below)| below);
    let mut others = Vec::new();
    for name in names.into_iter().flatten() {
        match name {
            GeneralName::DNSName(name) => {
                let name = name.to_ascii_lowercase();
                if name == domain || name.strip_prefix("*.").is_some_and(|parent| below == Some(parent)) {
                    return None;
                }
                others.push(name.escape_debug().to_string());
            }
            GeneralName::IPAddress(bytes) => {
                let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                let known = v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from)).ok();
                if known.is_some() && known == address {
                    return None;
                }
                others.extend(known.map(|known| known.to_string()));
            }
            _ => {}
        }
    }
    // A certificate of a thousand names is no reason for a line as long.
    others.truncate(8);
    Some(others)
}

/// The certificates in a PEM file, at least one.
pub(crate) fn certificates(
    cx: &mut Context<'_>,
    pem: &[u8],
    at: &Location,
) -> Option<Vec<CertificateDer<'static>>> {
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match parsed {
        Ok(chain) if !chain.is_empty() => Some(chain),
        Ok(_) => cx.refuse(at, "holds no certificate; it needs a PEM block `-----BEGIN CERTIFICATE-----`"),
        Err(error) => cx.refuse(at, format!("holds broken PEM ({error}); export the certificate again")),
    }
}

fn read_key(cx: &mut Context<'_>, path: &ReadText) -> Option<PrivateKeyDer<'static>> {
    let contents = cx.read_secret(&path.value, &path.at)?;
    match PrivateKeyDer::from_pem_slice(&contents.bytes) {
        Ok(key) => Some(key),
        // The error is not shown: what it quotes might be key material.
        Err(_) => cx.refuse(
            &path.at,
            "holds no private key; it needs a PEM block `-----BEGIN PRIVATE KEY-----`, not encrypted",
        ),
    }
}

fn pair(
    cx: &mut Context<'_>,
    at: &Location,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Option<Arc<CertifiedKey>> {
    use rustls::{Error, InconsistentKeys};
    match CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()) {
        Ok(pair) => Some(Arc::new(pair)),
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => cx.refuse(
            at,
            "`cert` and `key` do not match; the key must be the one the first certificate was made for",
        ),
        Err(error) => {
            cx.refuse(at, format!("`cert` and `key` cannot be used ({error}); take an RSA or ECDSA key"))
        }
    }
}

/// What to say of a certificate that is not valid at present, or will soon not be.
fn out_of_date(certificate: &X509Certificate<'_>, now: SystemTime) -> Option<String> {
    let validity = certificate.validity();
    let [start, end] = [validity.not_before, validity.not_after].map(|moment| moment.timestamp());
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
    if end < now {
        return Some(format!("the certificate expired on {}; renew it", date(end)));
    }
    if start > now {
        let start = date(start);
        return Some(format!(
            "the certificate is not valid before {start}; check it and this machine's clock"
        ));
    }
    // Not of the authorities above it, which live by years.
    let is_near = !certificate.is_ca() && end - now <= (end - start) / 10;
    is_near.then(|| {
        let end = date(end);
        format!("less than a tenth of the certificate's lifetime is left: it expires on {end}; renew it")
    })
}

fn date(timestamp: i64) -> String {
    // Before 1970 and after 9999 no certificate makes sense and no formatter works.
    let seconds = timestamp.clamp(0, 253_402_300_799) as u64;
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
}
