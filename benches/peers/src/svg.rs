//! Plots as SVG, readable on light and on dark pages: a frame with two axes, lines, dots, and labels that keep apart.

use std::fmt::Write as _;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 560.0;
const LEFT: f64 = 70.0;
const TOP: f64 = 62.0;
const BOTTOM: f64 = 72.0;
const LINE: f64 = 15.0;
/// About what a character of the labels takes.
const CHARACTER: f64 = 7.3;

/// Colours that both schemes bear, a page and its ink for each.
const STYLE: &str = "svg{font:12px system-ui,sans-serif}.page{fill:#fff}.ink{fill:#222}.dim{fill:#666}\
.grid{stroke:#ddd}.axis{stroke:#666;fill:none}.mark{stroke:#888;stroke-dasharray:5 4}.title{font-size:16px;font-weight:600}\
@media(prefers-color-scheme:dark){.page{fill:#14171a}.ink{fill:#e6e6e6}.dim{fill:#9aa0a6}.grid{stroke:#30363c}\
.axis{stroke:#9aa0a6}}";
pub(crate) const COLOURS: [&str; 12] = [
    "#1f8fe0", "#e8590c", "#2f9e44", "#c2255c", "#8a63d2", "#a8862b", "#0c9a9a", "#e0529c", "#6b8e23",
    "#b5651d", "#4f6df5", "#868e96",
];

/// An axis: what it shows, from where to where, and where it has ticks.
pub(crate) struct Axis {
    pub(crate) label: String,
    pub(crate) log: bool,
    pub(crate) from: f64,
    pub(crate) to: f64,
    pub(crate) ticks: Vec<f64>,
}

impl Axis {
    /// From a power of ten times 1, 2 or 5 to another, around the values.
    pub(crate) fn log(label: &str, values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = values.fold((f64::INFINITY, 0.0f64), |(low, high), v| (low.min(v), high.max(v)));
        let (low, high) = if low < high { (low, high) } else { (0.5 * high, 2.0 * high.max(1e-9)) };
        let steps = (-9..15).flat_map(|power| [1.0, 2.0, 5.0].map(|first| first * 10f64.powi(power)));
        let steps: Vec<f64> = steps.collect();
        let from = steps.iter().rev().find(|&&step| step <= 0.95 * low).copied().unwrap_or(low);
        let to = steps.iter().find(|&&step| step >= 1.05 * high).copied().unwrap_or(high);
        let ticks = steps.into_iter().filter(|step| (from..=to).contains(step)).collect();
        Axis { label: label.into(), log: true, from, to, ticks }
    }

    /// From nothing to a round number above the values.
    pub(crate) fn linear(label: &str, values: impl Iterator<Item = f64>) -> Self {
        let high = values.fold(1e-9, f64::max);
        let unit = 10f64.powf((high / 5.0).log10().floor());
        let step =
            [1.0, 2.0, 5.0, 10.0].map(|first| first * unit).into_iter().find(|step| high / step <= 8.0);
        let step = step.unwrap_or(10.0 * unit);
        let to = (high / step).ceil() * step;
        let ticks = (0..=(to / step).round() as u32).map(|i| f64::from(i) * step).collect();
        Axis { label: label.into(), log: false, from: 0.0, to, ticks }
    }

    /// How far along the axis a value is, 0 to 1.
    fn share(&self, value: f64) -> f64 {
        let scale = |v: f64| if self.log { v.max(1e-9).ln() } else { v };
        (scale(value) - scale(self.from)) / (scale(self.to) - scale(self.from))
    }
}

/// A number as short as it can be.
pub(crate) fn short(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{} M", short(v / 1e6)),
        v if v >= 1e4 => format!("{} k", short(v / 1e3)),
        v => format!("{}", (v * 1e6).round() / 1e6),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A box that no other label may cover.
#[derive(Clone, Copy)]
struct Taken {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

impl Taken {
    fn meets(&self, other: &Taken) -> bool {
        self.x < other.x + other.width
            && other.x < self.x + self.width
            && self.y < other.y + other.height
            && other.y < self.y + self.height
    }
}

/// A dot with a label.
pub(crate) struct Dot<'a> {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) label: &'a str,
    pub(crate) colour: &'a str,
}

/// A line with a label.
pub(crate) struct Line<'a> {
    pub(crate) label: &'a str,
    pub(crate) colour: &'a str,
    pub(crate) points: &'a [(f64, f64)],
}

pub(crate) struct Plot {
    body: String,
    x: Axis,
    y: Axis,
    /// Room at the right, for labels of lines.
    right: f64,
    taken: Vec<Taken>,
}

impl Plot {
    pub(crate) fn new(title: &str, subtitle: &str, x: Axis, y: Axis, right: f64) -> Self {
        let mut plot = Plot { body: String::new(), x, y, right, taken: Vec::new() };
        plot.text(LEFT, 26.0, "title ink", "start", title);
        plot.text(LEFT, 46.0, "dim", "start", subtitle);
        let (x0, x1, y0, y1) = (LEFT, WIDTH - plot.right, HEIGHT - BOTTOM, TOP);
        for tick in plot.x.ticks.clone() {
            let at = plot.across(tick);
            plot.line((at, y0), (at, y1), "grid");
            plot.text(at, y0 + 18.0, "dim", "middle", &short(tick));
        }
        for tick in plot.y.ticks.clone() {
            let at = plot.up(tick);
            plot.line((x0, at), (x1, at), "grid");
            plot.text(x0 - 8.0, at + 4.0, "dim", "end", &short(tick));
        }
        plot.line((x0, y0), (x1, y0), "axis");
        plot.line((x0, y0), (x0, y1), "axis");
        let (across, up) = (plot.x.label.clone(), plot.y.label.clone());
        plot.text((x0 + x1) / 2.0, y0 + 40.0, "ink", "middle", &across);
        let middle = (y0 + y1) / 2.0;
        plot.push(format!(
            "<text class=\"ink\" text-anchor=\"middle\" transform=\"translate(18 {middle:.1}) rotate(-90)\">{}</text>",
            escape(&up)
        ));
        plot
    }

