//! Images: list, inspect, pull, tag, remove.

use serde::Deserialize;

use super::pull::Progress;
use super::{Docker, failure, gone_is_done, one_line, unreachable};
use crate::base::json::{fields, written};
use crate::base::map::Map;
use crate::base::percent::percent_encode_segment;
use crate::limits;
use crate::model::ImageUri;
use crate::world::engine::{EngineError, ImageFacts, Kind, ListedImage};

/// How an engine keeps images, and what of the kernel it uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    /// Where, if that is on this machine.
    pub dir: Option<String>,
    /// `overlay2`.
    pub driver: String,
    /// The version of control groups, `1` or `2`, where the engine says it.
    pub cgroup: Option<String>,
}

#[derive(Default)]
struct Listed {
    id: String,
    repo_digests: Option<Vec<String>>,
    repo_tags: Option<Vec<String>>,
}

fields!(Listed {
    "Id" => id needed, "RepoDigests" => repo_digests, "RepoTags" => repo_tags,
});

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    #[serde(default)]
    config: Option<Config>,
}

/// What is kept of an image's configuration, in our own spelling when written.
#[derive(Default)]
struct Config {
    cmd: Option<Vec<String>>,
    labels: Option<Map<String, String>>,
}

fields!(Config { "Cmd" => cmd, "Labels" => labels });

written!(Config { cmd, labels });

impl Docker {
    pub(super) async fn list_images(&self) -> Result<Vec<ListedImage>, EngineError> {
        let mut images = Vec::new();
        let each = |element: &[u8]| match serde_json::from_slice::<Listed>(element) {
            Ok(listed) => images.extend(named(listed)),
            Err(error) => log::warn!("an image of the engine's list is passed over: {error}"),
        };
        self.elements("/images/json", "list images", each).await?;
        Ok(images)
    }

    pub(super) async fn inspect_image(&self, uri: &ImageUri) -> Result<ImageFacts, EngineError> {
        let doing = format!("inspect image '{uri}'");
        let mut response = self
            .call("GET", &format!("/images/{uri}/json"), None, &doing)
            .await
            .map_err(|error| match error.kind {
                Kind::Gone => error,
                _ => blame_image(error),
            })?;
        let found: Inspected = self.json(&mut response, &doing).await?;
        let config = found
            .config
            .and_then(|config| serde_json::to_string(&config).ok());
        let config = config.filter(|config| config != "{}");
        Ok(ImageFacts {
            id: found.id.into(),
            config: config.map(Into::into),
        })
    }

    /// The layers of an image, the lowest first.
    pub(super) async fn image_layers(&self, id: &str) -> Result<Vec<String>, EngineError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Inspected {
            #[serde(rename = "RootFS")]
            root_fs: RootFs,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct RootFs {
            #[serde(default)]
            layers: Vec<String>,
        }
        let doing = format!("inspect image '{id}'");
        let path = format!("/images/{id}/json");
        let mut response = self.call("GET", &path, None, &doing).await?;
        let found: Inspected = self.json(&mut response, &doing).await?;
        Ok(found.root_fs.layers)
    }

    /// Where images are kept. What answers on a port may run on another machine.
    pub(super) async fn image_dir(&self) -> Result<Option<String>, EngineError> {
        if self.socket.is_none() {
            return Ok(None);
        }
        Ok(self.storage().await?.dir)
    }

    /// How it keeps images, and what of the kernel it uses.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn storage(&self) -> Result<Storage, EngineError> {
        #[derive(Default)]
        struct Info {
            docker_root_dir: String,
            driver: String,
            cgroup_version: Option<String>,
        }

        fields!(Info {
            "DockerRootDir" => docker_root_dir, "Driver" => driver,
            "CgroupVersion" => cgroup_version,
        });

