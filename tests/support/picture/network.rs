//! The part of a picture that is the network's: links, addresses, routes, rules of every table, flows, sockets.

use std::fs;

use super::{Kind, Picture, Result, names, run};

const TABLES: [&str; 5] = ["filter", "nat", "mangle", "raw", "security"];
const CHAINS: [&str; 5] = ["INPUT", "FORWARD", "OUTPUT", "PREROUTING", "POSTROUTING"];
/// What becomes of what no rule decides on is a setting of the machine.
const FORWARDED: &str = "policy of FORWARD";

impl Picture {
    pub(super) fn links(&mut self) -> Result<()> {
        for link in names("/sys/class/net") {
            let read =
                |file: &str| fs::read_to_string(format!("/sys/class/net/{link}/{file}")).unwrap_or_default();
            let master = fs::read_link(format!("/sys/class/net/{link}/master")).unwrap_or_default();
            let master = master.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let looks = format!("{} {master}", read("address").trim());
            self.add(Kind::Link, format!("link {link} ({})", read("ifindex").trim()), looks);
        }
        // What the kernel gives every link by itself comes a moment after the link, and goes with it.
        let own = |line: &&str| {
            !line.starts_with("33:33:")
                && !line.starts_with("01:00:5e:")
                && !line.contains("fe80:")
                && !line.contains("multicast")
                && !line.contains("ff00::/8")
        };
        let asked: [(Kind, &[&str]); 12] = [
            (Kind::Address, &["ip", "-o", "addr"]),
            (Kind::Route, &["ip", "-4", "route", "show", "table", "all"]),
            (Kind::Route, &["ip", "-6", "route", "show", "table", "all"]),
            (Kind::Route, &["ip", "-4", "rule"]),
            (Kind::Route, &["ip", "-6", "rule"]),
            (Kind::Route, &["ip", "nexthop"]),
            (Kind::Neighbour, &["ip", "-4", "neigh", "show", "nud", "permanent"]),
            (Kind::Neighbour, &["ip", "-6", "neigh", "show", "nud", "permanent"]),
            (Kind::Neighbour, &["bridge", "fdb", "show", "permanent"]),
            (Kind::Neighbour, &["ip", "xfrm", "state"]),
            (Kind::Neighbour, &["ip", "xfrm", "policy"]),
            (Kind::Neighbour, &["tc", "qdisc", "show"]),
        ];
        for (kind, words) in asked {
            let text = run(words).unwrap_or_default();
            for line in text.lines().filter(own) {
                let words: Vec<_> =
                    line.split_whitespace().filter(|w| *w != "linkdown" && *w != "permanent").collect();
                let words = if kind == Kind::Address { &words[1..words.len().min(4)] } else { &words[..] };
                self.add(kind, words.join(" "), "");
            }
        }
        Ok(())
    }

    pub(super) fn rules(&mut self) {
        for program in ["iptables-legacy-save", "ip6tables-legacy-save"] {
            let mut table = String::new();
            for line in run(&[program]).unwrap_or_default().lines() {
                match line.as_bytes().first() {
                    Some(b'*') => table = line[1..].to_owned(),
                    Some(b':') => {
                        // Counters are no part of it; the policy of a built-in chain is.
                        let (chain, rest) = line[1..].split_once(' ').unwrap_or_default();
                        let policy = rest.split(' ').next().unwrap_or_default();
                        // A built-in chain stays, once anything has looked at its table.
                        if policy != "ACCEPT" && chain == "FORWARD" {
                            self.add(Kind::Setting, format!("setting {FORWARDED}"), policy);
                        } else if policy != "ACCEPT" {
                            self.add(Kind::Rule, format!("{program} {table} chain {chain}"), policy);
                        }
                    }
                    Some(b'-') => self.add(Kind::Rule, format!("{program} {table} {line}"), ""),
                    _ => {}
                }
            }
        }
        self.nft();
        for line in run(&["ipset", "list", "-o", "save"]).unwrap_or_default().lines() {
            self.add(Kind::Rule, format!("ipset {line}"), "");
        }
        for line in fs::read_to_string("/proc/net/ip_vs").unwrap_or_default().lines().skip(3) {
            self.add(
                Kind::Rule,
                format!("ipvs {}", line.split_whitespace().take(3).collect::<Vec<_>>().join(" ")),
                "",
            );
        }
        for line in run(&["conntrack", "-L", "-o", "id"]).unwrap_or_default().lines() {
            // Its number is what makes it that entry; its time runs.
            // Nobody answers to what the kernel says to groups of machines.
            if line.contains("dst=224.") || line.contains("dst=ff02:") {
                continue;
            }
            let kept: Vec<_> =
                line.split_whitespace().filter(|w| w.contains('=') && !w.starts_with("use=")).collect();
            self.add(Kind::Conntrack, format!("flow {}", kept.join(" ")), "");
        }
    }

    /// Line by line, each with the table and chain or set that it stands in.
    fn nft(&mut self) {
        let text = run(&["nft", "-s", "list", "ruleset"]).unwrap_or_default();
        let mut places: Vec<String> = Vec::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if line == "}" {
                places.pop();
            } else if let Some(head) = line.strip_suffix('{') {
                places.push(head.trim().to_owned());
                // A table of iptables' stays once it was looked at; so do its built-in chains, while they are empty.
                let built_in = places[0].rsplit(' ').next().is_some_and(|name| TABLES.contains(&name));
                let chain = places.last().and_then(|p| p.strip_prefix("chain "));
                if !built_in || chain.is_some_and(|name| !CHAINS.contains(&name)) {
                    self.add(Kind::Rule, format!("nft {}", places.join(" ")), "");
                }
            } else if places.len() == 2
                && places[1] == "chain FORWARD"
                && places[0].ends_with(" filter")
                && line.ends_with("policy drop;")
            {
                self.add(Kind::Setting, format!("setting {FORWARDED}"), places[0].clone());
            } else if !(line.ends_with("policy accept;")
                && places.len() == 2
                && CHAINS.iter().any(|c| places[1].ends_with(c)))
            {
                self.add(Kind::Rule, format!("nft {} {line}", places.join(" ")), "");
            }
        }
    }

    pub(super) fn sockets(&mut self) -> Result<()> {
        for line in fs::read_to_string("/proc/net/unix")?.lines().skip(1) {
            let fields: Vec<_> = line.split_whitespace().collect();
            // By its inode, so that one that was bound anew is another.
            if let Some(path) = fields.get(7).filter(|_| fields[3] == "00010000") {
                let path = path.to_string();
                self.add_at(Kind::Socket, format!("socket {path} ({})", fields[6]), "", path.into());
            }
        }
        for (file, listens) in
            [("tcp", Some("0A")), ("tcp6", Some("0A")), ("udp", None), ("udp6", None), ("raw", None)]
        {
            let text = fs::read_to_string(format!("/proc/net/{file}")).unwrap_or_default();
            for line in text.lines().skip(1) {
                let fields: Vec<_> = line.split_whitespace().collect();
                if listens.is_none_or(|state| fields[3] == state) {
                    let port = fields[1].rsplit(':').next().unwrap_or_default();
                    let port = u16::from_str_radix(port, 16).unwrap_or_default();
                    self.add(Kind::Socket, format!("{file} {} port {port} ({})", fields[1], fields[9]), "");
                }
            }
        }
        Ok(())
    }
}
