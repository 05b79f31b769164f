//! Values as manifests and Secrets deliver them: with a line break or a byte order mark too many, in UTF-16, or with a
//! reference that Kubernetes did not expand.

use std::fs;

use dexsidecar_e2e::certificates::Authority;
use dexsidecar_e2e::endpoint::Endpoint;
use dexsidecar_e2e::sidecar::{Setup, failed_step, report};
use dexsidecar_e2e::volume::Volume;

/// `kubectl create secret --from-file`, of a file that `echo` made: whatever comes from it ends with a line break.
#[test]
fn f152_every_variable_may_end_with_a_line_break() {
    let authority = Authority::new();
    let endpoint = Endpoint::start("127.0.0.1:0", Some(authority.server(&[]).server_config()));
    let volume = Volume::with("eyJh.eyJi.canary");
    let plain = || {
        Setup::new()
            .subject(&volume)
            .at_stand_in(&endpoint)
            .set("SSL_CERT_FILE", authority.file().to_str().expect("UTF-8"))
            .set("SSL_CERT_DIR", "/does/not/exist")
            .set("DEXSIDECAR_OUTPUT_MODE", "0600")
            .set("DEXSIDECAR_ATTEMPT_TIMEOUT", "10s")
            .set("dex_refresh_before", "5m")
            .set("NO_PROXY", "127.0.0.1")
            .set("HTTPS_PROXY", "http://127.0.0.1:1")
    };
    assert_eq!(plain().done(&["once"]).code, Some(0));
    for end in ["\n", "\r\n"] {
        let clean = plain();
        let output = clean.output();
        let variables: Vec<(String, String)> = clean
            .assignments()
            .iter()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let broken =
            variables.iter().fold(clean, |setup, (name, value)| setup.set(name, format!("{value}{end}")));
        let done = broken.done(&["once"]);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        assert!(endpoint.issued().contains(&fs::read_to_string(&output).expect("it is there")));
        for (name, _) in &variables {
            let told = format!(" {name} ends with a line break, which was removed: ");
            assert_eq!(done.stderr.matches(&told).count(), 1, "{name}: {}", done.stderr);
        }
    }
    let heard = endpoint.heard();
    assert_eq!(heard.len(), 3);
    for with_breaks in &heard[1..] {
        assert_eq!(with_breaks.body, heard[0].body);
        assert_eq!(with_breaks.header("authorization"), heard[0].header("authorization"));
    }
}

/// A proxy is used under its name, and not refused for what follows it.
#[test]
fn f152_a_proxy_s_variable_may_end_with_a_line_break() {
    let volume = Volume::with("eyJh.eyJi.canary");
    for name in ["HTTPS_PROXY", "https_proxy"] {
        let setup = Setup::new()
            .subject(&volume)
            .set("dex_endpoint", "https://dex.invalid/token")
            .set(name, "http://127.0.0.1:1\n");
        let broken = failed_step(&report(&setup));
        assert_eq!(broken["code"], "proxy_failed", "{broken:#}");
        let told = broken["message"].as_str().unwrap_or_default();
        let expected = format!("http://127.0.0.1:1 of {name}: nothing listens there");
        assert!(told.contains(&expected), "{broken:#}");
    }
}

#[test]
fn f152_a_byte_order_mark_and_a_line_break_of_a_file_are_never_sent() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("\u{feff}eyJh.eyJi.canary\r\n");
    for (start, end) in [("\u{feff}", ""), ("\u{feff}", "\r\n"), ("", "\n")] {
        let setup = Setup::new().subject(&volume).at_stand_in(&endpoint);
        let file = |name: &str, value: &str| {
            let path = setup.folder().join(name);
            fs::write(&path, format!("{start}{value}{end}")).expect("a temporary directory");
            path.to_str().expect("UTF-8").to_owned()
        };
        let (connector, client) = (file("connector", "k3s"), file("client", "incus:canary-secret"));
        let setup = setup
            .unset("dex_connector_id")
            .unset("dex_basic_auth")
            .set("dex_file_connector_id", connector)
            .set("dex_file_basic_auth", client);
        let done = setup.done(&["once"]);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let heard = endpoint.heard().pop().expect("an exchange");
        assert_eq!(heard.field("connector_id").as_deref(), Some("k3s"));
        assert_eq!(heard.field("subject_token").as_deref(), Some("eyJh.eyJi.canary"));
        assert_eq!(heard.header("authorization"), Some("Basic aW5jdXM6Y2FuYXJ5LXNlY3JldA=="));
    }
}

