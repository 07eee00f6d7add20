//! Planted failures, for tests and fuzzing: in other builds nothing of them is there.

use crate::{Phase, Result};

/// The failure planted into a writer.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    #[cfg(any(test, feature = "fuzz"))]
    pub(crate) next: Option<Phase>,
}

impl Faults {
    /// Fails once where a failure of this phase was planted.
    #[cfg(any(test, feature = "fuzz"))]
    pub(crate) fn at(&mut self, phase: Phase) -> Result<()> {
        if self.next != Some(phase) {
            return Ok(());
        }
        self.next = None;
        let what = format!("a planted failure at {}", phase.name());
        Err(icecore_rockstore::Error::Io { path: "planted".into(), op: "go on", what }.into())
    }

    #[cfg(not(any(test, feature = "fuzz")))]
    #[inline(always)]
    pub(crate) fn at(&mut self, _: Phase) -> Result<()> {
        Ok(())
    }
}

#[cfg(any(test, feature = "fuzz"))]
impl crate::HotChunk {
    /// Lets the next change that comes to this phase fail there: at [`Phase::Commit`] before the batch is written, at
    /// [`Phase::Apply`] after.
    pub fn plant_fault(&self, phase: Phase) {
        if let Ok(mut writer) = self.writer() {
            writer.faults.next = Some(phase);
        }
    }
}
