//! The fuzz target of the resolver's input: DNS messages, resolv.conf and the hosts file.

use dexsidecar_edge::dns::fuzzing::{addresses_in_answer, configuration, hosts, query};

/// The name that is resolved.
const NAME: &str = "dex.example";
/// The id of the query.
const ID: u16 = 0x4a17;

/// The first byte selects the kind of input: `m` a message, `a` an answer after the id and the
/// question of the query, `r` a resolv.conf, `h` a hosts file. The bounds hold, and an answer with
/// another id is ignored.
pub fn dns(data: &[u8]) {
    let Some((kind, content)) = data.split_first() else { return };
    match kind {
        b'm' => message(content),
        b'a' => {
            for is_v4 in [true, false] {
                let query = query(NAME, ID, is_v4).expect("a name");
                // Flags, response code and counts come from the input. The OPT record of the query,
                // which has 11 bytes, is left out.
                let mut answer = query[..query.len() - 11].to_vec();
                let counts = content.len().min(10);
                answer[2..2 + counts].copy_from_slice(&content[..counts]);
                answer.extend(&content[counts..]);
                message(&answer);
            }
        }
        b'r' => resolv_conf(content),
        b'h' => {
            for host in [NAME, "dex", "localhost", ""] {
                let found = hosts(content, host);
                assert!(found.len() <= 75 && found.iter().all(|address| address.port() == 443));
                assert_eq!(found, hosts(content, &host.to_uppercase()), "names are not case-sensitive");
            }
        }
        _ => {}
    }
}

fn message(bytes: &[u8]) {
    for is_v4 in [true, false] {
        if let Some(addresses) = addresses_in_answer(bytes, NAME, ID, is_v4) {
            assert!(addresses <= 75, "{addresses} addresses");
            assert!(bytes.len() >= 12 && bytes[..2] == ID.to_be_bytes() && bytes[2] & 0x80 > 0);
        }
        for other in [ID ^ 1, ID ^ 0x8000, !ID] {
            if bytes.get(..2) != Some(&other.to_be_bytes()) {
                assert_eq!(
                    addresses_in_answer(bytes, NAME, other, is_v4),
                    None,
                    "an answer to another query"
                );
            }
        }
        if bytes.get(..2) == Some(&ID.to_be_bytes()) && bytes.get(5) != Some(&0) {
            assert_eq!(addresses_in_answer(bytes, "other.example", ID, is_v4), None, "another question");
        }
    }
}

fn resolv_conf(content: &[u8]) {
    for (hostname, host) in
        [("", NAME), ("pod-7", "dex"), ("node.corp.example", "dex.auth.svc"), ("a.", "dex.")]
    {
        let conf = configuration(content, hostname, host);
        assert!(
            (1..=3).contains(&conf.servers.len()) && conf.servers.iter().all(|server| server.port() == 53)
        );
        assert!((1..=30).contains(&conf.timeout) && (1..=5).contains(&conf.attempts));
        assert!((1..=65).contains(&conf.candidates.len()), "{} names", conf.candidates.len());
        let bare = host.trim_end_matches('.');
        assert!(conf.candidates.iter().all(|name| name.starts_with(bare)));
        assert!(conf.candidates.iter().any(|name| name == bare), "the name itself is tried");
    }
}
