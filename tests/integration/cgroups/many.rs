//! Many containers, one after the other and at once: no cgroup stays behind, nor a device program of v2.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::cgroup_tree::named;
use crate::container::Container;
use crate::runtime::{Running, eventually, is_tare};

/// Containers of one bundle whose ids begin alike.
struct Many {
    one: Container,
    mark: String,
}

impl Many {
    fn new() -> Self {
        let one = Container::sleeping();
        one.save();
        let mark = format!("{}-many", one.id);
        Self { one, mark }
    }

    fn id(&self, number: usize) -> String {
        format!("{}-{number}", self.mark)
    }

    fn begin(&self, verb: &str, flags: &[&str], number: usize) -> Running {
        let mut command = self.one.command(&[verb]);
        command.args(flags).arg(self.id(number));
        self.one.spawn(&mut command)
    }

    fn create(&self, number: usize) -> Running {
        let bundle = self.one.bundle.path();
        self.begin("create", &["--bundle", bundle.to_str().expect("a path")], number)
    }

    fn delete(&self, number: usize) -> Running {
        self.begin("delete", &["--force"], number)
    }

    /// How long a create and a delete take.
    fn in_a_row(&self, count: usize) -> Duration {
        let begin = Instant::now();
        for number in 0..count {
            self.create(number).wait().ok();
            self.delete(number).wait().ok();
        }
        begin.elapsed()
    }

    /// How long all of them take, by up to that many processes.
    fn at_once(&self, count: usize) -> Duration {
        let begin = Instant::now();
        let all = |command: &dyn Fn(usize) -> Running| {
            let running: Vec<Running> = (0..count).map(command).collect();
            running.into_iter().for_each(|one| drop(one.wait().ok()));
        };
        all(&|number| self.create(number));
        all(&|number| self.delete(number));
        begin.elapsed()
    }

    #[track_caller]
    fn assert_nothing_left(&self) {
        eventually("all cgroups are gone", || named(&self.mark).is_empty().then_some(()));
        assert!(std::fs::read_dir(self.one.bundle.state_root()).expect("list").next().is_none(), "state is left");
    }
}

impl Drop for Many {
    fn drop(&mut self) {
        for entry in std::fs::read_dir(self.one.bundle.state_root()).into_iter().flatten().flatten() {
            self.one.call(&["delete", "--force", &entry.file_name().to_string_lossy()]);
        }
    }
}

/// The device programs that the kernel has, but for systemd's own; none where nobody can tell.
fn programs() -> Option<usize> {
    let output = Command::new("bpftool").args(["-j", "prog", "list"]).output().ok().filter(|it| it.status.success())?;
    let programs: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).ok()?;
    let ours = |program: &&serde_json::Value| {
        program["type"] == "cgroup_device" && !program["name"].as_str().unwrap_or_default().starts_with("sd_")
    };
    Some(programs.iter().filter(ours).count())
}

/// Each container on v2 has one; those of other tests come and go meanwhile.
#[track_caller]
fn no_more_programs(before: Option<usize>, count: usize) {
    let Some(before) = before else {
        println!("device programs are not counted: bpftool is not here, or not allowed to list them");
        return;
    };
    eventually("the device programs are gone", || (programs()? < before + count / 2).then_some(()));
}

#[test]
fn sixteen_at_once_leave_no_cgroup_and_no_program() {
    let many = Many::new();
    let before = programs();
    let count = if is_tare() { 16 } else { 6 };
    many.at_once(count);
    many.assert_nothing_left();
    no_more_programs(before, count);
}

#[test]
#[ignore = "takes minutes: a thousand in a row and a hundred at once"]
fn a_thousand_in_a_row_and_a_hundred_at_once_leave_no_cgroup_and_no_program() {
    let many = Many::new();
    let before = programs();
    let (row, once) = (1000, 100);
    println!("{row} in a row: {:?}", many.in_a_row(row));
    many.assert_nothing_left();
    println!("{once} at once: {:?}", many.at_once(once));
    many.assert_nothing_left();
    println!("device programs before and after: {before:?}, {:?}", programs());
    no_more_programs(before, once);
}
