//! The free text that Stash appended to redis-dump-go or redis-cli. Each argument is understood or refused
//! by name: one that was silently dropped could mean a backup of something else than was asked for.

use std::time::Duration;

use coffer_runtime::fault::{Class, Fault};

use crate::filter::Filter;
use crate::glob::Glob;

/// Arguments that tune the old programs and mean nothing to the result, each with one number.
const WITHOUT_EFFECT: [&str; 2] = ["n", "batchSize"];

/// What the text asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// `-db`: this database only.
    pub database: Option<u64>,
    /// `-filter`: keys of this pattern only.
    pub filter: Option<Glob>,
    /// `--pipe-timeout`: for how long the server may be silent once all is sent; zero for ever.
    pub pipe_timeout: Option<Duration>,
}

impl Asked {
    /// Narrows a filter.
    ///
    /// # Errors
    /// When it says of its own which databases or which keys are meant: one of the two would be ignored.
    pub fn narrow(&self, filter: &mut Filter) -> Result<(), Error> {
        let twice = |argument, param| Err(Error::Twice { argument, param });
        if self.database.is_some() && !filter.databases.is_empty() {
            return twice("-db", "databases");
        }
        if self.filter.is_some() && !filter.include.is_empty() {
            return twice("-filter", "include");
        }
        filter.add_databases(self.database.map(|database| (database, database)));
        filter.include.extend(self.filter.clone());
        Ok(())
    }
}

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
    /// A param says the same.
    #[error(
        "redis argument {argument} and the Task's param {param} both say what is meant: keep one of the two"
    )]
    Twice {
        /// The argument.
        argument: &'static str,
        /// The param.
        param: &'static str,
    },
    /// It needs a value.
    #[error("redis argument {argument}: a {what} must follow")]
    Value {
        /// As written.
        argument: String,
        /// `number` or `pattern`.
        what: &'static str,
    },
}

impl Fault for Error {
    fn class(&self) -> Class {
        match self {
            Self::Unsupported { .. } => Class::Unimplemented,
            Self::Twice { .. } | Self::Value { .. } => Class::Invalid,
        }
    }
}

/// Understands the text, split at white space as Stash split it.
///
/// # Errors
/// Names the first argument that would change what is saved or restored in a way that Coffer cannot.
pub fn parse(text: &str) -> Result<Asked, Error> {
    let mut asked = Asked::default();
    let mut words = text.split_whitespace();
    while let Some(word) = words.next() {
        let name = word.strip_prefix("--").or_else(|| word.strip_prefix('-')).unwrap_or_default();
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (name, None),
        };
        // KEYS instead of SCAN: the same keys, and never worth blocking a server for.
        if name == "noscan" && matches!(value, None | Some("true" | "false")) {
            continue;
        }
        let mut value = || value.or_else(|| words.next());
        let missing = |what| Error::Value { argument: word.to_owned(), what };
        match name {
            "filter" => {
                let pattern = value().ok_or_else(|| missing("pattern"))?;
                asked.filter = Some(Glob::new(pattern.as_bytes()));
            }
            "db" => {
                let number: i64 =
                    value().and_then(|v| v.parse().ok()).ok_or_else(|| missing("number"))?;
                // -1 is redis-dump-go's word for all.
                asked.database = match number {
                    -1 => None,
                    number => Some(u64::try_from(number).map_err(|_| missing("number"))?),
                };
            }
            "pipe-timeout" => {
                let seconds =
                    value().and_then(|v| v.parse().ok()).ok_or_else(|| missing("number"))?;
                asked.pipe_timeout = Some(Duration::from_secs(seconds));
            }
            name if WITHOUT_EFFECT.contains(&name) => {
                let number = value().and_then(|v| v.parse::<u64>().ok());
                number.ok_or_else(|| missing("number"))?;
            }
            _ => return Err(Error::Unsupported { argument: word.to_owned() }),
        }
    }
    Ok(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn understands_or_refuses_by_name() {
        for fine in
            ["", "  ", "-n 20", "-n=20 -noscan", "-batchSize 10 --n 3 -noscan=true", "-db -1"]
        {
            assert_eq!(parse(fine), Ok(Asked::default()), "{fine}");
        }
        let asked = parse("-db 1 -filter user:* --pipe-timeout 300 -n 4").unwrap();
        assert_eq!((asked.database, asked.pipe_timeout), (Some(1), Some(Duration::from_secs(300))));
        assert_eq!(asked.filter, Some(Glob::new(b"user:*")));
        assert_eq!(parse("-db=259").unwrap().database, Some(259));
        for (text, named) in [
            ("-ttl=false", "-ttl=false"),
            ("-n 3 -output=commands", "-output=commands"),
            ("-a secret", "-a"),
            ("x", "x"),
        ] {
            assert_eq!(
                parse(text),
                Err(Error::Unsupported { argument: named.to_owned() }),
                "{text}"
            );
        }
        assert!(matches!(parse("-n"), Err(Error::Value { .. })));
        assert!(matches!(parse("-n -db"), Err(Error::Value { .. })));
        assert!(matches!(parse("-db x"), Err(Error::Value { .. })));
        assert!(matches!(parse("-filter"), Err(Error::Value { .. })));
    }
}
