//! `--timing`: where the time of a start went, a line a phase, of both stages on one clock.
//!
//! A phase begins where its name is told ([`phase`]) and ends where the process tells its next one. Both stages write into
//! memory that they share; the parent writes the file when the command ends. Without the flag, telling is a look at a
//! static.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::fcntl::{Flock, FlockArg};
use nix::time::{ClockId, clock_gettime};
use serde_json::json;

use crate::error::{Context as _, Result, anyhow};
use crate::sys::shared;

/// The variable by which a program that executes itself (CVE-2019-5736) tells when it began.
pub const BEGIN: &str = "TARE_TIMING_BEGIN";

/// A phase is a slot of so many numbers: when it began, its side and its name's length, the name.
const SLOT: usize = 10;
const LONGEST: usize = (SLOT - 2) * 8;
/// More phases than any real start has; later ones are left out.
const SLOTS: usize = 2000;

static ON: AtomicBool = AtomicBool::new(false);
/// When the first phase began, if that was before [`start`]; 0: it did not.
static BEGAN: AtomicU64 = AtomicU64::new(0);
static IN_CONTAINER: AtomicBool = AtomicBool::new(false);
static SHEET: OnceLock<Sheet> = OnceLock::new();

/// The form of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Lines for a person.
    Text,
    /// Trace events, which the trace viewers of browsers open.
    Trace,
}

#[derive(Debug)]
struct Sheet {
    file: PathBuf,
    format: Format,
    /// The number of slots taken, then the slots.
    numbers: &'static [AtomicU64],
}

/// A phase, as it is reported.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Phase {
    init: bool,
    name: String,
    begin: u64,
    end: u64,
}

/// Begins to take times, for a report to this file ("-" is standard error).
pub fn start(file: PathBuf, format: Format) -> Result<()> {
    let numbers = shared::numbers(1 + SLOTS * SLOT).context("--timing: mmap")?;
    SHEET.set(Sheet { file, format, numbers }).map_err(|_| anyhow!("--timing: was begun already"))?;
    ON.store(true, Ordering::Relaxed);
    let now = now();
    let executed = std::env::var(BEGIN).ok().and_then(|begin| begin.parse().ok());
    let began = executed.unwrap_or_else(|| BEGAN.load(Ordering::Relaxed));
    if 0 < began && began < now {
        tell(began, "seal the program");
    }
    tell(now, "read the arguments");
    Ok(())
}

/// The time that counts began already, at this moment.
pub fn began(at: u64) {
    BEGAN.store(at, Ordering::Relaxed);
}

/// Is there a report to be made? Asked before the arguments are parsed, and before anything else takes time.
pub fn is_asked() -> bool {
    std::env::args_os()
        .any(|arg| ["--timing", "-timing"].iter().any(|flag| arg.as_encoded_bytes().starts_with(flag.as_bytes())))
}

/// This moment on the clock of the report (CLOCK_MONOTONIC), in nanoseconds.
pub fn now() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

/// A phase begins here, and the last one of this process ends.
#[inline]
pub fn phase(name: &str) {
    if ON.load(Ordering::Relaxed) {
        tell(now(), name);
    }
}

/// A phase with a name that has to be made begins here.
#[inline]
pub fn phase_of(name: impl FnOnce() -> String) {
    if ON.load(Ordering::Relaxed) {
        let begin = now();
        tell(begin, &name());
    }
}

/// From here on this process is the one in the container.
pub fn in_container() {
    IN_CONTAINER.store(true, Ordering::Relaxed);
}

#[cold]
fn tell(begin: u64, name: &str) {
    if let Some(sheet) = SHEET.get() {
        write_slot(sheet.numbers, begin, IN_CONTAINER.load(Ordering::Relaxed), name);
    }
}

fn write_slot(numbers: &[AtomicU64], begin: u64, init: bool, name: &str) {
    let Some((count, slots)) = numbers.split_first() else { return };
    let index = count.fetch_add(1, Ordering::Relaxed) as usize;
    let Some(slot) = slots.chunks_exact(SLOT).nth(index) else { return };
    let bytes = &name.as_bytes()[..name.len().min(LONGEST)];
    for (number, bytes) in slot[2..].iter().zip(bytes.chunks(8)) {
        let mut padded = [0; 8];
        padded[..bytes.len()].copy_from_slice(bytes);
        number.store(u64::from_le_bytes(padded), Ordering::Relaxed);
    }
    slot[1].store((bytes.len() as u64) << 1 | u64::from(init), Ordering::Relaxed);
    // Last: a slot with a time is whole.
    slot[0].store(begin, Ordering::Release);
}

/// What was told, in the order of the clock, and when each phase ended: where the same process told its next one, and
/// init's last where the parent, who waits for it, went on.
fn read_slots(numbers: &[AtomicU64], end: u64) -> Vec<Phase> {
    let mut phases: Vec<Phase> = Vec::new();
    for slot in numbers[1..].chunks_exact(SLOT) {
        let begin = slot[0].load(Ordering::Acquire);
        if begin == 0 {
            continue;
        }
        let about = slot[1].load(Ordering::Relaxed);
        let mut bytes: Vec<u8> =
            slot[2..].iter().flat_map(|number| number.load(Ordering::Relaxed).to_le_bytes()).collect();
        bytes.truncate((about >> 1) as usize);
        let name = String::from_utf8_lossy(&bytes).into_owned();
        phases.push(Phase { init: about & 1 == 1, name, begin, end });
    }
    phases.sort_by_key(|phase| phase.begin);
    for index in 0..phases.len() {
        let (phase, later) = (&phases[index], &phases[index + 1..]);
        let next = later.iter().find(|next| next.init == phase.init).or(later.iter().find(|next| !next.init));
        phases[index].end = next.map_or(end, |next| next.begin);
    }
    phases
}

