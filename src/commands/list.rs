//! `tare list`

use std::fmt::Write as _;
use std::io::Write as _;

use super::cli::ListFormat;
use super::state::State;
use crate::error::{Context as _, Result};
use crate::state::{self, Record, Root, Status};

/// Prints the containers below the root.
pub fn run(root: &Root, format: ListFormat, quiet: bool) -> Result<()> {
    let ids = state::ids(root)?;
    let text = if quiet {
        ids.iter().fold(String::new(), |text, id| text + id + "\n")
    } else {
        let containers = read(root, &ids)?;
        let states: Vec<State<'_>> = containers.iter().map(|(record, status)| State::of(record, *status)).collect();
        match format {
            ListFormat::Table => table(&states),
            ListFormat::Json => serde_json::to_string(&states).context("list")?,
        }
    };
    std::io::stdout().write_all(text.as_bytes()).context("write to standard output")
}

/// The containers that are still there when they are looked at.
fn read(root: &Root, ids: &[String]) -> Result<Vec<(Record, Status)>> {
    let Some(directory) = root.open()? else { return Ok(Vec::new()) };
    let mut containers = Vec::with_capacity(ids.len());
    for id in ids {
        match state::look(root, &directory, id) {
            Ok(found) => containers.extend(found),
            Err(error) => log::warn!("list: {id:?}: {}", crate::error::one_line(&error)),
        }
    }
    Ok(containers)
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
            text.push_str(cell);
            // Not by a formatting width, which has sixteen bits: a field of a record may be longer.
            text.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count())));
        }
        let _ = writeln!(text, "{}", row[5]);
    }
    text
}
