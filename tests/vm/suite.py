"""Runs jobs on machines that are restored from states, several machines side by side."""

import queue
import re
import threading
import time

from common import WORK, Failure, say
from machine import BOOT_LIMIT, Machine
from spread import script_for
from states import send

SPEAK = re.compile(r"<(REBOOT|ERROR)(?: (.*))?>$")
MAX_REBOOTS = 3
HEADING = "===== "


class Suite:
    def __init__(self, states, accel, machines, keep=False):
        self.states, self.accel, self.keep = states, accel, keep
        self.machines = [Machine(states.image, f"{states.image.system}-{n}", accel, states.cpus) for n in range(machines)]
        self.logs = WORK / states.image.system / "logs"
        self.results = []
        self.waiting = queue.SimpleQueue()
        self.broken = None

    def run(self, jobs):
        """Runs all jobs; gives True if all of them passed. A machine that does not boot or restore ends the run."""
        begin = time.monotonic()
        self.states.forget_others()
        for job in spread_over_states(jobs):
            self.waiting.put(job)
        workers = [threading.Thread(target=self.work, args=(machine,)) for machine in self.machines[:len(jobs)]]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        failed = [job.short for job, problem, _ in self.results if problem]
        for name in failed:
            log = self.logs / log_name(name)
            print(f"failed: {name} ({log})\n{what_failed(log)}")
        if self.broken:
            print(f"the run ended early: {self.broken}")
        left = len(jobs) - len(self.results)
        print(f"{time.monotonic() - begin:.0f} s on {len(workers)} machine(s)" + (f", {left} not run" if left else ""))
        print(f"{len(self.results) - len(failed)} passed, {len(failed) + left} failed", flush=True)
        return not failed and not left

    def work(self, machine):
        try:
            while not self.broken:
                job = self.waiting.get_nowait()
                begin = time.monotonic()
                problem = self.one(machine, job)
                took = time.monotonic() - begin
                self.results.append((job, problem, took))
                print(f"{'FAIL' if problem else 'ok':4} {took:4.0f} s  {job.short}" + (f"  ({problem})" if problem else ""), flush=True)
                if problem and self.keep:
                    self.broken = f"machine {machine.name} is kept: tests/vm/run shell {machine.name}"
                    return
        except queue.Empty:
            pass
        except Failure as why:
            self.broken = str(why)
        except Exception as why:  # a thread's error would be lost, and with it the run's
            self.broken = repr(why)
        machine.stop()

    def one(self, machine, job):
        """One job on a fresh machine. Gives None, or in a word which part failed."""
        state = self.states.get(job.state, machine)
        machine.restore(state)
        others = [f"target/spread/{self.states.image.system}/{name}" for name in job.snaps]
        send(machine, job.project, ["tests", "spread.yaml", "snap/local", *others])
        log = self.logs / log_name(job.short)
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "w", encoding="utf-8") as out:
            problem = None
            for part, script in [("suite's prepare", job.suite.get("prepare")), ("prepare", job.prepare()), ("execute", job.task["execute"])]:
                if not self.part(machine, job, out, part, script):
                    problem = part
                    self.part(machine, job, out, "debug", job.debug())
                    break
            if problem and self.keep:
                return problem
            # As in spread, restore runs in any case, and its failure is the job's too.
            if not self.part(machine, job, out, "restore", job.restore()) and not problem:
                problem = "restore"
                self.part(machine, job, out, "debug", job.debug())
        return problem

    def part(self, machine, job, out, name, script):
        if not script:
            return True
        reboot = "0"
        for _ in range(MAX_REBOOTS + 1):
            begin = time.monotonic()
            text = script_for(script, job.environment, job.directory, reboot)
            status, printed = machine.ssh("/bin/bash - 2>&1", stdin=text.encode(), limit=job.limit, check=False)
            out.write(f"{HEADING}{name}: status {status}, {time.monotonic() - begin:.1f} s\n{printed}\n")
            out.flush()
            said = SPEAK.search(printed.strip().splitlines()[-1] if printed.strip() else "")
            if status == 255:
                machine.check_kernel()
            if status != 213 or not said or said.group(1) != "REBOOT":
                return status == 0
            reboot = said.group(2) or str(int(reboot) + 1)
            self.reboot(machine)
        return False

    def reboot(self, machine):
        """Until another boot answers; the connection breaks in between. Shutting down may take as long as a boot."""
        before = machine.ssh("cat /proc/sys/kernel/random/boot_id")[1]
        machine.ssh("systemctl reboot", check=False)
        begin = time.monotonic()
        while time.monotonic() - begin < 2 * BOOT_LIMIT:
            machine.hang_up()
            status, now = machine.ssh("cat /proc/sys/kernel/random/boot_id", limit=20, check=False)
            if status == 0 and now != before:
                return
            time.sleep(1)
        raise Failure(f"{machine.name}: did not come back after a reboot")


def spread_over_states(jobs):
    """First one job of each state, then the second of each …: so that machines make different states side by side."""
    seen = {}
    order = []
    for job in jobs:
        seen[job.state] = seen.get(job.state, 0) + 1
        order.append((seen[job.state], job.name, job))
    return [job for _, _, job in sorted(order, key=lambda entry: entry[:2])]


def what_failed(log):
    """How the failed parts ended, and how the look around began: of a machine that is gone, CI's output is all there is."""
    chosen = []
    for part in log.read_text(encoding="utf-8").removeprefix(HEADING).split(f"\n{HEADING}"):
        heading, _, printed = part.partition("\n")
        lines = printed.strip().splitlines()
        if heading.startswith("debug:"):
            chosen += [heading, *lines[:15]]
        elif "status 0," not in heading:
            chosen += [heading, *lines[-15:]]
    return "\n".join(line[:300] for line in chosen)


def log_name(short):
    return short.replace("/", "-").replace(":", "-") + ".log"
