//! state.json: what later commands need to know of a container, with runc's names where runc has them.

use std::collections::HashMap;
use std::path::PathBuf;

use oci_spec::runtime::{ContainerState, Hooks, LinuxResources, State, StateBuilder};
use serde::{Deserialize, Serialize};

use super::foreign::Foreign;
use crate::cgroups::Placement;
use crate::error::{Context as _, Result};
use crate::linux::intel_rdt;

/// The version of the runtime specification that is followed.
pub const OCI_VERSION: &str = "1.3.0";

/// A container's record. It is written before anything that it names is made, so that `delete` can always clean up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// The container's id.
    pub id: String,
    /// The bundle's absolute path.
    pub bundle: PathBuf,
    /// The rootfs's absolute path.
    pub rootfs: PathBuf,
    /// When it was created (RFC 3339).
    pub created: String,
    /// The user that created it.
    pub owner: u32,
    /// Init's process id in the host's pid namespace; 0 until it is there.
    pub init_process_pid: i32,
    /// When init started, in clock ticks since boot: tells it from a later process with the same id.
    pub init_process_start: u64,
    /// Its pid namespace ends with init, and all its processes with it.
    pub private_pid_namespace: bool,
    /// The types of namespace that it has of its own, for `exec` to join.
    pub namespaces: Vec<String>,
    /// Where its cgroup is.
    pub cgroup: Placement,
    /// Where it is in the resctrl filesystem, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intel_rdt: Option<intel_rdt::Placement>,
    /// Without a mount namespace of its own: how many mounts were on the rootfs before the container's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mounts_before: Option<usize>,
    /// The limits that were set last, for `update` to change. Devices are left out: `update` leaves them alone.
    #[serde(default)]
    pub resources: LinuxResources,
    /// The configuration's annotations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<HashMap<String, String>>,
    /// The hooks that later commands run: poststart and poststop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Hooks>,
    /// Set by the reader if another user wrote the record.
    #[serde(skip)]
    pub foreign: Option<Foreign>,
}

impl Record {
    /// The state that the specification describes, as it is printed and given to hooks. There is no pid when stopped.
    pub fn state(&self, status: ContainerState) -> Result<State> {
        let mut state = StateBuilder::default()
            .version(OCI_VERSION)
            .id(self.id.as_str())
            .status(status)
            .bundle(self.bundle.as_path());
        if status != ContainerState::Stopped && self.init_process_pid != 0 {
            state = state.pid(self.init_process_pid);
        }
        if let Some(annotations) = &self.annotations {
            state = state.annotations(annotations.clone());
        }
        state.build().context("state")
    }
}