#[test]
fn f152_a_file_in_utf_16_is_a_failure_that_says_so() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    for (variable, plain, code) in [
        ("dex_file_connector_id", "canary", "form_file_unreadable"),
        ("dex_file_basic_auth", "incus:canary", "form_file_unreadable"),
        ("dex_file_subject_token", "eyJh.eyJi.canary", "subject_token_malformed"),
    ] {
        for order in [u16::to_le_bytes, u16::to_be_bytes] {
            let setup = Setup::new().subject(&volume).at_stand_in(&endpoint);
            let path = setup.folder().join("utf16");
            let content: Vec<u8> = format!("\u{feff}{plain}\r\n").encode_utf16().flat_map(order).collect();
            fs::write(&path, content).expect("a temporary directory");
            let setup = setup
                .unset(&variable.replace("file_", ""))
                .set(variable, path.to_str().expect("UTF-8"))
                .arguments("--timeout 1s");
            let done = setup.done(&["once"]);
            assert_eq!(done.code, Some(1), "{variable}: {}", done.stderr);
            let told =
                done.stderr.lines().find(|line| line.contains(&format!("code={code} "))).unwrap_or_default();
            assert!(told.contains("it is UTF-16: save it as UTF-8"), "{variable}: {}", done.stderr);
        }
    }
    assert!(endpoint.heard().is_empty());
}

#[test]
fn f153_a_reference_that_kubernetes_did_not_expand_is_reported_and_sent_as_it_is() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    let setup = Setup::new()
        .subject(&volume)
        .at_stand_in(&endpoint)
        .set("dex_basic_auth", "incus:$(CLIENT_SECRET)")
        .set("dex_resource", "$(literal)");
    let told = [
        "dex_basic_auth contains $(CLIENT_SECRET), which Kubernetes did not expand: define CLIENT_SECRET before \
         dex_basic_auth in env, or in envFrom",
        "dex_resource contains $(literal), which Kubernetes did not expand",
    ];
    let done = setup.done(&["once"]);
    assert_eq!(done.code, Some(0), "a reference may be meant literally: {}", done.stderr);
    let heard = endpoint.heard().pop().expect("an exchange");
    assert_eq!(heard.field("resource").as_deref(), Some("$(literal)"));
    let checked = setup.done(&["check"]);
    for words in told {
        assert_eq!(done.stderr.matches(words).count(), 1, "{}", done.stderr);
        assert!(checked.stdout.contains(words), "{}", checked.stdout);
    }
}

/// What makes a setting wrong is reported beside it.
#[test]
fn f153_a_setting_that_is_wrong_for_want_of_an_expansion_is_reported_with_its_reason() {
    let volume = Volume::with("eyJh.eyJi.canary");
    let setup = Setup::new()
        .subject(&volume)
        .set("dex_endpoint", "https://dex.example/token")
        .set("DEXSIDECAR_OUTPUT_MODE", "$(MODE)");
    let told = "DEXSIDECAR_OUTPUT_MODE contains $(MODE), which Kubernetes did not expand";
    for command in ["run", "once"] {
        let done = setup.done(&[command]);
        assert_eq!(done.code, Some(78), "{}", done.stderr);
        assert_eq!(done.stderr.matches(told).count(), 1, "{}", done.stderr);
    }
    let checked = setup.done(&["check"]);
    assert!(checked.stdout.contains(told), "{}", checked.stdout);
}
