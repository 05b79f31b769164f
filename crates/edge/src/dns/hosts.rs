//! `/etc/hosts`, parsed as Go parses it (net/hosts.go): lines of any length, names without regard
//! to case.

use std::net::SocketAddr;

use super::{address, fields};

/// Upper bound of the addresses per name, the same as for DNS answers.
const MOST_ADDRESSES: usize = 75;

/// Returns every address of a name, in file order, with this port.
pub(super) fn addresses(content: &[u8], name: &str, port: u16) -> Vec<SocketAddr> {
    let wanted = key(name);
    let lines = content.split(|byte| *byte == b'\n');
    let found = lines.filter_map(|line| {
        let line = line.split(|byte| *byte == b'#').next()?;
        let line = String::from_utf8_lossy(line);
        let mut fields = fields(&line);
        let address = address(fields.next()?, port)?;
        fields.any(|field| key(field) == wanted).then_some(address)
    });
    found.take(MOST_ADDRESSES).collect()
}

/// The form in which names are compared: lower case, with a final dot if the name contains a dot
/// (Go's `absDomainName`).
fn key(name: &str) -> String {
    let mut key = name.to_ascii_lowercase();
    if key.contains('.') && !key.ends_with('.') {
        key.push('.');
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(content: &str, name: &str) -> Vec<String> {
        addresses(content.as_bytes(), name, 7).iter().map(|address| address.ip().to_string()).collect()
    }

    #[test]
    fn f127_a_name_is_found_anywhere_in_its_line() {
        let long: String = (0..200).map(|n| format!("alias-{n}.example ")).collect();
        for content in [
            "10.0.0.7 dex.example".to_owned(),
            format!("10.0.0.7 {long}dex.example\n"),
            "10.0.0.7\tother\tDEX.Example.\t# a comment\r\n".to_owned(),
            "# 10.0.0.9 dex.example\nnonsense dex.example\n10.0.0.7 dex.example#comment".to_owned(),
        ] {
            assert_eq!(found(&content, "Dex.example"), ["10.0.0.7"], "{content}");
            assert_eq!(found(&content, "dex.example."), ["10.0.0.7"], "{content}");
        }
    }

    #[test]
    fn all_addresses_of_a_name_are_found() {
        let content = "10.0.0.7 dex\nfd00::7 dex dex.example\n10.0.0.8 other\n10.0.0.9 dex";
        assert_eq!(found(content, "dex"), ["10.0.0.7", "fd00::7", "10.0.0.9"]);
        assert!(found("10.0.0.7 dex.", "dex").is_empty(), "Go does not find it either");
        assert_eq!(found("::ffff:10.0.0.7 dex", "dex"), ["10.0.0.7"]);
        assert!(found(content, "x").is_empty() && found(content, "").is_empty());
        let many: String = (0..100).map(|n| format!("10.0.0.{n} dex\n")).collect();
        assert_eq!(found(&many, "dex").len(), MOST_ADDRESSES);
    }

    #[test]
    fn f133_invalid_bytes_affect_only_their_line() {
        let content = b"\x00\xff\n10.0.0.1 \xff dex\n127.1 dex\n010.0.0.1 dex\n10.0.0.2 dex";
        let found = addresses(content, "dex", 7);
        assert_eq!(found, ["10.0.0.1:7".parse().unwrap(), "10.0.0.2:7".parse().unwrap()]);
    }
}
