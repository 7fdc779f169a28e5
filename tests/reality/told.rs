//! Places that containerd's and kubelet's own files tell, besides the roots: control groups, sockets, logs.
//!
//! RIGHT: a group that containerd was told to go into, or to put its shims into, may be a user's: empty, it is told (status 3); with
//! somebody in it, it is his and stays silently. A socket goes if nobody listens at it, and is told if somebody does.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use crate::stage::{COMMON, DATA, Right, Stage, demand, sh};
use support::picture::{Kind, Thing};
use support::scenes::Scene;
use support::{Result, built};

pub const ALL: &[Scene] = &[
    ("the_group_that_containerd_goes_into_is_told", || group("1.7", true, CGROUP)),
    ("the_group_that_containerd_goes_into_is_told_2_1", || group("2.1", true, CGROUP)),
    ("the_group_that_containerd_goes_into_is_told_hybrid", || group("1.7", false, CGROUP)),
    ("the_group_that_shims_go_into_is_told", || group("1.7", true, SHIMS)),
    ("the_group_that_shims_go_into_is_told_2_1", || group("2.1", true, SHIMS)),
    ("the_group_that_shims_go_into_is_told_hybrid", || group("1.7", true, SHIMS)),
    ("a_group_of_shims_that_somebody_else_is_in_stays", || somebodys(SHIMS)),
    ("a_group_of_containerds_that_somebody_else_is_in_stays", || somebodys(CGROUP)),
    ("the_group_that_a_table_in_one_line_names_is_told", || {
        group("1.7", true, "cgroup = { path = '/deep/er' } # x\n")
    }),
    ("sockets_of_debug_ttrpc_and_nri_elsewhere", || sockets("1.7", TABLES, NRI)),
    ("sockets_of_debug_ttrpc_and_nri_elsewhere_2_1", || sockets("2.1", TABLES, NRI)),
    ("sockets_elsewhere_by_tables_in_one_line", || sockets("1.7", SHORT, SHORT_NRI)),
    ("sockets_elsewhere_by_tables_in_one_line_2_1", || sockets("2.1", SHORT, SHORT_NRI)),
    ("a_debug_socket_elsewhere_at_which_somebody_listens_is_told", listening),
];

const CGROUP: &str = "[cgroup]\npath = \"/deep/er\"\n";
const SHIMS: &str = "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\n\
                     [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]\nShimCgroup = \"/deep/er\"\n";

const TABLES: &str =
    "[debug]\naddress = \"/somewhere/run/debug.sock\"\n[ttrpc]\naddress = \"/somewhere/run/ttrpc.sock\"\n";
const NRI: &str =
    "[plugins.\"io.containerd.nri.v1.nri\"]\ndisable = false\nsocket_path = \"/somewhere/run/nri.sock\"\n";
const SHORT: &str = "debug = { level = \"info\", address = '/somewhere/run/debug.sock' }\nttrpc.address = \"/somewhere/run/ttrpc.sock\"\n";
const SHORT_NRI: &str = "[plugins]\n\"io.containerd.nri.v1.nri\" = { disable = false, socket_path = \"/somewhere/run/nri.sock\" }\n";

/// Starts our containerd with these in its configuration: at its top, and for its plugin of resources.
fn told(stage: &mut Stage, lines: &str, nri: &str) -> Result<()> {
    let args = format!("{DATA}/args");
    fs::create_dir_all(&args)?;
    fs::write(format!("{args}/containerd"), "--config ${SNAP_DATA}/args/containerd.toml\n")?;
    let toml = format!("{args}/containerd.toml");
    let (root, state) = (format!("{COMMON}/var/lib/containerd"), format!("{COMMON}/run/containerd"));
    stage.start(Stage::layout(), &["--config", &toml, "--root", &root, "--state", &state], |config| {
        let without = "[plugins.\"io.containerd.nri.v1.nri\"]\ndisable = true\n";
        let nri = if nri.is_empty() { without } else { nri };
        let config = config.replacen('\n', &format!("\n{lines}"), 1).replace(without, nri);
        fs::write(&toml, &config)?;
        Ok(config)
    })?;
    Ok(())
}

const SOCKETS: [&str; 3] = ["debug.sock", "ttrpc.sock", "nri.sock"];

