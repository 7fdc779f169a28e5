//! Our own pods: shims, sandboxes and applications, with what a runtime writes down of them.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::{ADDRESS, SERVICE, World, shim_line, start_time, write};
use crate::actor::{self, Behaviour, Contained, Part};
use crate::dice::Dice;
use support::Result;
use support::fixture::{self, Bundle};

impl World {
    /// One pod of ours: a shim, a sandbox, and one or more applications.
    pub fn pod(&mut self, dice: &mut Dice) -> Result<()> {
        let uid = format!("{}-{}", dice.hex(8), dice.hex(12));
        let (parent, spec_parent) = self.parent(&uid, dice);
        let sandbox = self.id(dice, 0);
        let count = if self.has("many-containers") { 2 + dice.below(5) } else { 1 + dice.below(2) };
        let mut containers = Vec::new();
        let others = (0..count).map(|n| self.id(dice, 1 + n));
        let ids: Vec<_> = std::iter::once(sandbox.clone()).chain(others).collect();
        if self.has("network") {
            self.own_network(&sandbox, &netns_of(&uid))?;
        }
        for id in &ids {
            containers.push(self.container(id, &sandbox, &parent, &spec_parent, &uid, dice)?);
        }
        let pids = self.serve(&sandbox, &containers)?;
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
        self.ids.extend(ids);
        Ok(())
    }

    /// The shim of these containers, which it starts; their first processes.
    fn serve(&mut self, id: &str, containers: &[Contained]) -> Result<Vec<i32>> {
        let namespace = self.namespace_or_usual();
        let socket = fixture::socket_in(ADDRESS, namespace, id);
        let mut line = shim_line(ADDRESS, id);
        line[2] = namespace.to_owned();
        let part = Part {
            name: "containerd-shim".into(),
            groups: self.make_group(SERVICE)?,
            directory: Some(self.bundle(id)),
            socket: Some(socket.clone()),
            containers: containers.to_vec(),
            ..Part::default()
        };
        fs::create_dir_all("/run/containerd/s")?;
        let (child, pids) = actor::start(actor::command("shim", &part, &line)?)?;
        let pids: Vec<i32> = serde_json::from_str(&pids)?;
        for (container, pid) in containers.iter().zip(&pids) {
            fs::write(self.bundle(&container.id).join("init.pid"), pid.to_string())?;
            if container.runc.is_none() {
                self.state(&container.id, *pid, &container.part.groups, &self.bundle(&container.id))?;
            }
        }
        self.pids.push(i32::try_from(child.id())?);
        self.paths.push(socket);
        self.children.push(child);
        Ok(pids)
    }

    /// A container in another namespace of our containerd's, as docker has them; half of the time of an ID that a container
    /// of a pod has, too.
    pub(super) fn pod_of_moby(&mut self) -> Result<()> {
        let mut dice = Dice::about(self.seed, "moby");
        let id = if dice.percent(50) { dice.one_of(&self.ids).clone() } else { dice.hex(64) };
        self.namespace = "moby".into();
        let container = self.container(&id, &id, "/moby/ID", "/moby/ID", "", &mut dice)?;
        self.serve(&id, &[container])?;
        self.namespace.clear();
        Ok(())
    }

    /// A container's ID: as CRI makes them, or as anybody may choose one.
    fn id(&self, dice: &mut Dice, n: u64) -> String {
        let usual = dice.hex(64);
        let n = self.ids.len() as u64 + n;
        let mut about = Dice::about(self.seed.wrapping_add(n << 32), "odd-ids");
        if !self.has("odd-ids") || !about.percent(60) {
            return usual;
        }
        format!("{}-{n}", about.one_of(&["web", "podinfo", "my_app.1", "eth0", "K8s", "process", "a"]))
    }

