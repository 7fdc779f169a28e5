use super::*;

const PATIENCE: Patience = Patience { default: 30, most: 60, hooks: true };

fn record(deletion: Option<u64>, termination: Option<u64>, pre_stop: Option<PreStop>) -> Record {
    Record {
        deletion_grace: deletion,
        termination_grace: termination,
        pre_stop,
        runtime: Some(RUNC.into()),
        process: Some(PROCESS.into()),
        ..Default::default()
    }
}

const PROCESS: &str = r#"{"user":{"uid":7,"gid":7,"additionalGids":[7]},"args":["/app"],"env":["PATH=/bin","TOKEN=ä\u0000"],"cwd":"/x",
        "rlimits":[{"type":"RLIMIT_NOFILE","hard":18446744073709551615,"soft":1}],"noNewPrivileges":true}"#;

fn plan(record: &Record) -> Plan {
    let sandbox = Sandbox { addresses: vec!["10.1.0.2".parse().unwrap()], ..Default::default() };
    Plan::of(record, Some(&sandbox), true, PATIENCE)
}

fn get(host: &str, port: Option<u16>) -> HttpGet {
    HttpGet { path: "/stop".into(), port, host: host.into(), tls: false, headers: vec![] }
}

fn why(hook: PreStop) -> Option<Why> {
    match plan(&record(None, None, Some(hook))).hook {
        Hook::NotRun(_, why) => Some(why),
        _ => None,
    }
}

#[test]
fn each_has_its_own_grace_up_to_the_most() {
    for (deletion, termination, asked, limit, cut) in [
        (None, None, 30, 30, false),
        (None, Some(1), 1, 1, false),
        (None, Some(60), 60, 60, false),
        (None, Some(300), 300, 60, true),
        (Some(5), Some(300), 5, 5, false),
        (Some(0), Some(300), 0, 0, false),
        (None, Some(u64::MAX), u64::MAX, 60, true),
    ] {
        let plan = plan(&record(deletion, termination, None));
        assert_eq!((plan.asked, plan.limit, plan.is_cut()), (asked, limit, cut));
        assert_eq!((plan.signal, plan.hook), (15, Hook::None));
    }
}

#[test]
fn the_hook_spends_the_grace_but_for_two_seconds() {
    let hook = Some(PreStop::Sleep(5));
    let ten = plan(&record(None, Some(10), hook.clone()));
    assert_eq!([0, 4, 8, 9, 10, 99].map(|hook| ten.after(hook)), [10, 6, 2, 2, 2, 2]);
    assert_eq!((ten.most(), plan(&record(None, Some(10), None)).most()), (12, 10));
    assert_eq!(plan(&record(None, Some(0), hook)).most(), 2);
}

#[test]
fn no_grace_means_no_hook() {
    let record = record(None, Some(0), Some(PreStop::Exec(vec!["/bin/calico-node".into()])));
    assert_eq!(plan(&record).hook, Hook::NotRun("exec", Why::NoGrace));
}

#[test]
fn a_command_takes_the_place_of_the_containers_own() {
    let command = vec!["/bin/sh".to_owned(), "-c".into(), "echo \"bye\" && kill 1".into()];
    let hook = plan(&record(None, None, Some(PreStop::Exec(command.clone())))).hook;
    let Hook::Exec(json) = hook else { panic!("{hook:?}") };
    let mut expected: serde_json::Value = serde_json::from_str(PROCESS).unwrap();
    expected["args"] = serde_json::to_value(&command).unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), expected);
}

#[test]
fn what_is_not_run_says_why() {
    let exec = || Some(PreStop::Exec(vec!["x".into()]));
    let own = record(None, None, exec());
    let with = |shim, patience| Plan::of(&own, None, shim, patience).hook;
    assert_eq!(with(false, PATIENCE), Hook::NotRun("exec", Why::NoShim));
    let off = Patience { hooks: false, ..PATIENCE };
    assert_eq!(with(true, off), Hook::NotRun("exec", Why::TurnedOff));
    let kata = Record { runtime: Some("io.containerd.kata.v2".into()), ..own.clone() };
    assert_eq!(plan(&kata).hook, Hook::NotRun("exec", Why::OtherRuntime));
    for process in [None, Some("{".into()), Some("[]".into())] {
        assert_eq!(plan(&Record { process, ..own.clone() }).hook, Hook::NotRun("exec", Why::Unknown));
    }
    assert_eq!(why(PreStop::TcpSocket), Some(Why::TcpSocket));
    assert_eq!(why(PreStop::Unknown), Some(Why::Unknown));
}

#[test]
fn a_request_goes_to_the_pod_and_nowhere_else() {
    for (host, port, expected) in [
        ("", Some(80), None),
        ("10.1.0.2", Some(80), None),
        ("10.1.0.3", Some(80), Some(Why::OtherHost)),
        ("169.254.169.254", Some(80), Some(Why::OtherHost)),
        ("127.0.0.1", Some(80), Some(Why::OtherHost)),
        ("localhost", Some(80), Some(Why::OtherHost)),
        ("10.1.0.2.", Some(80), Some(Why::OtherHost)),
        ("10.1.0.2:81", Some(80), Some(Why::OtherHost)),
        ("", None, Some(Why::NoPort)),
    ] {
        assert_eq!(why(PreStop::HttpGet(get(host, port))), expected, "{host}");
    }
    assert_eq!(why(PreStop::HttpGet(HttpGet { tls: true, ..get("", Some(1)) })), Some(Why::Https));
    let record = record(None, None, Some(PreStop::HttpGet(get("", Some(80)))));
    let of = |sandbox: Option<Sandbox>| Plan::of(&record, sandbox.as_ref(), true, PATIENCE).hook;
    let no_address = Hook::NotRun("httpGet", Why::NoAddress);
    let at = |address: &str, host_network| {
        Some(Sandbox { addresses: vec![address.parse().unwrap()], host_network, ..Default::default() })
    };
    assert_eq!(of(None), no_address);
    assert_eq!(of(Some(Sandbox::default())), no_address);
    assert_eq!(of(at("10.1.0.2", true)), no_address);
    assert_eq!(of(at("127.0.0.1", false)), no_address);
    assert!(matches!(of(at("fd00::2", false)), Hook::Http(to, _) if to.to_string() == "[fd00::2]:80"));
}
