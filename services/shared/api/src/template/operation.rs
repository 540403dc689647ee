//! Expression to value.

use super::parse::{Case, End, Expression, Extent, Operation, Place, Reach, Word};
use super::{Error, LONGEST_BYTES, Variables, pattern};
use std::borrow::Cow;

/// A pattern is tried at every length of the value, so both are bounded.
const LONGEST_TRIMMED_CHARS: usize = 4096;

type Value<'a> = Result<Cow<'a, str>, Error>;

pub(super) fn evaluate<'a>(expression: &Expression<'a>, variables: &'a Variables) -> Value<'a> {
    let word = |word: &Word<'a>| -> Value<'a> {
        match word {
            Word::Text(text) => Ok(Cow::Borrowed(*text)),
            Word::Nested(nested) => evaluate(nested, variables),
        }
    };
    let known = variables.get(expression.variable).map(String::as_str);
    match &expression.operation {
        Operation::Default(default) => {
            return known.map_or_else(|| word(default), |v| Ok(v.into()));
        }
        Operation::Require(message) if known.is_none() => {
            return Err(Error::Required {
                variable: expression.variable.to_owned(),
                message: word(message)?.into_owned(),
                column: expression.column,
            });
        }
        _ => {}
    }
    let value = known.ok_or_else(|| expression.unknown())?;
    Ok(match &expression.operation {
        Operation::Value | Operation::Default(_) | Operation::Require(_) => value.into(),
        Operation::Case { case, extent } => change_case(value, *case, *extent).into(),
        Operation::Length => value.chars().count().to_string().into(),
        Operation::Substring { position, length } => {
            let position = integer(expression, &word(position)?)?;
            let length =
                length.as_ref().map(|length| integer(expression, &word(length)?)).transpose()?;
            substring(value, position, length)
                .ok_or_else(|| expression.bad("it ends before it begins"))?
                .into()
        }
        Operation::Trim { end, reach, pattern } => {
            trim(expression, value, &word(pattern)?, *end, *reach)?.into()
        }
        Operation::Replace { place, search, with } => {
            replace(expression, value, &word(search)?, &word(with)?, *place)?.into()
        }
    })
}

fn change_case(value: &str, case: Case, extent: Extent) -> String {
    let change = |text: &str| match case {
        Case::Upper => text.to_uppercase(),
        Case::Lower => text.to_lowercase(),
    };
    let first = value.chars().next().map_or(0, char::len_utf8);
    match extent {
        Extent::All => change(value),
        Extent::First => format!("{}{}", change(&value[..first]), &value[first..]),
    }
}

fn integer(expression: &Expression<'_>, text: &str) -> Result<i64, Error> {
    text.trim().parse().map_err(|_| expression.bad("position and length are whole numbers"))
}

/// As in bash: characters; a negative position counts from the end, and so does a negative length. None when the end
/// lies before the start.
fn substring(value: &str, position: i64, length: Option<i64>) -> Option<&str> {
    let count = i64::try_from(value.chars().count()).ok()?;
    let absolute = |at: i64| if at < 0 { count.saturating_add(at).max(0) } else { at.min(count) };
    let start = absolute(position);
    let end = match length {
        None => count,
        Some(length) if length < 0 => count.saturating_add(length),
        Some(length) => start.saturating_add(length).min(count),
    };
    if end < start {
        return None;
    }
    let offset = |characters: i64| {
        let characters = usize::try_from(characters).ok()?;
        Some(value.char_indices().nth(characters).map_or(value.len(), |(offset, _)| offset))
    };
    value.get(offset(start)?..offset(end)?)
}

fn trim<'v>(
    expression: &Expression<'_>,
    value: &'v str,
    pattern: &str,
    end: End,
    reach: Reach,
) -> Result<&'v str, Error> {
    let pattern =
        pattern::parse(pattern).ok_or_else(|| expression.bad("the pattern's [ is not closed"))?;
    if value.len() > LONGEST_TRIMMED_CHARS || pattern.len() > LONGEST_TRIMMED_CHARS {
        return Err(expression.bad("value and pattern may have 4096 bytes here"));
    }
    // Where the value may be cut, the shortest piece to trim first.
    let mut cuts: Vec<usize> =
        value.char_indices().map(|(at, _)| at).chain([value.len()]).collect();
    if (end == End::Tail) != (reach == Reach::Longest) {
        cuts.reverse();
    }
    let matching = cuts.into_iter().find(|&cut| match end {
        End::Start => pattern::matches(&pattern, &value[..cut]),
        End::Tail => pattern::matches(&pattern, &value[cut..]),
    });
    Ok(match (end, matching) {
        (_, None) => value,
        (End::Start, Some(cut)) => &value[cut..],
        (End::Tail, Some(cut)) => &value[..cut],
    })
}

fn replace(
    expression: &Expression<'_>,
    value: &str,
    search: &str,
    with: &str,
    place: Place,
) -> Result<String, Error> {
    if search.is_empty() {
        return Ok(value.to_owned());
    }
    let found = value.matches(search).count();
    if found.saturating_mul(with.len()).saturating_add(value.len()) > LONGEST_BYTES {
        return Err(expression.too_long());
    }
    Ok(match place {
        Place::All => value.replace(search, with),
        Place::First => value.replacen(search, with, 1),
        Place::Start => match value.strip_prefix(search) {
            Some(rest) => format!("{with}{rest}"),
            None => value.to_owned(),
        },
        Place::Tail => match value.strip_suffix(search) {
            Some(rest) => format!("{rest}{with}"),
            None => value.to_owned(),
        },
    })
}
