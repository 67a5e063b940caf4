//! What the resctrl filesystem tells of a container (the kernel's arch/x86/resctrl.rst), with the names that `runc
//! events` prints.

use std::fs;
use std::path::Path;

use serde::Serialize;

use super::Placement;
use crate::error::{Context as _, Result};
use crate::state::Record;

/// Shares and their use; empty for a container without `linux.intelRdt`.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    /// What the hardware's cache can be shared by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l3_cache_info: Option<CacheInfo>,
    /// The cache that is left to all others.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub l3_cache_schema_root: String,
    /// The container's share of the cache.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub l3_cache_schema: String,
    /// What the hardware's memory bandwidth can be shared by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_bw_info: Option<BandwidthInfo>,
    /// The bandwidth that is left to all others.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mem_bw_schema_root: String,
    /// The container's share of the bandwidth.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mem_bw_schema: String,
    /// All shares of the container's group.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub schemata: Vec<String>,
    /// The bandwidth in use, by cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mbm_stats: Option<Vec<Bandwidth>>,
    /// The cache in use, by cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmt_stats: Option<Vec<Occupancy>>,
}

/// `info/L3`
#[derive(Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)] // each is a file of the kernel
pub struct CacheInfo {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cbm_mask: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub min_cbm_bits: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub num_closids: u64,
}

/// `info/MB`
#[derive(Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)] // each is a file of the kernel
pub struct BandwidthInfo {
    #[serde(skip_serializing_if = "is_zero")]
    pub bandwidth_gran: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub delay_linear: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub min_bandwidth: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub num_closids: u64,
}

/// Bytes that went to and from memory.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Bandwidth {
    /// To any.
    pub mbm_total_bytes: u64,
    /// To the memory of the same node.
    pub mbm_local_bytes: u64,
}

/// Bytes that are in the cache.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Occupancy {
    /// Bytes.
    pub llc_occupancy: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Reads what there is of a container.
pub fn stats(record: &Record) -> Result<Stats> {
    record.intel_rdt.as_ref().map_or(Ok(Stats::default()), of)
}

fn of(placement: &Placement) -> Result<Stats> {
    let Placement { root, group, monitoring, .. } = placement;
    let info = root.join("info");
    let (all, own) = (text(&root.join("schemata"))?, text(&group.join("schemata"))?);
    let share = |schemata: &str, resource: &str| {
        let found = schemata.lines().find(|line| line.contains(resource));
        found.map(|line| line.trim().to_owned()).unwrap_or_default()
    };
    let mut stats = Stats { schemata: own.lines().map(str::to_owned).collect(), ..Default::default() };
    let cache = info.join("L3");
    if cache.exists() {
        stats.l3_cache_info = Some(CacheInfo {
            cbm_mask: text(&cache.join("cbm_mask"))?,
            min_cbm_bits: number(&cache.join("min_cbm_bits"))?,
            num_closids: number(&cache.join("num_closids"))?,
        });
        stats.l3_cache_schema_root = share(&all, "L3");
        stats.l3_cache_schema = share(&own, "L3");
    }
    let bandwidth = info.join("MB");
    if bandwidth.exists() {
        stats.mem_bw_info = Some(BandwidthInfo {
            bandwidth_gran: number(&bandwidth.join("bandwidth_gran"))?,
            delay_linear: number(&bandwidth.join("delay_linear"))?,
            min_bandwidth: number(&bandwidth.join("min_bandwidth"))?,
            num_closids: number(&bandwidth.join("num_closids"))?,
        });
        stats.mem_bw_schema_root = share(&all, "MB");
        stats.mem_bw_schema = share(&own, "MB");
    }
    // Without a monitoring group of its own it is counted with the others of its class.
    monitor(&info, monitoring.as_ref().unwrap_or(group), &mut stats)?;
    Ok(stats)
}

