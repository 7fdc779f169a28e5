//! What is sent to the journal, and what is read from it: by sockets of our own, and by a real systemd-journald with a real
//! journalctl, in namespaces where nobody else has one.

use std::process::Command;

use serde_json::Value;

use super::{says, typed};

/// Runs a removal beside a journal that has these sockets; what each was sent, and how long the removal took.
fn journal(sockets: &str, full: bool) -> Value {
    let listen = format!(
        "import json, os, socket, subprocess, sys, time
sockets = {{name: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for name in '{sockets}'.split()}}
os.makedirs('/run/systemd/journal')
for name, s in sockets.items():
    s.bind('/run/systemd/journal/' + name)
    s.setblocking(False)
filler = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
filler.setblocking(False)
try:
    while {full}:
        filler.sendto(b'x', '/run/systemd/journal/socket')
except BlockingIOError:
    pass
begin = time.monotonic()
status = subprocess.call([os.environ['ST'], 'remove', '--yes', '--snap', 'microk8s'], stdout=subprocess.DEVNULL, timeout=60)
said = {{'status': status, 'seconds': int(time.monotonic() - begin)}}
for name, s in sockets.items():
    said[name] = []
    try:
        while True:
            said[name].append(s.recv(1 << 20).decode())
    except BlockingIOError:
        pass
print(json.dumps(said))",
        full = if full { "True" } else { "False" }
    );
    let (status, text) = typed(&format!(
        "[ ! -S /dev/log ] || mount --bind /dev/null /dev/log; export ST; python3 -c \"{listen}\""
    ));
    assert_eq!(status, 0, "{text}");
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn with(said: &Value, socket: &str, words: &str) -> usize {
    said[socket].as_array().unwrap().iter().filter(|line| line.as_str().unwrap().contains(words)).count()
}

#[test]
fn the_journal_has_fields_and_no_line_twice() {
    let said = journal("socket dev-log", false);
    assert_eq!(with(&said, "socket", "\nSNAP_TEARDOWN_OUTCOME=clean\n"), 1, "{said:#}");
    assert_eq!(with(&said, "socket", "\nSNAP_TEARDOWN_STEP=data\n"), 1, "{said:#}");
    assert_eq!(with(&said, "socket", "SNAP_TEARDOWN_SNAP=microk8s\n"), 2, "{said:#}");
    assert_eq!(said["dev-log"].as_array().unwrap().len(), 0, "{said:#}");
    // Without that socket, the lines alone.
    let said = journal("dev-log", false);
    assert_eq!(with(&said, "dev-log", "clean: 1 found, 1 removed"), 1, "{said:#}");
    assert_eq!(with(&said, "dev-log", "SNAP_TEARDOWN_"), 0, "{said:#}");
    // Where nobody reads, nobody waits, and the other way is taken.
    let said = journal("socket dev-log", true);
    assert_eq!(with(&said, "dev-log", "clean: 1 found, 1 removed"), 1, "{said:#}");
    assert!(said["seconds"].as_u64().unwrap() < 20, "{said:#}");
    assert_eq!(journal("", false)["status"], 0);
}

/// Beside a journal of their own. journald neither reads the kernel's messages nor touches its audit; it does not start without
/// control groups.
fn beside_journald(lines: &str) -> (i32, String) {
    typed(&format!(
        "[ ! -S /dev/log ] || mount --bind /dev/null /dev/log
        mkdir -p /run/systemd/journald.conf.d /var/log/journal
        printf '[Journal]\\nReadKMsg=no\\nAudit=\\nStorage=persistent\\n' > /run/systemd/journald.conf.d/own.conf
        unshare --mount bash -c 'umount /sys/fs/cgroup; exec /usr/lib/systemd/systemd-journald' &
        for i in $(seq 100); do ! journalctl --sync 2> /dev/null || break; sleep 0.1; done
        journalctl --sync || {{ echo 'no systemd-journald'; exit 99; }}
        journalctl --flush
        PATH=$(dirname $ST):$PATH
        cd /root
        {lines}"
    ))
}

/// What a help or a page says to type, of which the first line begins so: with the lines that go on behind a backslash.
fn to_type(text: &str, begin: &str) -> String {
    let lines = text.lines().skip_while(|line| !line.trim_start().starts_with(begin));
    let mut command = String::new();
    for line in lines {
        command.push_str(line.trim_start());
        command.push('\n');
        if !line.ends_with('\\') {
            break;
        }
    }
    assert!(!command.is_empty(), "nothing begins with '{begin}' in:\n{text}");
    command.replace("=NAME", "=microk8s").replace(" NAME", " microk8s")
}

#[test]
fn the_result_is_read_back_from_the_journal_as_the_help_says() {
    let help = Command::new(env!("CARGO_BIN_EXE_snap-teardown")).args(["verify", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let read_back = to_type(&help, "journalctl ");
    let verify = to_type(&help, "snap-teardown verify --snap NAME --result");
    // A second removal, which has less to tell, and one of another snap: the last one of this snap is what is read.
    let removals = "snap-teardown remove --yes --snap microk8s > /dev/null; cp /run/snap.microk8s/teardown.json first.json
        snap-teardown remove --yes --snap microk8s > /dev/null
        snap-teardown remove --snap docker > /dev/null
        cp /run/snap.microk8s/teardown.json kept.json; rm -r /run/snap.microk8s; journalctl --sync";
    let (status, text) = beside_journald(&format!(
        "{removals}
        {read_back}
        python3 -c 'import json; read, kept, first = (json.load(open(f)) for f in (\"result.json\", \"kept.json\", \"first.json\")); \
            assert read == kept != first, \"not the last result\"' || exit 98
        {verify}"
    ));
    assert_eq!(status, 0, "{text}");
    says(&text, "clean: 0 found, 0 removed, 0 left, 0 not looked at");
    // Where that is not done, nobody knows.
    let (status, text) = beside_journald(&format!("{removals}; snap-teardown verify --snap microk8s"));
    assert_eq!(status, 3, "{text}");
}

/// The page that explains the result, as it is read.
fn page() -> String {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/snap/local/man/snap-teardown-result.5");
    std::fs::read_to_string(page).unwrap().replace("\\-", "-").replace("\\(aq", "'")
}

#[test]
fn the_page_says_how_to_find_the_machines_that_need_somebody() {
    let line = to_type(&page(), "journalctl ");
    let (status, text) = beside_journald(&format!(
        "snap-teardown remove --yes --snap microk8s > /dev/null; journalctl --sync
        [ -z \"$({line})\" ] || exit 98
        mkdir /run/disk; mount --bind /run/disk $common/default-storage
        snap-teardown remove --yes --snap microk8s > /dev/null; journalctl --sync
        hostname; {line}"
    ));
    assert_eq!(status, 0, "{text}");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines, [lines[0], &format!("{}\tmicrok8s", lines[0])]);
}

/// Of the page's own example, by the lines that the page gives.
#[test]
fn the_page_says_how_to_find_what_is_left() {
    let page = page();
    let (_, example) = page.split_once(".SH EXAMPLE").unwrap();
    let (example, _) = example.split_once(".nf\n").unwrap().1.split_once(".fi").unwrap();
    let report = "snap-teardown report --snap microk8s --json";
    let lines: String = page.lines().filter(|line| line.starts_with(report)).collect::<Vec<_>>().join("\n");
    let lines = lines.replace(report, "cat example.json");
    let killed = "python3 -c 'import json; r = json.load(open(\"example.json\")); r[\"endings\"] = [{\"pod\": \"prod/db-0\", \"end\": \"killed\"}]; \
        json.dump(r, open(\"example.json\", \"w\"))'";
    let (status, text) =
        typed(&format!("cd /root; cat > example.json <<'X'\n{example}X\n{lines}\n{killed}\n{lines}"));
    assert_eq!(status, 0, "{text}");
    let left = "human\non-host\tmount\tonly the host can unmount it\n";
    assert_eq!(text, format!("{left}{left}prod/db-0\n"));
}
