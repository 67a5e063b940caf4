//! The container's transient unit: a scope in a slice.

use std::path::{Path, PathBuf};

use super::bus::{Bus, is_refused};
use super::identity::Instance;
use super::wire::{Value, Writer};
use crate::error::{Context as _, Result, bail};

/// A scope's name and the slice it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) name: String,
    pub(super) slice: String,
}

impl Unit {
    /// From `linux.cgroupsPath` in the form that every caller of a runtime uses with systemd: `slice:prefix:name`, each
    /// of which may be empty.
    pub(super) fn of(path: Option<&Path>, id: &str, default_slice: &str) -> Result<Self> {
        let text = match path {
            None => format!("{default_slice}:tare:{id}"),
            Some(path) => path.to_string_lossy().into_owned(),
        };
        let parts: Vec<&str> = text.split(':').collect();
        let [slice, prefix, name] = parts[..] else {
            bail!(
                "linux.cgroupsPath: expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, \
                 got {text:?} instead"
            );
        };
        if name.ends_with(".slice") {
            bail!("linux.cgroupsPath: {text:?} names a slice, which has no processes of its own");
        }
        if prefix.contains('/') || name.contains('/') {
            bail!("linux.cgroupsPath: {text:?}: a unit's name has no slash");
        }
        for part in [slice, prefix] {
            if let Some(bad) = part.chars().find(|char| !is_valid(*char)) {
                bail!("linux.cgroupsPath: invalid unit name {part:?}: character {bad:?} is not allowed");
            }
        }
        // Others are escaped; these name nothing that a caller can have meant.
        if let Some(bad) = name.chars().find(|char| char.is_control() || *char == '%') {
            bail!("linux.cgroupsPath: invalid unit name {name:?}: character {bad:?} is not allowed");
        }
        let name = match (prefix, escape(if name.is_empty() { id } else { name })) {
            ("", name) => format!("{name}.scope"),
            (prefix, name) => format!("{prefix}-{name}.scope"),
        };
        let slice = if slice.is_empty() { default_slice } else { slice };
        for unit in [name.as_str(), slice] {
            if unit.len() > LONGEST_NAME {
                bail!("linux.cgroupsPath: unit name {unit:?}: longer than {LONGEST_NAME} characters");
            }
        }
        Ok(Self { name, slice: slice.to_owned() })
    }

    /// Where it is below the manager's own cgroup.
    pub(super) fn path(&self) -> Result<PathBuf> {
        Ok(expand(&self.slice)?.join(&self.name))
    }

    /// Starts it with a process in it, and waits until it is there. After an error that is not systemd's own no it may be
    /// there as well, or come yet: `identity::find` tells.
    pub(super) fn start(&self, bus: &mut Bus, pid: i32, properties: &[(String, Value)]) -> Result<()> {
        let fixed = [
            ("Slice", Value::Text(self.slice.clone())),
            ("Delegate", Value::Bool(true)),
            ("PIDs", Value::Array("u".to_owned(), vec![Value::U32(pid.unsigned_abs())])),
            // Otherwise a shutdown would wait for the container, and it for basic.target.
            ("DefaultDependencies", Value::Bool(false)),
            // Callers read statistics of every controller, limited or not.
            ("CPUAccounting", Value::Bool(true)),
            ("MemoryAccounting", Value::Bool(true)),
            ("IOAccounting", Value::Bool(true)),
            ("TasksAccounting", Value::Bool(true)),
        ];
        let mut all: Vec<_> = fixed.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        all.extend_from_slice(properties);
        let mut result = self.start_once(bus, &all);
        if exists(&result) && self.reset_leftover(bus)? {
            result = self.start_once(bus, &all);
        }
        let what = format!("start unit {} in {}", self.name, self.slice);
        if exists(&result) {
            return result.context(what + ": another container or service has a unit of this name");
        }
        result.context(what)
    }

    fn start_once(&self, bus: &mut Bus, properties: &[(String, Value)]) -> Result<()> {
        let mut body = Writer::default();
        body.text(&self.name);
        body.text("replace");
        body.properties(properties);
        body.array(8, |_| {}); // no auxiliary units
        let answer = bus.manager("StartTransientUnit", "ssa(sv)a(sa(sv))", body)?;
        match bus.job_result(answer.body().text()?)?.as_str() {
            "done" => Ok(()),
            result => bail!("the job's result is {result:?} (journalctl --unit {} may say why)", self.name),
        }
    }

    /// Has systemd forget a transient unit of the name that has failed, which stays until then: a name without a process,
    /// whoever started it. `false` if the name is in use.
    fn reset_leftover(&self, bus: &mut Bus) -> Result<bool> {
        let Some(instance) = Instance::find(bus, &self.name)? else { return Ok(true) };
        if !instance.is_failed_leftover(bus)? {
            return Ok(false);
        }
        instance.reset_failed(bus).map(|()| true)
    }

    /// Changes properties of the running unit, not in any file.
    pub(super) fn set_properties(&self, bus: &mut Bus, properties: &[(String, Value)]) -> Result<()> {
        let mut body = Writer::default();
        body.text(&self.name);
        body.bool(true);
        body.properties(properties);
        bus.manager("SetUnitProperties", "sba(sv)", body)
            .map(drop)
            .with_context(|| format!("set properties of unit {}", self.name))
    }

