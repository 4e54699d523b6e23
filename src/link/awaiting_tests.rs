use std::cell::{Cell, RefCell};

use serde_json::{Value, json};

use super::*;
use crate::mcp::connect::{AccountState, Wanted};

const FIRST: CredentialKey = CredentialKey::STATIC;

fn notice() -> ConnectNotice {
    ConnectNotice {
        server: "github".into(),
        display_name: "GitHub".into(),
        url: Some("https://gw.example/oauth/authorize?server_id=github".into()),
        wants: Wanted::Account { state: AccountState::Awaiting, scopes: Vec::new(), by_admin: false },
        has_tool: true,
        elicits: true,
    }
}

/// A session with a server that waits, and what plays the server once there is a credential.
struct Played {
    link: Link,
    waits: Waits,
    key: Rc<Cell<CredentialKey>>,
    changes: watch::Sender<u64>,
    /// The far end of each link that was opened to the server.
    opened: Rc<RefCell<Vec<ServerEnd>>>,
}

impl Played {
    /// `goes_on`: whether the session goes on with the server.
    fn new(goes_on: bool) -> Self {
        let key = Rc::new(Cell::new(FIRST));
        let (changes, of_changes) = watch::channel(0);
        let opened = Rc::new(RefCell::new(Vec::new()));
        let waits = Waits::default();
        let (of_key, of_open, of_opened) = (Rc::clone(&key), Rc::clone(&key), Rc::clone(&opened));
        let open: OpenServer = Box::new(move || {
            let (link, end) = Link::pair();
            of_opened.borrow_mut().push(end);
            let key = of_open.get();
            Box::pin(async move { Ok(Some((link, key))) })
        });
        let link = super::open(AwaitingServer {
            notice: notice(),
            key: Box::new(move || of_key.get()),
            changes: of_changes,
            waits: waits.clone(),
            open: goes_on.then_some(open),
        });
        Self { link, waits, key, changes, opened }
    }

    async fn say(&self, message: Value) {
        let message = Message::parse(message.to_string().into()).unwrap();
        self.link.to_server.send(ToServer::Message(message.into())).await.unwrap();
    }

    async fn hear(&mut self) -> Value {
        match self.link.from_server.recv().await {
            Some(FromServer::Message { message, .. }) => serde_json::from_slice(message.text()).unwrap(),
            Some(FromServer::Failed { error, .. }) => {
                json!({ "failed": error.kind.code(), "url": error.connect_url })
            }
            Some(FromServer::Ended { .. }) => json!("ended"),
            None => json!("gone"),
        }
    }

    async fn ask(&mut self, message: Value) -> Value {
        self.say(message).await;
        self.hear().await
    }

    async fn initialize(&mut self, elicitation: Value) {
        let capabilities = json!({ "elicitation": elicitation });
        let params = json!({ "protocolVersion": "2025-11-25", "capabilities": capabilities });
        let answer = self.ask(json!({ "id": 0, "method": "initialize", "params": params })).await;
        assert_eq!(answer["result"]["serverInfo"]["name"], "github");
        self.say(json!({ "method": "notifications/initialized" })).await;
    }

    /// Somebody has connected: the credential is this one.
    fn connect(&self, id: u8) {
        self.key.set(CredentialKey::of_caller([id; 16]));
        self.changes.send_modify(|changes| *changes += 1);
    }

    fn server(&self) -> ServerEnd {
        self.opened.borrow_mut().remove(0)
    }
}

async fn heard(server: &mut ServerEnd) -> Value {
    match server.from_client.recv().await {
        Some(ToServer::Message(outbound)) => serde_json::from_slice(outbound.message.text()).unwrap(),
        _ => json!("gone"),
    }
}

async fn tell(server: &ServerEnd, message: Value) {
    let message = Message::from_server(message.to_string().into()).unwrap();
    server.to_client.send(FromServer::Message { message, about: None }).await.unwrap();
}

fn on_worker(test: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true);
    builder.build_local(tokio::runtime::LocalOptions::default()).unwrap().block_on(test);
}

fn list() -> Value {
    json!({ "id": 1, "method": "tools/list" })
}

