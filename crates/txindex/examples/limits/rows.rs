//! The report: what each kernel needs, its limit, and, beside it, what holds the rest. These words name no figures; they
//! come from looking with `perf record -e cpu-clock` where the time goes, and are to be looked at again when a kernel
//! changes.

use std::fmt::Write as _;

use icecore_streamhash::{Algorithm, Path as Instructions};

use crate::{
    Build, Measured,
    queries::slope,
    roofs::Roofs,
    tables::{digits, table},
};

/// A kind of work that a kernel needs: its name, how much of it a key, and the roof.
type Work = (&'static str, f64, f64);

struct Row {
    kernel: String,
    works: Vec<Work>,
    /// Nanoseconds a key.
    taken: f64,
    /// What holds the rest.
    holds: &'static str,
}

impl Row {
    fn limit(&self) -> f64 {
        self.works.iter().map(|(_, needed, roof)| needed * roof).sum()
    }

    fn cells(&self) -> Vec<String> {
        let join = |cell: fn(&Work) -> String| self.works.iter().map(cell).collect::<Vec<_>>().join(" + ");
        vec![
            self.kernel.clone(),
            join(|work| format!("{} {}", digits(work.1), work.0)),
            join(|work| format!("{:.3}", work.2)),
            digits(self.limit()),
            digits(self.taken),
            digits(self.taken / self.limit()),
            self.holds.to_owned(),
        ]
    }
}

const PAYLOAD_BYTES: f64 = 4.0;
/// Of a key and its payload, in the memory of a block.
const ENTRY_BYTES: f64 = 24.0;

/// What all builds do in the same way.
fn around(build: &Build, roofs: &Roofs) -> Vec<Row> {
    let name = &build.plan.algorithm;
    let mut rows = vec![Row {
        kernel: format!("{name}: keys taken in"),
        works: vec![("B read", 16.0, roofs.copy_far), ("B kept", ENTRY_BYTES, roofs.copy_near)],
        taken: build.parts.intake,
        holds: "instructions, not bytes: each key is checked against its block, the room in it and the greatest payload",
    }];
    if let Some(bare) = &build.bare {
        rows.push(Row {
            kernel: format!("{name}: payload and fingerprint"),
            works: vec![("store", 1.0, roofs.store), ("B hashed", PAYLOAD_BYTES, roofs.hash)],
            taken: build.parts.solve() - bare.solve(),
            holds: "the fingerprint's multiplication, and a copy on the way to the file",
        });
    }
    rows.push(Row {
        kernel: format!("{name}: file"),
        works: vec![("B written", build.file_bytes, roofs.write)],
        taken: build.parts.disk,
        holds: "the final sync, and beginning to write back while there is more to come",
    });
    rows
}

/// What solving takes beside what is kept for keys.
fn solving(build: &Build) -> f64 {
    build.bare.as_ref().unwrap_or(&build.parts).solve()
}

fn bijection(build: &Build, roofs: &Roofs) -> Vec<Row> {
    let Some((lucky, first)) = &build.lucky else { return Vec::new() };
    let (in_lanes, name) = (build.plan.instructions != Instructions::SCALAR, build.plan.instructions);
    let mix = match format!("{name:?}").as_str() {
        "AVX-512" => roofs.mix_512,
        "AVX2" => roofs.mix_256,
        _ => None,
    };
    let mix = mix.unwrap_or(roofs.mix);
    let [all, first] = [build.tries, *first].map(|tries| if in_lanes { tries.whole } else { tries.exact });
    vec![
        Row {
            kernel: format!("Bijection: search beyond the first seeds, {name:?}"),
            works: vec![("mixes", all - first, mix)],
            taken: build.parts.solve() - lucky.solve(),
            holds: match in_lanes {
                true => {
                    "one bit for each place, put together and compared, which is as much again as the mixes; \
                         branches on the last round of a bucket"
                }
                false => {
                    "seeds tried four at a time; a branch at the end of each bucket that nobody foresees"
                }
            },
        },
        Row {
            kernel: format!("Bijection: the rest of solving, {name:?}"),
            works: vec![("mixes", first + 1.0, mix), ("counters", 2.0, roofs.counter)],
            taken: solving(build) - (build.parts.solve() - lucky.solve()),
            holds: "scattering keys into columns, counting sizes, and codes of seeds, one bucket after the other",
        },
    ]
}

fn ptrhash(build: &Build, roofs: &Roofs) -> Vec<Row> {
    let (Some((lucky, first)), Some(pilot)) = (&build.lucky, roofs.pilot) else { return Vec::new() };
    vec![
        Row {
            kernel: "PTRHash: search beyond the first pilots".into(),
            works: vec![("slots", build.tries.whole - first.whole, pilot)],
            taken: build.parts.solve() - lucky.solve(),
            holds: "evictions, of which the file does not tell and which come on top; a branch on each pilot that fits",
        },
        Row {
            kernel: "PTRHash: the rest of solving".into(),
            works: vec![("slots", first.whole, pilot), ("counters", 3.0, roofs.counter)],
            taken: solving(build) - (build.parts.solve() - lucky.solve()),
            holds: "keys into buckets, through a cache further away; where each key ended up, through three tables",
        },
    ]
}

fn fast(build: &Build, roofs: &Roofs) -> Vec<Row> {
    let Some(word) = roofs.rotated_word else { return Vec::new() };
    vec![Row {
        kernel: "fast: solving".into(),
        works: vec![("mix", 1.0, roofs.mix), ("rotated words", 4.0, word), ("counters", 2.0, roofs.counter)],
        taken: solving(build),
        holds: "each bucket waits for the one before to take its slots: what was stored is loaded again at once",
    }]
}

fn compact(build: &Build, roofs: &Roofs) -> Vec<Row> {
    let Some(row) = roofs.row else { return Vec::new() };
    vec![Row {
        kernel: "compact: solving".into(),
        works: vec![
            ("mixes", 2.0, roofs.mix),
            ("steps", build.steps, roofs.step),
            ("row", 20.0 / 21.0, row),
            ("counters", 2.0, roofs.counter),
        ],
        taken: build.parts.solve(),
        holds: "how many steps an equation takes is foreseen by nobody: one wrong branch a key",
    }]
}

fn rows(measured: &Measured) -> Vec<Row> {
    let roofs = &measured.roofs;
    let mut rows = Vec::new();
    for build in &measured.builds {
        let kernels = match build.plan.algorithm {
            Algorithm::Bijection => bijection(build, roofs),
            Algorithm::PtrHash => ptrhash(build, roofs),
            Algorithm::Fast => fast(build, roofs),
            _ => compact(build, roofs),
        };
        let is_best = build.plan.instructions == Instructions::best();
        let mut own: Vec<Row> =
            kernels.into_iter().chain(around(build, roofs).into_iter().filter(|_| is_best)).collect();
        if is_best {
            own.push(Row {
                kernel: format!("**{}: all of the build**", build.plan.algorithm),
                works: vec![("of the above", 1.0, own.iter().map(Row::limit).sum())],
                taken: build.parts.total,
                holds: "as above",
            });
        }
        rows.append(&mut own);
    }
    let sorted = measured.builds.first().map(|build| (build.parts, build.file_bytes));
    if let Some((sorted, _)) = sorted {
        rows.push(Row {
            kernel: "unsorted: keys by block".into(),
            works: vec![("B kept", ENTRY_BYTES, roofs.copy_far), ("B moved", ENTRY_BYTES, roofs.copy_far)],
            taken: measured.unsorted.total - sorted.total,
            holds: "each key goes to memory far from the last one's, twice",
        });
        rows.push(Row {
            kernel: "rebuild from runs: read, cut and put in place".into(),
            works: vec![("B read", 20.0, roofs.read), ("B kept", ENTRY_BYTES, roofs.copy_near)],
            taken: measured.rebuilt.total - sorted.solve() - sorted.disk,
            holds: "finding each key's block, and a store into one of many blocks that wait for theirs",
        });
        rows.push(Row {
            kernel: "**rebuild from runs, Bijection, all of it**".into(),
            works: vec![
                ("B read", 20.0, roofs.read),
                ("solved and written", 1.0, sorted.solve() + sorted.disk),
            ],
            taken: measured.rebuilt.total,
            holds: "as above",
        });
    }
    rows
}

fn roof_cells(roofs: &Roofs) -> Vec<Vec<String>> {
    let kinds: [(&str, Option<f64>, f64); 14] = [
        ("a mix with a seed, of sixteen, in 512-bit lanes", roofs.mix_512, 0.0),
        ("the same in 256-bit lanes", roofs.mix_256, 0.0),
        ("a whole mix in plain arithmetic", Some(roofs.mix), 0.0),
        ("a slot of a pilot in 512-bit lanes, looked up in 32 KiB", roofs.pilot, 0.0),
        ("a word chosen and rotated in 512-bit lanes", roofs.rotated_word, 0.0),
        ("a row solved back in 512-bit lanes, after the one before", roofs.row, 0.0),
        ("a step of an equation, after the one before", Some(roofs.step), 0.0),
        ("one of 1024 counters raised", Some(roofs.counter), 0.0),
        ("four bytes stored in one of 3072 places", Some(roofs.store), 0.0),
        ("a byte copied in a near cache", Some(roofs.copy_near), 1.0),
        ("a byte copied in memory", Some(roofs.copy_far), 1.0),
        ("a byte hashed, xxHash64", Some(roofs.hash), 1.0),
        ("a byte read from the page cache", Some(roofs.read), 1.0),
        ("a byte written to a new file's page cache", Some(roofs.write), 1.0),
    ];
    let row = |(kind, each, bytes): &(&str, Option<f64>, f64)| {
        let each = (*each)?;
        let rate = if *bytes > 0.0 { digits(bytes / each) } else { "–".to_owned() };
        Some(vec![(*kind).to_owned(), format!("{each:.3}"), rate])
    };
    let head = ["kind of work", "ns each", "GB/s"].map(str::to_owned).to_vec();
    [head].into_iter().chain(kinds.iter().filter_map(row)).collect()
}

/// What holds lookups: of a loop, of batches, and of one that waits for the one before.
fn lookup_holds(name: &str) -> &'static str {
    match name {
        "bijection" => "up to 128 codes of sizes and of seeds are gone through before the slot is known",
        "ptrhash" | "fast" => "loop: instructions, see below; batches: instructions too, and little else",
        _ => "64 rows are put together, and where they begin takes two products and a threshold",
    }
}

