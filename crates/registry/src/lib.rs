//! Who is running: workers, gates, weighted shutdown, a report.