fn call(tool: &str) -> Value {
    json!({ "id": 2, "method": "tools/call", "params": { "name": tool, "arguments": {} } })
}

#[test]
fn a_session_goes_on_with_the_server_once_somebody_has_connected() {
    on_worker(async {
        let mut played = Played::new(true);
        played.initialize(json!({})).await;
        assert_eq!(played.ask(list()).await["result"]["tools"][0]["name"], "connect_github");
        assert_eq!(played.ask(call("search")).await["result"]["isError"], true);
        assert!(played.waits.get());
        // A change of something else is none.
        played.changes.send_modify(|changes| *changes += 1);
        assert_eq!(played.ask(list()).await["result"]["tools"][0]["name"], "connect_github");
        played.connect(1);
        while played.opened.borrow().is_empty() {
            tokio::task::yield_now().await;
        }
        let mut server = played.server();
        let hello = heard(&mut server).await;
        assert_eq!(
            (&hello["method"], &hello["params"]["protocolVersion"]),
            (&json!("initialize"), &json!("2025-11-25"))
        );
        tell(&server, json!({ "method": "notifications/message", "params": {} })).await;
        tell(&server, json!({ "id": hello["id"], "result": { "protocolVersion": "2025-11-25" } })).await;
        assert_eq!(heard(&mut server).await["method"], "notifications/initialized");
        assert_eq!(played.hear().await["method"], "notifications/tools/list_changed");
        assert!(!played.waits.get());
        played.say(call("search")).await;
        assert_eq!(heard(&mut server).await["params"]["name"], "search");
        tell(&server, json!({ "id": 2, "result": { "content": [] } })).await;
        assert_eq!(played.hear().await["result"]["content"], json!([]));
        // Who has the old list learns that it is old.
        let told = played.ask(call("connect_github")).await;
        assert!(told["result"]["content"][0]["text"].as_str().unwrap().contains("is connected"), "{told}");
        // Another account is another conversation.
        played.connect(2);
        assert_eq!(played.hear().await, "ended");
        assert_eq!(heard(&mut server).await, "gone");
    });
}

#[test]
fn who_can_be_led_to_a_url_is_and_hears_when_it_is_done() {
    on_worker(async {
        let mut played = Played::new(true);
        played.initialize(json!({ "url": {} })).await;
        let error = &played.ask(call("search")).await["error"];
        assert_eq!(error["code"], -32042);
        let asked = error["data"]["elicitations"][0].clone();
        assert_eq!(asked["mode"], "url");
        assert_eq!(asked["url"].as_str(), notice().url.as_deref());
        assert_eq!(played.ask(list()).await["result"]["tools"][0]["name"], "connect_github");
        played.connect(1);
        let done = played.hear().await;
        assert_eq!(done["method"], "notifications/elicitation/complete");
        assert_eq!(done["params"]["elicitationId"], asked["elicitationId"]);
    });
}

#[test]
fn what_cannot_be_said_otherwise_is_refused_with_the_url() {
    on_worker(async {
        let mut played = Played::new(false);
        played.initialize(json!({})).await;
        let read = json!({ "id": 3, "method": "resources/read", "params": { "uri": "a:b" } });
        let refused = played.ask(read).await;
        assert_eq!(refused["failed"], "upstream_authorization_required");
        assert_eq!(refused["url"].as_str(), notice().url.as_deref());
        // Whoever uses it opens another link.
        played.connect(1);
        assert_eq!(played.ask(list()).await["result"]["tools"][0]["name"], "connect_github");
        assert!(played.opened.borrow().is_empty() && played.waits.get());
    });
}

#[test]
fn a_server_of_another_version_ends_the_session() {
    on_worker(async {
        let mut played = Played::new(true);
        played.initialize(json!({})).await;
        played.connect(1);
        while played.opened.borrow().is_empty() {
            tokio::task::yield_now().await;
        }
        let mut server = played.server();
        let hello = heard(&mut server).await;
        tell(&server, json!({ "id": hello["id"], "result": { "protocolVersion": "2025-03-26" } })).await;
        assert_eq!(played.hear().await, "ended");
    });
}
