//! What hosts have before there is a snap, and a picture of a machine at rest.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use support::Result;
use support::picture::{Kind, Options, Picture};
use support::runtime;
use support::world::bind;

use crate::stage::{USERS, demand, sh};

/// Where the world has programs that are no containerd's.
pub const OTHERS: &str = "/opt/others/bin";

/// Where it has a docker that is newer than the one among these.
pub const DOCKER_28: &str = "/opt/others/docker-28";

/// A world with what hosts have. What the snap's programs would change for everybody is set before: that settings are
/// named is a test of its own.
pub fn furnish(settings: bool) -> Result<()> {
    runtime::show_programs()?;
    let fetched = support::build_dir()?.join("../../containerd");
    for (name, at) in [("others", OTHERS), ("docker-28", DOCKER_28)] {
        fs::create_dir_all(at)?;
        bind(&fetched.join(name), Path::new(at))?;
    }
    sh(&format!(
        "mkdir -p /opt/runtimes /dev/mapper /mnt /media /snap /var/snap /var/log /var/lib/cni /run/netns {USERS} /run/lock
         mkdir -p /run/mount; touch /run/xtables.lock /run/mount/utab
         echo 'not ours' > {USERS}/precious
         mknod /dev/fuse c 10 229; mknod /dev/loop-control c 10 237; for n in $(seq 0 63); do mknod /dev/loop$n b 7 $n; done"
    ))?;
    if settings {
        sh("for f in ip_forward conf/all/forwarding conf/default/forwarding; do echo 1 > /proc/sys/net/ipv4/$f; done
            echo 1 > /proc/sys/net/ipv6/conf/all/forwarding")?;
    }
    // The tables of the legacy backend are made by the first look at them.
    for program in ["iptables-legacy-save", "ip6tables-legacy-save"] {
        for table in ["filter", "nat", "mangle", "raw"] {
            sh(&format!("{program} -t {table} >/dev/null 2>&1 || true"))?;
        }
    }
    Ok(())
}

pub fn options() -> Result<Options> {
    let build = support::build_dir()?;
    let target = build.ancestors().nth(2).unwrap_or(&build).to_path_buf();
    let without = [
        "/proc",
        "/sys",
        "/usr",
        "/etc/alternatives",
        "/opt/containerd",
        "/opt/others",
        "/opt/runtimes",
        "/dev/pts",
        "/lib",
        env!("CARGO_MANIFEST_DIR"),
    ];
    let without = without.into_iter().map(PathBuf::from).chain([target]).collect();
    Ok(Options { without, contents: vec![USERS.into(), "/home".into()], world: true })
}

/// The picture of a machine on which nothing happens any more. What others have started goes on for a while: a container
/// that is said to run is still `runc init`, and containerd collects its garbage. That must not look like the hook's work.
pub fn at_rest(options: &Options) -> Result<Picture> {
    let until = Instant::now() + Duration::from_secs(30);
    let mut last = Picture::take(options)?; // what these programs make on their own is there before the look that counts
    loop {
        sleep(Duration::from_millis(100));
        let now = Picture::take(options)?;
        let changes = now.since(&last);
        let starts = now.any(|thing| thing.kind == Kind::Process && thing.looks.starts_with("(runc:["));
        if changes.is_empty() && !starts {
            return Ok(now);
        }
        demand(Instant::now() < until, format!("the world does not come to rest:\n{changes:.20}"))?;
        last = now;
    }
}
