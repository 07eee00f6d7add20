//! How a store comes to its database.

use std::{fmt, path::PathBuf, sync::Arc};

use icecore_batcher::{ClientPool, Lease, PoolError, Scheme};

use crate::{
    Backend, Error, Options, Result, UtxoStore,
    blob::Blobs,
    client::Client,
    engine::{Engine, Shared},
    ops::Rules,
    queues::Queues,
};

const SCHEMES: [Scheme; 3] = [Scheme::path("rocksdb"), Scheme::path("memory"), Scheme::path("null")];

/// The databases that are open in this process: one for each endpoint, shared by all stores on it, and closed with the
/// last of them. A program has one.
///
/// A store can be opened again at once after its close, also where that close has not ended: the new store then shares
/// the database with what is left of the old one.
pub struct Clients {
    pool: ClientPool<Client>,
}

impl Default for Clients {
    fn default() -> Self {
        Clients { pool: ClientPool::new(&SCHEMES, |client: Client| client.close()) }
    }
}

impl Clients {
    /// No database is open yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn lease(
        &self,
        endpoint: &str,
        options: &Options,
        blobs: &Blobs,
        connect: impl FnOnce() -> Result<Arc<dyn Backend>>,
    ) -> Result<Lease<Client>> {
        let rules = Rules {
            retention_blocks: options.retention_blocks,
            coinbase_maturity_blocks: options.coinbase_maturity_blocks,
            tip: None,
            now_ms: (options.clock)(),
        };
        let connect = || {
            let backend = connect()?;
            Client::connect(Arc::clone(&backend), options.page_size, blobs, &rules).inspect_err(|_| {
                // The first error is the one to tell.
                let _ = backend.close();
            })
        };
        let client = self.pool.acquire(endpoint, connect).map_err(cause)?;
        // Somebody else may have opened it.
        if client.page_size != options.page_size {
            return Err(Error::PageSize { stored: client.page_size, configured: options.page_size });
        }
        Ok(client)
    }
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pool.fmt(f)
    }
}

fn cause(error: PoolError) -> Error {
    let storage = || Error::Storage { what: error.to_string() };
    match &error {
        PoolError::Connect { cause, .. } => cause.downcast_ref().cloned().unwrap_or_else(storage),
        _ => storage(),
    }
}

impl UtxoStore {
    /// Opens the store in a directory, or makes one: records in RocksDB, large bodies in files beside it.
    ///
    /// # Errors
    /// [`Error::PageSize`], [`Error::Unavailable`] where another process has it, [`Error::Storage`], [`Error::Damaged`].
    #[cfg(feature = "rocksdb")]
    pub fn open(clients: &Clients, dir: impl AsRef<std::path::Path>, options: Options) -> Result<Self> {
        let dir = dir.as_ref();
        options.disk.create_dir_all(dir)?;
        let storage = |what: String| Error::Storage { what };
        let dir = dir.canonicalize().map_err(|error| storage(format!("{}: {error}", dir.display())))?;
        let endpoint = SCHEMES[0].endpoint_of(&dir).map_err(|error| storage(error.to_string()))?;
        let records = dir.join("records");
        let connect = || -> Result<Arc<dyn Backend>> {
            Ok(Arc::new(crate::RocksBackend::open(records, &Default::default())?))
        };
        Self::open_with(clients, &endpoint, dir.join("bodies"), options, connect)
    }

    /// Opens a store on a backend of the caller's, which `connect` makes if no other store of the endpoint is open. An
    /// endpoint is `memory:///name`, `null:///name` or `rocksdb:///path`. Large bodies go to `bodies_dir` on the disk of
    /// the options.
    ///
    /// # Errors
    /// [`Error::PageSize`], [`Error::Invalid`] for options without sense, whatever `connect` says, [`Error::Damaged`].
    pub fn open_with(
        clients: &Clients,
        endpoint: &str,
        bodies_dir: impl Into<PathBuf>,
        options: Options,
        connect: impl FnOnce() -> Result<Arc<dyn Backend>>,
    ) -> Result<Self> {
        if options.page_size == 0 {
            return Err(Error::Invalid { what: "a record holds at least one output" });
        }
        if options.queues.iter().any(|queue| queue.size == 0 || queue.capacity == 0 || queue.in_flight == 0) {
            return Err(Error::Invalid { what: "a queue has room for at least one item and one batch" });
        }
        let blobs = Blobs::new(Arc::clone(&options.disk), bodies_dir.into());
        let client = clients.lease(endpoint, &options, &blobs, connect)?;
        let shared = Arc::new(Shared::default());
        let engine = Engine {
            client,
            blobs,
            shared: Arc::clone(&shared),
            retention_blocks: options.retention_blocks,
            coinbase_maturity_blocks: options.coinbase_maturity_blocks,
            clock: Arc::clone(&options.clock),
        };
        Ok(UtxoStore { queues: Queues::start(engine, &options)?, shared })
    }
}
