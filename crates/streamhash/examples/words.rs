//! Indexes words by their line number and looks some up again.
//!
//! ```text
//! cargo run -p icecore-streamhash --example words
//! ```

use icecore_diskio::{IfExists, Mmap};
use icecore_streamhash::{Index, Options, UnsortedBuilder, prehash};

const POEM: &str = "layer upon layer the winter is laid
and each is a ledger of dust and of air
we drill for the core where the oldest is weighed
and read what the snow of the season was there";

#[allow(clippy::print_stdout)]
fn main() -> icecore_streamhash::Result<()> {
    let mut words: Vec<(&str, u64)> = (1..)
        .zip(POEM.lines())
        .flat_map(|(line, text)| text.split(' ').map(move |word| (word, line)))
        .collect();
    words.sort();
    words.dedup_by_key(|(word, _)| *word);

    let path = std::env::temp_dir().join("icecore-example-words.stmh");
    let options = Options::new().payload_bytes(1).fingerprint_bytes(2).if_exists(IfExists::Replace);
    let mut builder = UnsortedBuilder::create(&path, words.len() as u64, options)?;
    for (word, line) in &words {
        builder.add(&prehash(word.as_bytes()), *line)?;
    }
    let summary = builder.finish()?;
    println!("{}: {} words, {} bytes", path.display(), summary.keys, summary.file_bytes);

    let index = Index::from_source(Mmap::open(&path)?)?;
    index.verify()?;
    for word in ["ledger", "core", "winter", "summer"] {
        match index.lookup(&prehash(word.as_bytes()))? {
            Some(hit) => println!("{word:8} first in line {}", hit.payload),
            None => println!("{word:8} not there"),
        }
    }
    Ok(())
}
