//! The report: a table in `docs/benchmarks.md`, and a JSON file for programs.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

/// The page whose text between [`BEGIN`] and [`END`] is the table.
const PAGE: &str = "docs/benchmarks.md";
const BEGIN: &str = "<!-- bench -->\n";
const END: &str = "<!-- /bench -->";

/// The measures so far.
pub struct Report {
    machine: String,
    measures: Vec<Value>,
}

/// One measure, before it is judged.
pub struct Measure<'a> {
    pub name: &'a str,
    pub value: f64,
    pub unit: &'a str,
    /// The same machine's value without Hutch, in the same unit.
    pub baseline: Option<f64>,
    /// The goal in words, and true if `value` reaches it.
    pub target: Option<(&'a str, bool)>,
}

impl Report {
    pub fn new() -> Self {
        Self {
            machine: machine(),
            measures: Vec::new(),
        }
    }

    /// Adds one measure. The ratio is Hutch divided by without Hutch: below 1, Hutch
    /// needs less.
    pub fn add(&mut self, measure: &Measure) {
        let mut entry = json!({
            "name": measure.name,
            "value": round(measure.value),
            "unit": measure.unit,
            "target": measure.target.map(|(text, _)| text),
            "met": measure.target.map(|(_, met)| met),
        });
        if let Some(baseline) = measure.baseline {
            entry["baseline"] = round(baseline).into();
            entry["ratio"] = round(measure.value / baseline).into();
        }
        eprintln!(
            "  {} {} {}",
            measure.name,
            round(measure.value),
            measure.unit
        );
        self.measures.push(entry);
    }

    /// Prints the table and writes both files.
    pub fn finish(&self) {
        let table = self.table();
        println!("\n{table}");
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let page = std::fs::read_to_string(root.join(PAGE)).unwrap();
        let (before, rest) = page.split_once(BEGIN).unwrap();
        let (_, after) = rest.split_once(END).unwrap();
        let page = format!("{before}{BEGIN}{table}{END}{after}");
        std::fs::write(root.join(PAGE), page).unwrap();
        let directory = root.join("target/bench");
        std::fs::create_dir_all(&directory).unwrap();
        let text = json!({"machine": self.machine, "measures": self.measures});
        let file = directory.join("report.json");
        std::fs::write(&file, format!("{text:#}\n")).unwrap();
    }

    /// The machine and the measures, in Markdown.
    fn table(&self) -> String {
        let mut table = format!(
            "{}\n\n\
             | measure | Hutch | without Hutch | ratio | target | met |\n\
             | --- | ---: | ---: | ---: | --- | --- |\n",
            self.machine
        );
        for measure in &self.measures {
            writeln!(table, "{}", row(measure)).unwrap();
        }
        table
    }
}

/// One line of the table.
fn row(measure: &Value) -> String {
    let unit = measure["unit"].as_str().unwrap();
    let number = |name: &str| match measure.get(name).and_then(Value::as_f64) {
        Some(value) => format!("{value} {unit}"),
        None => String::new(),
    };
    let ratio = measure
        .get("ratio")
        .map_or_else(String::new, |ratio| format!("{ratio}×"));
    let met = match measure["met"].as_bool() {
        Some(true) => "yes",
        Some(false) => "**no**",
        None => "",
    };
    let target = measure["target"].as_str().unwrap_or_default();
    let name = measure["name"].as_str().unwrap();
    let (value, baseline) = (number("value"), number("baseline"));
    format!("| {name} | {value} | {baseline} | {ratio} | {target} | {met} |")
}

/// Three significant digits, and at most three decimals.
fn round(value: f64) -> f64 {
    let scale = match value.abs() {
        v if v >= 100.0 => 1.0,
        v if v >= 10.0 => 10.0,
        v if v >= 0.1 => 100.0,
        _ => 1000.0,
    };
    (value * scale).round() / scale
}

/// Percentiles of `times`, in milliseconds.
pub struct Times(Vec<Duration>);

impl Times {
    pub fn new(mut times: Vec<Duration>) -> Self {
        times.sort();
        Self(times)
    }

    pub fn percentile(&self, percent: usize) -> f64 {
        let index = (self.0.len() * percent / 100).min(self.0.len() - 1);
        self.0[index].as_secs_f64() * 1000.0
    }
}

/// Processor, cores, memory and kernel of this machine.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned()))
    };
    let cpu = field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown CPU".into());
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let memory = memory.and_then(|kb| kb.trim_end_matches(" kB").parse::<u64>().ok());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!(
        "{cpu}, {cores} cores, {} GiB, Linux {}",
        memory.unwrap_or(0).div_ceil(1 << 20),
        read("/proc/sys/kernel/osrelease").trim()
    )
}
