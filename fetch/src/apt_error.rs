//! Errors of apt-get: which of them mean that packages are unavailable on this machine. All others
//! are failures.

use crate::Error;

/// What apt-get reports if the mirror has no such package (apt-pkg/cacheset.cc,
/// apt-pkg/acquire-item.cc, methods/basehttp.cc).
const NO_PACKAGE: [&str; 6] = [
    "Unable to locate package",
    "has no installation candidate",
    "Can't find a source to download",
    "is invalid for APT::Default-Release",
    "does not have a Release file",
    "404  Not Found",
];

/// What apt-get reports if the network does not reach the mirror (methods/connect.cc,
/// methods/http.cc).
const NO_NETWORK: [&str; 8] = [
    "Could not resolve",
    "Temporary failure resolving",
    "Something wicked happened resolving",
    "System error resolving",
    "Could not connect to",
    "Unable to connect to",
    "Cannot initiate the connection to",
    "Connection timed out",
];

/// What apt-get reports if this machine cannot store what it downloads: strerror(3).
const NOT_STORED: [&str; 3] = ["No space left on device", "Permission denied", "Read-only file system"];

/// The error of a command of apt-get that failed, from its text in English.
pub(crate) fn classified(error: String) -> Error {
    let has = |texts: &[&str]| texts.iter().any(|text| error.contains(text));
    if (has(&NO_PACKAGE) || has(&NO_NETWORK)) && !has(&NOT_STORED) {
        Error::Unavailable(error)
    } else {
        Error::Failed(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_no_package_and_no_network_are_unavailable() {
        for error in [
            "E: Unable to locate package qemu-user-static",
            "E: Failed to fetch http://deb.debian.org/x.deb  404  Not Found [IP: 192.0.2.1 80]",
            "E: Failed to fetch http://deb.debian.org/x.deb  Temporary failure resolving 'deb.debian.org'",
            "E: Failed to fetch http://deb.debian.org/x.deb  Could not connect to 192.0.2.1:80 (192.0.2.1). - connect (111: Connection refused)",
        ] {
            assert_eq!(classified(error.to_owned()), Error::Unavailable(error.to_owned()));
        }
        for error in [
            "E: Failed to fetch http://deb.debian.org/x.deb  Hash Sum mismatch",
            "E: Failed to fetch http://deb.debian.org/x.deb  Error writing to file - write (28: No space left on device)",
            "W: Temporary failure resolving 'a'\nE: Write error - write (28: No space left on device)",
            "E: Malformed entry 1 in list file",
        ] {
            assert_eq!(classified(error.to_owned()), Error::Failed(error.to_owned()));
        }
    }
}
