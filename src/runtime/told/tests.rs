use super::*;
use std::fs;

fn told(files: &[(&str, &str)]) -> ConfiguredRoots {
    read_with(files).0
}

#[test]
fn dockers_own_file_counts_less_than_its_containerds() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::at(dir.path());
    let (snap, _) = crate::fixture::microk8s();
    let told = |told: ConfiguredRoots| by_docker(&host, &snap, told);
    let (nothing, unread) = told(ConfiguredRoots::default());
    assert!(nothing == ConfiguredRoots::default() && unread.is_empty());
    let file = "var/snap/microk8s/common/daemon.json";
    crate::fixture::file(dir.path(), file, r#"{"data-root":"/mnt/y/d","exec-root":"/mnt/x/d/","hosts":[]}"#);
    let path = |text: &str| Some(PathBuf::from(text));
    let (moved, unread) = told(ConfiguredRoots::default());
    assert_eq!(moved.root, path("/mnt/y/d/containerd/daemon"));
    assert_eq!((moved.state, moved.docker), (path("/mnt/x/d/containerd/daemon"), path("/mnt/x/d")));
    assert!(unread.is_empty());
    let (moved, _) = told(ConfiguredRoots { root: path("/mnt/z/lib"), ..ConfiguredRoots::default() });
    assert_eq!(moved.root, path("/mnt/z/lib"));
    for odd in [r#"{"data-root":"/usr"}"#, r#"{"data-root":"/mnt/../y/d"}"#, "{"] {
        crate::fixture::file(dir.path(), file, odd);
        let (moved, unread) = told(ConfiguredRoots::default());
        assert_eq!((moved, unread.len()), (ConfiguredRoots::default(), 1), "{odd}");
    }
}

