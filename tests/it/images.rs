//! Images on a real engine: room for them, damage, clean-up.

use helios::base::percent::percent_encode_segment;
use serde_json::{Value, json};

use crate::support::engine::{App, app, call, publish, publish_from, push, service};
use crate::support::gate::Gate;
use crate::support::{Agent, Options, Scratch, alone, image, until};

fn start(dir: &Scratch, args: &[&str]) -> Agent {
    let options = Options {
        args: args.to_vec(),
        ..Options::default()
    };
    Agent::start(&dir.0, &options)
}

/// A service that runs `image`.
fn of(id: u32, image: &str) -> Value {
    let mut body = service(id, json!({}));
    body["image"] = json!(image);
    body
}

fn is_there(image: &str) -> bool {
    call("GET", &format!("/images/{image}/json"), None).0 == 200
}

#[test]
fn fd_07_nothing_is_pulled_below_the_reserve_and_what_runs_stays() {
    let (_alone, dir, mine) = (alone(), Scratch::new(), App::new());
    let (first, second) = (publish("reserve-a"), publish("reserve-b"));
    let agent = start(&dir, &[]);
    let one = |image: &str| app("r1", json!({"services": {"main": of(1, image)}}));
    agent.set(&mine.0, &one(&first));
    agent.wait_for("done");
    let before = mine.id("main");
    agent.kill();

    // More than any disk has.
    let agent = start(&dir, &["--disk-reserve-mib", "16777216"]);
    agent.wait_for("done");
    agent.set(&mine.0, &one(&second));
    let reason = until("the reason", || {
        let status = agent.get("/v3/status?detail=true");
        let reason = status["reason"].as_str()?.to_owned();
        reason.contains("bytes free").then_some(reason)
    });
    assert!(
        reason.contains("reserve of 17592186044416 bytes"),
        "{reason}"
    );
    assert_eq!(agent.status(), "applying changes");
    assert!(!is_there(&second), "it was pulled");
    assert!(mine.is_running("main") && mine.id("main") == before);
    assert_eq!(agent.log().matches("no image is pulled").count(), 1);
    assert!(!agent.log().contains("next try"), "{}", agent.log());
    agent.kill();

    let agent = start(&dir, &["--disk-reserve-mib", "1"]);
    agent.wait_for_log("is at its target");
    agent.wait_for("done");
    assert_ne!(mine.id("main"), before);
}

/// The directory of an image's own layer on the engine's disk.
fn layer(image: &str) -> std::path::PathBuf {
    let (_, found) = call("GET", &format!("/images/{image}/json"), None);
    let diff = found["GraphDriver"]["Data"]["UpperDir"].as_str().unwrap();
    std::path::Path::new(diff).parent().unwrap().to_owned()
}

/// The directory of what the layer below that one brought.
fn below(image: &str) -> std::path::PathBuf {
    let (_, found) = call("GET", &format!("/images/{image}/json"), None);
    let layers = found["GraphDriver"]["Data"]["LowerDir"].as_str().unwrap();
    layers.split(':').next().unwrap().into()
}

/// One service whose image is damaged while the agent is away: as `damage` says, with the
/// container and its volume as they were left.
fn damaged(name: &str, damage: impl FnOnce(&str, &App)) {
    let (_alone, dir, mine) = (alone(), Scratch::new(), App::new());
    let image = publish(name);
    let agent = start(&dir, &[]);
    let mut main = service(1, json!({"volumes": ["data:/data"]}));
    main["image"] = json!(image);
    main["composition"]["command"] = json!("sh -c 'echo kept >>/data/kept; exec sleep infinity'");
    let body = json!({"services": {"main": main}, "volumes": {"data": {}}});
    agent.set(&mine.0, &app("r1", body));
    agent.wait_for("done");
    let before = mine.id("main");
    agent.kill();
    let (status, _) = call("POST", &format!("/containers/{before}/kill"), None);
    assert_eq!(status, 204);
    damage(&image, &mine);

    let agent = start(&dir, &[]);
    agent.wait_for_log(&format!(
        "image '{image}' is damaged and is pulled afresh: "
    ));
    agent.wait_for_log("is at its target");
    agent.wait_for("done");
    assert!(mine.is_running("main") && mine.id("main") != before);
    assert_eq!(mine.containers().len(), 1);
    assert!(layer(&image).join("diff/own").exists(), "its layer is back");
    let (_, volume) = call("GET", &format!("/volumes/data_{}", mine.0), None);
    let kept = std::path::Path::new(volume["Mountpoint"].as_str().unwrap()).join("kept");
    let lines = || std::fs::read_to_string(&kept).unwrap().lines().count();
    until("both runs in the volume", || (lines() == 2).then_some(()));
}

