//! Gives the device back to the legacy supervisor when no agent serves (R-TKO-7): the driver of
//! [`legacy::guard`](crate::legacy::guard), on in the agent's container when it is asked for.
//!
//! | what fails | who sees it |
//! |---|---|
//! | the agent ends, again and again | the start that comes after the limit |
//! | it never answers | a thread of the start, which ends it after the limit |
//! | it hangs later | the container's health check, which restarts the container |

use std::thread;
use std::time::Duration;

use futures_lite::future;

use crate::args::Variables;
use crate::base::thread::wait_for;
use crate::clients::endpoint;
use crate::config::{self, Dirs};
use crate::engine::Docker;
use crate::host::clock::SystemClock;
use crate::host::{facts, own};
use crate::http::client::Endpoint;
use crate::legacy::guard::{Guard, Now, Then};
use crate::limits;
use crate::run::{Failed, failed, signals, until_signal};
use crate::start::answers;
use crate::store::Files;
use crate::world::clock::Clock as _;

/// How long it may be that no agent serves, in minutes; without it, or with 0, for ever.
const SETTING: &str = "HELIOS_LEGACY_RESTORE_AFTER_MINUTES";
const RECORD: &str = "legacy/guard";

/// What is written down, and where.
pub struct Guarded {
    store: Files,
    guard: Guard,
    now: Now,
}

impl Guarded {
    /// `None` where it was not asked for.
    ///
    /// # Errors
    /// The setting is no number, or there is no state directory.
    pub fn of(env: &Variables<'_>) -> Result<Option<Guarded>, Failed> {
        let text = env(SETTING).unwrap_or_default();
        let least = limits::GUARD_MINUTES_MIN;
        let minutes = match (&*text, text.parse::<u32>()) {
            ("", _) | (_, Ok(0)) => return Ok(None),
            (_, Ok(minutes)) if minutes >= least => minutes,
            _ => {
                let why = format!("{SETTING}: expected minutes, 0 or from {least}, got '{text}'");
                return Err(Failed(why));
            }
        };
        let store = Files::shared(&Dirs::from_env(env).state);
        let store = store.map_err(failed("open the state directory"))?;
        let read = store.read(RECORD).map_err(failed("read what was before"))?;
        // What cannot be read was written by another version: it begins anew.
        let guard = serde_json::from_slice(&read.unwrap_or_default()).unwrap_or_default();
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
        let now = Now {
            boot: boot.map(|boot| boot.trim().to_owned()),
            version: env!("CARGO_PKG_VERSION"),
            up: Duration::ZERO,
            limit: Duration::from_secs(60 * u64::from(minutes)),
        };
        Ok(Some(Guarded { store, guard, now }))
    }

    /// Does something with it, and writes it down if that changed it.
    fn with<T>(&mut self, work: impl FnOnce(&mut Guard, &Now) -> T) -> T {
        self.now.up = facts::machine_up();
        let before = self.guard.clone();
        let done = work(&mut self.guard, &self.now);
        if self.guard != before {
            let kept = serde_json::to_vec(&self.guard).map_err(std::io::Error::from);
            if let Err(error) = kept.and_then(|bytes| self.store.write(RECORD, &bytes)) {
                log::warn!("whether an agent serves cannot be written down: {error}");
            }
        }
        done
    }

    /// Comes back when it is this agent's turn; `false`: it was told to end before that.
    ///
    /// # Errors
    /// It could not be handed back. The next start tries again.
    pub fn turn(&mut self, hand_back: impl Fn() -> Result<(), Failed>) -> Result<bool, Failed> {
        loop {
            match self.with(Guard::begins) {
                Then::Serve => return Ok(true),
                Then::HandBack => {
                    let minutes = self.now.limit.as_secs() / 60;
                    log::error!(
                        "no agent has served for {minutes} min: the legacy supervisor gets the device back"
                    );
                    hand_back()?;
                    self.with(Guard::is_handed_back);
                }
                Then::StandBy(rest) => {
                    log::warn!(
                        "standing by for {} min: the legacy supervisor has the device; another \
                         version, or a restart of the device, takes over at once",
                        rest.as_secs().div_ceil(60)
                    );
                    if stand_by(rest)? {
                        return Ok(false);
                    }
                }
            }
        }
    }

    /// Sees, on a thread that ends with it, whether the agent serves; ends one that never does.
    pub fn watch(mut self, own: Endpoint) {
        let watching = move || {
            let end = facts::machine_up() + self.now.limit;
            loop {
                let answers = answers(own.clone()).is_ok();
                if answers && self.with(Guard::served) {
                    break;
                }
                if !answers && facts::machine_up() >= end {
                    log::error!("this agent does not answer: it ends, and hands back");
                    std::process::exit(1);
                }
                thread::sleep(limits::GUARD_LOOK);
            }
        };
        let thread = thread::Builder::new().name("guard".into());
        if let Err(error) = thread.spawn(watching) {
            log::warn!("whether this agent serves is not looked at: {error}");
        }
    }

    /// A health check has seen whether the agent serves. What there is to add to it.
    pub fn checked(&mut self, serves: bool, env: &Variables<'_>) -> &'static str {
        if serves {
            self.with(Guard::served);
            return "";
        }
        if self.with(Guard::was_silent) {
            restart(env);
        }
        match self.guard.stands_by() {
            true => "; it stands by, the legacy supervisor has the device",
            false => "",
        }
    }
}

/// Whether a signal ended it.
fn stand_by(rest: Duration) -> Result<bool, Failed> {
    let signals = signals().map_err(failed("listen for signals"))?;
    let clock = SystemClock::start();
    Ok(wait_for(future::or(
        async {
            until_signal(signals).await;
            true
        },
        async {
            clock.sleep_until(clock.now() + rest).await;
            false
        },
    )))
}

/// Restarts this container, and this check with it.
fn restart(env: &Variables<'_>) {
    let address = config::engine_address(env("DOCKER_HOST").as_deref());
    if let (Some(own), Ok(address)) = (own::container(), address) {
        let engine = Docker::new(endpoint(address), Box::new(|_| None), true);
        // Nobody is left to hear of a success.
        let _ = wait_for(engine.restart(&own, limits::GUARD_GRACE));
    }
}
