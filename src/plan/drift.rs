//! Containers that somebody changed since they were made (D-11).
//!
//! What an engine says about a container is compared with what it said when its app had
//! reached its target; that is kept on disk only. Another version of the engine may use
//! other words for the same: then they are taken down anew, and nothing is done.

use std::sync::Arc;

use super::board::Lane;
use super::read::{app_dir, document};
use super::work::Tools;
use crate::base::json::{fields, written};
use crate::base::map::{Map, Set};
use crate::model::AppUuid;

/// What one app's containers were like when it was at its target.
#[derive(Default)]
struct Record {
    engine: String,
    /// By container id, in hex.
    containers: Map<String, String>,
}

fields!(Record { engine needed, containers });

written!(Record {
    engine always, containers always,
});

fn path(app: &AppUuid) -> String {
    format!("{}/fingerprints", app_dir(app))
}

/// Takes down the containers of an app that were not there before. Writes nothing when
/// nothing is new (FD-33).
pub async fn remember(tools: &Tools, app: &AppUuid) {
    let Some(engine) = tools.board.look(|board| board.engine.clone()) else {
        return;
    };
    let path = path(app);
    let known = document::<Record>(tools, &path).await;
    let known = known.filter(|record| record.engine == *engine);
    let mut known = known.map(|record| record.containers).unwrap_or_default();
    let containers: Map<String, String> = tools.board.look(|board| {
        let found = board.device.apps.get(app);
        let found = found.into_iter().flat_map(|app| app.containers.values());
        found
            .map(|found| {
                let first = known.remove(&*found.id);
                let now = || format!("{:016x}", found.fingerprint);
                (found.id.to_string(), first.unwrap_or_else(now))
            })
            .collect()
    });
    let record = Record {
        engine: engine.to_string(),
        containers,
    };
    let bytes = serde_json::to_vec(&record).unwrap_or_default();
    if let Err(error) = tools.store.put(&path, &bytes).await {
        log::warn!("{error}");
    }
}

/// Compares the containers of all apps with what was taken down.
pub async fn look(tools: &Tools) {
    let Some(engine) = tools.board.look(|board| board.engine.clone()) else {
        return;
    };
    let apps: Vec<AppUuid> = tools
        .board
        .look(|board| board.device.apps.keys().cloned().collect());
    let mut drifted: Set<Arc<str>> = Set::new();
    for app in apps {
        let known = document::<Record>(tools, &path(&app)).await;
        let Some(known) = known.filter(|record| record.engine == *engine) else {
            let lane = tools.board.look(|board| board.lanes.get(&app).cloned());
            if lane == Some(Lane::Reached) {
                remember(tools, &app).await;
            }
            continue;
        };
        tools.board.look(|board| {
            let found = board.device.apps.get(&app);
            let all = found.into_iter().flat_map(|app| app.containers.values());
            for found in all.filter(|found| !board.marks.is_own(found)) {
                let first = known.containers.get(&*found.id);
                if first.is_some_and(|first| *first != format!("{:016x}", found.fingerprint)) {
                    drifted.insert(found.id.clone());
                }
            }
        });
    }
    let new = tools.board.change_if(|board| {
        let is_new = board.marks.drifted != drifted;
        board.marks.drifted.clone_from(&drifted);
        is_new
    });
    if new {
        for id in &drifted {
            log::warn!("container {id}: somebody changed it since it was made; it is made again");
        }
    }
}
