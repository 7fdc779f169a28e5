//! Builds one random world inside a private one, and writes down whose everything in it is.
//!
//! What is ours is known because it was made here, never by a rule that the program under test could share.

#![allow(dead_code)] // each test that includes this uses its own part

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Child;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::json;

use crate::actor::{self, Behaviour, Contained, Guest, Part};
use crate::dice::Dice;
use support::Result;
use support::fixture::{self, Bundle};
use support::hook::Snap;
use support::world::{Cgroups, bind, mount_new};

pub const COMMON: &str = "/var/snap/microk8s/common";
pub const ADDRESS: &str = "/var/snap/microk8s/common/run/containerd.sock";
const SERVICE: &str = "system.slice/snap.microk8s.daemon-containerd.service";
/// Seconds: short, so that stubborn applications do not make worlds slow.
pub const DRAIN: u64 = 1;
pub const DEADLINE: u64 = 20;

/// Everything that a world may have; each occurs in about every seventh world at least.
pub const FEATURES: &[&str] = &[
    "daemon",
    "stubborn",
    "bomb",
    "stopped",
    "traced",
    "non-root",
    "host-pid",
    "host-net",
    "nested-group",
    "paused",
    "many-containers",
    "by-runc",
    "systemd-names",
    "stacked",
    "bind-outside",
    "propagated",
    "busy",
    "odd-names",
    "mount-at-root",
    "data-symlink",
    "data-bind",
    "no-shim",
    "shim-killed",
    "half-deleted",
    "bundle-deleted",
    "config-cut",
    "state-cut",
    "state-deleted",
    "init-dead",
    "containerd-alive",
    "service-stray",
    "same-names",
    "foreign-groups",
    "own-id-elsewhere",
    "foreign-pause",
    "address-extends",
    "address-nested",
    "parallel-instance",
    "roots-extended",
    "foreign-state-of-own-id",
    "guest",
    "foreign-runtime",
    "user-data",
    "foreign-socket",
    "snap-namespace",
];

/// What a world is made of, and whose it is.
#[derive(Default)]
pub struct World {
    pub features: BTreeSet<String>,
    pub hybrid: bool,
    /// Control groups of ours: the containers' own, then the pods'.
    pub leaves: Vec<PathBuf>,
    pub pods: Vec<PathBuf>,
    /// Processes of ours that are in no group of a container.
    pub pids: Vec<i32>,
    /// Mount points of ours.
    pub mounts: Vec<PathBuf>,
    /// Files and directories of ours, with all that they hold.
    pub paths: Vec<PathBuf>,
    /// Mounts of ours that somebody else keeps busy: point and process.
    pub busy: Vec<(PathBuf, i32)>,
    /// Places that our own look must not enter.
    pub hidden: Vec<PathBuf>,
    children: Vec<Child>,
    ids: Vec<String>,
    image: bool,
}

impl World {
    pub fn has(&self, feature: &str) -> bool {
        self.features.contains(feature)
    }

    /// Builds the world of a seed.
    pub fn build(seed: u64, cgroups: Cgroups, snap: &Snap) -> Result<World> {
        let features: Vec<&str> =
            FEATURES.iter().copied().filter(|feature| Dice::about(seed, feature).percent(15)).collect();
        World::build_of(seed, &features, cgroups, snap)
    }

