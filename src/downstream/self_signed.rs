//! The certificate that the gateway makes itself, and the CA behind it. The CA is kept, so that clients can trust it
//! once; the certificate lives in memory, and is made anew at each start and before it ends.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Read as _},
    os::{fd::AsRawFd as _, unix::fs::DirBuilderExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData as _,
};
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};

use crate::downstream::tls::{Certificate, Left, Validity};
use crate::net::crypto::provider;
use crate::secret::Secret;
use crate::state_dir::{self, ANY_BY_OTHERS, WRITE_BY_OTHERS, read_own, write_new};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a certificate is valid. Clients take no more than 398 days of one.
const OF_CERTIFICATE: Duration = Duration::from_secs(90 * DAY.as_secs());
/// How long a CA that is kept is valid.
const OF_CA: Duration = Duration::from_secs(3650 * DAY.as_secs());
/// The subject of every CA made here, by which its certificates name it.
const CA_NAME: &str = "Sluicegate self-made CA";

/// A CA, what it may sign for, and where it is kept.
pub struct SelfMade {
    ca: Ca,
    names: Vec<String>,
    kept: Result<PathBuf, String>,
}

struct Ca {
    pem: String,
    key: KeyPair,
    /// The last moment.
    not_after: SystemTime,
}

impl SelfMade {
    /// The CA that is kept in `directory`, or a new one that is kept there from now on, for certificates of `names`.
    ///
    /// What cannot be kept is made all the same, and [`SelfMade::kept`] says why: a gateway on a disk that nobody may write
    /// starts, too.
    pub fn open(directory: &Path, names: &[String], now: SystemTime) -> io::Result<Self> {
        let directory = directory.join("ca");
        let (ca, kept) = match Ca::keep(&directory, now) {
            Ok(ca) => (ca, Ok(directory.join(ROOT))),
            Err(error) => (
                Ca::new(now, OF_CA).map_err(io::Error::other)?,
                Err(format!("{}: {error}", directory.display())),
            ),
        };
        Ok(Self { ca, names: names.to_vec(), kept })
    }

    /// Why the CA that is kept in `directory` cannot be used, if there is one that cannot.
    pub fn fault(directory: &Path, now: SystemTime) -> Option<String> {
        let directory = directory.join("ca");
        match Ca::load(&directory, now) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Some(format!("{}: {error}", directory.display()))
            }
            _ => None,
        }
    }

    /// The CA's certificate, PEM.
    pub fn ca(&self) -> &str {
        &self.ca.pem
    }

    /// The file with the CA's certificate, or why there is none.
    pub fn kept(&self) -> Result<&Path, &str> {
        self.kept.as_deref().map_err(String::as_str)
    }

    /// A new certificate, and its key.
    pub fn certificate(&self, now: SystemTime) -> io::Result<Arc<CertifiedKey>> {
        let (certificate, key) = self.ca.sign(&self.names, now).map_err(io::Error::other)?;
        certified(&certificate, &key)
    }

    /// Presents a new certificate if no more than a third is left of the one that is presented, or if it is from the future,
    /// because the clock went back.
    pub fn renew(&self, certificate: &Certificate, now: SystemTime) -> io::Result<()> {
        let is_good = |validity: Validity| validity.has_begun(now) && validity.left(now) == Left::Enough;
        if !certificate.current().and_then(|current| Validity::of(&current)).is_some_and(is_good) {
            certificate.set(self.certificate(now)?);
        }
        Ok(())
    }
}

/// File names of the CA's certificate and key.
const ROOT: &str = "root.pem";
const ROOT_KEY: &str = "root.key";

