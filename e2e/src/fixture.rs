//! The fixture of most tests: a fake Dex, and a subject token in a projected volume.

use crate::fake_dex::{Answer, FakeDex};
use crate::projected_volume::ProjectedVolume;
use crate::sidecar::Setup;

/// The subject token of the fixture. It has the shape of a JSON Web Token, and the word that every
/// secret of a test contains.
pub const SUBJECT_TOKEN: &str = "eyJh.eyJi.canary";

/// A token that expired in 2023, as an earlier run leaves it.
pub const EXPIRED_TOKEN: &str = "eyJhbGciOiJFUzI1NiJ9.eyJleHAiOjE3MDAwMDAwMDB9.sig";

/// A fake Dex and a subject token.
pub struct Fixture {
    /// The fake Dex, in plain HTTP.
    pub dex: FakeDex,
    /// The volume with [`SUBJECT_TOKEN`].
    pub volume: ProjectedVolume,
}

impl Default for Fixture {
    fn default() -> Self {
        Self::new()
    }
}

impl Fixture {
    /// A fixture whose Dex issues tokens of an hour.
    #[must_use]
    pub fn new() -> Self {
        Self::at(FakeDex::start())
    }

    /// A fixture with this fake Dex.
    #[must_use]
    pub fn at(dex: FakeDex) -> Self {
        Self { dex, volume: ProjectedVolume::with(SUBJECT_TOKEN) }
    }

    /// A fixture whose Dex gives this answer to every exchange.
    #[must_use]
    pub fn answering(answer: Answer) -> Self {
        let fixture = Self::new();
        fixture.dex.always(answer);
        fixture
    }

    /// A sidecar that exchanges the subject token at the fake Dex.
    #[must_use]
    pub fn setup(&self) -> Setup {
        Setup::new().subject(&self.volume).at_fake(&self.dex)
    }
}
