//! Writers of what the sources read, for tools and tests.

use std::{fs, io, path::Path};

use icecore_ledger::{LedgerRange, LedgerSeq, Source};

use super::{framed, lake};

/// How the bytes of a file are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// As they are.
    Plain,
    /// In zstd of this level.
    Zstd(i32),
}

/// Writes ledgers of a source as a framed file.
///
/// # Errors
/// What `out` fails with; an error of the source comes inside one of kind [`Other`](io::ErrorKind::Other).
pub fn write_framed(
    source: &dyn Source,
    ledgers: LedgerRange,
    mut out: impl io::Write,
    packing: Packing,
) -> io::Result<()> {
    match packing {
        Packing::Plain => write_frames(source, ledgers, &mut out)?,
        Packing::Zstd(level) => {
            let mut packed = zstd::Encoder::new(&mut out, level)?;
            write_frames(source, ledgers, &mut packed)?;
            packed.finish()?;
        }
    }
    out.flush()
}

fn write_frames(source: &dyn Source, ledgers: LedgerRange, out: &mut dyn io::Write) -> io::Result<()> {
    let mut stream = source.stream(ledgers).map_err(io::Error::other)?;
    while let Some(ledger) = stream.next_ledger().map_err(io::Error::other)? {
        out.write_all(&frame_head(ledger.bytes)?)?;
        out.write_all(ledger.bytes)?;
    }
    Ok(())
}

/// What stands before a ledger in its frame.
pub(super) fn frame_head(ledger: &[u8]) -> io::Result<[u8; 4]> {
    let length = u32::try_from(ledger.len()).ok().filter(|length| length & framed::LAST_FRAGMENT == 0);
    let length = length.ok_or_else(|| io::Error::other("a ledger of 2 GiB or more has no frame"))?;
    Ok((framed::LAST_FRAGMENT | length).to_be_bytes())
}

/// Writes ledgers of a source as a lake into an existing directory, with its configuration beside them. The range
/// must consist of whole batches; only the first may begin late, with the chain's first ledger.
///
/// # Errors
/// As of [`write_framed`]; kind [`InvalidInput`](io::ErrorKind::InvalidInput) for a range that cuts a batch.
pub fn write_lake(
    source: &dyn Source,
    ledgers: LedgerRange,
    dir: &Path,
    layout: &lake::Layout,
    network_passphrase: &str,
) -> io::Result<()> {
    let cut = || io::Error::new(io::ErrorKind::InvalidInput, "the range must consist of whole batches");
    if layout.batch_of(ledgers.first).content().0 != ledgers.first
        || layout.batch_of(ledgers.last).last != ledgers.last
    {
        return Err(cut());
    }
    fs::write(dir.join(lake::CONFIG_NAME), layout.config_json(network_passphrase))?;
    let mut stream = source.stream(ledgers).map_err(io::Error::other)?;
    let mut next = Some(ledgers.first);
    while let Some(batch) = next.filter(|next| *next <= ledgers.last).map(|next| layout.batch_of(next)) {
        let (first, last) = batch.content();
        let count = last.0 - first.0 + 1;
        let mut bytes: Vec<u8> =
            [first.0, last.0, count].iter().flat_map(|word| word.to_be_bytes()).collect();
        for _ in 0..count {
            let ledger = stream.next_ledger().map_err(io::Error::other)?.ok_or_else(cut)?;
            bytes.extend_from_slice(ledger.bytes);
        }
        let path = dir.join(layout.object_name(batch));
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(path, zstd::bulk::compress(&bytes, 3)?)?;
        next = last.0.checked_add(1).map(LedgerSeq);
    }
    Ok(())
}
