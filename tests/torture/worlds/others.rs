//! Everybody else: look-alikes, other runtimes, guests and instances, and services that snapd has not stopped.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::MsFlags;

use super::{ADDRESS, COMMON, SERVICE, World, shim_line, write};
use crate::actor::{self, Behaviour, Contained, Guest, Part};
use crate::dice::Dice;
use support::Result;
use support::fixture::{self, Bundle};
use support::world::mount_new;

impl World {
    pub(super) fn bystanders(&mut self, dice: &mut Dice) -> Result<()> {
        let own = self.ids[dice.below(self.ids.len() as u64) as usize].clone();
        self.look_alikes(&own, dice)?;
        self.other_runtimes(dice)?;
        if self.has("address-nested") {
            self.guest_shim(dice)?;
        }
        if self.has("guest") {
            self.guest(dice)?;
        }
        if self.has("roots-extended") {
            neighbouring_roots()?;
        }
        if self.has("foreign-state-of-own-id") {
            self.id_in_use_elsewhere(dice)?;
        }
        self.others_files(&own, dice)?;
        self.forge(&own)?;
        self.services(dice)
    }

    /// Processes and groups that are called like ours.
    fn look_alikes(&mut self, own: &str, dice: &mut Dice) -> Result<()> {
        if self.has("same-names") {
            self.bystander(
                &Part { name: "containerd-shim".into(), ..Part::default() },
                &["containerd-shim-runc-v2", "-namespace", "k8s.io"],
            )?;
            self.bystander(
                &Part { name: "containerd".into(), ..Part::default() },
                &["/snap/microk8s/1/bin/containerd", "--address", ADDRESS],
            )?;
            self.bystander(
                &Part { name: "tail".into(), ..Part::default() },
                &["tail", "-f", "-address", ADDRESS, COMMON],
            )?;
        }
        if self.has("foreign-pause") {
            self.bystander(&Part { name: "/pause".into(), uid: 65535, ..Part::default() }, &["/pause"])?;
            self.bystander(
                &Part { name: "coredns".into(), ..Part::default() },
                &["/coredns", "-conf", "/etc/coredns"],
            )?;
        }
        if self.has("foreign-groups") {
            for group in ["/kubepods/burstable/podother", "/kubepods/podother"] {
                let groups = self.make_group(&format!("{group}/{}", dice.hex(64)))?;
                self.bystander(&Part { name: "/pause".into(), groups, ..Part::default() }, &["/pause"])?;
            }
            self.make_group(&format!("/kubepods/podempty/{}", dice.hex(64)))?;
        }
        if self.has("own-id-elsewhere") {
            for group in [format!("/docker/{own}"), format!("/machine.slice/{own}")] {
                let groups = self.make_group(&group)?;
                self.bystander(&Part { name: "nginx".into(), groups, ..Part::default() }, &["nginx"])?;
            }
            // Where nothing but the bundle is left of our own, it is right to doubt whose the ID is.
            if self.has("init-dead") && (self.has("state-deleted") || self.has("state-cut")) {
                self.doubts.push(format!("container {}", own.get(..13).unwrap_or(own)));
            }
        }
        Ok(())
    }

    /// Shims of other containerds, and another instance of the snap.
    fn other_runtimes(&mut self, dice: &mut Dice) -> Result<()> {
        if self.has("address-extends") {
            for address in [
                format!("{ADDRESS}2"),
                format!("{ADDRESS}/x"),
                "/var/snap/microk8s2/common/run/containerd.sock".into(),
            ] {
                self.foreign_shim(&address, SERVICE.replace("microk8s", "microk8s2").as_str(), dice)?;
            }
        }
        if self.has("foreign-runtime") {
            self.foreign_shim("/run/containerd/containerd.sock", "system.slice/containerd.service", dice)?;
        }
        if self.has("parallel-instance") {
            // In its own mount namespace its paths carry the snap's name.
            let unit = "system.slice/snap.microk8s_two.daemon-containerd.service";
            write("/var/snap/microk8s_two/common/var/lib/containerd/x", "another instance's")?;
            let (id, pid, groups) = self.foreign_shim(ADDRESS, unit, dice)?;
            self.foreign_state(&id, pid, &groups, &usual_bundle(&id))?;
            let groups = self.make_group("system.slice/snap.microk8s_two.daemon-kubelite.service")?;
            self.bystander(&Part { name: "kubelite".into(), groups, ..Part::default() }, &["kubelite"])?;
        }
        Ok(())
    }

    /// A guest's processes as they look from the host: in a service's group of the same name, or in none.
    fn guest_shim(&mut self, dice: &mut Dice) -> Result<()> {
        let group = if dice.percent(50) {
            "lxc.payload.one".to_owned()
        } else {
            format!("lxc.payload.one/{SERVICE}")
        };
        let part = Part {
            name: "lxc-monitor".into(),
            groups: self.make_group("lxc.monitor.one")?,
            guest: Some(Guest {
                shim: shim_line(ADDRESS, &dice.hex(64)),
                groups: self.make_group(&group)?,
                ..Guest::default()
            }),
            ..Part::default()
        };
        self.other("guest", &part, &["lxc monitor"])?;
        Ok(())
    }

