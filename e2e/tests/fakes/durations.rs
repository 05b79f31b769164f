//! Durations have the meaning that they have in Go, which the original is written in: Go parses the
//! same texts.

#![expect(clippy::unwrap_used, reason = "a test fails where it panics")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use dexsidecar_core::duration;
use dexsidecar_e2e::go_reference;
use dexsidecar_fetch::counterparts::GO_DURATIONS;

#[test]
fn go_parses_every_duration_to_the_same_value() {
    let texts = texts();
    let go = parsed_by_go(&texts);
    assert_eq!(go.len(), texts.len());
    let mut read = 0;
    for (text, go) in texts.iter().zip(go) {
        let ours = duration::parse(text).map(|length| length.as_nanos());
        match go.parse::<i128>() {
            // No setting may be negative, and -0 is a mistake.
            Ok(go) if go < 0 || text.starts_with('-') => assert!(ours.is_err(), "{text:?}"),
            Ok(go) => {
                read += 1;
                // Go sums fractions as floats, which may differ by a nanosecond.
                let ours = i128::try_from(ours.unwrap_or_else(|why| panic!("{text:?} {why}, for Go {go}")));
                assert!((ours.unwrap() - go).abs() <= 1, "{text:?} is {go} for Go");
            }
            Err(_) => assert!(ours.is_err(), "{text:?} is {ours:?}, and no duration for Go"),
        }
    }
    assert!(read > 500, "{read} of {} are durations", texts.len());
}

/// Numbers and units in every combination, valid and invalid, and the corpus of the fuzz target.
fn texts() -> Vec<String> {
    let numbers = [
        "0",
        "1",
        "007",
        "1.5",
        ".5",
        "5.",
        ".",
        "",
        "1.000000001",
        "0.9999999999999999999999",
        "2562047",
        "2562048",
        "9223372036854775807",
        "9223372036854775808",
        "99999999999999999999",
        "1_000",
        "1e3",
        "+1",
        "-1",
        "0x10",
        "1,5",
        " 1",
    ];
    let units = ["ns", "us", "µs", "μs", "ms", "s", "m", "h", "d", "", "S", "sec", "s ", "\n"];
    let mut texts: Vec<String> = vec![];
    for number in numbers {
        for unit in units {
            let one = format!("{number}{unit}");
            for more in ["", "30m", "1h1h", "0", "-1s", "+1s", ".5s", "1.s"] {
                texts.push(format!("{one}{more}"));
                texts.push(format!("+{one}{more}"));
            }
        }
    }
    texts.extend(["+", "-", "0", "-0", "+0", "00", "0s", "-0s"].map(str::to_owned));
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/duration");
    texts.extend(
        fs::read_dir(corpus).unwrap().filter_map(|entry| fs::read_to_string(entry.unwrap().path()).ok()),
    );
    texts
}

fn parsed_by_go(texts: &[String]) -> Vec<String> {
    let quoted = |text: &String| {
        // As a Go string: other characters than printable ASCII as \U with eight digits.
        let quoted = text.chars().fold(String::new(), |mut quoted, c| {
            if c.is_ascii_graphic() && c != '"' && c != '\\' {
                quoted.push(c);
            } else {
                let _ = write!(quoted, "\\U{:08x}", u32::from(c));
            }
            quoted
        });
        format!("\"{quoted}\"")
    };
    go_reference::answers(&GO_DURATIONS, &texts.iter().map(quoted).collect::<Vec<_>>())
}
