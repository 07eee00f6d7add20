//! The catalog's own migrations. How to write one: `docs/migrations.md`.

use std::sync::Arc;

use crate::Catalog;

use super::{MigError, Runner, Scheduled};

mod pins_format;

pub use pins_format::PINS_FORMAT;

/// Schedules what an open catalog still lacks, and returns at once.
pub fn start(catalog: &Arc<Catalog>) -> Runner {
    let runner = Runner::new(Arc::clone(catalog) as Arc<_>);
    schedule_all(&runner);
    runner
}

/// Schedules the catalog's own migrations on its runner. One that cannot be scheduled is logged: the next start tries again.
pub fn schedule_all(runner: &Runner) {
    let scheduled: [(&str, Result<Scheduled, MigError>); 1] = [(PINS_FORMAT, pins_format::schedule(runner))];
    for (name, scheduled) in scheduled {
        if let Err(error) = scheduled {
            tracing::warn!(name, %error, "migration was not scheduled");
        }
    }
}
