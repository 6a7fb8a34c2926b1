//! Wires the rooms together and runs the flows until it is told to stop.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_executor::LocalExecutor;
use futures_lite::{AsyncReadExt as _, future};

use crate::base::hash;
use crate::base::latest::Latest;
use crate::base::random;
use crate::base::task;
#[cfg(feature = "legacy")]
use crate::beside::Beside;
use crate::clients::{Way, backend, endpoint, later_roots, registrar, way};
use crate::config::{ApiAddress, Config, Registration, RemoteConfig, Uuid};
use crate::drive::drive;
use crate::engine::Docker;
use crate::flows::api::Api;
#[cfg(feature = "legacy")]
use crate::flows::legacy::back;
use crate::flows::poll::poller::Timing;
use crate::flows::poll::{Poll, Taker, Trigger};
use crate::flows::register::Register;
use crate::flows::report::fields::{LocalApi, Own};
use crate::flows::seek::seeker::Options;
use crate::flows::seek::{Mailbox, events, local};
use crate::flows::{self, poll, register, report, seek};
use crate::host::{clock::SystemClock, facts, locks::SharedDirs};
use crate::http::server::Server;
use crate::identity::Identity;
use crate::limits;
use crate::listen::{Listeners, listeners};
use crate::plan::work::{Cancel, Tools};
use crate::remote::{manifest::Reader, registry::Registries};
use crate::service::Manager;
use crate::store::{self, Files};
use crate::survey::Survey;
use crate::world::capabilities::Capabilities;
use crate::world::clock::Clock as _;
use crate::world::registry::Registry;
use crate::world::remote::Remote;

mod device;

/// The key of the local API (D-27).
const LOCAL_KEY: &str = "local-api-key";

/// A start-up that failed: exit code 1 and one sentence.
#[derive(Debug)]
pub struct Failed(pub String);

pub(crate) fn failed<E: std::fmt::Display>(
    doing: impl std::fmt::Display,
) -> impl FnOnce(E) -> Failed {
    move |error| Failed(format!("cannot {doing}: {error}"))
}

/// The key of the local API; made and stored 0600 when there is none.
///
/// # Errors
/// When it can neither be read nor written.
pub fn local_key(config_dir: &Path) -> Result<String, Failed> {
    let files = Files::shared(config_dir).map_err(failed("open the configuration directory"))?;
    let read = || {
        let bytes = files
            .read(LOCAL_KEY)
            .map_err(failed("read the local API key"))?;
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap_or_default();
        Ok::<_, Failed>(bytes.map(text))
    };
    let is_key = |key: &String| !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic());
    match read()? {
        Some(key) if is_key(&key) => return Ok(key),
        Some(_) => {
            log::error!("the local API key cannot be used: it is set aside and a new one drawn");
            let aside = files.set_aside(LOCAL_KEY);
            aside.map_err(failed("set the local API key aside"))?;
        }
        None => {}
    }
    // The agent and `helios local-key` may both find none: what is stored counts.
    let key = random::hex(16).map_err(failed("draw a key"))?;
    files
        .write_new(LOCAL_KEY, key.as_bytes())
        .map_err(failed("store the local API key"))?;
    let stored = read()?.filter(is_key);
    stored.ok_or_else(|| Failed("cannot use the stored local API key".to_owned()))
}

