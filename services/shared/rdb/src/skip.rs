//! Runs a grammar program over input that arrives in pieces, and says where the program's bytes end.
//!
//! Most values lie whole within one piece of input, and for those there is a way without a state, in
//! `skip/slice.rs`, several times as fast. It is tried first.
//!
//! Constant memory: a stack as deep as the grammar nests, and nine bytes for a length code that was cut.
//! Constant work per input byte: the body of every loop consumes at least one, so a hostile count only
//! makes the reader ask for more input.

mod slice;

use crate::error::Error;
use crate::grammar::{DEPTH, Program, Step};
use crate::length::{Length, LengthReader};

/// How far a run came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ran {
    /// The program ended after so many bytes of this input.
    Ended(usize),
    /// All input was used and there must be more.
    Hungry,
}

#[derive(Debug)]
struct Frame {
    program: Program,
    at: usize,
    runs_left: u64,
}

/// What is being read in front of the next step.
#[derive(Debug, Clone, Copy)]
enum Pending {
    Nothing,
    Number,
    String,
    LzfPacked,
    LzfPlain { packed: u64 },
    Count(Program),
    Score,
    ModuleField,
}

/// The interpreter.
#[derive(Debug)]
pub(crate) struct Skipper {
    /// A program of which nothing has run yet.
    fresh: Option<Program>,
    frames: Vec<Frame>,
    pending: Pending,
    /// Bytes still to pass over before `pending` is looked at.
    raw: u64,
    length: LengthReader,
}

impl Skipper {
    pub(crate) fn new() -> Self {
        Self {
            fresh: None,
            frames: Vec::with_capacity(DEPTH),
            pending: Pending::Nothing,
            raw: 0,
            length: LengthReader::default(),
        }
    }

    /// Begins a program; whatever ran before is forgotten.
    pub(crate) fn start(&mut self, program: Program) {
        self.frames.clear();
        self.fresh = Some(program);
        self.pending = Pending::Nothing;
        self.raw = 0;
        self.length = LengthReader::default();
    }

    /// Bytes that must still come at least: those of the string that the input ended in.
    pub(crate) const fn due(&self) -> u64 {
        self.raw
    }

    /// Goes on with the program. Offsets in errors count from the start of `input`.
    pub(crate) fn run(&mut self, input: &[u8]) -> Result<Ran, Error> {
        if let Some(program) = self.fresh.take() {
            let mut rest = input;
            let ended = slice::skip(program, &mut rest)
                .map_err(|error| error.offset_by((input.len() - rest.len()) as u64))?;
            if ended {
                return Ok(Ran::Ended(input.len() - rest.len()));
            }
            self.frames.push(Frame { program, at: 0, runs_left: 1 });
        }
        self.run_piecewise(input)
    }

    fn run_piecewise(&mut self, input: &[u8]) -> Result<Ran, Error> {
        let mut rest = input;
        loop {
            if self.raw > 0 {
                let here = usize::try_from(self.raw).unwrap_or(usize::MAX).min(rest.len());
                rest = &rest[here..];
                self.raw -= here as u64;
                if self.raw > 0 {
                    return Ok(Ran::Hungry);
                }
            }
            if matches!(self.pending, Pending::Nothing) {
                let Some(step) = self.next_step() else {
                    return Ok(Ran::Ended(input.len() - rest.len()));
                };
                match step {
                    Step::Raw(bytes) => self.raw = bytes,
                    Step::Len => self.pending = Pending::Number,
                    Step::Str => self.pending = Pending::String,
                    Step::Count(program) => self.pending = Pending::Count(program),
                    Step::Score => self.pending = Pending::Score,
                    Step::ModuleFields => self.pending = Pending::ModuleField,
                }
                continue;
            }
            let at = (input.len() - rest.len()) as u64;
            if !self.read_pending(&mut rest).map_err(|error| error.offset_by(at))? {
                return Ok(Ran::Hungry);
            }
        }
    }

    fn next_step(&mut self) -> Option<Step> {
        loop {
            let frame = self.frames.last_mut()?;
            if let Some(step) = frame.program.get(frame.at)
                && frame.runs_left > 0
            {
                frame.at += 1;
                return Some(*step);
            }
            frame.at = 0;
            frame.runs_left = frame.runs_left.saturating_sub(1);
            if frame.runs_left == 0 {
                self.frames.pop();
            }
        }
    }

    /// Reads the number in front; false if the input ended inside it.
    fn read_pending(&mut self, rest: &mut &[u8]) -> Result<bool, Error> {
        if matches!(self.pending, Pending::Score) {
            let Some((&byte, behind)) = rest.split_first() else { return Ok(false) };
            *rest = behind;
            self.pending = Pending::Nothing;
            self.raw = if byte < 253 { u64::from(byte) } else { 0 };
            return Ok(true);
        }
        let Some(length) = self.length.read(rest)? else { return Ok(false) };
        if let (Pending::String, Length::Special(encoding)) = (self.pending, length) {
            self.pending = Pending::Nothing;
            match encoding {
                0 => self.raw = 1,
                1 => self.raw = 2,
                2 => self.raw = 4,
                3 => self.pending = Pending::LzfPacked,
                _ => return Err(Error::Malformed { what: "string encoding", at: 0 }),
            }
            return Ok(true);
        }
        let Length::Plain(number) = length else {
            return Err(Error::Malformed { what: "number", at: 0 });
        };
        match std::mem::replace(&mut self.pending, Pending::Nothing) {
            Pending::Nothing | Pending::Number | Pending::Score => {}
            Pending::String => self.raw = number,
            Pending::LzfPacked => self.pending = Pending::LzfPlain { packed: number },
            Pending::LzfPlain { packed } => self.raw = packed,
            Pending::Count(program) if number > 0 => {
                self.frames.push(Frame { program, at: 0, runs_left: number });
            }
            Pending::Count(_) => {}
            Pending::ModuleField => self.module_field(number)?,
        }
        Ok(true)
    }

    /// Goes into one field of a module's value; all but the end come back for another.
    fn module_field(&mut self, opcode: u64) -> Result<(), Error> {
        const AGAIN: Step = Step::ModuleFields;
        let field: Program = match opcode {
            0 => return Ok(()),
            1 | 2 => &[Step::Len, AGAIN],
            3 => &[Step::Raw(4), AGAIN],
            4 => &[Step::Raw(8), AGAIN],
            5 => &[Step::Str, AGAIN],
            _ => return Err(Error::Malformed { what: "module field", at: 0 }),
        };
        // The frame that asked for this field has nothing left to do. It goes before the field comes, or
        // the stack would grow with the number of fields.
        if self.frames.last().is_some_and(|top| top.at == top.program.len() && top.runs_left == 1) {
            self.frames.pop();
        }
        self.frames.push(Frame { program: field, at: 0, runs_left: 1 });
        Ok(())
    }
}