fn lookup_cells(measured: &Measured) -> Vec<Vec<String>> {
    let head = ["index", "loop", "÷", "batched", "÷", "latency", "÷", "what holds the rest"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for lookups in &measured.lookups {
        let (taken, needed) = (lookups.taken, lookups.needed);
        let mut cells = vec![lookups.name.clone()];
        for (taken, needed) in
            [(taken.looped, needed.looped), (taken.batched, needed.batched), (taken.latency, needed.latency)]
        {
            cells.push(format!("{} / {}", digits(taken), digits(needed)));
            cells.push(digits(taken / needed));
        }
        cells.push(lookup_holds(&lookups.name).to_owned());
        rows.push(cells);
    }
    rows
}

/// The report.
pub(crate) fn text(measured: &Measured, machine: &str) -> String {
    let head = [
        "kernel",
        "needed a key",
        "roof, ns",
        "limit, ns",
        "taken, ns",
        "taken ÷ limit",
        "what holds the rest",
    ];
    let mut kernels = vec![head.map(str::to_owned).to_vec()];
    kernels.extend(rows(measured).iter().map(Row::cells));
    let mut window: Vec<Vec<String>> =
        vec![["instructions between", "ns a pair"].map(str::to_owned).to_vec()];
    window.extend(measured.window.iter().map(|(count, time)| vec![count.to_string(), digits(*time)]));
    let mut text = String::new();
    let _ = write!(
        text,
        "# How far the index is from its limits\n\n\
         Made by `cargo xtask bench index limits`, not by hand. {} keys of 16 uniform bytes, a payload of 3 bytes and a\n\
         fingerprint of 1, one worker.\n\n{machine}\n\
         ## Roofs\n\n\
         What the machine does at most of each kind of work, when it does nothing else, measured in the same run.\n\n\
         {}\n\
         ## Builds\n\n\
         *Needed* is counted, not estimated: tries are those up to the seeds and pilots in the finished file (in lanes,\n\
         rounded up to whole vectors of eight; a pilot is counted as if all of a bucket's keys were looked at, and as if\n\
         none had ever been evicted), steps are those of its equations put in again. *Limit* is that work at the roof. *Taken* is\n\
         processor time, so that waiting for the device is not in it. Where one part begins and the other ends: keys\n\
         are taken in until the first one of the next block comes; the file is what is spent in calls to the disk; what payloads\n\
         and fingerprints take is the difference to a build without; what a search takes beyond the first eight seeds or pilots (the\n\
         first one, in plain arithmetic) is the difference to a build of as many keys, chosen such that those are the right ones.\n\n\
         {}\n\
         ## Lookups\n\n\
         Nanoseconds a lookup of a member, and after the stroke of nothing but its accesses to memory in the same bytes and the same pattern:\n\
         one in the blocks, and one of four bytes in the payload, whose place depends on the first (compact: 256 bytes\n\
         among the rows). Files are held in memory, without huge pages where the system was not asked for them.\n\n\
         {}\n\
         ## Why a loop of lookups is held by instructions\n\n\
         A loop of such pairs of accesses, as PTRHash makes them, with so many integer instructions between the two.\n\
         Each depends on the one before, and the first on the first access; pairs do not depend on each other.\n\n\
         {}\n\
         Each instruction more costs {} ns, several times of what it takes to execute: what bounds the loop is how many\n\
         instructions the processor keeps in flight. The more of them a lookup has, the fewer lookups are in flight at once, and the fewer of their misses\n\
         overlap. Batches need not keep them: they prefetch, and the window holds nothing that waits.\n",
        measured.keys,
        table(&roof_cells(&measured.roofs), false),
        table(&kernels, true),
        table(&lookup_cells(measured), true),
        table(&window, false),
        digits(slope(&measured.window)),
    );
    text
}
