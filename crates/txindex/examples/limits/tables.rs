//! Tables that read well both as Markdown and as plain text.

/// The first column is text, and the last one if told so, which is not filled up; all others are figures.
pub(crate) fn table(rows: &[Vec<String>], text_at_last: bool) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let is_words = |column: usize| text_at_last && column + 1 == columns;
    let widths: Vec<usize> =
        (0..columns).map(|column| if is_words(column) { 3 } else { width(column).max(3) }).collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            text += &match column {
                0 => format!("| {cell:<width$} |"),
                _ if is_words(column) => format!(" {cell} |"),
                _ => format!(" {cell:>width$} |"),
            };
        }
        text += "\n";
        if number == 0 {
            for (column, &width) in widths.iter().enumerate() {
                let dashes = "-".repeat(width);
                text += &match column {
                    0 => format!("|:{dashes}-|"),
                    _ if is_words(column) => format!(":{dashes}-|"),
                    _ => format!("-{dashes}:|"),
                };
            }
            text += "\n";
        }
    }
    text
}

/// A figure with as many digits as it deserves.
pub(crate) fn digits(value: f64) -> String {
    match value.abs() {
        v if v >= 99.95 => format!("{value:.0}"),
        v if v >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
