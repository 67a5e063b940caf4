//! What the probe saw, for the cases to ask.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::mountinfo::{self, Mount};

/// The probe's JSON.
#[derive(Debug)]
pub struct Report(pub Value);

impl Report {
    /// The JSON object in what a container wrote: runtimes may write lines of their own beside it.
    pub fn parse(output: &str) -> Result<Report> {
        let line = output.lines().find(|line| line.starts_with('{') && line.contains("\"answers\""));
        let line = line.with_context(|| format!("no report in the output: {output}"))?;
        Ok(Report(serde_json::from_str(line).with_context(|| format!("the report is not JSON: {line}"))?))
    }

    /// A value by its JSON pointer.
    pub fn at(&self, pointer: &str) -> &Value {
        self.0.pointer(pointer).unwrap_or(&Value::Null)
    }

    /// A value has to be this one.
    pub fn expect(&self, pointer: &str, value: Value) -> Result<()> {
        let found = self.at(pointer);
        ensure!(*found == value, "{} is {found}, not {value}", pointer.trim_start_matches('/'));
        Ok(())
    }

    fn answer(&self, question: &str) -> Result<&Value> {
        self.0["answers"].get(question).with_context(|| format!("the probe was not asked {question}"))
    }

    /// What an action gave; it has to have worked.
    pub fn worked(&self, question: &str) -> Result<&Value> {
        let answer = self.answer(question)?;
        match answer.get("ok") {
            Some(value) => Ok(value),
            None => bail!("{question} failed: {}", answer["error"].as_str().unwrap_or("?")),
        }
    }

    /// An action has to have failed with one of these error names.
    pub fn failed(&self, question: &str, errors: &[&str]) -> Result<()> {
        let answer = self.answer(question)?;
        match answer["error"].as_str() {
            Some(error) if errors.contains(&error) => Ok(()),
            Some(error) => bail!("{question} failed with {error}, not with {}", errors.join(" or ")),
            None => bail!("{question} worked: {}", answer["ok"]),
        }
    }

    /// The error's name, if the action failed.
    pub fn error(&self, question: &str) -> Result<Option<&str>> {
        Ok(self.answer(question)?["error"].as_str())
    }

    /// The mount table.
    pub fn mounts(&self) -> Vec<Mount> {
        mountinfo::parse(self.at("/mountinfo").as_str().unwrap_or_default())
    }

    /// The topmost mount at a point.
    pub fn mount_at(&self, point: &str) -> Result<Mount> {
        let found = self.mounts().into_iter().rev().find(|mount| mount.point == point);
        found.with_context(|| format!("nothing is mounted at {point}: {}", self.at("/mountinfo")))
    }

    /// A capability set of /proc/self/status as a bit mask: `CapEff`.
    pub fn capability_set(&self, name: &str) -> Result<u64> {
        let text = self.at("/status")[name].as_str().with_context(|| format!("no {name} in the status"))?;
        u64::from_str_radix(text, 16).with_context(|| format!("{name} is {text}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "a warning\n{\"pid\":1,\"status\":{\"CapEff\":\"0000000000000021\"},\
        \"mountinfo\":\"1 2 0:3 / /a rw - tmpfs a rw\\n1 2 0:3 / /a ro - proc b rw\\n\",\
        \"answers\":{\"read:/x\":{\"ok\":\"y\"},\"write:/x\":{\"error\":\"EROFS\"}}}\n";

    #[test]
    fn answers_are_ok_or_an_error() {
        let report = Report::parse(OUTPUT).expect("a report");
        assert_eq!(report.worked("read:/x").expect("worked"), "y");
        report.failed("write:/x", &["EPERM", "EROFS"]).expect("failed as expected");
        assert!(report.failed("write:/x", &["EPERM"]).is_err());
        assert!(report.failed("read:/x", &["EPERM"]).is_err());
        assert!(report.worked("write:/x").is_err() && report.worked("read:/y").is_err());
        assert_eq!(report.capability_set("CapEff").expect("a set"), 0x21);
        assert_eq!(report.mount_at("/a").expect("a mount").kind, "proc");
        assert!(report.mount_at("/b").is_err());
    }

    #[test]
    fn no_report_in_the_output() {
        assert!(Report::parse("nothing\n{}\n").is_err());
    }
}
