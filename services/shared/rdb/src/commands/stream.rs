//! The commands of a stream, in an order that gives every id, figure and pending entry its place:
//! entries, groups with their consumers, what is pending, the last id.
//!
//! An entry can be pending though it was deleted. Servers since 7.0 do not let one claim what is not in
//! the stream, so such an entry is added with a field to stand for it, claimed, and deleted at the end,
//! which leaves what was there.

use super::{Command, Page, Pages, digits, word};
use crate::decode::{Consumer, Group, Pending, Stream, StreamEntries, StreamEntry, StreamId};
use crate::error::Error;
use crate::target::{Feature, Target};
use bytes::Bytes;
use std::collections::VecDeque;
use std::iter::Peekable;
use std::vec::IntoIter;

/// A group that exists for a moment, to make a stream that has no entries.
const PASSING_GROUP: &[u8] = b"coffer";

/// The commands of a stream.
#[derive(Debug)]
pub(super) struct StreamCommands {
    key: Bytes,
    pages: Pages,
    figures: bool,
    create_consumer: bool,
    entries: Option<StreamEntries>,
    entry: Option<StreamEntry>,
    /// Pending ids that are not known to be in the stream, ascending.
    pending: VecDeque<StreamId>,
    /// Those that were added only to be claimed.
    added: Vec<StreamId>,
    /// What makes a stream without entries.
    made: VecDeque<Command>,
    empty: bool,
    groups: IntoIter<Group>,
    group: Option<(Bytes, IntoIter<Consumer>)>,
    consumer: Option<(Bytes, Peekable<IntoIter<Pending>>)>,
    set_id: Option<Command>,
}

impl StreamCommands {
    pub(super) fn new(
        key: Bytes,
        stream: &Stream,
        target: &Target,
        pages: Pages,
    ) -> Result<Self, Error> {
        let groups: Vec<Group> = stream.groups()?.collect::<Result<_, _>>()?;
        let consumers = groups.iter().flat_map(|group| &group.consumers);
        let mut pending: Vec<StreamId> =
            consumers.flat_map(|consumer| &consumer.pending).map(|entry| entry.id).collect();
        pending.sort_unstable();
        pending.dedup();
        let figures = target.can(Feature::StreamFigures);
        let mut set_id = vec![word(b"XSETID"), key.clone(), digits(stream.last_id)];
        if figures {
            // Servers that kept no figures are taken to have deleted nothing, as servers do themselves.
            let (added, deleted) = match stream.figures {
                Some(known) => (known.entries_added, known.max_deleted_id),
                None => (stream.len, StreamId::default()),
            };
            set_id.extend([word(b"ENTRIESADDED"), digits(added)]);
            set_id.extend([word(b"MAXDELETEDID"), digits(deleted)]);
        }
        Ok(Self {
            key,
            pages,
            figures,
            create_consumer: target.can(Feature::CreateConsumer),
            entries: Some(stream.entries()?),
            entry: None,
            pending: pending.into(),
            added: Vec::new(),
            made: VecDeque::new(),
            empty: true,
            groups: groups.into_iter(),
            group: None,
            consumer: None,
            set_id: Some(set_id),
        })
    }

    pub(super) fn next(&mut self) -> Result<Option<Command>, Error> {
        if self.entries.is_some() {
            if let Some(command) = self.add_entry()? {
                return Ok(Some(command));
            }
            self.entries = None;
            self.finish_entries();
        }
        Ok(self
            .made
            .pop_front()
            .or_else(|| self.next_of_groups())
            .or_else(|| self.delete_added())
            .or_else(|| self.set_id.take()))
    }

