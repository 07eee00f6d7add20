//! Writes generated ledgers as a framed file: `generate gen:seed=7,ledgers=100 ledgers.xdr.zst`

use std::{env, error::Error, fs::File, io::BufWriter};

use icecore_ledger::Source;
use icecore_stellar::source::{FramedFile, Generator, Packing, write_framed};

#[allow(clippy::print_stdout)]
fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let generator: Generator = args.next().as_deref().unwrap_or("gen:seed=7,ledgers=100").parse()?;
    let path = args.next().map_or_else(|| env::temp_dir().join("ledgers.xdr.zst"), Into::into);

    let zstd = path.extension().is_some_and(|extension| extension == "zst");
    let packing = if zstd { Packing::Zstd(3) } else { Packing::Plain };
    write_framed(&generator, generator.range()?, BufWriter::new(File::create(&path)?), packing)?;

    let file = FramedFile::open(&path)?;
    let ledgers = file.range()?;
    println!("{generator}\n{}: ledgers {}..={}", file.describe(), ledgers.first, ledgers.last);
    Ok(())
}
