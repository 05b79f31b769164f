//! The versions of Dex that tests run against, and what Dex itself does differently in each.

use dexsidecar_fetch::counterparts::{DEX, DEX_2_38, DEX_2_41, DEX_2_44};
use dexsidecar_fetch::go::Program;

/// A version of Dex, built from a Go module of this repository.
#[derive(Clone, Copy, Debug)]
pub struct Version {
    /// As Dex's release notes write it: `2.45.1`.
    pub number: &'static str,
    /// How it is built.
    pub program: Program,
    /// The oidc connector knows `issuerAlias` (since 2.42). Older versions ignore it.
    pub issuer_alias: bool,
    /// Dex starts although some of its connectors cannot be opened. Otherwise it exits when one of
    /// them fails.
    pub starts_with_failed_connectors: bool,
}

/// The version of all tests that name none.
pub const PINNED: Version =
    Version { number: "2.45.1", program: DEX, issuer_alias: true, starts_with_failed_connectors: true };

/// Each of the older versions, the oldest first. 2.38 is the first one with token exchange.
pub const OLDER: [Version; 3] = [
    Version {
        number: "2.38.0",
        program: DEX_2_38,
        issuer_alias: false,
        starts_with_failed_connectors: false,
    },
    Version {
        number: "2.41.1",
        program: DEX_2_41,
        issuer_alias: false,
        starts_with_failed_connectors: false,
    },
    Version {
        number: "2.44.0",
        program: DEX_2_44,
        issuer_alias: true,
        // It has the feature flag `DEX_CONTINUE_ON_CONNECTOR_FAILURE`, which is off by default.
        starts_with_failed_connectors: false,
    },
];
