//! The cookies of the pages. All servers of a gateway share its host with the pages, so that a cookie is written in the one way that
//! browsers let nobody else imitate, and read strictly.

use http::{HeaderMap, HeaderValue, header};

/// One of the cookies. They go to all paths: some are at the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cookie {
    /// Who is signed in at the pages.
    Login,
    /// Which browser a question of a program belongs to.
    Flow,
}

/// How browsers reach the pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// By HTTPS.
    Https,
    /// By plain HTTP, which is for this machine only. There, browsers take neither `Secure` nor the prefix that demands it.
    Loopback,
}

impl Reach {
    /// That of a base URL.
    pub fn of(base_url: &str) -> Self {
        let is_plain = base_url.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("http://"));
        if is_plain { Self::Loopback } else { Self::Https }
    }
}

impl Cookie {
    /// What it is called. No server of the gateway can set one of these names, nor see it (`proxy::cookies`); with the prefix, no other
    /// host of the domain and no answer without TLS can either (RFC 6265bis §4.1.3).
    pub fn name(self, reach: Reach) -> &'static str {
        match (self, reach) {
            (Self::Login, Reach::Https) => "__Host-sg-login",
            (Self::Login, Reach::Loopback) => "sg-login",
            (Self::Flow, Reach::Https) => "__Host-sg-flow",
            (Self::Flow, Reach::Loopback) => "sg-flow",
        }
    }

    /// Seconds after which browsers forget it.
    fn age(self) -> u32 {
        match self {
            Self::Login => 12 * 60 * 60,
            Self::Flow => 60 * 60,
        }
    }

    /// The field that sets it. `None` for a value that no cookie can have (RFC 6265 §4.1.1).
    pub fn set(self, reach: Reach, value: &str) -> Option<HeaderValue> {
        if value.is_empty() || !value.bytes().all(is_octet) {
            return None;
        }
        self.field(reach, value, self.age())
    }

    /// The field that ends it.
    pub fn end(self, reach: Reach) -> Option<HeaderValue> {
        self.field(reach, "", 0)
    }

    fn field(self, reach: Reach, value: &str, age: u32) -> Option<HeaderValue> {
        let secure = match reach {
            Reach::Https => " Secure;",
            Reach::Loopback => "",
        };
        // Lax: a program sends people here from its own site.
        let name = self.name(reach);
        let field = format!("{name}={value}; Path=/; Max-Age={age};{secure} HttpOnly; SameSite=Lax");
        let mut field = HeaderValue::try_from(field).ok()?;
        field.set_sensitive(true);
        Some(field)
    }

    /// Its value in a request. `None` if it is not there, or is there twice: one of them is of somebody else, and nobody knows which.
    pub fn read(self, reach: Reach, headers: &HeaderMap) -> Option<&str> {
        // HTTP/2 clients may send one field for each cookie (RFC 9113 §8.2.3).
        let fields = headers.get_all(header::COOKIE).into_iter();
        let pairs = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b';'));
        let mut values = pairs.filter_map(|pair| {
            let at = pair.iter().position(|byte| *byte == b'=')?;
            (pair[..at].trim_ascii() == self.name(reach).as_bytes()).then_some(&pair[at + 1..])
        });
        let value = values.next().filter(|_| values.next().is_none())?.trim_ascii_end();
        let is_plain = !value.is_empty() && value.iter().copied().all(is_octet);
        std::str::from_utf8(value).ok().filter(|_| is_plain)
    }
}

/// `cookie-octet` of RFC 6265 §4.1.1.
fn is_octet(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"\",;\\".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(header::COOKIE, HeaderValue::from_bytes(field.as_bytes()).unwrap());
        }
        Cookie::Login.read(Reach::Https, &headers).map(str::to_owned)
    }

    #[test]
    fn a_cookie_is_read_if_it_is_there_once() {
        for (fields, wanted) in [
            (&["__Host-sg-login=abc"] as &[_], Some("abc")),
            (&["a=1; __Host-sg-login=a_b-c=; b=2"], Some("a_b-c=")),
            (&["a=1", "__Host-sg-login=abc", "b"], Some("abc")),
            (&["__Host-sg-login=abc; __Host-sg-login=abc"], None),
            (&["__Host-sg-login=abc", "__Host-sg-login=x"], None),
            (&["__Host-sg-login=abc; __Host-sg-login="], None),
            (&["__Host-sg-login"], None),
            (&["__Host-sg-login="], None),
            (&["__host-sg-login=abc"], None),
            (&["x__Host-sg-login=abc"], None),
            (&["\"__Host-sg-login\"=abc"], None),
            (&["__Host-sg-login%3D=abc"], None),
            (&["__Host-sg-login=\"abc\""], None),
            (&["__Host-sg-login=a b"], None),
            (&["__Host-sg-login=\u{e9}"], None),
            (&["sg-login=abc"], None),
            (&[], None),
        ] {
            assert_eq!(read(fields).as_deref(), wanted, "{fields:?}");
        }
    }

    #[test]
    fn a_cookie_is_for_this_host_over_tls_and_for_no_script() {
        let set = |reach, value| {
            let field = Cookie::Login.set(reach, value)?;
            assert!(field.is_sensitive());
            field.to_str().ok().map(str::to_owned)
        };
        assert_eq!(
            set(Reach::Https, "abc").as_deref(),
            Some("__Host-sg-login=abc; Path=/; Max-Age=43200; Secure; HttpOnly; SameSite=Lax")
        );
        assert_eq!(
            set(Reach::Loopback, "abc").as_deref(),
            Some("sg-login=abc; Path=/; Max-Age=43200; HttpOnly; SameSite=Lax")
        );
        for bad in ["", "a;b", "a b", "a\r\nb", "a,b", "é"] {
            assert_eq!(set(Reach::Https, bad), None, "{bad:?}");
        }
        let ended = Cookie::Flow.end(Reach::Https).unwrap();
        assert_eq!(ended, "__Host-sg-flow=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Lax");
        assert_eq!(Reach::of("http://127.0.0.1:8080"), Reach::Loopback);
        assert_eq!(Reach::of("HTTP://localhost"), Reach::Loopback);
        assert_eq!(Reach::of("https://mcp.example.com"), Reach::Https);
    }
}
