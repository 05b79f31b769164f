//! A real CoreDNS with Kubernetes' Corefile, for tests in their own network namespace. A zone file
//! replaces the `kubernetes` plugin, since there is no API server.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};

use dexsidecar_fetch::counterparts::COREDNS;
use tempfile::TempDir;

use crate::prebuilt;
use crate::process::{Process, killed_with_parent};

/// The number of addresses of `many.auth.svc.cluster.local`: between 512 and 1,232 bytes.
pub const MANY: u8 = 60;
/// The number of addresses of `more.auth.svc.cluster.local`: more than 1,232 bytes.
pub const MORE: u8 = 120;

/// Builds it. This needs the network unless it is in the cache.
///
/// # Panics
/// If Go is missing or the build fails.
#[must_use]
pub fn prepare() -> PathBuf {
    prebuilt::program(&COREDNS)
}

/// A running CoreDNS on port 53 of one address. It stops when the value is dropped.
#[derive(Debug)]
pub struct CoreDns {
    process: Process,
    address: Ipv4Addr,
    binary: PathBuf,
    directory: TempDir,
}

impl CoreDns {
    /// Starts it. `dex.auth.svc.cluster.local` is 127.0.0.1, and queries outside cluster.local are
    /// forwarded to `upstream`.
    ///
    /// # Panics
    /// If it does not start.
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

    /// Kills it, as when its node fails.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it after [`Self::kill`].
    ///
    /// # Panics
    /// If it does not start.
    pub fn restart(&mut self) {
        self.process = Self::process(&self.binary, &self.directory, self.address);
    }

    /// Starts the process and waits until it accepts connections.
    fn process(binary: &Path, directory: &TempDir, address: Ipv4Addr) -> Process {
        let mut command = killed_with_parent(binary);
        command.arg("-conf").arg(directory.path().join("Corefile"));
        let mut process = Process::start("coredns", command);
        process.until("CoreDNS listens", |_| TcpStream::connect((address, 53)).is_ok());
        process
    }
}

/// The zone file. As with the `kubernetes` plugin, Services without IPv6 have no AAAA record.
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
