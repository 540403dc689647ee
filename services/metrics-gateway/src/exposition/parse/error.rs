//! What can be wrong with a body, in the original's words.

/// Where reading stopped, and why.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("text format parsing error in line {line}: {problem}")]
pub struct Error {
    /// From 1.
    pub line: usize,
    /// What is wrong there.
    pub problem: Problem,
}

/// What can be wrong with a line. Texts in it are quoted as Go quotes.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum Problem {
    /// The body ends inside a line.
    #[error("unexpected end of input stream")]
    UnexpectedEnd,
    /// A line begins with something that is no metric name.
    #[error("invalid metric name")]
    MetricName,
    /// A `# HELP` or `# TYPE` line does.
    #[error("invalid metric name in comment")]
    MetricNameInComment,
    /// Two help lines.
    #[error("second HELP line for metric name \"{0}\"")]
    SecondHelp(String),
    /// Two type lines, or one that comes too late.
    #[error("second TYPE line for metric name \"{0}\", or TYPE reported after samples")]
    SecondType(String),
    /// A type that there is not.
    #[error("unknown metric type {0}")]
    UnknownType(String),
    /// A help text that is not UTF-8.
    #[error("help text of metric name \"{0}\" is not UTF-8")]
    HelpNotUtf8(String),
    /// Not a label name where one belongs.
    #[error("invalid label name for metric \"{0}\"")]
    LabelName(String),
    /// `__name__`.
    #[error("label name \"__name__\" is reserved")]
    ReservedLabelName,
    /// A label name and no value.
    #[error("expected '=' after label name, found {0}")]
    NoEquals(String),
    /// The same label twice.
    #[error("duplicate label names for metric \"{0}\"")]
    DuplicateLabel(String),
    /// A value without quotes.
    #[error("expected '\"' at start of label value, found {0}")]
    NoQuote(String),
    /// A value that is not UTF-8.
    #[error("invalid label value {0}")]
    LabelValue(String),
    /// Something other than `,` or `}` after a value.
    #[error("unexpected end of label value {0}")]
    AfterLabelValue(String),
    /// A value that runs over its line.
    #[error("label value {0} contains unescaped new-line")]
    NewLine(String),
    /// A backslash before a character that needs none.
    #[error("invalid escape sequence '\\{0}'")]
    Escape(char),
    /// Not a number.
    #[error("expected float as value, got {0}")]
    Float(String),
    /// `quantile` or `le` that is not a number.
    #[error("expected float as value for '{label}' label, got {got}")]
    FloatInLabel {
        /// `quantile` or `le`.
        label: &'static str,
        /// What stood there.
        got: String,
    },
    /// Something after the value that is no timestamp.
    #[error("expected integer as timestamp, got {0}")]
    Timestamp(String),
    /// More after that.
    #[error("spurious string after timestamp: {0}")]
    AfterTimestamp(String),
}