#[test]
fn fd_10_a_container_that_does_not_start_for_its_image_gets_a_fresh_one() {
    damaged("damage-start", |image, _| {
        std::fs::remove_dir_all(layer(image)).unwrap();
        // Neither can be asked about, and a pull says that it is up to date.
        assert_eq!(call("GET", &format!("/images/{image}/json"), None).0, 500);
    });
}

#[test]
fn fd_10_a_container_that_cannot_be_made_for_its_image_gets_a_fresh_one() {
    damaged("damage-create", |image, mine| {
        let id = mine.id("main");
        assert_eq!(call("DELETE", &format!("/containers/{id}"), None).0, 204);
        std::fs::remove_dir_all(layer(image).join("diff")).unwrap();
        assert!(is_there(image), "nothing is known of the damage yet");
    });
}

#[test]
fn w_25_a_damaged_image_of_somebody_else_costs_the_others_nothing() {
    let (_alone, dir, mine) = (alone(), Scratch::new(), App::new());
    let image = publish("damage-other");
    let pull = format!(
        "/images/create?fromImage={}",
        percent_encode_segment(&image)
    );
    assert_eq!(call("POST", &pull, None).0, 200);
    std::fs::remove_dir_all(layer(&image)).unwrap();
    let agent = start(&dir, &[]);
    let body = json!({"services": {"main": service(1, json!({}))}});
    agent.set(&mine.0, &app("r1", body));
    agent.wait_for("done");
    // Nor is it ours to repair.
    assert_eq!(call("GET", &format!("/images/{image}/json"), None).0, 500);
    assert_eq!(call("DELETE", &format!("/images/{image}"), None).0, 200);
}

#[test]
fn fd_06_fd_09_images_of_targets_in_between_go_under_a_lock() {
    let (_alone, dir, mine) = (alone(), Scratch::new(), App::new());
    let images: Vec<_> = (1..=4).map(|n| publish(&format!("between-{n}"))).collect();
    let by_hand = publish("between-by-hand");
    let pull = format!(
        "/images/create?fromImage={}",
        percent_encode_segment(&by_hand)
    );
    assert_eq!(call("POST", &pull, None).0, 200);
    let agent = start(&dir, &[]);
    let one = |n: usize| {
        app(
            &format!("r{n}"),
            json!({"services": {"main": of(1, &images[n])}}),
        )
    };
    agent.set(&mine.0, &one(0));
    agent.wait_for("done");
    let locks = dir.0.join(format!("run/update-locks/{}/main", mine.0));
    std::fs::write(locks.join("updates.lock"), "").unwrap();
    for (n, image) in images.iter().enumerate().skip(1) {
        agent.set(&mine.0, &one(n));
        until("the download", || is_there(image).then_some(()));
    }
    // What runs and what is to run stay.
    until("the clean-up", || {
        let there: Vec<_> = images.iter().map(|image| is_there(image)).collect();
        (there == [true, false, false, true]).then_some(())
    });
    assert_eq!(agent.status(), "applying changes");
    assert!(mine.is_running("main"));
    std::fs::remove_file(locks.join("updates.lock")).unwrap();
    agent.wait_for("done");
    until("the clean-up", || {
        let there: Vec<_> = images.iter().map(|image| is_there(image)).collect();
        (there == [false, false, false, true]).then_some(())
    });
    assert!(is_there(&by_hand), "it is not ours");
    assert_eq!(call("DELETE", &format!("/images/{by_hand}"), None).0, 200);
}

#[test]
fn fd_09_what_an_app_no_longer_needs_goes_while_another_one_fails() {
    let (_alone, dir, mine, other) = (alone(), Scratch::new(), App::new(), App::new());
    let (first, second) = (publish("beside-1"), publish("beside-2"));
    let agent = start(&dir, &[]);
    let one = |image: &str| app("r1", json!({"services": {"main": of(1, image)}}));
    agent.set(&other.0, &one(&format!("{first}-nowhere")));
    agent.set(&mine.0, &one(&first));
    until("the first", || mine.is_running("main").then_some(()));
    agent.set(&mine.0, &one(&second));
    until("the clean-up", || (!is_there(&first)).then_some(()));
    assert!(mine.is_running("main") && is_there(&second));
    assert_eq!(agent.status(), "applying changes");
}

