//! The two plots of a report.

use crate::{
    contender::Kind,
    curve::Curve,
    keys::CONTENT_BITS,
    machine::Machine,
    measure::Mode,
    report::Report,
    svg::{Axis, COLOURS, Dot, Line, Plot},
};

/// Nothing is shown as smaller than this many bits beyond its content.
const LEAST_BITS: f64 = 0.05;

/// The kinds as the plot tells them apart.
const KINDS: [(&str, &str); 3] =
    [("ours", COLOURS[0]), ("functions in memory", COLOURS[1]), ("general stores", COLOURS[2])];

fn kind_of(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Ours | Kind::Aided | Kind::Mapped => KINDS[0],
        Kind::Memory => KINDS[1],
        Kind::Store { .. } => KINDS[2],
    }
}

/// Size against query time, one dot for each structure.
pub(crate) fn size_query(report: &Report) -> String {
    let mut dots = Vec::new();
    for row in &report.rows {
        let (Some(bits), Some(time)) = (row.bits_per_key(), row.time(Mode::Loop)) else { continue };
        if row.contender.kind != Kind::Mapped {
            let (_, colour) = kind_of(row.contender.kind);
            let x = (bits - CONTENT_BITS).max(LEAST_BITS);
            dots.push(Dot { x, y: time.best, label: row.name, colour });
        }
    }
    let floor = report.floor([Mode::OneLoop, Mode::TwoLoop, Mode::OneLoop])[0].map(|time| time.best);
    let x = Axis::log("bits a key beyond the 32 of payload and fingerprint", dots.iter().map(|dot| dot.x));
    let y = Axis::log("query in a loop, ns", dots.iter().map(|dot| dot.y).chain(floor));
    let title = format!("Size and query time, {} keys", report.keys);
    let mut plot = Plot::new(&title, &report.machine.line(), x, y, 30.0);
    if let Some(floor) = floor {
        plot.mark(floor, "one random access to the content");
    }
    plot.legend(&KINDS);
    plot.dots(&dots);
    plot.finish()
}

/// Build rate against the number of keys, a line for each structure.
pub(crate) fn build(curve: &Curve, machine: &Machine) -> String {
    let points = || curve.lines.iter().flat_map(|line| line.points.iter());
    let x = Axis::log("keys", points().map(|point| point.0));
    let y = Axis::linear("M keys/s, all cores", points().map(|point| point.1));
    let mut plot = Plot::new("Build rate", &machine.line(), x, y, 190.0);
    let lines = curve.lines.iter().zip(COLOURS.iter().cycle());
    let lines: Vec<Line<'_>> =
        lines.map(|(line, colour)| Line { label: &line.name, colour, points: &line.points }).collect();
    plot.lines(&lines);
    plot.finish()
}
