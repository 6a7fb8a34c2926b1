//! The situations of state-engine 11.1, 11.3 to 11.8 and 11.11, and of 11.9 and 11.10 what
//! is about update locks and apps. Each of 11.1 to 11.7 and most of 11.11 are documents, with
//! a test of its own; the form is in `tests/fixtures/scenarios/README.md`. [`ELSEWHERE`] says
//! where the others are.

mod calls;
pub mod document;
pub mod play;

/// Makes a test a document, and the list of all.
macro_rules! scenarios {
    ($($test:ident: $id:literal;)*) => {
        $(
            #[test]
            fn $test() {
                play::play($id);
            }
        )*

        /// The ids that have a document.
        const HERE: &[&str] = &[$($id),*];
    };
}

scenarios! {
    app_01_an_app_appears: "APP-01";
    app_02_names_change: "APP-02";
    app_03_an_app_gets_its_number: "APP-03";
    app_04_services_move_to_another_app: "APP-04";
    net_01_a_first_network: "NET-01";
    net_02_a_network_leaves: "NET-02";
    net_03_a_network_for_another: "NET-03";
    net_04_a_network_changes_under_a_service: "NET-04";
    net_05_two_networks: "NET-05";
    vol_01_a_first_volume: "VOL-01";
    vol_02_a_volume_leaves: "VOL-02";
    vol_03_a_volume_for_another: "VOL-03";
    vol_04_a_volume_changes: "VOL-04";
    vol_05_a_first_mounted_volume: "VOL-05";
    vol_06_a_volume_changes_under_a_service: "VOL-06";
    vol_07_binds_and_tmpfs_are_no_volumes: "VOL-07";
    vol_08_two_volumes: "VOL-08";
    svc_01_six_services_and_their_images: "SVC-01";
    svc_02_another_command: "SVC-02";
    svc_03_a_service_leaves: "SVC-03";
    svc_04_an_app_leaves: "SVC-04";
    svc_05_an_image_without_its_name: "SVC-05";
    svc_06_an_update_with_all_that_can_happen: "SVC-06";
    dep_01_started: "DEP-01";
    dep_02_healthy: "DEP-02";
    dep_03_completed: "DEP-03";
    dep_04_two_wait_for_one_health: "DEP-04";
    dep_05_health_and_end_of_one: "DEP-05";
    dep_06_not_required: "DEP-06";
    dep_07_a_chain: "DEP-07";
    dep_08_a_job_that_failed: "DEP-08";
    mig_01_same_network: "MIG-01";
    mig_02_another_network_under_a_service: "MIG-02";
    mig_03_same_volume: "MIG-03";
    mig_04_same_service_and_volume: "MIG-04";
    mig_05_a_label_of_a_volume: "MIG-05";
    mig_06_network_and_volume_change: "MIG-06";
    mig_07_same_service_and_network: "MIG-07";
    mig_08_options_of_a_network: "MIG-08";
    mig_09_same_network_and_volume: "MIG-09";
    mig_10_same_service_beside_storage: "MIG-10";
    mig_11_some_storage_changes: "MIG-11";
    gap_01_depends_on_alone: "GAP-01";
    gap_02_the_number_alone: "GAP-02";
    gap_02_b_the_number_alone_in_a_new_release: "GAP-02-B";
    gap_03_the_image_alone: "GAP-03";
    gap_04_image_and_config: "GAP-04";
    gap_05_image_and_config_with_the_image_there: "GAP-05";
    gap_06_unchanged_before_changed: "GAP-06";
    gap_07_unchanged_after_changed: "GAP-07";
    gap_08_unchanged_under_a_lock: "GAP-08";
    gap_08_b_unchanged_under_our_own_lock: "GAP-08-B";
    gap_09_a_used_network_leaves: "GAP-09";
    gap_09_b_a_used_network_changes: "GAP-09-B";
    gap_10_a_move_with_a_new_image: "GAP-10";
    gap_10_b_a_move_without_its_image: "GAP-10-B";
    gap_11_a_network_of_what_has_finished: "GAP-11";
    gap_11_b_a_volume_of_what_has_finished: "GAP-11-B";
    gap_12_the_image_lost_its_name: "GAP-12";
    gap_13_a_staged_service_leaves: "GAP-13";
    gap_15_one_app_without_its_image: "GAP-15";
    gap_15_b_one_app_with_a_bad_release: "GAP-15-B";
    gap_16_a_bad_release: "GAP-16";
    gap_17_the_good_release_again: "GAP-17";
    gap_18_objects_of_another_agent: "GAP-18";
    gap_19_no_release_and_two_services: "GAP-19";
    gap_20_an_unhealthy_dependency: "GAP-20";
    gap_20_b_a_dependency_without_a_check: "GAP-20-B";
    gap_21_a_stopped_container: "GAP-21";
    gap_21_b_a_failed_job: "GAP-21-B";
    gap_21_c_a_dead_container: "GAP-21-C";
    gap_22_an_edit_in_mid_update: "GAP-22";
    gap_26_restart_with_the_dependency: "GAP-26";
    gap_27_a_third_release_after_a_restart: "GAP-27";
    gap_29_a_request_in_mid_update: "GAP-29";
}

