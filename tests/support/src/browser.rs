//! A browser for the gateway's pages, as far as a test needs one: it keeps cookies, says from which page a form comes, and follows
//! nothing by itself.

use std::{collections::BTreeMap, net::SocketAddr};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use crate::{
    harness::{CI, Client, DEV, Gate, fields},
    tls::Identity,
    users::CHEAP_HASHES,
};

/// Where the gateway is, as far as its clients know.
pub const BASE: &str = "https://mcp.example.com";

/// The config of a gateway with pages: two tokens, and two users with [`PASSWORD`](crate::users::PASSWORD).
pub fn config(tls: &Identity, servers: &Value) -> Value {
    json!({
        "proxy": {
            "baseUrl": BASE,
            "tls": tls.config(),
            "auth": {
                "kind": "oauth",
                "storage": "memory",
                "tokens": { "dev": DEV, "ci": CI },
                "users": {
                    "alice": { "passwordHash": CHEAP_HASHES[0] },
                    "bob": { "passwordHash": CHEAP_HASHES[1] },
                },
            },
        },
        "mcpServers": servers,
    })
}

/// A browser. One that goes to no page, and so keeps no cookie, is any program that speaks HTTP.
pub struct Browser<'a> {
    addr: SocketAddr,
    /// `None` for a gateway without TLS.
    tls: Option<&'a Identity>,
    base: &'a str,
    /// What it keeps for the gateway.
    pub cookies: BTreeMap<String, String>,
}

/// What a browser got.
#[derive(Debug)]
pub struct Got {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl<'a> Browser<'a> {
    /// One that has been nowhere.
    pub fn new(gate: &'a Gate, tls: &'a Identity) -> Self {
        Self { addr: gate.addr, tls: Some(tls), base: BASE, cookies: BTreeMap::new() }
    }

    /// The same for a gateway without TLS, whose clients know it as `base`.
    pub fn plain(addr: SocketAddr, base: &'a str) -> Self {
        Self { addr, tls: None, base, cookies: BTreeMap::new() }
    }

    /// Follows a link.
    pub async fn get(&mut self, target: &str) -> Got {
        self.send("GET", target, "", "").await
    }

    /// Sends a form of the gateway's own page.
    pub async fn submit(&mut self, target: &str, form: &[(&str, &str)]) -> Got {
        self.submit_from(target, form, Some(self.base)).await
    }

    /// Sends a form of a page of this origin.
    pub async fn submit_from(&mut self, target: &str, form: &[(&str, &str)], origin: Option<&str>) -> Got {
        let origin = origin.map(|origin| format!("Origin: {origin}\r\n")).unwrap_or_default();
        let fields = format!("{origin}Content-Type: application/x-www-form-urlencoded\r\n");
        self.send("POST", target, &fields, &query(form)).await
    }

    /// Sends any request, with these further fields, each with its line end.
    pub async fn send(&mut self, method: &str, target: &str, fields_: &str, body: &str) -> Got {
        let path = target.strip_prefix(self.base).unwrap_or(target);
        let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let cookies =
            if cookies.is_empty() { String::new() } else { format!("Cookie: {}\r\n", cookies.join("; ")) };
        let length = match method {
            "POST" => format!("Content-Length: {}\r\n", body.len()),
            _ => String::new(),
        };
        let (_, host) = self.base.split_once("://").unwrap();
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{cookies}{fields_}{length}\r\n{body}");
        let stream = TcpStream::connect(self.addr).await.unwrap();
        let (status, head, body) = match self.tls {
            Some(tls) => {
                answer(tls.connect(stream, &["http/1.1"], rustls::ALL_VERSIONS).await.unwrap(), request).await
            }
            None => answer(stream, request).await,
        };
        for cookie in fields(&head, "set-cookie") {
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            if cookie.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        Got { status, head, body }
    }
}

async fn answer<T: AsyncRead + AsyncWrite + Unpin>(stream: T, request: String) -> (u16, String, String) {
    let mut client = Client::new(stream);
    client.send(request).await;
    client.response().await
}

/// Fields as a query or a form writes them.
pub fn query(fields: &[(&str, &str)]) -> String {
    let escaped = |text: &str| -> String {
        text.bytes()
            .map(|byte| match byte {
                b' ' => "+".to_owned(),
                byte if byte.is_ascii_alphanumeric() || b"-._*".contains(&byte) => {
                    char::from(byte).to_string()
                }
                byte => format!("%{byte:02X}"),
            })
            .collect()
    };
    let pairs: Vec<_> =
        fields.iter().map(|(name, value)| format!("{}={}", escaped(name), escaped(value))).collect();
    pairs.join("&")
}

impl Got {
    /// What a browser sends from then on that was given cookies by it: `name=value`, for the field `Cookie`.
    pub fn cookies(&self) -> String {
        let pairs = fields(&self.head, "set-cookie").filter_map(|cookie| cookie.split(';').next());
        pairs.collect::<Vec<_>>().join("; ")
    }

