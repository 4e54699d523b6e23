//! `proxy.auth.schemes` and `queryToken`: in which ways a request may present its credential.

/// The ways in which a request may present its credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a way of its own, and any of them may be on")]
pub struct Schemes {
    /// `Authorization: Bearer TOKEN` (RFC 6750 §2.1).
    pub bearer: bool,
    /// `Authorization: Basic BASE64`, of a name and its secret (RFC 7617).
    pub basic: bool,
    /// `Authorization: ApiKey TOKEN`
    pub api_key: bool,
    /// `X-API-Key: TOKEN`
    pub x_api_key: bool,
    /// The cookie `token`.
    pub cookie: bool,
    /// `?token=`
    pub query: bool,
}

impl Default for Schemes {
    fn default() -> Self {
        Self { bearer: true, ..Self::NONE }
    }
}

impl Schemes {
    /// No way at all.
    pub const NONE: Self =
        Self { bearer: false, basic: false, api_key: false, x_api_key: false, cookie: false, query: false };
    /// Every way.
    pub const ALL: Self =
        Self { bearer: true, basic: true, api_key: true, x_api_key: true, cookie: true, query: true };

    /// The ways that both have.
    pub fn common(self, other: Self) -> Self {
        Self {
            bearer: self.bearer && other.bearer,
            basic: self.basic && other.basic,
            api_key: self.api_key && other.api_key,
            x_api_key: self.x_api_key && other.x_api_key,
            cookie: self.cookie && other.cookie,
            query: self.query && other.query,
        }
    }

    /// The same with the scheme that `proxy.auth.schemes` calls so.
    pub(crate) fn with(mut self, word: &str) -> Self {
        match word {
            "bearer" => self.bearer = true,
            "basic" => self.basic = true,
            "apikey" => self.api_key = true,
            "x-api-key" => self.x_api_key = true,
            "cookie" => self.cookie = true,
            _ => {}
        }
        self
    }
}
