//! Of each kernel, what it needs, its limit, and what holds the rest.
//!
//! The words of the last column name no figures. They come from looking with `perf record -e cpu-clock` where the time
//! goes, and are to be looked at again when a kernel changes.

use icecore_streamhash::{Algorithm, Path as Instructions};

use crate::{Build, Lookups, Measured, roofs::Roofs, tables::digits};

/// A kind of work that a kernel needs: its name, how much of it a key, and the roof.
type Work = (&'static str, f64, f64);

pub(crate) struct Row {
    kernel: String,
    needed: Needed,
    /// Nanoseconds a key.
    taken: f64,
    /// What holds the rest.
    holds: &'static str,
}

enum Needed {
    Works(Vec<Work>),
    /// What other rows need, in nanoseconds.
    AllOf(f64),
}

impl Row {
    fn limit(&self) -> f64 {
        match &self.needed {
            Needed::Works(works) => works.iter().map(|(_, needed, roof)| needed * roof).sum(),
            Needed::AllOf(limit) => *limit,
        }
    }

    /// All of some rows in one, whose parts are told apart elsewhere.
    fn together(kernel: String, rows: Vec<Row>, holds: &'static str) -> Row {
        let taken = rows.iter().map(|row| row.taken).sum();
        let works = rows.into_iter().filter_map(|row| match row.needed {
            Needed::Works(works) => Some(works),
            Needed::AllOf(_) => None,
        });
        Row { kernel, needed: Needed::Works(works.flatten().collect()), taken, holds }
    }

    pub(crate) fn cells(&self) -> Vec<String> {
        let (needed, roofs) = match &self.needed {
            Needed::Works(works) => works
                .iter()
                .map(|(name, needed, roof)| (format!("{} {name}", digits(*needed)), format!("{roof:.3}")))
                .unzip(),
            Needed::AllOf(_) => (vec!["the above".to_owned()], vec!["–".to_owned()]),
        };
        vec![
            self.kernel.clone(),
            needed.join(" + "),
            roofs.join(" + "),
            digits(self.limit()),
            digits(self.taken),
            digits(self.taken / self.limit()),
            self.holds.to_owned(),
        ]
    }
}

pub(crate) const HEAD: [&str; 7] =
    ["kernel", "needed a key", "roof, ns", "limit, ns", "taken, ns", "÷", "what holds the rest"];

/// Of payload and fingerprint.
const KEPT_BYTES: f64 = 4.0;
/// Of a key and its payload, in the memory of a block; and in a run.
const ENTRY_BYTES: f64 = 24.0;
const RUN_BYTES: f64 = 20.0;
/// Of a key and its payload, while they wait for the others.
const ASIDE_BYTES: f64 = 19.0;
/// Keys to a bucket of fast, and rows to a key of compact, as their formats have them.
const FAST_BUCKET_KEYS: f64 = 4.65;
const COMPACT_ROWS: f64 = 20.0 / 21.0;

fn title(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Bijection => "Bijection",
        Algorithm::PtrHash => "PTRHash",
        Algorithm::Fast => "fast",
        _ => "compact",
    }
}

/// What all builds do in the same way.
fn around(build: &Build, roofs: &Roofs) -> Vec<Row> {
    let name = title(build.plan.algorithm);
    let mut rows = vec![Row {
        kernel: format!("{name}: keys taken in"),
        needed: Needed::Works(vec![
            ("B read", 16.0, roofs.copy_far),
            ("B kept", ENTRY_BYTES, roofs.copy_near),
        ]),
        taken: build.parts.intake,
        holds: "instructions more than bytes: a key's block, whether it has room, whether the payload fits",
    }];
    if let Some(bare) = &build.bare {
        rows.push(Row {
            kernel: format!("{name}: payload and fingerprint"),
            needed: Needed::Works(vec![
                ("store", 1.0, roofs.store),
                ("B hashed", KEPT_BYTES, roofs.hash),
                ("B written", KEPT_BYTES, roofs.write),
            ]),
            taken: build.parts.total - bare.total,
            holds: "the payload carried along with its key, one more copy, and the file written back while more is to come",
        });
    }
    rows
}

