"""Reads spread.yaml and the task.yaml files, and knows how spread runs their scripts.

Only as much of spread as this project's files use, with the same meaning, so that both run them unchanged:
environments (project, backend, system, suite, task; later wins), $(HOST: ...), variants, the order of the prepare and restore
scripts, MATCH, NOMATCH, REBOOT, ERROR.
"""

import fnmatch
import re
import subprocess
from pathlib import Path

import yaml

from common import REPO, Failure

HOST = re.compile(r"\$\(HOST:(.+?)\)")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z0-9_]+(,[A-Za-z0-9_]+)*)?")
TASK_KEYS = ["summary", "details", "backends", "systems", "manual", "priority", "warn-timeout", "kill-timeout",
             "environment", "artifacts", "prepare", "restore", "debug", "execute"]

# What spread defines for every script. A function whose last line is printed and whose status is 213 speaks to the runner.
FUNCTIONS = r"""
REBOOT() { { set +xu; } 2> /dev/null; echo "<REBOOT${1:+ $1}>"; exit 213; }
ERROR() { { set +xu; } 2> /dev/null; echo "<ERROR${1:+ $*}>"; exit 213; }
MATCH() (
    { set +xu; } 2> /dev/null
    [ $# -gt 0 ] || { echo "error: missing regexp argument"; return 1; }
    text=$(cat)
    grep -q -E "$@" <<< "$text" || { printf 'pattern not found, got:\n%s\n' "$text" >&2; return 1; }
)
NOMATCH() (
    { set +xu; } 2> /dev/null
    [ $# -gt 0 ] || { echo "error: missing regexp argument"; return 1; }
    text=$(cat)
    ! grep -q -E "$@" <<< "$text" || { printf 'pattern found: %s, in:\n%s\n' "$*" "$text" >&2; return 1; }
)
export DEBIAN_FRONTEND=noninteractive DEBIAN_PRIORITY=critical
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin
"""


class Project:
    def __init__(self, path=REPO):
        self.path = path
        self.data = load(path / "spread.yaml")
        self.remote = self.data["path"]
        self.name = self.data["project"]

    def script(self, name):
        return self.data.get(name, "")

    def jobs(self, backend, system, patterns=()):
        """The jobs of one system in spread's order, or those among them whose name holds one of the patterns."""
        jobs = []
        for suite_path, suite in self.data["suites"].items():
            for path in sorted((self.path / suite_path).glob("*/task.yaml")):
                task = load(path)
                check_task(path, task)
                if backend in task.get("backends", [backend]) and runs_on(system, task.get("systems")):
                    jobs += [Job(self, backend, system, suite_path, suite, path.parent, task, variant)
                             for variant in self.variants(backend, suite, task)]
        named = sorted(jobs, key=lambda job: job.name)
        if not patterns:
            return [job for job in named if not job.task.get("manual")]
        chosen = [job for job in named if any(pattern in job.name for pattern in patterns)]
        lost = [pattern for pattern in patterns if not any(pattern in job.name for job in named)]
        if lost:
            raise Failure(f"no task for {system} has '{lost[0]}' in its name; tests/vm/run list shows them")
        return chosen

    def variants(self, backend, suite, task):
        found = set()
        for source in [self.data, self.data["backends"][backend], suite, task]:
            for key in source.get("environment", {}):
                found |= set(key.partition("/")[2].split(",")) - {""}
        return sorted(found) or [""]


