//! Registries that want credentials, through the real engine (remote-api 4, 10.4).

use serde_json::{Value, json};

use crate::support::engine::{App, call, publish, publish_from, service};
use crate::support::registry::{Auth, DEVICE, KEY, Registry, Tokens, anonymous, basic};
use crate::support::{Agent, Backend, Options, Scratch, alone, until};

/// A managed device whose one service runs an image of a registry.
struct Device {
    agent: Agent,
    app: App,
    backend: Backend,
    _dir: Scratch,
}

impl Device {
    fn start(key: &str, more: &[&str], image: &str) -> Device {
        let (dir, app, backend) = (Scratch::new(), App::new(), Backend::start());
        backend.set_target(&target(&app, image));
        let url = backend.url();
        #[rustfmt::skip]
        let mut args = vec![
            "--uuid", DEVICE, "--remote-api-endpoint", &url, "--remote-api-key", key,
            "--remote-poll-min-interval-ms", "100", "--remote-poll-interval-ms", "60000",
        ];
        args.extend(more);
        let options = Options {
            args,
            ..Options::default()
        };
        let agent = Agent::start(&dir.0, &options);
        Device {
            agent,
            app,
            backend,
            _dir: dir,
        }
    }

    /// What the API says of the service.
    fn detail(&self) -> Value {
        let path = format!("/v3/device/apps/{}?detail=true", self.app.0);
        let (_, body) = self.agent.call("GET", &path, None);
        body["releases"]["r1"]["services"]["main"]["detail"].clone()
    }

    fn refused(&self, why: &str) {
        let said = until("the refusal", || {
            let said = self.detail()["last_error"].as_str()?.to_owned();
            said.contains(why).then_some(said)
        });
        assert!(said.contains("cannot pull image"), "{said}");
        let reason = self.agent.get("/v3/status?detail=true")["reason"].clone();
        assert!(reason.as_str().unwrap().contains(why), "{reason}");
        // R-REG-AUTH-6: the first retry.
        self.agent.wait_for_log("next try in 10 s");
    }

    /// The image is there and runs, and nothing gave the key away.
    fn done(self, image: &str) {
        self.agent.wait_for_log("is at its target");
        self.agent.wait_for("done");
        assert!(self.app.is_running("main"));
        self.keeps_its_key();
        self.agent.kill();
        drop(self.app);
        assert_eq!(call("DELETE", &format!("/images/{image}"), None).0, 200);
    }

    fn keeps_its_key(&self) {
        let basic = basic();
        let secrets = [KEY, basic.trim_start_matches("Basic "), "X-Registry-Auth"];
        let reports = Value::from(self.backend.reports()).to_string();
        for text in [self.agent.log(), reports, self.detail().to_string()] {
            for secret in secrets {
                assert!(!text.contains(secret), "{secret} in {text}");
            }
        }
    }
}

fn target(app: &App, image: &str) -> Value {
    let mut main = service(1, json!({}));
    main["image"] = json!(image);
    let release = json!({"id": 1, "services": {"main": main}});
    json!({DEVICE: {"name": "a-device", "config": {}, "apps": {
        &app.0: {"id": 12, "name": "test", "releases": {"r1": release}},
    }}})
}

#[test]
fn s_img_05_d_25_a_registry_with_basic_credentials() {
    let _alone = alone();
    for auth in [Auth::Basic, Auth::BasicTls] {
        let registry = Registry::start(&auth);
        if matches!(auth, Auth::Basic) {
            assert_eq!(anonymous(&registry), 401);
        }
        let image = registry.name("127.0.0.1", &publish("basic"));
        Device::start(KEY, &[], &image).done(&image);
    }
}

#[test]
fn r_reg_auth_2_a_registry_with_tokens_of_the_backend() {
    let (_alone, tokens) = (alone(), Tokens::start());
    let registry = Registry::start(&Auth::Token(&tokens));
    assert_eq!(anonymous(&registry), 401);
    let image = registry.name("127.0.0.1", &publish("token"));
    Device::start(KEY, &[], &image).done(&image);
    let asked = tokens.asked();
    assert!(!asked.is_empty());
    for request in asked {
        assert_eq!(request.authorization.as_deref(), Some(&*basic()));
        assert!(!request.target.contains(KEY), "{}", request.target);
    }
}

