//! What containerd knows of each container, read from its database while it is not running.
//!
//! The database is `<root>/io.containerd.metadata.v1.bolt/meta.db`. What CRI keeps in it about a container is all that
//! kubelet needs to end it as its pod asks: kubelet writes the pod's grace and preStop hook into annotations, to read them
//! back when the pod itself is forgotten (kubelet `kuberuntime/labels.go`, `newContainerAnnotations`). The layout has been
//! the same since containerd 1.6 (`core/metadata/buckets.go`; `metadata/buckets.go` before 2.0):
//!
//! ```text
//! v1 / NAMESPACE / containers / ID / image, snapshotter, snapshotKey, sandboxid, spec, runtime/name, labels/, extensions/
//! v1 / NAMESPACE / sandboxes / ID / extensions/metadata
//! ```
//!
//! containerd 2.x writes a sandbox there before it makes its network and its container (`internal/cri/server/sandbox_run.go`).
//!
//! All of it is a hint: a hostPath volume may reach the file. A record that makes no sense is passed over with a remark,
//! and says nothing about the others. What is kept is no more than what is read ([`bolt::MOST_BYTES`]); of the
//! containers' own processes, which only a hook in the container needs, [`MOST_PROCESSES`].

mod any;
mod cri;
pub mod snapshots;
#[cfg(test)]
pub(crate) mod tests;
pub mod traces;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::libc::{O_CLOEXEC, O_NOFOLLOW, O_NONBLOCK};

use super::bolt::{self, BoltError, Bucket, Item, ReadAt};
use super::pre_stop::{Port, PreStop};
use super::{ContainerId, Pod, shim, stop_signal};

/// Where the database is, below containerd's root.
pub const FILE: &str = "io.containerd.metadata.v1.bolt/meta.db";

/// More containers than this are not kept.
pub const MOST_CONTAINERS: usize = 8192;

/// A container's JSON is no longer: etcd takes no pod above 1.5 MiB.
const LONGEST_JSON: usize = 2 << 20;

/// Any other text is no longer.
const LONGEST_TEXT: usize = 4096;

/// All processes of containers with a hook together.
pub const MOST_PROCESSES: usize = 16 << 20;

/// So many remarks are kept in full.
const MOST_REMARKS: usize = 32;

/// The runtime that all of Kubernetes' containers have unless somebody chose another.
pub const RUNC: &str = "io.containerd.runc.v2";

/// The containers of all namespaces.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Records {
    /// By their names.
    pub containers: BTreeMap<ContainerId, Record>,
    /// What was there and could not be used.
    pub remarks: Remarks,
}

/// What is said of one container.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Record {
    /// The image's name.
    pub image: Option<String>,
    /// Who keeps its root file system.
    pub snapshotter: Option<String>,
    /// By which name.
    pub snapshot: Option<String>,
    /// The runtime's name, such as [`RUNC`].
    pub runtime: Option<String>,
    /// The sandbox it belongs to; a sandbox belongs to none.
    pub sandbox_id: Option<String>,
    pub pod: Option<Pod>,
    /// Its name in the pod.
    pub name: Option<String>,
    /// Seconds, if the pod was being deleted already when the container was made.
    pub deletion_grace: Option<u64>,
    /// Seconds, as the pod asks.
    pub termination_grace: Option<u64>,
    /// The signal that asks it to stop, if its image or its pod names one.
    pub stop_signal: Option<stop_signal::Number>,
    /// What is to be done before that.
    pub pre_stop: Option<PreStop>,
    pub ports: Vec<Port>,
    /// The spec's `process`, as JSON, if the hook is a command: that is then run in its place.
    pub process: Option<Box<str>>,
    /// What is only known of a sandbox.
    pub sandbox: Option<Sandbox>,
}

/// What is said of a pod's sandbox.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sandbox {
    /// Its network namespace, unless it is the host's.
    pub netns: Option<PathBuf>,
    /// Its addresses, the first one first.
    pub addresses: Vec<IpAddr>,
    /// The interfaces on the host that CNI made or used for it: its end of the pair, and the bridge where there is one.
    pub links: Vec<Link>,
    /// The name of the runtime's configuration; empty for the usual one.
    pub handler: String,
    /// True if it is in the host's network.
    pub host_network: bool,
    /// Where its containers' logs are.
    pub log_directory: Option<PathBuf>,
    /// The control group of the pod.
    pub cgroup_parent: Option<String>,
}

/// An interface on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub name: String,
    /// Its hardware address, as CNI wrote it.
    pub mac: String,
}

