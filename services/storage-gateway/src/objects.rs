//! Object stores over HTTP: what all of them share on the wire, and the two that `object_store` does not have.
//!
//! `object_store` brings S3, GCS and Azure; `rest` and `swift` are thin stores of ours that do exactly what the engine
//! asks for. All five send through [`transport`].

mod answer;
pub(crate) mod b2;
mod request;
pub mod rest;
pub mod swift;
pub mod transport;
