"""What is weighed: peak memory, instructions, and the least memory limit that a start survives."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import bundles
from runtimes import Failed

PAGE = 4096


def resident_sets(runtime, bundle, scratch):
    """Maximum resident set in KiB of each command, of its children too when it waits for them; None if it failed.

    A process carries the peak of the program that it was before exec, so a small program (GNU time) spawns and measures.
    """
    out = str(scratch / "rss")
    ident = f"rss-{os.getpid()}"
    spec_dir = scratch / f"spec-{runtime.name}"
    spec_dir.mkdir()
    calls = [
        ("run", ["run", "--bundle", bundle["default"], ident]),
        ("run, Docker's bundle", ["run", "--bundle", bundle["docker"], ident]),
        ("create", ["create", "--bundle", bundle["sleeping"], ident]),
        ("state", ["state", ident]),
        ("list", ["list"]),
        ("start", ["start", ident]),
        ("exec", ["exec", ident, "/bin/true"]),
        ("kill", ["kill", ident, "KILL"]),
        ("delete --force", ["delete", "--force", ident]),
        ("spec", ["spec", "--bundle", str(spec_dir)]),
        ("features", ["features"]),
        ("--version", ["--version"]),
    ]
    peaks = {}
    here = os.getcwd()
    os.chdir(spec_dir)  # crun's spec of some versions writes into the current directory only
    try:
        for name, args in calls:
            try:
                runtime.call(*args, measured_by=("/usr/bin/time", "-q", "-o", out, "-f", "%M"))
                peaks[name] = int(Path(out).read_text().split()[-1])
            except Failed:
                peaks[name] = None
    finally:
        os.chdir(here)
        runtime.discard(ident)
    return peaks


def resident_floor():
    """The same of a program that does nothing; None without GNU time."""
    if not os.access("/usr/bin/time", os.X_OK):
        return None
    nothing = subprocess.run(["/usr/bin/time", "-f", "%M", "busybox", "true"], capture_output=True, text=True, check=True)
    return int(nothing.stderr.split()[-1])


def instructions(runtime, scratch):
    """Instructions of the commands that callgrind can follow: those that make no process in new namespaces."""
    if not shutil.which("valgrind"):
        return {}
    spec_dir = scratch / f"counted-{runtime.name}"
    spec_dir.mkdir()
    counts = {}
    for name, args in {"list": ["list"], "features": ["features"], "--version": ["--version"]}.items():
        command = runtime.command(*args, measured_by=(
            "valgrind", "--tool=callgrind", f"--callgrind-out-file={scratch / 'callgrind'}"))
        try:
            out = subprocess.run(command, capture_output=True, text=True, cwd=spec_dir, timeout=60, check=False)
        except subprocess.TimeoutExpired:
            continue
        found = re.search(r"Collected : (\d+)", out.stderr)
        counts[name] = int(found[1]) if found and out.returncode == 0 else None
    return counts


def least_memory(runtime, bundle, scratch):
    """The least limit in KiB at which /bin/true runs, to 16 KiB; None if it does not run with 64 MiB."""
    step = 16 * 1024

    def runs(limit):
        ident = f"least-{os.getpid()}"
        try:
            runtime.call("run", "--bundle", bundles.limited(scratch, bundle, limit), ident)
            return True
        except Failed:
            runtime.discard(ident)
            return False

    low, high = 0, 64 * 1024 * 1024 // step
    if not runs(high * step):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if runs(middle * step) else (middle, high)
    return high * step // 1024
