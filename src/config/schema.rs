//! What the specification's JSON schema asks for and the library's types let pass: properties that must not be missing,
//! which the library takes for zero, and objects that are given as lists, which its parser takes in the order of the
//! properties. The document was read into the types already, so whatever else is wrong was found.
//!
//! The text is walked once more, without a copy of anything in it; `null` stands for a property that is not there, as
//! for Go's parser.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// What a value has to be.
pub enum Shape {
    /// An object with these properties among others.
    Object(&'static [Property]),
    /// An object of any names.
    Map(&'static Shape),
    /// A list.
    List(&'static Shape),
}

/// A property's name, whether it has to be there, and what it has to be beyond the library's type.
pub struct Property(&'static str, Presence, Option<&'static Shape>);

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

/// Nothing beyond being an object.
const PLAIN: Shape = Object(&[]);

/// `config.json`.
pub const CONFIG: Shape = Object(&[
    required("ociVersion"),
    optional("root", &Object(&[required("path")])),
    optional("process", &PROCESS),
    optional("mounts", &List(&MOUNT)),
    optional("hooks", &Map(&List(&Object(&[required("path")])))),
    optional("linux", &LINUX),
]);

const MOUNT: Shape =
    Object(&[required("destination"), optional("uidMappings", &MAPPINGS), optional("gidMappings", &MAPPINGS)]);

const MAPPINGS: Shape = List(&Object(&[required("containerID"), required("hostID"), required("size")]));

/// `process`.
pub const PROCESS: Shape = Object(&[
    required("cwd"),
    optional("consoleSize", &Object(&[required("height"), required("width")])),
    optional("user", &PLAIN),
    optional("capabilities", &PLAIN),
    optional("rlimits", &List(&Object(&[required("type"), required("soft"), required("hard")]))),
    optional("scheduler", &Object(&[required("policy")])),
    optional("ioPriority", &Object(&[required("class")])),
    optional("execCPUAffinity", &PLAIN),
]);

const LINUX: Shape = Object(&[
    optional("namespaces", &List(&Object(&[required("type")]))),
    optional("uidMappings", &MAPPINGS),
    optional("gidMappings", &MAPPINGS),
    optional("timeOffsets", &Map(&PLAIN)),
    optional("devices", &List(&DEVICE)),
    optional("netDevices", &Map(&PLAIN)),
    optional("resources", &RESOURCES),
    optional("intelRdt", &PLAIN),
    optional("memoryPolicy", &Object(&[required("mode")])),
    optional("personality", &Object(&[required("domain")])),
    optional("seccomp", &SECCOMP),
]);

const DEVICE: Shape =
    Object(&[required("type"), required("path"), Property("major", OfDevice, None), Property("minor", OfDevice, None)]);

const RESOURCES: Shape = Object(&[
    optional("devices", &List(&Object(&[required("allow")]))),
    optional("memory", &PLAIN),
    optional("cpu", &PLAIN),
    optional("pids", &Object(&[required("limit")])),
    optional("blockIO", &BLOCK_IO),
    optional("hugepageLimits", &List(&Object(&[required("pageSize"), required("limit")]))),
    optional("network", &Object(&[optional("priorities", &List(&Object(&[required("name"), required("priority")])))])),
    optional("rdma", &Map(&PLAIN)),
]);

const BLOCK_IO: Shape = Object(&[
    optional("weightDevice", &List(&Object(&[required("major"), required("minor")]))),
    optional("throttleReadBpsDevice", &THROTTLE),
    optional("throttleWriteBpsDevice", &THROTTLE),
    optional("throttleReadIOPSDevice", &THROTTLE),
    optional("throttleWriteIOPSDevice", &THROTTLE),
]);

const THROTTLE: Shape = List(&Object(&[required("major"), required("minor"), required("rate")]));

const SECCOMP: Shape = Object(&[required("defaultAction"), optional("syscalls", &List(&SYSCALL))]);

const SYSCALL: Shape = Object(&[
    required("names"),
    required("action"),
    optional("args", &List(&Object(&[required("index"), required("value"), required("op")]))),
]);

/// Checks a JSON text that was found to be one.
///
/// # Errors
/// What is missing, or of another kind; the error's place is that of the value.
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
            Object(properties) => *properties,
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
                None => drop(object.next_value::<IgnoredAny>()?),
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
}
