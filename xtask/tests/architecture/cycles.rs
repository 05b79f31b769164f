//! The modules of a crate use each other in one direction.

use std::collections::{BTreeMap, BTreeSet};

use crate::edges::{absolute, paths};
use crate::sources::{Piece, pieces, pieces_of};

/// The crates whose modules are looked at. The files of xtask are steps that call each other.
const ROOTS: [&str; 5] = [
    "crates/core/src/lib.rs",
    "crates/edge/src/lib.rs",
    "crates/agent/src/lib.rs",
    "crates/sidecar/src/lib.rs",
    "fetch/src/lib.rs",
];

/// The modules at the root of a crate, each with those that it names.
fn uses(pieces: &[Piece]) -> BTreeMap<String, BTreeSet<String>> {
    let modules: BTreeSet<&String> = pieces.iter().filter_map(|piece| piece.module.first()).collect();
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for piece in pieces {
        let Some(module) = piece.module.first() else { continue };
        let named = paths(&piece.tokens).into_iter().filter_map(|path| absolute(&path, &piece.module));
        let named = named.filter_map(|path| path.into_iter().next());
        let others = named.filter(|name| name != module && modules.contains(name));
        uses.entry(module.clone()).or_default().extend(others);
    }
    uses
}

/// The modules from which a path leads back to themselves.
fn in_cycles(uses: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let leads_back = |module: &String| {
        let mut reached = BTreeSet::new();
        let mut rest: Vec<&String> = uses[module].iter().collect();
        while let Some(next) = rest.pop() {
            if reached.insert(next) {
                rest.extend(uses.get(next).into_iter().flatten());
            }
        }
        reached.contains(module)
    };
    uses.keys().filter(|module| leads_back(module)).cloned().collect()
}

#[test]
fn no_module_leads_back_to_itself() {
    let mut found = 0;
    for root in ROOTS {
        let uses = uses(&pieces(root));
        found += uses.values().flatten().count();
        let cycles = in_cycles(&uses);
        let shown: Vec<_> = cycles.iter().map(|module| (module, &uses[module])).collect();
        assert!(cycles.is_empty(), "{root}: {shown:#?}");
    }
    assert!(found > 20, "only {found} uses of a module by another are found");
}

#[test]
fn a_cycle_is_found_in_any_form() {
    for (a, b, c) in [
        ("use crate::b::X;", "use crate::c;", "use crate::a::{self, Y};"),
        ("fn f() { crate::b::g(); }", "use super::{c as d};", "type T = crate::a::T;"),
        ("use crate::{b, d};", "mod inner { use super::super::c; }", "fn f() { vec![crate::a::X]; }"),
    ] {
        let modules = [("a", a), ("b", b), ("c", c), ("d", "use crate::c;"), ("e", "use crate::a;")];
        let pieces: Vec<Piece> = modules.iter().flat_map(|(name, text)| pieces_of(&[name], text)).collect();
        let found = in_cycles(&uses(&pieces));
        let expected: &[&str] = if a.contains('d') { &["a", "b", "c", "d"] } else { &["a", "b", "c"] };
        assert_eq!(found, expected, "{a} {b} {c}");
    }
}
