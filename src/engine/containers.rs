//! Containers: calls, and what inspect says as a model.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::container::create_body_with;
use super::container::labels::read_identity;
use super::images::blame_image;
use super::{Docker, events, gone_is_done, labels, unreachable};
use crate::base::json::{Text, fields};
use crate::base::map::Map;
use crate::base::percent::percent_encode_segment;
use crate::base::{date, hash};
use crate::limits;
use crate::model::config::LOCK_TARGETS;
use crate::model::current::{Container, Maker, Restart};
use crate::model::status::{ContainerStatus, Health};
use crate::model::{
    AppUuid, ImageUri, NetworkConfig, NetworkName, ReleaseUuid, ServiceName, VolumeConfig,
    VolumeName,
};
use crate::world::Pending;
use crate::world::engine::{
    Engine, EngineError, EngineInfo, Events, FoundVolume, ImageFacts, Kind, ListedImage,
    NewContainer, Owned,
};

type Labels<'a> = Map<Text<'a>, Text<'a>>;

#[derive(Default)]
struct Listed<'a> {
    id: Text<'a>,
    labels: Option<Labels<'a>>,
}

fields!(Listed<'de> { "Id" => id, "Labels" => labels });

#[derive(Default)]
struct Inspected<'a> {
    id: Text<'a>,
    name: Text<'a>,
    image: Text<'a>,
    created: Text<'a>,
    restart_count: i64,
    state: State<'a>,
    config: Option<&'a RawValue>,
    host_config: Option<&'a RawValue>,
    network_settings: Option<NetworkSettings<'a>>,
    mounts: Option<Vec<Mount<'a>>>,
}

fields!(Inspected<'de> {
    "Id" => id, "Name" => name, "Image" => image, "Created" => created,
    "RestartCount" => restart_count, "State" => state, "Config" => config,
    "HostConfig" => host_config, "NetworkSettings" => network_settings, "Mounts" => mounts,
});

#[derive(Default)]
struct State<'a> {
    status: Text<'a>,
    exit_code: Option<i64>,
    started_at: Text<'a>,
    health: Option<HealthState<'a>>,
}

fields!(State<'de> {
    "Status" => status, "ExitCode" => exit_code, "StartedAt" => started_at, "Health" => health,
});

#[derive(Default)]
struct HealthState<'a> {
    status: Text<'a>,
}

fields!(HealthState<'de> { "Status" => status });

#[derive(Default)]
struct Config<'a> {
    labels: Option<Labels<'a>>,
}

fields!(Config<'de> { "Labels" => labels });

#[derive(Default)]
struct HostConfig<'a> {
    restart_policy: RestartPolicy<'a>,
    network_mode: Text<'a>,
    ipc_mode: Text<'a>,
    pid_mode: Text<'a>,
}

fields!(HostConfig<'de> {
    "RestartPolicy" => restart_policy, "NetworkMode" => network_mode, "IpcMode" => ipc_mode,
    "PidMode" => pid_mode,
});

#[derive(Default)]
struct RestartPolicy<'a> {
    name: Text<'a>,
    maximum_retry_count: i64,
}

fields!(RestartPolicy<'de> { "Name" => name, "MaximumRetryCount" => maximum_retry_count });

#[derive(Default)]
struct NetworkSettings<'a> {
    networks: Option<Map<Text<'a>, IgnoredAny>>,
}

fields!(NetworkSettings<'de> { "Networks" => networks });

#[derive(Default)]
struct Mount<'a> {
    kind: Text<'a>,
    name: Option<Text<'a>>,
    source: Option<Text<'a>>,
    destination: Text<'a>,
}

fields!(Mount<'de> {
    "Type" => kind, "Name" => name, "Source" => source, "Destination" => destination,
});

/// Whether an agent of this family made it: ours, upstream's or the legacy supervisor's.
fn is_ours(labels: &Labels<'_>) -> bool {
    maker(labels) != Maker::Nobody
}

/// Whose it is (D-08).
fn maker(labels: &Labels<'_>) -> Maker {
    let has = |label: &str| labels.contains_key(label);
    match has(labels::CONFIG) {
        true => Maker::Us,
        false if has(labels::SUPERVISED) || has(labels::SUPERVISED_RESIN) => Maker::Legacy,
        false => Maker::Nobody,
    }
}

