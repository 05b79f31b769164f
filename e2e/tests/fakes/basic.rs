//! A client's id and secret reach Dex as they were written, whatever is in them: put to Go, in which Dex reads them.

use dexsidecar_core::exchange::basic_authorization;
use dexsidecar_core::secret::Secret;
use dexsidecar_e2e::go_reference;
use dexsidecar_fetch::counterparts::GO_BASIC;

#[test]
fn dex_reads_every_id_and_secret_as_it_was_written() {
    // Each character of ASCII, and some beyond, alone, doubled, and between others.
    let characters = (' '..='~').chain("\t\u{e9}\u{20ac}\u{1f511}".chars());
    let halves: Vec<String> = characters
        .flat_map(|c| [c.to_string(), format!("{c}{c}"), format!("a{c}b"), format!("{c}2{c}zz")])
        .chain(["", "%", "%2", "%zz", "100%", "a+b c&d=e/f?g#h"].map(str::to_owned))
        .collect();
    let pairs: Vec<(String, String)> = halves
        .iter()
        .filter(|half| !half.contains(':'))
        .flat_map(|id| ["", "s3cret", "a:b%+ "].map(|secret| (id.clone(), secret.to_owned())))
        .chain(halves.iter().map(|secret| ("incus".to_owned(), secret.clone())))
        .collect();
    let headers: Vec<String> = pairs
        .iter()
        .map(|(id, secret)| basic_authorization(&Secret::new(format!("{id}:{secret}"))).expect("a client"))
        .map(|header| header.expose().to_owned())
        .collect();
    for ((id, secret), read) in pairs.iter().zip(go_reference::said(&GO_BASIC, &headers)) {
        assert_eq!(read, format!("{}:{}", hex(id), hex(secret)), "{id:?} and {secret:?}");
    }
}

/// What was form-encoded by hand for the original, which did not encode, means what it meant.
#[test]
fn dex_reads_what_was_encoded_by_hand_as_it_was_meant() {
    for (written, meant) in [("a%2Bb", "a+b"), ("%25", "%"), ("a%20b+c", "a b c"), ("%C3%A9", "\u{e9}")] {
        let header = basic_authorization(&Secret::new(format!("incus:{written}"))).expect("a client");
        let read = go_reference::said(&GO_BASIC, &[header.expose().to_owned()]);
        assert_eq!(read, [format!("{}:{}", hex("incus"), hex(meant))], "{written}");
    }
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}
