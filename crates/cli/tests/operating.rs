//! The operating manual says what the program does: it is read here, so that it cannot fall behind.
#![allow(clippy::unwrap_used)]

use icecore_engine::metrics::METRICS;

#[test]
fn every_metric_is_in_the_manual_with_its_alert() {
    let manual = include_str!("../../../docs/operating.md");
    let rows = METRICS.iter().map(|metric| {
        let cell = |text: &str| if text.is_empty() { "–".to_owned() } else { text.to_owned() };
        let shape = format!("{:?}", metric.shape).to_lowercase();
        let labels = cell(metric.labels);
        format!("| `{}` | {shape} | {labels} | {} | {} |\n", metric.name, metric.help, cell(metric.alert))
    });
    let table: String = rows.collect();
    assert!(manual.contains(&table), "docs/operating.md should have:\n{table}");
}

#[test]
fn every_durable_step_is_in_the_crash_model() {
    let model = include_str!("../../../docs/crash-model.md");
    for steps in [icecore_catalog::STEPS, icecore_engine::STEPS] {
        let rows =
            steps.iter().map(|step| format!("| `{}` | {} | {} |\n", step.name, step.what, step.next_start));
        let table: String = rows.collect();
        assert!(
            model.contains(&format!("|---|---|---|\n{table}\n")),
            "docs/crash-model.md should have:\n{table}"
        );
    }
}
