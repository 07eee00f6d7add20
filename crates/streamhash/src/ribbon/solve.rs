use super::{BUCKET_STARTS, Layer, MAX_LAYERS, MAX_STEPS, Values, WIDTH, kernel::Kernel, max_rows, window};
use crate::{
    algorithm::Unsolved,
    format::Header,
    key::{Entry, Key},
    simd::Path,
};

/// A row's equation: the exclusive or of some of the 64 rows from it on is `value`. No coefficients, no equation.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Equation {
    pub(super) coefficients: u64,
    pub(super) value: u64,
}

/// A key's equation, and which entry it is of.
#[derive(Clone, Copy, Default)]
struct Item {
    equation: Equation,
    entry: u32,
}

/// Solves blocks, one after the other in the same memory.
pub(crate) struct Solver {
    seed: u64,
    values: Values,
    kernel: Kernel,
    /// The entries that the layer in hand is for.
    pending: Vec<u32>,
    /// Where their windows start, and their coefficients.
    windows: Vec<(u32, u64)>,
    /// Their equations by start.
    sorted: Vec<Item>,
    /// Where the items of each start begin in `sorted`.
    begins: Vec<u32>,
    equations: Vec<Equation>,
    rows: Vec<u64>,
}

impl Solver {
    pub(crate) fn new(header: &Header, path: Path) -> Self {
        Solver {
            seed: header.global_seed,
            values: Values::of(header),
            kernel: Kernel::of(path),
            pending: Vec::new(),
            windows: Vec::new(),
            sorted: Vec::new(),
            begins: Vec::new(),
            equations: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// Appends the blob of a block. It does not depend on the order of the entries.
    pub(crate) fn solve(&mut self, entries: &[Entry], blob: &mut Vec<u8>) -> Result<(), Unsolved> {
        self.pending.clear();
        self.pending.extend(0..entries.len() as u32);
        let mut rows_left = max_rows(entries.len() as u64);
        for number in 0..MAX_LAYERS {
            let keys = self.pending.len() as u32;
            if keys == 0 {
                return Ok(());
            }
            let layer = Layer::of(keys);
            rows_left = rows_left.checked_sub(layer.rows.into()).ok_or(Unsolved::Layers)?;
            if number > 0 {
                blob.extend_from_slice(&(keys as u16).to_le_bytes());
            }
            self.sort(number, layer, entries)?;
            self.fill(layer, blob);
            self.substitute_back(layer, blob);
        }
        if self.pending.is_empty() { Ok(()) } else { Err(Unsolved::Layers) }
    }

    /// Makes the pending entries' equations and sorts them by start, those of one start by their coefficients.
    fn sort(&mut self, number: usize, layer: Layer, entries: &[Entry]) -> Result<(), Unsolved> {
        let (seed, starts) = (self.seed, layer.starts());
        self.begins.clear();
        self.begins.resize(starts as usize + 1, 0);
        self.windows.clear();
        self.windows.extend(self.pending.iter().map(|&entry| {
            let found = window(entries[entry as usize].key, seed, number, starts);
            self.begins[found.0 as usize] += 1;
            found
        }));
        let mut end = 0;
        for begin in &mut self.begins {
            end += *begin;
            *begin = end;
        }
        self.sorted.resize(self.pending.len(), Item::default());
        // Each place is filled from its end down, so that what were ends become beginnings.
        for (&entry, &(start, coefficients)) in self.pending.iter().zip(&self.windows) {
            let Entry { key, payload } = entries[entry as usize];
            let place = &mut self.begins[start as usize];
            *place -= 1;
            let equation = Equation { coefficients, value: self.values.encode(key, payload) };
            self.sorted[*place as usize] = Item { equation, entry };
        }
        for pair in self.begins.windows(2).filter(|pair| pair[1] - pair[0] > 1) {
            sort_equal_starts(&mut self.sorted[pair[0] as usize..pair[1] as usize], entries)?;
        }
        Ok(())
    }

    /// Enters all equations that fit, appends thresholds, and leaves the others' entries pending.
    fn fill(&mut self, layer: Layer, blob: &mut Vec<u8>) {
        self.pending.clear();
        self.equations.clear();
        self.equations.resize(layer.rows as usize, Equation::default());
        let starts = layer.starts();
        for first in (0..starts).step_by(BUCKET_STARTS as usize) {
            let threshold = self.fill_bucket(first, (first + BUCKET_STARTS).min(starts));
            blob.push(threshold as u8);
            let bumped = self.begins[first as usize]..self.begins[(first + threshold) as usize];
            let bumped = &self.sorted[bumped.start as usize..bumped.end as usize];
            self.pending.extend(bumped.iter().map(|item| item.entry));
        }
    }

    /// Enters the equations of a bucket's keys, from the last start down; gives how many of its first starts are bumped.
    fn fill_bucket(&mut self, first: u32, end: u32) -> u32 {
        for start in (first..end).rev() {
            let items = self.begins[start as usize] as usize..self.begins[start as usize + 1] as usize;
            // No more than this many can be told apart by the rows of one window.
            let mut entered = [0u32; WIDTH as usize];
            for (count, item) in self.sorted[items].iter().enumerate() {
                let row = enter(&mut self.equations, start, item.equation);
                match (row, entered.get_mut(count)) {
                    (Some(row), Some(place)) => *place = row,
                    // Those of the same start go with it: a threshold does not tell them apart.
                    (row, _) => {
                        let undone = entered.iter().take(count).copied().chain(row);
                        undone.for_each(|row| self.equations[row as usize] = Equation::default());
                        return start - first + 1;
                    }
                }
            }
        }
        0
    }

    /// Appends the rows that the equations ask for.
    fn substitute_back(&mut self, layer: Layer, blob: &mut Vec<u8>) {
        let row_bytes = self.values.row_bytes;
        self.rows.resize(layer.rows as usize, 0);
        self.kernel.substitute_back(&self.equations, row_bytes, &mut self.rows);
        let at = blob.len();
        blob.resize(at + self.rows.len() * row_bytes, 0);
        for (out, row) in blob[at..].chunks_exact_mut(row_bytes).zip(&self.rows) {
            out.copy_from_slice(&row.to_le_bytes()[..row_bytes]);
        }
    }
}

/// Enters an equation of the rows from `start` on; gives its row, `None` where those that are there decide it already.
#[inline]
fn enter(equations: &mut [Equation], start: u32, equation: Equation) -> Option<u32> {
    let Equation { mut coefficients, mut value } = equation;
    let mut row = start;
    for _ in 0..MAX_STEPS {
        let there = &mut equations[row as usize];
        if there.coefficients == 0 {
            *there = Equation { coefficients, value };
            return Some(row);
        }
        coefficients ^= there.coefficients;
        value ^= there.value;
        if coefficients == 0 {
            return None;
        }
        let skipped = coefficients.trailing_zeros();
        coefficients >>= skipped;
        row += skipped;
    }
    None
}

/// Sorts the items of one start by their coefficients, and looks for equal keys among them.
fn sort_equal_starts(items: &mut [Item], entries: &[Entry]) -> Result<(), Unsolved> {
    let key = |item: &Item| entries[item.entry as usize].key;
    let order = |item: &Item| {
        let Key { k0, k1 } = key(item);
        (item.equation.coefficients, k0, k1)
    };
    items.sort_unstable_by_key(order);
    match items.windows(2).find(|pair| key(&pair[0]) == key(&pair[1])) {
        Some(pair) => Err(Unsolved::Duplicate(key(&pair[0]))),
        None => Ok(()),
    }
}
