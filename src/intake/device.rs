//! The target of a device (target-state 1): one app's fault stays that app's (D-16).

use super::app::{self, App, check_uuid, document, rejection};
use super::contract::Facts;
use super::node::{Node, Path};
use super::{AppRefusal, Intake, Reading, Refusal, host, knobs, scan};
use crate::model::AppUuid;
use crate::model::target::DeviceTarget;

/// Reads the body of `GET /device/v3/{uuid}/state`. Contracts are only checked for their
/// form; [`device_target_for`] checks them against the device.
///
/// # Errors
///
/// When the whole target cannot be used. What is wrong with one app is in that app.
pub fn device_target(body: &[u8], uuid: &str) -> Result<Intake<DeviceTarget>, Refusal> {
    device_target_for(body, uuid, &Facts::default())
}

/// As [`device_target`], with what is known of the device for the contracts of services
/// (target-state 4.5, D-39).
///
/// # Errors
///
/// As [`device_target`].
pub fn device_target_for(
    body: &[u8],
    uuid: &str,
    facts: &Facts,
) -> Result<Intake<DeviceTarget>, Refusal> {
    scan::check(body).map_err(|reason| Path::Root.refuse(reason))?;
    let raw = document(body).map_err(|refusal| match refusal {
        AppRefusal::Syntax { .. } => Path::Root.refuse(format!("not JSON: {refusal}")),
        AppRefusal::Shape(_) => Path::Root.refuse(refusal.to_string()),
    })?;
    let node = Node::new(raw, &Path::Root);
    let devices = node.members()?;
    let Some(device) = devices.get(uuid) else {
        return Err(node.refuse("the document has no entry for this device"));
    };
    // Paths start inside the device's entry: there is only one, and its key says nothing.
    read(Node::new(device, &Path::Root), facts)
}

/// Reads the value under a device's uuid.
pub(super) fn read(node: Node<'_, '_>, facts: &Facts) -> Result<Intake<DeviceTarget>, Refusal> {
    let members = node.members()?;
    let name = node
        .member(&members, "name", |node| node.str())?
        .ok_or_else(|| node.refuse("missing field `name`"))?;
    let mut target = DeviceTarget {
        name: Some((&*name).into()),
        ..DeviceTarget::default()
    };
    if let Some(config) = members.get("config") {
        target.knobs = knobs::read(Node::new(config, &node.path.key("config")));
    }
    let mut apps = Apps {
        target,
        passed_over: Vec::new(),
        hosts: Vec::new(),
        reading: Reading::new(facts, node),
    };
    node.member(&members, "apps", |all| {
        all.each_member(|uuid, node| {
            apps.add(uuid, node);
            Ok(())
        })
    })?;
    Ok(apps.finish(&node.path.key("apps")))
}

/// A target on its way.
struct Apps<'f> {
    target: DeviceTarget,
    passed_over: Vec<Refusal>,
    hosts: Vec<(AppUuid, App)>,
    reading: Reading<'f>,
}

