//! What one engine holds, and how it may change. No time and no sockets in here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use helios::base::{date, hash};
use serde_json::{Value, json};

/// Why not, as a status and a sentence.
pub type Refusal = (u16, String);

pub fn refuse<T>(status: u16, said: impl Into<String>) -> Result<T, Refusal> {
    Err((status, said.into()))
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Created,
    Running,
    Paused,
    Restarting,
    Exited,
}

pub struct Container {
    pub id: String,
    pub name: String,
    pub image: String,
    pub created: Duration,
    /// `Config`, `HostConfig` and `Mounts` of an inspection.
    pub config: Value,
    pub host: Value,
    pub mounts: Vec<Value>,
    /// Endpoints by the network's name.
    pub networks: BTreeMap<String, Value>,
    pub status: Status,
    pub exit_code: i64,
    pub restarts: i64,
    pub started: Option<Duration>,
    pub finished: Option<Duration>,
    /// How often it was started: which process a timer is about.
    pub run: u64,
}

#[derive(Default)]
pub struct Image {
    /// `repository:tag` and `repository@digest`.
    pub names: BTreeSet<String>,
    pub created: Duration,
}

pub struct Network {
    pub name: String,
    /// The rest of an inspection.
    pub body: Value,
}

/// Something that listeners of the event stream are told.
pub struct Event {
    pub what: &'static str,
    pub action: &'static str,
    pub id: String,
    pub attributes: Value,
    pub time: Duration,
}

/// What a container's process does, if it ends by itself: when, and with which code.
pub type Ending = Option<(Duration, i64)>;

#[derive(Default)]
pub struct State {
    /// By id.
    pub containers: BTreeMap<String, Container>,
    pub images: BTreeMap<String, Image>,
    pub networks: BTreeMap<String, Network>,
    /// By name, as they are inspected.
    pub volumes: BTreeMap<String, Value>,
    /// Told, and not handed out yet.
    pub events: Vec<Event>,
    made: u64,
}

pub fn now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// A moment as engines write it; one that never was as they write that.
pub fn stamp(moment: Option<Duration>) -> String {
    let Some(moment) = moment else {
        return "0001-01-01T00:00:00Z".to_owned();
    };
    let secs = date::rfc3339(i64::try_from(moment.as_secs()).unwrap_or(0));
    let secs = secs.split(['.', 'Z', '+']).next().unwrap_or_default();
    format!("{secs}.{:09}Z", moment.subsec_nanos())
}

/// A reference as the engine keeps it: short, with a tag or with a digest and no tag.
pub fn normal(reference: &str) -> String {
    let short = reference.strip_prefix("docker.io/").unwrap_or(reference);
    let short = short.strip_prefix("library/").unwrap_or(short);
    let is_tagged = |name: &str| {
        name.rsplit('/')
            .next()
            .is_some_and(|last| last.contains(':'))
    };
    match short.split_once('@') {
        Some((name, digest)) if is_tagged(name) => {
            format!("{}@{digest}", repository(name))
        }
        Some(_) => short.to_owned(),
        None if is_tagged(short) => short.to_owned(),
        None => format!("{short}:latest"),
    }
}

/// The name without tag and digest.
pub fn repository(reference: &str) -> &str {
    let name = reference.split('@').next().unwrap_or_default();
    match name.rfind(':') {
        Some(at) if !name[at..].contains('/') => &name[..at],
        _ => name,
    }
}

impl State {
    pub fn new() -> State {
        let mut state = State::default();
        for name in ["bridge", "host", "none"] {
            let driver = if name == "none" { "null" } else { name };
            state.add_network(name, &json!({"Driver": driver}));
        }
        state
    }

    /// An id that nothing else has.
    fn id(&mut self, kind: &str) -> String {
        self.made += 1;
        hash::sha256_hex(format!("{kind} {} {:?}", self.made, now()).as_bytes())
    }

    pub fn tell(&mut self, what: &'static str, action: &'static str, id: &str, attributes: Value) {
        self.events.push(Event {
            what,
            action,
            id: id.to_owned(),
            attributes,
            time: now(),
        });
    }

    fn tell_container(&mut self, action: &'static str, id: &str) {
        let Some(found) = self.containers.get(id) else {
            return;
        };
        let mut attributes = found.config["Labels"].clone();
        attributes["image"] = found.config["Image"].clone();
        attributes["name"] = json!(found.name);
        self.tell("container", action, id, attributes);
    }