    /// Builds a world that has these features.
    pub fn build_of(seed: u64, features: &[&str], cgroups: Cgroups, snap: &Snap) -> Result<World> {
        if let Some(unknown) = features.iter().find(|feature| !FEATURES.contains(feature)) {
            return Err(format!("no such feature: {unknown}").into());
        }
        let mut dice = Dice::new(seed);
        let features = features.iter().map(|&feature| feature.to_owned()).collect();
        let mut world = World { hybrid: cgroups == Cgroups::Hybrid, features, ..World::default() };
        if world.has("snap-namespace") {
            // As snap-confine makes it, for everything of the snap: the first process keeps the host's.
            unshare(CloneFlags::CLONE_NEWNS)?;
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)?;
        }
        World::furnish(snap)?;
        if world.has("mount-at-root") {
            // A user's own disk at the root below which every mount is ours.
            write("/srv/disk/data", "on a user's disk")?;
            bind("/srv/disk".as_ref(), &Path::new(COMMON).join("var/lib/kubelet"))?;
        }
        for _ in 0..1 + dice.below(3) {
            world.pod(&mut dice)?;
        }
        world.volumes(&mut dice)?;
        world.bystanders(&mut dice)?;
        world.damage(&mut dice)?;
        for path in ["run/containerd", "var/lib/containerd"] {
            world.paths.push(Path::new(COMMON).join(path));
        }
        Ok(world)
    }

    /// What every snap has: a profile with less patience, directories, and users' data that nobody may touch.
    pub fn furnish(snap: &Snap) -> Result<()> {
        let text = include_bytes!("../../src/snap/profile/microk8s.json");
        let mut profile: serde_json::Value = serde_json::from_slice(text)?;
        profile["patience"] = json!({ "drain": DRAIN, "deadline": DEADLINE });
        fs::write(snap.dir.join("teardown.json"), profile.to_string())?;
        for (file, text) in [
            ("/srv/users/precious", "not ours"),
            ("/srv/users/deep/er/precious", "not ours either"),
            ("/var/snap/microk8s/common/default-storage/claim/data", "a user's"),
            ("/var/snap/microk8s/1/args/kubelet", "--config"),
            ("/var/snap/microk8s/common/var/lib/kubelet/config", "kubelet's"),
            ("/var/snap/other/common/run/containerd/state", "another snap's"),
            ("/run/containerd/s/0000", "a host's"),
        ] {
            write(file, text)?;
        }
        fs::create_dir_all("/run/containerd/runc/k8s.io")?;
        fs::create_dir_all("/run/netns")?;
        Ok(())
    }

    /// The hierarchies in which containers have groups.
    pub fn hierarchies(&self) -> Vec<PathBuf> {
        let top = PathBuf::from("/sys/fs/cgroup");
        if !self.hybrid {
            return vec![top];
        }
        let all = fs::read_dir(top).into_iter().flatten().flatten();
        all.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path())
            .collect()
    }

    pub fn make_group(&self, group: &str) -> Result<Vec<PathBuf>> {
        let dirs: Vec<_> =
            self.hierarchies().iter().map(|root| root.join(group.trim_start_matches('/'))).collect();
        for dir in &dirs {
            fs::create_dir_all(dir).map_err(|e| format!("cannot make '{}': {e}", dir.display()))?;
        }
        Ok(dirs)
    }

    fn bundle(id: &str) -> PathBuf {
        Path::new(COMMON).join("run/containerd").join(fixture::TASKS).join(id)
    }

    /// One pod of ours: a shim, a sandbox, and one or more applications.
    pub fn pod(&mut self, dice: &mut Dice) -> Result<()> {
        let uid = format!("{}-{}", dice.hex(8), dice.hex(12));
        let (parent, spec_parent) = self.parent(&uid, dice);
        let sandbox = dice.hex(64);
        let count = if self.has("many-containers") { 2 + dice.below(5) } else { 1 + dice.below(2) };
        let mut containers = Vec::new();
        let ids: Vec<_> = std::iter::once(sandbox.clone()).chain((0..count).map(|_| dice.hex(64))).collect();
        for id in &ids {
            containers.push(self.container(id, &sandbox, &parent, &spec_parent, &uid, dice)?);
        }
        let socket = fixture::socket_of(ADDRESS, &sandbox);
        let line = shim_line(ADDRESS, &sandbox);
        let part = Part {
            name: "containerd-shim".into(),
            groups: self.make_group(SERVICE)?,
            directory: Some(Self::bundle(&sandbox)),
            socket: Some(socket.clone()),
            containers: containers.clone(),
            ..Part::default()
        };
        fs::create_dir_all("/run/containerd/s")?;
        let (child, pids) = actor::start(actor::command("shim", &part, &line)?)?;
        let pids: Vec<i32> = serde_json::from_str(&pids)?;
        if self.has("nested-group")
            && let (Some(last), Some(pid)) = (containers.iter().rfind(|c| c.runc.is_none()), pids.last())
            && last.id == ids[ids.len() - 1]
        {
            // As a container does that runs an init system of its own.
            for group in &last.part.groups {
                fs::create_dir_all(group.join("init.scope/deeper"))?;
                fs::write(group.join("init.scope/cgroup.procs"), pid.to_string())?;
            }
        }
        for (container, pid) in containers.iter().zip(&pids) {
            fs::write(Self::bundle(&container.id).join("init.pid"), pid.to_string())?;
            if container.runc.is_none() {
                self.state(&container.id, *pid, &container.part.groups, &Self::bundle(&container.id))?;
            }
        }
        self.pids.push(i32::try_from(child.id())?);
        self.paths.push(socket);
        self.children.push(child);
        self.ids.extend(ids);
        Ok(())
    }

    /// Where a pod's groups are, and how its containers' specs say so.
    fn parent(&mut self, uid: &str, dice: &mut Dice) -> (String, String) {
        let flat = uid.replace('-', "_");
        if self.has("systemd-names") && !self.has("by-runc") {
            let slice = format!("kubepods-burstable-pod{flat}.slice");
            return match dice.percent(50) {
                true => (
                    format!("/kubepods.slice/kubepods-burstable.slice/{slice}/cri-containerd-ID.scope"),
                    format!("{slice}:cri-containerd:ID"),
                ),
                // What runc makes of it where there is no systemd.
                false => (format!("/{slice}:cri-containerd:ID"), format!("{slice}:cri-containerd:ID")),
            };
        }
        let class = dice.one_of(&["/kubepods", "/kubepods/burstable", "/kubepods/besteffort"]);
        let group = format!("{class}/pod{uid}/ID");
        (group.clone(), group)
    }

    fn container(
        &mut self,
        id: &str,
        sandbox: &str,
        parent: &str,
        spec_parent: &str,
        uid: &str,
        dice: &mut Dice,
    ) -> Result<Contained> {
        let is_sandbox = id == sandbox;
        let bundle = Self::bundle(id);
        let rootfs = bundle.join("rootfs");
        let work = Path::new(COMMON).join("var/lib/containerd").join(fixture::TASKS).join(id);
        for dir in [&bundle, &work] {
            fs::create_dir_all(dir)?;
        }
        symlink(&work, bundle.join("work"))?;
        let root = Path::new(COMMON).join("var/lib/containerd");
        let snapshot = fixture::snapshot(&root, 10 + self.leaves.len());
        actor::overlay(&snapshot, &rootfs)?;
        self.mounts.push(rootfs.clone());
        let group = parent.replace("ID", id);
        let by_runc = self.has("by-runc") && dice.percent(60);
        let groups = if by_runc { self.group_paths(&group) } else { self.make_group(&group)? };
        self.leaves.extend(groups.iter().cloned());
        let pods =
            groups.iter().filter_map(|g| g.parent()).filter(|p| p.display().to_string().contains("pod"));
        self.pods
            .extend(pods.filter(|p| !p.ends_with("kubepods")).map(Path::to_path_buf).collect::<Vec<_>>());
        let mut part = Part {
            name: if is_sandbox {
                "/pause".into()
            } else {
                (*dice.one_of(&["/coredns", "/usr/bin/calico-node", "nginx"])).into()
            },
            groups: if by_runc { Vec::new() } else { groups.clone() },
            ..Part::default()
        };
        if !is_sandbox {
            part.behaviour = self.behaviour(dice);
            part.limited = part.behaviour == Behaviour::Bomb && Self::limit_processes(&part.groups);
        }
        if self.has("non-root")
            && dice.percent(60)
            && matches!(part.behaviour, Behaviour::Obedient | Behaviour::Stubborn)
        {
            part.uid = 65535;
        }
        let own_pid = !(self.has("host-pid") && dice.percent(60));
        let own_net = !(self.has("host-net") && dice.percent(60));
        let mut contained = Contained { id: id.into(), part, rootfs, own_pid, own_net, runc: None };
        if by_runc {
            self.show_image(&snapshot)?;
            contained.runc = Some(bundle.clone());
            self.paths.push(format!("/run/containerd/runc/k8s.io/{id}").into());
        }
        let spec_group = spec_parent.replace("ID", id);
        written(&contained, sandbox, &spec_group, uid)?.write(&Path::new(COMMON).join("run/containerd"))?;
        fs::write(bundle.join("runtime"), "io.containerd.runc.v2")?;
        let socket = fixture::socket_of(ADDRESS, sandbox);
        match dice.percent(50) {
            true => fixture::write_address(&bundle, &socket)?,
            false => fixture::write_bootstrap(&bundle, &socket)?,
        }
        if dice.percent(30) {
            let fifo = PathBuf::from(format!("/run/containerd/fifo/{}", dice.below(1 << 30)));
            fs::create_dir_all(&fifo)?;
            nix::unistd::mkfifo(&fifo.join(format!("{id}-stdout")), nix::sys::stat::Mode::S_IRWXU)?;
            self.paths.push(fifo);
        }
        Ok(contained)
    }

    fn group_paths(&self, group: &str) -> Vec<PathBuf> {
        self.hierarchies().iter().map(|root| root.join(group.trim_start_matches('/'))).collect()
    }

    /// Bounds how many processes a group may hold; false where no hierarchy has the controller for it.
    fn limit_processes(groups: &[PathBuf]) -> bool {
        let limit = |group: &PathBuf| {
            // Version 2 wants it switched on in each group above, from the top; version 1 has no such file.
            let above = group.ancestors().skip(1).filter(|g| g.starts_with("/sys/fs/cgroup"));
            for group in above.collect::<Vec<_>>().into_iter().rev() {
                let _ = fs::write(group.join("cgroup.subtree_control"), "+pids");
            }
            let file = group.join("pids.max");
            // Never made by us: on a tmpfs, where version 1 hierarchies are mounted, it would be a plain file.
            File::options().write(true).open(file).and_then(|mut file| file.write_all(b"24")).is_ok()
        };
        groups.iter().any(limit)
    }

    /// Puts this program into a container's lowest layer, for runc to run.
    fn show_image(&mut self, snapshot: &Path) -> Result<()> {
        let app = Path::new("/opt/app");
        if !self.image {
            fs::copy("/proc/self/exe", app)?;
            fs::set_permissions(app, fs::Permissions::from_mode(0o755))?;
            self.image = true;
        }
        fs::hard_link(app, snapshot.join("fs/app"))
            .map_err(|e| format!("cannot put the program into an image: {e}").into())
    }

    fn behaviour(&self, dice: &mut Dice) -> Behaviour {
        let wanted: Vec<_> = [
            ("daemon", Behaviour::Daemon),
            ("stubborn", Behaviour::Stubborn),
            ("bomb", Behaviour::Bomb),
            ("stopped", Behaviour::Stopped),
            ("traced", Behaviour::Traced),
        ]
        .into_iter()
        .filter(|(feature, _)| self.has(feature))
        .map(|(_, behaviour)| behaviour)
        .collect();
        if wanted.is_empty() { Behaviour::Obedient } else { *dice.one_of(&wanted) }
    }

    /// runc's state of a container, as far as anybody reads it.
    fn state(&mut self, id: &str, pid: i32, groups: &[PathBuf], bundle: &Path) -> Result<()> {
        let dir = PathBuf::from(format!("/run/containerd/runc/k8s.io/{id}"));
        let start = start_time(pid)?;
        let groups: Vec<_> = groups.iter().enumerate().map(|(n, g)| (n.to_string(), g.clone())).collect();
        let state = fixture::runc_state(id, (pid, start), &groups, bundle);
        write(dir.join("state.json"), &state.to_string())?;
        self.paths.push(dir);
        Ok(())
    }

    /// A state of somebody else's container, among ours.
    fn foreign_state(&mut self, id: &str, pid: i32, groups: &[PathBuf], bundle: &Path) -> Result<()> {
        let known = self.paths.len();
        self.state(id, pid, groups, bundle)?;
        self.paths.truncate(known);
        Ok(())
    }

    fn volumes(&mut self, dice: &mut Dice) -> Result<()> {
        let kubelet = Path::new(COMMON).join("var/lib/kubelet");
        let pod = kubelet.join("pods").join(dice.hex(8)).join("volumes");
        let token = pod.join("kubernetes.io~projected/token");
        self.tmpfs(&token)?;
        if self.has("stacked") {
            for _ in 0..1 + dice.below(3) {
                self.tmpfs(&token)?;
                self.tmpfs(&token.join("below"))?;
            }
        }
        if self.has("bind-outside") {
            let at = pod.join("kubernetes.io~local-volume/data");
            self.bind_of_ours("/srv/users".as_ref(), &at)?;
            self.bind_of_ours("/srv/users/deep".as_ref(), &kubelet.join("plugins/x/globalmount"))?;
            // A file, as subPath binds it.
            let file = pod.join("file");
            write(&file, "")?;
            bind("/srv/users/precious".as_ref(), &file)?;
            self.mounts.push(file);
        }
        if self.has("odd-names") {
            for name in [
                &b"with space"[..],
                b"new\nline",
                b"back\\slash",
                b"no\xfftext",
                b"tab\tand\\040octal",
                b" (deleted)",
            ] {
                if dice.percent(70) {
                    self.tmpfs(&pod.join(OsString::from_vec(name.to_vec())))?;
                }
            }
        }
        if self.has("propagated") {
            let at = pod.join("shared");
            self.tmpfs(&at)?;
            mount(None::<&str>, &at, None::<&str>, MsFlags::MS_SHARED, None::<&str>)?;
            self.bind_of_ours(&at, &pod.join("peer"))?;
            self.tmpfs_once(&at.join("below"))?;
            self.mounts.push(pod.join("peer/below"));
        }
        if self.has("busy") {
            let at = pod.join("busy");
            self.tmpfs(&at)?;
            let part = Part { name: "bash".into(), directory: Some(at.clone()), ..Part::default() };
            let pid = self.bystander(&part, &["-bash"])?;
            self.busy.push((at, pid));
        }
        let data = Path::new(COMMON).join("var/lib/containerd");
        if self.has("data-symlink") {
            symlink("/srv/users", data.join("link"))?;
            symlink("/srv/users/precious", data.join("link-to-file"))?;
            symlink("/", data.join("snapshots"))?;
            fs::hard_link("/srv/users/precious", data.join("hard"))?;
        }
        if self.has("data-bind") {
            self.bind_of_ours("/srv/users".as_ref(), &data.join("io.containerd.content.v1.content/x"))?;
        }
        Ok(())
    }

    pub fn tmpfs(&mut self, at: &Path) -> Result<()> {
        fs::create_dir_all(at)?;
        self.tmpfs_once(at)
    }

    pub fn tmpfs_once(&mut self, at: &Path) -> Result<()> {
        fs::create_dir_all(at)?;
        mount_new("tmpfs", at, MsFlags::empty(), "size=64k")?;
        fs::write(at.join("token"), "a token")?;
        self.mounts.push(at.to_path_buf());
        Ok(())
    }

    fn bind_of_ours(&mut self, from: &Path, at: &Path) -> Result<()> {
        fs::create_dir_all(at)?;
        bind(from, at)?;
        self.mounts.push(at.to_path_buf());
        Ok(())
    }

    /// A process that is nobody's business.
    pub fn bystander(&mut self, part: &Part, line: &[&str]) -> Result<i32> {
        self.other("be", part, line)
    }

    pub fn other(&mut self, play: &str, part: &Part, line: &[&str]) -> Result<i32> {
        let line: Vec<String> = line.iter().map(|&word| word.to_owned()).collect();
        let (child, _) = actor::start(actor::command(play, part, &line)?)?;
        let pid = i32::try_from(child.id())?;
        self.children.push(child);
        Ok(pid)
    }

    fn bystanders(&mut self, dice: &mut Dice) -> Result<()> {
        let own = self.ids[dice.below(self.ids.len() as u64) as usize].clone();
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
        }
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
            self.foreign_state(&id, pid, &groups, &Self::bundle(&id))?;
            let groups = self.make_group("system.slice/snap.microk8s_two.daemon-kubelite.service")?;
            self.bystander(&Part { name: "kubelite".into(), groups, ..Part::default() }, &["kubelite"])?;
        }
        if self.has("address-nested") {
            // A guest's processes as they look from the host: in a service's group of the same name, or in none.
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
        }
        if self.has("guest") {
            self.guest(dice)?;
        }
        if self.has("roots-extended") {
            for root in [
                "var/lib/kubelet2",
                "var/lib/containerd-backup",
                "run/containerd2",
                "var/lib/kubelet.old/pods",
            ] {
                let dir = Path::new(COMMON).join(root);
                write(dir.join("data"), "next to ours")?;
                fs::create_dir_all(dir.join("m"))?;
                mount_new("tmpfs", &dir.join("m"), MsFlags::empty(), "size=64k")?;
                write(dir.join("m/data"), "mounted next to ours")?;
            }
        }
        if self.has("foreign-state-of-own-id") {
            self.id_in_use_elsewhere(dice)?;
        }
        if self.has("user-data") {
            let volume = Path::new(COMMON).join("default-storage/claim/mounted");
            fs::create_dir_all(&volume)?;
            mount_new("tmpfs", &volume, MsFlags::empty(), "size=64k")?;
            write(volume.join("data"), "a user's, mounted")?;
            write("/var/snap/microk8s/1/var/kubernetes/backend/cluster.key", "secret")?;
        }
        if self.has("foreign-socket") {
            let socket = fixture::socket_of("/run/containerd/containerd.sock", &own);
            self.bystander(
                &Part { name: "other".into(), socket: Some(socket), ..Part::default() },
                &["other"],
            )?;
            fs::create_dir_all("/run/containerd/fifo/77")?;
            nix::unistd::mkfifo(
                format!("/run/containerd/fifo/77/{}-stdout", dice.hex(64)).as_str(),
                nix::sys::stat::Mode::S_IRWXU,
            )?;
        }
        if self.has("containerd-alive") || self.has("service-stray") {
            // Ours: services that snapd has not stopped, or not wholly.
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
        let rootfs = Self::bundle(&id).join("rootfs");
        let snapshot = fixture::snapshot(&Path::new(COMMON).join("var/lib/containerd"), 12);
        let groups = self.make_group(&format!("/lxc.payload.two/kubepods/podx/{id}"))?;
        let contained = Contained {
            id: id.clone(),
            part: Part { name: "/pause".into(), groups, ..Part::default() },
            rootfs: rootfs.clone(),
            own_pid: true,
            own_net: true,
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
        let state = Path::new(COMMON).join("run/containerd");
        Bundle::new(&id, &format!("/kubepods/podz/{id}")).write(&state)?;
        let groups = self.make_group(&format!("/kubepods/podz/{id}"))?;
        let pid = self.bystander(
            &Part { name: "nginx".into(), groups: groups.clone(), ..Part::default() },
            &["nginx"],
        )?;
        let bundle = Path::new("/run/containerd").join(fixture::TASKS).join(&id);
        self.foreign_state(&id, pid, &groups, &bundle)
    }

    /// What crashes, full disks and earlier removals leave. Never all evidence of a container at once: nobody could
    /// know it then.
    fn damage(&mut self, dice: &mut Dice) -> Result<()> {
        let ids = self.ids.clone();
        let own: Vec<i32> = self.pids.clone();
        let bundle_damage = ["half-deleted", "bundle-deleted", "config-cut"].iter().any(|d| self.has(d));
        for id in &ids {
            let bundle = Self::bundle(id);
            let state = PathBuf::from(format!("/run/containerd/runc/k8s.io/{id}"));
            if bundle_damage && dice.percent(60) {
                if self.has("half-deleted") {
                    // containerd renames it before it deletes; mounts move with their directory.
                    fs::rename(&bundle, bundle.with_file_name(format!(".{id}"))).ok();
                    self.follow(&bundle, &bundle.with_file_name(format!(".{id}")));
                } else if self.has("bundle-deleted") {
                    for file in ["config.json", "address", "bootstrap.json", "runtime", "init.pid"] {
                        fs::remove_file(bundle.join(file)).ok();
                    }
                } else if let Ok(text) = fs::read(bundle.join("config.json")) {
                    fs::write(bundle.join("config.json"), &text[..text.len() / 2])?;
                }
            } else if self.has("state-cut") && dice.percent(60) {
                let text = fs::read(state.join("state.json"))?;
                fs::write(state.join("state.json"), &text[..dice.below(text.len() as u64) as usize])?;
            } else if self.has("state-deleted") && dice.percent(60) {
                fs::remove_dir_all(&state)?;
            }
        }
        if self.has("init-dead") {
            // A container whose first process has died, and whose shim still serves it.
            let id = dice.one_of(&ids).clone();
            for leaf in self.leaves.clone().iter().filter(|l| l.display().to_string().contains(&id)) {
                for pid in pids_in(leaf) {
                    kill(pid);
                }
            }
        }
        if self.has("paused") {
            self.pause(dice)?;
        }
        if (self.has("shim-killed") || self.has("no-shim")) && !bundle_damage {
            for pid in own.iter().filter(|pid| is_shim(**pid)) {
                if self.has("no-shim") || dice.percent(60) {
                    kill(*pid);
                }
            }
        }
        for child in &mut self.children {
            child.try_wait()?;
        }
        Ok(())
    }

    fn follow(&mut self, from: &Path, to: &Path) {
        for path in self.mounts.iter_mut().chain(&mut self.paths) {
            if let Ok(below) = path.strip_prefix(from) {
                *path = to.join(below);
            }
        }
    }

    fn pause(&mut self, dice: &mut Dice) -> Result<()> {
        let leaf = dice.one_of(&self.leaves).clone();
        let name = leaf.file_name().unwrap_or_default().to_owned();
        for leaf in self.leaves.iter().filter(|l| l.file_name() == Some(&name)) {
            let (file, word) = if leaf.join("cgroup.freeze").exists() {
                ("cgroup.freeze", "1")
            } else {
                ("freezer.state", "FROZEN")
            };
            let path = leaf.join(file);
            if path.exists() && (!self.hybrid || file == "freezer.state") {
                fs::OpenOptions::new().write(true).open(path)?.write_all(word.as_bytes())?;
            }
        }
        Ok(())
    }

    /// Collects those that have ended, so that only the living are looked at.
    pub fn collect(&mut self) {
        for child in &mut self.children {
            let _ = child.try_wait();
        }
    }
}