/// What is neither taking keys in nor due to what is kept for them: nanoseconds, and the file's bytes.
fn solving(build: &Build, roofs: &Roofs) -> (f64, Work) {
    let (parts, kept) = build.bare.as_ref().map_or((&build.parts, 0.0), |bare| (bare, KEPT_BYTES));
    (parts.rest(), ("B written", build.file_bytes - kept, roofs.write))
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
    let search = build.parts.rest() - lucky.rest();
    let (all_taken, written) = solving(build, roofs);
    vec![
        Row {
            kernel: format!("Bijection: search beyond the first seeds, {name:?}"),
            needed: Needed::Works(vec![("mixes", all - first, mix)]),
            taken: search,
            holds: match in_lanes {
                true => {
                    "a place becomes a bit of a mask, which is compared; buckets without a seed go into another round"
                }
                false => {
                    "a bit for each place; seeds are tried four at a time, and nobody foresees a bucket's last four"
                }
            },
        },
        Row {
            kernel: format!("Bijection: the rest of solving, {name:?}"),
            needed: Needed::Works(vec![
                ("mixes", first + 1.0, mix),
                ("counters", 2.0, roofs.counter),
                written,
            ]),
            taken: all_taken - search,
            holds: "keys scattered into columns by size, codes put together bucket by bucket: stores and shifts",
        },
    ]
}

fn ptrhash(build: &Build, roofs: &Roofs) -> Vec<Row> {
    let (Some((lucky, first)), Some(pilot)) = (&build.lucky, roofs.pilot) else { return Vec::new() };
    let search = build.parts.rest() - lucky.rest();
    let (all_taken, written) = solving(build, roofs);
    vec![
        Row {
            kernel: "PTRHash: search beyond the first pilots".into(),
            needed: Needed::Works(vec![("slots", build.tries.whole - first.whole, pilot)]),
            taken: search,
            holds: "evictions, which come on top of what the file tells; a branch on the first pilot that fits",
        },
        Row {
            kernel: "PTRHash: the rest of solving".into(),
            needed: Needed::Works(vec![
                ("slots", first.whole, pilot),
                ("counters", 3.0, roofs.counter),
                written,
            ]),
            taken: all_taken - search,
            holds: "keys scattered into a block larger than the nearest cache; each key's slot, through three tables",
        },
    ]
}

fn fast(build: &Build, roofs: &Roofs) -> Vec<Row> {
    let (Some(word), Some(lap)) = (roofs.rotated_word, roofs.lap) else { return Vec::new() };
    let (taken, written) = solving(build, roofs);
    vec![Row {
        kernel: "fast: solving".into(),
        needed: Needed::Works(vec![
            ("mix", 1.0, roofs.mix),
            ("rotated words", 4.0, word),
            ("counters", 2.0, roofs.counter),
            ("laps", 1.0 / FAST_BUCKET_KEYS, lap),
            written,
        ]),
        taken,
        holds: "a chain: words, scores, the least, what it takes, a store, which the next bucket loads",
    }]
}

fn compact(build: &Build, roofs: &Roofs) -> Vec<Row> {
    let Some(row) = roofs.row else { return Vec::new() };
    let (taken, written) = solving(build, roofs);
    vec![Row {
        kernel: "compact: solving".into(),
        needed: Needed::Works(vec![
            ("mixes", 2.0, roofs.mix),
            ("steps", build.steps, roofs.step),
            ("rows", COMPACT_ROWS, row),
            ("counters", 2.0, roofs.counter),
            written,
        ]),
        taken,
        holds: "sorting equations; nobody foresees a chain's last step, so that the next one begins late",
    }]
}

