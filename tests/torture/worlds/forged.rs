//! What containers and local users forge: bundles, CNI results and command lines that name what is a bystander's.
//!
//! Right is to leave the bystander alone, to tell the doubt, and to end all the same what is proven ours.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::{ADDRESS, World, shim_line, write};
use crate::actor::Part;
use crate::dice::Dice;
use support::Result;
use support::fixture::{self, Bundle};
use support::sh;

/// A user's login session.
const SESSION: &str = "user.slice/user-1000.slice/session-3.scope";

impl World {
    pub(super) fn forge(&mut self, own: &str) -> Result<()> {
        if self.has("forged-group") {
            self.forged_group()?;
        }
        if self.has("forged-netns") {
            self.forged_netns()?;
        }
        if self.has("forged-socket") {
            self.forged_socket()?;
        }
        if self.has("posing-user") {
            self.posing_user(own)?;
        }
        if self.has("forged-results") {
            self.forged_results(own)?;
        }
        Ok(())
    }

    /// A bundle names the group of a user's session, of a guest, or of another manager's container.
    fn forged_group(&mut self) -> Result<()> {
        let mut dice = Dice::about(self.seed, "forged-group");
        let hex = dice.hex(64);
        let scope = format!("machine.slice/libpod-{hex}.scope");
        let (id, group) = *dice.one_of(&[("3", SESSION), ("web", "lxc/web"), (&hex, &scope)]);
        let groups = self.make_group(group)?;
        self.bystander(&Part { name: "bash".into(), groups, uid: 1000, ..Part::default() }, &["-bash"])?;
        let bundle = Bundle::new(id, &format!("/{group}")).write_in(&self.bundles())?;
        self.planted(&bundle, &[&format!("k8s.io/{id}"), id]);
        self.must_doubt.push(group.to_owned());
        Ok(())
    }

    /// A bundle names the network namespace of another runtime's pod.
    fn forged_netns(&mut self) -> Result<()> {
        let mut dice = Dice::about(self.seed, "forged-netns");
        let name = format!("cni-{}-1111-2222-3333-{}", dice.hex(8), dice.hex(12));
        self.foreign_network(&name, "vethother1", &dice.hex(64))?;
        let id = dice.hex(64);
        let netns = format!("/run/netns/{name}");
        let group = format!("/kubepods/podplanted/{id}");
        let bundle = Bundle::new(&id, &group).of_sandbox(&id).in_netns(&netns).write_in(&self.bundles())?;
        self.planted(&bundle, &[&id[..12], &name]);
        self.must_doubt.push(name);
        Ok(())
    }

    /// A bundle names the socket at which another containerd's shim listens.
    fn forged_socket(&mut self) -> Result<()> {
        let mut dice = Dice::about(self.seed, "forged-socket");
        let other = dice.hex(64);
        let socket = fixture::socket_in("/run/containerd/containerd.sock", "moby", &other);
        fs::create_dir_all("/run/containerd/s")?;
        let part = Part {
            name: "containerd-shim".into(),
            groups: self.make_group("system.slice/docker.service")?,
            socket: Some(socket.clone()),
            ..Part::default()
        };
        let line = ["/usr/bin/containerd-shim-runc-v2", "-namespace", "moby", "-id", &other];
        self.bystander(&part, &[&line[..], &["-address", "/run/containerd/containerd.sock"]].concat())?;
        let id = dice.hex(64);
        let bundle = Bundle::new(&id, &format!("/kubepods/podplanted/{id}")).write_in(&self.bundles())?;
        fixture::write_address(&bundle, &socket)?;
        self.planted(&bundle, &[&id[..12], &socket.display().to_string()]);
        Ok(())
    }

    /// A user's process has a shim's command line, and works among our bundles: everybody may enter that directory.
    fn posing_user(&mut self, own: &str) -> Result<()> {
        let mut dice = Dice::about(self.seed, "posing-user");
        let id = if dice.percent(50) { own.to_owned() } else { "eth0".to_owned() };
        let part = Part {
            name: "containerd-shim".into(),
            groups: self.make_group(SESSION)?,
            directory: Some(self.bundles()),
            uid: 1000,
            ..Part::default()
        };
        let line = shim_line(ADDRESS, &id);
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        let pid = self.bystander(&part, &line)?;
        self.doubts.push(format!("shim {pid}"));
        Ok(())
    }