/// Writes the report, if there is to be one.
pub fn report() -> Result<()> {
    let Some(sheet) = SHEET.get() else { return Ok(()) };
    let phases = read_slots(sheet.numbers, now());
    if sheet.file == Path::new("-") {
        let text = match sheet.format {
            Format::Text => text(&phases),
            Format::Trace => format!("[\n{}\n]\n", events(&phases)),
        };
        return io::stderr().write_all(text.as_bytes()).context("--timing: write to standard error");
    }
    append(sheet, &phases).with_context(|| format!("--timing: write {:?}", sheet.file))
}

/// Adds to what other commands have written; a list of events stays whole.
fn append(sheet: &Sheet, phases: &[Phase]) -> Result<()> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&sheet.file)?;
    let mut file: Flock<File> = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
    match sheet.format {
        Format::Text => {
            file.seek(SeekFrom::End(0))?;
            file.write_all(text(phases).as_bytes())?;
        }
        Format::Trace => {
            const END: &str = "\n]\n";
            let whole = file.seek(SeekFrom::End(0))?;
            let mut last = String::new();
            let before = file.seek(SeekFrom::Start(whole.saturating_sub(END.len() as u64)))?;
            file.read_to_string(&mut last)?;
            file.seek(SeekFrom::Start(if last == END { before } else { whole }))?;
            let between = if last == END { ",\n" } else { "[\n" };
            file.write_all(format!("{between}{}{END}", events(phases)).as_bytes())?;
        }
    }
    Ok(())
}

/// A line a phase: when it began after the command, how long it took, whose it was.
fn text(phases: &[Phase]) -> String {
    let first = phases.first().map_or(0, |phase| phase.begin);
    let milliseconds = |time: u64| time as f64 / 1e6;
    let mut text = "    at ms  took ms  stage   phase\n".to_owned();
    for phase in phases {
        let (begin, took) = (milliseconds(phase.begin - first), milliseconds(phase.end - phase.begin));
        let stage = if phase.init { "init" } else { "parent" };
        let _ = writeln!(text, "{begin:9.3}{took:9.3}  {stage:<8}{}", phase.name); // writing to a String cannot fail
    }
    text
}

/// "Complete" events of the trace event format, a track for each stage; times are microseconds.
fn events(phases: &[Phase]) -> String {
    let pid = std::process::id();
    let microseconds = |time: u64| time as f64 / 1e3;
    let named = |(thread, name)| {
        json!({"name": "thread_name", "ph": "M", "pid": pid, "tid": thread, "args": {"name": name}}).to_string()
    };
    let complete = |phase: &Phase| {
        let (begin, took) = (microseconds(phase.begin), microseconds(phase.end - phase.begin));
        let thread = if phase.init { 2 } else { 1 };
        json!({"name": phase.name, "cat": "tare", "ph": "X", "ts": begin, "dur": took, "pid": pid, "tid": thread})
            .to_string()
    };
    let lines: Vec<String> =
        [(1, "parent"), (2, "init")].into_iter().map(named).chain(phases.iter().map(complete)).collect();
    lines.join(",\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sheet(slots: usize) -> Vec<AtomicU64> {
        (0..1 + slots * SLOT).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn a_phase_ends_where_the_next_of_its_side_begins() {
        let numbers = sheet(5);
        let told = [(10, false, "config.json"), (20, false, "serve init"), (25, true, "mounts[0] (/proc)")];
        for (begin, init, name) in told.into_iter().chain([(40, true, "execute the program"), (50, false, "stay")]) {
            write_slot(&numbers, begin, init, name);
        }
        let found: Vec<_> = read_slots(&numbers, 90).into_iter().map(|p| (p.name, p.init, p.begin, p.end)).collect();
        let expected = [
            ("config.json", false, 10, 20),
            ("serve init", false, 20, 50),
            ("mounts[0] (/proc)", true, 25, 40),
            ("execute the program", true, 40, 50),
            ("stay", false, 50, 90),
        ];
        assert_eq!(found, expected.map(|(name, init, begin, end)| (name.to_owned(), init, begin, end)));
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let numbers = sheet(1);
        write_slot(&numbers, 1, false, &"x".repeat(LONGEST + 1));
        write_slot(&numbers, 2, false, "too late");
        let phases = read_slots(&numbers, 3);
        assert_eq!(phases, [Phase { init: false, name: "x".repeat(LONGEST), begin: 1, end: 3 }]);
    }

    #[test]
    fn a_line_has_the_time_since_the_beginning() {
        let phase = |init, name: &str, begin, end| Phase { init, name: name.to_owned(), begin, end };
        let phases = [phase(false, "clone", 1_000_000, 3_500_000), phase(true, "mounts", 3_250_000, 4_000_000)];
        let expected = "    at ms  took ms  stage   phase\n    0.000    2.500  parent  clone\n    2.250    0.750  init    mounts\n";
        assert_eq!(text(&phases), expected);
    }
}
