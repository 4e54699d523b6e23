//! A client, and servers that answer from a table.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, VecDeque},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use http::HeaderName;
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, watch},
    task::LocalSet,
    time::timeout,
};

use crate::{
    config::{Collision, Naming},
    error::ErrorKind,
    ledger::Owner,
    link::{
        FromServer, Link, Outbound, ToServer,
        aggregate::{AggregateSettings, Member, MemberReport, MemberTimeouts, open},
        filter::Filter,
    },
    mcp::message::{self, Id, Message, Part},
    observe::Health,
};

/// Longer than anything that a test waits for. Time passes by itself when nobody has anything to do.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn story(test: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

/// What a server does with a request.
#[derive(Clone)]
pub(super) enum Reply {
    Result(Value),
    /// The text of the result, byte for byte.
    Text(&'static str),
    Error(i64),
    Silence,
    /// Reads nothing any more, from this request on.
    Deafness,
    /// Answers after so many seconds.
    After(u64, Value),
}

/// A server that the test plays.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) name: &'static str,
    /// What it answers, by method; a page of a list by method and cursor: `tools/list?c1`.
    replies: Rc<RefCell<HashMap<String, Reply>>>,
    pub(super) is_granted: Rc<Cell<bool>>,
    /// Changes when something else is configured in its place.
    pub(super) epoch: Rc<Cell<u64>>,
    /// Whether it can be reached.
    pub(super) is_up: Rc<Cell<bool>>,
    pub(super) opened: Rc<Cell<usize>>,
    pub(super) ended: Rc<Cell<usize>>,
    pub(super) patience: Rc<Cell<MemberTimeouts>>,
    /// Outlives conversations, as the server does.
    pub(super) health: Arc<Health>,
    heard: Rc<RefCell<Vec<Message>>>,
    to_client: Rc<RefCell<Option<mpsc::Sender<FromServer>>>>,
}

impl Server {
    /// A server that has nothing yet.
    pub(super) fn new(name: &'static str) -> Self {
        let server = Self {
            name,
            replies: Rc::default(),
            is_granted: Rc::new(Cell::new(true)),
            epoch: Rc::default(),
            is_up: Rc::new(Cell::new(true)),
            opened: Rc::default(),
            ended: Rc::default(),
            patience: Rc::new(Cell::new(MemberTimeouts {
                answer: None,
                start: Duration::from_secs(30),
                idle: Duration::from_secs(300),
            })),
            health: Arc::default(),
            heard: Rc::default(),
            to_client: Rc::default(),
        };
        server.greets("2025-06-18", json!({}))
    }

    /// A server with tools of these names.
    pub(super) fn with_tools(name: &'static str, tools: &[&str]) -> Self {
        let tools: Vec<_> = tools.iter().map(|tool| json!({ "name": tool, "inputSchema": {} })).collect();
        Self::new(name)
            .greets("2025-06-18", json!({ "tools": {} }))
            .on("tools/list", Reply::Result(json!({ "tools": tools })))
    }

    pub(super) fn greets(self, version: &str, capabilities: Value) -> Self {
        let greeting = json!({ "protocolVersion": version, "capabilities": capabilities, "serverInfo": {} });
        self.on("initialize", Reply::Result(greeting))
    }

    pub(super) fn on(self, method: &str, reply: Reply) -> Self {
        self.replies.borrow_mut().insert(method.to_owned(), reply);
        self
    }

    /// Requests and notifications of a method that came.
    pub(super) fn heard(&self, method: &str) -> Vec<Value> {
        let heard = self.heard.borrow();
        heard.iter().filter(|message| message.method() == method).map(value).collect()
    }

    /// Responses that came.
    pub(super) fn answers(&self) -> Vec<Value> {
        let heard = self.heard.borrow();
        heard.iter().filter(|message| message.kind() == message::MessageKind::Response).map(value).collect()
    }

    pub(super) async fn says(&self, text: impl ToString) {
        self.says_about(text, None).await;
    }

    pub(super) async fn says_about(&self, text: impl ToString, about: Option<&Value>) {
        let message = Message::from_server(text.to_string().into()).unwrap();
        let about = about.map(|id| Id::number(id.as_u64().unwrap()));
        let sender = self.to_client.borrow().clone().unwrap();
        sender.send(FromServer::Message { message, about }).await.unwrap();
    }

    /// May take so long.
    pub(super) fn takes(self, change: impl Fn(&mut MemberTimeouts)) -> Self {
        let mut patience = self.patience.get();
        change(&mut patience);
        self.patience.set(patience);
        self
    }

    /// Its process dies.
    pub(super) fn dies(&self) {
        self.to_client.borrow_mut().take();
    }

