//! What a client is told of a server that waits for a credential of its caller: where somebody connects, in each of the ways
//! that clients understand.
//!
//! Clients that can are asked by an elicitation that leads to a URL (MCP 2025-11-25 and later, mode `url`). All others get
//! words: in the result of a call, or as the one tool of the server, `connect_NAME`.

use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use sha2::{Digest, Sha256};

use crate::mcp::{
    codes::{INVALID_PARAMS, METHOD_NOT_FOUND, error_response},
    era::Era,
    message::{Id, Malformed, Message, Part},
    method::TOOLS_CALL,
    version::{LEGACY, MODERN, negotiate},
};

/// Before a client goes on, somebody has to open a URL (MCP 2025-11-25, elicitation, "URL Elicitation Required Error").
const URL_ELICITATION_REQUIRED: i64 = -32042;

/// The member of `_meta` that says the same as the words.
const META: &str = "sluicegate/authorization";

/// What is told of one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectNotice {
    /// Name of the server.
    pub server: Arc<str>,
    /// What people call it.
    pub display_name: Box<str>,
    /// Where somebody connects it. `None` if that is nothing that anybody could do in a browser.
    pub url: Option<Box<str>>,
    /// What it waits for.
    pub wants: Wanted,
    /// Whether it has a tool that says so in place of its own; else it is refused.
    pub has_tool: bool,
    /// Whether clients that can are asked by an elicitation.
    pub elicits: bool,
}

/// What a server waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// That somebody connects an account.
    Account {
        /// Why it is not.
        state: AccountState,
        /// What the account is to allow, as far as that is known.
        scopes: Vec<String>,
        /// Whether an admin connects it for everybody.
        by_admin: bool,
    },
    /// That the caller enters a token.
    Token {
        /// How somebody gets one.
        instructions: Option<Box<str>>,
    },
    /// That the caller comes by another token: why this one is no good.
    OtherToken(&'static str),
}

/// Why an account is not connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountState {
    /// It never was, or was disconnected.
    Awaiting,
    /// What was there is worth nothing any more.
    Reconnect,
    /// It may not do enough.
    NeedsScopes,
}

/// What a request comes to while the server waits.
#[derive(Debug)]
pub enum StandIn {
    /// This is the answer.
    Answer(Message),
    /// It is refused.
    Refused,
    /// It is no request.
    Nothing,
}

impl ConnectNotice {
    /// Name of the tool that says where somebody connects.
    pub fn tool_name(&self) -> String {
        format!("connect_{}", self.server)
    }

    /// What people are told.
    pub fn sentence(&self) -> String {
        let name = &self.display_name;
        let (what, then) = match &self.wants {
            Wanted::OtherToken(why) => return format!("{name} cannot be used with this token: {why}."),
            Wanted::Token { .. } => {
                (format!("{name} needs your own token"), "enter it there, then try again")
            }
            Wanted::Account { state: AccountState::Awaiting, by_admin: true, .. } => {
                (format!("{name} is not connected yet"), "an admin of this gateway connects it there")
            }
            Wanted::Account { by_admin: true, .. } => {
                (format!("{name} has to be connected again"), "an admin of this gateway connects it there")
            }
            Wanted::Account { state: AccountState::Awaiting, .. } => {
                (format!("{name} is not connected to your account"), "connect it there, then try again")
            }
            Wanted::Account { state: AccountState::Reconnect, .. } => (
                format!("{name} has to be connected to your account again"),
                "connect it there, then try again",
            ),
            Wanted::Account { state: AccountState::NeedsScopes, .. } => {
                (format!("{name} needs more rights at your account"), "allow them there, then try again")
            }
        };
        match &self.url {
            Some(url) => format!("{what}. Open {url} in a browser: {then}."),
            None => format!("{what}."),
        }
    }

