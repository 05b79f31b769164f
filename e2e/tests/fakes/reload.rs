//! The configuration file changes while the sidecar runs: the change is applied without a restart,
//! and a file that is invalid, or that needs a right which was given up, changes nothing.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use dexsidecar_e2e::fake_dex::{Answer, FakeDex};
use dexsidecar_e2e::file_readers::{Readers, Seen};
use dexsidecar_e2e::fixture::Fixture;
use dexsidecar_e2e::process::PATIENCE;
use dexsidecar_e2e::projected_volume::ProjectedVolume;
use dexsidecar_e2e::sidecar::{Setup, Sidecar};
use rustix::process::Signal;

/// A sidecar with its configuration in a volume, which is swapped as the kubelet swaps a ConfigMap.
struct World {
    fixture: Fixture,
    volume: ProjectedVolume,
    sidecar: Sidecar,
    directory: PathBuf,
}

impl World {
    fn new(answer: Answer, tokens: &str) -> Self {
        let fixture = Fixture::answering(answer);
        let volume = ProjectedVolume::with("");
        let setup = Setup::new();
        let directory = setup.directory().to_owned();
        let setup = setup.with_config(&volume.token());
        volume.replace_token(&configuration(&fixture, &directory, tokens));
        Self { fixture, volume, sidecar: setup.run(), directory }
    }

    fn replace(&self, tokens: &str) {
        self.volume.replace_token(&configuration(&self.fixture, &self.directory, tokens));
    }

    fn content(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.directory.join(name)).ok()
    }

    fn until_reloaded(&mut self, times: usize) {
        self.sidecar.process.until_logged("config_reloaded", times);
    }
}

/// A configuration with these tokens. `DIR` stands for the directory of the outputs.
fn configuration(fixture: &Fixture, directory: &std::path::Path, tokens: &str) -> String {
    let (url, subject) = (fixture.dex.url(), fixture.volume.token());
    format!(
        "version: v1\n\
         defaults:\n\
         \x20 token_endpoint: {url}\n\
         \x20 subject_token_file: {}\n\
         \x20 connector_id: k3s\n\
         \x20 refresh_interval: 1s\n\
         tokens:\n{}",
        subject.display(),
        tokens.replace("DIR", &directory.display().to_string())
    )
}

const ONE: &str = "- {name: a, outputs: [{path: DIR/a}]}\n";
const TWO_OUTPUTS: &str = "- {name: a, outputs: [{path: DIR/a}, {path: DIR/a.json, format: json}]}\n";

#[test]
fn a_new_output_gets_the_token_and_a_new_token_is_exchanged_without_a_restart() {
    let mut world = World::new(Answer::Token(3_600), ONE);
    world.sidecar.process.until_logged("token_written", 1);
    let first = world.content("a").expect("it was written");
    world.replace(&format!("{TWO_OUTPUTS}- {{name: b, outputs: [{{path: DIR/b}}]}}\n"));
    world.until_reloaded(1);
    world.sidecar.process.until_logged("token_written", 3);
    assert_eq!(world.content("a").as_ref(), Some(&first), "the first token stays");
    assert!(world.content("a.json").is_some_and(|json| json.contains(&first)));
    assert_eq!(world.fixture.dex.issued().len(), 2, "the new output needed no exchange");
    // A token that is removed leaves its file.
    world.replace(ONE);
    world.until_reloaded(2);
    assert!(world.content("b").is_some());
    let changes = world.sidecar.process.events("config_reloaded");
    let counts = |index: usize| ["added", "changed", "removed"].map(|name| changes[index][name].as_u64());
    assert_eq!((counts(0), counts(1)), ([Some(1), Some(1), Some(0)], [Some(0), Some(1), Some(1)]));
}

#[test]
fn sighup_reads_the_file_and_refreshes_every_token() {
    let mut world = World::new(Answer::Token(3_600), ONE);
    world.sidecar.process.until_logged("token_written", 1);
    let first = world.content("a");
    world.sidecar.process.signal_program(Signal::HUP);
    world.until_reloaded(1);
    world.sidecar.process.until_logged("token_written", 2);
    assert!(world.content("a") != first);
    // SIGUSR1 only refreshes.
    world.sidecar.process.signal_program(Signal::USR1);
    world.sidecar.process.until_logged("refresh_requested", 2);
    assert_eq!(world.sidecar.process.logged("config_reloaded"), 1);
}

