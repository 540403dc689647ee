//! What the objects of a kind may hold: one compiled form for custom and built-in kinds.
//!
//! A [`Structural`] answers four questions: which fields are unknown ([`Structural::prune`]), what a
//! missing field means ([`Structural::default`]), what is wrong ([`Structural::validate`]), and how
//! lists merge (read by [`patch`](super::patch) and [`apply`](super::apply)). Custom kinds bring
//! their schema in the CRD. Built-in kinds take theirs from `k8s-openapi`, which lacks the merge
//! rules; `merge_rules` adds them from a table.
//!
//! A node's CEL rules are those of [`rule`].

mod builtin;
mod compile;
mod error;
mod format;
mod merge_rules;
mod node;
mod prune;
mod rule;
#[cfg(test)]
mod tests;
mod validate;

pub use compile::CompileError;
pub use error::{FieldError, FieldErrorKind, aggregate, invalid_status};
pub use node::Structural;

pub(crate) use builtin::{definition_name, definitions};
pub(crate) use node::{ListKind, Strategy};
