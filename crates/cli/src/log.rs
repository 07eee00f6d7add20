//! Log lines, on standard error: text for people, or one JSON object a line.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt;

use crate::config::{LogFormat, LogLevel, Settings};

/// Begins to log as the settings say; whoever came first stays.
pub(crate) fn begin(settings: &Settings) {
    let level = match settings.log_level {
        Some(LogLevel::Error) => LevelFilter::ERROR,
        Some(LogLevel::Warn) => LevelFilter::WARN,
        Some(LogLevel::Debug) => LevelFilter::DEBUG,
        Some(LogLevel::Info) | None => LevelFilter::INFO,
    };
    let lines = fmt().with_writer(std::io::stderr).with_max_level(level);
    let begun = match settings.log_format {
        Some(LogFormat::Json) => lines.json().flatten_event(true).try_init(),
        Some(LogFormat::Text) | None => lines.with_target(false).try_init(),
    };
    // Somebody else's logging, as that of a test, is as good.
    drop(begun);
}
