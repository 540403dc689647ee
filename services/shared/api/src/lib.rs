//! The API that users write and read: the kinds of `stash.appscode.com` and `appcatalog.appscode.com`, their
//! conditions, derived names and labels, and the two documents that travel between orchestrator and worker.
//!
//! Data, validation and naming only: no client, no async, no clock. Reading order: [`target`] and [`backend`] (what
//! specs are made of), one module a kind, [`condition`] (what status says), [`names`] (what children are called),
//! [`session`] (orchestrator to worker) and [`outcome`] (worker to orchestrator), [`template`] (the `${VAR:=default}` of
//! Tasks and blueprints).

#![allow(clippy::duplicated_attributes, reason = "every printer column is an attribute of its own")]

mod admission;
pub mod app_binding;
pub mod backend;
pub mod backup_batch;
pub mod backup_blueprint;
pub mod backup_configuration;
pub mod backup_session;
pub mod condition;
pub mod crds;
pub mod duration;
pub mod fields;
pub mod function;
pub mod hook;
pub mod manifest;
pub mod names;
pub mod outcome;
pub mod repository;
pub mod restore_batch;
pub mod restore_session;
pub mod retention;
pub mod runtime_settings;
pub mod schedule;
pub mod session;
pub mod size;
pub mod target;
pub mod task;
pub mod template;
pub mod time;

pub use app_binding::AppBinding;
pub use backup_batch::BackupBatch;
pub use backup_blueprint::BackupBlueprint;
pub use backup_configuration::BackupConfiguration;
pub use backup_session::BackupSession;
pub use function::Function;
pub use repository::Repository;
pub use restore_batch::RestoreBatch;
pub use restore_session::RestoreSession;
pub use task::Task;
