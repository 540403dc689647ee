//! What a server's error reply means.

use coffer_rdb::strings::printable;

use super::Error;

impl Error {
    /// Sorts an error reply to a command.
    pub(crate) fn from_reply(address: &str, command: &str, reply: &[u8]) -> Self {
        let (address, command) = (address.to_owned(), command.to_owned());
        let text = printable(reply, 300);
        match first_word(reply) {
            "NOPERM" => {
                let grant = grant_for(&command);
                Self::Permission { address, command, reply: text, grant }
            }
            "WRONGPASS" | "NOAUTH" => {
                Self::Password { address, user: "the default user".to_owned(), reply: text }
            }
            _ => Self::Refused { address, command, reply: text },
        }
    }
}

/// The code that an error reply begins with.
pub(crate) fn first_word(reply: &[u8]) -> &str {
    let end = reply.iter().position(|byte| *byte == b' ').unwrap_or(reply.len());
    std::str::from_utf8(&reply[..end]).unwrap_or_default()
}

/// The least rules for the work that a command belongs to.
fn grant_for(command: &str) -> &'static str {
    match command {
        "PSYNC" | "REPLCONF" | "INFO" | "PING" => "+psync +replconf +ping +info",
        "SCAN" | "DUMP" | "PEXPIRETIME" | "PTTL" | "MEMORY" => {
            "%R~* +scan +dump +pexpiretime +pttl +memory|usage +info +ping +select +function|dump"
        }
        "FUNCTION LIST" => "+function|list",
        "READONLY" => "+readonly",
        "CLUSTER" => "+cluster|slots +cluster|nodes +info +ping",
        "SENTINEL" => "+sentinel +info +ping",
        "TYPE" | "TIME" | "OBJECT" => "%R~* +@read +scan +pttl +time +info +ping +select",
        _ => "~* +@write +@read +restore +select +ping +info +dbsize +exists +function|load",
    }
}
