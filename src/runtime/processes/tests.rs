use super::*;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

/// A process of a fixture, with a command line of this length as far as the kernel tells.
fn process(root: &Path, pid: i32, length: Option<usize>) -> PathBuf {
    let directory = root.join(format!("proc/{pid}"));
    fs::create_dir_all(&directory).unwrap();
    // Up to the start time; then to arg_start and arg_end; then the rest.
    let [before, after] = [["0"; 25].join(" "), ["0"; 3].join(" ")];
    let arguments = length.map_or("0 0".into(), |length| format!("4096 {}", 4096 + length));
    let text =
        format!("{pid} (x) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {pid}00 {before} {arguments} {after}\n");
    fs::write(directory.join("stat"), text).unwrap();
    directory.join("cmdline")
}

const SHIM: &[u8] = b"shim\0-namespace\0k8s.io\0-id\0a\0-address\0/run/c.sock\0";

#[test]
fn a_command_line_that_cannot_be_a_shims_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    for (pid, length) in [(10, Some(7)), (11, Some(shim::SHORTEST.len())), (12, None)] {
        fs::write(process(dir.path(), pid, length), SHIM).unwrap();
    }
    let all = Processes::read(&Host::at(dir.path())).unwrap();
    assert_eq!([10, 11, 12].map(|pid| all.is_shim(pid)), [false, true, true], "{all:?}");
    assert_eq!(all.shim(11).unwrap().id.as_deref(), Some("a"));
    assert!(all.hidden().is_empty() && all.unreadable.is_empty());
}

#[test]
fn a_command_line_that_never_comes_hides_itself_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    for pid in 10..40 {
        fs::write(process(dir.path(), pid, None), SHIM).unwrap();
    }
    // Nobody writes to it, so that whoever opens it waits.
    let stalls = process(dir.path(), 25, None);
    fs::remove_file(&stalls).unwrap();
    nix::unistd::mkfifo(&stalls, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let host = Host::at(dir.path());
    let started = Instant::now();
    let all = Processes::read(&host).unwrap();
    assert_eq!(all.hidden(), [25]);
    assert_eq!((10..40).filter(|pid| all.is_shim(*pid)).count(), 29);
    let first = started.elapsed();
    assert!(first < Duration::from_secs(3), "{first:?}");
    // A later look does not wait for it again.
    let started = Instant::now();
    assert_eq!(Processes::read(&host).unwrap().hidden(), [25]);
    assert!(started.elapsed() < READ_TIMEOUT, "{:?}", started.elapsed());
}

#[test]
fn many_that_stall_cost_no_more_than_a_few() {
    let dir = tempfile::tempdir().unwrap();
    for pid in 10..60 {
        let file = process(dir.path(), pid, None);
        nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
    }
    let host = Host::at(dir.path());
    let started = Instant::now();
    for _ in 0..5 {
        assert_eq!(Processes::read(&host).unwrap().hidden(), (10..60).collect::<Vec<_>>());
    }
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
}

#[test]
fn what_is_not_roots_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let file = process(dir.path(), 10, None);
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::os::unix::fs::chown(file.parent().unwrap(), Some(1000), None).unwrap();
    let all = Processes::read(&Host::at(dir.path())).unwrap();
    assert!(all.hidden().is_empty() && !all.is_shim(10) && all.get(10).is_some());
}

#[test]
fn we_are_no_shim() {
    let pid = std::process::id() as i32;
    let all = Processes::read(&Host::live()).unwrap();
    assert!(all.get(pid).unwrap().alive() && !all.is_shim(pid) && !all.hidden().contains(&pid));
}
