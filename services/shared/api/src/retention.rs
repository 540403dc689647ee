//! Keep rules as users write them, and how often a failed session is tried again.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which snapshots of a repository are kept; applied to each (host, paths) group after a successful session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetentionPolicy {
    /// A label for people.
    pub name: String,
    /// The newest n.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub keep_last: Option<i64>,
    /// The newest of each of the last n hours that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub keep_hourly: Option<i64>,
    /// The same by day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub keep_daily: Option<i64>,
    /// The same by ISO week.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub keep_weekly: Option<i64>,
    /// The same by month.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub keep_monthly: Option<i64>,
    /// The same by year.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub keep_yearly: Option<i64>,
    /// All with one of these tags. `a,b` are those with both, an empty one those without any, as `restic forget --keep-tag`
    /// has it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keep_tags: Vec<String>,
    /// Frees the space of what was forgotten.
    pub prune: bool,
    /// Decides and reports, removes nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

impl RetentionPolicy {
    /// True when no rule would keep anything: applying it would be a mistake, so nobody does.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let counts = [
            self.keep_last,
            self.keep_hourly,
            self.keep_daily,
            self.keep_weekly,
            self.keep_monthly,
            self.keep_yearly,
        ];
        self.keep_tags.is_empty() && counts.iter().all(|n| n.unwrap_or(0) <= 0)
    }
}

/// How often a failed session is tried again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetryConfig {
    /// Further attempts.
    #[serde(default = "one")]
    #[schemars(range(min = 0))]
    pub max_retry: i32,
    /// Time between two attempts, `5m`; at once when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<String>,
}

const fn one() -> i32 {
    1
}
