//! The table, and the same as JSON.

use serde_json::json;

use crate::Result;

/// One line of the table.
pub(crate) struct Figure {
    pub(crate) case: String,
    pub(crate) ours: f64,
    pub(crate) peer: Option<f64>,
    pub(crate) unit: Unit,
    /// What the processor allows, or what we promise.
    pub(crate) limit: Option<f64>,
}

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Speed,
    Cpu,
    Memory,
    Fairness,
    PerBlob,
}

impl Unit {
    const fn name(self) -> &'static str {
        match self {
            Self::Speed => "MB/s",
            Self::Cpu => "CPU s/GiB",
            Self::Memory => "MiB",
            Self::Fairness => "slowest/fastest",
            Self::PerBlob => "bytes/blob",
        }
    }

    const fn more_is_better(self) -> bool {
        matches!(self, Self::Speed | Self::Fairness)
    }
}

impl Figure {
    /// Above 1 is better, whatever the unit.
    fn ratio(&self) -> Option<f64> {
        let ratio = self.ours / self.peer?;
        Some(if self.unit.more_is_better() { ratio } else { 1.0 / ratio })
    }
}

pub(crate) fn print(figures: &[Figure]) {
    let text = |value: Option<f64>| value.map_or_else(|| "-".into(), |value| format!("{value:.2}"));
    println!("{:<44} {:>10} {:>10} {:>7} {:>10}  unit", "case", "ours", "peer", "ratio", "limit");
    for figure in figures {
        let (peer, limit) = (text(figure.peer), text(figure.limit));
        let (ratio, unit) = (text(figure.ratio()), figure.unit.name());
        println!(
            "{:<44} {:>10.2} {peer:>10} {ratio:>7} {limit:>10}  {unit}",
            figure.case, figure.ours
        );
    }
}

pub(crate) fn write(figures: &[Figure]) -> Result<()> {
    let lines: Vec<_> = figures
        .iter()
        .map(|figure| {
            let Figure { case, ours, peer, unit, limit } = figure;
            let (unit, ratio) = (unit.name(), figure.ratio());
            json!({"case": case, "ours": ours, "peer": peer, "unit": unit, "ratio": ratio, "limit": limit})
        })
        .collect();
    std::fs::create_dir_all("target/bench")?;
    std::fs::write("target/bench/storage.json", serde_json::to_string_pretty(&lines)?)?;
    Ok(())
}