        let doing = "ask the engine where it keeps images";
        let mut response = self.call("GET", "/info", None, doing).await?;
        let info: Info = self.json(&mut response, doing).await?;
        let is_here = self.socket.is_some() && info.docker_root_dir.starts_with('/');
        Ok(Storage {
            dir: is_here.then_some(info.docker_root_dir),
            driver: info.driver,
            cgroup: info.cgroup_version,
        })
    }

    pub(super) async fn pull_image(
        &self,
        uri: &ImageUri,
        tell: &(dyn Fn(u8) + Send + Sync),
    ) -> Result<(), EngineError> {
        let doing = format!("pull image '{uri}'");
        let path = format!(
            "/images/create?fromImage={}",
            percent_encode_segment(uri.as_str())
        );
        let auth = (self.auth)(uri);
        let auth = auth.as_deref().map(|auth| ("x-registry-auth", auth));
        let timeouts = Docker::timeouts(limits::PULL_IDLE_TIMEOUT, limits::PULL_IDLE_TIMEOUT);
        let extra = (auth.as_slice(), Some(timeouts));
        let blamed = |error| blame_registry(error, auth.is_some());
        let called = self.call_with("POST", &path, None, extra, &doing).await;
        let mut response = called.map_err(blamed)?;
        let (mut progress, mut line, mut told) = (Progress::default(), Vec::new(), 0);
        while response
            .line(limits::ENGINE_LINE_BYTES_MAX, &mut line)
            .await
            .map_err(|err| unreachable(&doing, &err))?
        {
            let percent = progress.line(&line).map_err(|said| {
                blamed(EngineError::new(failure(&said), &*doing, one_line(&said)))
            })?;
            if percent >= told + limits::PULL_PROGRESS_STEP_PERCENT {
                told = percent - percent % limits::PULL_PROGRESS_STEP_PERCENT;
                tell(told);
            }
        }
        Ok(())
    }

    pub(super) async fn delete_image(&self, uri: &ImageUri) -> Result<(), EngineError> {
        let doing = format!("remove image '{uri}'");
        gone_is_done(
            self.order("DELETE", &format!("/images/{uri}"), None, &doing)
                .await,
        )
    }
}

/// Says so when it was the image's fault (FD-10). Engines have no status for it, so this is
/// the one place that goes by their words: a layer's file that cannot be read, and not what a
/// runtime found within a container.
pub(super) fn blame_image(mut error: EngineError) -> EngineError {
    let said = error.said.to_ascii_lowercase();
    let any = |words: &[&str]| words.iter().any(|word| said.contains(word));
    let unreadable = [
        "no such file or directory",
        "input/output error",
        "structure needs cleaning",
    ];
    let is_damaged = match error.kind {
        Kind::Gone => any(&["no such image", "image not known"]),
        Kind::Failed if any(&["oci runtime"]) => false,
        Kind::Failed => {
            any(&["layer does not exist", "layer not known"])
                || any(&["/overlay2/", "/overlay/", "/aufs/"]) && any(&unreadable)
        }
        _ => false,
    };
    if is_damaged {
        error.kind = Kind::Damaged;
    }
    error
}

/// Says so when a registry refused (R-REG-AUTH-6). Engines pass it on as whatever they like, 404
/// and 500 among it: only their words tell it from an image that is not there.
fn blame_registry(mut error: EngineError, has_key: bool) -> EngineError {
    let words = [
        "unauthorized",
        "no basic auth credentials",
        "access denied",
        "access to the resource is denied",
        ": denied:",
        "HTTP 401 ",
        "HTTP 403 ",
    ];
    if words.iter().any(|word| error.said.contains(word)) {
        error.kind = Kind::Denied;
        let why = if has_key {
            "the registry refuses this device's key"
        } else {
            "the registry refuses, and is not one that gets this device's key"
        };
        error.said = format!("{why}: {}", error.said);
    }
    error
}