fn monitor(info: &Path, group: &Path, stats: &mut Stats) -> Result<()> {
    let features = fs::read_to_string(info.join("L3_MON/mon_features")).unwrap_or_default();
    let has = |feature: &str| features.lines().any(|line| line == feature);
    let (total, local, occupancy) = (has("mbm_total_bytes"), has("mbm_local_bytes"), has("llc_occupancy"));
    if !(total || local || occupancy) {
        return Ok(());
    }
    let directory = group.join("mon_data");
    let entries = fs::read_dir(&directory).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let mut caches: Vec<_> =
        entries.with_context(|| format!("list {directory:?}"))?.iter().map(fs::DirEntry::path).collect();
    caches.retain(|path| path.is_dir());
    caches.sort_unstable();
    let count = |path: &Path, file: &str, is_there: bool| if is_there { counter(&path.join(file)) } else { Ok(0) };
    let bandwidth = |path: &std::path::PathBuf| -> Result<Bandwidth> {
        Ok(Bandwidth {
            mbm_total_bytes: count(path, "mbm_total_bytes", total)?,
            mbm_local_bytes: count(path, "mbm_local_bytes", local)?,
        })
    };
    if total || local {
        stats.mbm_stats = Some(caches.iter().map(bandwidth).collect::<Result<_>>()?);
    }
    if occupancy {
        let occupancy = |path: &std::path::PathBuf| counter(&path.join("llc_occupancy"));
        let found = caches.iter().map(|path| occupancy(path).map(|llc_occupancy| Occupancy { llc_occupancy }));
        stats.cmt_stats = Some(found.collect::<Result<_>>()?);
    }
    Ok(())
}

/// The hardware has no answer now and then: the kernel writes `Unavailable` or `Error` then.
fn counter(path: &Path) -> Result<u64> {
    Ok(text(path)?.parse().unwrap_or_default())
}

fn number(path: &Path) -> Result<u64> {
    let text = text(path)?;
    text.parse().with_context(|| format!("{path:?}: {text:?} is no number"))
}

fn text(path: &Path) -> Result<String> {
    Ok(fs::read_to_string(path).with_context(|| format!("read {path:?}"))?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_their_use_are_read_from_the_containers_groups() {
        let root = std::env::temp_dir().join(format!("tare-rdt-stats-{}", std::process::id()));
        for (file, text) in [
            ("schemata", "    MB:0=100;1=100\n    L3:0=7ff;1=7ff\n"),
            ("info/L3/cbm_mask", "7ff\n"),
            ("info/L3/min_cbm_bits", "1\n"),
            ("info/L3/num_closids", "16\n"),
            ("info/L3_MON/mon_features", "llc_occupancy\nmbm_total_bytes\n"),
            ("id/schemata", "    MB:0=20;1=100\n    L3:0=00f;1=7ff\n"),
            ("id/mon_groups/id/mon_data/mon_L3_00/llc_occupancy", "4096\n"),
            ("id/mon_groups/id/mon_data/mon_L3_00/mbm_total_bytes", "77\n"),
            ("id/mon_groups/id/mon_data/mon_L3_01/llc_occupancy", "Unavailable\n"),
            ("id/mon_groups/id/mon_data/mon_L3_01/mbm_total_bytes", "5\n"),
        ] {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let monitoring = Some(root.join("id/mon_groups/id"));
        let placement = Placement { root: root.clone(), group: root.join("id"), monitoring, own: true };
        let json = serde_json::to_string(&of(&placement).unwrap()).unwrap();
        fs::remove_dir_all(root).unwrap();
        assert_eq!(
            json,
            [
                r#"{"l3_cache_info":{"cbm_mask":"7ff","min_cbm_bits":1,"num_closids":16},"#,
                r#""l3_cache_schema_root":"L3:0=7ff;1=7ff","l3_cache_schema":"L3:0=00f;1=7ff","#,
                r#""schemata":["MB:0=20;1=100","    L3:0=00f;1=7ff"],"#,
                r#""mbm_stats":[{"mbm_total_bytes":77,"mbm_local_bytes":0},{"mbm_total_bytes":5,"mbm_local_bytes":0}],"#,
                r#""cmt_stats":[{"llc_occupancy":4096},{"llc_occupancy":0}]}"#,
            ]
            .concat()
        );
    }

    #[test]
    fn there_is_nothing_to_tell_of_a_container_without_it() {
        assert_eq!(serde_json::to_string(&Stats::default()).unwrap(), "{}");
    }
}
