//! Asks the backend for the target: the driver of [`poller`].

use std::sync::Arc;

use futures_lite::future;

use crate::base::latest::Latest;
use crate::base::uptime::Uptime;
use crate::flows::contract_facts;
use crate::flows::rest::Rest;
use crate::flows::seek::Mailbox;
use crate::flows::seek::local;
use crate::flows::seek::seeker::Options;
use crate::intake;
use crate::model::status::UpdateStatus;
use crate::model::target::{DeviceTarget, HostTarget};
use crate::plan::board::Board;
use crate::plan::work::Tools;
use crate::world::Pending;
use crate::world::engine::HostFacts;
use crate::world::remote::{Polled, Remote, RemoteError, RemoteKind};

pub mod poller;

use poller::{Answer, Ask, Poller, Timing};

/// Where requests to poll now are handed in.
#[derive(Default)]
pub struct Trigger(Latest<Option<Ask>>);

impl Trigger {
    /// Polls as soon as allowed, and hands the target on in any case.
    pub fn pull(&self, options: Options) {
        self.ask(Ask {
            reemit: true,
            options,
            ..Ask::default()
        });
    }

    /// Polls as soon as allowed, to see whether the backend still knows this device.
    pub fn verify(&self) {
        self.ask(Ask {
            in_full: true,
            ..Ask::default()
        });
    }

    fn ask(&self, ask: Ask) {
        self.0
            .change(|wish| *wish = Some(poller::merge(wish.unwrap_or_default(), ask)));
    }

    /// Whether there is a request that nobody has taken yet.
    #[must_use]
    pub fn is_pulled(&self) -> bool {
        self.0.look(Option::is_some)
    }

    /// Whether there was a request later than the one of this number.
    #[must_use]
    pub fn is_newer(&self, seen: u64) -> bool {
        self.0.version() > seen
    }

    /// Ends with a request later than the one of this number, which it returns; the
    /// request stays where it is.
    pub async fn pulled(&self, seen: u64) -> u64 {
        self.0.newer(seen).await
    }
}

/// Who gets the backend's documents in place of this agent, while user apps are not its own
/// (D-08).
pub trait Taker: Send + Sync {
    /// Takes a document that was given to the cache, as far as that was possible.
    fn take<'a>(&'a self, document: &'a Arc<[u8]>, options: Options) -> Pending<'a, ()>;

    /// The last one is meant once more.
    fn again(&self, options: Options);

    /// Nobody waits for the backend any more: puts on the board what the status is.
    fn answered(&self, board: &Latest<Board>, now: Uptime);

    /// The board is another one: the host's part of the status may be.
    fn changed(&self, board: &Latest<Board>, now: Uptime);
}

/// What the driver needs.
pub struct Poll {
    /// The backend.
    pub remote: Arc<dyn Remote>,
    /// Requests to poll now.
    pub trigger: Arc<Trigger>,
    /// Where targets go.
    pub mailbox: Arc<Mailbox>,
    /// Time, store and board.
    pub tools: Tools,
    /// This device's uuid.
    pub uuid: String,
    /// When to poll.
    pub timing: Timing,
    /// A target of a former run is being applied.
    pub has_cached: bool,
    /// Who gets them instead of the mailbox.
    pub taker: Option<Arc<dyn Taker>>,
}

enum Event {
    Request(Ask),
    Answer(Result<Polled, RemoteError>),
    Time,
}

/// Runs until it is dropped.
pub async fn run(poll: Poll) {
    let clock = poll.tools.clock.clone();
    let mut poller = Poller::new(poll.timing, clock.now(), poll.has_cached);
    if let Some(target) = poll.tools.board.look(|board| board.target.clone()) {
        poller.on_told(target.knobs.poll_interval);
    }
    let mut in_flight = None;
    let mut said = String::new();
    let mut rest = Rest::new(clock.now());
    loop {
        let wake_at = poller.wake_at().min(rest.wake_at());
        let event = {
            let answer = async {
                match &mut in_flight {
                    Some(call) => Event::Answer(call.await),
                    None => future::pending().await,
                }
            };
            let request = async { Event::Request(poll.trigger.0.take().await) };
            let time = async {
                clock.sleep_until(wake_at).await;
                Event::Time
            };
            // An answer that is there is never dropped for a trigger (R-POLL-5).
            future::or(answer, future::or(request, time)).await
        };
        match event {
            Event::Request(ask) => poller.on_request(clock.now(), ask),
            Event::Answer(answer) => {
                in_flight = None;
                rest.stir(clock.now());
                let (answer, document) = poll.judge(answer, &mut said);
                let emit = poller.on_answer(clock.now(), answer, fastrand::f64());
                poll.hand_on(&mut poller, document, emit).await;
                // Who asked while the answer was read is still to be served.
                if !poller.is_wanted() && !poll.trigger.is_pulled() {
                    match &poll.taker {
                        Some(taker) => taker.answered(&poll.tools.board, clock.now()),
                        None => answered(&poll.tools.board, clock.now()),
                    }
                }
            }
            Event::Time => {}
        }
        rest.on_time(clock.now());
        if let Some(ask) = poller.on_time(clock.now()) {
            rest.stir(clock.now());
            if ask.in_full {
                poll.remote.doubt();
            }
            in_flight = Some(poll.remote.poll());
        }
    }
}

