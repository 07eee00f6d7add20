//! Ledger lakes (SEP-0054): objects named by the ledgers they hold, in a directory or any [`ObjectStore`].
//!
//! ```text
//! .config.json                                      what network, and the layout
//! [ledgers path/][partition/]FFFFFFBF--64-127.xdr.zst
//! ```

use std::{collections::BTreeSet, fmt, io, path::Path, sync::Arc, time::Duration};

use icecore_ledger::{Error, GENESIS, LedgerRange, LedgerSeq, LedgerStream, Result, Source};

use super::io_error;

mod ahead;
pub(super) mod batch;
mod config;
mod name;
mod store;

use batch::Batch;
use config::Config;

pub(crate) use config::CONFIG_NAME;
pub use name::{BatchName, Layout, NotAName, PartitionName};
pub use store::{DirStore, ObjectStore};

/// How a lake is read.
#[derive(Clone, Debug)]
pub struct LakeOptions {
    /// The layout, for a lake without a configuration; with one they must agree. Without either it is derived from
    /// the names in the lake.
    pub layout: Option<Layout>,
    /// How many batches are fetched at a time.
    pub threads: usize,
    /// How many bytes of unpacked batches a stream may hold. Estimated by the largest batch met so far, so a sudden
    /// growth may exceed it by one batch a thread.
    pub ahead_bytes: u64,
    /// Batches that are larger, packed or unpacked, are refused.
    pub max_batch_bytes: u64,
    /// How often a batch is asked for before a failure counts; at least once.
    pub attempts: u32,
    /// The wait after the first failure; it doubles from one to the next.
    pub first_delay: Duration,
    /// How often a live stream asks for a batch that is not there yet.
    pub ask_every: Duration,
    /// How long a live stream waits for a batch that later ones have overtaken, or that is not whole, before that is an
    /// error.
    pub patience: Duration,
}

impl Default for LakeOptions {
    /// 4 threads, 256 MiB ahead, batches of up to 1 GiB, 5 attempts, 200 milliseconds; asks every 100 milliseconds, 10
    /// seconds of patience.
    fn default() -> Self {
        LakeOptions {
            layout: None,
            threads: 4,
            ahead_bytes: 256 << 20,
            max_batch_bytes: 1 << 30,
            attempts: 5,
            first_delay: Duration::from_millis(200),
            ask_every: Duration::from_millis(100),
            patience: Duration::from_secs(10),
        }
    }
}

/// A lake of ledgers.
///
/// Its range is that of its oldest and its newest batch, from a few listings; that a batch between them is missing,
/// a stream finds.
#[derive(Clone)]
pub struct Lake {
    store: Arc<dyn ObjectStore>,
    /// Where the ledgers are: empty, or ends with a slash.
    folder: String,
    layout: Layout,
    network_passphrase: Option<String>,
    options: LakeOptions,
}

impl fmt::Debug for Lake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lake = f.debug_struct("Lake");
        lake.field("store", &self.store.describe())
            .field("folder", &self.folder)
            .field("layout", &self.layout);
        lake.finish_non_exhaustive()
    }
}

