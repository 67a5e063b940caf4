//! Several commands at once on one container; `hack/races` plays many more rounds.

use crate::container::Container;
use crate::runtime::{Running, only_tare};

fn spawn(c: &Container, args: &[&str]) -> Running {
    c.spawn(&mut c.command(args))
}

#[test]
fn one_of_many_creates_of_one_id_makes_it() {
    only_tare!("runc 1.1 lets several begin");
    let c = Container::sleeping();
    c.save();
    for _ in 0..3 {
        let creates: Vec<_> = (0..10).map(|_| c.spawn(&mut c.bundle_command("create", &[]))).collect();
        let made = creates.into_iter().map(Running::wait).filter(|create| {
            assert!([0, 1].contains(&create.exit_code()), "{}", create.stderr);
            create.exit_code() == 0
        });
        assert_eq!(made.count(), 1);
        assert_eq!(c.status(), "created");
        c.delete_force().ok();
        c.assert_nothing_left();
    }
}

#[test]
fn create_and_delete_by_force_do_not_wait_for_each_other() {
    only_tare!("runc 1.1 leaves cgroups and processes");
    let c = Container::sleeping();
    c.save();
    for round in 0..20 {
        let create = c.spawn(&mut c.bundle_command("create", &[]));
        std::thread::sleep(std::time::Duration::from_millis(2 * round));
        spawn(&c, &["delete", "--force", &c.id]).wait().ok();
        assert!(create.wait().status.is_some(), "create ends");
        c.delete_force().ok();
        c.assert_nothing_left();
    }
}

#[test]
fn of_many_deletes_each_ends_and_nothing_is_left() {
    only_tare!("runc 1.1 fails in some of them");
    let c = Container::sleeping();
    for _ in 0..5 {
        c.launch();
        let deletes: Vec<_> = (0..5).map(|_| spawn(&c, &["delete", "--force", &c.id])).collect();
        deletes.into_iter().for_each(|delete| drop(delete.wait().ok()));
        c.assert_nothing_left();
    }
}
