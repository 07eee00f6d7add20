//! The catalog as a store to migrate: rows of `config:`, `audit:` and `migration:`; keys of files change through the write
//! protocol only. One process at a time has it open, so no leases are needed.

use icecore_rockstore::{Reads, Span};

use crate::{Catalog, Error, load::ROWS};

use super::{
    Identity, Look, MigDb, MigError, Rows, Turn,
    db::{Changes, Row, Step},
};

impl MigDb for Catalog {
    fn name(&self) -> String {
        self.store().path().display().to_string()
    }

    fn identity(&self) -> Identity {
        // Where the directory cannot be looked at, its name is that of this process's one handle to it.
        let path = self.store().path();
        Identity::of_path(path).unwrap_or_else(|_| Identity::Path {
            path: path.to_path_buf(),
            device: 0,
            inode: 0,
        })
    }

    fn transact(&self, turn: Turn, step: &mut Step<'_>) -> Result<(), MigError> {
        self.update_rows_at(turn, |update| {
            let mut changes = Changes::default();
            self.read(&mut |rows| step(rows, &mut changes))?;
            for (key, value) in changes.iter() {
                let key = str::from_utf8(key).map_err(|_| {
                    MigError::failed(format!("key {key:?} is not text, as the catalog's are"))
                })?;
                match value {
                    Some(value) => update.put(key, value)?,
                    None => update.delete(key)?,
                }
            }
            Ok(())
        })
    }

    fn read(&self, look: &mut Look<'_>) -> Result<(), MigError> {
        let reader = self.store().reader().map_err(Error::from)?;
        look(&Moment(reader.snapshot()))
    }
}

/// The rows of one moment.
struct Moment<R>(R);

impl<R: Reads> Moment<R> {
    fn first_rows(&self, span: Span, limit: usize) -> Result<Vec<Row>, Error> {
        let mut rows = self.0.rows(ROWS, span)?;
        let mut found = Vec::new();
        while found.len() < limit
            && let Some((key, value)) = rows.next_row()?
        {
            found.push((key.to_vec(), value.to_vec()));
        }
        Ok(found)
    }
}

impl<R: Reads> Rows for Moment<R> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, MigError> {
        let value = self.0.get(ROWS, key).map_err(Error::from)?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, MigError> {
        Ok(self.first_rows(Span::between(from, to), limit)?)
    }

    fn last_key(&self, from: &[u8], to: &[u8]) -> Result<Option<Vec<u8>>, MigError> {
        let last = self.first_rows(Span::between(from, to).descending(), 1)?;
        Ok(last.into_iter().next().map(|(key, _)| key))
    }
}
