//! `linux.resources.blockIO`.

use std::path::Path;

use oci_spec::runtime::{LinuxBlockIo, LinuxResources, LinuxThrottleDevice};

use super::set as write;
use crate::cgroups::file;
use crate::error::{Context, Result, bail};

const BFQ: &str = "io.bfq.weight";

/// blkio's weight [10..1000] as io's [1..10000].
pub(in crate::cgroups) fn io_weight(weight: u16) -> Result<u64> {
    if weight < 10 {
        bail!("{weight} is below 10, which is the least that cgroup v2's io.weight can express");
    }
    Ok(1 + (u64::from(weight) - 10) * 9999 / 990)
}

pub(super) fn set(dir: &Path, resources: &LinuxResources) -> Result<()> {
    let Some(block_io) = resources.block_io() else { return Ok(()) };
    set_weights(dir, block_io)?;
    let throttles: [(&str, &str, &Option<Vec<LinuxThrottleDevice>>); 4] = [
        ("throttleReadBpsDevice", "rbps", block_io.throttle_read_bps_device()),
        ("throttleWriteBpsDevice", "wbps", block_io.throttle_write_bps_device()),
        ("throttleReadIOPSDevice", "riops", block_io.throttle_read_iops_device()),
        ("throttleWriteIOPSDevice", "wiops", block_io.throttle_write_iops_device()),
    ];
    for (property, key, devices) in throttles {
        for (index, device) in devices.iter().flatten().enumerate() {
            write(dir, "io.max", &throttle(device, key))
                .with_context(|| format!("linux.resources.blockIO.{property}[{index}]"))?;
        }
    }
    Ok(())
}

/// A rate of 0 lifts the limit on v1; v2 refuses the number and wants the word.
fn throttle(device: &LinuxThrottleDevice, key: &str) -> String {
    let (major, minor) = (device.major(), device.minor());
    match device.rate() {
        0 => format!("{major}:{minor} {key}=max"),
        rate => format!("{major}:{minor} {key}={rate}"),
    }
}

fn set_weights(dir: &Path, block_io: &LinuxBlockIo) -> Result<()> {
    let weight = block_io.weight().filter(|weight| *weight != 0);
    let devices = block_io.weight_device().as_deref().unwrap_or_default();
    if weight.is_none() && devices.is_empty() {
        return Ok(());
    }
    let bfq = match file::read(dir, BFQ) {
        Ok(text) => Some(text),
        Err(error) if file::is_gone(&error) => None,
        Err(error) => return Err(error).context("linux.resources.blockIO.weight"),
    };
    if let Some(weight) = weight {
        match &bfq {
            Some(_) => write(dir, BFQ, &weight.to_string()),
            None => io_weight(weight).and_then(|weight| write(dir, "io.weight", &weight.to_string())),
        }
        .context("linux.resources.blockIO.weight")?;
    }
    for (index, device) in devices.iter().enumerate() {
        let Some(weight) = device.weight().filter(|weight| *weight != 0) else { continue };
        set_device_weight(dir, bfq.as_deref(), (device.major(), device.minor()), weight)
            .with_context(|| format!("linux.resources.blockIO.weightDevice[{index}]"))?;
    }
    Ok(())
}

fn set_device_weight(dir: &Path, bfq: Option<&str>, (major, minor): (i64, i64), weight: u16) -> Result<()> {
    match bfq {
        None => write(dir, "io.weight", &format!("{major}:{minor} {}", io_weight(weight)?)),
        // Before Linux 5.4 the file is one number and has none for devices; runc leaves them out, too.
        Some(text) if text.trim().parse::<u64>().is_ok() => {
            log::debug!("{BFQ} of {}: this kernel has no weights for devices", dir.display());
            Ok(())
        }
        Some(_) => write(dir, BFQ, &format!("{major}:{minor} {weight}\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_scaled_from_end_to_end() {
        assert_eq!([10, 500, 1000].map(|weight| io_weight(weight).unwrap()), [1, 4950, 10_000]);
        assert!(io_weight(9).is_err());
    }

    #[test]
    fn a_rate_of_zero_is_no_limit() {
        let device = |rate| -> LinuxThrottleDevice {
            serde_json::from_str(&format!(r#"{{"major":8,"minor":16,"rate":{rate}}}"#)).unwrap()
        };
        assert_eq!(throttle(&device(600), "rbps"), "8:16 rbps=600");
        assert_eq!(throttle(&device(0), "wiops"), "8:16 wiops=max");
    }
}
