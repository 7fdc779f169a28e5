"""One virtual machine under QEMU: boot, save to a file, restore from it, talk to it over ssh. Loopback only."""

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from common import HERE, WORK, Failure, need_packages, run, say
from image import Emulator

BOOT_LIMIT = int(os.environ.get("VM_BOOT_LIMIT", "240"))  # seconds to the guest's own "ready" line; 35 to 50 are usual under TCG
KVM_LIMIT = 40            # what a guest may take under KVM before we call it unusable
SAVE_LIMIT = 60
RESTORE_LIMIT = 240       # 2 to 6 s are usual; a state is half a gigabyte, which a busy disk may read at 10 MB/s
MEMORY = 2304
CONSOLE = "console=ttyS0 8250.nr_uarts=1 quiet loglevel=4 systemd.show_status=0"
SECURITY = "apparmor=1 security=apparmor audit=1 audit_backlog_limit=8192"
COMMAND_LINE = f"root=/dev/vda rw {CONSOLE} {SECURITY} net.ifnames=0 mitigations=off"

# Pages of zeros are not saved: a state has half the size, and is read as much faster.
CLEAR_FREE_MEMORY = """set -e
sync; echo 3 > /proc/sys/vm/drop_caches
mkdir /run/zeros; mount -t tmpfs -o size=100%,huge=always none /run/zeros
head -c $(awk '$1 == "MemFree:" { print ($2 - 131072) * 1024 }' /proc/meminfo) /dev/zero > /run/zeros/all
umount /run/zeros; rmdir /run/zeros"""


