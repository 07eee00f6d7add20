use std::{
    ops::Deref,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{Disk, Error, IfExists, Result, WriteAt};

/// A file on its way to a name: written beside it, given the name in one step, gone without a trace otherwise.
///
/// ```text
/// create   → NAME.partial, locked: one writer, and a later run takes over what a killed one left
/// commit   → fsync file → rename to NAME → fsync directory
/// drop     → NAME.partial removed
/// ```
///
/// So whatever bears the final name is whole, at every moment and after any crash. A commit that fails leaves no new
/// file, with one exception: where a file was replaced and only the last step failed, the new one is in its place.
///
/// ```
/// use icecore_diskio::{Disk, IfExists, PendingFile, RealDisk};
/// use std::sync::Arc;
///
/// # fn main() -> icecore_diskio::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// let path = dir.path().join("greeting");
/// let disk: Arc<dyn Disk> = Arc::new(RealDisk);
/// let file = PendingFile::create(&disk, &path, IfExists::Fail)?;
/// file.write_all_at(b"hello", 0)?;
/// assert!(!path.exists());
/// file.commit()?;
/// assert_eq!(disk.file_len(&path)?, Some(5));
/// # Ok(())
/// # }
/// ```
pub struct PendingFile {
    disk: Arc<dyn Disk>,
    file: Box<dyn WriteAt>,
    path: PathBuf,
    partial: PathBuf,
    if_exists: IfExists,
    committed: bool,
}

impl PendingFile {
    /// What is added to a name while its file is being written.
    pub const SUFFIX: &str = ".partial";

    /// Begins a file that will be called `path`. Fails at once where that name is taken and may not be replaced.
    pub fn create(disk: &Arc<dyn Disk>, path: &Path, if_exists: IfExists) -> Result<Self> {
        if if_exists == IfExists::Fail && disk.file_len(path)?.is_some() {
            return Err(Error::Exists { path: path.to_path_buf() });
        }
        let mut partial = path.as_os_str().to_owned();
        partial.push(Self::SUFFIX);
        let partial = PathBuf::from(partial);
        let file = disk.create_exclusive(&partial)?;
        let disk = Arc::clone(disk);
        Ok(PendingFile { disk, file, path: path.to_path_buf(), partial, if_exists, committed: false })
    }

    /// The name the file will have.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes contents durable, gives the file its name, makes the name durable.
    ///
    /// # Errors
    /// Those of the disk. Then the final name is as it was before, unless an older file has been replaced already: the
    /// new one stays, and a power cut decides between the two.
    pub fn commit(mut self) -> Result<()> {
        self.sync()?;
        self.disk.rename(&self.partial, &self.path, self.if_exists)?;
        self.committed = true;
        let synced = self.disk.sync_dir(self.path.parent().unwrap_or(Path::new("")));
        if synced.is_err() && self.if_exists == IfExists::Fail {
            let _ = self.disk.remove(&self.path);
        }
        synced
    }
}

impl Deref for PendingFile {
    type Target = dyn WriteAt;

    fn deref(&self) -> &Self::Target {
        &*self.file
    }
}

impl Drop for PendingFile {
    fn drop(&mut self) {
        if !self.committed {
            // Removed while the lock is still held, so that it cannot be another writer's. What cannot be removed
            // bears the partial name and is taken over by the next writer.
            let _ = self.disk.remove(&self.partial);
        }
    }
}
