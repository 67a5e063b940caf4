//! `linux.resources.rdma`; the file is the same on v1 and v2.

use std::path::Path;

use cgroups_rs::fs::rdma::RdmaController;
use oci_spec::runtime::{LinuxRdma, LinuxResources};

use super::needed;
use crate::cgroups::file::converted;
use crate::error::{Context, Result};

pub(in crate::cgroups) fn set(dir: Option<&Path>, resources: &LinuxResources) -> Result<()> {
    for (device, limit) in resources.rdma().iter().flatten() {
        let path = || format!("linux.resources.rdma[{device:?}]");
        let dir = needed(dir, "rdma").with_context(path)?;
        let controller = RdmaController::new(dir.into(), dir.into());
        converted(dir, controller.set_max(&line(device, limit))).with_context(path)?;
    }
    Ok(())
}

fn line(device: &str, limit: &LinuxRdma) -> String {
    let mut line = device.to_owned();
    for (name, value) in [("hca_handle", limit.hca_handles()), ("hca_object", limit.hca_objects())] {
        if let Some(value) = value {
            line.push_str(&format!(" {name}={value}"));
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_set_is_written() {
        let limit = |json| serde_json::from_str::<LinuxRdma>(json).unwrap();
        assert_eq!(
            line("mlx5_1", &limit(r#"{"hcaHandles":3,"hcaObjects":10000}"#)),
            "mlx5_1 hca_handle=3 hca_object=10000"
        );
        assert_eq!(line("rxe3", &limit(r#"{"hcaObjects":7}"#)), "rxe3 hca_object=7");
    }
}
