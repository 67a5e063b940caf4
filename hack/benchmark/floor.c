/*
 * The floor: what the kernel alone takes for a container of the default bundle. No configuration, no checks, no state; the
 * same namespaces, mounts, devices, masks, cgroups and capabilities, and as many processes as tare spawns.
 *
 *   floor run    ROOTFS CGROUP...   create, start, wait, delete
 *   floor create ROOTFS CGROUP...   leaves init waiting behind the fifo $FLOOR_STATE/fifo, its pid in $FLOOR_STATE/pid
 *   floor start                     opens the fifo
 *   floor delete CGROUP...          kills init, removes the cgroups
 *   floor exec   CGROUP...          /bin/true in the container of $FLOOR_STATE/pid
 *
 * CGROUP: directories to be made; with $FLOOR_V2 the one of the unified hierarchy, into which init is born.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define LENGTH(array) (sizeof(array) / sizeof(*(array)))
#define NAMESPACES (CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET)

static int must(int result, const char *what)
{
	if (result < 0)
		err(1, "floor: %s", what);
	return result;
}

static void put(int at, const char *path, const char *text)
{
	int fd = must(openat(at, path, O_WRONLY | O_CLOEXEC), path);
	must(write(fd, text, strlen(text)), path);
	close(fd);
}

static const char *in_state(const char *name)
{
	static char path[4096];
	snprintf(path, sizeof path, "%s/%s", getenv("FLOOR_STATE"), name);
	return path;
}

static int is_v2(void)
{
	return getenv("FLOOR_V2") != NULL;
}

/* The devices of the default bundle: a list on v1, on v2 a program (of two instructions, the shortest that there is). */
static void allow_devices(int directory)
{
	static const char *const rules[] = { "c *:* m", "b *:* m", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm",
					     "c 1:9 rwm", "c 5:0 rwm", "c 5:2 rwm", "c 136:* rwm" };
	if (!is_v2()) {
		put(directory, "devices.deny", "a");
		int fd = must(openat(directory, "devices.allow", O_WRONLY | O_CLOEXEC), "devices.allow");
		for (size_t i = 0; i < LENGTH(rules); i++)
			must(write(fd, rules[i], strlen(rules[i])), "devices.allow");
		close(fd);
		return;
	}
	struct bpf_insn code[] = { { .code = BPF_ALU64 | BPF_MOV | BPF_K, .imm = 1 }, { .code = BPF_JMP | BPF_EXIT } };
	union bpf_attr load = { .prog_type = BPF_PROG_TYPE_CGROUP_DEVICE, .insns = (uint64_t)(uintptr_t)code,
				.insn_cnt = LENGTH(code), .license = (uint64_t)(uintptr_t)"GPL" };
	int program = must(syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof load), "BPF_PROG_LOAD");
	union bpf_attr attach = { .target_fd = directory, .attach_bpf_fd = program, .attach_type = BPF_CGROUP_DEVICE,
				  .attach_flags = BPF_F_ALLOW_MULTI };
	must(syscall(SYS_bpf, BPF_PROG_ATTACH, &attach, sizeof attach), "BPF_PROG_ATTACH");
	close(program);
}

static void copy(const char *directory, const char *file)
{
	char path[4096], text[256];
	snprintf(path, sizeof path, "%s/../%s", directory, file);
	int fd = must(open(path, O_RDONLY | O_CLOEXEC), path);
	ssize_t length = must(read(fd, text, sizeof text - 1), path);
	close(fd);
	text[length] = 0;
	snprintf(path, sizeof path, "%s/%s", directory, file);
	put(AT_FDCWD, path, text);
}

static void make_cgroups(char **cgroups)
{
	for (; *cgroups; cgroups++) {
		must(mkdir(*cgroups, 0755), *cgroups);
		int directory = must(open(*cgroups, O_DIRECTORY | O_CLOEXEC), *cgroups);
		if (!is_v2() && strstr(*cgroups, "/cpuset/")) {
			copy(*cgroups, "cpuset.cpus");
			copy(*cgroups, "cpuset.mems");
		}
		if (is_v2() || strstr(*cgroups, "/devices/"))
			allow_devices(directory);
		close(directory);
	}
}

