//! What decisions depend on besides the objects: intervals, and where a worker finds the services.

use std::time::Duration;

use coffer_api::session::Endpoints;

/// Values that an administrator chose.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How soon to look again for what is missing.
    pub missing_retry: Duration,
    /// How long an image that cannot be pulled, a missing volume or an unschedulable pod may keep a session waiting.
    pub start_grace: Duration,
    /// Bound of a session whose invoker has no `timeOut`.
    pub default_time_out: Duration,
    /// How late a scheduled session may start after down time.
    pub starting_deadline: Duration,
    /// Where a Job's pod finds the services.
    pub endpoints: Endpoints,
    /// Pull policy of containers that name none.
    pub image_pull_policy: String,
    /// `PROMETHEUS_PUSHGATEWAY_URL` of Functions.
    pub pushgateway_url: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            missing_retry: Duration::from_secs(5),
            start_grace: Duration::from_secs(300),
            default_time_out: Duration::from_secs(86_400),
            starting_deadline: Duration::from_secs(86_400),
            endpoints: Endpoints::default(),
            image_pull_policy: "IfNotPresent".to_owned(),
            pushgateway_url: String::new(),
        }
    }
}
