//! The bench measures what it says: short runs of every kind of row.

mod growth;
mod peer;
mod rows;

use std::process::Command;

use serde_json::Value;

/// Runs the bench for JSON and gives its lines.
fn bench(arguments: &[&str]) -> Vec<Value> {
    let output =
        Command::new(env!("CARGO_BIN_EXE_tcc-bench")).arg("--json").args(arguments).output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{err}");
    out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|why| panic!("{line}: {why}"))).collect()
}

/// The one line where a field is this.
fn line<'a>(lines: &'a [Value], field: &str, value: &str) -> &'a Value {
    let mut found = lines.iter().filter(|line| line[field] == value);
    let line = found.next().unwrap_or_else(|| panic!("no line has {field} {value:?}: {lines:#?}"));
    assert!(found.next().is_none(), "more than one line has {field} {value:?}");
    line
}

fn number(line: &Value, field: &str) -> f64 {
    line[field].as_f64().unwrap_or_else(|| panic!("{field} is no number in {line:#}"))
}
