//! Files out of an image, through a container that never runs.

use super::Docker;
use super::unreachable;
use crate::base::percent::percent_encode_segment;
use crate::model::ImageUri;
use crate::world::engine::{Engine as _, EngineError, Kind};

impl Docker {
    /// Hands on a directory of an image, as a tar stream, piece by piece. Meanwhile there is a
    /// container of that name.
    ///
    /// # Errors
    /// When the engine fails, or `take` does.
    pub async fn copy_out(
        &self,
        image: &ImageUri,
        (container, dir): (&str, &str),
        take: &mut (dyn FnMut(&[u8]) -> Result<(), String> + Send),
    ) -> Result<(), EngineError> {
        // One that a killed agent left.
        self.remove(container).await?;
        let doing = format!("create container '{container}'");
        let body = serde_json::json!({"Image": image.as_str(), "Cmd": ["/bin/false"]}).to_string();
        let path = format!("/containers/create?name={container}");
        self.order("POST", &path, Some(body.as_bytes()), &doing)
            .await?;
        let copied = self.archive(container, dir, take).await;
        // What stays is removed before the next.
        let removed = self.remove(container).await;
        copied.and(removed)
    }

    async fn archive(
        &self,
        container: &str,
        dir: &str,
        take: &mut (dyn FnMut(&[u8]) -> Result<(), String> + Send),
    ) -> Result<(), EngineError> {
        let doing = format!("copy '{dir}' out of container '{container}'");
        let path = format!(
            "/containers/{container}/archive?path={}",
            percent_encode_segment(dir)
        );
        let mut response = self.call("GET", &path, None, &doing).await?;
        loop {
            let piece = response.chunk().await;
            let Some(piece) = piece.map_err(|error| unreachable(&doing, &error))? else {
                return Ok(());
            };
            take(piece).map_err(|said| EngineError::new(Kind::Refused, &doing, said))?;
        }
    }
}
