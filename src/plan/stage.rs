//! How far a service is, in one byte.
//!
//! The planner copies its state and its target into every action, so what it
//! sees of a service is this number and nothing else (planner-memory.md).

/// The way of one service to its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stage {
    /// How far the container that the target asks for is.
    pub step: Step,
    /// Other containers of the service exist.
    pub others: bool,
    /// One of them runs.
    pub others_run: bool,
}

/// How far the container that the target asks for is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// There is none.
    Missing,
    /// It exists under the name of another release.
    Misnamed,
    /// The same, and it does what it should.
    MisnamedSettled,
    /// It exists under its name.
    Ready,
    /// It does what it should.
    Settled,
}

const STEPS: [Step; 5] = [
    Step::Missing,
    Step::Misnamed,
    Step::MisnamedSettled,
    Step::Ready,
    Step::Settled,
];

impl Stage {
    /// Nothing is left to do.
    pub const DONE: Stage = Stage {
        step: Step::Settled,
        others: false,
        others_run: false,
    };

    /// As the planner stores it.
    #[must_use]
    pub const fn to_byte(self) -> u8 {
        (self.step as u8) << 2 | (self.others as u8) << 1 | self.others_run as u8
    }

    /// From what the planner stored; `None` for a number that means nothing.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Stage> {
        let step = *STEPS.get(usize::from(byte >> 2))?;
        Some(Stage {
            step,
            others: byte & 2 != 0,
            others_run: byte & 1 != 0,
        })
    }
}

/// A network as the planner sees it.
pub mod network {
    /// There, and made from another configuration than the target's.
    pub const STALE: u8 = 1;
    /// There, as the target asks.
    pub const RIGHT: u8 = 2;
}

/// Volumes and images are there or not.
pub const THERE: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_survives_its_byte() {
        for step in STEPS {
            for flags in 0..4_u8 {
                let stage = Stage {
                    step,
                    others: flags & 2 != 0,
                    others_run: flags & 1 != 0,
                };
                assert_eq!(Stage::from_byte(stage.to_byte()), Some(stage));
            }
        }
        assert_eq!(Stage::from_byte(200), None);
    }
}
