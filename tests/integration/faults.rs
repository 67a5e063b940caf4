//! System calls that fail where they usually do not: the outcome that is told is the one that is
//! there.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::mount::{MsFlags, mount};
use serde_json::{Value, json};

use crate::cgroup_tree::{has_v1, v1_dir, v2_dir};
use crate::container::{Container, is_alive};
use crate::runtime::{eventually, need_root, only_tare, read_text, runtime, skip};

/// What the program finds in HOME, which is not configured.
fn prints_home(c: &mut Container) {
    c.script("echo $HOME");
    fs::write(
        c.rootfs().join("etc/passwd"),
        b"other:x:5:5:Andr\xe9:/other:/bin/sh\nroot:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n",
    )
    .expect("write etc/passwd");
}

#[test]
fn home_is_found_in_a_file_that_only_root_can_read() {
    let mut c = Container::new();
    prints_home(&mut c);
    c.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    fs::set_permissions(c.rootfs().join("etc/passwd"), PermissionsExt::from_mode(0o600)).expect("chmod");
    c.run().ok().silent().prints("/home/user\n");
    // The same for exec.
    c.args(&["sleep", "1000"]);
    c.launch();
    c.call(&["exec", &c.id, "sh", "-c", "echo $HOME"]).ok().silent().prints("/home/user\n");
}

#[test]
fn home_is_found_before_the_limit_on_descriptors() {
    only_tare!("its runtime needs more descriptors");
    let mut c = Container::new();
    prints_home(&mut c);
    c.config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 3, "hard": 3 }]);
    c.run().ok().silent().prints("/root\n");
}

#[test]
fn home_is_a_slash_only_where_the_user_has_none() {
    let absent: [fn(&Path); 5] = [
        |_| {},
        |passwd| fs::write(passwd, "user:x:1000:1000::/home/user:/bin/sh\n").expect("write"),
        |passwd| fs::create_dir(passwd).expect("mkdir"),
        |passwd| symlink("/no/such/file", passwd).expect("link"),
        |passwd| symlink("/dev/null", passwd).expect("link"),
    ];
    for make in absent {
        let mut c = Container::new();
        prints_home(&mut c);
        let passwd = c.rootfs().join("etc/passwd");
        fs::remove_file(&passwd).expect("remove");
        make(&passwd);
        c.run().ok().silent().prints("/\n");
    }
}

#[test]
fn a_passwd_that_cannot_be_read_is_an_error_unless_home_is_set() {
    only_tare!("runc takes / for it");
    let mut c = Container::new();
    prints_home(&mut c);
    let passwd = c.rootfs().join("etc/passwd");
    fs::remove_file(&passwd).expect("remove");
    symlink("passwd", &passwd).expect("a link to itself");
    c.run().fails(&["HOME", "/etc/passwd", "symbolic links"]);
    c.assert_nothing_left();
    c.config["process"]["env"] = json!(["PATH=/bin", "HOME=/set"]);
    c.run().ok().silent().prints("/set\n");
}

/// The profile is in force before the capabilities are set, without noNewPrivileges.
#[test]
fn an_ambient_capability_that_the_kernel_refuses_is_an_error() {
    only_tare!("runc only warns");
    let mut c = Container::sh("grep CapAmb /proc/self/status");
    let sets = ["bounding", "effective", "permitted", "inheritable", "ambient"];
    c.config["process"]["capabilities"] =
        sets.iter().map(|set| ((*set).to_owned(), json!(["CAP_KILL"]))).collect::<serde_json::Map<_, _>>().into();
    c.config["process"]["noNewPrivileges"] = json!(false);
    c.run().ok().silent().prints("CapAmb:\t0000000000000020\n");
    let argument = |index: u32, value: u32| json!({ "index": index, "value": value, "op": "SCMP_CMP_EQ" });
    // PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE
    let rule = json!({ "names": ["prctl"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
        "args": [argument(0, 47), argument(1, 2)] });
    c.config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] });
    let outcome = c.run().fails(&["process.capabilities.ambient", "CAP_KILL", "not permitted"]).prints("");
    assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
    c.assert_nothing_left();
    // What cannot be ambient in the first place is left out with a warning.
    c.config["process"]["capabilities"]["inheritable"] = json!([]);
    let outcome = c.run().ok().prints("CapAmb:\t0000000000000000\n");
    assert!(outcome.stderr.contains("ambient"), "{}", outcome.stderr);
}

/// The runtime with an injected failure, as strace(1) describes it; none where there is no strace,
/// or it may not trace.
fn injected(c: &Container, inject: &str, args: &[&str]) -> Option<Command> {
    let mut probe = Command::new("strace");
    let probe = probe.args(["-o", "/dev/null", "true"]).stdin(Stdio::null());
    let found = probe.stdout(Stdio::null()).stderr(Stdio::null()).status();
    found.ok().filter(std::process::ExitStatus::success)?;
    let mut command = Command::new("strace");
    let trace = inject.split_once(':').expect("a call and what happens to it").0;
    command.args(["-o", "/dev/null", "-e", &format!("trace={trace}"), "-e", &format!("inject={inject}")]);
    command.arg(runtime()).args(c.global_args()).args(args).stdin(Stdio::null());
    Some(command)
}

macro_rules! need_strace {
    ($injected:expr) => {
        match $injected {
            Some(command) => command,
            None => skip!("strace is not installed, or may not trace"),
        }
    };
}

