//! The command line: one definition for parsing, help, completions and manual pages.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::{Error, ErrorKind};
use clap::{ArgAction, ArgMatches, Args, FromArgMatches, ValueEnum};

use super::duration;

/// A command line that was understood.
#[derive(Debug)]
pub struct Cli {
    /// Flags that stand before the command.
    pub global: Global,
    /// What to do.
    pub command: Option<Command>,
}

impl Cli {
    /// The definition.
    pub fn definition() -> clap::Command {
        Command::all(program())
    }

    /// Understands the arguments, of which this is probably the command. To define the other commands takes as long as the
    /// parse: they are there if something is wrong, or asked about.
    ///
    /// # Errors
    /// What is wrong with the arguments, or the help that they ask for.
    pub fn parse(args: &[OsString], command: Option<&str>) -> Result<Self, Error> {
        let alone = command.and_then(|name| Command::only(name, program()));
        let alone = alone.map(|definition| definition.disable_help_flag(true).disable_help_subcommand(true));
        if let Some(Ok(cli)) = alone.map(|definition| Self::parse_by(definition, args)) {
            return Ok(cli);
        }
        Self::parse_by(Self::definition(), args)
    }

    fn parse_by(definition: clap::Command, args: &[OsString]) -> Result<Self, Error> {
        let mut matches = definition.try_get_matches_from(args)?;
        let global = Global::from_arg_matches_mut(&mut matches)?;
        Ok(Self { global, command: matches.remove_subcommand().map(Command::of).transpose()? })
    }
}

/// The program without its commands.
fn program() -> clap::Command {
    let program = clap::Command::new("tare").disable_version_flag(true).args_override_self(true);
    Global::augment_args(program).about("A low-level container runtime for OCI bundles")
}

