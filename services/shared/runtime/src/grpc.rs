//! gRPC as all our services speak it: bind, then serve, then drain; and the channel to the other side.
//!
//! ```ignore
//! let server = grpc::Server::bind(address, tls.as_ref(), grpc::Limits::default()).await?
//!     .reflection(coffer_proto::DESCRIPTORS)
//!     .add_service(SnapshotsServer::new(snapshots));
//! let address = server.address();
//! server.serve(&runtime).await?;                  // until runtime.shutdown
//! ```
//!
//! Every server has health, reflection, limits, deadlines, metrics, and TLS that follows its files. Handlers find the
//! [`Peer`] among the request's extensions.

mod answers;
mod call;
mod channel;
mod incoming;
mod server;

pub use answers::{SILENCE_LIMIT, SPEAKS_EVERY, heard, last};
pub use channel::{Authorized, Bearer, connect, with_token};
pub use incoming::Peer;
pub use server::Server;

use std::net::SocketAddr;
use std::time::Duration;

/// The most bytes of data that a peer may put into one message of a stream.
pub const CHUNK_BYTES: usize = 1024 * 1024;
/// What we put into one: with what surrounds the data it fills an HTTP/2 frame. The buffers that are made for it on both sides
/// stay small enough to be used again; for a chunk of 1 MiB they grow beyond what the allocator keeps, and every page of them
/// comes from the system anew.
pub const PIECE_BYTES: usize = FRAME_BYTES as usize - 64;
/// The largest message a server takes: tonic's default, four chunks.
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// One stream may have 2 MiB in flight: at 1 ms of round trip that is 2 GB/s, at 20 ms 100 MB/s. A gateway with 32
/// streams may have to hold all of it.
const STREAM_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// Several streams share a connection; one that stands still must not stop the others.
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// HTTP/2 frames: large enough for a good piece of data, small enough to let other streams in between.
pub const FRAME_BYTES: u32 = 256 * 1024;
/// A peer that vanished without a word is noticed after interval plus timeout.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// How much a server takes on.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Calls at a time over all connections; more are refused with `RESOURCE_EXHAUSTED`. Health and reflection are not
    /// counted.
    pub calls: usize,
    /// Streams at a time on one connection; a peer waits for its turn.
    pub streams_per_connection: u32,
    /// How long calls may go on after the stop; then their connections are cut. Below Kubernetes' default grace of 30 s.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { calls: 1024, streams_per_connection: 256, drain: Duration::from_secs(25) }
    }
}

/// A server or channel cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken or not ours.
    #[error("listen for gRPC on {address}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The certificates are unusable.
    #[error("set up TLS")]
    Tls(#[from] crate::tls::Error),
    /// The descriptor set is broken.
    #[error("describe the services for reflection")]
    Reflect(#[source] tonic_reflection::server::Error),
    /// Serving failed for good.
    #[error("serve gRPC on {address}")]
    Serve {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
    /// The endpoint is no address.
    #[error(
        "{endpoint:?} is no gRPC endpoint; write https://host:port, or http://host:port without TLS"
    )]
    Endpoint {
        /// What was given.
        endpoint: String,
    },
    /// An endpoint with TLS, and nobody to trust.
    #[error("{endpoint} needs TLS, and no CA is given to verify it with")]
    NeedsTls {
        /// Which.
        endpoint: String,
    },
    /// An endpoint without TLS, though certificates are given: sending a token there would be a mistake.
    #[error("{endpoint} is without TLS, though TLS is set up; write https://")]
    Downgrade {
        /// Which.
        endpoint: String,
    },
    /// The token cannot be sent in a header.
    #[error("the bearer token has characters that no token has")]
    Token,
}

#[cfg(test)]
mod tests;
