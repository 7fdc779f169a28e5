//! The programs of each containerd: where they come from, and where a world shows them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{PROGRAMS, Result, VERSIONS};
use crate::world::bind;

/// Downloads the runtimes, once.
pub fn fetch() -> Result<()> {
    let to = crate::build_dir()?.join("../../containerd");
    let program = crate::sources().join("tests/tools/fetch-containerd");
    let status = Command::new(program).arg(to).status()?;
    if status.success() { Ok(()) } else { Err("cannot fetch the container runtimes".into()) }
}

/// The one `runc` of all versions, as fetched.
pub fn runc() -> Result<PathBuf> {
    Ok(crate::build_dir()?.join("../../containerd/1.6/runc"))
}

/// Shows the programs of every version in the world, before anyone looks.
pub fn show_programs() -> Result<()> {
    let fetched = crate::build_dir()?.join("../../containerd");
    for version in VERSIONS {
        let (from, at) = (fetched.join(version), Path::new(PROGRAMS).join(version));
        if !from.exists() {
            return Err(format!("no '{}': run tests/tools/fetch-containerd", from.display()).into());
        }
        fs::create_dir_all(&at)?;
        bind(&from, &at)?;
    }
    Ok(())
}

/// Shows the machine's own containerd, runc and CNI plugins in the place of one version; false if one is missing.
pub fn show_installed(version: &str) -> Result<bool> {
    let dirs = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];
    let find = |name: &str| dirs.iter().map(|dir| Path::new(dir).join(name)).find(|path| path.exists());
    let Some(cni) =
        ["/usr/lib/cni", "/opt/cni/bin"].into_iter().find(|dir| Path::new(dir).join("bridge").exists())
    else {
        return Ok(false);
    };
    let at = Path::new(PROGRAMS).join(version);
    fs::create_dir_all(&at)?;
    symlink(cni, at.join("cni"))?;
    for name in ["containerd", "containerd-shim-runc-v2", "ctr", "runc"] {
        match find(name) {
            Some(path) => symlink(path, at.join(name))?,
            None => return Ok(false),
        }
    }
    Ok(true)
}

/// While this file exists `runc kill` takes longer than we wait for a shim, as it does on a machine that is very busy.
pub const SLOW_KILLS: &str = "/srv/runc-kills-slowly";

/// The directory that holds `runc` for this world.
///
/// Containerd gives every sandbox a processor share, and runc insists on writing it. Where the machine has bound that
/// controller to a version 1 hierarchy, cgroup2 has no such file, and the other way round: then the share is taken out of the bundle first.
pub fn wrap_runc(own: &Path) -> Result<PathBuf> {
    let runc = format!("{PROGRAMS}/1.6/runc");
    let bin = own.join("bin");
    let controllers = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers");
    let has_share = match controllers {
        Ok(text) => text.split_whitespace().any(|c| c == "cpu"),
        Err(_) => ["cpu", "cpu,cpuacct"].iter().any(|name| Path::new("/sys/fs/cgroup").join(name).exists()),
    };
    let strip = match has_share {
        false => {
            r#"for w; do [ "$p" != --bundle ] || sed -i 's/"shares":[0-9]*,\?//' "$w/config.json"; p=$w; done"#
        }
        true => "",
    };
    let slow = format!("if [ -e {SLOW_KILLS} ]; then case \"$*\" in *' kill '*) sleep 7;; esac; fi");
    let wrapper = bin.join("runc");
    fs::write(&wrapper, format!("#!/bin/sh\n{strip}\n{slow}\nexec {runc} \"$@\"\n"))?;
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
    Ok(bin)
}
