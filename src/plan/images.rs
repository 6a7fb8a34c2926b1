//! The device's images: one planning problem beside those of the apps, so that a
//! slow pull holds up nothing but what needs it (FD-23).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once};

use futures_lite::{StreamExt as _, future};
use mahler::extract::{Args, Res, View};
use mahler::job::create;
use mahler::state::{Map, State};
use mahler::task::{IO, enforce, with_io};
use mahler::worker::Worker;

use super::board::{Board, Part};
use super::work::{Active, Cancel, Stopped, Tools};
use crate::limits;
use crate::model::ImageUri;
use crate::model::current::{Container, Image};
use crate::model::target::{AppRelease, Strategy};
use crate::world::engine::{EngineError, ImageFacts, Kind};

/// The planner's state: which images are there.
#[derive(State, Debug, Clone, PartialEq, Eq)]
struct Images {
    images: Map<String, u8>,
}

/// The resource of the jobs.
struct Pulls {
    tools: Tools,
    cancel: Arc<Cancel>,
    /// One token for each pull that may run.
    tokens: (async_channel::Sender<()>, async_channel::Receiver<()>),
    /// The last look found too little room.
    is_full: AtomicBool,
}

/// How a pull ended.
enum Pulled {
    There(ImageFacts),
    /// It was not begun: too little is free, and how much that is.
    NoRoom(String),
    Failed(EngineError),
    Stopped,
}

#[derive(Clone)]
struct Job(Arc<Pulls>);

/// Whether an image is there, by what the last look at the engine said.
pub fn is_there(device: &crate::model::current::Device, uri: &ImageUri) -> bool {
    device
        .images
        .get(uri)
        .is_some_and(|image| image.id.is_some())
}

/// Pulls what is missing of `wanted`, now and whenever something of it disappears,
/// until it is time to stop.
pub async fn lane(tools: Tools, cancel: Arc<Cancel>, wanted: Vec<ImageUri>) {
    let tokens = async_channel::bounded(tools.pulls_max.max(1));
    for _ in 0..tools.pulls_max {
        let _ = tokens.0.try_send(());
    }
    let pulls = Arc::new(Pulls {
        tools: tools.clone(),
        cancel: cancel.clone(),
        tokens,
        is_full: AtomicBool::new(false),
    });
    while !cancel.is_set() {
        let seen = tools.board.version();
        let ready = missing(&tools, &wanted);
        if !ready.is_empty() {
            // Before a plan is made and told, each time.
            let stopped = async {
                cancel.wait().await;
                None
            };
            if let Some(why) = future::or(pulls.no_room(), stopped).await {
                for uri in ready {
                    tools.postpone(&Part::Image(uri), &why);
                }
                continue;
            }
            let _active = Active::begin(&tools.board);
            run(&pulls, &ready).await;
            continue;
        }
        let now = tools.clock.now();
        let next = tools.board.look(|board| board.next_try(None, now));
        let time = async {
            match next {
                Some(at) => tools.clock.sleep_until(at).await,
                None => future::pending().await,
            }
        };
        let change = async {
            tools.board.newer(seen).await;
        };
        future::or(cancel.wait(), future::or(time, change)).await;
    }
}

/// The missing images that may be pulled now.
fn missing(tools: &Tools, wanted: &[ImageUri]) -> Vec<ImageUri> {
    let now = tools.clock.now();
    tools.board.look(|board| {
        let missing = wanted.iter().filter(|uri| !is_there(&board.device, uri));
        let may = |uri: &&ImageUri| {
            !board.is_waiting(&Part::Image((*uri).clone()), now) && !is_held(board, uri)
        };
        missing
            .filter(may)
            .take(limits::WINDOW_MAX)
            .cloned()
            .collect()
    })
}