fn read_with(files: &[(&str, &str)]) -> (ConfiguredRoots, Vec<Unresolved>) {
    let dir = tempfile::tempdir().unwrap();
    let args = dir.path().join("var/snap/microk8s/x1/args");
    let file = |name: &str, text: &str| {
        let path = args.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    fs::create_dir_all(&args).unwrap();
    files.iter().for_each(|(name, text)| file(name, text));
    let (snap, profile) = crate::fixture::microk8s();
    let roots = profile.resolve(&snap).unwrap();
    read(&Host::at(dir.path()), &snap, &roots.told_by)
}

fn path(path: &str) -> Option<PathBuf> {
    Some(path.into())
}

#[test]
fn arguments_in_every_spelling() {
    let told = told(&[
        (
            "containerd",
            "--config ${SNAP_DATA}/args/containerd.toml\n# --root /no/no\n--root /mnt/big/lib/\n--state=$SNAP_COMMON/run/c\n",
        ),
        ("kubelet", "--kubeconfig=x\n--root-dir=\"/mnt/big/kubelet\"\n"),
    ]);
    let state = path("/var/snap/microk8s/common/run/c");
    assert_eq!(
        told,
        ConfiguredRoots {
            root: path("/mnt/big/lib"),
            state,
            kubelet: path("/mnt/big/kubelet"),
            ..Default::default()
        }
    );
}

#[test]
fn configurations_and_what_they_import() {
    let told = told(&[
        ("containerd", "--config ${SNAP_DATA}/args/containerd.toml\n"),
        (
            "containerd.toml",
            "version = 2\nroot = '/mnt/a/lib' # mine\nimports = [\n  \"conf.d/*.toml\",\n]\n[plugins]\nroot = \"/mnt/b/lib\"\n",
        ),
        ("conf.d/disk.toml", "state = \"/mnt/c/run\"\n"),
        ("conf.d/ignored", "state = \"/mnt/d/run\"\n"),
    ]);
    assert_eq!(
        told,
        ConfiguredRoots { root: path("/mnt/a/lib"), state: path("/mnt/c/run"), ..Default::default() }
    );
}

#[test]
fn what_is_no_plain_place_moves_nothing_and_is_told() {
    for bad in ["relative", "/", "/mnt", "/mnt/../etc/x", "${HOME}/x"] {
        let (told, unread) = read_with(&[("containerd", &format!("--root {bad}\n--state={bad}\n"))]);
        assert_eq!((told, unread.len()), (ConfiguredRoots::default(), 2), "{bad}");
    }
    assert_eq!(
        told(&[("containerd", "--root /x\n--state=/y/\n")]).state,
        path("/y"),
        "directly below the top"
    );
    assert_eq!(read_with(&[("containerd", "--root=\n")]), Default::default());
    assert_eq!(read_with(&[("kubelet", "--root-dir=/\n")]).1.len(), 1);
    assert_eq!(told(&[("kubelet", "--root-dir=/kubelet\n")]).kubelet, path("/kubelet"));
    let own = "imports = [\"containerd-template.toml\"]\nroot = \"/mnt/a/b\"\n";
    assert_eq!(
        told(&[("containerd-template.toml", own)]).root,
        path("/mnt/a/b"),
        "one that imports itself ends"
    );
}

#[test]
fn what_is_imported_and_not_read_is_told() {
    const MAIN: &str = "containerd-template.toml";
    let unread = |pattern: &str| read_with(&[(MAIN, &format!("imports = [\"{pattern}\"]\n"))]).1;
    for pattern in ["conf.d/*.toml", "/none/x.toml", "conf.d/[ab].toml"] {
        assert!(unread(pattern).is_empty(), "{pattern}");
    }
    for pattern in ["*.d/x.toml", "conf.d/*-*.toml", "conf.d/?*.toml", "conf.d/[ab]*.toml"] {
        assert_eq!(unread(pattern).len(), 1, "{pattern}");
    }
    let names: Vec<String> = (0..MAX_FILES).map(|n| format!("conf.d/{n:02}.toml")).collect();
    let mut files = vec![(MAIN, "imports = [\"conf.d/*.toml\"]\n")];
    files.extend(names.iter().map(|name| (name.as_str(), "")));
    assert!(read_with(&files[..MAX_FILES]).1.is_empty());
    assert_eq!(read_with(&files).1[0].reason, Reason::TooMany);
}

#[test]
fn a_file_elsewhere_is_followed_and_one_that_cannot_be_read_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::at(dir.path());
    let (snap, profile) = crate::fixture::microk8s();
    let args = dir.path().join("var/snap/microk8s/x1/args");
    fs::create_dir_all(&args).unwrap();
    fs::create_dir_all(dir.path().join("etc")).unwrap();
    fs::write(dir.path().join("etc/kubelet"), b"# gr\xfc\xdfe\n--root-dir=/mnt/big/kubelet\n").unwrap();
    std::os::unix::fs::symlink("/etc/kubelet", args.join("kubelet")).unwrap();
    fs::create_dir(args.join("containerd")).unwrap();
    let (told, unread) = read(&host, &snap, &profile.resolve(&snap).unwrap().told_by);
    assert_eq!(told.kubelet, path("/mnt/big/kubelet"));
    let unread: Vec<_> = unread.iter().map(|it| it.path.as_path()).collect();
    assert_eq!(unread, [Path::new("/var/snap/microk8s/x1/args/containerd")]);
}

#[test]
fn sockets_in_both_places() {
    let toml = "[grpc]\n  address = \"/a/c.sock\" # x\n[debug]\naddress = \"\"\n[ttrpc]\naddress = '/a/t.sock'\n\
                [plugins.\"io.containerd.nri.v1.nri\"]\nsocket_path = \"/a/nri.sock\"\n[metrics]\naddress = \"/a/m\"\n";
    let files = |words| [("containerd", words), ("containerd.toml", toml)];
    let words = "--config ${SNAP_DATA}/args/containerd.toml\n";
    let plain = told(&files(words));
    assert_eq!(plain.address, path("/a/c.sock"));
    let all = ["/a/t.sock", "/a/nri.sock", "/a/c.sock", "/a/c.sock.ttrpc"].map(PathBuf::from);
    assert_eq!(plain.sockets, all);
    let words = format!("{words}--address=/b/c.sock\n");
    assert_eq!(told(&files(&words)).address, path("/b/c.sock"), "arguments count more");
    let (plain, unread) = read_with(&files(&words.replace("/b/", "/b/../")));
    assert_eq!((plain.address, unread.len()), (path("/a/c.sock"), 1));
}

