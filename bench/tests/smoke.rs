//! The benchmark works: every line has figures. How good they are depends on the machine.

use std::process::Command;

use serde_json::Value;

#[test]
fn times_of_answers_are_compared() {
    let output = Command::new(env!("CARGO_BIN_EXE_countersign-bench"))
        .args(["--quick", "--json", "--only", "timing"])
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let facts = report["facts"].as_array().expect("a list");
    let compared = facts.iter().filter(|fact| fact["unit"] == "%");
    let told: Vec<f64> = compared.filter_map(|fact| fact["value"].as_f64()).collect();
    assert_eq!(told.len(), 10, "{report:#}");
    assert!(
        told.iter().all(|told| (50.0..=100.0).contains(told)),
        "{told:?}"
    );
}

#[test]
fn every_line_is_measured() {
    let output = Command::new(env!("CARGO_BIN_EXE_countersign-bench"))
        .args(["--quick", "--json"])
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    for line in [
        "bare",
        "store",
        "send",
        "verifyWrong",
        "verifyRight",
        "sendHalf",
        "sendHeld",
    ] {
        let figures = &report["lines"][line];
        assert!(
            figures["perSecond"].as_f64() > Some(0.0),
            "{line}: {report:#}"
        );
        // Neither the baseline itself nor a rate that was chosen has a ratio.
        let compared = !["bare", "sendHalf"].contains(&line);
        let ratio = figures["ofBare"].as_f64();
        assert_eq!(ratio.is_some(), compared, "{line}: {report:#}");
    }
    let calls = report["calls"].as_array().expect("a list");
    assert_eq!(calls.len(), 5, "{report:#}");
    for call in calls {
        assert!(call["reusedUs"].as_f64() > Some(0.0), "{report:#}");
    }
    let facts = report["facts"].as_array().expect("a list");
    for part in ["store:", "queue:", "start:", "swap:", "attackers:"] {
        let of_part = |fact: &&Value| {
            fact["name"]
                .as_str()
                .is_some_and(|name| name.starts_with(part))
        };
        assert!(facts.iter().any(|fact| of_part(&fact)), "{part} {report:#}");
    }
    for fact in facts {
        assert!(fact["value"].as_f64() > Some(0.0), "{fact}");
    }
    let overload = &report["overload"];
    for part in ["capacity", "once", "threeTimes"] {
        let admitted = overload[part]["admittedPerSecond"].as_f64();
        assert!(admitted > Some(0.0), "{part}: {overload:#}");
    }
    // How many there were to refuse depends on what else the machine did when its capacity was found.
    let refused = overload["threeTimes"]["refused"].as_f64();
    assert!(refused >= Some(0.0), "{overload:#}");
}

#[test]
fn counting_and_dashboards_are_measured_where_they_are_asked_for() {
    let output = Command::new(env!("CARGO_BIN_EXE_countersign-bench"))
        .args(["--quick", "--json", "--only", "analytics"])
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let facts = report["facts"].as_array().expect("facts");
    let names: Vec<_> = facts
        .iter()
        .filter_map(|fact| fact["name"].as_str())
        .collect();
    for name in [
        "analytics: events counted, durably",
        "analytics: event to dashboard, median of 25",
        "analytics: dashboard of a calendar year, 1.0 million messages",
        "analytics: dashboard of 365 days from noon to noon, 100.0 million messages",
        "analytics: the last calendar year of the first",
    ] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    assert!(facts.iter().all(|fact| fact["value"].as_f64() > Some(0.0)));
    let notes = report["notes"].as_array().expect("notes");
    assert_eq!(
        notes.len(),
        1,
        "DuckDB is not there, and that is said: {notes:?}"
    );
}
