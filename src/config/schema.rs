//! What the specification's JSON schema asks for and the library's types let pass: properties that must not be missing,
//! which the library takes for zero, objects that are given as lists, which its parser takes in the order of the
//! properties, and names in other letters: Go's parser takes `CPU` for `cpu`, there are configurations with it, and what
//! runc would have limited must not go without. The document was read into the types already, so whatever else is wrong
//! was found.
//!
//! The text is walked once more, without a copy of anything in it; `null` stands for a property that is not there, as
//! for Go's parser.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// What a value has to be.
pub enum Shape {
    /// An object with properties of which something is asked, and with others.
    Object(&'static [Property], &'static [&'static str]),
    /// An object of any names.
    Map(&'static Shape),
    /// A list.
    List(&'static Shape),
}

/// A property's name, whether it has to be there, and what it has to be beyond the library's type.
pub struct Property(pub &'static str, Presence, pub Option<&'static Shape>);

#[derive(Clone, Copy, PartialEq)]
enum Presence {
    Optional,
    Required,
    /// Required but for a FIFO.
    OfDevice,
}

use Presence::{OfDevice, Optional, Required};
use Shape::{List, Map, Object};

const fn optional(name: &'static str, shape: &'static Shape) -> Property {
    Property(name, Optional, Some(shape))
}

const fn required(name: &'static str) -> Property {
    Property(name, Required, None)
}

/// An object without a property that must be there.
const fn plain(names: &'static [&'static str]) -> Shape {
    Object(&[], names)
}

/// `config.json`.
pub const CONFIG: Shape = Object(
    &[
        required("ociVersion"),
        optional("root", &Object(&[required("path")], &["readonly"])),
        optional("process", &PROCESS),
        optional("mounts", &List(&MOUNT)),
        optional("hooks", &HOOKS),
        optional("linux", &LINUX),
    ],
    &["hostname", "domainname", "annotations", "solaris", "windows", "vm", "zos"],
);

const MOUNT: Shape = Object(
    &[required("destination"), optional("uidMappings", &MAPPINGS), optional("gidMappings", &MAPPINGS)],
    &["type", "source", "options"],
);

const MAPPINGS: Shape = List(&Object(&[required("containerID"), required("hostID"), required("size")], &[]));

const HOOKS: Shape = Object(
    &[
        optional("prestart", &HOOK),
        optional("createRuntime", &HOOK),
        optional("createContainer", &HOOK),
        optional("startContainer", &HOOK),
        optional("poststart", &HOOK),
        optional("poststop", &HOOK),
    ],
    &[],
);

const HOOK: Shape = List(&Object(&[required("path")], &["args", "env", "timeout"]));

/// `process`.
pub const PROCESS: Shape = Object(
    &[
        required("cwd"),
        optional("consoleSize", &Object(&[required("height"), required("width")], &[])),
        optional("user", &plain(&["uid", "gid", "umask", "additionalGids", "username"])),
        optional("capabilities", &plain(&["bounding", "effective", "inheritable", "permitted", "ambient"])),
        optional("rlimits", &List(&Object(&[required("type"), required("soft"), required("hard")], &[]))),
        optional("scheduler", &SCHEDULER),
        optional("ioPriority", &Object(&[required("class")], &["priority"])),
        optional("execCPUAffinity", &plain(&["initial", "final"])),
    ],
    &["terminal", "args", "commandLine", "env", "noNewPrivileges", "apparmorProfile", "oomScoreAdj", "selinuxLabel"],
);

const SCHEDULER: Shape = Object(&[required("policy")], &["nice", "priority", "flags", "runtime", "deadline", "period"]);

const LINUX: Shape = Object(
    &[
        optional("namespaces", &List(&Object(&[required("type")], &["path"]))),
        optional("uidMappings", &MAPPINGS),
        optional("gidMappings", &MAPPINGS),
        optional("timeOffsets", &Map(&plain(&["secs", "nanosecs"]))),
        optional("devices", &List(&DEVICE)),
        optional("netDevices", &Map(&plain(&["name"]))),
        optional("resources", &RESOURCES),
        optional("intelRdt", &INTEL_RDT),
        optional("memoryPolicy", &Object(&[required("mode")], &["nodes", "flags"])),
        optional("personality", &Object(&[required("domain")], &["flags"])),
        optional("seccomp", &SECCOMP),
    ],
    &["sysctl", "cgroupsPath", "rootfsPropagation", "maskedPaths", "readonlyPaths", "mountLabel"],
);

const DEVICE: Shape = Object(
    &[required("type"), required("path"), Property("major", OfDevice, None), Property("minor", OfDevice, None)],
    &["fileMode", "uid", "gid"],
);

const INTEL_RDT: Shape =
    plain(&["closID", "schemata", "l3CacheSchema", "memBwSchema", "enableCMT", "enableMBM", "enableMonitoring"]);

/// `linux.resources`.
pub const RESOURCES: Shape = Object(
    &[
        optional("devices", &List(&Object(&[required("allow")], &["type", "major", "minor", "access"]))),
        optional("memory", &MEMORY),
        optional("cpu", &CPU),
        optional("pids", &Object(&[required("limit")], &[])),
        optional("blockIO", &BLOCK_IO),
        optional("hugepageLimits", &List(&Object(&[required("pageSize"), required("limit")], &[]))),
        optional("network", &NETWORK),
        optional("rdma", &Map(&plain(&["hcaHandles", "hcaObjects"]))),
    ],
    &["unified"],
);

const MEMORY: Shape = plain(&[
    "limit",
    "reservation",
    "swap",
    "kernel",
    "kernelTCP",
    "swappiness",
    "disableOOMKiller",
    "useHierarchy",
    "checkBeforeUpdate",
]);

const CPU: Shape =
    plain(&["shares", "quota", "burst", "period", "realtimeRuntime", "realtimePeriod", "cpus", "mems", "idle"]);

const NETWORK: Shape =
    Object(&[optional("priorities", &List(&Object(&[required("name"), required("priority")], &[])))], &["classID"]);

const BLOCK_IO: Shape = Object(
    &[
        optional("weightDevice", &List(&Object(&[required("major"), required("minor")], &["weight", "leafWeight"]))),
        optional("throttleReadBpsDevice", &THROTTLE),
        optional("throttleWriteBpsDevice", &THROTTLE),
        optional("throttleReadIOPSDevice", &THROTTLE),
        optional("throttleWriteIOPSDevice", &THROTTLE),
    ],
    &["weight", "leafWeight"],
);

const THROTTLE: Shape = List(&Object(&[required("major"), required("minor"), required("rate")], &[]));

const SECCOMP: Shape = Object(
    &[required("defaultAction"), optional("syscalls", &List(&SYSCALL))],
    &["defaultErrnoRet", "architectures", "flags", "listenerPath", "listenerMetadata"],
);

const SYSCALL: Shape =
    Object(&[required("names"), required("action"), optional("args", &List(&ARGUMENT))], &["errnoRet"]);

const ARGUMENT: Shape = Object(&[required("index"), required("value"), required("op")], &["valueTwo"]);

impl Shape {
    /// The property of this object that Go's parser takes a name for: it does not tell capital letters from others.
    pub fn in_other_letters(&self, name: &str) -> Option<&'static str> {
        let Object(properties, others) = self else { return None };
        let mut known = properties.iter().map(|property| property.0).chain(others.iter().copied());
        known.find(|known| known.eq_ignore_ascii_case(name) && *known != name)
    }
}

/// Checks a JSON text that was found to be one.
///
/// # Errors
/// What is missing, of another kind, or of a name in other letters ([`super::spelling`] has an answer to that); the error's place
/// is that of the value.
pub fn check(json: &[u8], shape: &'static Shape) -> serde_json::Result<()> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    Walk(shape).deserialize(&mut deserializer)
}

#[derive(Clone, Copy)]
struct Walk(&'static Shape);

impl<'de> DeserializeSeed<'de> for Walk {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Walk {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if matches!(self.0, List(_)) { "a list" } else { "an object" })
    }

    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        // Not for a list or a map: of the wrong one the place would be that of what is before it.
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let List(item) = self.0 else {
            return Err(A::Error::invalid_type(serde::de::Unexpected::Seq, &self));
        };
        while list.next_element_seed(Walk(item))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        let properties = match self.0 {
            Object(properties, _) => *properties,
            Map(value) => {
                while object.next_key::<IgnoredAny>()?.is_some() {
                    object.next_value_seed(Walk(value))?;
                }
                return Ok(());
            }
            List(_) => return Err(A::Error::invalid_type(serde::de::Unexpected::Map, &self)),
        };
        let (mut seen, mut fifo) = (0_u32, false);
        while let Some(name) = object.next_key::<Name<'de>>()? {
            let index = properties.iter().position(|property| property.0 == name.0);
            match index.map(|index| (index, properties[index].2)) {
                Some((index, shape)) => {
                    seen |= 1 << index;
                    match shape {
                        Some(shape) => object.next_value_seed(Walk(shape))?,
                        None if name.0 == "type" => fifo = object.next_value::<Name<'de>>()?.0 == "p",
                        None => drop(object.next_value::<IgnoredAny>()?),
                    }
                }
                None => match self.0.in_other_letters(&name.0) {
                    Some(known) => return Err(A::Error::custom(format_args!("{known} in other letters"))),
                    None => drop(object.next_value::<IgnoredAny>()?),
                },
            }
        }
        let missing = |(index, property): &(usize, &Property)| {
            seen & (1 << index) == 0 && (property.1 == Required || property.1 == OfDevice && !fifo)
        };
        match properties.iter().enumerate().find(missing) {
            Some((_, property)) => Err(A::Error::missing_field(property.0)),
            None => Ok(()),
        }
    }
}

