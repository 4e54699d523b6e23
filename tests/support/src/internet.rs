//! The Internet as a test has it: names with the addresses that the test gives them, and hosts that it plays itself, at whatever
//! address they are connected to.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use sluicegate::{
    downstream::self_signed::{SelfSigned, self_signed},
    net::crypto::provider,
    upstream::internet::{Connecting, Internet},
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::harness::{Client, soon};

/// An Internet with one host behind all of its addresses.
pub struct TestInternet {
    /// What each name resolves to: a further list each time that it is asked for, and the last one from then on.
    pub names: Mutex<HashMap<String, Vec<Vec<IpAddr>>>>,
    /// What was resolved.
    pub resolved: Mutex<Vec<String>>,
    /// What was connected to.
    pub connected: Mutex<Vec<SocketAddr>>,
    made: SelfSigned,
    host: SocketAddr,
}

/// What is behind the addresses of a [`TestInternet`].
pub struct TestHost {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl TestInternet {
    /// One in which `names` have certificates, and each has this address.
    pub async fn new(names: &[&str], address: &str) -> (Arc<Self>, TestHost) {
        let owned: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = self_signed(&owned).unwrap();
        let chain = CertificateDer::pem_slice_iter(made.cert.as_bytes()).collect::<Result<_, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_slice(made.key.expose().as_bytes()).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = vec![vec![address.parse().unwrap()]];
        let internet = Self {
            names: Mutex::new(owned.into_iter().map(|name| (name, addresses.clone())).collect()),
            resolved: Mutex::default(),
            connected: Mutex::default(),
            made,
            host: listener.local_addr().unwrap(),
        };
        (Arc::new(internet), TestHost { listener, acceptor: TlsAcceptor::from(Arc::new(config)) })
    }

    /// Has a name resolve to each of these in turn.
    pub fn set(&self, name: &str, answers: &[&[&str]]) {
        let parsed = |answer: &&[&str]| answer.iter().map(|address| address.parse().unwrap()).collect();
        self.names.lock().unwrap().insert(name.to_owned(), answers.iter().map(parsed).collect());
    }

    /// What was connected to so far.
    pub fn connected(&self) -> Vec<String> {
        self.connected.lock().unwrap().iter().map(SocketAddr::to_string).collect()
    }

    /// How often a name was resolved.
    pub fn resolved(&self) -> usize {
        self.resolved.lock().unwrap().len()
    }
}

impl Internet for TestInternet {
    fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        self.resolved.lock().unwrap().push(host.to_owned());
        let mut names = self.names.lock().unwrap();
        let answers = names.get_mut(host).ok_or(io::ErrorKind::NotFound)?;
        Ok(if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() })
    }

    fn connect(&self, address: SocketAddr) -> Connecting<'_> {
        self.connected.lock().unwrap().push(address);
        Box::pin(TcpStream::connect(self.host))
    }

    fn roots(&self) -> Vec<CertificateDer<'static>> {
        vec![CertificateDer::from_pem_slice(self.made.ca.as_bytes()).unwrap()]
    }
}

impl TestHost {
    /// The next connection, behind its handshake.
    pub async fn accept(&self) -> Client<TlsStream<TcpStream>> {
        loop {
            let (stream, _) = soon("a connection", self.listener.accept()).await.unwrap();
            match soon("a handshake", self.acceptor.accept(stream)).await {
                Ok(stream) => return Client::new(stream),
                // Somebody else's, who knocks at a port that was a server's a moment ago. How often the gateway connected, the
                // Internet knows.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                Err(error) => panic!("a handshake: {error}"),
            }
        }
    }

    /// The next connection, to which nothing is said.
    pub async fn accept_silently(&self) -> TcpStream {
        soon("a connection", self.listener.accept()).await.unwrap().0
    }

    /// Answers the next request, and returns its head.
    pub async fn answer(&self, answer: &str) -> String {
        let mut client = self.accept().await;
        let head = client.head().await;
        client.send(answer).await;
        let _ = tokio::io::AsyncWriteExt::shutdown(&mut client.stream).await;
        head
    }
}

/// An answer with this JSON.
pub fn json_answer(body: &str, fields: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{fields}\r\n{body}"
    )
}
