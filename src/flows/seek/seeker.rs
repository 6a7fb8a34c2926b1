//! What to do about a new target while an older one is being applied. Pure.
//!
//! D-17 and W-09: a changed target interrupts where it was asked to, or as soon
//! as an interrupt costs nothing; the same target again never interrupts work.

/// What goes with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Disregard update locks.
    pub force: bool,
    /// Interrupt what is under way.
    pub cancel: bool,
}

impl Options {
    /// Both requests' wishes (R-POLL-5).
    #[must_use]
    pub const fn or(self, other: Options) -> Options {
        Options {
            force: self.force || other.force,
            cancel: self.cancel || other.cancel,
        }
    }
}

/// What the driver is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Nothing, for now.
    Wait,
    /// The apply under way is for this very target and goes on, with these wishes too.
    Keep(Options),
    /// Ask the running apply to stop.
    Interrupt,
    /// Read the engine and apply the newest accepted target.
    Begin(Options),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Running {
    /// Nothing was ever applied, or the last apply was stopped.
    No,
    Yes,
    /// It was asked to stop and has not yet.
    Ending,
}

/// The machine.
#[derive(Debug)]
pub struct Seeker {
    running: Running,
    /// There is something newer than what runs, and what was wished with it.
    pending: Option<Options>,
}

impl Default for Seeker {
    fn default() -> Self {
        Seeker {
            running: Running::No,
            pending: None,
        }
    }
}

impl Seeker {
    /// A target was accepted: `changed` if it is another one than before. `busy`:
    /// plans are running right now.
    pub fn on_request(&mut self, options: Options, changed: bool, busy: bool) -> Order {
        if self.running == Running::Yes && self.pending.is_none() && !changed && busy {
            return Order::Keep(options);
        }
        self.pending = Some(self.pending.unwrap_or_default().or(options));
        self.next(busy)
    }

    /// The number of running plans changed.
    pub fn on_busy(&mut self, busy: bool) -> Order {
        self.next(busy)
    }

    /// The apply has stopped.
    pub fn on_ended(&mut self) -> Order {
        self.running = Running::No;
        self.next(false)
    }

    fn next(&mut self, busy: bool) -> Order {
        let Some(options) = self.pending else {
            return Order::Wait;
        };
        match self.running {
            Running::Ending => Order::Wait,
            Running::Yes if busy && !options.cancel => Order::Wait,
            Running::Yes => {
                self.running = Running::Ending;
                Order::Interrupt
            }
            Running::No => {
                self.pending = None;
                self.running = Running::Yes;
                Order::Begin(options)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Options = Options {
        force: false,
        cancel: false,
    };
    const CANCEL: Options = Options {
        force: false,
        cancel: true,
    };
    const FORCE: Options = Options {
        force: true,
        cancel: false,
    };

    fn running() -> Seeker {
        let mut seeker = Seeker::default();
        assert_eq!(seeker.on_request(PLAIN, true, false), Order::Begin(PLAIN));
        seeker
    }

    #[test]
    fn d_17_a_changed_target_that_cancels_interrupts() {
        let mut seeker = running();
        assert_eq!(seeker.on_request(CANCEL, true, true), Order::Interrupt);
        assert_eq!(seeker.on_busy(false), Order::Wait, "asked once");
        assert_eq!(seeker.on_ended(), Order::Begin(CANCEL));
    }

    #[test]
    fn d_17_the_same_target_does_not_kill_the_apply_under_way() {
        let mut seeker = running();
        assert_eq!(seeker.on_request(CANCEL, false, true), Order::Keep(CANCEL));
        assert_eq!(seeker.on_request(FORCE, false, true), Order::Keep(FORCE));
        assert_eq!(seeker.on_busy(false), Order::Wait);
    }

    #[test]
    fn the_same_target_again_is_read_and_tried_afresh_when_nothing_is_under_way() {
        let mut seeker = running();
        assert_eq!(seeker.on_request(FORCE, false, false), Order::Interrupt);
        assert_eq!(seeker.on_ended(), Order::Begin(FORCE));
    }

    #[test]
    fn without_cancel_a_changed_target_waits_until_it_costs_nothing() {
        let mut seeker = running();
        assert_eq!(seeker.on_request(PLAIN, true, true), Order::Wait);
        assert_eq!(seeker.on_busy(true), Order::Wait);
        assert_eq!(seeker.on_busy(false), Order::Interrupt);
        assert_eq!(seeker.on_ended(), Order::Begin(PLAIN));
    }

    #[test]
    fn w_09_wishes_add_up_and_one_apply_serves_them_all() {
        let mut seeker = running();
        assert_eq!(seeker.on_request(FORCE, true, true), Order::Wait);
        assert_eq!(seeker.on_request(CANCEL, true, true), Order::Interrupt);
        assert_eq!(seeker.on_request(PLAIN, true, true), Order::Wait);
        assert_eq!(
            seeker.on_ended(),
            Order::Begin(Options {
                force: true,
                cancel: true
            })
        );
        assert_eq!(seeker.on_ended(), Order::Wait);
    }
}
