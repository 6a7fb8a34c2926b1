//! systemd over D-Bus, as the agent speaks it (state-engine 9), to a stand-in that really runs
//! what it is told to run.

use std::time::Duration;

use async_io::block_on;
use futures_lite::future;
use helios::host::systemd::Systemd;
use helios::world::system::{
    Ended, Power, System as _, SystemError, SystemErrorKind, Transient, Verb,
};

use crate::support::bus::Bus;
use crate::support::until;

const UNIT: &str = "os-update.service";

fn systemd(bus: &Bus) -> Systemd {
    Systemd::new(Some(bus.address()))
}

fn sh(script: &str) -> Vec<String> {
    ["/bin/sh", "-c", script].map(str::to_owned).to_vec()
}

fn run(bus: &Bus, command: &[String], dir: &str) -> Result<Ended, SystemError> {
    run_within(bus, command, dir, Duration::from_secs(60))
}

fn run_within(
    bus: &Bus,
    command: &[String],
    directory: &str,
    limit: Duration,
) -> Result<Ended, SystemError> {
    let transient = Transient {
        unit: UNIT,
        description: "a test",
        command,
        directory,
        limit,
    };
    block_on(systemd(bus).run(&transient))
}

fn badly(said: &str) -> Result<Ended, SystemError> {
    Ok(Ended::Badly(said.to_owned()))
}

/// Stands for any refusal to start.
fn kind(result: Result<Ended, SystemError>) -> SystemErrorKind {
    result.unwrap_err().kind
}

#[test]
fn sys_01_run_long_short_with_a_directory_failing_and_missing() {
    for options in [&[][..], &["--forgetful"]] {
        let bus = Bus::start(options);
        let dir = bus.dir.0.to_str().unwrap();
        let forget = || block_on(systemd(&bus).forget(UNIT)).unwrap();
        assert_eq!(run(&bus, &sh("sleep 1"), ""), Ok(Ended::Well));
        forget();
        assert_eq!(run(&bus, &sh("exit 0"), ""), Ok(Ended::Well));
        forget();
        assert_eq!(run(&bus, &sh("pwd > here"), dir), Ok(Ended::Well));
        let here = std::fs::read_to_string(bus.dir.0.join("here")).unwrap();
        assert_eq!(here.trim(), dir);
        forget();
        assert_eq!(run(&bus, &sh("exit 1"), ""), badly("exit code 1"));
        // A failed one of the same name is not in the way.
        assert_eq!(run(&bus, &sh("exit 42"), ""), badly("exit code 42"));
        assert_eq!(
            run(&bus, &sh("kill -9 $$"), ""),
            badly("killed by signal 9")
        );
        let missing = run(&bus, &["/nonexistent/program".to_owned()], "");
        assert_eq!(missing, badly("exit code 203"));
    }
}

#[test]
fn sys_01_start_stop_and_restart() {
    let bus = Bus::start(&[]);
    bus.unit("good.service", "simple", "exec sleep 600");
    bus.unit("bad.service", "oneshot", "exit 3");
    bus.unit("once.service", "oneshot", "exit 0");
    let job = |verb, name| block_on(systemd(&bus).job(verb, name)).map_err(|err| err.kind);
    for verb in [Verb::Start, Verb::Stop, Verb::Restart] {
        assert_eq!(job(verb, "none.service"), Err(SystemErrorKind::NoSuchUnit));
    }
    for verb in [Verb::Start, Verb::Restart] {
        assert_eq!(job(verb, "bad.service"), Err(SystemErrorKind::Failed));
        assert_eq!(job(verb, "once.service"), Ok(()));
    }
    assert_eq!(job(Verb::Start, "good.service"), Ok(()));
    assert_eq!(job(Verb::Start, "good.service"), Ok(()), "it runs already");
    assert_eq!(job(Verb::Restart, "good.service"), Ok(()));
    assert_eq!(job(Verb::Stop, "good.service"), Ok(()));
    assert_eq!(
        job(Verb::Stop, "good.service"),
        Ok(()),
        "it is stopped already"
    );
    let starts = bus.log().matches("start good.service").count();
    assert_eq!(starts, 2, "{}", bus.log());
}

