//! The wire format of D-Bus, as far as talking to systemd needs it (D-Bus specification, "Marshaling" and "Message
//! Protocol").
//!
//! Our own, because the libraries do not fit a container's start: zbus brings an executor with threads, before which
//! nothing may be forked, and the others cannot authenticate from within a user namespace.

use crate::error::{Result, anyhow, bail};

/// A value that a property can have.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Bool(bool),
    U8(u8),
    I16(i16),
    U16(u16),
    I32(i32),
    U32(u32),
    I64(i64),
    U64(u64),
    F64(f64),
    Text(String),
    /// The elements' signature, which an empty array has, too.
    Array(String, Vec<Value>),
    Struct(Vec<Value>),
}

impl Value {
    /// Bytes, as bit masks are passed.
    pub(super) fn bytes(bytes: &[u8]) -> Self {
        Self::Array("y".to_owned(), bytes.iter().map(|byte| Self::U8(*byte)).collect())
    }

    /// Its type.
    pub(super) fn signature(&self) -> String {
        match self {
            Self::Bool(_) => "b".to_owned(),
            Self::U8(_) => "y".to_owned(),
            Self::I16(_) => "n".to_owned(),
            Self::U16(_) => "q".to_owned(),
            Self::I32(_) => "i".to_owned(),
            Self::U32(_) => "u".to_owned(),
            Self::I64(_) => "x".to_owned(),
            Self::U64(_) => "t".to_owned(),
            Self::F64(_) => "d".to_owned(),
            Self::Text(_) => "s".to_owned(),
            Self::Array(element, _) => format!("a{element}"),
            Self::Struct(fields) => format!("({})", fields.iter().map(Self::signature).collect::<String>()),
        }
    }
}

/// Where a value of this type starts: at a multiple of this.
fn alignment(signature: &str) -> usize {
    match signature.as_bytes().first() {
        Some(b'n' | b'q') => 2,
        Some(b'b' | b'i' | b'u' | b's' | b'o' | b'a') => 4,
        Some(b'x' | b't' | b'd' | b'(' | b'{') => 8,
        _ => 1, // y, g, v
    }
}

/// A body or header being written, in this machine's byte order.
#[derive(Default)]
pub(super) struct Writer {
    pub(super) bytes: Vec<u8>,
}

impl Writer {
    fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    pub(super) fn u32(&mut self, number: u32) {
        self.align(4);
        self.bytes.extend(number.to_ne_bytes());
    }

    pub(super) fn text(&mut self, text: &str) {
        self.u32(text.len() as u32); // shorter than a message can be, which is 128 MiB
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
    }

    pub(super) fn bool(&mut self, value: bool) {
        self.u32(value.into());
    }

    pub(super) fn signature(&mut self, signature: &str) {
        self.bytes.push(signature.len() as u8); // ours are short
        self.bytes.extend(signature.as_bytes());
        self.bytes.push(0);
    }

    /// An array whose elements `write` writes; they start at a multiple of `alignment`, which its length does not count.
    pub(super) fn array(&mut self, alignment: usize, write: impl FnOnce(&mut Self)) {
        self.u32(0);
        let length_at = self.bytes.len() - 4;
        self.align(alignment);
        let start = self.bytes.len();
        write(self);
        let length = (self.bytes.len() - start) as u32;
        self.bytes[length_at..length_at + 4].copy_from_slice(&length.to_ne_bytes());
    }

    pub(super) fn start_struct(&mut self) {
        self.align(8);
    }

    pub(super) fn variant(&mut self, value: &Value) {
        self.signature(&value.signature());
        self.value(value);
    }

    /// `a(sv)`: properties of a unit.
    pub(super) fn properties(&mut self, properties: &[(String, Value)]) {
        self.array(8, |writer| {
            for (name, value) in properties {
                writer.start_struct();
                writer.text(name);
                writer.variant(value);
            }
        });
    }

    fn value(&mut self, value: &Value) {
        self.align(alignment(&value.signature()));
        match value {
            Value::Bool(value) => self.bool(*value),
            Value::U8(value) => self.bytes.push(*value),
            Value::I16(value) => self.bytes.extend(value.to_ne_bytes()),
            Value::U16(value) => self.bytes.extend(value.to_ne_bytes()),
            Value::I32(value) => self.bytes.extend(value.to_ne_bytes()),
            Value::U32(value) => self.u32(*value),
            Value::I64(value) => self.bytes.extend(value.to_ne_bytes()),
            Value::U64(value) => self.bytes.extend(value.to_ne_bytes()),
            Value::F64(value) => self.bytes.extend(value.to_ne_bytes()),
            Value::Text(value) => self.text(value),
            Value::Array(element, values) => {
                self.array(alignment(element), |writer| values.iter().for_each(|value| writer.value(value)));
            }
            Value::Struct(fields) => fields.iter().for_each(|field| self.value(field)),
        }
    }
}

/// A method and where it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Method<'a> {
    /// The bus name; not needed on a direct connection.
    pub(super) destination: Option<&'a str>,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
}

