//! JSON documents of hosts that a stranger names: what a client says of itself.
//!
//! All that is fetched comes through here, and only over HTTPS at port 443, from a host whose addresses are all of the
//! [public Internet](super::internet). A redirect is not followed. Nothing of an answer is shown to whoever asked, and a fetch that
//! fails says in one word why.

use std::{
    collections::HashMap,
    fmt,
    future::ready,
    rc::Rc,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use parking_lot::Mutex;
use tokio::{sync::OnceCell, time::timeout};
use url::{Host, Url};

use super::{
    Origin, UpstreamSocket,
    client::{Client, ClientRequest, ClientResponse, whole},
    internet::{Internet, NotReached, PublicHosts, SystemInternet},
};
use crate::{
    error::ErrorKind,
    identity::foreign::source::{Ask, AskBody},
    ledger::{AddressBlock, PendingTable},
    net::global::is_global,
};

/// Bytes of a URL at most.
const LONGEST_URL: usize = 1024;
/// How long a fetch may take in all.
const MOST_TIME: Duration = Duration::from_secs(5);
/// How long a host may take for the head of an answer, and for each part of its body. Who asks has less for all, mostly.
const MOST_SILENCE: Duration = Duration::from_secs(10);
/// Fetches at a time, in all and of those who ask from one address. Who comes then gets the place of another one.
const MOST: usize = 64;
const OF_ONE_ADDRESS: usize = 4;
/// Look-ups of names at a time: in all, of those who ask from one network, and from one address. Nothing ends one before its time,
/// whoever has left: it has a thread as long.
const MOST_LOOK_UPS: usize = 256;
const LOOK_UPS_OF_ONE_NETWORK: usize = 8;
const LOOK_UPS_OF_ONE_ADDRESS: usize = 4;

/// Where a document is. It is exactly as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DocumentUrl(Url);

impl DocumentUrl {
    /// The one of this text: `https`, in the form that all parsers agree on (so without dot segments, without `:443`, in lower
    /// case), without user, port and fragment.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > LONGEST_URL || text.contains('#') {
            return None;
        }
        let url = Url::parse(text).ok().filter(|url| url.as_str() == text)?;
        // A name without a dot, or of this machine, is none that others know. Neither is an address in another dress.
        let is_public_host = match url.host()? {
            Host::Domain(name) => name.contains('.') && !name.ends_with('.') && !name.ends_with(".localhost"),
            Host::Ipv4(address) => is_global(address.into()),
            Host::Ipv6(address) => is_global(address.into()),
        };
        let is_plain = url.scheme() == "https"
            && url.port().is_none()
            && url.username().is_empty()
            && url.password().is_none()
            // `https://@host/` has no user, and yet one to some readers.
            && !text["https://".len()..].split('/').next()?.contains('@');
        (is_plain && is_public_host).then_some(Self(url))
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The host.
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// The path.
    pub fn path(&self) -> &str {
        self.0.path()
    }

    /// What is asked for: path and query.
    fn target(&self) -> &str {
        &self.0[url::Position::BeforePath..url::Position::AfterQuery]
    }
}

/// A document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// What is in it. It says that it is JSON.
    pub body: Bytes,
    /// How long its host says that it stays as it is.
    pub fresh_for: Option<Duration>,
}

/// Why there is no document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotFetched {
    /// Others wanted one meanwhile, or as many names are looked up as may be. It says nothing about the document.
    Busy,
    /// The host has no address.
    Unresolved,
    /// An address of the host is not of the public Internet.
    NotPublic,
    /// The host cannot be connected to, or its certificate is not good.
    Unreachable,
    /// It sends elsewhere.
    Redirect,
    /// It answers with something else than a document of the type and size.
    NotADocument,
    /// It took too long.
    Timeout,
}

impl NotFetched {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Busy,
        Self::Unresolved,
        Self::NotPublic,
        Self::Unreachable,
        Self::Redirect,
        Self::NotADocument,
        Self::Timeout,
    ];

    /// As metrics and log call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Unresolved => "unresolved",
            Self::NotPublic => "not_public",
            Self::Unreachable => "unreachable",
            Self::Redirect => "redirect",
            Self::NotADocument => "not_a_document",
            Self::Timeout => "timeout",
        }
    }
}

impl From<NotReached> for NotFetched {
    fn from(why: NotReached) -> Self {
        match why {
            NotReached::Busy => Self::Busy,
            NotReached::Unresolved => Self::Unresolved,
            NotReached::NotPublic => Self::NotPublic,
            NotReached::Unreachable => Self::Unreachable,
        }
    }
}

