//! What a file does to stored data or its shape, and whether it says what that costs.

use std::ops::Range;

use super::lexer::{self, Kind, Token};

/// The runner's calls: what stands in their arguments runs in the background.
pub(super) const RUNNER: [&str; 2] = ["schedule", "schedule_unless_legacy"];
/// The helper that works in chunks.
const HELPER: [&str; 1] = ["backfill"];
/// The step that says it is long.
const LONG: [&str; 1] = ["write_long"];
/// A step.
const STEP: [&str; 1] = ["write"];
/// Macros whose strings are for people.
const PROSE: [&str; 12] = [
    "trace", "debug", "info", "warn", "error", "print", "println", "eprint", "eprintln", "panic", "assert",
    "bail",
];

/// Something that changes stored data or its shape.
#[derive(Debug)]
pub(super) struct Hit {
    /// What it is.
    pub(super) what: &'static str,
    /// Its lines.
    pub(super) lines: Range<usize>,
    /// The first line of its statement.
    pub(super) starts: usize,
    /// Where it stands.
    pub(super) place: Place,
}

/// Where a hit stands, as far as that matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In no call of the runner.
    Bare,
    /// In a call of the runner.
    Async,
    /// There too, as one step over any number of rows, which is not said to be long.
    AsyncWhole,
}

/// A file, looked through.
pub(super) struct Scan {
    pub(super) hits: Vec<Hit>,
    tokens: Vec<Token>,
}

/// Looks through Rust. Only in a migration module do changes of rows count.
pub(super) fn rust(text: &str, is_migration: bool) -> Scan {
    let tokens = lexer::rust(text);
    let code: Vec<&Token> = tokens.iter().filter(|token| !token.is_comment()).collect();
    let ranges = Ranges::of(&code);
    let mut hits = Vec::new();
    for (at, token) in code.iter().enumerate() {
        let found: Vec<(&'static str, bool)> = match &token.kind {
            _ if within(&ranges.tests, at) => continue,
            Kind::Text(text) if !within(&ranges.prose, at) => sql_statements(&lexer::sql(text), is_migration)
                .into_iter()
                .map(|(what, whole, _)| (what, whole))
                .collect(),
            Kind::Word(word) if is_migration => row_change(&code, at, word, &ranges).into_iter().collect(),
            _ => continue,
        };
        for (what, whole) in found {
            let cut = within(&ranges.helper, at) || within(&ranges.long, at);
            let place = match within(&ranges.runner, at) {
                false => Place::Bare,
                true if whole && !cut => Place::AsyncWhole,
                true => Place::Async,
            };
            let starts = statement_start(&code, at);
            hits.push(Hit { what, lines: token.line..token.last_line + 1, starts, place });
        }
    }
    Scan { hits, tokens }
}

/// Looks through SQL, where there is no runner.
pub(super) fn sql(text: &str) -> Scan {
    let tokens = lexer::sql(text);
    let statements = sql_statements(&tokens, true).into_iter();
    let hit = |(what, _, lines): (&'static str, bool, Range<usize>)| Hit {
        what,
        starts: lines.start,
        lines,
        place: Place::Bare,
    };
    Scan { hits: statements.map(hit).collect(), tokens }
}

impl Scan {
    /// The comment that stands alone on the nearest line above one that is not blank.
    pub(super) fn comment_above(&self, line: usize) -> Option<&str> {
        let nearest = self.tokens.iter().filter(|token| token.last_line < line).map(|t| t.last_line).max()?;
        let on_it = |token: &&Token| token.line <= nearest && nearest <= token.last_line;
        let mut there = self.tokens.iter().filter(on_it);
        match (there.next(), there.next()) {
            (Some(Token { kind: Kind::Comment(text), .. }), None) => Some(text.trim()),
            _ => None,
        }
    }
}

/// A change of rows or families that a word begins, and whether it is one of any number of rows.
fn row_change(code: &[&Token], at: usize, word: &str, ranges: &Ranges) -> Option<(&'static str, bool)> {
    let called = code.get(at + 1).is_some_and(|next| next.is_sign('('));
    let method = at > 0 && code[at - 1].is_sign('.');
    let of_family = at > 2 && code[at - 1].is_sign(':') && code[at - 3].is_word("Family");
    let in_loop = within(&ranges.loops, at) && within(&ranges.step, at);
    match word {
        _ if !called => None,
        "put" if method => Some(("a row set", in_loop)),
        "delete" if method => Some(("a row removed", in_loop)),
        "delete_range" if method => Some(("a range of rows removed", true)),
        "new" if of_family => Some(("a family", false)),
        _ => None,
    }
}

