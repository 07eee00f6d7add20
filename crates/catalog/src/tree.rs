//! Directories as a whole: copied, made durable, removed. Flat ones, as databases are.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use icecore_diskio::{Disk, Error as DiskError, IfExists, Op, RealDisk};

use crate::{Result, catalog::make_dir};

/// The regular files of a directory with their lengths, sorted; logs for people and locks are left out.
pub(crate) fn files(dir: &Path) -> Result<Vec<(String, u64)>> {
    let mut found = Vec::new();
    for name in RealDisk.list(dir)? {
        let path = dir.join(&name);
        let meta = fs::symlink_metadata(&path).map_err(|e| DiskError::from_io(Op::Open, &path, e))?;
        if meta.is_file() && !name.starts_with("LOG") && name != "LOCK" {
            found.push((name, meta.len()));
        }
    }
    Ok(found)
}

/// Copies the files of a directory into a new one that only we can read, durably but for its own name.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    make_dir(to, 0o700)?;
    for (name, _) in files(from)? {
        let (from, to) = (from.join(&name), to.join(&name));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let mut source = File::open(&from).map_err(|e| DiskError::from_io(Op::Open, &from, e))?;
        let copied = options.open(&to).and_then(|mut file| {
            io::copy(&mut source, &mut file)?;
            file.sync_all()
        });
        copied.map_err(|e| DiskError::from_io(Op::Write, &to, e))?;
    }
    Ok(RealDisk.sync_dir(to)?)
}

/// Makes a directory's files and their names durable.
pub(crate) fn sync(dir: &Path) -> Result<()> {
    for (name, _) in files(dir)? {
        let path = dir.join(name);
        let synced = File::open(&path).and_then(|file| file.sync_all());
        synced.map_err(|e| DiskError::from_io(Op::Sync, &path, e))?;
    }
    Ok(RealDisk.sync_dir(dir)?)
}

/// Removes a directory with all that is in it, where there is one.
pub(crate) fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(DiskError::from_io(Op::Remove, dir, e).into()),
        _ => Ok(()),
    }
}

/// Renames a directory, never over another, and makes the new name durable, and the loss of the old one.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    RealDisk.rename(from, to, IfExists::Fail)?;
    sync_parents(from, to)
}

fn sync_parents(from: &Path, to: &Path) -> Result<()> {
    let (to, from) = (parent(to), parent(from));
    RealDisk.sync_dir(&to)?;
    if from != to {
        RealDisk.sync_dir(&from)?;
    }
    Ok(())
}

/// The directory that names a path.
pub(crate) fn parent(path: &Path) -> PathBuf {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new(".")).to_path_buf()
}
