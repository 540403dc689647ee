//! What the whole-system tests, the demo and the benchmarks share: real servers in folders of their own, data of every
//! type, the comparison of two Redis servers, and [`world::World`], a whole Coffer with everything around it.

pub mod coffer;
pub mod compare;
pub mod confined;
pub mod dataset;
pub mod gateway;
pub mod listener;
pub mod memory;
pub mod orchestrator;
pub mod redis_server;
pub mod report;
pub mod restic_program;
pub mod wait;
pub mod world;
