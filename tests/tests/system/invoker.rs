//! What a BackupConfiguration and a RestoreSession bring about between backups: what they wait for, what they schedule, what
//! they keep, what goes with them, and from which namespaces they may be served.

mod attempts;
mod hosts;
mod namespaces;
mod objects;
mod schedule;
