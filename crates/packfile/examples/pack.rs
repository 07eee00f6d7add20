//! Packs the lines of a file, then reads some of them back:
//!
//! ```text
//! cargo run --release -p icecore-packfile --example pack -- Cargo.lock
//! ```
#![allow(clippy::print_stdout)]

use std::{error::Error, fs, time::Instant};

use icecore_packfile::{Options, Reader, Writer};

fn main() -> Result<(), Box<dyn Error>> {
    let source = std::env::args().nth(1).unwrap_or_else(|| "Cargo.lock".into());
    let text = fs::read(&source)?;
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("lines.pack");

    let start = Instant::now();
    let options = Options::new().content_hash(true).concurrency(0).format(1);
    let mut writer = Writer::create(&path, options)?;
    for line in text.split(|&byte| byte == b'\n') {
        writer.append(line)?;
    }
    let summary = writer.finish(source.as_bytes())?;
    println!(
        "{source}: {} bytes, {} lines, packed into {} bytes of {} records in {:?}",
        text.len(),
        summary.item_count,
        summary.file_bytes,
        summary.record_count,
        start.elapsed()
    );

    let reader = Reader::open(&path);
    reader.verify()?;
    let middle = reader.item_count()? / 2;
    println!("line {middle}: {}", String::from_utf8_lossy(&reader.read_item(middle)?));

    let mut longest = 0;
    let mut lines = reader.read_range(0, reader.item_count()?)?;
    while let Some(line) = lines.next_item()? {
        longest = longest.max(line.len());
    }
    println!("the longest line has {longest} bytes");
    Ok(())
}
