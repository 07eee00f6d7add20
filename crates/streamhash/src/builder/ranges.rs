use std::{
    collections::BTreeMap,
    ops::{ControlFlow, Range},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use icecore_diskio::{Disk, RealDisk};
use xxhash_rust::xxh64::xxh64;

use super::{
    Intake, MAX_WORKERS, Options, Progress, Summary,
    sink::{Block, Part, Sink},
};
use crate::{
    Error, Result,
    algorithm::Solver,
    format::Header,
    key::{Entry, KEY_BYTES, Key, fast_range},
    prefetch::prefetch,
};

/// Builds an index of keys that can be had range by range: the same file as [`SortedBuilder`](crate::SortedBuilder)
/// would make.
///
/// ```text
/// key space   ├─ range 0 ─┼─ range 1 ─┼─ range 2 ─┼─ …        each some blocks
/// worker      next range ─▶ fill: keys into their blocks ─▶ solve each block ─▶ in order, by whoever is there first: file
/// ```
///
/// Each worker takes the next range, has its keys put into their blocks in any order, and solves these while they are in
/// a near cache. What it makes of them waits until all ranges before are written; whoever brings the next one writes it,
/// and what has come meanwhile, while the others go on. Nothing else passes through one thread, and the keys are moved
/// once.
///
/// Memory: 10 bytes per block of about three thousand keys, 27 bytes for each key of [`Options::range_keys`] per worker,
/// and what two ranges per worker come to in the file. A failed build leaves nothing behind.
///
/// ```
/// use icecore_streamhash::{Fill, KeyRange, Options, Places, RangeBuilder, Result, prehash};
///
/// /// The hashes of the numbers below a thousand, as if they could be had in order.
/// struct Numbers;
///
/// impl Fill for Numbers {
///     type Error = icecore_streamhash::Error;
///
///     fn fill(&mut self, range: &KeyRange, places: &mut Places) -> Result<()> {
///         for number in 0..1000u64 {
///             let key = prehash(&number.to_le_bytes());
///             if range.contains(&key) {
///                 places.add(&key, number);
///             }
///         }
///         Ok(())
///     }
/// }
///
/// # fn main() -> Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("index");
/// let builder = RangeBuilder::create(&path, 1000, Options::new().payload_bytes(2).workers(2))?;
/// assert_eq!(builder.build(|| Numbers)?.keys, 1000);
/// # Ok(())
/// # }
/// ```
pub struct RangeBuilder {
    plan: Plan,
    sink: Sink,
    options: Options,
}

/// Brings the keys of a range; each worker has one of its own.
pub trait Fill: Send {
    /// What may go wrong with it, or with the build.
    type Error: From<Error> + Send;

    /// Adds every key of the range to the places, in any order, and no other. Ranges are asked for in ascending order,
    /// but most of them of other workers.
    ///
    /// # Errors
    /// Any error ends the build; that of the lowest range is what it ends with.
    fn fill(&mut self, range: &KeyRange, places: &mut Places) -> Result<(), Self::Error>;
}

/// A part of the key space: what some consecutive blocks hold.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyRange {
    /// Which one it is, from 0.
    pub number: u32,
    /// The first eight bytes of its keys, as a big-endian number, are at least this.
    pub from: u64,
    /// And less than this; at most 2^64.
    pub to: u128,
    blocks: Range<u32>,
}

impl KeyRange {
    /// Whether a key falls into it.
    pub fn contains(&self, key: &[u8; KEY_BYTES]) -> bool {
        let prefix = Key::of(key).k0.swap_bytes();
        self.from <= prefix && u128::from(prefix) < self.to
    }
}

/// How the key space is cut into ranges.
pub(super) struct Plan {
    pub(super) header: Header,
    pub(super) blocks_per_range: u32,
    pub(super) ranges: u32,
}

impl Plan {
    pub(super) fn new(header: Header, blocks_per_range: u32) -> Self {
        Plan { header, blocks_per_range, ranges: header.blocks.div_ceil(blocks_per_range) }
    }

    /// The smallest prefix of a key of this block.
    fn cut(&self, block: u32) -> u128 {
        (u128::from(block) << 64).div_ceil(self.header.blocks.into())
    }

