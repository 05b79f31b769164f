//! `check --json` prints what docs/check.schema.json describes.

use dexsidecar_core::failure::{Code, WRONG_SETTINGS};
use dexsidecar_e2e::fake_dex::Answer;
use dexsidecar_e2e::fixture::Fixture;
use dexsidecar_e2e::sidecar::{failed_step, report};

/// `report` holds each report to the schema, here and wherever another test asks for one.
#[test]
fn every_kind_of_report_is_described_by_the_schema() {
    let fixture = Fixture::new();
    let setup = || fixture.setup();

    let sound = report(&setup());
    assert_eq!((&sound["ok"], failed_step(&sound).is_null()), (&true.into(), true), "{sound:#}");

    fixture.dex.always(Answer::Bytes(vec![]));
    for (what, setup, step) in [
        ("wrong settings", setup().set("dex_refresh_before", "soon"), "settings"),
        ("no subject token", setup().set("dex_file_subject_token", "/nowhere/token"), "subject_token"),
        ("no such name", setup().set("dex_endpoint", "http://nowhere.invalid/token"), "dns"),
        ("no connection", setup().set("dex_endpoint", "http://127.0.0.1:1/token"), "tcp"),
        ("no CA file", setup().set("dex_endpoint", "https://127.0.0.1:1/token"), "tcp"),
        ("no answer", setup(), "exchange"),
    ] {
        let failed = failed_step(&report(&setup));
        assert_eq!(failed["step"], step, "{what}: {failed:#}");
        let code = failed["code"].as_str().unwrap_or_default();
        let known = code == WRONG_SETTINGS || Code::ALL.iter().any(|known| known.entry().name == code);
        assert!(known, "{what}: docs/failures.md does not have the code {code}");
    }
}
