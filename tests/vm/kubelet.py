"""A real kubelet, built from Debian bookworm's source package `kubernetes` with bookworm's Go.

It is the last release of Debian that has all of Kubernetes: newer source packages hold kubectl only. Nothing of it is in
the repository; what is made here stays below target/vm/kubelet-KEY, and the key is all that goes into the build.
"""

import os
import re
import shutil
from pathlib import Path

from common import HERE, WORK, Failure, alone, key_of, need_packages, run, say
from image import KEYRING, mirror

RELEASE = "bookworm"
SOURCE, VERSION = "kubernetes", "1.20.5+really1.20.2-1.1+deb12u1"
UPSTREAM = "v1.20.2"      # what the source is, whatever its version is called
GO = ["golang-1.19-go", "golang-1.19-src"]
PACKAGE = "k8s.io/kubernetes"
FLAGS = ["-trimpath", "-ldflags", f"-s -w -X {PACKAGE}/vendor/k8s.io/component-base/version.gitVersion={UPSTREAM}"
         f" -X {PACKAGE}/vendor/k8s.io/component-base/version.gitMajor=1"
         f" -X {PACKAGE}/vendor/k8s.io/component-base/version.gitMinor=20"]
# This kubelet speaks the CRI's v1alpha2 only, and containerd 2 its v1 only. The messages on the wire are the same, the names
# of the service and of the messages are not.
CRI = "staging/src/k8s.io/cri-api/pkg/apis/runtime/v1alpha2/api.pb.go"
RENAMES = [(rb'"runtime\.v1alpha2\.', b'"runtime.v1.'), (rb'"/runtime\.v1alpha2\.', b'"/runtime.v1.')]
RENAMED_LINES = 191
NICE = ["nice", "-n", "19"]


class Kubelet:
    """One program, static: ten minutes of two idle processors, 1.5 GB of disk while it is made, 105 MB afterwards."""

    def __init__(self):
        self.key = key_of(SOURCE, VERSION, *GO, *FLAGS, *(part for pair in RENAMES for part in map(repr, pair)))
        self.path = WORK / f"kubelet-{self.key}"

    program = property(lambda self: self.path / "kubelet")

    @alone("kubelet")
    def build(self):
        if (self.path / "done").exists():
            return self
        # What an interrupted build left in Go's cache is used again.
        for old in WORK.glob("kubelet-*"):
            if old != self.path and old.is_dir():
                shutil.rmtree(old)
        say(f"building kubelet {UPSTREAM} from {SOURCE} {VERSION} at the lowest priority")
        need_packages(dpkg_dev="dpkg-source")
        self.fetch()
        self.patch()
        self.compile()
        for part in ["apt", "go", "gopath", "gocache", "source"]:
            shutil.rmtree(self.path / part, ignore_errors=True)
        (self.path / "done").touch()
        say(f"kubelet built, {self.program.stat().st_size >> 20} MiB")
        return self

    def fetch(self):
        """Go, and the source. With lists of apt's own, so that neither the host's sources nor its packages matter."""
        apt, source, go = self.path / "apt", self.path / "source", self.path / "go"
        for folder in [source, go]:
            shutil.rmtree(folder, ignore_errors=True)
        for folder in [apt / "state/lists/partial", apt / "cache/archives/partial", source, go]:
            folder.mkdir(parents=True, exist_ok=True)
        suites = [(mirror(), RELEASE), (mirror(), f"{RELEASE}-updates"), (security(), f"{RELEASE}-security")]
        (apt / "sources.list").write_text("".join(f"{kind} [signed-by={KEYRING}] {url} {suite} main\n"
                                                  for url, suite in suites for kind in ("deb", "deb-src")))
        options = {"Dir::Etc::sourcelist": apt / "sources.list", "Dir::Etc::sourceparts": "-", "Dir::State": apt / "state",
                   "Dir::Cache": apt / "cache", "Acquire::Check-Valid-Until": "false", "APT::Sandbox::User": "root"}
        flags = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
        log = self.path / "fetch.log"
        run("apt-get", *flags, "update", log=log)
        run("apt-get", *flags, "source", "--download-only", f"{SOURCE}={VERSION}", cwd=source, log=log)
        run("apt-get", *flags, "download", *GO, cwd=apt, log=log)
        for package in apt.glob("*.deb"):
            run("dpkg-deb", "-x", package, go)
        # GOPATH mode: in module mode this tree's go.mod would have to be changed.
        tree = self.path / "gopath/src" / PACKAGE
        shutil.rmtree(self.path / "gopath", ignore_errors=True)
        tree.parent.mkdir(parents=True)
        run("dpkg-source", "--no-check", "-x", next(source.glob("*.dsc")), tree, log=log)

    def patch(self):
        path = self.path / "gopath/src" / PACKAGE / CRI
        lines = path.read_bytes().splitlines(keepends=True)
        changed = 0
        for number, line in enumerate(lines):
            for old, new in RENAMES:
                line = re.sub(old, new, line)
            changed += line != lines[number]
            lines[number] = line
        if changed != RENAMED_LINES:
            raise Failure(f"{CRI}: {changed} lines name the CRI's version, expected {RENAMED_LINES}: is it another source?")
        path.write_bytes(b"".join(lines))

    def compile(self):
        root = next(self.path.glob("go/usr/lib/go-*"))
        # The package's own links lead to /usr/share: to this tree's instead.
        share = self.path / "go/usr/share" / root.name
        for link in [link for link in root.iterdir() if link.is_symlink()]:
            if not link.exists() or not str(link.resolve()).startswith(str(self.path)):
                link.unlink()
                link.symlink_to(share / link.name)
        environment = dict(os.environ, GOROOT=str(root), GOPATH=str(self.path / "gopath"), GOCACHE=str(self.path / "gocache"),
                           GO111MODULE="off", CGO_ENABLED="0", GOFLAGS="", GOTOOLCHAIN="local")
        run(*NICE, root / "bin/go", "build", *FLAGS, "-o", self.program, f"{PACKAGE}/cmd/kubelet",
            cwd=self.path / "gopath/src" / PACKAGE, env=environment, log=self.path / "build.log")


