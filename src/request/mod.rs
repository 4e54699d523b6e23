//! A request on its way: what its answer depends on, what it was admitted to, and how it is refused.

pub mod admitted;
pub mod host_hint;
pub mod missing;
pub mod rates;
pub mod refuse;

use std::{net::IpAddr, rc::Rc, sync::Arc};

use http::request::Parts;

use crate::{
    downstream::{
        connection::Connection,
        head::{Checked, RequestFields},
        incoming::Incoming,
    },
    endpoints::table::{Endpoint, Who},
    ledger::Owner,
    observe::Record,
    state::{Live, Worker},
};

/// A request, and what its answer depends on.
pub struct Request<'a> {
    /// The thread that serves it.
    pub worker: &'a Rc<Worker>,
    /// The connection that it came by.
    pub connection: &'a Connection,
    /// The config of the moment in which it came.
    pub live: &'a Arc<Live>,
    /// Method, target and fields.
    pub head: &'a Parts,
    /// What one walk over the fields found.
    pub fields: &'a RequestFields<'a>,
    /// The host (and port) that the client means. Empty until the head is checked, or if HTTP/1.0 says none.
    pub host: &'a str,
    /// What is served at its path.
    pub endpoint: &'static Endpoint,
    /// The server that its path names. Whether there is one is not known yet.
    pub server: Option<&'a str>,
    /// The client that a balancer forwards for.
    pub client: Option<IpAddr>,
    /// Pages of its `Origin` may call, or it has none.
    pub is_listed: bool,
    /// Its body, until somebody takes it.
    pub body: Option<Incoming>,
    /// What is known of it for log and metrics.
    pub record: &'a mut Record,
}

impl<'a> Request<'a> {
    /// Who may have what is served at its path, at its listener.
    pub fn who(&self) -> Who {
        self.endpoint.who(self.connection.listener_kind)
    }

    /// For whom it counts while nobody knows who makes it: its address, or that which a balancer forwards for.
    pub fn address_owner(&self) -> Arc<Owner> {
        self.connection.owner(self.client, &self.worker.shared.ledger)
    }

    /// Its head, as it was checked.
    pub fn checked(&self) -> Checked<'a> {
        Checked { parts: self.head, host: self.host, fields: self.fields }
    }
}
