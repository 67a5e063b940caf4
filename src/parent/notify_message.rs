//! What a program may say to its supervisor (sd_notify(3)). It is taken apart as the supervisor
//! would do it, and what was understood is written anew: no byte of the program's decides where a
//! line ends.

/// The longest message that systemd takes (NOTIFY_BUFFER_MAX, which is PIPE_BUF).
pub const LONGEST: usize = 4096;

/// What a value may be.
#[derive(Clone, Copy)]
enum Value {
    /// `1`
    One,
    /// Decimal digits of 64 bits.
    Number,
    /// A number, or a name of letters, digits and `.`, `_`, `-`.
    Word,
    /// UTF-8 text, up to its first control character.
    Text,
}

/// What is passed on. Which process is the main one is not among it, nor anything that comes with
/// descriptors or changes what the supervisor does with the service later.
const KNOWN: &[(&str, Value)] = &[
    ("READY", Value::One),
    ("RELOADING", Value::One),
    ("MONOTONIC_USEC", Value::Number),
    ("STOPPING", Value::One),
    ("STATUS", Value::Text),
    ("ERRNO", Value::Word),
    ("BUSERROR", Value::Word),
    ("EXIT_STATUS", Value::Word),
    ("WATCHDOG", Value::Word),
    ("EXTEND_TIMEOUT_USEC", Value::Number),
];

/// The assignments of a message that were understood, each name once.
#[derive(Debug, PartialEq, Eq)]
pub struct Message(Vec<(&'static str, String)>);

impl Message {
    /// Understands a datagram; none if nothing of it is for the supervisor. As for systemd, lines
    /// end with either line break, the first of two equal names counts, and a message with a zero
    /// byte or of more than [`LONGEST`] is none.
    pub fn parse(datagram: &[u8]) -> Option<Self> {
        let datagram = datagram.strip_suffix(b"\0").unwrap_or(datagram);
        if datagram.len() > LONGEST || datagram.contains(&0) {
            return None;
        }
        let mut understood: Vec<(&'static str, String)> = Vec::new();
        for line in datagram.split(|byte| matches!(byte, b'\n' | b'\r')) {
            if let Some((name, value)) = assignment(line)
                && !understood.iter().any(|(earlier, _)| *earlier == name)
            {
                understood.push((name, value));
            }
        }
        Some(Self(understood)).filter(|message| !message.0.is_empty())
    }

    /// Returns whether the program says that it is ready.
    pub fn is_ready(&self) -> bool {
        self.0.iter().any(|(name, _)| *name == "READY")
    }

    /// Returns the message for the supervisor; a program that is ready comes with the process to
    /// watch. A status that leaves no room for the rest is left out.
    pub fn compose(&self, main_pid: u32) -> String {
        let compose = |with_status: bool| {
            let lines = self.0.iter().filter(|(name, _)| with_status || *name != "STATUS");
            let mut text: String = lines.map(|(name, value)| format!("{name}={value}\n")).collect();
            if self.is_ready() {
                text.push_str(&format!("MAINPID={main_pid}\n"));
            }
            text
        };
        Some(compose(true)).filter(|text| text.len() <= LONGEST).unwrap_or_else(|| compose(false))
    }
}

fn assignment(line: &[u8]) -> Option<(&'static str, String)> {
    let end = line.iter().position(|&byte| byte == b'=')?;
    let &(name, kind) = KNOWN.iter().find(|(name, _)| name.as_bytes() == &line[..end])?;
    let value = std::str::from_utf8(&line[end + 1..]).ok()?;
    Some((name, understand(kind, value)?))
}

fn understand(kind: Value, value: &str) -> Option<String> {
    let is_word = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    match kind {
        Value::One => (value == "1").then(|| value.to_owned()),
        // As it is written, it could have a sign.
        Value::Number => value.parse::<u64>().ok().map(|number| number.to_string()),
        Value::Word => (!value.is_empty() && is_word(value)).then(|| value.to_owned()),
        Value::Text => {
            let ends = |letter: char| letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}');
            Some(value.replace('\t', " ").split(ends).next()?.to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewrite(datagram: &[u8]) -> Option<String> {
        Message::parse(datagram).map(|message| message.compose(42))
    }

    #[test]
    fn readiness_comes_with_the_process_to_watch_and_no_other_does() {
        assert_eq!(rewrite(b"MAINPID=1\nREADY=1\nSTATUS=up").unwrap(), "READY=1\nSTATUS=up\nMAINPID=42\n");
        assert_eq!(rewrite(b"STATUS=soon").unwrap(), "STATUS=soon\n");
        let nothing: [&[u8]; 9] = [
            b"",
            b"MAINPID=1",
            b"BARRIER=1",
            b"FDSTORE=1\nFDNAME=x",
            b"MAINPIDFDID=7\nMAINPIDFD=1",
            b"READY=0",
            b"READY",
            b" READY=1",
            b"WATCHDOG_USEC=1",
        ];
        for nothing in nothing {
            assert_eq!(rewrite(nothing), None, "{nothing:?}");
        }
        // What only looks like it, in the middle of a status.
        assert_eq!(rewrite(b"STATUS=READY=1").unwrap(), "STATUS=READY=1\n");
    }

    #[test]
    fn nothing_that_could_end_a_line_is_passed_on() {
        for end in ["\r", "\r\n", "\n\r", "\u{b}", "\u{c}", "\u{1c}", "\u{85}", "\u{2028}", "\u{1b}", "\u{7f}"] {
            let said = format!("STATUS=x{end}MAINPID=1{end}FDSTORE=1");
            assert_eq!(rewrite(said.as_bytes()).unwrap(), "STATUS=x\n", "{end:?}");
        }
        assert_eq!(rewrite(b"STATUS=x\0MAINPID=1"), None);
        assert_eq!(rewrite(b"STATUS=x\ty\0").unwrap(), "STATUS=x y\n");
        assert_eq!(rewrite(b"ERRNO=2\rREADY=1").unwrap(), "ERRNO=2\nREADY=1\nMAINPID=42\n");
        for value in ["1 MAINPID=1", "1\u{b}MAINPID=1", "", "é"] {
            for name in ["READY", "ERRNO", "BUSERROR", "WATCHDOG", "EXTEND_TIMEOUT_USEC", "MONOTONIC_USEC"] {
                assert_eq!(rewrite(format!("{name}={value}").as_bytes()), None, "{name}={value:?}");
            }
        }
    }

    #[test]
    fn the_first_of_two_counts_and_a_message_has_a_length() {
        assert_eq!(rewrite(b"STATUS=a\nSTATUS=b\nERRNO=1\nERRNO=2").unwrap(), "STATUS=a\nERRNO=1\n");
        assert_eq!(rewrite(&[b"STATUS=", [b'x'; LONGEST].as_slice()].concat()), None);
        let full = [b"READY=1\nSTATUS=", vec![b'x'; LONGEST - 15].as_slice()].concat();
        assert_eq!(full.len(), LONGEST);
        assert_eq!(rewrite(&full).unwrap(), "READY=1\nMAINPID=42\n");
        assert_eq!(rewrite(b"STATUS=\xff\nREADY=1").unwrap(), "READY=1\nMAINPID=42\n");
    }
}
