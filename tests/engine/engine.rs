//! One engine: its state, its timers and those who listen to its events.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_channel::{Receiver, Sender};
use async_executor::Executor;
use async_io::Timer;

use super::state::{Ending, Event, Refusal, State, refuse};

pub struct Engine {
    inner: Mutex<Inner>,
    executor: Arc<Executor<'static>>,
    /// Where it says that it keeps its images.
    pub root: String,
    /// How long a change takes.
    pub latency: Duration,
    /// Every so manieth change fails; 0: none.
    fail_every: u64,
}

struct Inner {
    state: State,
    listeners: Vec<Sender<Arc<Event>>>,
    changes: u64,
}

impl Engine {
    pub fn new(
        executor: Arc<Executor<'static>>,
        root: &Path,
        latency: Duration,
        fail_every: u64,
    ) -> Arc<Engine> {
        let inner = Inner {
            state: State::new(),
            listeners: Vec::new(),
            changes: 0,
        };
        Arc::new(Engine {
            inner: Mutex::new(inner),
            executor,
            root: root.to_string_lossy().into_owned(),
            latency,
            fail_every,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the state or changes it; who listens is told what happened.
    pub fn with<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut inner = self.lock();
        let result = change(&mut inner.state);
        let events = std::mem::take(&mut inner.state.events);
        for event in events.into_iter().map(Arc::new) {
            inner
                .listeners
                .retain(|listener| listener.try_send(event.clone()).is_ok());
        }
        result
    }

    /// A change is asked for: the chance to fail it.
    pub fn change(&self) -> Result<(), Refusal> {
        let mut inner = self.lock();
        inner.changes += 1;
        if self.fail_every > 0 && inner.changes.is_multiple_of(self.fail_every) {
            return refuse(500, "a fault of the fake engine");
        }
        Ok(())
    }

    /// What happens from now on.
    pub fn listen(&self) -> Receiver<Arc<Event>> {
        let (sender, receiver) = async_channel::unbounded();
        self.lock().listeners.push(sender);
        receiver
    }

    /// Starts a container.
    pub fn start(self: &Arc<Self>, name: &str) -> Result<(), Refusal> {
        let (id, run, ending) = self.with(|state| state.start(name))?;
        self.watch(id, run, ending);
        Ok(())
    }

    /// Ends the process of a container when its time has come, and starts it again if its
    /// policy says so.
    fn watch(self: &Arc<Self>, id: String, run: u64, ending: Ending) {
        let Some((after, code)) = ending else { return };
        let engine = self.clone();
        let ends = async move {
            Timer::after(after).await;
            let Some(wait) = engine.with(|state| state.end(&id, run, code)) else {
                return;
            };
            Timer::after(wait).await;
            if let Some((run, ending)) = engine.with(|state| state.begin_again(&id, run)) {
                engine.watch(id, run, ending);
            }
        };
        self.executor.spawn(ends).detach();
    }
}