/// Runs the agent until SIGTERM or SIGINT.
///
/// # Errors
/// [`Failed`] when it cannot even start.
pub fn run(mut config: Config) -> Result<(), Failed> {
    for warning in &config.warnings {
        log::warn!("{warning}");
    }
    std::fs::create_dir_all(&config.dirs.runtime).map_err(failed("make the runtime directory"))?;
    let _alive = alive(&config.dirs.state)?;
    let signals = signals().map_err(failed("listen for signals"))?;
    Files::below(&config.dirs.config).clear_old();
    // Bound before the engine is asked (D-34).
    let listeners = listeners(&config)?;
    let registering = config.registration.take().map(|registration| {
        let identity = Identity::below(&config.dirs.config);
        begin(&identity, registration)
    });
    let registering = registering.transpose()?;
    let uuid = match (&registering, &config.uuid) {
        (Some((registration, _)), _) => registration.record.uuid.clone(),
        (None, Uuid::Known(uuid)) => uuid.clone(),
        (None, Uuid::Random) => random::uuid().map_err(failed("draw a uuid"))?,
    };
    device::announce(&config, registering.is_some(), &uuid);
    let agent = Agent::new(config, registering, uuid)?;
    // The planner spawns its workflow on this; it has no driver, no timer and no
    // thread of its own (D-04).
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.map_err(failed("start the planner's runtime"))?;
    let manager = Manager::from_env(&|name| std::env::var(name).ok());
    drive(&runtime, agent.run(listeners, signals, &manager));
    log::info!("stopped");
    Ok(())
}

/// Shows others that an agent uses this directory, as long as the file is open.
fn alive(state_dir: &Path) -> Result<std::fs::File, Failed> {
    let held = store::hold(state_dir, store::AGENT_LOCK, true);
    let held = held.map_err(failed("lock the state directory"))?;
    held.ok_or_else(|| Failed("the legacy supervisor is being handed back to right now".into()))
}

/// Settles who this device is, before it is told to anybody; and whether that is on disk.
fn begin(
    identity: &Identity,
    mut registration: Registration,
) -> Result<(Registration, bool), Failed> {
    let (record, is_kept) = identity.claim(registration.record)?;
    registration.record = record;
    Ok((registration, is_kept))
}

/// One end of a socket pair that gets a byte for each SIGTERM and SIGINT.
pub(crate) fn signals() -> io::Result<UnixStream> {
    let (read, write) = UnixStream::pair()?;
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
    }
    Ok(read)
}

struct Agent {
    config: Config,
    uuid: String,
    tools: Tools,
    /// The way to the backend, if there is one.
    way: Option<Way>,
    #[cfg(feature = "legacy")]
    beside: Option<Beside>,
    /// Once this device is known to it.
    remote: Option<Arc<dyn Remote>>,
    /// What is to be done for that, and whether its candidate is on disk.
    registering: Option<(Registration, bool)>,
    account: Arc<Account>,
    capabilities: Arc<dyn Capabilities>,
}

/// What a device has of its backend once it is known to it.
#[derive(Default)]
struct Account {
    /// Who gets the device's key.
    registries: Arc<OnceLock<Registries>>,
    /// Endpoint and key, for containers that ask for them.
    backend: Arc<OnceLock<(String, String)>>,
}

impl Agent {
    fn new(
        config: Config,
        registering: Option<(Registration, bool)>,
        uuid: String,
    ) -> Result<Agent, Failed> {
        let store = Files::open(&config.dirs.state).map_err(failed("open the state directory"))?;
        let clock = Arc::new(SystemClock::start());
        let account = Arc::new(Account::default());
        let theirs = account.registries.clone();
        let auth = move |image: &_| theirs.get()?.auth(image);
        let registry = config.remote.as_ref().map(|remote| {
            let (roots, clock) = (later_roots(remote), clock.clone());
            let reader = Reader::new(account.registries.clone(), roots, clock);
            Arc::new(reader) as Arc<dyn Registry>
        });
        let board = device::board(&config, &uuid, clock.now());
        let engine = Docker::new(
            endpoint(config.engine.clone()),
            Box::new(auth),
            config.legacy.is_none(),
        )
        .with_backend(account.backend.clone());
        let engine = Arc::new(engine);
        let capabilities = Arc::new(Survey::of(&config, engine.clone()));
        let tools = Tools {
            machine: crate::hostup::machine(&engine, &config),
            engine,
            registry,
            store: Arc::new(store),
            host: Arc::new(SharedDirs::open(
                &config.host_runtime_dir,
                &config.dirs.runtime,
            )),
            clock,
            board: Arc::new(Latest::new(board)),
            facts: Arc::new(device::host_facts(&config, &uuid)),
            retry: config.retry,
            pulls_max: config.pulls_max,
            disk_reserve: config.disk_reserve,
        };
        // What cannot be used is said now, not when it is first needed.
        let way = config.remote.as_ref().map(way).transpose()?;
        #[cfg(feature = "legacy")]
        let beside = config.legacy.as_ref();
        #[cfg(feature = "legacy")]
        let beside = beside
            .map(|legacy| Beside::new(legacy, config.has_user_apps))
            .transpose()?;
        let mut agent = Agent {
            config,
            uuid,
            tools,
            way,
            #[cfg(feature = "legacy")]
            beside,
            remote: None,
            registering,
            account,
            capabilities,
        };
        if let (Some(remote), Some(way), None) =
            (&agent.config.remote, &agent.way, &agent.registering)
        {
            agent.remote = Some(agent.admit(way, remote, &remote.key.0));
        }
        Ok(agent)
    }