    /// Moves a process in, which an ordinary user may not do across the border of what was delegated to them.
    /// `dir` is its cgroup or one below it.
    pub(super) fn attach(&self, bus: &mut Bus, pid: i32, dir: &Path) -> Result<()> {
        let below = dir.iter().skip_while(|name| *name != self.name.as_str()).skip(1);
        let below = Path::new("/").join(below.collect::<PathBuf>());
        let mut body = Writer::default();
        body.text(&self.name);
        body.text(&below.to_string_lossy());
        body.array(4, |writer| writer.u32(pid.unsigned_abs()));
        bus.manager("AttachProcessesToUnit", "ssau", body)
            .map(drop)
            .with_context(|| format!("move process {pid} into {} of unit {}", below.display(), self.name))
    }
}

/// The longest name that systemd accepts (UNIT_NAME_MAX of its source, which counts the end).
const LONGEST_NAME: usize = 255;

/// Tells whether a unit's name may have this character (systemd.unit(5)).
fn is_valid(char: char) -> bool {
    char.is_ascii_alphanumeric() || matches!(char, ':' | '-' | '_' | '.' | '\\' | '@')
}

/// Whether a unit could not be started because one of the name is there.
fn exists(started: &Result<()>) -> bool {
    started.as_ref().is_err_and(|error| is_refused(error, "UnitExists"))
}

/// An id may have characters that a unit's name must not have (systemd-escape(1)).
fn escape(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for byte in name.bytes() {
        match char::from(byte) {
            char if is_valid(char) => escaped.push(char),
            _ => escaped.push_str(&format!("\\x{byte:02x}")),
        }
    }
    escaped
}

/// `a-b.slice` is in `a.slice`, and so is its directory.
fn expand(slice: &str) -> Result<PathBuf> {
    let invalid = || format!("linux.cgroupsPath: invalid slice name: {slice:?}");
    let name = slice.strip_suffix(".slice").filter(|name| !name.is_empty() && !name.contains('/'));
    let name = name.with_context(invalid)?;
    let mut path = PathBuf::new();
    if name == "-" {
        return Ok(path); // the root slice
    }
    let mut prefix = String::new();
    for part in name.split('-') {
        if part.is_empty() || part == "." || part == ".." {
            bail!(invalid());
        }
        path.push(format!("{prefix}{part}.slice"));
        prefix.push_str(part);
        prefix.push('-');
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::one_line;

    fn unit(path: &str) -> Result<Unit> {
        Unit::of(Some(Path::new(path)), "id", "system.slice")
    }

    #[test]
    fn the_path_names_slice_prefix_and_name() {
        let name = |path| unit(path).map(|unit| (unit.slice, unit.name)).unwrap();
        let pair = |slice: &str, name: &str| (slice.to_owned(), name.to_owned());
        assert_eq!(name("machine.slice:libpod:abc"), pair("machine.slice", "libpod-abc.scope"));
        assert_eq!(name(":docker:abc"), pair("system.slice", "docker-abc.scope"));
        assert_eq!(name("::a+b"), pair("system.slice", "a\\x2bb.scope"));
        assert_eq!(name("::"), pair("system.slice", "id.scope"));
        let default = Unit::of(None, "id", "user.slice").unwrap();
        assert_eq!((default.slice.as_str(), default.name.as_str()), ("user.slice", "tare-id.scope"));
        for path in ["/system.slice/x", "a:b", "a:b:c:d", "a.slice:b:c.slice", "a.slice:../b:c"] {
            assert!(unit(path).is_err(), "{path}");
        }
    }

    #[test]
    fn a_name_that_systemd_would_not_take_is_refused_and_shown() {
        let long = "x".repeat(LONGEST_NAME + 1);
        for (path, said) in [
            ("a.slice:b:c\nd", r#"invalid unit name "c\nd": character '\n' is not allowed"#),
            ("a.slice:b:c\0d", r#"invalid unit name "c\0d": character '\0' is not allowed"#),
            ("a.slice:b:%n", r#"invalid unit name "%n": character '%' is not allowed"#),
            ("a.slice:b\n:c", r#"invalid unit name "b\n": character '\n' is not allowed"#),
            ("a.slice:%i:c", r#"invalid unit name "%i": character '%' is not allowed"#),
            ("a\0.slice:b:c", r#"invalid unit name "a\0.slice": character '\0' is not allowed"#),
            ("a\r.slice:b:c", r#"invalid unit name "a\r.slice": character '\r' is not allowed"#),
            ("a%.slice:b:c", r#"invalid unit name "a%.slice": character '%' is not allowed"#),
            (&format!("a.slice:b:{long}"), "longer than 255 characters"),
            (&format!("{long}.slice:b:c"), "longer than 255 characters"),
        ] {
            let line = one_line(&unit(path).unwrap_err());
            assert!(line.starts_with("linux.cgroupsPath: ") && line.ends_with(said), "{path:?}: {line}");
        }
        assert_eq!(unit("a.slice:b:a b").unwrap().name, r"b-a\x20b.scope");
    }

    #[test]
    fn a_slice_is_below_those_that_its_name_starts_with() {
        assert_eq!(expand("a-b-c.slice").unwrap(), Path::new("a.slice/a-b.slice/a-b-c.slice"));
        assert_eq!(expand("-.slice").unwrap(), Path::new(""));
        assert_eq!(unit("a-b.slice:x:y").unwrap().path().unwrap(), Path::new("a.slice/a-b.slice/x-y.scope"));
        for slice in ["", ".slice", "a--b.slice", "-a.slice", "a/b.slice", "a.scope", "a-...slice"] {
            assert!(expand(slice).is_err(), "{slice}");
        }
    }
}
