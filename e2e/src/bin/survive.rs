//! Faults against any program that takes the environment of the original, as a table.
//! `cargo xtask survive --bin PATH`; without `--bin`, against this one.

#![expect(clippy::print_stdout, reason = "the table is for the terminal")]

use std::path::PathBuf;
use std::process::ExitCode;

use dexsidecar_e2e::faults::fault;
use dexsidecar_e2e::scenes;
use dexsidecar_e2e::sidecar::program;

fn main() -> ExitCode {
    let binary = std::env::args().nth(1).map_or_else(program, PathBuf::from);
    println!("{}\n", binary.display());
    // What falls is told in the table, and nowhere else.
    std::panic::set_hook(Box::new(|_| {}));
    let mut told = scenes::play(&binary, scenes::PATIENCE);
    told.sort_unstable();
    for (number, survived) in &told {
        let word = if *survived { "survived" } else { "FELL    " };
        let fault = fault(*number).expect("every trial is a fault of the catalogue");
        println!("{:<5} {word}  {}: {}", fault.id(), fault.part.title(), fault.what);
    }
    let survived = told.iter().filter(|(_, survived)| *survived).count();
    println!("\n{survived} of {} survived", told.len());
    if survived == told.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
