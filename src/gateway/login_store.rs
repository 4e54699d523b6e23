//! What becomes of the store of logins while the gateway runs.

use std::sync::Weak;

use crate::{config::Level, state::GatewayState};

/// Has what runs end by logins that were revoked elsewhere, and tells whether logins can be kept, until the gateway is gone.
pub(super) async fn watch(shared: Weak<GatewayState>) {
    let Some(mut status) = shared.upgrade().map(|shared| shared.logins.status()) else { return };
    let (mut revocations, mut faults, mut was_down) = (0, 0, None);
    loop {
        let now = status.borrow_and_update().clone();
        {
            let Some(shared) = shared.upgrade() else { return };
            let log = &shared.observer.log;
            shared.observer.metrics.store_up.set(i64::from(now.down.is_none()));
            if now.revocations != revocations {
                revocations = now.revocations;
                shared.note_change();
            }
            if now.faults != faults {
                let line = log.line(
                    Level::Error,
                    "Rows of logins do not open, and count for nothing: somebody changed the file",
                );
                let line = line.int("rows", now.faults - faults);
                line.text("row", now.last_fault.as_deref().unwrap_or_default()).send();
                faults = now.faults;
            }
            match (&was_down, &now.down) {
                (None, Some(cause)) => {
                    let msg = "Logins cannot be kept at present: nobody can log in or refresh";
                    log.line(Level::Error, msg).text("cause", cause).send();
                }
                (Some(_), None) => log.line(Level::Info, "Logins are kept again").send(),
                _ => {}
            }
            was_down = now.down;
        }
        if status.changed().await.is_err() {
            return;
        }
    }
}