    fn range(&self, number: u32) -> KeyRange {
        let first = number * self.blocks_per_range;
        let end = first.saturating_add(self.blocks_per_range).min(self.header.blocks);
        KeyRange { number, from: self.cut(first) as u64, to: self.cut(end), blocks: first..end }
    }
}

/// Where a range's keys are put, block by block.
pub struct Places {
    /// Of the whole index.
    blocks: u32,
    max_payload: u64,
    /// How many keys there is place for in a block: as many as it may have.
    capacity: usize,
    range: Range<u32>,
    /// How many keys of each block came. Of a block with too many, the rest is counted and not kept.
    counts: Vec<usize>,
    entries: Vec<Entry>,
    /// What is wrong with a key, the first time.
    failed: Option<Error>,
}

impl Places {
    fn new(plan: &Plan) -> Self {
        let capacity = plan.header.max_block_keys() as usize;
        let blocks = plan.blocks_per_range as usize;
        Places {
            blocks: plan.header.blocks,
            max_payload: plan.header.max_payload,
            capacity,
            range: 0..0,
            counts: vec![0; blocks],
            entries: vec![Entry::default(); blocks * capacity],
            failed: None,
        }
    }

    fn begin(&mut self, range: &KeyRange) {
        self.range = range.blocks.clone();
        self.counts.clear();
        self.counts.resize(range.blocks.len(), 0);
    }

    /// Adds a key with its payload (0 where the index keeps none). What is wrong with it ends the build, but not at once:
    /// [`Error::PayloadTooLarge`], [`Error::OutsideRange`], [`Error::BlockOverflow`].
    #[inline(always)]
    pub fn add(&mut self, key: &[u8; KEY_BYTES], payload: u64) {
        let key = Key::of(key);
        let block = fast_range(key.k0.swap_bytes(), self.blocks);
        let local = block.wrapping_sub(self.range.start) as usize;
        let Some(count) = self.counts.get_mut(local).filter(|_| payload <= self.max_payload) else {
            return self.refuse(block, payload);
        };
        let at = local * self.capacity + *count;
        if *count < self.capacity
            && let Some(place) = self.entries.get_mut(at)
        {
            *place = Entry { key, payload };
            // Where the places are not in the nearest cache, the next ones of this block are on their way when needed.
            prefetch(&self.entries, at + 8);
        }
        *count += 1;
    }

    #[cold]
    fn refuse(&mut self, block: u32, payload: u64) {
        let error = match self.range.contains(&block) {
            true => Error::PayloadTooLarge { payload, max: self.max_payload },
            false => Error::OutsideRange { block, first: self.range.start, end: self.range.end },
        };
        self.failed.get_or_insert(error);
    }

    /// The blocks with what was put into them; more than there was place for is an error.
    fn blocks(&self) -> impl Iterator<Item = Result<(u32, &[Entry])>> {
        self.range.clone().zip(&self.counts).enumerate().map(|(local, (block, &count))| {
            let at = local * self.capacity;
            let (keys, max) = (count as u64, self.capacity as u64);
            // There is place for as many as a block may have.
            let entries = (count <= self.capacity).then(|| self.entries.get(at..at + count)).flatten();
            Ok((block, entries.ok_or(Error::BlockOverflow { block, keys, max })?))
        })
    }
}

impl RangeBuilder {
    /// Begins an index of `key_count` keys that will be called `path`.
    ///
    /// # Errors
    /// [`Error::Option`], and those of the disk.
    pub fn create(path: impl AsRef<Path>, key_count: u64, options: Options) -> Result<Self> {
        Self::create_on(&(Arc::new(RealDisk) as Arc<dyn Disk>), path, key_count, options)
    }

    /// [`create`](RangeBuilder::create) on a disk of the caller's choice.
    ///
    /// # Errors
    /// [`Error::Option`], and those of the disk.
    pub fn create_on(
        disk: &Arc<dyn Disk>,
        path: impl AsRef<Path>,
        key_count: u64,
        options: Options,
    ) -> Result<Self> {
        let header = Intake::new(key_count, &options)?.header;
        let block_keys = (header.keys / u64::from(header.blocks)).max(1);
        let blocks_per_range = (options.range_keys / block_keys).clamp(1, header.blocks.into()) as u32;
        Self::planned(disk, path.as_ref(), Plan::new(header, blocks_per_range), options)
    }

