//! The engine's spelling of what it holds.

use serde_json::{Value, json};

use super::state::{Container, Event, Image, State, Status, stamp};

impl Status {
    pub fn word(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Restarting => "restarting",
            Status::Exited => "exited",
        }
    }
}

impl Container {
    fn runs(&self) -> bool {
        matches!(self.status, Status::Running | Status::Paused)
    }

    fn endpoints(&self, state: &State) -> Value {
        let endpoint = |(name, asked): (&String, &Value)| {
            let id = state.network_id(name).filter(|_| self.runs());
            let endpoint = json!({
                "NetworkID": id.unwrap_or_default(), "Aliases": asked["Aliases"], "EndpointID": "",
                "IPAMConfig": asked["IPAMConfig"], "IPAddress": "", "Gateway": "", "MacAddress": "",
                "DriverOpts": asked["DriverOpts"], "Links": null, "IPPrefixLen": 0,
            });
            (name.clone(), endpoint)
        };
        self.networks.iter().map(endpoint).collect()
    }

    pub fn inspected(&self, state: &State) -> Value {
        json!({
            "Id": self.id, "Name": format!("/{}", self.name), "Image": self.image,
            "Created": stamp(Some(self.created)), "RestartCount": self.restarts,
            "Driver": "overlay2", "Platform": "linux", "Path": "", "Args": [],
            "State": {
                "Status": self.status.word(), "Running": self.runs() || self.status == Status::Restarting,
                "Paused": self.status == Status::Paused, "Restarting": self.status == Status::Restarting,
                "OOMKilled": false, "Dead": false, "Pid": i32::from(self.runs()), "Error": "",
                "ExitCode": self.exit_code, "StartedAt": stamp(self.started), "FinishedAt": stamp(self.finished),
            },
            "Config": self.config, "HostConfig": self.host, "Mounts": self.mounts,
            "NetworkSettings": {"Networks": self.endpoints(state), "Ports": {}},
        })
    }

    pub fn listed(&self, state: &State) -> Value {
        json!({
            "Id": self.id, "Names": [format!("/{}", self.name)], "Image": self.config["Image"],
            "ImageID": self.image, "Command": "", "Created": self.created.as_secs(), "Ports": [],
            "Labels": self.config["Labels"], "State": self.status.word(), "Status": "",
            "HostConfig": {"NetworkMode": self.host["NetworkMode"]}, "Mounts": self.mounts,
            "NetworkSettings": {"Networks": self.endpoints(state)},
        })
    }
}

impl Image {
    fn names(&self, digests: bool) -> Vec<&String> {
        let all = self.names.iter();
        all.filter(|name| name.contains('@') == digests).collect()
    }

    pub fn inspected(&self, id: &str) -> Value {
        json!({
            "Id": id, "RepoTags": self.names(false), "RepoDigests": self.names(true),
            "Created": stamp(Some(self.created)), "Size": 2048, "Os": "linux", "Parent": "",
            "Config": {"Cmd": ["sleep", "infinity"], "Env": [], "Labels": null},
        })
    }

    pub fn listed(&self, id: &str) -> Value {
        json!({
            "Id": id, "RepoTags": self.names(false), "RepoDigests": self.names(true),
            "Created": self.created.as_secs(), "Size": 2048, "ParentId": "", "Labels": null,
            "Containers": -1, "SharedSize": -1,
        })
    }
}

impl Event {
    pub fn line(&self) -> String {
        let mut line = json!({
            "Type": self.what, "Action": self.action, "scope": "local",
            "Actor": {"ID": self.id, "Attributes": self.attributes},
            "time": self.time.as_secs(), "timeNano": u64::try_from(self.time.as_nanos()).unwrap_or(0),
        });
        if matches!(self.what, "container" | "image") {
            line["status"] = json!(self.action);
            line["id"] = json!(self.id);
        }
        format!("{line}\n")
    }
}