/// The names of an image that are valid references; `None` without any (state-engine 3.2).
fn named(listed: Listed) -> Option<ListedImage> {
    let digests = listed.repo_digests.unwrap_or_default().into_iter();
    let texts = digests.chain(listed.repo_tags.unwrap_or_default());
    let valid = texts.filter(|text| !text.contains("<none>"));
    let names: Vec<_> = valid
        .filter_map(|text| ImageUri::parse(&text).ok())
        .collect();
    (!names.is_empty()).then(|| ListedImage {
        id: listed.id.into(),
        names,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Docker 20.10 and 26.1 and Podman 4.3 answer, one line a case.
    #[test]
    fn fd_10_whose_fault_it_was() {
        #[rustfmt::skip]
        let cases = [
            (Kind::Gone, "404: No such image: busybox:1", true),
            (Kind::Gone, "404: no such image: busybox:1: image not known", true),
            (Kind::Failed, "500: open /var/lib/docker/overlay2/ab/committed: no such file or directory", true),
            (Kind::Failed, "500: open /data/overlay2/ab/.tmp-committed378: no such file or directory", true),
            (Kind::Failed, "500: error creating overlay mount to /data/overlay2/ab/merged: no such file or directory", true),
            (Kind::Failed, "500: open /data/overlay2/ab/link: no such file or directory", true),
            (Kind::Failed, "500: stat /data/overlay2/ab: no such file or directory", true),
            (Kind::Failed, "500: readlink /data/overlay2/l/AB: input/output error", true),
            (Kind::Failed, "500: readlink /var/lib/containers/storage/overlay/l/AB: no such file or directory", true),
            (Kind::Failed, "500: layer does not exist", true),
            (Kind::Gone, "404: No such container: abc", false),
            (Kind::Gone, "404: network front not found", false),
            (Kind::Conflict, "409: /data/overlay2/ab: no such file or directory", false),
            (Kind::Failed, "500: mkdir /data/overlay2/ab: no space left on device", false),
            (Kind::Failed, "500: error while creating mount source path '/x': mkdir /x: read-only file system", false),
            (Kind::Failed, "500: failed to create shim task: OCI runtime create failed: error mounting \"/x\" to rootfs at \"/data/overlay2/ab/merged/y\": no such file or directory", false),
            (Kind::Refused, "400: failed to create task: exec: \"sh\": executable file not found in $PATH", false),
        ];
        for (kind, said, want) in cases {
            let judged = blame_image(EngineError::new(kind, "start", said)).kind;
            assert_eq!(judged, if want { Kind::Damaged } else { kind }, "{said}");
        }
    }

    /// What Docker 20.10 and 26.1 and Podman 4.3 say of a refused pull, one line a case.
    #[test]
    fn r_reg_auth_6_a_registry_that_refuses() {
        #[rustfmt::skip]
        let cases = [
            ("500: unauthorized: authentication required", true),
            ("500: Head \"http://127.0.0.1:1/v2/x/manifests/1\": no basic auth credentials", true),
            ("500: Head \"http://127.0.0.1:1/v2/x/manifests/1\": unauthorized:", true),
            ("500: Head \"http://127.0.0.1:1/v2/x/manifests/1\": denied:", true),
            ("500: Head \"http://127.0.0.1:1/v2/x/manifests/1\": error parsing HTTP 403 response body: unexpected end of JSON input: \"\"", true),
            ("404: pull access denied for x, repository does not exist or may require 'docker login': denied: requested access to the resource is denied", true),
            ("initializing source docker://h/x:1: reading manifest 1 in h/x: requested access to the resource is denied", true),
            ("404: manifest for h/x:1 not found: manifest unknown: manifest unknown", false),
            ("500: open /var/lib/docker/tmp/x: permission denied", false),
            ("500: Get \"http://127.0.0.1:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused", false),
        ];
        for (said, want) in cases {
            let judged = blame_registry(EngineError::new(Kind::Failed, "pull", said), true);
            let kind = if want { Kind::Denied } else { Kind::Failed };
            assert_eq!(judged.kind, kind, "{said}");
            assert!(judged.said.ends_with(said), "{}", judged.said);
        }
    }
}
