//! `copy`: copies this program into a volume. It reads no settings.

use std::ffi::OsString;
use std::path::Path;

use dexsidecar_core::failure::printable;
use dexsidecar_edge::program_file::{Copied, copy_to};

use crate::terminal::{eprint, print};
use crate::{Done, NEGATIVE};

/// Copies it to the one operand.
#[inline(never)]
pub(crate) fn copy(operands: &[OsString]) -> Done {
    let destination = operands.first().map_or_else(|| Path::new(""), Path::new);
    match copy_to(destination) {
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
