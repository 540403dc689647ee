//! Text to parts. Nothing is evaluated here, so a broken expression is an error whatever the variables are.

use super::Error;
use std::collections::BTreeSet;

/// Deeper nesting than anyone writes; it bounds the recursion.
const MOST_NESTED: usize = 16;
/// How much of an expression an error shows.
const SHOWN_CHARS: usize = 60;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Text(&'a str),
    Expression(Expression<'a>),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Expression<'a> {
    pub(super) source: &'a str,
    pub(super) column: usize,
    pub(super) variable: &'a str,
    pub(super) operation: Operation<'a>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Operation<'a> {
    Value,
    Default(Word<'a>),
    Require(Word<'a>),
    Case { case: Case, extent: Extent },
    Length,
    Substring { position: Word<'a>, length: Option<Word<'a>> },
    Trim { end: End, reach: Reach, pattern: Word<'a> },
    Replace { place: Place, search: Word<'a>, with: Word<'a> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Case {
    Upper,
    Lower,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    First,
    All,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Start,
    Tail,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    Shortest,
    Longest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    First,
    All,
    Start,
    Tail,
}

/// What stands behind an operator: text, or one expression.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Word<'a> {
    Text(&'a str),
    Nested(Box<Expression<'a>>),
}

impl Expression<'_> {
    pub(super) fn add_names(&self, names: &mut BTreeSet<String>) {
        names.insert(self.variable.to_owned());
        let words = match &self.operation {
            Operation::Value | Operation::Case { .. } | Operation::Length => [None, None],
            Operation::Default(word) | Operation::Require(word) => [Some(word), None],
            Operation::Substring { position, length } => [Some(position), length.as_ref()],
            Operation::Trim { end: _, reach: _, pattern } => [Some(pattern), None],
            Operation::Replace { place: _, search, with } => [Some(search), Some(with)],
        };
        for word in words.into_iter().flatten() {
            if let Word::Nested(nested) = word {
                nested.add_names(names);
            }
        }
    }

    pub(super) fn bad(&self, problem: &'static str) -> Error {
        Error::Bad { expression: shown(self.source), problem, column: self.column }
    }

    pub(super) fn too_long(&self) -> Error {
        Error::TooLong { expression: shown(self.source), column: self.column }
    }

    pub(super) fn unknown(&self) -> Error {
        Error::Unknown {
            variable: self.variable.to_owned(),
            expression: shown(self.source),
            column: self.column,
        }
    }
}

/// Splits a text into plain parts and expressions.
pub(super) fn parse(text: &str) -> Result<Vec<Part<'_>>, Error> {
    let mut parts = Vec::new();
    let mut parser = Parser { text, at: 0 };
    let mut plain = 0;
    while let Some(offset) = parser.rest().find('$') {
        let dollar = parser.at + offset;
        parser.at = dollar;
        if parser.eat("$$") {
            // The first of the two ends the plain text before it, the second is dropped.
            parts.push(Part::Text(&text[plain..=dollar]));
            plain = parser.at;
        } else if parser.rest().starts_with("${") {
            parts.push(Part::Text(&text[plain..dollar]));
            parts.push(Part::Expression(parser.expression(0)?));
            plain = parser.at;
        } else {
            parser.at += 1;
        }
    }
    parts.push(Part::Text(&text[plain..]));
    Ok(parts)
}

fn shown(source: &str) -> String {
    match source.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &source[..end]),
        None => source.to_owned(),
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn expression(&mut self, depth: usize) -> Result<Expression<'a>, Error> {
        let start = self.at;
        let column = self.text[..start].chars().count() + 1;
        let parsed = if depth > MOST_NESTED {
            Err(Problem::Here("too deeply nested"))
        } else {
            self.eat("${");
            self.inside(depth)
        };
        match parsed {
            Ok((variable, operation)) => {
                let source = &self.text[start..self.at];
                Ok(Expression { source, column, variable, operation })
            }
            Err(Problem::Nested(error)) => Err(error),
            Err(Problem::Here(problem)) => {
                Err(Error::Bad { expression: shown(&self.text[start..]), problem, column })
            }
        }
    }

    /// From behind `${` to behind `}`.
    fn inside(&mut self, depth: usize) -> Result<(&'a str, Operation<'a>), Problem> {
        let length = self.eat("#");
        let variable = self.name()?;
        let operation = if length { Operation::Length } else { self.operation(depth)? };
        if self.eat("}") {
            return Ok((variable, operation));
        }
        Err(Problem::Here(if self.rest().is_empty() {
            UNCLOSED
        } else {
            "this is none of the forms that are understood"
        }))
    }

    fn name(&mut self) -> Result<&'a str, Problem> {
        let rest = self.rest();
        let end =
            rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        if end == 0 {
            return Err(Problem::Here("a variable's name has letters, digits and underscores"));
        }
        self.at += end;
        Ok(&rest[..end])
    }

    /// Longer operators first: each of the shorter ones begins one of them.
    fn operation(&mut self, depth: usize) -> Result<Operation<'a>, Problem> {
        if self.rest().starts_with('}') {
            return Ok(Operation::Value);
        }
        if self.eat(":=") || self.eat(":-") || self.eat("=") {
            return Ok(Operation::Default(self.word(depth, "}")?));
        }
        if self.eat(":?") {
            return Ok(Operation::Require(self.word(depth, "}")?));
        }
        if self.rest().starts_with(":+") {
            return Err(Problem::Here("`:+` is not supported"));
        }
        if self.eat(":") {
            let position = self.word(depth, ":}")?;
            let length = self.eat(":").then(|| self.word(depth, "}")).transpose()?;
            return Ok(Operation::Substring { position, length });
        }
        for (token, case, extent) in [
            ("^^", Case::Upper, Extent::All),
            ("^", Case::Upper, Extent::First),
            (",,", Case::Lower, Extent::All),
            (",", Case::Lower, Extent::First),
        ] {
            if self.eat(token) {
                return Ok(Operation::Case { case, extent });
            }
        }
        for (token, place) in
            [("//", Place::All), ("/#", Place::Start), ("/%", Place::Tail), ("/", Place::First)]
        {
            if self.eat(token) {
                return self.replace(depth, place);
            }
        }
        for (token, end, reach) in [
            ("##", End::Start, Reach::Longest),
            ("#", End::Start, Reach::Shortest),
            ("%%", End::Tail, Reach::Longest),
            ("%", End::Tail, Reach::Shortest),
        ] {
            if self.eat(token) {
                return Ok(Operation::Trim { end, reach, pattern: self.word(depth, "}")? });
            }
        }
        Err(Problem::Here("this is none of the forms that are understood"))
    }

    fn replace(&mut self, depth: usize, place: Place) -> Result<Operation<'a>, Problem> {
        let search = self.word(depth, "/}")?;
        if search == Word::Text("") {
            return Err(Problem::Here("the text to replace is empty"));
        }
        let with = if self.eat("/") { self.word(depth, "}")? } else { Word::Text("") };
        Ok(Operation::Replace { place, search, with })
    }

    fn word(&mut self, depth: usize, ends: &'static str) -> Result<Word<'a>, Problem> {
        if self.rest().starts_with("${") {
            let nested = self.expression(depth + 1).map_err(Problem::Nested)?;
            if !self.rest().starts_with(|c| ends.contains(c)) {
                return Err(Problem::Here(if self.rest().is_empty() { UNCLOSED } else { MIXED }));
            }
            return Ok(Word::Nested(Box::new(nested)));
        }
        let rest = self.rest();
        let Some(end) = rest.find(|c| ends.contains(c)) else {
            return Err(Problem::Here(UNCLOSED));
        };
        let text = &rest[..end];
        if text.contains("${") {
            return Err(Problem::Here(MIXED));
        }
        self.at += end;
        Ok(Word::Text(text))
    }
}

const UNCLOSED: &str = "its closing brace is missing";
const MIXED: &str = "what follows an operator is either text or one ${…}, not both";

enum Problem {
    Here(&'static str),
    Nested(Error),
}
