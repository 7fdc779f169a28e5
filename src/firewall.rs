//! The firewall's rules, as iptables tells them: both backends, both families; and those that CNI's plugins make
//! without it.
//!
//! Listing a table of the legacy backend makes it if it is not there, so the kernel is asked first which tables
//! exist. Which rules are ours is told by the comments that CNI's plugins and the snap put on them; a chain is
//! ours if its name is the hash that CNI's plugins make of one of our sandboxes' IDs, or if a rule with such a
//! comment leads to it (github.com/containernetworking/plugins: pkg/utils/utils.go, plugins/meta/portmap). What
//! plugins/meta/firewall lets through is told by the addresses that CNI gave to our sandboxes and to nobody else.

use std::collections::{BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::libc;
use sha2::{Digest, Sha512};

use crate::host::Host;
use crate::nft;
use crate::residue::Residue;
use crate::scope::Scope;
use crate::snap::Snap;
use crate::step::Blind;
use crate::sys::{self, ProgramEnd};

/// Where there is something to find for us.
const TABLES: [&str; 2] = ["filter", "nat"];
/// Where a distribution has its programs.
const HOST: [&str; 2] = ["/usr/sbin", "/sbin"];
/// A program that lists tens of thousands of rules is still done by then.
const PATIENCE: Duration = Duration::from_secs(20);
/// The length of a chain's name as CNI's plugins make it.
const CHAIN: usize = 28;
/// The chain in which CNI's firewall plugin lets pods' addresses through.
const FORWARD: &str = "CNI-FORWARD";
/// Tables that CNI's plugins make in nf_tables: for mapped ports, and for masquerading.
const PORTS: &str = "cni_hostport";
const MASQUERADE: &str = "cni_plugins_masquerade";

/// All rules and chains that could be listed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Firewall {
    /// Table by table.
    pub tables: Vec<Table>,
    /// Rules in the tables that CNI's plugins make without iptables.
    pub nft: Vec<nft::Rule>,
    /// Tables that exist and could not be listed.
    pub blind: Vec<Blind>,
}

/// One table of one backend and family.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// The program that speaks for the backend and the family.
    pub program: PathBuf,
    /// The table.
    pub name: String,
    /// Chains that somebody made.
    pub chains: Vec<String>,
    /// Rules: the chain, then the rule's words.
    pub rules: Vec<Vec<String>>,
}

/// Lists everything. `shipped` is where the snap has its programs.
pub fn read(host: &Host, snap: &Snap, shipped: Option<&Path>) -> Firewall {
    let mut firewall = Firewall::default();
    let nft = nft::tables();
    for (family, number, names) in [
        ("iptables", libc::AF_INET, "/proc/self/net/ip_tables_names"),
        ("ip6tables", libc::AF_INET6, "/proc/self/net/ip6_tables_names"),
    ] {
        let legacy = match host.read_text(Path::new(names)) {
            Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
            Err(e) if e.is_gone() => Ok(Vec::new()),
            Err(e) => Err(e.to_string()),
        };
        let nft = match &nft {
            Ok(all) => {
                let of_family = all.iter().filter(|(f, _)| i32::from(*f) == number);
                Ok(of_family.map(|(_, name)| name.clone()).collect())
            }
            Err(e) => Err(e.to_string()),
        };
        for (backend, tables) in [("legacy", legacy), ("nft", nft)] {
            firewall.list(snap, shipped, family, backend, tables);
        }
    }
    let of_plugins = |(_, name): &&(u8, String)| [PORTS, MASQUERADE].contains(&name.as_str());
    for (family, table) in nft.iter().flatten().filter(of_plugins) {
        match nft::rules(*family, table) {
            Ok(rules) => firewall.nft.extend(rules),
            Err(e) => firewall.blind.push(Blind::new(format!("firewall rules (nft, table {table})"), e)),
        }
    }
    firewall
}

