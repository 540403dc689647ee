//! What the demo prints: steps with their results, then a short table.

use std::{
    io::{IsTerminal as _, Write as _},
    time::Duration,
};

const MIB: f64 = 1_048_576.0;

/// A report on standard output.
#[derive(Debug, Default)]
pub struct Report {
    lines: Vec<(String, String)>,
    plain: bool,
}

/// A step under way.
#[derive(Debug)]
pub struct Step {
    what: String,
    plain: bool,
}

impl Report {
    /// Starts one with a title.
    #[must_use]
    pub fn new(title: &str) -> Self {
        let plain = !std::io::stdout().is_terminal();
        println!("\n{}\n", paint(title, "1", plain));
        Self { lines: vec![], plain }
    }

    /// Says what is done now.
    #[must_use]
    pub fn step(&self, what: &str) -> Step {
        println!("  {} {what}", paint("▸", "36", self.plain));
        let _ = std::io::stdout().flush();
        Step { what: what.to_owned(), plain: self.plain }
    }

    /// A line of the summary.
    pub fn line(&mut self, name: &str, value: &str) {
        self.lines.push((name.to_owned(), value.to_owned()));
    }

    /// Prints the summary.
    pub fn finish(self) {
        println!();
        for (name, value) in &self.lines {
            println!("  {name:<12} {}", paint(value, "1", self.plain));
        }
        println!();
    }
}

impl Step {
    /// Says how it ended.
    pub fn done(self, result: &str) {
        println!("  {} {}: {result}", paint("✓", "32", self.plain), self.what);
    }
}

fn paint(text: &str, code: &str, plain: bool) -> String {
    if plain { text.to_owned() } else { format!("\x1b[{code}m{text}\x1b[0m") }
}

/// A count with separators: `200,000`.
#[must_use]
pub fn count(n: usize) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes in the units of `coffer` and restic: `123.4 MiB`.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "printed with one decimal")]
pub fn bytes(n: u64) -> String {
    format!("{:.1} MiB", n as f64 / MIB)
}

/// Bytes in a time: `45.6 MiB/s`.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "printed with one decimal")]
pub fn rate(n: u64, time: Duration) -> String {
    format!("{:.1} MiB/s", n as f64 / MIB / time.as_secs_f64().max(1e-3))
}

#[cfg(test)]
mod tests {
    #[test]
    fn counts_have_separators() {
        assert_eq!(super::count(7), "7");
        assert_eq!(super::count(1000), "1,000");
        assert_eq!(super::count(1_234_567), "1,234,567");
    }
}
