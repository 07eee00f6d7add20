//! How long an audit takes: `cargo run --release --example audit_scale -- CHUNKS [DIR]`. Makes a store of so many small
//! chunks, then audits it at a glance, twice.
#![allow(clippy::print_stdout)]

use std::{path::PathBuf, sync::Arc, time::Instant};

use icecore_catalog::{
    Artifact, Catalog, Key, Pins,
    audit::{Audit, AuditOptions, Finding},
};
use icecore_cold::{ChunkBuild, Control, Coverage, Kind, Layout, build_index};
use icecore_diskio::{Disk, IfExists, RealDisk};
use icecore_ledger::{ChunkId, GENESIS, Geometry, Source};
use icecore_stellar::{StellarDecoder, source::Generator};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let chunks: u32 = args.next().ok_or("how many chunks?")?.parse()?;
    let temporary = tempfile::tempdir()?;
    let root = args.next().map_or_else(|| temporary.path().join("store"), PathBuf::from);
    let (disk, layout): (Arc<dyn Disk>, _) = (Arc::new(RealDisk), Layout::new(root));
    let geometry = Geometry::new(1, 1000)?;
    let control = Control::default();
    let catalog = Catalog::open(Arc::clone(&disk), layout.clone(), &Pins::new(geometry, GENESIS, None))?;
    let generator: Generator = format!("gen:ledgers={chunks},txs=1,events=1").parse()?;
    let build = ChunkBuild {
        disk: &disk,
        layout: &layout,
        decoder: &StellarDecoder,
        control: &control,
        threads: 1,
        if_exists: IfExists::Fail,
    };
    let began = Instant::now();
    for chunk in (0..chunks).map(ChunkId) {
        let ledgers = geometry.ledgers_of(chunk).ok_or("too many chunks")?;
        let keys = Artifact::ALL.map(|artifact| Key::Chunk(chunk, artifact));
        catalog.build(&keys, || -> icecore_catalog::Result<()> {
            let mut stream = generator.stream(ledgers).map_err(icecore_cold::Error::from)?;
            build.run(chunk, ledgers, &Kind::ALL, &mut *stream)?;
            Ok(())
        })?;
        let window = geometry.window_of(chunk);
        if chunk.0 % 1000 == 999 || chunk.0 == chunks - 1 {
            let coverage = Coverage { window, first: ChunkId(window.0 * 1000), last: chunk };
            catalog.build_index(coverage, || -> icecore_catalog::Result<()> {
                build_index(&disk, &layout, &geometry, &coverage, 1, &control)?;
                Ok(())
            })?;
        }
    }
    println!("{chunks} chunks made in {:.1} s", began.elapsed().as_secs_f64());
    let audit = Audit {
        disk: &disk,
        layout: &layout,
        decoder: &StellarDecoder,
        control: &control,
        options: AuditOptions::default(),
    };
    let passing = audit.run_on(&catalog)?.findings;
    Finding::repair_all(&passing, &catalog);
    for _ in 0..2 {
        let began = Instant::now();
        let report = audit.run_on(&catalog)?;
        let seconds = began.elapsed().as_secs_f64();
        println!(
            "{} keys, {} files, {} findings: {seconds:.2} s",
            report.keys,
            report.files,
            report.findings.len()
        );
    }
    Ok(())
}
