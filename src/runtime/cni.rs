//! What CNI plugins wrote down about our sandboxes: cached results, and leased addresses.
//!
//! Both directories are shared by everything on the host that uses CNI. A result is a sandbox's if its file
//! name and its content say so, a lease if its first line is the sandbox's ID.

use crate::snap::profile::Roots;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::Error;
use crate::linux::host::Host;

/// Where libcni keeps results, below CNI's directory: its releases since 0.8, and the one before.
const RESULTS: [&str; 2] = ["results", "cache/results"];

/// One attachment of a sandbox to a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attachment {
    /// The network's name.
    pub network: String,
    /// The name of the interface in the sandbox.
    pub interface: String,
    /// Links that the plugins made on the host: name and hardware address.
    pub host_links: Vec<(String, String)>,
    /// Where the sandbox's network namespace is bound.
    pub netns: Option<PathBuf>,
    /// Addresses of the sandbox, each with its network's prefix length.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Networks that it was given routes to, besides the default ones.
    pub routes: Vec<(IpAddr, u8)>,
}

#[derive(Deserialize)]
struct Cached {
    #[serde(rename = "containerId", default)]
    container: Option<String>,
    #[serde(rename = "networkName", default)]
    network: String,
    #[serde(rename = "ifName", default)]
    interface: String,
    #[serde(default)]
    result: Answer,
}

#[derive(Deserialize, Default)]
struct Answer {
    #[serde(default)]
    interfaces: Vec<Interface>,
    #[serde(default)]
    ips: Vec<Ip>,
    #[serde(default)]
    routes: Vec<Route>,
}

#[derive(Deserialize)]
struct Interface {
    name: String,
    #[serde(default)]
    mac: String,
    #[serde(default)]
    sandbox: String,
}

#[derive(Deserialize)]
struct Ip {
    address: String,
}

#[derive(Deserialize)]
struct Route {
    dst: String,
}

/// Parses a cached result of this sandbox; none if it is another's or makes no sense. libcni before 0.8
/// stored the plugins' answer alone.
pub fn parse(bytes: &[u8], sandbox: &str) -> Option<Attachment> {
    let cached: Cached = serde_json::from_slice(bytes).ok()?;
    if cached.container.as_deref().is_some_and(|c| c != sandbox) {
        return None;
    }
    let answer = match cached.container {
        Some(_) => cached.result,
        None => serde_json::from_slice(bytes).ok()?,
    };
    let netns = answer.interfaces.iter().find(|i| !i.sandbox.is_empty()).map(|i| PathBuf::from(&i.sandbox));
    let on_host = answer.interfaces.into_iter().filter(|i| i.sandbox.is_empty());
    Some(Attachment {
        network: cached.network,
        interface: cached.interface,
        netns,
        host_links: on_host.map(|i| (i.name, i.mac.to_lowercase())).collect(),
        addresses: answer.ips.iter().filter_map(|ip| block(&ip.address)).collect(),
        routes: answer.routes.iter().filter_map(|r| block(&r.dst)).filter(|(_, bits)| *bits > 0).collect(),
    })
}

fn block(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = text.split_once('/')?;
    Some((address.parse().ok()?, bits.parse().ok()?))
}

