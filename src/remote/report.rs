//! Sending a report (remote-api 3).

use super::{Backend, refusal};
use crate::world::remote::RemoteError;

impl Backend {
    pub(super) async fn send_report(&self, body: &[u8]) -> Result<(), RemoteError> {
        let target = format!("{}/device/v3/state", self.base);
        let headers = [("content-type", "application/json")];
        let response = self
            .exchange("PATCH", &target, &headers, Some(body))
            .await?;
        if !(200..300).contains(&response.status()) {
            return Err(refusal(&response));
        }
        response.discard().await;
        Ok(())
    }
}
