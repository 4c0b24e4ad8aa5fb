//! The part of Python's pickle format that a file of tensors needs, read without executing anything.
//!
//! A pickle is a program for a stack machine. This reader knows the operations that make numbers, texts, lists, tuples and dictionaries, and
//! of the calls only the few that PyTorch writes for tensors; they become data here. Every other operation or class is refused by name.
//! Values live in one arena, one for each operation at most, so that memory stays within a small multiple of the program's length, whatever
//! it refers to. The way not taken: the reader of candle-core, which believes the lengths in the file and allocates up to 4 GiB for a text.

use std::collections::HashMap;

/// Position of a value in the arena.
pub(crate) type Ref = usize;

/// A value of the machine.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Text(String),
    Tuple(Vec<Ref>),
    List(Vec<Ref>),
    Dict(Vec<(Ref, Ref)>),
    /// A class or function by module and name, one of [`KNOWN`].
    Global(&'static str),
    /// A persistent id: what PyTorch writes for a storage.
    Storage(Ref),
    /// `torch._utils._rebuild_tensor_v2` of this tuple of arguments; not a copy of it, or a short program could ask for any amount of memory.
    Tensor(Ref),
    /// Numbers and flags that no tensor needs.
    Other,
}

/// Everything a pickle may name.
const KNOWN: [&str; 13] = [
    "collections.OrderedDict",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
    "torch.FloatStorage",
    "torch.HalfStorage",
    "torch.BFloat16Storage",
    "torch.DoubleStorage",
    "torch.LongStorage",
    "torch.IntStorage",
    "torch.ShortStorage",
    "torch.CharStorage",
    "torch.ByteStorage",
    "torch.BoolStorage",
];

/// What a program left behind.
#[derive(Debug)]
pub(crate) struct Unpickled {
    pub(crate) values: Vec<Value>,
    pub(crate) root: Ref,
}

/// Byte offset and reason of a refusal.
pub(crate) type Refusal = (usize, String);

/// The entry of [`KNOWN`].
fn known(module: &str, name: &str) -> Result<&'static str, String> {
    let found = KNOWN.iter().find(|known| {
        known.strip_prefix(module).and_then(|rest| rest.strip_prefix('.')).is_some_and(|rest| rest == name)
    });
    let shown = |text: &str| text.chars().take(60).collect::<String>();
    found.copied().ok_or_else(|| format!("it names {}.{}", shown(module), shown(name)))
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value>,
    stack: Vec<Ref>,
    marks: Vec<usize>,
    memo: HashMap<u32, Ref>,
}

