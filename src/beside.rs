//! Wires what runs only beside a legacy supervisor.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::clients::Way;
use crate::config::LegacyConfig;
use crate::flows::api::proxy::{Proxy, Upstream};
use crate::flows::legacy::{self, Handing, back, desk::Desk, transfer};
use crate::flows::seek::Mailbox;
use crate::http::client::{Client, Endpoint, Timeouts};
use crate::http::url::Url;
use crate::legacy::client::Supervisor;
use crate::limits;
use crate::plan::work::{Cancel, Tools};
use crate::run::{Failed, failed};

/// A legacy supervisor, and what we are to it.
pub(crate) struct Beside {
    /// Where it fetches its target.
    pub desk: Arc<Desk>,
    /// Nothing of a time when user apps were ours is left.
    pub is_given_back: Cancel,
    url: Url,
    supervisor: Arc<Supervisor>,
    settle_limit: Option<Duration>,
}

impl Beside {
    pub fn new(config: &LegacyConfig, has_user_apps: bool) -> Result<Beside, Failed> {
        let url = Url::parse(&config.endpoint).map_err(failed("use the legacy API endpoint"))?;
        Ok(Beside {
            desk: Arc::new(Desk::new(has_user_apps)),
            is_given_back: Cancel::default(),
            supervisor: Arc::new(Supervisor::new(&url, &config.key.0)),
            url,
            settle_limit: config.settle_limit,
        })
    }

    /// What takes the requests that are none of ours.
    pub fn proxy(
        &self,
        uuid: &str,
        cloud: Option<&Way>,
        account: Arc<OnceLock<(String, String)>>,
        tools: &Tools,
    ) -> Box<Proxy> {
        let timeouts = |head, idle| Timeouts {
            resolve: limits::HTTP_RESOLVE_TIMEOUT,
            connect: limits::HTTP_CONNECT_TIMEOUT,
            tls: limits::HTTP_TLS_TIMEOUT,
            head,
            idle,
            total: None,
        };
        let cloud = cloud.map(|(url, endpoint, _)| Upstream {
            client: Client::with_pool(
                endpoint.clone(),
                timeouts(limits::PROXY_CLOUD_HEAD, limits::PROXY_CLOUD_IDLE),
                limits::PROXY_POOL_MAX,
            ),
            base: url.path().to_owned(),
        });
        let endpoint = Endpoint::Tcp {
            host: self.url.host().to_owned(),
            port: self.url.port(),
        };
        let legacy = Upstream {
            client: Client::with_pool(
                endpoint,
                timeouts(limits::PROXY_LEGACY_HEAD, limits::PROXY_LEGACY_IDLE),
                limits::PROXY_POOL_MAX,
            ),
            base: self.url.path().to_owned(),
        };
        let supervisor = self.supervisor.clone();
        let proxy = Proxy::new(
            uuid,
            self.desk.clone(),
            (cloud, legacy),
            supervisor,
            tools.clock.clone(),
        );
        Box::new(proxy.with_account(account))
    }

    /// Gives back what this agent ran before, if anything; `false`: it was stopped (D-08).
    pub async fn give_back(&self, tools: &Tools, mailbox: Arc<Mailbox>, stop: &Cancel) -> bool {
        let is_done = Box::pin(back::give(&self.desk, tools, mailbox, stop)).await;
        if is_done {
            self.is_given_back.set();
        }
        is_done
    }

    /// Removes images that came by us and that it has no use for, once it has applied its
    /// target, where user apps are its own.
    pub async fn clean(&self, tools: &Tools) {
        back::clean(&self.desk, tools).await;
    }

    /// Lays out its targets, where user apps are ours (D-08). Never ends.
    pub fn transfer(&self, tools: &Tools) -> impl Future<Output = ()> + use<> {
        transfer::run(self.desk.clone(), tools.clone())
    }

    /// Hands it targets. Never ends.
    pub fn run(&self, tools: &Tools) -> impl Future<Output = ()> + use<> {
        legacy::run(Handing {
            legacy: self.supervisor.clone(),
            desk: self.desk.clone(),
            tools: tools.clone(),
            settle_limit: self.settle_limit,
        })
    }
}
