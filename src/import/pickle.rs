//! Python's pickles, as far as NumPy needs them to write an array of lists of texts, and no further.
//!
//! A pickle is a program for a machine with a stack and a memo, and Python's own machine calls whatever the program
//! names. This one calls nothing. It knows the opcodes that such an array is written with (protocols 2 to 5), and of
//! global names those of NumPy's array and its type; all else is refused by name and position. Values are small and
//! refer to lists and tuples by number, so that neither copying nor dropping one goes deep, and what a program may
//! make the machine hold is bounded by [`Limits`].

use std::hash::BuildHasher;
use std::io::BufRead;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::error::FormatError;
use super::source::Source;

/// How much a pickle may make its reader hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// values on the stack; Python's pickler never puts more than a thousand there at once
    pub stack: usize,
    /// places of the memo
    pub memo: usize,
    /// lists
    pub lists: usize,
    /// entries of all lists together
    pub entries: usize,
    /// bytes of one text
    pub text_bytes: usize,
}

impl Default for Limits {
    /// Enough for a million playlists. All together hold about a gigabyte at most, beside the texts, which are no longer
    /// than the file.
    fn default() -> Self {
        Self { stack: 1 << 20, memo: 1 << 25, lists: 1 << 22, entries: 1 << 27, text_bytes: 1 << 16 }
    }
}

/// Tuples in all, and values in one: NumPy's array needs five of up to nine.
const MAX_TUPLES: usize = 64;
/// Memo places that may be left out: Python 2 begins with 1 instead of 0.
const MAX_MEMO_GAP: usize = 1_024;
/// The longest name of a module or of what is in it, in bytes.
const MAX_GLOBAL_BYTES: usize = 256;

/// Names of all opcodes, as `pickletools` has them.
#[rustfmt::skip]
const OPCODES: [(u8, &str); 68] = [
    (b'(', "MARK"), (b')', "EMPTY_TUPLE"), (b'.', "STOP"), (b'0', "POP"), (b'1', "POP_MARK"), (b'2', "DUP"),
    (b'B', "BINBYTES"), (b'C', "SHORT_BINBYTES"), (b'F', "FLOAT"), (b'G', "BINFLOAT"), (b'I', "INT"), (b'J', "BININT"),
    (b'K', "BININT1"), (b'L', "LONG"), (b'M', "BININT2"), (b'N', "NONE"), (b'P', "PERSID"), (b'Q', "BINPERSID"),
    (b'R', "REDUCE"), (b'S', "STRING"), (b'T', "BINSTRING"), (b'U', "SHORT_BINSTRING"), (b'V', "UNICODE"),
    (b'X', "BINUNICODE"), (b']', "EMPTY_LIST"), (b'a', "APPEND"), (b'b', "BUILD"), (b'c', "GLOBAL"), (b'd', "DICT"),
    (b'e', "APPENDS"), (b'g', "GET"), (b'h', "BINGET"), (b'i', "INST"), (b'j', "LONG_BINGET"), (b'l', "LIST"),
    (b'o', "OBJ"), (b'p', "PUT"), (b'q', "BINPUT"), (b'r', "LONG_BINPUT"), (b's', "SETITEM"), (b't', "TUPLE"),
    (b'u', "SETITEMS"), (b'}', "EMPTY_DICT"), (0x80, "PROTO"), (0x81, "NEWOBJ"), (0x82, "EXT1"), (0x83, "EXT2"),
    (0x84, "EXT4"), (0x85, "TUPLE1"), (0x86, "TUPLE2"), (0x87, "TUPLE3"), (0x88, "NEWTRUE"), (0x89, "NEWFALSE"),
    (0x8a, "LONG1"), (0x8b, "LONG4"), (0x8c, "SHORT_BINUNICODE"), (0x8d, "BINUNICODE8"), (0x8e, "BINBYTES8"),
    (0x8f, "EMPTY_SET"), (0x90, "ADDITEMS"), (0x91, "FROZENSET"), (0x92, "NEWOBJ_EX"), (0x93, "STACK_GLOBAL"),
    (0x94, "MEMOIZE"), (0x95, "FRAME"), (0x96, "BYTEARRAY8"), (0x97, "NEXT_BUFFER"), (0x98, "READONLY_BUFFER"),
];

