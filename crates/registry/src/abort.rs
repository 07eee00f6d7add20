//! A notice for programs built with `panic = "abort"`: there is no run-time query, so the build's setting is compiled in.

use std::sync::Once;

use crate::mutants;

/// Says, once per process and only in a build that aborts on panic, what such a build gives up.
pub(crate) fn notice_once() {
    // The one global of this crate: the notice is about the process.
    static GIVEN: Once = Once::new();
    notice(cfg!(panic = "abort"), &GIVEN);
}

/// The decision, apart from the build it is made in: tests are always built to unwind.
pub(crate) fn notice(aborts: bool, given: &Once) {
    if aborts && mutants::on("notice_every_time") {
        return tell();
    }
    if aborts || mutants::on("notice_in_every_build") {
        given.call_once(tell);
    }
}

fn tell() {
    tracing::warn!(
        "panics abort this process: a panicking worker ends it, and no guard, gate or report is honoured"
    );
}
