//! What this machine offers.

use super::Pending;
use crate::model::capability::Capability;

/// Looks at the machine.
pub trait Capabilities: Send + Sync {
    /// What is there right now, and what is not. Asks whoever has to be asked, nothing of it is
    /// kept; what does not answer in its time is not there.
    fn look(&self) -> Pending<'_, Vec<Capability>>;
}
