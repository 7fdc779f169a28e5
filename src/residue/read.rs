//! Reading residues back from a document.
//!
//! By hand, for the program's size: the code that serde derives for a struct is 2 KB, and for an enum whose kind stands beside
//! the other fields much more. Here each field is read by itself, by the code that reads its type.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::Result;
use serde_json::value::RawValue;

use super::*;
use crate::json;

/// The fields of a residue, in JSON.
struct Fields<'a>(BTreeMap<String, &'a RawValue>);

impl Fields<'_> {
    fn of(json: &RawValue) -> Result<Fields<'_>> {
        json::parse(json.get().as_bytes()).map(Fields)
    }

    /// The value of a field. One that is not there is read as `null`.
    fn get<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        let json = self.0.get(name).map_or("null", |json| json.get());
        json::parse(json.as_bytes()).map_err(|e| in_field(name, &e))
    }

    /// The same of a list that older documents do not have.
    fn list<T: DeserializeOwned + Default>(&self, name: &str) -> Result<T> {
        if self.0.contains_key(name) { self.get(name) } else { Ok(T::default()) }
    }

    fn path(&self, name: &str) -> Result<PathBuf> {
        text::path(&self.get::<String>(name)?)
    }

    fn path_if_known(&self, name: &str) -> Result<Option<PathBuf>> {
        self.get::<Option<String>>(name)?.map(|path| text::path(&path)).transpose()
    }

    fn paths(&self, name: &str) -> Result<Vec<PathBuf>> {
        self.get::<Vec<String>>(name)?.iter().map(|path| text::path(path)).collect()
    }
}

fn in_field(name: &str, error: &serde_json::Error) -> serde_json::Error {
    serde_json::Error::custom(format_args!("{name}: {error}"))
}

fn read(json: &RawValue) -> Result<Residue> {
    let it = Fields::of(json)?;
    let kind = it.get::<String>("kind")?;
    Ok(match kind.as_str() {
        "service" => {
            Residue::Service(Service { name: it.get("name")?, processes: it.get("processes")? }.into())
        }
        "task" => Residue::Task(Box::new(Task {
            container: it.get("container")?,
            pod: it.get("pod")?,
            sandbox: it.get("sandbox")?,
            processes: it.get("processes")?,
            paused: it.get("paused")?,
            groups: it.paths("groups")?,
            socket: it.path_if_known("socket")?.map(Into::into),
            witnesses: it.list("witnesses")?,
        })),
        "shim" => Residue::Shim(Box::new(Shim {
            process: it.get("process")?,
            namespace: it.get("namespace")?,
            id: it.get("id")?,
            socket: it.path_if_known("socket")?.map(Into::into),
            containers: it.get("containers")?,
            held_by: it.get("held-by")?,
            witnesses: it.list("witnesses")?,
        })),
        "mount" => Residue::Mount(Mount {
            id: it.get("id")?,
            point: it.path("point")?.into(),
            fstype: it.get("fstype")?,
            table: it.get("table")?,
            may_hang: it.get("may-hang")?,
        }),
        "loop" => Residue::Loop(Loop { device: it.path("device")?, backing: it.path("backing")? }.into()),
        "device" => Residue::Device(Box::new(Device {
            device: block::Device { device: it.get("device")?, name: it.get("name")?, how: it.get("how")? },
            ours: it.get("ours")?,
            command: it.get("command")?,
        })),
        "cgroup" => Residue::group(it.path("path")?, it.get("container")?),
        "path" => Residue::path(it.path("path")?, it.get("what")?),
        "detached" => Residue::Detached(Box::new(detached_mount(&it)?)),
        "runtime-left-running" => Residue::RuntimeLeftRunning(RuntimeLeftRunning { name: it.get("name")? }),
        other => return of_network(other, &it),
    })
}

