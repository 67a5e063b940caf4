//! `tare exec`

use std::collections::HashSet;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::str::FromStr as _;

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, Process, Spec};

use super::cli;
use super::create::preserved_fds;
use crate::cgroups::Below;
use crate::error::{Context as _, Result, anyhow, bail, ensure};
use crate::linux::ids;
use crate::parent::exec::{Options, exec};
use crate::parent::foreground::{self, Signals};
use crate::state::{Container, Root};
use crate::sys::fd::end_child;
use crate::{config, input, process};

/// What `exec` returns when the program could not be run, as runc does.
const NOT_RUN: i32 = 255;

/// Runs a program in a container; unless detached, stays with it and returns its exit status.
pub fn run(root: &Root, args: cli::Exec) -> Result<i32> {
    start(root, args).or_else(|error| {
        crate::log::fatal(&error);
        Ok(NOT_RUN)
    })
}

fn start(root: &Root, args: cli::Exec) -> Result<i32> {
    let container = Container::open(root, &args.id)?;
    let record = container.record()?;
    record.ensure_own()?;
    let kept = container.kept()?;
    let options = Options {
        process: process_of(&args, &kept.spec)?,
        cgroup: Below::parse(&args.cgroup)?,
        preserved_fds: preserved_fds(args.preserve_fds)?,
        pid_file: args.pid_file,
        console_socket: args.console_socket,
        pidfd_socket: args.pidfd_socket,
        detached: args.detach,
        ignore_paused: args.ignore_paused,
    };
    if options.detached {
        return exec(&container, &record, &kept, &options).map(|_| 0);
    }
    let signals = Signals::catch()?;
    let (program, terminal) = exec(&container, &record, &kept, &options)?;
    // A failure here says that nothing runs.
    foreground::stay(&program, &signals, terminal, None).inspect_err(|_| end_child(program.pidfd.as_fd()))
}

/// The process of the file, or the container's own with what the flags change.
fn process_of(args: &cli::Exec, spec: &Spec) -> Result<Process> {
    if let Some(path) = &args.process {
        let mut process = read(path)?;
        inherit(&mut process, spec);
        return Ok(process);
    }
    let mut process = process::of(spec)?.clone();
    ensure!(!args.args.is_empty(), "process args cannot be empty");
    process.set_args(Some(args.args.clone()));
    if let Some(cwd) = &args.cwd {
        process.set_cwd(cwd.clone());
    }
    // Whether the container's own program has one says nothing about this one: most of those that call it read a pipe.
    process.set_terminal(Some(args.tty));
    if args.no_new_privs {
        process.set_no_new_privileges(Some(true));
    }
    if let Some(label) = &args.process_label {
        process.set_selinux_label(Some(label.clone()));
    }
    if let Some(profile) = &args.apparmor {
        process.set_apparmor_profile(Some(profile.clone()));
    }
    process.env_mut().get_or_insert_default().extend(args.env.iter().cloned());
    set_user(args, &mut process)?;
    add_capabilities(&args.cap, &mut process)?;
    Ok(process)
}

fn read(path: &Path) -> Result<Process> {
    let json =
        input::read_argument(path, input::LONGEST_CONFIG).with_context(|| format!("--process: read {path:?}"))?;
    config::parse_process(&json).with_context(|| format!("--process {path:?}"))
}

/// How the container's own process is confined, limited and scheduled is how all of it is, unless the new one says
/// something else (runc has it so).
fn inherit(process: &mut Process, spec: &Spec) {
    let Some(own) = spec.process() else { return };
    let is_none = |text: &Option<String>| text.as_ref().is_none_or(String::is_empty);
    if is_none(process.selinux_label()) {
        process.set_selinux_label(own.selinux_label().clone());
    }
    if is_none(process.apparmor_profile()) {
        process.set_apparmor_profile(own.apparmor_profile().clone());
    }
    if process.capabilities().is_none() {
        process.set_capabilities(own.capabilities().clone());
    }
    if process.rlimits().as_ref().is_none_or(Vec::is_empty) {
        process.set_rlimits(own.rlimits().clone());
    }
    if process.no_new_privileges().is_none() {
        process.set_no_new_privileges(own.no_new_privileges());
    }
    if process.scheduler().is_none() {
        process.set_scheduler(own.scheduler().clone());
    }
    if process.io_priority().is_none() {
        process.set_io_priority(*own.io_priority());
    }
    if process.exec_cpu_affinity().is_none() {
        process.set_exec_cpu_affinity(own.exec_cpu_affinity().clone());
    }
}

fn set_user(args: &cli::Exec, process: &mut Process) -> Result<()> {
    args.additional_gids.iter().try_for_each(|&gid| ids::check(gid)).context("--additional-gids")?;
    if !args.additional_gids.is_empty() {
        let groups = process.user().additional_gids().iter().flatten().chain(&args.additional_gids);
        let groups = groups.copied().collect();
        process.user_mut().set_additional_gids(Some(groups));
    }
    let Some(user) = &args.user else { return Ok(()) };
    let number = |text: &str| -> Result<u32> {
        let id =
            text.parse().map_err(|_| anyhow!("--user {user:?}: invalid id {text:?}: not a number up to 4294967294"))?;
        ids::check(id).with_context(|| format!("--user {user:?}"))?;
        Ok(id)
    };
    let (uid, gid) = match user.split_once(':') {
        Some((uid, gid)) => (number(uid)?, Some(number(gid)?)),
        None => (number(user)?, None),
    };
    process.user_mut().set_uid(uid);
    if let Some(gid) = gid {
        process.user_mut().set_gid(gid);
    }
    Ok(())
}

