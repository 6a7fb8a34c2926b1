//! The device's images: one planning problem beside those of the apps, so that a
//! slow pull holds up nothing but what needs it (FD-23).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once};

use async_executor::LocalExecutor;
use futures_lite::future;
use mahler::extract::{Args, Res, View};
use mahler::job::create;
use mahler::task::{IO, enforce, with_io};
use mahler::worker::Worker;

use super::board::{Board, Part};
use super::problem::{self, Ended, Parts};
use super::room::{Promise, Room};
use super::work::{Cancel, Stopped, Tools};
use crate::base::task;
use crate::limits;
use crate::model::ImageUri;
use crate::model::current::{Container, Image};
use crate::model::target::{AppRelease, DeviceTarget, Strategy};
use crate::world::engine::{EngineError, ImageFacts, Kind};

/// The lane, and the resource of the jobs.
struct Pulls {
    tools: Tools,
    /// One token for each pull that may run.
    tokens: (async_channel::Sender<()>, async_channel::Receiver<()>),
    /// The last look found too little room.
    is_full: AtomicBool,
    room: Room,
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

/// For as long as a pull runs, however it ends.
struct Token<'p>(&'p async_channel::Sender<()>);

impl Drop for Token<'_> {
    fn drop(&mut self) {
        let _ = self.0.try_send(());
    }
}

/// Whether an image is there, by what the last look at the engine said.
pub fn is_there(device: &crate::model::current::Device, uri: &ImageUri) -> bool {
    device
        .images
        .get(uri)
        .is_some_and(|image| image.id.is_some())
}

/// What the lane acts on: a target, and the images it names.
#[derive(Default)]
struct Wanted {
    target: Option<Arc<DeviceTarget>>,
    images: Vec<ImageUri>,
}

/// Pulls what is missing of the target's images, now and whenever something of it disappears,
/// until it is time to stop.
///
/// It outlives the applies: an engine throws away the layers of a pull that is broken off, so
/// one that a newer target still wants goes on (FD-12).
pub async fn lane(tools: Tools, stop: Arc<Cancel>) {
    let tokens = async_channel::bounded(tools.pulls_max.max(1));
    for _ in 0..tools.pulls_max {
        let _ = tokens.0.try_send(());
    }
    let pulls = Arc::new(Pulls {
        tools,
        tokens,
        is_full: AtomicBool::new(false),
        room: Room::default(),
    });
    let executor = LocalExecutor::new();
    let board = &pulls.tools.board;
    let orderly = async {
        future::or(stop.wait(), pulls.keep(&executor)).await;
        pulls.give_up("the agent stops", |_| true);
        let mut seen = 0;
        while board.look(|board| !board.pulls.is_empty()) {
            seen = board.newer(seen).await;
        }
    };
    executor.run(orderly).await;
}

