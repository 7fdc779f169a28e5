"""The snaps that the guest installs: a stub of snapd, a base, and the reference snap under the name `microk8s`.

The last one is packed from snap/snapcraft.yaml and snap/local, as snapcraft would, in variants that differ in the remove
hook only. Everything else comes from the image's own Debian packages and from our own build.
"""

import os
import shutil
import stat
import tempfile
from pathlib import Path

import yaml

import docker
import kubelet
import upstream
from common import REPO, WORK, Failure, key_of, need_packages, output, run, say

# Variants of the test snap: the plugs of its hook, None for no hook at all. In `script` it is a script that ends with ours.
UPSTREAM = ["firewall-control", "k8s-kubelet", "mount-observe", "network-bind", "network-control"]
VARIANTS = {
    "recommended": "as in snapcraft.yaml",
    "script": "as in snapcraft.yaml",
    "upstream": UPSTREAM,
    "noplugs": [],
    "nohook": None,
    # With a real kubelet (kubelet.py), which takes a while to build: packed only where it is asked for.
    **{name: "as in snapcraft.yaml" for name in kubelet.DRIVERS},
    # For a system container, in which nobody may lower a process's oom_score_adj (nested.py).
    "nested": "as in snapcraft.yaml",
}
ON_DEMAND = [*kubelet.DRIVERS, "nested"]
# Faulty programs, and what each is put in the place of: to see the suite fail.
MUTANTS = {"no-op": ["remove", "snap-teardown"], "shims-first": ["remove"]}
OURS = ["remove", "snap-teardown"]
# Those of tests/tools and tests/torture that tasks call; podmaker also runs in the snap.
TOOLS = ["leftovers", "podmaker", "stuck-fuse", "torture"]
IN_PODS = ["app", "listen"]
FROM_LOCAL = ["services", "pods.apparmor", "remove-hook-script"]
# What users run: root file systems that the suites outside of machines have, too.
SERVICES = "services.tar"
# Directories of the root tree that a base needs; the rest of it would only make the snap larger.
BASE_WITHOUT = ["boot", "usr/lib/modules", "usr/lib/snapd", "usr/lib/firmware", "usr/share", "usr/src", "usr/include",
                "usr/bin/containerd*", "usr/bin/ctr", "usr/sbin/runc", "usr/bin/runc", "usr/lib/cni", "usr/bin/perl*",
                "usr/lib/x86_64-linux-gnu/perl*", "usr/lib/x86_64-linux-gnu/gconv", "usr/lib/python3*", "usr/bin/snap",
                "usr/bin/python3*", "usr/lib/git-core", "usr/bin/qemu*", "var", "root", "run", "tmp", "dev", "srv"]
BASE_DIRECTORIES = ["boot", "dev", "home", "media", "meta", "mnt", "opt", "proc", "root", "run", "snap", "sys", "tmp", "writable",
                    "etc/alternatives", "etc/apparmor", "etc/apparmor.d", "etc/cni", "etc/ssl", "usr/lib/firmware",
                    "usr/lib/modules", "usr/lib/snapd", "usr/share", "usr/src", "var/lib/cni", "var/lib/dhcp",
                    "var/lib/kubelet", "var/lib/snapd", "var/log", "var/snap", "var/tmp"]


def build_programs(mutant):
    """Ours as users build them, and the tests' own, by plain cargo build. Gives the directory they are in."""
    cargo = shutil.which("cargo") or Path.home() / ".cargo/bin/cargo"  # spread sets a PATH of its own
    build = [cargo, "build", "--quiet", "--locked", "--release"]
    run(*build, cwd=REPO)
    tools = [*TOOLS, *IN_PODS, *([mutant] if mutant else [])]
    run(*build, "-p", "test-tools", "-p", "torture", *(word for name in tools for word in ("--bin", name)), cwd=REPO)
    found = sorted(REPO.glob("target/*/release/podmaker"))
    if not found:
        raise Failure("cargo build left no podmaker under target/*/release")
    return found[0].parent


