//! A client's id and secret reach Dex unchanged, whatever characters they contain. Go, which Dex is
//! written in, decodes them here.

use dexsidecar_core::exchange::basic_authorization;
use dexsidecar_core::secret::Secret;
use dexsidecar_e2e::go_reference;
use dexsidecar_fetch::counterparts::GO_BASIC;

#[test]
fn go_decodes_every_client_id_and_secret_unchanged() {
    // Each printable ASCII character and some others: alone, doubled, and between other characters.
    let characters = (' '..='~').chain("\t\u{e9}\u{20ac}\u{1f511}".chars());
    let values: Vec<String> = characters
        .flat_map(|c| [c.to_string(), format!("{c}{c}"), format!("a{c}b"), format!("{c}2{c}zz")])
        .chain(["", "%", "%2", "%zz", "100%", "a+b c&d=e/f?g#h"].map(str::to_owned))
        .collect();
    let pairs: Vec<(String, String)> = values
        .iter()
        .filter(|value| !value.contains(':'))
        .flat_map(|id| ["", "s3cret", "a:b%+ "].map(|secret| (id.clone(), secret.to_owned())))
        .chain(values.iter().map(|secret| ("incus".to_owned(), secret.clone())))
        .collect();
    let headers: Vec<String> = pairs
        .iter()
        .map(|(id, secret)| basic_authorization(&Secret::new(format!("{id}:{secret}"))).expect("a client"))
        .map(|header| header.expose().to_owned())
        .collect();
    for ((id, secret), read) in pairs.iter().zip(go_reference::answers(&GO_BASIC, &headers)) {
        assert_eq!(read, format!("{}:{}", hex(id), hex(secret)), "{id:?} and {secret:?}");
    }
}

/// The original does not form-encode the client (RFC 6749 section 2.3.1), so its users did by hand.
#[test]
fn a_client_that_is_form_encoded_already_is_decoded_as_with_the_original() {
    for (written, meant) in [("a%2Bb", "a+b"), ("%25", "%"), ("a%20b+c", "a b c"), ("%C3%A9", "\u{e9}")] {
        let header = basic_authorization(&Secret::new(format!("incus:{written}"))).expect("a client");
        let read = go_reference::answers(&GO_BASIC, &[header.expose().to_owned()]);
        assert_eq!(read, [format!("{}:{}", hex("incus"), hex(meant))], "{written}");
    }
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}
