//! Tests of pods on a real node, with the manifests of README, docs and of the original. It also
//! has tests of the image and of the cluster demo, which run outside the node, one at a time.
//!
//! This program first runs the tests outside the node. Then it enters a sandbox, starts one node
//! there and runs all other tests on it. If the machine does not allow a sandbox, they count as
//! ignored, and one line gives the reason.

mod certificates;
mod chart;
mod cluster_demo;
mod five_commands;
mod image;
mod incus;
mod injected_pod_output;
mod injection;
mod lifecycle;
mod manifest_mistakes;
mod original_manifest;
mod quick_start;
mod token_file_access;
mod wait_command;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;

use dexsidecar_e2e::dex::{Dex, DexSetup};
use dexsidecar_e2e::incus::Incus;
use dexsidecar_e2e::node::{IMAGE, Node};
use dexsidecar_e2e::sandbox::{self, ADDRESS};
use dexsidecar_e2e::trial_time::timed;
use dexsidecar_fetch::machine;
use libtest_mimic::{Arguments, Trial};

/// The environment variable of the long form, which also runs the tests that take minutes.
const LONG: &str = "DEXSIDECAR_E2E_LONG";

/// A test on the node: its name, its function, and whether it takes minutes.
type NodeTest = (&'static str, fn(&Node), bool);

/// The node of all tests. It stops with the sandbox.
static NODE: OnceLock<Node> = OnceLock::new();

fn node() -> &'static Node {
    NODE.get().expect("it is started before the tests")
}

/// Starts a Dex that pods can reach, and creates a namespace for these pods.
fn dex(node: &Node, namespace: &str, restricted: bool, setup: DexSetup) -> Dex {
    let dex = Dex::start(&node.plane, &DexSetup { address: ADDRESS, ..setup });
    node.namespace(namespace, restricted, &dex);
    dex
}

/// A test outside the node, and its name.
type Test = (&'static str, fn());

/// The list of tests outside the node, with their names.
macro_rules! tests {
    ($($test:ident),* $(,)?) => { &[$((stringify!($test), $test as fn())),*] };
}
use tests;

/// The list of tests on the node, with their names. Those after `minutes:` run in the long form
/// only.
macro_rules! node_tests {
    ($($test:ident),* $(,)? $(; minutes: $($long:ident),* $(,)?)?) => {
        &[
            $((stringify!($test), $test as fn(&Node), false),)*
            $($((stringify!($long), $long as fn(&Node), true),)*)?
        ]
    };
}
use node_tests;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    if sandbox::inside() {
        sandbox::set_up();
        assert!(NODE.set(Node::start()).is_ok(), "it is started once");
        let together = run(&arguments, 4, on_the_node(false));
        let alone = run(&arguments, 1, that_disturb_others(false));
        return if together == ExitCode::SUCCESS { alone } else { together };
    }
    if arguments.list {
        let missing = machine::look_for_node().is_err();
        let trials = outside().into_iter().chain(on_the_node(missing)).chain(that_disturb_others(missing));
        return run(&arguments, 1, trials.collect());
    }
    let selected = |trials: &[Trial]| trials.iter().any(|trial| is_selected(&arguments, trial.name()));
    let mut passed = true;
    let trials = outside();
    if selected(&trials) {
        // One at a time: each builds something or inspects the whole machine.
        passed &= run(&arguments, 1, trials) == ExitCode::SUCCESS;
    }
    if selected(&on_the_node(false)) || selected(&that_disturb_others(false)) {
        passed &= match prepare() {
            Ok(image) => {
                let given: Vec<String> = std::env::args().skip(1).collect();
                sandbox::run_inside(&given, &[(IMAGE, &image)]) == ExitCode::SUCCESS
            }
            Err(why) => {
                let _ = writeln!(std::io::stderr(), "note: there is no node on this machine: {why}");
                let trials = on_the_node(true).into_iter().chain(that_disturb_others(true));
                run(&arguments, 1, trials.collect()) == ExitCode::SUCCESS
            }
        };
    }
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(arguments: &Arguments, threads: usize, trials: Vec<Trial>) -> ExitCode {
    let threads = arguments.test_threads.unwrap_or(threads);
    let arguments = Arguments { test_threads: Some(threads), ..arguments.clone() };
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Whether the filters of the command line select a test, as in libtest-mimic.
fn is_selected(arguments: &Arguments, name: &str) -> bool {
    let is = |filter: &String| if arguments.exact { name == filter } else { name.contains(&**filter) };
    arguments.filter.as_ref().is_none_or(is) && !arguments.skip.iter().any(is)
}

fn outside() -> Vec<Trial> {
    let trial = |(name, test): Test| {
        Trial::test(name, move || {
            timed(name, test);
            Ok(())
        })
    };
    [image::TESTS, cluster_demo::TESTS].concat().into_iter().map(trial).collect()
}

/// The tests on the node. All are ignored if the machine does not allow a node.
fn on_the_node(missing: bool) -> Vec<Trial> {
    let long = std::env::var_os(LONG).is_some();
    let tests = [
        quick_start::TESTS,
        lifecycle::TESTS,
        token_file_access::TESTS,
        manifest_mistakes::TESTS,
        original_manifest::TESTS,
        certificates::TESTS,
        chart::TESTS,
        incus::TESTS,
        injected_pod_output::TESTS,
        injection::TESTS,
        wait_command::TESTS,
    ];
    tests.concat().into_iter().map(|test| trial(test, missing || test.2 && !long)).collect()
}

/// The tests that restart or remove what other tests need.
fn that_disturb_others(missing: bool) -> Vec<Trial> {
    let tests = [wait_command::ALONE, five_commands::ALONE].concat();
    tests.into_iter().map(|test| trial(test, missing)).collect()
}

fn trial((name, test, _): NodeTest, is_ignored: bool) -> Trial {
    let run = move || {
        timed(name, || test(node()));
        Ok(())
    };
    Trial::test(name, run).with_ignored_flag(is_ignored)
}

/// Builds and fetches what the node needs, since the sandbox has no network. Gives the path of the
/// sidecar's image.
fn prepare() -> Result<PathBuf, String> {
    machine::look_for_node()?;
    Incus::prepare()?;
    Node::prepare()
}
