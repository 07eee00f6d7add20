//! What fuzzing starts from: small valid files, so that it need not guess checksums.

use std::{fs, path::Path};

use icecore_events::{ChunkEventsWriter, EventPaths, Options, fuzz::join};
use icecore_ledger::{ChunkId, Event, EventFields, LedgerSeq, TxHash};
use icecore_testkit::golden::{self, Case};

use crate::{
    formats::{INDEX, WAYS, disk, made, make_packfile, make_streamhash, make_txhash},
    shell::Result,
};

/// Larger files are slow to mutate.
const MAX_BYTES: usize = 4096;

/// Writes seeds into the corpora of the targets that read files.
pub(crate) fn write(corpus: &Path) -> Result {
    let seed = |target: &str, name: String, bytes: &[u8]| {
        let dir = corpus.join(target);
        let path = dir.join(name);
        let written = fs::create_dir_all(&dir).and_then(|()| fs::write(&path, bytes));
        written.map_err(|e| format!("{}: {e}", path.display()))
    };
    for (number, case) in golden::builtin().iter().enumerate() {
        let made = match case {
            Case::Packfile(case) if case.items <= 129 => make_packfile(case, WAYS[0])?,
            Case::Streamhash(case) if case.keys <= 129 && case.error.is_none() => {
                make_streamhash(case, WAYS[0]).map_err(|e| e.to_string())?
            }
            Case::Txhash(case) if case.max_entries_per_chunk <= 500 => make_txhash(case, WAYS[0])?,
            _ => continue,
        };
        for (part, file) in made.iter().enumerate().filter(|(_, file)| file.bytes.len() <= MAX_BYTES) {
            let target = match (case.kind(), file.what == INDEX) {
                ("packfile", _) => "packfile_open_and_read",
                ("streamhash", _) => "streamhash_open_and_read",
                (_, true) => "txindex_index",
                (_, false) => "txindex_run",
            };
            seed(target, format!("golden-{number}-{part}"), &file.bytes)?;
        }
    }
    for events_per_ledger in [0, 1, 5, 200] {
        let files = events(events_per_ledger).map_err(|e| e.to_string())?;
        seed("events_open_and_read", format!("events-{events_per_ledger}"), &files)?;
    }
    Ok(())
}

/// The three event files of three ledgers, joined as the target takes them apart.
fn events(per_ledger: u32) -> icecore_events::Result<Vec<u8>> {
    let (disk, paths) = (disk(), EventPaths::new("", ChunkId(0)));
    let mut writer = ChunkEventsWriter::create(&disk, &paths, LedgerSeq(2), Options::new())?;
    for seq in (2..5).map(LedgerSeq) {
        let event = |n: u32| {
            let topics =
                [Some(&b"transfer"[..]), Some(if n.is_multiple_of(3) { b"a" } else { b"b" }), None, None];
            let fields = EventFields { contract: Some(&[7; 32]), topics };
            let body = &[9; 40][..n as usize % 40];
            Event {
                tx_hash: TxHash([n as u8; 32]),
                tx_index: 1,
                op_index: n / 4,
                event_index: n % 4,
                body,
                fields,
            }
        };
        writer.push_ledger(seq, 1_700_000_000, &(0..per_ledger).map(event).collect::<Vec<_>>())?;
    }
    writer.finish()?;
    let read = |path: &Path| made(&disk, &path.to_string_lossy(), "");
    let [events, index_hash, index_pack] =
        [&paths.events, &paths.index_hash, &paths.index_pack].map(|path| read(path));
    Ok(join(&events?.bytes, &index_hash?.bytes, &index_pack?.bytes))
}