/// Nobody waits for the backend any more: what a user who asked for a poll was told about the
/// status is over (D-17). The flow that seeks a target says what it is, if there is one.
pub(super) fn answered(board: &Latest<Board>, now: Uptime) {
    board.change_if(|board| {
        let was_asking = std::mem::take(&mut board.is_asking);
        let is_idle = board.target.is_none() && board.status == UpdateStatus::ApplyingChanges;
        if was_asking && is_idle {
            board.set_status(now, UpdateStatus::default(), None);
        }
        was_asking
    });
}

impl Poll {
    /// What an answer means for the machine; the log line that goes with it. The same
    /// failure is one line, however often it comes (S-POLL-14, S-NET-31).
    fn judge(
        &self,
        answer: Result<Polled, RemoteError>,
        said: &mut String,
    ) -> (Answer, Option<Arc<[u8]>>) {
        let (answer, document, failure) = match answer {
            Ok(Polled::Changed(document)) => (Answer::Changed, Some(document), None),
            Ok(Polled::Unchanged) => (Answer::Unchanged, None, None),
            Ok(Polled::UnknownDevice) => {
                let text = "the backend does not know this device (deleted or frozen); \
                            what runs goes on";
                (Answer::Refused, None, Some(text.to_owned()))
            }
            Err(error) => {
                let answer = match error.kind {
                    RemoteKind::Later(wish) => Answer::Later(wish),
                    _ => Answer::Refused,
                };
                (answer, None, Some(error.said))
            }
        };
        match failure {
            None if said.is_empty() => log::debug!("poll: {answer:?}"),
            None => {
                log::info!("poll: the backend answers again");
                self.tell(None);
                said.clear();
            }
            Some(text) if text == *said => log::debug!("poll: {text}"),
            Some(text) => {
                log::warn!("poll: {text}");
                self.tell(Some(text.as_str().into()));
                *said = text;
            }
        }
        (answer, document)
    }

    /// Puts on the board why there is no answer.
    fn tell(&self, why: Option<Arc<str>>) {
        self.tools.board.change(|board| board.backend_down = why);
    }

    async fn hand_on(&self, poller: &mut Poller, document: Option<Arc<[u8]>>, emit: Option<Ask>) {
        let Some(Ask {
            options, reemit, ..
        }) = emit
        else {
            return;
        };
        let Some(document) = document else {
            return match &self.taker {
                Some(taker) => taker.again(options),
                None => self.mailbox.again(options),
            };
        };
        match read(&document, &self.uuid, &self.tools.facts) {
            Ok(target) => {
                poller.on_told(target.knobs.poll_interval);
                if poller.is_slower_than_told() {
                    log::warn!("the configured poll interval is longer than the backend expects");
                }
                // Only what can be read is worth keeping for the next start (FD-25).
                self.remote.keep(&document).await;
                if let Some(taker) = &self.taker {
                    beside(&self.tools.board, target.host, options.force);
                    return taker.take(&document, options).await;
                }
                let is_known = self.tools.board.look(|board| {
                    board.refused.is_none() && board.target.as_deref() == Some(&target)
                });
                // Other bytes that say the same interrupt nothing (R-POLL-8).
                if is_known && !reemit {
                    return;
                }
                local::forget(&self.tools).await;
                self.mailbox.remote(target, options);
            }
            Err(why) if let Some(taker) = &self.taker => {
                log::warn!("the target is handed on as it is: {why}");
                taker.take(&document, options).await;
            }
            Err(why) => {
                log::error!("the target cannot be read, what runs goes on: {why}");
                self.mailbox.refused(&why);
            }
        }
    }
}

/// Keeps what the target says of the host, where the rest of it is left to somebody else (D-08).
pub fn beside(board: &Latest<Board>, host: Option<HostTarget>, force: bool) {
    board.change(|board| {
        board.host.beside = host.map(Arc::new);
        // Whoever gets the rest has just begun.
        board.host.is_beside_busy = true;
        board.host.is_forced = force;
    });
}

/// Reads a target document and logs what is wrong with parts of it.
///
/// # Errors
/// Why the document as a whole is no target for this device.
pub fn read(document: &[u8], uuid: &str, host: &HostFacts) -> Result<DeviceTarget, String> {
    let read = intake::device_target_for(document, uuid, &contract_facts(host))
        .map_err(|refusal| refusal.to_string())?;
    for warning in &read.warnings {
        log::warn!("target: {warning}");
    }
    for (uuid, rejection) in &read.value.refused_hosts {
        let why = &rejection.reasons;
        log::warn!("the host app '{uuid}' is refused, the host keeps its release: {why}");
    }
    Ok(read.value)
}
