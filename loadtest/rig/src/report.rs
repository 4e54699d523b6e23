//! From single runs to tables: medians, and the gateway's figures over those of its peers.

use std::{fmt::Write as _, fs, io, path::Path};

use serde_json::{Map, Value, json};

const CONTENDERS: [&str; 4] = ["relay", "gate", "nginx", "haproxy"];
const PEERS: [&str; 2] = ["nginx", "haproxy"];

/// The runs of one workload, plain or over TLS.
struct Case {
    workload: String,
    tls: bool,
    runs: Vec<Value>,
}

/// What the comparison of a workload is about.
struct Figure {
    key: &'static str,
    unit: &'static str,
    digits: usize,
    more_is_better: bool,
}

impl Case {
    fn figure(&self) -> Figure {
        let (key, unit, digits, more_is_better) = if self.workload == "idle" {
            ("rss_per_conn", "bytes per stream", 0, false)
        } else if self.runs.first().is_some_and(|run| run["kind"] == "bulk") {
            ("gb_per_cpu_s", "GB per CPU second", 2, true)
        } else if self.runs.first().is_some_and(|run| run["kind"] == "sse") {
            ("cpu_us_per_unit", "CPU µs per event", 3, false)
        } else {
            ("cpu_us_per_unit", "CPU µs per request", 2, false)
        };
        Figure { key, unit, digits, more_is_better }
    }

    fn name(&self) -> String {
        format!("{}{}", self.workload, if self.tls { ", TLS" } else { "" })
    }

    /// Median over the runs of `contender`; `None` if it did not run.
    fn median(&self, contender: &str, key: &str) -> Option<f64> {
        let runs = self.runs.iter().filter(|run| run["contender"] == contender);
        let mut values: Vec<f64> = runs.filter_map(|run| run[key].as_f64()).collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        match values.len() {
            0 => None,
            n if n % 2 == 1 => Some(values[middle]),
            _ => Some((values[middle - 1] + values[middle]) / 2.0),
        }
    }

    /// The gateway's figure over that of `peer`.
    fn ratio(&self, peer: &str) -> Option<f64> {
        let key = self.figure().key;
        Some(self.median("gate", key)? / self.median(peer, key)?)
    }

    /// The same over the better of its peers.
    fn ratio_to_better(&self) -> Option<f64> {
        let ratios = PEERS.iter().filter_map(|peer| self.ratio(peer));
        if self.figure().more_is_better { ratios.reduce(f64::min) } else { ratios.reduce(f64::max) }
    }

    fn summary(&self) -> Value {
        let mut contenders = Map::new();
        for contender in CONTENDERS {
            let of = self.runs.iter().filter(|run| run["contender"] == contender).count();
            if of == 0 {
                continue;
            }
            let keys = [
                "cpu_us_per_unit",
                "gb_per_cpu_s",
                "rss_per_conn",
                "rss",
                "units_per_s",
                "segments_per_unit",
                "p50_us",
                "p99_us",
            ];
            let mut medians: Map<_, _> =
                keys.iter().map(|key| ((*key).to_owned(), json!(self.median(contender, key)))).collect();
            medians.insert("runs".into(), json!(of));
            contenders.insert(contender.into(), medians.into());
        }
        json!({
            "workload": self.workload,
            "tls": self.tls,
            "unit": self.figure().unit,
            "medians": contenders,
            "gate_to_nginx": self.ratio("nginx"),
            "gate_to_haproxy": self.ratio("haproxy"),
            "gate_to_better": self.ratio_to_better(),
        })
    }
}

/// A paced run that came to less than this share of its pace measured the machine, not the contender: what is late goes
/// through in heaps, and heaps are cheap.
const ON_PACE: f64 = 0.95;

fn is_on_pace(run: &Value) -> bool {
    let (expected, units) = (run["expected_per_s"].as_f64(), run["units_per_s"].as_f64());
    // Idle streams are looked at for their memory, over too few events to count.
    run["workload"] == "idle"
        || expected.is_none_or(|expected| units.is_some_and(|units| units > ON_PACE * expected))
}

/// Prints the tables for `runs` and writes their medians to `summary`. Runs that fell behind their pace are left out, with a
/// word about it; runs that lost something are an error, after everything else.
pub fn run(runs: &Path, summary: &Path) -> io::Result<()> {
    let mut runs: Vec<Value> =
        fs::read_to_string(runs)?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    for run in runs.extract_if(.., |run| !is_on_pace(run)) {
        eprintln!("left out, too slow for its pace: {run}");
    }
    let spoiled = runs.iter().filter(|run| run["errors"] != 0 || run["gaps"] != 0);
    let spoiled: Vec<String> = spoiled.map(ToString::to_string).collect();
    let cases = cases(runs);
    print!("{}", tables(&cases));
    let medians: Vec<Value> = cases.iter().map(Case::summary).collect();
    fs::write(summary, serde_json::to_string_pretty(&medians)?)?;
    if spoiled.is_empty() {
        return Ok(());
    }
    Err(io::Error::other(format!("runs with errors or missing events:\n{}", spoiled.join("\n"))))
}