/// The opcodes that are read.
mod op {
    pub const MARK: u8 = b'(';
    pub const EMPTY_TUPLE: u8 = b')';
    pub const STOP: u8 = b'.';
    pub const SHORT_BINBYTES: u8 = b'C';
    pub const BINBYTES: u8 = b'B';
    pub const BINFLOAT: u8 = b'G';
    pub const BININT: u8 = b'J';
    pub const BININT1: u8 = b'K';
    pub const BININT2: u8 = b'M';
    pub const NONE: u8 = b'N';
    pub const REDUCE: u8 = b'R';
    pub const BINSTRING: u8 = b'T';
    pub const SHORT_BINSTRING: u8 = b'U';
    pub const BINUNICODE: u8 = b'X';
    pub const EMPTY_LIST: u8 = b']';
    pub const APPEND: u8 = b'a';
    pub const BUILD: u8 = b'b';
    pub const GLOBAL: u8 = b'c';
    pub const APPENDS: u8 = b'e';
    pub const BINGET: u8 = b'h';
    pub const LONG_BINGET: u8 = b'j';
    pub const BINPUT: u8 = b'q';
    pub const LONG_BINPUT: u8 = b'r';
    pub const TUPLE: u8 = b't';
    pub const PROTO: u8 = 0x80;
    pub const TUPLE1: u8 = 0x85;
    pub const TUPLE2: u8 = 0x86;
    pub const TUPLE3: u8 = 0x87;
    pub const NEWTRUE: u8 = 0x88;
    pub const NEWFALSE: u8 = 0x89;
    pub const LONG1: u8 = 0x8a;
    pub const SHORT_BINUNICODE: u8 = 0x8c;
    pub const BINUNICODE8: u8 = 0x8d;
    pub const STACK_GLOBAL: u8 = 0x93;
    pub const MEMOIZE: u8 = 0x94;
    pub const FRAME: u8 = 0x95;
}

fn opcode_name(opcode: u8) -> &'static str {
    OPCODES.iter().find(|(code, _)| *code == opcode).map_or("unknown opcode", |(_, name)| name)
}

/// What a pickle may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Global {
    /// `numpy.core.multiarray._reconstruct`: an empty array, to be filled by what follows
    Reconstruct,
    /// `numpy.ndarray`
    Ndarray,
    /// `numpy.dtype`
    Dtype,
    /// `_codecs.encode`: how Python 3 writes bytes in protocol 2, which had none
    Encode,
}

impl Global {
    fn named(module: &str, name: &str) -> Option<Self> {
        match (module, name) {
            // NumPy 2 moved it.
            ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => Some(Self::Reconstruct),
            ("numpy", "ndarray") => Some(Self::Ndarray),
            ("numpy", "dtype") => Some(Self::Dtype),
            ("_codecs", "encode") => Some(Self::Encode),
            _ => None,
        }
    }
}

/// A value of the machine. Texts, lists and tuples are numbers of those that the machine holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    None,
    Bool(bool),
    Number(i32),
    /// one that does not fit, or is not whole
    OtherNumber,
    Bytes,
    NotUtf8,
    Text(u32),
    Global(Global),
    Tuple(u32),
    List(u32),
    Array,
    Dtype,
}

impl Value {
    fn type_name(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool(_) => "a truth value",
            Self::Number(_) | Self::OtherNumber => "a number",
            Self::Bytes => "bytes",
            Self::NotUtf8 => "a text that is not UTF-8",
            Self::Text(_) => "a text",
            Self::Global(_) => "a global name",
            Self::Tuple(_) => "a tuple",
            Self::List(_) => "a list",
            Self::Array => "an array",
            Self::Dtype => "a dtype",
        }
    }
}

