//! `tare update`

use std::io;
use std::path::Path;

use oci_spec::runtime::LinuxResources;
use serde_json::{Map, Value, json};

use super::cli;
use crate::cgroups::Manager;
use crate::error::{Context as _, Result, anyhow, bail, ensure};
use crate::input::LONGEST_CONFIG;
use crate::linux::intel_rdt;
use crate::state::{Container, Record, Root, Status};
use crate::{cgroups, config, input};

/// Changes the limits of a container. Those that are not named stay; if the kernel refuses one, all are as before.
pub fn run(root: &Root, args: &cli::Update) -> Result<()> {
    let container = Container::open(root, &args.id)?;
    // Before the lock: standard input may be slow.
    let asked = asked(args)?;
    let lock = container.lock()?;
    let mut record = container.record()?;
    record.ensure_own()?;
    if container.status_locked(&record, &lock)? == Status::Stopped {
        bail!("container not running");
    }
    let old = to_value(&record.resources).context("state.json: resources")?;
    let mut new = old.clone();
    merge(&mut new, &wake_up(&old, lift_swap(asked)));
    let new = to_resources(&new).context("linux.resources")?;
    let cgroup = cgroups::reopen(&record.cgroup)?;
    record.resources = new;
    // What says that the limits are others is there before they are: only a rename is left when
    // they are set.
    container.stage(&record)?;
    let changed = change(&container, &record, cgroup.as_ref(), args);
    if changed.is_err() {
        container.unstage();
    }
    changed
}

fn change(container: &Container, record: &Record, cgroup: &dyn Manager, args: &cli::Update) -> Result<()> {
    let rdt = intel_rdt::update(record, args.l3_cache_schema.as_deref(), args.mem_bw_schema.as_deref())?;
    cgroup.update(&record.resources, &|| container.commit()).inspect_err(|_| {
        if let Some(rdt) = &rdt {
            rdt.take_back();
        }
    })
}

/// What is asked for: the file's resources, or those of the flags.
fn asked(args: &cli::Update) -> Result<Value> {
    let Some(path) = &args.resources else { return of_flags(args) };
    let json = match path == Path::new("-") {
        true => input::read_all(io::stdin(), 0, LONGEST_CONFIG).context("--resources -: read standard input"),
        false => input::read_argument(path, LONGEST_CONFIG).with_context(|| format!("--resources: read {path:?}")),
    }?;
    let mut asked: Value = serde_json::from_slice(&json).map_err(|error| anyhow!("--resources {path:?}: {error}"))?;
    ensure!(asked.is_object(), "--resources {path:?}: is not a JSON object");
    config::respell_resources(&mut asked);
    // The types are those of linux.resources; the text itself tells which fields are given.
    to_resources(&asked).map_err(|error| anyhow!("--resources {path:?}: {error}"))?;
    Ok(asked)
}

/// By way of text: a second reader of all these types would make the program larger by a hundredth.
fn to_resources(value: &Value) -> serde_json::Result<LinuxResources> {
    serde_json::from_slice(&serde_json::to_vec(value)?)
}

fn to_value(resources: &LinuxResources) -> serde_json::Result<Value> {
    serde_json::from_slice(&serde_json::to_vec(resources)?)
}

fn of_flags(args: &cli::Update) -> Result<Value> {
    let bytes = |flag: &str, size: &Option<String>| match size {
        Some(size) => in_bytes(size).map(Some).with_context(|| format!("--{flag} {size:?}")),
        None => Ok(None),
    };
    Ok(json!({
        "blockIO": { "weight": args.blkio_weight },
        "cpu": {
            "shares": args.cpu_share,
            "quota": args.cpu_quota,
            "period": args.cpu_period,
            "burst": args.cpu_burst,
            "idle": args.cpu_idle,
            "realtimePeriod": args.cpu_rt_period,
            "realtimeRuntime": args.cpu_rt_runtime,
            "cpus": args.cpuset_cpus,
            "mems": args.cpuset_mems,
        },
        "memory": {
            "limit": bytes("memory", &args.memory)?,
            "reservation": bytes("memory-reservation", &args.memory_reservation)?,
            "swap": bytes("memory-swap", &args.memory_swap)?,
        },
        "pids": { "limit": args.pids_limit },
    }))
}

/// Memory without a limit has no limit with swap either, unless that is asked for: it could not be the smaller of the two.
fn lift_swap(mut asked: Value) -> Value {
    if asked["memory"]["limit"] == -1 && asked["memory"]["swap"].is_null() {
        asked["memory"]["swap"] = json!(-1);
    }
    asked
}

