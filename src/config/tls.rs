//! `proxy.tls`: a certificate and key that are seen to work together before anything listens.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls::{
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};

use super::{
    bind,
    fields::Fields,
    problem::Place,
    reader::{Context, Text},
    snapshot::{HostPattern, Tls},
};

/// `None` after an error.
pub(super) fn resolve(cx: &mut Context<'_>, fields: &Fields<'_>, hosts: &[HostPattern]) -> Option<Tls> {
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
            let chain = cert.as_ref().and_then(|path| read_chain(cx, path));
            let key = key.and_then(|path| read_key(cx, &path));
            pair(cx, &fields.at, chain?, key?)
        }
        _ => {
            if !fields.has_unknown {
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

fn read_chain(cx: &mut Context<'_>, path: &Text) -> Option<Vec<CertificateDer<'static>>> {
    let contents = cx.read(&path.value, &path.at)?;
    let chain = certificates(cx, &contents.bytes, &path.at)?;
    let mut good = true;
    for certificate in &chain {
        if let Err(message) = in_force(certificate, cx.now) {
            cx.error(&path.at, message);
            good = false;
        }
    }
    good.then_some(chain)
}

/// The certificates in a PEM file, at least one.
pub(super) fn certificates(
    cx: &mut Context<'_>,
    pem: &[u8],
    at: &Place,
) -> Option<Vec<CertificateDer<'static>>> {
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match parsed {
        Ok(chain) if !chain.is_empty() => return Some(chain),
        Ok(_) => cx.error(at, "holds no certificate; it needs a PEM block `-----BEGIN CERTIFICATE-----`"),
        Err(error) => cx.error(at, format!("holds broken PEM ({error}); export the certificate again")),
    }
    None
}

fn read_key(cx: &mut Context<'_>, path: &Text) -> Option<PrivateKeyDer<'static>> {
    let contents = cx.read_secret(&path.value, &path.at)?;
    match PrivateKeyDer::from_pem_slice(&contents.bytes) {
        Ok(key) => Some(key),
        // The error is not shown: what it quotes might be key material.
        Err(_) => {
            cx.error(
                &path.at,
                "holds no private key; it needs a PEM block `-----BEGIN PRIVATE KEY-----`, not encrypted",
            );
            None
        }
    }
}

fn pair(
    cx: &mut Context<'_>,
    at: &Place,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Option<Tls> {
    use rustls::{Error, InconsistentKeys};
    match CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()) {
        Ok(pair) => return Some(Tls::Files(Arc::new(pair))),
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            cx.error(
                at,
                "`cert` and `key` do not match; the key must be the one the first certificate was made for",
            );
        }
        Err(error) => {
            cx.error(at, format!("`cert` and `key` cannot be used ({error}); take an RSA or ECDSA key"))
        }
    }
    None
}

fn in_force(certificate: &CertificateDer<'_>, now: SystemTime) -> Result<(), String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
        .map_err(|_| "holds something that is not an X.509 certificate; export it again".to_owned())?;
    let validity = parsed.validity();
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
    if validity.not_after.timestamp() < now {
        return Err(format!("the certificate expired on {}; renew it", date(validity.not_after.timestamp())));
    }
    if validity.not_before.timestamp() > now {
        let start = date(validity.not_before.timestamp());
        return Err(format!(
            "the certificate is not valid before {start}; check it and this machine's clock"
        ));
    }
    Ok(())
}

fn date(timestamp: i64) -> String {
    // Before 1970 and after 9999 no certificate makes sense and no formatter works.
    let seconds = timestamp.clamp(0, 253_402_300_799) as u64;
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
}