    /// The id of a container by its id, the beginning of it, or its name.
    pub fn container_id(&self, name: &str) -> Result<String, Refusal> {
        let short = name.trim_start_matches('/');
        let by_name = || self.containers.values().find(|one| one.name == short);
        let by_start = || {
            let mut all = self.containers.values();
            all.find(|one| short.len() >= 12 && one.id.starts_with(short))
        };
        match self
            .containers
            .get(short)
            .or_else(by_name)
            .or_else(by_start)
        {
            Some(found) => Ok(found.id.clone()),
            None => refuse(404, format!("No such container: {name}")),
        }
    }

    pub fn container(&mut self, name: &str) -> Result<&mut Container, Refusal> {
        let id = self.container_id(name)?;
        match self.containers.get_mut(&id) {
            Some(found) => Ok(found),
            None => refuse(404, format!("No such container: {name}")),
        }
    }

    fn name_is_free(&self, name: &str) -> Result<(), Refusal> {
        match self.containers.values().find(|one| one.name == name) {
            None => Ok(()),
            Some(other) => refuse(
                409,
                format!(
                    "Conflict. The container name \"/{name}\" is already in use by container \
                     \"{}\". You have to remove (or rename) that container to be able to reuse \
                     that name.",
                    other.id
                ),
            ),
        }
    }

    pub fn create_container(&mut self, name: &str, mut body: Value) -> Result<String, Refusal> {
        let wanted = body["Image"].as_str().unwrap_or_default().to_owned();
        let Some(image) = self.image_id(&wanted) else {
            return refuse(404, format!("No such image: {}", normal(&wanted)));
        };
        self.name_is_free(name)?;
        let id = self.id("container");
        let mut host = body["HostConfig"].take();
        let endpoints = body["NetworkingConfig"]["EndpointsConfig"].take();
        let mode = host["NetworkMode"].as_str().unwrap_or("default").to_owned();
        host["NetworkMode"] = json!(mode);
        let policy = host["RestartPolicy"].take();
        host["RestartPolicy"] = json!({
            "Name": policy["Name"].as_str().unwrap_or("no"),
            "MaximumRetryCount": policy["MaximumRetryCount"].as_i64().unwrap_or(0),
        });
        let mounts = self.mounts(&host);
        let mut networks: BTreeMap<String, Value> = match endpoints {
            Value::Object(all) => all.into_iter().collect(),
            _ => BTreeMap::new(),
        };
        let main = if mode == "default" { "bridge" } else { &mode };
        if !mode.contains(':') {
            networks.entry(main.to_owned()).or_insert_with(|| json!({}));
        }
        if let Some(body) = body.as_object_mut() {
            body.remove("HostConfig");
            body.remove("NetworkingConfig");
            for (key, usual) in [
                ("Labels", json!({})),
                ("Env", json!([])),
                ("Cmd", json!(["sleep", "infinity"])),
            ] {
                body.entry(key).or_insert(usual);
            }
        }
        let container = Container {
            id: id.clone(),
            name: name.to_owned(),
            image,
            created: now(),
            config: body,
            host,
            mounts,
            networks,
            status: Status::Created,
            exit_code: 0,
            restarts: 0,
            started: None,
            finished: None,
            run: 0,
        };
        self.containers.insert(id.clone(), container);
        self.tell_container("create", &id);
        Ok(id)
    }

    /// `Mounts` of an inspection; volumes that are missing are made.
    fn mounts(&mut self, host: &Value) -> Vec<Value> {
        let mut found = Vec::new();
        for mount in host["Mounts"].as_array().into_iter().flatten() {
            let kind = mount["Type"].as_str().unwrap_or_default();
            let source = mount["Source"].as_str().unwrap_or_default();
            let writes = mount["ReadOnly"] != true;
            found.push(self.mount(kind, source, &mount["Target"], writes));
        }
        for bind in host["Binds"].as_array().into_iter().flatten() {
            let mut parts = bind.as_str().unwrap_or_default().split(':');
            let (source, target) = (parts.next().unwrap_or_default(), parts.next());
            let writes = !parts
                .next()
                .unwrap_or_default()
                .split(',')
                .any(|word| word == "ro");
            let kind = if source.starts_with('/') {
                "bind"
            } else {
                "volume"
            };
            found.push(self.mount(kind, source, &json!(target), writes));
        }
        found
    }

    fn mount(&mut self, kind: &str, source: &str, target: &Value, writes: bool) -> Value {
        match kind {
            "volume" => {
                let volume = self.create_volume(&json!({"Name": source}));
                json!({"Type": kind, "Name": source, "Source": volume["Mountpoint"],
                    "Destination": target, "Driver": volume["Driver"], "Mode": "z", "RW": writes,
                    "Propagation": ""})
            }
            "bind" => json!({"Type": kind, "Source": source, "Destination": target, "Mode": "",
                "RW": writes, "Propagation": "rprivate"}),
            _ => json!({"Type": kind, "Source": "", "Destination": target, "Mode": "",
                "RW": true, "Propagation": ""}),
        }
    }

