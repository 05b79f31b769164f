//! Plain http is judged by the address that a name leads to, and a final dot is for the resolver only.

use std::net::{Ipv4Addr, Ipv6Addr};

use dexsidecar_e2e::dns_server::Reply;
use dexsidecar_e2e::log_events::events;
use dexsidecar_e2e::sidecar::{failed_step, report};

use super::{Dex, Test, names, tests};

pub(crate) const TESTS: &[Test] = tests![
    f132_a_final_dot_is_for_the_resolver_only,
    f154_plain_http_to_a_name_is_accepted_where_its_address_is_not_public,
    f154_plain_http_to_a_public_address_is_refused_when_it_is_known,
    f154_a_public_address_beside_another_is_not_connected_to,
];

/// An ingress finds its route by the Host header, and has none for a name with a dot behind it.
fn f132_a_final_dot_is_for_the_resolver_only() {
    let dex = Dex::start();
    names().set("dotted.example.test", Reply::Address(Ipv4Addr::LOCALHOST));
    let done = dex.under("dotted.example.test.").done(&["once"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let port = dex.endpoint.address().port();
    let expected = format!("dotted.example.test:{port}");
    assert_eq!(dex.endpoint.heard()[0].header("host"), Some(expected.as_str()));
    let asked = names().asked();
    assert!(!asked.iter().any(|name| name.starts_with("dotted.example.test.")), "{asked:?}");
}

fn f154_plain_http_to_a_name_is_accepted_where_its_address_is_not_public() {
    let dex = Dex::start();
    for name in ["dex.dex", "dex.lan", "dex.home.example.test", "dex.fritz.box"] {
        names().set(name, Reply::Address(Ipv4Addr::LOCALHOST));
        let done = dex.under(name).unset("DEXSIDECAR_ALLOW_INSECURE_HTTP").done(&["once"]);
        assert_eq!(done.code, Some(0), "{name}: {}", done.stderr);
        let warnings = events(&done.stderr, "setting_warning");
        assert_eq!(warnings.len(), 1, "{}", done.stderr);
        let warning = warnings[0]["warning"].as_str().unwrap_or_default();
        assert!(warning.starts_with("dex_endpoint is plain http"), "{warning}");
    }
}

/// Nobody listens at any of these: what is refused is not tried.
fn f154_plain_http_to_a_public_address_is_refused_when_it_is_known() {
    let dex = Dex::start();
    for (name, reply) in [
        ("public.test", Reply::Address(Ipv4Addr::new(192, 0, 2, 7))),
        ("public6.test", Reply::AddressV6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7))),
    ] {
        names().set(name, reply);
        let setup = dex.under(name).unset("DEXSIDECAR_ALLOW_INSECURE_HTTP");
        let failed = failed_step(&report(&setup));
        assert_eq!(failed["code"], "plain_http_refused", "{name}: {failed:#}");
        assert!(failed.to_string().contains("DEXSIDECAR_ALLOW_INSECURE_HTTP"), "{failed:#}");
        let mut sidecar = setup.run();
        sidecar.process.until_logged("code=plain_http_refused", 1);
        names().set(name, Reply::Address(Ipv4Addr::LOCALHOST));
        sidecar.until_token();
    }
    // With the setting it is tried.
    names().set("allowed.test", Reply::Address(Ipv4Addr::new(192, 0, 2, 7)));
    let failed = failed_step(&report(&dex.under("allowed.test")));
    assert_eq!(failed["code"], "connect_failed", "{failed:#}");
}

fn f154_a_public_address_beside_another_is_not_connected_to() {
    let dex = Dex::start();
    names()
        .set("mixed.test", Reply::Both(Ipv4Addr::LOCALHOST, Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7)));
    let done = dex.under("mixed.test").unset("DEXSIDECAR_ALLOW_INSECURE_HTTP").done(&["once"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
}