impl Pulls {
    /// Begins pulls and gives up those that nobody wants any more, for ever.
    async fn keep(self: &Arc<Pulls>, executor: &LocalExecutor<'_>) {
        let tools = &self.tools;
        let mut wanted = Wanted::default();
        loop {
            let seen = tools.board.version();
            let ready = self.ready(&mut wanted);
            if !ready.is_empty() {
                // Before a plan is made and told, each time.
                if let Some(why) = self.no_room().await {
                    for uri in ready {
                        tools.postpone(&Part::Image(uri), &why);
                    }
                    continue;
                }
                self.begin(ready, executor);
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
            future::or(time, change).await;
        }
    }

    /// Plans some pulls and lets them run beside what runs.
    fn begin(self: &Arc<Pulls>, ready: Vec<ImageUri>, executor: &LocalExecutor<'_>) {
        let new = ready.iter().map(|uri| (uri.clone(), Arc::default()));
        let new: Vec<(_, Arc<Cancel>)> = new.collect();
        let in_hand = new.iter().cloned();
        self.tools.board.change(|board| board.pulls.extend(in_hand));
        let pulls = self.clone();
        let planned = async move {
            run(&pulls, &ready).await;
            // What no job ever took up. The next try of another may be under way.
            pulls.tools.board.change(|board| {
                let is_new = |uri: &_, cancel: &_| {
                    let is_it = |(new, its): &(ImageUri, _)| new == uri && Arc::ptr_eq(its, cancel);
                    new.iter().any(is_it)
                };
                board.pulls.retain(|uri, cancel| !is_new(uri, cancel));
            });
        };
        task::spawn(executor, planned).detach();
    }

    /// Stops the pulls of what is so.
    fn give_up(&self, why: &str, is_so: impl Fn(&ImageUri) -> bool) {
        let pulls = self.tools.board.look(|board| board.pulls.clone());
        for (uri, cancel) in pulls.iter().filter(|(uri, _)| is_so(uri)) {
            log::info!("the pull of image '{uri}' is given up: {why}");
            cancel.set();
        }
    }

    /// The missing images whose pulls may begin now. Takes up a changed target, once its apply
    /// has read the engine.
    fn ready(&self, wanted: &mut Wanted) -> Vec<ImageUri> {
        let board = &self.tools.board;
        let is_open = |board: &Board| board.is_read && !board.is_preparing;
        let target = board.look(|board| is_open(board).then(|| board.target.clone()).flatten());
        let Some(target) = target else {
            return Vec::new();
        };
        if !(wanted.target.as_ref()).is_some_and(|known| Arc::ptr_eq(known, &target)) {
            let images = super::sweep::wanted(&target);
            self.give_up("no target names it now", |uri| !images.contains(uri));
            self.room.forget();
            *wanted = Wanted {
                target: Some(target),
                images: images.into_iter().collect(),
            };
        }
        let now = self.tools.clock.now();
        board.look(|board| {
            // Those in hand have a plan already, whose queue is to be short.
            if board.pulls.len() >= self.tools.pulls_max {
                return Vec::new();
            }
            let may = |uri: &&ImageUri| {
                !is_there(&board.device, uri)
                    && !board.pulls.contains_key(*uri)
                    && !board.is_waiting(&Part::Image((*uri).clone()), now)
                    && !is_held(board, uri)
            };
            let ready = wanted.images.iter().filter(may);
            ready.take(limits::WINDOW_MAX).cloned().collect()
        })
    }
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
    let images = ready
        .iter()
        .map(|uri| (uri.to_string(), super::stage::THERE));
    let then = Parts {
        images: images.collect(),
        ..Parts::default()
    };
    let domain = Worker::new()
        .job(
            "/images/{uri}",
            create(pull).with_description(|Args(uri): Args<String>| format!("pull image '{uri}'")),
        )
        .resource(Job(pulls.clone()));
    if let Ended::NoPlan(said) = problem::run("images", domain, Parts::default(), then).await {
        // A mistake of ours; with the back-off it is at least not a busy one.
        for uri in ready {
            pulls.tools.trouble(&Part::Image(uri.clone()), &said);
        }
    }
}

async fn stopped(cancel: &Cancel) -> Pulled {
    cancel.wait().await;
    Pulled::Stopped
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
        let board = &self.tools.board;
        let Some(cancel) = board.look(|board| board.pulls.get(uri).cloned()) else {
            return Err(Stopped::Interrupted);
        };
        let part = Part::Image(uri.clone());
        let pulled = async {
            let _token = self.token().await;
            self.pull_now(uri).await
        };
        match future::or(stopped(&cancel), pulled).await {
            Pulled::There(facts) => {
                log::info!("image '{uri}' is there");
                let image = Image {
                    id: Some(facts.id),
                    progress: 100,
                    config: facts.config,
                };
                self.end(uri, Some(image));
                self.tools.clear(&part);
                Ok(())
            }
            Pulled::NoRoom(why) => {
                self.tools.postpone(&part, &why);
                self.end(uri, None);
                let doing = format!("pull image '{uri}'");
                Err(EngineError::new(Kind::Failed, doing, why).into())
            }
            Pulled::Failed(error) => {
                self.tools.failed(&part, &error);
                self.end(uri, None);
                Err(error.into())
            }
            Pulled::Stopped => {
                self.end(uri, None);
                // What it was pulled for may be clean-up's at once.
                board.change(|board| board.plans += 1);
                Err(Stopped::Interrupted)
            }
        }
    }