    /// What follows from being known to the backend, with this key.
    fn admit(&self, way: &Way, remote: &RemoteConfig, key: &str) -> Arc<dyn Remote> {
        let identity = (&*self.uuid, key);
        let (backend, host) = backend(way, remote, identity, &self.config, &self.tools.clock);
        let hosts = &self.config.registry_auth_hosts;
        let registries = Registries::new(&host, hosts, &self.uuid, key);
        // Both are set here only, and this is done once.
        let _ = self.account.registries.set(registries);
        let told = (remote.endpoint.clone(), key.to_owned());
        let _ = self.account.backend.set(told);
        #[cfg(feature = "legacy")]
        if let Some(beside) = &self.beside {
            beside.desk.set_remote(backend.clone());
        }
        backend
    }

    /// The backend, once this device is registered; `None` when there is none.
    async fn registered(&self, trigger: Arc<Trigger>) -> Option<Arc<dyn Remote>> {
        let Some((registration, is_kept)) = &self.registering else {
            return self.remote.clone();
        };
        let (config, way) = (self.config.remote.as_ref()?, self.way.as_ref()?);
        let record = register::run(Register {
            remote: registrar(way, config, registration, &self.tools.clock),
            store: Arc::new(Files::below(&self.config.dirs.config)),
            clock: self.tools.clock.clone(),
            board: self.tools.board.clone(),
            trigger,
            record: registration.record.clone(),
            is_kept: *is_kept,
            interval_min: config.poll_min_interval,
        });
        Some(self.admit(way, config, &record.await.remote.api_key))
    }

    /// Who gets the backend's documents in our place: the legacy supervisor, where user apps
    /// are left to it (D-08).
    fn taker(&self) -> Option<Arc<dyn Taker>> {
        #[cfg(feature = "legacy")]
        if let (Some(beside), false) = (&self.beside, self.config.has_user_apps) {
            return Some(beside.desk.clone());
        }
        None
    }

    /// Makes the device its target; where user apps are somebody else's there is the host at
    /// most, and the engine is asked for nothing else.
    async fn seek(&self, mailbox: Arc<Mailbox>, stop: Arc<Cancel>) {
        if !self.config.has_user_apps {
            #[cfg(feature = "legacy")]
            if let Some(beside) = &self.beside
                && !beside.give_back(&self.tools, mailbox, &stop).await
            {
                return;
            }
            self.tools.board.change(|board| board.is_read = true);
            return future::or(seek::host::lane(self.tools.clone(), stop), self.say()).await;
        }
        #[cfg(feature = "legacy")]
        if self.beside.is_some() {
            back::remember(&self.tools).await;
        }
        let events = async {
            events::run(self.tools.clone()).await;
            future::pending().await
        };
        let seek = seek::run(self.tools.clone(), mailbox, stop);
        future::or(seek, events).await;
    }

    /// Says how far the host is, where the rest is the legacy supervisor's. Never ends.
    async fn say(&self) {
        let (mut seen, taker) = (0, self.taker());
        loop {
            seen = self.tools.board.newer(seen).await;
            if let Some(taker) = &taker {
                taker.changed(&self.tools.board, self.tools.clock.now());
            }
        }
    }

