//! Wires what only updates of the host's OS need.

use std::sync::Arc;

use crate::config::Config;
use crate::engine::Docker;
use crate::world::updater::Machine;

/// The machine, as far as updates change it; `None` in a build that makes none.
pub(crate) fn machine(engine: &Arc<Docker>, config: &Config) -> Option<Machine> {
    #[cfg(feature = "hostapp")]
    return Some(updates::machine(engine.clone(), config));
    #[cfg(not(feature = "hostapp"))]
    {
        let _ = (engine, config);
        None
    }
}

#[cfg(feature = "hostapp")]
mod updates {
    use super::{Arc, Config, Docker, Machine};
    use crate::host::systemd::Systemd;
    use crate::host::updater::{INSIDE, NAME, Place};
    use crate::model::ImageUri;
    use crate::world::Pending;
    use crate::world::engine::Engine as _;
    use crate::world::updater::Updater;

    pub(super) fn machine(engine: Arc<Docker>, config: &Config) -> Machine {
        let place = Place {
            own: config.dirs.runtime.clone(),
            host: config.host_runtime_dir.clone(),
            state: config.host_state_dir.clone(),
        };
        let bus = std::env::var("DBUS_SYSTEM_BUS_ADDRESS").ok();
        Machine {
            system: Arc::new(Systemd::new(bus)),
            updater: Arc::new(Hup { engine, place }),
        }
    }

    /// The updater, which comes out of an image of the engine.
    struct Hup {
        engine: Arc<Docker>,
        place: Place,
    }

    impl Updater for Hup {
        fn unpack<'a>(&'a self, image: &'a ImageUri) -> Pending<'a, Result<(), String>> {
            Box::pin(async move {
                let begun = self.place.unpack();
                let mut unpacking =
                    begun.map_err(|error| format!("cannot make its directory: {error}"))?;
                let mut take = |bytes: &[u8]| unpacking.take(bytes);
                let copied = self.engine.copy_out(image, (NAME, INSIDE), &mut take);
                copied.await.map_err(|error| error.to_string())?;
                unpacking
                    .end()
                    .map_err(|why| format!("the updater's image '{image}' is none: {why}"))
            })
        }

        fn directory(&self) -> String {
            self.place.directory()
        }

        fn clear(&self) -> Pending<'_, ()> {
            Box::pin(async move {
                if let Err(error) = self.engine.remove(NAME).await {
                    log::debug!("{error}");
                }
                if let Err(error) = self.place.clear() {
                    log::debug!("the updater's directory stays: {error}");
                }
            })
        }

        fn mark(&self, release: &str, boot: &str) -> Result<(), String> {
            self.place
                .mark(release, boot)
                .map_err(|error| error.to_string())
        }

        fn is_marked(&self, release: &str, boot: &str) -> bool {
            self.place.is_marked(release, boot)
        }

        fn unmark(&self, release: &str) {
            self.place.unmark(release);
        }

        fn trial(&self) -> Option<String> {
            self.place.trial()
        }
    }
}
