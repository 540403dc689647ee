//! Structural schemas: what a kind's objects may hold, for custom and built-in kinds alike.

mod error;
mod node;

pub use error::{FieldError, FieldErrorKind, aggregate, invalid_status};
pub use node::{CompileError, Structural};
