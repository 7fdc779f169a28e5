"""A system container (Incus) in a virtual machine, with a snapd of its own and the test snap in it."""

from common import HERE, WORK, Failure, run, say
from image import PACKAGES, Emulator, Image
from machine import Machine, choose_accel
from snaps import Snaps
from spread import Project
from states import send

INCUS = ["incus", "incus-client", "uidmap", "lxcfs", "squashfuse", "attr", "acl", "rsync", "xz-utils"]
MEMORY = 4096


class Host(Image):
    """The machine's disk with Incus on it."""

    packages = PACKAGES + INCUS
    disk_size = "12G"
    prefix = "nested"


def nested(options):
    """Takes some eight minutes, three of them the image's, which is kept."""
    plain = Image(options.system).build()
    snaps = Snaps(plain, options.hook).build(["nested"])
    snaps.publish()
    host = Host(options.system).build()
    Emulator().build()
    guest = WORK / options.system / f"guest-{plain.key}.squashfs"
    if not guest.exists():
        for old in guest.parent.glob("guest-*"):
            old.unlink()
        run("mksquashfs", plain.root, guest.with_suffix(".part"), "-noappend", "-comp", "zstd", "-Xcompression-level", "1", "-quiet",
            "-no-progress", "-e", "boot", "usr/lib/modules", "usr/lib/firmware", log=WORK / "mksquashfs.log")
        guest.with_suffix(".part").rename(guest)
    machine = Machine(host, f"{options.system}-nested", choose_accel(plain), options.cpus, memory=MEMORY)
    project = Project()
    log = WORK / options.system / "logs" / "nested.log"
    try:
        machine.boot()
        send(machine, project, ["tests", "spread.yaml", "snap/local", "target/spread"])
        machine.put(guest.parent, [guest.name], "/root")
        status, printed = machine.ssh(f"SPREAD_SYSTEM={options.system} {project.remote}/tests/vm/nested/on-the-host /root/{guest.name} 2>&1",
                                      limit=3000, check=False)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(printed)
    finally:
        if not options.keep:
            machine.stop()
    print("\n".join(printed.splitlines()[-60:]))
    if status:
        raise Failure(f"{HERE.name}/nested failed (see {log})")
    say("nested: passed")