/// Whether it is not to be downloaded yet, because everyone who wants it wants its old
/// container gone first (target-state 7.1). A lock in the way of that holds back no
/// download, unless the old image has to make room for it (FD-06).
fn is_held(board: &Board, uri: &ImageUri) -> bool {
    let mut users = 0;
    let mut held = 0;
    for (app, target) in board.target.iter().flat_map(|target| &target.apps) {
        let AppRelease::Wanted(_, release) = &target.release else {
            continue;
        };
        let mine = release.services.iter();
        for (service, wanted) in mine.filter(|(_, wanted)| wanted.image == *uri) {
            users += 1;
            let locked = board.locks_of(app).is_some_and(|app| app.refused.is_some());
            let waits = match wanted.strategy {
                Strategy::KillThenDownload => !locked,
                Strategy::DeleteThenDownload => true,
                Strategy::DownloadThenKill | Strategy::HandOver(_) => false,
            };
            let is_old = |found: &Container| {
                let image = found.identity.as_ref().map(|identity| &identity.image);
                found.service == *service && image.is_none_or(|image| !image.same_artifact(uri))
            };
            let found = board.device.apps.get(app);
            let has_old = found.is_some_and(|app| app.containers.values().any(is_old));
            let is_going = board.installing.contains(&(app.clone(), service.clone()));
            held += usize::from(waits && (has_old || is_going));
        }
    }
    users > 0 && held == users
}

async fn run(pulls: &Arc<Pulls>, ready: &[ImageUri]) {
    let then = ready
        .iter()
        .map(|uri| (uri.as_str().to_owned(), super::stage::THERE))
        .collect();
    let worker = Worker::new()
        .job(
            "/images/{uri}",
            create(pull).with_description(|Args(uri): Args<String>| format!("pull image '{uri}'")),
        )
        .resource(Job(pulls.clone()))
        .initial_state(Images { images: Map::new() });
    let then = ImagesTarget { images: then };
    let planned = worker.and_then(|worker| Ok((worker.find_workflow(&then)?, worker)));
    let (workflow, worker) = match planned {
        Ok((Some(workflow), worker)) => (workflow, worker),
        Ok((None, _)) => return no_plan(pulls, ready, "no plan was found"),
        Err(error) => return no_plan(pulls, ready, &error.to_string()),
    };
    log::info!("plan for images:");
    for line in workflow.to_string().lines() {
        log::info!("  {line}");
    }
    let mut events = std::pin::pin!(worker.run_workflow(workflow));
    while let Some(event) = events.next().await {
        if let Err(error) = event {
            return no_plan(pulls, ready, &error.to_string());
        }
    }
}

/// A mistake of ours; with the back-off it is at least not a busy one.
fn no_plan(pulls: &Pulls, ready: &[ImageUri], said: &str) {
    for uri in ready {
        pulls.tools.trouble(&Part::Image(uri.clone()), said);
    }
}

fn pull(
    mut view: View<Option<u8>>,
    Args(uri): Args<String>,
    job: Res<Job>,
) -> IO<Option<u8>, Stopped> {
    enforce!(view.is_none());
    *view = Some(super::stage::THERE);
    with_io(view, move |view| async move {
        if let (Some(Job(pulls)), Ok(uri)) = (job.as_ref(), ImageUri::parse(&uri)) {
            pulls.pull(&uri).await?;
        }
        Ok(view)
    })
}

