//! Runs the fault suite against a program that takes the original's environment variables, and
//! prints the results as a table: `cargo xtask survive --bin PATH`, by default against dexsidecar.

#![expect(clippy::print_stdout, reason = "the table is for the terminal")]

use std::path::PathBuf;
use std::process::ExitCode;

use dexsidecar_e2e::fault_suite;
use dexsidecar_e2e::faults::fault;
use dexsidecar_e2e::sidecar::program;

fn main() -> ExitCode {
    let binary = std::env::args().nth(1).map_or_else(program, PathBuf::from);
    println!("{}\n", binary.display());
    // The table reports failures, so panics print nothing.
    std::panic::set_hook(Box::new(|_| {}));
    let mut results = fault_suite::run(&binary, fault_suite::PATIENCE);
    results.sort_unstable();
    for (number, survived) in &results {
        let word = if *survived { "ok  " } else { "FAIL" };
        let fault = fault(*number).expect("every trial is a fault of the catalogue");
        println!("{:<5} {word}  {}: {}", fault.id(), fault.part.title(), fault.what);
    }
    let survived = results.iter().filter(|(_, survived)| *survived).count();
    println!("\n{survived} of {} faults survived", results.len());
    if survived == results.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
