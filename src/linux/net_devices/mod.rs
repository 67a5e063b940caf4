//! `linux.netDevices`: devices of the host that are moved into the container's network namespace.
//!
//! When the namespace ends, the kernel gives physical devices back to the host and destroys the others; the specification
//! keeps runtimes from doing anything about it.

mod netlink;

use std::os::fd::OwnedFd;

use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_EXCL};
use nix::errno::Errno;
use oci_spec::runtime::{LinuxNamespaceType as Type, Spec};

use super::namespaces::{self, Namespaces};
use crate::error::{Context as _, Result, anyhow, bail, ensure, errno};
use netlink::{Message, Socket, attributes};

const NOT_POSSIBLE: &str = "linux.netDevices: not possible without a network namespace of the container's own";

/// struct ifinfomsg: family, padding, type, index, flags, mask of the flags that change.
const LINK_HEADER: usize = 16;
/// struct ifaddrmsg: family, prefix length, flags, scope, index.
const ADDRESS_HEADER: usize = 8;

/// Names are ones that the kernel takes, and there is a namespace to move the devices to.
pub fn check(spec: &Spec) -> Result<()> {
    let devices = configured(spec);
    if devices.is_empty() {
        return Ok(());
    }
    ensure!(namespaces::has(spec, Type::Network), "{NOT_POSSIBLE}");
    for (index, (name, inside)) in devices.iter().enumerate() {
        for name in [name, inside] {
            ensure!(is_name(name), "linux.netDevices: {name:?} is not a name that a network device can have");
        }
        let again = devices[..index].iter().any(|(_, other)| other == inside && !inside.contains("%d"));
        ensure!(!again, "linux.netDevices: two devices are to be {inside:?} inside");
    }
    Ok(())
}

/// Refuses devices for a network namespace that is joined by a path and is the host's all the same.
pub fn check_joined(spec: &Spec, namespaces: &Namespaces) -> Result<()> {
    if !configured(spec).is_empty() && namespaces.is_shared(Type::Network)? {
        bail!("{NOT_POSSIBLE}");
    }
    Ok(())
}

/// Moves the devices, in the order of their names: from the parent, which is privileged on the host.
pub fn apply(spec: &Spec, namespaces: &Namespaces, pid: i32) -> Result<()> {
    let devices = configured(spec);
    if devices.is_empty() {
        return Ok(());
    }
    let target = namespaces.network(pid)?;
    let mut host = Socket::open().context("linux.netDevices")?;
    let mut inside = namespaces::in_network(&target, Socket::open).context("linux.netDevices")?;
    for (name, new_name) in devices {
        move_one(&mut host, &mut inside, &target, name, new_name)
            .with_context(|| format!("linux.netDevices.{name}"))?;
    }
    Ok(())
}

/// The devices by their names on the host, with their names inside.
fn configured(spec: &Spec) -> Vec<(&str, &str)> {
    let devices = spec.linux().iter().flat_map(|linux| linux.net_devices()).flatten();
    let mut devices: Vec<_> = devices
        .map(|(name, device)| {
            let inside = device.name().as_deref().filter(|inside| !inside.is_empty());
            (name.as_str(), inside.unwrap_or(name))
        })
        .collect();
    devices.sort_unstable();
    devices
}

/// As dev_valid_name() of the kernel has it.
fn is_name(name: &str) -> bool {
    let wrong = |byte: u8| byte == b'/' || byte == b':' || byte == 0 || byte.is_ascii_whitespace();
    !matches!(name, "" | "." | "..") && name.len() < libc::IFNAMSIZ && !name.bytes().any(wrong)
}

fn move_one(host: &mut Socket, inside: &mut Socket, target: &OwnedFd, name: &str, new_name: &str) -> Result<()> {
    let index = links(host)?.into_iter().find(|link| link.1 == name).map(|link| link.0);
    let index = index.ok_or_else(|| anyhow!("no such device on the host"))?;
    let before = links(inside)?;
    // Asked before anything is changed: the kernel would rename only what it has moved already.
    if before.iter().any(|link| link.1 == new_name) {
        bail!("a device {new_name:?} exists in the container's network namespace");
    }
    // While it is up: the kernel drops IPv6 addresses of a device that goes down.
    let addresses = permanent_addresses(host, index)?;
    set_up(host, index, false).context("set it down")?;
    let attributes = [
        DefaultNla::new(libc::IFLA_NET_NS_FD, std::os::fd::AsRawFd::as_raw_fd(target).to_ne_bytes().to_vec()),
        DefaultNla::new(libc::IFLA_IFNAME, [new_name.as_bytes(), b"\0"].concat()),
    ];
    host.change(Message::new(libc::RTM_NEWLINK, &link_header(index, 0, 0), &attributes), 0)
        .with_context(|| format!("move it to the container as {new_name:?}"))?;

    let new = |link: &(u32, String)| !before.iter().any(|old| old.0 == link.0);
    let moved = links(inside)?.into_iter().filter(new).find(|link| link.1 == new_name || new_name.contains('%'));
    let (index, _) = moved.ok_or_else(|| anyhow!("it is gone from the container's network namespace"))?;
    for address in addresses {
        add_address(inside, index, &address).context("add an address that it had")?;
    }
    set_up(inside, index, true).context("set it up")
}