/// Flags that stand before the command.
#[derive(Debug, Args)]
pub struct Global {
    /// Print the versions of the program and of the specification it follows
    #[arg(long, short = 'v', action = ArgAction::SetTrue)]
    pub version: bool,
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
    /// Report to this file where the time went, phase by phase, when the command ends (- is standard error)
    #[arg(long, value_name = "FILE")]
    pub timing: Option<PathBuf>,
    /// Form of that report [default: trace if the file's name ends with .json, else text]
    #[arg(long, value_name = "FORMAT")]
    pub timing_format: Option<TimingFormat>,
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

/// `--timing-format`
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum TimingFormat {
    /// A line a phase
    Text,
    /// Trace events (JSON), for the trace viewers of browsers
    Trace,
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

/// Defines the commands: what each is called and takes. Written out, because what is derived defines the flags of every
/// command each time, which took longer than all that is done with `config.json`; here only those of the one that is
/// called are, and of the others not even the names, if they are not needed. Where all are (`defer`), the parser defines
/// them, deep in its stack; where one is alone, it is defined before.
macro_rules! commands {
    ($($name:literal $variant:ident($arguments:ident), $about:literal;)*) => {
        /// What to do.
        #[derive(Debug)]
        pub enum Command {
            $(#[doc = $about] $variant(Box<$arguments>),)*
        }

        impl Command {
            fn all(program: clap::Command) -> clap::Command {
                program$(.subcommand(clap::Command::new($name).about($about).defer(|command| $arguments::augment_args(command).about($about))))*
            }

            fn only(name: &str, program: clap::Command) -> Option<clap::Command> {
                match name {
                    $($name => Some(program.subcommand($arguments::augment_args(clap::Command::new($name)))),)*
                    _ => None,
                }
            }

            fn of((name, mut matches): (String, ArgMatches)) -> Result<Self, Error> {
                match name.as_str() {
                    $($name => $arguments::from_arg_matches_mut(&mut matches).map(Box::new).map(Self::$variant),)*
                    _ => Err(Error::raw(ErrorKind::InvalidSubcommand, name)),
                }
            }
        }
    };
}

commands! {
    "create" Create(Create), "Create a container, which then waits for `start`";
    "start" Start(Id), "Run the program of a created container";
    "run" Run(Run), "Create and start a container, and stay with it until it ends";
    "exec" Exec(Exec), "Run a further program in a container";
    "pause" Pause(Id), "Stop all processes of a container for a while";
    "resume" Resume(Id), "Let the processes of a paused container go on";
    "update" Update(Update), "Change the limits of a container";
    "events" Events(Events), "Report what a container uses, again and again, and when it runs out of memory, as JSON";
    "stats" Stats(Stats), "Show what containers use";
    "ps" Ps(Ps), "List the processes of a container";
    "state" State(Id), "Print the state of a container as JSON";
    "kill" Kill(Kill), "Send a signal to a container's init";
    "delete" Delete(Delete), "Remove what is left of containers";
    "list" List(List), "List the containers below --root";
    "spec" Spec(Spec), "Write a default config.json";
    "features" Features(Features), "Print what this runtime can do as JSON";
}

/// `features` has no flags.
#[derive(Debug, Args)]
pub struct Features {}

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
    /// Unix socket that is sent a pidfd of the container's init
    #[arg(long, value_name = "SOCKET")]
    pub pidfd_socket: Option<PathBuf>,
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

/// Flags of `exec`.
#[derive(Debug, Args)]
pub struct Exec {
    /// Take the process from this file (JSON, as config.json's process)
    #[arg(long, short, value_name = "FILE")]
    pub process: Option<PathBuf>,
    /// Working directory in the container
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<PathBuf>,
    /// Set an environment variable (may be given several times)
    #[arg(long, short, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// Give the program a terminal
    #[arg(long, short)]
    pub tty: bool,
    /// Run the program as this user
    #[arg(long, short, value_name = "UID[:GID]")]
    pub user: Option<String>,
    /// Further groups (may be given several times)
    #[arg(long, short = 'g', value_name = "GID")]
    pub additional_gids: Vec<u32>,
    /// Do not wait for the program's end
    #[arg(long, short)]
    pub detach: bool,
    /// Write the pid of the program to this file
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Unix socket that is sent the terminal of the program
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// Unix socket that is sent a pidfd of the program
    #[arg(long, value_name = "SOCKET")]
    pub pidfd_socket: Option<PathBuf>,
    /// AppArmor profile
    #[arg(long, value_name = "PROFILE")]
    pub apparmor: Option<String>,
    /// SELinux label
    #[arg(long, value_name = "LABEL")]
    pub process_label: Option<String>,
    /// Keep the program from gaining privileges
    #[arg(long)]
    pub no_new_privs: bool,
    /// Add a capability to those of the container's process (may be given several times)
    #[arg(long, short, value_name = "CAPABILITY")]
    pub cap: Vec<String>,
    /// Pass this many descriptors after standard error on to the program
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u32,
    /// Run the program in an existing cgroup below the container's own (may be given several times on cgroup v1)
    #[arg(long, value_name = "[CONTROLLER[,...]:]PATH")]
    pub cgroup: Vec<String>,
    /// Run the program in a paused container too, where it waits
    #[arg(long)]
    pub ignore_paused: bool,
    /// The container's id
    #[arg(value_name = "CONTAINER")]
    pub id: String,
    /// The program and its arguments
    #[arg(value_name = "ARG", trailing_var_arg = true, allow_hyphen_values = true)]
    pub args: Vec<String>,
}

/// Flags of `kill`.
#[derive(Debug, Args)]
pub struct Kill {
    /// Send the signal to all processes of the container
    #[arg(long, short)]
    pub all: bool,
    /// Send it to all running containers whose ids match this regular expression
    #[arg(long, short)]
    pub regex: bool,
    /// The container's id; with --regex, the regular expression
    #[arg(value_name = "CONTAINER")]
    pub id: String,
    /// The signal: a name, with or without SIG, as TERM or RTMIN+1, or a number
    #[arg(default_value = "SIGTERM", allow_hyphen_values = false)]
    pub signal: String,
}

/// Flags of `delete`.
#[derive(Debug, Args)]
pub struct Delete {
    /// Kill containers that run; one that does not exist is no error
    #[arg(long, short)]
    pub force: bool,
    /// Delete all containers whose ids match these regular expressions
    #[arg(long, short)]
    pub regex: bool,
    /// The containers' ids; with --regex, regular expressions
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

/// `--format` of `list`, `ps` and `stats`
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ListFormat {
    /// Columns for a person
    Table,
    /// An array
    Json,
}

/// Flags of `update`.
#[derive(Debug, Args)]
pub struct Update {
    /// Take the limits from this file (JSON, as config.json's linux.resources); - is standard input
    #[arg(long, short, value_name = "FILE")]
    pub resources: Option<PathBuf>,
    /// Relative weight of block I/O, from 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    pub blkio_weight: Option<u16>,
    /// Length of a period of CPU time, in microseconds
    #[arg(long, value_name = "US")]
    pub cpu_period: Option<u64>,
    /// CPU time in a period, in microseconds; -1: no limit
    #[arg(long, value_name = "US", allow_hyphen_values = true)]
    pub cpu_quota: Option<i64>,
    /// CPU time that may be saved up for a burst, in microseconds
    #[arg(long, value_name = "US")]
    pub cpu_burst: Option<u64>,
    /// 1: run only when no other wants the CPU
    #[arg(long, value_name = "0|1")]
    pub cpu_idle: Option<i64>,
    /// Relative weight of CPU time
    #[arg(long, value_name = "SHARES")]
    pub cpu_share: Option<u64>,
    /// Length of a period of realtime scheduling, in microseconds
    #[arg(long, value_name = "US")]
    pub cpu_rt_period: Option<u64>,
    /// Realtime scheduling in a period, in microseconds
    #[arg(long, value_name = "US", allow_hyphen_values = true)]
    pub cpu_rt_runtime: Option<i64>,
    /// CPUs that may be used, as 0-2,4
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes that may be used
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// Memory limit, as 64M; -1: no limit
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub memory: Option<String>,
    /// Memory that is kept when memory is short
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub memory_reservation: Option<String>,
    /// Limit of memory and swap together; -1: no limit
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub memory_swap: Option<String>,
    /// How many processes there may be; -1: no limit
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub pids_limit: Option<i64>,
    /// Share of the last-level cache, as L3:0=f (Intel RDT)
    #[arg(long, value_name = "SCHEMA")]
    pub l3_cache_schema: Option<String>,
    /// Share of the memory bandwidth, as MB:0=50 (Intel RDT)
    #[arg(long, value_name = "SCHEMA")]
    pub mem_bw_schema: Option<String>,
    /// The container's id
    #[arg(value_name = "CONTAINER")]
    pub id: String,
}

/// Flags of `events`.
#[derive(Debug, Args)]
pub struct Events {
    /// Time between two reports, as 500ms, 5s or 1m30s
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration::parse, allow_hyphen_values = true)]
    pub interval: i64,
    /// Report once, and end
    #[arg(long)]
    pub stats: bool,
    /// The container's id
    #[arg(value_name = "CONTAINER")]
    pub id: String,
}

/// Flags of `stats`.
#[derive(Debug, Args)]
pub struct Stats {
    /// Show it again and again, until Ctrl-C or until none of the named containers is left
    #[arg(long, short)]
    pub watch: bool,
    /// Time between two readings, as 500ms, 5s or 1m30s: shares of time are of this one
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration::parse, allow_hyphen_values = true)]
    pub interval: i64,
    /// Form of the list
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    pub format: ListFormat,
    /// The containers' ids [default: all that are not stopped]
    #[arg(value_name = "CONTAINER")]
    pub ids: Vec<String>,
}

