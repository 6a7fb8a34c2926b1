//! `helios doctor`: what this machine offers an agent, and what follows from that. Asks by
//! itself, so it works with and without a running agent, and changes nothing.

use std::path::PathBuf;
use std::sync::Arc;

use crate::args::Variables;
use crate::base::thread::wait_for;
use crate::config::{self, Dirs};
use crate::engine::Docker;
use crate::flows::register::IDENTITY;
use crate::http::client::Endpoint;
use crate::identity::Identity;
use crate::model::capability::{self, Capability};
use crate::survey::Survey;
use crate::world::capabilities::Capabilities as _;

/// The table, ready to be printed, and whether an agent can work here.
#[must_use]
pub fn main(endpoint: Endpoint, env: &Variables<'_>) -> (String, bool) {
    let dirs = Dirs::from_env(env);
    let os = env("HELIOS_HOST_OS_VERSION");
    let identity = Identity::below(&dirs.config);
    // What is damaged is left as it is: nothing is changed here.
    let known = identity.known(None, true).unwrap_or_default().stored;
    let dir = |name| env(name).map(PathBuf::from);
    let survey = Survey {
        engine: Arc::new(Docker::new(endpoint, Box::new(|_| None), true)),
        bus: env("DBUS_SYSTEM_BUS_ADDRESS"),
        os: os.map(|text| config::operating_system(&text).map_err(|usage| usage.0)),
        device_type: known.as_ref().and_then(|record| record.device_type.clone()),
        host_runtime_dir: dir("HELIOS_HOST_RUNTIME_DIR").unwrap_or_else(|| dirs.runtime.clone()),
        #[cfg(feature = "hostapp")]
        host_state_dir: dir("HELIOS_HOST_STATE_DIR"),
        dirs,
    };
    let mut rows = wait_for(survey.look());
    let name = identity.name(IDENTITY);
    rows.push(of_device(known.is_some(), &name));
    let works = capability::suffice(&rows);
    let mut text = capability::lines(&rows.iter().collect::<Vec<_>>()).join("\n");
    text.push_str(if works {
        "\n\nan agent can work here\n"
    } else {
        "\n\nan agent cannot work here as it is; see the lines with `none`\n"
    });
    (text, works)
}

fn of_device(is_known: bool, name: &str) -> Capability {
    let found = match is_known {
        true => Ok(format!("in {name}")),
        false => Err(format!("none in {name}")),
    };
    let follows = (
        "helios without options goes on as that device",
        "helios --help says how it is registered, or told who it is",
    );
    Capability::new(("device", "device"), found, follows)
}
