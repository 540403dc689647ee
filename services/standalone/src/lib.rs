//! Coffer on one machine without a cluster: a Kubernetes-compatible API server, a Job runner, and
//! the services.
//!
//! Reading order: [`apiserver`] (objects, watches, kubectl), [`job_runner`] (Jobs and Pods as child
//! processes).

pub mod apiserver;
pub mod job_runner;
