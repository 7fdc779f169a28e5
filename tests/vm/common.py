"""What every module of the VM runner shares: where things are, how to run a command, how to key a cache."""

import contextlib
import fcntl
import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
HERE = REPO / "tests" / "vm"
WORK = REPO / "target" / "vm"
START = time.monotonic()


class Failure(Exception):
    """Ends the run with a message for a person."""


def say(text):
    print(f"[{time.monotonic() - START:6.1f} s] {text}", file=sys.stderr, flush=True)


def run(*command, log=None, **kwargs):
    """Runs a command; its output goes to `log` (a path) or to ours. A failure names the command and the log's end."""
    command = [str(part) for part in command]
    if log is None:
        done = subprocess.run(command, **kwargs)
        tail = ""
    else:
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "wb") as out:
            done = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, **kwargs)
        tail = "\n" + "\n".join(log.read_text(errors="replace").splitlines()[-20:]) if done.returncode else ""
    if done.returncode:
        raise Failure(f"{' '.join(command)} ended with {done.returncode}{tail}")


def output(*command, **kwargs):
    return subprocess.run([str(part) for part in command], check=True, stdout=subprocess.PIPE, **kwargs).stdout.decode()


def key_of(*parts):
    """A short hash of strings, files and directories: the name of everything that is built once and kept."""
    digest = hashlib.sha256()
    for part in parts:
        if not isinstance(part, Path):
            digest.update(b"text\0" + str(part).encode() + b"\0")
            continue
        files = [part] if part.is_file() else sorted(path for path in part.rglob("*") if path.is_file())
        for path in files:
            mode = path.stat().st_mode & 0o111
            digest.update(f"file\0{path.relative_to(part.parent)}\0{mode}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


@contextlib.contextmanager
def alone(what):
    """One process at a time does this: spread packs and allocates at once, each by a call of ours."""
    WORK.mkdir(parents=True, exist_ok=True)
    with open(WORK / f"{what}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def need_packages(**commands):
    """Installs with apt what is missing: package=command. Needs root, and says so."""
    # Twice: apt may resolve a conflict by removing a package that was there (qemu-utils from another release than
    # qemu-system-x86), which the second round then brings back.
    for _ in range(2):
        missing = missing_packages(commands)
        if not missing:
            return
        if os.geteuid() != 0:
            raise Failure(f"these packages are needed and only root can install them: apt-get install {' '.join(missing)}")
        say(f"apt-get install {' '.join(missing)}")
        environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
        log = WORK / "apt.log"
        with alone("apt"):
            run("apt-get", "update", log=log, env=environment)
            run("apt-get", "-o", "DPkg::Lock::Timeout=300", "install", "-y", "--no-install-recommends", *missing, log=log, env=environment)
    missing = missing_packages(commands)
    if missing:
        raise Failure(f"apt-get installed {' '.join(missing)}, and its commands are still missing")


def missing_packages(commands):
    folders = ("/usr/bin", "/usr/sbin", "/bin", "/sbin")
    found = {package for package, command in commands.items() if any((Path(folder) / command).exists() for folder in folders)}
    return [package.replace("_", "-") for package in commands if package not in found]


def fail(message):
    print(f"tests/vm/run: {message}", file=sys.stderr)
    sys.exit(1)
