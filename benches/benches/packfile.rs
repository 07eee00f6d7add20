//! Packfile: write, scan, point read, batched read, each beside bare zstd on the same records.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use icecore_benches::{compressor, ledgers, scratch_dir, total_bytes};
use icecore_diskio::{IfExists, Mmap};
use icecore_packfile::{Options, Reader, Writer};
use icecore_testkit::SplitMix64;

const LEDGERS: &str = "gen:seed=1,ledgers=100,txs=200,events=2";
const SMALL_ITEM_BYTES: usize = 400;
const ITEMS_PER_RECORD: usize = 128;

fn write(path: &std::path::Path, items: &[Vec<u8>], per_record: u32, threads: usize) {
    let options =
        Options::new().items_per_record(per_record).concurrency(threads).if_exists(IfExists::Replace);
    let mut writer = Writer::create(path, options).unwrap();
    items.iter().for_each(|item| writer.append(item).unwrap());
    writer.finish(&[]).unwrap();
}

/// The records of a packfile, encoded by zstd alone.
fn encode_bare(items: &[Vec<u8>], per_record: usize) -> Vec<Vec<u8>> {
    let mut compressor = compressor();
    items.chunks(per_record).map(|items| compressor.compress(&items.concat()).unwrap()).collect()
}

/// Writes what bare zstd makes of records that are already joined, through one reused buffer.
fn write_bare(path: &std::path::Path, records: &[Vec<u8>]) {
    use std::io::Write;
    let mut compressor = compressor();
    let mut file = std::fs::File::create(path).unwrap();
    let longest = records.iter().map(Vec::len).max().unwrap_or(0);
    let mut out = Vec::with_capacity(zstd::zstd_safe::compress_bound(longest));
    for record in records {
        out.clear();
        compressor.compress_to_buffer(record, &mut out).unwrap();
        file.write_all(&out).unwrap();
    }
}

fn large_items(c: &mut Criterion) {
    let dir = scratch_dir();
    let items = ledgers(LEDGERS);
    let (path, bare) = (dir.path().join("pack"), dir.path().join("bare"));
    let mut group = c.benchmark_group("packfile write, 1 thread");
    group.sample_size(10).throughput(Throughput::Bytes(total_bytes(&items)));
    group.bench_function("ours", |b| b.iter(|| write(&path, &items, 1, 1)));
    group.bench_function("reference: zstd into a file", |b| b.iter(|| write_bare(&bare, &items)));
    group.finish();

    let mut group = c.benchmark_group("packfile write, 2 threads");
    group.sample_size(10).throughput(Throughput::Bytes(total_bytes(&items)));
    group.bench_function("ours", |b| b.iter(|| write(&path, &items, 1, 2)));
    let (left, right) = items.split_at(items.len() / 2);
    let other = dir.path().join("other");
    group.bench_function("reference: zstd into two files", |b| {
        b.iter(|| {
            std::thread::scope(|scope| {
                scope.spawn(|| write_bare(&bare, left));
                scope.spawn(|| write_bare(&other, right));
            });
        });
    });
    group.finish();

    let records = encode_bare(&items, 1);
    let longest = items.iter().map(Vec::len).max().unwrap();
    let mut decompressor = zstd::bulk::Decompressor::new().unwrap();
    let mut out = Vec::with_capacity(longest);
    let reader = Reader::open(&path);
    let count = reader.item_count().unwrap();
    let mut group = c.benchmark_group("packfile scan");
    group.sample_size(10).throughput(Throughput::Bytes(total_bytes(&items)));
    group.bench_function("ours", |b| {
        b.iter(|| {
            let mut items = reader.read_range(0, count).unwrap();
            while let Some(item) = items.next_item().unwrap() {
                black_box(item);
            }
        });
    });
    group.bench_function("reference: zstd in memory", |b| {
        b.iter(|| {
            for record in &records {
                out.clear();
                decompressor.decompress_to_buffer(record, &mut out).unwrap();
                black_box(&out);
            }
        });
    });
    group.finish();

    let mut group = c.benchmark_group("packfile point read, a ledger");
    group.throughput(Throughput::Elements(1));
    let mut item = Vec::new();
    let mut rng = SplitMix64::new(2);
    let mapped = Reader::from_source(Mmap::open(&path).unwrap()).unwrap();
    for (name, reader) in [("from a file", &reader), ("from a map", &mapped)] {
        group.bench_function(name, |b| {
            b.iter(|| reader.read_item_into(rng.below(100) as u32, &mut item).unwrap())
        });
    }
    group.bench_function("reference: one zstd decode", |b| {
        b.iter(|| {
            out.clear();
            decompressor.decompress_to_buffer(&records[rng.below(100) as usize], &mut out).unwrap();
        });
    });
    group.finish();
}

fn small_items(c: &mut Criterion) {
    let dir = scratch_dir();
    let path = dir.path().join("pack");
    let mut rng = SplitMix64::new(3);
    let items: Vec<Vec<u8>> = (0..200_000).map(|_| rng.item(SMALL_ITEM_BYTES)).collect();
    write(&path, &items, ITEMS_PER_RECORD as u32, 2);
    let reader = Reader::open(&path);
    reader.info().unwrap();
    let records = encode_bare(&items, ITEMS_PER_RECORD);
    let mut decompressor = zstd::bulk::Decompressor::new().unwrap();
    let mut out = Vec::with_capacity(ITEMS_PER_RECORD * SMALL_ITEM_BYTES);

    let mut group = c.benchmark_group("packfile point read, 1 of 128");
    group.throughput(Throughput::Elements(1));
    let mut item = Vec::new();
    let mapped = Reader::from_source(Mmap::open(&path).unwrap()).unwrap();
    for (name, reader) in [("from a file", &reader), ("from a map", &mapped)] {
        group.bench_function(name, |b| {
            b.iter(|| reader.read_item_into(rng.below(200_000) as u32, &mut item).unwrap());
        });
    }
    let mut rng = SplitMix64::new(4);
    group.bench_function("reference: one zstd decode", |b| {
        b.iter(|| {
            out.clear();
            decompressor.decompress_to_buffer(&records[rng.below(1562) as usize], &mut out).unwrap();
        });
    });
    group.finish();

    let positions: Vec<u32> = (0..1000).map(|n| n * 200).collect();
    let mut group = c.benchmark_group("packfile batch of 1000");
    group.sample_size(20).throughput(Throughput::Elements(1000));
    group.bench_function("ours, 1 thread", |b| b.iter(|| reader.read_items(&positions, 1).unwrap()));
    group.bench_function("ours, 2 threads", |b| b.iter(|| reader.read_items(&positions, 2).unwrap()));
    group.bench_function("reference: zstd of the records, 1 thread", |b| {
        b.iter(|| {
            let mut last = usize::MAX;
            for &position in &positions {
                let record = position as usize / ITEMS_PER_RECORD;
                if record != last {
                    out.clear();
                    decompressor.decompress_to_buffer(&records[record], &mut out).unwrap();
                    last = record;
                }
            }
        });
    });
    group.finish();
}

criterion_group!(benches, large_items, small_items);
criterion_main!(benches);
