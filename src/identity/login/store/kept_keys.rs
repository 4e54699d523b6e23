//! The keys that the gateway makes where the config names none: `keys.json` in `proxy.stateDir`.

use std::{fs, io, path::Path};

use serde::{Deserialize, Deserializer, Serialize};

use super::{database, fault::StoreFault};
use crate::{
    secret::{Secret, SecretKey},
    state_dir::{self, ANY_BY_OTHERS},
};

/// Its name.
pub const NAME: &str = "keys.json";

/// What the file holds, each as the config would have it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    jwt_secret: String,
    encryption_key: String,
}

/// Keys that were made here.
pub(super) struct KeptKeys {
    pub(super) jwt_secret: Secret,
    pub(super) encryption_key: SecretKey,
}

impl<'de> Deserialize<'de> for KeptKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Written { jwt_secret, encryption_key } = Written::deserialize(deserializer)?;
        let (jwt_secret, encryption_key) = (Secret::new(jwt_secret), Secret::new(encryption_key));
        let key = SecretKey::parse(encryption_key.expose());
        let encryption_key = key.filter(|_| jwt_secret.expose().len() >= 32);
        let encryption_key = encryption_key.ok_or_else(|| serde::de::Error::custom("no keys"))?;
        Ok(Self { jwt_secret, encryption_key })
    }
}

/// The keys that are kept there, if any are.
pub(super) fn load(directory: &Path) -> Result<Option<KeptKeys>, StoreFault> {
    let path = directory.join(NAME);
    let text = match state_dir::read_own(&path, ANY_BY_OTHERS) {
        Ok(text) => Secret::new(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreFault::of(&path, error)),
    };
    // What the error quotes may be a key.
    let keys = serde_json::from_str(text.expose());
    keys.map(Some).map_err(|_| {
        StoreFault::of(&path, "holds no keys as a gateway writes them; put back the file as it was")
    })
}

/// The keys that are kept there, or new ones that are kept there from now on. Of several gateways that begin at once, one makes
/// them, and all take those.
pub(super) fn load_or_make(directory: &Path) -> Result<KeptKeys, StoreFault> {
    if let Some(keys) = load(directory)? {
        return Ok(keys);
    }
    // They are there before any login is. So without them, nothing opens what is there.
    let is_used = database::is_used(directory);
    if let Some(keys) = load(directory)? {
        return Ok(keys);
    }
    if is_used {
        return Err(lost(directory));
    }
    make(directory).map_err(|error| StoreFault::of(&directory.join(NAME), error))?;
    load(directory)?.ok_or_else(|| lost(directory))
}

/// They are gone, and logins are there.
pub(super) fn lost(directory: &Path) -> StoreFault {
    StoreFault::of(
        &directory.join(NAME),
        format!(
            "is gone, and {name} is there, which opens with its keys only; put it back, or remove {name}, which ends all logins",
            name = database::NAME
        ),
    )
}

fn make(directory: &Path) -> io::Result<()> {
    let random = || SecretKey::random().map_err(io::Error::other);
    let jwt_secret = random()?.written().expose().trim_start_matches("base64:").to_owned();
    let written = Written { jwt_secret, encryption_key: random()?.written().expose().to_owned() };
    let text = Secret::new(serde_json::to_string_pretty(&written).map_err(io::Error::other)? + "\n");
    let _wiped = (Secret::new(written.jwt_secret), Secret::new(written.encryption_key));
    let new = directory.join(state_dir::temporary("keys")?);
    let made = state_dir::write_new(&new, 0o600, text.expose()).and_then(|()| {
        // Fails where there is one, so that nobody's keys are replaced.
        fs::hard_link(&new, directory.join(NAME))
    });
    let removed = fs::remove_file(&new);
    match made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => removed?,
    }
    fs::File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn keys_are_made_once_whoever_comes_at_the_same_time() {
        let directory = tempfile::TempDir::new().unwrap();
        let all: Vec<_> = std::thread::scope(|scope| {
            let begun: Vec<_> =
                (0..8).map(|_| scope.spawn(|| load_or_make(directory.path()).ok().unwrap())).collect();
            begun.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(all.iter().all(|keys| keys.jwt_secret == all[0].jwt_secret));
        assert!(all.iter().all(|keys| keys.encryption_key == all[0].encryption_key));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left behind");
        let path = directory.path().join(NAME);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let fault = load(directory.path()).err().unwrap().to_string();
        assert!(fault.contains("keys.json: other users may read it"), "{fault}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, r#"{"jwtSecret": "canary", "encryptionKey": "canary"}"#).unwrap();
        let fault = load(directory.path()).err().unwrap().to_string();
        assert!(fault.contains("holds no keys") && !fault.contains("canary"), "{fault}");
    }
}
