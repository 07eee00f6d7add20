use std::{io, num::NonZeroU32};

use icecore_ledger::{Error, Result};
use serde::{Deserialize, Serialize};

use super::{BatchName, Layout, ObjectStore, PartitionName};
use crate::source::io_error;

/// The names that a configuration may have, in a lake's root.
pub(crate) const CONFIG_NAME: &str = ".config.json";
const CONFIG_NAMES: [&str; 2] = [CONFIG_NAME, "config.json"];

const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// What a lake says of itself.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Config {
    pub(crate) network_passphrase: Option<String>,
    /// From the root of the bucket. The lake's own root may lie anywhere on this path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ledgers_path: Option<String>,
    #[serde(default = "zstd")]
    compression: String,
    // The older names are those of lakes written before the standard.
    #[serde(alias = "ledgersPerFile")]
    ledgers_per_batch: NonZeroU32,
    #[serde(alias = "filesPerPartition")]
    batches_per_partition: NonZeroU32,
}

fn zstd() -> String {
    "zstd".to_owned()
}

impl Config {
    /// The configuration in a lake's root, where there is one.
    pub(crate) fn find(store: &dyn ObjectStore) -> Result<Option<Config>> {
        for name in CONFIG_NAMES {
            let place = format!("{}/{name}", store.describe());
            match store.get(name, MAX_CONFIG_BYTES) {
                Ok(json) => return Config::parse(&place, &json).map(Some),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(io_error(&place, error)),
            }
        }
        Ok(None)
    }

    fn parse(place: &str, json: &[u8]) -> Result<Config> {
        let refuse = |what: String| Error::Config { place: place.to_owned(), what };
        let config: Config = serde_json::from_slice(json)
            .map_err(|error| refuse(format!("not the configuration of a lake: {error}")))?;
        if config.compression != zstd() {
            return Err(refuse(format!(
                "the compression is {:?}; only \"zstd\" can be read",
                config.compression
            )));
        }
        if config.ledgers_path.as_deref().is_some_and(|path| path.split('/').any(|part| part == "..")) {
            return Err(refuse("ledgersPath must not contain \"..\"".to_owned()));
        }
        Ok(config)
    }

    pub(crate) fn layout(&self) -> Layout {
        Layout {
            ledgers_per_batch: self.ledgers_per_batch,
            batches_per_partition: self.batches_per_partition,
        }
    }

    /// Where the ledgers may be, seen from the lake's root: the whole path, then what is left of it without its
    /// first parts, the root itself last.
    pub(crate) fn folders(&self) -> Vec<String> {
        let path = self.ledgers_path.as_deref().unwrap_or_default();
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        (0..=parts.len()).map(|from| parts[from..].iter().map(|part| format!("{part}/")).collect()).collect()
    }
}

impl Layout {
    /// The configuration of a lake of this layout, in its root.
    pub(crate) fn config_json(&self, network_passphrase: &str) -> String {
        let config = Config {
            network_passphrase: Some(network_passphrase.to_owned()),
            ledgers_path: None,
            compression: zstd(),
            ledgers_per_batch: self.ledgers_per_batch,
            batches_per_partition: self.batches_per_partition,
        };
        serde_json::to_string_pretty(&config).unwrap_or_default()
    }

    /// The layout in which a batch has these names; `None` when no layout gives them.
    pub(crate) fn of_names(partition: Option<PartitionName>, batch: BatchName) -> Option<Layout> {
        let span = |first: u32, last: u32| (last - first).checked_add(1).and_then(NonZeroU32::new);
        let ledgers_per_batch = span(batch.first.0, batch.last.0)?;
        let batches_per_partition = match partition {
            None => NonZeroU32::MIN,
            Some(name) => NonZeroU32::new(span(name.first.0, name.last.0)?.get() / ledgers_per_batch)?,
        };
        let layout = Layout { ledgers_per_batch, batches_per_partition };
        let agrees = layout.batch_of(batch.first) == batch && layout.partition_of(batch.first) == partition;
        agrees.then_some(layout)
    }
}
