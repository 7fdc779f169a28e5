//! What is mounted for our pods, and what lies among their data.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::mount::{MsFlags, mount};

use super::{World, write};
use crate::actor::Part;
use crate::dice::Dice;
use support::Result;
use support::world::{bind, mount_new};

impl World {
    pub(super) fn volumes(&mut self, dice: &mut Dice) -> Result<()> {
        let kubelet = self.places.kubelet.clone();
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
        let data = self.places.images.clone();
        if self.has("data-symlink") {
            // At a place outside only what is containerd's by its name is given up.
            let data = data.join("io.containerd.content.v1.content");
            fs::create_dir_all(&data)?;
            symlink("/srv/users", data.join("link"))?;
            symlink("/srv/users/precious", data.join("link-to-file"))?;
            symlink("/", data.join("snapshots"))?;
            // A root that is a bind mount takes no link from outside.
            let _ = fs::hard_link("/srv/users/precious", data.join("hard"));
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

    pub(super) fn bind_of_ours(&mut self, from: &Path, at: &Path) -> Result<()> {
        fs::create_dir_all(at)?;
        bind(from, at)?;
        self.mounts.push(at.to_path_buf());
        Ok(())
    }
}
