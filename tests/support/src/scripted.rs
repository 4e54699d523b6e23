//! An MCP server over Streamable HTTP that answers as a test says, each method in its own way.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Client, field};

/// A server, until the test ends.
pub struct Scripted {
    pub addr: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    /// `answer` gives the whole response to a message, as bytes; without one it is 202.
    pub async fn start(answer: impl Fn(&Value) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (answer, heads) = (Arc::new(answer), Arc::new(Mutex::new(Vec::new())));
        let of_task = Arc::clone(&heads);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(Client::new(stream), Arc::clone(&answer), Arc::clone(&of_task)));
            }
        });
        Self { addr, heads }
    }

    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.addr)
    }

    /// Heads of all requests so far.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn serve(
    mut client: Client<TcpStream>,
    answer: Arc<impl Fn(&Value) -> Option<Vec<u8>>>,
    heads: Arc<Mutex<Vec<String>>>,
) {
    while let Some(head) = client.next_head().await {
        let length = field(&head, "content-length").map_or(0, |length| length.parse().unwrap());
        let body = client.exactly(length).await;
        let is_post = head.starts_with("POST ");
        heads.lock().unwrap_or_else(PoisonError::into_inner).push(head);
        let response = match is_post {
            true => answer(&serde_json::from_slice(&body).unwrap()),
            false => Some(b"HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n".to_vec()),
        };
        let accepted = || b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n".to_vec();
        client.send(response.unwrap_or_else(accepted)).await;
    }
}

/// A response with this status, type and body.
pub fn response(status: u16, fields: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut whole =
        format!("HTTP/1.1 {status} X\r\n{fields}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
    whole.extend_from_slice(body);
    whole
}

/// A JSON-RPC response to `asked`: `{"result": …}` or `{"error": …}`.
pub fn answers(asked: &Value, mut outcome: Value) -> Option<Vec<u8>> {
    outcome["jsonrpc"] = json!("2.0");
    outcome["id"] = asked["id"].clone();
    Some(response(200, "Content-Type: application/json\r\n", outcome.to_string()))
}

/// The answer to `initialize`, of a server with these capabilities.
pub fn greets(asked: &Value, capabilities: Value) -> Option<Vec<u8>> {
    let info = json!({ "name": "scripted", "version": "1" });
    let result = json!({ "protocolVersion": "2025-06-18", "capabilities": capabilities, "serverInfo": info });
    answers(asked, json!({ "result": result }))
}
