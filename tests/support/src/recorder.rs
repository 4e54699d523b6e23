//! A server that answers every request alike and remembers, byte for byte, what it was sent.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Client, field, soon};

/// What a test sends itself to see that nothing else came before.
const MARK: &str = "GET /mark HTTP/1.1\r\nHost: test\r\n\r\n";

pub struct Recorder {
    pub addr: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Recorder {
    /// Answers every request with `response`.
    pub async fn answering(response: impl Into<Vec<u8>>) -> Self {
        let response: Arc<[u8]> = response.into().into();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let of_task = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(Client::new(stream), Arc::clone(&of_task), Arc::clone(&response)));
            }
        });
        Self { addr, seen }
    }

    /// Answers every request with an empty JSON object.
    pub async fn start() -> Self {
        Self::answering("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
            .await
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// Every request so far: head, and body as it was framed.
    pub fn requests(&self) -> Vec<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The one request that came.
    pub fn only(&self) -> String {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:#?}");
        requests.into_iter().next().unwrap()
    }

    pub fn forget(&self) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Asserts that nothing came. Connections are taken in their order, so once a request of the test's own is
    /// here, one that the gateway sent before would be here too.
    pub async fn saw_nothing(&self, why: &str) {
        let mut client = Client::new(TcpStream::connect(self.addr).await.unwrap());
        client.send(MARK).await;
        client.head().await;
        let mut requests = self.requests();
        requests.retain(|request| request != MARK);
        assert!(requests.is_empty(), "{why}: {requests:#?}");
        self.forget();
    }
}

async fn serve(mut client: Client<TcpStream>, seen: Arc<Mutex<Vec<String>>>, response: Arc<[u8]>) {
    while let Some(mut request) = client.next_head().await {
        if let Some(length) = field(&request, "content-length") {
            let body = client.exactly(length.parse().unwrap()).await;
            request.push_str(&String::from_utf8_lossy(&body));
        } else if field(&request, "transfer-encoding").is_some() {
            request.push_str(&soon("the last chunk", client.until("0\r\n\r\n")).await);
        }
        seen.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        client.send(&response).await;
    }
    // Begun and broken off counts as reached.
    if !client.buffer.is_empty() {
        let begun = String::from_utf8_lossy(&client.buffer).into_owned();
        seen.lock().unwrap_or_else(PoisonError::into_inner).push(begun);
    }
}
