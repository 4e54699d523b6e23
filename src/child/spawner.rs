//! The thread that starts processes.
//!
//! Fork and exec take milliseconds, in which no stream of a worker would move. And a child is killed when the thread that
//! started it ends (`PR_SET_PDEATHSIG`), be the process as alive as it may; this one lives as long as the process.

use std::{
    io,
    panic::{self, AssertUnwindSafe},
    sync::mpsc,
    thread,
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

// As long as there are callers that wait, and they are bounded.
static JOBS: Mutex<Option<mpsc::Sender<Job>>> = Mutex::new(None);

/// Runs `job` on the thread. What it makes for a caller who left meanwhile is dropped.
pub(super) async fn run<T: Send + 'static>(
    job: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (done, made) = oneshot::channel();
    queue()?
        .send(Box::new(move || {
            if !done.is_closed() {
                drop(done.send(job()));
            }
        }))
        .map_err(|_| io::ErrorKind::BrokenPipe)?;
    made.await.map_err(io::Error::other)?
}

fn queue() -> io::Result<mpsc::Sender<Job>> {
    // What is locked is whole whenever the lock is free.
    let mut jobs = JOBS.lock();
    if let Some(jobs) = &*jobs {
        return Ok(jobs.clone());
    }
    let (queue, inbox) = mpsc::channel::<Job>();
    let work = || {
        for job in inbox {
            // The end of this thread would be that of all children.
            let _ = panic::catch_unwind(AssertUnwindSafe(job));
        }
    };
    thread::Builder::new().name("spawner".into()).spawn(work)?;
    Ok(jobs.insert(queue).clone())
}