/// What a list holds. A list of playlists is one of lists, and a playlist is one of texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entries {
    /// nothing yet
    Nothing,
    /// texts by number
    Texts,
    /// lists by number
    Lists,
    /// neither: place and type of the first entry that is wrong
    Wrong(u32, &'static str),
}

#[derive(Debug)]
struct List {
    /// where in the file it begins
    offset: u64,
    entries: Entries,
    items: Vec<u32>,
}

/// Distinct texts, each held once, one after another.
#[derive(Debug, Default)]
struct Names {
    text: String,
    ends: Vec<u32>,
    numbers: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Names {
    fn get(&self, number: u32) -> &str {
        name_at(&self.text, &self.ends, number)
    }

    /// The number of `name`; none when there is no room for it.
    fn intern(&mut self, name: &str) -> Option<u32> {
        let Self { text, ends, numbers, hasher } = self;
        let hash = hasher.hash_one(name);
        if let Some(&number) = numbers.find(hash, |&number| name_at(text, ends, number) == name) {
            return Some(number);
        }
        let number = u32::try_from(ends.len()).ok()?;
        let end = u32::try_from(text.len() + name.len()).ok()?;
        text.push_str(name);
        ends.push(end);
        numbers.insert_unique(hash, number, |&other| hasher.hash_one(name_at(text, ends, other)));
        Some(number)
    }
}

fn name_at<'a>(text: &'a str, ends: &[u32], number: u32) -> &'a str {
    let begin = number.checked_sub(1).map_or(0, |before| ends[before as usize] as usize);
    &text[begin..ends[number as usize] as usize]
}

/// An array of lists of texts, as it was pickled.
#[derive(Debug)]
pub struct PickledArray {
    /// length of each dimension, as the pickle has it
    pub shape: Vec<u64>,
    names: Names,
    lists: Vec<List>,
    /// the list of all that is in the array
    content: u32,
}

/// One element of an array, or one row of an array with two dimensions.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// where it begins, in bytes from the start of the file
    pub offset: u64,
    entries: Result<&'a [u32], RowProblem>,
    names: &'a Names,
}

/// Why a row is no list of texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RowProblem {
    /// An entry is something else.
    #[error("entry {place} is {what}, expected a text")]
    Entry {
        /// its place in the list, from 0
        place: u32,
        /// what it is
        what: &'static str,
    },
}

impl<'a> Row<'a> {
    /// Its texts in order.
    pub fn texts(&self) -> Result<impl ExactSizeIterator<Item = &'a str> + use<'a>, RowProblem> {
        let names = self.names;
        Ok(self.entries?.iter().map(|&number| names.get(number)))
    }
}

impl PickledArray {
    /// Its rows in order.
    ///
    /// # Errors
    ///
    /// When it is not an array of lists, or a table of texts: says what it is.
    pub fn rows(&self) -> Result<Vec<Row<'_>>, String> {
        let content = &self.lists[self.content as usize];
        let names = &self.names;
        match (self.shape.as_slice(), content.entries) {
            (_, Entries::Nothing) => Ok(Vec::new()),
            ([_], Entries::Lists) => Ok(content.items.iter().map(|&list| self.row(list)).collect()),
            // Lists that happen to be of one length become a table.
            (&[_, columns], Entries::Texts) => Ok(content
                .items
                .chunks((columns as usize).max(1))
                .map(|entries| Row { offset: content.offset, entries: Ok(entries), names })
                .collect()),
            (_, Entries::Wrong(place, what)) => Err(format!("element {place} of the array is {what}, expected a list")),
            (_, Entries::Texts) => Err("the array is one of texts, expected one of lists of texts".to_owned()),
            (shape, Entries::Lists) => Err(format!("the array has {} dimensions, expected 1", shape.len())),
        }
    }

    fn row(&self, list: u32) -> Row<'_> {
        let list = &self.lists[list as usize];
        let entries = match list.entries {
            Entries::Nothing | Entries::Texts => Ok(list.items.as_slice()),
            Entries::Lists => Err(RowProblem::Entry { place: 0, what: "a list" }),
            Entries::Wrong(place, what) => Err(RowProblem::Entry { place, what }),
        };
        Row { offset: list.offset, entries, names: &self.names }
    }

    /// Entries of all rows together: more than the file has bytes, where a list is there many times.
    pub fn entries(&self) -> u64 {
        let content = &self.lists[self.content as usize];
        match content.entries {
            Entries::Lists => content.items.iter().map(|&list| self.lists[list as usize].items.len() as u64).sum(),
            _ => content.items.len() as u64,
        }
    }
}

