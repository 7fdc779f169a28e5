//! Whose the traces are of containers that have ended: which of CRI's records name them, and for which pod. Of a node that has
//! run for long there are far more of these than [`super::MOST_CONTAINERS`], so nothing else of them is kept.

use std::collections::HashSet;
use std::path::Path;

use super::{CRI, Record, cri, extensions, open, value_of};
use crate::runtime::bolt::{self, BoltError, Bucket, Item, ReadAt};
use crate::runtime::{pod_logs, shim};

/// Of what something is there: containers and sandboxes by their IDs, pods as their logs are called.
#[derive(Debug, Default)]
pub struct Wanted {
    pub ids: HashSet<String>,
    pub pods: HashSet<String>,
}

/// A record of one that is wanted.
#[derive(Debug, PartialEq)]
pub struct Trace {
    pub id: String,
    /// Its sandbox; a sandbox is its own.
    pub sandbox: String,
    /// Its pod, as its logs are called.
    pub pod: Option<String>,
}

/// Those in the database in this file, which is there or not; and why some may be missing.
pub fn read_file(path: &Path, wanted: &Wanted) -> Result<(Vec<Trace>, Option<BoltError>), BoltError> {
    open(path)?.map_or(Ok((Vec::new(), None)), |file| read(&file, wanted))
}

/// The same from anything.
pub fn read(source: &dyn ReadAt, wanted: &Wanted) -> Result<(Vec<Trace>, Option<BoltError>), BoltError> {
    bolt::read(source, |database| {
        let (mut found, mut wrong) = (Vec::new(), None);
        for kind in ["containers", "sandboxes"] {
            let Some(all) = database.bucket(&[b"v1", CRI.as_bytes(), kind.as_bytes()])? else { continue };
            let walked = all.each(&mut |key, item| {
                if let (Some(id), Item::Bucket(bucket)) = (shim::name(key), item) {
                    found.extend(trace(id, &bucket, wanted));
                }
            });
            wrong = wrong.or(walked.err());
        }
        Ok((found, wrong))
    })
}

/// Shows the namespace and the ID of each container and of each sandbox in the database in this file, if it is there; an error comes
/// after all that could be read.
pub fn names(path: &Path, take: &mut dyn FnMut(&str, &str)) -> Result<(), BoltError> {
    open(path)?.map_or(Ok(()), |file| names_in(&file, take))
}

/// The same from anything.
pub fn names_in(source: &dyn ReadAt, take: &mut dyn FnMut(&str, &str)) -> Result<(), BoltError> {
    bolt::read(source, |database| {
        let Some(all) = database.bucket(&[b"v1"])? else { return Ok(()) };
        let mut namespaces = Vec::new();
        let mut wrong = all.each(&mut |key, _| namespaces.extend(shim::name(key)));
        for namespace in &namespaces {
            for kind in ["containers", "sandboxes"] {
                let Some(all) = database.bucket(&[b"v1", namespace.as_bytes(), kind.as_bytes()])? else {
                    continue;
                };
                let walked =
                    all.each(&mut |key, _| shim::name(key).iter().for_each(|id| take(namespace, id)));
                wrong = wrong.and(walked);
            }
        }
        wrong
    })
}

fn trace(id: String, bucket: &Bucket, wanted: &Wanted) -> Option<Trace> {
    let mut record = Record::default();
    // What makes no sense tells nothing; that the container was there its key alone says.
    if let Ok(Some(below)) = bucket.bucket(b"extensions") {
        let _ = extensions(&mut record, &id, &below);
        let of_sandbox = |value: &[u8]| drop(cri::take_sandbox(&mut record, &id, value));
        let _ = value_of(&below, b"metadata", of_sandbox);
    }
    let pod = record.pod.as_ref().map(pod_logs::name_of);
    let is_wanted = wanted.ids.contains(&id) || pod.as_ref().is_some_and(|pod| wanted.pods.contains(pod));
    let sandbox = record.sandbox_id.unwrap_or_else(|| id.clone());
    is_wanted.then_some(Trace { id, sandbox, pod })
}
