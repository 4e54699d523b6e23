//! One buffer a thread for everything that is read from children: a pipe that is silent owns none.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Poll, ready},
};

use tokio::{
    io::{AsyncRead, ReadBuf},
    net::unix::pipe,
};

/// What a pipe holds by default, so that one read empties it.
const SIZE: usize = 64 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SIZE].into_boxed_slice());
}

/// Reads once and hands over what came: nothing at the end of the pipe.
pub async fn read<T>(pipe: &mut pipe::Receiver, mut take: impl FnMut(&[u8]) -> T) -> io::Result<T> {
    poll_fn(|cx| {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buf = ReadBuf::new(scratch);
            ready!(Pin::new(&mut *pipe).poll_read(cx, &mut buf))?;
            Poll::Ready(Ok(take(buf.filled())))
        })
    })
    .await
}
