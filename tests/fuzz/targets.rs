//! Every parser of what others wrote, with what must hold whatever they wrote. `cargo fuzz` feeds these, and so does
//! the plain test `corpus` with the files that are kept here.

#![allow(dead_code)] // each fuzzing program uses one

use snap_teardown::testing::hook_plan::{Hook, Patience, Plan};
use snap_teardown::testing::metadata::{Record, Sandbox};
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use snap_teardown::testing::{
    Bundle, ContainerId, Host, Profile, Roots, ShimClient, Snap, bundle, groups, http_hook, metadata,
    mountinfo, parse_membership, parse_pids, pre_stop, runc, shim, units,
};

/// A target's name, which is its corpus's too, and its function.
pub type Target = (&'static str, fn(&[u8]));

pub const ALL: [Target; 10] = [
    ("mountinfo", mountinfo),
    ("spec", spec),
    ("state", state),
    ("bootstrap", bootstrap),
    ("cmdline", cmdline),
    ("cgroup", cgroup),
    ("profile", profile),
    ("ttrpc", ttrpc),
    ("metadata", metadata),
    ("hook", hook),
];

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn roots() -> Option<Roots> {
    static ROOTS: OnceLock<Option<Roots>> = OnceLock::new();
    let read = || Profile::built_in("microk8s").ok().flatten()?.resolve(&Snap::stand_in("microk8s")).ok();
    ROOTS.get_or_init(read).clone()
}

fn container() -> ContainerId {
    ContainerId { namespace: "k8s.io".into(), id: ID.into() }
}

/// A mount table: each line is a mount or counted as bad, and none is made up.
pub fn mountinfo(bytes: &[u8]) {
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
    let table = mountinfo::parse(bytes);
    assert!(table.mounts.len() + table.bad_lines <= lines, "more mounts than lines");
    assert!(table.mounts.iter().all(|mount| mount.point().is_absolute()), "a mount at no place");
    let hanging = table.hanging(|m| m.point().starts_with("/var/snap"));
    let _ = table.mounts.iter().filter(|mount| mount.waits_for(&hanging)).count();
}

/// A bundle's config.json: nothing is taken from it that could lead to anything but this container's own.
pub fn spec(bytes: &[u8]) {
    let Some(roots) = roots() else { return };
    let mut bundle = Bundle::default();
    bundle::take_spec(&mut bundle, bytes, &container(), &roots);
    for group in &bundle.groups {
        let name = group.file_name().unwrap_or_default().to_string_lossy();
        assert!(name.contains(ID), "a group of another name: {}", group.display());
        assert!(plain(group), "a group that leads elsewhere: {}", group.display());
    }
    for name in bundle.shim_id.iter().chain(&bundle.sandbox) {
        assert!(is_name(name), "a name that leads elsewhere: {name:?}");
    }
    if let Some(netns) = &bundle.netns {
        assert!(netns.parent().is_some_and(|dir| dir.ends_with("run/netns")), "{}", netns.display());
        assert!(plain(netns), "{}", netns.display());
    }
    assert!(bundle.binds.iter().all(|path| path.is_absolute()));
    assert!(bundle.socket.is_none());
}

/// runc's state.json: no process that nobody may touch.
pub fn state(bytes: &[u8]) {
    if let Ok(state) = runc::parse_runc_state(bytes) {
        assert!(state.init.is_none_or(|init| init.pid > 1 && init.start > 0));
    }
}

/// A bundle's bootstrap.json and address: a socket where shims have theirs, or none.
pub fn bootstrap(bytes: &[u8]) {
    let (Some(roots), Ok(dir)) = (roots(), tempfile::tempdir()) else { return };
    let [bundle, ..] = bundle::paths_below(&roots.state, &container());
    let below = dir.path().join(bundle.strip_prefix("/").unwrap_or(&bundle));
    if std::fs::create_dir_all(&below).is_err() {
        return;
    }
    for file in ["bootstrap.json", "address"] {
        if std::fs::write(below.join(file), bytes).is_ok() {
            let host = Host::at(dir.path());
            let bundle = bundle::read_bundle(&host, &roots, &container(), &mut Default::default(), &|_| None);
            if let Some(socket) = bundle.socket {
                assert_eq!(socket.parent(), Some(roots.shim_sockets.as_path()));
                assert!(socket.file_name().is_some_and(|name| name.len() == 64));
            }
            let _ = std::fs::remove_file(below.join(file));
        }
    }
}

/// A process's command line: a shim of somebody's, or none; never a name that leads elsewhere.
pub fn cmdline(bytes: &[u8]) {
    if let Some(shim) = shim::parse(bytes) {
        assert!(shim.address.is_absolute());
        assert!(is_name(&shim.namespace) && shim.id.as_deref().is_none_or(is_name));
    }
}

/// Paths of control groups, in a spec, in /proc/PID/cgroup, and as names.
pub fn cgroup(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for group in groups::of_spec(&text).into_iter().chain(parse_membership(bytes)) {
        assert!(group.is_absolute());
    }
    assert!(groups::of_spec(&text).iter().all(|group| plain(group)), "{text:?}");
    if let Some(id) = groups::container_of(&text) {
        assert!(id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
    let path = Path::new(OsStr::from_bytes(bytes));
    if units::service_of(path, "microk8s").is_some() {
        assert!(text.contains("snap.microk8s."));
    }
    assert!(parse_pids(bytes).all(|pid| pid > 0));
}

/// A profile: whatever it says, what may be removed lies strictly within its own snap's directories.
pub fn profile(bytes: &[u8]) {
    let Ok(profile) = Profile::parse(bytes, "a test") else { return };
    let snap = Snap::stand_in(&profile.snap);
    let Ok(roots) = profile.resolve(&snap) else { return };
    check_roots(&roots, &snap);
    assert!(profile.patience.deadline <= 540 && profile.patience.drain <= profile.patience.deadline);
}

/// No profile can make anything removable but the snap's own, and a few symlinks by name.
pub fn check_roots(roots: &Roots, snap: &Snap) {
    let removable = roots.data.iter().chain(&roots.mounts).chain(&roots.scripts);
    for path in removable {
        let own = [&snap.common, &snap.data].into_iter().any(|dir| path.starts_with(dir) && path != dir);
        assert!(own && plain(path), "removable: {}", path.display());
    }
    let shared = ["/run/containerd", "/run/netns", "/var/lib/cni", "/var/lib/containerd", "/var/lib/kubelet"];
    let own_run = PathBuf::from(format!("/run/snap.{}", snap.instance));
    let named = [
        &roots.address,
        &roots.state,
        &roots.root,
        &roots.shim_sockets,
        &roots.runc,
        &roots.fifos,
        &roots.cni,
        &roots.netns,
    ];
    for path in named.into_iter().chain(&roots.kubelet) {
        let allowed = path.starts_with(&snap.common)
            || path.starts_with(&snap.data)
            || path.starts_with(&own_run)
            || shared.iter().any(|dir| path.starts_with(dir));
        assert!(allowed && plain(path), "named: {}", path.display());
    }
    for path in &roots.host_symlinks {
        let places =
            ["/var/lib/kubelet", "/var/lib/calico", "/etc/cni/net.d", "/opt/cni/bin", "/var/lib/cni"];
        assert!(places.iter().any(|place| path == Path::new(place)), "a symlink at {}", path.display());
    }
}

/// A shim's answers: whatever it says, the call ends, in time.
pub fn ttrpc(bytes: &[u8]) {
    // Rust's own main ignores it; the fuzzer's leaves it, and ends at the first shim that hangs up.
    let _ = SigSet::from_iter([Signal::SIGPIPE]).thread_block();
    let Ok(dir) = tempfile::tempdir() else { return };
    let path = dir.path().join("s");
    let Ok(listener) = UnixListener::bind(&path) else { return };
    let until = Instant::now() + Duration::from_millis(300);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            if let Ok((mut stream, _)) = listener.accept() {
                let _ = stream.write_all(bytes);
            }
        });
        let answer = ShimClient::connect(&path, "k8s.io", until)
            .and_then(|shim| shim.kill(ID, Signal::SIGKILL as i32, true));
        drop(answer);
    });
    assert!(Instant::now() < until + Duration::from_secs(2), "the call did not end in time");
}

