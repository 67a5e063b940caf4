//! `update --l3-cache-schema` and `--mem-bw-schema`.

use std::fs;

use super::Placement;
use crate::error::{Context as _, Result, bail, ensure, one_line};
use crate::state::Record;

/// A change that was made, and can be taken back.
#[derive(Debug)]
pub struct Update<'a> {
    placement: &'a Placement,
    before: String,
}

/// Changes the schemata of a container's own group; none without a schema.
pub fn update<'a>(record: &'a Record, l3: Option<&str>, bandwidth: Option<&str>) -> Result<Option<Update<'a>>> {
    let given: Vec<&str> = l3.into_iter().chain(bandwidth).filter(|schema| !schema.is_empty()).collect();
    if given.is_empty() {
        return Ok(None);
    }
    ensure!(bandwidth.is_none_or(|schema| schema.starts_with("MB:")), "--mem-bw-schema: does not start with \"MB:\"");
    ensure!(!given.iter().any(|schema| schema.contains('\n')), "--l3-cache-schema, --mem-bw-schema: is not one line");
    let Some(placement) = &record.intel_rdt else {
        bail!("linux.intelRdt: updating a non-existent Intel RDT configuration is not supported");
    };
    placement.change(&given).context("linux.intelRdt").map(Some)
}

impl Placement {
    fn change(&self, lines: &[&str]) -> Result<Update<'_>> {
        ensure!(self.own, "closID: {:?} belongs to others, too: its schemata are not changed", self.group);
        let file = self.group.join("schemata");
        let before = fs::read_to_string(&file).with_context(|| format!("read {file:?}"))?;
        let update = Update { placement: self, before };
        // The kernel takes the lines up to the first that it refuses.
        self.write(&file, &(lines.join("\n") + "\n")).inspect_err(|_| update.take_back())?;
        Ok(update)
    }
}

impl Update<'_> {
    /// Writes what was there before.
    pub fn take_back(&self) {
        let lines: Vec<&str> = self.before.lines().map(str::trim).collect();
        if let Err(error) = self.placement.write(&self.placement.group.join("schemata"), &(lines.join("\n") + "\n")) {
            log::warn!("take the update back: {}", one_line(&error));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_groups_schemata_are_changed_and_taken_back_but_not_those_of_others() {
        let root = std::env::temp_dir().join(format!("tare-rdt-update-{}", std::process::id()));
        let group = root.join("id");
        fs::create_dir_all(&group).unwrap();
        let read = || fs::read_to_string(group.join("schemata")).unwrap();
        fs::write(group.join("schemata"), "    MB:0=100\n    L3:0=7f0\n").unwrap();
        let mut placement = Placement { root: root.clone(), group: group.clone(), monitoring: None, own: true };
        let update = placement.change(&["L3:0=f"]).unwrap();
        assert_eq!(read(), "L3:0=f\n");
        update.take_back();
        assert_eq!(read(), "MB:0=100\nL3:0=7f0\n");
        placement.own = false;
        let line = one_line(&placement.change(&["L3:0=f"]).unwrap_err());
        fs::remove_dir_all(&root).unwrap();
        assert!(line.contains("belongs to others"), "{line}");
    }
}
