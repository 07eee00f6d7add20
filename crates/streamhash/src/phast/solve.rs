use super::{Hashed, MIN_FIRST_KEYS, Shape, holes, sweep::Sweep};
use crate::{
    algorithm::{Placed, Unsolved},
    format::Header,
    key::Entry,
    simd::Path,
};

/// How many levels a block may have after the first. Each is a small part of the one before, unless keys are made to
/// stay together.
pub(super) const MAX_LEVELS: usize = 12;

/// Solves blocks one after another in the same memory.
pub(crate) struct Solver {
    path: Path,
    seed: u64,
    blocks: u32,
    sweep: Sweep,
    /// The slot of each entry.
    slots: Vec<u32>,
    holes: Vec<u32>,
    /// Numbers of entries that have no slot yet, and of those that the next level bumps.
    bumped: Vec<u32>,
    still_bumped: Vec<u32>,
    /// Slots of the later levels, and the numbers of the entries that have them.
    later: Vec<(u32, u32)>,
    /// Those slots' places in the block.
    remap: Vec<u32>,
}

impl Solver {
    pub(crate) fn new(header: &Header, path: Path) -> Self {
        Solver {
            path,
            seed: header.global_seed,
            blocks: header.blocks,
            sweep: Sweep::default(),
            slots: Vec::new(),
            holes: Vec::new(),
            bumped: Vec::new(),
            still_bumped: Vec::new(),
            later: Vec::new(),
            remap: Vec::new(),
        }
    }

    /// Appends the blob of a block and gives every key its slot. Less than 2^24 keys.
    pub(crate) fn solve<'a>(
        &'a mut self,
        entries: &'a [Entry],
        blob: &mut Vec<u8>,
    ) -> Result<Placed<'a>, Unsolved> {
        let keys = entries.len() as u32;
        self.holes.clear();
        self.bumped.clear();
        self.slots.clear();
        if keys < MIN_FIRST_KEYS {
            self.slots.resize(entries.len(), 0);
            self.bumped.extend(0..keys);
            self.holes.extend(0..keys);
        } else {
            self.first_level(entries, blob);
        }
        self.later_levels(entries, blob)?;
        Ok(Placed::Wide { entries, slots: &self.slots })
    }

    fn first_level(&mut self, entries: &[Entry], blob: &mut Vec<u8>) {
        let shape = Shape::first(entries.len() as u32);
        let (blocks, seed) = (self.blocks, self.seed);
        let hashed = entries.iter().map(|entry| Hashed::first(entry.key, blocks, seed));
        self.sweep.run(self.path, &shape, hashed);
        blob.extend_from_slice(&self.sweep.seeds);
        for (i, slot) in (0..).zip(self.sweep.slots(&shape)) {
            if slot.is_none() {
                self.bumped.push(i);
            }
            self.slots.push(slot.unwrap_or(0));
        }
        self.sweep.holes(&shape, &mut self.holes);
    }

    /// Sends the bumped keys to the holes, of which there are as many.
    fn later_levels(&mut self, entries: &[Entry], blob: &mut Vec<u8>) -> Result<(), Unsolved> {
        let head = blob.len();
        blob.push(0);
        self.later.clear();
        let (mut levels, mut seeds, mut begin) = (0, Vec::new(), 0);
        while !self.bumped.is_empty() {
            if levels == MAX_LEVELS {
                return Err(self.twins(entries).unwrap_or(Unsolved::Indistinguishable));
            }
            levels += 1;
            let keys = self.bumped.len() as u32;
            let shape = Shape::later(keys);
            blob.extend_from_slice(&keys.to_le_bytes()[..3]);
            let (seed, bumped) = (self.seed, &self.bumped);
            let hashed = bumped.iter().map(|&i| Hashed::later(entries[i as usize].key, levels, seed));
            self.sweep.run(self.path, &shape, hashed);
            seeds.extend_from_slice(&self.sweep.seeds);
            self.still_bumped.clear();
            for (&i, slot) in bumped.iter().zip(self.sweep.slots(&shape)) {
                match slot {
                    Some(slot) => self.later.push((begin + slot, i)),
                    None => self.still_bumped.push(i),
                }
            }
            begin += shape.slots;
            std::mem::swap(&mut self.bumped, &mut self.still_bumped);
        }
        blob[head] = levels as u8;
        blob.append(&mut seeds);
        self.later.sort_unstable();
        self.remap.clear();
        for (&(later, i), &hole) in self.later.iter().zip(&self.holes) {
            // Slots that nobody took say the same as the next one that somebody did.
            self.remap.resize(later as usize + 1, hole);
            self.slots[i as usize] = hole;
        }
        if let Some(&last) = self.remap.last() {
            self.remap.resize(begin as usize, last);
        }
        holes::encode(&self.remap, entries.len() as u32, blob);
        Ok(())
    }

    /// Two equal keys among those that no level has placed.
    #[cold]
    fn twins(&self, entries: &[Entry]) -> Option<Unsolved> {
        let mut keys: Vec<_> = self.bumped.iter().map(|&i| entries[i as usize].key).collect();
        keys.sort_unstable_by_key(|key| (key.k0, key.k1));
        let twins = keys.windows(2).find(|pair| pair[0] == pair[1]);
        twins.map(|pair| Unsolved::Duplicate(pair[0]))
    }
}
