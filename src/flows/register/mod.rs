//! Makes this device known to its backend: the driver of [`registrar`].
//!
//! The crash-safe protocol of remote-api 1.4. The candidate, uuid and key included, is on
//! disk before anybody hears of it; the identity is on disk before the candidate goes.
//! Whenever it is cut off, the next run asks for the same device again.

use std::sync::Arc;
use std::time::Duration;

use futures_lite::future;

use crate::base::{hash, random};
use crate::flows::poll::{Trigger, answered};
use crate::limits;
use crate::model::identity::Record;
use crate::plan::board::Shared;
use crate::world::clock::Clock;
use crate::world::registration::{Registered, Registration, Retry, Trouble};
use crate::world::store::{Store, StoreError};

pub mod registrar;

use registrar::{Do, Registrar};

/// The document with the identity, in the configuration directory (remote-api Appendix B).
pub const IDENTITY: &str = "provisioning";
/// Its copy, for the day on which it cannot be read (D-30).
pub const BACKUP: &str = "provisioning.backup";

/// The document with the candidate for an endpoint in its rendered form (remote-api 1.4).
#[must_use]
pub fn candidate_path(endpoint: &str) -> String {
    format!("{IDENTITY}.{}", hash::sha256_hex(endpoint.as_bytes()))
}

/// What the driver needs.
pub struct Register {
    /// The backend.
    pub remote: Arc<dyn Registration>,
    /// The documents of the configuration directory.
    pub store: Arc<dyn Store>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Where it is shown why this device is not registered.
    pub board: Shared,
    /// Requests not to wait any longer than is needed.
    pub trigger: Arc<Trigger>,
    /// Who this device wants to be.
    pub record: Record,
    /// That is on disk already.
    pub is_kept: bool,
    /// Between two requests, at least.
    pub interval_min: Duration,
}

/// Runs until the device is registered. When it cannot be, with these arguments, it never
/// ends: whoever asks for a poll is told so.
pub async fn run(mut register: Register) -> Record {
    let now = register.clock.now();
    let mut machine = Registrar::new(register.is_kept, register.interval_min, now);
    // The last wish of a user that was heard, and whether it is still to be acted on.
    let (mut asked, mut is_wanted) = (0, false);
    loop {
        let next = machine.next(register.clock.now());
        match next {
            Do::Wait(until) => {
                if !is_wanted && !register.trigger.is_newer(asked) {
                    answered(&register.board, register.clock.now());
                }
                // The wish of a user stays where it is, for the first poll.
                let wish = async { Some(register.trigger.pulled(asked).await) };
                let slept = async {
                    register.clock.sleep_until(until).await;
                    None
                };
                if let Some(newer) = future::or(slept, wish).await {
                    (asked, is_wanted) = (newer, true);
                    machine.on_request(register.clock.now());
                }
            }
            Do::Done => {
                register.board.change(|board| board.backend_down = None);
                return register.record;
            }
            Do::Stop => {
                log::error!(
                    "this device is not registered and runs unmanaged until it is started again"
                );
                loop {
                    answered(&register.board, register.clock.now());
                    asked = register.trigger.pulled(asked).await;
                }
            }
            step => {
                register.step(&mut machine, step).await;
                is_wanted = false;
            }
        }
    }
}

impl Register {
    /// Shows why this device is not registered.
    fn tell(&self, why: &str) {
        let why = format!("this device is not registered: {why}");
        self.board
            .change(|board| board.backend_down = Some(why.into()));
    }