/// What an inspect answer says; `Err` with the reason when it lacks what a container has.
fn read(body: &[u8]) -> Result<Owned<(Arc<str>, Container)>, String> {
    let found: Inspected<'_> = serde_json::from_slice(body).map_err(|err| err.to_string())?;
    let all = [
        ("Id", &found.id),
        ("Name", &found.name),
        ("Image", &found.image),
        ("Created", &found.created),
    ];
    if let Some((name, _)) = all.iter().find(|(_, text)| text.is_empty()) {
        return Err(format!("it has no {name}"));
    }
    let said = found.config.ok_or("it has no Config")?;
    let config: Config<'_> = part(said)?;
    let host_config = found.host_config.map(part::<HostConfig<'_>>).transpose()?;
    let host_config = host_config.unwrap_or_default();
    let labels = config.labels.unwrap_or_default();
    let name = found.name.trim_start_matches('/');
    let label = |key: &str| labels.get(key).map(|value| &**value);
    let service = ServiceName::new(label(labels::SERVICE_NAME).unwrap_or(name));
    let app = AppUuid::new(label(labels::APP_UUID).unwrap_or(labels::UNKNOWN_APP));
    let depends_on =
        label(labels::DEPENDS_ON).and_then(|json| crate::base::json::from_str(json).ok());
    let status = status(&found.state.status);
    let networks = found
        .network_settings
        .and_then(|settings| settings.networks);
    let networks = networks.unwrap_or_default();
    let fingerprint = fingerprint(said, found.host_config, networks.keys());
    let mounts = found.mounts.unwrap_or_default();
    let lock_dir = lock_dir(&mounts, &app, &service);
    let volumes = mounts
        .iter()
        .filter(|mount| &*mount.kind == "volume")
        .filter_map(|mount| mount.name.as_deref());
    let container = Container {
        id: (&*found.id).into(),
        release: release_of(name, &service, &app),
        service_id: label(labels::SERVICE_ID)
            .and_then(|id| id.parse().ok())
            .unwrap_or(0),
        service,
        identity: label(labels::CONFIG).and_then(read_identity),
        maker: maker(&labels),
        image_id: (&*found.image).into(),
        depends_on: depends_on.unwrap_or_default(),
        status,
        is_paused: &*found.state.status == "paused",
        started: hash::short(found.state.started_at.as_bytes()),
        exit_code: found.state.exit_code,
        health: health(
            found
                .state
                .health
                .as_ref()
                .map_or("", |health| &health.status),
        ),
        created: date::normalised(&found.created).into(),
        restart: restart(&host_config.restart_policy, found.restart_count),
        networks: networks.into_keys().map(|name| (&*name).into()).collect(),
        volumes: volumes.map(Into::into).collect(),
        lenders: lenders(&host_config),
        lock_dir,
        fingerprint,
    };
    Ok((app, (name.into(), container)))
}

fn part<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Result<T, String> {
    crate::base::json::from_str(raw.get()).map_err(|err| err.to_string())
}

/// What tells whether somebody changed a container: what it was made from and which
/// networks it hangs on, in the engine's own words (D-11).
fn fingerprint<'a>(
    config: &RawValue,
    host_config: Option<&RawValue>,
    networks: impl Iterator<Item = &'a Text<'a>>,
) -> u64 {
    let mut text = [config.get(), host_config.map_or("", RawValue::get)].concat();
    networks.for_each(|name| text.extend(["\n", name]));
    hash::short(text.as_bytes())
}

