//! Where a client may be sent back to. Whoever is there gets the code, so this is what keeps codes from others.

use std::net::IpAddr;

use url::{Host, Url};

use crate::config::oauth::Registration;

/// Bytes of one at most: as much as a browser's address takes, with room for an answer.
pub const LONGEST_REDIRECT_URI: usize = 2048;

/// What is at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedirectTarget {
    /// A web site, at this host, which is elsewhere; with its port, if that is not the one of `https`: another one is another site.
    Site(String),
    /// A program that listens on the machine of whoever logs in, with a certificate or without. Which one it is, nobody can tell.
    Loopback,
    /// A program on that machine that opens links of this scheme. Any program may say that it does.
    App(String),
}

/// Why nobody may be sent to a redirect URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedirectFault {
    /// It is longer than any.
    TooLong,
    /// It is not a whole URL of visible ASCII.
    NoUrl,
    /// It has a fragment (RFC 6749 §3.1.2).
    Fragment,
    /// It has a user or a password.
    User,
    /// It is neither of `https`, nor of `http` on the user's machine, nor of one of the schemes of programs.
    Scheme,
}

impl RedirectTarget {
    /// What is at the other end of a redirect URI, where programs have these `schemes`.
    pub fn of(uri: &str, schemes: &[String]) -> Result<Self, RedirectFault> {
        if uri.len() > LONGEST_REDIRECT_URI {
            return Err(RedirectFault::TooLong);
        }
        let is_plain = uri.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
        let url = Url::parse(uri).ok().filter(|_| is_plain).ok_or(RedirectFault::NoUrl)?;
        if url.fragment().is_some() {
            return Err(RedirectFault::Fragment);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(RedirectFault::User);
        }
        // The scheme as it was written, with the slashes of an authority: `https:evil.example` is a URL to browsers.
        let has_scheme = |text: &str| uri.strip_prefix(text).is_some_and(|rest| !rest.starts_with('/'));
        match (url.scheme(), url.host()) {
            ("https", Some(host)) if has_scheme("https://") && is_this_machine(&host) => Ok(Self::Loopback),
            ("https", Some(host)) if has_scheme("https://") => Ok(Self::Site(match url.port() {
                Some(port) => format!("{host}:{port}"),
                None => host.to_string(),
            })),
            ("https", _) => Err(RedirectFault::NoUrl),
            ("http", _) if loopback(uri).is_some() => Ok(Self::Loopback),
            ("http", _) => Err(RedirectFault::Scheme),
            (scheme, _) if schemes.iter().any(|listed| listed == scheme) && uri.starts_with(scheme) => {
                Ok(Self::App(scheme.to_owned()))
            }
            _ => Err(RedirectFault::Scheme),
        }
    }

    /// Whether it is on the machine of whoever logs in, where any program may listen.
    pub fn is_local(&self) -> bool {
        !matches!(self, Self::Site(_))
    }

    /// Whether it is a site at one of these hosts, which are written in small letters and without a dot at their end, whatever the port.
    pub fn is_at_host_of(&self, hosts: &[String]) -> bool {
        let Self::Site(site) = self else { return false };
        let host = match site.strip_prefix('[') {
            Some(rest) => rest.split(']').next(),
            None => site.split(':').next(),
        };
        let host = host.unwrap_or_default().trim_end_matches('.');
        hosts.iter().any(|own| own == host)
    }

    /// In a word: a host, with its port if need be, or a scheme with its colon.
    pub fn name(&self) -> String {
        match self {
            Self::Site(host) => host.clone(),
            Self::Loopback => "localhost".to_owned(),
            Self::App(scheme) => format!("{scheme}:"),
        }
    }

    /// The one that [`Self::name`] calls so. `None` for a scheme that is not listed any more.
    pub fn named(name: &str, schemes: &[String]) -> Option<Self> {
        match name.strip_suffix(':') {
            Some(scheme) => {
                schemes.iter().any(|listed| listed == scheme).then(|| Self::App(scheme.to_owned()))
            }
            None if name == "localhost" => Some(Self::Loopback),
            None => Some(Self::Site(name.to_owned())),
        }
    }

