//! Rows that are no keys of files: what the modules beside the protocol remember.

use icecore_rockstore::{Batch, Reads, Span};

use crate::{
    Catalog, Error, Result,
    keys::PREFIXES_OF_OTHERS,
    load::{MAX_VALUE_BYTES, ROWS},
    migrations::Turn,
    steps,
};

/// Rows read and changed in one turn: nobody else writes in between, and all changes go into one synced batch.
#[derive(Debug)]
pub struct RowUpdate<'a> {
    catalog: &'a Catalog,
    batch: Batch,
    pins: bool,
}

impl RowUpdate<'_> {
    /// A row's value, as it was when the turn began.
    ///
    /// # Errors
    /// Those of the database.
    pub fn get(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.catalog.row(name)
    }

    /// Sets a row, whose name begins with `config:`, `migration:` or `audit:`.
    ///
    /// # Errors
    /// [`Error::ValueTooLarge`], [`Error::Malformed`] for another name.
    pub fn put(&mut self, name: &str, value: &[u8]) -> Result<()> {
        self.check(name)?;
        if value.len() > MAX_VALUE_BYTES {
            return Err(Error::ValueTooLarge {
                path: self.catalog.store().path().to_path_buf(),
                key: name.chars().take(80).collect(),
                len_bytes: value.len() as u64,
                limit_bytes: MAX_VALUE_BYTES as u64,
            });
        }
        self.batch.put(ROWS, name.as_bytes(), value);
        Ok(())
    }

    /// Removes a row.
    ///
    /// # Errors
    /// [`Error::Malformed`] for another name than [`put`](RowUpdate::put) takes.
    pub fn delete(&mut self, name: &str) -> Result<()> {
        self.check(name)?;
        self.batch.delete(ROWS, name.as_bytes());
        Ok(())
    }

    fn check(&mut self, name: &str) -> Result<()> {
        if PREFIXES_OF_OTHERS.iter().any(|prefix| name.starts_with(prefix)) {
            self.pins |= name.starts_with("config:");
            return Ok(());
        }
        Err(Error::Malformed {
            path: self.catalog.store().path().to_path_buf(),
            key: name.chars().take(80).collect(),
            what: "keys of files change through the write protocol only".into(),
        })
    }
}

impl Catalog {
    /// The value of a row that is no key of files.
    ///
    /// # Errors
    /// Those of the database.
    pub fn row(&self, name: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.store().get(ROWS, name.as_bytes())?)
    }

    /// The rows whose names begin with a prefix, in order.
    ///
    /// # Errors
    /// Those of the database.
    pub fn rows(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>> {
        let reader = self.store().reader()?;
        let mut rows = reader.rows(ROWS, Span::prefix(prefix))?;
        let mut found = Vec::new();
        while let Some((name, value)) = rows.next_row()? {
            found.push((String::from_utf8_lossy(name).into_owned(), value.to_vec()));
        }
        Ok(found)
    }

    /// Reads and changes rows in one turn, as compare-and-set does. Nothing is written when `act` fails or changes nothing.
    ///
    /// # Errors
    /// Of `act`; those of the database.
    pub fn update_rows<T, E: From<Error>>(
        &self,
        act: impl FnOnce(&mut RowUpdate<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.update_rows_at(Turn::Live, act)
    }

    pub(crate) fn update_rows_at<T, E: From<Error>>(
        &self,
        turn: Turn,
        act: impl FnOnce(&mut RowUpdate<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut writer = self.turn(turn)?;
        let mut update = RowUpdate { catalog: self, batch: Batch::new(), pins: false };
        let done = act(&mut update)?;
        let RowUpdate { batch, pins, .. } = update;
        if !batch.is_empty() {
            let state = self.state().as_ref().clone();
            steps::take(&**self.disk(), steps::ROWS, || self.write(&mut writer, &batch, state))?;
        }
        if pins {
            self.reload_pins()?;
        }
        Ok(done)
    }
}
