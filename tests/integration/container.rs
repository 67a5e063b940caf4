//! A container under test: its bundle, its id, the runtime's verbs, and a guard that leaves nothing behind.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::bundle::{Bundle, default_config, is_rootless, mounts_below};
use crate::cgroup_tree;
use crate::runtime::{Outcome, Running, by_systemd, eventually, read_text, runtime, spawn};

/// A container that does not need to exist yet. It is deleted by force when the value goes away, also in a panic.
pub struct Container {
    pub id: String,
    pub bundle: Rc<Bundle>,
    /// What becomes config.json at `create` and `run`.
    pub config: Value,
    /// Written to config.json instead of `config`.
    pub raw_config: Option<Vec<u8>>,
}

impl Container {
    pub fn new() -> Container {
        Container::in_bundle(Rc::new(Bundle::new()))
    }

    /// A container whose program is a shell script.
    pub fn sh(script: &str) -> Container {
        let mut container = Container::new();
        container.script(script);
        container
    }

    /// A container that sleeps until it is killed.
    pub fn sleeping() -> Container {
        let mut container = Container::new();
        container.args(&["sleep", "1000"]);
        container
    }

    /// Another container with the same bundle and state root.
    pub fn twin(&self) -> Container {
        let mut twin = Container::in_bundle(Rc::clone(&self.bundle));
        twin.config = self.config.clone();
        twin
    }

    fn in_bundle(bundle: Rc<Bundle>) -> Container {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let id = format!("tt-{}-{}-end", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Container { id, bundle, config: default_config(), raw_config: None }
    }

    pub fn args(&mut self, args: &[&str]) {
        self.config["process"]["args"] = json!(args);
    }

    pub fn script(&mut self, script: &str) {
        self.args(&["sh", "-c", script]);
    }

    pub fn rootfs(&self) -> PathBuf {
        self.bundle.rootfs()
    }

    /// A path beside the bundle, in the test's own directory.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.bundle.dir.path().join(name)
    }

    pub fn add_mount(&mut self, mount: Value) {
        self.config["mounts"].as_array_mut().expect("mounts is a list").push(mount);
    }

    pub fn add_namespace(&mut self, namespace: Value) {
        self.config["linux"]["namespaces"].as_array_mut().expect("namespaces is a list").push(namespace);
    }

    /// Removes a namespace's entry: the container stays in the host's.
    pub fn drop_namespace(&mut self, kind: &str) {
        self.config["linux"]["namespaces"]
            .as_array_mut()
            .expect("namespaces is a list")
            .retain(|namespace| namespace["type"] != kind);
    }

    /// Puts the container in the host's pid namespace, where only root may mount a procfs: an ordinary user binds the host's.
    pub fn share_the_hosts_pids(&mut self) {
        self.drop_namespace("pid");
        if is_rootless() {
            let mounts = self.config["mounts"].as_array_mut().expect("mounts is a list");
            let proc = mounts.iter_mut().find(|mount| mount["destination"] == "/proc").expect("a mount on /proc");
            *proc = json!({ "destination": "/proc", "type": "none", "source": "/proc", "options": ["rbind"] });
        }
    }

    /// Joins a namespace by path instead of making a new one.
    pub fn join_namespace(&mut self, kind: &str, path: &str) {
        self.drop_namespace(kind);
        self.add_namespace(json!({ "type": kind, "path": path }));
    }

    /// What an id of the container is on the host, by `linux.uidMappings` or `linux.gidMappings`.
    pub fn host_id(&self, mappings: &str, id: u64) -> u64 {
        let mappings = self.config["linux"][mappings].as_array().expect("a list of mappings");
        let number = |mapping: &Value, key: &str| mapping[key].as_u64().expect("a number");
        let of = |mapping: &Value| {
            let offset = id.checked_sub(number(mapping, "containerID"))?;
            (offset < number(mapping, "size")).then(|| number(mapping, "hostID") + offset)
        };
        mappings.iter().find_map(of).unwrap_or_else(|| panic!("{id} is not mapped"))
    }

    /// Gives the program exactly these capabilities.
    pub fn capabilities(&mut self, names: &[&str]) {
        self.config["process"]["capabilities"] = json!({ "bounding": names, "effective": names, "permitted": names });
    }

    pub fn writable_root(&mut self) {
        self.config["root"]["readonly"] = json!(false);
    }

    pub fn config_file(&self) -> PathBuf {
        self.bundle.path().join("config.json")
    }

    pub fn save(&self) {
        let bytes = self.raw_config.clone().unwrap_or_else(|| self.config.to_string().into_bytes());
        fs::write(self.config_file(), bytes).expect("write config.json");
    }

    /// What each command begins with after the runtime's name.
    pub fn global_args(&self) -> Vec<OsString> {
        let mut args = vec!["--root".into(), self.bundle.state_root().into()];
        if by_systemd() {
            args.push("--systemd-cgroup".into());
        }
        args
    }

    /// Has a program such as a shell call the runtime with the container's own bundle: `run FLAGS --bundle B ID`.
    pub fn append_run(&self, command: &mut Command) {
        command.arg(runtime()).args(self.global_args());
        command.args(["run", "--bundle"]).arg(self.bundle.path()).arg(&self.id);
    }