    fn add_entry(&mut self) -> Result<Option<Command>, Error> {
        if self.entry.is_none() {
            self.entry = self.entries.as_mut().and_then(Iterator::next).transpose()?;
        }
        let next = self.entry.as_ref().map(|entry| entry.id);
        let missing = self.pending.front().copied().filter(|id| next.is_none_or(|next| *id < next));
        let (id, fields) = if let Some(id) = missing {
            self.pending.pop_front();
            self.added.push(id);
            (id, vec![(word(b"x"), word(b"x"))])
        } else {
            let Some(StreamEntry { id, fields }) = self.entry.take() else { return Ok(None) };
            if self.pending.front() == Some(&id) {
                self.pending.pop_front();
            }
            (id, fields)
        };
        self.empty = false;
        let mut command = vec![word(b"XADD"), self.key.clone(), digits(id)];
        command.extend(fields.into_iter().flat_map(|(name, value)| [name, value]));
        Ok(Some(command))
    }

    /// Makes the stream where no entry did.
    fn finish_entries(&mut self) {
        if !self.empty {
            return;
        }
        let group = || [self.key.clone(), word(PASSING_GROUP)];
        let mut create = vec![word(b"XGROUP"), word(b"CREATE")];
        create.extend(group());
        create.extend([word(b"0"), word(b"MKSTREAM")]);
        let mut destroy = vec![word(b"XGROUP"), word(b"DESTROY")];
        destroy.extend(group());
        self.made = VecDeque::from([create, destroy]);
    }

    fn next_of_groups(&mut self) -> Option<Command> {
        loop {
            if let Some(command) = self.claim() {
                return Some(command);
            }
            if let Some((group, consumers)) = &mut self.group {
                if let Some(consumer) = consumers.next() {
                    let Consumer { name, pending, .. } = consumer;
                    if pending.is_empty() {
                        let group = group.clone();
                        return Some(self.create_consumer(group, name));
                    }
                    self.consumer = Some((name, pending.into_iter().peekable()));
                    continue;
                }
                self.group = None;
            }
            let Group { name, last_id, entries_read, consumers, unowned: _ } =
                self.groups.next()?;
            let mut command =
                vec![word(b"XGROUP"), word(b"CREATE"), self.key.clone(), name.clone()];
            command.push(digits(last_id));
            if let Some(read) = entries_read.filter(|_| self.figures) {
                command.extend([word(b"ENTRIESREAD"), digits(read)]);
            }
            self.group = Some((name, consumers.into_iter()));
            return Some(command);
        }
    }

    /// A consumer without pending entries.
    fn create_consumer(&self, group: Bytes, name: Bytes) -> Command {
        let key = self.key.clone();
        if self.create_consumer {
            return vec![word(b"XGROUP"), word(b"CREATECONSUMER"), key, group, name];
        }
        // An older server makes a consumer when it asks for its own history, which is empty.
        let read = [word(b"XREADGROUP"), word(b"GROUP"), group, name, word(b"COUNT"), word(b"1")];
        read.into_iter().chain([word(b"STREAMS"), key, word(b"0")]).collect()
    }

    /// Pending entries that were delivered at the same time and as often, as far as one page goes.
    fn claim(&mut self) -> Option<Command> {
        let (group, _) = self.group.as_ref()?;
        let (name, pending) = self.consumer.as_mut()?;
        let Some(first) = pending.next() else {
            self.consumer = None;
            return None;
        };
        let head = [word(b"XCLAIM"), self.key.clone(), group.clone(), name.clone(), word(b"0")];
        let mut page = Page::with_head(head.to_vec(), self.pages);
        let mut full = page.add([digits(first.id)]);
        let alike = |one: &Pending| {
            one.delivered_at_ms == first.delivered_at_ms && one.deliveries == first.deliveries
        };
        while !full && let Some(next) = pending.next_if(alike) {
            full = page.add([digits(next.id)]);
        }
        let mut command = page.end()?;
        command.extend([word(b"TIME"), digits(first.delivered_at_ms)]);
        command.extend([word(b"RETRYCOUNT"), digits(first.deliveries)]);
        command.extend([word(b"FORCE"), word(b"JUSTID")]);
        Some(command)
    }

    fn delete_added(&mut self) -> Option<Command> {
        let mut page = Page::begin(b"XDEL", &self.key, self.pages);
        while let Some(id) = self.added.pop() {
            if page.add([digits(id)]) {
                break;
            }
        }
        page.end()
    }
}
