"""What is timed. A workload is a function of a runtime and an id that returns {row: Spent} and leaves nothing behind."""

import ctypes
import os
import signal
import time
from pathlib import Path

from runtimes import Failed, Floor, Spent, spawn, wait

LIBC = ctypes.CDLL(None, use_errno=True)
MS_BIND, MS_REC, MS_PRIVATE, MNT_DETACH = 4096, 16384, 1 << 18, 2
ORDINARY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--")


def run(bundle):
    def workload(runtime, ident):
        args = ("run", ident) if isinstance(runtime, Floor) else ("run", "--bundle", bundle, ident)
        return {"": runtime.call(*args)}
    return workload


def lifecycle(bundle):
    def workload(runtime, ident):
        if isinstance(runtime, Floor):
            steps = {": create": ("create", ident), ": start": ("start", ident), ": delete --force": ("delete", ident)}
        else:
            # delete --force, because /bin/true may or may not have ended by then: it is the same command for all.
            steps = {": create": ("create", "--bundle", bundle, ident), ": start": ("start", ident),
                     ": delete --force": ("delete", "--force", ident)}
        spent = {row: runtime.call(*args) for row, args in steps.items()}
        return {"": sum(spent.values(), Spent()), **spent}
    return workload


def with_container(bundle, command):
    """One command on a container that is there."""
    def workload(runtime, ident):
        if isinstance(runtime, Floor):
            runtime.call("create", ident)
        else:
            runtime.call("run", "--detach", "--bundle", bundle, ident)
        try:
            return {"": command(runtime, ident)}
        finally:
            runtime.discard(ident)
    return workload


def execute(runtime, ident):
    return runtime.call("exec", ident) if isinstance(runtime, Floor) else runtime.call("exec", ident, "/bin/true")


def state(runtime, ident):
    return runtime.call("state", ident)


def listing(runtime, _ident):
    return {"": runtime.call("list")}


def kill_and_delete(bundle):
    def workload(runtime, ident):
        runtime.call("run", "--detach", "--bundle", bundle, ident)
        try:
            kill = runtime.call("kill", ident, "KILL")
            for _ in range(2000):  # delete refuses a container whose init has not ended yet
                try:
                    return {"": kill + runtime.call("delete", ident)}
                except Failed:
                    time.sleep(0.001)
            raise Failed("delete: refused for 2000 times")
        finally:
            runtime.discard(ident)
    return workload


def at_once(bundle, count, total=64):
    """`total` runs, `count` of them at once: milliseconds a run."""
    def workload(runtime, ident):
        waiting, running, failed, cpu = list(range(total)), {}, [], 0.0
        begin = time.perf_counter_ns()
        while waiting or running:
            while waiting and len(running) < count:
                number = waiting.pop()
                pid = spawn(runtime.command("run", "--bundle", bundle, f"{ident}-{number}"), runtime.errors)
                running[pid] = number
            pid = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT).si_pid
            status, spent = wait(pid)
            cpu += spent
            number = running.pop(pid)
            if status != 0:
                failed.append(number)
        wall = (time.perf_counter_ns() - begin) / 1e6
        for number in failed:
            runtime.discard(f"{ident}-{number}")
        if failed:
            raise Failed(f"{len(failed)} of {total}: {Path(runtime.errors).read_text(errors='replace').strip()}")
        return {"": Spent(wall / total, cpu / total)}
    return workload


def rootless(bundle):
    def workload(runtime, ident):
        Path(runtime.root + "-rootless").mkdir(exist_ok=True)
        os.chown(runtime.root + "-rootless", 65534, 65534)
        user = type(runtime)(runtime.name, runtime.path, Path("/"))
        user.root, user.errors = runtime.root + "-rootless", runtime.errors
        return {"": user.call("run", "--bundle", bundle, ident, measured_by=ORDINARY)}
    return workload


class Crowd:
    """Containers that are there all the while, the same number of each runtime."""

    def __init__(self, runtimes, bundle, scratch):
        self.runtimes, self.bundle, self.scratch, self.pids = runtimes, bundle, scratch, {}

    def grow(self, size):
        for runtime in self.runtimes:
            for number in range(len([one for one in self.pids if one[0] is runtime]), size):
                pid_file = self.scratch / "pid"
                # Of the same id they would have the same cgroup.
                ident = f"crowd-{runtime.name}-{number}"
                runtime.call("run", "--detach", "--pid-file", str(pid_file), "--bundle", self.bundle, ident)
                self.pids[runtime, ident] = int(pid_file.read_text())

    def leave(self):
        for pid in self.pids.values():
            os.kill(pid, signal.SIGKILL)
        for runtime, ident in self.pids:
            runtime.discard(ident)
        self.pids = {}


class HostMounts:
    """Mounts below one directory, in the benchmark's own mount namespace."""

    def __init__(self, scratch):
        self.directory, self.count = scratch / "host-mounts", 0
        self.directory.mkdir()

    def grow(self, size):
        for number in range(self.count, size):
            place = self.directory if number == 0 else self.directory / str(number)
            place.mkdir(exist_ok=True)
            mount("tmpfs" if number == 0 else str(self.directory), str(place), number)
        self.count = size

    def leave(self):
        if self.count:
            LIBC.umount2(str(self.directory).encode(), MNT_DETACH)
        self.count = 0


def mount(source, place, number):
    kind, flags = (b"tmpfs", 0) if number == 0 else (None, MS_BIND)
    if LIBC.mount(source.encode(), place.encode(), kind, flags, None) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), place)
    if number == 0 and LIBC.mount(None, place.encode(), None, MS_PRIVATE | MS_REC, None) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), place)