    /// How far it is, in the words of the pages.
    fn state(&self) -> &'static str {
        match &self.wants {
            Wanted::Account { state: AccountState::Awaiting, .. } => "Awaiting OAuth",
            Wanted::Account { state: AccountState::Reconnect, .. } => "Reconnect",
            Wanted::Account { state: AccountState::NeedsScopes, .. } => "Needs scopes",
            Wanted::Token { .. } => "Enter token",
            Wanted::OtherToken(_) => "Other token",
        }
    }

    /// The same for programs: as Master MCP Server has it of accounts, and MCP Front of tokens.
    pub fn json(&self) -> Value {
        match (&self.wants, &self.url) {
            (Wanted::Account { scopes, .. }, Some(url)) => json!({
                "type": "oauth_delegation",
                "auth_endpoint": url,
                "token_endpoint": null,
                "client_info": { "client_id": null },
                "required_scopes": scopes,
                "redirect_after_auth": true,
            }),
            (Wanted::Token { instructions }, Some(url)) => json!({ "error": {
                "code": "token_required",
                "message": self.sentence(),
                "data": {
                    "service": &*self.server,
                    "tokenSetupUrl": url,
                    "instructions": instructions.as_deref().unwrap_or_default(),
                },
            } }),
            _ => {
                json!({ "error": { "code": "upstream_authorization_required", "message": self.sentence() } })
            }
        }
    }

    /// What `message` comes to, for a client that is not asked by an elicitation.
    pub fn answer(&self, message: &Message) -> StandIn {
        let Some(id) = message.response_id() else { return StandIn::Nothing };
        let era = Era::of(message);
        let outcome = match (message.method(), era) {
            (TOOLS_CALL, _) if self.has_tool && message.name() == Some(&self.tool_name()) => Ok(self.told()),
            (TOOLS_CALL, _) => Ok(self.refusal()),
            ("ping", Era::Legacy) => Ok(json!({})),
            _ if !self.has_tool => return StandIn::Refused,
            ("initialize", Era::Legacy) => Ok(self.greeting(message)),
            ("server/discover", Era::Modern) => Ok(json!({
                "supportedVersions": [MODERN],
                "capabilities": { "tools": { "listChanged": true } },
                "instructions": self.sentence(),
                "_meta": { "io.modelcontextprotocol/serverInfo": self.info() },
                "ttlMs": 0,
                "cacheScope": "private",
            })),
            ("tools/list", _) if message.has_cursor() => Err((INVALID_PARAMS, "unknown cursor")),
            ("tools/list", Era::Legacy) => Ok(json!({ "tools": [self.tool()] })),
            ("tools/list", Era::Modern) => {
                Ok(json!({ "tools": [self.tool()], "ttlMs": 0, "cacheScope": "private" }))
            }
            // It has neither, as it says itself.
            ("prompts/list" | "resources/list" | "resources/templates/list", _) => {
                Err((METHOD_NOT_FOUND, "method not found"))
            }
            _ => return StandIn::Refused,
        };
        let answer = match outcome {
            Ok(result) => result_of(id, era, result),
            Err((code, reason)) => Message::error_for(id, code, reason).ok(),
        };
        answer.map_or(StandIn::Refused, StandIn::Answer)
    }

    /// What a call of a tool comes to that was to reach the server; `None` if it is no such call.
    pub fn refused_call(&self, message: &Message) -> Option<Message> {
        let id = message.response_id().filter(|_| message.method() == TOOLS_CALL)?;
        result_of(id, Era::of(message), self.refusal())
    }

    /// What the tool says once there is a credential; `None` if it is not what is called.
    pub fn connected(server: &str, display_name: &str, message: &Message) -> Option<Message> {
        let is_tool = |name: &str| name.strip_prefix("connect_") == Some(server);
        let id = message.response_id().filter(|_| message.method() == TOOLS_CALL)?;
        message.name().filter(|name| is_tool(name))?;
        let text = format!("{display_name} is connected: list its tools anew.");
        let state = json!({ "server": server, "state": "Connected", "url": null }).to_string();
        let content = [json!({ "type": "text", "text": text }), json!({ "type": "text", "text": state })];
        result_of(id, Era::of(message), json!({ "content": content }))
    }

    /// Somebody was asked to connect and would not.
    pub fn declined(&self, message: &Message) -> Option<Message> {
        let id = message.response_id()?;
        let text = format!("{} was not connected: that was declined.", self.display_name);
        let said = json!({
            "content": [{ "type": "text", "text": text }, { "type": "text", "text": self.json().to_string() }],
            "isError": true,
            "_meta": { META: self.json() },
        });
        result_of(id, Era::of(message), said)
    }

    /// The result of a call that was to reach the server.
    fn refusal(&self) -> Value {
        let json = self.json();
        json!({
            "content": [
                { "type": "text", "text": self.sentence() },
                { "type": "text", "text": json.to_string() },
            ],
            "isError": true,
            "_meta": { META: json },
        })
    }

    /// What the tool says.
    fn told(&self) -> Value {
        let state = json!({ "server": &*self.server, "state": self.state(), "url": self.url });
        json!({
            "content": [
                { "type": "text", "text": self.sentence() },
                { "type": "text", "text": state.to_string() },
            ],
            "_meta": { META: self.json() },
        })
    }

    fn tool(&self) -> Value {
        json!({
            "name": self.tool_name(),
            "title": format!("Connect {}", self.display_name),
            "description": self.sentence(),
            "inputSchema": { "type": "object", "properties": {}, "additionalProperties": false },
            "annotations": { "readOnlyHint": true, "destructiveHint": false, "openWorldHint": false },
        })
    }

    fn greeting(&self, message: &Message) -> Value {
        let params = message.part(Part::Params);
        let asked = params.and_then(|params| serde_json::from_str::<Initialize>(params).ok());
        json!({
            "protocolVersion": negotiate(asked.as_ref().map(|asked| &*asked.protocol_version)),
            "capabilities": { "tools": { "listChanged": true } },
            "serverInfo": self.info(),
            "instructions": self.sentence(),
        })
    }

    fn info(&self) -> Value {
        json!({ "name": &*self.server, "version": env!("CARGO_PKG_VERSION") })
    }

    /// Whether the client of this self-contained request is asked by an elicitation (MCP 2026-07-28): it says that it can, and
    /// it asks for what may need input.
    pub fn may_elicit(&self, message: &Message) -> bool {
        self.elicits
            && self.url.is_some()
            && message.version() == Some(MODERN)
            && message.response_id().is_some()
            && takes_input(message.method())
            && declares_url(message.part(Part::Meta), |meta: Meta| meta.capabilities)
    }

    /// The elicitation, as the result of a request that the client is to make again with this state.
    pub fn elicitation(&self, message: &Message, state: &str) -> Option<Message> {
        let id = message.response_id()?;
        let params = json!({ "mode": "url", "url": self.url, "message": self.sentence() });
        let mut requests = serde_json::Map::new();
        requests.insert(self.tool_name(), json!({ "method": "elicitation/create", "params": params }));
        let result =
            json!({ "resultType": "input_required", "inputRequests": requests, "requestState": state });
        Message::result_for(id, &result.to_string()).ok()
    }

    /// The same as an error, for a client of a session that can (MCP 2025-11-25): the elicitation has this id.
    pub fn elicitation_error(&self, message: &Message, elicitation: &str) -> Option<Message> {
        let id = message.response_id().filter(|_| self.elicits && takes_input(message.method()))?;
        let url = self.url.as_ref()?;
        let asked = json!({
            "mode": "url", "elicitationId": elicitation, "url": url, "message": self.sentence(),
        });
        let data = json!({ "elicitations": [asked] });
        let error = error_response(Some(id), URL_ELICITATION_REQUIRED, &self.sentence(), Some(data));
        Message::from_server(error.into()).ok()
    }
}

