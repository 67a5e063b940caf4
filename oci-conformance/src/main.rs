//! `oci-conformance` runs any OCI runtime through the sentences of the runtime specification that can be observed.
//!
//! A case makes a bundle, calls the runtime's verbs, and looks from outside and from inside. The view from inside comes
//! from this very binary: it is static, so a copy named `probe` is the only program that a root filesystem needs.

mod bench;
mod case;
mod cases;
mod cgroup;
mod container;
mod elf;
mod mountinfo;
mod output;
mod probe;
mod properties;
mod report;
mod results;
mod runner;
mod select;
mod table;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;

use crate::bench::Suite;
use crate::output::Format;
use crate::select::select;

/// Tests any OCI runtime against the runtime specification.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// The runtime under test: a path, or a name to be found in $PATH
    #[arg(long, required_unless_present_any = ["list", "table"])]
    runtime: Option<PathBuf>,
    /// Only cases whose name, section or title contains TEXT; may be repeated, any of them counts
    #[arg(long, value_name = "TEXT")]
    filter: Vec<String>,
    /// How results are written
    #[arg(long, value_enum, default_value = "tap")]
    format: Format,
    /// Cases at the same time [default: the number of processors]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Seconds that one case may take
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    timeout: u64,
    /// List the cases and run none
    #[arg(long)]
    list: bool,
    /// Make the tables in DOCUMENT anew, of the results in STORE, and run no case
    #[arg(long, value_name = "DOCUMENT", requires = "store")]
    table: Option<PathBuf>,
    /// The file that keeps the last results of each runtime on each layout of cgroups
    #[arg(long, value_name = "STORE")]
    store: Option<PathBuf>,
    /// Results of a run of all cases, as --format json writes them, to be put in STORE; may be repeated
    #[arg(long, value_name = "RESULTS", requires = "table")]
    merge: Vec<PathBuf>,
}

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let called = args.next().unwrap_or_default();
    // A container's program has only its name to say what it is for.
    if PathBuf::from(called).file_name().is_some_and(|name| name == probe::NAME) {
        return probe::main(args.map(|arg| arg.to_string_lossy().into_owned()).collect());
    }
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("oci-conformance: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Runs what the command line asks for; true when no case failed.
fn run(options: &Options) -> Result<bool> {
    let cases = select(&cases::all(), &options.filter);
    let mut stdout = std::io::stdout().lock();
    if options.list {
        for case in &cases {
            writeln!(stdout, "{}\t{}\t{}", case.full_name(), case.section, case.title)?;
        }
        return Ok(true);
    }
    if let (Some(document), Some(store)) = (&options.table, &options.store) {
        return make_table(document, store, &options.merge).map(|()| true);
    }
    if cases.is_empty() {
        bail!("no case matches {}", options.filter.join(", "));
    }
    if !nix::unistd::geteuid().is_root() {
        bail!("containers with cgroups and device nodes need root");
    }
    let runtime = options.runtime.as_deref().context("--runtime is missing")?;
    let suite = Suite::new(runtime)?;
    let jobs = options.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1);
    let mut writer = output::Writer::new(&mut stdout, options.format, suite.run(), cases.len())?;
    runner::run(&suite, &cases, jobs, Duration::from_secs(options.timeout), |index, finding| {
        writer.finding(index, cases[index], finding)
    })?;
    Ok(writer.finish()? == 0)
}

/// Puts new results in the store, and the tables made of it in the document.
fn make_table(document: &Path, store: &Path, merge: &[PathBuf]) -> Result<()> {
    let text = |path: &Path| std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()));
    let write =
        |path: &Path, text: String| std::fs::write(path, text).with_context(|| format!("write {}", path.display()));
    let cases = cases::all();
    let mut columns = results::parse(&text(store)?).with_context(|| store.display().to_string())?;
    for file in merge {
        results::merge(&mut columns, results::from_json(&text(file)?).with_context(|| file.display().to_string())?);
    }
    write(store, results::write(&columns, &cases))?;
    write(document, table::replace(&text(document)?, &columns, &cases)?)
}
