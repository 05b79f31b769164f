//! Stories of pods on a real node: the manifests of README and docs, and the original's, as users
//! apply them. Beside them the image and the demo of a cluster, which need the machine to themselves.
//!
//! This program first runs what is outside of a node. Then it enters namespaces of its own, starts one node there, and plays all
//! stories on it. Where a machine gives no such thing every story counts as ignored, and one line says why.

mod certificates;
mod cluster_demo;
mod image;
mod incus;
mod lifecycle;
mod manifest_mistakes;
mod original_manifest;
mod quick_start;
mod token_file_access;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;

use dexsidecar_e2e::dex::{Dex, Setup};
use dexsidecar_e2e::incus::Incus;
use dexsidecar_e2e::node::{IMAGE, Node};
use dexsidecar_e2e::sandbox::{self, ADDRESS};
use dexsidecar_e2e::trial_time::timed;
use dexsidecar_fetch::machine;
use libtest_mimic::{Arguments, Trial};

/// The stories that wait for the kubelet for minutes are played when this is set.
const LONG: &str = "DEXSIDECAR_E2E_LONG";

/// A story, and whether it takes minutes.
type Story = (&'static str, fn(&Node), bool);

/// One node for all stories. It ends with its namespaces.
static NODE: OnceLock<Node> = OnceLock::new();

fn node() -> &'static Node {
    NODE.get().expect("it was started before the stories")
}

/// A Dex that pods reach, with a namespace of its own for them.
fn dex(node: &Node, namespace: &str, restricted: bool, setup: Setup) -> Dex {
    let dex = Dex::start(&node.plane, &Setup { address: ADDRESS, ..setup });
    node.namespace(namespace, restricted, &dex);
    dex
}

/// A test that runs outside of the node, and its name.
type Test = (&'static str, fn());

/// Tests by their names.
macro_rules! tests {
    ($($test:ident),* $(,)?) => { &[$((stringify!($test), $test as fn())),*] };
}
use tests;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    if sandbox::inside() {
        sandbox::set_up();
        assert!(NODE.set(Node::start()).is_ok(), "it is started once");
        return run(&arguments, 4, on_the_node(false));
    }
    if arguments.list {
        let missing = machine::look_for_node().is_err();
        return run(&arguments, 1, outside().into_iter().chain(on_the_node(missing)).collect());
    }
    let selected = |trials: &[Trial]| trials.iter().any(|trial| is_selected(&arguments, trial.name()));
    let mut good = true;
    let trials = outside();
    if selected(&trials) {
        // One at a time: each of them builds, or looks at the whole machine.
        good &= run(&arguments, 1, trials) == ExitCode::SUCCESS;
    }
    let trials = on_the_node(false);
    if selected(&trials) {
        good &= match prepare() {
            Ok(image) => {
                let given: Vec<String> = std::env::args().skip(1).collect();
                sandbox::run_inside(&given, &[(IMAGE, &image)]) == ExitCode::SUCCESS
            }
            Err(why) => {
                let _ = writeln!(std::io::stderr(), "note: there is no node on this machine: {why}");
                run(&arguments, 1, on_the_node(true)) == ExitCode::SUCCESS
            }
        };
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(arguments: &Arguments, threads: usize, trials: Vec<Trial>) -> ExitCode {
    let threads = arguments.test_threads.unwrap_or(threads);
    let arguments = Arguments { test_threads: Some(threads), ..arguments.clone() };
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Whether the filters of the command line let a test run, as libtest-mimic has it.
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

/// The stories; all of them ignored where there can be no node.
fn on_the_node(missing: bool) -> Vec<Trial> {
    let long = std::env::var_os(LONG).is_some();
    let stories = [
        quick_start::STORIES,
        lifecycle::STORIES,
        token_file_access::STORIES,
        manifest_mistakes::STORIES,
        original_manifest::STORIES,
        certificates::STORIES,
        incus::STORIES,
    ];
    let trial = |(name, story, takes_long): Story| {
        let trial = Trial::test(name, move || {
            timed(name, || story(node()));
            Ok(())
        });
        trial.with_ignored_flag(missing || takes_long && !long)
    };
    stories.concat().into_iter().map(trial).collect()
}

/// Everything that needs the network or cargo, before there is neither. Gives the sidecar's image.
fn prepare() -> Result<PathBuf, String> {
    machine::look_for_node()?;
    Incus::prepare()?;
    Node::prepare()
}
