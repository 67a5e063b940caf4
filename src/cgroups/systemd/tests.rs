//! A systemd that fails, is late, or does not answer at all: somebody at the other end of the socket plays it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::bus::Bus;
use super::identity::{self, Found, Instance};
use super::unit::Unit;
use super::wire::{self, Message, Value, Writer};
use crate::cgroups::reading::fixture::Fixture;
use crate::cgroups::{Kind, Placement};
use crate::error::one_line;

/// What it does when it is called.
#[derive(Clone, Copy)]
enum Act {
    /// A job, and its result.
    Job(&'static str),
    /// An answer without a body.
    Done,
    /// A property that is a string.
    Text(&'static str),
    /// A property that is a list of strings.
    Texts(&'static [&'static str]),
    /// A property that is true.
    True,
    /// An invocation id; none of a unit that was never started.
    Id(&'static [u8]),
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
    let mut property = |value: &Value| {
        let mut body = Writer::default();
        body.variant(value);
        stream.write_all(&wire::answer(wire::RETURN, &[(5, Value::U32(serial))], "v", &body.bytes)).unwrap();
    };
    let owned = |text: &&str| Value::Text((*text).to_owned());
    match act {
        Act::Nothing => {}
        Act::Text(text) => property(&owned(&text)),
        Act::Texts(texts) => property(&Value::Array("s".to_owned(), texts.iter().map(owned).collect())),
        Act::True => property(&Value::Bool(true)),
        Act::Id(id) => property(&Value::bytes(id)),
        Act::Done => stream.write_all(&wire::answer(wire::RETURN, &[answers], "", &[])).unwrap(),
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
    assert_eq!(calls, ["StartTransientUnit"]);
}

#[test]
fn a_job_that_does_not_end_is_not_waited_for_forever() {
    let (result, calls) = start(&[Act::Endless]);
    let line = result.unwrap_err();
    assert_eq!(line, "start unit tt-x.scope in a.slice: wait for the end of job /job/1: no answer in 200ms");
    assert_eq!(calls, ["StartTransientUnit"]);
}

#[test]
fn a_connection_that_has_lost_an_answer_is_not_used_again() {
    let fixture = Fixture::new(&[]);
    let (mut bus, calls) = play(fixture.dir(), &[Act::Nothing]);
    let line = one_line(&unit().start(&mut bus, 1, &[]).unwrap_err());
    assert_eq!(line, "start unit tt-x.scope in a.slice: systemd: StartTransientUnit: no answer in 200ms");
    assert!(bus.is_broken());
    let line = one_line(&find(&mut bus, Some("info:mine")).unwrap_err());
    assert!(line.ends_with("systemd: Get: the connection has failed before"), "{line}");
    drop(bus);
    assert_eq!(calls.iter().collect::<Vec<_>>(), ["StartTransientUnit"]);
}

#[test]
fn a_failed_unit_of_the_name_is_reset_and_another_one_stays() {
    let (result, calls) = start(&[EXISTS, Act::Id(ID), Act::Text("failed"), Act::True, Act::Done]);
    assert_eq!(result, Ok(()));
    assert_eq!(calls, ["StartTransientUnit", "Get", "Get", "Get", "ResetFailed", "StartTransientUnit"]);
    let (result, calls) = start(&[EXISTS, Act::Id(ID), Act::Text("active")]);
    let expected = "start unit tt-x.scope in a.slice: another container or service has a unit of this name: \
                    systemd: StartTransientUnit: no";
    assert_eq!(result.unwrap_err(), expected);
    assert_eq!(calls, ["StartTransientUnit", "Get", "Get"], "nothing is stopped or reset");
    // It ended by itself meanwhile.
    assert_eq!(start(&[EXISTS, Act::Id(&[])]).0, Ok(()));
}

const EXISTS: Act = Act::Refuse("UnitExists");
const ID: &[u8] = &[0x1f; 16];
const NO_ID: Act = Act::Id(&[]);
const MINE: Act = Act::Texts(&["info:mine"]);

fn find(bus: &mut Bus, mark: Option<&str>) -> crate::error::Result<Found> {
    let placement = Placement {
        paths: [(String::new(), "/sys/fs/cgroup/a.slice/tt-x.scope".into())].into(),
        unit_mark: mark.map(str::to_owned),
        ..Placement::none(Kind::Systemd)
    };
    identity::find(bus, "tt-x.scope", &placement)
}

#[test]
fn a_unit_is_ours_by_its_mark_alone() {
    let cases: [(&str, Option<&str>, &'static [Act]); 10] = [
        ("Gone", Some("info:mine"), &[Act::Id(&[]), Act::Texts(&[])]),
        // systemd has it, and runs its job later.
        ("Ours", Some("info:mine"), &[NO_ID, MINE, NO_ID, MINE, Act::Id(ID), MINE]),
        ("Gone", Some("info:mine"), &[NO_ID, MINE, NO_ID, Act::Texts(&[])]),
        ("Ours", Some("info:mine"), &[Act::Id(ID), Act::Texts(&["info:x", "info:mine"])]),
        ("Foreign", Some("info:mine"), &[Act::Id(ID), Act::Texts(&["info:mine2"])]),
        ("Foreign", Some("info:mine"), &[Act::Id(ID), Act::Texts(&[])]),
        ("Gone", Some("info:mine"), &[Act::Id(ID), Act::Refuse("NoUnitForInvocationID")]),
        // Of a build without marks.
        ("Ours", None, &[Act::Id(ID), Act::Text("tare container x"), Act::Text("/a.slice/tt-x.scope")]),
        ("Foreign", None, &[Act::Id(ID), Act::Text("tare container x"), Act::Text("/b.slice/tt-x.scope")]),
        ("Foreign", None, &[Act::Id(ID), Act::Text("libcontainer container x")]),
    ];
    for (expected, mark, acts) in cases {
        let fixture = Fixture::new(&[]);
        let (mut bus, _calls) = play(fixture.dir(), acts);
        let found = find(&mut bus, mark).unwrap();
        assert!(format!("{found:?}").starts_with(expected), "{found:?} instead of {expected}");
    }
}

#[test]
fn a_unit_is_stopped_by_its_invocation_id_and_may_be_gone() {
    let fixture = Fixture::new(&[]);
    let acts = &[Act::Id(ID), Act::Job("done"), Act::Refuse("NoUnitForInvocationID"), Act::Job("timeout")];
    let (mut bus, calls) = play(fixture.dir(), acts);
    let instance = Instance::find(&mut bus, "tt-x.scope").unwrap().expect("an instance");
    instance.stop(&mut bus).unwrap();
    instance.stop(&mut bus).unwrap();
    let line = one_line(&instance.stop(&mut bus).unwrap_err());
    assert_eq!(line, "the job's result is \"timeout\"");
    drop(bus);
    assert_eq!(calls.iter().collect::<Vec<_>>(), ["Get", "Stop", "Stop", "Stop"]);
}
