//! Plain http is allowed or refused by the address of the host. A final dot of the host is for the
//! resolver only.

use std::net::{Ipv4Addr, Ipv6Addr};

use dexsidecar_e2e::dns_server::Reply;
use dexsidecar_e2e::log_events::select;
use dexsidecar_e2e::sidecar::{failed_step, report};

use super::{Dex, Test, dns, tests};

pub(crate) const TESTS: &[Test] = tests![
    f132_a_final_dot_is_for_the_resolver_only,
    f154_plain_http_to_a_name_with_a_private_address_is_allowed,
    f154_plain_http_to_a_name_with_a_public_address_is_refused,
    f154_a_public_address_beside_another_is_not_connected_to,
];

/// An ingress has no route for a Host header with a final dot.
fn f132_a_final_dot_is_for_the_resolver_only() {
    let dex = Dex::start();
    dns().set("dotted.example.test", Reply::Address(Ipv4Addr::LOCALHOST));
    let done = dex.under("dotted.example.test.").execute(&["once"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let port = dex.endpoint.address().port();
    let expected = format!("dotted.example.test:{port}");
    assert_eq!(dex.endpoint.requests()[0].header("host"), Some(expected.as_str()));
    let queried = dns().queried_names();
    assert!(!queried.iter().any(|name| name.starts_with("dotted.example.test.")), "{queried:?}");
}

fn f154_plain_http_to_a_name_with_a_private_address_is_allowed() {
    let dex = Dex::start();
    for name in ["dex.dex", "dex.lan", "dex.home.example.test", "dex.fritz.box"] {
        dns().set(name, Reply::Address(Ipv4Addr::LOCALHOST));
        let done = dex.under(name).unset("DEXSIDECAR_ALLOW_INSECURE_HTTP").execute(&["once"]);
        assert_eq!(done.code, Some(0), "{name}: {}", done.stderr);
        let warnings = select(&done.stderr, "setting_warning");
        assert_eq!(warnings.len(), 1, "{}", done.stderr);
        let warning = warnings[0]["warning"].as_str().unwrap_or_default();
        assert!(warning.starts_with("dex_endpoint is plain http"), "{warning}");
    }
}

/// No server listens at these addresses: a refused address is not connected to.
fn f154_plain_http_to_a_name_with_a_public_address_is_refused() {
    let dex = Dex::start();
    for (name, reply) in [
        ("public.test", Reply::Address(Ipv4Addr::new(192, 0, 2, 7))),
        ("public6.test", Reply::AddressV6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7))),
    ] {
        dns().set(name, reply);
        let setup = dex.under(name).unset("DEXSIDECAR_ALLOW_INSECURE_HTTP");
        let failed = failed_step(&report(&setup));
        assert_eq!(failed["code"], "plain_http_refused", "{name}: {failed:#}");
        assert!(failed.to_string().contains("DEXSIDECAR_ALLOW_INSECURE_HTTP"), "{failed:#}");
        let mut sidecar = setup.run();
        sidecar.process.until_logged("code=plain_http_refused", 1);
        dns().set(name, Reply::Address(Ipv4Addr::LOCALHOST));
        sidecar.until_token();
    }
    // With the setting it is connected to.
    dns().set("allowed.test", Reply::Address(Ipv4Addr::new(192, 0, 2, 7)));
    let failed = failed_step(&report(&dex.under("allowed.test")));
    assert_eq!(failed["code"], "connect_failed", "{failed:#}");
}

fn f154_a_public_address_beside_another_is_not_connected_to() {
    let dex = Dex::start();
    dns().set("mixed.test", Reply::Both(Ipv4Addr::LOCALHOST, Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7)));
    let done = dex.under("mixed.test").unset("DEXSIDECAR_ALLOW_INSECURE_HTTP").execute(&["once"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
}
