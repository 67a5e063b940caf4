//! Which property of config.json an error of the parser is about: it tells a line and a column only.

enum Level<'a> {
    /// With the name of the value that is being read, once it is known.
    Object(Option<&'a [u8]>),
    /// With the index of the element that is being read.
    Array(usize),
}

/// The property that ends at a line and column (both counted from 1, the column in bytes), as `linux.namespaces[0].type`;
/// empty at the top. The text up to there was found to be JSON.
pub fn at(json: &[u8], line: usize, column: usize) -> String {
    let before = json.split_inclusive(|&byte| byte == b'\n').take(line.saturating_sub(1));
    let end = (before.map(<[u8]>::len).sum::<usize>() + column).min(json.len());
    let mut levels = Vec::new();
    let mut place = 0;
    while place < end {
        let begin = place;
        place += 1;
        match json[begin] {
            b'"' => {
                place += string_length(&json[place..]);
                if let Some(Level::Object(name @ None)) = levels.last_mut() {
                    *name = Some(&json[begin + 1..place.min(json.len()) - 1]);
                }
            }
            // What the parser only saw the beginning of is wrong as a whole.
            b'{' if place < end => levels.push(Level::Object(None)),
            b'[' if place < end => levels.push(Level::Array(0)),
            b'}' | b']' => drop(levels.pop()),
            b',' => match levels.last_mut() {
                Some(Level::Object(name)) => *name = None,
                Some(Level::Array(index)) => *index += 1,
                None => {}
            },
            _ => {}
        }
    }
    describe(&levels)
}

/// The length of a string after its opening quote, with the closing one.
fn string_length(text: &[u8]) -> usize {
    let mut escaped = false;
    let end = text.iter().position(|&byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    });
    end.map_or(text.len(), |end| end + 1)
}

fn describe(levels: &[Level<'_>]) -> String {
    let mut path = String::new();
    for level in levels {
        match level {
            Level::Object(Some(name)) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(&String::from_utf8_lossy(name));
            }
            Level::Object(None) => {}
            Level::Array(index) => path.push_str(&format!("[{index}]")),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::Spec;

    #[test]
    fn an_error_is_at_the_property_that_is_wrong() {
        for (json, property) in [
            (r#"{"ociVersion":"1.0.0","hostname":7,"root":{"path":"x"}}"#, "hostname"),
            (
                r#"{"ociVersion":"1.0.0","linux":{"namespaces":[{"type":"pid"},{"type":"bogus"}]}}"#,
                "linux.namespaces[1].type",
            ),
            (
                r#"{"annotations":{"a":"\"},["},"mounts":[{"destination":"/x"},{"destination":1}]}"#,
                "mounts[1].destination",
            ),
            (r#"{"ociVersion":"1.0.0","hooks":{"poststop":[{"path":"/a"},{"args":["x"]}]}}"#, "hooks.poststop[1]"),
            (r#"{"ociVersion":"1.0.0","hostname":[]}"#, "hostname"),
            (r#"{"ociVersion":"1.0.0","mounts":{"a":1}}"#, "mounts"),
            ("{\"ociVersion\":\"1.0.0\",\n \"root\": {\n  \"path\": [],\n  \"readonly\": true}}", "root.path"),
            ("7", ""),
        ] {
            let error = serde_json::from_str::<Spec>(json).unwrap_err();
            assert_eq!(at(json.as_bytes(), error.line(), error.column()), property, "{json}: {error}");
        }
    }
}
