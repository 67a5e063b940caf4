//! `linux.resources.blockIO`.

use std::path::Path;

use cgroups_rs::fs::blkio::BlkIoController;
use oci_spec::runtime::{LinuxBlockIo, LinuxResources};

use super::needed;
use crate::cgroups::file::{self, converted};
use crate::error::{Context, Result};

pub(super) fn set(dir: Option<&Path>, resources: &LinuxResources) -> Result<()> {
    let Some(block_io) = resources.block_io().as_ref().filter(|io| **io != LinuxBlockIo::default()) else {
        return Ok(());
    };
    let dir = needed(dir, "blkio").context("linux.resources.blockIO")?;
    set_weights(dir, block_io)?;
    set_throttles(dir, block_io)
}

fn set_weights(dir: &Path, block_io: &LinuxBlockIo) -> Result<()> {
    let weight = block_io.weight().filter(|weight| *weight != 0);
    let leaf_weight = block_io.leaf_weight().filter(|weight| *weight != 0);
    let devices = block_io.weight_device().as_deref().unwrap_or_default();
    if weight.is_none() && leaf_weight.is_none() && devices.is_empty() {
        return Ok(());
    }
    // Linux 5.0 removed CFQ and its files; BFQ's are what is left.
    let (file, device_file) = if dir.join("blkio.weight").exists() {
        ("blkio.weight", "blkio.weight_device")
    } else {
        ("blkio.bfq.weight", "blkio.bfq.weight_device")
    };
    let controller = BlkIoController::new(dir.into(), dir.into(), false);
    if let Some(weight) = weight {
        file::write(dir, file, &weight.to_string()).context("linux.resources.blockIO.weight")?;
    }
    if let Some(weight) = leaf_weight {
        converted(dir, controller.set_leaf_weight(weight.into())).context("linux.resources.blockIO.leafWeight")?;
    }
    for (index, device) in devices.iter().enumerate() {
        let path = || format!("linux.resources.blockIO.weightDevice[{index}]");
        let (major, minor) = (device.major(), device.minor());
        if let Some(weight) = device.weight().filter(|weight| *weight != 0) {
            file::write(dir, device_file, &format!("{major}:{minor} {weight}")).with_context(path)?;
        }
        if let Some(weight) = device.leaf_weight().filter(|weight| *weight != 0) {
            let (major, minor) = (major.unsigned_abs(), minor.unsigned_abs());
            converted(dir, controller.set_leaf_weight_for_device(major, minor, weight.into())).with_context(path)?;
        }
    }
    Ok(())
}

fn set_throttles(dir: &Path, block_io: &LinuxBlockIo) -> Result<()> {
    type Set = fn(&BlkIoController, u64, u64, u64) -> cgroups_rs::fs::error::Result<()>;
    let tables: [(&str, &Option<Vec<_>>, Set); 4] = [
        ("throttleReadBpsDevice", block_io.throttle_read_bps_device(), BlkIoController::throttle_read_bps_for_device),
        (
            "throttleWriteBpsDevice",
            block_io.throttle_write_bps_device(),
            BlkIoController::throttle_write_bps_for_device,
        ),
        (
            "throttleReadIOPSDevice",
            block_io.throttle_read_iops_device(),
            BlkIoController::throttle_read_iops_for_device,
        ),
        (
            "throttleWriteIOPSDevice",
            block_io.throttle_write_iops_device(),
            BlkIoController::throttle_write_iops_for_device,
        ),
    ];
    for (name, devices, set) in tables {
        for (index, device) in devices.iter().flatten().enumerate() {
            let controller = BlkIoController::new(dir.into(), dir.into(), false);
            let result = set(&controller, device.major().unsigned_abs(), device.minor().unsigned_abs(), device.rate());
            converted(dir, result).with_context(|| format!("linux.resources.blockIO.{name}[{index}]"))?;
        }
    }
    Ok(())
}
