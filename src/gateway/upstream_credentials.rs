//! What other processes of the store do to credentials for servers, and how many there are.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time::sleep;

use crate::{identity::login::upstream::UpstreamChange, state::GatewayState};

/// How long to wait until they are counted after a change: more may follow.
const GATHER: Duration = Duration::from_millis(500);
/// How long to wait until the store is asked again that did not answer.
const AGAIN: Duration = Duration::from_secs(1);

/// Has what is in memory read again once another process has changed it, and counts what is kept, until the gateway is gone.
pub(super) async fn watch(shared: Weak<GatewayState>) {
    let Some(mut admitted) = shared.upgrade().map(|shared| shared.changes()) else { return };
    // Logins may be kept from a later config on.
    let mut changes = loop {
        {
            let Some(shared) = shared.upgrade() else { return };
            if let Some(upstreams) = shared.credentials.upstreams() {
                break upstreams.changes();
            }
        }
        if admitted.changed().await.is_err() {
            return;
        }
    };
    let mut seen = *changes.borrow_and_update();
    loop {
        {
            let Some(shared) = shared.upgrade() else { return };
            count(&shared).await;
        }
        let mut changed_here = pin!(async {
            let changed = admitted.changed().await;
            sleep(GATHER).await;
            changed
        });
        // What others do is looked at as soon as it is known; what is counted has time.
        loop {
            tokio::select! {
                changed = changes.changed() => {
                    let Some(shared) = shared.upgrade().filter(|_| changed.is_ok()) else { return };
                    reread(&shared, &mut seen).await;
                }
                changed = &mut changed_here => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
            }
        }
    }
}

/// Reads what others have changed. A change that is not read would have what runs go on by a credential that is gone.
async fn reread(shared: &Arc<GatewayState>, seen: &mut u64) {
    let Some(upstreams) = shared.credentials.upstreams() else { return };
    let (number, changed) = upstreams.changed_since(*seen);
    let live = shared.live().clone();
    let own = live.servers.iter().filter_map(|entry| entry.credentials.as_ref());
    let by_name: HashMap<_, _> = own.map(|credentials| (&**credentials.server(), credentials)).collect();
    match changed {
        Some(changed) => {
            for UpstreamChange { owner, server, .. } in changed {
                let Some(credentials) = by_name.get(&*server) else { continue };
                while credentials.reread(&owner).await.is_err() {
                    sleep(AGAIN).await;
                }
            }
        }
        None => {
            for credentials in by_name.values() {
                while credentials.reread_all().await.is_err() {
                    sleep(AGAIN).await;
                }
            }
        }
    }
    *seen = number;
    // So that they are counted.
    shared.note_change();
}

async fn count(shared: &Arc<GatewayState>) {
    let live = shared.live().clone();
    let has_any = live.servers.iter().any(|entry| entry.credentials.as_ref().is_some_and(|it| it.is_kept()));
    let Some(upstreams) = shared.credentials.upstreams().filter(|_| has_any) else { return };
    let Ok(counts) = upstreams.counts().await else { return };
    let of_config = counts.iter().filter(|(server, ..)| live.entries.contains_key(&**server));
    let counts = of_config.map(|(server, state, count)| (&**server, state.name(), *count));
    shared.observer.metrics.upstream_credentials(counts);
}