fn of_network(kind: &str, it: &Fields) -> Result<Residue> {
    Ok(match kind {
        "netns" => Residue::Netns(Box::new(Netns {
            path: it.path("path")?,
            mounts: it.get("mounts")?,
            inode: it.get("inode")?,
            sandbox: it.get("sandbox")?,
        })),
        "link" => Residue::Link(
            Link { index: it.get("index")?, name: it.get("name")?, r#type: it.get("type")? }.into(),
        ),
        "rule" => Residue::Rule(Box::new(Rule {
            program: it.path("program")?,
            table: it.get("table")?,
            rule: it.get("rule")?,
            chain: it.get("chain")?,
        })),
        "nft-rule" => Residue::NftRule(Box::new(NftRule {
            family: it.get("family")?,
            table: it.get("table")?,
            chain: it.get("chain")?,
            handle: it.get("handle")?,
            comment: it.get("comment")?,
        })),
        "blackhole" => Residue::Blackhole(Box::new(Blackhole {
            destination: it.get("destination")?,
            prefix: it.get("prefix")?,
            table: it.get("table")?,
            protocol: it.get("protocol")?,
            priority: it.get("priority")?,
        })),
        "ipset" => Residue::Ipset(Ipset { name: it.get("name")? }),
        "flows" => Residue::Flows(Flows { addresses: it.get("addresses")?, count: it.get("count")? }),
        _ => return Err(serde_json::Error::custom("a kind of residue that is not known here")),
    })
}

fn detached_mount(it: &Fields) -> Result<Detached> {
    Ok(Detached {
        point: it.path("point")?,
        fstype: it.get("fstype")?,
        holders: it.get("holders")?,
        holders_unknown: it.get("holders-unknown")?,
    })
}

impl<'de> Deserialize<'de> for Residue {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Residue, D::Error> {
        read(&Box::<RawValue>::deserialize(from)?).map_err(D::Error::custom)
    }
}

/// For `#[serde(deserialize_with = …)]`: a mount that was detached, or nothing where it is something else.
pub fn detached<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Option<Residue>, D::Error> {
    let json = Box::<RawValue>::deserialize(from)?;
    let read = Fields::of(&json).and_then(|it| match it.get::<String>("kind")?.as_str() {
        "detached" => detached_mount(&it).map(|it| Some(Residue::Detached(Box::new(it)))),
        _ => Ok(None),
    });
    read.map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each kind, as it is written.
    const ALL: &str = r#"[
        {"kind":"service","name":"daemon","processes":[{"pid":7,"start":9}]},
        {"kind":"task","container":{"namespace":"k8s.io","id":"a"},"pod":"ns/p","sandbox":true,"processes":[],"paused":false,
         "groups":["/g\\134"],"socket":"/s","witnesses":["unit"]},
        {"kind":"shim","process":{"pid":1,"start":2},"namespace":"k8s.io","id":null,"socket":null,"containers":["a"],
         "held-by":["b"],"witnesses":[]},
        {"kind":"netns","path":"/run/netns/x","mounts":2,"inode":4026531840,"sandbox":"a"},
        {"kind":"link","index":3,"name":"veth0","type":"veth"},
        {"kind":"rule","program":"iptables","table":"nat","rule":["A","-j"],"chain":false},
        {"kind":"nft-rule","family":"ip","table":"t","chain":"c","handle":5,"comment":"x"},
        {"kind":"ipset","name":"cali40all-ipam-pools"},
        {"kind":"flows","addresses":["10.1.0.2","fd00::1"],"count":6},
        {"kind":"mount","id":8,"point":"/a\\012b","fstype":"ext4","table":"snap","may-hang":true},
        {"kind":"loop","device":"/dev/loop0","backing":"/f"},
        {"kind":"device","device":"dm-0","name":"n","how":"crypt","ours":true,"command":"cryptsetup close n"},
        {"kind":"cgroup","path":"/sys/fs/cgroup/x","container":"a"},
        {"kind":"path","path":"/p","what":"shim-socket"},
        {"kind":"detached","point":"/d","fstype":"nfs","holders":[],"holders-unknown":true},
        {"kind":"runtime-left-running","name":"daemon"}
    ]"#;

    #[test]
    fn what_is_written_is_read() {
        let read: Vec<Residue> = json::parse(ALL.as_bytes()).unwrap();
        let lines: String = ALL.lines().map(str::trim).collect();
        assert_eq!(text::json(&read), lines);
        let kinds: BTreeSet<_> = read.iter().map(|r| format!("{:?}", std::mem::discriminant(r))).collect();
        assert_eq!(kinds.len(), 16);
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = json::parse::<Residue>(br#"{"kind":"link","index":3,"name":"x"}"#).unwrap_err();
        assert!(error.to_string().starts_with("type: "), "{error}");
        assert!(json::parse::<Residue>(br#"{"kind":"of-tomorrow"}"#).is_err());
    }
}
