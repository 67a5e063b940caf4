//! `tare stats`: what containers use, for a person; `events` is for programs that know runc.

mod row;
mod table;

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::thread::sleep;
use std::time::Instant;

use super::cli::{ListFormat, Stats};
use super::{duration, print};
use crate::cgroups;
use crate::error::{Context as _, Result, bail, one_line};
use crate::state::{self, Container, Root, Status};
use crate::sys::terminal;
use row::Row;

/// What a container had used at some time.
struct Reading {
    at: Instant,
    stats: cgroups::Stats,
}

/// By container.
type Readings = BTreeMap<String, Reading>;

/// Reads twice, since a share of time is one of the time between two readings, and goes on with `--watch`.
pub fn run(root: &Root, args: &Stats) -> Result<()> {
    let interval = duration::interval(args.interval)?;
    let in_place = args.watch && matches!(args.format, ListFormat::Table) && std::io::stdout().is_terminal();
    let mut before = first(root, &args.ids)?;
    loop {
        sleep(interval);
        let now = again(root, &args.ids)?;
        let rows: Vec<Row<'_>> =
            now.iter().map(|(id, reading)| Row::new(id, before.get(id).map(Reading::parts), reading.parts())).collect();
        let text = match args.format {
            ListFormat::Json => serde_json::to_string(&rows).context("stats")? + "\n",
            ListFormat::Table => table::table(&rows, screen(), in_place),
        };
        if !print(&text)? || !args.watch || now.is_empty() && !args.ids.is_empty() {
            return Ok(());
        }
        before = now;
    }
}

impl Reading {
    fn parts(&self) -> (Instant, &cgroups::Stats) {
        (self.at, &self.stats)
    }
}

/// The first reading: what is asked for by name has to be there.
fn first(root: &Root, ids: &[String]) -> Result<Readings> {
    if ids.is_empty() {
        return all(root, |id, error| log::warn!("stats: {id:?}: {}", one_line(error)));
    }
    let mut readings = Readings::new();
    for id in ids {
        let Some(reading) = read(root, id)? else { bail!("container with id {id} is not running") };
        readings.insert(id.clone(), reading);
    }
    Ok(readings)
}

/// A later one: containers come and go.
fn again(root: &Root, ids: &[String]) -> Result<Readings> {
    let gone = |id: &str, error: &_| log::debug!("stats: {id:?}: {}", one_line(error));
    if ids.is_empty() { all(root, gone) } else { Ok(of(root, ids, gone)) }
}

fn all(root: &Root, failed: impl Fn(&str, &crate::error::Error)) -> Result<Readings> {
    Ok(of(root, &state::ids(root)?, failed))
}

fn of(root: &Root, ids: &[String], failed: impl Fn(&str, &crate::error::Error)) -> Readings {
    let mut readings = Readings::new();
    for id in ids {
        match read(root, id) {
            Ok(Some(reading)) => drop(readings.insert(id.clone(), reading)),
            Ok(None) => {}
            Err(error) => failed(id, &error),
        }
    }
    readings
}

/// None of a container that has stopped, or is still being made.
fn read(root: &Root, id: &str) -> Result<Option<Reading>> {
    let container = Container::open(root, id)?;
    let Some(record) = container.load()? else { return Ok(None) };
    if matches!(container.status(&record)?, Status::Stopped | Status::Creating) {
        return Ok(None);
    }
    let stats = cgroups::reopen(&record.cgroup)?.stats().with_context(|| format!("container {id:?}"))?;
    Ok(Some(Reading { at: Instant::now(), stats }))
}

/// Rows and columns of the terminal, if it is one.
fn screen() -> Option<(usize, usize)> {
    let (rows, columns) = terminal::size(std::io::stdout().as_fd()).ok()?;
    (rows > 0 && columns > 0).then(|| (rows.into(), columns.into()))
}
