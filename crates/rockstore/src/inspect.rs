//! What can be said of a directory before RocksDB is let at it, which would create what it misses; and, where RocksDB
//! refused, why.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{Error, Family, Holder, Result};

/// The RocksDB that this program is built with, as it writes it into its stores. A test keeps it true.
pub(crate) const ROCKSDB_VERSION: &str = "11.8.1";

/// The file that names the current manifest.
pub(crate) const CURRENT: &str = "CURRENT";

/// Refuses a path where there is no store.
pub(crate) fn check_present(path: &Path) -> Result<()> {
    match fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(Error::Missing { path: path.to_path_buf() });
        }
        Err(e) => return Err(Error::io(path, "look at the directory", &e)),
        Ok(meta) if !meta.is_dir() => {
            return Err(Error::Foreign { path: path.to_path_buf(), what: "it is not a directory".into() });
        }
        Ok(_) => {}
    }
    let gutted = |what: String| Error::Gutted { path: path.to_path_buf(), what };
    let read_current = || match fs::read(path.join(CURRENT)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(gutted(format!("it has no {CURRENT}"))),
        Err(e) => Err(Error::io(path, "read CURRENT", &e)),
        Ok(bytes) => Ok(bytes),
    };
    loop {
        let current = read_current()?;
        let manifest = std::str::from_utf8(&current).ok().and_then(|name| name.strip_suffix('\n'));
        let Some(manifest) = manifest.filter(|name| name.starts_with("MANIFEST-") && !name.contains('/'))
        else {
            return Err(gutted(format!("its {CURRENT} names no manifest")));
        };
        match fs::metadata(path.join(manifest)) {
            Ok(_) => return Ok(()),
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io(path, "look at the manifest", &e));
            }
            // Else somebody has opened the store just now, which makes a new manifest.
            Err(_) if read_current()? == current => return Err(gutted(format!("it has no {manifest}"))),
            Err(_) => {}
        }
    }
}

/// Refuses a store with other families than these.
pub(crate) fn check_families(path: &Path, options: &rocksdb::Options, families: &[Family]) -> Result<()> {
    let found = rocksdb::DB::list_cf(options, path).map_err(|e| explain(path, "read the manifest", &e))?;
    let found: Vec<_> = found.iter().map(String::as_str).filter(|name| *name != "default").collect();
    let expected: Vec<_> = families.iter().map(Family::name).collect();
    let same = found.len() == expected.len() && expected.iter().all(|name| found.contains(name));
    let what = || format!("it has the families {}, not {}", found.join(", "), expected.join(", "));
    if same { Ok(()) } else { Err(Error::Foreign { path: path.to_path_buf(), what: what() }) }
}

/// Refuses an opened database whose families were created in another order: batches know them by number.
pub(crate) fn check_numbers(path: &Path, db: &rocksdb::DB, families: &[Family]) -> Result<()> {
    struct Numbers(Vec<u32>);
    impl rocksdb::WriteBatchIteratorCf for Numbers {
        fn put_cf(&mut self, number: u32, _: &[u8], _: &[u8]) {
            self.0.push(number);
        }
        fn delete_cf(&mut self, _: u32, _: &[u8]) {}
        fn merge_cf(&mut self, _: u32, _: &[u8], _: &[u8]) {}
    }
    let mut batch = rocksdb::WriteBatch::new();
    for handle in families.iter().filter_map(|family| db.cf_handle(family.name())) {
        batch.put_cf(handle, b"", b"");
    }
    let mut numbers = Numbers(Vec::new());
    batch.iterate_cf(&mut numbers);
    let in_order = (1..=families.len()).map(|number| number as u32).eq(numbers.0);
    let what = || "its families were created in another order".into();
    if in_order { Ok(()) } else { Err(Error::Foreign { path: path.to_path_buf(), what: what() }) }
}