impl Pulls {
    async fn pull(&self, uri: &ImageUri) -> Result<(), Stopped> {
        let part = Part::Image(uri.clone());
        let token = future::or(async { self.tokens.1.recv().await.is_ok() }, async {
            self.cancel.wait().await;
            false
        });
        if !token.await || self.cancel.is_set() {
            return Err(Stopped::Interrupted);
        }
        let pulled = future::or(self.pull_now(uri), async {
            self.cancel.wait().await;
            Pulled::Stopped
        });
        let pulled = pulled.await;
        let _ = self.tokens.0.try_send(());
        match pulled {
            Pulled::There(facts) => {
                log::info!("image '{uri}' is there");
                self.show(
                    uri,
                    Some(Image {
                        id: Some(facts.id),
                        progress: 100,
                        config: facts.config,
                    }),
                );
                self.tools.clear(&part);
                Ok(())
            }
            Pulled::NoRoom(why) => {
                self.tools.postpone(&part, &why);
                let doing = format!("pull image '{uri}'");
                Err(EngineError::new(Kind::Failed, doing, why).into())
            }
            Pulled::Failed(error) => {
                self.show(uri, None);
                self.tools.failed(&part, &error);
                Err(error.into())
            }
            Pulled::Stopped => {
                self.show(uri, None);
                Err(Stopped::Interrupted)
            }
        }
    }

    async fn pull_now(&self, uri: &ImageUri) -> Pulled {
        let is_gone = match self.tools.engine.image(uri).await {
            // Somebody else brought it.
            Ok(facts) => return Pulled::There(facts),
            // Whether it would be ours to remove one day is not known.
            Err(error) if error.kind == Kind::Unreachable => return Pulled::Failed(error),
            Err(error) => error.kind == Kind::Gone,
        };
        // Those before it in the plan may have filled the disk.
        if let Some(why) = self.no_room().await {
            return Pulled::NoRoom(why);
        }
        if is_gone {
            // Before it is there, so that no kill of the agent makes it nobody's.
            super::sweep::remember(&self.tools, uri).await;
        }
        log::info!("pulling image '{uri}'");
        match self.pull_here(uri).await {
            Ok(facts) => Pulled::There(facts),
            Err(error) => {
                if error.kind == Kind::Damaged {
                    super::repair::discard(&self.tools, uri, &error.said).await;
                }
                Pulled::Failed(error)
            }
        }
    }

    /// Why nothing is pulled now, if that is so (FD-07). What nobody needs any more goes first.
    async fn no_room(&self) -> Option<String> {
        let (tools, reserve) = (&self.tools, self.tools.disk_reserve);
        let mut free = self.free_bytes().await?;
        if free < reserve {
            super::sweep::sweep(tools).await;
            free = self.free_bytes().await?;
        }
        let is_full = free < reserve;
        let was_full = self.is_full.swap(is_full, Ordering::Relaxed);
        let why = is_full.then(|| {
            format!("the engine has {free} bytes free, less than the reserve of {reserve} bytes")
        });
        if let (Some(why), false) = (&why, was_full) {
            log::warn!(
                "no image is pulled: {why}; free some, or give a smaller --disk-reserve-mib"
            );
        }
        why
    }

    /// What is free where the engine keeps images, if that can be seen from here.
    async fn free_bytes(&self) -> Option<u64> {
        static UNSEEN: Once = Once::new();
        if self.tools.disk_reserve == 0 {
            return None;
        }
        // An engine that does not say is asked again with the next pull.
        let dir = self.tools.engine.data_root().await.ok()?;
        let free = dir.and_then(|dir| self.tools.host.free_bytes(&dir));
        if free.is_none() {
            UNSEEN.call_once(|| {
                log::info!("free space is not looked at: the engine's directory cannot be seen");
            });
        }
        free
    }

    async fn pull_here(&self, uri: &ImageUri) -> Result<ImageFacts, EngineError> {
        self.show(uri, Some(Image::default()));
        let progress = |percent| {
            log::debug!("image '{uri}': {percent} %");
            self.show(
                uri,
                Some(Image {
                    progress: percent,
                    ..Image::default()
                }),
            );
        };
        self.tools.engine.pull(uri, &progress).await?;
        // What counts is what the engine resolves the name to now (W-38).
        self.tools.engine.image(uri).await
    }

    fn show(&self, uri: &ImageUri, image: Option<Image>) {
        self.tools.board.change(|board| match image {
            Some(image) => drop(board.device.images.insert(uri.clone(), image)),
            None => drop(board.device.images.remove(uri)),
        });
    }
}