/// Reads one pickled array.
///
/// # Errors
///
/// Names what is not as NumPy writes an array of lists, and the byte at which it stands.
pub fn read_array<R: BufRead>(source: &mut Source<R>, limits: &Limits) -> Result<PickledArray, FormatError> {
    let mut machine = Machine {
        limits,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: Vec::new(),
        tuples: Vec::new(),
        lists: Vec::new(),
        names: Names::default(),
        entries: 0,
        has_array: false,
        content: None,
    };
    loop {
        let at = source.offset();
        let opcode = source.byte()?;
        if opcode == op::STOP {
            return machine.finish().map_err(|reason| FormatError { offset: at, reason });
        }
        let value = match opcode {
            op::PROTO => {
                let protocol = source.byte()?;
                if !(2..=5).contains(&protocol) {
                    return Err(refuse(at, format!("pickle protocol {protocol}; 2 to 5 are read")));
                }
                continue;
            }
            // It says how many bytes follow until the next one, which only helps readers that ask a network.
            op::FRAME => {
                source.array::<8>()?;
                continue;
            }
            op::NONE => Value::None,
            op::NEWTRUE => Value::Bool(true),
            op::NEWFALSE => Value::Bool(false),
            op::BININT => Value::Number(i32::from_le_bytes(source.array()?)),
            op::BININT1 => Value::Number(source.byte()?.into()),
            op::BININT2 => Value::Number(u16::from_le_bytes(source.array()?).into()),
            op::LONG1 => {
                let length = source.byte()?;
                source.bytes(length.into())?;
                Value::OtherNumber
            }
            op::BINFLOAT => {
                source.array::<8>()?;
                Value::OtherNumber
            }
            op::SHORT_BINSTRING | op::SHORT_BINUNICODE | op::SHORT_BINBYTES => {
                let length = source.byte()?;
                machine.text(source, at, opcode, length.into())?
            }
            op::BINSTRING | op::BINUNICODE | op::BINBYTES => {
                let length = u32::from_le_bytes(source.array()?);
                machine.text(source, at, opcode, length.into())?
            }
            op::BINUNICODE8 => {
                let length = u64::from_le_bytes(source.array()?);
                machine.text(source, at, opcode, length)?
            }
            op::GLOBAL => {
                let module = global_line(source, at)?;
                let name = global_line(source, at)?;
                Value::Global(named(&module, &name).map_err(|reason| refuse(at, reason))?)
            }
            op::BINGET => {
                let place = source.byte()?;
                machine.recall(place.into()).map_err(|reason| refuse(at, reason))?
            }
            op::LONG_BINGET => {
                let place = u32::from_le_bytes(source.array()?);
                machine.recall(place).map_err(|reason| refuse(at, reason))?
            }
            op::BINPUT => {
                let place = source.byte()?;
                machine.memoise(place.into()).map_err(|reason| refuse(at, reason))?;
                continue;
            }
            op::LONG_BINPUT => {
                let place = u32::from_le_bytes(source.array()?);
                machine.memoise(place as usize).map_err(|reason| refuse(at, reason))?;
                continue;
            }
            _ => match machine.step(opcode, at) {
                Ok(Some(value)) => value,
                Ok(None) => continue,
                Err(Refusal::Opcode) => {
                    return Err(refuse(
                        at,
                        format!(
                            "{} (0x{opcode:02x}) has no place in the pickle of an array of lists",
                            opcode_name(opcode)
                        ),
                    ));
                }
                Err(Refusal::Reason(reason)) => return Err(refuse(at, reason)),
            },
        };
        machine.push(value).map_err(|reason| refuse(at, reason))?;
    }
}

