//! Local edits of the target, kept so that they survive a restart.
//!
//! An edit lives until the backend's target changes (local-api 1.7).

use serde_json::value::RawValue;

use crate::base::hash;
use crate::base::json::{fields, written};
use crate::base::map::Set;
use crate::intake;
use crate::model::AppUuid;
use crate::model::target::DeviceTarget;
use crate::plan::work::Tools;
use crate::world::store::StoreError;

#[derive(Default)]
struct Edit<'a> {
    uuid: String,
    /// The body as it came in; `None`: the app was deleted.
    app: Option<&'a RawValue>,
}

fields!(Edit<'de> { uuid needed, app });

written!(Edit<'_> {
    uuid always, app always,
});

fn path(uuid: &str) -> String {
    format!("local/{}", hash::sha256_hex(uuid.as_bytes()))
}

/// Writes an edit down. `app` is the body, which intake has accepted.
///
/// # Errors
/// When the disk refuses; the edit is not lost by that before the next restart.
pub async fn keep(tools: &Tools, uuid: &AppUuid, app: Option<&[u8]>) -> Result<(), StoreError> {
    let app = app.and_then(|body| serde_json::from_slice::<&RawValue>(body).ok());
    let edit = Edit {
        uuid: uuid.to_string(),
        app,
    };
    let bytes = serde_json::to_vec(&edit).unwrap_or_default();
    tools.store.put(&path(uuid), &bytes).await
}

/// Forgets all edits: a newer target from the backend overrides them.
pub async fn forget(tools: &Tools) {
    if let Err(error) = tools.store.delete("local/").await {
        log::warn!("{error}");
    }
}

/// Applies the edits of former runs to `target`; returns the apps they deleted, and
/// whether there were any edits.
pub async fn load(tools: &Tools, target: &mut DeviceTarget) -> (Set<AppUuid>, bool) {
    let mut deleted = Set::new();
    let names = tools.store.list("local").await.unwrap_or_default();
    let any = !names.is_empty();
    for name in names {
        let path = format!("local/{name}");
        let Ok(Some(bytes)) = tools.store.get(&path).await else {
            continue;
        };
        let read = serde_json::from_slice::<Edit<'_>>(&bytes).map_err(|err| err.to_string());
        let applied = read.and_then(|edit| apply(target, &mut deleted, &edit));
        if let Err(error) = applied {
            log::warn!("document '{path}' cannot be read and is set aside: {error}");
            let _ = tools.store.quarantine(&path).await;
        }
    }
    (deleted, any)
}

fn apply(
    target: &mut DeviceTarget,
    deleted: &mut Set<AppUuid>,
    edit: &Edit<'_>,
) -> Result<(), String> {
    let uuid = AppUuid::new(&edit.uuid);
    match edit.app {
        None => {
            target.apps.remove(&uuid);
            deleted.insert(uuid);
        }
        Some(body) => {
            // Its contracts were met when it was accepted; an edit is not lost to a newer kernel.
            let app = intake::app_target(&edit.uuid, body.get().as_bytes());
            let app = app.map_err(|err| err.to_string())?;
            target.apps.insert(uuid, app.value);
        }
    }
    Ok(())
}
