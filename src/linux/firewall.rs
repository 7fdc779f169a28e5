//! The firewall's rules, as iptables tells them: both backends, both families; and those that CNI's plugins make
//! without it.
//!
//! Listing a table of the legacy backend makes it if it is not there, so the kernel is asked first which tables
//! exist. Which rules are ours is told by the comments that CNI's plugins and the snap put on them; a chain is
//! ours if its name is the hash that CNI's plugins make of one of our sandboxes' IDs, or if a rule with such a
//! comment leads to it (github.com/containernetworking/plugins: pkg/utils/utils.go, plugins/meta/portmap). What
//! plugins/meta/firewall lets through is told by the addresses that CNI gave to our sandboxes and to nobody else.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;

use crate::error::{Blind, Why, errno_of, reason_of};
use crate::linux::child::{self, ProgramEnd};
use crate::linux::host::Host;
use crate::linux::{ipset, nft};
use crate::reason::Reason;
use crate::text::show;

/// Where there is something to find for us.
const TABLES: [&str; 5] = ["filter", "nat", "raw", "mangle", "security"];
/// Where a distribution has its programs.
const PROGRAM_DIRS: [&str; 2] = ["/usr/sbin", "/sbin"];
/// A program that lists tens of thousands of rules is still done by then.
const LIST_TIMEOUT: Duration = Duration::from_secs(20);

/// The table of nf_tables that CNI's plugins make for mapped ports.
pub const PORTS: &str = "cni_hostport";
/// The one that they make for masquerading.
pub const MASQUERADE: &str = "cni_plugins_masquerade";
/// The one of bridges, in which CNI's bridge plugin guards addresses, and others may have rules, too.
pub const SPOOFS: &str = "nat";

/// All rules and chains that could be listed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Firewall {
    pub tables: Vec<Table>,
    /// Rules in the tables that CNI's plugins make without iptables.
    pub nft: Vec<nft::Rule>,
    /// All tables of nf_tables that iptables does not speak for: family and name.
    pub nft_tables: Vec<(String, String)>,
    /// The names of all sets that rules of iptables may name.
    pub sets: Vec<String>,
    /// Tables that exist and could not be listed.
    pub blind: Vec<Blind>,
}

/// One table of one backend and family.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// The program that speaks for the backend and the family.
    pub program: PathBuf,
    pub name: String,
    /// Chains that somebody made.
    pub chains: Vec<String>,
    /// Rules: the chain, then the rule's words.
    pub rules: Vec<Vec<String>>,
    /// True if what no rule of FORWARD decides on is dropped.
    pub drops_forwarded: bool,
}

/// Where the programs come from.
#[derive(Debug, Clone, Copy)]
pub struct Programs<'a> {
    /// Where the snap ships its own, if it does.
    pub shipped: Option<&'a Path>,
    /// `$SNAP`: programs below it need the libraries there.
    pub snap_dir: &'a Path,
}

/// Why a program did not do its work.
#[derive(Debug)]
pub struct Failure {
    /// In words.
    pub why: String,
    /// The errno, if it could not be started.
    pub errno: Option<Errno>,
}

/// Lists everything.
pub fn read(host: &Host, programs: &Programs) -> Firewall {
    let mut firewall = Firewall::default();
    let nft = nft::tables();
    for (family, number, names) in [
        ("iptables", libc::AF_INET, "/proc/self/net/ip_tables_names"),
        ("ip6tables", libc::AF_INET6, "/proc/self/net/ip6_tables_names"),
    ] {
        let legacy = match host.read_text(Path::new(names)) {
            Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
            Err(e) if e.is_gone() => Ok(Vec::new()),
            Err(e) => Err(Why::from(e)),
        };
        let nft = match &nft {
            Ok(all) => {
                let of_family = all.iter().filter(|(f, _)| i32::from(*f) == number);
                Ok(of_family.map(|(_, name)| name.clone()).collect())
            }
            Err(e) => Err(Why::from(e)),
        };
        for (backend, tables) in [("legacy", legacy), ("nft", nft)] {
            firewall.list(programs, family, backend, tables);
        }
    }
    let named = nft.iter().flatten().filter(|(_, name)| !TABLES.contains(&name.as_str()));
    firewall.nft_tables.extend(named.map(|(family, name)| (nft::family(*family).to_owned(), name.clone())));
    let of_plugins = |(family, name): &&(u8, String)| {
        [PORTS, MASQUERADE].contains(&name.as_str()) || name == SPOOFS && nft::family(*family) == nft::BRIDGE
    };
    for (family, table) in nft.iter().flatten().filter(of_plugins) {
        match nft::rules(*family, table) {
            Ok(rules) => firewall.nft.extend(rules),
            Err(e) => firewall.blind.push(Blind::new(format!("firewall rules (nft, table {table})"), e)),
        }
    }
    match ipset::names(host) {
        Ok(names) => firewall.sets = names,
        Err(e) => firewall.blind.push(Blind::new("ipsets", e)),
    }
    firewall
}