#[test]
fn every_document_has_its_test() {
    let mut here: Vec<&str> = HERE.to_vec();
    here.sort_unstable();
    assert_eq!(here, document::all());
}

/// Where a scenario without a document of its own is.
enum At {
    /// A test, by its file and name.
    Test(&'static str, &'static str),
    /// A decision overrules it, in what the second text says.
    Overruled(&'static str, &'static str),
}

use At::{Overruled, Test};

const VECTORS: At = Test("src/intake/vectors.rs", "ts_9_every_vector");
const ROUND_TRIP: At = Test("tests/it/roundtrip.rs", "issue_4_each_value_of_each_field");
/// D-11: equality is decided on the agent's own label, not on what inspect answers.
const READ_BACK: &str = "nothing is read back from inspect answers";

/// Scenarios without a document, and those of which a part is elsewhere.
#[rustfmt::skip]
const ELSEWHERE: &[(&str, &[At])] = &[
    ("DEP-U1", &[Test("src/plan/tests.rs", "fd_43_conditions_of_dependencies"),
        Test("src/plan/tests.rs", "dep_u1_what_has_no_container_or_was_never_started_is_waited_for")]),
    ("DEP-U2", &[Test("src/plan/tests.rs", "dep_u2_required_dependencies_count_and_optional_ones_do_not")]),
    ("DEP-U3", &[Test("src/engine/containers.rs", "dep_u3_dependencies_go_through_their_label")]),
    ("SVC-01", &[Test("tests/it/images.rs", "svc_01_one_digest_in_two_repositories_is_one_image")]),
    ("MOD-01", &[Overruled("D-11", READ_BACK), Test("tests/it/apply.rs", "w_11_edits_of_several_apps_in_quick_succession_all_count")]),
    ("MOD-02", &[Test("src/intake/device.rs", "d_16_every_fault_of_a_release_is_named"), VECTORS]),
    ("MOD-03", &[VECTORS]),
    ("MOD-04", &[VECTORS]),
    ("MOD-05", &[VECTORS, Overruled("D-11", "one label says what was asked for, instead of lists of tracked fields"),
        Test("src/engine/labels.rs", "d_11_what_is_written_is_read_back")]),
    ("MOD-06", &[Overruled("D-11", READ_BACK)]),
    ("MOD-07", &[VECTORS, Overruled("D-11", READ_BACK)]),
    ("MOD-08", &[Test("src/model/config/mod.rs", "what_is_written_reads_back_equal"), ROUND_TRIP]),
    ("MOD-09", &[Overruled("D-11", READ_BACK), Test("src/plan/tests.rs", "d_11_any_difference_in_what_was_asked_for_makes_a_new_container")]),
    ("MOD-10", &[VECTORS, Overruled("D-11", READ_BACK)]),
    ("MOD-11", &[VECTORS, Overruled("D-11", READ_BACK)]),
    ("MOD-12", &[VECTORS, Overruled("D-11", READ_BACK)]),
    ("OCI-01", &[Test("src/engine/container/tests.rs", "d_22_sources_that_must_be_made"), Overruled("D-11", READ_BACK)]),
    ("OCI-02", &[VECTORS, Overruled("D-11", READ_BACK)]),
    ("OCI-03", &[VECTORS, Overruled("D-11", READ_BACK)]),
    ("OCI-04", &[Test("src/engine/containers.rs", "oci_04_exit_codes_and_health")]),
    ("OCI-05", &[VECTORS, Test("src/intake/compose/ports.rs", "ts_2_16_short_ports"), ROUND_TRIP, Overruled("D-11", READ_BACK)]),
    ("OCI-06", &[VECTORS, Test("src/model/config/mod.rs", "defaults_are_left_out"), ROUND_TRIP, Overruled("D-11", READ_BACK)]),
    ("OCI-07", &[VECTORS, ROUND_TRIP, Overruled("D-11", READ_BACK)]),
    ("OCI-08", &[Overruled("D-25", "an explicit list of hosts, never the last two labels"),
        Test("src/remote/registry.rs", "d_25_s_img_03_w_36_only_the_listed_hosts_get_the_key")]),
    ("OCI-09", &[Test("src/base/date.rs", "stamps_of_the_engine"), Test("src/base/date.rs", "what_is_no_date_is_refused")]),
    ("TYP-01", &[Test("src/model/image.rs", "ra_4_7_s_img_01_references"), Test("src/model/image.rs", "ra_reg_auth_7_refusals"),
        Test("src/config.rs", "operating_systems"), Overruled("D-10", "text of a variable stays text"),
        Test("src/model/config/environment.rs", "la_d6_values_are_typed_only_if_nothing_is_lost")]),
    ("LOG-01", &[Test("src/base/mask.rs", "secrets_are_masked_by_key_and_by_value"), Test("src/intake/device.rs", "d_31_no_message_has_a_secret"),
        Overruled("D-31", "plans name parts, never values; a change is told as the names of its fields")]),
    ("LCK-01", &[Test("src/host/locks.rs", "lck_01_taken_held_given_back"), Test("src/host/locks.rs", "lck_01_a_services_lock_is_respected_under_both_names"),
        Overruled("D-38", "the directory is made with its container, not with the lock")]),
    ("LCK-02", &[Test("src/host/locks.rs", "lck_02_of_many_who_try_one_wins")]),
    ("LCK-03", &[Test("src/host/locks.rs", "lck_03_force_replaces_a_services_lock_only"), Test("src/host/locks.rs", "lck_03_force_of_what_is_free_and_of_what_many_want"),
        Test("src/host/locks.rs", "fd_03_locks_of_a_killed_agent_are_no_locks")]),
    ("LCK-04", &[Test("src/host/locks.rs", "lck_04_a_lock_that_changed_hands_is_not_removed"),
        Test("src/host/locks.rs", "lck_04_what_is_not_held_or_gone_is_given_back_all_the_same")]),
    ("INT-01", &[Test("tests/it/scenarios.rs", "int_01_a_fresh_device"), Test("tests/it/api.rs", "la_1_3_s_poll_34_ping_head_and_an_update_without_a_backend")]),
    ("INT-02", &[Test("tests/it/scenarios.rs", "int_02_an_empty_app_comes_and_goes")]),
    ("INT-03", &[Test("tests/it/scenarios.rs", "int_03_three_services_with_what_compose_has")]),
    ("INT-04", &[Test("tests/it/scenarios.rs", "int_04_what_may_not_be_asked_for_makes_no_app")]),
    ("INT-08", &[Test("tests/it/poll.rs", "int_08_d_16_s_poll_28_a_bad_release_rejects_its_app_and_is_reported")]),
    ("INT-09", &[Test("tests/it/poll.rs", "int_09_a_target_is_polled_applied_and_reported"), Overruled("D-18", "done, though there is no host app")]),
    ("INT-05", &[Test("src/sim/hostup.rs", "host_05_w_26_a_target_without_a_host_is_reached_without_it"), Overruled("D-18", "done, though there is no host app")]),
    ("INT-06", &[Test("tests/it/hostup.rs", "int_06_d_18_w_26_a_host_is_updated_under_locks_and_starts_anew"), Overruled("D-18", "a reboot that is due is no failure")]),
    ("INT-07", &[Test("tests/it/hostup.rs", "int_07_host_04_an_updater_that_fails_is_tried_three_times")]),
    ("SYS-01", &[Test("tests/it/units.rs", "sys_01_run_long_short_with_a_directory_failing_and_missing"),
        Test("tests/it/units.rs", "sys_01_start_stop_and_restart")]),
    ("HOST-01", &[Test("src/plan/host.rs", "host_01_a_new_release_is_known_then_installed"), Test("src/sim/hostup.rs", "host_01_d_18_a_host_comes_to_its_target_and_says_done")]),
    ("HOST-02", &[Test("src/plan/host.rs", "host_02_former_releases_are_forgotten_first"), Test("src/sim/hostup.rs", "w_22_the_updater_of_another_release_is_waited_for")]),
    ("HOST-03", &[Test("src/plan/host.rs", "host_03_what_is_installed_is_not_installed_again")]),
    ("HOST-04", &[Test("src/plan/host.rs", "host_04_three_attempts_a_day"), Test("src/plan/host.rs", "host_04_a_time_that_cannot_be_right_counts_as_now"),
        Test("src/sim/hostup.rs", "int_07_host_04_three_failures_are_enough_for_a_day")]),
    ("HOST-05", &[Test("src/plan/host.rs", "host_05_without_a_host_in_the_target_nothing_is_touched"), Test("src/sim/hostup.rs", "host_05_w_26_a_target_without_a_host_is_reached_without_it")]),
    ("GAP-14", &[Test("src/sim/hostup.rs", "gap_14_a_host_that_is_not_known_is_left_alone"), Test("src/plan/host.rs", "gap_14_what_the_machine_lacks_is_the_reason")]),
    ("GAP-23", &[Test("tests/it/scenarios.rs", "gap_23_mounts_behind_the_lock_directory_converge")]),
    ("GAP-24", &[Test("tests/it/apply.rs", "gap_24_se_w_02_d_10_environment_values_stay_text")]),
    ("GAP-25", &[Test("src/sim/hostup.rs", "gap_25_w_14_apps_come_first_and_nothing_of_them_stops_meanwhile")]),
    ("GAP-26", &[Test("tests/it/apply.rs", "gap_26_who_asked_for_it_restarts_with_what_it_depends_on")]),
    ("GAP-28", &[Test("tests/it/scenarios.rs", "gap_28_an_image_is_found_by_its_tag_after_the_engine_has_lost_that")]),
    ("GAP-29", &[Test("tests/it/scenarios.rs", "gap_29_a_request_in_the_middle_of_a_blocked_update_does_not_stick")]),
];

