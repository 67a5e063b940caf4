//! A container under test: its bundle, the runtime's verbs, and a guard that leaves nothing behind.

use std::cell::Cell;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::bench::{Bench, remove_dir};
use crate::cgroup::Version;
use crate::probe;
use crate::report::Report;

/// What a finished command left.
pub struct Outcome {
    /// The exit code; none for a killed command.
    pub code: Option<i32>,
    /// Everything on stdout.
    pub stdout: String,
    /// Everything on stderr.
    pub stderr: String,
}

/// How a container's first process ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Exit {
    /// It exited with that code.
    Code(i32),
    /// It was killed by that signal.
    Signal(Signal),
}

/// A container that does not need to exist yet.
pub struct Container<'a> {
    /// The case's view of the suite.
    pub bench: &'a Bench<'a>,
    /// The container's ID; no other container of this machine has it.
    pub id: String,
    /// Holds the bundle, the runtime's state and what the container and its hooks write.
    pub dir: PathBuf,
    /// What `save` writes as config.json.
    pub config: Value,
    /// The runtime's state directory: containers of one case can share it.
    pub state_root: PathBuf,
    /// A program and its arguments that execute the runtime: `nice -n 3`.
    pub before: Vec<String>,
    pid: Cell<Option<i32>>,
    exit: Cell<Option<Exit>>,
    calls: Cell<u32>,
}

