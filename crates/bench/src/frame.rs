//! What every bench returns, and how it is shown and kept.

use anyhow::Context as _;
use serde::Serialize;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// What the command line asks for.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) quick: bool,
    /// Folder of the retrieval sets.
    pub(crate) data: PathBuf,
    /// Model folder.
    pub(crate) model: PathBuf,
    /// Folder for records and for what a bench keeps between runs.
    pub(crate) out: PathBuf,
}

/// One measured number.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Cell {
    /// Column: a backend, a peer.
    pub(crate) column: String,
    /// The value of the fastest burst, in the row's unit.
    pub(crate) value: f64,
    /// The value of the median burst.
    pub(crate) median: f64,
}

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// What was run, with its shape.
    pub(crate) what: String,
    /// Unit of the cells; `cosine` and `share` are shown in more digits than others.
    pub(crate) unit: &'static str,
    pub(crate) cells: Vec<Cell>,
}

/// How many times as good one column is as another.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Ratio {
    /// `kernel_shape_column_over_column`, without spaces.
    pub(crate) name: String,
    /// Above 1: the first is faster.
    pub(crate) value: f64,
}

/// Result of a bench.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) name: String,
    pub(crate) quick: bool,
    pub(crate) rows: Vec<Row>,
    pub(crate) ratios: Vec<Ratio>,
    /// What a reader must know to read the numbers.
    pub(crate) notes: Vec<String>,
}

/// Where and when a record was made.
#[derive(Debug, Serialize)]
struct Circumstances {
    commit: String,
    date: String,
    cpu: String,
    cores: usize,
    system: String,
    versions: Vec<String>,
    command: String,
}

impl Report {
    /// The table with one column per distinct cell name, numbers right-aligned.
    pub(crate) fn table(&self) -> String {
        let mut columns: Vec<&str> = Vec::new();
        for cell in self.rows.iter().flat_map(|r| &r.cells) {
            if !columns.contains(&cell.column.as_str()) {
                columns.push(&cell.column);
            }
        }
        let mut lines: Vec<Vec<String>> = vec![
            [self.name.as_str(), "unit"]
                .into_iter()
                .chain(columns.iter().copied())
                .map(str::to_owned)
                .collect(),
        ];
        for row in &self.rows {
            let mut line = vec![row.what.clone(), row.unit.to_owned()];
            line.extend(columns.iter().map(|column| {
                let cell = row.cells.iter().find(|c| c.column == *column);
                cell.map_or_else(|| "-".to_owned(), |c| shown(c.value, row.unit))
            }));
            lines.push(line);
        }
        let width = |i: usize| lines.iter().map(|l| l[i].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
        let mut out = String::new();
        for line in &lines {
            for (i, (cell, &width)) in line.iter().zip(&widths).enumerate() {
                let pad = " ".repeat(width - cell.chars().count());
                let text = if i < 2 { format!("{cell}{pad}") } else { format!("{pad}{cell}") };
                out += if i == 0 { "" } else { "  " };
                out += &text;
            }
            out.truncate(out.trim_end().len());
            out.push('\n');
        }
        for note in &self.notes {
            let _ = writeln!(out, "- {note}");
        }
        out
    }

    /// `ratio NAME VALUE`, one a line.
    pub(crate) fn ratio_lines(&self) -> String {
        self.ratios.iter().fold(String::new(), |mut out, r| {
            // Cosines need more digits than speeds.
            let digits = if (r.value - 1.0).abs() < 0.01 { 5 } else { 3 };
            let _ = writeln!(out, "ratio {} {:.digits$}", r.name, r.value);
            out
        })
    }

    /// Writes the record and returns its path.
    pub(crate) fn write(&self, folder: &Path) -> anyhow::Result<PathBuf> {
        #[derive(Serialize)]
        struct Record<'a> {
            #[serde(flatten)]
            circumstances: Circumstances,
            #[serde(flatten)]
            report: &'a Report,
        }
        std::fs::create_dir_all(folder).with_context(|| format!("making the folder {}", folder.display()))?;
        let path = folder.join(format!("{}.json", self.name));
        let record = Record { circumstances: Circumstances::now(self), report: self };
        let json = serde_json::to_string_pretty(&record)? + "\n";
        std::fs::write(&path, json).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }
}

impl Circumstances {
    fn now(report: &Report) -> Self {
        let changed =
            said("git", &["status", "--porcelain", "--untracked-files=no"]).is_some_and(|s| !s.is_empty());
        let commit =
            said("git", &["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
        let quick = if report.quick { " --quick" } else { "" };
        Self {
            commit: commit + if changed { " with changes" } else { "" },
            date: date(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())),
            cpu: cpu(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            versions: [Some(format!("shirube {}", env!("CARGO_PKG_VERSION"))), said("rustc", &["--version"])]
                .into_iter()
                .flatten()
                .collect(),
            command: format!("cargo run --release -p shirube-bench -- {}{quick}", report.name),
        }
    }
}

/// What a command prints, if it runs.
fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok().filter(|o| o.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn cpu() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find(|l| l.starts_with("model name")).and_then(|l| l.split_once(':'));
    match name {
        Some((_, name)) => name.trim().to_owned(),
        None => said("sysctl", &["-n", "machdep.cpu.brand_string"]).unwrap_or_else(|| "unknown".to_owned()),
    }
}

/// `YYYY-MM-DD` of seconds since 1970, by counting days in the calendar's 400-year cycle.
fn date(seconds: u64) -> String {
    let mut days = seconds / 86_400;
    let mut year = 1970;
    let leap = |y: u64| y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
    let length = |y| if leap(y) { 366 } else { 365 };
    while days >= length(year) {
        days -= length(year);
        year += 1;
    }
    let months = [31, if leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= months[month] {
        days -= months[month];
        month += 1;
    }
    format!("{year:04}-{:02}-{:02}", month + 1, days + 1)
}

/// Cosines differ in the digits near 1 and shares of questions by one question; the rest is shown in three digits.
fn shown(value: f64, unit: &str) -> String {
    match unit {
        "cosine" => format!("{value:.6}"),
        "share" => format!("{value:.4}"),
        _ => three_digits(value),
    }
}

/// Three significant digits, without an exponent.
fn three_digits(value: f64) -> String {
    let digits = 2 - value.abs().max(1e-9).log10().floor() as i32;
    format!("{value:.*}", digits.clamp(0, 6) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_follow_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_795_132_800, "2026-11-20"),
        ] {
            assert_eq!(date(seconds), expected);
        }
    }

    #[test]
    fn a_table_aligns_numbers_and_marks_what_was_not_run() {
        let cell = |column: &str, value| Cell { column: column.to_owned(), value, median: value };
        let row = |what: &str, cells| Row { what: what.to_owned(), unit: "ms", cells };
        let report = Report {
            name: "x".to_owned(),
            rows: vec![
                row("a", vec![cell("one", 1.0), cell("two", 123.4)]),
                row("bc", vec![cell("two", 0.01234)]),
            ],
            ..Report::default()
        };
        assert_eq!(
            report.table(),
            "x   unit   one     two\na   ms    1.00     123\nbc  ms       -  0.0123\n"
        );
    }
}
