//! How what is kept is written: as JSON, in which a URL and a secret are text.

/// A URL.
pub(super) mod url {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
    use url::Url;

    pub(crate) fn serialize<S: Serializer>(url: &Url, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(url.as_str())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Url, D::Error> {
        Url::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// URLs, of which there may be none: in an `Option` or a `Vec`.
pub(super) mod urls {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
    use url::Url;

    pub(crate) fn serialize<'a, S: Serializer>(
        urls: impl IntoIterator<Item = &'a Url>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(urls.into_iter().map(Url::as_str))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>, T: FromIterator<Url>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|text| Url::parse(text)).collect::<Result<T, _>>().map_err(D::Error::custom)
    }
}

/// A URL that may be missing.
pub(super) mod maybe_url {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
    use url::Url;

    pub(crate) fn serialize<S: Serializer>(url: &Option<Url>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(url.iter().map(Url::as_str))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.first().map(|text| Url::parse(text)).transpose().map_err(D::Error::custom)
    }
}

/// A text that several have.
pub(super) mod text {
    use std::sync::Arc;

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(text)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<str>, D::Error> {
        String::deserialize(deserializer).map(Arc::from)
    }
}

/// The same, which may be missing.
pub(super) mod maybe_text {
    use std::sync::Arc;

    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        text: &Option<Arc<str>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        text.as_deref().serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Arc<str>>, D::Error> {
        Option::<String>::deserialize(deserializer).map(|text| text.map(Arc::from))
    }
}

/// A secret.
pub(super) mod secret {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::secret::Secret;

    pub(crate) fn serialize<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(secret.expose())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        String::deserialize(deserializer).map(Secret::new)
    }
}

/// A secret that may be missing.
pub(super) mod maybe_secret {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use crate::secret::Secret;

    pub(crate) fn serialize<S: Serializer>(
        secret: &Option<Secret>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        secret.as_ref().map(Secret::expose).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Secret>, D::Error> {
        Option::<String>::deserialize(deserializer).map(|text| text.map(Secret::new))
    }
}

/// A way of proof, by its name.
pub(super) mod way {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use crate::config::ClientAuthWay;

    pub(crate) fn serialize<S: Serializer>(way: &ClientAuthWay, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(way.name())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ClientAuthWay, D::Error> {
        let name = String::deserialize(deserializer)?;
        ClientAuthWay::of_name(&name).ok_or_else(|| D::Error::custom("no way of proof that is known"))
    }
}

/// Ways of proof, if they are said.
pub(super) mod ways {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use crate::config::ClientAuthWay;

    pub(crate) fn serialize<S: Serializer>(
        ways: &Option<Vec<ClientAuthWay>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let names = |ways: &Vec<ClientAuthWay>| ways.iter().map(|way| way.name()).collect::<Vec<_>>();
        ways.as_ref().map(names).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<ClientAuthWay>>, D::Error> {
        let names = Option::<Vec<String>>::deserialize(deserializer)?;
        Ok(names.map(|names| names.iter().filter_map(|name| ClientAuthWay::of_name(name)).collect()))
    }
}
