//! config.md: process.user.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::bench::Bench;
use crate::case::{Case, case};
use crate::container::Container;

pub const CASES: &[Case] = &[
    case!(uid_and_gid, "config.md#posix-platform-user", "real, effective and saved IDs are the configured ones"),
    case!(additional_gids, "config.md#posix-platform-user", "additionalGids are the process's supplementary groups"),
    case!(no_additional_gids, "config.md#posix-platform-user", "without additionalGids no group of the caller is left"),
    case!(umask, "config.md#posix-platform-user", "umask is the process's umask"),
    case!(umask_of_zero, "config.md#posix-platform-user", "a umask of zero is a value like others"),
    case!(no_umask, "config.md#posix-platform-user", "without umask the caller's umask is not changed").known(&[
        ("runc", "it is 0022"),
        ("crun", "it is 0022"),
        ("tare", "it is 0022, as with runc: images count on it, whatever started the engine"),
    ]),
    case!(
        in_user_namespace,
        "config.md#posix-platform-user",
        "uid, gid and groups are the container's, not the host's"
    ),
    case!(unmapped, "config.md#posix-platform-user", "an ID that the user namespace does not map is refused"),
    case!(no_privilege, "config.md#posix-platform-user", "an ordinary user has no effective capability by itself"),
];

fn uid_and_gid(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["process"]["user"] = json!({ "uid": 1234, "gid": 5678 });
    let report = container.report(&[])?;
    report.expect("/uids", json!([1234, 1234, 1234]))?;
    report.expect("/gids", json!([5678, 5678, 5678]))
}

fn additional_gids(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["process"]["user"] = json!({ "uid": 0, "gid": 0, "additionalGids": [5, 6, 70_000] });
    let report = container.report(&[])?;
    // The primary group may be among them.
    let groups = report.at("/groups").as_array().cloned().unwrap_or_default();
    let groups: Vec<_> = groups.into_iter().filter(|group| *group != 0).collect();
    ensure!(groups == [5, 6, 70_000], "the groups are {}", report.at("/groups"));
    Ok(())
}

fn no_additional_gids(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    let report = container.report(&[])?;
    let groups = report.at("/groups").as_array().cloned().unwrap_or_default();
    ensure!(groups.iter().all(|group| *group == 1000), "the groups are {groups:?}");
    Ok(())
}

fn umask(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["process"]["user"]["umask"] = json!(0o027);
    let report = container.report(&["create:/tmp/new"])?;
    report.expect("/umask", json!(0o027))?;
    let mode = report.worked("create:/tmp/new")?;
    ensure!(*mode == 0o640, "a new file's mode is {mode}");
    Ok(())
}

fn umask_of_zero(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["process"]["user"]["umask"] = json!(0);
    container.report(&[])?.expect("/umask", json!(0))
}

fn no_umask(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.before = ["sh", "-c", "umask 027; exec \"$0\" \"$@\""].map(str::to_owned).to_vec();
    container.report(&[])?.expect("/umask", json!(0o027))
}

fn in_a_user_namespace<'a>(bench: &'a Bench<'a>) -> Result<Container<'a>> {
    let mut container = Container::new(bench)?;
    let mapping = json!([{ "containerID": 0, "hostID": 100_000, "size": 5000 }]);
    container.namespace(json!({ "type": "user" }));
    container.config["linux"]["uidMappings"] = mapping.clone();
    container.config["linux"]["gidMappings"] = mapping;
    Ok(container)
}

fn in_user_namespace(bench: &Bench) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let mut container = in_a_user_namespace(bench)?;
    container.config["process"]["user"] = json!({ "uid": 1234, "gid": 4321, "additionalGids": [7] });
    container.args(&["hold"]);
    container.launch()?;
    container.wait_for_output("holding")?;
    let process = format!("/proc/{}", container.pid()?);
    let owner = std::fs::metadata(&process)?;
    ensure!((owner.uid(), owner.gid()) == (101_234, 104_321), "on the host: {}:{}", owner.uid(), owner.gid());
    let status = std::fs::read_to_string(format!("{process}/status"))?;
    let groups = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap_or_default().trim().to_owned();
    ensure!(groups.split_whitespace().any(|group| group == "100007"), "the groups on the host are {groups}");
    Ok(())
}

fn unmapped(bench: &Bench) -> Result<()> {
    for user in [json!({ "uid": 6000, "gid": 0 }), json!({ "uid": 0, "gid": 6000 })] {
        let mut container = in_a_user_namespace(bench)?;
        container.config["process"]["user"] = user;
        container.create_or_start_refused()?;
    }
    Ok(())
}

fn no_privilege(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    container.config["process"]["capabilities"] = json!({ "bounding": ["CAP_CHOWN", "CAP_DAC_OVERRIDE"] });
    let report = container.report(&["create:/etc/new"])?;
    let effective = report.capability_set("CapEff")?;
    ensure!(effective == 0, "CapEff is {effective:#x}");
    report.failed("create:/etc/new", &["EACCES"])
}