    /// Whether a client that the config does not have may be sent there. To the gateway's own hosts only if they are listed: their name
    /// would vouch for whoever is behind one of its servers.
    pub fn is_allowed(&self, registration: &Registration, own_hosts: &[String]) -> bool {
        match (registration, self) {
            (Registration::Open, _) => !self.is_at_host_of(own_hosts),
            (Registration::Off, _) => false,
            (Registration::Hosts(hosts), Self::Site(host)) => hosts.contains(host),
            (Registration::Hosts(_), Self::Loopback | Self::App(_)) => true,
        }
    }
}

/// Whether a client that named `registered` may be sent to `asked`: it is the same, byte for byte, but for the port of a loopback
/// address, which the client has from its system at each start (RFC 8252 §7.3). There, no path is the path `/` (RFC 3986
/// §6.2.3).
pub fn is_same_redirect(registered: &str, asked: &str) -> bool {
    registered == asked
        || loopback(registered).zip(loopback(asked)).is_some_and(|(registered, asked)| registered == asked)
}

/// The host, and what is behind the port, of a redirect URI on this machine.
fn loopback(uri: &str) -> Option<(&str, &str)> {
    let rest = uri.strip_prefix("http://")?;
    let host = ["localhost", "127.0.0.1", "[::1]"].into_iter().find(|host| rest.starts_with(host))?;
    let behind = &rest[host.len()..];
    let behind = match behind.strip_prefix(':') {
        Some(port) => {
            let end = port.bytes().take_while(u8::is_ascii_digit).count();
            // A port of zero or of six digits is none.
            port[..end].parse().ok().filter(|port: &u16| *port != 0)?;
            &port[end..]
        }
        None => behind,
    };
    let tail = if behind.is_empty() { "/" } else { behind };
    (tail.starts_with('/') || tail.starts_with('?')).then_some((host, tail))
}

/// Whether a host is the machine that asks for it (RFC 6761 §6.3, RFC 1122 §3.2.1.3).
fn is_this_machine(host: &Host<&str>) -> bool {
    let is_own = |address: IpAddr| address.is_loopback() || address.is_unspecified();
    match host {
        Host::Domain(name) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        Host::Ipv4(address) => is_own(IpAddr::from(*address)),
        Host::Ipv6(address) => is_own(IpAddr::from(*address).to_canonical()),
    }
}