#[test]
fn an_invalid_file_is_logged_once_and_changes_nothing() {
    let mut world = World::new(Answer::Token(3_600), ONE);
    world.sidecar.process.until_logged("token_written", 1);
    // The probes read the file themselves. They fail only if it names no output.
    let broken = [
        ("- {name: a, outputs: [{path: DIR/a}], conector_id: x}\n", 0),
        ("- {name: a, outputs: [{path: DIR/a}, {pth: DIR/b}]}\n", 0),
        ("- {name: a, outputs: [{path: DIR/a}]}\n- {name: b, outputs: [{pth: DIR/b}]}\n", 0),
        ("- {name: a, outputs: [{pth: DIR/a}]}\n", 78),
        ("- {name: [\n", 78),
        ("", 78),
    ];
    for (times, (tokens, code)) in broken.into_iter().enumerate() {
        world.replace(tokens);
        world.sidecar.process.until_logged("config_refused", times + 1);
        for probe in [&["ready"][..], &["wait", "--timeout", "1s"]] {
            let completed = world.sidecar.setup().execute(probe);
            assert_eq!(completed.code, Some(code), "{tokens}: {}", completed.stderr);
        }
    }
    // A few polls later there is no further line, and the token is refreshed as before.
    world.sidecar.process.signal_program(Signal::USR1);
    world.sidecar.process.until_logged("token_written", 2);
    assert_eq!(world.sidecar.process.logged("config_refused"), broken.len());
    world.replace(TWO_OUTPUTS);
    world.until_reloaded(1);
    world.sidecar.process.until_logged("token_written", 3);
    assert!(world.content("a.json").is_some());
}

#[test]
fn a_right_that_was_given_up_is_refused_by_the_name_of_its_key() {
    let mut world = World::new(Answer::Token(3_600), ONE);
    world.sidecar.process.until_logged("token_written", 1);
    let actions = [
        "on_update: [{exec: {command: [/bin/true]}}]",
        "on_update: [{signal: {process: nginx, signal: HUP}}]",
    ];
    for (times, action) in actions.into_iter().enumerate() {
        world.replace(&format!("- {{name: a, outputs: [{{path: DIR/a}}, {{path: DIR/more}}], {action}}}\n"));
        world.sidecar.process.until_logged("config_refused", times + 1);
    }
    let problems = world.sidecar.process.events("setting_invalid");
    let settings: Vec<_> = problems.iter().map(|problem| &problem["setting"]).collect();
    assert_eq!(settings, ["tokens.a.on_update[0].exec", "tokens.a.on_update[0].signal"]);
    assert!(
        problems.iter().all(|problem| problem["fix"].as_str().is_some_and(|fix| fix.contains("next start")))
    );
    assert_eq!(world.content("more"), None, "nothing of the file was applied");
}

/// The reader of the new output has not heard of the token.
#[test]
fn a_reload_that_adds_an_output_runs_the_actions() {
    let tokens = |outputs: &str| {
        format!(
            "- {{name: a, outputs: [{outputs}], \
             on_update: [{{exec: {{command: [/bin/sh, -c, echo >>DIR/runs]}}}}]}}\n"
        )
    };
    let mut world = World::new(Answer::Token(3_600), &tokens("{path: DIR/a}"));
    world.sidecar.process.until_logged("action_done", 1);
    world.replace(&tokens("{path: DIR/a}, {path: DIR/b}"));
    world.sidecar.process.until_logged("action_done", 2);
    assert_eq!(world.content("runs").as_deref(), Some("\n\n"));
    assert_eq!((world.content("b"), world.fixture.dex.issued().len()), (world.content("a"), 1));
}

/// The file is written again with its new mode. That is no answer of Dex.
#[test]
fn a_reload_by_signal_during_a_failure_reports_no_recovery() {
    let mut world = World::new(Answer::Token(3_600), ONE);
    world.sidecar.process.until_logged("token_written", 1);
    world
        .fixture
        .dex
        .always(Answer::Bytes(b"HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n".to_vec()));
    world.sidecar.process.signal_program(Signal::USR1);
    world.sidecar.process.until_logged("attempt_failed", 1);
    world.replace("- {name: a, outputs: [{path: DIR/a, mode: '0600'}, {path: DIR/more}]}\n");
    world.sidecar.process.signal_program(Signal::HUP);
    world.until_reloaded(1);
    world.sidecar.process.until_logged("token_written", 3);
    world.sidecar.process.until_logged("attempt_failed", 3);
    assert_eq!(world.sidecar.process.logged("recovered"), 0, "{}", world.sidecar.process.output());
    world.fixture.dex.always(Answer::Token(3_600));
    world.sidecar.process.until_logged("recovered", 1);
}

