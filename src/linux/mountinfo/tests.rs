use super::*;

fn one(line: &str) -> Option<Mount> {
    parse(line.as_bytes()).mounts.pop()
}

#[test]
fn reads_a_plain_line() {
    let m = one("36 35 98:0 /mnt1 /mnt2 rw,noatime shared:4 master:1 - ext3 /dev/root rw,errors=continue")
        .unwrap();
    assert_eq!((m.id, m.parent, m.point(), m.shared), (36, 35, Path::new("/mnt2"), true));
    assert_eq!((m.fstype(), &m.options()[..]), ("ext3", b"rw,errors=continue".as_slice()));
}

#[test]
fn unescapes_odd_names() {
    let m = one("1 2 0:1 / /a\\040b\\012c\\134d\\011 rw - tmpfs t rw").unwrap();
    assert_eq!(m.point(), Path::new("/a b\nc\\d\t"));
}

#[test]
fn a_name_that_is_not_utf8_is_kept() {
    let table = parse(b"1 2 0:1 / /a\xff rw - tmpfs t rw\n");
    assert_eq!(table.mounts[0].point().as_os_str().as_encoded_bytes(), b"/a\xff");
}

#[test]
fn a_bad_line_costs_only_itself() {
    let good = "1 2 0:1 / /a rw - tmpfs t rw";
    for bad in [
        "",
        "x",
        "1 2 0:1 / /b",
        "1 2 0:1 / /b rw - ",
        "1 2 0:1 / /b\\9 rw - tmpfs t rw",
        "1 2 0:1 / b rw - tmpfs t rw",
    ] {
        let table = parse(format!("{good}\n{bad}\n{good}\n").as_bytes());
        assert_eq!(table.mounts.len(), 2, "{bad:?}");
        assert_eq!(table.bad_lines, usize::from(!bad.is_empty()), "{bad:?}");
    }
}

#[test]
fn below_is_by_component_and_excludes_the_root() {
    let table = parse(
        b"1 0 0:1 / /a rw - tmpfs t rw\n2 1 0:1 / /a/b rw - tmpfs t rw\n3 1 0:1 / /ab rw - tmpfs t rw\n",
    );
    let ids: Vec<_> = table.below(Path::new("/a")).map(|m| m.id).collect();
    assert_eq!(ids, [2]);
}

#[test]
fn the_layers_of_an_overlay() {
    let mount = |fstype, options| one(&format!("1 0 0:1 / /m rw - {fstype} o {options}")).unwrap();
    let options = "ro,lowerdir=/i/1/fs:/i/2/fs,upperdir=/i/3/fs,workdir=/i/3/work,lowerdir+=/i/4/fs";
    let layers = ["/i/1/fs", "/i/2/fs", "/i/3/fs", "/i/3/work", "/i/4/fs"].map(PathBuf::from);
    assert_eq!(mount("overlay", options).layers(), layers);
    assert_eq!(mount("overlay", options).options(), options.as_bytes());
    assert!(mount("overlay", options).read_only);
    assert!(mount("tmpfs", options).layers().is_empty());
}

#[test]
fn a_table_is_the_same_however_it_comes() {
    let text = b"1 0 0:1 / / rw - tmpfs t rw\nno mount\n2 1 0:2 / /a\\040b rw - tmpfs t rw";
    let whole = parse(text);
    assert_eq!((whole.mounts.len(), whole.bad_lines), (2, 1));
    for size in [1, 7, text.len()] {
        let pieces = text
            .chunks(size)
            .fold(Box::new(io::empty()) as Box<dyn Read>, |before, piece| Box::new(before.chain(piece)));
        assert_eq!(read(pieces).unwrap(), whole);
    }
}

#[test]
fn a_layer_on_a_server_or_a_server_on_the_way_may_hang() {
    let table = parse(
        b"1 0 0:1 / /nfs rw - nfs4 s:/ rw\n2 0 0:2 / /m rw - overlay o rw,lowerdir=/a:/nfs/b,upperdir=/c\n\
          3 1 0:3 / /nfs/x rw - tmpfs t rw\n4 0 0:4 / /o rw - overlay o rw,lowerdir=/a:/nfsb,upperdir=/c\n",
    );
    let hanging = table.hanging(|_| true);
    let waits: Vec<bool> = table.mounts.iter().map(|m| m.waits_for(&hanging)).collect();
    assert_eq!(waits, [true, true, true, false]);
}

#[test]
fn a_device_of_a_volume_alone_may_hang_and_the_machines_own_disk_does_not() {
    let table = parse(
        b"1 0 259:2 / / rw - ext4 /dev/nvme0n1p2 rw\n2 1 8:32 / /v/iscsi rw - ext4 /dev/sdc rw\n\
          3 1 259:2 /srv /v/hostpath rw - ext4 /dev/nvme0n1p2 rw\n4 2 0:5 / /v/iscsi/below rw - tmpfs t rw\n\
          5 1 8:32 /sub /v/subpath rw - ext4 /dev/sdc rw\n6 1 0:5 / /v/secret rw - tmpfs t rw\n",
    );
    let hanging = table.hanging(|m| m.point().starts_with("/v"));
    let waits: Vec<bool> = table.mounts.iter().map(|m| m.waits_for(&hanging)).collect();
    assert_eq!(waits, [false, true, false, true, true, false]);
}

#[test]
fn network_and_user_space_file_systems_may_hang() {
    for (fs, may) in [
        ("nfs4", true),
        ("fuse.sshfs", true),
        ("fuse", true),
        ("cifs", true),
        ("tmpfs", false),
        ("overlay", false),
    ] {
        assert_eq!(one(&format!("1 2 0:1 / /a rw - {fs} x rw")).unwrap().may_hang(), may, "{fs}");
    }
}