    /// CNI's result of a container of ours names the link and the namespace of another runtime's pod.
    fn forged_results(&mut self, own: &str) -> Result<()> {
        let mut dice = Dice::about(self.seed, "forged-results");
        let name = format!("cni-{}-4444-5555-6666-{}", dice.hex(8), dice.hex(12));
        self.foreign_network(&name, "vethother2", &dice.hex(64))?;
        let file = result("k8s-pod-network", own, "net1", "vethother2", &name, "10.1.9.9")?;
        // Where its container is in doubt, the file itself is told.
        self.doubts.extend([name, "vethother2".into(), file.to_string_lossy().into_owned()]);
        self.either.extend([file, "/var/lib/cni/networks/k8s-pod-network/10.1.9.9".into()]);
        Ok(())
    }

    /// A bundle that is a forgery goes with the directory, or stays for the doubt.
    fn planted(&mut self, bundle: &Path, words: &[&str]) {
        self.either.push(bundle.to_path_buf());
        self.doubts.extend(words.iter().map(|word| (*word).to_owned()));
    }

    /// The network of a pod of another runtime: a namespace with a name and a process in it, a veth, a result and a lease.
    fn foreign_network(&mut self, name: &str, link: &str, id: &str) -> Result<()> {
        sh(&format!(
            "ip netns add {name}; ip link add {link} type veth peer name eth0 netns {name}; ip link set {link} up
             ip -n {name} addr add 10.77.0.9/24 dev eth0; ip -n {name} link set eth0 up"
        ))?;
        result("k3s", id, "eth0", link, name, "10.77.0.9")?;
        let part = Part {
            name: "nginx".into(),
            groups: self.make_group(&format!("/kubepods/besteffort/pod-of-others/{id}"))?,
            network: Some(Path::new("/run/netns").join(name)),
            ..Part::default()
        };
        self.bystander(&part, &["nginx"]).map(drop)
    }

    /// The network of a pod of ours, as CNI makes it before the sandbox is started.
    pub(super) fn own_network(&mut self, id: &str, name: &str) -> Result<()> {
        let link = format!("veth{:08x}", Dice::about(self.seed, name).next() & 0xFFFF_FFFF);
        sh(&format!("ip netns add {name}; ip link add {link} type veth peer name eth0 netns {name}"))?;
        let address = format!("10.1.0.{}", 2 + self.links.len());
        let file = result("k8s-pod-network", id, "eth0", &link, name, &address)?;
        self.paths.push(file);
        self.paths.push(Path::new("/var/lib/cni/networks/k8s-pod-network").join(address));
        let bound = Path::new("/run/netns").join(name);
        self.mounts.push(bound.clone());
        self.paths.push(bound);
        self.links.push(link);
        Ok(())
    }
}

/// What CNI keeps of an attachment, and the lease of its address.
fn result(
    network: &str,
    id: &str,
    interface: &str,
    link: &str,
    netns: &str,
    address: &str,
) -> Result<PathBuf> {
    let file = Path::new("/var/lib/cni/results").join(format!("{network}-{id}-{interface}"));
    let interfaces =
        json!([{ "name": link }, { "name": interface, "sandbox": format!("/var/run/netns/{netns}") }]);
    let text = json!({
        "kind": "cniCacheV1", "containerId": id, "networkName": network, "ifName": interface,
        "result": {
            "cniVersion": "0.4.0", "interfaces": interfaces,
            "ips": [{ "version": "4", "address": format!("{address}/24") }],
        },
    });
    write(&file, &text.to_string())?;
    let lease = Path::new("/var/lib/cni/networks").join(network).join(address);
    write(&lease, &format!("{id}\r\n{interface}"))?;
    Ok(file)
}
