//! Sending a report (remote-api 3).

use super::{Backend, refusal};
use crate::http::client::ErrorKind;
use crate::limits;
use crate::world::remote::{RemoteError, RemoteKind};

impl Backend {
    pub(super) async fn send_report(&self, body: &[u8]) -> Result<(), RemoteError> {
        let target = format!("{}/device/v3/state", self.base);
        let headers = [("content-type", "application/json")];
        let mut response = self
            .exchange("PATCH", &target, &headers, Some(body))
            .await?;
        if !(200..300).contains(&response.status()) {
            return Err(refusal(&response));
        }
        // An answer that is cut short is no acceptance (R-HTTP-2). What it says does not
        // matter; one that says a lot is not read to its end.
        match response.bytes(limits::REPORT_ANSWER_BYTES_MAX).await {
            Err(error) if error.kind != ErrorKind::TooLarge => Err(RemoteError {
                kind: RemoteKind::Later(None),
                said: error.to_string(),
            }),
            _ => Ok(()),
        }
    }
}