/// Which document, and how large it may be.
type Key = (DocumentUrl, usize);
type Fetched = Result<Arc<Document>, NotFetched>;
type Cell = OnceCell<Fetched>;

/// Fetches documents.
pub struct Documents {
    hosts: PublicHosts,
    /// What is being fetched. Who asks for the same waits for the same.
    running: Mutex<HashMap<Key, Weak<Cell>>>,
    /// Who has something fetched.
    pending: PendingTable,
    look_ups: Arc<LookUps>,
}

impl Default for Documents {
    fn default() -> Self {
        Self::of(Arc::new(SystemInternet))
    }
}

impl fmt::Debug for Documents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Documents")
    }
}

impl Documents {
    /// Documents of this Internet.
    pub fn of(internet: Arc<dyn Internet>) -> Self {
        Self {
            hosts: PublicHosts::of(internet),
            running: Mutex::default(),
            pending: PendingTable::new(MOST, OF_ONE_ADDRESS),
            look_ups: Arc::default(),
        }
    }

    /// The document at `url`, of so many bytes at most, for somebody at this address.
    pub async fn fetch(&self, url: &DocumentUrl, most: usize, address: AddressBlock) -> Fetched {
        let flight = self.flight((url.clone(), most));
        let fetched = flight.cell.get_or_try_init(async || {
            let fetching = timeout(MOST_TIME, self.fetch_now(url, most, address));
            // That one who asks has lost the place is not for the others who wait: the next of them begins anew.
            match self.pending.begin(address).during(fetching).await {
                None | Some(Ok(Err(NotFetched::Busy))) => Err(NotFetched::Busy),
                Some(fetched) => Ok(fetched.unwrap_or(Err(NotFetched::Timeout))),
            }
        });
        // Whoever waits for others waits no longer either.
        timeout(MOST_TIME, fetched).await.unwrap_or(Err(NotFetched::Timeout))?.clone()
    }

    /// How many are being fetched.
    pub fn running(&self) -> usize {
        self.running.lock().len()
    }

    fn flight(&self, key: Key) -> Flight<'_> {
        let mut running = self.running.lock();
        let cell = running.get(&key).and_then(Weak::upgrade).unwrap_or_default();
        running.insert(key.clone(), Arc::downgrade(&cell));
        Flight { of: self, key, cell }
    }

    async fn fetch_now(&self, url: &DocumentUrl, most: usize, address: AddressBlock) -> Fetched {
        let (origin, transport) = self.hosts.connect(&url.0, || self.look_ups.begin(address)).await?;
        get(origin, transport, url.target(), most).await.map(Arc::new)
    }
}

/// One who waits for a document, with others who wait for the same.
struct Flight<'a> {
    of: &'a Documents,
    key: Key,
    cell: Arc<Cell>,
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let mut running = self.of.running.lock();
        // It is over, or nobody waits any more. Another may have begun since.
        let is_last = self.cell.initialized() || Arc::strong_count(&self.cell) == 1;
        let is_this = |cell: &Weak<Cell>| cell.as_ptr() == Arc::as_ptr(&self.cell);
        if is_last && running.get(&self.key).is_some_and(is_this) {
            running.remove(&self.key);
        }
    }
}

/// For whom names are looked up at present.
#[derive(Default)]
struct LookUps(Mutex<Vec<AddressBlock>>);

/// One of them, until it is dropped.
struct LookUp(Arc<LookUps>, AddressBlock);

impl LookUps {
    fn begin(self: &Arc<Self>, address: AddressBlock) -> Option<LookUp> {
        let mut all = self.0.lock();
        let of_address = all.iter().filter(|other| **other == address).count();
        let of_network = all.iter().filter(|other| other.network() == address.network()).count();
        if all.len() >= MOST_LOOK_UPS
            || of_network >= LOOK_UPS_OF_ONE_NETWORK
            || of_address >= LOOK_UPS_OF_ONE_ADDRESS
        {
            return None;
        }
        all.push(address);
        Some(LookUp(Arc::clone(self), address))
    }
}

impl Drop for LookUp {
    fn drop(&mut self) {
        let mut all = self.0.0.lock();
        if let Some(at) = all.iter().position(|address| *address == self.1) {
            all.swap_remove(at);
        }
    }
}

/// The document that a host has there.
async fn get(
    origin: Origin,
    transport: UpstreamSocket,
    target: &str,
    most: usize,
) -> Result<Document, NotFetched> {
    match exchange(origin, transport, target, Ask::default(), most).await? {
        (StatusCode::OK, document) => Ok(document),
        _ => Err(NotFetched::NotADocument),
    }
}

