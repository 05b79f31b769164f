//! The probe of a configuration file with mistakes.

use crate::config::tests::{given, option};
use crate::config::{ConfigFile, Probe, Problem, RawSettings};

fn probe_with(text: &str, given: &RawSettings) -> Result<(Probe, Vec<String>), Vec<Problem>> {
    Probe::of_file(
        Ok(ConfigFile { name: "f", path: std::path::Path::new("/f"), content: text.as_bytes() }),
        given,
    )
}

fn probed(text: &str) -> (Vec<(String, String)>, Vec<String>) {
    let (probe, warnings) = probe_with(text, &RawSettings::default()).unwrap();
    let file = |file: &crate::config::ProbedFile| {
        (file.token.clone().unwrap_or_default(), file.path.display().to_string())
    };
    (probe.files.iter().map(file).collect(), warnings)
}

fn files(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(token, path)| ((*token).to_owned(), (*path).to_owned())).collect()
}

#[test]
fn mistakes_elsewhere_in_the_file_do_not_hide_its_outputs() {
    for text in [
        "tokens: [{outputs: [{path: /t}]}]",
        "version: v9\ntokens: [{outputs: [{path: /t}]}]",
        "log: {level: loud}\ntokens: [{outputs: [{path: /t}]}]",
        "defaults: 3\nlisten: x\ntokens: [{conector_id: x, outputs: [{path: /t, mode: x, pth: 1}]}]",
        "tokens: [{refresh_before: soon, outputs: [{path: /t}], on_update: [{exec: {command: [x]}}]}]",
        "tokens: [{ca_file: /t, outputs: [{path: /t}]}]",
    ] {
        assert_eq!(probed(text), (files(&[("default", "/t")]), vec![]), "{text}");
    }
}

#[test]
fn what_can_be_read_is_judged_and_the_rest_is_a_warning() {
    for (text, known, warnings) in [
        (
            "tokens: [{name: a, outputs: [{path: /a}, {pth: /x}]}, {name: b, outputs: [{path: /b}]}]",
            files(&[("a", "/a"), ("b", "/b")]),
            1,
        ),
        ("tokens: [{name: a, outputs: [{path: /a}, {path: /x/}]}]", files(&[("a", "/a")]), 1),
        ("tokens: [{name: a, outputs: [{path: /a}, {path: /x, format: jsn}]}]", files(&[("a", "/a")]), 1),
        ("tokens: [{name: A, outputs: [{path: /a}]}, x]", files(&[("tokens[0]", "/a")]), 2),
        ("tokens: [&x {name: a, outputs: [{path: /a}]}, *x]", files(&[("a", "/a")]), 2),
        ("tokens: [{name: a, name: b, outputs: [{path: /a}]}]", files(&[("a", "/a")]), 1),
    ] {
        let (read, reported) = probed(text);
        assert_eq!((read, reported.len()), (known, warnings), "{text}: {reported:?}");
    }
}

#[test]
fn without_any_output_the_problems_are_reported() {
    for text in
        ["", "x", "tokens: [{name: [", "tokens: []", "version: v1", "tokens: [{outputs: [{pth: /a}]}]"]
    {
        let problems = probe_with(text, &RawSettings::default()).unwrap_err();
        assert!(problems.iter().all(|problem| problem.place.is_some()), "{text}: {problems:?}");
    }
    let none = probe_with("tokens: [{name: a}]", &RawSettings::default()).unwrap_err();
    assert_eq!(none[0].what, "is not set, and no token has an output");
    let unreadable = Problem::new("--config", "names no file", "set it");
    assert_eq!(Probe::of_file(Err(unreadable.clone()), &RawSettings::default()).unwrap_err(), [unreadable]);
}

#[test]
fn options_select_the_files_and_are_judged() {
    let text = "tokens: [{name: a, outputs: [{path: /a}]}, {name: b, outputs: [{path: /b, format: json}]}]";
    let with = |options: &[(&str, &str)]| {
        let values = options.iter().map(|(name, value)| option(name, value)).collect();
        probe_with(text, &RawSettings { values })
    };
    assert_eq!(with(&[("token", "b")]).unwrap().0.files[0].path.to_str(), Some("/b"));
    assert_eq!(with(&[("token", "c")]).unwrap_err()[0].fix, "use one of a, b");
    let named = with(&[("file", "/b"), ("file", "/c")]).unwrap().0.files;
    let formats =
        named.iter().map(|file| file.format.as_ref().map(crate::output::Format::name)).collect::<Vec<_>>();
    assert_eq!(formats, [Some("json"), None]);
    assert!(with(&[("min-ttl", "soon")]).is_err());
    assert!(probe_with(text, &given(&["DEXSIDECAR_MIN_TL=5m"])).is_err());
    assert!(probe_with("", &RawSettings { values: vec![option("file", "/x")] }).is_ok());
}
