//! The gRPC contracts of Coffer's services, generated from `coffer/*/v1/*.proto`. Nothing here is written by hand
//! but this module tree: read the `.proto` files, they say what each message means.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::use_self,
    clippy::large_futures,
    clippy::allow_attributes_without_reason,
    clippy::or_fun_call,
    reason = "generated code"
)]

/// The catalog: Tasks and Functions.
pub mod catalog {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("coffer.catalog.v1");
    }
}
/// The metrics-gateway.
pub mod metrics {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("coffer.metrics.v1");
    }
}
/// The orchestrator: sessions and progress.
pub mod orchestrator {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("coffer.orchestrator.v1");
    }
}
/// The storage-gateway: snapshots and repositories.
pub mod storage {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("coffer.storage.v1");
    }
}

/// All contracts as a `FileDescriptorSet`, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
