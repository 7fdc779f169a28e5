//! What snapd and kubelet mount for a snap and its pods, besides what containerd does.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Result, output};
use crate::world::{bind, mount_new};

/// A mount namespace as snapd makes one for a snap: bound to a file, and with the host's network namespaces.
///
/// The kernel binds none that is older than the one it is bound in, which it tells by numbers that each processor hands
/// out from a supply of its own: so one of them makes one that counts as newer.
pub fn make_namespace(file: &str) -> Result<()> {
    let script = r#"mkdir -p /run/netns /run/snapd/ns; touch "$1"
        mount --bind /run/netns /run/netns; mount --make-shared /run/netns
        mount --bind /run/snapd/ns /run/snapd/ns; mount --make-private /run/snapd/ns
        for n in $(seq 0 $(($(nproc) - 1))); do
            if taskset -c $n unshare --mount="$1" --propagation unchanged true; then exit; fi
        done
        exit 1"#;
    output(Command::new("/bin/sh").args(["-ec", script, "sh", file]).env("PATH", "/usr/sbin:/usr/bin"))
        .map(drop)
}

/// As `mount_volumes`, in the mount namespace that is bound at this file.
pub fn mount_volumes_in(namespace: &str, kubelet: &Path, pod_uid: &str, users: &Path) -> Result<()> {
    let volumes = kubelet.join("pods").join(pod_uid).join("volumes");
    let script = "mkdir -p \"$1/kubernetes.io~projected/token\" \"$1/kubernetes.io~local-volume/data\"
        mount -t tmpfs -o size=64k tmpfs \"$1/kubernetes.io~projected/token\"
        echo 'a token' > \"$1/kubernetes.io~projected/token/token\"
        mount --bind \"$2\" \"$1/kubernetes.io~local-volume/data\"";
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--mount={namespace}"))
        .args(["/bin/sh", "-ec", script, "sh"])
        .arg(volumes)
        .arg(users);
    output(command.env("PATH", "/usr/sbin:/usr/bin")).map(drop)
}

/// What kubelet mounts for a pod below its root: a token on tmpfs, and a directory of the user's.
pub fn mount_volumes(kubelet: &Path, pod_uid: &str, users: &Path) -> Result<()> {
    let volumes = kubelet.join("pods").join(pod_uid).join("volumes");
    let token = volumes.join("kubernetes.io~projected/token");
    fs::create_dir_all(&token)?;
    mount_new("tmpfs", &token, nix::mount::MsFlags::empty(), "size=64k")?;
    fs::write(token.join("token"), "a token")?;
    let data = volumes.join("kubernetes.io~local-volume/data");
    fs::create_dir_all(&data)?;
    bind(users, &data)
}
