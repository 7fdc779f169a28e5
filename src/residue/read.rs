//! Reading residues back from a document.
//!
//! By hand, for the program's size: where the kind stands beside the other fields, the code that serde derives reads all into
//! a tree of values first, and then each kind from that, which takes 40 KB. Here a residue's JSON is read twice instead.

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{Device, Residue};
use crate::json;

/// The kinds by the names that the document has for them.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Service,
    Task,
    Shim,
    Netns,
    Link,
    Rule,
    NftRule,
    Flows,
    Mount,
    Loop,
    Device,
    Cgroup,
    Path,
    Detached,
    RuntimeLeftRunning,
    /// A later version's.
    #[serde(other)]
    Unknown,
}

/// The kind of a residue, and its JSON.
fn of_kind<'de, D: Deserializer<'de>>(from: D) -> Result<(Kind, Box<RawValue>), D::Error> {
    #[derive(Deserialize)]
    struct Tagged {
        kind: Kind,
    }
    let json = Box::<RawValue>::deserialize(from)?;
    let tagged: Tagged = one(&json).map_err(D::Error::custom)?;
    Ok((tagged.kind, json))
}

fn one<T: DeserializeOwned>(json: &RawValue) -> serde_json::Result<T> {
    json::parse(json.get().as_bytes())
}

/// The fields of the device stand beside the others.
fn device(json: &RawValue) -> serde_json::Result<Device> {
    #[derive(Deserialize)]
    struct Beside {
        ours: bool,
        command: String,
    }
    let Beside { ours, command } = one(json)?;
    Ok(Device { device: one(json)?, ours, command })
}

impl<'de> Deserialize<'de> for Residue {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Residue, D::Error> {
        let (kind, json) = of_kind(from)?;
        let read = match kind {
            Kind::Service => one(&json).map(Residue::Service),
            Kind::Task => one(&json).map(Residue::Task),
            Kind::Shim => one(&json).map(Residue::Shim),
            Kind::Netns => one(&json).map(Residue::Netns),
            Kind::Link => one(&json).map(Residue::Link),
            Kind::Rule => one(&json).map(Residue::Rule),
            Kind::NftRule => one(&json).map(Residue::NftRule),
            Kind::Flows => one(&json).map(Residue::Flows),
            Kind::Mount => one(&json).map(Residue::Mount),
            Kind::Loop => one(&json).map(Residue::Loop),
            Kind::Device => device(&json).map(Residue::Device),
            Kind::Cgroup => one(&json).map(Residue::Cgroup),
            Kind::Path => one(&json).map(Residue::Path),
            Kind::Detached => one(&json).map(Residue::Detached),
            Kind::RuntimeLeftRunning => one(&json).map(Residue::RuntimeLeftRunning),
            Kind::Unknown => return Err(D::Error::custom("a kind of residue that is not known here")),
        };
        read.map_err(D::Error::custom)
    }
}

/// For `#[serde(deserialize_with = …)]`: a mount that was detached, or nothing where it is something else.
pub fn detached<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Residue>, D::Error> {
    match of_kind(from)? {
        (Kind::Detached, json) => one(&json).map(|it| Some(Residue::Detached(it))).map_err(D::Error::custom),
        _ => Ok(None),
    }
}