/// The reason why a directory could not be opened.
pub(crate) fn explain(path: &Path, op: &'static str, error: &rocksdb::Error) -> Error {
    let what = error.to_string();
    let here = what.contains("lock hold by current process");
    if here || what.contains("While lock file") {
        let holder = if here { Holder::ThisProcess } else { lock_holder(&path.join("LOCK")) };
        return Error::Locked { path: path.to_path_buf(), holder };
    }
    match (Error::of(path, op, error), written_by(path)) {
        (Error::Corrupt { .. } | Error::Refused { .. }, Some(found)) if is_newer(&found) => {
            Error::Newer { path: path.to_path_buf(), found, ours: ROCKSDB_VERSION.into(), what }
        }
        // A comparator or an option that is not ours: the store is whole, for another program.
        (Error::Refused { path, what, .. }, _) => Error::Foreign { path, what },
        (error, _) => error,
    }
}

/// The version of RocksDB that wrote a store last, from the newest of its options files.
pub(crate) fn written_by(path: &Path) -> Option<String> {
    let entries = fs::read_dir(path).ok()?.filter_map(|entry| Some(entry.ok()?.file_name()));
    let names = entries.filter_map(|name| name.into_string().ok());
    let newest = names.filter(|name| name.starts_with("OPTIONS-") && !name.ends_with(".dbtmp")).max()?;
    let text = fs::read_to_string(path.join(newest)).ok()?;
    let version = text.lines().find_map(|line| line.trim().strip_prefix("rocksdb_version="))?;
    Some(version.to_owned())
}

fn is_newer(found: &str) -> bool {
    let numbers = |version: &str| -> Option<Vec<u32>> {
        version.split('.').map(|number| number.parse().ok()).collect()
    };
    numbers(found) > numbers(ROCKSDB_VERSION)
}

/// The process that holds a file's lock, where the system lists locks. The file itself must never be opened here: closing it
/// would give up every lock that this process has on it.
#[cfg(target_os = "linux")]
fn lock_holder(file: &PathBuf) -> Holder {
    use std::os::unix::fs::MetadataExt;

    let holder = || -> Option<u32> {
        let meta = fs::metadata(file).ok()?;
        let (major, minor) = (libc::major(meta.dev()), libc::minor(meta.dev()));
        let id = format!("{major:02x}:{minor:02x}:{}", meta.ino());
        let locks = fs::read_to_string("/proc/locks").ok()?;
        locks.lines().find_map(|line| {
            // "1: POSIX  ADVISORY  WRITE 4711 08:01:1234 0 EOF"
            let mut words = line.split_whitespace().skip(1).filter(|word| *word != "->");
            let (kind, pid) = (words.next()?, words.nth(2)?);
            (kind == "POSIX" && words.next()? == id).then(|| pid.parse().ok())?
        })
    };
    // 0 stands for a process of another namespace.
    holder().filter(|pid| *pid != 0).map_or(Holder::Unknown, Holder::Process)
}

#[cfg(not(target_os = "linux"))]
fn lock_holder(_: &PathBuf) -> Holder {
    Holder::Unknown
}

/// The directory in which a store is made before it gets its name.
pub(crate) fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".creating");
    PathBuf::from(name)
}

/// Makes a name in a directory durable.
pub(crate) fn sync_parent(path: &Path) -> Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let synced = fs::File::open(parent).and_then(|dir| dir.sync_all());
    synced.map_err(|e| Error::io(parent, "sync the directory", &e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Store, StoreOptions};

    #[test]
    fn a_store_tells_the_version_that_wrote_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        Store::create(&path, &[Family::new("a")], &StoreOptions::default()).unwrap();
        assert_eq!(written_by(&path).unwrap(), ROCKSDB_VERSION);
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert!(is_newer("12.0.0") && is_newer("11.10.0") && is_newer("11.8.2"));
        assert!(!is_newer("11.8.1") && !is_newer("9.99.99") && !is_newer("x"));
    }
}
