"""What a user waits for: `snap remove` with our hook beside MicroK8s' own, as a table. The tasks in ../spread/times measure."""

import json
import re

import upstream
from suite import log_name

TASK = "times/removal-beside-upstreams-hook"
ROW = re.compile(r"^row (\{.*\})$", re.MULTILINE)
HEADS = ["pods", "removal with upstream's hook / with ours", "our hook's share of the removal", "upstream's hook's share",
         "left after ours", "left after upstream's"]


def rows(logs, jobs):
    """What the jobs that ran have printed, by hook and number of pods."""
    found = {}
    for job in jobs:
        path = logs / log_name(job.short)
        for text in ROW.findall(path.read_text(encoding="utf-8")) if path.exists() else []:
            row = json.loads(text)
            found[(row["hook"], row["pods"])] = row
    return found


def left(row):
    words = [f"{count} {kind}" for kind, count in sorted(row["left"].items())]
    return ", ".join(words + ["**a bystander harmed**"] * row["bystander-harmed"]) or "nothing"


def share(row):
    return f"{row['hook-seconds'] / row['seconds']:.0%}".replace("%", " %")


def show(logs, jobs):
    found = rows(logs, jobs)
    print(f"\nMicroK8s' hook is that of {upstream.commit()}. In seconds of this machine:")
    for (hook, pods), row in sorted(found.items()):
        print(f"  {hook}, {pods} pods: removal {row['seconds']}, of these the hook {row['hook-seconds']}")
    print(f"\n| {' | '.join(HEADS)} |\n|{' --- |' * len(HEADS)}")
    for pods in sorted({pods for _, pods in found}):
        ours, theirs = found.get(("recommended", pods)), found.get(("upstreams-hook", pods))
        if ours and theirs:
            cells = [pods, f"{theirs['seconds'] / ours['seconds']:.1f}", share(ours), share(theirs), left(ours), left(theirs)]
            print(f"| {' | '.join(map(str, cells))} |")