/// Bounded words about what could not be used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remarks {
    /// The first of them.
    pub texts: Vec<String>,
    /// How many there are in all.
    pub count: usize,
}

impl Remarks {
    fn add(&mut self, of: &str, what: impl std::fmt::Display) {
        self.count += 1;
        if self.texts.len() < MOST_REMARKS {
            let mut text = format!("{of}: {what}");
            text.truncate(text.floor_char_boundary(200));
            self.texts.push(text);
        }
    }
}

impl Records {
    /// The sandbox of a container; a sandbox is its own.
    pub fn sandbox_of(&self, container: &ContainerId) -> Option<&Sandbox> {
        let record = self.containers.get(container)?;
        match (&record.sandbox, &record.sandbox_id) {
            (Some(own), _) => Some(own),
            (None, Some(id)) => {
                let id = ContainerId { namespace: container.namespace.clone(), id: id.as_str().into() };
                self.containers.get(&id)?.sandbox.as_ref()
            }
            (None, None) => None,
        }
    }
}

/// Reads the database in this file, or says that there is none.
pub fn read_file(path: &Path) -> Result<Option<Records>, BoltError> {
    open(path)?.map(|file| read(&file)).transpose()
}

/// A database's file, if there is one, opened so that nobody can make us wait by what he puts there: no link at its end, no
/// FIFO, no device.
pub(super) fn open(path: &Path) -> Result<Option<File>, BoltError> {
    let mut options = File::options();
    let opened = options.read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC).open(path);
    let file = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    if file.metadata()?.is_file() { Ok(Some(file)) } else { Err(BoltError::NoMeta) }
}

/// Reads the database. An error says why nothing of it can be used; what is wrong with one record is a remark.
pub fn read(source: &dyn ReadAt) -> Result<Records, BoltError> {
    bolt::read(source, |database| {
        let mut reader = Reader::default();
        if !database.is_whole() {
            let words = "one of its two meta pages is damaged: this may be the state before the last change";
            reader.records.remarks.add("the file", words);
        }
        let Some(all) = database.bucket(&[b"v1"])? else {
            reader.records.remarks.add("the file", "nothing that containerd wrote is in it");
            return Ok(reader.records);
        };
        let walked = all.each(&mut |namespace, item| {
            if let Item::Bucket(bucket) = item {
                reader.namespace(namespace, &bucket);
            }
        });
        reader.note("the file", walked);
        reader.records.name_pods();
        Ok(reader.records)
    })
}

#[derive(Default)]
struct Reader {
    records: Records,
    /// Bytes of processes kept so far.
    processes: usize,
}

impl Reader {
    fn note<E: std::fmt::Display>(&mut self, of: &str, walked: Result<(), E>) {
        if let Err(error) = walked {
            self.records.remarks.add(of, error);
        }
    }

    fn namespace(&mut self, key: &[u8], bucket: &Bucket) {
        let Some(namespace) = shim::name(key) else {
            self.records.remarks.add("the file", "a namespace with a name that none can have");
            return;
        };
        for (kind, take) in [
            (&b"containers"[..], Reader::container as fn(&mut Reader, _, &_)),
            (b"sandboxes", Reader::sandbox),
        ] {
            let all = match bucket.bucket(kind) {
                Ok(Some(all)) => all,
                Ok(None) => continue,
                Err(error) => {
                    self.records.remarks.add(&namespace, error);
                    continue;
                }
            };
            let walked = all.each(&mut |key, item| match (shim::name(key), item) {
                (Some(id), Item::Bucket(bucket)) => {
                    let namespace = namespace.as_str().into();
                    take(self, ContainerId { namespace, id: id.into() }, &bucket);
                }
                _ => self.records.remarks.add(&namespace, "a container with a name that none can have"),
            });
            self.note(&namespace, walked);
        }
    }

    /// A sandbox that is no container yet, or is none for its runtime's sake.
    fn sandbox(&mut self, sandbox: ContainerId, bucket: &Bucket) {
        if sandbox.namespace != CRI || self.records.containers.contains_key(&sandbox) {
            return;
        }
        if self.records.containers.len() == MOST_CONTAINERS {
            return self.records.remarks.add(&sandbox.id, "too many containers");
        }
        let mut record = Record::default();
        let mut taken = Ok(());
        let mut take = |value: &[u8]| taken = cri::take_sandbox(&mut record, &sandbox.id, value);
        let walked = match bucket.bucket(b"extensions") {
            Ok(Some(extensions)) => value_of(&extensions, b"metadata", &mut take),
            Ok(None) => Ok(()),
            Err(error) => Err(error.to_string()),
        };
        self.note(&sandbox.id, walked.and(taken));
        if record.sandbox.is_some() {
            self.records.containers.insert(sandbox, record);
        }
    }