class Machine:
    """A VM by name. Its files are in target/vm/machines/NAME; only its sockets are in a short /tmp directory."""

    def __init__(self, image, name, accel="tcg", cpus=1, memory=MEMORY):
        self.image, self.name, self.accel, self.cpus, self.memory = image, name, accel, cpus, memory
        self.path = WORK / "machines" / name
        self.facts = self.path / "machine.json"
        self.port = self.sockets = self.process = None
        if self.facts.exists():
            known = json.loads(self.facts.read_text())
            self.port, self.process, self.sockets = known["port"], known["process"], Path(known["sockets"])
            self.accel = known["accel"]

    overlay = property(lambda self: self.path / "disk.qcow2")
    console = property(lambda self: self.path / "console.log")

    # Life

    def alive(self):
        """Our QEMU is a program of that name with our own console file in its arguments: process ids are used again."""
        if not self.process:
            return False
        try:
            words = Path(f"/proc/{self.process}/cmdline").read_bytes()
        except OSError:
            return False
        return str(self.console).encode() in words

    def start(self, backing, ram=None):
        """Starts QEMU on a fresh overlay over `backing`, waiting for RAM from the file `ram` if there is one."""
        need_packages(openssh_client="ssh")
        emulator = Emulator().build()
        self.stop()
        self.path.mkdir(parents=True, exist_ok=True)
        # Unix sockets have short names; the repository's path may be long.
        self.sockets = Path(tempfile.mkdtemp(prefix="vm-", dir="/tmp"))
        self.port = free_port()
        self.console.unlink(missing_ok=True)
        kind = "raw" if backing == self.image.disk else "qcow2"
        run(*emulator.command("qemu-img"), "create", "-q", "-f", "qcow2", "-F", kind, "-b", backing, self.overlay)
        accel = ["-accel", "kvm", "-cpu", "host"]
        if self.accel == "tcg":
            accel = ["-accel", "tcg,thread=multi,tb-size=512", "-cpu", "Nehalem"]
        # guest/apparmor_parser asks it; a program for each connection, no server.
        compiler = f"tcp:10.0.2.100:1-cmd:{HERE}/compile-policy {self.image.root}"
        incoming = ["-incoming", f"exec:cat {shlex.quote(str(ram))}"] if ram else []
        command = [
            *emulator.command("qemu-system-x86_64"), *emulator.firmware(),
            "-machine", "q35,sata=off", *accel, "-smp", self.cpus, "-m", self.memory,
            "-nodefaults", "-display", "none",
            "-kernel", self.image.kernel, "-initrd", self.image.initrd, "-append", COMMAND_LINE,
            "-drive", f"file={self.overlay},if=virtio,format=qcow2,cache=unsafe,discard=unmap",
            "-nic", f"user,model=virtio-net-pci,restrict=on,hostfwd=tcp:127.0.0.1:{self.port}-:22,guestfwd={compiler}",
            "-device", "virtio-rng-pci", "-serial", f"file:{self.console}",
            "-qmp", f"unix:{self.sockets}/qmp,server=on,wait=off", *incoming,
        ]
        with open(self.path / "qemu.log", "wb") as log:
            # A session of its own: an interrupted runner stops its machines itself, in order.
            started = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=log,
                                       stderr=subprocess.STDOUT, start_new_session=True)
        self.child, self.process = started, started.pid
        self.facts.write_text(json.dumps({"port": self.port, "process": self.process, "accel": self.accel,
                                          "sockets": str(self.sockets), "system": self.image.system}))

    def boot(self, limit=BOOT_LIMIT):
        begin = time.monotonic()
        self.start(self.image.disk)
        while b"VM-READY" not in read(self.console):
            if self.ended():
                raise Failure(f"{self.name}: QEMU ended during boot:\n{self.story()}")
            self.check_kernel()
            if time.monotonic() - begin > limit:
                story = self.story()
                self.stop()
                raise Failure(f"{self.name}: not up after {limit} s:\n{story}")
            time.sleep(0.2)
        self.ssh("true")
        say(f"{self.name}: booted in {time.monotonic() - begin:.0f} s ({self.accel})")

    def restore(self, state):
        """From a state saved earlier; then sets the clock, which stood still meanwhile."""
        self.start(state.disk, state.ram)
        with Qmp(self.sockets) as monitor:
            monitor.wait(lambda: monitor.ask("query-status")["status"] == "running", RESTORE_LIMIT, "run again")
        self.set_clock()

    def set_clock(self):
        self.ssh(f"date -s @{time.time():.3f} >/dev/null")

    def save(self, state):
        """Ends the machine, its RAM in state.ram and its disk in state.disk: 'migrated' to a file, some 0.5 s."""
        self.ssh(CLEAR_FREE_MEMORY)
        self.hang_up()
        state.path.mkdir(parents=True, exist_ok=True)
        with Qmp(self.sockets) as monitor:
            monitor.ask("migrate-set-parameters", **{"max-bandwidth": 0})
            monitor.ask("migrate", uri=f"exec:cat > {shlex.quote(str(state.ram))}")
            monitor.wait(lambda: monitor.ask("query-migrate").get("status") == "completed", SAVE_LIMIT, "be saved")
        self.end()
        self.overlay.rename(state.disk)
        self.forget()

    def stop(self):
        if self.alive():
            self.hang_up()
            self.end()
        self.overlay.unlink(missing_ok=True)
        self.forget()

    def end(self):
        if not self.alive():
            return
        os.kill(self.process, signal.SIGTERM)
        begin = time.monotonic()
        while not self.ended():
            if time.monotonic() - begin > 10:
                os.kill(self.process, signal.SIGKILL)
            time.sleep(0.05)

    def ended(self):
        child = getattr(self, "child", None)
        if child is not None and child.pid == self.process:
            return child.poll() is not None
        return not self.alive()

    def forget(self):
        self.facts.unlink(missing_ok=True)
        if self.sockets:
            shutil.rmtree(self.sockets, ignore_errors=True)
        self.port = self.process = self.sockets = None

    def check_kernel(self):
        """A guest whose kernel has panicked answers nothing, and no task is to blame: that ends the run."""
        if b"Kernel panic" in read(self.console):
            story = self.story(60)
            self.stop()
            raise Failure(f"{self.name}: the guest's kernel panicked:\n{story}")

    def story(self, lines=15):
        """The last lines of QEMU's and the guest's console, for a failure's message."""
        said = read(self.path / "qemu.log").decode(errors="replace").splitlines()[-5:]
        return "\n".join(said + read(self.console).decode(errors="replace").splitlines()[-lines:])

    # Talk

    def ssh_command(self, *words):
        options = {
            "StrictHostKeyChecking": "no", "UserKnownHostsFile": "/dev/null", "LogLevel": "ERROR",
            "IdentitiesOnly": "yes", "ConnectTimeout": "120", "ServerAliveInterval": "15", "ServerAliveCountMax": "8",
            "ControlMaster": "auto", "ControlPath": f"{self.sockets}/ssh", "ControlPersist": "600",
        }
        flags = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
        return ["ssh", "-F", "none", "-i", str(self.image.login), *flags, "-p", str(self.port), "root@127.0.0.1", *words]

    def ssh(self, script, stdin=None, limit=None, check=True):
        """Runs a script on the guest. Gives (status, what it printed); raises when it fails, unless check=False."""
        try:
            done = subprocess.run(self.ssh_command(script), input=stdin, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, timeout=limit, stdin=None if stdin else subprocess.DEVNULL)
        except subprocess.TimeoutExpired as late:
            return 124, (late.stdout or b"").decode(errors="replace")
        text = done.stdout.decode(errors="replace")
        if check and done.returncode:
            raise Failure(f"{self.name}: on the guest: {script}\nended with {done.returncode}\n{text}")
        return done.returncode, text

    def hang_up(self):
        subprocess.run(self.ssh_command()[:-1] + ["-O", "exit", "root@127.0.0.1"], check=False,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def put(self, folder, names, to):
        """Copies names below folder (on the host) to the directory `to` on the guest."""
        pack = subprocess.Popen(["tar", "-C", str(folder), "--owner=0", "--group=0", "-cf", "-", *names],
                                stdout=subprocess.PIPE)
        done = subprocess.run(self.ssh_command(f"mkdir -p {to} && tar -C {to} -xf -"), stdin=pack.stdout, check=False)
        if pack.wait() or done.returncode:
            raise Failure(f"{self.name}: cannot copy {', '.join(names)} to {to}")


class Qmp:
    """QEMU's control socket."""

    def __init__(self, sockets):
        self.socket = socket.socket(socket.AF_UNIX)
        begin = time.monotonic()
        while True:
            try:
                self.socket.connect(str(sockets / "qmp"))
                break
            except OSError as why:
                if time.monotonic() - begin > 10:
                    raise Failure(f"cannot reach QEMU: {why}") from why
                time.sleep(0.05)
        self.lines = self.socket.makefile("r")
        self.lines.readline()
        self.ask("qmp_capabilities")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.lines.close()
        self.socket.close()

    def ask(self, command, **arguments):
        self.socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())
        for line in self.lines:
            answer = json.loads(line)
            if "error" in answer:
                raise Failure(f"QEMU refuses {command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]
        raise Failure(f"QEMU ended during {command}")

    def wait(self, true_when, limit, what):
        begin = time.monotonic()
        while not true_when():
            if time.monotonic() - begin > limit:
                raise Failure(f"the machine did not {what} within {limit} s")
            time.sleep(0.1)


def read(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def choose_accel(image):
    """KVM when a guest really boots with it, else TCG. Tried once for each kernel of this host: an open /dev/kvm proves
    nothing where this host is itself a guest."""
    forced = os.environ.get("VM_ACCEL")
    if forced:
        return forced
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    known = WORK / f"accel-{os.uname().release}"
    if not known.exists():
        trial = Machine(image, "kvm-trial", accel="kvm")
        try:
            trial.boot(limit=KVM_LIMIT)
            known.write_text("kvm")
        except (Failure, subprocess.TimeoutExpired):
            known.write_text("tcg")
        finally:
            trial.stop()
        say(f"accelerator: {known.read_text()}")
    return known.read_text()
