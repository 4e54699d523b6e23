//! What stands behind a server of the config, and what of it is taken over from the config before.

use std::sync::Arc;

use super::{Backend, Live, ServerEntry};
use crate::{
    child::Supervisor,
    config::{HttpTarget, Level, Server, SystemRoots, Target},
    link::inline::InlineServer,
    observe::{Health, Observer},
    upstream::{Origin, Trusts, Unusable},
};

/// What stands behind `server`: what stood there before, if nothing of it changed.
pub(super) fn backend(
    server: &Server,
    endpoints: &mut Origins<'_>,
    kept: Option<&Arc<ServerEntry>>,
    observer: &Arc<Observer>,
    health: &Arc<Health>,
) -> Result<Backend, Unusable> {
    let name = || Arc::clone(&server.name);
    let kept =
        kept.filter(|route| route.server.target == server.target && route.server.disabled == server.disabled);
    Ok(match (&server.target, kept.map(|route| &route.backend)) {
        (Target::Http(target), _) => {
            Backend::Http { endpoint: endpoints.endpoint(&server.name, target)?, target: target.clone() }
        }
        (Target::Stdio(_), Some(Backend::Stdio(kept))) => Backend::Stdio(Arc::clone(kept)),
        (Target::Stdio(target), _) => {
            Backend::Stdio(Supervisor::new(name(), target.clone(), Arc::clone(observer), Arc::clone(health)))
        }
        (Target::Inline(_), Some(Backend::Inline(kept))) => Backend::Inline(Arc::clone(kept)),
        (Target::Inline(target), _) => Backend::Inline(Arc::new(InlineServer::new(
            name(),
            target.clone(),
            Arc::clone(observer),
            Arc::clone(health),
        ))),
    })
}

/// Where servers over HTTP are: each place once, and each trust.
pub(super) struct Origins<'a> {
    previous: Option<&'a Live>,
    trusts: Trusts,
    /// Servers that cannot be reached, and why.
    unreachable: Vec<(Arc<str>, String)>,
}

impl<'a> Origins<'a> {
    pub(super) fn of(previous: Option<&'a Live>, system_roots: &SystemRoots) -> Self {
        let mut trusts = Trusts::new(system_roots.clone());
        let of_before = previous.iter().flat_map(|live| live.trusts());
        of_before.for_each(|trust| trusts.keep(trust));
        Self { previous, trusts, unreachable: Vec::new() }
    }

    fn endpoint(&mut self, name: &Arc<str>, target: &HttpTarget) -> Result<Arc<Origin>, Unusable> {
        let ca_pem = target.ca_pem.as_ref();
        let is_same = |endpoint: &&Arc<Origin>| {
            endpoint.is_same_place(&target.url, ca_pem)
                && endpoint.trust().is_none_or(|trust| trust.config().is_ok())
        };
        if let Some(endpoint) = self.previous.and_then(|live| live.endpoints().find(is_same)) {
            return Ok(Arc::clone(endpoint));
        }
        let endpoint = Origin::new(&target.url, ca_pem, &mut self.trusts)?;
        if let Some(Err(why)) = endpoint.trust().map(|trust| trust.config()) {
            self.unreachable.push((Arc::clone(name), why.to_owned()));
        }
        Ok(Arc::new(endpoint))
    }

    /// Says which servers cannot be reached; the others are.
    pub(super) fn report(&self, observer: &Observer) {
        let Some((first, why)) = self.unreachable.first() else { return };
        observer
            .log
            .line(Level::Error, "Servers cannot be reached")
            .text("server", first)
            .int("servers", self.unreachable.len() as u64)
            .text("cause", why)
            .send();
    }
}