    pub(super) fn planned(disk: &Arc<dyn Disk>, path: &Path, plan: Plan, options: Options) -> Result<Self> {
        let sink = Sink::create(disk, path, plan.header, &options)?;
        Ok(RangeBuilder { plan, sink, options })
    }

    /// Has all ranges filled, solves them and completes the file: contents, name and directory are durable on return.
    ///
    /// # Errors
    /// Those of the fillers, [`Error::PayloadTooLarge`], [`Error::OutsideRange`], [`Error::BlockOverflow`],
    /// [`Error::DuplicateKey`], [`Error::Indistinguishable`] and its like, [`Error::KeyCountMismatch`] where there were
    /// more or fewer keys than announced, [`Error::Thread`], [`Error::WorkerPanicked`], and those of the disk.
    pub fn build<F: Fill>(self, filler: impl FnMut() -> F) -> Result<Summary, F::Error> {
        self.build_with(filler, |_| ControlFlow::Continue(()))
    }

    /// [`build`](RangeBuilder::build) that tells now and then, and before it seals the file, how many keys are written,
    /// and stops when told to.
    ///
    /// # Errors
    /// Those of [`build`](RangeBuilder::build), and [`Error::Cancelled`].
    pub fn build_with<F: Fill>(
        self,
        mut filler: impl FnMut() -> F,
        mut progress: impl FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Summary, F::Error> {
        let RangeBuilder { plan, sink, options } = self;
        let workers = options.workers.clamp(1, MAX_WORKERS).min(plan.ranges as usize);
        let shared = Shared::new(&plan, sink, workers as u32);
        let mut worker = || Worker {
            plan: &plan,
            shared: &shared,
            filler: filler(),
            solver: Solver::new(&plan.header, options.path),
            places: Places::new(&plan),
        };
        // How much was told; nothing more to one who wants no more.
        let mut told = Some(0);
        let mut tell = || {
            let keys_done = shared.lock().keys;
            if told.is_none_or(|told| told == keys_done) {
                return;
            }
            told = Some(keys_done);
            if progress(Progress { keys_done, keys: plan.header.keys }).is_break() {
                told = None;
                shared.fail(Error::Cancelled.into());
            }
        };
        thread::scope(|scope| {
            let mut threads = Vec::with_capacity(workers);
            let mut own = worker();
            for _ in 1..workers {
                let mut worker = worker();
                let thread = thread::Builder::new().name("streamhash".to_owned());
                match thread.spawn_scoped(scope, move || while worker.step() {}) {
                    Ok(thread) => threads.push(thread),
                    Err(source) => shared.fail(Error::Thread { source: Arc::new(source) }.into()),
                }
            }
            // However this thread ends, the others must.
            let stepped = catch_unwind(AssertUnwindSafe(|| {
                while own.step() {
                    tell();
                }
            }));
            if stepped.is_err() {
                shared.fail(Error::Cancelled.into());
            }
            // The scope itself would wait only until their work is done, not until they are gone.
            let joined = threads.into_iter().map(|thread| thread.join()).fold(Ok(()), Result::and);
            stepped.and(joined).unwrap_or_else(|panic| resume_unwind(panic));
        });
        tell();
        Ok(shared.into_sink()?.finish()?)
    }
}

/// Ranges that may be under way or waiting for their turn, per worker.
const RANGES_PER_WORKER: u32 = 3;

/// What workers share.
struct Shared<E> {
    state: Mutex<State<E>>,
    /// Rung whenever a range was written, or none is wanted any more.
    moved: Condvar,
    /// How far the workers may be ahead of the file, in ranges.
    window: u32,
}

struct State<E> {
    /// The range to be claimed next.
    next: u32,
    /// No range from this one on is wanted.
    end: u32,
    /// The range to be written next.
    turn: u32,
    /// Ranges that came before their turn.
    waiting: BTreeMap<u32, Result<Part, E>>,
    /// Not there while somebody writes.
    sink: Option<Sink>,
    /// Keys written.
    keys: u64,
    /// The memory of parts that were written.
    spare: Vec<Part>,
    failed: Option<E>,
}

impl<E: From<Error>> Shared<E> {
    fn new(plan: &Plan, sink: Sink, workers: u32) -> Self {
        let state = State {
            next: 0,
            end: plan.ranges,
            turn: 0,
            waiting: BTreeMap::new(),
            sink: Some(sink),
            keys: 0,
            spare: Vec::new(),
            failed: None,
        };
        Shared { state: Mutex::new(state), moved: Condvar::new(), window: workers * RANGES_PER_WORKER }
    }

