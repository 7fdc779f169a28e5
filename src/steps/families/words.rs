//! Reading a rule: the words of one line of iptables-save.

use std::net::IpAddr;

use crate::linux::links::Block;

pub fn values<'a>(rule: &'a [String], option: &'a str) -> impl Iterator<Item = &'a str> {
    rule.windows(2).filter(move |pair| pair[0] == option).map(|pair| pair[1].as_str())
}

/// The ID in a comment of CNI's plugins, such as `dnat name: "net" id: "0123…"`.
pub fn tagged_id(rule: &[String]) -> Option<&str> {
    let (_, rest) = values(rule, "--comment").next()?.rsplit_once("id: \"")?;
    rest.strip_suffix('"')
}

/// The address in `10.1.0.2:80`, `[fd00::2]:80`, or alone.
pub fn destination(text: &str) -> Option<IpAddr> {
    let host = match text.strip_prefix('[') {
        Some(rest) => rest.split(']').next()?,
        None => {
            text.parse::<IpAddr>().map_or_else(|_| text.rsplit_once(':').map_or(text, |(a, _)| a), |_| text)
        }
    };
    host.parse().ok()
}

pub fn block(text: &str) -> Option<Block> {
    let (address, prefix) =
        text.split_once('/').unwrap_or((text, if text.contains(':') { "128" } else { "32" }));
    Some(Block { link: 0, address: Some(address.parse().ok()?), prefix: prefix.parse().ok()? })
}
