//! The jobs of networks and volumes.

use std::sync::Arc;

use super::board::Part;
use super::names;
use super::work::Work;
use crate::model::current::{Network, Volume};
use crate::model::{NetworkName, VolumeName};
use crate::world::engine::{EngineError, Kind};

impl Work {
    /// The board's key of a network.
    #[must_use]
    pub fn network_part(&self, name: &NetworkName) -> Part {
        Part::Network(self.app.clone(), name.clone())
    }

    /// The board's key of a volume.
    #[must_use]
    pub fn volume_part(&self, name: &VolumeName) -> Part {
        Part::Volume(self.app.clone(), name.clone())
    }

    /// Makes a network of the target.
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn setup_network(&self, name: &NetworkName) -> Result<(), EngineError> {
        let config = self
            .release()
            .and_then(|(_, release)| release.networks.get(name));
        let Some(config) = config else { return Ok(()) };
        let oci_name = names::network_name(&self.app, name);
        let id = self
            .tools
            .engine
            .create_network(&oci_name, &self.app, name, config)
            .await?;
        let network = Network {
            id: id.into(),
            oci_name: oci_name.into(),
            config: Some(config.clone()),
        };
        self.change(|app| app.networks.insert(name.clone(), network));
        Ok(())
    }

    /// Removes networks whose name another one has (FD-21). One that is in use stays, and
    /// the other goes, if nobody uses that.
    pub(super) async fn remove_spare_networks(&self) {
        let now = self.tools.clock.now();
        let spare = self.look(|app, board| {
            let due = |(name, _): &&(NetworkName, Arc<str>)| {
                !board.is_waiting(&self.network_part(name), now)
            };
            app.spare_networks
                .iter()
                .filter(due)
                .cloned()
                .collect::<Vec<_>>()
        });
        for (name, id) in spare {
            log::warn!(
                "app '{}': there are two networks '{name}'; removing {id}",
                self.app
            );
            if let Err(error) = self.remove_spare_network(&name, &id).await {
                self.tools
                    .trouble(&self.network_part(&name), &error.to_string());
            }
        }
    }

    async fn remove_spare_network(
        &self,
        name: &NetworkName,
        id: &Arc<str>,
    ) -> Result<(), EngineError> {
        let mut gone = id.clone();
        if let Err(error) = self.tools.engine.remove_network(id).await {
            let known = self.look(|app, _| Some(app.networks.get(name)?.id.clone()));
            let Some(known) = known else {
                return Err(error);
            };
            log::info!("network {id} is in use ({error}); removing {known} instead");
            self.tools.engine.remove_network(&known).await?;
            gone = known;
        }
        self.change(|app| {
            app.spare_networks.retain(|(_, spare)| spare != id);
            match app.networks.get_mut(name) {
                Some(kept) if kept.id == gone => kept.id = id.clone(),
                _ => {}
            }
        });
        Ok(())
    }

    /// Removes a network.
    ///
    /// # Errors
    /// When the engine refuses, for one because somebody uses it.
    pub async fn remove_network(&self, name: &NetworkName) -> Result<(), EngineError> {
        let id = self.look(|app, _| app.networks.get(name).map(|network| network.id.clone()));
        if let Some(id) = id {
            self.tools.engine.remove_network(&id).await?;
            self.change(|app| app.networks.remove(name));
        }
        Ok(())
    }

    /// Makes a volume of the target.
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn setup_volume(&self, name: &VolumeName) -> Result<(), EngineError> {
        let config = self
            .release()
            .and_then(|(_, release)| release.volumes.get(name));
        let Some(config) = config else { return Ok(()) };
        let (oci_name, _) = self.look(|app, board| {
            let is_beside = board.marks.is_beside;
            names::volume_name(&self.app, app, name, config, is_beside)
        });
        self.tools
            .engine
            .create_volume(&oci_name, &self.app, name, config)
            .await?;
        let is_beside = self.look(|_, board| board.marks.is_beside);
        let volume = Volume {
            name: name.clone(),
            // One of the legacy supervisor's, as it is read back.
            config: (!is_beside).then(|| config.clone()),
        };
        self.change(|app| app.volumes.insert(oci_name.into(), volume));
        Ok(())
    }

    /// Removes the volumes of that name, data included: only for an app that goes (D-12).
    ///
    /// # Errors
    /// When the app stays, or the engine refuses.
    pub async fn remove_volume(&self, name: &VolumeName) -> Result<(), EngineError> {
        let is_beside = self.look(|_, board| board.marks.is_beside);
        if self.target.is_some() || is_beside {
            let doing = format!("remove volume '{name}'");
            let why = match is_beside {
                true => "it is the legacy supervisor's",
                false => "its app is in the target",
            };
            return Err(EngineError::new(Kind::Refused, doing, why));
        }
        let all: Vec<Arc<str>> = self.look(|app, _| {
            let mine = app
                .volumes
                .iter()
                .filter(|(_, volume)| volume.name == *name);
            mine.map(|(oci_name, _)| oci_name.clone()).collect()
        });
        for oci_name in all {
            log::info!(
                "removing volume '{oci_name}': app '{}' is not in the target",
                self.app
            );
            self.tools.engine.remove_volume(&oci_name).await?;
            self.change(|app| app.volumes.remove(&oci_name));
        }
        Ok(())
    }
}