    /// The runtime with its global arguments and the given ones.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(runtime());
        command.args(self.global_args()).args(args).stdin(Stdio::null());
        command
    }

    pub fn spawn(&self, command: &mut Command) -> Running {
        spawn(command, self.bundle.dir.path(), self.config.to_string())
    }

    pub fn finish(&self, command: &mut Command) -> Outcome {
        self.spawn(command).wait()
    }

    /// Calls the runtime with the given arguments.
    pub fn call(&self, args: &[&str]) -> Outcome {
        self.finish(&mut self.command(args))
    }

    /// `verb FLAGS --bundle B ID`, for the verbs that read the bundle.
    pub fn bundle_command(&self, verb: &str, flags: &[&str]) -> Command {
        let mut command = self.command(&[verb]);
        command.args(flags).arg("--bundle").arg(self.bundle.path()).arg(&self.id);
        command
    }

    pub fn run(&self) -> Outcome {
        self.run_with(&[])
    }

    pub fn run_with(&self, flags: &[&str]) -> Outcome {
        self.save();
        self.finish(&mut self.bundle_command("run", flags))
    }

    pub fn create(&self) -> Outcome {
        self.create_with(&[])
    }

    pub fn create_with(&self, flags: &[&str]) -> Outcome {
        self.save();
        self.finish(&mut self.bundle_command("create", flags))
    }

    pub fn start(&self) -> Outcome {
        self.call(&["start", &self.id])
    }

    /// Creates and starts the container; the outcome is `create`'s, whose stdout the program writes to.
    #[track_caller]
    pub fn launch(&self) -> Outcome {
        let created = self.create().ok();
        self.start().ok();
        created
    }

    pub fn kill(&self, signal: &str) -> Outcome {
        self.call(&["kill", &self.id, signal])
    }

    pub fn delete(&self) -> Outcome {
        self.call(&["delete", &self.id])
    }

    pub fn delete_force(&self) -> Outcome {
        self.call(&["delete", "--force", &self.id])
    }

    /// The state's JSON.
    #[track_caller]
    pub fn state(&self) -> Value {
        self.call(&["state", &self.id]).ok().json()
    }

    #[track_caller]
    pub fn status(&self) -> String {
        let state = self.state();
        state["status"].as_str().unwrap_or_else(|| panic!("no status in {state}")).to_owned()
    }

    #[track_caller]
    pub fn pid(&self) -> i32 {
        let state = self.state();
        let pid = state["pid"].as_i64().unwrap_or_else(|| panic!("no pid in {state}"));
        i32::try_from(pid).expect("a pid")
    }

    #[track_caller]
    pub fn wait_for_status(&self, status: &str) {
        eventually(&format!("{} is {status}", self.id), || (self.status() == status).then_some(()));
    }

    /// Waits until the program has written `text` to the stdout it inherited from that command.
    #[track_caller]
    pub fn wait_for_output(&self, of: &Outcome, text: &str) -> String {
        eventually(&format!("{} wrote {text:?}", self.id), || {
            Some(read_text(&of.stdout_file)).filter(|output| output.contains(text))
        })
    }

    /// Whatever of this container is still on the machine: empty after a clean end.
    pub fn leftovers(&self) -> Vec<String> {
        let mut found = leftovers(&self.id, self.bundle.dir.path());
        let state = self.bundle.state_root().join(&self.id);
        if state.symlink_metadata().is_ok() {
            found.push(format!("state directory {}", state.display()));
        }
        found
    }

    /// Everything goes with a short delay: a killed process still has to be reaped.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        let mut found = Vec::new();
        for _ in 0..200 {
            found = self.leftovers();
            if found.is_empty() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        panic!("left behind by {}:\n{}\nconfig: {}", self.id, found.join("\n"), self.config);
    }
}

/// Cgroups, mounts and processes whose names hold `mark`, and mounts below `dir`.
pub fn leftovers(mark: &str, dir: &Path) -> Vec<String> {
    let mut found: Vec<String> = mounts_below(dir).iter().map(|point| format!("mount {point}")).collect();
    found.extend(cgroup_tree::named(mark).iter().map(|path| format!("cgroup {}", path.display())));
    found.extend(processes(mark).iter().map(|pid| format!("process {pid}")));
    found
}

/// The processes (not this one, no zombies) whose command line or cgroup holds `mark`.
pub fn processes(mark: &str) -> Vec<i32> {
    let entries = fs::read_dir("/proc").expect("list /proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let own = i32::try_from(std::process::id()).expect("a pid");
    pids.filter(|pid| *pid != own && is_alive(*pid))
        .filter(|pid| {
            ["cmdline", "cgroup"].iter().any(|file| {
                let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
                String::from_utf8_lossy(&bytes).contains(mark)
            })
        })
        .collect()
}

/// True for a process that exists and is no zombie.
pub fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with(['Z', 'X']))
}

/// When a process started, in clock ticks since boot: field 22 of proc_pid_stat(5).
pub fn start_time(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("read stat");
    let rest = stat.rsplit(')').next().expect("fields");
    rest.split_whitespace().nth(19).expect("a start time").parse().expect("a number")
}

impl Drop for Container {
    fn drop(&mut self) {
        let state = self.bundle.state_root().join(&self.id);
        if state.symlink_metadata().is_ok() {
            self.delete_force();
        }
        // What a broken runtime forgot would disturb the tests after this one. systemd removes an empty scope's cgroup
        // itself; who removes it before may see it come back, of a scope that never ends.
        let patience = if by_systemd() { 200 } else { 0 };
        for round in 0..patience + 100 {
            let left = cgroup_tree::named(&self.id);
            if left.is_empty() {
                break;
            }
            for dir in &left {
                cgroup_tree::empty(dir);
                if round >= patience {
                    let _ = fs::remove_dir(dir); // not yet, if a process still dies
                }
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}