#[test]
fn r_reg_auth_6_a_wrong_key_is_said_and_costs_no_other_service() {
    let (_alone, tokens) = (alone(), Tokens::start());
    let registry = Registry::start(&Auth::Token(&tokens));
    let image = registry.name("127.0.0.1", &publish("wrong"));
    let device = Device::start("another-key", &[], &image);
    device.refused("the registry refuses this device's key: ");
    assert_eq!(device.agent.status(), "applying changes");
    let log = device.agent.log();
    assert!(!log.contains("another-key"), "{log}");
    // An image of a registry that asks nobody.
    let mut open = target(&device.app, &image);
    let services = &mut open[DEVICE]["apps"][&device.app.0]["releases"]["r1"]["services"];
    services["other"] = service(2, json!({}));
    device.backend.set_target(&open);
    let asked = device.agent.call("POST", "/v1/update", Some(&json!({})));
    assert_eq!(asked.0, 202);
    until("the other", || device.app.is_running("other").then_some(()));
}

#[test]
fn s_img_09_a_token_that_was_refused_once_is_asked_for_again_soon() {
    let (_alone, tokens) = (alone(), Tokens::start());
    let registry = Registry::start(&Auth::Token(&tokens));
    let image = registry.name("127.0.0.1", &publish("race"));
    // An engine asks more than once a pull.
    tokens.refuse(8);
    let device = Device::start(KEY, &[], &image);
    device.refused("the registry refuses this device's key: ");
    tokens.refuse(0);
    let log = device.agent.log();
    assert_eq!(log.matches("next try in").count(), 1, "{log}");
    device.done(&image);
}

#[test]
fn d_25_a_registry_that_is_not_on_the_list_never_sees_the_key() {
    let (_alone, tokens) = (alone(), Tokens::start());
    let registry = Registry::start(&Auth::Token(&tokens));
    // The same machine by another name than the backend's.
    let image = registry.name("localhost", &publish("stranger"));
    let device = Device::start(KEY, &[], &image);
    device.refused("the registry refuses, and is not one that gets this device's key: ");
    device.keeps_its_key();
    drop(device);
    let asked = tokens.asked();
    assert!(!asked.is_empty());
    for request in asked {
        assert_eq!(request.authorization, None, "{}", request.target);
    }

    let device = Device::start(KEY, &["--registry-auth-host", "localhost"], &image);
    device.done(&image);
    let last = tokens.asked().pop().unwrap();
    assert_eq!(last.authorization.as_deref(), Some(&*basic()));
}

/// Bytes that no compression makes fewer.
const LARGE_MIB: u64 = 96;

#[test]
fn fd_07_an_image_that_cannot_fit_is_not_begun_and_a_smaller_one_is() {
    let (_alone, tokens) = (alone(), Tokens::start());
    let registry = Registry::start(&Auth::Token(&tokens));
    let fill = format!("busybox dd if=/dev/urandom of=/large bs=1M count={LARGE_MIB}");
    let base = publish_from(&crate::support::image(), "large", &fill);
    let above = publish_from(&base, "above", "true");
    assert_eq!(call("DELETE", &format!("/images/{base}"), None).0, 200);
    let [large, above, small] =
        [&base, &above, &publish("small")].map(|image| registry.name("127.0.0.1", image));
    let root = call("GET", "/info", None).1["DockerRootDir"].clone();
    let free = helios::host::facts::free_bytes(root.as_str().unwrap()).unwrap();
    // Room for half of it.
    let reserve = ((free >> 20) - LARGE_MIB).to_string();
    let tight = ["--disk-reserve-mib", &reserve];
    let device = Device::start(KEY, &tight, &large);
    let said = until("the refusal", || {
        let said = device.detail()["last_error"].as_str()?.to_owned();
        said.contains("it needs at least ").then_some(said)
    });
    let needed = said.split("it needs at least ").nth(1).unwrap();
    let needed: u64 = needed.split(' ').next().unwrap().parse().unwrap();
    let range = (2 * LARGE_MIB) << 20..(2 * LARGE_MIB + 8) << 20;
    assert!(range.contains(&needed), "{said}");
    let set = |image: &str| {
        device.backend.set_target(&target(&device.app, image));
        device.agent.call("POST", "/v1/update", Some(&json!({})));
        device
            .agent
            .wait_for_log(&format!("image '{image}' is there"));
        until("the service", || {
            device.app.is_running("main").then_some(())
        });
    };
    set(&small);
    let log = device.agent.log();
    assert!(!log.contains(&format!("pulling image '{large}'")), "{log}");
    assert_eq!(log.matches("is not pulled: it needs").count(), 1, "{log}");
    device.keeps_its_key();
    device.agent.kill();

    // With the large layer there, what stands on it takes next to nothing.
    let pull = format!("/images/create?fromImage={}", base.replace('/', "%2F"));
    assert_eq!(call("POST", &pull, None).0, 200);
    let free = helios::host::facts::free_bytes(root.as_str().unwrap()).unwrap();
    let reserve = ((free >> 20) - LARGE_MIB).to_string();
    let device = Device::start(KEY, &["--disk-reserve-mib", &reserve], &above);
    device.done(&above);
    for image in [&base, &small] {
        call("DELETE", &format!("/images/{image}"), None);
    }
}
