//! What workers tell whoever asks for the status: the last errors, the last run, how quick building was.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use icecore_cold::ChunkCounts;
use serde::Serialize;

use crate::{Error, RunReport};

/// How many errors are remembered.
const ERRORS: usize = 16;

/// An error that somebody may want to look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// When, in seconds since 1970.
    pub at: u64,
    /// What was tried.
    pub doing: String,
    /// What it ended in.
    pub error: String,
    /// Whether the engine stopped for it.
    pub is_fatal: bool,
}

/// How quickly chunks were built, measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Rates {
    /// Chunks that were frozen in this process's life.
    pub chunks: u64,
    /// Raw ledger bytes of those.
    pub raw_bytes: u64,
    /// The time of all their builds, in seconds; builds at the same time count each.
    pub seconds: f64,
    /// Keys that were indexed.
    pub index_keys: u64,
    /// The time of all index builds, in seconds.
    pub index_seconds: f64,
}

#[derive(Debug, Default)]
pub(crate) struct Journal {
    pages: Mutex<Pages>,
}

#[derive(Debug, Default)]
pub(crate) struct Pages {
    pub(crate) troubles: VecDeque<Trouble>,
    pub(crate) rates: Rates,
    pub(crate) runs: u64,
    pub(crate) restarts: u64,
    pub(crate) fatal: Option<String>,
}

impl Journal {
    pub(crate) fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn trouble(&self, doing: impl Into<String>, error: &Error) {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let (error, is_fatal) = (error.to_string(), error.is_fatal());
        let mut pages = self.pages();
        if is_fatal {
            pages.fatal.get_or_insert_with(|| error.clone());
        }
        if pages.troubles.len() == ERRORS {
            pages.troubles.pop_front();
        }
        pages.troubles.push_back(Trouble { at, doing: doing.into(), error, is_fatal });
    }

    pub(crate) fn ran(&self, report: &RunReport) {
        for (stage, error) in &report.failed {
            self.trouble(stage.as_str(), error);
        }
        self.pages().runs += 1;
    }

    pub(crate) fn froze(&self, counts: &ChunkCounts, seconds: f64) {
        let rates = &mut self.pages().rates;
        rates.chunks += 1;
        rates.raw_bytes += counts.raw_bytes;
        rates.seconds += seconds;
    }

    pub(crate) fn rebuilt(&self, keys: u64, seconds: f64) {
        let rates = &mut self.pages().rates;
        rates.index_keys += keys;
        rates.index_seconds += seconds;
    }
}