fn sockets(version: &'static str, lines: &str, nri: &str) -> Result<()> {
    let mut stage = Stage::new(version)?;
    told(&mut stage, lines, nri)?;
    stage.polite_pods("polite", 1)?;
    stage.stop()?;
    for name in SOCKETS {
        demand(Path::new("/somewhere/run").join(name).exists(), format!("containerd left no {name}"))?;
    }
    stage.must_show(&[(Kind::Process, 3), (Kind::Mount, 4), (Kind::File, 40)])?;
    // containerd makes the directory, and nobody can know that.
    let own: fn(&Thing) -> bool =
        |thing| ["/somewhere", "/somewhere/run"].iter().any(|own| thing.path == Path::new(own));
    stage.judge(&Right::Told(own, &[0]), 1)?;
    Ok(())
}

/// Somebody else listens there by now.
fn listening() -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    told(&mut stage, TABLES, NRI)?;
    stage.polite_pods("polite", 1)?;
    stage.stop()?;
    let socket = Path::new("/somewhere/run/debug.sock");
    fs::remove_file(socket)?;
    let _listener = UnixListener::bind(socket)?;
    stage.must_show(&[(Kind::Process, 3), (Kind::Mount, 4)])?;
    let left: fn(&Thing) -> bool = |thing| {
        let is_kind = matches!(thing.kind, Kind::File | Kind::Socket);
        let gone = SOCKETS[1..].iter().any(|name| thing.path.ends_with(name));
        is_kind && thing.path.starts_with("/somewhere") && !gone
    };
    stage.judge(&Right::Told(left, &[3]), 1)?;
    demand(socket.exists(), "somebody's socket was removed")
}

/// Makes the group in every hierarchy.
fn make() -> Result<String> {
    sh(
        "cd /sys/fs/cgroup; if [ -e cgroup.procs ]; then mkdir -p deep/er; else for h in *; do mkdir -p $h/deep/er; done; fi",
    )
}

/// The group, that somebody has made before (as he must with cgroup2) or containerd makes.
fn group(version: &'static str, made: bool, lines: &str) -> Result<()> {
    let mut stage = Stage::new(version)?;
    if made {
        make()?;
    }
    told(&mut stage, lines, "")?;
    stage.polite_pods("polite", 1)?;
    stage.stop()?;
    // Shims are in it, too.
    sh("cat $(find /sys/fs/cgroup -path '*/deep/er/cgroup.procs') | grep -q .")?;
    stage.must_show(&[(Kind::Process, 3), (Kind::Mount, 4), (Kind::Cgroup, 4)])?;
    let is_it: fn(&Thing) -> bool = |thing| {
        thing.kind == Kind::Cgroup && (thing.path.ends_with("deep") || thing.path.ends_with("deep/er"))
    };
    let report = stage.judge(&Right::Told(is_it, &[3]), 1)?;
    demand(report["steps"].to_string().contains("/deep/er"), "the group is not named")?;
    // The files that tell of it have gone with the snap.
    let mut verify = Command::new(built("snap-teardown")?);
    let looked = verify.args(["verify", "--snap", "microk8s"]).env_clear().output()?;
    let said = String::from_utf8_lossy(&looked.stdout);
    demand(
        looked.status.code() == Some(3) && said.contains("/deep/er"),
        format!("verify: {:?}: {said}", looked.status),
    )
}

/// A user keeps a program of his in the group that he has told containerd to use.
fn somebodys(lines: &str) -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    stage.also(|_| make())?;
    let mut sleeper = Command::new("/bin/sh");
    sleeper.args(["-ec", "echo $$ > /sys/fs/cgroup/deep/er/cgroup.procs; exec sleep 1000"]);
    let mut user = None;
    stage.also(|_| {
        user = Some(sleeper.spawn()?);
        while !sh("cat /sys/fs/cgroup/deep/er/cgroup.procs")?.contains(char::is_numeric) {}
        Ok(())
    })?;
    told(&mut stage, lines, "")?;
    stage.polite_pods("polite", 1)?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 3), (Kind::Mount, 4)])?;
    stage.judge(&Right::Clean, 1)?;
    user.ok_or("no user")?.kill()?;
    Ok(())
}
