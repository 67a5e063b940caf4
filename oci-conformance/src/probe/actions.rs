//! What the probe tries when it is asked to: each action is `VERB:ARGUMENT`, its answer a value or an errno's name.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};
use std::thread::{Builder, sleep};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, SFlag, major, makedev, minor, mknod};
use nix::unistd::getpid;
use serde_json::{Map, Value, json};

/// How much of a file is read.
const READ_LIMIT: usize = 4096;

/// Performs the actions in order; the answers are keyed by the actions.
pub fn perform(actions: &[String]) -> Value {
    let mut answers = Map::new();
    for action in actions {
        let (verb, argument) = action.split_once(':').unwrap_or((action, ""));
        let answer = match act(verb, argument) {
            Ok(value) => json!({ "ok": value }),
            Err(error) => json!({ "error": name_of(&error) }),
        };
        answers.insert(action.clone(), answer);
    }
    Value::Object(answers)
}

fn name_of(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => format!("{:?}", Errno::from_raw(number)),
        None => error.to_string(),
    }
}

fn act(verb: &str, argument: &str) -> io::Result<Value> {
    match verb {
        "stat" => stat(argument),
        "read" => read(argument),
        "list" => list(argument),
        "write" => OpenOptions::new().write(true).open(argument)?.write(b"x").map(|count| json!(count)),
        "open" => OpenOptions::new().read(true).open(argument).map(|_| Value::Null),
        "create" => create(argument),
        "mkdir" => fs::create_dir(argument).map(|()| Value::Null),
        "chmod" => fs::set_permissions(argument, fs::Permissions::from_mode(0o700)).map(|()| Value::Null),
        "mknod" => make_node(argument),
        "exec" => execute(argument),
        "signal" => signal(argument),
        "winsize" => window_size(),
        "threads" => Ok(json!(threads(number(argument)?))),
        "threadstat" => thread_stat(),
        "eat" => Ok(json!(eat(number(argument)?))),
        "sleep" => {
            sleep(Duration::from_secs(number(argument)?));
            Ok(Value::Null)
        }
        other => Err(io::Error::other(format!("unknown action {other}"))),
    }
}

/// `winsize:`: rows and columns of the terminal on stdin.
fn window_size() -> io::Result<Value> {
    let size = rustix::termios::tcgetwinsize(io::stdin())?;
    Ok(json!([size.ws_row, size.ws_col]))
}

fn number(text: &str) -> io::Result<u64> {
    text.parse().map_err(|_| io::Error::other(format!("{text} is not a number")))
}

/// `stat:PATH` of the path itself, not of what a link points to.
fn stat(path: &str) -> io::Result<Value> {
    let found = fs::symlink_metadata(path)?;
    let kind = found.file_type();
    let kinds = [
        ("file", kind.is_file()),
        ("dir", kind.is_dir()),
        ("link", kind.is_symlink()),
        ("char", kind.is_char_device()),
        ("block", kind.is_block_device()),
        ("fifo", kind.is_fifo()),
        ("socket", kind.is_socket()),
    ];
    Ok(json!({
        "kind": kinds.iter().find(|(_, is)| *is).map(|(name, _)| name),
        "mode": found.mode() & 0o7777,
        "uid": found.uid(),
        "gid": found.gid(),
        "size": found.size(),
        "major": major(found.rdev()),
        "minor": minor(found.rdev()),
        "link": fs::read_link(path).ok(),
    }))
}

fn read(path: &str) -> io::Result<Value> {
    let mut bytes = vec![0; READ_LIMIT];
    let count = fs::File::open(path)?.read(&mut bytes)?;
    Ok(json!(String::from_utf8_lossy(&bytes[..count])))
}

fn list(path: &str) -> io::Result<Value> {
    let mut names: Vec<_> =
        fs::read_dir(path)?.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(json!(names))
}

/// `create:PATH` gives the mode of a fresh file that was asked for with 0666.
fn create(path: &str) -> io::Result<Value> {
    let file = OpenOptions::new().write(true).create_new(true).open(path)?;
    Ok(json!(file.metadata()?.mode() & 0o7777))
}

/// `mknod:PATH MAJOR MINOR`, a character device.
fn make_node(argument: &str) -> io::Result<Value> {
    let mut words = argument.split(' ');
    let path = words.next().unwrap_or_default();
    let (major, minor) = (number(words.next().unwrap_or_default())?, number(words.next().unwrap_or_default())?);
    mknod(path, SFlag::S_IFCHR, Mode::from_bits_truncate(0o600), makedev(major, minor))?;
    Ok(Value::Null)
}

/// `exec:PATH` of another copy of the probe.
fn execute(path: &str) -> io::Result<Value> {
    let status = Command::new(path).args(["exit", "0"]).stdin(Stdio::null()).status()?;
    Ok(json!(status.code()))
}

/// `signal:NAME` to this process; the null signal for an empty name.
fn signal(name: &str) -> io::Result<Value> {
    let signal = match name {
        "" => None,
        name => Some(name.parse::<Signal>()?),
    };
    kill(getpid(), signal)?;
    Ok(Value::Null)
}

/// `threads:N`: how many of them could be started.
fn threads(wanted: u64) -> u64 {
    let mut running = Vec::new();
    for _ in 0..wanted {
        match Builder::new().stack_size(64 * 1024).spawn(|| sleep(Duration::from_millis(300))) {
            Ok(thread) => running.push(thread),
            Err(_) => break,
        }
    }
    running.len() as u64
}

/// `threadstat:`: what /proc says of a thread that the program starts.
fn thread_stat() -> io::Result<Value> {
    let stat = || fs::read_to_string("/proc/thread-self/stat");
    let thread = Builder::new().stack_size(64 * 1024).spawn(stat)?;
    Ok(json!(thread.join().map_err(|_| io::Error::other("the thread panicked"))??))
}

/// `eat:BYTES`: memory that is written to, so that it counts.
fn eat(bytes: u64) -> u64 {
    let mut eaten = Vec::new();
    let mut sum = 0;
    while sum < bytes {
        eaten.push(vec![1_u8; 1 << 20]);
        sum += 1 << 20;
    }
    std::hint::black_box(&eaten);
    sum
}