def security():
    """Where this release's security updates are: as this machine has it, or as Debian says."""
    for path in sorted(Path("/etc/apt/sources.list.d").glob("*")) + [Path("/etc/apt/sources.list")]:
        for word in path.read_text().split() if path.is_file() else []:
            if word.startswith("http") and word.rstrip("/").endswith("debian-security"):
                return word
    return "http://deb.debian.org/debian-security"


# The test snap with this kubelet as its supervisor: the variant's name → kubelet's and runc's cgroup driver.
DRIVERS = {"kubelet": "cgroupfs", "kubelet-systemd": "systemd"}
# What strict MicroK8s gives the service that kubelet runs in, and where it binds kubelet's directories.
PLUGS = ["docker-privileged", "firewall-control", "hardware-observe", "k8s-kubelet", "log-observe", "mount-observe",
         "network-bind", "network-control", "network-observe", "process-control", "system-observe"]
LAYOUT = ["/var/lib/kubelet", "/var/log/containers", "/var/log/pods", "/usr/libexec"]
SERVICES = HERE / "kubelet-snap"


def declare(document):
    """The variant's meta/snap.yaml, from the reference snap's."""
    document["apps"]["daemon-kubelite"]["plugs"] = PLUGS
    for plug in PLUGS:
        document["plugs"].setdefault(plug, None)
    for folder in LAYOUT:
        document["layout"][folder] = {"bind": f"$SNAP_COMMON{folder}"}
    return document


def furnish(tree, driver, busybox):
    """Puts into the tree of the test snap what the variant has besides, and in the place of the stand-in."""
    shutil.copy(Kubelet().build().program, tree / "bin/kubelet")
    shutil.copy(SERVICES / "run-kubelite", tree / "services/run-kubelite")
    shutil.copy(busybox, tree / "images/busybox.tar")
    (tree / "cgroup-driver").write_text(driver + "\n")
    # kubelet's pods publish ports of the host, which the stand-in's do not.
    replace(tree / "services/run-containerd", '''        "ranges": [[{"subnet": "10.1.0.0/16"}]]
      }
    }
''', '''        "ranges": [[{"subnet": "10.1.0.0/16"}]]
      }
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
''')
    if driver == "systemd":
        runc = '      runtime_type = "io.containerd.runc.v2"\n'
        options = '      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]\n        SystemdCgroup = true\n'
        replace(tree / "services/run-containerd", runc, runc + options)


def replace(path, old, new):
    text = path.read_text()
    if text.count(old) != 1:
        raise Failure(f"{path.name} does not hold what is to be replaced in it: {old}")
    path.write_text(text.replace(old, new))