/// containerd's database: whatever it says, it ends in time, nothing has a name that leads elsewhere, all is bounded.
pub fn metadata(bytes: &[u8]) {
    let started = Instant::now();
    let read = metadata::read(&bytes);
    assert!(started.elapsed() < Duration::from_secs(5), "not in time");
    let Ok(records) = read else { return };
    assert!(records.remarks.texts.len() <= 32 && records.remarks.texts.iter().all(|text| text.len() <= 200));
    assert!(records.containers.len() <= metadata::MOST_CONTAINERS);
    for (container, record) in &records.containers {
        assert!(is_name(&container.namespace) && is_name(&container.id), "{container:?}");
        assert!(record.sandbox_id.as_deref().is_none_or(is_name));
        assert!(record.stop_signal.is_none_or(|signal| (1..=64).contains(&signal)));
        planned(record, records.sandbox_of(container));
    }
}

/// kubelet's word for a preStop hook: it makes one request to the pod's own address, or runs in the container, or nothing.
pub fn hook(bytes: &[u8]) {
    let Ok(json) = std::str::from_utf8(bytes) else { return };
    let ports = pre_stop::Port { name: "web".into(), container_port: 8080, ..Default::default() };
    let record = Record {
        pre_stop: Some(pre_stop::parse(json, &[ports])),
        runtime: Some(metadata::RUNC.into()),
        process: Some(r#"{"args":["/app"],"cwd":"/"}"#.into()),
        ..Default::default()
    };
    let addresses = ["10.1.0.2", "fd00::2"].iter().filter_map(|text| text.parse().ok()).collect();
    planned(&record, Some(&Sandbox { addresses, ..Default::default() }));
    if let Some(pre_stop::PreStop::HttpGet(get)) = &record.pre_stop
        && let Some(text) = http_hook::request(get, ([10, 1, 0, 2], 80).into())
    {
        one_request(&text);
    }
}

fn planned(record: &Record, sandbox: Option<&Sandbox>) {
    let plan = Plan::of(record, sandbox, true, Patience { default: 30, most: 60, hooks: true });
    assert!(plan.limit <= 60 && plan.most() <= 62 && plan.after(0) >= 2);
    match &plan.hook {
        Hook::Http(to, text) => {
            assert!(sandbox.is_some_and(|sandbox| sandbox.addresses.contains(&to.ip())), "{to}");
            one_request(text);
        }
        Hook::Exec(json) => assert!(json.starts_with('{') && json.contains("\"args\":[")),
        _ => {}
    }
}

/// One request, of which nobody can make two.
fn one_request(text: &str) {
    assert!(text.starts_with("GET /") && text.ends_with("\r\n\r\n"), "{text:?}");
    assert_eq!(text.find("\r\n\r\n"), text.len().checked_sub(4), "{text:?}");
    let lines = text.split("\r\n");
    assert!(lines.clone().all(|line| !line.contains(['\r', '\n', '\0'])), "{text:?}");
    assert_eq!(lines.filter(|line| line.starts_with("Host: ")).count(), 1, "{text:?}");
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0'])
}

fn plain(path: &Path) -> bool {
    path.is_absolute()
        && path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
        && !path.as_os_str().as_bytes().contains(&0)
}