/// A weight is for a cgroup that is not idle: asking for one ends that, as with systemd. The kernel refuses it otherwise.
fn wake_up(old: &Value, mut asked: Value) -> Value {
    let asks = asked["cpu"]["shares"].as_u64() > Some(0) || !asked["unified"]["cpu.weight"].is_null();
    let asks_for_idle = !asked["cpu"]["idle"].is_null() || !asked["unified"]["cpu.idle"].is_null();
    if asks && !asks_for_idle {
        if old["cpu"]["idle"] == 1 {
            asked["cpu"]["idle"] = json!(0);
        }
        if old["unified"]["cpu.idle"] == "1" {
            asked["unified"]["cpu.idle"] = json!("0");
        }
    }
    asked
}

/// Lays one configuration over another: objects field by field, all else as a whole. What is null is not given.
fn merge(below: &mut Value, above: &Value) {
    match above {
        Value::Null => {}
        Value::Object(fields) => {
            if fields.values().all(Value::is_null) && !below.is_object() {
                return;
            }
            if !below.is_object() {
                *below = Value::Object(Map::new());
            }
            for (name, value) in fields {
                let empty = value.as_object().is_some_and(|fields| fields.values().all(Value::is_null));
                if !value.is_null() && !empty {
                    merge(&mut below[name.as_str()], value);
                }
            }
        }
        other => *below = other.clone(),
    }
}

/// A size in bytes, as `512M` or `-1`: letters are powers of 1024.
fn in_bytes(size: &str) -> Result<i64> {
    let size = size.trim();
    let digits = size.find(|c: char| !c.is_ascii_digit() && c != '-').unwrap_or(size.len());
    let (number, unit) = size.split_at(digits);
    let number: i64 = number.parse().map_err(|_| anyhow!("is no size"))?;
    let unit = unit.trim().to_ascii_lowercase();
    let power = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => bail!("is no size: {unit:?} is no unit"),
    };
    number.checked_mul(1 << (10 * power)).ok_or_else(|| anyhow!("is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_changes_and_the_rest_stays() {
        let mut resources = json!({ "memory": { "limit": 1, "swap": 2 }, "pids": { "limit": 3 } });
        merge(
            &mut resources,
            &json!({ "memory": { "limit": 9, "swap": null }, "cpu": { "shares": null }, "pids": null }),
        );
        assert_eq!(resources, json!({ "memory": { "limit": 9, "swap": 2 }, "pids": { "limit": 3 } }));
        merge(&mut resources, &json!({ "cpu": { "cpus": "0" } }));
        assert_eq!(resources["cpu"], json!({ "cpus": "0" }));
    }

    #[test]
    fn a_lifted_memory_limit_lifts_that_of_swap() {
        let memory = |limit: i64, swap: Option<i64>| json!({ "memory": { "limit": limit, "swap": swap } });
        assert_eq!(lift_swap(memory(-1, None)), memory(-1, Some(-1)));
        assert_eq!(lift_swap(memory(-1, Some(7))), memory(-1, Some(7)));
        assert_eq!(lift_swap(memory(5, None)), memory(5, None));
    }

    #[test]
    fn a_weight_ends_an_idle_cgroups_idleness() {
        let idle = json!({ "cpu": { "idle": 1 }, "unified": { "cpu.idle": "1" } });
        for asked in [json!({ "cpu": { "shares": 5 } }), json!({ "unified": { "cpu.weight": "8" } })] {
            let awake = wake_up(&idle, asked.clone());
            assert_eq!((&awake["cpu"]["idle"], &awake["unified"]["cpu.idle"]), (&json!(0), &json!("0")));
            assert_eq!(wake_up(&json!({}), asked.clone())["cpu"]["idle"], Value::Null);
        }
        assert_eq!(wake_up(&idle, json!({ "cpu": { "shares": 5, "idle": 1 } }))["cpu"]["idle"], 1);
        assert_eq!(wake_up(&idle, json!({ "cpu": { "period": 5 } }))["cpu"]["idle"], Value::Null);
    }

    #[test]
    fn a_size_may_have_a_unit() {
        for (size, bytes) in [("7", 7), ("-1", -1), ("2k", 2048), ("3M", 3 << 20), ("1GiB", 1 << 30), ("4 mb", 4 << 20)]
        {
            assert_eq!(in_bytes(size).unwrap(), bytes, "{size}");
        }
        for bad in ["", "M", "1x", "1.5M", "9999999P"] {
            assert!(in_bytes(bad).is_err(), "{bad}");
        }
    }
}