impl Firewall {
    fn list(&mut self, programs: &Programs, family: &str, backend: &str, tables: Result<Vec<String>, Why>) {
        let what = format!("firewall rules ({family}, {backend})");
        let tables = match tables {
            Ok(tables) => tables,
            Err(why) => return self.blind.push(Blind::new(what, why)),
        };
        let tables: Vec<_> = TABLES.into_iter().filter(|t| tables.iter().any(|have| have == t)).collect();
        if tables.is_empty() {
            return;
        }
        let Some(program) = program(programs, family, backend) else {
            let why = format!("no {family} program here speaks to that backend");
            return self.blind.push(Blind::new(what, (Reason::NotPossible, why)));
        };
        for table in tables {
            // Other users of the legacy backend hold its lock for a moment at a time.
            match run(programs.snap_dir, &program, &["-w", "5", "-t", table, "-S"]) {
                Ok(text) => self.tables.push(parse(program.clone(), table, &text)),
                Err(Failure { why, errno }) => {
                    let reason = errno.map_or(Reason::Failed, reason_of);
                    self.blind.push(Blind::new(format!("{what}, table {table}"), (reason, why)))
                }
            }
        }
    }
}

/// The program for a family and backend: the snap's own, else the distribution's. One without a backend in its
/// name says which it speaks to when asked for its version.
fn program(programs: &Programs, family: &str, backend: &str) -> Option<PathBuf> {
    let directories: Vec<&Path> =
        programs.shipped.into_iter().chain(PROGRAM_DIRS.iter().map(Path::new)).collect();
    let named = directories.iter().map(|d| d.join(format!("{family}-{backend}")));
    if let Some(found) = named.into_iter().find(|p| p.exists()) {
        return Some(found);
    }
    let plain = directories.iter().map(|d| d.join(family)).find(|p| p.exists())?;
    let version = run(programs.snap_dir, &plain, &["--version"]).ok()?;
    (version.contains("nf_tables") == (backend == "nft")).then_some(plain)
}

/// Runs one of the programs; what it printed, or why it did not work.
pub fn run(snap_dir: &Path, program: &Path, arguments: &[&str]) -> Result<String, Failure> {
    let arguments: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
    let until = Instant::now() + LIST_TIMEOUT;
    match child::run(program, &arguments, &environment(snap_dir, program), true, until) {
        Ok((ProgramEnd::Exited(status), output)) if status.success() => {
            Ok(String::from_utf8_lossy(&output).into_owned())
        }
        Ok((ProgramEnd::Exited(status), _)) => failure(format!("{} failed ({status})", show(program))),
        Ok((ProgramEnd::TookTooLong, _)) => failure(format!("{} took too long", show(program))),
        Err(e) => {
            Err(Failure { why: format!("cannot run {}: {e}", show(program)), errno: Some(errno_of(&e)) })
        }
    }
}

fn failure(why: String) -> Result<String, Failure> {
    Err(Failure { why, errno: None })
}

/// A program that the snap ships needs the snap's libraries.
fn environment(snap_dir: &Path, program: &Path) -> Vec<(&'static str, OsString)> {
    if !program.starts_with(snap_dir) {
        return Vec::new();
    }
    let triplet = match std::env::consts::ARCH {
        "arm" => "arm-linux-gnueabihf".to_owned(),
        "powerpc64" => "powerpc64le-linux-gnu".to_owned(),
        arch => format!("{arch}-linux-gnu"),
    };
    let library = snap_dir.join("usr/lib").join(&triplet);
    let paths = [
        snap_dir.join("lib"),
        snap_dir.join("lib").join(&triplet),
        snap_dir.join("usr/lib"),
        library.clone(),
    ];
    let mut environment = Vec::new();
    if let Ok(paths) = std::env::join_paths(paths) {
        environment.push(("LD_LIBRARY_PATH", paths));
    }
    let extensions = library.join("xtables");
    if extensions.is_dir() {
        environment.push(("XTABLES_LIBDIR", extensions.into_os_string()));
    }
    environment
}

/// Parses what `-S` prints.
pub fn parse(program: PathBuf, name: &str, text: &str) -> Table {
    let mut table = Table { program, name: name.to_owned(), ..Table::default() };
    for line in text.lines() {
        if line.trim_end() == "-P FORWARD DROP" {
            table.drops_forwarded = true;
        } else if let Some(chain) = line.strip_prefix("-N ") {
            table.chains.push(chain.trim().to_owned());
        } else if let Some(words) = line.strip_prefix("-A ").and_then(words) {
            table.rules.push(words);
        }
    }
    table
}

/// Splits a rule into words, the way the programs quote them; none if a quote does not end.
pub fn words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' if quoted => word.get_or_insert_default().push(letters.next()?),
            ' ' if !quoted => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    (!quoted && !words.is_empty()).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_they_were_quoted() {
        let rule = words(r#"C -m comment --comment "dnat name: \"n\" id: \"a\\b\"" -j X"#).unwrap();
        assert_eq!(rule[4], r#"dnat name: "n" id: "a\b""#);
        assert_eq!(words(r#"a "" b"#).unwrap(), ["a", "", "b"]);
        assert!(words("a \"b").is_none() && words("").is_none() && words(r#""a\"#).is_none());
    }
}