/// Whether a client that begins a session by this `initialize` can be asked by an elicitation that leads to a URL. `agreed` is the
/// version that it gets.
pub fn can_be_elicited(initialize: &Message) -> bool {
    let params = initialize.part(Part::Params);
    let asked = params.and_then(|params| serde_json::from_str::<Initialize>(params).ok());
    // Older versions have none.
    asked.is_some_and(|asked| negotiate(Some(&asked.protocol_version)) == LEGACY[0])
        && declares_url(params, |params: Declaring| params.capabilities)
}

/// That somebody has done what an elicitation asked for (MCP 2025-11-25).
pub fn elicitation_complete(elicitation: &str) -> Result<Message, Malformed> {
    let params = json!({ "elicitationId": elicitation });
    Message::notification("notifications/elicitation/complete", &params.to_string())
}

/// What a request is, for the state by which it comes back: the same when all is asked for anew that was asked for.
pub fn digest_of(message: &Message) -> [u8; 32] {
    let arguments = message.part(Part::Arguments).unwrap_or_default();
    // A client may write the same with other blanks.
    let arguments = serde_json::from_str::<Value>(arguments).map(|value| value.to_string());
    let mut digest = Sha256::new();
    for part in [message.method(), message.name().unwrap_or_default(), &arguments.unwrap_or_default()] {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

/// A request that comes back from an elicitation.
#[derive(Debug)]
pub struct CameBack {
    /// The state that it was sent away with.
    pub state: Box<str>,
    /// Whether somebody went where the elicitation led.
    pub has_accepted: bool,
    /// The request as it was before.
    pub request: Message,
}

/// The beginning of each state of the gateway's own. What begins otherwise is a server's.
pub const OWN_STATE: &str = "sluicegate-connect.";

/// Whether a body may be a request that comes back from an elicitation of the gateway's. A look that is cheap: the state is spelled without escapes.
pub fn may_come_back(body: &[u8]) -> bool {
    memchr::memmem::find(body, OWN_STATE.as_bytes()).is_some()
}

/// The request as it was before the gateway asked, if it comes back from that. What a server asked is left in it.
pub fn came_back(server: &str, message: &Message) -> Option<CameBack> {
    if !may_come_back(message.text()) || message.response_id().is_none() {
        return None;
    }
    let params = message.part(Part::Params)?;
    let mut params: BTreeMap<String, &RawValue> = serde_json::from_str(params).ok()?;
    let state: String = serde_json::from_str(params.get("requestState")?.get()).ok()?;
    if !state.starts_with(OWN_STATE) {
        return None;
    }
    params.remove("requestState");
    let mut has_accepted = false;
    let left;
    if let Some(responses) = params.remove("inputResponses")
        && let Ok(mut responses) = serde_json::from_str::<BTreeMap<String, &RawValue>>(responses.get())
    {
        let own = responses.remove(&*format!("connect_{server}"));
        let response = own.and_then(|own| serde_json::from_str::<Response>(own.get()).ok());
        has_accepted = response.is_some_and(|response| response.action == "accept");
        if !responses.is_empty() {
            left = serde_json::value::to_raw_value(&responses).ok()?;
            params.insert("inputResponses".into(), &left);
        }
    }
    let params = serde_json::to_string(&params).ok()?;
    let request = message.with(&[(Part::Params, params.into())]).ok()?;
    Some(CameBack { state: state.into(), has_accepted, request })
}

/// The error for a state that is none of this caller's, of this call, or of this hour.
pub fn wrong_state(message: &Message) -> Option<Message> {
    Message::error_for(message.response_id()?, INVALID_PARAMS, "Invalid or expired requestState").ok()
}

/// Whether an answer to this may ask for input (MCP 2026-07-28, multi round-trip requests).
fn takes_input(method: &str) -> bool {
    matches!(method, TOOLS_CALL | "prompts/get" | "resources/read")
}

fn result_of(id: &Id, era: Era, mut result: Value) -> Option<Message> {
    if era == Era::Modern {
        result["resultType"] = "complete".into();
    }
    Message::result_for(id, &result.to_string()).ok()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Initialize {
    #[serde(default)]
    protocol_version: String,
}

#[derive(Deserialize)]
struct Declaring {
    #[serde(default)]
    capabilities: Capabilities,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(default, rename = "io.modelcontextprotocol/clientCapabilities")]
    capabilities: Capabilities,
}

/// As much as counts of what a client can.
#[derive(Default, Deserialize)]
struct Capabilities {
    #[serde(default)]
    elicitation: Elicitation,
}

/// `{}` is forms alone.
#[derive(Default, Deserialize)]
struct Elicitation {
    url: Option<Value>,
}

#[derive(Deserialize)]
struct Response {
    action: String,
}

fn declares_url<'a, T: Deserialize<'a>>(text: Option<&'a str>, of: fn(T) -> Capabilities) -> bool {
    let read = text.and_then(|text| serde_json::from_str::<T>(text).ok());
    read.is_some_and(|read| of(read).elicitation.url.is_some_and(|url| url.is_object()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice() -> ConnectNotice {
        ConnectNotice {
            server: "github".into(),
            display_name: "GitHub".into(),
            url: Some("https://gw.example/oauth/authorize?server_id=github".into()),
            wants: Wanted::Account {
                state: AccountState::Awaiting,
                scopes: vec!["repo".into()],
                by_admin: false,
            },
            has_tool: true,
            elicits: true,
        }
    }

    fn parse(value: Value) -> Message {
        Message::parse(value.to_string().into()).unwrap()
    }

    fn answered(notice: &ConnectNotice, message: &Message) -> Value {
        let StandIn::Answer(answer) = notice.answer(message) else { panic!("no answer") };
        serde_json::from_slice(answer.text()).unwrap()
    }

    fn modern(method: &str, mut params: Value, capabilities: Value) -> Message {
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": capabilities,
        });
        parse(json!({ "jsonrpc": "2.0", "id": "a", "method": method, "params": params }))
    }

    #[test]
    fn a_call_says_in_words_where_to_connect_and_the_same_for_programs() {
        let call = parse(json!({ "id": 7, "method": "tools/call", "params": { "name": "search" } }));
        let result = &answered(&notice(), &call)["result"];
        let url = notice().url.unwrap();
        assert_eq!(result["isError"], true);
        let sentence = result["content"][0]["text"].as_str().unwrap();
        assert!(sentence.contains(&*url) && sentence.contains("GitHub"), "{sentence}");
        let second: Value = serde_json::from_str(result["content"][1]["text"].as_str().unwrap()).unwrap();
        assert_eq!(
            second,
            json!({
                "type": "oauth_delegation", "auth_endpoint": &*url, "token_endpoint": null,
                "client_info": { "client_id": null }, "required_scopes": ["repo"],
                "redirect_after_auth": true,
            })
        );
        assert_eq!(result["_meta"]["sluicegate/authorization"], second);
        assert!(result.get("resultType").is_none());
        let call = modern("tools/call", json!({ "name": "search" }), json!({}));
        assert_eq!(answered(&notice(), &call)["result"]["resultType"], "complete");
    }

    #[test]
    fn a_token_is_asked_for_as_mcp_front_asks() {
        let wants = Wanted::Token { instructions: Some("Settings, then Tokens".into()) };
        let url = Some("https://gw.example/my/tokens#github".into());
        let notice = ConnectNotice { wants, url, ..notice() };
        let error = &notice.json()["error"];
        assert_eq!(error["code"], "token_required");
        assert_eq!(error["data"]["service"], "github");
        assert_eq!(error["data"]["tokenSetupUrl"], "https://gw.example/my/tokens#github");
        assert_eq!(error["data"]["instructions"], "Settings, then Tokens");
    }

    #[test]
    fn the_server_has_one_tool_that_leads_to_the_page() {
        let hello =
            parse(json!({ "id": 1, "method": "initialize", "params": { "protocolVersion": "2025-06-18" } }));
        let greeting = &answered(&notice(), &hello)["result"];
        assert_eq!(greeting["protocolVersion"], "2025-06-18");
        assert_eq!(greeting["capabilities"]["tools"]["listChanged"], true);
        for list in
            [parse(json!({ "id": 2, "method": "tools/list" })), modern("tools/list", json!({}), json!({}))]
        {
            let tools = &answered(&notice(), &list)["result"]["tools"];
            assert_eq!(tools.as_array().unwrap().len(), 1);
            assert_eq!(tools[0]["name"], "connect_github");
            assert_eq!(tools[0]["annotations"]["readOnlyHint"], true);
        }
        let call = parse(json!({ "id": 3, "method": "tools/call", "params": { "name": "connect_github" } }));
        let told = &answered(&notice(), &call)["result"];
        assert!(told.get("isError").is_none(), "{told}");
        let state: Value = serde_json::from_str(told["content"][1]["text"].as_str().unwrap()).unwrap();
        assert_eq!(state["state"], "Awaiting OAuth");
        assert_eq!(state["url"].as_str(), notice().url.as_deref());
        let discover = modern("server/discover", json!({}), json!({}));
        assert_eq!(answered(&notice(), &discover)["result"]["supportedVersions"], json!([MODERN]));
        let prompts = parse(json!({ "id": 4, "method": "prompts/list" }));
        assert_eq!(answered(&notice(), &prompts)["error"]["code"], METHOD_NOT_FOUND);
        let read = parse(json!({ "id": 5, "method": "resources/read", "params": { "uri": "a:b" } }));
        assert!(matches!(notice().answer(&read), StandIn::Refused));
        let told = parse(json!({ "method": "notifications/initialized" }));
        assert!(matches!(notice().answer(&told), StandIn::Nothing));
    }

    #[test]
    fn a_server_that_is_refused_says_nothing_but_to_calls() {
        let refused = ConnectNotice { has_tool: false, ..notice() };
        for (method, is_refused) in
            [("initialize", true), ("tools/list", true), ("prompts/list", true), ("tools/call", false)]
        {
            let message = parse(json!({ "id": 1, "method": method, "params": { "name": "x" } }));
            assert_eq!(matches!(refused.answer(&message), StandIn::Refused), is_refused, "{method}");
        }
    }

    #[test]
    fn only_who_declares_urls_is_asked_by_an_elicitation() {
        let ask = |capabilities| {
            notice().may_elicit(&modern("tools/call", json!({ "name": "search" }), capabilities))
        };
        assert!(ask(json!({ "elicitation": { "url": {} } })));
        assert!(ask(json!({ "elicitation": { "url": {}, "form": {} } })));
        for no in [json!({}), json!({ "elicitation": {} }), json!({ "elicitation": { "form": {} } })] {
            assert!(!ask(no.clone()), "{no}");
        }
        let list = modern("tools/list", json!({}), json!({ "elicitation": { "url": {} } }));
        assert!(!notice().may_elicit(&list), "a list asks for nothing");
        let quiet = ConnectNotice { elicits: false, ..notice() };
        let call = modern("tools/call", json!({ "name": "x" }), json!({ "elicitation": { "url": {} } }));
        assert!(!quiet.may_elicit(&call));

        let begun = |version: &str, elicitation: Value| {
            can_be_elicited(&parse(json!({ "id": 1, "method": "initialize", "params": {
                "protocolVersion": version, "capabilities": { "elicitation": elicitation },
            } })))
        };
        assert!(begun("2025-11-25", json!({ "url": {} })));
        assert!(!begun("2025-06-18", json!({ "url": {} })), "that version has no such mode");
        assert!(!begun("2025-11-25", json!({})));
    }

    #[test]
    fn what_comes_back_from_an_elicitation_is_what_it_was() {
        let call = json!({ "name": "search", "arguments": { "q": [1, "ü"] } });
        let first = modern("tools/call", call.clone(), json!({ "elicitation": { "url": {} } }));
        assert!(came_back("github", &first).is_none());
        let asked = notice().elicitation(&first, "sluicegate-connect.x").unwrap();
        let asked: Value = serde_json::from_slice(asked.text()).unwrap();
        let request = &asked["result"]["inputRequests"]["connect_github"];
        assert_eq!(asked["result"]["resultType"], "input_required");
        assert_eq!(request["method"], "elicitation/create");
        assert_eq!(request["params"]["mode"], "url");
        let mut again = call.clone();
        again["requestState"] = asked["result"]["requestState"].clone();
        again["inputResponses"] = json!({ "connect_github": { "action": "accept" } });
        let again = modern("tools/call", again, json!({ "elicitation": { "url": {} } }));
        let back = came_back("github", &again).unwrap();
        assert!(back.has_accepted && &*back.state == "sluicegate-connect.x");
        let is = |message: &Message| serde_json::from_slice::<Value>(message.text()).unwrap();
        assert_eq!(is(&back.request), is(&first));
        assert_eq!(digest_of(&back.request), digest_of(&first));
        assert_eq!(digest_of(&again), digest_of(&first));
        // The states of servers are theirs.
        let mut others = call.clone();
        others["requestState"] = "server.state".into();
        others["inputResponses"] = json!({ "connect_github": { "action": "accept" }, "other": 1 });
        assert!(came_back("github", &modern("tools/call", others, json!({}))).is_none());
        let mut declined = call;
        declined["requestState"] = "sluicegate-connect.x".into();
        declined["inputResponses"] = json!({ "connect_github": { "action": "decline" }, "other": 1 });
        let back = came_back("github", &modern("tools/call", declined, json!({}))).unwrap();
        assert!(!back.has_accepted);
        assert_eq!(is(&back.request)["params"]["inputResponses"], json!({ "other": 1 }));
    }

    #[test]
    fn another_call_has_another_digest() {
        let call = |name: &str, arguments: Value| {
            digest_of(&modern("tools/call", json!({ "name": name, "arguments": arguments }), json!({})))
        };
        let all = [call("a", json!({})), call("b", json!({})), call("a", json!({ "x": 1 }))];
        assert!(all[0] != all[1] && all[0] != all[2] && all[1] != all[2]);
    }
}