/// Whether a URL is at one of these hosts.
pub fn is_at(url: &Url, hosts: &[String]) -> bool {
    matches!(url.host(), Some(Host::Domain(name)) if hosts.iter().any(|host| host == name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use url::Position;

    use super::*;

    fn schemes() -> Vec<String> {
        ["cursor", "vscode", "vscode-insiders"].map(str::to_owned).to_vec()
    }

    /// What was registered, what is asked for, and whether that is right.
    const PAIRS: [(&str, &str, bool); 66] = [
        // The same.
        ("https://claude.ai/api/mcp/auth_callback", "https://claude.ai/api/mcp/auth_callback", true),
        ("https://a.example/cb?x=1", "https://a.example/cb?x=1", true),
        (
            "cursor://anysphere.cursor-mcp/oauth/callback",
            "cursor://anysphere.cursor-mcp/oauth/callback",
            true,
        ),
        ("http://localhost:1/callback", "http://localhost:1/callback", true),
        ("https://a.example:8443/cb", "https://a.example:8443/cb", true),
        // Another port of this machine.
        ("http://localhost/callback", "http://localhost:49152/callback", true),
        ("http://localhost:3118/callback", "http://localhost:49152/callback", true),
        ("http://localhost:3118/callback", "http://localhost/callback", true),
        ("http://127.0.0.1:33418", "http://127.0.0.1:33419", true),
        ("http://127.0.0.1:33418", "http://127.0.0.1:33418/", true),
        ("http://127.0.0.1/", "http://127.0.0.1:33418", true),
        ("http://[::1]/cb", "http://[::1]:65535/cb", true),
        ("http://localhost:6274/oauth/callback?x=1", "http://localhost:1/oauth/callback?x=1", true),
        // Another port of another machine.
        ("https://a.example/cb", "https://a.example:8443/cb", false),
        ("https://a.example/cb", "https://a.example:443/cb", false),
        ("https://a.example:8443/cb", "https://a.example:8444/cb", false),
        ("https://localhost/cb", "https://localhost:1/cb", false),
        // Another host, in whatever dress.
        ("http://localhost/cb", "http://127.0.0.1/cb", false),
        ("http://127.0.0.1/cb", "http://localhost/cb", false),
        ("http://127.0.0.1/cb", "http://[::1]/cb", false),
        ("http://127.0.0.1/cb", "http://127.0.0.2/cb", false),
        ("http://127.0.0.1/cb", "http://127.1/cb", false),
        ("http://127.0.0.1/cb", "http://0x7f000001/cb", false),
        ("http://[::1]/cb", "http://[0:0:0:0:0:0:0:1]/cb", false),
        ("http://localhost/cb", "http://localhost.evil.example/cb", false),
        ("http://localhost/cb", "http://localhost.:80/cb", false),
        ("http://localhost/cb", "http://LOCALHOST/cb", false),
        ("http://localhost/cb", "http://evil.example/cb", false),
        ("http://localhost/cb", "http://localhost@evil.example/cb", false),
        ("http://localhost/cb", "http://localhost:80@evil.example/cb", false),
        ("http://localhost/cb", "http://localhost:@evil.example/cb", false),
        ("http://localhost/cb", "http://evil@localhost/cb", false),
        ("http://localhost/cb", "http://localhost\\@evil.example/cb", false),
        ("http://localhost/cb", "http://localhost:80\\.evil.example/cb", false),
        ("http://localhost/cb", "http://localhost%2eevil.example/cb", false),
        ("https://a.example/cb", "https://a.example.evil.example/cb", false),
        ("https://a.example/cb", "https://evil.example/cb", false),
        ("https://a.example/cb", "https://A.example/cb", false),
        ("https://a.example/cb", "https://a.example./cb", false),
        ("https://a.example/cb", "https://b.a.example/cb", false),
        ("https://a.example/cb", "https://a.example@evil.example/cb", false),
        // Another scheme.
        ("https://a.example/cb", "http://a.example/cb", false),
        ("http://localhost/cb", "https://localhost/cb", false),
        ("http://localhost/cb", "HTTP://localhost/cb", false),
        ("https://a.example/cb", "//a.example/cb", false),
        ("https://a.example/cb", "javascript:alert(1)", false),
        (
            "cursor://anysphere.cursor-mcp/oauth/callback",
            "vscode://anysphere.cursor-mcp/oauth/callback",
            false,
        ),
        ("cursor://anysphere.cursor-mcp/oauth/callback", "cursor://evil/oauth/callback", false),
        // Another path, query or fragment.
        ("https://a.example/cb", "https://a.example/cb/", false),
        ("https://a.example/cb", "https://a.example/CB", false),
        ("https://a.example/cb", "https://a.example/cb/../evil", false),
        ("https://a.example/cb", "https://a.example/%63b", false),
        ("https://a.example/cb", "https://a.example/cb?x=1", false),
        ("https://a.example/cb?x=1", "https://a.example/cb", false),
        ("https://a.example/cb", "https://a.example/cb#x", false),
        ("https://a.example/cb", "https://a.example/cb;x", false),
        ("http://localhost/cb", "http://localhost:80/", false),
        ("http://localhost/cb", "http://localhost:80/cb?x=1", false),
        ("http://localhost/cb", "http://localhost:80/cb#x", false),
        ("http://127.0.0.1:33418", "http://127.0.0.1:33418/evil", false),
        // No port at all.
        ("http://localhost/cb", "http://localhost:/cb", false),
        ("http://localhost/cb", "http://localhost:0/cb", false),
        ("http://localhost/cb", "http://localhost:65536/cb", false),
        ("http://localhost/cb", "http://localhost:+80/cb", false),
        // Nothing.
        ("http://localhost/cb", "", false),
        ("", "http://localhost/cb", false),
    ];

    #[test]
    fn a_client_is_sent_where_it_said_and_nowhere_else() {
        for (registered, asked, is_right) in PAIRS {
            assert_eq!(is_same_redirect(registered, asked), is_right, "{registered} {asked}");
        }
    }

    #[test]
    fn who_is_at_the_other_end_is_told_by_the_uri() {
        let of = |uri: &str| RedirectTarget::of(uri, &schemes()).ok();
        for (uri, host) in [
            ("https://claude.ai/api/mcp/auth_callback", "claude.ai"),
            ("https://chatgpt.com/connector/oauth/abc", "chatgpt.com"),
            ("https://vscode.dev/redirect", "vscode.dev"),
            ("https://a.example:8443/cb", "a.example:8443"),
            ("https://a.example:443/cb", "a.example"),
            ("https://[2001:db8::1]:8443/cb", "[2001:db8::1]:8443"),
            ("https://a.example", "a.example"),
            ("https://localhost.a.example/cb", "localhost.a.example"),
            ("https://notlocalhost/cb", "notlocalhost"),
            ("https://192.168.0.1/cb", "192.168.0.1"),
            ("https://[fd00::1]/cb", "[fd00::1]"),
        ] {
            assert_eq!(of(uri), Some(RedirectTarget::Site(host.into())), "{uri}");
        }
        for uri in [
            "http://localhost/",
            "http://127.0.0.1:33418",
            "http://[::1]:1/cb",
            "https://localhost/cb",
            "https://LOCALHOST:8443/cb",
            "https://localhost./cb",
            "https://app.localhost/cb",
            "https://127.0.0.1:8443/cb",
            "https://127.1/cb",
            "https://0x7f000002/cb",
            "https://0.0.0.0/cb",
            "https://[::1]/cb",
            "https://[::]/cb",
            "https://[::ffff:127.0.0.1]/cb",
        ] {
            assert_eq!(of(uri), Some(RedirectTarget::Loopback), "{uri}");
        }
        assert_eq!(
            of("cursor://anysphere.cursor-mcp/oauth/callback"),
            Some(RedirectTarget::App("cursor".into()))
        );
        for bad in [
            "",
            "/cb",
            "a.example/cb",
            "http://a.example/cb",
            "http://localhost.evil.example/cb",
            "http://127.0.0.2/cb",
            "http://localhost@evil.example/cb",
            "http:localhost/cb",
            "https:a.example/cb",
            "https:///a.example/cb",
            "https://",
            "https://user@a.example/cb",
            "https://user:password@a.example/cb",
            "https://a.example/cb#",
            "https://a.example/cb#x",
            "https://a.example\\@evil.example/",
            "https://a.example/c b",
            "https://a.example/\u{e9}",
            "https://a.example/\n",
            "javascript:alert(1)",
            "data:text/html,x",
            "file:///etc/passwd",
            "intent://x",
            "CURSOR://x",
            "cursor-evil://x",
            &format!("https://a.example/{}", "x".repeat(LONGEST_REDIRECT_URI)),
        ] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }

    #[test]
    fn whom_the_config_does_not_have_comes_as_far_as_it_says() {
        let hosts = Registration::Hosts(vec!["claude.ai".into()]);
        for (redirect_target, of_hosts) in [
            (RedirectTarget::Site("claude.ai".into()), true),
            (RedirectTarget::Site("evil.claude.ai".into()), false),
            (RedirectTarget::Site("claude.ai:8443".into()), false),
            (RedirectTarget::Loopback, true),
            (RedirectTarget::App("cursor".into()), true),
        ] {
            assert!(
                redirect_target.is_allowed(&Registration::Open, &[])
                    && !redirect_target.is_allowed(&Registration::Off, &[])
            );
            assert_eq!(redirect_target.is_allowed(&hosts, &[]), of_hosts, "{redirect_target:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_sent_to_this_machine_is_for_this_machine(
            host in "(localhost|127.0.0.1|\\[::1\\])",
            tail in "[a-z0-9.:/?@#%\\\\-]{0,16}",
        ) {
            let registered = format!("http://{host}/cb");
            let asked = format!("http://{host}{tail}");
            if is_same_redirect(&registered, &asked) {
                // As a browser reads it.
                let url = Url::parse(&asked).unwrap();
                prop_assert_eq!(url.host_str(), Some(host.as_str()));
                prop_assert_eq!((url.path(), url.query(), url.fragment()), ("/cb", None, None));
                prop_assert!(url.username().is_empty());
            }
        }

        #[test]
        fn a_uri_that_is_taken_is_where_its_receiver_is(uri in "(https://|http://|cursor:)?[a-z0-9.:/?@#%\\[\\]\\\\ -]{0,30}") {
            if let Ok(redirect_target) = RedirectTarget::of(&uri, &schemes()) {
                let url = Url::parse(&uri).unwrap();
                match redirect_target {
                    RedirectTarget::Site(site) => prop_assert_eq!(url[Position::BeforeHost..Position::AfterPort].to_owned(), site),
                    RedirectTarget::Loopback => prop_assert!(is_this_machine(&url.host().unwrap())),
                    RedirectTarget::App(scheme) => prop_assert_eq!(scheme, "cursor"),
                }
            }
        }
    }
}
