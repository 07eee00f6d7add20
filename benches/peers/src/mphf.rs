//! Minimal perfect hash functions in memory, each with a table of payloads and fingerprints beside it.

use std::{
    marker::PhantomData,
    sync::atomic::{AtomicU32, Ordering},
    time::Instant,
};

use rayon::prelude::*;

use crate::{
    Any,
    contender::{Builder, Built, How, Lookup},
    keys::{Key, payloads},
    prefetch::prefetch,
};

/// Keys whose entries are loaded at the same time: as many lines as the nearest cache has room for.
const BATCH: usize = 512;
/// Keys that a worker takes at once to fill the table.
const SHARE: usize = 1 << 14;

/// A function that gives each of its keys a number of its own below their count.
pub(crate) trait Mphf: Sized + Sync {
    /// Whether there is a call for many keys.
    const BATCHED: bool;

    /// Uses as many threads as rayon's global pool has.
    fn build(keys: &[Key], workers: usize) -> Any<Self>;

    fn bytes(&self) -> usize;

    fn number(&self, key: &Key) -> usize;

    /// The numbers of many keys, in order.
    fn numbers(&self, keys: &[Key], each: impl FnMut(usize));
}

pub(crate) struct Tabled<F>(PhantomData<F>);

impl<F> Default for Tabled<F> {
    fn default() -> Self {
        Tabled(PhantomData)
    }
}

/// A function and its table. The table's entries are atomic so that threads can fill it; read, they are plain words.
pub(crate) struct WithTable<F> {
    function: F,
    table: Vec<AtomicU32>,
}

impl<F: Mphf> Builder for Tabled<F> {
    type Structure = WithTable<F>;

    fn build(&self, keys: &[Key], how: &How) -> Any<Built<WithTable<F>>> {
        let start = Instant::now();
        let function = F::build(keys, how.workers)?;
        let alone = start.elapsed().as_secs_f64();
        let payloads = payloads(keys.len());
        let mut table = Vec::new();
        table.resize_with(keys.len(), AtomicU32::default);
        keys.par_chunks(SHARE).for_each(|keys| {
            let mut next = keys.iter();
            function.numbers(keys, |number| {
                if let (Some(key), Some(entry)) = (next.next(), table.get(number)) {
                    entry.store(key.payload(payloads) << 8 | key.fingerprint(), Ordering::Relaxed);
                }
            });
        });
        let seconds = start.elapsed().as_secs_f64();
        let function_bytes = function.bytes() as u64;
        Ok(Built {
            bytes: function_bytes + size_of_val(&table[..]) as u64,
            structure: WithTable { function, table },
            seconds,
            function: Some((alone, function_bytes)),
        })
    }
}

impl<F: Mphf> WithTable<F> {
    #[inline(always)]
    fn entry(&self, key: &Key, number: usize) -> Option<u32> {
        let entry = self.table.get(number)?.load(Ordering::Relaxed);
        (entry & 0xFF == key.fingerprint()).then_some(entry >> 8)
    }
}

impl<F: Mphf> Lookup for WithTable<F> {
    #[inline(always)]
    fn get(&self, key: &Key) -> Option<u32> {
        self.entry(key, self.function.number(key))
    }

    fn batch(&self, keys: &[Key]) -> Option<u64> {
        if !F::BATCHED {
            return None;
        }
        let (mut sum, mut numbers) = (0, [0; BATCH]);
        for keys in keys.chunks(BATCH) {
            let mut slots = numbers.iter_mut();
            self.function.numbers(keys, |number| {
                prefetch(&self.table, number);
                if let Some(slot) = slots.next() {
                    *slot = number;
                }
            });
            for (key, &number) in keys.iter().zip(&numbers) {
                sum += u64::from(self.entry(key, number).unwrap_or(0));
            }
        }
        Some(sum)
    }

    fn numbers(&self, keys: &[Key]) -> Option<u64> {
        Some(keys.iter().map(|key| self.function.number(key) as u64).sum())
    }

    fn numbers_batch(&self, keys: &[Key]) -> Option<u64> {
        let mut sum = 0;
        self.function.numbers(keys, |number| sum += number as u64);
        F::BATCHED.then_some(sum)
    }
}
