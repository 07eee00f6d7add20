//! The page.

use icecore_streamhash::Algorithm;

use crate::{
    Measured,
    queries::{Window, slope},
    roofs::Roofs,
    rows::{HEAD, LOOKUP_HEAD, Row, lookup_cells, rows},
    tables::{digits, table},
};

fn cells<const N: usize>(head: [&str; N]) -> Vec<String> {
    head.map(str::to_owned).to_vec()
}

fn roof_table(roofs: &Roofs) -> String {
    let kinds = [
        ("a mix with one seed of many, in 512-bit lanes", roofs.mix_512, false),
        ("the same in 256-bit lanes", roofs.mix_256, false),
        ("a whole mix in plain arithmetic", Some(roofs.mix), false),
        ("a slot by a pilot in 512-bit lanes, looked up in 32 KiB", roofs.pilot, false),
        ("a word of a lap chosen and rotated in 512-bit lanes", roofs.rotated_word, false),
        ("a lap of eight words stored and loaded again, in turn", roofs.lap, false),
        ("a row of four bytes solved back, after the one before", roofs.row, false),
        ("a step of an equation to another row, after the one before", Some(roofs.step), false),
        ("one of 1024 counters raised", Some(roofs.counter), false),
        ("four bytes stored in one of 3072 places", Some(roofs.store), false),
        ("a byte copied in a near cache", Some(roofs.copy_near), true),
        ("a byte copied in memory", Some(roofs.copy_far), true),
        ("a byte hashed by xxHash64", Some(roofs.hash), true),
        ("a byte read from the page cache", Some(roofs.read), true),
        ("a byte written to a new file, in the page cache", Some(roofs.write), true),
    ];
    let mut rows = vec![cells(["kind of work", "ns each", "GB/s"])];
    for (kind, each, is_byte) in kinds {
        let Some(each) = each else { continue };
        let rate = if is_byte { digits(1.0 / each) } else { "–".to_owned() };
        rows.push(vec![kind.to_owned(), format!("{each:.3}"), rate]);
    }
    table(&rows, false)
}

fn window_table(windows: &[Window; 3]) -> String {
    let mut rows = vec![cells(["instructions", "before", "between", "between, no misses"])];
    let [before, between, near] = windows;
    for ((before, between), near) in before.iter().zip(between).zip(near) {
        rows.push(vec![before.0.to_string(), digits(before.1), digits(between.1), digits(near.1)]);
    }
    let mut last = vec!["for each".to_owned()];
    last.extend(windows.iter().map(|window| format!("{:.3}", slope(window))));
    rows.push(last);
    table(&rows, false)
}

pub(crate) fn text(measured: &Measured, machine: &str) -> String {
    let mut kernels = vec![cells(HEAD)];
    kernels.extend(rows(measured).iter().map(Row::cells));
    let mut lookups = vec![cells(LOOKUP_HEAD)];
    lookups.extend(measured.lookups.iter().map(lookup_cells));
    let ptrhash = measured.lookups.iter().find(|lookups| lookups.algorithm == Algorithm::PtrHash);
    let latency = ptrhash.map_or(0.0, |lookups| lookups.needed.latency);
    format!(
        "# How far the index is from its limits

Made by `cargo xtask bench index limits`, not by hand. {keys} keys of 16 uniform bytes
(SplitMix64), each with a payload of 3 bytes and a fingerprint of 1; one worker.

{machine}
## Roofs

What the machine does at most of each kind of work when it does nothing else, measured in the
same run; 1 ns each is a thousand million a second.

{roofs}
## Builds

Nanoseconds a key. *Needed* is counted, not estimated: mixes and slots follow from the seeds and
pilots in the finished file, in lanes rounded up to whole vectors of eight (of pilots it is a
lower bound: all that was tried for buckets that were evicted later, or that had to evict
others, comes on top); steps are counted by entering a file's equations once more. *Limit*: that
much work at the roof. *Taken*: the processor's time, without waiting for the device.

Where one part ends and another begins: keys are taken in until the first one of the next block
comes; payload and fingerprint, with their part of the file, are the difference to a build
without; a search beyond the first seeds or pilots, eight in lanes and
one without, is the difference to a build of as many keys that are chosen such that those fit.

{kernels}
## Lookups

Nanoseconds a lookup of a member, and after the stroke of nothing but its accesses, in the same
memory: one anywhere in the blocks, and one of four bytes in the payload whose place depends on
the first (compact: 256 bytes anywhere among the rows). Loop: independent keys, one by one.
Batched: many at once, with prefetches. Latency: the next key depends on the last answer.

{lookups}
## The window

Nanoseconds for a pair of accesses as PTRHash makes them, in a loop, with so many integer
instructions before the first access, or between the two. Each needs the one before (and
between, the first needs the access); pairs are independent.

{window}
What an instruction costs more where accesses miss is not its execution but its place. Those
before the first access are done at once, but keep a register each until everything before them
is done too; those between wait for the access. Either way the processor runs out of places: a
pair alone takes {latency} ns, in which about {in_flight} instructions are in flight. The more of them a
lookup has, the fewer lookups wait for memory together, and whoever asks one by one pays this for
each instruction. A batch does not: a prefetch is done before its line is there.
",
        keys = measured.keys,
        roofs = roof_table(&measured.roofs),
        kernels = table(&kernels, true),
        lookups = table(&lookups, true),
        window = window_table(&measured.windows),
        latency = digits(latency),
        in_flight = (latency / slope(&measured.windows[0])).round(),
    )
}