#[test]
fn groups_that_containerd_uses_with_the_file_that_says_so() {
    let runc = "plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes";
    let toml = format!(
        "[cgroup]\npath = \"own/group\"\n[{runc}.runc.options]\nShimCgroup = \"/shims\"\n[{runc}.x.options]\nShimCgroup = \"\"\n[other]\npath = \"/no\"\n"
    );
    let (told, unread) = read_with(&[("containerd-template.toml", &toml)]);
    let groups: Vec<_> = told.groups.iter().map(|(group, _)| group.to_str().unwrap()).collect();
    assert_eq!((groups, unread), (vec!["/own/group", "/shims"], vec![]));
    assert!(told.groups.iter().all(|(_, file)| file.ends_with("args/containerd-template.toml")));
    let (told, unread) = read_with(&[("containerd-template.toml", "[cgroup]\npath = \"/a/../b\"\n")]);
    assert_eq!((told.groups.len(), unread.len()), (0, 1));
}

#[test]
fn tables_in_one_line_and_keys_with_dots() {
    let short = "grpc = { address = \"/a/c.sock\" }\ncgroup = { path = '/g' }\n\
                 plugins = { \"io.containerd.nri.v1.nri\" = { socket_path = '/a/n' } }\n";
    let dots = "grpc.address = '/a/c.sock'\nplugins.'io.containerd.nri.v1.nri'.socket_path = '/a/n'\n\
                cgroup.path = '''/g'''\n";
    let new = "[plugins]\n\"io.containerd.nri.v1.nri\" = { disable = false, socket_path = \"/a/n\" }\n\
               \"io.containerd.server.v1.grpc\" = { address = '/a/c.sock' }\n[cgroup]\npath = '/g'\n";
    for toml in [short, dots, new] {
        let (told, unread) = read_with(&[("containerd-template.toml", toml)]);
        let group = told.groups.first().map(|(group, _)| group.clone());
        assert_eq!((told.address, group, unread), (path("/a/c.sock"), path("/g"), vec![]), "{toml}");
        assert_eq!(told.sockets, ["/a/n", "/a/c.sock", "/a/c.sock.ttrpc"].map(PathBuf::from), "{toml}");
    }
    let (told, unread) = read_with(&[("containerd-template.toml", "root = \"/x\\u0041/y\"")]);
    assert_eq!((told.root, unread.len()), (None, 1), "what has an escape is no plain place");
}

#[test]
fn kubelets_drop_ins_count_more_the_later_their_names_are() {
    let words =
        ("kubelet", "--config=${SNAP_DATA}/args/kubelet.yaml\n--config-dir=${SNAP_DATA}/args/conf.d\n");
    let files = [
        words,
        ("kubelet.yaml", "podLogsDir: /a/first\n"),
        ("conf.d/10-x.conf", "podLogsDir: /a/second\n"),
        ("conf.d/20-x.conf", "{\"kind\": \"KubeletConfiguration\", \"podLogsDir\": \"/a/third\"}\n"),
        ("conf.d/30-x.conf", "kind: KubeletConfiguration\n"),
        ("conf.d/40-x.yaml", "podLogsDir: /a/no\n"),
    ];
    let of = |files: &[(&str, &str)]| read_with(files).0.pod_logs;
    assert_eq!(of(&files), path("/a/third"));
    assert_eq!(of(&files[..3]), path("/a/second"));
    assert_eq!(of(&files[..2]), path("/a/first"));
    assert_eq!(of(&[words, ("conf.d/a/b.conf", "podLogsDir: /a/deep\n")]), path("/a/deep"));
    let deep = "conf.d/1/2/3/4/5/6/7/8/9/a.conf";
    let (told, unread) = read_with(&[words, (deep, "podLogsDir: /a/no\n")]);
    assert_eq!((told.pod_logs, unread.len()), (None, 1));
    let many: Vec<String> = (0..=MAX_DROP_INS).map(|n| format!("conf.d/a/{n}.conf")).collect();
    let mut many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "")).collect();
    many.extend([words, ("conf.d/b/a.conf", "podLogsDir: /a/no\n")]);
    assert_eq!(read_with(&many).1.len(), 1);
}
