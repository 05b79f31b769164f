//! `copy`: copies this program into a volume. It reads no settings.

use std::ffi::OsString;
use std::path::Path;

use dexsidecar_core::failure::printable;
use dexsidecar_edge::program_file::{Copied, copy_to};

use super::exec;
use crate::terminal::{eprint, print};
use crate::{Done, NEGATIVE, USAGE};

/// Copies it to the first operand, and becomes the command line that follows, if there is one.
#[inline(never)]
pub(crate) fn copy(operands: &[OsString]) -> Done {
    // The command line has a destination.
    let Some((destination, command)) = operands.split_first() else { return Err(USAGE) };
    match copy_to(Path::new(destination)) {
        // Standard output is that of the command.
        Ok(_) if !command.is_empty() => exec(command),
        Ok(Copied::Written(file)) => Ok(print(&format!("copied to {}\n", shown(&file)))),
        Ok(Copied::Unchanged(file)) => Ok(print(&format!("{} is up to date\n", shown(&file)))),
        Err(error) => {
            eprint(&format!("dexsidecar: {}\n", printable(error.to_string())));
            Err(NEGATIVE)
        }
    }
}

fn shown(file: &Path) -> String {
    printable(file.display().to_string())
}
