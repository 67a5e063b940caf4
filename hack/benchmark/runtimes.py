"""What is measured: the runtimes, and the floor, a program that does the kernel's part alone."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

HACK = Path(__file__).resolve().parent.parent
LIMIT = 60  # seconds that one command may take
STATE = "state"  # the directory of the runtimes' --root, in the scratch directory
DEVNULL_TO_STDIO = [
    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
    (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
]


class Failed(Exception):
    """A command did not exit with 0; the message is what it said."""


class Spent:
    """Wall and CPU time in milliseconds; the CPU time is that of the command and of what it waited for."""

    def __init__(self, wall=0.0, cpu=0.0):
        self.wall, self.cpu = wall, cpu

    def __add__(self, other):
        return Spent(self.wall + other.wall, self.cpu + other.cpu)


def spawn(command, errors, environment=None):
    actions = [*DEVNULL_TO_STDIO, (os.POSIX_SPAWN_OPEN, 2, errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)]
    return os.posix_spawnp(command[0], command, environment or os.environ, file_actions=actions)


def wait(pid):
    """Waits for a process, at most LIMIT seconds; returns its status and CPU time in milliseconds."""
    signal.alarm(LIMIT)
    try:
        _, status, usage = os.wait4(pid, 0)
    except TimeoutError:
        os.kill(pid, signal.SIGKILL)
        _, status, usage = os.wait4(pid, 0)
    signal.alarm(0)
    return status, (usage.ru_utime + usage.ru_stime) * 1e3


def call(command, errors, environment=None):
    """Runs a command to its end; returns what it took."""
    begin = time.perf_counter_ns()
    try:
        pid = spawn(command, errors, environment)
    except OSError as error:
        raise Failed(f"{command[0]}: {error.strerror}") from error
    status, cpu = wait(pid)
    wall = (time.perf_counter_ns() - begin) / 1e6
    if status != 0:
        said = Path(errors).read_text(errors="replace").strip()
        raise Failed(f"{' '.join(command[1:])}: status {os.waitstatus_to_exitcode(status)}: {said}")
    return Spent(wall, cpu)


class Runtime:
    def __init__(self, name, path, scratch):
        self.name, self.path = name, path
        self.root = str(scratch / STATE / name)
        self.errors = str(scratch / f"stderr-{name}")

    def command(self, *args, measured_by=()):
        return [*measured_by, self.path, "--root", self.root, *args]

    def call(self, *args, measured_by=()):
        return call(self.command(*args, measured_by=measured_by), self.errors)

    def discard(self, ident):
        """Removes what a failed workload may have left."""
        try:
            self.call("delete", "--force", ident)
        except Failed:
            pass  # it was gone already

    def version(self):
        out = subprocess.run([self.path, "--version"], capture_output=True, text=True, check=False)
        return (out.stdout.splitlines() or ["?"])[0]


class Floor:
    """floor.c, with the cgroups that tare makes for the default bundle."""

    name = "floor"

    def __init__(self, rootfs, scratch):
        # An own binary, for a machine without a compiler: FLOOR=/path.
        self.path, self.rootfs = os.environ.get("FLOOR") or str(scratch / "floor"), rootfs
        self.errors = str(scratch / "stderr-floor")
        if "FLOOR" not in os.environ:
            subprocess.run(["cc", "-O2", "-static", "-o", self.path, HACK / "benchmark" / "floor.c"], check=True)
        state = scratch / "floor-state"
        state.mkdir()
        self.parents = cgroup_parents()
        self.environment = {**os.environ, "FLOOR_STATE": str(state)}
        if any(Path(parent, "cgroup.controllers").exists() for parent in self.parents):
            self.environment["FLOOR_V2"] = "1"

    def call(self, what, ident):
        places = [f"{parent}/{ident}" for parent in self.parents]
        args = {"run": [self.rootfs, *places], "create": [self.rootfs, *places], "start": []}.get(what, places)
        return call([self.path, what, *args], self.errors, self.environment)

    def discard(self, ident):
        try:
            self.call("delete", ident)
        except Failed:
            pass


def cgroup_parents():
    """The directories below which tare makes a cgroup: of each v1 hierarchy, or of the unified one where it is alone."""
    own = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.split()[:3]
        root, place = fields.split()[3:5]
        if kind == "cgroup2" and place == "/sys/fs/cgroup":
            return [place]  # an absolute path, or none, is below the mount's root
        if kind == "cgroup":
            names = [names for names in own if names and names.split(",")[0] in options.split(",")]
            inside = os.path.relpath(own[names[0]], root) if names else "."
            found.append(os.path.normpath(os.path.join(place, inside)))
    return found


def find(names, scratch):
    found = []
    for name in names:
        if name == "tare":
            # An own binary to look at: TARE=/path; else the release build of this tree.
            path = os.environ.get("TARE") or subprocess.run(
                [HACK / "binary"], capture_output=True, text=True, check=True).stdout.strip()
        else:
            path = shutil.which(name)
        if path and os.access(path, os.X_OK):
            found.append(Runtime(Path(name).name, path, scratch))
        else:
            print(f"bench: {name}: not found, left out", file=sys.stderr)
    return found