/// Flags of `ps`.
#[derive(Debug, Args)]
pub struct Ps {
    /// Form of the list
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    pub format: ListFormat,
    /// The container's id
    #[arg(value_name = "CONTAINER")]
    pub id: String,
    /// Arguments for ps(1), which makes the table [default: -ef]
    #[arg(value_name = "PS_OPTION", trailing_var_arg = true, allow_hyphen_values = true)]
    pub options: Vec<String>,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, Error> {
        let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        Cli::parse(&args, crate::commands::arguments::command(&args))
    }

    #[test]
    fn the_definition_holds_together() {
        Cli::definition().debug_assert();
    }

    #[test]
    fn every_command_is_understood_with_its_own_definition_alone() {
        for command in Cli::definition().get_subcommands() {
            let alone = Command::only(command.get_name(), program()).expect("a command");
            alone.debug_assert();
        }
    }

    #[test]
    fn what_one_definition_does_not_know_is_asked_of_the_whole() {
        assert!(matches!(parse("tare --root /x state y").unwrap().command, Some(Command::State(_))));
        assert!(parse("tare").unwrap().command.is_none());
        assert!(parse("tare -v").unwrap().global.version);
        let kind = |line| parse(line).unwrap_err().kind();
        assert_eq!(kind("tare stae x"), ErrorKind::InvalidSubcommand);
        assert_eq!(kind("tare state --help"), ErrorKind::DisplayHelp);
        assert_eq!(kind("tare help state"), ErrorKind::DisplayHelp);
        assert_eq!(kind("tare state"), ErrorKind::MissingRequiredArgument);
        assert_eq!(kind("tare --no-such state x"), ErrorKind::UnknownArgument);
    }
}
