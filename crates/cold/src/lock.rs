//! Who may write to a store: one of a kind at a time.

use std::{path::PathBuf, sync::Arc};

use icecore_diskio::{Disk, WriteAt};

use crate::{Error, Layout, Result};

/// The right to do one kind of work in a store: a locked file in its root. The lock dies with its process.
pub struct StoreLock {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    _file: Box<dyn WriteAt>,
}

impl StoreLock {
    /// Takes the right that a file name stands for.
    ///
    /// # Errors
    /// [`Error::Busy`] while someone else has it, [`Error::Disk`].
    pub fn take(disk: &Arc<dyn Disk>, layout: &Layout, name: &str) -> Result<Self> {
        let path = layout.root().join(name);
        match disk.create_exclusive(&path) {
            Ok(file) => Ok(StoreLock { disk: Arc::clone(disk), path, _file: file }),
            Err(icecore_diskio::Error::Busy { .. }) => Err(Error::Busy { path: layout.root().to_path_buf() }),
            Err(e) => Err(e.into()),
        }
    }
}

impl Drop for StoreLock {
    fn drop(&mut self) {
        // A lock file that stays is taken over by whoever comes next.
        let _ = self.disk.remove(&self.path);
    }
}