    fn container(&mut self, container: ContainerId, bucket: &Bucket) {
        let of = container.id.clone();
        if self.records.containers.len() == MOST_CONTAINERS {
            return self.records.remarks.add(&of, "too many containers");
        }
        let mut record = Record::default();
        let mut wrong = Vec::new();
        // In the order of their keys: what CRI says comes before the spec, and before what the spec is needed for.
        let walked = bucket.each(&mut |key, item| match (key, item) {
            (b"image", Item::Value(value)) => record.image = text(value),
            (b"snapshotter", Item::Value(value)) => record.snapshotter = text(value),
            (b"snapshotKey", Item::Value(value)) => record.snapshot = text(value),
            (b"sandboxid", Item::Value(value)) if record.sandbox_id.is_none() => {
                record.sandbox_id = shim::name(value)
            }
            (b"runtime", Item::Bucket(below)) => {
                wrong.extend(value_of(&below, b"name", |value| record.runtime = text(value)).err());
            }
            (b"labels", Item::Bucket(below)) => {
                wrong.extend(value_of(&below, STOP_SIGNAL, |value| take_label(&mut record, value)).err());
            }
            (b"extensions", Item::Bucket(below)) if container.namespace == CRI => {
                wrong.extend(extensions(&mut record, &container.id, &below).err());
            }
            (b"spec", Item::Value(value)) if matches!(record.pre_stop, Some(PreStop::Exec(_))) => {
                let process = cri::process(value, &container.id);
                match process.filter(|p| p.len() <= MOST_PROCESSES - self.processes) {
                    Some(process) => {
                        self.processes += process.len();
                        record.process = Some(process.into());
                    }
                    None => wrong.push("its process, which its hook needs, cannot be used".into()),
                }
            }
            _ => {}
        });
        wrong.extend(walked.err().map(|error| error.to_string()));
        wrong.into_iter().for_each(|words| self.records.remarks.add(&of, words));
        self.records.containers.insert(container, record);
    }
}

/// The namespace that CRI keeps to (containerd `internal/cri/constants`, `K8sContainerdNamespace`).
pub const CRI: &str = "k8s.io";

/// The label that containerd's client gives to containers made without CRI (`client/container_opts.go`).
const STOP_SIGNAL: &[u8] = b"io.containerd.image.config.stop-signal";

fn take_label(record: &mut Record, value: &[u8]) {
    // CRI gives its containers whatever labels their images have, and keeps the signal elsewhere.
    if record.sandbox.is_none() && record.sandbox_id.is_none() {
        record.stop_signal = text(value).and_then(|text| stop_signal::parse(&text));
    }
}

/// What CRI says of a container or of a sandbox. What makes no sense as a whole is not used at all.
fn extensions(record: &mut Record, id: &str, bucket: &Bucket) -> Result<(), String> {
    let mut result = Ok(());
    let walked = bucket.each(&mut |key, item| {
        let taken = match (key, item) {
            (b"io.cri-containerd.container.metadata", Item::Value(value)) => {
                cri::take_container(record, id, value)
            }
            (b"io.cri-containerd.sandbox.metadata", Item::Value(value)) => {
                cri::take_sandbox(record, id, value)
            }
            _ => Ok(()),
        };
        if result.is_ok() {
            result = taken;
        }
    });
    result.and(walked.map_err(|error| error.to_string()))
}

fn value_of(bucket: &Bucket, wanted: &[u8], mut take: impl FnMut(&[u8])) -> Result<(), String> {
    let walked = bucket.each(&mut |key, item| {
        if let Item::Value(value) = item
            && key == wanted
        {
            take(value);
        }
    });
    walked.map_err(|error| error.to_string())
}

fn text(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    (!text.is_empty() && text.len() <= LONGEST_TEXT).then(|| text.to_owned())
}

impl Records {
    /// A container that kubelet's labels do not name is of its sandbox's pod.
    fn name_pods(&mut self) {
        let sandboxes = self.containers.iter().filter(|(_, record)| record.sandbox.is_some());
        let mut pods = BTreeMap::new();
        pods.extend(sandboxes.filter_map(|(id, record)| Some((id.clone(), record.pod.clone()?))));
        for (container, record) in &mut self.containers {
            if let (None, Some(id)) = (&record.pod, &record.sandbox_id) {
                let id = ContainerId { namespace: container.namespace.clone(), id: id.as_str().into() };
                record.pod = pods.get(&id).cloned();
            }
        }
    }
}
