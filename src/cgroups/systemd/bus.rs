//! A connection to a systemd manager: the system's for root, the user's own for everybody else.

use std::collections::VecDeque;
use std::env;
use std::fmt;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::socket::{MsgFlags, recv};
use nix::unistd::geteuid;

use super::wire::{self, FIXED, Message, Method, Writer};
use crate::error::{Context as _, Error, Result, anyhow, bail, ensure};

const NAME: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// What every unit can do.
pub(super) const UNIT: &str = "org.freedesktop.systemd1.Unit";

/// The socket of the system's manager itself.
pub(super) const SYSTEM: &str = "/run/systemd/private";

/// How long systemd may take for an answer or a job; runc waits as long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whose manager it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Session {
    System,
    User,
}

/// systemd's own no to a call.
#[derive(Debug)]
pub(super) struct Refused {
    name: String,
    text: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.text.is_empty() { f.write_str(&self.name) } else { f.write_str(&self.text) }
    }
}

impl std::error::Error for Refused {}

/// Whether an error is systemd's no of this name, the last part of it.
pub(super) fn is_refused(error: &Error, name: &str) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|refused| refused.name.rsplit('.').next() == Some(name))
}

/// A connection.
pub(super) struct Bus {
    stream: UnixStream,
    serial: u32,
    /// Through a bus daemon, which wants to know for whom a message is and which signals are to be delivered. The direct
    /// connection delivers all, and saves a hop.
    daemon: bool,
    signals: VecDeque<Message>,
    /// For how long it waits.
    patience: Duration,
    /// An answer was late or lost: what comes next may be the answer to another question.
    broken: bool,
}

impl Bus {
    /// Connects to systemd itself, as systemctl does, or through the bus where its socket is closed to us.
    pub(super) fn connect(session: Session) -> Result<Self> {
        let (direct, bus) = match session {
            Session::System => (Some(PathBuf::from(SYSTEM)), system_bus()),
            Session::User => {
                let runtime = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
                (runtime.as_ref().map(|dir| dir.join("systemd/private")), user_bus(runtime.as_deref())?)
            }
        };
        if let Some(Ok(bus)) = direct.map(|path| Self::open(&path, false, PATIENCE)) {
            return Ok(bus);
        }
        let mut bus = Self::open(&bus, true, PATIENCE).with_context(|| match session {
            Session::System => "--systemd-cgroup: no connection to systemd".to_owned(),
            Session::User => {
                "--systemd-cgroup: no connection to the user's systemd (is dbus-user-session installed?)".to_owned()
            }
        })?;
        bus.greet()?;
        Ok(bus)
    }

    pub(super) fn open(path: &Path, daemon: bool, patience: Duration) -> Result<Self> {
        let describe = || format!("connect to {}", path.display());
        let stream = UnixStream::connect(path).with_context(describe)?;
        stream.set_read_timeout(Some(patience)).with_context(describe)?;
        stream.set_write_timeout(Some(patience)).with_context(describe)?;
        let mut bus = Self { stream, serial: 0, daemon, signals: VecDeque::new(), patience, broken: false };
        bus.authenticate().with_context(describe)?;
        Ok(bus)
    }

