use super::*;

#[test]
fn reads_only_regular_files() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::at(dir.path());
    fs::write(dir.path().join("f"), "text\n").unwrap();
    std::os::unix::fs::symlink("f", dir.path().join("link")).unwrap();
    nix::unistd::mkfifo(&dir.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(host.read_text(Path::new("/f")).unwrap(), "text");
    assert_eq!(host.read(Path::new("/link")).unwrap_err().errno(), Some(nix::libc::ELOOP));
    assert!(host.read(Path::new("/fifo")).is_err());
    assert!(host.read(Path::new("/none")).unwrap_err().is_gone());
}

#[test]
fn what_the_kernel_writes_is_read_to_its_end() {
    let live = Host::live();
    // Many short lines, more than fit into one read.
    let dir = tempfile::tempdir().unwrap();
    let whole = |path: &str| String::from_utf8(fs::read(path).unwrap()).unwrap();
    for path in ["/proc/self/cgroup", "/proc/self/limits", "/proc/mounts", "/proc/crypto"] {
        let Ok(read) = live.read_piece(Path::new(path)) else { continue };
        // A link ends here.
        assert_ne!(path, "/proc/mounts");
        assert!(String::from_utf8(read).unwrap() == whole(path), "{path}");
    }
    for path in ["/proc/self/mountinfo", "/proc/self/maps", "/proc/self/smaps"] {
        let read = live.read(Path::new(path)).unwrap().len();
        assert!(read.abs_diff(whole(path).len()) < read / 2 && read > 0, "{path}");
    }
    assert!(live.read(Path::new("/proc/self")).is_err() && live.read(Path::new("/proc/self/ns")).is_err());
    let host = Host::at(dir.path());
    fs::write(dir.path().join("f"), vec![b'x'; 100_000]).unwrap();
    assert_eq!(host.read_piece(Path::new("/f")).unwrap().len(), 100_000);
}

#[test]
fn a_device_is_not_opened() {
    // Nobody has made a driver for this number: who opens it is told so.
    let dir = tempfile::tempdir().unwrap();
    let host = Host::at(dir.path());
    let (kind, mode) = (nix::sys::stat::SFlag::S_IFCHR, nix::sys::stat::Mode::S_IRUSR);
    let number = nix::sys::stat::makedev(4000, 1);
    nix::sys::stat::mknod(&dir.path().join("node"), kind, mode, number).unwrap();
    let error = host.read(Path::new("/node")).unwrap_err();
    assert!(error.to_string().contains("not a regular file"), "{error}");
}

#[test]
fn what_is_too_large_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::at(dir.path());
    let file = fs::File::create(dir.path().join("f")).unwrap();
    file.set_len(1 << 40).unwrap();
    assert!(host.read(Path::new("/f")).is_err_and(|e| e.to_string().contains("too large")));
    file.set_len(100).unwrap();
    assert_eq!(host.read_at_most(Path::new("/f"), 100).unwrap().len(), 100);
    assert!(host.read_at_most(Path::new("/f"), 99).is_err());
}
