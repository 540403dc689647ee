//! The table, and the same for programs.

use serde_json::json;

use crate::bench::Took;

/// One line of the table.
pub(crate) struct Figure {
    pub(crate) case: &'static str,
    pub(crate) ours: f64,
    pub(crate) peer: Option<f64>,
    pub(crate) unit: &'static str,
    /// Whether more is better.
    pub(crate) more: bool,
    pub(crate) limit: Option<f64>,
}

impl Figure {
    pub(crate) const fn seconds(
        case: &'static str,
        ours: f64,
        peer: Option<f64>,
        limit: Option<f64>,
    ) -> Self {
        Self { case, ours, peer, unit: "s", more: false, limit }
    }

    pub(crate) const fn worker(took: &Took, limit: f64) -> Self {
        let case = "  memory of the worker, at most";
        Self {
            case,
            ours: took.worker_mib,
            peer: None,
            unit: "MiB",
            more: false,
            limit: Some(limit),
        }
    }

    fn ratio(&self) -> Option<f64> {
        self.peer.map(|peer| if self.more { self.ours / peer } else { peer / self.ours })
    }
}

/// For people.
pub(crate) fn print(figures: &[Figure]) {
    println!("{:<46} {:>9} {:>9} {:>6} {:>9}  unit", "case", "coffer", "peer", "ratio", "limit");
    let shown = |figure: Option<f64>| {
        figure.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.2}"))
    };
    for figure in figures {
        let (peer, ratio, limit) = (shown(figure.peer), shown(figure.ratio()), shown(figure.limit));
        println!(
            "{:<46} {:>9.2} {peer:>9} {ratio:>6} {limit:>9}  {}",
            figure.case, figure.ours, figure.unit
        );
    }
}

/// For programs.
pub(crate) fn to_json(figures: &[Figure]) -> serde_json::Value {
    let line = |f: &Figure| {
        json!({"case": f.case, "ours": f.ours, "peer": f.peer, "unit": f.unit, "ratio": f.ratio(),
               "limit": f.limit})
    };
    figures.iter().map(line).collect()
}
