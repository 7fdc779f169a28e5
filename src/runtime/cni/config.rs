//! What CNI's plugins were told, as libcni keeps it beside their result (`libcni/api.go`, `cachedInfo`).

use std::path::PathBuf;

use serde::Deserialize;

use crate::json;
use crate::linux::place::is_plain;

/// What matters of a network's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// The plugins, by their names.
    pub plugins: Vec<String>,
    /// Where the host-local plugin leases addresses, if not in the usual place.
    pub leases: Vec<PathBuf>,
    /// Other directories in which a plugin keeps a file for each sandbox.
    pub notes: Vec<PathBuf>,
    /// Bridges to which the plugin gives no address.
    pub plain_bridges: Vec<String>,
    /// A device of the host's was moved into the sandbox, and has to be moved back.
    pub lends: bool,
}

/// A plugin, or a list of plugins, or what a plugin has others do.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Plugin {
    r#type: String,
    plugins: Vec<Plugin>,
    delegates: Vec<Plugin>,
    ipam: Option<Box<Plugin>>,
    data_dir: Option<PathBuf>,
    cni_dir: Option<PathBuf>,
    bridge: Option<String>,
    is_gateway: bool,
    is_default_gateway: bool,
}

impl Config {
    /// What makes no sense says nothing.
    pub fn parse(base64: &str) -> Config {
        let mut config = Config::default();
        let plugin = decoded(base64).and_then(|bytes| json::parse::<Plugin>(&bytes).ok());
        plugin.into_iter().for_each(|plugin| config.take(plugin));
        config
    }

    fn take(&mut self, plugin: Plugin) {
        match plugin.r#type.as_str() {
            "host-local" => self.leases.extend(plugin.data_dir.filter(|path| is_plain(path))),
            "tuning" | "flannel" => self.notes.extend(plugin.data_dir.filter(|path| is_plain(path))),
            "multus" => self.notes.extend(plugin.cni_dir.filter(|path| is_plain(path))),
            "bridge" if !plugin.is_gateway && !plugin.is_default_gateway => {
                self.plain_bridges.push(plugin.bridge.unwrap_or_else(|| "cni0".into()));
            }
            "host-device" | "sriov" | "ib-sriov" => self.lends = true,
            _ => {}
        }
        if !plugin.r#type.is_empty() {
            self.plugins.push(plugin.r#type);
        }
        let below = plugin.plugins.into_iter().chain(plugin.delegates);
        below.chain(plugin.ipam.map(|ipam| *ipam)).for_each(|plugin| self.take(plugin));
    }
}

/// Bytes as Go writes them into JSON (RFC 4648). A crate for it would be one more to trust, for a dozen lines.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for digit in text.trim_end_matches('=').bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count).ok()?);
            bits &= (1 << count) - 1;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_plugins_were_told() {
        // {"name":"pods","plugins":[{"type":"bridge","bridge":"br7","ipam":{"type":"host-local","dataDir":"/run/x"}},
        //  {"type":"tuning","dataDir":"/run/../etc"},{"type":"host-device"}]}
        let text = "eyJuYW1lIjoicG9kcyIsInBsdWdpbnMiOlt7InR5cGUiOiJicmlkZ2UiLCJicmlkZ2UiOiJicjciLCJpcGFtIjp7InR5cGUiOiJob3N0LWxvY2FsIiwiZGF0YURpciI6Ii9ydW4veCJ9fSx7InR5cGUiOiJ0dW5pbmciLCJkYXRhRGlyIjoiL3J1bi8uLi9ldGMifSx7InR5cGUiOiJob3N0LWRldmljZSJ9XX0=";
        let config = Config {
            plugins: ["bridge", "host-local", "tuning", "host-device"].map(String::from).into(),
            leases: vec!["/run/x".into()],
            notes: vec![],
            plain_bridges: vec!["br7".into()],
            lends: true,
        };
        assert_eq!(Config::parse(text), config);
        for cut in 0..text.len() - 2 {
            assert_eq!(Config::parse(&text[..cut]), Config::default(), "{cut}");
        }
        assert_eq!(Config::parse("a b"), Config::default());
    }
}
