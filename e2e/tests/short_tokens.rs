//! Tokens of twenty seconds for a minute, from a real Dex: readers never see an expired or a torn one.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::{Duration, Instant};

use dexsidecar_e2e::dex::{Dex, Setup as DexSetup};
use dexsidecar_e2e::issuer::Issuer;
use dexsidecar_e2e::reader::{Judgement, Readers, Seen};
use dexsidecar_e2e::sidecar::Setup;
use dexsidecar_e2e::signing_key::{claims, now};
use dexsidecar_e2e::volume::Volume;

/// A whole token of Dex's has three parts and a signature of 256 bytes.
fn judge(text: &str) -> Judgement {
    let parts: Vec<_> = text.split('.').collect();
    if parts.len() != 3 || parts[2].len() != 342 {
        return Judgement::Torn;
    }
    if claims(text)["exp"].as_u64().unwrap() < now() { Judgement::Expired } else { Judgement::Good }
}

#[test]
fn f089_readers_see_good_tokens_only() {
    let issuer = Issuer::start();
    let dex = Dex::start(&issuer, &DexSetup { lifetime: "20s".to_owned(), ..DexSetup::default() });
    let volume = Volume::with(&issuer.token(600));
    let mut sidecar = Setup::new().subject(&volume).at(&dex).run();
    sidecar.until_token();
    let readers = Readers::start(2, &sidecar.output(), judge);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(60) {
        // The kubelet swaps the subject token meanwhile.
        volume.put(&issuer.token(600));
        std::thread::sleep(Duration::from_secs(2));
        assert!(sidecar.process.runs(), "{}", sidecar.process.output());
    }
    let seen = readers.seen();
    drop(readers);
    assert_eq!(Seen { reads: 0, ..seen }, Seen::default());
    assert!(seen.reads > 10_000);
    let written = sidecar.process.said("token written");
    // Every token is refreshed after 8.5 to 10 seconds.
    assert!((6..=9).contains(&written), "{written} exchanges\n{}", sidecar.process.output());
}
