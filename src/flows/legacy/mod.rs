//! Hands targets to the legacy supervisor and waits until it has settled: the driver of
//! [`settler`]. Whatever that one does, nothing else of this agent waits for it.

use std::sync::Arc;
use std::time::Duration;

use futures_lite::future;

use crate::limits;
use crate::model::status::UpdateStatus;
use crate::plan::work::Tools;
use crate::world::Pending;
use crate::world::legacy::{Legacy, LegacyError, Told};

pub mod back;
pub mod desk;
pub mod settler;
pub mod transfer;

use desk::{Desk, Offer};
use settler::{Became, Order, Settler};

const APPLIES: &str = "the legacy supervisor applies the target";

/// What the driver needs.
pub struct Handing {
    /// Its local API.
    pub legacy: Arc<dyn Legacy>,
    /// Where it fetches its target.
    pub desk: Arc<Desk>,
    /// Clock and board.
    pub tools: Tools,
    /// It is not waited for any longer to apply a target (R-TRG-8).
    pub settle_limit: Option<Duration>,
}

/// What a call came to.
enum Answer {
    Told(Result<Told, LegacyError>),
    Looked(Result<bool, LegacyError>),
    Time,
}

enum Event {
    Offer(Offer),
    Answer(Answer),
}

/// Never ends.
pub async fn run(handing: Handing) {
    let mut flow = Flow {
        waiting: None,
        settler: Settler::new(handing.tools.clock.now(), handing.settle_limit),
        with: handing,
        said: String::new(),
    };
    let (legacy, clock) = (flow.with.legacy.clone(), flow.with.tools.clock.clone());
    let (legacy, clock, desk) = (&legacy, &clock, flow.with.desk.clone());
    let mut under_way: Option<(Order, Pending<'_, Answer>)> = None;
    loop {
        let order = flow.settler.order(clock.now());
        // A call goes on while it is the one that is wanted; else it is given up (R-TRG-2).
        if under_way.as_ref().is_none_or(|(what, _)| *what != order) {
            let call: Pending<'_, Answer> =
                match order {
                    Order::Rest => Box::pin(future::pending()),
                    Order::Wait(until) => Box::pin(async move {
                        clock.sleep_until(until).await;
                        Answer::Time
                    }),
                    Order::Trigger(wish) => Box::pin(async move {
                        Answer::Told(legacy.update(wish.force, wish.cancel).await)
                    }),
                    Order::Look => Box::pin(async { Answer::Looked(legacy.is_applied().await) }),
                };
            under_way = Some((order, call));
        }
        let event = {
            let answer = async {
                match &mut under_way {
                    Some((_, call)) => Event::Answer(call.await),
                    None => future::pending().await,
                }
            };
            let offer = async { Event::Offer(desk.next().await) };
            future::or(offer, answer).await
        };
        match event {
            Event::Offer(offer) => flow.offered(offer),
            Event::Answer(answer) => {
                under_way = None;
                flow.answered(answer);
            }
        }
    }
}

struct Flow {
    with: Handing,
    settler: Settler,
    /// It waits until the former target is applied.
    waiting: Option<Offer>,
    /// The last failure in words: the same one is news only once.
    said: String,
}

impl Flow {
    fn offered(&mut self, mut offer: Offer) {
        let (now, desk) = (self.with.tools.clock.now(), &self.with.desk);
        if let Some(waiting) = self.waiting.take().filter(|_| offer.hash.is_none()) {
            let options = waiting.options.or(offer.options);
            offer = Offer { options, ..waiting };
        }
        if offer.hash.is_none() && desk.is_empty() {
            return self.say(UpdateStatus::Done, "");
        }
        let is_same = offer.hash.is_none() || offer.hash == desk.shown();
        let is_fetched = is_same && desk.is_fetched();
        if !self.settler.on_target(now, offer.options, is_fetched) {
            log::info!("a target waits until the legacy supervisor has applied the former");
            self.waiting = Some(offer);
            return;
        }
        desk.show(offer);
        self.begun();
    }

    /// Says where we are, once there is something to be done.
    fn begun(&self) {
        match self.settler.order(self.with.tools.clock.now()) {
            Order::Rest => self.say(UpdateStatus::Done, ""),
            Order::Trigger(_) => {
                log::info!("a target is handed to the legacy supervisor");
                let why = "a target is handed to the legacy supervisor";
                self.say(UpdateStatus::ApplyingChanges, why);
            }
            Order::Wait(_) | Order::Look => self.say(UpdateStatus::ApplyingChanges, APPLIES),
        }
    }

    fn answered(&mut self, answer: Answer) {
        let now = self.with.tools.clock.now();
        let became = match answer {
            Answer::Time => return,
            Answer::Told(Ok(told)) => Ok(self.settler.on_told(now, told)),
            Answer::Looked(Ok(applied)) => {
                let is_fetched = self.with.desk.is_fetched();
                Ok(self.settler.on_looked(now, applied, is_fetched))
            }
            Answer::Told(Err(error)) | Answer::Looked(Err(error)) => Err(error),
        };
        match became {
            Ok(became) => {
                if !std::mem::take(&mut self.said).is_empty() {
                    log::info!("the legacy supervisor answers again");
                }
                self.became(became);
            }
            Err(error) => self.failed(&error),
        }
        if self.settler.gives_up(now) {
            let limit = self.with.settle_limit.unwrap_or_default().as_millis();
            let why = format!("the legacy supervisor has not applied the target in {limit} ms");
            log::warn!("{why}, and is not waited for any longer");
            self.say(UpdateStatus::Aborted, &why);
            self.next();
        }
    }

    /// Lays out what waited for the former; whether there was something.
    fn next(&mut self) -> bool {
        let now = self.with.tools.clock.now();
        let Some((options, offer)) = self.settler.queued().zip(self.waiting.take()) else {
            return false;
        };
        self.settler.on_target(now, options, false);
        self.with.desk.show(offer);
        self.begun();
        true
    }

    fn became(&mut self, became: Became) {
        match became {
            Became::Underway => self.say(UpdateStatus::ApplyingChanges, APPLIES),
            Became::Deferred => self.say(
                UpdateStatus::ApplyingChanges,
                "the legacy supervisor has deferred the target: instant updates are off",
            ),
            Became::Settled => {
                log::info!("the legacy supervisor has applied the target");
                if !self.next() {
                    self.say(UpdateStatus::Done, "");
                    self.with.desk.is_applied();
                }
            }
        }
    }

    fn failed(&mut self, error: &LegacyError) {
        let now = self.with.tools.clock.now();
        let (delay, failing) = self.settler.on_failed(now, error.kind, fastrand::f64());
        let secs = delay.as_secs();
        if error.said == self.said {
            log::debug!("the legacy supervisor: {error}; next try in {secs} s");
        } else {
            log::warn!("the legacy supervisor: {error}; next try in {secs} s");
            self.said.clone_from(&error.said);
        }
        let for_long = match failing >= limits::LEGACY_DEGRADED {
            true => " for more than five minutes",
            false => "",
        };
        let why = format!("the legacy supervisor fails{for_long}: {error}");
        self.say(UpdateStatus::ApplyingChanges, &why);
    }

    fn say(&self, status: UpdateStatus, why: &str) {
        let tools = &self.with.tools;
        self.with
            .desk
            .say(&tools.board, tools.clock.now(), (status, why));
    }
}