#[test]
fn a_reload_of_the_actions_starts_a_command_again_which_has_not_failed_and_another_one_does_not() {
    let tokens = |margin: usize, timeout: usize| {
        format!(
            "- name: a\n  refresh_before: {margin}m\n  outputs: [{{path: DIR/a}}]\n  \
             on_update: [{{exec: {{command: [/bin/sh, -c, echo >>DIR/runs; sleep 600], \
             timeout: {timeout}s}}}}]\n"
        )
    };
    let mut world = World::new(Answer::Token(3_600), &tokens(1, 290));
    let runs = world.directory.join("runs");
    let count = || fs::read_to_string(&runs).map_or(0, |runs| runs.lines().count());
    for times in 1..6 {
        world.sidecar.process.until("the command runs", |_| count() == times);
        world.replace(&tokens(1, 290 + times));
        world.until_reloaded(times);
    }
    world.sidecar.process.until("the command runs", |_| count() == 6);
    world.replace(&tokens(2, 295));
    world.until_reloaded(6);
    assert_eq!(count(), 6, "the actions are the same");
    assert_eq!(world.sidecar.process.logged("action_failed"), 0, "{}", world.sidecar.process.output());
}

/// `termination_log` is a key of the file, too.
#[test]
fn refresh_reads_the_last_failure_where_the_file_lets_it_be_written() {
    let mut world = World::new(Answer::Token(3_600), ONE);
    world.sidecar.process.until_logged("token_written", 1);
    let message = world.directory.join("last-failure");
    fs::write(&message, "").expect("the directory is writable");
    let text = configuration(&world.fixture, &world.directory, ONE);
    let text = text.replacen("defaults:", &format!("termination_log: {}\ndefaults:", message.display()), 1);
    let setup =
        Setup::new().with_config(&world.directory.join("config.yaml")).unset("DEXSIDECAR_TERMINATION_LOG");
    fs::write(world.directory.join("config.yaml"), text).expect("the directory is writable");
    let mut sidecar = setup.run();
    sidecar.process.until_logged("token_adopted", 1);
    world
        .fixture
        .dex
        .always(Answer::Bytes(b"HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n".to_vec()));
    let pid = sidecar.process.pid().to_string();
    let failed = sidecar.setup().execute(&["refresh", "--wait", "3s", "--pid", &pid]);
    assert_eq!(failed.code, Some(1), "{}", failed.stderr);
    assert!(
        failed.stderr.contains("last failure:\n") && failed.stderr.contains("code: "),
        "{}",
        failed.stderr
    );
}

/// Dex is away from before the change of format until after the expiry.
#[test]
fn an_output_of_another_format_holds_the_token_at_once_and_is_removed_at_its_expiry() {
    let formats = ["raw", "json", "exec_credential"];
    let pairs = formats.iter().flat_map(|old| formats.iter().map(move |new| (old, new)));
    std::thread::scope(|scope| {
        for (old, new) in pairs.filter(|(old, new)| old != new) {
            scope.spawn(move || {
                let tokens = |format: &str| {
                    format!(
                        "- {{name: a, outputs: [{{path: DIR/a, format: {format}, on_expiry: remove}}]}}\n"
                    )
                };
                let mut world = World::new(Answer::Token(20), &tokens(old));
                world.sidecar.process.until_logged("token_written", 1);
                let first = world.content("a").expect("it was written");
                world.fixture.dex.always(Answer::Silence);
                world.replace(&tokens(new));
                world.until_reloaded(1);
                world.sidecar.process.until_logged("token_written", 2);
                let second = world.content("a").expect("it was written");
                let issued = world.fixture.dex.issued();
                assert!(first != second && second.contains(&issued[0]), "{old} {new}: {second}");
                world.sidecar.process.until_logged("expired_token_removed", 1);
                assert_eq!(world.content("a"), None, "{old} {new}");
            });
        }
    });
}

/// The outputs change their mode with each reload, so each reload writes the token again.
#[test]
fn reloads_under_readers_tear_nothing() {
    let mut world = World::new(Answer::Token(3_600), ONE);
    world.sidecar.process.until_logged("token_written", 1);
    let readers = Readers::start(8, &world.directory.join("a"), world.fixture.dex.judge());
    let mut reloads = 0;
    world.replace(TWO_OUTPUTS);
    world.sidecar.process.signal_program(Signal::HUP);
    let tokens = ["0600", "0640", "0644"].map(|mode| {
        format!("- {{name: a, outputs: [{{path: DIR/a.json, format: json}}, {{path: DIR/a, mode: \"{mode}\"}}]}}\n")
    });
    while readers.seen().reads < 1_000_000 || reloads < 12 {
        reloads += 1;
        world.until_reloaded(reloads);
        world.replace(&tokens[reloads % tokens.len()]);
        world.sidecar.process.signal_program(Signal::HUP);
    }
    let seen = readers.seen();
    assert_eq!(Seen { reads: 0, ..seen }, Seen::default(), "of {} reads", seen.reads);
    assert_eq!(world.sidecar.process.logged("config_refused"), 0);
}

