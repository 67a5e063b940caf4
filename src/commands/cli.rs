//! The command line: one definition for parsing, help, completions and manual pages.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::{ArgAction, Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

/// A low-level container runtime for OCI bundles.
#[derive(Debug, Parser)]
#[command(name = "tare", disable_version_flag = true, disable_help_subcommand = true, args_override_self = true)]
pub struct Cli {
    /// Print the versions of the program and of the specification it follows
    #[arg(long, short = 'v', action = ArgAction::SetTrue)]
    pub version: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub global: Global,
    #[command(subcommand)]
    #[allow(missing_docs)]
    pub command: Option<Command>,
}

/// Flags that stand before the command.
#[derive(Debug, Args)]
pub struct Global {
    /// Directory of the containers' state [default: /run/tare; $XDG_RUNTIME_DIR/tare for an ordinary user]
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Append messages to this file instead of writing them to standard error
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Form of the messages
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// Log what is done, and why
    #[arg(long)]
    pub debug: bool,
    /// Manage cgroups by systemd (linux.cgroupsPath is then slice:prefix:name)
    #[arg(long)]
    pub systemd_cgroup: bool,
    /// Who manages cgroups: --systemd-cgroup is the same as systemd
    #[arg(long, value_name = "MANAGER", default_value = "cgroupfs")]
    pub cgroup_manager: CgroupManager,
    /// Keep the state of containers where an ordinary user can
    #[arg(long, value_name = "WHEN", default_value = "auto", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub rootless: Rootless,
}

/// `--log-format`
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormat {
    /// `time="…" level=error msg="…"`
    Text,
    /// One JSON object a line
    Json,
}

/// `--cgroup-manager`
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum CgroupManager {
    /// Through the cgroup filesystem
    Cgroupfs,
    /// By systemd, as a transient scope
    Systemd,
    /// Containers stay in the caller's cgroup, without limits
    Disabled,
}

/// `--rootless`
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Rootless {
    /// Yes, unless run by root
    Auto,
    /// Yes
    True,
    /// No
    False,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a container, which then waits for `start`
    Create(Create),
    /// Run the program of a created container
    Start(Id),
    /// Create and start a container, and stay with it until it ends
    Run(Run),
    /// Print the state of a container as JSON
    State(Id),
    /// Send a signal to a container's init
    Kill(Kill),
    /// Remove what is left of containers
    Delete(Delete),
    /// List the containers below --root
    List(List),
    /// Write a default config.json
    Spec(Spec),
    /// Print what this runtime can do as JSON
    Features,
    /// Print the completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a directory
    Man {
        /// The directory
        directory: PathBuf,
    },
}

/// A container's id.
#[derive(Debug, Args)]
pub struct Id {
    /// The container's id
    #[arg(value_name = "CONTAINER")]
    pub id: String,
}

/// Flags of `create` and `run`.
#[derive(Debug, Args)]
pub struct Create {
    /// Directory that holds config.json
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// Write the pid of the container's init to this file
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Unix socket that is sent the terminal of the container
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// Do not use pivot_root (for a root filesystem in an initramfs)
    #[arg(long)]
    pub no_pivot: bool,
    /// Keep the caller's session keyring
    #[arg(long)]
    pub no_new_keyring: bool,
    /// Pass this many descriptors after standard error on to the program
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u32,
    /// The new container's id
    #[arg(value_name = "CONTAINER")]
    pub id: String,
}

/// Flags of `run`.
#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub create: Create,
    /// Leave the container to itself once it is started
    #[arg(long, short)]
    pub detach: bool,
    /// Do not delete the container after it has ended
    #[arg(long)]
    pub keep: bool,
    /// Do not become the reaper of the container's orphans
    #[arg(long)]
    pub no_subreaper: bool,
}

/// Flags of `kill`.
#[derive(Debug, Args)]
pub struct Kill {
    /// Send the signal to all processes of the container
    #[arg(long, short)]
    pub all: bool,
    /// The container's id
    #[arg(value_name = "CONTAINER")]
    pub id: String,
    /// The signal: a name, with or without SIG, or a number
    #[arg(default_value = "SIGTERM", allow_hyphen_values = false)]
    pub signal: String,
}

/// Flags of `delete`.
#[derive(Debug, Args)]
pub struct Delete {
    /// Kill containers that run; one that does not exist is no error
    #[arg(long, short)]
    pub force: bool,
    /// The containers' ids
    #[arg(value_name = "CONTAINER", required = true)]
    pub ids: Vec<String>,
}

/// Flags of `list`.
#[derive(Debug, Args)]
pub struct List {
    /// Form of the list
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    pub format: ListFormat,
    /// Print only the ids
    #[arg(long, short)]
    pub quiet: bool,
}

/// `list --format`
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ListFormat {
    /// Columns for a person
    Table,
    /// An array of states
    Json,
}

/// Flags of `spec`.
#[derive(Debug, Args)]
pub struct Spec {
    /// Directory to write config.json into
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// Make a configuration that an ordinary user can run
    #[arg(long)]
    pub rootless: bool,
}

/// Accepts long options with one dash, as Go's flag package does and callers of runc rely on (`-no-subreaper`).
pub fn with_two_dashes(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut args: Vec<OsString> = args.collect();
    let end = args.iter().position(|arg| arg == "--").unwrap_or(args.len());
    let single = |arg: &OsString| long_name(arg).is_some();
    if !args[..end].iter().skip(1).any(single) {
        return args;
    }
    let names = long_names(&Cli::command());
    for arg in args[..end].iter_mut().skip(1) {
        if long_name(arg).is_some_and(|name| names.iter().any(|known| known == name)) {
            let mut dashed = OsString::from("-");
            dashed.push(&*arg);
            *arg = dashed;
        }
    }
    args
}

/// The name in `-name` or `-name=value`, if it is longer than a short option.
fn long_name(arg: &OsStr) -> Option<&str> {
    let name = arg.to_str()?.strip_prefix('-')?.split('=').next()?;
    (name.len() > 1 && !name.starts_with('-')).then_some(name)
}

fn long_names(command: &clap::Command) -> Vec<String> {
    let own = command.get_arguments().filter_map(|arg| arg.get_long()).map(str::to_owned);
    let below = command.get_subcommands().flat_map(long_names);
    own.chain(below).chain(["help".to_owned()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dashed(args: &[&str]) -> Vec<OsString> {
        with_two_dashes(args.iter().map(OsString::from))
    }

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_long_option_may_have_one_dash() {
        assert_eq!(
            dashed(&["tare", "-root", "/x", "run", "-no-subreaper", "-bundle=/b", "-d", "x"]),
            ["tare", "--root", "/x", "run", "--no-subreaper", "--bundle=/b", "-d", "x"]
        );
    }

    #[test]
    fn what_is_no_option_of_ours_stays() {
        assert_eq!(dashed(&["tare", "list", "-qf", "-", "--", "-root"]), ["tare", "list", "-qf", "-", "--", "-root"]);
    }
}