/// Of builds with the best instructions all kernels, of others those that differ; then of builds out of other things.
pub(crate) fn rows(measured: &Measured) -> Vec<Row> {
    let roofs = &measured.roofs;
    let (mut rows, mut others) = (Vec::new(), Vec::new());
    // Without taking keys in: the limit, and what is taken.
    let mut bijection_alone = (0.0, 0.0);
    for build in &measured.builds {
        let algorithm = build.plan.algorithm;
        let mut own = match algorithm {
            Algorithm::Bijection => bijection(build, roofs),
            Algorithm::PtrHash => ptrhash(build, roofs),
            Algorithm::Fast => fast(build, roofs),
            _ => compact(build, roofs),
        };
        if build.plan.instructions != Instructions::best() {
            others.append(&mut own);
            continue;
        }
        let around = around(build, roofs);
        if algorithm == Algorithm::Bijection {
            let limits = own.iter().chain(&around[1..]).map(Row::limit);
            bijection_alone = (limits.sum(), build.parts.rest());
            own.extend(around);
        } else {
            let kernel = format!("{}: keys taken in, what is kept of them, file", title(algorithm));
            own.push(Row::together(kernel, around, "as with Bijection"));
        }
        own.push(Row {
            kernel: format!("**{}, sorted: the whole build**", title(algorithm)),
            needed: Needed::AllOf(own.iter().map(Row::limit).sum()),
            taken: build.parts.total,
            holds: "",
        });
        rows.append(&mut own);
    }
    rows.append(&mut others);
    let sorted = measured.builds.iter().find(|build| build.plan.instructions == Instructions::best());
    let sorted_total = sorted.map_or(0.0, |build| build.parts.total);
    let cut = Row {
        kernel: "rebuild: runs read, cut and put in place".into(),
        needed: Needed::Works(vec![
            ("B read", RUN_BYTES, roofs.read),
            ("B kept", ENTRY_BYTES, roofs.copy_near),
        ]),
        taken: measured.rebuilt.total - bijection_alone.1,
        holds: "each key's block, and a store to where that block's last key ended",
    };
    let all = Row {
        kernel: "**rebuild from runs, Bijection: the whole build**".into(),
        needed: Needed::AllOf(cut.limit() + bijection_alone.0),
        taken: measured.rebuilt.total,
        holds: "",
    };
    let unsorted = Row {
        kernel: "unsorted: keys brought into order".into(),
        needed: Needed::Works(vec![
            ("B set aside", ASIDE_BYTES, roofs.copy_far),
            ("B fetched", ASIDE_BYTES, roofs.copy_far),
        ]),
        taken: measured.unsorted.total - sorted_total,
        holds: "a store among many partitions, and later one among the blocks of a partition; memory touched for the first time",
    };
    rows.extend([cut, all, unsorted]);
    rows
}

/// What holds lookups: of a loop, of batches, and of one that waits for the one before.
fn lookup_holds(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Bijection => {
            "codes of sizes and seeds of up to 128 buckets are gone through; in a loop the block's lines, each known from the last"
        }
        Algorithm::Compact => {
            "loop: the window, see below; batches: two products, and 64 rows chosen and put together"
        }
        _ => "loop: the window, see below; batches: instructions, most of the time also where nothing misses",
    }
}

pub(crate) const LOOKUP_HEAD: [&str; 8] =
    ["index", "loop", "÷", "batched", "÷", "latency", "÷", "what holds the rest"];

pub(crate) fn lookup_cells(lookups: &Lookups) -> Vec<String> {
    let (taken, needed) = (lookups.taken, lookups.needed);
    let mut cells = vec![title(lookups.algorithm).to_owned()];
    for (taken, needed) in
        [(taken.looped, needed.looped), (taken.batched, needed.batched), (taken.latency, needed.latency)]
    {
        cells.push(format!("{} / {}", digits(taken), digits(needed)));
        cells.push(digits(taken / needed));
    }
    cells.push(lookup_holds(lookups.algorithm).to_owned());
    cells
}
