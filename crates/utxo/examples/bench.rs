//! Measures a store in a directory beside the same writes done by hand: `bench DIR [create spend lock delete [operations]]`.

#![allow(clippy::print_stdout)]

use icecore_utxo::bench::{Mix, Plan, run};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().ok_or("which directory?")?;
    let numbers = args.map(|arg| arg.parse()).collect::<Result<Vec<u64>, _>>()?;
    let share = |at: usize, or: u32| numbers.get(at).map_or(Ok(or), |n| u32::try_from(*n));
    let mix =
        Mix { create: share(0, 4)?, spend: share(1, 4)?, lock: share(2, 1)?, delete_at_height: share(3, 1)? };
    let operations = numbers.get(4).copied().unwrap_or(200_000);
    println!("{}", run(dir.as_ref(), &Plan { mix, operations, ..Plan::default() })?);
    Ok(())
}
