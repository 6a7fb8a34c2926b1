//! What drives everything, on one thread (D-03).
//!
//! There are two ways to wait for the next event:
//!
//! | | waits in | an event costs |
//! |---|---|---|
//! | at leisure | the planner's runtime | two threads: that of `async-io`, which wakes this one |
//! | in haste | the reactor itself | this thread alone, but `async-io`'s looks on for some 20 ms, ten times |
//!
//! So the first is for an event now and then, and the second for many: a proxied request costs
//! half in it. Tasks of the planner run in the first only.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Instant;

use tokio::runtime::Runtime;

use crate::limits;

/// Which way it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    Leisure,
    Haste,
}

/// Events of late.
#[derive(Debug)]
struct Meter {
    pace: Pace,
    since: Instant,
    events: u32,
}

impl Meter {
    fn new(now: Instant) -> Meter {
        Meter {
            pace: Pace::Leisure,
            since: now,
            events: 0,
        }
    }

    /// An event; the way to wait for the next one.
    fn event(&mut self, now: Instant, is_planning: bool) -> Pace {
        let lasted = now.saturating_duration_since(self.since);
        if lasted >= limits::HASTE_SPAN {
            // After a silence the span is longer, and proves nothing.
            let is_much = self.events >= limits::HASTE_EVENTS && lasted < limits::HASTE_SPAN * 2;
            self.pace = if is_much { Pace::Haste } else { Pace::Leisure };
            (self.since, self.events) = (now, 0);
        }
        self.events = self.events.saturating_add(1);
        if is_planning {
            self.pace = Pace::Leisure;
        }
        self.pace
    }
}

/// Runs `work` to its end; what the planner spawns runs on `runtime` meanwhile.
pub fn drive(runtime: &Runtime, work: impl Future<Output = ()>) {
    let mut work = pin!(work);
    let mut meter = Meter::new(Instant::now());
    // What is spawned in haste goes there too, and ends the haste.
    let _entered = runtime.enter();
    loop {
        let pace = meter.pace;
        let turn = turn(runtime, work.as_mut(), &mut meter);
        let is_done = match pace {
            Pace::Leisure => runtime.block_on(turn),
            Pace::Haste => async_io::block_on(turn),
        };
        if is_done {
            return;
        }
    }
}

/// Ends with `work`, `true`, or when it has to be waited for another way.
async fn turn(
    runtime: &Runtime,
    mut work: Pin<&mut dyn Future<Output = ()>>,
    meter: &mut Meter,
) -> bool {
    let before = meter.pace;
    poll_fn(|cx| {
        if work.as_mut().poll(cx).is_ready() {
            return Poll::Ready(true);
        }
        let is_planning = runtime.metrics().num_alive_tasks() > 0;
        match meter.event(Instant::now(), is_planning) == before {
            true => Poll::Pending,
            // Whoever waits is polled again at once, and then wakes the other way.
            false => Poll::Ready(false),
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// So many events, so far apart.
    fn events(meter: &mut Meter, now: &mut Instant, count: u32, apart: Duration) -> Pace {
        for _ in 0..count {
            *now += apart;
            meter.event(*now, false);
        }
        meter.pace
    }

    #[test]
    fn d_03_many_events_are_waited_for_in_haste_and_few_at_leisure() {
        let mut now = Instant::now();
        let mut meter = Meter::new(now);
        let ms = Duration::from_millis;
        assert_eq!(events(&mut meter, &mut now, 1000, ms(20)), Pace::Leisure);
        assert_eq!(events(&mut meter, &mut now, 300, ms(1)), Pace::Haste);
        assert_eq!(
            events(&mut meter, &mut now, 1, ms(5000)),
            Pace::Leisure,
            "after a silence"
        );
        assert_eq!(events(&mut meter, &mut now, 300, ms(1)), Pace::Haste);
        assert_eq!(
            events(&mut meter, &mut now, 20, ms(20)),
            Pace::Leisure,
            "it calms down"
        );
        assert_eq!(events(&mut meter, &mut now, 300, ms(1)), Pace::Haste);
        assert_eq!(
            meter.event(now, true),
            Pace::Leisure,
            "the planner's tasks wait"
        );
    }

    #[test]
    fn d_04_in_haste_the_planner_s_tasks_run_too() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let mut done = 0;
        drive(&runtime, async {
            for round in 0..3 {
                // Until it is in haste.
                let end = Instant::now() + limits::HASTE_SPAN * 3;
                while Instant::now() < end {
                    async_io::Timer::after(Duration::from_micros(100)).await;
                }
                let (tell, told) = async_channel::bounded(1);
                tokio::task::spawn(async move {
                    tokio::task::yield_now().await;
                    async_io::Timer::after(Duration::from_millis(1)).await;
                    tell.send(round).await.unwrap();
                });
                assert_eq!(told.recv().await.unwrap(), round);
                done += 1;
            }
        });
        assert_eq!(done, 3);
    }
}