    /// EXTERNAL without saying who we are: the kernel tells the other side, and in a user namespace our own number for
    /// ourselves would be another than theirs.
    fn authenticate(&mut self) -> Result<()> {
        self.stream.write_all(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        for expected in ["DATA", "OK "] {
            let line = self.read_line()?;
            if !line.starts_with(expected) {
                bail!("authentication: {line:?}");
            }
        }
        Ok(())
    }

    /// Not a byte more: what comes after the line is a message.
    fn read_line(&mut self) -> Result<String> {
        const LONGEST: usize = 512;
        let mut line = Vec::new();
        while !line.ends_with(b"\n") && line.len() < LONGEST {
            let mut seen = [0; LONGEST];
            let length = recv(self.stream.as_raw_fd(), &mut seen, MsgFlags::MSG_PEEK).context("authentication")?;
            ensure!(length > 0, "authentication: it has closed the connection");
            let end = seen[..length].iter().position(|byte| *byte == b'\n').map_or(length, |at| at + 1);
            self.stream.read_exact(&mut seen[..end]).context("authentication")?;
            line.extend_from_slice(&seen[..end]);
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    fn greet(&mut self) -> Result<()> {
        let method = |member| Method {
            destination: Some("org.freedesktop.DBus"),
            path: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            member,
        };
        self.request(&method("Hello"), "", Writer::default())?;
        let mut rule = Writer::default();
        rule.text(&format!("type='signal',sender='{NAME}',interface='{MANAGER}',member='JobRemoved'"));
        self.request(&method("AddMatch"), "s", rule)?;
        self.manager("Subscribe", "", Writer::default()).map(drop)
    }

    /// Calls a method of systemd's manager.
    pub(super) fn manager(&mut self, member: &str, signature: &str, body: Writer) -> Result<Message> {
        self.call(PATH, MANAGER, member, signature, body)
    }

    /// Calls a method of an object of systemd's.
    pub(super) fn call(
        &mut self,
        path: &str,
        interface: &str,
        member: &str,
        signature: &str,
        body: Writer,
    ) -> Result<Message> {
        let destination = self.daemon.then_some(NAME);
        self.request(&Method { destination, path, interface, member }, signature, body)
    }

    /// Asks for a property of an object of systemd's.
    pub(super) fn get(&mut self, path: &str, interface: &str, name: &str) -> Result<Message> {
        let mut body = Writer::default();
        body.text(interface);
        body.text(name);
        self.call(path, "org.freedesktop.DBus.Properties", "Get", "ss", body).context(name.to_owned())
    }

    /// A property of systemd's manager that is a string.
    pub(super) fn property(&mut self, name: &str) -> Result<String> {
        self.get(PATH, MANAGER, name)?.body().text_variant().map(str::to_owned)
    }

    fn request(&mut self, method: &Method<'_>, signature: &str, body: Writer) -> Result<Message> {
        self.exchange(method, signature, body).with_context(|| format!("systemd: {}", method.member))
    }

    fn exchange(&mut self, method: &Method<'_>, signature: &str, body: Writer) -> Result<Message> {
        ensure!(!self.broken, "the connection has failed before");
        self.serial += 1;
        let call = wire::call(self.serial, method, signature, &body.bytes);
        self.stream.write_all(&call).inspect_err(|_| self.broken = true)?;
        let end = Instant::now() + self.patience;
        loop {
            let message = self.receive(end)?;
            match message.kind {
                wire::SIGNAL => self.signals.push_back(message),
                wire::RETURN if message.answers == self.serial => return Ok(message),
                wire::ERROR if message.answers == self.serial => {
                    let text = message.body().text().unwrap_or_default().to_owned();
                    return Err(Error::new(Refused { name: message.error, text }));
                }
                _ => {}
            }
        }
    }

    /// Waits until systemd has ended a job; returns its result, which is `done` if all went well.
    pub(super) fn job_result(&mut self, job: &str) -> Result<String> {
        let end = Instant::now() + self.patience;
        loop {
            let signal = match self.signals.pop_front() {
                Some(signal) => signal,
                None => self.receive(end).with_context(|| format!("wait for the end of job {job}"))?,
            };
            if signal.kind != wire::SIGNAL || signal.member != "JobRemoved" {
                continue;
            }
            let mut body = signal.body();
            body.u32()?;
            if body.text()? == job {
                body.text()?;
                return body.text().map(str::to_owned);
            }
        }
    }

    /// Whether the connection is of no use any more; what it asked for may happen all the same.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    fn receive(&mut self, end: Instant) -> Result<Message> {
        let message = self.receive_whole(end);
        self.broken |= message.is_err();
        message
    }

    fn receive_whole(&mut self, end: Instant) -> Result<Message> {
        let mut fixed = [0; FIXED];
        self.read(&mut fixed, end)?;
        let (length, header) = wire::lengths(&fixed)?;
        let mut bytes = vec![0; length];
        bytes[..FIXED].copy_from_slice(&fixed);
        self.read(&mut bytes[FIXED..], end)?;
        Message::parse(&bytes, header)
    }

    /// Fills the buffer; systemd's other signals must not make the wait endless.
    fn read(&mut self, buffer: &mut [u8], end: Instant) -> Result<()> {
        let patience = self.patience;
        let late = || anyhow!("no answer in {patience:?}");
        if Instant::now() > end {
            return Err(late());
        }
        match self.stream.read_exact(buffer) {
            Ok(()) => Ok(()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Err(late()),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => bail!("systemd has closed the connection"),
            Err(error) => Err(error.into()),
        }
    }
}

fn system_bus() -> PathBuf {
    path_of(env::var("DBUS_SYSTEM_BUS_ADDRESS").ok()).unwrap_or_else(|| "/run/dbus/system_bus_socket".into())
}

fn user_bus(runtime: Option<&Path>) -> Result<PathBuf> {
    path_of(env::var("DBUS_SESSION_BUS_ADDRESS").ok()).or_else(|| runtime.map(|dir| dir.join("bus"))).with_context(
        || format!("--systemd-cgroup: user {} has no systemd session: XDG_RUNTIME_DIR is not set", geteuid()),
    )
}

/// The first address of the list that is a path (`unix:path=/run/user/1000/bus,guid=...;...`).
fn path_of(addresses: Option<String>) -> Option<PathBuf> {
    let addresses = addresses?;
    let path = |address: &str| {
        address.strip_prefix("unix:")?.split(',').find_map(|part| part.strip_prefix("path=")).map(PathBuf::from)
    };
    addresses.split(';').find_map(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_path_among_other_things() {
        let path = |address: &str| path_of(Some(address.to_owned()));
        assert_eq!(path("unix:path=/run/user/7/bus,guid=1").unwrap(), Path::new("/run/user/7/bus"));
        assert_eq!(path("tcp:host=x;unix:guid=1,path=/b").unwrap(), Path::new("/b"));
        assert_eq!(path("unix:abstract=/tmp/x"), None);
        assert_eq!(path_of(None), None);
    }
}
