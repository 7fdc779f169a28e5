"""Saved states of a machine: `ready` (what spread's project-wide prepare does) and one for each variant of the test snap.

What a state holds takes minutes to make under TCG and seconds to restore; each is made once and keyed by all that went
into it. A task names the one it wants by its environment's TEST_SNAP, which is all that spread itself goes by, too.
"""

import shutil
import threading
import time

from common import HERE, REPO, WORK, Failure, key_of, say
from image import EMULATOR
from snaps import ON_DEMAND
from spread import script_for


class State:
    def __init__(self, name, path):
        self.name, self.path = name, path

    disk = property(lambda self: self.path / "disk.qcow2")
    ram = property(lambda self: self.path / "ram")
    saved = property(lambda self: (self.path / "saved").exists())


class States:
    """Those of one image and one set of snaps."""

    def __init__(self, project, image, snaps, accel, cpus):
        self.project, self.image, self.snaps, self.cpus = project, image, snaps, cpus
        lib = REPO / "tests/spread/lib"
        scripts = [project.script("prepare"), project.script("prepare-each"), project.data["environment"]]
        self.key = key_of(image.key, snaps.key, EMULATOR, accel, cpus, HERE / "machine.py", HERE / "compile-policy", lib, *scripts)
        self.root = WORK / image.system / f"states-{self.key}"
        self.locks = {}
        self.guard = threading.Lock()

    def forget_others(self):
        for old in (WORK / self.image.system).glob("states-*"):
            if old != self.root:
                shutil.rmtree(old)

    def get(self, name, machine):
        """The state, made on `machine` if it is not saved yet. `ready`, or a variant of the test snap."""
        with self.guard:
            lock = self.locks.setdefault(name, threading.Lock())
        with lock:
            state = State(name, self.root / name)
            if state.saved:
                return state
            begin = time.monotonic()
            if name == "ready":
                machine.boot()
                send(machine, self.project)
                script, variant = self.project.script("prepare"), ""
            else:
                machine.restore(self.get("ready", machine))
                # These may have been packed after the ready state was made.
                if name in ON_DEMAND:
                    packed = self.snaps.published(name).relative_to(self.project.path)
                    machine.put(self.project.path, [str(packed)], self.project.remote)
                script, variant = self.project.script("prepare-each"), name
            variables = self.variables(variant)
            text = script_for(script, variables, self.project.remote)
            status, printed = machine.ssh("/bin/bash - 2>&1", stdin=text.encode(), limit=900, check=False)
            log = self.root / f"{name}.log"
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text(printed)
            if status:
                machine.check_kernel()
                raise Failure(f"state {name} cannot be made (see {log}):\n" + "\n".join(printed.splitlines()[-25:]))
            if variant:
                machine.ssh("check-policy")
            machine.save(state)
            (state.path / "saved").touch()
            size = sum(path.stat().st_blocks for path in state.path.iterdir()) // 2048
            say(f"{self.image.system}: state {name} made in {time.monotonic() - begin:.0f} s, {size} MiB")
            return state

    def variables(self, variant):
        known = {"SPREAD_PROJECT": self.project.name, "SPREAD_PATH": self.project.remote, "SPREAD_BACKEND": "adhoc",
                 "SPREAD_SYSTEM": self.image.system}
        return {**known, **{key: str(value) for key, value in self.project.data["environment"].items()}, "TEST_SNAP": variant}


def send(machine, project, names=None):
    """The project's files, as spread sends them: what it includes, and what its `repack` adds."""
    machine.put(project.path, names or [*project.data["include"], "target/spread"], project.remote)