#[test]
fn w_22_a_unit_that_runs_is_seen_and_waited_for_and_is_in_the_way() {
    let bus = Bus::start(&[]);
    let gate = bus.dir.0.join("gate");
    let script = sh(&format!(
        "until [ -e {} ]; do sleep 0.1; done; exit 7",
        gate.display()
    ));
    let transient = Transient {
        unit: UNIT,
        description: "a test",
        command: &script,
        directory: "",
        limit: Duration::from_secs(60),
    };
    let systemd = systemd(&bus);
    // Given up halfway, as by an agent that is killed.
    block_on(async {
        let running = async {
            systemd.run(&transient).await.unwrap();
        };
        let seen = async {
            loop {
                let seen = systemd.unit(UNIT).await.unwrap();
                if seen.is_some_and(|seen| seen.ended.is_none()) {
                    return;
                }
            }
        };
        future::or(seen, running).await;
    });
    let seen = block_on(systemd.unit(UNIT)).unwrap().unwrap();
    assert_eq!(seen.command, script);
    assert_eq!(seen.ended, None);
    let second = block_on(systemd.run(&transient));
    assert_eq!(kind(second), SystemErrorKind::Exists);
    let waited = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| block_on(systemd.wait(UNIT, Duration::from_secs(60))));
        std::fs::write(&gate, "").unwrap();
        waiting.join().unwrap()
    });
    assert_eq!(waited, badly("exit code 7"));
    let seen = block_on(systemd.unit(UNIT)).unwrap().unwrap();
    assert_eq!(
        seen.ended,
        Some(Ended::Badly("exit code 7".to_owned())),
        "it stays"
    );
    block_on(systemd.forget(UNIT)).unwrap();
    assert_eq!(block_on(systemd.unit(UNIT)), Ok(None));
    block_on(systemd.forget(UNIT)).unwrap();
}

#[test]
fn w_22_a_unit_that_ended_well_while_nobody_listened_is_still_known() {
    let bus = Bus::start(&[]);
    assert_eq!(run(&bus, &sh("exit 0"), ""), Ok(Ended::Well));
    let seen = block_on(systemd(&bus).unit(UNIT)).unwrap().unwrap();
    assert_eq!(
        (seen.command, seen.ended),
        (sh("exit 0"), Some(Ended::Well))
    );
}

#[test]
fn w_22_a_unit_that_never_ends_is_ended_by_the_manager() {
    let bus = Bus::start(&[]);
    let limit = Duration::from_millis(300);
    let ended = run_within(&bus, &sh("sleep 600"), "", limit);
    assert_eq!(ended, badly("it took too long"));
}

#[test]
fn w_22_a_unit_that_outlasts_a_wait_is_stopped() {
    let bus = Bus::start(&[]);
    bus.unit("long.service", "simple", "exec sleep 600");
    let systemd = systemd(&bus);
    block_on(systemd.job(Verb::Start, "long.service")).unwrap();
    let waited = block_on(systemd.wait("long.service", Duration::from_millis(300)));
    assert_eq!(kind(waited), SystemErrorKind::TimedOut);
    assert!(bus.log().contains("stop long.service"), "{}", bus.log());
}

#[test]
fn a_bus_that_goes_away_and_comes_back_is_found_again() {
    let mut bus = Bus::start(&[]);
    let systemd = systemd(&bus);
    let gone = std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            let command = sh("sleep 600");
            let transient = Transient {
                unit: UNIT,
                description: "a test",
                command: &command,
                directory: "",
                limit: Duration::from_secs(600),
            };
            block_on(systemd.run(&transient))
        });
        // Who looks knows of the start: a bus that goes before its answer would leave that open.
        until("a look at the unit", || {
            bus.log().contains("look at os-update").then_some(())
        });
        bus.down();
        assert!(systemd.absent().is_some());
        bus.up();
        running.join().unwrap()
    });
    // The stand-in knows nothing of what it started before.
    assert_eq!(gone, badly("the unit is gone, nobody knows how"));
    assert_eq!(systemd.absent(), None);
    assert_eq!(run(&bus, &sh("exit 0"), ""), Ok(Ended::Well));
    bus.down();
    let without = block_on(systemd.unit(UNIT)).unwrap_err();
    assert_eq!(without.kind, SystemErrorKind::Absent, "{without}");
}

#[test]
fn a_bus_without_systemd_says_so() {
    let mut bus = Bus::start(&[]);
    bus.down();
    bus.up_daemon();
    let error = block_on(systemd(&bus).unit(UNIT)).unwrap_err();
    assert_eq!(error.kind, SystemErrorKind::Absent, "{error}");
    let error = block_on(systemd(&bus).power(Power::Reboot)).unwrap_err();
    assert_eq!(error.kind, SystemErrorKind::Absent, "{error}");
}

#[test]
fn se_9_reboot_and_power_off_with_and_without_logind() {
    let bus = Bus::start(&[]);
    block_on(systemd(&bus).power(Power::Reboot)).unwrap();
    block_on(systemd(&bus).power(Power::Off)).unwrap();
    assert_eq!(bus.log(), "Reboot\nPowerOff\n");
    let bus = Bus::start(&["--no-logind"]);
    block_on(systemd(&bus).power(Power::Reboot)).unwrap();
    block_on(systemd(&bus).power(Power::Off)).unwrap();
    assert_eq!(bus.log(), "start reboot.target\nstart poweroff.target\n");
}