    /// Waits until one more pull may run.
    async fn token(&self) -> Token<'_> {
        let _ = self.tokens.1.recv().await;
        Token(&self.tokens.0)
    }

    async fn pull_now(&self, uri: &ImageUri) -> Pulled {
        let is_gone = match self.tools.engine.image(uri).await {
            // Somebody else brought it.
            Ok(facts) => return Pulled::There(facts),
            Err(error) if error.kind == Kind::Gone => true,
            Err(error) if error.kind == Kind::Damaged => false,
            // Pulled without knowing, it would be nobody's to remove.
            Err(error) => return Pulled::Failed(error),
        };
        // Those before it in the plan may have filled the disk.
        if let Some(why) = self.no_room().await {
            return Pulled::NoRoom(why);
        }
        let promise = match self.promise(uri).await {
            Ok(promise) => promise,
            Err(why) => return Pulled::NoRoom(why),
        };
        if is_gone {
            // Before it is there, so that no kill of the agent makes it nobody's.
            super::sweep::remember(&self.tools, uri).await;
        }
        log::info!("pulling image '{uri}'");
        match self.pull_here(uri, promise.as_ref()).await {
            Ok(facts) => Pulled::There(facts),
            Err(error) => {
                if error.kind == Kind::Damaged {
                    let is_again = self.tools.board.look(|board| {
                        let trouble = board.troubles.get(&Part::Image(uri.clone()));
                        trouble.is_some_and(|trouble| trouble.backoff.failures() > 0)
                    });
                    super::repair::discard(&self.tools, uri, &error.said, is_again).await;
                } else {
                    self.disown(uri, &error).await;
                }
                Pulled::Failed(error)
            }
        }
    }

    /// After a pull that failed: one that somebody loads by hand from now on is not ours to
    /// remove (FD-09). Where no answer came, it may still become there by our doing.
    async fn disown(&self, uri: &ImageUri, error: &EngineError) {
        if error.kind == Kind::Unreachable {
            return;
        }
        let found = self.tools.engine.image(uri).await;
        if found.is_err_and(|error| error.kind == Kind::Gone) {
            super::sweep::forget(&self.tools, uri).await;
        }
    }

    /// Room for a pull, if it can be seen; or why there is too little (FD-07).
    async fn promise(&self, uri: &ImageUri) -> Result<Option<Promise<'_>>, String> {
        let Some(free) = self.free_bytes().await else {
            return Ok(None);
        };
        let needed = self.room.needed(&self.tools, uri, free).await;
        // Anew: a registry may have taken its time to answer.
        let Some(free) = self.free_bytes().await else {
            return Ok(None);
        };
        let reserve = self.tools.disk_reserve;
        self.room.promise(uri, needed, (free, reserve)).map(Some)
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

    async fn pull_here(
        &self,
        uri: &ImageUri,
        promise: Option<&Promise<'_>>,
    ) -> Result<ImageFacts, EngineError> {
        self.show(uri, Image::default());
        let progress = |percent| {
            if let Some(promise) = promise {
                promise.is_used(percent);
            }
            log::debug!("image '{uri}': {percent} %");
            let image = Image {
                progress: percent,
                ..Image::default()
            };
            self.show(uri, image);
        };
        self.tools.engine.pull(uri, &progress).await?;
        // What counts is what the engine resolves the name to now (W-38).
        self.tools.engine.image(uri).await
    }

    fn show(&self, uri: &ImageUri, image: Image) {
        self.tools
            .board
            .change(|board| board.device.images.insert(uri.clone(), image));
    }

    /// A pull is over.
    fn end(&self, uri: &ImageUri, image: Option<Image>) {
        self.tools.board.change(|board| {
            board.pulls.remove(uri);
            // A read that was under way knows nothing of it.
            board.touched += 1;
            match image {
                Some(image) => drop(board.device.images.insert(uri.clone(), image)),
                None => drop(board.device.images.remove(uri)),
            }
        });
    }
}