/// What a host answers, over a connection that is not used again. A refusal is an answer where the gateway asked for something to be
/// done, or proved who it is.
pub(super) async fn exchange(
    origin: Origin,
    transport: UpstreamSocket,
    target: &str,
    ask: Ask,
    most: usize,
) -> Result<(StatusCode, Document), NotFetched> {
    let response = answered(origin, transport, target, ask).await?.plain();
    let mut response = response.map_err(|_| NotFetched::NotADocument)?;
    if response.status.is_redirection() {
        return Err(NotFetched::Redirect);
    }
    if is_failing(response.status) {
        // What is in it says nothing.
        return Ok((response.status, Document { body: Bytes::new(), fresh_for: None }));
    }
    // What was asked for is there, or was made (RFC 7591 §3.2.1), or is refused.
    let is_answer =
        matches!(response.status, StatusCode::OK | StatusCode::CREATED) || response.status.is_client_error();
    if !is_answer || !is_json(&response.headers) {
        return Err(NotFetched::NotADocument);
    }
    let fresh_for = max_age(&response.headers);
    let body = whole(&mut response.body, most, MOST_SILENCE, |_| ready(Ok(()))).await;
    let body = body.map_err(|_| NotFetched::NotADocument)?;
    Ok((response.status, Document { body, fresh_for }))
}

/// The head of what a host answers, and its body as it comes, over a connection that is not used again.
pub(super) async fn answered(
    origin: Origin,
    transport: UpstreamSocket,
    target: &str,
    ask: Ask,
) -> Result<ClientResponse, NotFetched> {
    let client = Client {
        origin: Arc::new(origin),
        pool: Rc::default(),
        connect_timeout: MOST_SILENCE,
        head_timeout: MOST_SILENCE,
    };
    let mut fields = ask.fields;
    if !fields.iter().any(|(name, _)| *name == header::ACCEPT) {
        fields.push((header::ACCEPT, HeaderValue::from_static("application/json")));
    }
    fields.push((header::CONNECTION, HeaderValue::from_static("close")));
    fields.extend(ask.authorization.map(|value| (header::AUTHORIZATION, value)));
    let (method, body) = match ask.body {
        None => (Method::GET, Bytes::new()),
        Some(body) => {
            let (kind, text) = match body {
                AskBody::Form(form) => ("application/x-www-form-urlencoded", form),
                AskBody::Json(json) => ("application/json", json),
            };
            fields.push((header::CONTENT_TYPE, HeaderValue::from_static(kind)));
            (Method::POST, Bytes::from_owner(text))
        }
    };
    let request = ClientRequest { method, path: target, fields: &fields, configured: &[], body };
    let response = client.answered_over(transport, request, || {}).await;
    response.map_err(|error| match error.kind {
        ErrorKind::UpstreamTimeout => NotFetched::Timeout,
        _ => NotFetched::NotADocument,
    })
}

/// Whether a host says that it cannot answer at the moment.
pub(super) fn is_failing(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}

