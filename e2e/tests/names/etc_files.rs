//! /etc/hosts and /etc/resolv.conf of any content.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;

use dexsidecar_e2e::dns_server::Reply;

use super::{Dex, Etc, ONCE, Test, dns, only, resolved, tests};

pub(crate) const TESTS: &[Test] = tests![
    f127_a_name_is_found_anywhere_in_the_hosts_file,
    f127_the_hosts_file_is_read_at_each_exchange,
    f133_a_name_resolves_with_any_resolv_conf,
    f133_a_name_resolves_with_any_hosts_file,
    f133_a_resolv_conf_without_a_reachable_server_is_reported_and_read_again,
];

const HERE: Reply = Reply::Address(Ipv4Addr::LOCALHOST);

/// A line of about this many bytes that ends with `hosts.auth`, as `hostAliases` writes it.
fn long_line(bytes: usize) -> String {
    let mut line = "127.0.0.1".to_owned();
    while line.len() + 30 < bytes {
        line += &format!("\talias-{}.example", line.len());
    }
    line + "\thosts.auth\n"
}

fn f127_a_name_is_found_anywhere_in_the_hosts_file() {
    let dex = Dex::start();
    dns().set("hosts.auth", Reply::Address(Ipv4Addr::new(127, 0, 0, 66)));
    for (what, content) in [
        ("line of 1,300 bytes", long_line(1_300)),
        ("line of 64 KiB", long_line(70_000)),
        ("upper case", "127.0.0.1 HOSTS.Auth\n".to_owned()),
        ("comment behind", "127.0.0.1 hosts.auth# comment\n".to_owned()),
        ("comment before", "# 127.0.0.66 hosts.auth\n127.0.0.1 hosts.auth # hosts.auth\n".to_owned()),
        ("no final newline", "127.0.0.2 other\n127.0.0.1 hosts.auth".to_owned()),
        ("CRLF", "127.0.0.2 other\r\n127.0.0.1 hosts.auth\r\n".to_owned()),
        ("final dot", "127.0.0.1 hosts.auth.\n".to_owned()),
        ("spaces", "  127.0.0.1 \t  x \t hosts.auth  \n".to_owned()),
        ("broken lines", "127.0.0.66\nx hosts.auth\n127.1 hosts.auth\n\0\n127.0.0.1 hosts.auth\n".to_owned()),
        ("many lines", "10.0.0.1 x\n".repeat(50_000) + "127.0.0.1 hosts.auth\n"),
    ] {
        // No DNS server is needed.
        let etc = Etc::with("nameserver 127.0.0.9\noptions timeout:1 attempts:1\n");
        etc.write("hosts", content);
        for name in ["hosts.auth", "HOSTS.auth"] {
            assert_eq!(dex.resolve(&etc, name), Ok(only("127.0.0.1")), "{what}");
        }
    }
    let etc = Etc::with(ONCE);
    etc.write("hosts", "127.0.0.1 hosts.auth\nfd00::7 hosts.auth\n127.0.0.2 Hosts.Auth\n127.0.0.3 hosts\n");
    let found = dex.resolve(&etc, "hosts.auth").expect("the file exists");
    assert_eq!(found.len(), 3, "all lines are used: {found:?}");
}

fn f127_the_hosts_file_is_read_at_each_exchange() {
    let dex = Dex::start();
    let etc = Etc::with(ONCE);
    let mut sidecar = etc.mounted_for(dex.under("hosts-later.test")).run();
    sidecar.process.until_logged("code=name_not_found", 1);
    etc.write("hosts", "127.0.0.1 hosts-later.test\n");
    sidecar.until_token();
    sidecar.process.until_logged("recovered", 1);
}

/// Pseudorandom bytes, some of which are newlines. They are the same in each run.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let byte = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(byte).take(length).collect()
}