impl Ca {
    fn new(now: SystemTime, lifetime: Duration) -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let not_after = now + lifetime;
        let pem = Self::params(now, not_after)?.self_signed(&key)?.pem();
        Ok(Self { pem, key, not_after })
    }

    fn params(now: SystemTime, not_after: SystemTime) -> Result<CertificateParams, rcgen::Error> {
        let mut params = params(&[], CA_NAME, now, not_after)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(params)
    }

    /// A certificate for `names` and its key, both PEM.
    fn sign(&self, names: &[String], now: SystemTime) -> Result<(String, Secret), rcgen::Error> {
        let key = KeyPair::generate()?;
        let not_after = (now + OF_CERTIFICATE).min(self.not_after);
        let mut leaf = params(names, "Sluicegate", now, not_after)?;
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        leaf.use_authority_key_identifier_extension = true;
        let issuer = Self::params(now, self.not_after)?;
        let certificate = leaf.signed_by(&key, &Issuer::from_params(&issuer, &self.key))?;
        Ok((certificate.pem(), Secret::new(key.serialize_pem())))
    }

    /// The CA in `directory`, or a new one that is put there.
    ///
    /// Of several gateways that begin at once, one puts its CA there, and all take that: the files come by a rename of their
    /// directory, which fails where one is already.
    fn keep(directory: &Path, now: SystemTime) -> io::Result<Self> {
        match Self::load(directory, now) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            loaded => return loaded,
        }
        let parent = directory.parent().unwrap_or(directory);
        state_dir::make(parent)?;
        let new = parent.join(state_dir::temporary("ca")?);
        DirBuilder::new().mode(0o700).create(&new)?;
        let made = Self::new(now, OF_CA).map_err(io::Error::other).and_then(|ca| {
            write_new(&new.join(ROOT_KEY), 0o600, &ca.key.serialize_pem())?;
            write_new(&new.join(ROOT), 0o644, &ca.pem)?;
            fs::rename(&new, directory)?;
            Ok(ca)
        });
        made.or_else(|error| {
            // Best effort: what is left has a name that nothing looks for.
            let _ = fs::remove_dir_all(&new);
            // Another gateway was first, or it cannot be kept.
            Self::load(directory, now).map_err(|_| error)
        })
    }

    fn load(directory: &Path, now: SystemTime) -> io::Result<Self> {
        // Where others may write, they could have put a CA of their own there.
        let opened = state_dir::open_directory(directory, WRITE_BY_OTHERS)?;
        // Not by its path, which may lead elsewhere by now.
        let within = |name| PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd())).join(name);
        let key = match read_own(&within(ROOT_KEY), ANY_BY_OTHERS) {
            Ok(key) => Secret::new(key),
            // A certificate without its key is no CA, and is not to be written over.
            Err(error) if error.kind() == io::ErrorKind::NotFound && within(ROOT).exists() => {
                return Err(io::Error::other(format!("{ROOT} is there without {ROOT_KEY}; remove both")));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(error),
            Err(error) => return Err(io::Error::other(format!("{ROOT_KEY}: {error}"))),
        };
        let pem = read_own(&within(ROOT), WRITE_BY_OTHERS).map_err(|error| {
            io::Error::other(match error.kind() {
                io::ErrorKind::PermissionDenied => format!("{ROOT}: {error}"),
                _ => format!("{ROOT_KEY} is there, and {ROOT} is not: {error}"),
            })
        })?;
        // What the error quotes might be key material.
        let key = KeyPair::from_pem(key.expose())
            .map_err(|_| io::Error::other(format!("{ROOT_KEY} holds no private key")))?;
        let broken = || io::Error::other(format!("{ROOT} is no CA that a gateway made"));
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| broken())?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).map_err(|_| broken())?;
        let is_named =
            parsed.subject().iter_common_name().any(|name| name.as_str().is_ok_and(|name| name == CA_NAME));
        if !is_named || !parsed.is_ca() || parsed.public_key().raw != key.subject_public_key_info().as_slice()
        {
            return Err(broken());
        }
        let end = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or_default();
        let not_after = SystemTime::UNIX_EPOCH + Duration::from_secs(end);
        if not_after <= now + DAY {
            return Err(io::Error::other(format!(
                "{ROOT} has expired, or is about to; remove the directory for a new one"
            )));
        }
        Ok(Self { pem, key, not_after })
    }
}

/// Bytes of a PEM file at most.
const LONGEST_PEM: u64 = 1 << 20;

/// Writes a CA's certificate to `path`, over another certificate, but over nothing else.
pub fn write_ca(path: &Path, ca: &str) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() && metadata.len() > 0 => {
            let mut before = Vec::new();
            File::open(path)?.take(LONGEST_PEM).read_to_end(&mut before)?;
            let has_key = PrivateKeyDer::from_pem_slice(&before).is_ok();
            if has_key || CertificateDer::from_pem_slice(&before).is_err() {
                return Err(io::Error::other("holds something else than a certificate, and stays as it is"));
            }
        }
        _ => {}
    }
    fs::write(path, ca)
}

fn params(
    names: &[String],
    common_name: &str,
    now: SystemTime,
    not_after: SystemTime,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    // An hour back, for clients whose clock is behind.
    params.not_before = (now - Duration::from_secs(60 * 60)).into();
    params.not_after = not_after.into();
    Ok(params)
}

