//! Pods such as kubelet makes, of every kind that matters here, and what containerd says of them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::Value;
use snap_teardown::testing::ContainerId;
use snap_teardown::testing::metadata::{self, Records};

use support::Result;
use support::hook::Snap;
use support::runtime::{Layout, Pod, Runtime, show_programs};

/// The labels that kubelet gives to each container.
const KUBELETS: [&str; 8] = [
    "--container-label",
    "io.kubernetes.pod.name={name}",
    "--container-label",
    "io.kubernetes.pod.namespace=default",
    "--container-label",
    "io.kubernetes.pod.uid={uid}",
    "--container-label",
    "io.kubernetes.container.name=app0",
];

/// A container's annotation.
pub const GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";
pub const DELETION: &str = "io.kubernetes.pod.deletionGracePeriod";
pub const HOOK: &str = "io.kubernetes.container.preStopHandler";
pub const PORTS: &str = "io.kubernetes.container.ports";

/// Where containers write what is then looked for.
pub const WRITTEN: &str = "/srv/written";
const DATA: &str = "/srv/written:/data";

pub struct Stage {
    #[allow(dead_code)] // one of the suites that use this has no need of it
    pub snap: Snap,
    pub runtime: Runtime,
    /// By their names.
    pub pods: BTreeMap<&'static str, Pod>,
}

impl Stage {
    /// A containerd with images that name signals.
    pub fn new(version: &str) -> Result<Stage> {
        let snap = Snap::install("microk8s")?;
        show_programs()?;
        fs::create_dir_all(WRITTEN)?;
        fs::set_permissions(WRITTEN, fs::Permissions::from_mode(0o777))?;
        let runtime = Runtime::start(Layout::of_snap("microk8s"), version)?;
        runtime.import("docker.io/library/quit:1", "/app", &["--stop-signal", "SIGQUIT"])?;
        runtime.import("docker.io/library/realtime:1", "/app", &["--stop-signal", "RTMIN+3"])?;
        Ok(Stage { snap, runtime, pods: BTreeMap::new() })
    }

    /// A pod as kubelet makes it, with these annotations of its containers.
    pub fn pod(
        &mut self,
        name: &'static str,
        annotations: &[(&str, &str)],
        options: &[&str],
        app: &[&str],
    ) -> Result<&Pod> {
        let annotations: Vec<String> =
            annotations.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let mut all: Vec<&str> = KUBELETS.into();
        annotations.iter().for_each(|annotation| all.extend(["--container-annotation", annotation]));
        all.extend(options);
        let mut made = self.runtime.make_pods(name, &all, app)?;
        self.pods.insert(name, made.pop().ok_or("no pod was made")?);
        Ok(&self.pods[name])
    }

    /// One of every kind.
    pub fn every_kind(&mut self) -> Result<()> {
        let exec = r#"{"exec":{"command":["/app","hook","/data/hook","0"]}}"#;
        let ports = r#"[{"name":"web","containerPort":8080,"protocol":"TCP"}]"#;
        let get = r#"{"httpGet":{"path":"/stop?now=1","port":"web","scheme":"HTTP","httpHeaders":[{"name":"X-A","value":"b"}]}}"#;
        let quit = [
            "--image",
            "docker.io/library/quit:1",
            "--env",
            "TOKEN=a secret",
            "--run-as",
            "7",
            "--mount",
            DATA,
        ];
        self.pod("exec", &[(GRACE, "60"), (HOOK, exec)], &quit, &["/app", "quitter"])?;
        let realtime = ["--image", "docker.io/library/realtime:1", "--mount", DATA];
        let serve = ["/app", "serve", "8080", "/data/request"];
        self.pod("http", &[(GRACE, "30"), (HOOK, get), (PORTS, ports)], &realtime, &serve)?;
        let sleep = r#"{"sleep":{"seconds":5}}"#;
        self.pod("sleep", &[(GRACE, "0"), (HOOK, sleep)], &["--host-network"], &["/app", "obedient"])?;
        let tcp = r#"{"tcpSocket":{"port":1}}"#;
        let two = ["/app", "obedient", "--and", "/app", "stubborn"];
        self.pod("two", &[(GRACE, "300"), (DELETION, "4"), (HOOK, tcp)], &[], &two)?;
        let bare = self.runtime.make_pods("bare", &[], &["/app", "obedient"])?;
        self.pods.extend(bare.into_iter().map(|pod| ("bare", pod)));
        let image = self.runtime.image().display().to_string();
        self.runtime.ctr(&["-n", "default", "images", "import", &image])?;
        let by_hand =
            ["-n", "default", "run", "-d", "docker.io/library/realtime:1", "by-hand", "/app", "obedient"];
        self.runtime.ctr(&by_hand).map(drop)
    }

    /// A container of one of the pods.
    pub fn id(&self, pod: &str, n: usize) -> ContainerId {
        ContainerId { namespace: "k8s.io".into(), id: self.pods[pod].containers[n].id.as_str().into() }
    }

    /// Our own look.
    pub fn read(&self) -> Result<Records> {
        Ok(metadata::read(&File::open(self.file())?)?)
    }

    pub fn file(&self) -> PathBuf {
        self.runtime.layout.root.join(metadata::FILE)
    }

    /// What containerd says over its own interface: for each container its record, and what CRI adds.
    pub fn asked(&self) -> Result<BTreeMap<ContainerId, Told>> {
        let mut all = BTreeMap::new();
        for namespace in ["k8s.io", "default"] {
            let ids = self.runtime.ctr(&["-n", namespace, "containers", "ls", "-q"])?;
            for id in String::from_utf8(ids)?.split_whitespace() {
                let record: Value = serde_json::from_slice(&self.runtime.ctr(&[
                    "-n",
                    namespace,
                    "containers",
                    "info",
                    id,
                ])?)?;
                let cri = match record["Labels"]["io.cri-containerd.kind"].as_str() {
                    Some("sandbox") => self.runtime.podmaker(&["status", "--sandbox", id])?,
                    Some("container") => self.runtime.podmaker(&["status", id])?,
                    _ => b"null".to_vec(),
                };
                let told = Told { record, cri: serde_json::from_slice(&cri)? };
                all.insert(ContainerId { namespace: namespace.into(), id: id.into() }, told);
            }
        }
        Ok(all)
    }
}

/// What containerd says of one container.
pub struct Told {
    pub record: Value,
    pub cri: Value,
}