    /// The form at `/oauth` by which a program is revoked: where it goes, and its fields.
    pub fn revocation(&self, program: &str) -> (String, [(&'static str, String); 2]) {
        let button = format!("aria-label=\"Revoke {program}\"");
        let (before, _) = self.body.split_once(&button).expect("a button");
        let (_, form) = before.rsplit_once("<form method=\"post\" action=\"").unwrap();
        let field = |name| {
            let (_, rest) = form.split_once(&format!("name=\"{name}\" value=\"")).unwrap();
            (name, rest.split('"').next().unwrap().to_owned())
        };
        (form.split('"').next().unwrap().to_owned(), [field("csrf"), field("account")])
    }

    /// The value of a hidden field.
    pub fn hidden(&self, name: &str) -> String {
        let begin = format!("<input type=\"hidden\" name=\"{name}\" value=\"");
        let rest = self.body.split(&begin).nth(1).unwrap_or_else(|| panic!("no {name}: {}", self.body));
        rest.split('"').next().unwrap().to_owned()
    }

    /// Whether it is a page with this field to fill in.
    pub fn asks_for(&self, name: &str) -> bool {
        self.status < 500 && self.body.contains(&format!("name=\"{name}\""))
    }

    /// Where it leads: by a redirect, or by a page.
    pub fn leads_to(&self) -> Option<String> {
        if let Some(location) = fields(&self.head, "location").next() {
            return Some(location.to_owned());
        }
        self.attribute("content=\"0; url=")
    }

    /// Where a button leads that somebody has to press.
    pub fn offers(&self) -> Option<String> {
        match self.leads_to() {
            Some(_) => None,
            None => self.attribute("<a class=\"button\" href=\""),
        }
    }

    /// What follows `begin` in an attribute.
    fn attribute(&self, begin: &str) -> Option<String> {
        let escaped = self.body.split(begin).nth(1)?.split('"').next()?;
        Some(escaped.replace("&#38;", "&").replace("&amp;", "&"))
    }

    /// The value of a parameter of the URL to which it leads.
    pub fn answer(&self, name: &str) -> Option<String> {
        parameter(&self.leads_to()?, name)
    }

    /// The same of the one to which a button leads.
    pub fn offered(&self, name: &str) -> Option<String> {
        parameter(&self.offers()?, name)
    }
}

/// Where a gateway is that is reached by plain HTTP. Its pages say so in `Origin`.
pub const PLAIN: &str = "http://localhost";

/// A form that a page of such a gateway sends, or a program; `more` are further fields, each with its line end.
pub fn form(path: &str, more: &str, pairs: &[(&str, &str)]) -> String {
    let (body, origin) = (query(pairs), format!("Origin: {PLAIN}\r\n"));
    let (kind, length) = ("application/x-www-form-urlencoded", body.len());
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\n{origin}Content-Type: {kind}\r\nContent-Length: {length}\r\n{more}\r\n{body}"
    )
}

/// A link that is followed there.
pub fn link(path: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n")
}

/// What comes of a request.
pub async fn ask(client: &mut Client<TcpStream>, request: &str) -> Got {
    client.send(request).await;
    let (status, head, body) = client.response().await;
    Got { status, head, body }
}

fn parameter(target: &str, name: &str) -> Option<String> {
    let (_, query) = target.split_once('?')?;
    let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.replace("%3A", ":").replace("%2F", "/"))
}
