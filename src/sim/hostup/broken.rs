//! What goes wrong around an update of the host, beside what the updater says itself.

use helios::model::status::UpdateStatus;
use helios::world::engine::Kind;

use super::super::machine::Run;
use super::super::scenarios::play::set_target;
use super::super::world::State;
use super::{at, build, live, one_app, record, shown, target, world};

/// When an updater that never ends is ended.
const ENDED: u64 = helios::limits::UPDATER_RUN_MAX.as_secs() + 60;

#[test]
fn w_22_an_updater_that_never_ends_is_an_attempt_whoever_waits_for_it() {
    for is_killed in [false, true] {
        let world = world(one_app("R1"));
        world.with(|state| {
            state.host.runs = [Run::Hangs].into();
            if is_killed {
                let begun = "the updater is half done".to_owned();
                let kill = |state: &mut State| state.kill_in = Some(1);
                state.upon.push((begun, Box::new(kill)));
            }
        });
        let (status, reason) = live(&world, at(ENDED - 600), shown);
        assert_eq!(status, UpdateStatus::ApplyingChanges, "{reason}");
        world.with(|state| {
            assert_eq!((state.host.starts, state.host.boots), (1, 0));
            assert_eq!(state.dirs.ours.len(), 1, "under the locks");
        });
        let (status, reason) = live(&world, at(ENDED + 600), shown);
        world.with(|state| {
            assert_eq!((status, &*reason), (UpdateStatus::Done, ""), "{is_killed}");
            assert_eq!((state.host.starts, build(state)), (2, "h1".to_owned()));
            assert_eq!(record(state, "h1")["install_attempts"], 2);
            let ended = |line: &String| line.contains("the updater ends: Hangs");
            assert!(state.history.iter().any(ended));
        });
    }
}

#[test]
fn issue_8_a_bus_that_is_away_when_the_updater_ends_is_waited_for() {
    let world = world(one_app("R1"));
    world.with(|state| {
        let begun = "the updater is half done".to_owned();
        let lose = |state: &mut State| state.host.absent = Some("there is no D-Bus".to_owned());
        state.upon.push((begun, Box::new(lose)));
    });
    let (status, reason) = live(&world, at(300), shown);
    assert_eq!(status, UpdateStatus::Aborted);
    assert!(reason.contains("there is no D-Bus"), "{reason}");
    world.with(|state| {
        assert_eq!((state.host.starts, state.host.boots), (1, 0));
        state.host.absent = None;
    });
    let (status, reason) = live(&world, at(1500), shown);
    assert_eq!((status, &*reason), (UpdateStatus::Done, ""));
    world.with(|state| assert_eq!((state.host.starts, state.host.boots), (1, 1)));
}

#[test]
fn d_19_a_reboot_that_is_refused_or_does_not_come_is_asked_for_again() {
    let world = world(one_app("R1"));
    world.with(|state| state.host.refuses = 2);
    let (status, reason) = live(&world, at(300), shown);
    assert_eq!((status, &*reason), (UpdateStatus::Done, ""));
    world.with(|state| assert_eq!((state.host.starts, state.host.boots), (1, 1)));

    let world = super::world(one_app("R1"));
    world.with(|state| state.host.ignores = 1);
    // In one life: the next agent would ask again by itself.
    let (status, reason) = live(&world, at(1200), shown);
    assert_eq!((status, &*reason), (UpdateStatus::Done, ""));
    world.with(|state| {
        let asked = state.host.held.iter().filter(|(what, _)| what == "reboot");
        assert_eq!((asked.count(), state.host.boots), (2, 1));
    });
}

#[test]
fn host_05_a_host_that_leaves_the_target_in_mid_update_is_not_rebooted() {
    let world = world(one_app("R1"));
    world.with(|state| {
        state.host.runs = [Run::Slowly].into();
        let begun = "the updater is half done".to_owned();
        let leave = |state: &mut State| set_target(state, target(one_app("R1"), None));
        state.upon.push((begun, Box::new(leave)));
    });
    let (status, reason) = live(&world, at(600), shown);
    assert_eq!((status, &*reason), (UpdateStatus::Done, ""));
    world.with(|state| {
        assert_eq!((state.host.starts, state.host.boots), (1, 0));
        assert!(state.dirs.ours.is_empty(), "nothing is held for it");
        set_target(state, target(one_app("R1"), Some("h1")));
    });
    // The unit is still there, and says that it went well.
    let (status, reason) = live(&world, at(1200), shown);
    assert_eq!((status, &*reason), (UpdateStatus::Done, ""));
    world.with(|state| {
        assert_eq!((state.host.starts, state.host.boots), (1, 1));
        assert_eq!(build(state), "h1");
    });
}

#[test]
fn se_6_5_an_updater_that_cannot_be_pulled_costs_no_attempt() {
    let world = world(one_app("R1"));
    let pull = ("pull 'registry.example/hup:1'".to_owned(), Kind::Failed, 5);
    world.with(|state| state.refusals.push(pull));
    let (status, reason) = live(&world, at(30), shown);
    assert_eq!(status, UpdateStatus::ApplyingChanges);
    assert!(reason.contains("hup:1"), "{reason}");
    world.with(|state| {
        assert!(state.dirs.ours.is_empty(), "no lock is held for it");
        assert!(state.engine.containers.contains_key("web_R1"));
    });
    let (status, reason) = live(&world, at(900), shown);
    assert_eq!((status, &*reason), (UpdateStatus::Done, ""));
    world.with(|state| {
        assert_eq!(state.host.starts, 1);
        assert_eq!(record(state, "h1")["install_attempts"], 1);
    });
}
