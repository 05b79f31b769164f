//! Stories of pods on a real node: the README's manifest and the original's, as users apply them.
//!
//! This program enters namespaces of its own, starts one node there, and plays all stories on it. Where a machine gives no
//! such thing every story counts as ignored, and one line says why.

mod certificates;
mod files;
mod incus;
mod life;
mod mistakes;
mod original;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;

use dexsidecar_e2e::dex::{Dex, Setup};
use dexsidecar_e2e::incus::Incus;
use dexsidecar_e2e::namespaces::{self, ADDRESS};
use dexsidecar_e2e::node::{IMAGE, Node};
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

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let missing = if namespaces::inside() { Ok(None) } else { prepare(arguments.list) };
    match &missing {
        Err(why) => {
            let _ = writeln!(std::io::stderr(), "no node on this machine: {why}");
        }
        Ok(Some(image)) => {
            let given: Vec<String> = std::env::args().skip(1).collect();
            return namespaces::run_inside(&given, &[(IMAGE, image)]);
        }
        Ok(None) => {}
    }
    let long = std::env::var_os(LONG).is_some();
    let stories = [
        life::STORIES,
        files::STORIES,
        mistakes::STORIES,
        original::STORIES,
        certificates::STORIES,
        incus::STORIES,
    ];
    let trials = stories.concat().into_iter().map(|(name, story, takes_long)| {
        let trial = Trial::test(name, move || {
            story(node());
            Ok(())
        });
        trial.with_ignored_flag(missing.is_err() || takes_long && !long)
    });
    let trials: Vec<Trial> = trials.collect();
    if namespaces::inside() {
        namespaces::set_up();
        assert!(NODE.set(Node::start()).is_ok(), "it is started once");
    }
    // Most of a story is waiting.
    let threads = arguments.test_threads.unwrap_or(4);
    libtest_mimic::run(&Arguments { test_threads: Some(threads), ..arguments }, trials).exit_code()
}

/// Everything that needs the network or cargo, before there is neither. Gives the sidecar's image.
fn prepare(list_only: bool) -> Result<Option<PathBuf>, String> {
    namespaces::look()?;
    if list_only {
        return Ok(None);
    }
    Incus::prepare()?;
    Node::prepare().map(Some)
}