impl<'a> Container<'a> {
    /// A bundle with the probe as its only program, which exits with 0.
    pub fn new(bench: &'a Bench) -> Result<Container<'a>> {
        let suite = bench.suite;
        let id = format!("{}-{}", suite.mark, suite.next());
        let dir = suite.dir.join(&id);
        let rootfs = dir.join("bundle/rootfs");
        for name in ["bin", "dev", "etc/dir", "proc", "sys", "tmp", "out"] {
            fs::create_dir_all(rootfs.join(name)).with_context(|| format!("create {name} in the rootfs"))?;
        }
        fs::create_dir(dir.join("out")).context("create the output directory")?;
        fs::write(rootfs.join("etc/file"), "from the image\n").context("write etc/file")?;
        fs::write(rootfs.join("etc/dir/inside"), "from the image\n").context("write etc/dir/inside")?;
        fs::hard_link(suite.probe(), rootfs.join("bin").join(probe::NAME)).context("link the probe")?;
        let config = default_config(&format!("/{}/{id}", suite.mark));
        let state_root = dir.join("state");
        let (pid, exit, calls) = (Cell::new(None), Cell::new(None), Cell::new(0));
        Ok(Container { bench, id, dir, config, state_root, before: Vec::new(), pid, exit, calls })
    }

    /// A container that lives until it is killed.
    pub fn holding(bench: &'a Bench) -> Result<Container<'a>> {
        let mut container = Container::new(bench)?;
        container.args(&["hold"]);
        Ok(container)
    }

    /// Sets the probe's arguments.
    pub fn args(&mut self, args: &[&str]) {
        let mut all = vec!["/bin/probe"];
        all.extend(args);
        self.config["process"]["args"] = json!(all);
    }

    /// The bundle's directory.
    pub fn bundle(&self) -> PathBuf {
        self.dir.join("bundle")
    }

    /// The root filesystem's directory.
    pub fn rootfs(&self) -> PathBuf {
        self.dir.join("bundle/rootfs")
    }

    /// A directory on the host for what hooks write.
    pub fn out(&self, name: &str) -> PathBuf {
        self.dir.join("out").join(name)
    }

    /// Mounts the `out` directory writable at /out.
    pub fn mount_out(&mut self) {
        let source = self.dir.join("out");
        self.mount(json!({ "destination": "/out", "type": "none", "source": source, "options": ["bind", "rw"] }));
    }

    /// Appends to `mounts`.
    pub fn mount(&mut self, mount: Value) {
        push(&mut self.config["mounts"], mount);
    }

    /// Appends to `linux.namespaces`, in place of an entry of the same type.
    pub fn namespace(&mut self, namespace: Value) {
        self.no_namespace(namespace["type"].as_str().unwrap_or_default());
        push(&mut self.config["linux"]["namespaces"], namespace);
    }

    /// Takes the namespace's entry away.
    pub fn no_namespace(&mut self, kind: &str) {
        if let Some(list) = self.config["linux"]["namespaces"].as_array_mut() {
            list.retain(|namespace| namespace["type"] != kind);
        }
    }

    /// Gives the program exactly these capabilities in the bounding, effective and permitted sets.
    pub fn capabilities(&mut self, names: &[&str]) {
        self.config["process"]["capabilities"] = json!({ "bounding": names, "effective": names, "permitted": names });
    }

    /// Writes config.json.
    pub fn save(&self) -> Result<()> {
        fs::write(self.bundle().join("config.json"), self.config.to_string()).context("write config.json")
    }

    /// Calls the runtime, bounded by the case's time. Output goes to files: the container inherits them.
    pub fn call(&self, args: &[&str]) -> Result<Outcome> {
        let number = self.calls.replace(self.calls.get() + 1);
        self.call_into(args, &self.dir.join(format!("{number}")))
    }

    fn call_into(&self, args: &[&str], files: &Path) -> Result<Outcome> {
        let shown = args.join(" ");
        let (stdout, stderr) = (files.with_extension("stdout"), files.with_extension("stderr"));
        let mut command = match self.before.split_first() {
            Some((program, args)) => {
                let mut command = Command::new(program);
                command.args(args).arg(&self.bench.suite.runtime);
                command
            }
            None => Command::new(&self.bench.suite.runtime),
        };
        let mut child = command
            .arg("--root")
            .arg(&self.state_root)
            .args(args)
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(File::create(&stdout).context("create the file for stdout")?)
            .stderr(File::create(&stderr).context("create the file for stderr")?)
            .spawn()
            .with_context(|| format!("start `{shown}`"))?;
        let ended = self.bench.until(&format!("`{shown}` to end"), || Ok(child.try_wait()?));
        if ended.is_err() {
            let _ = child.kill();
            let _ = child.wait();
        }
        Ok(Outcome { code: ended?.code(), stdout: text(&stdout)?, stderr: text(&stderr)? })
    }

    /// A call that has to work.
    pub fn ok(&self, args: &[&str]) -> Result<Outcome> {
        let outcome = self.call(args)?;
        worked(&args.join(" "), outcome)
    }

    /// A call that has to be refused.
    pub fn refused(&self, args: &[&str]) -> Result<Outcome> {
        let outcome = self.call(args)?;
        match outcome.code {
            Some(0) => bail!("`{}` was accepted", args.join(" ")),
            None => bail!("`{}` was killed by a signal: {}", args.join(" "), outcome.stderr.trim()),
            Some(_) => Ok(outcome),
        }
    }

    /// Writes config.json and calls `create`, whatever comes of it.
    pub fn try_create(&self) -> Result<Outcome> {
        self.save()?;
        self.create_saved(&self.bundle())
    }

    /// Calls `create` on a bundle as it is.
    pub fn create_saved(&self, bundle: &Path) -> Result<Outcome> {
        self.create_with(bundle, &[])
    }

    /// Calls `create` with more flags.
    pub fn create_with(&self, bundle: &Path, flags: &[&str]) -> Result<Outcome> {
        let pid_file = self.dir.join("pid");
        let (bundle, pid_file_arg) = (bundle.to_string_lossy(), pid_file.to_string_lossy());
        let mut args = vec!["create", "--bundle", &bundle, "--pid-file", &pid_file_arg];
        args.extend(flags);
        args.push(&self.id);
        let outcome = self.call_into(&args, &self.dir.join("program"))?;
        if outcome.code == Some(0) {
            let pid = text(&pid_file)?.trim().parse().context("the pid file")?;
            self.pid.set(Some(pid));
            self.exit.set(None);
        }
        Ok(outcome)
    }

    /// Writes config.json and creates the container.
    pub fn create(&self) -> Result<()> {
        worked("create", self.try_create()?).map(drop)
    }

    /// Writes config.json; `create` has to be refused, and no container may be there afterwards.
    pub fn create_refused(&self) -> Result<Outcome> {
        let outcome = self.try_create()?;
        ensure!(outcome.code != Some(0), "`create` was accepted");
        ensure!(outcome.code.is_some(), "`create` was killed by a signal: {}", outcome.stderr.trim());
        self.refused(&["state", &self.id]).context("after the refused create")?;
        Ok(outcome)
    }

    /// `create` or, at the latest, `start` has to be refused: some things are seen only by the execve.
    pub fn create_or_start_refused(&self) -> Result<()> {
        if self.try_create()?.code == Some(0) {
            self.refused(&["start", &self.id])?;
        }
        Ok(())
    }

    /// Starts the created container.
    pub fn start(&self) -> Result<()> {
        self.ok(&["start", &self.id]).map(drop)
    }

    /// Creates and starts the container.
    pub fn launch(&self) -> Result<()> {
        self.create()?;
        self.start()
    }

    /// Creates and starts the container, and waits for its program's end.
    pub fn run(&self) -> Result<Exit> {
        self.launch()?;
        self.wait()
    }

    /// Runs the container with the probe's report on itself and on `questions`.
    pub fn report(&mut self, questions: &[&str]) -> Result<Report> {
        let mut args = vec!["report"];
        args.extend(questions);
        self.args(&args);
        self.run_report()
    }

    /// Runs the container, whose arguments make it report.
    pub fn run_report(&self) -> Result<Report> {
        let exit = self.run()?;
        let output = self.output()?;
        ensure!(exit == Exit::Code(0), "the program ended with {exit:?}, output: {output}");
        Report::parse(&output)
    }

    /// What the program, and the runtime's `create`, wrote.
    pub fn output(&self) -> Result<String> {
        Ok(text(&self.dir.join("program.stdout"))? + &text(&self.dir.join("program.stderr"))?)
    }

    /// Waits until the program has written that text.
    pub fn wait_for_output(&self, word: &str) -> Result<()> {
        self.bench.until(&format!("the program to write {word:?}"), || Ok(self.output()?.contains(word).then_some(())))
    }

    /// The first process's ID on the host.
    pub fn pid(&self) -> Result<i32> {
        self.pid.get().context("the container has not been created")
    }

    /// Waits for the first process's end. It is our child: its parent has ended, and we are a subreaper.
    pub fn wait(&self) -> Result<Exit> {
        if let Some(exit) = self.exit.get() {
            return Ok(exit);
        }
        let pid = Pid::from_raw(self.pid()?);
        let exit = self.bench.until("the program's end", || {
            Ok(match waitpid(pid, Some(WaitPidFlag::WNOHANG)).context("wait for the container's process")? {
                WaitStatus::Exited(_, code) => Some(Exit::Code(code)),
                WaitStatus::Signaled(_, signal, _) => Some(Exit::Signal(signal)),
                _ => None,
            })
        })?;
        self.exit.set(Some(exit));
        Ok(exit)
    }

    /// The state's JSON.
    pub fn state(&self) -> Result<Value> {
        let outcome = self.ok(&["state", &self.id])?;
        serde_json::from_str(&outcome.stdout).with_context(|| format!("the state is not JSON: {}", outcome.stdout))
    }

    /// The state's status.
    pub fn status(&self) -> Result<String> {
        let state = self.state()?;
        state["status"].as_str().map(str::to_owned).with_context(|| format!("no status in {state}"))
    }

    /// The status has to be this one.
    pub fn expect_status(&self, status: &str) -> Result<()> {
        let found = self.status()?;
        ensure!(found == status, "the status is {found}, not {status}");
        Ok(())
    }

    /// Waits until the status is this one.
    pub fn wait_for_status(&self, status: &str) -> Result<()> {
        let mut last = String::new();
        let reached = self.bench.until(&format!("the status {status}"), || {
            last = self.status()?;
            Ok((last == status).then_some(()))
        });
        reached.with_context(|| format!("the last status was {last:?}"))
    }

    /// The content of a file of the container's cgroup: the name in v1, the name in v2.
    pub fn cgroup_file(&self, controller: &str, v1: &str, v2: &str) -> Result<(Version, String)> {
        let (version, dir) = self.bench.suite.cgroups.dir_of(self.pid()?, controller)?;
        let path = dir.join(if version == Version::V1 { v1 } else { v2 });
        if version == Version::V1 && !path.exists() {
            crate::case::skip!("this kernel has no {v1}");
        }
        Ok((version, text(&path)?.trim().to_owned()))
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        // Errors do not matter: what the runtime leaves is removed below.
        let bench = Bench { suite: self.bench.suite, deadline: std::time::Instant::now() + LAST_CALL };
        if self.state_root.exists() {
            let mut delete = Command::new(&bench.suite.runtime);
            delete.arg("--root").arg(&self.state_root).args(["delete", "--force", &self.id]);
            delete.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            if let Ok(mut child) = delete.spawn()
                && bench.until("delete --force", || Ok(child.try_wait()?)).is_err()
            {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        if let (Some(pid), None) = (self.pid.get(), self.exit.get()) {
            // Ours until it is reaped: the number cannot be another process's.
            let pid = Pid::from_raw(pid);
            if matches!(waitpid(pid, Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive)) {
                let _ = kill(pid, Signal::SIGKILL);
                let _ = bench.until("the killed process", || {
                    let status = waitpid(pid, Some(WaitPidFlag::WNOHANG));
                    Ok((!matches!(status, Ok(WaitStatus::StillAlive))).then_some(()))
                });
            }
        }
        bench.suite.cgroups.remove(&format!("{}/{}", bench.suite.mark, self.id));
        remove_dir(&self.dir);
    }
}

/// How long the removal of a container may take.
const LAST_CALL: std::time::Duration = std::time::Duration::from_secs(10);

fn worked(what: &str, outcome: Outcome) -> Result<Outcome> {
    match outcome.code {
        Some(0) => Ok(outcome),
        Some(code) => Err(anyhow!("`{what}` failed with {code}: {}", outcome.stderr.trim())),
        None => Err(anyhow!("`{what}` was killed by a signal: {}", outcome.stderr.trim())),
    }
}

fn push(list: &mut Value, item: Value) {
    match list {
        Value::Array(list) => list.push(item),
        other => *other = json!([item]),
    }
}

/// A file's text; what is not UTF-8 is replaced.
pub fn text(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The least that the cases have in common. 1.0.2: an older runtime may refuse a bundle of a newer specification.
fn default_config(cgroups_path: &str) -> Value {
    let capabilities = json!(["CAP_KILL", "CAP_CHOWN", "CAP_MKNOD", "CAP_DAC_OVERRIDE", "CAP_SETUID", "CAP_SETGID"]);
    json!({
        "ociVersion": "1.0.2",
        "root": { "path": "rootfs" },
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": ["/bin/probe", "exit", "0"],
            "env": ["PATH=/usr/bin:/bin"],
            "cwd": "/",
            "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
        },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
              "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"] },
            { "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
              "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] }
        ],
        "linux": {
            "cgroupsPath": cgroups_path,
            "namespaces": [{ "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }],
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] }
        }
    })
}