class Job:
    def __init__(self, project, backend, system, suite_path, suite, path, task, variant):
        self.project, self.suite, self.task = project, suite, task
        self.task_name = f"{suite_path}{path.name}"
        self.short = f"{Path(suite_path).name}/{path.name}" + (f":{variant}" if variant else "")
        self.name = f"{backend}:{system}:{self.task_name}" + (f":{variant}" if variant else "")
        self.directory = f"{project.remote}/{self.task_name}"
        backend_data = project.data["backends"][backend]
        own = {"SPREAD_JOB": self.name, "SPREAD_PROJECT": project.name, "SPREAD_PATH": project.remote,
               "SPREAD_BACKEND": backend, "SPREAD_SYSTEM": system, "SPREAD_SUITE": suite_path,
               "SPREAD_TASK": self.task_name, "SPREAD_VARIANT": variant, "SPREAD_SAMPLE": "1"}
        systems = [entry[system] for entry in backend_data["systems"] if isinstance(entry, dict) and system in entry]
        levels = [project.data, backend_data, *systems, suite, task]
        self.environment = environment(own, [level.get("environment", {}) for level in levels], variant)
        self.backend_data = backend_data
        self.limit = seconds(task.get("kill-timeout") or suite.get("kill-timeout") or project.data.get("kill-timeout", "15m"))

    # The saved machine that it starts from.
    state = property(lambda self: self.environment.get("TEST_SNAP") or "ready")

    # Other snaps than the test snap that it wants to find packed.
    snaps = property(lambda self: self.environment.get("SNAPS", "").split())

    def join(self, *scripts):
        return "\n\n".join(script.strip() for script in scripts if script and script.strip())

    # The orders are spread's: outside in to prepare, inside out to restore and to debug.
    def prepare(self):
        return self.join(self.project.script("prepare-each"), self.backend_data.get("prepare-each"),
                         self.suite.get("prepare-each"), self.task.get("prepare"))

    def restore(self):
        return self.join(self.task.get("restore"), self.suite.get("restore-each"), self.backend_data.get("restore-each"),
                         self.project.script("restore-each"))

    def debug(self):
        return self.join(self.task.get("debug"), self.suite.get("debug-each"), self.backend_data.get("debug-each"),
                         self.project.script("debug-each"))


def script_for(text, variables, directory, reboot="0"):
    """What is sent to bash on the guest: functions, variables, then the task's script, traced and without input."""
    lines = ["set -eu", f'cd "{directory}"', FUNCTIONS]
    for name, value in {**variables, "SPREAD_REBOOT": reboot}.items():
        quoted = value if value[:1] in ('"', "'") or not value else f'"{value}"'
        lines.append(f"export {name}={quoted}")
    # When each command began, in seconds of the script, is in the log.
    lines.append("export PS4='+$SECONDS '")
    return "\n".join([*lines, "set -x", "", "(", text.strip(), ") < /dev/null", ""])


def environment(first, levels, variant):
    """Merged, later levels winning; names like KEY/a,b count for variants a and b only and then win over KEY."""
    result = dict(first)
    for level in levels:
        for special in (False, True):
            for key, value in level.items():
                if not VARIABLE.fullmatch(key):
                    raise Failure(f"invalid variable name: {key}")
                name, slash, variants = key.partition("/")
                if bool(slash) != special or (slash and variant not in variants.split(",")):
                    continue
                result.pop(name, None)  # the last definition also comes last: it may use the others
                result[name] = HOST.sub(lambda match: on_host(match.group(1)), str(value))
    return result


def on_host(command):
    done = subprocess.run(["bash", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    if done.returncode:
        raise Failure(f"$(HOST:{command}) ended with {done.returncode}: {done.stderr.decode().strip()}")
    return done.stdout.decode().rstrip("\n")


def runs_on(system, chosen):
    """A task's list of systems: plain names and patterns, or additions to and removals from all of them."""
    if not chosen:
        return True
    plain = [name for name in chosen if name[0] not in "+-"]
    runs = any(fnmatch.fnmatchcase(system, name) for name in plain) if plain else True
    for name in chosen:
        if name[0] in "+-" and fnmatch.fnmatchcase(system, name[1:]):
            runs = name[0] == "+"
    return runs


def check_task(path, task):
    """The form that snapd's own developers use, checked on every load: keys and their order, and a block for scripts."""
    keys = list(task)
    unknown = [key for key in keys if key not in TASK_KEYS]
    missing = [key for key in ("summary", "details", "execute") if not task.get(key)]
    if unknown or missing:
        raise Failure(f"{path}: unknown keys {unknown}, missing keys {missing}")
    if keys != sorted(keys, key=TASK_KEYS.index):
        raise Failure(f"{path}: keys must come in this order: {', '.join(TASK_KEYS)}")


def load(path):
    try:
        return yaml.safe_load(path.read_text())
    except yaml.YAMLError as why:
        raise Failure(f"cannot read '{path}': {why}") from why


def seconds(text):
    units = {"s": 1, "m": 60, "h": 3600}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)([smh])", str(text)))
