//! The golden cases, each written again by every build path there is.

use std::{
    fs,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use icecore_diskio::{Disk, FaultyDisk, IfExists};
use icecore_events as events;
use icecore_ledger::{LedgerRange, LedgerSeq};
use icecore_packfile as packfile;
use icecore_streamhash as streamhash;
use icecore_testkit::golden::{self, Case, EventsIndex, LedgerPack, Packfile, Streamhash, Txhash};
use icecore_txindex as txindex;
use sha2::{Digest, Sha256};

use crate::shell::{Result, cores};

/// A path that a build can take. None may show in the bytes.
#[derive(Clone, Copy)]
pub(crate) struct Way {
    /// Keys in order, or runs in order; otherwise as drawn, or reversed.
    sorted: bool,
    threads: usize,
}

pub(crate) const WAYS: [Way; 4] = [
    Way { sorted: true, threads: 1 },
    Way { sorted: true, threads: 3 },
    Way { sorted: false, threads: 1 },
    Way { sorted: false, threads: 3 },
];

/// What a build gave, and what it should have given.
pub(crate) struct Made {
    pub(crate) what: String,
    pub(crate) bytes: Vec<u8>,
    /// Empty where any bytes will do.
    sha256: String,
}

/// Writes all cases again, prints what differs, and fails if anything does.
pub(crate) fn check(file: Option<&Path>) -> Result {
    let cases = match file {
        None => golden::builtin(),
        Some(file) => {
            let lines = fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
            golden::parse(&lines).map_err(|e| format!("{}: {e}", file.display()))?
        }
    };
    let (next, builds) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let failures = Mutex::new(Vec::new());
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(case) = cases.get(number) else { break };
            match check_case(case) {
                Ok(count) => _ = builds.fetch_add(count, Ordering::Relaxed),
                Err(what) => failures.lock().unwrap_or_else(PoisonError::into_inner).push((number, what)),
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..cores() {
            scope.spawn(work);
        }
    });
    let mut failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    failures.sort();
    for (number, what) in &failures {
        println!("FAILED case {} ({}): {what}", number + 1, cases[*number].kind());
    }
    println!(
        "{} builds; a case passes when each of its build paths gives the expected bytes",
        builds.into_inner()
    );
    println!("{} passed, {} failed", cases.len() - failures.len(), failures.len());
    if failures.is_empty() { Ok(()) } else { Err("written files differ from the golden ones".into()) }
}

/// Checks one case; how many builds that took, or what differs.
fn check_case(case: &Case) -> Result<usize> {
    let ways = match case {
        Case::Streamhash(_) | Case::Txhash(_) => &WAYS[..],
        Case::Packfile(_) | Case::LedgerPack(_) | Case::EventsIndex(_) => &WAYS[..2],
        Case::Prehash(_) => &WAYS[..1],
    };
    for &way in ways {
        let result = match case {
            Case::Streamhash(case) => match &case.error {
                None => make_streamhash(case, way).map_err(|e| e.to_string()).and_then(|made| compare(&made)),
                Some(expected) => must_fail(make_streamhash(case, way), expected),
            },
            Case::Packfile(case) => make_packfile(case, way).and_then(|made| compare(&made)),
            Case::LedgerPack(case) => make_ledgerpack(case, way).and_then(|made| compare(&made)),
            Case::Txhash(case) => make_txhash(case, way).and_then(|made| compare(&made)),
            Case::EventsIndex(case) => make_events_index(case, way).and_then(|made| compare(&made)),
            Case::Prehash(case) => match hex(&streamhash::prehash(case.input_utf8.as_bytes())) {
                found if found == case.hash_hex => Ok(()),
                found => {
                    Err(format!("the prehash of {:?} is {found}, not {}", case.input_utf8, case.hash_hex))
                }
            },
        };
        let order = if way.sorted { "in order" } else { "out of order" };
        result.map_err(|e| format!("{order}, {} threads: {e}", way.threads))?;
    }
    Ok(ways.len())
}

fn compare(made: &[Made]) -> Result {
    for Made { what, bytes, sha256 } in made {
        let found = hex(&Sha256::digest(bytes));
        // Only an index over nothing may be without a digest.
        if sha256.is_empty() && what != INDEX {
            return Err(format!("the case has no digest for {what}"));
        }
        if !sha256.is_empty() && found != *sha256 {
            return Err(format!(
                "{what} has {} bytes with digest\n    {found}, not\n    {sha256}",
                bytes.len()
            ));
        }
    }
    Ok(())
}

