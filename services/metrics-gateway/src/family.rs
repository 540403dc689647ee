//! What the store holds: metric families, their series, and labels. Plain data; nothing here parses or checks.
//!
//! Labels are kept sorted by name, each name once, so that two label sets are equal exactly when Prometheus would
//! take them for the same series.
use std::{cmp::Ordering, collections::BTreeMap, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// The gauge that tells when a group was last changed.
pub const PUSH_TIME: &str = "push_time_seconds";
/// The gauge that tells when changing a group last failed.
pub const PUSH_FAILURE_TIME: &str = "push_failure_time_seconds";

/// A metric family's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Only ever grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Quantiles, count and sum.
    Summary,
    /// Nobody said.
    Untyped,
    /// Cumulative buckets, count and sum.
    Histogram,
}

impl Kind {
    /// As a `# TYPE` line has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Summary => "summary",
            Self::Untyped => "untyped",
            Self::Histogram => "histogram",
        }
    }

    /// The reverse of [`Kind::name`], in any case.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Counter, Self::Gauge, Self::Summary, Self::Untyped, Self::Histogram]
            .into_iter()
            .find(|kind| kind.name().eq_ignore_ascii_case(name))
    }
}

/// In capitals, as error messages and the HTTP API have it.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Counter => "COUNTER",
            Self::Gauge => "GAUGE",
            Self::Summary => "SUMMARY",
            Self::Untyped => "UNTYPED",
            Self::Histogram => "HISTOGRAM",
        })
    }
}

/// A label set, sorted by name; cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(Arc<[(String, String)]>);

impl Labels {
    /// The labels as pairs, sorted by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The value of one label.
    pub fn get(&self, name: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(other, _)| other.as_str().cmp(name)).ok()?;
        Some(&self.0[at].1)
    }

    /// These labels with `over` laid over them, and an empty `instance` where neither has one. The empty one keeps
    /// Prometheus from attaching its own `instance` to what was pushed.
    pub fn in_group(&self, over: &Self) -> Self {
        let mut merged: BTreeMap<&str, &str> = BTreeMap::from([("instance", "")]);
        merged.extend(self.iter());
        merged.extend(over.iter());
        merged.into_iter().collect()
    }

    /// The order of series in a scrape: fewer labels first, then by values.
    pub fn scrape_order(&self, other: &Self) -> Ordering {
        self.0.len().cmp(&other.0.len()).then_with(|| {
            self.iter().map(|(_, value)| value).cmp(other.iter().map(|(_, value)| value))
        })
    }
}

/// Of two pairs with the same name the later one wins.
impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let sorted: BTreeMap<String, String> =
            pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self(sorted.into_iter().collect())
    }
}

/// One series' figures.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of a counter, a gauge or an untyped family.
    Number(f64),
    /// Of a summary.
    Summary {
        /// Observations.
        count: u64,
        /// Their sum.
        sum: f64,
        /// Quantile and value, in the order they came.
        quantiles: Vec<(f64, f64)>,
    },
    /// Of a histogram.
    Histogram {
        /// Observations.
        count: u64,
        /// Their sum.
        sum: f64,
        /// Upper bound and cumulative count, in the order they came.
        buckets: Vec<(f64, u64)>,
    },
}

/// A label set with its figures.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Without `quantile` and `le`.
    pub labels: Labels,
    /// Fits the family's kind.
    pub value: Value,
}

/// All series of one name.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// A valid metric name.
    pub name: String,
    /// Absent when no `# HELP` was given.
    pub help: Option<String>,
    /// What every series is.
    pub kind: Kind,
    /// In the order they came.
    pub series: Vec<Series>,
}

impl Family {
    /// A family of plain numbers.
    pub fn numbers(
        name: &str,
        help: &str,
        kind: Kind,
        series: impl IntoIterator<Item = (Labels, f64)>,
    ) -> Self {
        let series = series
            .into_iter()
            .map(|(labels, value)| Series { labels, value: Value::Number(value) })
            .collect();
        Self { name: name.to_owned(), help: Some(help.to_owned()), kind, series }
    }
}

/// `[a-zA-Z_:][a-zA-Z0-9_:]*`
pub fn is_metric_name(name: &str) -> bool {
    name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':')
}

/// `[a-zA-Z_][a-zA-Z0-9_]*`, and not one of Prometheus' own, which begin with `__`.
pub fn is_label_name(name: &str) -> bool {
    is_metric_name(name) && !name.contains(':') && !name.starts_with("__")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn group_labels_win_and_instance_is_filled_in() {
        let body: Labels = [("job", "pushed"), ("path", "/x")].into_iter().collect();
        let group: Labels = [("job", "real")].into_iter().collect();
        let merged = body.in_group(&group);
        let pairs: Vec<_> = merged.iter().collect();
        assert_eq!(pairs, [("instance", ""), ("job", "real"), ("path", "/x")]);

        let named: Labels = [("instance", "a:1")].into_iter().collect();
        assert_eq!(named.in_group(&group).get("instance"), Some("a:1"));
    }

    #[test]
    fn names() {
        assert!(is_metric_name("stash:up_2"));
        assert!(!is_metric_name("2up") && !is_metric_name("") && !is_metric_name("é"));
        assert!(is_label_name("_a1"));
        assert!(!is_label_name("__a") && !is_label_name("a:b") && !is_label_name("a-b"));
    }

    #[test]
    fn series_with_fewer_labels_come_first() {
        let few: Labels = [("z", "9")].into_iter().collect();
        let many: Labels = [("a", "1"), ("b", "1")].into_iter().collect();
        assert_eq!(few.scrape_order(&many), Ordering::Less);
        assert_eq!(many.scrape_order(&many), Ordering::Equal);
    }
}
