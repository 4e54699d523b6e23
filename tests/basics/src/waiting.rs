//! How tests wait: for what they expect, and never for a time.

use std::time::Duration;

/// Longest that anything in a test may take. Nothing waits this long unless it is about to fail.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Awaits `future`, and fails with `what` instead of hanging.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

/// Polls `condition` until it holds.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    soon(what, async {
        while !condition() {
            pause().await;
        }
    })
    .await;
}

/// Between two looks at something that does not say when it changes.
pub async fn pause() {
    // Real time: other threads and processes go on meanwhile.
    tokio::time::sleep(Duration::from_millis(5)).await;
}
