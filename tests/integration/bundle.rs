//! Bundles: a busybox rootfs and a config.json that starts as the default of `spec`.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

/// The busybox applets a rootfs offers.
const APPLETS: &[&str] = &[
    "[", "awk", "cat", "chmod", "chown", "cut", "dd", "df", "dmesg", "echo", "env", "false", "find", "getopt", "grep",
    "head", "hostname", "id", "ifconfig", "ip", "kill", "ln", "ls", "mkdir", "mkfifo", "mknod", "mount", "mv", "nice",
    "nproc", "od", "printf", "ps", "pwd", "readlink", "rm", "rmdir", "sed", "seq", "sh", "sleep", "sort", "stat",
    "stty", "tail", "tee", "test", "touch", "tr", "true", "tty", "umount", "uname", "unshare", "usleep", "wc", "xargs",
];

/// A directory that goes away with the value. Mounts below it are detached first: nothing is ever deleted through one.
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new() -> TempDir {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("tare-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().canonicalize().expect("resolve the temporary directory").join(name);
        fs::create_dir(&path).expect("create a temporary directory");
        TempDir(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        for mount in mounts_below(&self.0).iter().rev() {
            let _ = nix::mount::umount2(mount.as_str(), nix::mount::MntFlags::MNT_DETACH);
        }
        if mounts_below(&self.0).is_empty() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// The mount points at or below `dir` in this mount namespace, in the order of the mounts.
pub fn mounts_below(dir: &Path) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("read the mount table");
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    points.filter(|point| Path::new(point).starts_with(dir)).map(str::to_owned).collect()
}

/// Makes `dir` a rootfs: a static busybox in /bin and the directories that a container mounts over.
pub fn make_rootfs(dir: &Path) {
    for name in ["bin", "dev", "etc", "proc", "root", "sys", "tmp", "usr/bin"] {
        fs::create_dir_all(dir.join(name)).expect("create a directory of the rootfs");
    }
    let busybox = dir.join("bin/busybox");
    if fs::hard_link(busybox_source(), &busybox).is_err() {
        // The temporary directory may be on another filesystem.
        fs::copy(busybox_source(), &busybox).expect("copy busybox");
    }
    for applet in APPLETS {
        symlink("busybox", dir.join("bin").join(applet)).expect("link an applet");
    }
    fs::write(dir.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/:/bin/sh\n")
        .expect("write etc/passwd");
    fs::write(dir.join("etc/group"), "root:x:0:\nuser:x:1000:\n").expect("write etc/group");
    fs::set_permissions(dir.join("tmp"), std::os::unix::fs::PermissionsExt::from_mode(0o1777)).expect("chmod tmp");
}

/// Makes a directory that only its owner may write to, as the runtime asks of those that hold its
/// state: a login shell's umask may be 0002.
pub fn make_private_dir(path: &Path) {
    fs::DirBuilder::new().mode(0o700).create(path).expect("make a directory of mode 0700");
}

/// A copy of the machine's busybox that all rootfs share by hard link, so that no test can reach the machine's own.
fn busybox_source() -> &'static Path {
    static SOURCE: OnceLock<PathBuf> = OnceLock::new();
    SOURCE.get_or_init(|| {
        let found = ["/bin/busybox", "/usr/bin/busybox", "/usr/local/bin/busybox"].map(Path::new);
        let found = found.into_iter().find(|path| path.exists());
        let found = found.expect("the tests need a static busybox in /bin: install busybox-static");
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("busybox-{}", nix::unistd::geteuid()));
        let fresh = path.with_extension(std::process::id().to_string());
        fs::copy(found, &fresh).expect("copy busybox");
        fs::rename(&fresh, &path).expect("put busybox in its place");
        path
    })
}

/// A bundle in its own temporary directory, with room for the runtime's state beside it.
pub struct Bundle {
    pub dir: TempDir,
}

impl Bundle {
    pub fn new() -> Bundle {
        let dir = TempDir::new();
        fs::DirBuilder::new().mode(0o755).create(dir.path().join("bundle")).expect("create the bundle");
        let bundle = Bundle { dir };
        make_rootfs(&bundle.rootfs());
        bundle
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("bundle")
    }

    pub fn rootfs(&self) -> PathBuf {
        self.path().join("rootfs")
    }

    /// The directory given as `--root`.
    pub fn state_root(&self) -> PathBuf {
        self.dir.path().join("state")
    }
}

/// The config.json that `spec` writes, without a terminal and with `true` as the program; for an ordinary user in a user
/// namespace with all ids that are theirs.
pub fn default_config() -> Value {
    let mut config = config_of_root();
    if is_rootless() {
        let linux = &mut config["linux"];
        linux["namespaces"].as_array_mut().expect("a list").push(json!({ "type": "user" }));
        linux["uidMappings"] = mappings("/etc/subuid", nix::unistd::geteuid().as_raw());
        linux["gidMappings"] = mappings("/etc/subgid", nix::unistd::getegid().as_raw());
    }
    config
}

/// True for an ordinary user, whose containers are limited by what the user may do.
pub fn is_rootless() -> bool {
    !nix::unistd::geteuid().is_root()
}

/// The own id as root, and the user's first range of subordinate ids after it.
fn mappings(file: &str, own: u32) -> Value {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).expect("passwd").expect("a user").name;
    let text = fs::read_to_string(file).expect("read the subordinate ids");
    let mut range = text.lines().filter_map(|line| line.strip_prefix(&user)?.strip_prefix(':')?.split_once(':'));
    let (first, count) = range.next().unwrap_or_else(|| panic!("no range of {user} in {file}"));
    let number = |text: &str| text.parse::<u32>().expect("a number");
    json!([
        { "containerID": 0, "hostID": own, "size": 1 },
        { "containerID": 1, "hostID": number(first), "size": number(count) }
    ])
}

fn config_of_root() -> Value {
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": ["true"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities.clone(), "effective": capabilities.clone(), "permitted": capabilities
            },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "tare",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
              "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
            { "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
              "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
            { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
              "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/sys", "type": "sysfs", "source": "sysfs",
              "options": ["nosuid", "noexec", "nodev", "ro"] },
            { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
              "options": ["nosuid", "noexec", "nodev", "relatime", "ro"] }
        ],
        "linux": {
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" },
                { "type": "cgroup" }
            ],
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    })
}
