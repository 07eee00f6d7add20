//! What deep audits found sound: path, length, time of the last change, and when that was. A file of its own, so that an
//! audit beside a running store can remember too; void after a restore.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use icecore_cold::Layout;
use icecore_diskio::{Disk, IfExists, PendingFile, RealDisk};
use serde::{Deserialize, Serialize};

use super::look::Stamp;
use crate::Result;

const VERSION: u32 = 1;

/// A longer file is something else: this is enough for a million.
const MAX_BYTES: u64 = 256 << 20;

#[derive(Debug, Default, Serialize, Deserialize)]
struct File {
    version: u32,
    generation: String,
    sound: BTreeMap<String, Sound>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Sound {
    len_bytes: u64,
    changed_ns: u64,
    verified_at: u64,
}

#[derive(Debug)]
pub(super) struct Memory {
    path: PathBuf,
    file: File,
    now: u64,
    trust: u64,
}

impl Memory {
    /// What is remembered of a store. A file that is damaged, or of a store before its restore, is as none.
    pub(super) fn load(layout: &Layout, generation: &str, trust: Duration) -> Memory {
        let path = layout.root().join("catalog/audit.json");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let known = read(&path).filter(|file| file.version == VERSION && file.generation == generation);
        let none = || File { version: VERSION, generation: generation.to_owned(), ..File::default() };
        Memory { path, file: known.unwrap_or_else(none), now, trust: trust.as_secs() }
    }

    /// True when a file was found sound a short while ago, and is what it was.
    pub(super) fn is_sound(&self, path: &Path, stamp: Stamp) -> bool {
        let Some(sound) = path.to_str().and_then(|path| self.file.sound.get(path)) else { return false };
        // A clock that was set back proves nothing.
        let is_recent =
            (sound.verified_at..=sound.verified_at.saturating_add(self.trust)).contains(&self.now);
        let same = self
            .sound(stamp)
            .is_some_and(|now| (now.len_bytes, now.changed_ns) == (sound.len_bytes, sound.changed_ns));
        is_recent && self.trust > 0 && same
    }

    pub(super) fn remember(&mut self, path: &Path, stamp: Stamp) {
        if let (Some(path), Some(sound)) = (path.to_str(), self.sound(stamp)) {
            self.file.sound.insert(path.to_owned(), sound);
        }
    }

    pub(super) fn forget(&mut self, path: &Path) {
        if let Some(path) = path.to_str() {
            self.file.sound.remove(path);
        }
    }

    fn sound(&self, stamp: Stamp) -> Option<Sound> {
        let changed = stamp.changed?.duration_since(UNIX_EPOCH).ok()?;
        let changed_ns = u64::try_from(changed.as_nanos()).ok()?;
        Some(Sound { len_bytes: stamp.len, changed_ns, verified_at: self.now })
    }

    /// Writes what is remembered of files that are still there.
    pub(super) fn save(mut self, files: &BTreeMap<PathBuf, Stamp>) -> Result<()> {
        self.file.sound.retain(|path, _| files.contains_key(Path::new(path)));
        let Ok(text) = serde_json::to_vec(&self.file) else { return Ok(()) };
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let pending = PendingFile::create(&disk, &self.path, IfExists::Replace)?;
        pending.write_all_at(&text, 0)?;
        Ok(pending.commit()?)
    }
}

fn read(path: &Path) -> Option<File> {
    let source = RealDisk.open(path).ok().filter(|source| source.len_bytes() <= MAX_BYTES)?;
    let mut bytes = vec![0; usize::try_from(source.len_bytes()).ok()?];
    source.read_exact_at(&mut bytes, 0).ok()?;
    serde_json::from_slice(&bytes).ok()
}
