"""The bundles that are run, all with the same root filesystem and configuration for every runtime."""

import copy
import json
import os
import subprocess
from pathlib import Path

from runtimes import HACK

MOUNTS, MASKS = 200, 256


def write(directory, config):
    directory.mkdir()
    Path(directory, "config.json").write_text(json.dumps(config))
    return str(directory)


def make(scratch, runtime):
    """Name -> path of the bundle."""
    made, configs = {}, {}
    for kind in ("default", "docker"):
        made[kind] = str(scratch / kind)
        subprocess.run([HACK / "bundle", made[kind], kind, "/bin/true"], check=True, stdout=subprocess.DEVNULL,
                       env={**os.environ, "RUNTIME": runtime.path})
        config = Path(made[kind], "config.json")
        # The versions that Debian 12 ships take no newer one, and nothing in these bundles needs it.
        configs[kind] = {**json.loads(config.read_text()), "ociVersion": "1.0.2"}
        config.write_text(json.dumps(configs[kind]))
    rootfs = os.path.join(made["default"], "rootfs")

    def variant():
        config = copy.deepcopy(configs["default"])
        config["root"]["path"] = rootfs
        return config

    sleeping = variant()
    sleeping["process"]["args"] = ["/bin/sleep", "3600"]
    made["sleeping"] = write(scratch / "sleeping", sleeping)

    mounts = variant()
    source = scratch / "source"
    source.mkdir()
    mounts["mounts"] += [{"destination": f"/dev/shm/{n}", "type": "bind", "source": str(source),
                          "options": ["bind", "ro"]} for n in range(MOUNTS)]
    made["mounts"] = write(scratch / "mounts", mounts)

    masks = variant()
    names = sorted(f"/proc/sys/{found.relative_to('/proc/sys')}" for found in Path("/proc/sys").glob("*/*/*"))
    masks["linux"]["maskedPaths"] = [name for name in names if not name.startswith("/proc/sys/net")][:MASKS]
    made["masks"] = write(scratch / "masks", masks)

    rootless = variant()
    namespaces = [one for one in rootless["linux"]["namespaces"] if one["type"] not in ("network", "cgroup")]
    mapping = {"containerID": 0, "size": 1}
    rootless["linux"] |= {"namespaces": namespaces + [{"type": "user"}], "resources": {},
                          "uidMappings": [{**mapping, "hostID": 65534}], "gidMappings": [{**mapping, "hostID": 65534}]}
    rootless["mounts"] = [one for one in rootless["mounts"] if one["destination"] in ("/proc", "/dev", "/dev/shm")]
    made["rootless"] = write(scratch / "rootless", rootless)
    return made


def limited(scratch, bundle, limit):
    """The default bundle with a memory limit."""
    config = json.loads(Path(bundle, "config.json").read_text())
    config["root"]["path"] = os.path.join(bundle, "rootfs")
    config["linux"].setdefault("resources", {})["memory"] = {"limit": limit}
    directory = scratch / "limited"
    directory.mkdir(exist_ok=True)
    Path(directory, "config.json").write_text(json.dumps(config))
    return str(directory)
