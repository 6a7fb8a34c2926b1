//! Tasks of an executor, and parts of one.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use async_executor::{LocalExecutor, Task};
use futures_lite::{FutureExt as _, future};

use super::lock::lock;
use crate::limits::TASKS_A_TURN;

/// Begins something that goes on beside what began it.
///
/// In a box, so that what an executor needs of a task is there once, and not for each kind.
pub fn spawn<'e>(executor: &LocalExecutor<'e>, work: impl Future<Output = ()> + 'e) -> Task<()> {
    executor.spawn(work.boxed_local())
}

/// Runs tasks until something is done; `tick` runs one.
///
/// A few at a time, and then whoever waits for all of this looks for events: an executor by
/// itself runs hundreds, for so long that `async-io`'s thread takes over the looking, and each
/// event is a switch of threads from then on.
pub async fn run<T, F>(until: impl Future<Output = T>, tick: impl Fn() -> F) -> T
where
    F: Future<Output = ()>,
{
    let work = async {
        loop {
            for _ in 0..TASKS_A_TURN {
                tick().await;
            }
            future::yield_now().await;
        }
    };
    until.or(work).await
}

/// Who is to be woken, and whether the part asked for it.
struct Bell {
    rung: AtomicBool,
    whole: Mutex<Waker>,
}

impl Wake for Bell {
    fn wake(self: Arc<Bell>) {
        self.rung.store(true, Ordering::Release);
        let whole = lock(&self.whole).clone();
        whole.wake();
    }
}

/// The same, but looked at only when something happened that it waits for itself, and not with
/// everything else that is waited for in the same place: each look may cost system calls.
pub async fn apart<T>(part: impl Future<Output = T>) -> T {
    let mut part = pin!(part);
    let bell = Arc::new(Bell {
        rung: AtomicBool::new(true),
        whole: Mutex::new(Waker::noop().clone()),
    });
    let own = Waker::from(bell.clone());
    poll_fn(|cx| {
        lock(&bell.whole).clone_from(cx.waker());
        if !bell.rung.swap(false, Ordering::Acquire) {
            return Poll::Pending;
        }
        part.as_mut().poll(&mut Context::from_waker(&own))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};

    #[test]
    fn a_part_is_looked_at_when_it_asked_for_it() {
        let (tell, told) = async_channel::unbounded();
        let (mut looks, mut recv) = (0, pin!(told.recv()));
        let part = poll_fn(|cx| {
            looks += 1;
            recv.as_mut().poll(cx)
        });
        let got = block_on(async {
            let mut part = pin!(apart(part));
            for _ in 0..5 {
                assert!(poll_once(part.as_mut()).await.is_none());
            }
            // Whoever waits for it now is woken, whoever looked before.
            let telling = async { tell.send(7).await.unwrap() };
            future::zip(part, telling).await.0.unwrap()
        });
        assert_eq!((got, looks), (7, 2));
    }
}