    fn member(&self) -> Member {
        let (server, of) = (self.clone(), Rc::clone(&self.is_granted));
        let (epoch, patience) = (Rc::clone(&self.epoch), Rc::clone(&self.patience));
        Member {
            name: self.name.into(),
            granted: Box::new(move || of.get().then(|| epoch.get())),
            patience: Box::new(move || patience.get()),
            health: Arc::clone(&self.health),
            filter: Filter::open(),
            open: Box::new(move || {
                let server = server.clone();
                Box::pin(async move {
                    if !server.is_up.get() {
                        return Err(ErrorKind::UpstreamUnreachable.with_cause("connection refused"));
                    }
                    server.opened.set(server.opened.get() + 1);
                    let (link, server_end) = Link::pair();
                    *server.to_client.borrow_mut() = Some(server_end.to_client);
                    tokio::task::spawn_local(server.serve(server_end.from_client));
                    Ok(link)
                })
            }),
        }
    }

    async fn serve(self, mut from_client: mpsc::Receiver<ToServer>) {
        while let Some(said) = from_client.recv().await {
            let message = match said {
                ToServer::Message(outbound) => outbound.message,
                ToServer::Abandon(id) => {
                    Message::notification("abandoned", &json!({ "id": id.to_string() }).to_string()).unwrap()
                }
            };
            self.heard.borrow_mut().push(message.clone());
            let (message::MessageKind::Request, Some(id)) = (message.kind(), message.id()) else { continue };
            let cursor = value(&message)["params"]["cursor"].as_str().map(|cursor| format!("?{cursor}"));
            let key = format!("{}{}", message.method(), cursor.unwrap_or_default());
            let reply = self.replies.borrow().get(&key).cloned();
            let answer = match reply {
                Some(Reply::Result(result)) => Message::result_for(id, &result.to_string()),
                Some(Reply::Text(result)) => Message::result_for(id, result),
                Some(Reply::Error(code)) => Message::error_for(id, code, self.name),
                Some(Reply::Silence) => continue,
                Some(Reply::Deafness) => std::future::pending().await,
                Some(Reply::After(seconds, result)) => {
                    tokio::time::sleep(Duration::from_secs(seconds)).await;
                    Message::result_for(id, &result.to_string())
                }
                // What came, and who got it.
                None if !key.ends_with("list") && !key.contains("discover") => {
                    let params = message.part(Part::Params).unwrap_or("null");
                    Message::result_for(id, &format!(r#"{{"from":"{}","params":{params}}}"#, self.name))
                }
                None => Message::error_for(id, -32601, "no"),
            };
            let Some(sender) = self.to_client.borrow().clone() else { break };
            let _ = sender.send(FromServer::Message { message: answer.unwrap(), about: None }).await;
        }
        self.ended.set(self.ended.get() + 1);
    }
}

pub(super) fn prefixed() -> AggregateSettings {
    settings(Naming::Prefixed { separator: "__".into() })
}

pub(super) fn flat(on_collision: Collision) -> AggregateSettings {
    settings(Naming::Flat { on_collision, separator: "__".into() })
}

fn settings(naming: Naming) -> AggregateSettings {
    AggregateSettings {
        naming,
        lazy: false,
        discovery_timeout: Duration::from_secs(5),
        owner: Owner::unlimited(),
        name: "gate".into(),
        version: "0.0.0".into(),
        changes: watch::channel(0).1,
        listens: Arc::default(),
        report: Rc::new(|_| ()),
    }
}

/// What the client hears.
#[derive(Debug)]
pub(super) enum Heard {
    Message { value: Value, text: String, about: Option<String> },
    Failed { id: String, kind: ErrorKind },
}

pub(super) struct Client {
    link: Link,
    unread: VecDeque<Heard>,
    pub(super) reports: Rc<RefCell<Vec<String>>>,
}

impl Client {
    pub(super) fn new(mut settings: AggregateSettings, servers: &[&Server]) -> Self {
        let reports = Rc::new(RefCell::new(Vec::new()));
        let told = Rc::clone(&reports);
        settings.report = Rc::new(move |report: MemberReport<'_>| {
            if !matches!(report, MemberReport::Listed { .. }) {
                told.borrow_mut().push(format!("{report:?}"));
            }
        });
        let link = open(servers.iter().map(|server| server.member()).collect(), settings);
        Self { link, unread: VecDeque::new(), reports }
    }

    /// A client that has a session.
    pub(super) async fn in_session(settings: AggregateSettings, servers: &[&Server]) -> Self {
        let mut client = Self::new(settings, servers);
        client.initialize().await;
        client
    }

    pub(super) async fn initialize(&mut self) -> Value {
        let params =
            json!({ "protocolVersion": "2025-11-25", "capabilities": { "sampling": {} }, "clientInfo": {} });
        let answer = self.ask(0, "initialize", params).await;
        self.note("notifications/initialized", json!({})).await;
        answer["result"].clone()
    }

    pub(super) async fn says(&self, text: impl ToString) {
        let message = Message::parse(text.to_string().into()).unwrap();
        self.link.to_server.send(ToServer::Message(message.into())).await.unwrap();
    }

    /// A request with a `Mcp-Param-*` field.
    pub(super) async fn request_with_field(&self, id: u64, method: &str, params: Value) {
        let text = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string();
        let message = Message::parse(text.into()).unwrap();
        let field = (HeaderName::from_static("mcp-param-region"), http::HeaderValue::from_static("us-west1"));
        let outbound = Outbound { params: vec![field], ..message.into() };
        self.link.to_server.send(ToServer::Message(outbound)).await.unwrap();
    }

    pub(super) async fn note(&self, method: &str, params: Value) {
        self.says(json!({ "method": method, "params": params })).await;
    }

    pub(super) async fn request(&self, id: impl Into<Value>, method: &str, params: Value) {
        self.says(json!({ "jsonrpc": "2.0", "id": id.into(), "method": method, "params": params })).await;
    }

    pub(super) async fn abandon(&self, id: u64) {
        self.link.to_server.send(ToServer::Abandon(Id::number(id))).await.unwrap();
    }

    /// Sends a request and waits for its answer.
    pub(super) async fn ask(&mut self, id: u64, method: &str, params: Value) -> Value {
        self.request(id, method, params).await;
        self.answer(id).await
    }

    pub(super) async fn answer(&mut self, id: impl Into<Value>) -> Value {
        let id = id.into();
        let heard = self
            .hear(|heard| match heard {
                Heard::Message { value, .. } => value.get("method").is_none() && value["id"] == id,
                Heard::Failed { .. } => false,
            })
            .await;
        let Heard::Message { value, .. } = heard else { unreachable!() };
        value
    }

    pub(super) async fn failure(&mut self, id: u64) -> ErrorKind {
        let id = id.to_string();
        let heard = self.hear(|heard| matches!(heard, Heard::Failed { id: of, .. } if *of == id)).await;
        let Heard::Failed { kind, .. } = heard else { unreachable!() };
        kind
    }

    /// The next request or notification of a method, and what it is about.
    pub(super) async fn told(&mut self, method: &str) -> (Value, Option<String>) {
        let heard = self
            .hear(|heard| matches!(heard, Heard::Message { value, .. } if value["method"] == *method))
            .await;
        let Heard::Message { value, about, .. } = heard else { unreachable!() };
        (value, about)
    }

    /// The names in a list.
    pub(super) async fn names(&mut self, id: u64, method: &str) -> Vec<String> {
        let answer = self.ask(id, method, json!({})).await;
        let lists = answer["result"].as_object().unwrap_or_else(|| panic!("{answer}"));
        let items = lists.values().find_map(Value::as_array).unwrap();
        let key = |item: &Value| {
            ["name", "uri", "uriTemplate"].into_iter().find_map(|key| item[key].as_str().map(str::to_owned))
        };
        items.iter().map(|item| key(item).unwrap()).collect()
    }

    pub(super) async fn hear(&mut self, is_wanted: impl Fn(&Heard) -> bool) -> Heard {
        if let Some(at) = self.unread.iter().position(&is_wanted) {
            return self.unread.remove(at).unwrap();
        }
        loop {
            let heard = match timeout(PATIENCE, self.link.from_server.recv()).await {
                Ok(Some(FromServer::Message { message, about })) => Heard::Message {
                    value: value(&message),
                    text: String::from_utf8(message.text().to_vec()).unwrap(),
                    about: about.map(|id| id.to_string()),
                },
                Ok(Some(FromServer::Failed { id, error })) => {
                    Heard::Failed { id: id.to_string(), kind: error.kind }
                }
                other => panic!("{other:?}, and before it {:?}", self.unread),
            };
            if is_wanted(&heard) {
                return heard;
            }
            self.unread.push_back(heard);
        }
    }

    /// Waits until nobody has anything to do, and gives what was not asked for.
    pub(super) async fn rest(&mut self) -> Vec<String> {
        // Less than any time-out.
        tokio::time::sleep(Duration::from_millis(1)).await;
        while let Ok(said) = self.link.from_server.try_recv() {
            if let FromServer::Message { message, .. } = said {
                let text = String::from_utf8(message.text().to_vec()).unwrap();
                self.unread.push_back(Heard::Message { value: value(&message), text, about: None });
            }
        }
        let unread = self.unread.drain(..);
        unread
            .map(|heard| match heard {
                Heard::Message { value, .. } => value["method"].as_str().unwrap_or("answer").to_owned(),
                Heard::Failed { kind, .. } => format!("{kind:?}"),
            })
            .collect()
    }
}

fn value(message: &Message) -> Value {
    serde_json::from_slice(message.text()).unwrap()
}
