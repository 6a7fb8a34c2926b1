//! Asking for the target (remote-api 2).

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::{Backend, Known, cache, refusal};
use crate::base::hash;
use crate::base::thread::on_thread;
use crate::http::client::Response;
use crate::limits;
use crate::world::remote::{Polled, RemoteError, RemoteKind};

impl Backend {
    fn known(&self) -> Known {
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn know(&self, known: Known) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = known;
    }

    pub(super) fn forget_target(&self) {
        self.know(Known::default());
    }

    pub(super) async fn read_cached(&self) -> Option<Vec<u8>> {
        let (etag, document) = cache::read(&self.cache, &self.whose)?;
        self.know(Known {
            etag,
            hash: Some(hash::short(&document)),
        });
        Some(document)
    }

    pub(super) fn forget_condition(&self) -> Known {
        let known = Known {
            etag: None,
            ..self.known()
        };
        self.know(known.clone());
        known
    }

    pub(super) async fn ask_for_target(&self) -> Result<Polled, RemoteError> {
        let mut known = self.known();
        let mut response = self.ask(&known).await?;
        if response.status() == 304 && known.etag.is_some() && response.header("etag").is_none() {
            // "Not modified" names what it is that was not (RFC 9110 15.4.5). Without that it
            // may be what a device is told that is not known: only one asked without a
            // condition can tell the two apart (R-POLL-6, remote-api 2.6).
            response.discard().await;
            known = self.forget_condition();
            response = self.ask(&known).await?;
        }
        match response.status() {
            304 => {
                response.discard().await;
                Ok(if known.etag.is_some() {
                    Polled::Unchanged
                } else {
                    Polled::UnknownDevice
                })
            }
            200 => self.take(&mut response, &known).await,
            _ => Err(refusal(&response)),
        }
    }

    async fn ask(&self, known: &Known) -> Result<Response, RemoteError> {
        let segment = crate::base::percent::percent_encode_segment(&self.uuid);
        let target = format!("{}/device/v3/{segment}/state", self.base);
        let mut headers = vec![("accept", "application/json")];
        if let Some(etag) = &known.etag {
            headers.push(("if-none-match", etag));
        }
        self.exchange("GET", &target, &headers, None).await
    }

    async fn take(&self, response: &mut Response, known: &Known) -> Result<Polled, RemoteError> {
        let etag = response
            .header("etag")
            .filter(|etag| !etag.is_empty())
            .map(str::to_owned);
        let document = response
            .bytes(limits::TARGET_BYTES_MAX)
            .await
            .map_err(|error| {
                let kind = match error.kind {
                    crate::http::client::ErrorKind::TooLarge => RemoteKind::Unreadable,
                    // An incomplete answer is a broken transfer, never a document (R-HTTP-2).
                    _ => RemoteKind::Later(None),
                };
                RemoteError {
                    kind,
                    said: error.to_string(),
                }
            })?;
        if let Err(error) = serde_json::from_slice::<&serde_json::value::RawValue>(&document) {
            let said = format!("the answer is not JSON: {error}");
            return Err(RemoteError {
                kind: RemoteKind::Unreadable,
                said,
            });
        }
        let hash = hash::short(&document);
        let is_new = known.hash != Some(hash);
        self.know(Known {
            etag,
            hash: Some(hash),
        });
        Ok(if is_new {
            Polled::Changed(document.into())
        } else {
            Polled::Unchanged
        })
    }

    pub(super) async fn keep_target(&self, document: &[u8]) {
        let etag = self.known().etag;
        let (file, copy) = (self.cache.clone(), document.to_owned());
        let whose = self.whose.clone();
        let written = on_thread(move || cache::write(&file, etag.as_deref(), &whose, &copy)).await;
        let was_kept = self.is_kept.swap(written.is_ok(), Ordering::Relaxed);
        match written {
            // Said once: it may stay so for as long as the device runs (S-POLL-08).
            Err(error) if was_kept => {
                log::warn!("the target is not kept for the next start: {error}");
            }
            Ok(()) if !was_kept => log::info!("the target is kept for the next start again"),
            _ => {}
        }
    }
}
