//! `cargo xtask prefetch`: everything that tests need besides this workspace is fetched or built,
//! so that no test's time limit includes it. What the machine lacks is reported before anything
//! long starts.

mod missing;

use std::time::{Duration, Instant};

use dexsidecar_fetch::counterparts::{ALL, Counterpart, Source, Use};
use dexsidecar_fetch::{Error, cache, machine};

use crate::deny;
use crate::progress::{Progress, seconds};
use crate::release::{self, Target};
use crate::suite::Suite;

/// What is to be there.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    uses: Vec<Use>,
    long: bool,
    /// cargo-deny.
    lints: bool,
    /// The targets that the binary is built for as it ships.
    targets: Vec<Target>,
}

impl Wanted {
    /// For one suite.
    pub(crate) fn for_suite(suite: Suite, long: bool) -> Self {
        let mut wanted = Self { uses: suite.uses().to_vec(), long, ..Self::default() };
        if suite.runs_the_shipped_binary() {
            wanted.targets.push(Target::X86_64);
        }
        if wanted.uses.contains(&Use::Aarch64) {
            wanted.targets.push(Target::Aarch64);
        }
        wanted
    }

    /// For everything that `cargo xtask test` does.
    pub(crate) fn for_all(long: bool) -> Self {
        let uses = vec![
            Use::Fakes,
            Use::Names,
            Use::RealDex,
            Use::Docs,
            Use::Consumers,
            Use::Node,
            Use::Image,
            Use::Aarch64,
        ];
        Self { uses, long, lints: true, targets: vec![Target::X86_64, Target::Aarch64] }
    }

    /// For a demo.
    pub(crate) fn for_demo(kubernetes: bool) -> Self {
        let uses = if kubernetes { vec![Use::Node, Use::Image] } else { vec![Use::Demo] };
        Self { uses, targets: vec![Target::X86_64], ..Self::default() }
    }

    fn counterparts(&self) -> impl Iterator<Item = &'static Counterpart> {
        let used = |counterpart: &&Counterpart| counterpart.uses.iter().any(|one| self.uses.contains(one));
        ALL.iter().filter(used).filter(|counterpart| self.long || !counterpart.long)
    }
}

/// The result of a prefetch.
#[derive(Debug, Default)]
pub(crate) struct Prefetched {
    /// What is unavailable here, and what is skipped without it.
    pub(crate) notes: Vec<String>,
    /// What took a second or more, and its time.
    pub(crate) parts: Vec<(String, Duration)>,
}

impl Prefetched {
    fn add(&mut self, name: &str, time: Duration) {
        if time >= Duration::from_secs(1) {
            self.parts.push((name.to_owned(), time));
        }
    }
}

/// Fetches and builds everything that is wanted.
///
/// # Errors
/// If something is missing without which tests fail. It was printed, one line each.
pub(crate) fn run(mut wanted: Wanted) -> Result<Prefetched, String> {
    println!("-- prefetch: what tests need besides this workspace, into {}", cache::directory()?.display());
    let mut prefetched = Prefetched::default();
    if wanted.uses.contains(&Use::Node)
        && let Err(why) = machine::look_for_node()
    {
        wanted.uses.retain(|one| *one != Use::Node);
        prefetched.notes.push(format!("the tests on a node are skipped: {why}"));
    }
    let progress = Progress::start("looking for what is missing");
    let missing = missing::requirements(&wanted);
    prefetched.add("looking for what is missing", progress.end());
    if !missing.is_empty() {
        missing.iter().for_each(|line| println!("   MISSING  {line}"));
        return Err(format!("{} missing, see above; nothing was started", count_with_verb(missing.len())));
    }
    line("crates of Cargo.lock", "downloaded");
    for target in &wanted.targets {
        let (name, start) = (format!("Rust's standard library for {}", target.triple()), Instant::now());
        release::add_target(*target)?;
        line(&name, "installed");
        prefetched.add(&name, start.elapsed());
    }
    if wanted.lints {
        let start = Instant::now();
        deny::install()?;
        line("cargo-deny", "installed");
        prefetched.add("cargo-deny", start.elapsed());
    }
    for counterpart in wanted.counterparts() {
        if counterpart.is_cached() {
            line(counterpart.label(), "cached");
            continue;
        }
        let progress = Progress::start(counterpart.label());
        let mut count = 0_usize;
        let result = counterpart.get(&mut |done| {
            count += 1;
            progress.show(&format!("{count}: {done}"));
        });
        let time = progress.end();
        prefetched.add(counterpart.label(), time);
        match result {
            Ok(()) => line(counterpart.label(), &done(counterpart, time)),
            Err(error) if is_skipped(counterpart, &error) => {
                line(counterpart.label(), "not available");
                prefetched.notes.push(format!("{}: {error}", counterpart.label()));
            }
            Err(error) => {
                line(counterpart.label(), &format!("FAILED after {}", seconds(time)));
                return Err(error.to_string());
            }
        }
    }
    Ok(prefetched)
}

