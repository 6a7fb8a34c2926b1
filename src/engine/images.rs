//! Images: list, inspect, pull, tag, remove.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::pull::Progress;
use super::{Docker, gone_is_done, unreachable};
use crate::base::percent::percent_encode_segment;
use crate::limits;
use crate::model::ImageUri;
use crate::world::engine::{EngineError, ImageFacts, Kind, ListedImage};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    #[serde(default)]
    repo_digests: Option<Vec<String>>,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    #[serde(default)]
    config: Option<Config>,
}

/// What is kept of an image's configuration, in our own spelling when written.
#[derive(Deserialize, Serialize)]
#[serde(rename_all(deserialize = "PascalCase", serialize = "lowercase"))]
struct Config {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cmd: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    labels: Option<BTreeMap<String, String>>,
}

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
            .await?;
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

    /// Where images are kept. What answers on a port may run on another machine.
    pub(super) async fn image_dir(&self) -> Result<Option<String>, EngineError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Info {
            docker_root_dir: String,
        }
        if self.socket.is_none() {
            return Ok(None);
        }
        let doing = "ask the engine where it keeps images";
        let mut response = self.call("GET", "/info", None, doing).await?;
        let info: Info = self.json(&mut response, doing).await?;
        Ok(Some(info.docker_root_dir).filter(|dir| dir.starts_with('/')))
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
        let mut response = self.call_with("POST", &path, None, extra, &doing).await?;
        let (mut progress, mut line, mut told) = (Progress::default(), Vec::new(), 0);
        while response
            .line(limits::ENGINE_LINE_BYTES_MAX, &mut line)
            .await
            .map_err(|err| unreachable(&doing, &err))?
        {
            let percent = progress
                .line(&line)
                .map_err(|said| EngineError::new(Kind::Failed, doing.as_str(), said))?;
            if percent >= told + limits::PULL_PROGRESS_STEP_PERCENT {
                told = percent - percent % limits::PULL_PROGRESS_STEP_PERCENT;
                tell(told);
            }
        }
        Ok(())
    }

    pub(super) async fn tag_image(&self, id: &str, uri: &ImageUri) -> Result<(), EngineError> {
        let doing = format!("tag image '{uri}'");
        let repo = percent_encode_segment(uri.repository());
        let tag = uri
            .tag()
            .map(|tag| format!("&tag={tag}"))
            .unwrap_or_default();
        let path = format!(
            "/images/{}/tag?repo={repo}{tag}",
            percent_encode_segment(id)
        );
        match self.order("POST", &path, None, &doing).await {
            Err(error) if error.kind == Kind::Conflict => Ok(()),
            other => other,
        }
    }

    pub(super) async fn delete_image(&self, uri: &ImageUri) -> Result<(), EngineError> {
        let doing = format!("remove image '{uri}'");
        gone_is_done(
            self.order("DELETE", &format!("/images/{uri}"), None, &doing)
                .await,
        )
    }
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