/// Whether an answer says that it is JSON (RFC 8259 §11, RFC 6838 §4.2.8).
fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(only), None) = (types.next().and_then(|value| value.to_str().ok()), types.next()) else {
        return false;
    };
    let essence = only.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// How long it stays fresh, as far as its host says so (RFC 9111 §5.2.2).
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let directives: Vec<_> = values
        .flat_map(|value| value.split(','))
        .map(|directive| directive.trim().to_ascii_lowercase())
        .collect();
    if directives.iter().any(|directive| directive == "no-store" || directive == "no-cache") {
        return Some(Duration::ZERO);
    }
    let seconds = directives.iter().find_map(|directive| directive.strip_prefix("max-age="))?;
    seconds.trim_matches('"').parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_url_is_taken_as_it_was_written_or_not_at_all() {
        for good in [
            "https://claude.ai/oauth/mcp-oauth-client-metadata",
            "https://vscode.dev/oauth/client-metadata.json",
            "https://example.com/a?b=c",
            "https://8.8.8.8/x",
            "https://[2600:1901::1]/x",
            "https://example.com/%2F",
            "https://example.com/a@b",
        ] {
            assert_eq!(DocumentUrl::parse(good).as_ref().map(DocumentUrl::as_str), Some(good));
        }
        for bad in [
            "",
            "https:",
            "https://",
            "example.com/x",
            "http://example.com/x",
            "ftp://example.com/x",
            "file:///etc/passwd",
            "data:application/json,{}",
            "HTTPS://example.com/x",
            "https://Example.com/x",
            "https:/example.com/x",
            "https:example.com/x",
            "https://example.com",
            "https://example.com:443/x",
            "https://example.com:8443/x",
            "https://example.com:/x",
            "https://user@example.com/x",
            "https://user:password@example.com/x",
            "https://@example.com/x",
            "https://:@example.com/x",
            "https://example.com/x#",
            "https://example.com/x#y",
            "https://example.com/./x",
            "https://example.com/../x",
            "https://example.com/a/%2e%2e/x",
            "https://example.com/a/.%2E/x",
            "https://example.com\\x",
            "https://example.com/a b",
            "https://example.com/x\n",
            " https://example.com/x",
            "https://exa\tmple.com/x",
            "https://localhost/x",
            "https://a.localhost/x",
            "https://intranet/x",
            "https://example.com./x",
            "https://127.0.0.1/x",
            "https://127.1/x",
            "https://0x7f.0.0.1/x",
            "https://2130706433/x",
            "https://10.0.0.1/x",
            "https://169.254.169.254/latest/meta-data",
            "https://[::1]/x",
            "https://[::ffff:127.0.0.1]/x",
            "https://[::ffff:7f00:1]/x",
            "https://[fd00::1]/x",
            "https://[fe80::1%25eth0]/x",
            "https://ｅｘａｍｐｌｅ.com/x",
            "https://example。com/x",
            "https://exämple.com/x",
            "https://%6cocalhost/x",
            "https://example.com@evil.example/x",
            "https://evil.example\\@example.com/x",
            &format!("https://example.com/{}", "x".repeat(LONGEST_URL)),
        ] {
            assert_eq!(DocumentUrl::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_url_is_it_names_one_place_over_https(text in "(https://)?[a-z0-9.@:/\\\\#?%\\[\\]-]{0,40}") {
            if let Some(url) = DocumentUrl::parse(&text) {
                prop_assert_eq!(url.as_str(), &text);
                let rest = text.strip_prefix("https://").unwrap();
                // The authority, as the simplest of readers finds it.
                let authority = rest.split('/').next().unwrap();
                prop_assert_eq!(url.host(), authority);
                prop_assert!(url.target().starts_with('/'));
                prop_assert_eq!(format!("https://{authority}{}", url.target()), text);
            }
        }
    }

    fn headers(name: header::HeaderName, values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), HeaderValue::try_from(*value).unwrap())).collect()
    }

    #[test]
    fn what_says_that_it_is_json_is_json() {
        for good in ["application/json", "Application/JSON; charset=utf-8", "application/oauth-client+json"] {
            assert!(is_json(&headers(header::CONTENT_TYPE, &[good])), "{good}");
        }
        for bad in [
            &[][..],
            &[""],
            &["text/html"],
            &["text/json"],
            &["application/jsonp"],
            &["json"],
            &["application/json"; 2],
        ] {
            assert!(!is_json(&headers(header::CONTENT_TYPE, bad)), "{bad:?}");
        }
    }

    #[test]
    fn how_long_it_stays_fresh_is_said_by_its_host() {
        for (values, fresh_for) in [
            (&[][..], None),
            (&["public"], None),
            (&["max-age=60"], Some(60)),
            (&["public, Max-Age=\"3600\", immutable"], Some(3600)),
            (&["public", "max-age=5"], Some(5)),
            (&["max-age=x"], None),
            (&["max-age=60, no-store"], Some(0)),
            (&["no-cache"], Some(0)),
        ] {
            let found = max_age(&headers(header::CACHE_CONTROL, values));
            assert_eq!(found, fresh_for.map(Duration::from_secs), "{values:?}");
        }
    }

    #[test]
    fn one_who_has_many_names_looked_up_leaves_threads_for_others() {
        let look_ups = Arc::<LookUps>::default();
        let address = |text: &str| AddressBlock::from(text.parse::<IpAddr>().unwrap());
        let begin_all =
            |text: &str| -> Vec<_> { std::iter::from_fn(|| look_ups.begin(address(text))).collect() };
        let of_one = begin_all("192.0.2.1");
        assert_eq!(of_one.len(), LOOK_UPS_OF_ONE_ADDRESS);
        let of_neighbour = begin_all("192.0.2.2");
        assert_eq!(of_one.len() + of_neighbour.len(), LOOK_UPS_OF_ONE_NETWORK);
        assert!(look_ups.begin(address("192.0.2.3")).is_none());
        assert!(look_ups.begin(address("198.51.100.1")).is_some());
        drop(of_one);
        assert_eq!(begin_all("192.0.2.3").len(), LOOK_UPS_OF_ONE_ADDRESS);
        let all: Vec<_> = (0..=255).flat_map(|network| begin_all(&format!("10.0.{network}.1"))).collect();
        assert_eq!(all.len() + of_neighbour.len(), MOST_LOOK_UPS);
        drop((all, of_neighbour));
        assert!(look_ups.0.lock().is_empty());
    }
}
