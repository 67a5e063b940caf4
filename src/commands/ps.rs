//! `tare ps`

use std::io::Write as _;
use std::process::Command;

use super::cli::{ListFormat, Ps};
use crate::cgroups;
use crate::error::{Context as _, Result, anyhow, ensure};
use crate::state::{Container, Root, Status};

/// Lists the processes of a container: their ids as JSON, or what ps(1) tells of them.
pub fn run(root: &Root, args: &Ps) -> Result<()> {
    let container = Container::open(root, &args.id)?;
    let record = container.record()?;
    // The cgroup of a stopped container is there until it is deleted, but systemd takes its own away at once.
    let pids = match container.status(&record)? {
        Status::Stopped => cgroups::reopen(&record.cgroup).and_then(|cgroup| cgroup.pids()).unwrap_or_default(),
        _ => cgroups::reopen(&record.cgroup)?.pids()?,
    };
    let text = match args.format {
        ListFormat::Json => serde_json::to_string(&pids).context("ps")? + "\n",
        ListFormat::Table => table(&pids, &args.options)?,
    };
    std::io::stdout().write_all(text.as_bytes()).context("write to standard output")
}

/// The head line of ps(1) and the lines of these processes.
fn table(pids: &[i32], options: &[String]) -> Result<String> {
    let mut ps = Command::new("ps");
    if options.is_empty() {
        ps.arg("-ef");
    }
    let output = ps.args(options).output().context("run ps")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ps: {}: {}", output.status, said.trim());
    select(&String::from_utf8_lossy(&output.stdout), pids)
}

fn select(listing: &str, pids: &[i32]) -> Result<String> {
    let mut lines = listing.lines();
    let head = lines.next().unwrap_or_default();
    let column = head.split_whitespace().position(|name| name == "PID");
    let column = column.ok_or_else(|| anyhow!("couldn't find PID field in ps output"))?;
    let ours = |line: &&str| {
        let pid = line.split_whitespace().nth(column).and_then(|field| field.parse().ok());
        pid.is_some_and(|pid: i32| pids.contains(&pid))
    };
    Ok([head].into_iter().chain(lines.filter(ours)).map(|line| format!("{line}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_are_chosen_by_the_column_of_the_head() {
        let listing = "USER PID CMD\nroot 17 a\nroot 8 17\nroot 9 b\n";
        assert_eq!(select(listing, &[17, 9]).unwrap(), "USER PID CMD\nroot 17 a\nroot 9 b\n");
        assert!(select("CMD\na\n", &[1]).is_err());
    }
}