static void remove_cgroups(char **cgroups)
{
	for (; *cgroups; cgroups++)
		must(rmdir(*cgroups), *cgroups);
}

/* On v1 a process enters by writing itself into each hierarchy's tasks, on v2 it is born there. */
static void enter_cgroups(char **cgroups)
{
	for (; !is_v2() && *cgroups; cgroups++) {
		int directory = must(open(*cgroups, O_DIRECTORY | O_CLOEXEC), *cgroups);
		put(directory, "tasks", "0");
		close(directory);
	}
}

static pid_t spawn(uint64_t flags, char **cgroups, int *pidfd)
{
	struct clone_args args = { .flags = flags | CLONE_PIDFD, .pidfd = (uint64_t)(uintptr_t)pidfd, .exit_signal = SIGCHLD };
	int directory = -1;
	if (is_v2()) {
		directory = must(open(*cgroups, O_DIRECTORY | O_CLOEXEC), *cgroups);
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = directory;
	}
	pid_t pid = must(syscall(SYS_clone3, &args, sizeof args), "clone3");
	if (directory >= 0)
		close(directory);
	return pid;
}

struct entry { const char *place, *type, *options; unsigned long flags; };

static void mount_all(void)
{
	static const struct entry entries[] = {
		{ "proc", "proc", "", 0 },
		{ "dev", "tmpfs", "mode=755,size=65536k", MS_NOSUID | MS_STRICTATIME },
		{ "dev/pts", "devpts", "newinstance,ptmxmode=0666,mode=0620,gid=5", MS_NOSUID | MS_NOEXEC },
		{ "dev/shm", "tmpfs", "mode=1777,size=65536k", MS_NOSUID | MS_NOEXEC | MS_NODEV },
		{ "dev/mqueue", "mqueue", "", MS_NOSUID | MS_NOEXEC | MS_NODEV },
		{ "sys", "sysfs", "", MS_NOSUID | MS_NOEXEC | MS_NODEV | MS_RDONLY },
	};
	for (size_t i = 0; i < LENGTH(entries); i++) {
		if (i > 1 && !strncmp(entries[i].place, "dev/", 4))
			must(mkdir(entries[i].place, 0755), entries[i].place);
		must(mount(entries[i].type, entries[i].place, entries[i].type, entries[i].flags, entries[i].options),
		     entries[i].place);
	}
}

/* The container's view of its cgroups: one mount on v2, a tmpfs with a mount a hierarchy on v1. */
static void mount_cgroups(char **cgroups)
{
	const unsigned long flags = MS_NOSUID | MS_NOEXEC | MS_NODEV;
	if (is_v2()) {
		must(mount("cgroup", "sys/fs/cgroup", "cgroup2", flags | MS_RDONLY, NULL), "cgroup2");
		return;
	}
	must(mount("tmpfs", "sys/fs/cgroup", "tmpfs", flags, "mode=755"), "sys/fs/cgroup");
	for (; *cgroups; cgroups++) {
		char name[256], place[512], options[512];
		/* /sys/fs/cgroup/NAME/... */
		if (sscanf(*cgroups, "/sys/fs/cgroup/%255[^/]", name) != 1)
			errx(1, "floor: %s: is not below /sys/fs/cgroup", *cgroups);
		snprintf(place, sizeof place, "sys/fs/cgroup/%s", name);
		snprintf(options, sizeof options, strcmp(name, "systemd") ? "%s" : "none,name=%s", name);
		must(mkdir(place, 0755), place);
		must(mount("cgroup", place, "cgroup", flags | MS_RDONLY, options), place);
	}
	must(mount(NULL, "sys/fs/cgroup", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | flags, NULL), "remount sys/fs/cgroup");
}

