//! Errors of Debian's packages: which of them mean that the packages are unavailable on this
//! machine. All others are failures. The texts are those of `dexsidecar_fetch::debian` and apt-get.

/// This machine has no Debian.
const OTHER_SYSTEM: [&str; 2] =
    ["is missing, and these are packages of Debian", "there is no source of a Debian release in /etc/apt"];

/// How the errors of a download begin. apt-get's standard error follows.
const DOWNLOAD: [&str; 2] =
    ["Debian's package lists cannot be downloaded", "packages of Debian cannot be downloaded"];

/// apt-get reached no mirror: it exits with 0 then, and there are no lists.
const NO_LISTS: &str =
    "Debian's package lists cannot be downloaded: check the network and the sources in /etc/apt";

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

/// Whether the packages are unavailable here: this is not Debian, the mirror does not have them, or
/// the network does not reach it.
pub(crate) fn is_unavailable(error: &str) -> bool {
    let has = |texts: &[&str]| texts.iter().any(|text| error.contains(text));
    if !DOWNLOAD.iter().any(|start| error.starts_with(start)) {
        return has(&OTHER_SYSTEM);
    }
    error == NO_LISTS || (has(&NO_PACKAGE) || has(&NO_NETWORK)) && !has(&NOT_STORED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_no_package_and_no_network_are_unavailable() {
        for error in [
            "apt-get is missing, and these are packages of Debian: use a machine or container with Debian 12",
            "there is no source of a Debian release in /etc/apt",
            NO_LISTS,
            "packages of Debian cannot be downloaded: E: Unable to locate package qemu-user-static",
            "packages of Debian cannot be downloaded: E: Failed to fetch http://deb.debian.org/x.deb  404  Not Found [IP: 192.0.2.1 80]",
            "packages of Debian cannot be downloaded: E: Failed to fetch http://deb.debian.org/x.deb  Temporary failure resolving 'deb.debian.org'",
            "packages of Debian cannot be downloaded: E: Failed to fetch http://deb.debian.org/x.deb  Could not connect to 192.0.2.1:80 (192.0.2.1). - connect (111: Connection refused)",
        ] {
            assert!(is_unavailable(error), "{error}");
        }
        for error in [
            "/c/strace.work/debs/strace.deb cannot be unpacked: dpkg-deb: error: corrupt",
            "/c/strace.work/debs/strace.deb cannot be unpacked: Could not connect to anything",
            "/c/dexsidecar/incus-6: Permission denied (os error 13)",
            "packages of Debian cannot be downloaded: E: Failed to fetch http://deb.debian.org/x.deb  Hash Sum mismatch",
            "packages of Debian cannot be downloaded: E: Failed to fetch http://deb.debian.org/x.deb  Error writing to file - write (28: No space left on device)",
            "packages of Debian cannot be downloaded: W: Temporary failure resolving 'a'\nE: Write error - write (28: No space left on device)",
            "Debian's package lists cannot be downloaded: check the network and the sources in /etc/apt: E: Malformed entry 1 in list file",
        ] {
            assert!(!is_unavailable(error), "{error}");
        }
    }
}
