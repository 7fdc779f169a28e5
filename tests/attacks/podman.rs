//! Podman as a bystander.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::bystanders::{Bystander, started, write};
use support::runtime::{in_group, output};
use support::{Result, build_dir, built, sh};

/// A real podman of Debian with crun, and a container of it with a network and a published port.
pub struct Podman {
    pub id: String,
    pid: i32,
    start: String,
}

/// Where fetched runtimes are.
pub fn fetched() -> Result<PathBuf> {
    Ok(build_dir()?.join("../../containerd"))
}

impl Podman {
    pub fn new() -> Result<Podman> {
        let programs = fetched()?;
        let cni = programs.join("1.6/cni");
        for program in ["conmon", "crun"] {
            with_its_libraries(&programs.join("podman"), program)?;
        }
        // Without systemd nobody could make scopes for it: it makes its groups itself, below /libpod_parent.
        let containers = format!(
            "[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\nruntime = \"crun\"\nconmon_path = [\"/opt/podman/conmon\"]\n\
             [engine.runtimes]\ncrun = [\"/opt/podman/crun\"]\n\
             [network]\nnetwork_backend = \"cni\"\ncni_plugin_dirs = [\"{}\"]\nnetwork_config_dir = \"/opt/podman/net.d\"\n",
            cni.display()
        );
        write("/opt/podman/containers.conf", &containers)?;
        write(
            "/opt/podman/storage.conf",
            "[storage]\ndriver = \"vfs\"\nrunroot = \"/run/containers/storage\"\ngraphroot = \"/var/lib/containers/storage\"\n",
        )?;
        fs::create_dir_all("/opt/podman/net.d")?;
        fs::create_dir_all("/opt/podman/rootfs")?;
        fs::copy(built("app")?, "/opt/podman/rootfs/app")?;
        let run = [
            "run",
            "--detach",
            "--name",
            "bystander",
            "--publish",
            "8099:80",
            "--security-opt",
            "seccomp=unconfined",
            "--security-opt",
            "apparmor=unconfined",
            "--log-driver",
            "none",
            "--pids-limit=-1",
            "--ulimit",
            "host",
            "--privileged", // so that crun needs no device filter, for which a machine may not let it lock memory
            "--rootfs",
            "/opt/podman/rootfs",
            "/app",
            "obedient",
        ];
        let id = podman(&run)?.trim().to_owned();
        let pid = podman(&["inspect", "--format", "{{.State.Pid}}", &id])?.trim().parse()?;
        let start = started(pid).ok_or("podman's container has ended")?;
        Ok(Podman { id, pid, start })
    }
}

/// Podman clears the environment of conmon, and conmon that of crun: a script of the program's name says where its
/// libraries are, for the machine may have none of them.
fn with_its_libraries(podman: &Path, program: &str) -> Result<()> {
    let (lib, bin) = (podman.join("lib"), podman.join("bin").join(program));
    let script = format!("#!/bin/sh\nLD_LIBRARY_PATH='{}' exec '{}' \"$@\"\n", lib.display(), bin.display());
    let at = write(&format!("/opt/podman/{program}"), &script)?;
    Ok(fs::set_permissions(at, fs::Permissions::from_mode(0o755))?)
}

/// As an administrator calls it, in his session.
fn podman(arguments: &[&str]) -> Result<String> {
    let at = fetched()?.join("podman");
    let mut command = in_group("user.slice/user-0.slice/session-1.scope", "setsid")?;
    command
        .arg(at.join("bin/podman"))
        .args(arguments)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LD_LIBRARY_PATH", at.join("lib"))
        .env("CONTAINERS_CONF", "/opt/podman/containers.conf")
        .env("CONTAINERS_STORAGE_CONF", "/opt/podman/storage.conf")
        .stdin(Stdio::null());
    Ok(String::from_utf8_lossy(&output(&mut command)?).into_owned())
}

impl Bystander for Podman {
    fn name(&self) -> String {
        format!("podman's container {:.12} (process {})", self.id, self.pid)
    }

    fn harm(&mut self) -> Result<Option<String>> {
        if started(self.pid).as_ref() != Some(&self.start) {
            return Ok(Some("DEAD".into()));
        }
        let state = podman(&["inspect", "--format", "{{.State.Status}}", &self.id])?;
        if state.trim() != "running" {
            return Ok(Some(format!("podman says {}", state.trim())));
        }
        let cut_off = sh(&format!("nsenter --net=/proc/{}/ns/net ip link show eth0", self.pid)).is_err();
        Ok(cut_off.then(|| "CUT OFF: it has lost its eth0".into()))
    }
}