class Snaps:
    """The packed files, below target/vm/SYSTEM/snaps-KEY; one key for each set of inputs."""

    def __init__(self, image, mutant=None):
        self.image = image
        self.programs = build_programs(mutant)
        self.mutant = mutant
        infra = key_of(image.key, *BASE_WITHOUT, *BASE_DIRECTORIES)
        ours = [self.program(name) for name in [*OURS, *TOOLS, *IN_PODS]]
        self.infra = WORK / image.system / f"infra-{infra}"
        # The states of the runner are keyed by what the guest gets from here.
        local = [REPO / "snap/local" / name for name in FROM_LOCAL]
        self.key = key_of(infra, *ours, *local, *(dump(snap_yaml(name)) for name in VARIANTS), kubelet.Kubelet().key,
                          kubelet.SERVICES)
        self.path = WORK / image.system / f"snaps-{self.key}"

    def program(self, name):
        """One of our own programs, or what is in its place."""
        return self.programs / (self.mutant if name in MUTANTS.get(self.mutant, []) else name)

    def build(self, variants=tuple(VARIANTS)):
        for old in [*self.infra.parent.glob("infra-*"), *self.path.parent.glob("snaps-*")]:
            if old not in (self.infra, self.path):
                shutil.rmtree(old)
        need_packages(squashfs_tools="mksquashfs", python3_yaml="python3")
        if not (self.infra / "done").exists():
            self.infra.mkdir(parents=True, exist_ok=True)
            self.pack_snapd()
            self.pack_base()
            (self.infra / "done").touch()
        if not (self.path / "done").exists():
            self.path.mkdir(parents=True, exist_ok=True)
            programs = [f"{self.programs}/{program}:/{program}" for program in IN_PODS]
            self.image_of("pause.tar", "registry.k8s.io/pause:3.10", "/app pause", *programs)
            self.image_of("app.tar", "docker.io/library/app:1", "/app", *programs)
            busybox = self.image.root / "usr/bin/busybox"
            self.image_of("busybox.tar", "docker.io/library/busybox:1", "/bin/busybox", f"{busybox}:/bin/busybox")
            (self.path / "done").touch()
        for variant in variants:
            if not self.packed(variant).exists():
                self.pack_variant(variant)
        return self

    def build_others(self, names):
        """What a task names in SNAPS, and that is on the machine of no other task: of docker.py, of upstream.py, and SERVICES."""
        made = []
        for name in names:
            if name == SERVICES:
                self.publish_services()
                continue
            if name == upstream.SNAP:
                self.publish_upstream()
                continue
            hook = self.program("remove") if docker.SNAPS[name] else None
            document = dump(docker.snap_yaml(reference()["base"], hook))
            folder = self.image.path.parent / f"others-{key_of(self.image.key, *docker.PACKAGES, docker.SERVICES, document, *([hook] if hook else []))}"
            made.append(folder / name)
            if made[-1].exists():
                continue
            with staging() as tree:
                docker.furnish(tree, self.image.system, hook)
                write(tree / "meta/snap.yaml", document)
                run("chmod", "-R", "go+rX", tree)
                folder.mkdir(exist_ok=True)
                pack(tree, folder / "packing")
                (folder / "packing").rename(made[-1])
        for old in self.image.path.parent.glob("others-*"):
            if made and old not in [path.parent for path in made]:
                shutil.rmtree(old)
        for path in made:
            copy(path, self.published("any").parent / path.name)

    def publish_services(self):
        fetched = REPO / "target/containerd"
        run(REPO / "tests/tools/fetch-containerd", fetched)
        run("tar", "--create", "--file", self.published("any").parent / SERVICES, "--directory", fetched / "services", ".")

    def publish_upstream(self):
        path = self.path / f"upstreams-hook-{upstream.key()}"
        if not path.exists():
            self.pack_variant("upstream", path)
        copy(path, self.published("any").parent / upstream.SNAP)

    def packed(self, variant):
        return self.path / f"microk8s-{variant}.snap"

    def published(self, variant):
        return REPO / "target/spread" / self.image.system / self.packed(variant).name

    def publish(self):
        """Puts what tasks need below target/spread/SYSTEM, which spread sends to the machine with the project."""
        to = REPO / "target/spread" / self.image.system
        shutil.rmtree(to, ignore_errors=True)
        for source in [*self.infra.glob("*.snap"), *self.path.glob("*.snap"), *self.path.glob("*.tar")]:
            copy(source, to / source.name)
        for name in [*OURS, *TOOLS, *IN_PODS]:
            copy(self.program(name), to / "bin" / name)
        return to

    # What snapd itself wants

    def pack_snapd(self):
        """A snapd snap with the distribution's snap-confine profile and an old version, so that snapd never runs it."""
        with staging() as tree:
            write(tree / "meta/snap.yaml", dump({"name": "snapd", "version": "1", "type": "snapd", "summary": "stub",
                                                 "description": "stub", "license": "GPL-3.0"}))
            write(tree / "usr/lib/snapd/info", "VERSION=1\nSNAPD_APPARMOR_REEXEC=0\n")
            profile = self.image.root / "etc/apparmor.d/usr.lib.snapd.snap-confine.real"
            if not profile.exists():
                profile = self.image.root / "etc/apparmor.d/usr.lib.snapd.snap-confine"
            write(tree / "etc/apparmor.d/usr.lib.snapd.snap-confine", profile.read_text())
            pack(tree, self.infra / "snapd.snap")

    def pack_base(self):
        """A core-named base of the image's own packages: a shell, mount, iproute2, jq, apparmor_parser."""
        name = reference()["base"]
        say(f"{self.image.system}: packing {name}")
        with staging() as tree:
            run("cp", "-al", *self.image.root.glob("*"), tree)
            for pattern in BASE_WITHOUT:
                for path in tree.glob(pattern):
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            # The program itself, not what is in its place on the guest (guest/apparmor_parser).
            (tree / "usr/sbin/apparmor_parser.distrib").rename(tree / "usr/sbin/apparmor_parser")
            # It loads the pods' profile, and wants to know the kernel's features.
            shutil.copytree(self.image.root / "usr/share/apparmor-features", tree / "usr/share/apparmor-features")
            for folder in BASE_DIRECTORIES:
                (tree / folder).mkdir(parents=True, exist_ok=True)
            for link, to in {"usr/bin/snapctl": "../lib/snapd/snapctl", "var/run": "../run"}.items():
                (tree / link).unlink(missing_ok=True)
                (tree / link).symlink_to(to)
            write(tree / "meta/snap.yaml", dump({"name": name, "version": "1", "type": "base", "summary": "stand-in",
                                                 "description": "Debian's packages in the place of the real base"}))
            pack(tree, self.infra / f"{name}.snap")

    # The test snap

    def pack_variant(self, variant, theirs=None):
        """With `theirs`, into that file, and with MicroK8s' own hook in the place of ours."""
        with staging() as tree:
            root = self.image.root
            for program in ["usr/bin/containerd", "usr/bin/containerd-shim-runc-v2", "usr/bin/ctr"]:
                copy(root / program, tree / "bin" / Path(program).name)
            copy(next(path for path in [root / "usr/sbin/runc", root / "usr/bin/runc"] if path.exists()), tree / "bin/runc")
            for plugin in ["bridge", "host-local", "loopback", "portmap"]:
                copy(root / "usr/lib/cni" / plugin, tree / "opt/cni/bin" / plugin)
            for program in ["snap-teardown", "podmaker"]:
                copy(self.program(program), tree / "bin" / program)
            local = REPO / "snap/local"
            shutil.copytree(local / "services", tree / "services")
            copy(local / "pods.apparmor", tree / "pods.apparmor")
            for image in ["pause.tar", "app.tar"]:
                copy(self.path / image, tree / "images" / image)
            if variant == "script":
                copy(local / "remove-hook-script", tree / "meta/hooks/remove")
            elif VARIANTS[variant] is not None:
                copy(self.program("remove"), tree / "meta/hooks/remove")
            if variant == "nested":
                kubelet.replace(tree / "services/run-containerd", '  sandbox_image = "registry.k8s.io/pause:3.10"\n',
                                '  sandbox_image = "registry.k8s.io/pause:3.10"\n  restrict_oom_score_adj = true\n')
            if variant in kubelet.DRIVERS:
                kubelet.furnish(tree, kubelet.DRIVERS[variant], self.path / "busybox.tar")
            document = snap_yaml(variant)
            if theirs:
                upstream.furnish(tree, root)
                document["environment"] = upstream.ENVIRONMENT
            write(tree / "meta/snap.yaml", dump(document))
            run("chmod", "-R", "go+rX", tree)
            # A file by that name is whole.
            pack(tree, self.path / "packing")
            (self.path / "packing").rename(theirs or self.packed(variant))

    def image_of(self, out, name, command, *programs):
        output(self.programs / "podmaker", "image", "--name", name, "--command", command, "--out", self.path / out, *programs)