/// Engines refuse to tag with a digest, so a second repository is asked for what it has; its
/// layers are there already.
#[test]
fn svc_01_one_digest_in_two_repositories_is_one_image() {
    let (_alone, dir, mine) = (alone(), Scratch::new(), App::new());
    let first = publish("twice");
    let second = first.replace("/twice:", "/twice-again:");
    let pull = format!(
        "/images/create?fromImage={}",
        percent_encode_segment(&first)
    );
    assert_eq!(call("POST", &pull, None).0, 200);
    let (_, found) = call("GET", &format!("/images/{first}/json"), None);
    let digest = found["RepoDigests"][0]
        .as_str()
        .unwrap()
        .split('@')
        .nth(1)
        .unwrap()
        .to_owned();
    push(&first, &second);
    assert_eq!(call("DELETE", &format!("/images/{first}"), None).0, 200);
    let by_digest = |image: &str| format!("{}@{digest}", image.rsplit_once(':').unwrap().0);
    let agent = start(&dir, &[]);
    let [a, b] = [&first, &second].map(|image| of(1, &by_digest(image)));
    agent.set(&mine.0, &app("r1", json!({"services": {"a": a, "b": b}})));
    agent.wait_for("done");
    let ids = ["a", "b"].map(|name| mine.service(name).unwrap()["Image"].clone());
    assert_eq!(ids[0], ids[1]);
    agent.remove(&mine.0);
    until("the clean-up", || {
        (!is_there(&by_digest(&second))).then_some(())
    });
}

#[test]
fn fd_12_a_pull_that_a_newer_target_still_wants_goes_on() {
    let (_alone, dir, mine, gate) = (alone(), Scratch::new(), App::new(), Gate::start());
    let large = "busybox dd if=/dev/urandom of=/large bs=1M count=1";
    let publish = |name: &str| publish_from(&image(), name, large);
    let image = gate.name(&publish("go-on"));
    let agent = start(&dir, &[]);
    let release = |name: &str, services: Value| app(name, json!({"services": services}));
    agent.set(&mine.0, &release("r1", json!({"slow": of(1, &image)})));
    until("the pull", || gate.holds().then_some(()));
    // Another service, and another configuration of the first.
    let mut slow = of(1, &image);
    slow["composition"]["environment"] = json!({"A": "1"});
    let services = json!({"slow": slow, "quick": service(2, json!({}))});
    agent.set(&mine.0, &release("r2", services));
    until("the other service", || {
        mine.is_running("quick").then_some(())
    });
    assert!(!mine.is_running("slow"));
    gate.open();
    agent.wait_for("done");
    assert!(mine.is_running("slow"));
    let log = agent.log();
    let begun = format!("pulling image '{image}'");
    assert_eq!(log.matches(&begun).count(), 1, "{log}");
    assert_eq!(log.matches("applying the target").count(), 2, "{log}");
    let mut blobs = gate.blobs();
    blobs.sort();
    let all = blobs.len();
    blobs.dedup();
    assert_eq!(blobs.len(), all, "{blobs:?}");

    // One that it does not want is given up, and what it wants does not wait for that.
    gate.close();
    let other = gate.name(&publish("give-up"));
    agent.set(&mine.0, &release("r3", json!({"slow": of(1, &other)})));
    until("the pull", || gate.holds().then_some(()));
    agent.set(&mine.0, &release("r4", json!({"slow": of(1, &image)})));
    agent.wait_for_log(&format!(
        "the pull of image '{other}' is given up: no target"
    ));
    agent.wait_for("done");
    assert!(mine.is_running("slow") && !is_there(&other));
    // Nor is it pulled by the engine alone.
    gate.open();
    agent.remove(&mine.0);
    agent.wait_for("done");
    assert!(!is_there(&other));
}

#[test]
fn fd_10_a_damaged_layer_that_two_images_share_comes_back() {
    let (_alone, dir, mine) = (alone(), Scratch::new(), App::new());
    let base = publish_from(&image(), "shared-base", "echo both >/both");
    let [first, second] = ["shared-a", "shared-b"].map(|name| publish_from(&base, name, "true"));
    // It would hold the layer, and is nobody's but ours here.
    assert_eq!(call("DELETE", &format!("/images/{base}"), None).0, 200);
    let agent = start(&dir, &[]);
    // Made and never started: it holds the layer.
    let mut held = of(2, &second);
    held["running"] = json!(false);
    let body = json!({"services": {"a": of(1, &first), "b": held}});
    agent.set(&mine.0, &app("r1", body));
    agent.wait_for("done");
    agent.kill();
    let path = format!("/containers/{}?force=true", mine.id("a"));
    assert_eq!(call("DELETE", &path, None).0, 204);
    let shared = below(&first);
    assert!(shared.join("both").exists(), "this is that layer");
    std::fs::remove_dir_all(shared).unwrap();

    let agent = start(&dir, &[]);
    agent.wait_for_log("shares a layer with it and is pulled afresh, too");
    agent.wait_for("done");
    assert!(mine.is_running("a") && !mine.is_running("b"));
    assert_eq!(mine.containers().len(), 2);
    assert!(below(&second).join("both").exists(), "it is back");
    assert!(is_there(&image()), "what is below is somebody else's");
}