/// The indices and names of all devices.
fn links(socket: &mut Socket) -> Result<Vec<(u32, String)>> {
    let bodies = socket.dump(Message::new(libc::RTM_GETLINK, &[0; LINK_HEADER], &[])).context("list the devices")?;
    let link = |body: &Vec<u8>| {
        let (_, name) = attributes(body, LINK_HEADER).find(|(kind, _)| *kind == libc::IFLA_IFNAME)?;
        let name = String::from_utf8_lossy(name.strip_suffix(b"\0").unwrap_or(name)).into_owned();
        Some((number(body, 4)?, name))
    };
    Ok(bodies.iter().filter_map(link).collect())
}

/// What the specification wants kept: what somebody configured, and for everybody to see (RFC 3549, 2.3.3.2).
fn permanent_addresses(socket: &mut Socket, index: u32) -> Result<Vec<Vec<u8>>> {
    let request = Message::new(libc::RTM_GETADDR, &[0; ADDRESS_HEADER], &[]);
    let mut bodies = socket.dump(request).context("list the addresses")?;
    bodies.retain(|body| {
        let permanent = u32::from(body.get(2).copied().unwrap_or(0)) & libc::IFA_F_PERMANENT != 0;
        number(body, 4) == Some(index) && permanent && body.get(3) == Some(&libc::RT_SCOPE_UNIVERSE)
    });
    Ok(bodies)
}

/// Adds an address as it was on the host, but for its lifetime, which is unlimited, and its label, which may have the
/// device's old name.
fn add_address(socket: &mut Socket, index: u32, address: &[u8]) -> Result<()> {
    let mut header = address[..ADDRESS_HEADER].to_vec();
    header[4..].copy_from_slice(&index.to_ne_bytes());
    let kept = attributes(address, ADDRESS_HEADER)
        .filter(|(kind, _)| !matches!(*kind, libc::IFA_CACHEINFO | libc::IFA_LABEL))
        .map(|(kind, value)| DefaultNla::new(kind, value.to_vec()));
    let message = Message::new(libc::RTM_NEWADDR, &header, &kept.collect::<Vec<_>>());
    match socket.change(message, NLM_F_CREATE | NLM_F_EXCL) {
        Err(error) if errno(&error) == Some(Errno::EEXIST) => Ok(()),
        result => result,
    }
}

fn set_up(socket: &mut Socket, index: u32, up: bool) -> Result<()> {
    let flag = libc::IFF_UP as u32;
    let header = link_header(index, if up { flag } else { 0 }, flag);
    socket.change(Message::new(libc::RTM_NEWLINK, &header, &[]), 0)
}

fn link_header(index: u32, flags: u32, change: u32) -> [u8; LINK_HEADER] {
    let mut header = [0; LINK_HEADER];
    for (place, number) in [(4, index), (8, flags), (12, change)] {
        header[place..place + 4].copy_from_slice(&number.to_ne_bytes());
    }
    header
}

fn number(body: &[u8], place: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(body.get(place..place + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(devices: &str, namespaces: &str) -> Result<()> {
        let json = r#"{"ociVersion":"1.0.0","linux":{"namespaces":NAMESPACES,"netDevices":DEVICES}}"#;
        check(&serde_json::from_str(&json.replace("NAMESPACES", namespaces).replace("DEVICES", devices)).unwrap())
    }

    #[test]
    fn devices_need_names_and_a_network_namespace() {
        const OWN: &str = r#"[{"type":"network"}]"#;
        checked("{}", "[]").unwrap();
        checked(r#"{"eth0":{}}"#, OWN).unwrap();
        checked(r#"{"eth0":{"name":"e%d"},"eth1":{"name":"e%d"}}"#, OWN).unwrap();
        assert!(checked(r#"{"eth0":{}}"#, "[]").is_err());
        for bad in ["a/b", "sixteen-letters-", "", "..", "a b", "a:b"] {
            assert!(checked(&format!(r#"{{"{bad}":{{}}}}"#), OWN).is_err(), "{bad}");
            let inside = checked(&format!(r#"{{"eth0":{{"name":"{bad}"}}}}"#), OWN);
            assert_eq!(inside.is_err(), !bad.is_empty(), "{bad}");
        }
        assert!(checked(r#"{"eth0":{"name":"x"},"eth1":{"name":"x"}}"#, OWN).is_err());
    }
}