/// SQL statements that change a table, with whether they touch any number of rows, and their lines.
fn sql_statements(tokens: &[Token], is_migration: bool) -> Vec<(&'static str, bool, Range<usize>)> {
    let code: Vec<&Token> = tokens.iter().filter(|token| !token.is_comment()).collect();
    let word =
        |at: usize, words: &[&str]| code.get(at).is_some_and(|token| words.iter().any(|w| token.is_word(w)));
    let mut found = Vec::new();
    for (at, token) in code.iter().enumerate() {
        let first = at == 0 || code[at - 1].is_sign(';');
        let soon = |words: &[&str]| (at + 2..at + 12).any(|at| word(at, words));
        let index = if word(at + 1, &["unique"]) { at + 2 } else { at + 1 };
        let statement = if word(at, &["create"]) && word(index, &["index"]) && (first || soon(&["on"])) {
            ("an index", false)
        } else if word(at, &["alter"])
            && word(at + 1, &["table"])
            && (first || soon(&["add", "drop", "rename", "alter", "modify"]))
        {
            ("a table's shape", false)
        } else if is_migration && word(at, &["update"]) && soon(&["set"]) {
            ("rows updated", true)
        } else if is_migration && word(at, &["delete"]) && word(at + 1, &["from"]) {
            ("rows deleted", true)
        } else {
            continue;
        };
        let end = code[at..].iter().find(|token| token.is_sign(';')).or(code.last());
        let last_line = end.map_or(token.line, |end| end.last_line);
        found.push((statement.0, statement.1, token.line..last_line + 1));
    }
    found
}

/// Stretches of code, as indexes of tokens.
#[derive(Default)]
struct Ranges {
    runner: Vec<Range<usize>>,
    helper: Vec<Range<usize>>,
    long: Vec<Range<usize>>,
    step: Vec<Range<usize>>,
    loops: Vec<Range<usize>>,
    prose: Vec<Range<usize>>,
    tests: Vec<Range<usize>>,
}

impl Ranges {
    fn of(code: &[&Token]) -> Self {
        let mut ranges = Ranges::default();
        for (at, token) in code.iter().enumerate() {
            let Kind::Word(word) = &token.kind else {
                if is_test_mark(code, at) {
                    ranges.tests.extend(body(code, at));
                }
                continue;
            };
            let before = |sign| at > 0 && code[at - 1].is_sign(sign);
            let defined = at > 0 && code[at - 1].is_word("fn");
            let is = |names: &[&str]| names.contains(&word.as_str());
            let next = |sign| code.get(at + 1).is_some_and(|next| next.is_sign(sign));
            if next('(') && before('.') {
                let called = at + 1..closing(code, at + 1);
                ranges.runner.extend(is(&RUNNER).then(|| called.clone()));
                ranges.long.extend(is(&LONG).then(|| called.clone()));
                ranges.step.extend(is(&STEP).then(|| called.clone()));
                ranges.loops.extend(is(&["for_each", "try_for_each"]).then_some(called));
            } else if next('(') && !defined && is(&HELPER) {
                ranges.helper.push(at + 1..closing(code, at + 1));
            } else if next('!') && is(&PROSE) {
                ranges.prose.push(at..closing(code, at + 2));
            } else if is(&["for", "while", "loop"]) {
                ranges.loops.extend(body(code, at));
            }
        }
        ranges
    }
}

/// `#[cfg(test)]`.
fn is_test_mark(code: &[&Token], at: usize) -> bool {
    let word = |ahead, word| code.get(at + ahead).is_some_and(|token: &&Token| token.is_word(word));
    code[at].is_sign('#') && word(2, "cfg") && word(4, "test")
}

/// The block that follows, up to its end.
fn body(code: &[&Token], at: usize) -> Option<Range<usize>> {
    let mut open = at + 1;
    while let Some(token) = code.get(open) {
        match token.kind {
            Kind::Sign('{') => return Some(open..closing(code, open)),
            Kind::Sign(';' | '}') => return None,
            Kind::Sign('(' | '[') => open = closing(code, open),
            _ => {}
        }
        open += 1;
    }
    None
}

/// The bracket that closes the one at `open`.
fn closing(code: &[&Token], open: usize) -> usize {
    let mut depth = 0usize;
    for (at, token) in code.iter().enumerate().skip(open) {
        match token.kind {
            Kind::Sign('(' | '[' | '{') => depth += 1,
            Kind::Sign(')' | ']' | '}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    code.len()
}

/// The line on which the statement with a token begins.
fn statement_start(code: &[&Token], at: usize) -> usize {
    let ends = |token: &&&Token| [';', '{', '}'].iter().any(|sign| token.is_sign(*sign));
    let first = code[..at].iter().rposition(|token| ends(&token)).map_or(0, |end| end + 1);
    code.get(first).map_or(1, |token| token.line)
}

fn within(ranges: &[Range<usize>], at: usize) -> bool {
    ranges.iter().any(|range| range.contains(&at))
}