impl Lake {
    /// The lake in a directory, read with default options.
    ///
    /// # Errors
    /// As of [`with_store`](Lake::with_store).
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        Self::with_store(Arc::new(DirStore::new(dir.as_ref())), LakeOptions::default())
    }

    /// The lake in an object store.
    ///
    /// # Errors
    /// [`Error::Config`] when the configuration cannot be understood, contradicts the options, or the names in the
    /// lake fit no layout; [`Error::Empty`] when the layout must come from names and there is none; [`Error::Io`].
    pub fn with_store(store: Arc<dyn ObjectStore>, options: LakeOptions) -> Result<Self> {
        let config = Config::find(&*store)?;
        let folder = match &config {
            Some(config) => find_folder(&*store, config.folders())?,
            None => String::new(),
        };
        let from_config = config.as_ref().map(Config::layout);
        let layout = match (from_config, options.layout.clone()) {
            (Some(found), Some(set)) if found != set => {
                let what = format!("its configuration says {found:?}, the settings say {set:?}");
                return Err(Error::Config { place: store.describe(), what });
            }
            (Some(layout), _) | (None, Some(layout)) => layout,
            (None, None) => derive_layout(&*store, &folder)?,
        };
        let network_passphrase = config.and_then(|config| config.network_passphrase);
        Ok(Lake { store, folder, layout, network_passphrase, options })
    }

    /// The passphrase of the ledgers' network, where the lake's configuration gives it.
    pub fn network_passphrase(&self) -> Option<&str> {
        self.network_passphrase.as_deref()
    }

    /// How ledgers are spread over objects.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    fn object(&self, batch: BatchName) -> String {
        format!("{}{}", self.folder, self.layout.object_name(batch))
    }

    fn place(&self, batch: BatchName) -> String {
        format!("{}/{}", self.store.describe(), self.object(batch))
    }

    pub(super) fn options(&self) -> &LakeOptions {
        &self.options
    }

    /// The last ledger of the newest batch.
    pub(super) fn newest(&self) -> Result<LedgerSeq> {
        let newest = self.folders()?.iter().rev().find_map(|folder| self.ends(folder).transpose());
        Ok(newest.ok_or_else(|| Error::Empty { place: self.describe() })??.last)
    }

    pub(super) fn fetch(&self, name: BatchName) -> Result<Batch> {
        let place = self.place(name);
        let object = match self.store.get(&self.object(name), self.options.max_batch_bytes) {
            Ok(object) => object,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::Missing { place, expected: name.content().0 });
            }
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                let what = format!("it has more than the {} bytes allowed", self.options.max_batch_bytes);
                return Err(Error::Corrupt { place, offset: self.options.max_batch_bytes, what });
            }
            Err(error) => return Err(io_error(&place, error)),
        };
        Batch::unpack(&place, name, &object, self.options.max_batch_bytes)
    }

    /// The folders that hold batches, the oldest first.
    fn folders(&self) -> Result<Vec<String>> {
        if self.layout.partition_of(GENESIS).is_none() {
            return Ok(vec![self.folder.clone()]);
        }
        let mut found = BTreeSet::new();
        for name in list(&*self.store, &self.folder)? {
            let Ok(partition) = name.parse::<PartitionName>() else { continue };
            if self.layout.partition_of(partition.first) != Some(partition) {
                return Err(self.misnamed(&name));
            }
            found.insert(partition.first);
        }
        let folder = |first| Some(format!("{}{}/", self.folder, self.layout.partition_of(first)?));
        Ok(found.into_iter().filter_map(folder).collect())
    }

    /// The ledgers of the oldest and the newest batch in a folder.
    fn ends(&self, folder: &str) -> Result<Option<LedgerRange>> {
        let mut ends: Option<LedgerRange> = None;
        for name in list(&*self.store, folder)? {
            let Ok(batch) = name.parse::<BatchName>() else { continue };
            if self.layout.batch_of(batch.first) != batch {
                return Err(self.misnamed(&name));
            }
            // Nothing is before the chain's first ledger, whatever is named so.
            if batch.last < GENESIS {
                continue;
            }
            let (first, last) = batch.content();
            let so_far = ends.unwrap_or(LedgerRange { first, last });
            ends = Some(LedgerRange { first: first.min(so_far.first), last: last.max(so_far.last) });
        }
        Ok(ends)
    }

    fn misnamed(&self, name: &str) -> Error {
        let what = format!("{name} is no name in {:?}", self.layout);
        Error::Config { place: self.describe(), what }
    }
}

impl Source for Lake {
    fn describe(&self) -> String {
        format!("{}/{}", self.store.describe(), self.folder).trim_end_matches('/').to_owned()
    }

    fn range(&self) -> Result<LedgerRange> {
        let folders = self.folders()?;
        let empty = || Error::Empty { place: self.describe() };
        let first_of = |folder: &String| self.ends(folder).transpose();
        let oldest = folders.iter().find_map(first_of).ok_or_else(empty)??;
        Ok(LedgerRange { first: oldest.first, last: self.newest()? })
    }

    fn stream(&self, ledgers: LedgerRange) -> Result<Box<dyn LedgerStream + '_>> {
        if ledgers.first < GENESIS {
            return Err(Error::OutOfRange { place: self.describe(), has: self.range()?, wanted: ledgers });
        }
        Ok(Box::new(ahead::Ahead::start(self.clone(), ledgers)?))
    }
}

/// The names in a folder; none where there is no folder.
fn list(store: &dyn ObjectStore, folder: &str) -> Result<Vec<String>> {
    match store.list(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed.map_err(|error| io_error(&format!("{}/{folder}", store.describe()), error)),
    }
}

/// The first of `folders` with a batch or a partition in it.
fn find_folder(store: &dyn ObjectStore, folders: Vec<String>) -> Result<String> {
    let is_ours = |name: &String| name.parse::<BatchName>().is_ok() || name.parse::<PartitionName>().is_ok();
    for folder in &folders {
        if list(store, folder)?.iter().any(is_ours) {
            return Ok(folder.clone());
        }
    }
    // A new lake, empty as yet.
    Ok(folders.into_iter().next().unwrap_or_default())
}

fn derive_layout(store: &dyn ObjectStore, folder: &str) -> Result<Layout> {
    let names = list(store, folder)?;
    let batch_in = |names: &[String]| names.iter().find_map(|name| name.parse::<BatchName>().ok());
    let mut found = batch_in(&names).map(|batch| (None, batch));
    for partition in names.iter().filter_map(|name| name.parse::<PartitionName>().ok()) {
        if found.is_some() {
            break;
        }
        let inside = list(store, &format!("{folder}{partition}/"))?;
        found = batch_in(&inside).map(|batch| (Some(partition), batch));
    }
    let (partition, batch) = found.ok_or_else(|| Error::Empty { place: store.describe() })?;
    Layout::of_names(partition, batch).ok_or_else(|| {
        let partition = partition.map(|partition| format!("{partition}/")).unwrap_or_default();
        Error::Config { place: store.describe(), what: format!("{partition}{batch} fits no layout; set it") }
    })
}
