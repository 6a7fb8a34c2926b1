//! Tasks of an executor.

use std::future::Future;

use async_executor::{LocalExecutor, Task};
use futures_lite::FutureExt as _;

/// Begins something that goes on beside what began it.
///
/// In a box, so that what an executor needs of a task is there once, and not for each kind.
pub fn spawn<'e>(executor: &LocalExecutor<'e>, work: impl Future<Output = ()> + 'e) -> Task<()> {
    executor.spawn(work.boxed_local())
}