/// What the container sees at the first of [`LOCK_TARGETS`] that it has, if it is not what
/// this agent gives its service (D-38).
fn lock_dir(mounts: &[Mount<'_>], app: &AppUuid, service: &ServiceName) -> Option<Arc<str>> {
    let found = LOCK_TARGETS.iter().find_map(|target| {
        let mut binds = mounts.iter().filter(|mount| &*mount.kind == "bind");
        binds.find(|mount| &*mount.destination == *target)
    });
    let source = found?.source.as_deref()?;
    let usual = source.ends_with(&format!("/update-locks/{app}/{service}"));
    (!usual).then(|| source.into())
}

/// Ids of the containers whose namespaces are shared; engines resolve names when they make it.
fn lenders(host: &HostConfig<'_>) -> Vec<Arc<str>> {
    let modes = [&host.network_mode, &host.ipc_mode, &host.pid_mode];
    let ids = modes
        .into_iter()
        .filter_map(|mode| mode.strip_prefix("container:"));
    ids.map(Into::into).collect()
}

/// The release that a container's name says (state-engine 3.3).
fn release_of(name: &str, service: &ServiceName, app: &AppUuid) -> ReleaseUuid {
    fn behind<'n>(name: &'n str, service: &str) -> Option<&'n str> {
        name.strip_prefix(service)?.strip_prefix('_')
    }
    let mut name = name;
    while let (None, Some(rest)) = (behind(name, service), name.strip_prefix("old_")) {
        name = rest;
    }
    let rest = behind(name, service);
    let rest = rest.map(|rest| {
        let short = rest
            .strip_suffix(app.as_str())
            .and_then(|rest| rest.strip_suffix('_'));
        short.unwrap_or(rest)
    });
    let last = rest
        .and_then(|rest| rest.rsplit('_').next())
        .filter(|last| !last.is_empty());
    ReleaseUuid::new(last.unwrap_or(labels::UNKNOWN_RELEASE))
}

fn status(word: &str) -> ContainerStatus {
    match word {
        "" | "created" | "configured" | "initialized" => ContainerStatus::Created,
        "running" | "restarting" => ContainerStatus::Running,
        "dead" => ContainerStatus::Dead,
        _ => ContainerStatus::Stopped,
    }
}

fn health(word: &str) -> Health {
    match word {
        "starting" => Health::Starting,
        "healthy" => Health::Healthy,
        "unhealthy" => Health::Unhealthy,
        _ => Health::None,
    }
}

fn restart(policy: &RestartPolicy<'_>, restarts: i64) -> Restart {
    match &*policy.name {
        "always" => Restart::Always,
        "unless-stopped" => Restart::UnlessStopped,
        "on-failure" => {
            let max = policy.maximum_retry_count;
            Restart::OnFailure(max == 0 || restarts < max)
        }
        _ => Restart::No,
    }
}

