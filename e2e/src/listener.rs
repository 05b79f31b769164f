//! Reads the pages of a sidecar's listener.

use std::net::SocketAddr;

use crate::process::PATIENCE;
use crate::raw_http::{self, Reply};
use crate::sidecar::{Setup, Sidecar};

/// A sidecar with a listener at a port that the kernel has chosen.
#[derive(Debug)]
pub struct Listening {
    /// The sidecar.
    pub sidecar: Sidecar,
    /// The address of its listener.
    pub address: SocketAddr,
}

impl Listening {
    /// Starts it.
    ///
    /// # Panics
    /// When it does not listen.
    #[must_use]
    pub fn start(setup: Setup) -> Self {
        let mut sidecar = setup.arguments("--listen 127.0.0.1:0").run();
        sidecar.process.until_logged("listening", 1);
        let events = sidecar.process.events("listening");
        let address = events[0]["address"].as_str().and_then(|address| address.parse().ok());
        Self { sidecar, address: address.expect("the event has the address") }
    }

    /// A page.
    ///
    /// # Panics
    /// When there is no response.
    #[must_use]
    pub fn get(&self, target: &str) -> Reply {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address);
        raw_http::send(self.address, &request).expect("a response")
    }

    /// The value of a sample on the page of the metrics, which is named with its labels.
    #[must_use]
    pub fn sample(&self, name: &str) -> Option<f64> {
        let page = self.get("/metrics").body;
        page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    /// Waits until a page has this status.
    ///
    /// # Panics
    /// When time runs out.
    pub fn until_status(&mut self, target: &str, status: u16) {
        let address = self.address;
        let request = format!("GET {target} HTTP/1.0\r\n\r\n");
        let what = format!("{target} has the status {status}");
        self.sidecar.process.until_within(PATIENCE, &what, |_| {
            raw_http::send(address, &request).is_some_and(|reply| reply.status == status)
        });
    }
}
