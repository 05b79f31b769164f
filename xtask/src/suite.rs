//! The suites of tests: what each is run against, and what it needs.

use clap::ValueEnum;
use dexsidecar_fetch::counterparts::Use;

/// A suite. The order is that in which they run.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Suite {
    /// The pure tests of every crate, and the documentation tests
    Unit,
    /// The generated pages, and what users copy from the pages, against a real API server
    Docs,
    /// The program against fake servers and files
    Fakes,
    /// Name resolution, in a network namespace
    Names,
    /// The program against a real Dex
    // The test binary has this name.
    #[value(alias = "real_dex")]
    RealDex,
    /// Programs that use the token of a real Dex, in namespaces
    Consumers,
    /// Pods on a real node, the demo of a cluster, the image; the node needs root
    Node,
}

impl Suite {
    /// All of them.
    pub(crate) const ALL: [Self; 7] =
        [Self::Unit, Self::Docs, Self::Fakes, Self::Names, Self::RealDex, Self::Consumers, Self::Node];

    /// Its name on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// The test binary of `e2e` that has it. The unit tests are in many.
    pub(crate) const fn binary(self) -> Option<&'static str> {
        match self {
            Self::Unit => None,
            Self::Docs => Some("docs"),
            Self::Fakes => Some("fakes"),
            Self::Names => Some("names"),
            Self::RealDex => Some("real_dex"),
            Self::Consumers => Some("consumers"),
            Self::Node => Some("node"),
        }
    }

    /// Whether its harness is libtest. The others are libtest-mimic's: they choose their own number
    /// of threads, and mark by themselves which tests the short form ignores.
    pub(crate) const fn is_libtest(self) -> bool {
        !matches!(self, Self::Names | Self::Consumers | Self::Node)
    }

    /// How many tests run at once for each core. The end-to-end tests wait most of the time.
    pub(crate) const fn threads_per_core(self) -> usize {
        match self {
            Self::Unit => 1,
            _ => 4,
        }
    }

    /// The counterparts that it uses.
    pub(crate) const fn uses(self) -> &'static [Use] {
        match self {
            Self::Unit => &[],
            Self::Docs => &[Use::Docs],
            Self::Fakes => &[Use::Fakes],
            Self::Names => &[Use::Names],
            Self::RealDex => &[Use::RealDex],
            Self::Consumers => &[Use::Consumers],
            Self::Node => &[Use::Node, Use::Image, Use::Aarch64],
        }
    }

    /// Whether it runs the binary as it ships.
    pub(crate) const fn runs_the_shipped_binary(self) -> bool {
        matches!(self, Self::Fakes | Self::Names | Self::RealDex | Self::Consumers | Self::Node)
    }
}
