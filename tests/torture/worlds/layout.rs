//! Where the snap's directories really are: moved and told by its arguments, links and bind mounts to another place; and
//! what of ours is mounted outside of all of them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::{COMMON, World, write};
use crate::actor;
use crate::dice::Dice;
use support::fixture::{self, TASKS};
use support::world::bind;
use support::{Result, sh};

/// The places of the snap's roots, as the kernel spells them.
pub struct Places {
    /// containerd's state and root directories.
    pub state: PathBuf,
    pub root: PathBuf,
    /// kubelet's directory.
    pub kubelet: PathBuf,
    /// What the profile names as containerd's root, wherever that has been moved to since.
    pub images: PathBuf,
}

impl Default for Places {
    fn default() -> Places {
        let below = |path| Path::new(COMMON).join(path);
        let (state, root) = (below("run/containerd"), below("var/lib/containerd"));
        Places { state, images: root.clone(), root, kubelet: below("var/lib/kubelet") }
    }
}

/// What containerd has in its root directory here.
const IN_ROOT: [&str; 4] = [
    "io.containerd.runtime.v2.task",
    "io.containerd.snapshotter.v1.overlayfs",
    "io.containerd.content.v1.content",
    "io.containerd.metadata.v1.bolt",
];

impl World {
    /// Makes the roots, each where the features of this world have it.
    pub(super) fn lay_out(&mut self) -> Result<()> {
        let mut words = vec!["--address ${SNAP_COMMON}/run/containerd.sock".to_owned()];
        for (name, usual, moved) in
            [("state", "run/containerd", "/mnt/big/run"), ("root", "var/lib/containerd", "/mnt/big/lib")]
        {
            let usual_place = Path::new(COMMON).join(usual);
            let is_moved = self.has(&format!("{name}-moved"));
            let spelled = if is_moved { PathBuf::from(moved) } else { usual_place.clone() };
            words.push(match is_moved {
                true => format!("--{name} {moved}"),
                false => format!("--{name}=${{SNAP_COMMON}}/{usual}"),
            });
            if is_moved {
                self.paths.push(usual_place);
            }
            let place = self.root(name, &spelled, is_moved)?;
            match name {
                "state" => self.places.state = place,
                _ if is_moved => self.places.root = place,
                _ => {
                    self.places.images.clone_from(&place);
                    self.places.root = place;
                }
            }
        }
        if self.has("kubelet-linked") {
            let link = self.places.kubelet.clone();
            self.places.kubelet = "/mnt/linked/kubelet".into();
            make_link(&link, &self.places.kubelet)?;
            self.either.push(link);
        }
        write("/mnt/big/precious", "an administrator's")?;
        write("/var/snap/microk8s/1/args/containerd", &(words.join("\n") + "\n"))
    }

    /// Makes one of containerd's directories, and says what is to become of what lies in it.
    fn root(&mut self, name: &str, spelled: &Path, is_moved: bool) -> Result<PathBuf> {
        let chosen = |feature: &str| {
            let which = *Dice::about(self.seed, feature).one_of(&["state", "root", "both"]);
            self.has(feature) && (which == name || which == "both")
        };
        let (is_linked, is_bound) = (chosen("roots-linked"), chosen("roots-bound"));
        let mut place = spelled.to_path_buf();
        if is_linked {
            place = Path::new("/mnt/linked").join(name);
            make_link(spelled, &place)?;
            self.either.push(spelled.to_path_buf());
        }
        fs::create_dir_all(&place)?;
        let has_database = name == "root" && (is_moved || is_linked);
        if is_bound {
            let source = Path::new("/mnt/bound").join(name);
            fs::create_dir_all(&source)?;
            bind(&source, &place)?;
            self.either.extend(IN_ROOT.map(|own| source.join(own)));
        }
        if has_database {
            // Who holds the lock on it works there; nobody does.
            let database = place.join("io.containerd.metadata.v1.bolt");
            fs::create_dir_all(&database)?;
            fs::write(database.join("meta.db"), empty_database())?;
        }
        match (is_moved || is_linked, is_bound) {
            // What an administrator has beside it there is his.
            (true, _) => {
                if Dice::about(self.seed, "beside").percent(50) {
                    write(place.join("users/precious"), "an administrator's, beside ours")?;
                } else if !is_bound {
                    self.either.push(place.clone());
                }
                match is_moved {
                    true => {
                        self.either.extend(IN_ROOT.map(|own| place.join(own)));
                        self.moved.push(place.clone());
                    }
                    false => {
                        self.paths.extend(IN_ROOT.map(|own| place.join(own)));
                        self.linked.push(place.clone());
                    }
                }
            }
            (false, true) => self.paths.extend(IN_ROOT.map(|own| place.join(own))),
            (false, false) => self.paths.push(place.clone()),
        }
        Ok(place)
    }

