//! The shell's patterns: `*`, `?`, `[a-z]`, `[!a]` or `[^a]`, and `\` before any of them.

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Token {
    Exactly(char),
    Any,
    Many,
    Set { ranges: Vec<(char, char)>, negated: bool },
}

/// None when a `[` is never closed.
pub(super) fn parse(pattern: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        tokens.push(match c {
            '*' => Token::Many,
            '?' => Token::Any,
            '\\' => Token::Exactly(chars.next().unwrap_or('\\')),
            '[' => {
                let negated = chars.next_if(|c| matches!(c, '!' | '^')).is_some();
                let mut ranges = Vec::new();
                loop {
                    let low = match chars.next()? {
                        // A ] that comes first stands for itself.
                        ']' if !ranges.is_empty() => break,
                        '\\' => chars.next()?,
                        c => c,
                    };
                    let mut ahead = chars.clone();
                    if ahead.next() == Some('-') && ahead.peek().is_some_and(|c| *c != ']') {
                        chars.next();
                        let high = match chars.next()? {
                            '\\' => chars.next()?,
                            c => c,
                        };
                        ranges.push((low, high));
                    } else {
                        ranges.push((low, low));
                    }
                }
                Token::Set { ranges, negated }
            }
            c => Token::Exactly(c),
        });
    }
    Some(tokens)
}

/// Whether the whole text matches. Goes back to the last `*` only, so the work is at most text times pattern.
pub(super) fn matches(pattern: &[Token], text: &str) -> bool {
    let (mut at, mut rest) = (0, text);
    let mut last_many: Option<(usize, &str)> = None;
    loop {
        let mut chars = rest.chars();
        match (pattern.get(at), chars.next()) {
            (None, None) => return true,
            (Some(Token::Many), _) => {
                last_many = Some((at, rest));
                at += 1;
                continue;
            }
            (Some(token), Some(c)) if token.accepts(c) => {
                at += 1;
                rest = chars.as_str();
                continue;
            }
            _ => {}
        }
        let Some((many, from)) = last_many else { return false };
        let mut from = from.chars();
        if from.next().is_none() {
            return false;
        }
        last_many = Some((many, from.as_str()));
        at = many + 1;
        rest = from.as_str();
    }
}

impl Token {
    fn accepts(&self, c: char) -> bool {
        match self {
            Self::Exactly(exactly) => *exactly == c,
            Self::Any => true,
            Self::Many => false,
            Self::Set { ranges, negated } => {
                ranges.iter().any(|(low, high)| (low..=high).contains(&&c)) != *negated
            }
        }
    }
}
