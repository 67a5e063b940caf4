//! What a process sees of itself and of its container.

use std::collections::BTreeMap;
use std::fs;
use std::io::IsTerminal;

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::{Mode, umask};
use nix::sys::utsname::uname;
use nix::unistd::{getgroups, getpid, getresgid, getresuid};
use serde_json::{Value, json};

/// The resource limits by their names in a configuration.
const RESOURCES: &[(&str, Resource)] = &[
    ("RLIMIT_AS", Resource::RLIMIT_AS),
    ("RLIMIT_CORE", Resource::RLIMIT_CORE),
    ("RLIMIT_CPU", Resource::RLIMIT_CPU),
    ("RLIMIT_DATA", Resource::RLIMIT_DATA),
    ("RLIMIT_FSIZE", Resource::RLIMIT_FSIZE),
    ("RLIMIT_LOCKS", Resource::RLIMIT_LOCKS),
    ("RLIMIT_MEMLOCK", Resource::RLIMIT_MEMLOCK),
    ("RLIMIT_MSGQUEUE", Resource::RLIMIT_MSGQUEUE),
    ("RLIMIT_NICE", Resource::RLIMIT_NICE),
    ("RLIMIT_NOFILE", Resource::RLIMIT_NOFILE),
    ("RLIMIT_NPROC", Resource::RLIMIT_NPROC),
    ("RLIMIT_RSS", Resource::RLIMIT_RSS),
    ("RLIMIT_RTPRIO", Resource::RLIMIT_RTPRIO),
    ("RLIMIT_RTTIME", Resource::RLIMIT_RTTIME),
    ("RLIMIT_SIGPENDING", Resource::RLIMIT_SIGPENDING),
    ("RLIMIT_STACK", Resource::RLIMIT_STACK),
];

/// Everything at once; what cannot be seen (no /proc, say) is null.
pub fn view() -> Value {
    // First: a descriptor opened here would count.
    let fds = descriptors();
    let mask = umask(Mode::empty());
    umask(mask);
    let (uid, gid) = (getresuid().ok(), getresgid().ok());
    let groups = getgroups().unwrap_or_default();
    let names = uname().ok();
    let name = |of: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
        names.as_ref().map(|names| of(names).to_string_lossy().into_owned())
    };
    json!({
        "pid": getpid().as_raw(),
        "args": std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect::<Vec<_>>(),
        "env": std::env::vars_os()
            .map(|(key, value)| format!("{}={}", key.to_string_lossy(), value.to_string_lossy()))
            .collect::<Vec<_>>(),
        "cwd": std::env::current_dir().ok(),
        "uids": uid.map(|ids| [ids.real.as_raw(), ids.effective.as_raw(), ids.saved.as_raw()]),
        "gids": gid.map(|ids| [ids.real.as_raw(), ids.effective.as_raw(), ids.saved.as_raw()]),
        "groups": groups.iter().map(|gid| gid.as_raw()).collect::<Vec<_>>(),
        "umask": mask.bits(),
        "rlimits": RESOURCES
            .iter()
            .map(|(name, resource)| ((*name).to_owned(), json!(getrlimit(*resource).ok())))
            .collect::<serde_json::Map<_, _>>(),
        "hostname": name(|names| names.nodename()),
        "machine": name(|names| names.machine()),
        "domainname": name(|names| names.domainname()),
        "status": fields("/proc/self/status"),
        "oom_score_adj": fs::read_to_string("/proc/self/oom_score_adj").ok().and_then(|text| text.trim().parse::<i32>().ok()),
        "mountinfo": fs::read_to_string("/proc/self/mountinfo").ok(),
        "cgroup": fs::read_to_string("/proc/self/cgroup").ok(),
        "namespaces": namespaces(),
        "fds": fds,
        "terminal": [std::io::stdin().is_terminal(), std::io::stdout().is_terminal(), std::io::stderr().is_terminal()],
    })
}

/// The open descriptors and what they are.
fn descriptors() -> BTreeMap<String, String> {
    let Ok(dir) = fs::read_dir("/proc/self/fd") else { return BTreeMap::new() };
    let names: Vec<_> = dir.flatten().map(|entry| entry.path()).collect();
    // The directory's own descriptor is closed by now, so its link is gone.
    let links = names.iter().filter_map(|path| Some((path.file_name()?, fs::read_link(path).ok()?)));
    links.map(|(fd, link)| (fd.to_string_lossy().into_owned(), link.to_string_lossy().into_owned())).collect()
}

fn namespaces() -> BTreeMap<String, String> {
    let entries = fs::read_dir("/proc/self/ns").into_iter().flatten().flatten();
    let links = entries.filter_map(|entry| Some((entry.file_name(), fs::read_link(entry.path()).ok()?)));
    links.map(|(kind, link)| (kind.to_string_lossy().into_owned(), link.to_string_lossy().into_owned())).collect()
}

/// A file of `Key:<blank>value` lines.
fn fields(path: &str) -> BTreeMap<String, String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect()
}