    /// Mounts of ours at places of an administrator's: what they show is the snap's.
    pub(super) fn mounts_elsewhere(&mut self, dice: &mut Dice) -> Result<()> {
        write(Path::new(COMMON).join("debug/file"), "in the snap's directory")?;
        for (n, from) in ["debug", "var/log"].into_iter().enumerate().take(1 + dice.below(2) as usize) {
            let from = Path::new(COMMON).join(from);
            fs::create_dir_all(&from)?;
            let at = Path::new("/srv/elsewhere").join(n.to_string());
            match self.has("snap-namespace") {
                true => self.bind_on_the_host(&from, &at)?,
                false => self.bind_of_ours(&from, &at)?,
            }
        }
        if self.has("snap-namespace") {
            return Ok(());
        }
        // Of a root outside of the snap's directories, layers tell nothing.
        if !self.has("root-moved") {
            let (snapshot, at) =
                (fixture::snapshot(&self.places.root, "debug"), Path::new("/srv/elsewhere/root"));
            actor::overlay(&snapshot, at)?;
            self.mounts.push(at.to_path_buf());
        }
        Ok(())
    }

    pub(super) fn namespace_or_usual(&self) -> &str {
        if self.namespace.is_empty() { "k8s.io" } else { &self.namespace }
    }

    /// As an administrator does, who is in the machine's own mount namespace.
    fn bind_on_the_host(&mut self, from: &Path, at: &Path) -> Result<()> {
        let (from, point) = (from.display(), at.display());
        sh(&format!("nsenter -t 1 -m sh -ec 'mkdir -p {point}; mount --bind {from} {point}'"))?;
        self.on_host.push(at.to_path_buf());
        Ok(())
    }

    /// Bundles of the namespace in which containers are made now.
    pub(super) fn bundles(&self) -> PathBuf {
        self.places.state.join(TASKS).with_file_name(self.namespace_or_usual())
    }

    pub(super) fn bundle(&self, id: &str) -> PathBuf {
        self.bundles().join(id)
    }

    /// Where runc keeps its state of a container.
    pub(super) fn state_of(&self, id: &str) -> PathBuf {
        Path::new("/run/containerd/runc").join(self.namespace_or_usual()).join(id)
    }
}

fn make_link(link: &Path, place: &Path) -> Result<()> {
    fs::create_dir_all(place)?;
    fs::create_dir_all(link.parent().ok_or("a link has a directory")?)?;
    symlink(place, link).map_err(|e| format!("cannot link '{}': {e}", link.display()).into())
}

/// A database of containerd's in which nothing is, as bbolt begins one (go.etcd.io/bbolt: `db.go`, `init`).
fn empty_database() -> Vec<u8> {
    const PAGE: usize = 4096;
    const META: u16 = 4;
    const LEAF: u16 = 2;
    const FREELIST: u16 = 16;
    let fnv = |bytes: &[u8]| {
        bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        })
    };
    let meta = |id: u64| {
        let words = [0x2_ed0c_daed, PAGE as u64, 3, 0, 2, 4, id];
        let mut meta: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
        meta.extend(fnv(&meta).to_le_bytes());
        meta
    };
    let pages = [(META, meta(0)), (META, meta(1)), (FREELIST, Vec::new()), (LEAF, Vec::new())];
    let mut bytes = Vec::new();
    for (id, (kind, body)) in (0_u64..).zip(pages) {
        bytes.extend(id.to_le_bytes());
        bytes.extend(u64::from(kind).to_le_bytes());
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(PAGE), 0);
    }
    bytes
}