    /// A user's data below the snap's own directories, and a socket and a stream of somebody else's.
    fn others_files(&mut self, own: &str, dice: &mut Dice) -> Result<()> {
        if self.has("user-data") {
            let volume = Path::new(COMMON).join("default-storage/claim/mounted");
            fs::create_dir_all(&volume)?;
            mount_new("tmpfs", &volume, MsFlags::empty(), "size=64k")?;
            write(volume.join("data"), "a user's, mounted")?;
            write("/var/snap/microk8s/1/var/kubernetes/backend/cluster.key", "secret")?;
        }
        if self.has("foreign-socket") {
            let socket = fixture::socket_of("/run/containerd/containerd.sock", own);
            self.bystander(
                &Part { name: "other".into(), socket: Some(socket), ..Part::default() },
                &["other"],
            )?;
            // A shim of ours that has died may have had it open.
            self.doubts.push("/run/containerd/fifo/77".into());
            fs::create_dir_all("/run/containerd/fifo/77")?;
            nix::unistd::mkfifo(
                format!("/run/containerd/fifo/77/{}-stdout", dice.hex(64)).as_str(),
                nix::sys::stat::Mode::S_IRWXU,
            )?;
        }
        Ok(())
    }

    /// Ours: services that snapd has not stopped, or not wholly.
    fn services(&mut self, dice: &mut Dice) -> Result<()> {
        if self.has("containerd-alive") || self.has("service-stray") {
            let name = if self.has("containerd-alive") { "containerd" } else { "tail" };
            // A stubborn one gets ten seconds: now and then is enough.
            let stubborn = !self.has("containerd-alive") && dice.percent(10);
            let behaviour = if stubborn { Behaviour::Stubborn } else { Behaviour::Obedient };
            let groups = self.make_group(SERVICE)?;
            let pid =
                self.bystander(&Part { name: name.into(), behaviour, groups, ..Part::default() }, &[name])?;
            self.pids.push(pid);
        }
        Ok(())
    }

    /// Somebody else's shim with a container of its own: its ID, its first process and its groups.
    fn foreign_shim(
        &mut self,
        address: &str,
        unit: &str,
        dice: &mut Dice,
    ) -> Result<(String, i32, Vec<PathBuf>)> {
        let (id, n) = (dice.hex(64), self.children.len());
        let rootfs = PathBuf::from(format!("/run/other/{n}/rootfs"));
        actor::overlay(&PathBuf::from(format!("/srv/other/snapshots/{n}")), &rootfs)?;
        let groups = self.make_group(&format!("/kubepods/besteffort/podforeign{n}/{id}"))?;
        let contained = Contained {
            id: id.clone(),
            part: Part { name: "/pause".into(), groups: groups.clone(), ..Part::default() },
            rootfs,
            own_pid: true,
            own_net: true,
            network: None,
            runc: None,
        };
        let part = Part {
            name: "containerd-shim".into(),
            groups: self.make_group(unit)?,
            containers: vec![contained],
            ..Part::default()
        };
        let (child, pids) = actor::start(actor::command("shim", &part, &shim_line(address, &id))?)?;
        self.children.push(child);
        let pids: Vec<i32> = serde_json::from_str(&pids)?;
        Ok((id, pids[0], groups))
    }

    /// A machine in the machine that runs the same snap: the same paths, the same address, the same names of groups.
    fn guest(&mut self, dice: &mut Dice) -> Result<()> {
        let id = dice.hex(64);
        let rootfs = usual_bundle(&id).join("rootfs");
        let snapshot = fixture::snapshot(&Path::new(COMMON).join("var/lib/containerd"), 12);
        let groups = self.make_group(&format!("/lxc.payload.two/kubepods/podx/{id}"))?;
        let contained = Contained {
            id: id.clone(),
            part: Part { name: "/pause".into(), groups, ..Part::default() },
            rootfs: rootfs.clone(),
            own_pid: true,
            own_net: true,
            network: None,
            runc: None,
        };
        let part = Part {
            name: "lxc-monitor".into(),
            groups: self.make_group("lxc.monitor.two")?,
            containers: vec![contained],
            guest: Some(Guest {
                shim: shim_line(ADDRESS, &id),
                groups: self.make_group("lxc.payload.two")?,
                overlays: vec![(snapshot, rootfs)],
            }),
            ..Part::default()
        };
        self.other("guest", &part, &["lxc monitor two"])?;
        Ok(())
    }

    /// An ID of ours of which nothing but a dead bundle is left, and which another containerd has taken into use.
    fn id_in_use_elsewhere(&mut self, dice: &mut Dice) -> Result<()> {
        let id = dice.hex(64);
        Bundle::new(&id, &format!("/kubepods/podz/{id}")).write(&self.places.state)?;
        let groups = self.make_group(&format!("/kubepods/podz/{id}"))?;
        let pid = self.bystander(
            &Part { name: "nginx".into(), groups: groups.clone(), ..Part::default() },
            &["nginx"],
        )?;
        let bundle = Path::new("/run/containerd").join(fixture::TASKS).join(&id);
        self.foreign_state(&id, pid, &groups, &bundle)
    }
}

/// Where the bundle of a container lies that a guest or another instance has, by its own paths.
fn usual_bundle(id: &str) -> PathBuf {
    Path::new(COMMON).join("run/containerd").join(fixture::TASKS).join(id)
}

/// Directories whose names begin like those of our roots.
fn neighbouring_roots() -> Result<()> {
    for root in
        ["var/lib/kubelet2", "var/lib/containerd-backup", "run/containerd2", "var/lib/kubelet.old/pods"]
    {
        let dir = Path::new(COMMON).join(root);
        write(dir.join("data"), "next to ours")?;
        fs::create_dir_all(dir.join("m"))?;
        mount_new("tmpfs", &dir.join("m"), MsFlags::empty(), "size=64k")?;
        write(dir.join("m/data"), "mounted next to ours")?;
    }
    Ok(())
}