    fn push(&mut self, element: String) {
        self.body.push_str(&element);
        self.body.push('\n');
    }

    fn across(&self, value: f64) -> f64 {
        LEFT + self.x.share(value) * (WIDTH - self.right - LEFT)
    }

    fn up(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.share(value) * (HEIGHT - BOTTOM - TOP)
    }

    fn text(&mut self, x: f64, y: f64, class: &str, anchor: &str, text: &str) {
        let text = escape(text);
        self.push(format!(
            "<text class=\"{class}\" text-anchor=\"{anchor}\" x=\"{x:.1}\" y=\"{y:.1}\">{text}</text>"
        ));
    }

    fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), class: &str) {
        self.push(format!(
            "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
        ));
    }

    /// A dashed line across, with what it means.
    pub(crate) fn mark(&mut self, y: f64, label: &str) {
        let at = self.up(y);
        self.line((LEFT, at), (WIDTH - self.right, at), "mark");
        self.text(LEFT + 6.0, at - 5.0, "dim", "start", label);
        let width = CHARACTER * label.chars().count() as f64;
        self.taken.push(Taken { x: LEFT, y: at - 18.0, width, height: LINE });
    }

    /// What colours mean, above the frame at the right.
    pub(crate) fn legend(&mut self, meanings: &[(&str, &str)]) {
        let mut x = WIDTH - self.right;
        for (meaning, colour) in meanings.iter().rev() {
            x -= CHARACTER * meaning.chars().count() as f64;
            self.text(x, 46.0, "ink", "start", meaning);
            self.push(format!("<circle cx=\"{:.1}\" cy=\"42\" r=\"5\" fill=\"{colour}\"/>", x - 10.0));
            x -= 34.0;
        }
    }

    /// Dots with labels, each where it covers no other if there is such a place.
    pub(crate) fn dots(&mut self, dots: &[Dot<'_>]) {
        for &Dot { x, y, colour, .. } in dots {
            let (x, y) = (self.across(x), self.up(y));
            self.taken.push(Taken { x: x - 6.0, y: y - 6.0, width: 12.0, height: 12.0 });
            self.push(format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\" fill=\"{colour}\"/>"));
        }
        for &Dot { x, y, label, .. } in dots {
            let (x, y) = (self.across(x), self.up(y));
            let width = CHARACTER * label.chars().count() as f64;
            let places = [0.0, -11.0, 11.0, -22.0, 22.0, -33.0, 33.0].map(|down| y + down - LINE / 2.0);
            let places = places.into_iter().flat_map(|y| {
                let left = Taken { x: x - 8.0 - width, y, width, height: LINE };
                [(Taken { x: x + 8.0, ..left }, x + 8.0, "start"), (left, x - 8.0, "end")]
            });
            let inside = |place: &Taken| place.x > LEFT && place.x + place.width < WIDTH - 4.0;
            let free = |place: &Taken| inside(place) && !self.taken.iter().any(|taken| taken.meets(place));
            let beside = (Taken { x: x + 8.0, y: y - LINE / 2.0, width, height: LINE }, x + 8.0, "start");
            let (place, x, anchor) = places.into_iter().find(|(place, ..)| free(place)).unwrap_or(beside);
            self.taken.push(place);
            self.text(x, place.y + 11.5, "ink", anchor, label);
        }
    }

    /// Lines through dots, labelled at the right in the order of their ends.
    pub(crate) fn lines(&mut self, lines: &[Line<'_>]) {
        let mut ends = Vec::new();
        for &Line { label, colour, points } in lines {
            let places: Vec<(f64, f64)> = points.iter().map(|&(x, y)| (self.across(x), self.up(y))).collect();
            let mut path = String::new();
            for (x, y) in &places {
                let _ = write!(path, "{x:.1},{y:.1} ");
                self.push(format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>"));
            }
            self.push(format!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                path.trim_end()
            ));
            ends.extend(places.last().map(|&(_, y)| (y, label, colour)));
        }
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (x, mut next) = (WIDTH - self.right + 10.0, TOP);
        for (y, label, colour) in ends {
            let at = y.max(next);
            next = at + LINE;
            self.push(format!("<circle cx=\"{:.1}\" cy=\"{at:.1}\" r=\"4\" fill=\"{colour}\"/>", x + 4.0));
            self.text(x + 12.0, at + 4.0, "ink", "start", label);
        }
    }

    pub(crate) fn finish(self) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
             height=\"{HEIGHT}\">\n<style>{STYLE}</style>\n<rect class=\"page\" width=\"100%\" height=\"100%\"/>\n\
             {}</svg>\n",
            self.body
        )
    }
}