/// How many scenarios the specification has of each kind.
const ALL: &[(&str, u32)] = &[
    ("APP-", 4),
    ("NET-", 5),
    ("VOL-", 8),
    ("SVC-", 6),
    ("DEP-", 8),
    ("DEP-U", 3),
    ("MIG-", 11),
    ("MOD-", 12),
    ("OCI-", 9),
    ("TYP-", 1),
    ("LOG-", 1),
    ("LCK-", 4),
    ("GAP-", 29),
    ("HOST-", 5),
    ("INT-", 9),
    ("SYS-", 1),
];

#[test]
fn every_scenario_is_somewhere() {
    let mut missing = Vec::new();
    for (kind, count) in ALL {
        let width = if kind.ends_with('U') { 1 } else { 2 };
        for number in 1..=*count {
            let id = format!("{kind}{number:0width$}");
            if !HERE.contains(&&*id) && !ELSEWHERE.iter().any(|(known, _)| *known == id) {
                missing.push(id);
            }
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    for (id, places) in ELSEWHERE {
        for place in *places {
            match place {
                Test(file, name) => {
                    let text = std::fs::read_to_string(root.join(file)).unwrap();
                    let before = text
                        .split(&format!("fn {name}("))
                        .next()
                        .unwrap_or_default();
                    let is_there = before.len() < text.len()
                        && before
                            .lines()
                            .rev()
                            .take(4)
                            .any(|line| line.trim() == "#[test]");
                    assert!(is_there, "{id}: there is no {name} in {file}");
                }
                Overruled(decision, why) => {
                    assert!(decision.starts_with("D-") && !why.is_empty(), "{id}");
                }
            }
        }
    }
}