/// What 64 tokens with two outputs each hold: of one Dex, and a few of another one.
struct Many {
    world: World,
    /// The Dex of the tokens below [`Many::OTHER`].
    other: FakeDex,
}

impl Many {
    const ALL: usize = 64;
    /// So many tokens, the first ones, are of the other Dex.
    const OTHER: usize = 8;

    fn start() -> Self {
        let other = FakeDex::start();
        other.always(Answer::Token(8));
        let tokens = Self::tokens(&other, 0..Self::ALL).concat();
        Self { world: World::new(Answer::Token(3_600), &tokens), other }
    }

    fn tokens(other: &FakeDex, of: std::ops::Range<usize>) -> Vec<String> {
        let token = |index: usize| {
            let endpoint = match index < Self::OTHER {
                true => format!("token_endpoint: {}, ", other.url()),
                false => String::new(),
            };
            format!(
                "- {{name: t{index}, {endpoint}outputs: [{{path: DIR/t{index}, on_expiry: remove}}, \
                 {{path: DIR/t{index}.json, format: json, on_expiry: remove}}]}}\n"
            )
        };
        of.map(token).collect()
    }

    /// The token in both outputs; none unless both are there and hold the same one.
    fn held(&self, index: usize) -> Option<String> {
        let raw = self.world.content(&format!("t{index}"))?;
        let json = self.world.content(&format!("t{index}.json"))?;
        let json: serde_json::Value = serde_json::from_str(&json).expect("a whole file");
        (json["access_token"] == raw).then_some(raw)
    }

    fn all_held(&self, of: std::ops::Range<usize>) -> Vec<Option<String>> {
        of.map(|index| self.held(index)).collect()
    }

    fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !holds(self) {
            assert!(start.elapsed() < PATIENCE, "{what}\n{}", self.world.sidecar.process.timeline());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn p14_64_tokens_with_two_outputs_refresh_reload_and_expire_independently() {
    const OTHERS: std::ops::Range<usize> = Many::OTHER..Many::ALL;
    let mut many = Many::start();
    many.until("all outputs hold a token", |many| many.all_held(0..Many::ALL).iter().all(Option::is_some));
    let first = many.all_held(OTHERS);
    // One Dex refuses: its tokens expire and are removed, the others stay.
    many.other.always(Answer::Bytes(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".to_vec()));
    many.until("the expired tokens are removed", |many| {
        (0..Many::OTHER).all(|index| {
            [format!("t{index}"), format!("t{index}.json")]
                .iter()
                .all(|name| many.world.content(name).is_none())
        })
    });
    assert!(many.all_held(OTHERS) == first, "a token of a Dex that answers stays as it was");
    // A reload: the last token is removed, the one before it gets a prefix, another one is added.
    let mut tokens = Many::tokens(&many.other, 0..Many::ALL + 1);
    tokens.remove(Many::ALL - 1);
    tokens[Many::ALL - 2] = tokens[Many::ALL - 2].replacen("on_expiry", "prefix: \"Bearer \", on_expiry", 1);
    many.world.replace(&tokens.concat());
    many.world.until_reloaded(1);
    many.until("the added token is there", |many| many.held(Many::ALL).is_some());
    let changed = format!("Bearer {}", first[first.len() - 2].as_ref().expect("a token"));
    many.until("the changed output has its prefix", |many| {
        many.world.content(&format!("t{}", Many::ALL - 2)).as_ref() == Some(&changed)
    });
    let same = first.len() - 2;
    assert!(many.all_held(OTHERS)[..same] == first[..same], "a token that did not change stays");
    assert_eq!(many.held(Many::ALL - 1), first[first.len() - 1], "a removed token's files stay");
    assert_eq!(many.world.fixture.dex.issued().len(), OTHERS.len() + 1, "only the added token needed one");
    // All are refreshed: each gets another token in both outputs. The other Dex still refuses.
    many.world.sidecar.process.signal_program(Signal::USR1);
    many.until("all others are refreshed", |many| {
        let held = many.all_held(OTHERS);
        held.iter().zip(&first).take(same).all(|(now, before)| now.is_some() && now != before)
    });
    // The other Dex is back: so are its tokens.
    many.other.always(Answer::Token(3_600));
    many.until("the tokens of the other Dex are back", |many| {
        many.all_held(0..Many::OTHER).iter().all(Option::is_some)
    });
}
