//! `org.systemd.property.NAME` annotations: properties of the unit, in the text form of GVariant (as runc and crun read
//! them): `uint64 5`, `'text'`, `['a', 'b']`, `true`.

use std::collections::HashMap;

use super::wire::Value;
use crate::error::{Context as _, Result, bail, ensure};

const PREFIX: &str = "org.systemd.property.";

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
    let value = parse(text).with_context(|| format!("value parse error: {text:?}"))?;
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

/// Reads a value.
fn parse(text: &str) -> Result<Value> {
    let mut parser = Parser { rest: text.trim() };
    let value = parser.value(None)?;
    ensure!(parser.rest.is_empty(), "{:?} is left over", parser.rest);
    Ok(value)
}

struct Parser<'a> {
    rest: &'a str,
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
    let invalid = || format!("{word:?} is no value");
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