/// The cached results that may be a sandbox's: `NETWORK-SANDBOX-INTERFACE`, with the ID of one of ours.
pub fn results<'a>(
    host: &Host,
    cni: &Path,
    is_ours: impl Fn(&str) -> Option<&'a str>,
) -> (Vec<(PathBuf, &'a str)>, Vec<Error>) {
    let mut found = Vec::new();
    let mut errors = Vec::new();
    for directory in RESULTS.map(|r| cni.join(r)) {
        match host.list(&directory) {
            Ok(names) => found.extend(names.iter().filter_map(|name| {
                let id = name.to_str()?.split('-').find_map(&is_ours)?;
                Some((directory.join(name), id))
            })),
            Err(e) => errors.push(e),
        }
    }
    (found, errors)
}

/// Addresses that CNI gave to others, as far as its results tell.
pub fn addresses_of_others(host: &Host, cni: &Path, is_ours: impl Fn(&str) -> bool) -> Vec<IpAddr> {
    let of_others = |name: &OsStr| !name.to_str().is_some_and(|n| n.split('-').any(&is_ours));
    let mut found = Vec::new();
    for directory in RESULTS.map(|r| cni.join(r)) {
        for name in host.list(&directory).unwrap_or_default().iter().filter(|n| of_others(n)) {
            let Ok(bytes) = host.read(&directory.join(name)) else { continue };
            let id = serde_json::from_slice::<Cached>(&bytes).ok().and_then(|cached| cached.container);
            let attachment = parse(&bytes, &id.unwrap_or_default());
            found.extend(attachment.into_iter().flat_map(|a| a.addresses).map(|(address, _)| address));
        }
    }
    found
}

/// The files in which an IPAM plugin has noted that an address is a sandbox's: `networks/NETWORK/ADDRESS`; and
/// what else it keeps there, where the network is one of ours by name and nobody else has a lease in it.
pub fn leases<'a>(
    host: &Host,
    cni: &Path,
    is_ours: impl Fn(&str) -> Option<&'a str>,
    names: &BTreeSet<String>,
) -> (Vec<PathBuf>, Vec<Error>) {
    let mut found = Vec::new();
    let mut errors = Vec::new();
    let networks = cni.join("networks");
    for network in list(host, &networks, &mut errors) {
        let directory = networks.join(&network);
        let mut shared = network.to_str().is_none_or(|n| !names.contains(n));
        let mut memos = Vec::new();
        for name in list(host, &directory, &mut errors) {
            let file = directory.join(&name);
            match kind_of(&name) {
                Kind::Lease => match host.read(&file) {
                    Ok(bytes) if lessee(&bytes).and_then(&is_ours).is_some() => found.push(file),
                    Err(e) if e.is_gone() => {}
                    Ok(_) => shared = true,
                    Err(e) => {
                        shared = true;
                        errors.push(e);
                    }
                },
                Kind::Memo => memos.push(file),
                Kind::Other => shared = true,
            }
        }
        if !shared {
            found.append(&mut memos);
        }
    }
    (found, errors)
}

enum Kind {
    /// Named by the address.
    Lease,
    /// What the host-local plugin keeps for the next lease.
    Memo,
    Other,
}

fn kind_of(name: &OsStr) -> Kind {
    match name.to_str().unwrap_or_default() {
        "lock" => Kind::Memo,
        name if name.starts_with("last_reserved_ip.") => Kind::Memo,
        name if name.parse::<IpAddr>().is_ok() => Kind::Lease,
        _ => Kind::Other,
    }
}

fn list(host: &Host, directory: &Path, errors: &mut Vec<Error>) -> Vec<std::ffi::OsString> {
    match host.list(directory) {
        Ok(names) => names,
        // A file next to the networks' directories is none of ours to read.
        Err(Error::Malformed { .. }) => Vec::new(),
        Err(e) => {
            errors.push(e);
            Vec::new()
        }
    }
}

fn lessee(bytes: &[u8]) -> Option<&str> {
    let line = bytes.split(|b| matches!(b, b'\r' | b'\n')).next()?;
    std::str::from_utf8(line).ok().map(str::trim)
}

/// The file in which the flannel plugin keeps what it gave to a sandbox.
pub fn flannel_file(cni: &Path, sandbox: &str) -> PathBuf {
    cni.join("flannel").join(OsStr::new(sandbox))
}

/// A name in the directory of network namespaces; `..` has that directory for a parent, too, and is no name.
pub fn is_netns(path: &Path, roots: &Roots) -> bool {
    let plain = path.file_name().is_some_and(|n| !n.as_encoded_bytes().contains(&0));
    plain && (path.parent() == Some(&roots.netns) || is_legacy_netns(path, roots))
}