fn must_fail(built: Result<Vec<Made>, streamhash::Error>, expected: &str) -> Result {
    match built {
        Err(streamhash::Error::BlockOverflow { keys, max, .. })
            if expected.contains(&format!("block has {keys} keys (max {max})")) =>
        {
            Ok(())
        }
        Err(e) => Err(format!("the build failed with {e:?}, not with {expected:?}")),
        Ok(_) => Err(format!("the build succeeded, it must fail with {expected:?}")),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a window index is called here.
pub(crate) const INDEX: &str = "idx";

/// An empty disk in memory.
pub(crate) fn disk() -> Arc<dyn Disk> {
    Arc::new(FaultyDisk::new())
}

pub(crate) fn made(disk: &Arc<dyn Disk>, path: &str, sha256: &str) -> Result<Made, icecore_diskio::Error> {
    let file = disk.open(path.as_ref())?;
    let mut bytes = vec![0; file.len_bytes() as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(Made { what: path.to_owned(), bytes, sha256: sha256.to_owned() })
}

pub(crate) fn make_streamhash(case: &Streamhash, way: Way) -> Result<Vec<Made>, streamhash::Error> {
    let algorithm = match case.algorithm.as_str() {
        "ptrhash" => streamhash::Algorithm::PtrHash,
        _ => streamhash::Algorithm::Bijection,
    };
    let options = streamhash::Options::new()
        .algorithm(algorithm)
        .payload_bytes(case.payload_bytes as u8)
        .fingerprint_bytes(case.fingerprint_bytes)
        .global_seed(case.global_seed)
        .user_metadata(case.user_metadata_hex.clone())
        .workers(way.threads);
    let (disk, mut entries) = (disk(), case.entries());
    let path = "index";
    if way.sorted {
        entries.sort();
        let mut builder = streamhash::SortedBuilder::create_on(&disk, path, case.keys, options)?;
        entries.iter().try_for_each(|(key, payload)| builder.add(key, *payload))?;
        builder.finish()?;
    } else {
        // With several workers, also through the file for keys that do not fit into memory.
        let options = if way.threads > 1 { options.memory_bytes(0) } else { options };
        let mut builder = streamhash::UnsortedBuilder::create_on(&disk, path, case.keys, options)?;
        entries.iter().try_for_each(|(key, payload)| builder.add(key, *payload))?;
        builder.finish()?;
    }
    Ok(vec![made(&disk, path, &case.sha256)?])
}

fn pack(
    items: &[Vec<u8>],
    options: packfile::Options,
    app_data: &[u8],
    sha256: &str,
) -> Result<(Made, Option<String>)> {
    let disk = disk();
    let write = || {
        let mut writer = packfile::Writer::create_on(&disk, "pack", options)?;
        items.iter().try_for_each(|item| writer.append(item))?;
        writer.finish(app_data)
    };
    let summary = write().map_err(|e| e.to_string())?;
    Ok((made(&disk, "pack", sha256).map_err(|e| e.to_string())?, summary.content_hash.map(|hash| hex(&hash))))
}

pub(crate) fn make_packfile(case: &Packfile, way: Way) -> Result<Vec<Made>> {
    let options = packfile::Options::new()
        .items_per_record(case.items_per_record)
        .codec(if case.codec == "zstd" { packfile::Codec::Zstd } else { packfile::Codec::None })
        .format(case.format)
        .content_hash(case.content_hash)
        .concurrency(way.threads);
    let (made, content_hash) = pack(&case.contents(), options, &case.app_data_hex, &case.sha256)?;
    if case.content_hash_hex.is_some() && content_hash != case.content_hash_hex {
        return Err(format!("the content hash is {content_hash:?}, not {:?}", case.content_hash_hex));
    }
    Ok(vec![made])
}

fn make_ledgerpack(case: &LedgerPack, way: Way) -> Result<Vec<Made>> {
    let options = packfile::Options::new().items_per_record(1).format(1).concurrency(way.threads);
    let (made, _) = pack(&case.contents(), options, &case.first_seq.to_be_bytes(), &case.sha256)?;
    Ok(vec![made])
}

pub(crate) fn make_txhash(case: &Txhash, way: Way) -> Result<Vec<Made>> {
    let (disk, chunks) = (disk(), case.chunks());
    let mut all = Vec::new();
    let mut paths = Vec::new();
    for ((chunk, sha256), number) in chunks.iter().zip(&case.bin_sha256).zip(case.first_chunk..) {
        let entry = |&(key, seq): &([u8; 16], u32)| txindex::Entry { key, seq: LedgerSeq(seq) };
        let mut entries: Vec<txindex::Entry> = chunk.iter().map(entry).collect();
        let path = format!("{number:08}.bin");
        let written = txindex::write_run(&disk, path.as_ref(), &mut entries, IfExists::Fail);
        written.map_err(|e| e.to_string())?;
        all.push(made(&disk, &path, sha256).map_err(|e| e.to_string())?);
        paths.push(path);
    }
    if !way.sorted {
        paths.reverse();
    }
    let first = case.first_chunk * 10_000 + 2;
    let coverage = LedgerRange { first: LedgerSeq(first), last: LedgerSeq(first + case.chunks * 10_000 - 1) };
    // With several threads, also through slices.
    let slice_entries = if way.threads > 1 { 1000 } else { u64::MAX };
    let options = txindex::Options::new().workers(way.threads).slice_entries(slice_entries);
    txindex::build_index(&disk, INDEX.as_ref(), coverage, &paths, options).map_err(|e| e.to_string())?;
    all.push(made(&disk, INDEX, &case.idx_sha256).map_err(|e| e.to_string())?);
    Ok(all)
}

fn make_events_index(case: &EventsIndex, way: Way) -> Result<Vec<Made>> {
    let mut terms = events::TermSet::new();
    for (key, ids) in case.terms(streamhash::prehash) {
        for id in ids {
            terms.add(events::TermKey(key), id).map_err(|e| e.to_string())?;
        }
    }
    let disk = disk();
    let (hash, pack) = ("index.hash", "index.pack");
    let options = events::Options::new().concurrency(way.threads);
    let written = events::write_index(&disk, hash.as_ref(), pack.as_ref(), &terms, options);
    written.map_err(|e| e.to_string())?;
    Ok(vec![
        made(&disk, hash, &case.index_hash_sha256).map_err(|e| e.to_string())?,
        made(&disk, pack, &case.index_pack_sha256).map_err(|e| e.to_string())?,
    ])
}
