//! A stand-in for systemd and logind on a bus: it really runs what it is told to run.
//!
//! `systemd --bus ADDRESS --units DIR --log FILE [--forgetful] [--no-logind] [--refuse]`
//!
//! `DIR/NAME.service` is a unit that is there: its first line is `oneshot` (its start is over when
//! it ends) or `simple`, the rest a shell script. FILE gets a line for every unit that is started
//! or stopped, for each look at one that is there, and for every `Reboot` and `PowerOff`.
//! `--forgetful` forgets a unit that ended well at once, as a manager does for which
//! `RemainAfterExit` is not set. `--refuse`: nobody may reboot.
//! Ends with the bus.

use std::path::PathBuf;
use std::process::ExitCode;

mod calls;
mod manager;

struct Options {
    bus: String,
    units: PathBuf,
    log: PathBuf,
    is_forgetful: bool,
    has_logind: bool,
    refuses: bool,
}

fn options() -> Option<Options> {
    let mut words = std::env::args().skip(1);
    let mut found = Options {
        bus: String::new(),
        units: PathBuf::new(),
        log: PathBuf::new(),
        is_forgetful: false,
        has_logind: true,
        refuses: false,
    };
    while let Some(word) = words.next() {
        match &*word {
            "--bus" => found.bus = words.next()?,
            "--units" => found.units = words.next()?.into(),
            "--log" => found.log = words.next()?.into(),
            "--forgetful" => found.is_forgetful = true,
            "--no-logind" => found.has_logind = false,
            "--refuse" => found.refuses = true,
            _ => return None,
        }
    }
    (!found.bus.is_empty()).then_some(found)
}

fn main() -> ExitCode {
    let Some(options) = options() else {
        eprintln!(
            "systemd --bus ADDRESS --units DIR --log FILE [--forgetful] [--no-logind] [--refuse]"
        );
        return ExitCode::from(2);
    };
    let ended = futures_lite::future::block_on(calls::run(options));
    eprintln!("systemd: {ended}");
    ExitCode::SUCCESS
}