    /// Hands the legacy supervisor its targets. Never ends.
    async fn hand(&self) {
        #[cfg(feature = "legacy")]
        if let Some(beside) = &self.beside {
            let hands = beside.run(&self.tools);
            match self.config.has_user_apps {
                true => future::or(hands, beside.transfer(&self.tools)).await,
                false => {
                    beside.is_given_back.wait().await;
                    future::zip(hands, beside.clean(&self.tools)).await;
                }
            }
        }
        future::pending().await
    }

    async fn run(self, listeners: Listeners, signals: UnixStream, manager: &Manager) {
        let mailbox = Arc::new(Mailbox::new(self.tools.clone()));
        let has_cached = self.restore(&mailbox).await;
        let trigger = self.config.remote.is_some();
        let trigger = trigger.then(|| Arc::new(Trigger::default()));
        let (stop, told) = (Arc::new(Cancel::default()), Arc::new(Cancel::default()));
        let executor = LocalExecutor::new();
        let seek = task::spawn(&executor, self.seek(mailbox.clone(), stop.clone()));
        let _hands = task::spawn(&executor, self.hand());
        let api = task::spawn(
            &executor,
            self.serve(listeners, &mailbox, trigger.clone(), stop.clone()),
        );
        let managed = task::spawn(&executor, {
            let (stop, told) = (stop.clone(), told.clone());
            let agent = &self;
            async move {
                let Some(trigger) = trigger else { return };
                let admitted = agent.registered(trigger.clone());
                // What was begun goes on at the next start.
                let gave_up = async {
                    stop.wait().await;
                    None
                };
                let Some(remote) = future::or(gave_up, admitted).await else {
                    return;
                };
                let wake = trigger.clone();
                let poll = agent.poll(&remote, trigger, &mailbox, has_cached);
                let report = agent.report(&remote, poll.timing.interval, wake);
                let polls = future::or(stop.wait(), poll::run(poll));
                if !agent.config.has_user_apps {
                    // The legacy supervisor reports, and nobody besides it (D-24).
                    return polls.await;
                }
                let last = async { told.wait().await };
                let reports = report::run(report, last);
                future::zip(polls, reports).await;
            }
        });
        let (board, clock) = (&self.tools.board, &*self.tools.clock);
        let offers = flows::capabilities::run(&self.tools, &*self.capabilities);
        let _offers = task::spawn(&executor, offers);
        let _manners = task::spawn(&executor, manager.attend(board, clock));
        let all = async {
            task::apart(until_signal(signals)).await;
            manager.tell("STOPPING=1");
            log::info!(
                "stopping: open calls and answers are finished, containers stay as they are"
            );
            stop.set();
            let late = self.tools.clock.now() + limits::SHUTDOWN;
            let orderly = async {
                future::zip(seek, api).await;
                told.set();
                managed.await;
            };
            future::or(orderly, self.tools.clock.sleep_until(late)).await;
        };
        task::run(all, || executor.tick()).await;
    }

    /// Takes up where the last run stopped: the backend's last target and local edits
    /// (FD-24, FD-25). `true` if there was anything.
    async fn restore(&self, mailbox: &Mailbox) -> bool {
        let cached = match &self.remote {
            Some(remote) => remote.cached().await,
            None => None,
        };
        if let Some(taker) = self.taker() {
            let found = cached.is_some();
            if let Some(document) = cached {
                log::info!("taking up the last accepted target");
                if let Ok(target) = poll::read(&document, &self.uuid, &self.tools.facts) {
                    poll::beside(&self.tools.board, target.host, false);
                }
                taker.take(&document.into(), Options::default()).await;
            }
            return found;
        }
        let from_remote = cached.and_then(|document| {
            match poll::read(&document, &self.uuid, &self.tools.facts) {
                Ok(target) => Some(target),
                Err(why) => {
                    log::warn!("the cached target is not used: {why}");
                    if let Some(remote) = &self.remote {
                        remote.forget();
                    }
                    None
                }
            }
        });
        let mut target = from_remote.clone().unwrap_or_default();
        let (deleted, any) = local::load(&self.tools, &mut target).await;
        let found = from_remote.is_some();
        if found || any {
            log::info!("taking up the last accepted target");
            mailbox.stored(from_remote, target, deleted);
        }
        found
    }