impl Firewall {
    fn list(
        &mut self,
        snap: &Snap,
        shipped: Option<&Path>,
        family: &str,
        backend: &str,
        tables: Result<Vec<String>, String>,
    ) {
        let what = format!("firewall rules ({family}, {backend})");
        let tables = match tables {
            Ok(tables) => tables,
            Err(why) => return self.blind.push(Blind::new(what, why)),
        };
        let tables: Vec<_> = TABLES.into_iter().filter(|t| tables.iter().any(|have| have == t)).collect();
        if tables.is_empty() {
            return;
        }
        let Some(program) = program(snap, shipped, family, backend) else {
            return self
                .blind
                .push(Blind::new(what, format!("no {family} program here speaks to that backend")));
        };
        for table in tables {
            // Other users of the legacy backend hold its lock for a moment at a time.
            match run(snap, &program, &["-w", "5", "-t", table, "-S"]) {
                Ok(text) => self.tables.push(parse(program.clone(), table, &text)),
                Err((why, _)) => self.blind.push(Blind::new(format!("{what}, table {table}"), why)),
            }
        }
    }
}

/// The program for a family and backend: the snap's own, else the distribution's. One without a backend in its
/// name says which it speaks to when asked for its version.
fn program(snap: &Snap, shipped: Option<&Path>, family: &str, backend: &str) -> Option<PathBuf> {
    let directories: Vec<&Path> = shipped.into_iter().chain(HOST.iter().map(Path::new)).collect();
    let named = directories.iter().map(|d| d.join(format!("{family}-{backend}")));
    if let Some(found) = named.into_iter().find(|p| p.exists()) {
        return Some(found);
    }
    let plain = directories.iter().map(|d| d.join(family)).find(|p| p.exists())?;
    let version = run(snap, &plain, &["--version"]).ok()?;
    (version.contains("nf_tables") == (backend == "nft")).then_some(plain)
}

/// Runs one of the programs; what it printed, or why it did not work, with the errno if it could not be started.
pub fn run(snap: &Snap, program: &Path, arguments: &[&str]) -> Result<String, (String, i32)> {
    let arguments: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
    let until = Instant::now() + PATIENCE;
    match sys::run(program, &arguments, &environment(snap, program), true, until) {
        Ok((ProgramEnd::Exited(status), output)) if status.success() => {
            Ok(String::from_utf8_lossy(&output).into_owned())
        }
        Ok((ProgramEnd::Exited(status), _)) => Err((format!("{} failed ({status})", program.display()), 0)),
        Ok((ProgramEnd::TookTooLong, _)) => Err((format!("{} took too long", program.display()), 0)),
        Err(e) => Err((format!("cannot run {}: {e}", program.display()), e.raw_os_error().unwrap_or(0))),
    }
}

/// A program that the snap ships needs the snap's libraries.
fn environment(snap: &Snap, program: &Path) -> Vec<(&'static str, OsString)> {
    if !program.starts_with(&snap.dir) {
        return Vec::new();
    }
    let triplet = match std::env::consts::ARCH {
        "arm" => "arm-linux-gnueabihf".to_owned(),
        "powerpc64" => "powerpc64le-linux-gnu".to_owned(),
        arch => format!("{arch}-linux-gnu"),
    };
    let library = snap.dir.join("usr/lib").join(&triplet);
    let paths = [
        snap.dir.join("lib"),
        snap.dir.join("lib").join(&triplet),
        snap.dir.join("usr/lib"),
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
        if let Some(chain) = line.strip_prefix("-N ") {
            table.chains.push(chain.trim().to_owned());
        } else if let Some(words) = line.strip_prefix("-A ").and_then(words) {
            table.rules.push(words);
        }
    }
    table
}

