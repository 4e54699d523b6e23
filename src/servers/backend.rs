//! What is behind a server of the config, and what of it is taken over from the config before.

use std::sync::Arc;

use crate::{
    child::{Supervisor, Supervisors},
    config::{HttpTarget, Level, Server, SystemRoots, Target},
    link::inline::InlineServer,
    observe::{Health, Observer},
    upstream::{Origin, Trusts, Unusable},
};

/// What is behind a server.
pub enum Backend {
    /// An HTTP server.
    Http {
        /// Where to connect to.
        origin: Arc<Origin>,
        /// As configured.
        target: HttpTarget,
    },
    /// A command that speaks MCP on its standard streams.
    Stdio(Arc<Supervisors>),
    /// Tools of the config itself.
    Inline(Arc<InlineServer>),
    /// All servers that a token may reach.
    All,
}

impl Backend {
    /// What is behind `server`: what is `kept` from before, as far as it can be.
    pub(super) fn of(
        server: &Server,
        kept: Option<&Self>,
        origins: &mut Origins<'_>,
        observer: &Arc<Observer>,
        health: &Arc<Health>,
    ) -> Result<Self, Unusable> {
        let name = || Arc::clone(&server.name);
        Ok(match (&server.target, kept) {
            (Target::Http(target), _) => {
                Self::Http { origin: origins.origin(&server.name, target)?, target: target.clone() }
            }
            (Target::Stdio(_), Some(Self::Stdio(kept))) => Self::Stdio(Arc::clone(kept)),
            (Target::Stdio(target), _) => {
                let first = Supervisor::new(
                    name(),
                    target.clone(),
                    Arc::clone(observer),
                    Arc::clone(health),
                    Default::default(),
                );
                Self::Stdio(Arc::new(Supervisors::new(first)))
            }
            (Target::Inline(_), Some(Self::Inline(kept))) => Self::Inline(Arc::clone(kept)),
            (Target::Inline(target), _) => Self::Inline(Arc::new(InlineServer::new(
                name(),
                target.clone(),
                Arc::clone(observer),
                Arc::clone(health),
            ))),
        })
    }
}

/// Where servers over HTTP are: each place once, and each trust.
pub struct Origins<'a> {
    previous: Vec<&'a Arc<Origin>>,
    trusts: Trusts,
    /// Servers that cannot be reached, and why.
    unreachable: Vec<(Arc<str>, String)>,
}

impl<'a> Origins<'a> {
    /// None yet. Those of the config before are taken over if they are asked for again.
    pub fn of(previous: impl Iterator<Item = &'a Arc<Origin>>, system_roots: &SystemRoots) -> Self {
        let previous: Vec<_> = previous.collect();
        let mut trusts = Trusts::new(system_roots.clone());
        previous.iter().filter_map(|origin| origin.trust()).for_each(|trust| trusts.keep(trust));
        Self { previous, trusts, unreachable: Vec::new() }
    }

    fn origin(&mut self, name: &Arc<str>, target: &HttpTarget) -> Result<Arc<Origin>, Unusable> {
        let ca_pem = target.ca_pem.as_ref();
        let is_same = |origin: &&&Arc<Origin>| {
            origin.is_same_place(&target.url, ca_pem)
                && origin.trust().is_none_or(|trust| trust.config().is_ok())
        };
        if let Some(origin) = self.previous.iter().find(is_same) {
            return Ok(Arc::clone(origin));
        }
        let origin = Origin::new(&target.url, ca_pem, &mut self.trusts)?;
        if let Some(Err(why)) = origin.trust().map(|trust| trust.config()) {
            self.unreachable.push((Arc::clone(name), why.to_owned()));
        }
        Ok(Arc::new(origin))
    }

    /// Says which servers cannot be reached; the others are.
    pub fn report(&self, observer: &Observer) {
        let Some((first, why)) = self.unreachable.first() else { return };
        observer
            .log
            .line(Level::Error, "Servers cannot be reached")
            .text("server", first)
            .int("servers", self.unreachable.len())
            .text("cause", why)
            .send();
    }
}
