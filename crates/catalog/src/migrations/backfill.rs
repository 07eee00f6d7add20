//! Many rows, a chunk at a time.

use std::{fmt, time::Duration};

use crate::mutants;

use super::{Changes, MigCtx, MigError, Rows};

/// Which rows a backfill sees to, and at what pace.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BackfillSpec {
    /// The first key.
    pub from: Vec<u8>,
    /// The key before which it ends.
    pub to: Vec<u8>,
    /// Rows that are looked at, and changed, in one atomic step; not 0.
    pub chunk_rows: usize,
    /// The time between two steps.
    pub pause: Duration,
    /// How many rows may fail; each is left as it is, and any makes the migration fail in the end. Without it the first
    /// row that fails ends the backfill.
    pub skip_bad: Option<usize>,
}

/// What a backfill has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rows that were filled.
    pub processed: u64,
    /// Rows there were to fill, counted before the first one was.
    pub total: u64,
    /// The keys of rows that could not be filled.
    pub skipped: Vec<Vec<u8>>,
}

impl BackfillSpec {
    /// Rows with `from <= key < to`, each worked out on its own: 1000 a step, 50 ms between steps.
    pub fn row_by_row(from: impl Into<Vec<u8>>, to: impl Into<Vec<u8>>) -> Self {
        let (from, to) = (from.into(), to.into());
        BackfillSpec { from, to, chunk_rows: 1000, pause: Duration::from_millis(50), skip_bad: None }
    }

    /// Rows with `from <= key < to`, all given the same: 5000 a step, 100 ms between steps.
    pub fn set_based(from: impl Into<Vec<u8>>, to: impl Into<Vec<u8>>) -> Self {
        BackfillSpec { chunk_rows: 5000, pause: Duration::from_millis(100), ..Self::row_by_row(from, to) }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} rows", self.processed, self.total)
    }
}

/// What one step did.
#[derive(Default)]
struct Chunk {
    processed: u64,
    skipped: Vec<Vec<u8>>,
    /// Why the first of them was.
    first: Option<String>,
    /// Where the next step begins; `None` when there was no row.
    next: Option<Vec<u8>>,
}

/// Fills the rows that are due, those that are there when it begins: later ones are the live writer's duty. `fill` is given a
/// row and adds what there is to change; what it did to a row for which it returns [`MigError::Failed`] is undone.
///
/// It walks from key to key and passes each once, whatever became of it. So it ends even where filling leaves a row due. A
/// row that was tried and has no value should get a mark of its own, so that a retry knows it from one never tried.
///
/// # Errors
/// [`MigError::BadSpec`]; [`MigError::Cancelled`] with the counts so far, what was committed stays; [`MigError::Skipped`]
/// when rows failed; what `fill` and the store say.
pub fn backfill(
    ctx: &mut MigCtx<'_>,
    spec: &BackfillSpec,
    is_due: impl Fn(&[u8], &[u8]) -> bool,
    mut fill: impl FnMut(&dyn Rows, &mut Changes, &[u8], &[u8]) -> Result<(), MigError>,
) -> Result<Counts, MigError> {
    if spec.chunk_rows == 0 {
        return Err(MigError::BadSpec { what: "chunk_rows must not be 0" });
    }
    let end = match ctx.read(|rows| rows.last_key(&spec.from, &spec.to))? {
        Some(last) if mutants::on("backfill_has_no_bound") => spec.to.clone().max(successor(&last)),
        Some(last) => successor(&last),
        None => spec.from.clone(),
    };
    let mut counts = Counts { total: count(ctx, spec, &end, &is_due)?, ..Counts::default() };
    let (mut cursor, mut first) = (spec.from.clone(), None);
    loop {
        let chunk =
            ctx.write(|rows, changes| fill_chunk(rows, changes, spec, &cursor, &end, &is_due, &mut fill))?;
        let moved = chunk.processed > 0 || !chunk.skipped.is_empty();
        counts.processed += chunk.processed;
        counts.skipped.extend(chunk.skipped);
        first = first.or(chunk.first);
        if moved {
            ctx.progress(counts.processed, Some(counts.total));
        }
        if let Some(first) = first.take_if(|_| counts.skipped.len() > spec.skip_bad.unwrap_or(0)) {
            return Err(MigError::Skipped { counts, first });
        }
        match chunk.next {
            Some(_) if mutants::on("backfill_trusts_the_predicate") && moved => {}
            Some(next) => cursor = next,
            None => break,
        }
        match ctx.pause(spec.pause) {
            Err(MigError::Cancelled { .. }) if mutants::on("backfill_cancel_is_success") => {
                return Ok(counts);
            }
            paused => paused.map_err(|_| MigError::Cancelled { counts: counts.clone() })?,
        }
    }
    ctx.progress(counts.processed, Some(counts.total));
    match first {
        Some(first) => Err(MigError::Skipped { counts, first }),
        None => Ok(counts),
    }
}

/// One step: the next rows, whether due or not, so that it is as short as any.
fn fill_chunk(
    rows: &dyn Rows,
    changes: &mut Changes,
    spec: &BackfillSpec,
    cursor: &[u8],
    end: &[u8],
    is_due: &impl Fn(&[u8], &[u8]) -> bool,
    fill: &mut impl FnMut(&dyn Rows, &mut Changes, &[u8], &[u8]) -> Result<(), MigError>,
) -> Result<Chunk, MigError> {
    let mut chunk = Chunk::default();
    for (key, value) in rows.scan(cursor, end, spec.chunk_rows)? {
        if is_due(&key, &value) {
            let before = changes.len();
            match fill(rows, changes, &key, &value) {
                Ok(()) => chunk.processed += 1,
                Err(MigError::Failed(why)) if spec.skip_bad.is_some() => {
                    changes.undo_to(before);
                    chunk.first.get_or_insert(why);
                    chunk.skipped.push(key.clone());
                }
                Err(error) => return Err(error),
            }
        }
        chunk.next = Some(successor(&key));
    }
    Ok(chunk)
}

/// The rows that are due, by the predicate that the walk uses.
fn count(
    ctx: &MigCtx<'_>,
    spec: &BackfillSpec,
    end: &[u8],
    is_due: &impl Fn(&[u8], &[u8]) -> bool,
) -> Result<u64, MigError> {
    let (mut cursor, mut due) = (spec.from.clone(), 0);
    loop {
        if ctx.cancel().is_cancelled() {
            return Err(MigError::Cancelled { counts: Counts::default() });
        }
        let rows = ctx.read(|rows| rows.scan(&cursor, end, spec.chunk_rows))?;
        let Some((last, _)) = rows.last() else { return Ok(due) };
        cursor = successor(last);
        let all = mutants::on("backfill_counts_everything");
        due += rows.iter().filter(|(key, value)| all || is_due(key, value)).count() as u64;
    }
}

/// The least key after this one.
fn successor(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}
