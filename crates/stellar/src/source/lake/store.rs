use std::{
    fs::{self, File},
    io::{self, Read},
    path::PathBuf,
};

/// Named objects in folders: what a lake needs of a directory, or of a bucket.
pub trait ObjectStore: Send + Sync {
    /// What this is, for messages: a path or an address.
    fn describe(&self) -> String;

    /// The names directly in a folder (`""` is the root), objects and folders alike, in any order.
    ///
    /// # Errors
    /// Kind [`NotFound`](io::ErrorKind::NotFound) when there is no such folder. See [`get`](ObjectStore::get).
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;

    /// The bytes of an object named by its path from the root.
    ///
    /// # Errors
    /// Kind [`NotFound`](io::ErrorKind::NotFound) when there is no such object,
    /// [`FileTooLarge`](io::ErrorKind::FileTooLarge) when it has more than `max_bytes`; both are final. Whatever else
    /// fails may be tried again.
    fn get(&self, name: &str, max_bytes: u64) -> io::Result<Vec<u8>>;
}

/// A directory as an object store.
#[derive(Clone, Debug)]
pub struct DirStore {
    root: PathBuf,
}

impl DirStore {
    /// The store of all below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        // Without a slash at its end, for messages.
        DirStore { root: root.into().components().collect() }
    }
}

impl ObjectStore for DirStore {
    fn describe(&self) -> String {
        self.root.display().to_string()
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(self.root.join(folder))?;
        // What is not UTF-8 is no name of a lake.
        entries
            .filter_map(|entry| entry.map(|entry| entry.file_name().into_string().ok()).transpose())
            .collect()
    }

    fn get(&self, name: &str, max_bytes: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.root.join(name))?.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > max_bytes {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(bytes)
    }
}