    fn poll(
        &self,
        remote: &Arc<dyn Remote>,
        trigger: Arc<Trigger>,
        mailbox: &Arc<Mailbox>,
        has_cached: bool,
    ) -> Poll {
        // With a remote there is a configuration of it.
        let config = self.config.remote.as_ref();
        let interval = config.and_then(|config| config.poll_interval);
        let timing = Timing {
            interval: interval.unwrap_or(limits::POLL_INTERVAL_DEFAULT),
            is_fixed: interval.is_some(),
            interval_min: config.map_or(limits::REPORT_INTERVAL_MIN, |config| {
                config.poll_min_interval
            }),
            jitter_max: config.map_or(Duration::ZERO, |config| config.poll_jitter),
        };
        Poll {
            remote: remote.clone(),
            trigger,
            mailbox: mailbox.clone(),
            tools: self.tools.clone(),
            uuid: self.uuid.clone(),
            timing,
            has_cached,
            taker: self.taker(),
        }
    }

    fn report(
        &self,
        remote: &Arc<dyn Remote>,
        ceiling: Duration,
        trigger: Arc<Trigger>,
    ) -> report::Report {
        let endpoint = self
            .config
            .remote
            .as_ref()
            .map_or("", |remote| &remote.endpoint);
        // The cloud calls it through the VPN, which leads to no loopback.
        let open = self.config.api.iter().find_map(|address| match address {
            ApiAddress::Tcp(address) if !address.ip().is_loopback() => Some(address.port()),
            _ => None,
        });
        let (version, variant) = match &self.tools.facts.os_version {
            Some(version) => (Some(version.clone()), None),
            None => facts::host_os(),
        };
        report::Report {
            remote: remote.clone(),
            tools: self.tools.clone(),
            ceiling,
            // Beside a legacy supervisor that is what it reports, through us (D-24).
            own: self.config.legacy.is_none().then(|| Own {
                os_version: version,
                os_variant: variant,
                // It was made when the API was opened, or its absence was said then.
                api: open.map_or(LocalApi::Closed, |port| {
                    LocalApi::Open(port, local_key(&self.config.dirs.config).ok())
                }),
            }),
            whom: hash::short(format!("{endpoint} {}", self.uuid).as_bytes()),
            trigger: Some(trigger),
        }
    }

    fn serve(
        &self,
        listeners: Listeners,
        mailbox: &Arc<Mailbox>,
        trigger: Option<Arc<Trigger>>,
        stop: Arc<Cancel>,
    ) -> impl Future<Output = ()> + use<> {
        let key = listeners
            .needs_key
            .then(|| local_key(&self.config.dirs.config));
        let key = key.and_then(|key| match key {
            Ok(key) => Some(key),
            Err(Failed(why)) => {
                log::error!("{why}; the local API refuses all but loopback and sockets");
                None
            }
        });
        let api = Api {
            tools: self.tools.clone(),
            mailbox: mailbox.clone(),
            trigger,
            key,
            has_loopback: listeners.has_loopback,
            has_user_apps: self.config.has_user_apps,
            capabilities: self.capabilities.clone(),
            #[cfg(feature = "legacy")]
            proxy: self.beside.as_ref().map(|beside| {
                let account = self.account.backend.clone();
                beside.proxy(&self.uuid, self.way.as_ref(), account, &self.tools)
            }),
        };
        let none = listeners.all.is_empty();
        let server = Server::new(listeners.all, Arc::new(api));
        async move {
            if none {
                return stop.wait().await;
            }
            server
                .run(async { stop.wait().await }, limits::SHUTDOWN_DRAIN)
                .await;
        }
    }
}

/// Ends with the first signal.
pub(crate) async fn until_signal(signals: UnixStream) {
    let read = async {
        let mut signals = async_io::Async::new(signals)?;
        signals.read_exact(&mut [0]).await
    };
    if let Err(error) = read.await {
        log::error!("signals cannot be heard: {error}");
        future::pending::<()>().await;
    }
}