fn certified(certificate: &str, key: &Secret) -> io::Result<Arc<CertifiedKey>> {
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes()).map_err(io::Error::other)?;
    CertifiedKey::from_der(vec![certificate], key, &provider()).map(Arc::new).map_err(io::Error::other)
}

/// A certificate made on the spot, its key, and the CA that signed it, for clients to trust; all PEM.
pub struct SelfSigned {
    /// The CA certificate. Its key is gone: it signs nothing else.
    pub ca: String,
    /// The server's certificate.
    pub cert: String,
    /// The server's key.
    pub key: Secret,
}

/// Makes a CA and a certificate for `names` (host names and IP addresses): ECDSA P-256, valid for 90 days.
pub fn self_signed(names: &[String]) -> io::Result<SelfSigned> {
    let now = SystemTime::now();
    let make = || {
        let ca = Ca::new(now, OF_CERTIFICATE)?;
        let (cert, key) = ca.sign(names, now)?;
        Ok(SelfSigned { ca: ca.pem, cert, key })
    };
    make().map_err(|error: rcgen::Error| io::Error::other(error))
}

impl SelfSigned {
    /// Certificate and key as a TLS server takes them.
    pub fn certified(&self) -> io::Result<Arc<CertifiedKey>> {
        certified(&self.cert, &self.key)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn open(directory: &Path) -> SelfMade {
        SelfMade::open(directory, &["localhost".into()], SystemTime::now()).unwrap()
    }

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_made_certificate_has_a_validity() {
        let certified = self_signed(&["localhost".into()]).unwrap().certified().unwrap();
        let validity = Validity::of(&certified).unwrap();
        assert_eq!(validity.left(SystemTime::now()), Left::Enough);
    }

    #[test]
    fn a_ca_is_made_once_and_only_its_owner_may_read_the_key() {
        let directory = tempfile::TempDir::new().unwrap();
        let state = directory.path().join("a/state");
        let first = open(&state);
        let root = state.join("ca/root.pem");
        assert_eq!(first.kept(), Ok(&*root));
        assert_eq!(
            (mode(&state), mode(&state.join("ca")), mode(&state.join("ca/root.key"))),
            (0o700, 0o700, 0o600)
        );
        assert_eq!(fs::read_to_string(&root).unwrap(), first.ca());
        let second = open(&state);
        assert_eq!((second.ca(), second.kept()), (first.ca(), first.kept()));
        // What the first trusts, the second signs.
        let certificate = second.certificate(SystemTime::now()).unwrap();
        let der = CertificateDer::from_pem_slice(first.ca().as_bytes()).unwrap();
        let (_, ca) = x509_parser::parse_x509_certificate(&der).unwrap();
        let (_, leaf) = x509_parser::parse_x509_certificate(&certificate.cert[0]).unwrap();
        assert_eq!(leaf.issuer(), ca.subject());
        assert_eq!(fs::read_dir(&state).unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn gates_that_begin_at_once_have_one_ca() {
        let directory = tempfile::TempDir::new().unwrap();
        let state = directory.path().join("state");
        let all: Vec<_> = std::thread::scope(|scope| {
            let begun: Vec<_> = (0..8).map(|_| scope.spawn(|| open(&state))).collect();
            begun.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(all.iter().all(|made| made.ca() == all[0].ca() && made.kept().is_ok()));
        assert_eq!(fs::read_dir(&state).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_kept_is_made_all_the_same_and_nothing_is_written_over() {
        let directory = tempfile::TempDir::new().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        let made = open(&file);
        assert!(made.kept().is_err_and(|why| why.contains("file/ca")), "{:?}", made.kept());
        made.certificate(SystemTime::now()).unwrap();

        let state = directory.path().join("state");
        open(&state);
        let (root, key) = (state.join("ca/root.pem"), state.join("ca/root.key"));
        let other = self_signed(&["localhost".into()]).unwrap();
        for (path, text, told) in [
            (&root, &*other.ca, "is no CA that a gateway made"),
            (&root, "nonsense", "is no CA that a gateway made"),
            (&key, "nonsense", "holds no private key"),
        ] {
            let good = fs::read_to_string(path).unwrap();
            fs::write(path, text).unwrap();
            let made = open(&state);
            assert!(made.kept().is_err_and(|why| why.contains(told)), "{:?}", made.kept());
            assert_eq!(fs::read_to_string(path).unwrap(), text);
            fs::write(path, good).unwrap();
        }
        fs::remove_file(&key).unwrap();
        assert!(open(&state).kept().is_err_and(|why| why.contains("without root.key")));
        let later = SystemTime::now() + OF_CA;
        assert!(
            SelfMade::open(&directory.path().join("new"), &[], SystemTime::now()).unwrap().kept().is_ok()
        );
        let expired = SelfMade::open(&directory.path().join("new"), &[], later).unwrap();
        assert!(expired.kept().is_err_and(|why| why.contains("has expired")), "{:?}", expired.kept());
    }

    /// What another user could have read or written is not used, and says so; what is right is used again.
    #[test]
    fn a_ca_that_others_could_have_touched_is_not_used() {
        let chmod = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let directory = tempfile::TempDir::new().unwrap();
        let state = directory.path().join("state");
        let first = open(&state);
        let ca = state.join("ca");
        let (root, key) = (ca.join(ROOT), ca.join(ROOT_KEY));
        for (path, bad, good, told) in [
            (&key, 0o644, 0o600, "root.key: other users may read it"),
            (&key, 0o640, 0o600, "chmod 600"),
            (&root, 0o664, 0o644, "root.pem: other users may write"),
            (&ca, 0o777, 0o700, "chmod go-w"),
            (&ca, 0o720, 0o755, "other users may write there"),
        ] {
            chmod(path, bad);
            let made = open(&state);
            assert_ne!(made.ca(), first.ca(), "{bad:o}");
            assert!(made.kept().is_err_and(|why| why.contains(told)), "{:?}", made.kept());
            made.certificate(SystemTime::now()).unwrap();
            let fault = SelfMade::fault(&state, SystemTime::now());
            assert_eq!(fault.as_deref(), made.kept().err());
            chmod(path, good);
            assert_eq!(open(&state).ca(), first.ca());
            assert_eq!(SelfMade::fault(&state, SystemTime::now()), None);
        }
        // Links lead where somebody else may write.
        let elsewhere = directory.path().join("elsewhere");
        fs::rename(&ca, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &ca).unwrap();
        assert!(open(&state).kept().is_err());
        fs::remove_file(&ca).unwrap();
        fs::rename(&elsewhere, &ca).unwrap();
        fs::rename(&key, directory.path().join("key")).unwrap();
        std::os::unix::fs::symlink(directory.path().join("key"), &key).unwrap();
        assert!(open(&state).kept().is_err_and(|why| why.contains("root.key")));
        // Only root can give files away.
        fs::remove_file(&key).unwrap();
        fs::rename(directory.path().join("key"), &key).unwrap();
        if std::os::unix::fs::chown(&root, Some(12_345), None).is_ok() {
            assert!(open(&state).kept().is_err_and(|why| why.contains("belongs to user 12345")));
        }
        assert_eq!(SelfMade::fault(&directory.path().join("none"), SystemTime::now()), None);
    }

    #[test]
    fn a_ca_is_written_over_a_certificate_and_over_nothing_else() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("ca.pem");
        let made = self_signed(&["localhost".into()]).unwrap();
        write_ca(&path, &made.ca).unwrap();
        write_ca(&path, &made.cert).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), made.cert);
        let both = format!("{}{}", made.cert, made.key.expose());
        for other in [made.key.expose(), &both, "{}"] {
            fs::write(&path, other).unwrap();
            assert!(write_ca(&path, &made.ca).is_err());
            assert_eq!(fs::read_to_string(&path).unwrap(), other);
        }
        fs::write(&path, "").unwrap();
        write_ca(&path, &made.ca).unwrap();
    }

    #[test]
    fn a_certificate_is_renewed_before_it_ends() {
        let directory = tempfile::TempDir::new().unwrap();
        let (made, begun) = (open(directory.path()), SystemTime::now());
        let certificate = Certificate::default();
        let end =
            |certificate: &Certificate| Validity::of(&certificate.current().unwrap()).unwrap().not_after;
        made.renew(&certificate, begun).unwrap();
        let first = end(&certificate);
        made.renew(&certificate, begun + 59 * DAY).unwrap();
        assert_eq!(end(&certificate), first);
        made.renew(&certificate, begun + 61 * DAY).unwrap();
        assert!(end(&certificate) > first + 59 * DAY);
        // The clock stood still for long: what is over is renewed, too.
        made.renew(&certificate, begun + 400 * DAY).unwrap();
        assert!(end(&certificate) > begun + 480 * DAY);
        // And it goes back.
        made.renew(&certificate, begun).unwrap();
        assert!(end(&certificate) < begun + 91 * DAY);
    }
}
