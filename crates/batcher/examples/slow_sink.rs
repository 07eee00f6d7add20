//! A batcher in front of a sink that is slow per call and cheap per item.

#![allow(clippy::print_stdout)]

use std::{thread, time::Duration};

use icecore_batcher::{Batch, Batcher};

fn store(rows: &[String]) -> usize {
    thread::sleep(Duration::from_millis(2));
    rows.len()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let batcher = Batcher::builder().name("rows").size(100).timeout(Duration::from_millis(5)).start(
        |batch: Batch<String, usize>, _| {
            let (rows, completers) = batch.split();
            let stored = store(&rows);
            completers.into_iter().for_each(|done| done.finish(Ok(stored)));
        },
    )?;

    let completions: Vec<_> =
        (0..250).map(|row| batcher.submit(format!("row {row}"))).collect::<Result<_, _>>()?;
    for (row, completion) in completions.into_iter().enumerate() {
        let stored = completion.wait()?;
        if row % 50 == 0 {
            println!("row {row} was stored in a batch of {stored}");
        }
    }
    println!("{:?}", batcher.close(Duration::from_secs(10))?);
    Ok(())
}