/// The bundle of a container that runc can run as well: with this program, in its part.
fn written(container: &Contained, sandbox: &str, group: &str, uid: &str) -> Result<Bundle> {
    let part = Part { groups: Vec::new(), uid: 0, ..container.part.clone() };
    let mut bundle =
        Bundle::new(&container.id, group).of_sandbox(sandbox).of_pod("pod").annotated("sandbox-uid", uid);
    let mut namespaces = vec!["mount", "ipc", "uts"];
    namespaces.extend(container.own_pid.then_some("pid"));
    namespaces.extend(container.own_net.then_some("network"));
    let namespaces: Vec<_> = namespaces.into_iter().map(|name| json!({ "type": name })).collect();
    bundle.spec["linux"]["namespaces"] = json!(namespaces);
    bundle.spec["ociVersion"] = json!("1.0.2");
    bundle.spec["process"] = json!({
        "user": { "uid": container.part.uid, "gid": container.part.uid },
        "args": ["/app"], "cwd": "/",
        "env": actor::environment("be", &part)?,
    });
    bundle.spec["root"] = json!({ "path": "rootfs" });
    bundle.spec["mounts"] = json!([{ "destination": "/proc", "type": "proc", "source": "proc" }]);
    Ok(bundle)
}

pub fn shim_line(address: &str, id: &str) -> Vec<String> {
    fixture::shim_line("/snap/microk8s/1", address, id)
}

pub fn write(path: impl AsRef<Path>, text: &str) -> Result<()> {
    let path = path.as_ref();
    fs::create_dir_all(path.parent().ok_or("a file has a directory")?)?;
    fs::write(path, text).map_err(|e| format!("cannot write '{}': {e}", path.display()).into())
}

pub fn start_time(pid: i32) -> Result<u64> {
    let stat =
        fs::read_to_string(format!("/proc/{pid}/stat")).map_err(|e| format!("no process {pid}: {e}"))?;
    let fields = stat.rsplit_once(')').ok_or("a process without a name")?.1;
    Ok(fields.split_whitespace().nth(19).ok_or("a short stat")?.parse()?)
}

pub fn pids_in(group: &Path) -> Vec<i32> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

fn is_shim(pid: i32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.windows(4).any(|w| w == b"shim"))
}

/// Ends a process and waits until it has ended.
fn kill(pid: i32) {
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    for _ in 0..200 {
        let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = state.rsplit_once(") ").map_or("", |(_, tail)| tail).chars().next();
        if matches!(state, None | Some('Z')) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5)); // it is not our child
    }
}
