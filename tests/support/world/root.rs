//! The root directory of a world: the machine's programs to read, and nothing else that is not its own.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::unistd::chdir;

use super::{Cgroups, LAYER, Result, bind, machines_own, mount_new};

pub fn build(root: &Path, cgroups: Cgroups, hierarchies: &[String]) -> Result<()> {
    for dir in ["usr", "etc"] {
        bind_read_only(&Path::new("/").join(dir), root)?;
    }
    if let Some(layer) = std::env::var_os(LAYER).filter(|layer| !layer.is_empty()) {
        add_layer(Path::new(&layer), root)?;
    }
    for name in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
        let host = Path::new("/").join(name);
        match fs::read_link(&host) {
            Ok(target) => symlink(target, root.join(name))?,
            Err(_) if host.is_dir() => bind_read_only(&host, root)?,
            Err(_) => {}
        }
    }
    for dir in
        ["proc", "sys", "dev", "run", "var/lib", "var/tmp", "snap", "root", "home", "opt", "srv", "tmp"]
    {
        fs::create_dir_all(root.join(dir))?;
    }
    symlink("/run", root.join("var/run"))?;
    mount_new("tmpfs", &root.join("run"), MsFlags::empty(), "mode=755")?;
    mount_new("proc", &root.join("proc"), MsFlags::empty(), "")?;
    mount_new("sysfs", &root.join("sys"), MsFlags::empty(), "")?;
    build_dev(&root.join("dev"))?;
    // Last, so that none of the above covers a clone that lies below /run or /dev/shm.
    for dir in machines_own()? {
        bind_read_only(&dir, root)?;
    }

    let at = root.join("sys/fs/cgroup");
    if cgroups == Cgroups::V2 {
        return mount_new("cgroup2", &at, MsFlags::empty(), "");
    }
    mount_new("tmpfs", &at, MsFlags::empty(), "mode=755")?;
    for name in hierarchies {
        let at = at.join(name);
        fs::create_dir(&at)?;
        match name.as_str() {
            "unified" => mount_new("cgroup2", &at, MsFlags::empty(), "")?,
            "systemd" => mount_new("cgroup", &at, MsFlags::empty(), "none,name=systemd")?,
            _ => mount_new("cgroup", &at, MsFlags::empty(), name)?,
        }
    }
    Ok(())
}

/// Lays programs that the machine has not installed over its /usr: `layer` is a directory with an `usr` of its own.
fn add_layer(layer: &Path, root: &Path) -> Result<()> {
    let below = root.join("mnt");
    fs::create_dir_all(below.join("layer"))?;
    fs::create_dir_all(below.join("usr"))?;
    bind(&layer.join("usr"), &below.join("layer"))?;
    bind(Path::new("/usr"), &below.join("usr"))?;
    // Relative names, for the path of a clone may hold what overlayfs takes for a separator.
    chdir(&below)?;
    mount_new("overlay", &root.join("usr"), MsFlags::MS_RDONLY, "lowerdir=layer:usr")
}

/// Only devices that cannot reach anything outside; no /dev/log, so that nothing speaks to the machine's journal.
fn build_dev(dev: &Path) -> Result<()> {
    mount_new("tmpfs", dev, MsFlags::empty(), "mode=755")?;
    for name in ["null", "zero", "full", "random", "urandom", "tty"] {
        fs::write(dev.join(name), "")?;
        bind(&Path::new("/dev").join(name), &dev.join(name))?;
    }
    for (name, target) in [("fd", "/proc/self/fd"), ("ptmx", "pts/ptmx")] {
        symlink(target, dev.join(name))?;
    }
    fs::create_dir(dev.join("pts"))?;
    mount_new("devpts", &dev.join("pts"), MsFlags::empty(), "newinstance,ptmxmode=0666,mode=620")?;
    fs::create_dir(dev.join("shm"))?;
    mount_new("tmpfs", &dev.join("shm"), MsFlags::empty(), "mode=1777")
}

/// Shows a directory of the machine at the same place below `root`, read-only, without what is mounted in it.
fn bind_read_only(path: &Path, root: &Path) -> Result<()> {
    let at = root.join(path.strip_prefix("/")?);
    fs::create_dir_all(&at)?;
    bind(path, &at)?;
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(None::<&str>, &at, None::<&str>, flags, None::<&str>)
        .map_err(|e| format!("cannot make '{}' read-only: {e}", at.display()).into())
}
