//! What decisions depend on besides the objects: intervals, and where a worker finds the services.

use std::time::Duration;

use coffer_api::session::Endpoints;

use crate::{lease::Rules, queue::Limits};

/// The image of this version.
pub const TRIGGER_IMAGE: &str = concat!("ghcr.io/coffer-backup/coffer:", env!("CARGO_PKG_VERSION"));

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
    /// How many Jobs at a time.
    pub limits: Limits,
    /// The Lease that chooses one of several orchestrators; none when there is only one.
    pub lease: Option<Rules>,
    /// Where a Job's pod finds the services.
    pub endpoints: Endpoints,
    /// Pull policy of containers that name none.
    pub image_pull_policy: String,
    /// Image with this program: of the CronJobs of `scheduler: cronjob`, and `STASH_DOCKER_IMAGE` of Functions.
    pub trigger_image: String,
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
            limits: Limits::default(),
            lease: None,
            endpoints: Endpoints::default(),
            image_pull_policy: "IfNotPresent".to_owned(),
            trigger_image: TRIGGER_IMAGE.to_owned(),
            pushgateway_url: String::new(),
        }
    }
}
