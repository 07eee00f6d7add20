//! Ledgers: decoding beside a scan of the bytes, generating beside copying, a whole chunk beside bare zstd.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{hint::black_box, sync::Arc};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use icecore_benches::{compressor, ledgers, scratch_dir, total_bytes};
use icecore_cold::{Builder, Control, Layout, Manifest};
use icecore_diskio::RealDisk;
use icecore_ledger::{Decoder, Geometry, Source};
use icecore_stellar::{StellarDecoder, source::Generator};

const LEDGERS: &str = "gen:seed=1,ledgers=200,txs=200,events=5";

fn decode(c: &mut Criterion) {
    let ledgers = ledgers(LEDGERS);
    let mut group = c.benchmark_group("decode ledgers");
    group.sample_size(20).throughput(Throughput::Bytes(total_bytes(&ledgers)));
    group.bench_function("ours", |b| {
        b.iter(|| ledgers.iter().map(|raw| StellarDecoder.decode(raw).unwrap().events.len()).sum::<usize>());
    });
    group.bench_function("reference: a scan of the bytes", |b| {
        b.iter(|| {
            ledgers.iter().fold(0u64, |sum, raw| {
                let (words, _) = raw.as_chunks::<8>();
                words.iter().fold(sum, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)))
            })
        });
    });
    group.finish();
}

fn generate(c: &mut Criterion) {
    let source: Generator = LEDGERS.parse().unwrap();
    let ledgers = ledgers(LEDGERS);
    let mut group = c.benchmark_group("generate ledgers");
    group.sample_size(10).throughput(Throughput::Bytes(total_bytes(&ledgers)));
    group.bench_function("ours", |b| {
        b.iter(|| {
            let mut stream = source.stream(source.range().unwrap()).unwrap();
            while let Some(ledger) = stream.next_ledger().unwrap() {
                black_box(ledger.bytes);
            }
        });
    });
    let mut copy = Vec::new();
    group.bench_function("reference: memcpy", |b| {
        b.iter(|| {
            for ledger in &ledgers {
                copy.clear();
                copy.extend_from_slice(ledger);
                black_box(&copy);
            }
        });
    });
    group.finish();
}

fn chunk(c: &mut Criterion) {
    let source: Generator = LEDGERS.parse().unwrap();
    let ledgers = ledgers(LEDGERS);
    let mut group = c.benchmark_group("build a chunk of 200 ledgers");
    group.sample_size(10).throughput(Throughput::Bytes(total_bytes(&ledgers)));
    for workers in [1, 2] {
        group.bench_function(format!("workers {workers}"), |b| {
            b.iter(|| {
                let dir = scratch_dir();
                let builder = Builder {
                    disk: Arc::new(RealDisk),
                    layout: Layout::new(dir.path()),
                    manifest: Manifest { geometry: Geometry::new(200, 10).unwrap(), network: None },
                    source: &source,
                    decoder: &StellarDecoder,
                    workers,
                    control: &Control::default(),
                };
                builder.build(source.range().unwrap()).unwrap();
            });
        });
    }
    let mut compressor = compressor();
    let mut out =
        Vec::with_capacity(zstd::zstd_safe::compress_bound(ledgers.iter().map(Vec::len).max().unwrap()));
    group.bench_function("reference: bare zstd of the ledgers, 1 thread", |b| {
        b.iter(|| {
            for ledger in &ledgers {
                out.clear();
                compressor.compress_to_buffer(ledger, &mut out).unwrap();
                black_box(&out);
            }
        });
    });
    group.finish();
}

criterion_group!(benches, decode, generate, chunk);
criterion_main!(benches);
