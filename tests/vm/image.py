"""The guest's disk (Debian packages, unpacked by mmdebstrap, written into ext4 without mounting anything), and the emulator."""

import os
import shutil
from pathlib import Path

from common import HERE, WORK, Failure, alone, key_of, need_packages, output, run, say

# spread's name of the system → Debian's name of the release.
SYSTEMS = {"debian-forky": "forky", "debian-trixie": "trixie"}
DEFAULT_SYSTEM = "debian-forky"

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
DISK_SIZE = "8G"
EMULATOR = "forky"        # the release whose QEMU is used
PACKAGES = [
    # the system; `mount` is named because util-linux no longer pulls it in
    "systemd", "systemd-sysv", "udev", "dbus", "kmod", "mount", "util-linux", "procps", "psmisc",
    "linux-image-cloud-amd64", "initramfs-tools", "zstd", "openssh-server", "ca-certificates", "less", "jq", "strace",
    "python3", "busybox-static", "fuse3", "e2fsprogs",
    # what is tested with
    "snapd", "apparmor", "squashfs-tools", "containerd", "runc", "containernetworking-plugins",
    "iproute2", "iptables", "nftables", "conntrack", "socat", "zip", "unzip",
]


class Image:
    """One system's disk, kernel, initrd, login key, and the root directory that snaps are packed from."""

    packages = PACKAGES
    disk_size = DISK_SIZE
    prefix = "image"

    def __init__(self, system):
        if system not in SYSTEMS:
            raise Failure(f"no such system: {system} (there are {', '.join(SYSTEMS)})")
        self.system = system
        self.key = key_of(system, *self.packages, self.disk_size, HERE / "guest")
        self.path = WORK / system / f"{self.prefix}-{self.key}"

    disk = property(lambda self: self.path / "disk.img")
    kernel = property(lambda self: self.path / "vmlinuz")
    initrd = property(lambda self: self.path / "initrd.img")
    login = property(lambda self: self.path / "login")
    root = property(lambda self: self.path / "root")

    @alone("image")
    def build(self):
        """Builds the image unless it is there; about a minute."""
        if (self.path / "done").exists():
            return self
        need_packages(e2fsprogs="mke2fs", openssh_client="ssh-keygen")
        for old in (WORK / self.system).glob(f"{self.prefix}-*"):
            shutil.rmtree(old)
        self.path.mkdir(parents=True)
        say(f"{self.system}: building the image")
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "vm", "-f", self.login)
        self.unpack()
        # The archive's own files only: what is booted and what is packed into snaps is the same tree.
        shutil.copy(next((self.root / "boot").glob("vmlinuz-*")), self.kernel)
        shutil.copy(next((self.root / "boot").glob("initrd.img-*")), self.initrd)
        (self.path / "packages.txt").write_text(output("chroot", self.root, "dpkg-query", "-W"))
        run("mke2fs", "-q", "-t", "ext4", "-L", "root", "-O", "^has_journal", "-E", "lazy_itable_init=1",
            "-d", self.root, self.disk, self.disk_size)
        (self.path / "done").touch()
        say(f"{self.system}: image built, {self.disk.stat().st_blocks // 2048} MiB")
        return self

    def unpack(self):
        hooks = HERE / "guest"
        options = ["--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/doc/*",
                   "--dpkgopt=path-exclude=/usr/share/locale/*"]
        unpack(SYSTEMS[self.system], self.root, self.packages, *options,
               f"--essential-hook={hooks}/before-packages \"$1\"",
               f"--customize-hook={hooks}/after-packages \"$1\" {self.login}.pub")
        (self.root / "etc/apt/sources.list").write_text("")
        for path in (self.root / "etc/apt/sources.list.d").glob("*"):
            path.unlink()


class Emulator:
    """QEMU of a newer release than this host's may be: 11.1 boots the guest in 50 s where 7.2 takes 64. It is run from its
    own tree with that tree's loader and libraries, without chroot."""

    path = WORK / f"qemu-{EMULATOR}"

    @alone("emulator")
    def build(self):
        if not (self.path / "done").exists():
            shutil.rmtree(self.path, ignore_errors=True)
            unpack(EMULATOR, self.path, ["qemu-system-x86", "qemu-utils"])
            (self.path / "done").touch()
        return self

    def command(self, program):
        libraries = self.path / "usr/lib/x86_64-linux-gnu"
        return ["env", f"QEMU_MODULE_DIR={libraries}/qemu", self.path / "lib64/ld-linux-x86-64.so.2",
                "--library-path", libraries, self.path / "usr/bin" / program]

    def firmware(self):
        return [part for name in ("qemu", "seabios") for part in ("-L", self.path / "usr/share" / name)]


def unpack(release, root, packages, *options):
    """Debian packages and what they depend on, in the directory root."""
    need_packages(mmdebstrap="mmdebstrap")
    if os.geteuid() != 0:
        raise Failure("only root can unpack Debian packages (mmdebstrap --mode=root)")
    run("mmdebstrap", "--mode=root", "--variant=apt", "--components=main", f"--keyring={KEYRING}",
        "--hook-dir=/usr/share/mmdebstrap/hooks/maybe-merged-usr",
        '--aptopt=Apt::Install-Recommends "false"',
        # A mirror may lag behind the date on its Release file.
        '--aptopt=Acquire::Check-Valid-Until "false"',
        *options, f"--include={','.join(packages)}",
        release, root, f"deb [signed-by={KEYRING}] {mirror()} {release} main",
        log=root.parent / f"{root.name}.log")


def mirror():
    """The mirror that this machine itself uses."""
    for path in sorted(Path("/etc/apt").glob("sources.list*")) + sorted(Path("/etc/apt/sources.list.d").glob("*")):
        for line in path.read_text().splitlines() if path.is_file() else []:
            if line.startswith(("URIs:", "deb ")):
                found = [word for word in line.split() if word.startswith("http")]
                if found:
                    return found[0]
    return "http://deb.debian.org/debian"