fn refuse(offset: u64, reason: String) -> FormatError {
    FormatError { offset, reason }
}

fn named(module: &str, name: &str) -> Result<Global, String> {
    Global::named(module, name).ok_or_else(|| {
        format!("the pickle names {module}.{name}; only NumPy's array and its type are allowed, and nothing is called")
    })
}

/// A line of a `GLOBAL`.
fn global_line<R: BufRead>(source: &mut Source<R>, at: u64) -> Result<String, FormatError> {
    let mut line = Vec::new();
    loop {
        match source.byte()? {
            b'\n' => return Ok(String::from_utf8_lossy(&line).escape_debug().to_string()),
            _ if line.len() == MAX_GLOBAL_BYTES => {
                return Err(refuse(at, format!("a global name of more than {MAX_GLOBAL_BYTES} bytes")));
            }
            byte => line.push(byte),
        }
    }
}

/// Why the machine stops.
enum Refusal {
    /// it does not know the opcode
    Opcode,
    /// the opcode does something that it won't
    Reason(String),
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self::Reason(reason)
    }
}

impl From<&str> for Refusal {
    fn from(reason: &str) -> Self {
        Self::Reason(reason.to_owned())
    }
}

struct Machine<'a> {
    limits: &'a Limits,
    stack: Vec<Value>,
    /// heights of the stack at the marks
    marks: Vec<usize>,
    memo: Vec<Option<Value>>,
    tuples: Vec<Vec<Value>>,
    lists: Vec<List>,
    names: Names,
    /// entries of all lists
    entries: usize,
    /// whether `_reconstruct` was met
    has_array: bool,
    /// shape of the array and the number of its list, once it is built
    content: Option<(Vec<u64>, u32)>,
}