def reference():
    return yaml.safe_load((REPO / "snap/snapcraft.yaml").read_text())


def snap_yaml(variant):
    """meta/snap.yaml as snapcraft would write it from the reference, renamed, with the variant's hook."""
    source = reference()
    made = {name: source[name] for name in ["version", "summary", "description", "license", "base", "confinement", "grade",
                                            "apps", "plugs", "layout"]}
    made = {"name": "microk8s", "architectures": [output("dpkg", "--print-architecture").strip()], **made}
    hook = VARIANTS[variant]
    if hook is None:
        bound = set()
    else:
        plugs = hook if isinstance(hook, list) else source["hooks"]["remove"]["plugs"]
        made["hooks"] = {"remove": {"plugs": plugs}} if plugs else {"remove": {}}
        bound = set(plugs)
    # A plug that is bound to nothing would be bound to everything.
    bound = bound.union(*(app["plugs"] for app in source["apps"].values()))
    made["plugs"] = {name: plug for name, plug in source["plugs"].items() if name in bound}
    return kubelet.declare(made) if variant in kubelet.DRIVERS else made


class staging:
    """A directory to pack from, on the file system of the target directory (hard links)."""

    def __enter__(self):
        WORK.mkdir(parents=True, exist_ok=True)
        self.path = Path(tempfile.mkdtemp(prefix="pack-", dir=WORK))
        os.chmod(self.path, 0o755)
        return self.path

    def __exit__(self, *_):
        shutil.rmtree(self.path)


def pack(tree, out):
    out.unlink(missing_ok=True)
    run("mksquashfs", tree, out, "-noappend", "-comp", "zstd", "-Xcompression-level", "3", "-no-xattrs", "-no-fragments",
        "-all-root", "-quiet", "-no-progress", log=WORK / "mksquashfs.log")


def copy(source, to):
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, to)
    to.chmod(stat.S_IMODE(source.stat().st_mode) | 0o444)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def dump(document):
    return yaml.safe_dump(document, sort_keys=False, width=1000)