static void make_devices(void)
{
	static const struct { const char *path; int major, minor; } nodes[] = {
		{ "dev/null", 1, 3 }, { "dev/zero", 1, 5 }, { "dev/full", 1, 7 },
		{ "dev/tty", 5, 0 }, { "dev/random", 1, 8 }, { "dev/urandom", 1, 9 } };
	static const char *const links[][2] = {
		{ "/proc/self/fd", "dev/fd" }, { "/proc/self/fd/0", "dev/stdin" }, { "/proc/self/fd/1", "dev/stdout" },
		{ "/proc/self/fd/2", "dev/stderr" }, { "/proc/kcore", "dev/core" }, { "pts/ptmx", "dev/ptmx" } };
	for (size_t i = 0; i < LENGTH(nodes); i++)
		must(mknod(nodes[i].path, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)), nodes[i].path);
	for (size_t i = 0; i < LENGTH(links); i++)
		must(symlink(links[i][0], links[i][1]), links[i][1]);
}

static void cover(void)
{
	static const char *const readonly[] = { "proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger" };
	static const char *const masked[] = { "proc/acpi", "proc/asound", "proc/kcore", "proc/keys", "proc/latency_stats",
					      "proc/timer_list", "proc/timer_stats", "proc/sched_debug", "sys/firmware",
					      "proc/scsi" };
	const char *empty = NULL;
	for (size_t i = 0; i < LENGTH(readonly); i++) {
		if (mount(readonly[i], readonly[i], NULL, MS_BIND | MS_REC, NULL) == 0)
			must(mount(NULL, readonly[i], NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL), readonly[i]);
	}
	for (size_t i = 0; i < LENGTH(masked); i++) {
		struct stat found;
		if (stat(masked[i], &found) < 0)
			continue;
		if (!S_ISDIR(found.st_mode)) {
			must(mount("/dev/null", masked[i], NULL, MS_BIND, NULL), masked[i]);
		} else if (empty) {
			must(mount(empty, masked[i], NULL, MS_BIND, NULL), masked[i]);
		} else {
			must(mount("tmpfs", masked[i], "tmpfs", MS_RDONLY, "nr_blocks=1,nr_inodes=1"), masked[i]);
			empty = masked[i];
		}
	}
}

static void change_root(void)
{
	must(syscall(SYS_pivot_root, ".", "."), "pivot_root");
	must(umount2(".", MNT_DETACH), "umount2");
	must(chdir("/"), "chdir /");
	must(mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL), "remount /");
}

static void bring_up_loopback(void)
{
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_LOOPBACK };
	int socket_ = must(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket");
	must(ioctl(socket_, SIOCSIFFLAGS, &request), "lo");
	close(socket_);
}

/* CAP_AUDIT_WRITE, CAP_KILL, CAP_NET_BIND_SERVICE, as the default bundle has them. */
static void drop_capabilities(void)
{
	const uint32_t kept = 1u << CAP_AUDIT_WRITE | 1u << CAP_KILL | 1u << CAP_NET_BIND_SERVICE;
	for (int capability = 0; capability <= CAP_LAST_CAP; capability++) {
		if (capability > 31 || !(kept & 1u << capability))
			must(prctl(PR_CAPBSET_DROP, capability, 0, 0, 0), "PR_CAPBSET_DROP");
	}
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct sets[2] = { { .effective = kept, .permitted = kept } };
	must(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "PR_CAP_AMBIENT");
	must(syscall(SYS_capset, &header, sets), "capset");
}

static void become_the_program(void)
{
	char *arguments[] = { "/bin/true", NULL };
	char *environment[] = { "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm", NULL };
	const struct rlimit files = { 1024, 1024 };
	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS");
	must(setrlimit(RLIMIT_NOFILE, &files), "setrlimit");
	drop_capabilities();
	execve(*arguments, arguments, environment);
	err(1, "floor: %s", *arguments);
}

static int channel[2];

static void init(const char *rootfs, char **cgroups, const char *fifo)
{
	/* The fifo is opened on the host; where nobody is to come between, there is none. */
	int gate = fifo ? must(open(fifo, O_RDWR | O_CLOEXEC), fifo) : -1;
	char byte;
	enter_cgroups(cgroups);
	must(unshare(CLONE_NEWCGROUP), "unshare");
	setsid();
	must(mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL), "/");
	must(mount(rootfs, rootfs, NULL, MS_BIND | MS_REC, NULL), rootfs);
	must(chdir(rootfs), rootfs);
	umask(0);
	mount_all();
	mount_cgroups(cgroups);
	make_devices();
	cover();
	change_root();
	must(sethostname("floor", 5), "sethostname");
	bring_up_loopback();
	umask(022);
	if (gate >= 0) {
		must(write(channel[1], "W", 1), "tell the parent");
		must(read(gate, &byte, 1), "fifo");
	}
	become_the_program();
}

