use super::*;

fn call(line: &str) -> Result<Call> {
    parse(line.split_whitespace().map(OsString::from))
}

fn error(line: &str) -> String {
    call(line).expect_err(line).to_string()
}

#[test]
fn options_may_stand_anywhere() {
    let options = |json| Options { snap: Some("microk8s".into()), json, ..Options::default() };
    assert_eq!(call("survey --snap microk8s --json").unwrap(), Call::Survey(options(true)));
    assert_eq!(call("--snap=microk8s verify").unwrap(), Call::Verify(options(false)));
    assert_eq!(call("profile --snap microk8s init").unwrap(), Call::ProfileInit(options(false)));
    let files = |words: &[Option<&str>]| {
        let file = |word: &Option<&str>| word.map(|word| path(word.into()));
        Call::ProfileCheck(words.iter().map(file).collect())
    };
    assert_eq!(call("profile check -- --odd").unwrap(), files(&[Some("--odd")]));
    assert_eq!(call("profile check a - ./-").unwrap(), files(&[Some("a"), None, Some("./-")]));
    let result = |file: &str| {
        let Call::Verify(options) = call(&format!("verify --result {file}")).unwrap() else { panic!() };
        options.result.unwrap()
    };
    assert_eq!((result("-"), result("./-")), (PathBuf::from("-"), path("./-".into())));
}

#[test]
fn a_dry_run_is_a_survey() {
    let Call::Survey(options) = call("remove --dry-run --snap own --grace 7").unwrap() else { panic!() };
    assert_eq!((options.snap.as_deref(), options.grace), (Some("own"), Some(7)));
}

#[test]
fn help_wins_over_what_is_missing() {
    assert_eq!(call("--help").unwrap(), Call::Help(None));
    assert_eq!(call("help").unwrap(), Call::Help(None));
    assert_eq!(call("profile -h").unwrap(), Call::Help(Some("profile")));
    assert_eq!(call("help remove").unwrap(), Call::Help(Some("remove")));
    assert_eq!(call("-V").unwrap(), Call::Version);
}

#[test]
fn a_wrong_call_is_told_what_would_be_right() {
    for (line, said) in [
        ("", "say what to do: survey"),
        ("surve", "there is no command 'surve'; did you mean 'survey'?"),
        ("destroy", "there is no command 'destroy' ("),
        ("survey --jsn", "there is no option '--jsn'; did you mean '--json'?"),
        ("survey -j", "there is no option '-j'"),
        ("survey --snap", "'--snap' needs a value"),
        ("survey --json=yes", "'--json' takes no value"),
        ("survey microk8s", "'microk8s' is one word too many; a snap is named with --snap"),
        ("profile", "say what to do about a profile"),
        ("profile shew", "did you mean 'show'?"),
        ("profile check", "name the file"),
        ("profile schema --json", "'profile schema' has no option '--json'"),
        ("report --profile x", "'report' has no option '--profile'"),
        ("report --json --metrics", "'report' has no option '--metrics'"),
        ("verify --metrics", "'verify' has no option '--metrics'"),
        ("report schema --json", "'report schema' has no option '--json'"),
        ("report own", "'own' is one word too many; a snap is named with --snap"),
        ("verify --yes", "'verify' has no option '--yes'"),
        ("remove --grace soon", "'soon' is no number of seconds"),
    ] {
        let error = error(line);
        assert!(error.contains(said), "{line}: {error}");
    }
}