#[test]
fn a_create_that_cannot_lock_its_directory_leaves_none() {
    only_tare!("its state directory is locked otherwise");
    let c = Container::sleeping();
    c.save();
    let bundle = c.bundle.path().display().to_string();
    let mut create = need_strace!(injected(&c, "flock:error=ENOLCK:when=1", &["create", "--bundle", &bundle, &c.id]));
    let outcome = c.finish(&mut create).fails(&["lock", "No locks available"]);
    assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
    c.assert_nothing_left();
    c.create().ok();
}

/// A running container whose state is on a filesystem of its own, and the file that takes all its
/// room.
fn on_a_small_filesystem() -> (Container, std::path::PathBuf) {
    let mut c = Container::sleeping();
    c.config["linux"]["resources"]["pids"] = json!({ "limit": 20 });
    let root = c.bundle.state_root();
    fs::create_dir(&root).expect("mkdir");
    let options = Some("size=256k,mode=700");
    mount(Some("tmpfs"), &root, Some("tmpfs"), MsFlags::empty(), options).expect("mount a tmpfs");
    c.launch();
    let filler = root.join(".filler");
    (c, filler)
}

fn pids_max(c: &Container) -> String {
    let dir = if has_v1("pids") { v1_dir(c.pid(), "pids") } else { v2_dir(c.pid()) };
    read_text(&dir.join("pids.max")).trim().to_owned()
}

#[test]
fn an_update_that_cannot_be_recorded_changes_nothing() {
    only_tare!("runc leaves what was set");
    need_root!("mounts a tmpfs");
    let (c, filler) = on_a_small_filesystem();
    let record = c.bundle.state_root().join(&c.id).join("state.json");
    let before: Value = serde_json::from_str(&read_text(&record)).expect("JSON");
    let mut full = Vec::new();
    while fs::write(&filler, vec![0; full.len() + 4096]).is_ok() {
        full.resize(full.len() + 4096, 0);
        assert!(full.len() < 1 << 20, "the filesystem has no end");
    }
    c.call(&["update", "--pids-limit", "9", &c.id]).fails(&["no space left on device"]);
    assert_eq!(pids_max(&c), "20");
    fs::remove_file(&filler).expect("make room");
    let after: Value = serde_json::from_str(&read_text(&record)).expect("JSON");
    assert_eq!(after, before);
    c.call(&["update", "--pids-limit", "9", &c.id]).ok();
    assert_eq!(pids_max(&c), "9");
    c.delete_force().ok();
    assert!(!record.exists());
}

#[test]
fn an_update_whose_record_cannot_be_replaced_takes_the_limits_back() {
    only_tare!("runc leaves what was set");
    need_root!("an ordinary user may have no cgroup");
    let mut c = Container::sleeping();
    c.config["linux"]["resources"]["pids"] = json!({ "limit": 20 });
    c.launch();
    for call in ["rename", "renameat", "renameat2"] {
        let inject = format!("{call}:error=EIO");
        let mut update = need_strace!(injected(&c, &inject, &["update", "--pids-limit", "9", &c.id]));
        let outcome = c.finish(&mut update);
        if outcome.exit_code() == 0 {
            // The library uses another of the three calls.
            c.call(&["update", "--pids-limit", "20", &c.id]).ok();
            continue;
        }
        outcome.fails(&["state.json", "input/output error"]);
        assert_eq!(pids_max(&c), "20");
    }
    let files = fs::read_dir(c.bundle.state_root().join(&c.id)).expect("list").flatten();
    let names: Vec<_> = files.filter_map(|file| file.file_name().into_string().ok()).collect();
    assert!(!names.iter().any(|name| name.contains("new")), "{names:?}");
}

/// A failure after the program runs: the caller is told that nothing does.
#[test]
fn an_exec_that_fails_leaves_no_process() {
    only_tare!("runc asks the kernel in other ways");
    need_root!("an ordinary user may have no cgroup, by which processes are counted");
    let c = Container::sleeping();
    c.launch();
    let sleeps = || crate::container::processes(&c.id).len();
    eventually("only init is there", || (sleeps() == 1).then_some(()));
    let pid_file = c.beside("no/such/directory/pid");
    let pid_file = pid_file.to_str().expect("a path");
    c.call(&["exec", "--detach", "--pid-file", pid_file, &c.id, "sleep", "999"]).code(255);
    eventually("its program has ended", || (sleeps() == 1).then_some(()));
    // While it waits for the program's end. The first calls are those of a program that begins.
    for number in 1..=4 {
        let inject = format!("poll:error=EINVAL:when={number}");
        let mut exec = need_strace!(injected(&c, &inject, &["exec", &c.id, "sleep", "2"]));
        let outcome = c.finish(&mut exec);
        if outcome.exit_code() != 0 {
            assert_eq!(sleeps(), 1, "{number}: {}", outcome.stderr);
        }
        if outcome.stderr.contains("poll") {
            break;
        }
    }
    assert!(is_alive(c.pid()));
    assert_eq!(c.status(), "running");
}

/// Bits of the mode that the runtime's own files have, whatever umask the caller has.
#[test]
fn what_is_kept_is_private_with_any_umask() {
    only_tare!("runc keeps other files");
    let c = Container::sleeping();
    c.save();
    let bundle = c.bundle.path();
    let mut command = Command::new("sh");
    command.args(["-c", "umask 0; exec \"$@\"", "sh"]).arg(runtime()).args(c.global_args());
    command.args(["create", "--bundle"]).arg(bundle).arg(&c.id).stdin(Stdio::null());
    c.finish(&mut command).ok();
    let directory = c.bundle.state_root().join(&c.id);
    assert_eq!(fs::metadata(&directory).expect("the directory").mode() & 0o7777, 0o700);
    for name in ["state.json", "kept.json"] {
        assert_eq!(fs::metadata(directory.join(name)).expect(name).mode() & 0o7777, 0o600, "{name}");
    }
}
