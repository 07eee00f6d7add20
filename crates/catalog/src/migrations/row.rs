//! A migration's row.
//!
//! ```text
//! migration:NAME → {"status":"pending_async","started_at":"2026-01-02T03:04:05Z","ended_at":null,"error":null,
//!                   "rows_processed":0,"rows_total":null,"last_update_at":null,"attempt":1,"owner":"12-1f","lease_until":null}
//! ```
//!
//! Fields that came later may be missing, and are then as on the first day; unknown ones are passed over.
//!
//! ```text
//! (none) ──▶ pending_async ──▶ done        for good: nothing moves a row out of it
//!               ▲   ▲    └───▶ failed
//!               └───┘ a run that died      └──▶ pending_async, at the next try
//! ```

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::mutants;

use super::{Changes, MigError, Rows};

const PREFIX: &str = "migration:";
/// Of a migration's name.
const MAX_NAME_BYTES: usize = 100;

/// How far a migration is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Runs in the background, or did so when its process died.
    PendingAsync,
    /// Ended well; never runs again.
    Done,
    /// Ended with an error; runs again when it is scheduled again.
    Failed,
}

/// What is known of a migration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusRow {
    /// The migration.
    #[serde(skip)]
    pub name: String,
    /// How far it is.
    pub status: Status,
    /// When the latest run began.
    pub started_at: Timestamp,
    /// When it ended; `None` while it has not.
    #[serde(default)]
    pub ended_at: Option<Timestamp>,
    /// Why it failed; never empty then, and `None` otherwise.
    #[serde(default)]
    pub error: Option<String>,
    /// Rows it has seen to, for the eye only.
    #[serde(default)]
    pub rows_processed: u64,
    /// Rows there are to see to, where it knows.
    #[serde(default)]
    pub rows_total: Option<u64>,
    /// When it last told how far it is.
    #[serde(default)]
    pub last_update_at: Option<Timestamp>,
    /// How often it was started.
    #[serde(default)]
    pub attempt: u32,
    /// Who runs it.
    #[serde(default)]
    pub owner: Option<String>,
    /// Until when its owner is believed to be alive, in a store that several processes can open.
    #[serde(default)]
    pub lease_until: Option<Timestamp>,
}

/// The key of a migration's row.
pub(super) fn key(name: &str) -> Result<Vec<u8>, MigError> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(fits) {
        return Err(MigError::BadName { name: name.into() });
    }
    Ok(format!("{PREFIX}{name}").into_bytes())
}

/// Reads a migration's row.
pub(super) fn read(rows: &dyn Rows, name: &str) -> Result<Option<StatusRow>, MigError> {
    rows.get(&key(name)?)?.map(|value| decode(name, &value)).transpose()
}

/// Reads them all, in order of their names.
pub(super) fn read_all(rows: &dyn Rows) -> Result<Vec<StatusRow>, MigError> {
    let found = rows.scan(PREFIX.as_bytes(), b"migration;", usize::MAX)?;
    let row = |(key, value): (Vec<u8>, Vec<u8>)| {
        decode(&String::from_utf8_lossy(key.get(PREFIX.len()..).unwrap_or_default()), &value)
    };
    found.into_iter().map(row).collect()
}

/// Sets a migration's row.
pub(super) fn write(changes: &mut Changes, row: &StatusRow) -> Result<(), MigError> {
    let value = serde_json::to_vec(row).map_err(MigError::failed)?;
    changes.put(key(&row.name)?, value);
    Ok(())
}

fn decode(name: &str, value: &[u8]) -> Result<StatusRow, MigError> {
    let row = serde_json::from_slice::<StatusRow>(value);
    row.map(|row| StatusRow { name: name.into(), ..row })
        .map_err(|e| MigError::BadRow { name: name.into(), what: e.to_string() })
}

impl StatusRow {
    /// A run that begins, in place of what was known before.
    pub(super) fn begin(name: &str, before: Option<StatusRow>, owner: &str, now: Timestamp) -> Self {
        let attempt = before.as_ref().map_or(0, |row| row.attempt).saturating_add(1);
        let fresh = StatusRow {
            name: name.into(),
            status: Status::PendingAsync,
            started_at: now,
            ended_at: None,
            error: None,
            rows_processed: 0,
            rows_total: None,
            last_update_at: None,
            attempt,
            owner: Some(owner.into()),
            lease_until: None,
        };
        match before {
            Some(before) if mutants::on("retry_keeps_the_old") => {
                let (error, ended_at) = (before.error, before.ended_at);
                let (rows_processed, rows_total) = (before.rows_processed, before.rows_total);
                StatusRow { error, ended_at, rows_processed, rows_total, ..fresh }
            }
            _ => fresh,
        }
    }
}