impl Machine<'_> {
    fn push(&mut self, value: Value) -> Result<(), String> {
        if self.stack.len() + self.marks.len() >= self.limits.stack {
            return Err(format!("more than {} values on the pickle's stack", self.limits.stack));
        }
        self.stack.push(value);
        Ok(())
    }

    /// Takes the top value off the stack, never one below the last mark.
    fn pop(&mut self) -> Result<Value, String> {
        let base = self.marks.last().copied().unwrap_or(0);
        match self.stack.len() > base {
            true => self.stack.pop().ok_or_else(|| "the pickle's stack is empty".to_owned()),
            false => Err("the pickle takes more from its stack than there is".to_owned()),
        }
    }

    /// Takes off the stack what is above the last mark.
    fn pop_to_mark(&mut self) -> Result<Vec<Value>, String> {
        let base = self.marks.pop().ok_or("the pickle goes back to a mark that there is not")?;
        Ok(self.stack.split_off(base))
    }

    fn text<R: BufRead>(
        &mut self,
        source: &mut Source<R>,
        at: u64,
        opcode: u8,
        length: u64,
    ) -> Result<Value, FormatError> {
        let length = match usize::try_from(length) {
            Ok(length) if length <= self.limits.text_bytes => length,
            _ => {
                let most = self.limits.text_bytes;
                return Err(refuse(
                    at,
                    format!("{} of {length} bytes; no more than {most} are read of one text", opcode_name(opcode)),
                ));
            }
        };
        let bytes = source.bytes(length)?;
        if matches!(opcode, op::SHORT_BINBYTES | op::BINBYTES) {
            return Ok(Value::Bytes);
        }
        let Ok(text) = std::str::from_utf8(bytes) else { return Ok(Value::NotUtf8) };
        let number = self.names.intern(text).ok_or_else(|| refuse(at, "more than 4 GiB of texts".to_owned()))?;
        Ok(Value::Text(number))
    }

    fn memoise(&mut self, place: usize) -> Result<(), String> {
        let value = *self.stack.last().ok_or("the pickle puts into its memo what there is not")?;
        if place > self.memo.len() + MAX_MEMO_GAP {
            return Err(format!("place {place} of the pickle's memo is used before {}", self.memo.len()));
        }
        if place >= self.limits.memo {
            return Err(format!("more than {} places of the pickle's memo", self.limits.memo));
        }
        while self.memo.len() <= place {
            self.memo.push(None);
        }
        self.memo[place] = Some(value);
        Ok(())
    }

    fn recall(&self, place: u32) -> Result<Value, String> {
        let value = self.memo.get(place as usize).copied().flatten();
        value.ok_or_else(|| format!("nothing is in place {place} of the pickle's memo"))
    }

    /// Opcodes without an argument: the value that they put on the stack, if any.
    fn step(&mut self, opcode: u8, at: u64) -> Result<Option<Value>, Refusal> {
        Ok(match opcode {
            op::MARK => {
                if self.stack.len() + self.marks.len() >= self.limits.stack {
                    return Err(format!("more than {} values on the pickle's stack", self.limits.stack).into());
                }
                self.marks.push(self.stack.len());
                None
            }
            op::MEMOIZE => {
                self.memoise(self.memo.len())?;
                None
            }
            op::EMPTY_TUPLE => Some(self.tuple(Vec::new())?),
            op::TUPLE1 | op::TUPLE2 | op::TUPLE3 => {
                let length = usize::from(opcode - op::TUPLE1) + 1;
                let mut values = (0..length).map(|_| self.pop()).collect::<Result<Vec<Value>, String>>()?;
                values.reverse();
                Some(self.tuple(values)?)
            }
            op::TUPLE => {
                let values = self.pop_to_mark()?;
                Some(self.tuple(values)?)
            }
            op::EMPTY_LIST => {
                if self.lists.len() >= self.limits.lists {
                    return Err(format!("more than {} lists", self.limits.lists).into());
                }
                self.lists.push(List { offset: at, entries: Entries::Nothing, items: Vec::new() });
                Some(Value::List(self.lists.len() as u32 - 1))
            }
            op::APPEND => {
                let value = self.pop()?;
                self.append(&[value])?;
                None
            }
            op::APPENDS => {
                let values = self.pop_to_mark()?;
                self.append(&values)?;
                None
            }
            op::STACK_GLOBAL => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Text(name), Value::Text(module)) = (name, module) else {
                    return Err("a global name that is no text".into());
                };
                let escaped = |number| {
                    let text: String = self.names.get(number).chars().take(MAX_GLOBAL_BYTES).collect();
                    text.escape_debug().to_string()
                };
                Some(Value::Global(named(&escaped(module), &escaped(name))?))
            }
            op::REDUCE => {
                let (arguments, callable) = (self.pop()?, self.pop()?);
                Some(self.reduce(callable, arguments)?)
            }
            op::BUILD => {
                let state = self.pop()?;
                self.build(state)?;
                None
            }
            _ => return Err(Refusal::Opcode),
        })
    }

    fn tuple(&mut self, values: Vec<Value>) -> Result<Value, String> {
        if self.tuples.len() >= MAX_TUPLES || values.len() > MAX_TUPLES {
            return Err("more tuples than an array of lists has; playlists must be lists".to_owned());
        }
        self.tuples.push(values);
        Ok(Value::Tuple(self.tuples.len() as u32 - 1))
    }

    fn append(&mut self, values: &[Value]) -> Result<(), String> {
        let base = self.marks.last().copied().unwrap_or(0);
        let Some(&Value::List(number)) = self.stack.get(base..).and_then(<[Value]>::last) else {
            return Err("the pickle appends to something that is no list".to_owned());
        };
        self.entries += values.len();
        if self.entries > self.limits.entries {
            return Err(format!("more than {} entries in all lists together", self.limits.entries));
        }
        let list = &mut self.lists[number as usize];
        for &value in values {
            let (item, entries) = match value {
                Value::Text(text) => (text, Entries::Texts),
                Value::List(list) => (list, Entries::Lists),
                other => (0, Entries::Wrong(list.items.len() as u32, other.type_name())),
            };
            match list.entries {
                Entries::Wrong(..) => break,
                Entries::Nothing => list.entries = entries,
                before if before == entries => {}
                // A list among texts, or a text among lists, or neither.
                _ => list.entries = Entries::Wrong(list.items.len() as u32, value.type_name()),
            }
            match list.entries {
                Entries::Wrong(..) => list.items = Vec::new(),
                _ => list.items.push(item),
            }
        }
        Ok(())
    }

    fn arguments(&self, value: Value) -> Result<&[Value], String> {
        match value {
            Value::Tuple(number) => Ok(&self.tuples[number as usize]),
            other => Err(format!("{} where a tuple of arguments is expected", other.type_name())),
        }
    }

    fn reduce(&mut self, callable: Value, arguments: Value) -> Result<Value, String> {
        let arguments = self.arguments(arguments)?;
        match (callable, arguments) {
            (Value::Global(Global::Reconstruct), [Value::Global(Global::Ndarray), Value::Tuple(_), _]) => {
                if std::mem::replace(&mut self.has_array, true) {
                    return Err("a second array; one of lists of texts is expected".to_owned());
                }
                Ok(Value::Array)
            }
            (Value::Global(Global::Dtype), [Value::Text(name), ..]) => match self.names.get(*name) {
                // With the size of a pointer where it was written.
                "O" | "O8" | "O4" | "|O" => Ok(Value::Dtype),
                other => Err(format!("an array of dtype {other:?}, expected Python objects")),
            },
            (Value::Global(Global::Encode), [Value::Text(_), Value::Text(_)]) => Ok(Value::Bytes),
            (Value::Global(global), _) => Err(format!("{global:?} with arguments that NumPy does not give it")),
            (other, _) => Err(format!("the pickle calls {}", other.type_name())),
        }
    }

    /// Gives the array or its type, on top of the stack, its state.
    fn build(&mut self, state: Value) -> Result<(), String> {
        let arguments = self.arguments(state)?;
        let base = self.marks.last().copied().unwrap_or(0);
        match self.stack.get(base..).and_then(<[Value]>::last) {
            Some(Value::Dtype) => Ok(()),
            Some(Value::Array) => {
                let &[_, Value::Tuple(shape), Value::Dtype, Value::Bool(is_fortran), Value::List(content)] = arguments
                else {
                    return Err("an array whose state is not (version, shape, dtype, order, list)".to_owned());
                };
                let shape: Option<Vec<u64>> = self.tuples[shape as usize]
                    .iter()
                    .map(|length| match length {
                        Value::Number(length) => u64::try_from(*length).ok(),
                        _ => None,
                    })
                    .collect();
                let shape = shape.ok_or("an array whose shape is not numbers from 0 on")?;
                if is_fortran && shape.len() > 1 {
                    return Err("a table in column-major order; save it in row-major order".to_owned());
                }
                if self.content.replace((shape, content)).is_some() {
                    return Err("an array that is built twice".to_owned());
                }
                Ok(())
            }
            _ => Err("the pickle builds something that is no array".to_owned()),
        }
    }

    fn finish(self) -> Result<PickledArray, String> {
        let (Some((shape, content)), [Value::Array]) = (self.content, self.stack.as_slice()) else {
            return Err("the pickle is not that of one array".to_owned());
        };
        let stated = shape.iter().try_fold(1u64, |product, &length| product.checked_mul(length));
        let list = &self.lists[content as usize];
        // Of a list that is wrong, the items are gone; `rows` says what is wrong.
        let is_wrong = matches!(list.entries, Entries::Wrong(..));
        if !is_wrong && stated != Some(list.items.len() as u64) {
            return Err(format!("an array of shape {shape:?} with {} elements", list.items.len()));
        }
        Ok(PickledArray { shape, names: self.names, lists: self.lists, content })
    }
}