impl Apps<'_> {
    /// Puts one app where it belongs.
    fn add(&mut self, uuid: &str, node: Node<'_, '_>) {
        let warnings = &mut self.reading.warnings;
        if let Err(fault) = check_uuid(uuid, node) {
            warnings.push(format!("an app is passed over: {fault}"));
            self.passed_over.push(fault);
        } else if host::is_supervisor(uuid) {
            match host::supervisor(uuid, node) {
                Ok(supervisor) => self.target.supervisor = supervisor,
                Err(fault) => warnings.push(format!("the supervisor's own app: {fault}")),
            }
        } else {
            let app = app::read(node, &mut self.reading);
            let uuid = AppUuid::new(uuid);
            if app.is_host {
                self.hosts.push((uuid, app));
            } else {
                self.target.apps.insert(uuid, app.into_target());
            }
        }
    }

    /// Decides about host apps: one at most.
    fn finish(mut self, apps: &Path<'_>) -> Intake<DeviceTarget> {
        let too_many = self.hosts.len() > 1;
        let target = &mut self.target;
        for (uuid, mut app) in self.hosts {
            let path = apps.key(&uuid);
            if too_many {
                app.faults = vec![path.refuse("the target has more than one hostapp")];
            }
            let release = app.release.clone();
            match host::target(&uuid, app, &path) {
                Ok(host) => target.host = Some(host),
                Err(faults) => {
                    let rejection = rejection(release, &faults);
                    target.refused_hosts.insert(uuid, rejection);
                }
            }
        }
        Intake {
            value: self.target,
            warnings: self.reading.warnings,
            passed_over: self.passed_over,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{app_target, device_target};
    use super::*;
    use crate::model::ServiceConfig;
    use crate::model::target::{AppRelease, DeviceTarget, ReleaseTarget};

    fn read(device: &str) -> Result<Intake<DeviceTarget>, Refusal> {
        device_target(format!(r#"{{"other":5,"d":{device}}}"#).as_bytes(), "d")
    }

    /// A device with `apps`.
    fn with(apps: &str) -> DeviceTarget {
        read(&format!(r#"{{"name":"n","apps":{{{apps}}}}}"#))
            .unwrap()
            .value
    }

    /// An app around the services, networks and volumes of a release.
    fn app(release: &str) -> String {
        format!(r#""a":{{"id":1,"name":"x","releases":{{"r":{{{release}}}}}}}"#)
    }

    /// What is wrong with app `a`, or nothing.
    fn reasons(apps: &str) -> String {
        match &with(apps).apps["a"].release {
            AppRelease::Rejected(rejection) => rejection.reasons.to_string(),
            _ => String::new(),
        }
    }

    fn content(release: &str) -> ReleaseTarget {
        match &with(&app(release)).apps["a"].release {
            AppRelease::Wanted(_, content) => (**content).clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn ts_1_3_what_refuses_the_whole_target() {
        #[rustfmt::skip]
        let cases = [
            ("", "not JSON"), ("{", "not JSON"), ("[]", "an object, got a list"), ("{}", "no entry for this device"),
            (r#"{"d":5}"#, "expected an object, got a number"), (r#"{"d":{}}"#, "missing field `name`"),
            (r#"{"d":{"name":5}}"#, "name: expected a string, got a number"),
            (r#"{"d":{"name":"n","apps":[]}}"#, "apps: expected an object, got a list"),
            (r#"{"d":{"name":"n"}} x"#, "trailing"),
        ];
        for (body, want) in cases {
            let refusal = device_target(body.as_bytes(), "d").unwrap_err().to_string();
            assert!(refusal.contains(want), "{body}: {refusal}");
        }
        assert!(
            device_target(b"{\"d\":\"\xff\"}", "d")
                .unwrap_err()
                .reason
                .contains("UTF-8")
        );
    }

    #[test]
    fn d_16_a_bad_app_entry_is_that_apps_fault() {
        #[rustfmt::skip]
        let cases = [
            (r#""a":5"#, "apps.a: expected an object, got a number"),
            (r#""a":{"name":"x"}"#, "apps.a: missing field `id`"),
            (r#""a":{"id":1}"#, "apps.a: missing field `name`"),
            (r#""a":{"id":-1,"name":"x"}"#, "apps.a.id: the integer is out of range"),
            (r#""a":{"id":4294967296,"name":"x"}"#, "apps.a.id: the integer is out of range"),
            (r#""a":{"id":1.0,"name":"x"}"#, "apps.a.id: expected an integer, got a fraction"),
            (r#""a":{"id":1,"name":"x","is_host":"no"}"#, "apps.a.is_host: expected a boolean, got a string"),
            (r#""a":{"id":1,"name":"x","releases":null}"#, "apps.a.releases: expected an object, got null"),
            (r#""a":{"id":1,"name":"x","releases":{"a/b":{}}}"#, "the uuid is empty, too long"),
            (r#""a":{"id":1,"name":"x","releases":{"r":[]}}"#, "apps.a.releases.r: expected an object, got a list"),
        ];
        for (apps, want) in cases {
            let all = format!(r#"{apps},"b":{{"id":2,"name":"y"}}"#);
            let reasons = reasons(&all);
            assert!(reasons.contains(want), "{apps}: {reasons}");
            assert_eq!(with(&all).apps["b"].release, AppRelease::None, "{apps}");
        }
    }

    #[test]
    fn d_16_every_fault_of_a_release_is_named() {
        let bad = r#""services":{"-a":{},"b":{"id":1},"c":{"id":1,"image":"i","composition":
            {"ports":["x"],"tty":1,"environment":{"K":[]}}}},"networks":{"n":null},"volumes":{"v v":{}}"#;
        let reasons = reasons(&app(bad));
        let paths: Vec<&str> = reasons
            .lines()
            .filter_map(|line| line.split(": ").next())
            .collect();
        let inner = [
            "networks.n",
            "services.-a",
            "services.b",
            "services.c.composition.environment.K",
            "services.c.composition.ports[0]",
            "services.c.composition.tty",
            "volumes.v v",
        ];
        let want: Vec<String> = inner
            .iter()
            .map(|path| format!("apps.a.releases.r.{path}"))
            .collect();
        assert_eq!(paths, want);
    }

    /// Keys that would leave the directory of their app on the host.
    #[test]
    fn an_app_uuid_is_one_piece_of_a_path() {
        for uuid in ["", ".", "..", "../x", "a/b", "a\\u0000"] {
            let device = format!(r#"{{"name":"n","apps":{{"{uuid}":{{"id":1,"name":"x"}}}}}}"#);
            let intake = read(&device).unwrap();
            assert!(intake.value.apps.is_empty(), "{uuid}");
            assert_eq!(
                (intake.passed_over.len(), intake.warnings.len()),
                (1, 1),
                "{uuid}"
            );
        }
    }

    #[test]
    fn ts_2_5_service_level_wins_and_the_last_of_a_repeated_key_counts() {
        let content = content(
            r#""services":{"main":{"id":1,"id":2,"image":"i","labels":{"l":"service"},
            "environment":{"E":null,"N":007e0,"F":"s"},
            "composition":{"labels":{"l":"composition","m":"x"},"environment":["E=1","G=2"],"tty":false,"tty":true}}}"#
                .replace("007e0", "7")
                .as_str(),
        );
        let main = &content.services["main"];
        let config = ServiceConfig::from_json(&main.config).unwrap();
        assert_eq!(main.id, 2);
        assert!(config.tty);
        assert_eq!(config.labels["l"], "service");
        assert_eq!(config.labels["m"], "x");
        let env: Vec<String> = config
            .environment
            .iter()
            .map(|(k, v)| format!("{k}={v:?}"))
            .collect();
        assert_eq!(
            env,
            [
                r#"E=None"#,
                r#"F=Some("s")"#,
                r#"G=Some("2")"#,
                r#"N=Some("7")"#
            ]
        );
        assert!(content.networks.contains_key("default"));
    }

    /// No network is made by default for services that have the host's, none or another
    /// service's (FD-22, target-state 3.3).
    #[test]
    fn fd_22_no_default_network_where_no_service_uses_one() {
        const HOST: &str = r#""network_mode":"host""#;
        const NONE: &str = r#""network_mode":"none""#;
        const SHARED: &str = r#""network_mode":"service:s0""#;
        const BRIDGE: &str = r#""network_mode":"bridge""#;
        const NAMED: &str = r#""networks":["lan"]"#;
        const BOTH: &[&str] = &["default", "lan"];
        #[rustfmt::skip]
        let cases: [(&[&str], &str, &[&str]); 14] = [
            (&[HOST], "", &[]), (&[NONE], "", &[]), (&[HOST, SHARED], "", &[]), (&[HOST, NONE, SHARED], "", &[]),
            (&[HOST, r#""network_mode":"host","networks":{}"#], "", &[]), (&[HOST, ""], "", &["default"]),
            (&[HOST, r#""network_mode":null"#], "", &["default"]), (&[NAMED], r#""lan":{}"#, &["lan"]),
            // Declared all the same.
            (&[HOST, NONE, SHARED], r#""default":{"ipam":{}},"lan":{}"#, &["lan"]), (&[HOST, BRIDGE], r#""default":{}"#, &[]),
            (&[HOST, ""], r#""default":{},"lan":{}"#, BOTH), (&[HOST, NAMED], r#""default":{},"lan":{}"#, BOTH),
            (&[HOST, r#""networks":["default"]"#], r#""default":{}"#, &["default"]), (&[], r#""default":{}"#, &["default"]),
        ];
        for (compositions, declared, want) in cases {
            let services: Vec<String> = compositions
                .iter()
                .enumerate()
                .map(|(index, composition)| {
                    format!(r#""s{index}":{{"id":1,"image":"i","composition":{{{composition}}}}}"#)
                })
                .collect();
            let release = format!(
                r#""services":{{{}}},"networks":{{{declared}}}"#,
                services.join(",")
            );
            let content = content(&release);
            let made: Vec<&str> = content.networks.keys().map(|name| name.as_str()).collect();
            assert_eq!(made, want, "{release}");
        }
    }

    /// A service that is left out of the target asks for no network either (FD-22).
    #[test]
    fn fd_22_no_default_network_for_a_service_that_is_left_out() {
        let content = content(
            r#""services":{"s":{"id":1,"image":"i","composition":{"network_mode":"host"}},
            "o":{"id":2,"image":"i","labels":{"io.balena.features.optional":"1"},
            "contract":{"requires":[{"type":"sw.spec","slug":"compose","version":">=3"}]}}},"networks":{"default":{}}"#,
        );
        let services: Vec<&str> = content.services.keys().map(|name| name.as_str()).collect();
        assert_eq!(services, ["s"]);
        assert!(content.networks.is_empty(), "{:?}", content.networks);
    }

    /// D-10: what upstream re-types.
    #[test]
    fn d_10_environment_text_stays_text() {
        for text in [
            "007", "1.50", "1e3", "+5", "nan", "12e4567", "1.0", "-0", " 1", "TRUE",
        ] {
            let release = format!(
                r#""services":{{"main":{{"id":1,"image":"i","environment":{{"A":"{text}"}},
                "composition":{{"environment":["B={text}"]}}}}}}"#
            );
            let config =
                ServiceConfig::from_json(&content(&release).services["main"].config).unwrap();
            assert_eq!(config.environment["A"].as_deref(), Some(text));
            assert_eq!(config.environment["B"].as_deref(), Some(text));
        }
    }

    #[test]
    fn ts_2_25_and_2_1_running_shared_namespaces_and_ignored_fields() {
        let release = app(
            r#""services":{"a":{"id":1,"image":"i","running":false,"composition":{"network_mode":"service: b",
            "deploy":{},"image":"x","x-mine":1,"logging":{}}},"b":{"id":2,"image":"i","running":null}}"#,
        );
        let intake = read(&format!(r#"{{"name":"n","apps":{{{release}}}}}"#)).unwrap();
        let want = "apps.a.releases.r.services.a.composition: without effect here: deploy, logging";
        assert_eq!(intake.warnings, [want]);
        let AppRelease::Wanted(_, content) = &intake.value.apps["a"].release else {
            panic!("{intake:?}");
        };
        assert!(!content.services["a"].running && content.services["b"].running);
        assert!(content.services["a"].depends_on.contains_key("b"));
        let lent = r#""services":{"a":{"id":1,"image":"i","composition":{"ipc":"service:b"}},
            "b":{"id":2,"image":"i","labels":{"io.balena.features.optional":"1"},
            "contract":{"requires":[{"type":"sw.supervisor","version":">99"}]}}}"#;
        assert!(reasons(&app(lent)).contains("left out"));
        let circle = r#""services":{"a":{"id":1,"image":"i","composition":{"network_mode":"service:b"}},
            "b":{"id":2,"image":"i","composition":{"pid":"service:a"}}}"#;
        assert!(reasons(&app(circle)).contains("circular dependency"));
    }

    #[test]
    fn d_09_the_supervisors_own_app_is_kept_apart() {
        let uuid = "900de4f3cbac4b9bbd232885a35e407b";
        let good = format!(
            r#""{uuid}":{{"id":"odd","releases":{{"r":{{"services":{{"main":
            {{"image":"i:1","composition":{{"volumes":["/etc:/x"]}}}}}}}}}}}}"#
        );
        let target = with(&good);
        assert!(target.apps.is_empty());
        let supervisor = target.supervisor.unwrap();
        assert_eq!(supervisor.services["main"].as_str(), "i:1");
        assert_eq!(with(&format!(r#""{uuid}":5"#)).supervisor, None);
        assert!(app_target(uuid, br#"{"id":1,"name":"x"}"#).is_err());
    }

    #[test]
    fn la_1_4_errors_of_one_app() {
        #[rustfmt::skip]
        let cases = [
            ("", "EOF while parsing a value at line 1 column 0"),
            ("{\n x}", "key must be a string at line 2 column 2"),
            ("{} {}", "trailing characters at line 1 column 4"),
            ("{}", "missing field `id`\nmissing field `name`"),
            (r#"{"id":"1","name":"x"}"#, "id: expected an integer, got the string \"1\""),
            (r#"{"id":1,"name":"x","releases":{"a":{},"b":{}}}"#,
             "releases: target releases should only contain one release per app"),
            (r#"{"id":1,"name":"x","releases":{"r":{"services":{"s":{"id":1,"image":"i","composition":{"networks":["nope"]}}}}}}"#,
             "releases.r.services.s.composition.networks: service 's' refers to undefined network nope"),
        ];
        for (body, want) in cases {
            let refusal = app_target("a", body.as_bytes()).unwrap_err().to_string();
            assert_eq!(refusal, want, "{body}");
        }
        assert!(app_target("a", br#"{"id":1,"name":"x"}"#).is_ok());
        assert!(app_target("../a", br#"{"id":1,"name":"x"}"#).is_err());
    }

    /// D-31: wherever a secret stands, no refusal and no warning quotes it.
    #[test]
    fn d_31_no_message_has_a_secret() {
        let secret = "hunter2";
        #[rustfmt::skip]
        let cases = [
            r#""environment":{"A_KEY":["hunter2"]}"#, r#""environment":["A_KEY=hunter2"]"#,
            r#""environment":"hunter2""#, r#""environment":{"A":"hunter2\u0000"}"#,
            r#""environment":["=hunter2"]"#, r#""environment":{"A":{"x":"hunter2"}}"#,
            r#""labels":{"token":["hunter2"]}"#, r#""labels":["a=hunter2", 5]"#, r#""annotations":"hunter2""#,
            r#""command":"a 'hunter2""#, r#""command":[{"x":"hunter2"}]"#, r#""sysctls":{"net.x":["hunter2"]}"#,
            r#""healthcheck":{"test":{"x":"hunter2"}}"#, r#""hostname":["hunter2"]"#, r#""secrets":["hunter2"]"#,
            r#""networks":{"n":{"driver_opts":{"k":["hunter2"]}}}"#, r#""environment":{"A":"\ud800hunter2"}"#,
        ];
        for field in cases {
            let bodies = [
                format!(
                    r#""services":{{"s":{{"id":1,"image":"i","composition":{{{field},"tty":5}}}}}}"#
                ),
                format!(r#""services":{{"s":{{"id":1,"image":"http://u:hunter2@h/x",{field}}}}}"#),
            ];
            for body in bodies {
                let intake = read(&format!(r#"{{"name":"n","apps":{{{}}}}}"#, app(&body))).unwrap();
                let AppRelease::Rejected(rejection) = &intake.value.apps["a"].release else {
                    panic!("{body}");
                };
                assert!(
                    !rejection.reasons.contains(secret),
                    "{body}: {}",
                    rejection.reasons
                );
                assert!(!intake.warnings.concat().contains(secret), "{body}");
            }
        }
    }

    /// Issue 4: far more of everything than there can be.
    #[test]
    fn issue_4_documents_out_of_proportion() {
        let many = |n: usize| -> String {
            let all: Vec<String> = (0..n)
                .map(|i| format!(r#""s{i}":{{"id":1,"image":"i"}}"#))
                .collect();
            format!(r#""services":{{{}}}"#, all.join(","))
        };
        assert!(reasons(&app(&many(1001))).contains("more than 1000 entries"));
        let refused = read(&format!(
            r#"{{"name":"n","apps":{{{}}}}}"#,
            app(&many(100_000))
        ));
        assert!(refused.unwrap_err().reason.contains("more than"));
        let ports = |n: usize| -> String {
            let one = r#"{"id":1,"image":"i","composition":{"ports":["1-16000"]}}"#;
            let all: Vec<String> = (0..n).map(|i| format!(r#""s{i}":{one}"#)).collect();
            format!(r#""services":{{{}}}"#, all.join(","))
        };
        assert_eq!(reasons(&app(&ports(1))), "");
        assert!(reasons(&app(&ports(100))).contains("stand for too much"));
        // All apps of a document together.
        let apps: Vec<String> = (0..5)
            .map(|i| app(&ports(2)).replacen("\"a\"", &format!("\"a{i}\""), 1))
            .collect();
        let target = with(&apps.join(","));
        let rejected = |uuid: &str| matches!(target.apps[uuid].release, AppRelease::Rejected(_));
        assert!(!rejected("a0") && rejected("a4"));
        let one = r#""services":{"s":{"id":1,"image":"i","composition":{"ports":["1-65535"]}}}"#;
        assert!(reasons(&app(one)).contains("more than 16384 ports"));
    }
}
