"""A strictly confined snap with Debian's docker.io, laid out as the docker snap is, with our hook and without."""

import shutil

from common import HERE, WORK, alone, key_of
from image import SYSTEMS, unpack

PACKAGES = ["docker.io", "docker-cli", "containerd", "runc", "iptables"]
PROGRAMS = ["usr/sbin/dockerd", "usr/sbin/docker-proxy", "usr/bin/docker", "usr/bin/containerd",
            "usr/bin/containerd-shim-runc-v2", "usr/bin/ctr", "usr/sbin/runc"]
SERVICES = HERE / "docker-snap"
# The docker snap's own for its daemon; and for the hook, which it does not have, what our guide recommends for it.
DAEMON = ["firewall-control", "log-observe", "network-bind", "network-control", "privileged", "support"]
HOOK = ["firewall-control", "mount-observe", "network-bind", "network-control", "privileged", "process-control", "system-observe"]


class Docker:
    """The packages of one system, unpacked."""

    def __init__(self, system):
        self.system = system
        self.path = WORK / system / f"docker-{key_of(*PACKAGES)}"

    @alone("docker")
    def build(self):
        if not (self.path / "done").exists():
            shutil.rmtree(self.path, ignore_errors=True)
            unpack(SYSTEMS[self.system], self.path, PACKAGES)
            (self.path / "done").touch()
        return self


# The snaps: with our hook, and without.
SNAPS = {"docker.snap": True, "docker-nohook.snap": False}


def snap_yaml(base, hook):
    plugs = {name: None for name in sorted({*DAEMON, *HOOK}) if hook or name in DAEMON}
    plugs["support"] = {"interface": "docker-support"}
    plugs["privileged"] = {"interface": "docker-support", "privileged-containers": True}
    made = {"name": "docker", "version": "1", "summary": "Debian's docker.io as the docker snap lays it out", "description": "For tests.",
            "base": base, "confinement": "strict", "grade": "devel", "architectures": ["amd64"],
            "apps": {"dockerd": {"command": "bin/dockerd-wrapper", "daemon": "simple", "plugs": DAEMON}}, "plugs": plugs}
    return {**made, "hooks": {"remove": {"plugs": HOOK}}} if hook else made


def furnish(tree, system, hook):
    """The files of the snap; `hook` is our program, or None."""
    root = Docker(system).build().path
    (tree / "bin").mkdir()
    for program in PROGRAMS:
        shutil.copy(root / program, tree / "bin")
    shutil.copy(root / "usr/bin/tini-static", tree / "bin/docker-init")
    shutil.copy(SERVICES / "dockerd-wrapper", tree / "bin")
    if hook:
        (tree / "meta/hooks").mkdir(parents=True)
        shutil.copy(hook, tree / "meta/hooks/remove")
