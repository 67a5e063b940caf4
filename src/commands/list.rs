//! `tare list`

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use super::cli::ListFormat;
use super::state::State;
use crate::error::{Context as _, Result};
use crate::state::{self, Container, Record, Status};

/// Prints the containers below the root.
pub fn run(root: &Path, format: ListFormat, quiet: bool) -> Result<()> {
    let ids = state::ids(root)?;
    let text = if quiet {
        ids.iter().fold(String::new(), |text, id| text + id + "\n")
    } else {
        let containers = read(root, &ids);
        let states: Vec<State<'_>> = containers.iter().map(|(record, status)| State::of(record, *status)).collect();
        match format {
            ListFormat::Table => table(&states),
            ListFormat::Json => serde_json::to_string(&states).context("list")?,
        }
    };
    std::io::stdout().write_all(text.as_bytes()).context("write to standard output")
}

/// The containers that are still there when they are looked at.
fn read(root: &Path, ids: &[String]) -> Vec<(Record, Status)> {
    let mut containers = Vec::with_capacity(ids.len());
    for id in ids {
        let load = || -> Result<Option<(Record, Status)>> {
            let container = Container::open(root, id)?;
            let Some(record) = container.load()? else { return Ok(None) };
            let status = container.status(&record)?;
            Ok(Some((record, status)))
        };
        match load() {
            Ok(found) => containers.extend(found),
            Err(error) => log::warn!("list: {id:?}: {}", crate::error::one_line(&error)),
        }
    }
    containers
}

/// Columns as wide as their widest cell, at least twelve characters, three apart, as runc prints them.
fn table(states: &[State<'_>]) -> String {
    let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned)];
    rows.extend(states.iter().map(|state| {
        let bundle = state.bundle.display().to_string();
        [
            state.id.into(),
            state.pid.to_string(),
            state.status.clone(),
            bundle,
            state.created.into(),
            state.owner.clone(),
        ]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].len() + 3).max().unwrap_or_default().max(12);
    let widths: Vec<usize> = (0..5).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(text, "{cell:width$}"); // writing to a String cannot fail
        }
        let _ = writeln!(text, "{}", row[5]);
    }
    text
}
