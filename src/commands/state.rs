//! `tare state`

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::OnceLock;

use serde::Serialize;

use crate::error::{Context as _, Result};
use crate::state::record::OCI_VERSION;
use crate::state::{Container, Record, Root, Status};

/// The state of runtime.md with what runc adds to it, in its order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State<'a> {
    oci_version: &'static str,
    /// The container's id.
    pub id: &'a str,
    /// Init's process id; 0 when stopped.
    pub pid: i32,
    /// The specification's word for the status.
    pub status: String,
    /// The bundle's absolute path.
    pub bundle: &'a PathBuf,
    rootfs: &'a PathBuf,
    /// When it was created (RFC 3339).
    pub created: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: &'a Option<std::collections::HashMap<String, String>>,
    /// The name of the user that created it.
    pub owner: String,
}

impl<'a> State<'a> {
    /// The state of a container, by its record and what is true now.
    pub fn of(record: &'a Record, status: Status) -> Self {
        Self {
            oci_version: OCI_VERSION,
            id: &record.id,
            pid: if status == Status::Stopped { 0 } else { record.init_process_pid },
            status: status.to_string(),
            bundle: &record.bundle,
            rootfs: &record.rootfs,
            created: &record.created,
            annotations: &record.annotations,
            owner: user_name(record.owner),
        }
    }
}

/// Prints the state of a container.
pub fn run(root: &Root, id: &str) -> Result<()> {
    let container = Container::open(root, id)?;
    let record = container.record()?;
    let state = State::of(&record, container.status(&record)?);
    let mut json = serde_json::to_string_pretty(&state).context("state")?;
    json.push('\n');
    std::io::stdout().write_all(json.as_bytes()).context("write to standard output")
}

/// A user's name by /etc/passwd; the number where it has none. (A static program cannot use the C library's way.)
fn user_name(uid: u32) -> String {
    // Once for all that `list` prints.
    static PASSWD: OnceLock<String> = OnceLock::new();
    let passwd = PASSWD.get_or_init(|| std::fs::read_to_string("/etc/passwd").unwrap_or_default());
    let mut names = passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    names.next().unwrap_or_else(|| uid.to_string())
}