static int pid_of_container(void)
{
	char text[32] = "";
	int fd = must(open(in_state("pid"), O_RDONLY | O_CLOEXEC), "pid");
	must(read(fd, text, sizeof text - 1), "pid");
	close(fd);
	return atoi(text);
}

static int ended_with(int pidfd)
{
	siginfo_t how = { 0 };
	struct pollfd end = { .fd = pidfd, .events = POLLIN };
	must(poll(&end, 1, -1), "poll");
	must(waitid(P_PIDFD, pidfd, &how, WEXITED), "waitid");
	return how.si_code == CLD_EXITED ? how.si_status : 128 + how.si_status;
}

static int run(const char *rootfs, char **cgroups)
{
	int pidfd;
	make_cgroups(cgroups);
	if (spawn(NAMESPACES, cgroups, &pidfd) == 0)
		init(rootfs, cgroups, NULL);
	int status = ended_with(pidfd);
	remove_cgroups(cgroups);
	return status;
}

/* Returns when init waits, which init says. */
static int create(const char *rootfs, char **cgroups)
{
	int pidfd;
	char text[32];
	must(mkfifo(in_state("fifo"), 0600), "fifo");
	make_cgroups(cgroups);
	must(pipe2(channel, O_CLOEXEC), "pipe");
	pid_t pid = spawn(NAMESPACES, cgroups, &pidfd);
	if (pid == 0)
		init(rootfs, cgroups, in_state("fifo"));
	close(channel[1]);
	int fd = must(open(in_state("pid"), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), "pid");
	must(write(fd, text, snprintf(text, sizeof text, "%d", pid)), "pid");
	close(fd);
	return read(channel[0], text, 1) != 1;
}

static int start(void)
{
	int fd = must(open(in_state("fifo"), O_WRONLY | O_CLOEXEC), "fifo");
	must(write(fd, "0", 1), "fifo");
	close(fd);
	return 0;
}

static int delete(char **cgroups)
{
	int pidfd = syscall(SYS_pidfd_open, pid_of_container(), 0);
	if (pidfd >= 0) {
		struct pollfd end = { .fd = pidfd, .events = POLLIN };
		syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
		must(poll(&end, 1, -1), "poll");
	}
	remove_cgroups(cgroups);
	unlink(in_state("fifo"));
	unlink(in_state("pid"));
	return 0;
}

static int exec(char **cgroups)
{
	int pidfd, init_ = must(syscall(SYS_pidfd_open, pid_of_container(), 0), "pidfd_open");
	int own = must(open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC), "/proc/self/ns/pid");
	must(setns(init_, CLONE_NEWPID), "setns");
	if (spawn(0, cgroups, &pidfd) == 0) {
		enter_cgroups(cgroups);
		must(setns(init_, (NAMESPACES | CLONE_NEWCGROUP) & ~CLONE_NEWPID), "setns");
		setsid();
		become_the_program();
	}
	must(setns(own, CLONE_NEWPID), "setns");
	return ended_with(pidfd);
}

int main(int count, char **arguments)
{
	const char *what = count > 1 ? arguments[1] : "";
	if (!strcmp(what, "run") && count > 3)
		return run(arguments[2], arguments + 3);
	if (!strcmp(what, "create") && count > 3)
		return create(arguments[2], arguments + 3);
	if (!strcmp(what, "start"))
		return start();
	if (!strcmp(what, "delete"))
		return delete(arguments + 2);
	if (!strcmp(what, "exec"))
		return exec(arguments + 2);
	errx(2, "usage: floor run|create ROOTFS CGROUP... | start | delete CGROUP... | exec CGROUP...");
}
