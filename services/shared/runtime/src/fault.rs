//! The closed set of error classes. The gRPC code, whether a retry can help, a condition's reason and a metric's label
//! are derived from the class here and nowhere else.

use std::error::Error;
use std::fmt::Write as _;
use tonic::{Code, Status};

/// gRPC carries a status message in a header, and peers limit headers to 8 or 16 KiB; percent-encoding can triple it.
const LONGEST_MESSAGE_BYTES: usize = 2048;

/// What kind of failure an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// The request or the object it names cannot be right.
    Invalid,
    /// What was asked for does not exist.
    NotFound,
    /// The state of things forbids it now: locked, exists already, changed meanwhile.
    Conflict,
    /// The caller is known, but may not do this.
    Denied,
    /// The caller is not known.
    Unauthenticated,
    /// Somebody that is needed cannot be reached at the moment.
    Unavailable,
    /// A limit is reached: streams, memory, disk space.
    Exhausted,
    /// Data differs from what was written. Never retried.
    Corrupt,
    /// This version does not do it.
    Unimplemented,
    /// The caller went away.
    Cancelled,
    /// It took longer than the caller allowed.
    DeadlineExceeded,
    /// A bug, or something nobody thought of.
    Internal,
}

impl Class {
    /// The gRPC code of this class.
    #[must_use]
    pub fn code(self) -> Code {
        match self {
            Self::Invalid => Code::InvalidArgument,
            Self::NotFound => Code::NotFound,
            Self::Conflict => Code::FailedPrecondition,
            Self::Denied => Code::PermissionDenied,
            Self::Unauthenticated => Code::Unauthenticated,
            Self::Unavailable => Code::Unavailable,
            Self::Exhausted => Code::ResourceExhausted,
            Self::Corrupt => Code::DataLoss,
            Self::Unimplemented => Code::Unimplemented,
            Self::Cancelled => Code::Cancelled,
            Self::DeadlineExceeded => Code::DeadlineExceeded,
            Self::Internal => Code::Internal,
        }
    }

    /// True when the same call may succeed later without anyone changing anything.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        match self {
            Self::Unavailable | Self::Exhausted | Self::DeadlineExceeded | Self::Conflict => true,
            Self::Invalid
            | Self::NotFound
            | Self::Denied
            | Self::Unauthenticated
            | Self::Corrupt
            | Self::Unimplemented
            | Self::Cancelled
            | Self::Internal => false,
        }
    }

    /// The reason in a condition or an event.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Invalid => "Invalid",
            Self::NotFound => "NotFound",
            Self::Conflict => "Conflict",
            Self::Denied => "Denied",
            Self::Unauthenticated => "Unauthenticated",
            Self::Unavailable => "Unavailable",
            Self::Exhausted => "Exhausted",
            Self::Corrupt => "Corrupt",
            Self::Unimplemented => "Unimplemented",
            Self::Cancelled => "Cancelled",
            Self::DeadlineExceeded => "DeadlineExceeded",
            Self::Internal => "Internal",
        }
    }

    /// The value of a metric's `class` label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Denied => "denied",
            Self::Unauthenticated => "unauthenticated",
            Self::Unavailable => "unavailable",
            Self::Exhausted => "exhausted",
            Self::Corrupt => "corrupt",
            Self::Unimplemented => "unimplemented",
            Self::Cancelled => "cancelled",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::Internal => "internal",
        }
    }
}

/// An error that knows its class.
pub trait Fault: Error {
    /// The class.
    fn class(&self) -> Class;
}

/// The status for a failure, with the whole chain of causes as its message.
pub fn to_status(fault: &(impl Fault + ?Sized)) -> Status {
    let mut message = String::new();
    write_chain(fault, |text| message.push_str(text));
    truncate(&mut message);
    Status::new(fault.class().code(), message)
}

/// The class of a status that a peer sent.
#[must_use]
pub fn class_of(status: &Status) -> Class {
    match status.code() {
        Code::InvalidArgument | Code::OutOfRange => Class::Invalid,
        Code::NotFound => Class::NotFound,
        Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted => Class::Conflict,
        Code::PermissionDenied => Class::Denied,
        Code::Unauthenticated => Class::Unauthenticated,
        Code::Unavailable => Class::Unavailable,
        Code::ResourceExhausted => Class::Exhausted,
        Code::DataLoss => Class::Corrupt,
        Code::Unimplemented => Class::Unimplemented,
        Code::Cancelled => Class::Cancelled,
        Code::DeadlineExceeded => Class::DeadlineExceeded,
        Code::Internal | Code::Unknown | Code::Ok => Class::Internal,
    }
}

/// An error and its causes in one line: `read pack 3f2a: get object: connection refused`. A cause that the text before it
/// already contains is left out, since not every library keeps causes out of its messages.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    write_chain(error, |part| text.push_str(part));
    text
}

/// What a peer's status says, for a person: its message and, when it never reached the peer, the transport's causes.
/// `tonic`'s own `Display` prints code, details and metadata, which is no help to anyone.
#[must_use]
pub fn describe(status: &Status) -> String {
    let mut text = status.message().to_owned();
    if text.is_empty() {
        text.push_str(class_of(status).reason());
    }
    let mut cause = status.source();
    while let Some(error) = cause {
        push_cause(&mut text, &error.to_string());
        cause = error.source();
    }
    text
}

fn write_chain<E: Error + ?Sized>(error: &E, mut write: impl FnMut(&str)) {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // A status among the causes would print its code and metadata.
        match error.downcast_ref::<Status>() {
            Some(status) => push_cause(&mut text, status.message()),
            None => push_cause(&mut text, &error.to_string()),
        }
        cause = error.source();
    }
    write(&text);
}

fn push_cause(text: &mut String, cause: &str) {
    if !text.contains(cause) {
        let _ = write!(text, ": {cause}");
    }
}

fn truncate(message: &mut String) {
    if message.len() > LONGEST_MESSAGE_BYTES {
        let mut end = LONGEST_MESSAGE_BYTES;
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
        message.push('…');
    }
}

#[cfg(test)]
mod tests;