/// Whether this error of a counterpart skips the tests that use it, and is not a failure.
fn is_skipped(counterpart: &Counterpart, error: &Error) -> bool {
    is_optional(counterpart) && matches!(error, Error::Unavailable(_))
}

/// Whether the tests that use it are skipped where it is unavailable: Debian's packages for the
/// node and for consumers, wheels, the cross compiler.
fn is_optional(counterpart: &Counterpart) -> bool {
    let optional = |one: &Use| matches!(one, Use::Consumers | Use::Node | Use::Aarch64);
    match counterpart.source {
        Source::Go(_) => false,
        Source::Debian(_) => counterpart.uses.iter().all(optional),
        Source::Wheel(_) => true,
    }
}

fn done(counterpart: &Counterpart, time: Duration) -> String {
    let verb = match counterpart.source {
        Source::Go(_) => "built",
        Source::Debian(_) | Source::Wheel(_) => "fetched",
    };
    format!("{verb} in {}", seconds(time))
}

fn line(label: &str, state: &str) {
    println!("   {label:<58}  {state}");
}

fn count_with_verb(count: usize) -> String {
    if count == 1 { "one thing is".to_owned() } else { format!("{count} things are") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(wanted: &Wanted) -> Vec<&'static str> {
        wanted.counterparts().map(Counterpart::label).collect()
    }

    #[test]
    fn each_suite_fetches_only_what_it_uses() {
        assert_eq!(labels(&Wanted::for_suite(Suite::Unit, true)), [""; 0]);
        assert_eq!(labels(&Wanted::for_suite(Suite::Names, false)), ["Go's resolver"]);
        assert_eq!(labels(&Wanted::for_demo(false)), ["Dex 2.45.1"]);
        assert!(labels(&Wanted::for_suite(Suite::Node, false)).contains(&"Incus 6"));
    }

    #[test]
    fn only_an_optional_package_that_is_unavailable_is_skipped() {
        let of = |label: &str| {
            ALL.iter().find(|counterpart| counterpart.label() == label).expect("a row of the table")
        };
        let missing = Error::Unavailable("E: Unable to locate package x".to_owned());
        let corrupt = Error::Failed("x.deb cannot be unpacked: dpkg-deb: error: corrupt".to_owned());
        for optional in
            ["Incus 6", "Envoy 1.40", "schemas of CycloneDX", "qemu for aarch64", "gcc for aarch64"]
        {
            assert!(is_skipped(of(optional), &missing), "{optional}");
            assert!(!is_skipped(of(optional), &corrupt), "{optional}");
        }
        for required in ["strace", "faketime", "Prometheus", "Dex 2.45.1"] {
            assert!(!is_skipped(of(required), &missing), "{required}");
        }
    }

    #[test]
    fn the_long_form_fetches_what_takes_minutes_to_build() {
        let (short, long) = (labels(&Wanted::for_all(false)), labels(&Wanted::for_all(true)));
        assert_eq!(long.len(), ALL.len());
        let only_long: Vec<_> = long.into_iter().filter(|label| !short.contains(label)).collect();
        assert_eq!(
            only_long,
            [
                "oauth2-proxy",
                "OpenTelemetry collector",
                "Helm 3.22",
                "CoreDNS",
                "Dex 2.38.0",
                "Dex 2.41.1",
                "Dex 2.44.0"
            ]
        );
    }
}