/// The kinds of message.
pub(super) const CALL: u8 = 1;
pub(super) const RETURN: u8 = 2;
pub(super) const ERROR: u8 = 3;
pub(super) const SIGNAL: u8 = 4;

/// The fixed part of a header: byte order, kind, flags, version, length of the body, serial, length of the fields.
pub(super) const FIXED: usize = 16;
const NATIVE: u8 = if cfg!(target_endian = "little") { b'l' } else { b'B' };
/// The longest message that the specification allows.
const LONGEST: usize = 128 << 20;

/// A method call as it goes over the wire.
pub(super) fn call(serial: u32, method: &Method<'_>, signature: &str, body: &[u8]) -> Vec<u8> {
    let mut writer = Writer { bytes: vec![NATIVE, CALL, 0, 1] };
    writer.u32(body.len() as u32); // far below the longest message
    writer.u32(serial);
    let fields = [
        (1, "o", Some(method.path)),
        (2, "s", Some(method.interface)),
        (3, "s", Some(method.member)),
        (6, "s", method.destination),
        (8, "g", Some(signature).filter(|signature| !signature.is_empty())),
    ];
    writer.array(8, |writer| {
        for (field, kind, text) in fields {
            let Some(text) = text else { continue };
            writer.start_struct();
            writer.bytes.push(field);
            writer.signature(kind);
            if kind == "g" { writer.signature(text) } else { writer.text(text) }
        }
    });
    writer.align(8);
    writer.bytes.extend(body);
    writer.bytes
}

/// What systemd answers and signals, for tests that stand in for it.
#[cfg(test)]
pub(super) fn answer(kind: u8, fields: &[(u8, Value)], signature: &str, body: &[u8]) -> Vec<u8> {
    let mut writer = Writer { bytes: vec![NATIVE, kind, 0, 1] };
    writer.u32(body.len() as u32);
    writer.u32(1);
    writer.array(8, |writer| {
        for (field, value) in fields {
            writer.start_struct();
            writer.bytes.push(*field);
            writer.variant(value);
        }
        writer.start_struct();
        writer.bytes.push(8);
        writer.signature("g");
        writer.signature(signature);
    });
    writer.align(8);
    writer.bytes.extend(body);
    writer.bytes
}

/// A message that was received.
#[derive(Debug, Default)]
pub(super) struct Message {
    pub(super) kind: u8,
    /// The serial of the call that this answers.
    pub(super) answers: u32,
    /// A signal's name.
    pub(super) member: String,
    /// An error's name.
    pub(super) error: String,
    foreign: bool,
    body: Vec<u8>,
}

/// How long a message is, by its fixed part: all of it, and the part before the body.
pub(super) fn lengths(fixed: &[u8; FIXED]) -> Result<(usize, usize)> {
    let mut reader = Reader { bytes: fixed, at: 4, foreign: fixed[0] != NATIVE };
    let body = reader.u32()? as usize;
    reader.at = 12;
    let header = FIXED + (reader.u32()? as usize).next_multiple_of(8);
    if header + body > LONGEST {
        bail!("a message of {} bytes", header + body);
    }
    Ok((header + body, header))
}

impl Message {
    /// Reads a whole message.
    pub(super) fn parse(bytes: &[u8], header: usize) -> Result<Self> {
        let foreign = bytes[0] != NATIVE;
        let mut message = Self { kind: bytes[1], foreign, body: bytes[header..].to_vec(), ..Self::default() };
        let mut reader = Reader { bytes, at: 12, foreign };
        let end = FIXED + reader.u32()? as usize;
        while reader.at < end {
            reader.at = reader.at.next_multiple_of(8);
            let field = reader.u8()?;
            match (field, reader.signature()?) {
                (3, "s") => message.member = reader.text()?.to_owned(),
                (4, "s") => message.error = reader.text()?.to_owned(),
                (5, "u") => message.answers = reader.u32()?,
                (_, "s" | "o") => drop(reader.text()?),
                (_, "g") => drop(reader.signature()?),
                (_, "u") => drop(reader.u32()?),
                (field, signature) => bail!("header field {field} of type {signature:?}"),
            }
        }
        Ok(message)
    }

    /// Reads the body from its start.
    pub(super) fn body(&self) -> Reader<'_> {
        Reader { bytes: &self.body, at: 0, foreign: self.foreign }
    }
}

