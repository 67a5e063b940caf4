//! Files that a command is given to read: what never ends, or never begins, is refused at once.

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use serde_json::json;

use crate::container::Container;
use crate::runtime::{need_root, only_tare};

/// What is in the place of a file: a fifo without a writer, a device without an end, a directory, too large a file.
fn replace(path: &Path, by: &str) {
    let _ = fs::remove_file(path);
    let _ = fs::remove_dir(path);
    match by {
        "fifo" => mkfifo(path, Mode::from_bits_truncate(0o600)).expect("mkfifo"),
        "device" => std::os::unix::fs::symlink("/dev/zero", path).expect("symlink"),
        "directory" => fs::create_dir(path).expect("mkdir"),
        _ => File::create(path).and_then(|file| file.set_len(1 << 34)).expect("a large file"),
    }
}

const OTHERS: [(&str, &str); 4] = [
    ("fifo", "is not a regular file"),
    ("device", "is not a regular file"),
    ("directory", "is not a regular file"),
    ("large file", "is larger than"),
];

#[test]
fn a_configuration_that_is_not_a_regular_file_is_refused_at_once() {
    only_tare!("the reference waits for the fifo and reads the device until the memory is used up");
    let c = Container::new();
    for (other, words) in OTHERS {
        replace(&c.config_file(), other);
        for verb in ["create", "run"] {
            c.finish(&mut c.bundle_command(verb, &[])).fails(&["config.json", words]);
        }
        c.assert_nothing_left();
    }
}

#[test]
fn a_process_and_resources_that_are_not_a_regular_file_are_refused_at_once() {
    only_tare!("the reference waits for the fifo and reads the device until the memory is used up");
    let c = Container::sleeping();
    c.launch();
    let file = c.beside("given.json");
    let path = file.to_str().expect("a path");
    for (other, words) in OTHERS {
        replace(&file, other);
        let outcome = c.call(&["exec", "--process", path, &c.id]).code(255);
        assert!(outcome.stderr.contains("--process") && outcome.stderr.contains(words), "{}", outcome.stderr);
        c.call(&["update", "--resources", path, &c.id]).fails(&["--resources", words]);
    }
    assert_eq!(c.status(), "running");
}

/// As a shell's `<(command)` gives it.
#[test]
fn a_pipe_of_the_callers_is_read_to_its_end() {
    let c = Container::sleeping();
    c.launch();
    let process = json!({
        "args": ["echo", "fine"], "cwd": "/", "user": { "uid": 0, "gid": 0 }, "env": ["PATH=/bin"]
    });
    fs::write(c.beside("process.json"), process.to_string()).expect("write");
    let command = c.command(&["exec", "--process", "/dev/stdin", &c.id]);
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "(cat process.json; sleep 0.1) | \"$@\"", "sh"]).current_dir(c.bundle.dir.path());
    shell.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
    c.finish(&mut shell).ok().prints("fine\n");
}

#[test]
fn an_update_that_waits_for_its_input_keeps_nobody_waiting() {
    only_tare!("the reference has no lock");
    need_root!("an ordinary user has no cgroup to update");
    let c = Container::sleeping();
    c.launch();
    let mut waiting = c.spawn(c.command(&["update", "--resources", "-", &c.id]).stdin(Stdio::piped()));
    let _input = waiting.child.stdin.take();
    c.call(&["pause", &c.id]).ok();
    c.call(&["resume", &c.id]).ok();
    kill(Pid::from_raw(waiting.child.id() as i32), Signal::SIGTERM).expect("kill");
    waiting.wait().code(128 + 15);
}
