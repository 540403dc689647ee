//! Classes survive the wire, and chains read well.

use super::*;

const ALL: [Class; 12] = [
    Class::Invalid,
    Class::NotFound,
    Class::Conflict,
    Class::Denied,
    Class::Unauthenticated,
    Class::Unavailable,
    Class::Exhausted,
    Class::Corrupt,
    Class::Unimplemented,
    Class::Cancelled,
    Class::DeadlineExceeded,
    Class::Internal,
];

#[derive(Debug, thiserror::Error)]
#[error("read pack {id}")]
struct ReadPack {
    id: &'static str,
    #[source]
    cause: std::io::Error,
}

impl Fault for ReadPack {
    fn class(&self) -> Class {
        Class::Unavailable
    }
}

fn failure(text: &str) -> ReadPack {
    ReadPack { id: "3f2a", cause: std::io::Error::other(text.to_owned()) }
}

#[test]
fn every_class_survives_the_wire() {
    for class in ALL {
        assert_eq!(class_of(&Status::new(class.code(), "")), class);
    }
}

#[test]
fn a_status_carries_the_whole_chain() {
    let status = to_status(&failure("connection refused"));
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(status.message(), "read pack 3f2a: connection refused");
}

#[test]
fn a_repeated_cause_is_said_once() {
    assert_eq!(chain(&failure("pack 3f2a")), "read pack 3f2a");
}

#[test]
fn a_status_among_the_causes_shows_its_message_only() {
    #[derive(Debug, thiserror::Error)]
    #[error("ask the catalog")]
    struct Ask(#[source] Status);
    assert_eq!(chain(&Ask(Status::not_found("no Task \"x\""))), "ask the catalog: no Task \"x\"");
}

#[test]
fn a_long_message_is_cut_between_characters() {
    let status = to_status(&failure(&"é".repeat(4000)));
    assert!(status.message().len() < LONGEST_MESSAGE_BYTES + 8);
    assert!(status.message().ends_with('…'));
}
