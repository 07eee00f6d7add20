//! Streamhash: build with one worker and two, query one by one and in batches, beside a multiplication and a memory
//! access.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{hint::black_box, path::Path};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use icecore_benches::scratch_dir;
use icecore_diskio::{IfExists, Mmap};
use icecore_streamhash::{Algorithm, Index, Options, SortedBuilder, UnsortedBuilder};
use icecore_testkit::SplitMix64;

const KEYS: usize = 10_000_000;
const QUERIES: usize = 1 << 16;
const ALGORITHMS: [(Algorithm, &str); 2] =
    [(Algorithm::Bijection, "Bijection"), (Algorithm::PtrHash, "PTRHash")];

fn options(algorithm: Algorithm, workers: usize) -> Options {
    let options = Options::new().algorithm(algorithm).payload_bytes(3).fingerprint_bytes(1);
    options.workers(workers).if_exists(IfExists::Replace)
}

fn build_sorted(path: &Path, keys: &[[u8; 16]], algorithm: Algorithm, workers: usize) {
    let mut builder = SortedBuilder::create(path, keys.len() as u64, options(algorithm, workers)).unwrap();
    for (payload, key) in keys.iter().enumerate() {
        builder.add(key, payload as u64 & 0xFF_FFFF).unwrap();
    }
    builder.finish().unwrap();
}

fn build_unsorted(path: &Path, keys: &[[u8; 16]], workers: usize) {
    let options = options(Algorithm::Bijection, workers);
    let mut builder = UnsortedBuilder::create(path, keys.len() as u64, options).unwrap();
    for (payload, key) in keys.iter().enumerate() {
        builder.add(key, payload as u64 & 0xFF_FFFF).unwrap();
    }
    builder.finish().unwrap();
}

/// One wide multiplication for each key: the least that a seed search does.
fn multiply(keys: &[[u8; 16]]) -> u64 {
    keys.iter().fold(0, |sum, key| {
        let (low, high) = key.split_at(8);
        let low = u64::from_le_bytes(low.try_into().unwrap());
        let high = u64::from_le_bytes(high.try_into().unwrap());
        let product = u128::from(low) * u128::from(high);
        sum ^ (product >> 64) as u64 ^ product as u64
    })
}

fn build(c: &mut Criterion) {
    let dir = scratch_dir();
    let path = dir.path().join("index");
    let mut rng = SplitMix64::new(1);
    let unsorted: Vec<[u8; 16]> = (0..KEYS).map(|_| rng.key()).collect();
    let mut keys = unsorted.clone();
    keys.sort_unstable();
    let mut group = c.benchmark_group("streamhash build, 10 M keys");
    group.sample_size(10).throughput(Throughput::Elements(KEYS as u64));
    for (algorithm, name) in ALGORITHMS {
        for workers in [1, 2] {
            group.bench_function(format!("{name}, sorted, workers {workers}"), |b| {
                b.iter(|| build_sorted(&path, &keys, algorithm, workers));
            });
        }
    }
    for workers in [1, 2] {
        group.bench_function(format!("Bijection, unsorted, workers {workers}"), |b| {
            b.iter(|| build_unsorted(&path, &unsorted, workers));
        });
    }
    group.bench_function("reference: a multiplication a key", |b| b.iter(|| black_box(multiply(&keys))));
    group.finish();
}

fn query(c: &mut Criterion) {
    let dir = scratch_dir();
    let path = dir.path().join("index");
    let mut rng = SplitMix64::new(2);
    let mut keys: Vec<[u8; 16]> = (0..KEYS).map(|_| rng.key()).collect();
    keys.sort_unstable();
    let members: Vec<[u8; 16]> = (0..QUERIES).map(|_| keys[rng.below(KEYS as u64) as usize]).collect();
    let strangers: Vec<[u8; 16]> = (0..QUERIES).map(|_| rng.key()).collect();
    let mut group = c.benchmark_group("streamhash query, 10 M keys");
    group.sample_size(20).throughput(Throughput::Elements(QUERIES as u64));
    for (algorithm, name) in ALGORITHMS {
        build_sorted(&path, &keys, algorithm, 2);
        let index = Index::from_source(Mmap::open(&path).unwrap()).unwrap();
        for (queries, what) in [(&members, "members"), (&strangers, "strangers")] {
            group.bench_function(format!("{name}, {what}"), |b| {
                b.iter(|| queries.iter().filter(|key| index.lookup(*key).unwrap().is_some()).count());
            });
        }
        let mut hits = Vec::new();
        group.bench_function(format!("{name}, members, batched"), |b| {
            b.iter(|| members.chunks(1024).for_each(|keys| index.lookup_batch(keys, &mut hits).unwrap()));
        });
    }
    let payload: Vec<u32> = (0..KEYS as u32).collect();
    let places: Vec<usize> = (0..QUERIES).map(|_| rng.below(KEYS as u64) as usize).collect();
    group.bench_function("reference: one random access", |b| {
        b.iter(|| places.iter().fold(0, |sum, &place| sum ^ payload[place]));
    });
    group.finish();
}

criterion_group!(benches, build, query);
criterion_main!(benches);