    /// Whether it can start, and what its process does then.
    pub fn start(&mut self, name: &str) -> Result<(String, u64, Ending), Refusal> {
        let id = self.container_id(name)?;
        let found = &self.containers[&id];
        match found.status {
            Status::Running | Status::Restarting => return refuse(304, ""),
            Status::Paused => {
                let said = "cannot start a paused container, try unpause instead";
                return refuse(409, said);
            }
            Status::Created | Status::Exited => {}
        }
        for key in ["NetworkMode", "IpcMode", "PidMode"] {
            let mode = found.host[key].as_str().unwrap_or_default();
            let Some(lender) = mode.strip_prefix("container:") else {
                continue;
            };
            if self.containers[&self.container_id(lender)?].status != Status::Running {
                return refuse(
                    409,
                    format!("cannot join the namespace of a non running container: {lender}"),
                );
            }
        }
        for network in self.containers[&id].networks.keys() {
            if self.network_id(network).is_none() {
                return refuse(404, format!("network {network} not found"));
            }
        }
        let begun = self.begin(&id)?;
        Ok((id, begun.0, begun.1))
    }

    /// A process of it begins.
    pub fn begin(&mut self, id: &str) -> Result<(u64, Ending), Refusal> {
        let found = self.container(id)?;
        found.status = Status::Running;
        found.exit_code = 0;
        found.started = Some(now());
        found.run += 1;
        let begun = (found.run, ending(&found.config));
        self.tell_container("start", id);
        Ok(begun)
    }

    /// Its process ended by itself; after which wait it is started again, if it is.
    pub fn end(&mut self, id: &str, run: u64, code: i64) -> Option<Duration> {
        let found = self.containers.get_mut(id)?;
        if found.run != run || found.status != Status::Running {
            return None;
        }
        let ran = now().saturating_sub(found.started.unwrap_or_default());
        found.status = Status::Exited;
        found.exit_code = code;
        found.finished = Some(now());
        let policy = &found.host["RestartPolicy"];
        let tries = policy["MaximumRetryCount"].as_i64().unwrap_or(0);
        let again = match policy["Name"].as_str().unwrap_or_default() {
            "always" | "unless-stopped" => true,
            "on-failure" => code != 0 && (tries == 0 || found.restarts < tries),
            _ => false,
        };
        // As Docker: 100 ms, doubled each time, and from the beginning after 10 s of running.
        let wait =
            Duration::from_millis(100 << found.restarts.clamp(0, 9)).min(Duration::from_secs(60));
        if again {
            found.status = Status::Restarting;
            found.restarts = if ran > Duration::from_secs(10) {
                1
            } else {
                found.restarts + 1
            };
        }
        self.tell_container("die", id);
        again.then_some(wait)
    }

    /// Starts it again after it ended, unless something else happened to it meanwhile.
    pub fn begin_again(&mut self, id: &str, run: u64) -> Option<(u64, Ending)> {
        let found = self.containers.get(id)?;
        let waits = found.run == run && found.status == Status::Restarting;
        if waits { self.begin(id).ok() } else { None }
    }

