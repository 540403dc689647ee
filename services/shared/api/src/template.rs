//! `${VAR:=default}` in a string: pure, one string in, one string out.
//!
//! The forms are the shell's: `${V}`, `${V:=d}` (`=`, `:-` alike), `${V:?message}`, `${V^}` `${V^^}` `${V,}` `${V,,}`,
//! `${#V}`, `${V:position}` `${V:position:length}`, `${V#p}` `${V##p}` `${V%p}` `${V%%p}` (patterns), `${V/a/b}` `${V//a/b}`
//! `${V/#a/b}` `${V/%a/b}` (plain text). `$$` is one `$`; `$X` and `$(X)` stay, the kubelet expands the latter. A default
//! ends at the next `}`, or is exactly one nested `${…}`. A variable that is known but empty counts as known.
//!
//! Each string is treated by itself, never the JSON of a whole object, so a value may hold quotes, backslashes and
//! newlines, and is not looked at again: what a user writes into a parameter is data.

mod operation;
mod parse;
mod pattern;

use parse::Part;
use std::collections::{BTreeMap, BTreeSet};

/// Values by the name of their variable.
pub type Variables = BTreeMap<String, String>;

/// The longest text that a string may become: what Kubernetes stores of an object. Without it a few replacements of
/// replacements would fill the memory.
pub const LONGEST_BYTES: usize = 1024 * 1024;

/// A text cannot be expanded. `column` counts characters, from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing says what the variable is.
    #[error(
        "variable {variable} has no value, and {expression} at column {column} has no default; set it as a parameter of \
         the task, or write ${{{variable}:=default}}"
    )]
    Unknown {
        /// The variable.
        variable: String,
        /// The expression that asks for it.
        expression: String,
        /// Where it stands.
        column: usize,
    },
    /// `${V:?message}`, and nothing says what V is.
    #[error("variable {variable} is required at column {column}: {message}")]
    Required {
        /// The variable.
        variable: String,
        /// What its author says.
        message: String,
        /// Where it stands.
        column: usize,
    },
    /// No form of expression.
    #[error("bad substitution {expression} at column {column}: {problem}")]
    Bad {
        /// The text from `${` on.
        expression: String,
        /// What is wrong.
        problem: &'static str,
        /// Where it stands.
        column: usize,
    },
    /// The result would be larger than any object.
    #[error(
        "the text becomes longer than {LONGEST_BYTES} bytes by {expression} at column {column}"
    )]
    TooLong {
        /// The expression that makes it so.
        expression: String,
        /// Where it stands.
        column: usize,
    },
}

/// Replaces every expression in `text`.
///
/// # Errors
/// When a variable without a default is unknown, or an expression is none of the forms.
pub fn expand(text: &str, variables: &Variables) -> Result<String, Error> {
    let mut expanded = String::with_capacity(text.len());
    for part in parse::parse(text)? {
        match part {
            Part::Text(text) => expanded.push_str(text),
            Part::Expression(expression) => {
                let value = operation::evaluate(&expression, variables)?;
                if expanded.len() + value.len() > LONGEST_BYTES {
                    return Err(expression.too_long());
                }
                expanded.push_str(&value);
            }
        }
    }
    Ok(expanded)
}

/// Adds the variables that `text` refers to, whether or not their values would be looked at.
///
/// # Errors
/// When an expression is none of the forms.
pub fn add_names(text: &str, names: &mut BTreeSet<String>) -> Result<(), Error> {
    for part in parse::parse(text)? {
        if let Part::Expression(expression) = part {
            expression.add_names(names);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