    fn lock(&self) -> MutexGuard<'_, State<E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next range, and memory for what becomes of it; `None` when there is no more to do.
    fn claim(&self) -> Option<(u32, Part)> {
        let mut state = self.lock();
        loop {
            if state.next >= state.end {
                return None;
            }
            if state.next - state.turn < self.window {
                let number = state.next;
                state.next += 1;
                return Some((number, state.spare.pop().unwrap_or_default()));
            }
            state = self.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes what became of a range. It is written at once, or by whoever is writing now, or when its turn comes.
    fn hand_in(&self, number: u32, solved: Result<Part, E>) {
        let mut state = self.lock();
        if solved.is_err() {
            // Those before it still count: their errors come first.
            state.end = state.end.min(number);
        }
        state.waiting.insert(number, solved);
        let Some(mut sink) = state.sink.take() else { return };
        loop {
            let turn = state.turn;
            let Some(solved) = state.waiting.remove(&turn).filter(|_| state.failed.is_none()) else { break };
            drop(state);
            let written = solved.and_then(|part| Ok(write(&mut sink, part)?));
            state = self.lock();
            match written {
                Ok(part) => {
                    state.turn += 1;
                    state.keys += part.keys();
                    state.spare.push(part);
                }
                Err(error) => state.fail(error),
            }
            self.moved.notify_all();
        }
        state.sink = Some(sink);
    }

    /// Ends the build, unless it has failed already.
    fn fail(&self, error: E) {
        self.lock().fail(error);
        self.moved.notify_all();
    }

    /// The sink, once all is written.
    fn into_sink(self) -> Result<Sink, E> {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        match (state.failed, state.sink) {
            (None, Some(sink)) => Ok(sink),
            (Some(error), _) => Err(error),
            (None, None) => Err(Error::WorkerPanicked { block: 0 }.into()),
        }
    }
}

impl<E> State<E> {
    fn fail(&mut self, error: E) {
        self.failed.get_or_insert(error);
        self.end = 0;
    }
}

/// Writes a part. A file that lacks one must not be sealed, be it for a disk that panics.
fn write(sink: &mut Sink, part: Part) -> Result<Part> {
    let block = part.first_block;
    catch_unwind(AssertUnwindSafe(|| sink.append_part(&part)))
        .unwrap_or(Err(Error::WorkerPanicked { block }))
        .map(|()| part)
}

struct Worker<'a, F: Fill> {
    plan: &'a Plan,
    shared: &'a Shared<F::Error>,
    filler: F,
    solver: Solver,
    places: Places,
}

impl<F: Fill> Worker<'_, F> {
    /// Does one range; false when there is no more to do.
    fn step(&mut self) -> bool {
        let Some((number, part)) = self.shared.claim() else { return false };
        let range = self.plan.range(number);
        // A range that got lost would leave the others waiting.
        let solved = catch_unwind(AssertUnwindSafe(|| self.solve(&range, part)))
            .unwrap_or_else(|_| Err(Error::WorkerPanicked { block: range.blocks.start }.into()));
        let go_on = solved.is_ok();
        self.shared.hand_in(number, solved);
        go_on
    }

    fn solve(&mut self, range: &KeyRange, mut part: Part) -> Result<Part, F::Error> {
        self.places.begin(range);
        self.filler.fill(range, &mut self.places)?;
        if let Some(error) = self.places.failed.take() {
            return Err(error.into());
        }
        let entry_bytes = self.plan.header.entry_bytes();
        part.begin(range.blocks.start);
        for block in self.places.blocks() {
            let (block, entries) = block?;
            let blob_at = part.blobs.len();
            let payload = part.payload.next(entries.len() * entry_bytes);
            let solved = self.solver.solve(entries, &mut part.blobs, payload);
            solved.map_err(|unsolved| unsolved.in_block(block))?;
            part.blocks.push(Block {
                keys: entries.len() as u64,
                blob_bytes: part.blobs.len() - blob_at,
                payload_hash: xxh64(payload, 0),
            });
        }
        Ok(part)
    }
}
