//! A real CoreDNS, with the Corefile that Kubernetes ships. The `kubernetes` plugin is replaced by a zone file, since there is no
//! API server. For programs in a network namespace of their own.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};

use dexsidecar_fetch::counterparts::COREDNS;
use tempfile::TempDir;

use crate::prebuilt;
use crate::process::{Process, tied};

/// How many addresses `many.auth.svc.cluster.local` has: more than 512 and less than 1,232 bytes.
pub const MANY: u8 = 60;
/// How many addresses `more.auth.svc.cluster.local` has: more than 1,232 bytes.
pub const MORE: u8 = 120;

/// Builds it. Needs the network where it is not in the cache.
///
/// # Panics
/// Without Go, and when it does not build.
#[must_use]
pub fn prepare() -> PathBuf {
    prebuilt::program(&COREDNS)
}

/// A running CoreDNS on port 53 of one address. It ends with the value.
#[derive(Debug)]
pub struct CoreDns {
    process: Process,
    address: Ipv4Addr,
    binary: PathBuf,
    directory: TempDir,
}

impl CoreDns {
    /// Starts it. It knows `dex.auth.svc.cluster.local` at 127.0.0.1, and forwards what is not in cluster.local to `upstream`.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(binary: &Path, address: Ipv4Addr, upstream: Ipv4Addr) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let zone_file = directory.path().join("cluster.local");
        fs::write(&zone_file, zone()).expect("a temporary directory");
        let corefile = format!(
            ".:53 {{
    bind {address}
    errors
    health {address}:8080 {{
        lameduck 5s
    }}
    ready {address}:8181
    file {} cluster.local {{
        reload 0
    }}
    hosts {{
        127.0.0.1 dex.hosts.example
        ttl 60
        fallthrough
    }}
    prometheus {address}:9153
    forward . {upstream} {{
        max_concurrent 1000
    }}
    cache 30 {{
        disable success cluster.local
        disable denial cluster.local
    }}
    loop
    reload
    loadbalance
}}
",
            zone_file.display()
        );
        fs::write(directory.path().join("Corefile"), corefile).expect("a temporary directory");
        let process = Self::process(binary, &directory, address);
        Self { process, address, binary: binary.to_owned(), directory }
    }

    /// Ends it as a node that fails does.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again after [`Self::kill`].
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_again(&mut self) {
        self.process = Self::process(&self.binary, &self.directory, self.address);
    }

    /// Waits until it takes connections.
    fn process(binary: &Path, directory: &TempDir, address: Ipv4Addr) -> Process {
        let mut command = tied(binary);
        command.arg("-conf").arg(directory.path().join("Corefile"));
        let mut process = Process::start("coredns", command);
        process.until("CoreDNS listens", |_| TcpStream::connect((address, 53)).is_ok());
        process
    }
}

/// The zone, as the `kubernetes` plugin would answer: Services without IPv6 have no AAAA record.
fn zone() -> String {
    let mut zone = "\
$ORIGIN cluster.local.
@ 30 IN SOA ns.dns hostmaster 1 7200 1800 86400 30
@ 30 IN NS ns.dns
ns.dns 30 IN A 127.0.0.6
dex.auth.svc 30 IN A 127.0.0.1
dual.auth.svc 30 IN A 127.0.0.1
dual.auth.svc 30 IN AAAA fd00::7
external.auth.svc 30 IN CNAME external.upstream.example.
"
    .to_owned();
    for (name, count) in [("many", MANY), ("more", MORE)] {
        for last in 1..=count {
            let _ = writeln!(zone, "{name}.auth.svc 30 IN A 127.0.3.{last}");
        }
    }
    zone
}
