//! What the callers rely on, called as they call it: containerd's shim, conmon, Podman, CRI-O. What one property or command
//! is about is tested in its own file.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::container::Container;
use crate::runtime::{Outcome, by_systemd, is_tare, need_root, only_tare, read_text, runtime};

/// A container as a shim calls it: every command has the log in the bundle, in JSON.
struct Shim {
    c: Container,
    log: String,
    bundle: String,
    pid_file: String,
}

impl Shim {
    fn new(c: Container) -> Self {
        c.save();
        let bundle = c.bundle.path();
        let path = |name: &str| bundle.join(name).display().to_string();
        Self { log: path("log.json"), pid_file: path("init.pid"), bundle: bundle.display().to_string(), c }
    }

    fn command(&self, args: &[&str]) -> Command {
        self.c.command(&[&["--log", &self.log, "--log-format", "json"], args].concat())
    }

    fn call(&self, args: &[&str]) -> Outcome {
        self.c.finish(&mut self.command(args))
    }

    fn create(&self) -> Outcome {
        let arguments =
            ["create", "--bundle", &self.bundle, "--pid-file", &self.pid_file, "--no-new-keyring", &self.c.id];
        self.call(&arguments)
    }

    /// The lines of the log.
    fn logged(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// What the shim shows of a command that failed.
    #[track_caller]
    fn last_error(&self) -> String {
        let lines = self.logged();
        let last = lines.iter().rfind(|line| line["level"] == "error").expect("an error in the log");
        last["msg"].as_str().expect("text").to_owned()
    }
}

#[test]
fn the_calls_of_a_shim_from_create_to_delete() {
    let shim = Shim::new(Container::sleeping());
    let (c, id) = (&shim.c, shim.c.id.as_str());
    shim.create().ok().silent().prints("");
    shim.call(&["start", id]).ok().silent().prints("");
    let state = shim.call(&["state", id]).ok().silent().json();
    assert_eq!((state["id"].as_str(), state["status"].as_str()), (Some(id), Some("running")));
    assert_eq!(read_text(Path::new(&shim.pid_file)), state["pid"].to_string());

    let process = c.beside("process.json");
    fs::write(
        &process,
        json!({ "args": ["/bin/sleep", "1000"], "cwd": "/", "user": { "uid": 0, "gid": 0 } }).to_string(),
    )
    .expect("write");
    let (process, exec_pid) = (process.display().to_string(), c.beside("exec.pid").display().to_string());
    shim.call(&["exec", "--process", &process, "--detach", "--pid-file", &exec_pid, id]).ok().silent().prints("");
    let pids = shim.call(&["ps", "--format", "json", id]).ok().silent().json();
    let mut expected = [c.pid(), read_text(Path::new(&exec_pid)).parse().expect("a pid")];
    expected.sort_unstable();
    let mut pids: Vec<i32> = serde_json::from_value(pids).expect("a list of pids");
    pids.sort_unstable();
    assert_eq!(pids, expected);

    shim.call(&["events", "--stats", id]).ok().silent().json();
    let list = shim.call(&["list", "--format", "json"]).ok().silent().json();
    assert_eq!(list[0]["id"], id);
    shim.call(&["kill", id, "18"]).ok().silent().prints("");
    shim.call(&["kill", "--all", id, "9"]).ok().silent().prints("");
    c.wait_for_status("stopped");
    shim.call(&["delete", id]).ok().silent().prints("");
    shim.call(&["delete", "--force", id]).ok().silent();
    assert_eq!(shim.logged(), Vec::<Value>::new());
    c.assert_nothing_left();
}

#[test]
fn limits_come_as_json_on_the_standard_input() {
    need_root!("an ordinary user's container has no cgroup of its own here");
    for spelling in [&["--resources=-"][..], &["--resources", "-"], &["-r", "-"]] {
        let shim = Shim::new(Container::sleeping());
        shim.create().ok();
        let input = shim.c.beside("resources.json");
        fs::write(&input, r#"{"pids":{"limit":77}}"#).expect("write");
        let mut update = shim.command(&[&["update"], spelling, &[shim.c.id.as_str()]].concat());
        shim.c.finish(update.stdin(File::open(&input).expect("open"))).ok().silent();
        let stats = shim.call(&["events", "--stats", &shim.c.id]).ok().json();
        assert_eq!(stats["data"]["pids"]["limit"], 77, "{spelling:?}: {stats}");
        shim.c.delete_force().ok();
    }
}

#[test]
fn pause_and_resume_say_nothing() {
    need_root!("an ordinary user's container has no cgroup of its own here");
    let shim = Shim::new(Container::sleeping());
    shim.create().ok();
    shim.c.start().ok();
    shim.call(&["pause", &shim.c.id]).ok().silent().prints("");
    assert_eq!(shim.c.status(), "paused");
    shim.call(&["resume", &shim.c.id]).ok().silent().prints("");
    assert_eq!(shim.c.status(), "running");
}

#[test]
fn the_errors_that_a_shim_looks_for_are_in_its_log() {
    let shim = Shim::new(Container::sleeping());
    let (c, id) = (&shim.c, shim.c.id.as_str());
    for verb in ["state", "start", "kill", "delete", "ps"] {
        shim.call(&[verb, id]).code(1);
        assert!(shim.last_error().contains("does not exist"), "{verb}: {}", shim.last_error());
    }
    shim.create().ok();
    shim.call(&["start", id]).ok();
    for (program, words) in [
        ("no-such-tool", "executable file not found in $PATH"),
        ("/no/such/tool", "no such file or directory"),
        ("/etc/passwd", "permission denied"),
        ("/etc", "is a directory"),
    ] {
        shim.call(&["exec", id, program]).code(255);
        // runc 1.1 calls a directory forbidden.
        let known = shim.last_error().contains(words) || !is_tare() && shim.last_error().contains("permission denied");
        assert!(known, "{program}: {}", shim.last_error());
    }
    shim.call(&["kill", id, "9"]).ok();
    c.wait_for_status("stopped");
    shim.call(&["kill", id, "15"]).code(1);
    assert!(shim.last_error().contains("container not running"), "{}", shim.last_error());
    for line in shim.logged() {
        let mut keys: Vec<&String> = line.as_object().expect("an object").keys().collect();
        keys.sort();
        assert_eq!(keys, ["level", "msg", "time"], "{line}");
    }
}

#[test]
fn a_failed_create_is_one_write_of_one_line() {
    let mut c = Container::new();
    c.args(&["/no/such/tool"]);
    c.save();
    // On such a socket every write is a message of its own.
    let (reader, writer) = UnixDatagram::pair().expect("socketpair");
    let mut create = c.bundle_command("create", &[]);
    let status = create.stderr(Stdio::from(OwnedFd::from(writer))).status().expect("create");
    assert_eq!(status.code(), Some(1));
    drop(create);
    reader.set_nonblocking(true).expect("nonblocking");
    let mut buffer = [0; 4096];
    let length = reader.recv(&mut buffer).expect("a message");
    let message = String::from_utf8_lossy(&buffer[..length]);
    assert!(message.contains("/no/such/tool") && message.ends_with('\n'), "{message}");
    assert_eq!(message.matches('\n').count(), 1, "{message}");
    assert!(reader.recv(&mut buffer).is_err(), "there was another write");
    c.assert_nothing_left();
}

#[test]
fn a_log_of_one_failure_is_one_json_object() {
    let mut c = Container::new();
    c.args(&["no-such-tool"]);
    let shim = Shim::new(c);
    shim.create().code(1);
    let whole: Value = serde_json::from_str(&read_text(Path::new(&shim.log))).expect("one JSON object");
    assert_eq!(whole["level"], "error");
    assert!(!Path::new(&shim.pid_file).exists(), "a pid file says that it worked");
}

#[test]
fn a_pid_file_is_replaced_not_written_into() {
    only_tare!("the reference writes a second file beside it, too, but runc 1.1 leaves it open to the umask");
    let shim = Shim::new(Container::sleeping());
    fs::write(&shim.pid_file, "not a pid\n").expect("write");
    let mut before = File::open(&shim.pid_file).expect("open");
    shim.create().ok();
    let mut text = String::new();
    before.read_to_string(&mut text).expect("read");
    assert_eq!(text, "not a pid\n", "whoever read it meanwhile has seen the old or the new one, whole");
    assert_eq!(read_text(Path::new(&shim.pid_file)), shim.c.pid().to_string());
    let names = fs::read_dir(shim.c.bundle.path()).expect("list").flatten();
    let names: Vec<_> = names.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    assert_eq!(names.iter().filter(|name| name.contains("init.pid")).count(), 1, "{names:?}");
}

#[test]
fn an_exec_that_fails_leaves_no_pid_file() {
    let c = Container::sleeping();
    c.launch();
    let file = c.beside("exec.pid");
    let arguments = ["exec", "--detach", "--pid-file", file.to_str().expect("a path"), &c.id, "no-such-tool"];
    c.call(&arguments).code(255);
    assert!(!file.exists());
}

#[test]
fn the_runtime_may_be_set_to_die_with_its_caller() {
    let c = Container::sleeping();
    c.save();
    let mut create = Command::new("setpriv");
    create.args(["--pdeathsig", "KILL"]).arg(runtime()).args(c.global_args());
    create.args(["create", "--bundle"]).arg(c.bundle.path()).arg(&c.id).stdin(Stdio::null());
    c.finish(&mut create).ok().silent();
    assert_eq!(c.status(), "created", "the container does not die with the runtime");
    c.start().ok();
    assert_eq!(c.status(), "running");
}

#[test]
fn podmans_bare_environment_is_enough() {
    let c = Container::sh("echo fine");
    c.save();
    let path = std::env::var_os("PATH").unwrap_or_default();
    // An ordinary user's systemd is found by it.
    let own = std::env::var_os("XDG_RUNTIME_DIR").unwrap_or_else(|| c.beside("").into());
    let in_it = |mut command: Command| c.finish(command.env_clear().env("PATH", &path).env("XDG_RUNTIME_DIR", &own));
    in_it(c.bundle_command("run", &[])).ok().silent().prints("fine\n");
    let created = in_it(c.bundle_command("create", &[])).ok().silent();
    in_it(c.command(&["start", &c.id])).ok().silent();
    c.wait_for_output(&created, "fine\n");
    in_it(c.command(&["delete", "--force", &c.id])).ok().silent();
}

#[test]
fn the_manager_of_cgroups_is_named_as_for_crun() {
    only_tare!("--cgroup-manager is crun's");
    let c = Container::sh("echo fine");
    c.save();
    let bundle = c.bundle.path().display().to_string();
    for manager in ["cgroupfs", "disabled"] {
        let root = c.bundle.state_root();
        let mut run = Command::new(runtime());
        run.arg("--root").arg(root).args([&format!("--cgroup-manager={manager}"), "run", "--bundle", &bundle, &c.id]);
        if by_systemd() && manager == "cgroupfs" && crate::bundle::is_rootless() {
            continue;
        }
        c.finish(run.stdin(Stdio::null())).ok().silent().prints("fine\n");
        c.assert_nothing_left();
    }
    c.call(&["--cgroup-manager", "nobody", "list"]).fails(&["cgroup-manager", "nobody"]);
}

#[test]
fn what_is_asked_of_anyone_says_nothing_on_the_side() {
    let c = Container::new();
    let merged = |args: &[&str]| {
        let file = c.beside("merged");
        let out = File::create(&file).expect("create");
        let status = Command::new(runtime())
            .args(args)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("dup"))
            .stderr(out)
            .status()
            .expect("run");
        assert!(status.success(), "{args:?}: {status}");
        read_text(&file)
    };
    let version = merged(&["--version"]);
    for start in ["commit: ", "spec: 1."] {
        assert_eq!(version.lines().filter(|line| line.starts_with(start)).count(), 1, "{version}");
    }
    serde_json::from_str::<Value>(&merged(&["features"])).expect("JSON and nothing else");
}

#[test]
fn a_container_starts_in_less_memory_than_crun_needs() {
    need_root!("an ordinary user's container has no cgroup of its own here");
    only_tare!("the reference needs megabytes");
    let mut c = Container::new();
    c.config["linux"]["resources"]["memory"] = json!({ "limit": 500 * 1024 });
    c.run().ok().silent();
    let shim = Shim::new(c);
    shim.create().ok();
    shim.c.start().ok();
    shim.c.wait_for_status("stopped");
    shim.c.delete().ok();
    shim.c.assert_nothing_left();
}

#[test]
fn a_detached_container_keeps_nothing_of_its_caller_but_the_streams() {
    // A caller that waits for the end of a pipe must not wait for the container.
    let c = Container::sleeping();
    c.save();
    let (mut reader, writer) = std::io::pipe().expect("pipe");
    let inherited = format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&writer));
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec 9>\"$0\"; \"$@\"", &inherited]);
    shell.arg(runtime()).args(c.global_args()).args(["run", "--detach", "--bundle"]).arg(c.bundle.path()).arg(&c.id);
    c.finish(shell.stdin(Stdio::null())).ok().silent();
    writer.try_clone().expect("dup").write_all(b"x").expect("write");
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("the end of the pipe");
    assert_eq!(text, "x");
    assert_eq!(c.status(), "running");
}
