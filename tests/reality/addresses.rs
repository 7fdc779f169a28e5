//! containerd's sockets elsewhere.
//!
//! RIGHT: a socket that the snap's own arguments or configuration name goes if nobody listens at it, or is told; shims that serve it
//! are ended. What only shims name ends them where all of ours name the same, and takes no file away.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;

use crate::stage::{COMMON, DATA, Right, Stage, demand, sh};
use crate::top::{Way, start};
use support::Result;
use support::picture::Kind;
use support::runtime::{Layout, in_group};
use support::scenes::Scene;

pub const ALL: &[Scene] = &[
    ("address_elsewhere", || address("1.7", Way::Words, true)),
    ("address_elsewhere_2_1", || address("2.1", Way::Config, true)),
    ("address_elsewhere_in_no_unit_of_snapd", || address("1.7", Way::Words, false)),
    ("address_elsewhere_at_which_somebody_listens_is_told", listening),
    ("address_elsewhere_that_only_shims_tell", || address("1.7", Way::Nowhere, true)),
    ("address_elsewhere_that_only_shims_in_no_unit_tell", || address("1.7", Way::Nowhere, false)),
    ("address_elsewhere_where_anothers_containerd_listens_stays", || anothers(false)),
    ("address_elsewhere_where_anothers_containerd_listened_stays", || anothers(true)),
    ("address_that_is_no_plain_place_is_told", not_plain),
];

const SESSION: &str = "user.slice/session-1.scope";

const SOCKET: &str = "/somewhere/run/c.sock";

fn address(version: &'static str, way: Way, unit: bool) -> Result<()> {
    let session = || in_group(SESSION, "true").map(|_| Vec::new());
    let mut stage = if unit { Stage::new(version)? } else { Stage::beside(version, session)? };
    let mut layout = Layout { socket: SOCKET.into(), ..Stage::layout() };
    if !unit {
        layout.service = SESSION.into();
    }
    fs::create_dir_all("/somewhere")?;
    start(
        &mut stage,
        layout,
        way,
        &["[grpc]\naddress = \"/somewhere/run/c.sock\"\n", "--address /somewhere/run/c.sock\n"],
    )?;
    stage.polite_pods("polite", 1)?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 3), (Kind::Mount, 4), (Kind::File, 40)])?;
    // The directory is there for the socket alone as far as anybody knows, and nobody can know more.
    let right = match way {
        Way::Nowhere => {
            Right::Told(|thing| thing.kind == Kind::File && thing.path.starts_with("/somewhere"), &[3])
        }
        _ => Right::Told(
            |thing| ["/somewhere", "/somewhere/run"].iter().any(|own| thing.path == Path::new(own)),
            &[0],
        ),
    };
    stage.judge(&right, 1)?;
    Ok(())
}

/// Somebody else listens there by now.
fn listening() -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    sh(&format!("mkdir -p {DATA}/args /somewhere/run"))?;
    fs::write(format!("{DATA}/args/containerd"), format!("--address {SOCKET}\n"))?;
    stage.start_usual()?;
    stage.polite_pods("polite", 1)?;
    stage.stop()?;
    let _listener = UnixListener::bind(SOCKET)?;
    stage.judge(&Right::Told(|thing| thing.path.starts_with("/somewhere"), &[3]), 1)?;
    demand(Path::new(SOCKET).exists(), "somebody's socket was removed")
}

/// Another containerd works at the address that our arguments name, or did until its service was stopped: its pods live on.
fn anothers(stopped: bool) -> Result<()> {
    let mut stage = Stage::beside_pod_of(Layout { socket: SOCKET.into(), ..Layout::of_host() }, stopped)?;
    fs::create_dir_all(format!("{DATA}/args"))?;
    fs::write(format!("{DATA}/args/containerd"), format!("--address {SOCKET}\n"))?;
    stage.judge(&Right::Told(|_| false, &[3]), 0)?;
    demand(Path::new(SOCKET).exists(), "somebody's socket was removed")
}

fn not_plain() -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    sh(&format!("mkdir -p {DATA}/args {COMMON}"))?;
    fs::write(format!("{DATA}/args/containerd"), "--address /somewhere/../else/c.sock\n")?;
    let report = stage.judge(&Right::Told(|_| false, &[3]), 0)?;
    demand(report["steps"].to_string().contains("/somewhere/../else"), format!("it is not told: {report}"))
}
