//! `org.systemd.property.NAME` annotations: properties of the unit, in the text form of GVariant (as runc and crun read
//! them): `uint64 5`, `'text'`, `['a', 'b']`, `true`.

use std::collections::HashMap;

use super::wire::Value;
use crate::error::{Context as _, Result, bail, ensure};

const PREFIX: &str = "org.systemd.property.";
/// D-Bus nests arrays, and structures, no deeper. The bound also keeps the parser's recursion off
/// the end of the stack.
const DEEPEST: usize = 32;
/// D-Bus has one byte for the length of a signature.
const LONGEST_SIGNATURE: usize = 255;
/// How much of a value a message shows.
const SHOWN: usize = 100;

/// The properties that annotations ask for, in the order of their names.
pub(super) fn properties(annotations: Option<&HashMap<String, String>>) -> Result<Vec<(String, Value)>> {
    let mut properties = Vec::new();
    for (key, text) in annotations.into_iter().flatten() {
        let Some(name) = key.strip_prefix(PREFIX) else { continue };
        let describe = || format!("annotations[{key:?}]");
        properties.push(property(name, text).with_context(describe)?);
    }
    properties.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(properties)
}

fn property(name: &str, text: &str) -> Result<(String, Value)> {
    ensure!(name.len() > 2 && name.bytes().all(|byte| byte.is_ascii_alphabetic()), "the property's name is incorrect");
    let value = parse(text).with_context(|| format!("value parse error: {}", shown(text)))?;
    let length = value.signature().len();
    ensure!(
        length <= LONGEST_SIGNATURE,
        "value {}: its type takes {length} characters, D-Bus allows {LONGEST_SIGNATURE}",
        shown(text)
    );
    // Unit files have seconds where the bus has microseconds.
    match name.strip_suffix("Sec") {
        Some(base) if base.ends_with(|last: char| last.is_ascii_lowercase()) => {
            let seconds = match value {
                Value::I32(seconds) if seconds >= 0 => f64::from(seconds),
                Value::U32(seconds) => f64::from(seconds),
                Value::I64(seconds) if seconds >= 0 => seconds as f64,
                Value::U64(seconds) => seconds as f64,
                Value::F64(seconds) if seconds >= 0.0 => seconds,
                _ => bail!("{text:?} is no number of seconds"),
            };
            Ok((format!("{base}USec"), Value::U64((seconds * 1e6) as u64)))
        }
        _ => Ok((name.to_owned(), value)),
    }
}

/// Quotes a value for a message, which stays one line of a readable length.
fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// Reads a value.
fn parse(text: &str) -> Result<Value> {
    let mut parser = Parser { rest: text.trim(), depth: 0 };
    let value = parser.value(None)?;
    ensure!(parser.rest.is_empty(), "{} is left over", shown(parser.rest));
    Ok(value)
}

struct Parser<'a> {
    rest: &'a str,
    /// How many values the current one is inside of. A type before a value counts, too.
    depth: usize,
}

/// The names of basic types, and their signatures.
const TYPES: [(&str, &str); 10] = [
    ("boolean", "b"),
    ("byte", "y"),
    ("int16", "n"),
    ("uint16", "q"),
    ("int32", "i"),
    ("uint32", "u"),
    ("int64", "x"),
    ("uint64", "t"),
    ("double", "d"),
    ("string", "s"),
];

impl Parser<'_> {
    fn value(&mut self, wanted: Option<&str>) -> Result<Value> {
        ensure!(self.depth <= DEEPEST, "nested deeper than {DEEPEST} levels");
        self.depth += 1;
        let value = match self.rest.chars().next() {
            Some('[') => self.array(wanted)?,
            Some('(') => self.tuple()?,
            Some(quote @ ('\'' | '"')) => self.quoted(quote)?,
            Some('@') => {
                let (signature, rest) = self.rest[1..].split_once(' ').context("a type without a value")?;
                self.rest = rest.trim_start();
                self.value(Some(signature))?
            }
            Some(_) => self.word(wanted)?,
            None => bail!("it is empty"),
        };
        self.depth -= 1; // an error ends the parse, its depth no longer matters
        self.rest = self.rest.trim_start();
        if let Some(wanted) = wanted {
            ensure!(value.signature() == wanted, "a value of type {:?} instead of {wanted:?}", value.signature());
        }
        Ok(value)
    }

    fn word(&mut self, wanted: Option<&str>) -> Result<Value> {
        let end = self.rest.find([' ', ',', ']', ')']).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        if let Some((_, signature)) = TYPES.iter().find(|(name, _)| *name == word) {
            return self.value(Some(signature));
        }
        number(word, wanted)
    }

    fn quoted(&mut self, quote: char) -> Result<Value> {
        let mut text = String::new();
        let mut chars = self.rest[1..].char_indices();
        while let Some((at, char)) = chars.next() {
            match char {
                '\\' => match chars.next() {
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 't')) => text.push('\t'),
                    Some((_, other)) => text.push(other),
                    None => break,
                },
                '\0' => bail!("a string with a NUL byte"),
                char if char == quote => {
                    self.rest = &self.rest[1 + at + 1..];
                    return Ok(Value::Text(text));
                }
                char => text.push(char),
            }
        }
        bail!("a string without its end")
    }

    fn list(&mut self, end: char) -> Result<Vec<Value>> {
        self.rest = self.rest[1..].trim_start();
        let mut values = Vec::new();
        loop {
            if let Some(rest) = self.rest.strip_prefix(end) {
                self.rest = rest;
                return Ok(values);
            }
            values.push(self.value(None)?);
            match self.rest.strip_prefix(',') {
                Some(rest) => self.rest = rest.trim_start(),
                None => ensure!(self.rest.starts_with(end), "{end:?} is missing"),
            }
        }
    }

    fn array(&mut self, wanted: Option<&str>) -> Result<Value> {
        let values = self.list(']')?;
        let element = match (values.first(), wanted.and_then(|wanted| wanted.strip_prefix('a'))) {
            (Some(first), _) => first.signature(),
            (None, Some(element)) => element.to_owned(),
            (None, None) => bail!("an empty array needs its type, such as @as []"),
        };
        ensure!(values.iter().all(|value| value.signature() == element), "an array of different types");
        Ok(Value::Array(element, values))
    }

    fn tuple(&mut self) -> Result<Value> {
        self.list(')').map(Value::Struct)
    }
}

