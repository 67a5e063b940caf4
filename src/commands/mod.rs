//! The commands: a file a command.

pub mod arguments;
pub mod cli;
pub mod create;
pub mod delete;
pub mod duration;
pub mod events;
pub mod exec;
pub mod features;
pub mod help;
pub mod kill;
pub mod list;
pub mod pause;
pub mod ps;
pub mod resume;
pub mod run;
pub mod several;
pub mod spec;
pub mod start;
pub mod state;
pub mod stats;
pub mod update;
pub mod version;

use std::ffi::OsString;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use nix::unistd::{geteuid, getuid};

use crate::cgroups::Kind;
use crate::error::{Context as _, Result};
use crate::linux::uid_mappings::is_rootless;
use crate::log::{self, Format};
use crate::parent::sealed_exe;
use crate::state::Root;
use crate::timing;
use cli::{CgroupManager, Cli, Command, Global, LogFormat, Rootless, TimingFormat};

/// Runs the command that the arguments name; returns the exit status.
pub fn main(args: impl Iterator<Item = OsString>) -> Result<i32> {
    let args: Vec<OsString> = args.collect();
    if matches!(arguments::command(&args), Some("create" | "exec" | "run")) {
        // First of all, for what comes before it is done twice. A failure is reported below, once there is a log.
        let _ = sealed_exe::ensure_sealed();
    }
    crate::sys::process::restrict_umask();
    let args = arguments::with_two_dashes(args);
    let cli = match Cli::parse(&args, arguments::command(&args)) {
        Ok(cli) => cli,
        Err(error) => return help::answer(&args, &error),
    };
    let format = match cli.global.log_format {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    };
    log::open(cli.global.log.as_deref(), format, cli.global.debug)?;
    let Some(file) = &cli.global.timing else { return run(cli) };
    timing::start(file.clone(), timing_format(&cli.global, file))?;
    let ended = run(cli);
    // What was found out by a failure is worth as much, and the failure more.
    match timing::report() {
        Err(error) if ended.is_ok() => Err(error),
        _ => ended,
    }
}

fn run(cli: Cli) -> Result<i32> {
    if cli.global.version {
        return version::run().map(|()| 0);
    }
    let mut root = root(&cli.global);
    if matches!(cli.command, Some(Command::State(_) | Command::Ps(_) | Command::List(_) | Command::Stats(_))) {
        root = root.quiet();
    }
    match cli.command {
        Some(Command::Create(args)) => apart(|| {
            sealed_exe::ensure_sealed()?;
            create::run(args.options(root, kind(&cli.global), true)?).map(|()| 0)
        }),
        Some(Command::Run(args)) => apart(|| {
            sealed_exe::ensure_sealed()?;
            let options = args.create.options(root, kind(&cli.global), args.detach)?;
            run::run(&options, args.keep, !args.no_subreaper)
        }),
        Some(Command::Exec(args)) => apart(|| {
            sealed_exe::ensure_sealed()?;
            exec::run(&root, *args)
        }),
        Some(Command::Start(args)) => apart(|| start::run(&root, &args.id).map(|()| 0)),
        Some(Command::Pause(args)) => apart(|| pause::run(&root, &args.id).map(|()| 0)),
        Some(Command::Resume(args)) => apart(|| resume::run(&root, &args.id).map(|()| 0)),
        Some(Command::Update(args)) => apart(|| update::run(&root, &args).map(|()| 0)),
        Some(Command::Events(args)) => apart(|| events::run(&root, &args).map(|()| 0)),
        Some(Command::Stats(args)) => apart(|| stats::run(&root, &args).map(|()| 0)),
        Some(Command::Ps(args)) => apart(|| ps::run(&root, &args).map(|()| 0)),
        Some(Command::State(args)) => apart(|| state::run(&root, &args.id).map(|()| 0)),
        Some(Command::Kill(args)) => apart(|| kill::run(&root, &args).map(|()| 0)),
        Some(Command::Delete(args)) => apart(|| delete::run(&root, &args).map(|()| 0)),
        Some(Command::List(args)) => apart(|| list::run(&root, args.format, args.quiet).map(|()| 0)),
        Some(Command::Spec(args)) => apart(|| spec::write(&args.bundle, args.rootless).map(|()| 0)),
        Some(Command::Features(_)) => apart(|| features::run().map(|()| 0)),
        None => help::print(),
    }
}

/// Keeps a command a function of its own. All of them in one took pages of each other's stack, and what one needs of the
/// code could not be put side by side (hack/text/order).
#[inline(never)]
fn apart(command: impl FnOnce() -> Result<i32>) -> Result<i32> {
    command()
}

fn timing_format(global: &Global, file: &Path) -> timing::Format {
    match global.timing_format {
        Some(TimingFormat::Text) => timing::Format::Text,
        Some(TimingFormat::Trace) => timing::Format::Trace,
        None if file.extension().is_some_and(|extension| extension == "json") => timing::Format::Trace,
        None => timing::Format::Text,
    }
}

fn kind(global: &Global) -> Kind {
    match global.cgroup_manager {
        CgroupManager::Disabled => Kind::Disabled,
        CgroupManager::Systemd => Kind::Systemd,
        CgroupManager::Cgroupfs if global.systemd_cgroup => Kind::Systemd,
        CgroupManager::Cgroupfs => Kind::Cgroupfs,
    }
}

/// Where the containers' state is: `--root`, or a directory that the caller may write to.
fn root(global: &Global) -> Root {
    match &global.root {
        Some(root) => Root::named(root.clone()),
        None => Root::default_at(default_root(global)),
    }
}

fn default_root(global: &Global) -> PathBuf {
    let rootless = match global.rootless {
        Rootless::True => true,
        Rootless::False => false,
        // Root of a user namespace is an ordinary user, unless the namespace is made to be a whole machine: runc's rule.
        Rootless::Auto => {
            let env = std::env::var_os;
            let is_user = || env("USER").is_none_or(|user| user != "root") && is_rootless();
            !geteuid().is_root() || env("XDG_RUNTIME_DIR").is_some() && is_user()
        }
    };
    if !rootless {
        return PathBuf::from("/run/tare");
    }
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|directory| !directory.is_empty()) {
        Some(directory) => PathBuf::from(directory).join("tare"),
        None => PathBuf::from(format!("/tmp/tare-{}", getuid())),
    }
}

/// Writes to standard output at once; false: nobody reads any more.
fn print(text: &str) -> Result<bool> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        result => result.map(|()| true).context("write to standard output"),
    }
}