/// Without a server in the file, 127.0.0.1 is queried, as by Go and glibc.
fn f133_a_name_resolves_with_any_resolv_conf() {
    let dex = Dex::start();
    dns().set("any.test", HERE);
    let resolves = |etc: &Etc, what: &str| {
        assert_eq!(dex.resolve(etc, "any.test"), Ok(only("127.0.0.1")), "{what}");
    };
    let server = b"\nnameserver 127.0.0.2\n";
    for (what, content) in [
        ("empty", vec![]),
        ("newlines", b"\n\n\r\n".to_vec()),
        ("CRLF", b"nameserver 127.0.0.2\r\noptions ndots:2\r\n".to_vec()),
        ("no final newline", b"nameserver 127.0.0.2".to_vec()),
        ("no server", b"nameserver\nnameserver x\nnameserver 127.1\nsearch .\noptions\n".to_vec()),
        ("byte order mark", b"\xef\xbb\xbfnameserver 10.1.2.3\nnameserver 127.0.0.2\n".to_vec()),
        ("comments", b"# nameserver 10.1.2.3\n; x\nnameserver 127.0.0.2 # y\n".to_vec()),
        ("unknown words", b"sortlist 1.2.3.4\noptions x:y:z ndots: timeout:1 inet6 \nfoo\n".to_vec()),
        ("search of nonsense", b"search \xff\xfe .. a..b -x- $ %00\nnameserver 127.0.0.2\n".to_vec()),
        (
            "numbers",
            b"options ndots:99999999999999999999 timeout:-1 attempts:0\nnameserver 127.0.0.2".to_vec(),
        ),
        ("many servers", b"nameserver 127.0.0.2\n".repeat(1_000)),
        ("100 KiB of noise", [&noise(100 << 10)[..], server].concat()),
        ("1 MiB of noise", noise(1 << 20)),
        ("zeros", vec![0; 10_000]),
        ("a program", fs::read("/proc/self/exe").expect("this program")),
    ] {
        resolves(&Etc::with(content), what);
    }
    let etc = Etc::with("");
    fs::remove_file(etc.path("resolv.conf")).expect("the file exists");
    resolves(&etc, "missing");
    fs::create_dir(etc.path("resolv.conf")).expect("a temporary directory");
    resolves(&etc, "a directory");
    let etc = Etc::with("nameserver 10.1.2.3\n");
    fs::set_permissions(etc.path("resolv.conf"), fs::Permissions::from_mode(0o000)).expect("our own file");
    let found = resolved(&etc.mounted_without_capabilities_for(dex.under("any.test")));
    assert_eq!(found, Ok(only("127.0.0.1")), "unreadable");
}

fn f133_a_name_resolves_with_any_hosts_file() {
    let dex = Dex::start();
    dns().set("any-hosts.test", HERE);
    let resolves = |etc: &Etc, what: &str| {
        assert_eq!(dex.resolve(etc, "any-hosts.test"), Ok(only("127.0.0.1")), "{what}");
    };
    for (what, content) in [
        ("empty", vec![]),
        ("1 MiB of noise", noise(1 << 20)),
        ("one line of 1 MiB", b"127.0.0.66 ".repeat(100_000)),
        ("zeros", vec![0; 10_000]),
        ("a program", fs::read("/proc/self/exe").expect("this program")),
        ("no address", b"any-hosts.test any-hosts.test\n127.0.0.300 any-hosts.test\n".to_vec()),
    ] {
        let etc = Etc::with(ONCE);
        etc.write("hosts", content);
        resolves(&etc, what);
    }
    let etc = Etc::with(ONCE);
    fs::remove_file(etc.path("hosts")).expect("the file exists");
    resolves(&etc, "missing");
    fs::create_dir(etc.path("hosts")).expect("a temporary directory");
    resolves(&etc, "a directory");
    let etc = Etc::with(ONCE);
    etc.write("hosts", "127.0.0.66 any-hosts.test\n");
    fs::set_permissions(etc.path("hosts"), fs::Permissions::from_mode(0o000)).expect("our own file");
    let found = resolved(&etc.mounted_without_capabilities_for(dex.under("any-hosts.test")));
    assert_eq!(found, Ok(only("127.0.0.1")), "unreadable");
}

fn f133_a_resolv_conf_without_a_reachable_server_is_reported_and_read_again() {
    let dex = Dex::start();
    dns().set("unusable.test", HERE);
    for (content, server) in [
        ("nameserver 127.0.0.9\n", "127.0.0.9"),
        ("nameserver 10.1.2.3\nnameserver 10.1.2.4\n", "10.1.2.4"),
        ("nameserver fd00::1\n", "fd00::1"),
    ] {
        let etc = Etc::with(format!("{content}options timeout:1 attempts:1\n"));
        let failed = dex.resolve(&etc, "unusable.test").expect_err("no server is reachable");
        assert_eq!(failed.0, "name_lookup_failed");
        assert!(failed.1.contains("unusable.test") && failed.1.contains(server), "{}", failed.1);
        let mut sidecar = etc.mounted_for(dex.under("unusable.test")).run();
        sidecar.process.until_logged("code=name_lookup_failed", 1);
        etc.write("resolv.conf", ONCE);
        sidecar.until_token();
    }
}