/// `/var/run` is a symlink to `/run` everywhere; CNI's own library writes the long form.
fn is_legacy_netns(path: &Path, roots: &Roots) -> bool {
    let parent = path
        .parent()
        .and_then(|p| p.strip_prefix("/var/run").ok())
        .map(|below| Path::new("/run").join(below));
    parent.as_deref() == Some(&roots.netns)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn a_result_tells_host_links_addresses_and_routes() {
        let text = format!(
            r#"{{"kind":"cniCacheV1","containerId":"{ID}","ifName":"eth0","networkName":"net","result":{{"cniVersion":"0.3.1",
            "interfaces":[{{"name":"cni0","mac":"AA:00:00:00:00:01"}},{{"name":"veth1","mac":"aa:00:00:00:00:02"}},
            {{"name":"eth0","sandbox":"/var/run/netns/cni-1"}}],"ips":[{{"address":"10.1.2.3/24","interface":2}}],
            "routes":[{{"dst":"0.0.0.0/0"}},{{"dst":"10.1.0.0/16"}}]}}}}"#
        );
        let a = parse(text.as_bytes(), ID).unwrap();
        assert_eq!((a.network.as_str(), a.interface.as_str()), ("net", "eth0"));
        assert_eq!(a.netns.as_deref(), Some(Path::new("/var/run/netns/cni-1")));
        assert_eq!(a.host_links[0], ("cni0".into(), "aa:00:00:00:00:01".into()));
        assert_eq!((a.host_links.len(), a.addresses.len()), (2, 1));
        assert_eq!(a.routes, [("10.1.0.0".parse().unwrap(), 16)]);
        assert!(parse(text.as_bytes(), "other").is_none());
        for cut in 0..text.len() {
            assert!(parse(&text.as_bytes()[..cut], ID).is_none(), "{cut}");
        }
        let bare = r#"{"ips":[{"address":"fd00::2/64"},{"address":"nonsense"}]}"#;
        assert_eq!(parse(bare.as_bytes(), ID).unwrap().addresses.len(), 1);
    }

    #[test]
    fn files_of_others_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let other = ID.replace('0', "9");
        for name in ["results", "networks/net", "networks/odd"] {
            std::fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        for (name, content) in [
            (format!("results/a-net-{ID}-eth0"), String::new()),
            (
                format!("results/net-{other}-eth0"),
                format!(r#"{{"containerId":"{other}","result":{{"ips":[{{"address":"10.9.0.2/24"}}]}}}}"#),
            ),
            ("results/garbage".into(), "{".into()),
            ("networks/net/10.1.0.2".into(), format!("{ID}\r\neth0")),
            ("networks/net/10.1.0.3".into(), format!("{other}\r\neth0")),
            ("networks/net/10.1.0.4".into(), format!("{other}\n{ID}")),
            ("networks/net/last_reserved_ip.0".into(), ID.into()),
            ("networks/net/lock".into(), ID.into()),
            ("networks/file".into(), ID.into()),
        ] {
            std::fs::write(dir.path().join(name), content).unwrap();
        }
        let host = Host::at(dir.path());
        let ours = |id: &str| (id == ID).then_some(ID);
        let (files, errors) = results(&host, Path::new("/"), ours);
        assert_eq!(files, [(PathBuf::from(format!("/results/a-net-{ID}-eth0")), ID)]);
        assert!(errors.is_empty());
        let others = addresses_of_others(&host, Path::new("/"), |id| id == ID);
        assert_eq!(others, ["10.9.0.2".parse::<IpAddr>().unwrap()]);
        let names = BTreeSet::from(["net".to_string()]);
        let (files, errors) = leases(&host, Path::new("/"), ours, &names);
        assert_eq!(files, [PathBuf::from("/networks/net/10.1.0.2")]);
        assert!(errors.is_empty(), "{errors:?}");
        for other in ["networks/net/10.1.0.3", "networks/net/10.1.0.4"] {
            std::fs::remove_file(dir.path().join(other)).unwrap();
        }
        assert_eq!(leases(&host, Path::new("/"), ours, &names).0.len(), 3, "the plugin's own files go last");
        assert_eq!(leases(&host, Path::new("/"), ours, &BTreeSet::new()).0.len(), 1);
    }
}