fn cases(runs: Vec<Value>) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for run in runs {
        let workload = run["workload"].as_str().unwrap_or_default();
        let tls = run["tls"] == true;
        match cases.iter_mut().find(|case| case.workload == workload && case.tls == tls) {
            Some(case) => case.runs.push(run),
            None => cases.push(Case { workload: workload.to_owned(), tls, runs: vec![run] }),
        }
    }
    cases
}

fn tables(cases: &[Case]) -> String {
    let mut text = String::from(
        "| workload | unit | relay | gate | nginx | HAProxy | gate ÷ nginx | gate ÷ HAProxy | gate ÷ better |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for case in cases {
        let figure = case.figure();
        let cells = CONTENDERS.map(|contender| cell(case.median(contender, figure.key), figure.digits));
        let ratios =
            [case.ratio("nginx"), case.ratio("haproxy"), case.ratio_to_better()].map(|ratio| cell(ratio, 2));
        let _ = writeln!(
            text,
            "| {} | {}{} | {} | {} |",
            case.name(),
            figure.unit,
            if figure.more_is_better { " (more is better)" } else { "" },
            cells.join(" | "),
            ratios.join(" | ")
        );
    }
    text += "\n| p50 / p99, µs | relay | gate | nginx | HAProxy |\n|---|---|---|---|---|\n";
    for case in cases.iter().filter(|case| case.workload != "idle") {
        let cells = CONTENDERS.map(|contender| {
            let [p50, p99] = ["p50_us", "p99_us"].map(|key| cell(case.median(contender, key), 0));
            format!("{p50} / {p99}")
        });
        let _ = writeln!(text, "| {} | {} |", case.name(), cells.join(" | "));
    }
    text += "\n| writes to the client per event | relay | gate | nginx | HAProxy |\n|---|---|---|---|---|\n";
    for case in cases.iter().filter(|case| case.figure().unit == "CPU µs per event") {
        let cells = CONTENDERS.map(|contender| cell(case.median(contender, "segments_per_unit"), 3));
        let _ = writeln!(text, "| {} | {} |", case.name(), cells.join(" | "));
    }
    text
}

fn cell(value: Option<f64>, digits: usize) -> String {
    value.map_or("–".into(), |value| format!("{value:.digits$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(workload: &str, kind: &str, contender: &str, cpu: f64, gb: f64) -> Value {
        json!({ "workload": workload, "kind": kind, "tls": false, "contender": contender, "cpu_us_per_unit": cpu,
                "gb_per_cpu_s": gb, "p50_us": 10, "p99_us": 20, "segments_per_unit": 1 })
    }

    #[test]
    fn a_run_that_fell_behind_is_no_measurement() {
        let run = |expected: Value, units: f64| json!({ "expected_per_s": expected, "units_per_s": units });
        assert!(is_on_pace(&run(json!(100.0), 99.0)));
        assert!(!is_on_pace(&run(json!(100.0), 90.0)));
        assert!(is_on_pace(&run(Value::Null, 1.0)));
    }

    #[test]
    fn the_gate_is_measured_against_the_better_peer() {
        let runs = vec![
            run("rpc", "rpc", "gate", 9.0, 0.0),
            run("rpc", "rpc", "gate", 100.0, 0.0),
            run("rpc", "rpc", "gate", 10.0, 0.0),
            run("rpc", "rpc", "nginx", 20.0, 0.0),
            run("rpc", "rpc", "haproxy", 8.0, 0.0),
            run("bulk", "bulk", "gate", 0.0, 3.0),
            run("bulk", "bulk", "nginx", 0.0, 1.0),
            run("bulk", "bulk", "haproxy", 0.0, 2.0),
        ];
        let cases = cases(runs);
        assert_eq!(cases[0].ratio_to_better(), Some(10.0 / 8.0));
        assert_eq!(cases[0].ratio("nginx"), Some(0.5));
        assert_eq!(cases[1].ratio_to_better(), Some(1.5));
        let text = tables(&cases);
        let row = "| rpc | CPU µs per request | – | 10.00 | 20.00 | 8.00 | 0.50 | 1.25 | 1.25 |";
        assert!(text.contains(row), "{text}");
    }
}
