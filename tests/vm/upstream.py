"""The test snap with MicroK8s' own remove hook in the place of ours, to measure both side by side.

Nothing of MicroK8s is in the repository. Its files are taken from a clone that the environment variable MICROK8S names, bare
or not, at the commit that its HEAD is.
"""

import os
import shutil

from common import Failure, key_of, output

SNAP = "microk8s-upstreams-hook.snap"
# Where they are in the clone, and where MicroK8s' own snapcraft.yaml puts them in the snap.
FILES = {
    "snap/hooks/remove": "meta/hooks/remove",
    "microk8s-resources/actions/common/utils.sh": "actions/common/utils.sh",
    "microk8s-resources/wrappers/microk8s-ctr.wrapper": "microk8s-ctr.wrapper",
    "microk8s-resources/default-args/ctr": "default-args/ctr",
    **{f"microk8s-resources/default-hooks/remove.d/{name}": f"default-hooks/remove.d/{name}"
       for name in ["10-cni-link", "10-cni-link-cilium", "20-cni-netns", "90-containers"]},
}
# Programs that MicroK8s ships and calls by their place in the snap.
PROGRAMS = {"bin": ["cat", "date", "grep", "ps", "sed"], "usr/bin": ["cut", "jq", "stat", "tr"], "sbin": ["ip"]}
# What its environment names, without what snapcraft would put in.
ENVIRONMENT = {"REAL_PATH": "$PATH", "REAL_LD_LIBRARY_PATH": "$LD_LIBRARY_PATH", "REAL_PYTHONPATH": "$PYTHONPATH",
               "SNAPCRAFT_ARCH_TRIPLET": "x86_64-linux-gnu"}
# Its script in Python does only this. Without Python's start, which takes a second here: that is in upstream's favour.
LIFECYCLE = """#!/bin/bash
for hook in "$SNAP_COMMON"/hooks/remove.d/*; do
    [ ! -x "$hook" ] || timeout 120 "$hook"
done
"""


def clone():
    path = os.environ.get("MICROK8S")
    if not path:
        raise Failure("MICROK8S must name a clone of https://github.com/canonical/microk8s: git clone --filter=blob:none URL DIR")
    return path


def commit():
    return output("git", "-C", clone(), "log", "-1", "--format=%h of %cs").strip()


def contents():
    return {place: output("git", "-C", clone(), "show", f"HEAD:{name}") for name, place in FILES.items()}


def key():
    return key_of(*(part for pair in contents().items() for part in pair), LIFECYCLE, PROGRAMS, ENVIRONMENT)


def furnish(tree, root):
    """Its files and the programs that they call, out of the image's root directory."""
    scripts = {**contents(), "usr/bin/python3": LIFECYCLE}
    for place, text in scripts.items():
        path = tree / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o644 if place.endswith(("utils.sh", "default-args/ctr")) else 0o755)
    for folder, names in PROGRAMS.items():
        (tree / folder).mkdir(parents=True, exist_ok=True)
        for name in names:
            shutil.copy(next(path for path in [root / "usr/bin" / name, root / "usr/sbin" / name] if path.exists()), tree / folder)
    shutil.copy(root / "usr/bin/mawk", tree / "usr/bin/gawk")
