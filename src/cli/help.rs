//! The help texts.

const PROGRAM: &str = "\
Tears down what a container snap leaves behind: containers, shims, mounts, network, control groups, data.

Usage: snap-teardown COMMAND [--snap NAME] [--profile FILE] [--json]

Commands:
  survey     Show what is there and would be removed, in which order; change nothing
  remove     Remove it, look again, and report; needs root
  verify     Look, after a removal, for what should be gone
  report     Show the result of the last removal
  profile    Show, check or draft a profile: where one snap keeps its things

Options:
      --snap NAME        The snap, or an instance of it (name_key); not needed in a hook of the snap
      --profile FILE     Use this profile instead of the one that the snap ships or that is built in
      --result FILE      Of verify: use this copy of the removal's result (-: standard input)
      --json             Print the JSON document instead of text
      --all              Of survey, verify and report: show all of what is many
      --metrics          Of report: print metrics for Prometheus' node_exporter
      --grace SECONDS    Give containers so long to end; those that name a grace of their own, at most
      --dry-run          Of remove: survey instead
      --yes              Of remove: even though the snap is installed and enabled
  -h, --help             Show this, or the help of a command
  -V, --version          Show the version

Exit status:
  0  nothing is left
  1  something is left
  2  wrong call, environment or profile; nothing was touched
  3  nothing was seen to be left, but not everything could be looked at, or the run was interrupted

Examples:
  snap-teardown survey --snap microk8s     what would 'snap remove microk8s' have to end?
  cp /snap/microk8s/current/bin/snap-teardown /root/
                                           before the removal: the program goes with the snap that ships it
  snap-teardown report --snap microk8s     what did the last removal do?
  snap-teardown profile init --snap NAME   draft a profile from a running snap
";

const SURVEY: &str = "\
Shows who would end and how, what is lost, what stays, and what to do first; then what is there, in the
order in which it would go. Changes nothing.

Usage: snap-teardown survey --snap NAME [--profile FILE] [--grace SECONDS] [--json | --all]

Root can look everywhere. Without root some places cannot be looked at, and the exit status is 3 if nothing
was seen elsewhere. Status 1 means that something is there, as is normal while the snap is in use.

Keep a copy of this program before you remove the snap: afterwards, report and verify are run from the copy.
";

const REMOVE: &str = "\
Removes what is there, looks again, and reports. Needs root.

Usage: snap-teardown remove [--snap NAME] [--profile FILE] [--grace SECONDS] [--yes] [--dry-run] [--json]

Applications are ended first, each by its own preStop hook and stop signal, within its own grace. Then all
else goes, in order: containers, shims, network, mounts, control groups, state, data. The run ends by the
profile's deadline. SIGTERM, SIGINT, SIGQUIT and SIGHUP end it early, with a report.

As the last line of a snap's hook script:
  exec \"$SNAP/bin/snap-teardown\" remove

From outside, for a snap whose hook never ran (snapd skips the hooks of a disabled snap), name the snap. One
that is installed and enabled is refused without --yes: type 'snap remove NAME', whose hook does this. The
result replaces an earlier one in /run/snap.NAME/teardown.json, and goes, in short, to the journal
(journalctl -t snap-teardown). If standard output is not a terminal, its last line is the result as cut JSON.
";

const VERIFY: &str = "\
Looks, after a removal, for what should be gone. Changes nothing.

Usage: snap-teardown verify --snap NAME [--profile FILE] [--result FILE] [--json | --all]

Uses the result file of the removal (/run/snap.NAME/teardown.json; kept until the next boot), or a copy of
it (-: standard input). Without it, what is known only by a container's ID cannot be looked for, and the
exit status is 3. The removal deletes this program and the snap's profile, too: run a copy, and name a
copy of the profile with --profile unless it is built in. While the snap is installed, use survey.

After a reboot nothing is looked for that ends with a boot. Copy the result before, or take it from the
journal, where that outlives a boot (Storage= in journald.conf):
  journalctl -t snap-teardown SNAP_TEARDOWN_SNAP=NAME SNAP_TEARDOWN_COMMAND=remove -n 1 -o cat \\
      --output-fields=SNAP_TEARDOWN_RESULT > result.json
  snap-teardown verify --snap NAME --result result.json
";

const REPORT: &str = "\
Shows the result of the last removal, and exits with its status; with 3 if there is no result.
With --json, the document is printed as the file has it. With --metrics, it is printed for the textfile
collector of Prometheus' node_exporter, and the status is 0 as soon as there is a result.

Usage: snap-teardown report --snap NAME [--json | --metrics | --all]
       snap-teardown report schema

  schema    Print the JSON Schema of results, which lets pass what later versions add
";

const PROFILE: &str = "\
Shows, checks or drafts a profile: the file (teardown.json) that says where one snap keeps its things.

Usage: snap-teardown profile show [--snap NAME] [--profile FILE]
       snap-teardown profile check FILE...
       snap-teardown profile init --snap NAME
       snap-teardown profile schema

  show      Print the profile that would be used: --profile, else $SNAP/teardown.json, else the built-in one
  check     Say whether files (or standard input: -) are valid profiles; if not, what is wrong in which line
  init      Draft a profile from the snap while it runs; remarks go to standard error. Needs root
  schema    Print the JSON Schema of profiles

A profile is checked strictly: with a wrong one, nothing is touched. The smallest one:
  {
    \"schema\": 1,
    \"snap\": \"NAME\",
    \"containerd\": {
      \"address\": \"$SNAP_COMMON/run/containerd.sock\",
      \"state\": \"$SNAP_COMMON/run/containerd\",
      \"root\": \"$SNAP_COMMON/var/lib/containerd\"
    }
  }
";

/// The help on a command, or on the program.
pub fn of(command: Option<&str>) -> &'static str {
    match command {
        Some("survey") => SURVEY,
        Some("remove") => REMOVE,
        Some("verify") => VERIFY,
        Some("report") => REPORT,
        Some("profile") => PROFILE,
        _ => PROGRAM,
    }
}