    async fn step(&mut self, machine: &mut Registrar, step: Do) {
        let (clock, chance) = (self.clock.clone(), fastrand::f64());
        match step {
            Do::Keep => {
                let is_kept = self.keep().await;
                machine.on_kept(clock.now(), is_kept, chance);
            }
            Do::Register => {
                let came = self.remote.register(&self.record).await;
                self.take(&came);
                let came = came.as_ref().map_err(|trouble| self.noted(trouble));
                machine.on_registered(clock.now(), came, chance);
            }
            Do::Confirm => {
                let came = self.remote.confirm(&self.record).await;
                let came = came.map_err(|trouble| self.noted(&trouble));
                machine.on_confirmed(clock.now(), came, chance);
            }
            Do::GiveKey => {
                let came = self.remote.give_key(&self.record).await;
                if matches!(came, Ok(false)) {
                    let why = format!(
                        "the uuid {} belongs to a device with another key, and the provisioning \
                         key may not change that: give another --uuid, or the key of that device",
                        self.record.uuid
                    );
                    log::error!("{why}");
                    self.tell(&why);
                }
                let came = came.map_err(|trouble| self.noted(&trouble));
                machine.on_key_given(clock.now(), came, chance);
            }
            Do::DrawKey => match random::hex(16) {
                Ok(key) => {
                    log::warn!("the backend has this device's key already: another one is drawn");
                    self.record.remote.api_key = key;
                    machine.on_drawn();
                }
                Err(error) => {
                    let why = format!("no key can be drawn: {error}");
                    log::error!("{why}");
                    self.tell(&why);
                    machine.on_confirmed(clock.now(), Err(Retry::Later(None)), chance);
                }
            },
            Do::Settle => {
                let is_settled = self.settle().await;
                machine.on_settled(clock.now(), is_settled, chance);
            }
            Do::Wait(_) | Do::Done | Do::Stop => {}
        }
    }

    /// What the answer changes about the record, and its line in the log.
    fn take(&mut self, came: &Result<Registered, Trouble>) {
        match came {
            Ok(Registered::WithKey(key)) => {
                log::warn!("the backend gave this device another key, which is taken");
                self.record.remote.api_key.clone_from(key);
            }
            Ok(Registered::Another) => {
                let why = format!(
                    "the backend registered another uuid than {}: it is not what it should be",
                    self.record.uuid
                );
                log::error!("{why}");
                self.tell(&why);
            }
            Ok(Registered::UuidTaken | Registered::KeyTaken) => {
                log::warn!("the backend has this device already: is it this one?");
            }
            Ok(Registered::AsAsked) | Err(_) => {}
        }
    }

    async fn keep(&self) -> bool {
        let path = candidate_path(&self.record.remote.api_endpoint);
        let kept = self.put(&path).await;
        kept.map_err(|error| {
            let why = format!("{error}; nothing is sent before it is written down");
            log::error!("{why}");
            self.tell(&why);
        })
        .is_ok()
    }

    async fn settle(&self) -> bool {
        if let Err(error) = self.put(IDENTITY).await {
            let why = format!("the backend has it, and its identity is not written down: {error}");
            log::error!("registering: {why}");
            self.tell(&why);
            return false;
        }
        let path = candidate_path(&self.record.remote.api_endpoint);
        // Both are tried again at the next start.
        for done in [self.put(BACKUP).await, self.store.delete(&path).await] {
            if let Err(error) = done {
                log::warn!("{error}");
            }
        }
        log::info!("this device is registered as {}", self.record.uuid);
        true
    }

    async fn put(&self, path: &str) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(&self.record).map_err(|error| StoreError {
            path: path.to_owned(),
            said: error.to_string(),
        })?;
        self.store.put(path, &bytes).await
    }

    /// The log's line about a request that brought nothing; the same is shown.
    fn noted(&self, trouble: &Trouble) -> Retry {
        let said = &trouble.said;
        match trouble.retry {
            Retry::Later(_) => log::warn!("registering: {said}; it is tried again"),
            Retry::Slowly => log::error!(
                "registering: {said}; it is tried again every {} min",
                limits::REGISTER_REFUSED_RETRY.as_secs() / 60
            ),
            Retry::Never => log::error!("registering: {said}"),
        }
        self.tell(said);
        trouble.retry
    }
}
