//! Lookups beside nothing but their accesses to memory, in the same bytes.

use std::{hint::black_box, ops::Range, time::Instant};

use icecore_diskio::ReadAt;
use icecore_streamhash::Index;

use crate::{Any, Key, lanes};

const ROUND: usize = 1 << 13;
const ROUNDS: usize = 96;
/// Accesses that are begun together.
const GROUP: usize = 64;
const BATCH: usize = 1024;
const LINE: usize = 64;

/// Nanoseconds for one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) looped: f64,
    pub(crate) batched: f64,
    pub(crate) latency: f64,
}

impl Times {
    pub(crate) const NONE: Self =
        Times { looped: f64::INFINITY, batched: f64::INFINITY, latency: f64::INFINITY };

    pub(crate) fn least(self, other: Self) -> Self {
        Times {
            looped: self.looped.min(other.looped),
            batched: self.batched.min(other.batched),
            latency: self.latency.min(other.latency),
        }
    }
}

/// Where a key's access goes first, and where that one sends it.
type Places = [usize; 2];

/// The accesses that lookups of a structure make: one in a region, if any, then so many lines in another.
pub(crate) struct Pattern<'a> {
    bytes: &'a [u8],
    places: Vec<Places>,
    lines: usize,
}

/// The best of some rounds, by the clock.
fn best<T>(items: &[T], mut round: impl FnMut(&[T]) -> u64) -> f64 {
    let time = |items: &[T]| {
        let start = Instant::now();
        black_box(round(items));
        start.elapsed().as_secs_f64() * 1e9 / items.len() as f64
    };
    items.chunks_exact(ROUND.min(items.len())).cycle().take(ROUNDS).map(time).fold(f64::INFINITY, f64::min)
}

impl<'a> Pattern<'a> {
    pub(crate) fn new(index: &'a Index<Vec<u8>>, queries: usize, mut draw: impl FnMut(u64) -> u64) -> Self {
        let (bytes, layout) = (index.source(), index.layout());
        let [payload_at, metadata_at] = [layout.payload_at, layout.metadata_at].map(|at| at as usize);
        let (first, second, lines) = match index.header().algorithm.has_ranks() {
            true => (metadata_at..bytes.len(), payload_at..metadata_at, 1),
            // Which rows they are is known from a byte that is nearly always in a cache.
            false => (metadata_at..metadata_at + 2 * LINE, metadata_at..bytes.len(), 4),
        };
        let mut place =
            |region: &Range<usize>, bytes: usize| region.start + draw((region.len() - bytes) as u64) as usize;
        let places = (0..queries).map(|_| [place(&first, LINE), place(&second, lines * LINE)]).collect();
        Pattern { bytes, places, lines }
    }

    /// Nothing but the accesses.
    pub(crate) fn measure(&self) -> Times {
        if self.lines == 1 { self.in_lines::<1>() } else { self.in_lines::<4>() }
    }

    /// A byte of each line.
    #[inline(always)]
    fn second<const LINES: usize>(&self, at: usize) -> u64 {
        (0..LINES).fold(0, |sum, line| sum ^ u64::from(self.bytes[at + line * LINE]))
    }

    fn in_lines<const LINES: usize>(&self) -> Times {
        let none = black_box(0);
        let second_at = |places: &Places| places[1] + usize::from(self.bytes[places[0]] & none);
        let pair = |places: &Places| self.second::<LINES>(second_at(places));
        Times {
            looped: best(&self.places, |places| places.iter().map(pair).sum()),
            batched: best(&self.places, |places| {
                let mut sum = 0;
                for places in places.chunks(GROUP) {
                    places.iter().for_each(|places| lanes::prefetch(self.bytes, places[0]));
                    for at in places.iter().map(second_at) {
                        (0..LINES).for_each(|line| lanes::prefetch(self.bytes, at + line * LINE));
                    }
                    sum += places.iter().map(|places| self.second::<LINES>(places[1])).sum::<u64>();
                }
                sum
            }),
            latency: best(&self.places, |places| {
                let next = |last: u64, i: usize| pair(&places[i + (last & u64::from(none)) as usize]);
                (0..places.len()).fold(0, next)
            }),
        }
    }

    /// Of a loop of pairs of accesses, with so many instructions before the first of them, and between the two.
    fn with_turns<const BEFORE: usize, const BETWEEN: usize>(&self) -> f64 {
        let none = black_box(0);
        best(&self.places, |places| {
            let pair = |places: &Places| {
                let first_at = places[0] + (lanes::turn::<BEFORE>(places[0] as u64) & none) as usize;
                let between = lanes::turn::<BETWEEN>(self.bytes[first_at].into());
                self.second::<1>(places[1] + (between & none) as usize)
            };
            places.iter().map(pair).sum()
        })
    }

    /// Nanoseconds for a pair with 0, 32, 64 and 96 instructions before the first access; and between the two.
    pub(crate) fn windows(&self) -> [Window; 2] {
        let none = self.with_turns::<0, 0>();
        let before = [self.with_turns::<32, 0>(), self.with_turns::<64, 0>(), self.with_turns::<96, 0>()];
        let between = [self.with_turns::<0, 32>(), self.with_turns::<0, 64>(), self.with_turns::<0, 96>()];
        [before, between].map(|[a, b, c]| [(0, none), (32, a), (64, b), (96, c)])
    }

    /// The same accesses, all to the places of the first.
    pub(crate) fn near(&self) -> Self {
        Pattern { places: vec![self.places[0]; self.places.len()], ..*self }
    }
}

/// Numbers of instructions, and nanoseconds.
pub(crate) type Window = [(usize, f64); 4];

/// Nanoseconds for each instruction that is added, by least squares.
pub(crate) fn slope(points: &[(usize, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean = |value: fn(&(usize, f64)) -> f64| points.iter().map(value).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0 as f64), mean(|point| point.1));
    let products: f64 = points.iter().map(|point| (point.0 as f64 - x) * (point.1 - y)).sum();
    products / points.iter().map(|point| (point.0 as f64 - x).powi(2)).sum::<f64>()
}

pub(crate) fn lookups<S: ReadAt>(index: &Index<S>, members: &[Key]) -> Any<Times> {
    if members.iter().any(|key| !matches!(index.lookup(key), Ok(Some(_)))) {
        return Err("a member is not found".into());
    }
    let get = |key: &Key| index.lookup(key).ok().flatten().map_or(0, |hit| hit.payload);
    let (none, mut hits) = (black_box(0), Vec::new());
    Ok(Times {
        looped: best(members, |keys| keys.iter().map(get).sum()),
        batched: best(members, |keys| {
            keys.chunks(BATCH).fold(0, |sum, keys| match index.lookup_batch(keys, &mut hits) {
                Ok(()) => sum ^ hits.iter().flatten().fold(0, |sum, hit| sum ^ hit.payload),
                Err(_) => sum,
            })
        }),
        latency: best(members, |keys| {
            (0..keys.len()).fold(0, |last, i| get(&keys[i + (last & none) as usize]))
        }),
    })
}
