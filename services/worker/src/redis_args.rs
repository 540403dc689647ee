//! The free text that Stash appended to redis-dump-go or redis-cli. Each argument is understood or refused
//! by name: one that was silently dropped could mean a backup of something else than was asked for.

use coffer_runtime::fault::{Class, Fault};

/// Arguments that tune the old programs and mean nothing to the result, each with one value.
const WITHOUT_EFFECT: [&str; 3] = ["n", "batchSize", "pipe-timeout"];

/// An argument that cannot be honoured.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// This version does not do what it asks for.
    #[error(
        "redis argument {argument}: this version of Coffer does not support it, and without it the result would not be what was asked for; remove it from the Task's param `args`"
    )]
    Unsupported {
        /// As written.
        argument: String,
    },
    /// It needs a value.
    #[error("redis argument {argument}: a number must follow")]
    Value {
        /// As written.
        argument: String,
    },
}

impl Fault for Error {
    fn class(&self) -> Class {
        match self {
            Self::Unsupported { .. } => Class::Unimplemented,
            Self::Value { .. } => Class::Invalid,
        }
    }
}

/// Checks the text, split at white space as Stash split it.
///
/// # Errors
/// Names the first argument that would change what is saved or restored.
pub fn check(text: &str) -> Result<(), Error> {
    let mut words = text.split_whitespace();
    while let Some(word) = words.next() {
        let name = word.strip_prefix("--").or_else(|| word.strip_prefix('-')).unwrap_or_default();
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (name, None),
        };
        if !WITHOUT_EFFECT.contains(&name) {
            return Err(Error::Unsupported { argument: word.to_owned() });
        }
        if value.or_else(|| words.next()).is_none_or(|value| value.parse::<u64>().is_err()) {
            return Err(Error::Value { argument: word.to_owned() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn understands_or_refuses_by_name() {
        for fine in ["", "  ", "-n 20", "-n=20 --pipe-timeout 300", "-batchSize 10 --n 3"] {
            assert_eq!(check(fine), Ok(()), "{fine}");
        }
        for (text, named) in
            [("-db 1", "-db"), ("-n 3 -filter=a*", "-filter=a*"), ("-a secret", "-a"), ("x", "x")]
        {
            assert_eq!(
                check(text),
                Err(Error::Unsupported { argument: named.to_owned() }),
                "{text}"
            );
        }
        assert!(matches!(check("-n"), Err(Error::Value { .. })));
        assert!(matches!(check("-n -db"), Err(Error::Value { .. })));
    }
}