/// Splits a rule into words, the way the programs quote them; none if a quote does not end.
fn words(line: &str) -> Option<Vec<String>> {
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

/// Those that are ours: rules first, then the chains that hold nothing but rules of ours.
pub fn ours(firewall: &Firewall, scope: &Scope) -> Vec<Residue> {
    let ids = scope.sole_ids();
    let named: HashSet<String> = scope
        .network
        .networks
        .iter()
        .flat_map(|network| ids.iter().flat_map(|id| chains_of(network, id)))
        .collect();
    let mut found = Vec::new();
    for table in &firewall.tables {
        let of_sandbox = |rule: &&Vec<String>| tagged_id(rule).is_some_and(|id| ids.contains(id));
        let led_to = table.rules.iter().filter(of_sandbox).filter_map(|r| value(r, "-j"));
        let mut chains: BTreeSet<&str> = led_to.filter(|c| is_hash(c)).collect();
        chains.extend(table.chains.iter().map(String::as_str).filter(|c| named.contains(*c)));
        let ours = |rule: &&Vec<String>| {
            let comment = value(rule, "--comment");
            of_sandbox(rule)
                || comment.is_some_and(|c| scope.rule_comments.iter().any(|own| own == c))
                || (table.name == "filter" && lets_through(rule, scope))
                || chains.contains(rule[0].as_str())
                || value(rule, "-j").is_some_and(|target| chains.contains(target))
        };
        let residue = |rule: Vec<String>, chain| Residue::Rule {
            program: table.program.clone(),
            table: table.name.clone(),
            rule,
            chain,
        };
        found.extend(table.rules.iter().filter(ours).map(|rule| residue(rule.clone(), false)));
        let there = table.chains.iter().filter(|c| chains.contains(c.as_str()));
        found.extend(there.map(|chain| residue(vec![chain.clone()], true)));
    }
    let of_plugins = firewall.nft.iter().filter(|rule| is_of_sandbox(rule, scope, &ids));
    found.extend(of_plugins.map(|rule| Residue::NftRule {
        family: rule.family.clone(),
        table: rule.table.clone(),
        chain: rule.chain.clone(),
        handle: rule.handle,
        comment: rule.comment.clone(),
    }));
    found
}

/// True for what CNI's firewall plugin adds for an address of a sandbox of ours: all that comes from it, and the
/// answers to it.
fn lets_through(rule: &[String], scope: &Scope) -> bool {
    let rule: Vec<&str> = rule.iter().map(String::as_str).collect();
    let block = match rule[..] {
        [FORWARD, "-s", block, "-j", "ACCEPT"] => block,
        [FORWARD, "-d", block, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "ACCEPT"] => {
            block
        }
        _ => return false,
    };
    let Some((address, bits)) = block.split_once('/') else { return false };
    let address: Option<IpAddr> = address.parse().ok();
    let whole = address.is_some_and(|a| bits == if a.is_ipv4() { "32" } else { "128" });
    whole && address.is_some_and(|a| scope.network.addresses.contains(&a))
}

/// True if the comment is a sandbox's: its ID; or, where a rule is about an attachment, the hashes of its network
/// and of its interface with the ID. The rest of such a comment is for people, and may be cut off.
fn is_of_sandbox(rule: &nft::Rule, scope: &Scope, ids: &HashSet<&str>) -> bool {
    match (rule.table.as_str(), rule.family.as_str()) {
        (PORTS, "ip" | "ip6") => ids.contains(rule.comment.as_str()),
        (MASQUERADE, "inet") => scope.network.networks.iter().any(|network| {
            let interfaces = scope.network.interfaces.iter();
            let mut all = interfaces.flat_map(|i| ids.iter().map(move |id| attachment(network, i, id)));
            rule.comment.split(',').next().is_some_and(|hashes| all.any(|own| own == hashes))
        }),
        _ => false,
    }
}

/// How CNI's plugins begin the comment on a masquerading rule.
fn attachment(network: &str, interface: &str, id: &str) -> String {
    const LENGTH: usize = 16;
    format!("{}-{}", hash(network, LENGTH), hash(&format!("{interface}:{id}"), LENGTH))
}

/// kube-proxy's chains, which nothing ties to one of several kubelets.
pub fn of_kube_proxy(firewall: &Firewall) -> Vec<String> {
    let mut found = Vec::new();
    for table in &firewall.tables {
        let count = table.chains.iter().filter(|c| c.starts_with("KUBE-")).count();
        if count > 0 {
            let program = table.program.file_name().unwrap_or_default().to_string_lossy();
            found.push(format!("{program} {}: {count} chains", table.name));
        }
    }
    found
}

/// The names of the chains that CNI's plugins make for an attachment: for masquerading, and for mapped ports.
fn chains_of(network: &str, id: &str) -> [String; 3] {
    let hash = hash(&format!("{network}{id}"), CHAIN);
    ["CNI-", "CNI-DN-", "CNI-SN-"].map(|prefix| format!("{prefix}{}", &hash[..CHAIN - prefix.len()]))
}

/// The first digits of the hash that CNI's plugins take.
fn hash(text: &str, digits: usize) -> String {
    Sha512::digest(text).iter().take(digits / 2).map(|b| format!("{b:02x}")).collect()
}

fn is_hash(chain: &str) -> bool {
    let tail =
        chain.strip_prefix("CNI-").map(|t| t.strip_prefix("DN-").or(t.strip_prefix("SN-")).unwrap_or(t));
    chain.len() == CHAIN && tail.is_some_and(|t| t.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

/// The ID in a comment such as `dnat name: "net" id: "0123…"`.
fn tagged_id(rule: &[String]) -> Option<&str> {
    let (_, rest) = value(rule, "--comment")?.rsplit_once("id: \"")?;
    rest.strip_suffix('"')
}

fn value<'a>(rule: &'a [String], option: &str) -> Option<&'a str> {
    let at = rule.iter().position(|word| word == option)?;
    rule.get(at + 1).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn words_are_split_as_they_were_quoted() {
        let rule = words(r#"C -m comment --comment "dnat name: \"n\" id: \"a\\b\"" -j X"#).unwrap();
        assert_eq!(rule[4], r#"dnat name: "n" id: "a\b""#);
        assert_eq!(tagged_id(&rule), Some(r"a\b"));
        assert_eq!(value(&rule, "-j"), Some("X"));
        assert_eq!(words(r#"a "" b"#).unwrap(), ["a", "", "b"]);
        assert!(words("a \"b").is_none() && words("").is_none() && words(r#""a\"#).is_none());
    }

    #[test]
    fn chain_names_are_those_of_the_plugins() {
        // printf '%s' test1234 | sha512sum
        let [masquerade, dnat, _] = chains_of("test", "1234");
        assert_eq!(masquerade, "CNI-2bbe0c48b91a7d1b8a6753a8");
        assert_eq!(dnat, "CNI-DN-2bbe0c48b91a7d1b8a675");
        assert!(is_hash(&masquerade) && is_hash(&dnat));
        for other in ["CNI-HOSTPORT-DNAT", "CNI-FORWARD", "CNI-HOSTPORT-MASQ-0123456789", "KUBE-SERVICES"] {
            assert!(!is_hash(other), "{other}");
        }
    }

    #[test]
    fn ours_by_comment_or_chain_and_nothing_else() {
        let scope = crate::scope::tests::scope_of(&[ID]);
        let chain = "CNI-DN-0000000000000000000ab";
        let text = format!(
            "-P INPUT ACCEPT\n-N CNI-HOSTPORT-DNAT\n-N {chain}\n-N CNI-DN-fffffffffffffffffffff\n\
             -A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT\n\
             -A CNI-HOSTPORT-DNAT -p tcp -m comment --comment \"dnat name: \\\"n\\\" id: \\\"{ID}\\\"\" -j {chain}\n\
             -A CNI-HOSTPORT-DNAT -p tcp -m comment --comment \"dnat name: \\\"n\\\" id: \\\"9{}\\\"\" -j CNI-DN-fffffffffffffffffffff\n\
             -A {chain} -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.1.0.2:80\n\
             -A FORWARD -s 10.1.0.0/16 -m comment --comment \"generated for MicroK8s pods\" -j ACCEPT\n\
             -A FORWARD -m comment --comment \"not generated for MicroK8s pods\" -j ACCEPT\n\
             -A FORWARD -j DROP\n",
            &ID[1..]
        );
        let firewall = Firewall {
            tables: vec![parse("/usr/sbin/iptables-nft".into(), "nat", &text)],
            ..Firewall::default()
        };
        let found: Vec<String> = ours(&firewall, &scope)
            .into_iter()
            .map(|r| match r {
                Residue::Rule { rule, chain, .. } => format!("{chain} {} {}", rule[0], rule.len()),
                other => panic!("{other}"),
            })
            .collect();
        assert_eq!(
            found,
            [
                "false CNI-HOSTPORT-DNAT 9".to_string(),
                format!("false {chain} 11"),
                "false FORWARD 9".into(),
                format!("true {chain} 1"),
            ]
        );
    }
    #[test]
    fn addresses_let_through_are_those_of_our_sandboxes_alone() {
        let mut scope = crate::scope::tests::scope_of(&[ID]);
        scope.network.addresses = ["10.1.0.2", "fd00::2"].map(|a| a.parse().unwrap()).into();
        let ours = |rule: &str| lets_through(&words(rule).unwrap(), &scope);
        assert!(ours("CNI-FORWARD -s 10.1.0.2/32 -j ACCEPT") && ours("CNI-FORWARD -s fd00::2/128 -j ACCEPT"));
        assert!(ours("CNI-FORWARD -d 10.1.0.2/32 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"));
        for other in [
            "CNI-FORWARD -s 10.1.0.3/32 -j ACCEPT",
            "CNI-FORWARD -s 10.1.0.2/31 -j ACCEPT",
            "CNI-FORWARD -s 10.1.0.2 -j ACCEPT",
            "CNI-FORWARD -s 10.1.0.2/32 -j DROP",
            "CNI-FORWARD -s 10.1.0.2/32 -p tcp -j ACCEPT",
            "FORWARD -s 10.1.0.2/32 -j ACCEPT",
            "CNI-FORWARD -d 10.1.0.2/32 -j ACCEPT",
            "CNI-FORWARD -m comment --comment x -j CNI-ADMIN",
        ] {
            assert!(!ours(other), "{other}");
        }
    }

    #[test]
    fn nft_rules_are_ours_by_the_comments_of_our_sandboxes() {
        let mut scope = crate::scope::tests::scope_of(&[ID]);
        scope.network.networks.insert("net".into());
        scope.network.interfaces.insert("eth0".into());
        let ours = |family: &str, table: &str, comment: &str| {
            let (family, table, comment) = (family.to_owned(), table.to_owned(), comment.to_owned());
            is_of_sandbox(
                &nft::Rule { family, table, comment, ..nft::Rule::default() },
                &scope,
                &scope.sole_ids(),
            )
        };
        assert!(ours("ip", "cni_hostport", ID) && ours("ip6", "cni_hostport", ID));
        assert!(!ours("ip", "cni_hostport", &ID[1..]) && !ours("ip", "filter", ID));
        // printf '%s' net | sha512sum; printf '%s' "eth0:$ID" | sha512sum
        let hashes = "a4861f4ae9f7d238-848025970da6a998";
        assert!(ours("inet", "cni_plugins_masquerade", &format!("{hashes}, net: net, if: eth0, id: 01")));
        assert!(!ours(
            "inet",
            "cni_plugins_masquerade",
            &format!("0{}, net: net, if: eth0, id: {ID}", &hashes[1..])
        ));
    }
}
