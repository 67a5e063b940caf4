//! `linux.maskedPaths` and `linux.readonlyPaths`: where they are, and what a container can do about them.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use crate::container::Container;
use crate::runtime::only_tare;

#[test]
fn masked_and_read_only_paths_over_links_of_the_image_are_refused() {
    only_tare!("the reference follows links of the image");
    for property in ["maskedPaths", "readonlyPaths"] {
        for path in ["/etc/link", "/dir/secret", "/etc/dangling"] {
            let mut c = Container::new();
            fs::write(c.rootfs().join("etc/secret"), "secret\n").expect("write");
            symlink("secret", c.rootfs().join("etc/link")).expect("a link");
            symlink("/etc/missing", c.rootfs().join("etc/dangling")).expect("a link");
            symlink("etc", c.rootfs().join("dir")).expect("a link");
            c.config["linux"][property] = json!([path]);
            c.create().fails(&[&format!("linux.{property}"), path, "symbolic link"]);
            c.assert_nothing_left();
        }
    }
}

#[test]
fn masked_and_read_only_paths_over_links_of_procfs_are_those_they_lead_to() {
    let mut c = Container::sh("wc -c </proc/1/mounts; cut -d' ' -f5,6 /proc/1/mountinfo | grep /proc/1/net");
    c.config["linux"]["maskedPaths"] = json!(["/proc/mounts"]);
    c.config["linux"]["readonlyPaths"] = json!(["/proc/net"]);
    let outcome = c.run().ok();
    assert!(outcome.stdout.starts_with("0\n/proc/1/net ro,"), "{}", outcome.stdout);
}

#[test]
fn a_path_that_leads_to_an_open_file_is_not_masked_in_its_place() {
    only_tare!("the reference masks the file that the path leads to by chance");
    let mut c = Container::new();
    c.config["linux"]["maskedPaths"] = json!(["/proc/self/root/etc/passwd"]);
    c.create().fails(&["linux.maskedPaths", "/proc/self/root"]);
    c.assert_nothing_left();
}

/// What a user namespace inside may do to a mount is what its flags do not forbid.
#[test]
fn a_mask_can_be_used_for_nothing_and_not_be_remounted() {
    only_tare!("the reference gives the mask of a file the flags of the host's /dev");
    let mut c = Container::sh(
        "for p in /etc/secret /etc/keys; do \
         unshare -Urm mount -o remount,bind,rw,exec,suid,dev $p 2>/dev/null && echo remounted; \
         grep \" $p \" /proc/self/mountinfo | cut -d' ' -f6; done; \
         echo x >/etc/secret && cat /etc/secret && echo null",
    );
    fs::write(c.rootfs().join("etc/secret"), "secret\n").expect("write");
    fs::create_dir(c.rootfs().join("etc/keys")).expect("mkdir");
    c.config["linux"]["maskedPaths"] = json!(["/etc/secret", "/etc/keys"]);
    let outcome = c.run().ok();
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert!(lines.len() == 3 && lines[2] == "null", "{}", outcome.stdout);
    let has = |line: &str, flags: &[&str]| flags.iter().all(|flag| line.split(',').any(|found| found == *flag));
    assert!(has(lines[0], &["ro", "nosuid", "noexec"]), "{}", outcome.stdout);
    assert!(has(lines[1], &["ro", "nosuid", "noexec", "nodev"]), "{}", outcome.stdout);
}