/// A text that is only compared.
struct Name<'a>(Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(json: &str) -> String {
        check(json.as_bytes(), &CONFIG).unwrap_err().to_string()
    }

    #[test]
    fn missing_properties_and_lists_for_objects() {
        for (linux, message) in [
            (r#"{"resources":[]}"#, "invalid type: sequence, expected an object"),
            (r#"{"resources":{"pids":{}}}"#, "missing field `limit`"),
            (r#"{"devices":[{"type":"c","path":"/dev/x","minor":3}]}"#, "missing field `major`"),
            (r#"{"timeOffsets":{"monotonic":[1,2]}}"#, "invalid type: sequence"),
            (r#"{"seccomp":{"defaultAction":"x","syscalls":[{"names":[],"action":"y","args":[{}]}]}}"#, "`index`"),
        ] {
            let found = error(&format!(r#"{{"ociVersion":"1.3.0","linux":{linux}}}"#));
            assert!(found.contains(message), "{linux}: {found}");
        }
        assert!(error("{}").contains("missing field `ociVersion`"));
    }

    #[test]
    fn what_is_whole_passes() {
        for linux in [
            "null",
            "{}",
            r#"{"resources":null,"x":[1],"devices":[{"type":"p","path":"/f"},{"path":"\u002f","major":1,"minor":2,"type":"c"}]}"#,
        ] {
            check(format!(r#"{{"ociVersion":"1.3.0","linux":{linux},"y":{{}}}}"#).as_bytes(), &CONFIG).unwrap();
        }
    }

    /// Takes nothing; only the names of the properties that a type asks for are seen.
    struct Names<'a>(&'a mut &'static [&'static str]);

    impl<'de> Deserializer<'de> for Names<'_> {
        type Error = serde::de::value::Error;

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
            Err(Self::Error::custom("no object"))
        }

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            names: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Self::Error> {
            *self.0 = names;
            Err(Self::Error::custom("only its names"))
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct
            seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    fn names_are_those_of<T: serde::de::DeserializeOwned + fmt::Debug>(path: &[&str]) {
        let mut shape = &CONFIG;
        for step in path {
            shape = match shape {
                Object(properties, _) => properties.iter().find(|property| property.0 == *step).unwrap().2.unwrap(),
                List(_) | Map(_) => unreachable!("was gone through"),
            };
            while let List(inner) | Map(inner) = shape {
                shape = inner;
            }
        }
        let Object(properties, others) = shape else { unreachable!("lists and maps were gone through") };
        let mut ours: Vec<_> = properties.iter().map(|property| property.0).chain(others.iter().copied()).collect();
        let mut theirs: &[&str] = &[];
        T::deserialize(Names(&mut theirs)).unwrap_err();
        // Where the library differs from the specification: two properties at the top, and the letters of two that are
        // without a meaning since version 1.3.
        let spelled = theirs.iter().map(|name| match *name {
            "enableCmt" => "enableCMT",
            "enableMbm" => "enableMBM",
            name => name,
        });
        let mut theirs: Vec<_> = spelled.filter(|name| !path.is_empty() || !name.ends_with("Mappings")).collect();
        ours.sort_unstable();
        theirs.sort_unstable();
        assert_eq!(ours, theirs, "{path:?}");
    }

    #[test]
    fn the_names_are_the_librarys() {
        use oci_spec::runtime::*;
        names_are_those_of::<Spec>(&[]);
        names_are_those_of::<Root>(&["root"]);
        names_are_those_of::<Mount>(&["mounts"]);
        names_are_those_of::<LinuxIdMapping>(&["mounts", "uidMappings"]);
        names_are_those_of::<Hooks>(&["hooks"]);
        names_are_those_of::<Hook>(&["hooks", "poststop"]);
        names_are_those_of::<Process>(&["process"]);
        names_are_those_of::<Box>(&["process", "consoleSize"]);
        names_are_those_of::<User>(&["process", "user"]);
        names_are_those_of::<LinuxCapabilities>(&["process", "capabilities"]);
        names_are_those_of::<PosixRlimit>(&["process", "rlimits"]);
        names_are_those_of::<Scheduler>(&["process", "scheduler"]);
        names_are_those_of::<LinuxIOPriority>(&["process", "ioPriority"]);
        names_are_those_of::<ExecCPUAffinity>(&["process", "execCPUAffinity"]);
        names_are_those_of::<Linux>(&["linux"]);
        names_are_those_of::<LinuxNamespace>(&["linux", "namespaces"]);
        names_are_those_of::<LinuxTimeOffset>(&["linux", "timeOffsets"]);
        names_are_those_of::<LinuxDevice>(&["linux", "devices"]);
        names_are_those_of::<LinuxNetDevice>(&["linux", "netDevices"]);
        names_are_those_of::<LinuxIntelRdt>(&["linux", "intelRdt"]);
        names_are_those_of::<LinuxMemoryPolicy>(&["linux", "memoryPolicy"]);
        names_are_those_of::<LinuxPersonality>(&["linux", "personality"]);
        names_are_those_of::<LinuxSeccomp>(&["linux", "seccomp"]);
        names_are_those_of::<LinuxSyscall>(&["linux", "seccomp", "syscalls"]);
        names_are_those_of::<LinuxSeccompArg>(&["linux", "seccomp", "syscalls", "args"]);
        names_are_those_of::<LinuxResources>(&["linux", "resources"]);
        names_are_those_of::<LinuxDeviceCgroup>(&["linux", "resources", "devices"]);
        names_are_those_of::<LinuxMemory>(&["linux", "resources", "memory"]);
        names_are_those_of::<LinuxCpu>(&["linux", "resources", "cpu"]);
        names_are_those_of::<LinuxPids>(&["linux", "resources", "pids"]);
        names_are_those_of::<LinuxBlockIo>(&["linux", "resources", "blockIO"]);
        names_are_those_of::<LinuxWeightDevice>(&["linux", "resources", "blockIO", "weightDevice"]);
        names_are_those_of::<LinuxThrottleDevice>(&["linux", "resources", "blockIO", "throttleReadBpsDevice"]);
        names_are_those_of::<LinuxHugepageLimit>(&["linux", "resources", "hugepageLimits"]);
        names_are_those_of::<LinuxNetwork>(&["linux", "resources", "network"]);
        names_are_those_of::<LinuxInterfacePriority>(&["linux", "resources", "network", "priorities"]);
        names_are_those_of::<LinuxRdma>(&["linux", "resources", "rdma"]);
    }
}
