//! The pins say which format the frozen files have. Before that there was one format.

use crate::pins::FORMAT;

use super::super::{MigError, Runner, Scheduled};

/// The name of the migration that adds `config:format`.
pub const PINS_FORMAT: &str = "pins-format-1";

/// The format of all files that were frozen before it was recorded, whatever this program writes now.
const FIRST_FORMAT: &str = "1";

pub(super) fn schedule(runner: &Runner) -> Result<Scheduled, MigError> {
    runner.schedule(PINS_FORMAT, |ctx| {
        ctx.write(|rows, changes| {
            if rows.get(FORMAT.as_bytes())?.is_none() {
                changes.put(FORMAT, FIRST_FORMAT);
            }
            Ok(())
        })
    })
}