/// Without a type a whole number is an int32, any other a double.
fn number(word: &str, wanted: Option<&str>) -> Result<Value> {
    let invalid = || format!("{} is no value", shown(word));
    Ok(match (wanted, word) {
        (Some("b") | None, "true") => Value::Bool(true),
        (Some("b") | None, "false") => Value::Bool(false),
        (Some("y"), _) => Value::U8(word.parse().with_context(invalid)?),
        (Some("n"), _) => Value::I16(word.parse().with_context(invalid)?),
        (Some("q"), _) => Value::U16(word.parse().with_context(invalid)?),
        (Some("i"), _) => Value::I32(word.parse().with_context(invalid)?),
        (Some("u"), _) => Value::U32(word.parse().with_context(invalid)?),
        (Some("x"), _) => Value::I64(word.parse().with_context(invalid)?),
        (Some("t"), _) => Value::U64(word.parse().with_context(invalid)?),
        (Some("d"), _) => Value::F64(word.parse().with_context(invalid)?),
        (None, _) => match word.parse() {
            Ok(whole) => Value::I32(whole),
            Err(_) => Value::F64(word.parse().with_context(invalid)?),
        },
        _ => bail!(invalid()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> Value {
        Value::Array("s".to_owned(), texts.iter().map(|text| Value::Text((*text).to_owned())).collect())
    }

    #[test]
    fn values_in_the_text_form_of_gvariant() {
        for (text, expected) in [
            ("true", Value::Bool(true)),
            ("uint64 123456789", Value::U64(123_456_789)),
            ("5", Value::I32(5)),
            ("1.5", Value::F64(1.5)),
            ("byte 7", Value::U8(7)),
            ("'inactive-or-failed'", Value::Text("inactive-or-failed".to_owned())),
            (r#""a \"b\"""#, Value::Text("a \"b\"".to_owned())),
            ("['a', 'b']", texts(&["a", "b"])),
            ("@as []", texts(&[])),
            ("[uint32 1, uint32 2]", Value::Array("u".to_owned(), vec![Value::U32(1), Value::U32(2)])),
            (
                "[('/dev/null', 'rw')]",
                Value::Array(
                    "(ss)".to_owned(),
                    vec![Value::Struct(vec![Value::Text("/dev/null".to_owned()), Value::Text("rw".to_owned())])],
                ),
            ),
        ] {
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
        for text in ["", "[]", "'open", "uint64 -1", "uint64 'x'", "1 2", "[1, 'a']", "nonsense", "(1", "byte 256"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_value_is_nested_no_deeper_than_the_bus_and_the_stack_allow() {
        let nested = |open: &str, middle: &str, close: &str, depth: usize| {
            parse(&format!("{}{middle}{}", open.repeat(depth), close.repeat(depth)))
        };
        for (open, close) in [("[", "]"), ("(", ")"), ("string ", ""), ("[(", ")]"), ("@s ", ""), ("( ", ",)")] {
            let levels = if open == "[(" { DEEPEST / 2 } else { DEEPEST };
            assert!(nested(open, "'x'", close, levels).is_ok(), "{open}");
            for depth in [levels + 1, 1_000_000] {
                let error = nested(open, "'x'", close, depth).unwrap_err();
                assert_eq!(error.to_string(), "nested deeper than 32 levels", "{open}");
            }
        }
        assert!(parse(&format!("[{}]", "[1], ".repeat(100))).is_ok(), "many values side by side are no depth");
    }

    #[test]
    fn what_a_message_of_the_bus_cannot_hold_is_refused() {
        let wide = format!("({})", "1, ".repeat(300));
        let line = crate::error::one_line(&property("Some", &wide).unwrap_err());
        assert!(line.contains("its type takes 302 characters, D-Bus allows 255") && line.len() < 300, "{line}");
        let line = crate::error::one_line(&property("Some", "'a\0b'").unwrap_err());
        assert!(line.ends_with("a string with a NUL byte"), "{line}");
    }

    #[test]
    fn seconds_become_microseconds_and_names_are_checked() {
        assert_eq!(property("TimeoutStopSec", "1.5").unwrap(), ("TimeoutStopUSec".to_owned(), Value::U64(1_500_000)));
        assert_eq!(property("TimeoutStopUSec", "uint64 7").unwrap(), ("TimeoutStopUSec".to_owned(), Value::U64(7)));
        for (name, text) in [("No-Name", "1"), ("ab", "1"), ("TimeoutStopSec", "'x'"), ("TimeoutStopSec", "-1")] {
            assert!(property(name, text).is_err(), "{name} {text}");
        }
        let annotations = HashMap::from([
            ("org.systemd.property.CollectMode".to_owned(), "'inactive'".to_owned()),
            ("other".to_owned(), "[".to_owned()),
        ]);
        assert_eq!(properties(Some(&annotations)).unwrap().len(), 1);
    }
}