impl Docker {
    /// Names of the containers that mount a volume, running or not, whoever made them.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn volume_users(&self, oci_name: &str) -> Result<Vec<String>, EngineError> {
        // No engine takes a name that would have to be quoted.
        let filter = percent_encode_segment(&format!("{{\"volume\":[\"{oci_name}\"]}}"));
        let path = format!("/containers/json?all=true&filters={filter}");
        let mut users = Vec::new();
        for id in self.list(&path, |_| true).await? {
            let (_, (name, _)) = self.inspect(&id).await?;
            users.push(format!("container '{name}'"));
        }
        Ok(users)
    }

    async fn list_ours(&self) -> Result<Vec<String>, EngineError> {
        let ours = |labels: Option<&Labels<'_>>| labels.is_some_and(is_ours);
        self.list("/containers/json?all=true", ours).await
    }

    /// Ids of the containers that this agent made, by its own label, in whatever form (D-08).
    ///
    /// # Errors
    /// When the engine does not answer.
    #[cfg(feature = "legacy")]
    pub async fn list_own(&self) -> Result<Vec<String>, EngineError> {
        let own = |labels: Option<&Labels<'_>>| {
            labels.is_some_and(|labels| labels.contains_key(labels::CONFIG))
        };
        self.list("/containers/json?all=true", own).await
    }

    /// Ids of the listed containers whose labels are right.
    async fn list(
        &self,
        path: &str,
        is_right: fn(Option<&Labels<'_>>) -> bool,
    ) -> Result<Vec<String>, EngineError> {
        let mut ids = Vec::new();
        let each = |element: &[u8]| match serde_json::from_slice::<Listed<'_>>(element) {
            Ok(found) if is_right(found.labels.as_ref()) => {
                ids.push(found.id.0.into_owned());
            }
            Ok(_) => {}
            Err(error) => log::warn!("a container of the engine's list is passed over: {error}"),
        };
        self.elements(path, "list containers", each).await?;
        Ok(ids)
    }

    async fn inspect(&self, name: &str) -> Result<Owned<(Arc<str>, Container)>, EngineError> {
        let doing = format!("inspect container '{name}'");
        let path = format!("/containers/{}/json", percent_encode_segment(name));
        let mut response = self.call("GET", &path, None, &doing).await?;
        let body = response.bytes(limits::ENGINE_BODY_BYTES_MAX).await;
        let body = body.map_err(|err| unreachable(&doing, &err))?;
        read(&body).map_err(|said| EngineError::new(Kind::Failed, doing, said))
    }

    async fn inspect_all(&self) -> Result<Vec<Owned<(Arc<str>, Container)>>, EngineError> {
        let mut found = Vec::new();
        for id in self.list_ours().await? {
            match self.inspect(&id).await {
                Ok(container) => found.push(container),
                // W-25: gone since the list was made, or odd: it costs only itself.
                Err(error) if error.kind == Kind::Gone => {}
                Err(error) if error.kind == Kind::Failed => log::warn!("{error}"),
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    async fn create_container(&self, new: NewContainer<'_>) -> Result<String, EngineError> {
        #[derive(Default)]
        struct Created {
            id: String,
        }

        fields!(Created { "Id" => id needed });

        let doing = format!("create container '{}'", new.name);
        let api = self.api().await?;
        let body = create_body_with(&new, api, &self.extra())
            .map_err(|said| EngineError::new(Kind::Refused, doing.clone(), said))?;
        for warning in &body.warnings {
            log::warn!("container '{}': {warning}", new.name);
        }
        let path = format!(
            "/containers/create?name={}",
            percent_encode_segment(new.name)
        );
        let mut response = self
            .call("POST", &path, Some(body.body.as_bytes()), &doing)
            .await
            .map_err(blame_image)?;
        let created: Created = self.json(&mut response, &doing).await?;
        for (network, endpoint) in &body.connect {
            if let Err(error) = self.connect(network, &created.id, endpoint).await {
                // Half made is not made (W-13).
                gone_is_done(self.remove_container(&created.id).await)?;
                return Err(error);
            }
        }
        Ok(created.id)
    }

    async fn connect(&self, network: &str, id: &str, endpoint: &str) -> Result<(), EngineError> {
        let doing = format!("connect a container to network '{network}'");
        let path = format!("/networks/{}/connect", percent_encode_segment(network));
        let body = format!("{{\"Container\":\"{id}\",\"EndpointConfig\":{endpoint}}}");
        self.order("POST", &path, Some(body.as_bytes()), &doing)
            .await
    }

    async fn start_container(&self, name: &str) -> Result<(), EngineError> {
        let doing = format!("start container '{name}'");
        let segment = percent_encode_segment(name);
        let started = self
            .order(
                "POST",
                &format!("/containers/{segment}/start"),
                None,
                &doing,
            )
            .await;
        let Err(error) = started else { return Ok(()) };
        // A paused container cannot be started, and somebody wants it to run.
        if matches!(error.kind, Kind::Conflict | Kind::Failed) {
            let path = format!("/containers/{segment}/unpause");
            if self.order("POST", &path, None, &doing).await.is_ok() {
                return Ok(());
            }
        }
        Err(blame_image(error))
    }

    async fn stop_container(&self, name: &str, grace: Duration) -> Result<(), EngineError> {
        let doing = format!("stop container '{name}'");
        let path = format!("/containers/{}/stop", percent_encode_segment(name));
        // The engine answers when the container has stopped (W-23).
        let late = grace.saturating_add(limits::ENGINE_STOP_MARGIN);
        let timeouts = Docker::timeouts(late, limits::ENGINE_CALL_TIMEOUT);
        let stopped = self
            .call_with("POST", &path, None, (&[], Some(timeouts)), &doing)
            .await;
        match stopped {
            Ok(response) => {
                response.discard().await;
                Ok(())
            }
            Err(error) => gone_is_done(Err(error)),
        }
    }

    async fn remove_container(&self, name: &str) -> Result<(), EngineError> {
        let doing = format!("remove container '{name}'");
        let path = format!("/containers/{}?v=true", percent_encode_segment(name));
        let removed = self.order("DELETE", &path, None, &doing).await;
        match gone_is_done(removed) {
            // Somebody removes it already: what matters is that it goes.
            Err(error)
                if error.kind == Kind::Conflict && error.said.contains("already in progress") =>
            {
                Ok(())
            }
            other => other,
        }
    }
}

impl Engine for Docker {
    fn data_root(&self) -> Pending<'_, Result<Option<String>, EngineError>> {
        Box::pin(self.image_dir())
    }

    fn info(&self) -> Pending<'_, Result<EngineInfo, EngineError>> {
        Box::pin(self.version())
    }

    fn containers(&self) -> Pending<'_, Result<Vec<Owned<(Arc<str>, Container)>>, EngineError>> {
        Box::pin(self.inspect_all())
    }

    fn container<'a>(
        &'a self,
        name: &'a str,
    ) -> Pending<'a, Result<Owned<(Arc<str>, Container)>, EngineError>> {
        Box::pin(self.inspect(name))
    }

    fn create<'a>(&'a self, new: NewContainer<'a>) -> Pending<'a, Result<String, EngineError>> {
        Box::pin(self.create_container(new))
    }

    fn start<'a>(&'a self, name: &'a str) -> Pending<'a, Result<(), EngineError>> {
        Box::pin(self.start_container(name))
    }

    fn stop<'a>(&'a self, name: &'a str, grace: Duration) -> Pending<'a, Result<(), EngineError>> {
        Box::pin(self.stop_container(name, grace))
    }

    fn rename<'a>(&'a self, name: &'a str, new: &'a str) -> Pending<'a, Result<(), EngineError>> {
        Box::pin(async move {
            let doing = format!("rename container '{name}' to '{new}'");
            let (from, to) = (percent_encode_segment(name), percent_encode_segment(new));
            self.order(
                "POST",
                &format!("/containers/{from}/rename?name={to}"),
                None,
                &doing,
            )
            .await
        })
    }

    fn remove<'a>(&'a self, name: &'a str) -> Pending<'a, Result<(), EngineError>> {
        Box::pin(self.remove_container(name))
    }

    fn images(&self) -> Pending<'_, Result<Vec<ListedImage>, EngineError>> {
        Box::pin(self.list_images())
    }

    fn image<'a>(&'a self, uri: &'a ImageUri) -> Pending<'a, Result<ImageFacts, EngineError>> {
        Box::pin(self.inspect_image(uri))
    }

    fn diff_ids<'a>(&'a self, id: &'a str) -> Pending<'a, Result<Vec<String>, EngineError>> {
        Box::pin(self.image_layers(id))
    }

    fn pull<'a>(
        &'a self,
        uri: &'a ImageUri,
        progress: &'a (dyn Fn(u8) + Send + Sync),
    ) -> Pending<'a, Result<(), EngineError>> {
        Box::pin(self.pull_image(uri, progress))
    }

    fn remove_image<'a>(&'a self, uri: &'a ImageUri) -> Pending<'a, Result<(), EngineError>> {
        Box::pin(self.delete_image(uri))
    }

    fn networks(
        &self,
    ) -> Pending<'_, Result<Vec<Owned<(NetworkName, crate::model::current::Network)>>, EngineError>>
    {
        Box::pin(self.list_networks())
    }

    fn create_network<'a>(
        &'a self,
        oci_name: &'a str,
        app: &'a AppUuid,
        name: &'a NetworkName,
        config: &'a NetworkConfig,
    ) -> Pending<'a, Result<String, EngineError>> {
        Box::pin(self.make_network(oci_name, app, name, config))
    }

    fn remove_network<'a>(&'a self, id: &'a str) -> Pending<'a, Result<(), EngineError>> {
        Box::pin(self.delete_network(id))
    }

    fn volumes(&self) -> Pending<'_, Result<Vec<FoundVolume>, EngineError>> {
        Box::pin(self.list_volumes())
    }

    fn create_volume<'a>(
        &'a self,
        oci_name: &'a str,
        app: &'a AppUuid,
        name: &'a VolumeName,
        config: &'a VolumeConfig,
    ) -> Pending<'a, Result<(), EngineError>> {
        Box::pin(self.make_volume(oci_name, app, name, config))
    }

    fn remove_volume<'a>(&'a self, oci_name: &'a str) -> Pending<'a, Result<(), EngineError>> {
        Box::pin(self.delete_volume(oci_name))
    }

    fn events(&self) -> Pending<'_, Result<Box<dyn Events>, EngineError>> {
        Box::pin(events::open(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_from_names() {
        #[rustfmt::skip]
        let cases = [
            ("web_r1", "web", "r1"),
            ("old_web_r1", "web", "r1"),
            ("old_old_web_r1", "web", "r1"),
            ("old_r1", "old", "r1"),
            ("web_r1_a1", "web", "r1"),
            ("web_123_456_commit", "web", "commit"),
            ("other", "web", labels::UNKNOWN_RELEASE),
            ("web_", "web", labels::UNKNOWN_RELEASE),
        ];
        for (name, service, want) in cases {
            assert_eq!(
                &*release_of(name, &service.into(), &"a1".into()),
                want,
                "{name}"
            );
        }
    }

    /// The container of an inspect answer with this state and these labels.
    fn inspected(state: &serde_json::Value, labels: &serde_json::Value) -> Container {
        let body = serde_json::json!({
            "Id": "i1", "Name": "/web_r1", "Image": "sha256:1", "Created": "2026-01-02T03:04:05Z",
            "State": state, "Config": {"Labels": labels},
        });
        read(body.to_string().as_bytes()).unwrap().1.1
    }

    #[test]
    fn oci_04_exit_codes_and_health() {
        use serde_json::json;
        let found = |state| {
            let found = inspected(&state, &json!({}));
            (found.status, found.exit_code, found.health)
        };
        let (running, stopped) = (ContainerStatus::Running, ContainerStatus::Stopped);
        #[rustfmt::skip]
        let cases = [
            (json!({"Status": "exited", "ExitCode": 137}), (stopped, Some(137), Health::None)),
            (json!({"Status": "exited"}), (stopped, None, Health::None)),
            (json!({"Status": "running", "ExitCode": 0, "Health": null}), (running, Some(0), Health::None)),
            (json!({"Status": "running", "Health": {"Status": "none"}}), (running, None, Health::None)),
            (json!({"Status": "running", "Health": {"Status": "starting"}}), (running, None, Health::Starting)),
            (json!({"Status": "running", "Health": {"Status": "healthy"}}), (running, None, Health::Healthy)),
            (json!({"Status": "running", "Health": {"Status": "unhealthy"}}), (running, None, Health::Unhealthy)),
            (json!({"Status": "running", "Health": {}}), (running, None, Health::None)),
        ];
        for (state, want) in cases {
            assert_eq!(found(state.clone()), want, "{state}");
        }
    }

    #[test]
    fn dep_u3_dependencies_go_through_their_label() {
        use crate::model::target::{Condition, Dependency};
        let mut want = Map::new();
        let all = [Condition::Started, Condition::Healthy, Condition::Completed];
        for (condition, name) in all.into_iter().zip(["a", "b", "c"]) {
            for required in [true, false] {
                let dependency = Dependency {
                    condition,
                    restart: !required,
                    required,
                };
                want.insert(ServiceName::new(&format!("{name}-{required}")), dependency);
            }
        }
        let text = serde_json::to_string(&want).unwrap();
        let label = serde_json::json!({labels::DEPENDS_ON: text});
        let state = serde_json::json!({"Status": "created"});
        assert_eq!(inspected(&state, &label).depends_on, want);
        let label = serde_json::json!({labels::DEPENDS_ON: "no JSON"});
        assert!(inspected(&state, &label).depends_on.is_empty());
    }

    #[test]
    fn restart_policies_and_tries_left() {
        let policy = |name: &'static str, max| RestartPolicy {
            name: Text(name.into()),
            maximum_retry_count: max,
        };
        assert_eq!(restart(&policy("", 0), 0), Restart::No);
        assert_eq!(
            restart(&policy("on-failure", 3), 2),
            Restart::OnFailure(true)
        );
        assert_eq!(
            restart(&policy("on-failure", 3), 3),
            Restart::OnFailure(false)
        );
        assert_eq!(
            restart(&policy("on-failure", 0), 99),
            Restart::OnFailure(true)
        );
    }
}
