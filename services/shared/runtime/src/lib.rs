//! What every process of Coffer gets: arguments, telemetry, an admin endpoint, TLS, a gRPC server and channel, grants,
//! shutdown, a clock and the error classes. It knows no domain: neither our API types nor our contracts nor restic.
//!
//! ```text
//!  main.rs ─▶ process::run ─▶ telemetry, crypto provider, signals, admin endpoint
//!                 │
//!                 ▼
//!             Runtime { clock, shutdown, registry, readiness }     handed to build(config, &runtime)
//!                 │
//!                 ▼
//!             grpc::Server ── tls ── auth::Gate ── grant::Verifier
//! ```
//!
//! Only [`process`] touches what a process has one of (subscriber, provider, signals, exit code). All else is passed in,
//! so several services in one process are the ordinary case. Read [`process`], then [`shutdown`], [`grpc`] and [`auth`].

pub mod admin;
pub mod args;
pub mod auth;
pub mod authority;
pub mod clock;
pub mod fault;
pub mod grant;
pub mod grpc;
mod listen;
mod memory;
pub mod process;
pub mod readiness;
mod secret;
pub mod shutdown;
pub mod telemetry;
pub mod tls;

pub use clock::Clock;
pub use listen::Listen;
pub use readiness::Readiness;
pub use secret::Secret;
pub use shutdown::Shutdown;

/// What a service receives instead of reaching for globals. Clones share everything.
#[derive(Clone)]
pub struct Runtime {
    /// The time, real or stepped by a test.
    pub clock: Clock,
    /// When to stop, and who is still busy.
    pub shutdown: Shutdown,
    /// The metrics of one service. Two services need two registries, see [`Runtime::child`].
    pub registry: prometheus::Registry,
    /// What still has to happen before the service may receive traffic.
    pub readiness: Readiness,
}

impl Runtime {
    /// A runtime on the real clock.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(Clock::real())
    }

    /// A runtime on the given clock.
    #[must_use]
    pub fn with_clock(clock: Clock) -> Self {
        Self {
            clock,
            shutdown: Shutdown::new(),
            registry: prometheus::Registry::new(),
            readiness: Readiness::new(),
        }
    }

    /// A runtime for one of several services in this process: the same clock, a shutdown that follows this one but can be
    /// triggered alone, and a registry and readiness of its own.
    #[must_use]
    pub fn child(&self) -> Self {
        Self {
            clock: self.clock.clone(),
            shutdown: self.shutdown.child(),
            registry: prometheus::Registry::new(),
            readiness: Readiness::new(),
        }
    }
}

impl Default for Runtime {
    fn default() -> Self {
        Self::new()
    }
}
