//! Every durable step that this crate takes outside of a [`Disk`]'s own operations, by the name under which a faulty disk
//! sees it: `before NAME` and `after NAME`. What a crash leaves between two steps is what the first one's line says.

use icecore_diskio::Disk;

use crate::Result;

/// A durable step, and what is found when the process ended right after it.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Its name in labels.
    pub name: &'static str,
    /// What it does.
    pub what: &'static str,
    /// What the next start finds after it, and does.
    pub next_start: &'static str,
}

const fn step(name: &'static str, what: &'static str, next_start: &'static str) -> Step {
    Step { name, what, next_start }
}

/// All of them. Steps whose name begins with `restore` move directories; those named `backup` concern only the copy.
pub const STEPS: &[Step] = &[
    step(CREATE, "make an empty database and give it its name", "an empty database: the pins are written"),
    step(PINS, "write the pins, one batch", "pins that are checked; icecore.json is written or checked"),
    step(
        FREEZING,
        "put keys to freezing, one batch",
        "files that are missing, partial or whole: built again",
    ),
    step(FROZEN, "flip keys to frozen, one batch", "whole and durable files under frozen keys"),
    step(INDEX, "commit an index, one batch", "the new index frozen, predecessors and spent runs pruning"),
    step(DEMOTE, "put keys to pruning, one batch", "files of no use: swept by the next run"),
    step(DELETE, "delete the key of unlinked files", "neither key nor file"),
    step(HOT_TRANSIENT, "put a hot chunk to transient", "a directory in any shape: removed, or made again"),
    step(HOT_READY, "flip a hot chunk to ready", "a directory that opens"),
    step(HOT_DELETE, "delete the key of a removed directory", "neither key nor directory"),
    step(
        RECOVER,
        "put what is tainted to freezing and transient, one batch",
        "as after freezing and transient",
    ),
    step(ROWS, "write rows that are not keys of files, one batch", "those rows"),
    step(
        BACKUP_STAGE,
        "make a checkpoint beside the destination",
        "a directory .icecore-backup-… to be removed by hand",
    ),
    step(BACKUP_RENAME, "give the checked copy its name", "the backup, whole"),
    step(BACKUP_SYNC, "make that name durable", "the backup, whole"),
    step(RESTORE_STAGE, "copy the source beside the catalog", "the old catalog; the copy is removed"),
    step(RESTORE_INTENT, "record that the copy takes over", "both: the copy takes over, as the record says"),
    step(RESTORE_ASIDE, "move the old catalog aside", "the copy alone: it takes over"),
    step(RESTORE_SWAP, "give the copy the catalog's name", "the restored catalog; the record is removed"),
    step(RESTORE_DONE, "remove the record", "the restored catalog"),
];

pub(crate) const CREATE: &str = "create catalog";
pub(crate) const PINS: &str = "pins";
pub(crate) const FREEZING: &str = "put freezing";
pub(crate) const FROZEN: &str = "put frozen";
pub(crate) const INDEX: &str = "index commit";
pub(crate) const DEMOTE: &str = "demote";
pub(crate) const DELETE: &str = "delete key";
pub(crate) const HOT_TRANSIENT: &str = "hot transient";
pub(crate) const HOT_READY: &str = "hot ready";
pub(crate) const HOT_DELETE: &str = "hot delete";
pub(crate) const RECOVER: &str = "recover";
pub(crate) const ROWS: &str = "put rows";
pub(crate) const BACKUP_STAGE: &str = "backup stage";
pub(crate) const BACKUP_RENAME: &str = "backup rename";
pub(crate) const BACKUP_SYNC: &str = "backup sync";
pub(crate) const RESTORE_STAGE: &str = "restore stage";
pub(crate) const RESTORE_INTENT: &str = "restore intent";
pub(crate) const RESTORE_ASIDE: &str = "restore aside";
pub(crate) const RESTORE_SWAP: &str = "restore swap";
pub(crate) const RESTORE_DONE: &str = "restore done";

/// Takes a step between its two fault points.
pub(crate) fn take<T>(disk: &dyn Disk, name: &str, act: impl FnOnce() -> Result<T>) -> Result<T> {
    disk.step(&format!("before {name}"))?;
    let done = act()?;
    disk.step(&format!("after {name}"))?;
    Ok(done)
}