    /// Where a pod's groups are, and how its containers' specs say so.
    fn parent(&mut self, uid: &str, dice: &mut Dice) -> (String, String) {
        let flat = uid.replace('-', "_");
        if self.has("odd-ids") && Dice::about(self.seed, "group of odd ids").percent(40) {
            return ("/k8s.io/ID".into(), "/k8s.io/ID".into()); // as `ctr run` makes them
        }
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
        let bundle = self.bundle(id);
        let rootfs = bundle.join("rootfs");
        let work = self.places.root.join(fixture::TASKS).with_file_name(self.namespace_or_usual()).join(id);
        for dir in [&bundle, &work] {
            fs::create_dir_all(dir)?;
        }
        symlink(&work, bundle.join("work"))?;
        let snapshot = fixture::snapshot(&self.places.root, 10 + self.leaves.len());
        actor::overlay(&snapshot, &rootfs)?;
        self.mounts.push(rootfs.clone());
        let group = parent.replace("ID", id);
        let by_runc = self.has("by-runc") && dice.percent(60) && self.namespace.is_empty();
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
        let on_host = self.has("host-net") && dice.percent(60);
        let own_net = !on_host || self.has("network") && is_sandbox;
        let netns = (self.has("network") && own_net && !uid.is_empty()).then(|| netns_of(uid));
        let network = netns.as_deref().map(|name| Path::new("/run/netns").join(name));
        let mut contained = Contained { id: id.into(), part, rootfs, own_pid, own_net, network, runc: None };
        if by_runc {
            self.show_image(&snapshot)?;
            contained.runc = Some(bundle.clone());
            self.paths.push(self.state_of(id));
        }
        let spec_group = spec_parent.replace("ID", id);
        let written = written(&contained, sandbox, &spec_group, uid, netns.as_deref())?;
        written.write_in(&self.bundles())?;
        if self.has("state-moved") {
            self.paths.push(bundle.clone());
        }
        fs::write(bundle.join("runtime"), "io.containerd.runc.v2")?;
        let socket = fixture::socket_in(ADDRESS, self.namespace_or_usual(), sandbox);
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
        let image = snapshot.join("fs/app");
        // A root that is a bind mount takes no link from outside.
        fs::hard_link(app, &image)
            .or_else(|_| fs::copy(app, &image).map(drop))
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
    pub(super) fn state(&mut self, id: &str, pid: i32, groups: &[PathBuf], bundle: &Path) -> Result<()> {
        let dir = self.state_of(id);
        let start = start_time(pid)?;
        let groups: Vec<_> = groups.iter().enumerate().map(|(n, g)| (n.to_string(), g.clone())).collect();
        let state = fixture::runc_state(id, (pid, start), &groups, bundle);
        write(dir.join("state.json"), &state.to_string())?;
        self.paths.push(dir);
        Ok(())
    }

    /// A state of somebody else's container, among ours.
    pub(super) fn foreign_state(
        &mut self,
        id: &str,
        pid: i32,
        groups: &[PathBuf],
        bundle: &Path,
    ) -> Result<()> {
        let known = self.paths.len();
        self.state(id, pid, groups, bundle)?;
        self.paths.truncate(known);
        Ok(())
    }
}

/// As CNI names the network namespace of a pod.
fn netns_of(uid: &str) -> String {
    let (first, last) = uid.split_once('-').unwrap_or((uid, ""));
    format!("cni-{first}-0000-4000-8000-{last}")
}

/// The bundle of a container that runc can run as well: with this program, in its part.
fn written(
    container: &Contained,
    sandbox: &str,
    group: &str,
    uid: &str,
    netns: Option<&str>,
) -> Result<Bundle> {
    let part = Part { groups: Vec::new(), uid: 0, ..container.part.clone() };
    let mut bundle = Bundle::new(&container.id, group);
    if !uid.is_empty() {
        bundle = bundle.of_sandbox(sandbox).of_pod("pod").annotated("sandbox-uid", uid);
    }
    let mut namespaces = vec!["mount", "ipc", "uts"];
    namespaces.extend(container.own_pid.then_some("pid"));
    namespaces.extend(container.own_net.then_some("network"));
    let mut namespaces: Vec<_> = namespaces.into_iter().map(|name| json!({ "type": name })).collect();
    if let (Some(netns), Some(network)) = (netns, namespaces.iter_mut().find(|n| n["type"] == "network")) {
        network["path"] = json!(format!("/run/netns/{netns}"));
    }
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