/// Runs the program in `bytes`.
pub(crate) fn read(bytes: &[u8]) -> Result<Unpickled, Refusal> {
    let mut machine = Machine {
        bytes,
        at: 0,
        values: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    loop {
        let start = machine.at;
        match machine.step() {
            Ok(None) => {}
            Ok(Some(root)) => return Ok(Unpickled { values: machine.values, root }),
            Err(what) => return Err((start, what)),
        }
    }
}

impl<'a> Machine<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], String> {
        let taken =
            self.bytes.get(self.at..).and_then(|rest| rest.get(..n)).ok_or("the program ends early")?;
        self.at += n;
        Ok(taken)
    }

    fn number(&mut self, n: usize) -> Result<u64, String> {
        Ok(self.take(n)?.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
    }

    fn length(&mut self, n: usize) -> Result<usize, String> {
        usize::try_from(self.number(n)?).map_err(|_| "a length beyond the file".to_owned())
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|&b| b == b'\n').ok_or("the program ends early")?;
        self.at += end + 1;
        str::from_utf8(&rest[..end]).map_err(|_| "a name that is not UTF-8".to_owned())
    }

    fn text(&mut self, length: usize) -> Result<(), String> {
        let text = str::from_utf8(self.take(length)?).map_err(|_| "a text that is not UTF-8")?.to_owned();
        self.push(Value::Text(text));
        Ok(())
    }

    fn push(&mut self, value: Value) {
        self.stack.push(self.values.len());
        self.values.push(value);
    }

    /// The topmost value, which must lie above the last mark.
    fn pop(&mut self) -> Result<Ref, String> {
        if self.stack.len() <= self.marks.last().copied().unwrap_or(0) {
            return Err("the stack is empty".to_owned());
        }
        self.stack.pop().ok_or_else(|| "the stack is empty".to_owned())
    }

    fn top(&self) -> Result<Ref, String> {
        self.stack.last().copied().ok_or_else(|| "the stack is empty".to_owned())
    }

    fn since_mark(&mut self) -> Result<Vec<Ref>, String> {
        let mark = self.marks.pop().ok_or("no mark on the stack")?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn tuple(&mut self, n: usize) -> Result<(), String> {
        let mut items = Vec::with_capacity(n);
        for _ in 0..n {
            items.push(self.pop()?);
        }
        items.reverse();
        self.push(Value::Tuple(items));
        Ok(())
    }

    fn extend_dict(&mut self, items: &[Ref]) -> Result<(), String> {
        let top = self.top()?;
        let Value::Dict(entries) = &mut self.values[top] else {
            return Err("items for what is no dictionary".to_owned());
        };
        if !items.len().is_multiple_of(2) {
            return Err("a key without a value".to_owned());
        }
        entries.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
        Ok(())
    }

    fn extend_list(&mut self, items: &[Ref]) -> Result<(), String> {
        let top = self.top()?;
        let Value::List(entries) = &mut self.values[top] else {
            return Err("items for what is no list".to_owned());
        };
        entries.extend(items);
        Ok(())
    }

    /// A call, which must be one of the three that describe tensors.
    fn reduce(&mut self) -> Result<(), String> {
        let (arguments, callee) = (self.pop()?, self.pop()?);
        let Value::Tuple(items) = &self.values[arguments] else {
            return Err("a call without a tuple of arguments".to_owned());
        };
        let Value::Global(callee) = self.values[callee] else {
            return Err("a call of what has no name".to_owned());
        };
        match (callee, &items[..]) {
            ("collections.OrderedDict", []) => self.push(Value::Dict(Vec::new())),
            ("torch._utils._rebuild_tensor_v2", [_, ..]) => self.push(Value::Tensor(arguments)),
            ("torch._utils._rebuild_parameter", &[tensor, ..]) => self.stack.push(tensor),
            (_, items) => return Err(format!("a call of {callee} with {} arguments", items.len())),
        }
        Ok(())
    }

    /// One operation; the result when it was the last.
    fn step(&mut self) -> Result<Option<Ref>, String> {
        let code = self.take(1)?[0];
        match code {
            0x80 => match self.number(1)? {
                2..=5 => {}
                version => return Err(format!("pickle protocol {version}, expected 2 to 5")),
            },
            0x95 => drop(self.take(8)?),
            b'}' => self.push(Value::Dict(Vec::new())),
            b')' => self.push(Value::Tuple(Vec::new())),
            b']' => self.push(Value::List(Vec::new())),
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'G' => {
                self.take(8)?;
                self.push(Value::Other);
            }
            b'K' => {
                let n = self.number(1)?;
                self.push(Value::Int(n.cast_signed()));
            }
            b'M' => {
                let n = self.number(2)?;
                self.push(Value::Int(n.cast_signed()));
            }
            b'J' => {
                let n = self.number(4)? as u32;
                self.push(Value::Int(i64::from(n.cast_signed())));
            }
            0x8a => {
                let n = self.length(1)?;
                let bytes = self.take(n)?;
                let fill = if bytes.last().is_some_and(|b| b & 0x80 != 0) { 0xff } else { 0 };
                let mut wide = [fill; 8];
                wide.get_mut(..n).ok_or("a number of more than 64 bits")?.copy_from_slice(bytes);
                self.push(Value::Int(i64::from_le_bytes(wide)));
            }
            b'X' => {
                let n = self.length(4)?;
                self.text(n)?;
            }
            0x8c => {
                let n = self.length(1)?;
                self.text(n)?;
            }
            b'(' => self.marks.push(self.stack.len()),
            b't' => {
                let items = self.since_mark()?;
                self.push(Value::Tuple(items));
            }
            0x85..=0x87 => self.tuple(usize::from(code) - 0x84)?,
            b'q' => {
                let key = self.number(1)? as u32;
                self.memo.insert(key, self.top()?);
            }
            b'r' => {
                let key = self.number(4)? as u32;
                self.memo.insert(key, self.top()?);
            }
            0x94 => {
                let key = u32::try_from(self.memo.len()).map_err(|_| "a memo without end")?;
                self.memo.insert(key, self.top()?);
            }
            b'h' | b'j' => {
                let key = self.number(if code == b'h' { 1 } else { 4 })? as u32;
                let value = *self.memo.get(&key).ok_or_else(|| format!("memo {key} is empty"))?;
                self.stack.push(value);
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Value::Global(known(module, name)?));
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Text(module), Value::Text(name)) = (&self.values[module], &self.values[name])
                else {
                    return Err("a name that is no text".to_owned());
                };
                let known = known(module, name)?;
                self.push(Value::Global(known));
            }
            b'Q' => {
                let id = self.pop()?;
                self.push(Value::Storage(id));
            }
            b'R' => self.reduce()?,
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.extend_dict(&[key, value])?;
            }
            b'u' => {
                let items = self.since_mark()?;
                self.extend_dict(&items)?;
            }
            b'a' => {
                let item = self.pop()?;
                self.extend_list(&[item])?;
            }
            b'e' => {
                let items = self.since_mark()?;
                self.extend_list(&items)?;
            }
            // The attributes of a dictionary of tensors (`_metadata`): nothing that a tensor needs.
            b'b' => {
                let _attributes = self.pop()?;
                let target = self.top()?;
                if !matches!(self.values[target], Value::Dict(_)) {
                    return Err("attributes for what is no dictionary".to_owned());
                }
            }
            b'0' => drop(self.pop()?),
            b'.' => return Ok(Some(self.pop()?)),
            other => return Err(format!("operation 0x{other:02x}")),
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `{"w": rebuild_tensor_v2(storage, 0, (2,), (1,))}` as PyTorch 2 writes it.
    pub(crate) const SAMPLE: &[u8] = b"\x80\x02}q\x00X\x01\x00\x00\x00wq\x01ctorch._utils\n_rebuild_tensor_v2\nq\x02((X\x07\x00\x00\x00storageq\x03ctorch\nFloatStorage\nq\x04X\x01\x00\x00\x000q\x05X\x03\x00\x00\x00cpuq\x06K\x02tq\x07QK\x00K\x02\x85q\x08K\x01\x85q\x09\x89ccollections\nOrderedDict\nq\n)Rq\x0btq\x0cRq\rs.";

    #[test]
    fn a_dictionary_of_tensors_becomes_data() {
        let read = read(SAMPLE).unwrap();
        let Value::Dict(entries) = &read.values[read.root] else { panic!("the root is a dictionary") };
        let &[(key, value)] = &entries[..] else { panic!("one entry") };
        assert_eq!(read.values[key], Value::Text("w".to_owned()));
        let Value::Tensor(arguments) = read.values[value] else { panic!("the value is a tensor") };
        let Value::Tuple(arguments) = &read.values[arguments] else { panic!("its arguments are a tuple") };
        let Value::Storage(id) = read.values[arguments[0]] else { panic!("the first argument is a storage") };
        assert!(matches!(&read.values[id], Value::Tuple(items) if items.len() == 5));
    }

    #[test]
    fn a_pickle_that_would_run_code_is_refused_by_name() {
        for (bytes, said) in [
            (&b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00lsq\x00\x85R."[..], "os.system"),
            (b"\x80\x02cbuiltins\neval\n.", "builtins.eval"),
            (b"\x80\x04\x8c\x05posix\x8c\x06system\x93.", "posix.system"),
            // `torch._utils._rebuild_tensor_v2` cut elsewhere must not slip through.
            (b"\x80\x02ctorch._utils._rebuild_tensor_v2\n\n.", "torch._utils._rebuild_tensor_v2"),
            (b"\x80\x02(cos\nsystem\no.", "os.system"),
            (b"\x80\x02(X\x01\x00\x00\x00ai__main__\nX\n.", "operation 0x69"),
            (b"\x80\x02)\x81.", "operation 0x81"),
            (b"\x80\x02ctorch\nFloatStorage\n)R.", "call of torch.FloatStorage"),
            (b"\x80\x02X\xff\xff\xff\xffabc", "ends early"),
        ] {
            let (_, what) = read(bytes).unwrap_err();
            assert!(what.contains(said), "{what} does not say {said}");
        }
    }

    #[test]
    fn cut_and_changed_programs_never_panic() {
        for cut in 0..SAMPLE.len() {
            assert!(read(&SAMPLE[..cut]).is_err());
        }
        for at in 0..SAMPLE.len() {
            for change in 0..=255u8 {
                let mut bytes = SAMPLE.to_vec();
                bytes[at] = change;
                let _ = read(&bytes);
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn random_programs_never_panic(bytes in proptest::collection::vec(proptest::sample::select(
            b"\x80\x02}q\x00(tuse.R)Q0]KMJ\x8a\x85\x86\x87\x88b\x93\x94hN".to_vec()), 0..200)) {
            let _ = read(&bytes);
        }
    }
}