fn add_capabilities(names: &[String], process: &mut Process) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let mut added = HashSet::new();
    for name in names {
        let upper = name.to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        match Capability::from_str(bare) {
            Ok(capability) => added.insert(capability),
            Err(_) => bail!("--cap {name:?}: is no capability"),
        };
    }
    let mut sets = process.capabilities().clone().unwrap_or_else(empty);
    let with = |set: &Option<Capabilities>| Some(set.iter().flatten().copied().chain(added.iter().copied()).collect());
    let (bounding, effective, permitted) = (with(sets.bounding()), with(sets.effective()), with(sets.permitted()));
    sets.set_bounding(bounding).set_effective(effective).set_permitted(permitted);
    // Only what is inheritable can be ambient, and this adds nothing to the inheritable set (as in runc).
    let inheritable = sets.inheritable().clone().unwrap_or_default();
    let ambient: Capabilities = added.intersection(&inheritable).copied().collect();
    if !ambient.is_empty() {
        let all = sets.ambient().iter().flatten().copied().chain(ambient).collect();
        sets.set_ambient(Some(all));
    }
    process.set_capabilities(Some(sets));
    Ok(())
}

/// No capabilities at all: the library's own default has some.
fn empty() -> LinuxCapabilities {
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(None).set_effective(None).set_permitted(None).set_inheritable(None).set_ambient(None);
    sets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(flags: &[&str]) -> cli::Exec {
        let args = ["tare", "exec"].iter().chain(flags).chain(&["x", "sh", "-c", "true"]);
        let args: Vec<_> = args.map(std::ffi::OsString::from).collect();
        match cli::Cli::parse(&args, Some("exec")).unwrap().command {
            Some(cli::Command::Exec(args)) => *args,
            other => panic!("{other:?}"),
        }
    }

    fn spec() -> Spec {
        crate::commands::spec::default_spec().unwrap()
    }

    #[test]
    fn flags_change_the_containers_own_process() {
        let flags = flags(&["--cwd", "/tmp", "-e", "A=b", "-u", "7:8", "-g", "9", "--cap", "sys_admin"]);
        let process = process_of(&flags, &spec()).unwrap();
        assert_eq!(process.args().as_ref().unwrap(), &["sh", "-c", "true"]);
        assert_eq!(process.cwd(), Path::new("/tmp"));
        assert!(process.env().as_ref().unwrap().contains(&"A=b".to_owned()));
        assert_eq!((process.user().uid(), process.user().gid()), (7, 8));
        assert_eq!(process.user().additional_gids().as_ref().unwrap(), &[9]);
        let sets = process.capabilities().as_ref().unwrap();
        assert!(sets.effective().as_ref().unwrap().contains(&Capability::SysAdmin));
        assert!(sets.effective().as_ref().unwrap().contains(&Capability::Kill));
        assert!(sets.inheritable().as_ref().is_none_or(|set| set.is_empty()));
    }

    #[test]
    fn only_the_flag_asks_for_a_terminal() {
        let mut spec = spec();
        for of_the_container in [true, false] {
            spec.process_mut().as_mut().unwrap().set_terminal(Some(of_the_container));
            assert_eq!(process_of(&flags(&[]), &spec).unwrap().terminal(), Some(false));
            assert_eq!(process_of(&flags(&["--tty"]), &spec).unwrap().terminal(), Some(true));
        }
    }

    #[test]
    fn labels_are_the_flags_or_the_containers_own() {
        let mut spec = spec();
        let own = spec.process_mut().as_mut().unwrap();
        own.set_selinux_label(Some("own_t".into())).set_apparmor_profile(Some("own".into()));
        let process = process_of(&flags(&["--process-label", "other_t"]), &spec).unwrap();
        assert_eq!(process.selinux_label().as_deref(), Some("other_t"));
        assert_eq!(process.apparmor_profile().as_deref(), Some("own"));
        let mut process = Process::default();
        inherit(&mut process, &spec);
        assert_eq!(process.selinux_label().as_deref(), Some("own_t"));
        assert_eq!(process.apparmor_profile().as_deref(), Some("own"));
        process.set_apparmor_profile(Some("other".into()));
        inherit(&mut process, &spec);
        assert_eq!(process.apparmor_profile().as_deref(), Some("other"));
    }

    #[test]
    fn added_to_nothing_a_capability_is_alone() {
        let mut spec = spec();
        spec.process_mut().as_mut().unwrap().set_capabilities(None);
        let process = process_of(&flags(&["--cap", "CAP_KILL"]), &spec).unwrap();
        let sets = process.capabilities().as_ref().unwrap();
        assert_eq!(sets.permitted().as_ref().unwrap(), &HashSet::from([Capability::Kill]));
        assert!(sets.ambient().is_none());
    }

    #[test]
    fn an_added_capability_is_ambient_if_it_is_inheritable() {
        let mut spec = spec();
        let mut sets = empty();
        sets.set_inheritable(Some(HashSet::from([Capability::Syslog])));
        spec.process_mut().as_mut().unwrap().set_capabilities(Some(sets));
        let process = process_of(&flags(&["--cap", "CAP_SYSLOG", "--cap", "CAP_KILL"]), &spec).unwrap();
        let sets = process.capabilities().as_ref().unwrap();
        assert_eq!(sets.ambient().as_ref().unwrap(), &HashSet::from([Capability::Syslog]));
        assert_eq!(sets.inheritable().as_ref().unwrap(), &HashSet::from([Capability::Syslog]));
    }

    #[test]
    fn what_is_no_user_and_no_capability_is_refused() {
        for bad in [["-u", "root"], ["-u", "1:x"], ["--cap", "CAP_NOPE"]] {
            assert!(process_of(&flags(&bad), &spec()).is_err(), "{bad:?}");
        }
    }
}
