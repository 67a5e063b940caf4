//! TAP and JSON lines.

use std::io::Write;

use anyhow::Result;
use clap::ValueEnum;
use serde_json::json;

use crate::case::Case;
use crate::runner::{Finding, Verdict};

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum Format {
    /// The Test Anything Protocol, version 14
    Tap,
    /// One JSON object a line
    Json,
}

/// What is under test.
pub struct Run {
    /// The runtime's own name.
    pub runtime: String,
    /// The runtime's version.
    pub version: String,
    /// `v1` or `v2`.
    pub cgroups: &'static str,
}

/// Writes each finding as it comes, and the sums at the end.
pub struct Writer<'a> {
    to: &'a mut dyn Write,
    format: Format,
    run: Run,
    passed: usize,
    failed: usize,
    explained: usize,
    skipped: usize,
}

impl<'a> Writer<'a> {
    /// Begins the output of that run.
    pub fn new(to: &'a mut dyn Write, format: Format, run: Run, cases: usize) -> Result<Writer<'a>> {
        if format == Format::Tap {
            writeln!(to, "TAP version 14\n1..{cases}")?;
        }
        Ok(Writer { to, format, run, passed: 0, failed: 0, explained: 0, skipped: 0 })
    }

    /// Writes one case's result; `index` counts from 0.
    pub fn finding(&mut self, index: usize, case: &Case, finding: Finding) -> Result<()> {
        let known = case.reason_for(&self.run.runtime, &self.run.version);
        match finding.verdict {
            Verdict::Pass => self.passed += 1,
            Verdict::Skip(_) => self.skipped += 1,
            Verdict::Fail(_) => {
                self.failed += 1;
                self.explained += usize::from(known.is_some());
            }
        }
        match self.format {
            Format::Tap => self.tap(index, case, known, &finding),
            Format::Json => self.json(case, known, &finding),
        }
    }

    fn tap(&mut self, index: usize, case: &Case, known: Option<&str>, finding: &Finding) -> Result<()> {
        let number = index + 1;
        let line = format!("{} {}: {}", case.full_name(), tap_text(case.section), tap_text(case.title));
        match &finding.verdict {
            Verdict::Pass => {
                writeln!(self.to, "ok {number} - {line}")?;
                if let Some(reason) = known {
                    writeln!(self.to, "# {} passes, though it is said not to: {reason}", self.run.runtime)?;
                }
            }
            Verdict::Skip(reason) => writeln!(self.to, "ok {number} - {line} # SKIP {}", one_line(reason))?,
            Verdict::Fail(message) => {
                writeln!(self.to, "not ok {number} - {line}")?;
                // A JSON string is a YAML string.
                writeln!(self.to, "  ---\n  message: {}", json!(message))?;
                if let Some(reason) = known {
                    writeln!(self.to, "  known: {}", json!(format!("{}: {reason}", self.run.runtime)))?;
                }
                writeln!(self.to, "  ...")?;
            }
        }
        Ok(self.to.flush()?)
    }

    fn json(&mut self, case: &Case, known: Option<&str>, finding: &Finding) -> Result<()> {
        let (result, message) = match &finding.verdict {
            Verdict::Pass => ("pass", None),
            Verdict::Fail(message) => ("fail", Some(message)),
            Verdict::Skip(reason) => ("skip", Some(reason)),
        };
        let line = json!({
            "runtime": self.run.runtime,
            "version": self.run.version,
            "cgroups": self.run.cgroups,
            "name": case.full_name(),
            "section": case.section,
            "title": case.title,
            "result": result,
            "message": message,
            "known": known,
            "milliseconds": u64::try_from(finding.elapsed.as_millis()).unwrap_or(u64::MAX),
        });
        Ok(writeln!(self.to, "{line}")?)
    }

    /// Writes the closing line and gives the number of failed cases. Beside JSON it goes to stderr.
    pub fn finish(self) -> Result<usize> {
        let mut sums = String::new();
        if self.explained > 0 {
            sums = format!("# {} of the failures of {} have a known reason\n", self.explained, self.run.runtime);
        }
        sums += &format!("{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped);
        match self.format {
            Format::Tap => writeln!(self.to, "{sums}")?,
            Format::Json => eprintln!("{sums}"),
        }
        self.to.flush()?;
        Ok(self.failed)
    }
}

/// A number sign begins a directive in a TAP line.
fn tap_text(text: &str) -> String {
    text.replace('\\', "\\\\").replace('#', "\\#")
}

fn one_line(text: &str) -> String {
    text.lines().collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const CASE: Case = Case {
        module: "a::hooks",
        name: "order",
        section: "config.md#hooks",
        title: "hooks are called in order",
        run: |_| Ok(()),
        known: &[("slow", "it sorts them")],
    };

    fn written(format: Format, runtime: &str, verdict: Verdict) -> (String, usize) {
        let mut bytes = Vec::new();
        let run = Run { runtime: runtime.to_owned(), version: "1".to_owned(), cgroups: "v2" };
        let mut writer = Writer::new(&mut bytes, format, run, 1).expect("write to memory");
        writer.finding(0, &CASE, Finding { verdict, elapsed: Duration::from_millis(3) }).expect("write to memory");
        let failed = writer.finish().expect("write to memory");
        (String::from_utf8(bytes).expect("text"), failed)
    }

    #[test]
    fn tap_of_each_verdict() {
        let (text, failed) = written(Format::Tap, "x", Verdict::Pass);
        let head = "TAP version 14\n1..1\nok 1 - hooks/order config.md\\#hooks: hooks are called in order";
        assert_eq!((text, failed), (format!("{head}\n1 passed, 0 failed, 0 skipped\n"), 0));
        let (text, failed) = written(Format::Tap, "x", Verdict::Skip("no\nkernel".into()));
        assert_eq!((text, failed), (format!("{head} # SKIP no; kernel\n0 passed, 0 failed, 1 skipped\n"), 0));
        let (text, failed) = written(Format::Tap, "slow", Verdict::Fail("a \"b\"\nc".into()));
        assert!(text.contains("not ok 1 - ") && text.contains("  message: \"a \\\"b\\\"\\nc\"\n"), "{text}");
        assert!(text.contains("  known: \"slow: it sorts them\"\n  ...\n# 1 of the failures"), "{text}");
        assert_eq!(failed, 1);
    }

    #[test]
    fn json_is_one_object_a_line() {
        let (text, failed) = written(Format::Json, "slow", Verdict::Fail("a\nb".into()));
        assert_eq!((text.lines().count(), failed), (1, 1));
        let line: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(line["name"], "hooks/order");
        assert_eq!((&line["result"], &line["known"]), (&json!("fail"), &json!("it sorts them")));
    }
}
