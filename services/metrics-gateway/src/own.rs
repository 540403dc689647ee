//! The gateway's own metrics, under the original's names, so that its dashboards and alerts keep working.
use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;

use crate::family::{Family, Kind, Labels, Series, Value};

const BUILD_INFO: &str = "pushgateway_build_info";
const REQUESTS: &str = "pushgateway_http_requests_total";
const DURATION: &str = "pushgateway_http_push_duration_seconds";
const SIZE: &str = "pushgateway_http_push_size_bytes";

/// Quantiles are taken over observations of this age at most, as in the original.
const WINDOW: TimeDelta = TimeDelta::minutes(10);
/// And over this many at most: a bound on memory, far more than a quantile needs.
const OBSERVATIONS: usize = 2048;
const QUANTILES: [f64; 3] = [0.1, 0.5, 0.9];

/// The type of the family of that name, if the gateway adds one to every scrape.
pub fn kind(name: &str) -> Option<Kind> {
    match name {
        BUILD_INFO => Some(Kind::Gauge),
        REQUESTS => Some(Kind::Counter),
        DURATION | SIZE => Some(Kind::Summary),
        _ => None,
    }
}

/// What is counted while the gateway runs.
#[derive(Debug, Default)]
pub struct Own(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    /// By handler, code and method.
    requests: BTreeMap<(&'static str, u16, String), f64>,
    durations: BTreeMap<String, Observations>,
    sizes: BTreeMap<String, Observations>,
}

#[derive(Debug, Default)]
struct Observations {
    count: u64,
    sum: f64,
    recent: VecDeque<(DateTime<Utc>, f64)>,
}

impl Own {
    /// Counts a request. `method` is counted in small letters.
    pub fn request(&self, handler: &'static str, method: &str, code: u16) {
        let key = (handler, code, method.to_ascii_lowercase());
        *self.0.lock().requests.entry(key).or_default() += 1.0;
    }

    /// Notes how long a push took and how large its request was.
    pub fn push(&self, method: &str, seconds: f64, bytes: f64, now: DateTime<Utc>) {
        let method = method.to_ascii_lowercase();
        let mut counted = self.0.lock();
        counted.durations.entry(method.clone()).or_default().observe(seconds, now);
        counted.sizes.entry(method).or_default().observe(bytes, now);
    }

    /// All as families.
    pub fn families(&self, now: DateTime<Utc>) -> Vec<Family> {
        let mut counted = self.0.lock();
        let build = [("branch", ""), ("revision", ""), ("version", env!("CARGO_PKG_VERSION"))];
        let build = [("implementation", "coffer")].into_iter().chain(build).collect();
        let requests = counted.requests.iter().map(|((handler, code, method), count)| {
            let code = code.to_string();
            let labels = [("code", code.as_str()), ("handler", handler), ("method", method)];
            (labels.into_iter().collect(), *count)
        });
        let mut families = vec![
            Family::numbers(
                BUILD_INFO,
                "A metric with a constant '1' value labeled by version, revision and branch from which the gateway was built.",
                Kind::Gauge,
                [(build, 1.0)],
            ),
            Family::numbers(
                REQUESTS,
                "Total HTTP requests processed by the Pushgateway, excluding scrapes.",
                Kind::Counter,
                requests,
            ),
        ];
        let Counted { durations, sizes, .. } = &mut *counted;
        families.push(summary(
            DURATION,
            "HTTP request duration for pushes to the Pushgateway.",
            durations,
            now,
        ));
        families.push(summary(
            SIZE,
            "HTTP request size for pushes to the Pushgateway.",
            sizes,
            now,
        ));
        families.retain(|family| !family.series.is_empty());
        families
    }
}

fn summary(
    name: &str,
    help: &str,
    by_method: &mut BTreeMap<String, Observations>,
    now: DateTime<Utc>,
) -> Family {
    let series = by_method
        .iter_mut()
        .map(|(method, observations)| {
            let labels: Labels = [("method", method.as_str())].into_iter().collect();
            let (count, sum) = (observations.count, observations.sum);
            let quantiles = observations.quantiles(now);
            Series { labels, value: Value::Summary { count, sum, quantiles } }
        })
        .collect();
    Family { name: name.to_owned(), help: Some(help.to_owned()), kind: Kind::Summary, series }
}

impl Observations {
    fn observe(&mut self, value: f64, now: DateTime<Utc>) {
        self.count += 1;
        self.sum += value;
        if self.recent.len() >= OBSERVATIONS {
            self.recent.pop_front();
        }
        self.recent.push_back((now, value));
    }

    /// NaN where nothing was observed lately.
    fn quantiles(&mut self, now: DateTime<Utc>) -> Vec<(f64, f64)> {
        while self.recent.front().is_some_and(|(at, _)| now - at > WINDOW) {
            self.recent.pop_front();
        }
        let mut sorted: Vec<f64> = self.recent.iter().map(|(_, value)| *value).collect();
        sorted.sort_by(f64::total_cmp);
        QUANTILES
            .into_iter()
            .map(|quantile| {
                #[allow(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    clippy::cast_precision_loss,
                    reason = "a rank below OBSERVATIONS"
                )]
                let rank = (quantile * sorted.len() as f64).ceil() as usize;
                let value = sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN);
                (quantile, value)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposition::render;

    #[test]
    fn counts_and_quantiles() {
        let own = Own::default();
        let start = DateTime::from_timestamp(1_000_000, 0).unwrap();
        own.request("push", "PUT", 200);
        own.request("push", "PUT", 200);
        for seconds in 1..=10 {
            own.push("PUT", f64::from(seconds), 100.0, start);
        }
        let text = render(&own.families(start));
        assert!(
            text.contains("requests_total{code=\"200\",handler=\"push\",method=\"put\"} 2\n"),
            "{text}"
        );
        assert!(text.contains("duration_seconds{method=\"put\",quantile=\"0.1\"} 1\n"), "{text}");
        assert!(text.contains("duration_seconds{method=\"put\",quantile=\"0.9\"} 9\n"), "{text}");
        assert!(text.contains("duration_seconds_sum{method=\"put\"} 55\n"), "{text}");

        let later = render(&own.families(start + WINDOW * 2));
        assert!(
            later.contains("duration_seconds{method=\"put\",quantile=\"0.5\"} NaN\n"),
            "{later}"
        );
        assert!(later.contains("duration_seconds_count{method=\"put\"} 10\n"), "{later}");
    }

    #[test]
    fn every_family_is_reserved() {
        let own = Own::default();
        let now = DateTime::from_timestamp(0, 0).unwrap();
        own.request("push", "PUT", 200);
        own.push("PUT", 1.0, 1.0, now);
        let families = own.families(now);
        assert_eq!(families.len(), 4);
        for family in families {
            assert_eq!(kind(&family.name), Some(family.kind), "{}", family.name);
        }
    }
}
