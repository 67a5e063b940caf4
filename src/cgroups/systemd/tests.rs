//! A systemd that fails, is late, or does not answer at all: somebody at the other end of the socket plays it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::bus::Bus;
use super::unit::Unit;
use super::wire::{self, Message, Value, Writer};
use crate::cgroups::reading::fixture::Fixture;
use crate::error::one_line;

/// What it does when it is called.
#[derive(Clone, Copy)]
enum Act {
    /// A job, and its result.
    Job(&'static str),
    /// A job without an end.
    Endless,
    /// An error of this name.
    Refuse(&'static str),
    Nothing,
}

/// Plays the acts, one a call; what comes after them succeeds. The methods called are told.
fn play(dir: &Path, acts: &'static [Act]) -> (Bus, Receiver<String>) {
    let path = dir.join("private");
    let listener = UnixListener::bind(&path).unwrap();
    let (told, calls) = channel();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        for _ in ["AUTH", "DATA", "BEGIN"] {
            reader.read_line(&mut String::new()).unwrap();
        }
        stream.write_all(b"DATA\r\nOK 1\r\n").unwrap();
        let mut acts = acts.iter().copied();
        while let Some((serial, member)) = called(&mut reader) {
            told.send(member).unwrap();
            perform(&mut stream, serial, acts.next().unwrap_or(Act::Job("done")));
        }
    });
    (Bus::open(&path, false, Duration::from_millis(200)).unwrap(), calls)
}

fn called(reader: &mut BufReader<UnixStream>) -> Option<(u32, String)> {
    let mut fixed = [0; wire::FIXED];
    reader.read_exact(&mut fixed).ok()?;
    let (length, header) = wire::lengths(&fixed).unwrap();
    let mut bytes = vec![0; length];
    bytes[..wire::FIXED].copy_from_slice(&fixed);
    reader.read_exact(&mut bytes[wire::FIXED..]).ok()?;
    Some((u32::from_ne_bytes(fixed[8..12].try_into().unwrap()), Message::parse(&bytes, header).unwrap().member))
}

fn perform(stream: &mut UnixStream, serial: u32, act: Act) {
    let answers = (5, Value::U32(serial));
    let text = |text: &str| {
        let mut body = Writer::default();
        body.text(text);
        body.bytes
    };
    match act {
        Act::Nothing => {}
        Act::Refuse(name) => {
            let name = Value::Text(format!("org.freedesktop.systemd1.{name}"));
            stream.write_all(&wire::answer(wire::ERROR, &[answers, (4, name)], "s", &text("no"))).unwrap();
        }
        Act::Endless => stream.write_all(&wire::answer(wire::RETURN, &[answers], "o", &text("/job/1"))).unwrap(),
        Act::Job(result) => {
            stream.write_all(&wire::answer(wire::RETURN, &[answers], "o", &text("/job/1"))).unwrap();
            let mut body = Writer::default();
            body.u32(1);
            ["/job/1", "tt-x.scope", result].iter().for_each(|word| body.text(word));
            let name = (3, Value::Text("JobRemoved".to_owned()));
            stream.write_all(&wire::answer(wire::SIGNAL, &[name], "uoss", &body.bytes)).unwrap();
        }
    }
}

fn unit() -> Unit {
    Unit::of(Some(Path::new("a.slice:tt:x")), "x", "system.slice").unwrap()
}

fn start(acts: &'static [Act]) -> (Result<(), String>, Vec<String>) {
    let fixture = Fixture::new(&[]);
    let (mut bus, calls) = play(fixture.dir(), acts);
    let result = unit().start(&mut bus, 1, &[]).map_err(|error| one_line(&error));
    drop(bus);
    (result, calls.iter().collect())
}

#[test]
fn a_unit_is_there_when_its_job_is_done() {
    assert_eq!(start(&[Act::Job("done")]), (Ok(()), vec!["StartTransientUnit".to_owned()]));
}

#[test]
fn a_job_that_fails_is_named_with_its_unit() {
    let (result, calls) = start(&[Act::Job("failed")]);
    let expected = "start unit tt-x.scope in a.slice: the job's result is \"failed\" (journalctl --unit tt-x.scope may \
                    say why)";
    assert_eq!(result.unwrap_err(), expected);
    assert_eq!(calls, ["StartTransientUnit", "ResetFailedUnit"]);
}

#[test]
fn a_job_that_does_not_end_is_not_waited_for_forever() {
    let (result, calls) = start(&[Act::Endless]);
    let line = result.unwrap_err();
    assert_eq!(line, "start unit tt-x.scope in a.slice: wait for the end of job /job/1: no answer in 200ms");
    assert_eq!(calls, ["StartTransientUnit", "ResetFailedUnit"]);
}

#[test]
fn a_systemd_that_does_not_answer_is_asked_once() {
    let fixture = Fixture::new(&[]);
    let (mut bus, calls) = play(fixture.dir(), &[Act::Nothing]);
    let line = one_line(&unit().start(&mut bus, 1, &[]).unwrap_err());
    assert_eq!(line, "start unit tt-x.scope in a.slice: systemd: StartTransientUnit: no answer in 200ms");
    let line = one_line(&unit().stop(&mut bus).unwrap_err());
    assert_eq!(line, "stop unit tt-x.scope: systemd: StopUnit: it has not answered before");
    drop(bus);
    assert_eq!(calls.iter().collect::<Vec<_>>(), ["StartTransientUnit"]);
}

#[test]
fn a_failed_unit_of_the_name_is_reset_and_another_one_stays() {
    let (result, calls) = start(&[Act::Refuse("UnitExists")]);
    assert_eq!(result, Ok(()));
    assert_eq!(calls, ["StartTransientUnit", "ResetFailedUnit", "StartTransientUnit"]);
    let (result, _) = start(&[Act::Refuse("UnitExists"), Act::Job("done"), Act::Refuse("UnitExists")]);
    assert_eq!(result.unwrap_err(), "start unit tt-x.scope in a.slice: systemd: StartTransientUnit: no");
}

#[test]
fn a_unit_that_is_gone_is_stopped() {
    let fixture = Fixture::new(&[]);
    let (mut bus, _calls) = play(fixture.dir(), &[Act::Refuse("NoSuchUnit")]);
    unit().stop(&mut bus).unwrap();
}