/// A message being read.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// In the other byte order than this machine's.
    foreign: bool,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len());
        let taken = &self.bytes[self.at..end.ok_or_else(|| anyhow!("a message ends too early"))?];
        self.at += length;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        self.at = self.at.next_multiple_of(4);
        let mut bytes = [0; 4];
        bytes.copy_from_slice(self.take(4)?);
        let number = u32::from_ne_bytes(bytes);
        Ok(if self.foreign { number.swap_bytes() } else { number })
    }

    /// A string or an object path.
    pub(super) fn text(&mut self) -> Result<&'a str> {
        let length = self.u32()? as usize;
        let text = std::str::from_utf8(self.take(length)?)?;
        self.take(1)?;
        Ok(text)
    }

    fn signature(&mut self) -> Result<&'a str> {
        let length = self.u8()?.into();
        let text = std::str::from_utf8(self.take(length)?)?;
        self.take(1)?;
        Ok(text)
    }

    /// A variant that holds a truth value.
    pub(super) fn bool_variant(&mut self) -> Result<bool> {
        self.expect("b")?;
        Ok(self.u32()? != 0)
    }

    /// A variant that holds bytes.
    pub(super) fn bytes_variant(&mut self) -> Result<Vec<u8>> {
        self.expect("ay")?;
        let length = self.u32()? as usize;
        Ok(self.take(length)?.to_vec())
    }

    /// A variant that holds a list of strings.
    pub(super) fn texts_variant(&mut self) -> Result<Vec<String>> {
        self.expect("as")?;
        let end = self.u32()? as usize + self.at;
        let mut texts = Vec::new();
        while self.at < end {
            texts.push(self.text()?.to_owned());
        }
        Ok(texts)
    }

    fn expect(&mut self, wanted: &str) -> Result<()> {
        match self.signature()? {
            found if found == wanted => Ok(()),
            other => bail!("a value of type {other:?} instead of {wanted:?}"),
        }
    }

    /// A variant that holds a string.
    pub(super) fn text_variant(&mut self) -> Result<&'a str> {
        match self.signature()? {
            "s" | "o" => self.text(),
            other => bail!("a value of type {other:?} instead of a string"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METHOD: Method<'_> =
        Method { destination: Some("org.x"), path: "/org/x", interface: "org.x.Manager", member: "Start" };

    #[test]
    fn a_call_reads_as_it_was_written() {
        let mut body = Writer::default();
        body.text("unit");
        body.u32(7);
        let bytes = call(3, &METHOD, "su", &body.bytes);
        let mut fixed = [0; FIXED];
        fixed.copy_from_slice(&bytes[..FIXED]);
        let (length, header) = lengths(&fixed).unwrap();
        assert_eq!((length, header % 8), (bytes.len(), 0));
        let message = Message::parse(&bytes, header).unwrap();
        assert_eq!((message.kind, message.member.as_str()), (CALL, "Start"));
        let mut reader = message.body();
        assert_eq!((reader.text().unwrap(), reader.u32().unwrap()), ("unit", 7));
        assert!(reader.u32().is_err(), "it has ended");
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn values_are_aligned_as_the_specification_says() {
        let mut writer = Writer::default();
        writer.properties(&[
            ("A".to_owned(), Value::U64(1)),
            ("B".to_owned(), Value::Array("u".to_owned(), vec![Value::U32(5)])),
        ]);
        #[rustfmt::skip]
        let expected = [
            44, 0, 0, 0, 0, 0, 0, 0, // length, padding to the first struct
            1, 0, 0, 0, b'A', 0, 1, b't', 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0,
            1, 0, 0, 0, b'B', 0, 2, b'a', b'u', 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0,
        ];
        assert_eq!(writer.bytes, expected);
        let list = Value::Array("(ss)".to_owned(), vec![]);
        assert_eq!(list.signature(), "a(ss)");
        let mut empty = Writer::default();
        empty.variant(&list);
        assert_eq!(empty.bytes, [5, b'a', b'(', b's', b's', b')', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn properties_are_read_by_their_type() {
        let mut writer = Writer::default();
        let list = vec![Value::Text("a".to_owned()), Value::Text("bcde".to_owned())];
        for value in [Value::Bool(true), Value::bytes(&[1, 2]), Value::Array("s".to_owned(), list)] {
            writer.variant(&value);
        }
        let mut reader = Reader { bytes: &writer.bytes, at: 0, foreign: false };
        assert!(reader.bool_variant().unwrap());
        assert_eq!(reader.bytes_variant().unwrap(), [1, 2]);
        assert_eq!(reader.texts_variant().unwrap(), ["a", "bcde"]);
        writer.bytes.truncate(writer.bytes.len() - 3);
        reader = Reader { bytes: &writer.bytes, at: 0, foreign: false };
        assert!(reader.bytes_variant().is_err(), "of another type");
        reader = Reader { bytes: &writer.bytes, at: 0, foreign: false };
        assert!(reader.bool_variant().and_then(|_| reader.bytes_variant()).is_ok());
        assert!(reader.texts_variant().is_err(), "cut short");
    }

    #[test]
    fn a_message_that_lies_about_its_length_is_an_error() {
        let bytes = call(1, &METHOD, "", &[]);
        let mut fixed = [0; FIXED];
        fixed.copy_from_slice(&bytes[..FIXED]);
        fixed[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert!(lengths(&fixed).is_err());
        let (_, header) = lengths(bytes[..FIXED].try_into().unwrap()).unwrap();
        let mut short = bytes.clone();
        short[FIXED + 4..FIXED + 8].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert!(Message::parse(&short, header).is_err());
    }
}
