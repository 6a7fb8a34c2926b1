//! Work that blocks, on a thread that ends with it (D-03); and rest.

use std::io;
use std::pin::{Pin, pin};

/// Runs `work` on a thread that ends with it and awaits the result.
///
/// # Errors
/// What `work` answers, or that no thread could be had.
pub async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (tell, told) = async_channel::bounded(1);
    // The default stack is 8 MiB of address space; this needs next to none.
    std::thread::Builder::new()
        .name("disk".into())
        .stack_size(256 * 1024)
        .spawn(move || {
            // Nobody listens any more when the caller was dropped; the work is done all the same.
            let _ = tell.try_send(work());
        })?;
    told.recv()
        .await
        .unwrap_or_else(|_| Err(io::Error::other("the disk thread ended early")))
}

/// Does what a command of one errand waits for, on this thread. The reactor has one of its own.
///
/// One loop for all of them: it would be built into each place otherwise.
pub fn wait_for<T>(errand: impl Future<Output = T>) -> T {
    let mut done = None;
    {
        let errand = pin!(async { done = Some(errand.await) });
        block(errand);
    }
    // The loop ends with the errand, and that with its result.
    done.unwrap_or_else(|| unreachable!())
}

#[inline(never)]
fn block(errand: Pin<&mut dyn Future<Output = ()>>) {
    futures_lite::future::block_on(errand);
}

/// Says that nothing is to be done for a while: pages of code and constants, which only work
/// needs, are given back (`vendor/rest`). Takes microseconds.
pub fn rest() {
    rest::rest();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_comes_back() {
        let got = futures_lite::future::block_on(on_thread(|| Ok(6 * 7)));
        assert_eq!(got.unwrap(), 42);
    }
}