    /// Stops it, or says that it is stopped already.
    pub fn stop(&mut self, name: &str, actions: &[&'static str]) -> Result<(), Refusal> {
        let found = self.container(name)?;
        if matches!(found.status, Status::Created | Status::Exited) {
            return refuse(304, "");
        }
        found.status = Status::Exited;
        found.exit_code = 137;
        found.finished = Some(now());
        let id = found.id.clone();
        for action in actions {
            self.tell_container(action, &id);
        }
        Ok(())
    }

    pub fn pause(&mut self, name: &str, pause: bool) -> Result<(), Refusal> {
        let found = self.container(name)?;
        let (from, to, action) = if pause {
            (Status::Running, Status::Paused, "pause")
        } else {
            (Status::Paused, Status::Running, "unpause")
        };
        let id = found.id.clone();
        if found.status != from {
            return refuse(409, format!("Container {id} is not in a state to {action}"));
        }
        found.status = to;
        self.tell_container(action, &id);
        Ok(())
    }

    pub fn rename(&mut self, name: &str, new: &str) -> Result<(), Refusal> {
        let id = self.container_id(name)?;
        self.name_is_free(new)?;
        self.container(&id)?.name = new.to_owned();
        self.tell_container("rename", &id);
        Ok(())
    }

    pub fn remove_container(&mut self, name: &str, force: bool) -> Result<(), Refusal> {
        let id = self.container_id(name)?;
        let runs = !matches!(
            self.containers[&id].status,
            Status::Created | Status::Exited
        );
        if runs && !force {
            let said = format!(
                "You cannot remove a running container {id}. Stop the container before \
                 attempting removal or force remove"
            );
            return refuse(409, said);
        }
        if runs {
            self.stop(&id, &["kill", "die"])?;
        }
        self.tell_container("destroy", &id);
        self.containers.remove(&id);
        Ok(())
    }

    /// The image that a reference or an id means.
    pub fn image_id(&self, reference: &str) -> Option<String> {
        let name = normal(reference);
        let by_name = || {
            self.images
                .iter()
                .find(|(_, one)| one.names.contains(&name))
        };
        let found = self.images.get_key_value(reference).or_else(by_name);
        found.map(|(id, _)| id.clone())
    }

    /// The image is here now, under that name; whether it was before, and its digest.
    pub fn pulled(&mut self, name: &str) -> (bool, String) {
        let digest = match name.split_once('@') {
            Some((_, digest)) => digest.to_owned(),
            None => format!("sha256:{}", hash::sha256_hex(name.as_bytes())),
        };
        let id = format!("sha256:{}", hash::sha256_hex(digest.as_bytes()));
        let image = self.images.entry(id.clone()).or_default();
        let was_here = !image.names.insert(name.to_owned());
        image.names.insert(format!("{}@{digest}", repository(name)));
        image.created = now();
        self.tell("image", "pull", name, json!({"name": repository(name)}));
        (was_here, digest)
    }

    pub fn tag(&mut self, image: &str, name: &str) -> Result<(), Refusal> {
        let Some(id) = self.image_id(image) else {
            return refuse(404, format!("No such image: {image}"));
        };
        let name = normal(name);
        for image in self.images.values_mut() {
            image.names.remove(&name);
        }
        self.images
            .entry(id.clone())
            .or_default()
            .names
            .insert(name.clone());
        self.tell("image", "tag", &id, json!({"name": name}));
        Ok(())
    }

    /// Takes a name off an image, and the image away with its last one.
    pub fn remove_image(&mut self, reference: &str) -> Result<Value, Refusal> {
        let Some(id) = self.image_id(reference) else {
            return refuse(404, format!("No such image: {}", normal(reference)));
        };
        let name = normal(reference);
        let user = self.containers.values().find(|one| one.image == id);
        let user = user.map(|one| one.id[..12].to_owned());
        let names = &mut self.images.entry(id.clone()).or_default().names;
        let tags = names.iter().filter(|name| !name.contains('@')).count();
        if let (Some(user), true) = (user, tags <= 1) {
            let said = format!(
                "conflict: unable to remove repository reference \"{reference}\" (must force) - \
                 container {user} is using its referenced image {}",
                &id[7..19]
            );
            return refuse(409, said);
        }
        let mut gone = vec![name.clone()];
        names.remove(&name);
        let mine = |other: &&String| repository(other) == repository(&name);
        if !name.contains('@') && !names.iter().filter(mine).any(|other| !other.contains('@')) {
            gone.extend(names.iter().filter(mine).cloned());
            names.retain(|other| !gone.contains(other));
        }
        let is_last = names.is_empty();
        let mut said: Vec<_> = gone.iter().map(|name| json!({"Untagged": name})).collect();
        // Once, whatever goes with the name.
        self.tell("image", "untag", &id, json!({"name": id}));
        if is_last {
            self.images.remove(&id);
            self.tell("image", "delete", &id, json!({"name": id}));
            said.push(json!({"Deleted": id}));
        }
        Ok(json!(said))
    }

    /// By its id or its name.
    pub fn network_id(&self, name: &str) -> Option<String> {
        let mut all = self.networks.iter();
        let found = all.find(|(id, one)| *id == name || one.name == name);
        found.map(|(id, _)| id.clone())
    }

    pub fn create_network(&mut self, body: &Value) -> Result<String, Refusal> {
        let name = body["Name"].as_str().unwrap_or_default();
        if self.networks.values().any(|one| one.name == name) {
            return refuse(409, format!("network with name {name} already exists"));
        }
        Ok(self.add_network(name, body))
    }

    fn add_network(&mut self, name: &str, body: &Value) -> String {
        let id = self.id("network");
        let or = |key: &str, usual: Value| match &body[key] {
            Value::Null => usual,
            value => value.clone(),
        };
        let network = json!({
            "Id": id, "Name": name, "Created": stamp(Some(now())), "Scope": "local",
            "Driver": or("Driver", json!("bridge")), "Internal": or("Internal", json!(false)),
            "EnableIPv6": or("EnableIPv6", json!(false)), "Labels": or("Labels", json!({})),
            "Options": or("Options", json!({})), "IPAM": or("IPAM", json!({})),
            "Attachable": false, "Ingress": false, "ConfigOnly": or("ConfigOnly", json!(false)),
            "ConfigFrom": {"Network": ""}, "Containers": {},
        });
        self.tell("network", "create", &id, json!({"name": name}));
        let (name, body) = (name.to_owned(), network);
        self.networks.insert(id.clone(), Network { name, body });
        id
    }

    /// Of a container that does not run nothing is checked: it will not start.
    pub fn connect(&mut self, network: &str, body: &Value, connect: bool) -> Result<(), Refusal> {
        let id = self.network_id(network);
        let known = id.as_ref().map(|id| self.networks[id].name.clone());
        let found = self.container(body["Container"].as_str().unwrap_or_default())?;
        if known.is_none() && found.status == Status::Running {
            return refuse(404, format!("network {network} not found"));
        }
        let name = known.unwrap_or_else(|| network.to_owned());
        if connect {
            let endpoint = body["EndpointConfig"].clone();
            found.networks.insert(name, endpoint);
        } else {
            found.networks.remove(&name);
        }
        let action = if connect { "connect" } else { "disconnect" };
        let who = json!({"container": found.id});
        if let Some(id) = id {
            self.tell("network", action, &id, who);
        }
        Ok(())
    }

    pub fn remove_network(&mut self, name: &str) -> Result<(), Refusal> {
        let Some(id) = self.network_id(name) else {
            return refuse(404, format!("network {name} not found"));
        };
        let name = &self.networks[&id].name;
        let mut containers = self.containers.values();
        if containers.any(|one| one.status == Status::Running && one.networks.contains_key(name)) {
            let said = format!(
                "error while removing network: network {name} id {id} has active endpoints"
            );
            return refuse(403, said);
        }
        let name = json!({"name": name});
        self.networks.remove(&id);
        self.tell("network", "destroy", &id, name);
        Ok(())
    }

    /// Makes a volume, or finds the one of that name.
    pub fn create_volume(&mut self, body: &Value) -> Value {
        let name = body["Name"].as_str().unwrap_or_default().to_owned();
        if let Some(found) = self.volumes.get(&name) {
            return found.clone();
        }
        let driver = body["Driver"].as_str().filter(|driver| !driver.is_empty());
        let volume = json!({
            "Name": name, "Driver": driver.unwrap_or("local"), "Scope": "local",
            "Mountpoint": format!("/volumes/{name}/_data"), "CreatedAt": stamp(Some(now())),
            "Labels": body["Labels"], "Options": body["DriverOpts"],
        });
        self.volumes.insert(name.clone(), volume.clone());
        self.tell("volume", "create", &name, json!({"driver": "local"}));
        volume
    }

    pub fn remove_volume(&mut self, name: &str) -> Result<(), Refusal> {
        if !self.volumes.contains_key(name) {
            return refuse(404, format!("get {name}: no such volume"));
        }
        let uses = |one: &&Container| one.mounts.iter().any(|mount| mount["Name"] == name);
        if let Some(user) = self.containers.values().find(uses) {
            return refuse(
                409,
                format!("remove {name}: volume is in use - [{}]", user.id),
            );
        }
        self.volumes.remove(name);
        self.tell("volume", "destroy", name, json!({"driver": "local"}));
        Ok(())
    }
}

/// What the process of a container does.
fn ending(config: &Value) -> Ending {
    let words = |key: &str| -> Vec<&str> {
        let words = config[key].as_array().into_iter().flatten();
        words.filter_map(Value::as_str).collect()
    };
    let command = [words("Entrypoint"), words("Cmd")].concat();
    let secs = |text: &str| Duration::try_from_secs_f32(text.parse().ok()?).ok();
    match command[..] {
        ["true"] => Some((Duration::ZERO, 0)),
        ["false"] => Some((Duration::ZERO, 1)),
        ["sleep", text] => Some((secs(text)?, 0)),
        ["sh", "-c", script] => {
            let (mut wait, mut code) = (Duration::ZERO, None);
            for step in script.split([';', '&']) {
                match step.trim().split_once(' ') {
                    Some(("sleep", text)) => wait += secs(text)?,
                    Some(("exit", text)) => code = text.parse().ok(),
                    _ => {}
                }
            }
            code.map(|code| (wait, code))
        }
        _ => None,
    }
}
