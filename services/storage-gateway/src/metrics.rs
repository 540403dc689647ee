//! The gateway's figures. `coffer_grpc_*` of the runtime counts calls; here are the bytes and the classes of failures.

use coffer_runtime::fault::Class;
use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};

/// Handles to the metrics; clones count together.
#[derive(Clone)]
pub struct Metrics {
    streams: IntGaugeVec,
    bytes: IntCounterVec,
    errors: IntCounterVec,
}

/// A stream that is running; ends when dropped.
pub struct Stream {
    metrics: Metrics,
    operation: &'static str,
}

impl Metrics {
    /// Registers the metrics.
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            IntCounterVec::new(Opts::new(name, help), labels)
                .expect("the metric's name and labels are valid")
        };
        let streams = IntGaugeVec::new(
            Opts::new("coffer_storage_streams_running", "Backups and restores that are running."),
            &["operation"],
        )
        .expect("the metric's name and labels are valid");
        let bytes = counter(
            "coffer_storage_bytes_total",
            "Bytes of data that backups sent and restores received.",
            &["operation"],
        );
        let errors = counter(
            "coffer_storage_errors_total",
            "Operations that failed, by class of the failure.",
            &["operation", "class"],
        );
        let all: [Box<dyn prometheus::core::Collector>; 3] =
            [Box::new(streams.clone()), Box::new(bytes.clone()), Box::new(errors.clone())];
        for metric in all {
            if let Err(error) = registry.register(metric) {
                tracing::warn!(%error, "two gateways share a metrics registry, one is not counted");
            }
        }
        Self { streams, bytes, errors }
    }

    /// Counts a stream as running for as long as the result lives.
    #[must_use]
    pub fn stream(&self, operation: &'static str) -> Stream {
        self.streams.with_label_values(&[operation]).inc();
        Stream { metrics: self.clone(), operation }
    }

    pub(crate) fn failed(&self, operation: &'static str, class: Class) {
        self.errors.with_label_values(&[operation, class.label()]).inc();
    }
}

impl Stream {
    pub(crate) fn add(&self, bytes: usize) {
        self.metrics.bytes.with_label_values(&[self.operation]).inc_by(bytes as u64);
    }

    pub(crate) fn failed(&self, class: Class) {
        self.metrics.failed(self.operation, class);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.metrics.streams.with_label_values(&[self.operation]).dec();
    }
}
