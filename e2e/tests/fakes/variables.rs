//! Values as manifests and Secrets deliver them: with a line break at the end, with a byte order
//! mark, in UTF-16, or with a reference that Kubernetes did not expand.

use std::fs;

use dexsidecar_e2e::certificates::Authority;
use dexsidecar_e2e::fake_dex::FakeDex;
use dexsidecar_e2e::fixture::Fixture;
use dexsidecar_e2e::projected_volume::ProjectedVolume;
use dexsidecar_e2e::sidecar::{Completed, Setup, failed_step, report};

/// The warnings about settings in a log that contain this text.
fn warnings(completed: &Completed, text: &str) -> usize {
    let events = completed.events("setting_warning level=warn");
    events.iter().filter(|event| event["warning"].as_str().is_some_and(|it| it.contains(text))).count()
}

/// `kubectl create secret --from-file`, with a file that `echo` wrote, makes values with a line
/// break.
#[test]
fn f152_every_variable_may_end_with_a_line_break() {
    let authority = Authority::new();
    let tls = authority.server(&[]).server_config();
    let fixture = Fixture::at(FakeDex::start_at("127.0.0.1:0", Some(tls)));
    let plain = || {
        fixture
            .setup()
            .set("SSL_CERT_FILE", authority.file().to_str().expect("UTF-8"))
            .set("SSL_CERT_DIR", "/does/not/exist")
            .set("DEXSIDECAR_OUTPUT_MODE", "0600")
            .set("DEXSIDECAR_ATTEMPT_TIMEOUT", "10s")
            .set("dex_refresh_before", "5m")
            .set("NO_PROXY", "127.0.0.1")
            .set("HTTPS_PROXY", "http://127.0.0.1:1")
    };
    assert_eq!(plain().execute(&["once"]).code, Some(0));
    for end in ["\n", "\r\n"] {
        let clean = plain();
        let output = clean.output();
        let variables: Vec<(String, String)> = clean
            .assignments()
            .iter()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let with_breaks =
            variables.iter().fold(clean, |setup, (name, value)| setup.set(name, format!("{value}{end}")));
        let once = with_breaks.execute(&["once"]);
        assert_eq!(once.code, Some(0), "{}", once.stderr);
        assert!(fixture.dex.issued().contains(&fs::read_to_string(&output).expect("a token file")));
        for (name, _) in &variables {
            let warning = format!("{name} ends with a line break, which was removed: ");
            assert_eq!(warnings(&once, &warning), 1, "{name}: {}", once.stderr);
        }
    }
    let requests = fixture.dex.requests();
    assert_eq!(requests.len(), 3);
    for with_breaks in &requests[1..] {
        assert_eq!(with_breaks.body, requests[0].body);
        assert_eq!(with_breaks.header("authorization"), requests[0].header("authorization"));
    }
}

#[test]
fn f152_a_proxy_variable_may_end_with_a_line_break() {
    let volume = ProjectedVolume::with("eyJh.eyJi.canary");
    for name in ["HTTPS_PROXY", "https_proxy"] {
        let setup = Setup::new()
            .subject(&volume)
            .set("dex_endpoint", "https://dex.invalid/token")
            .set(name, "http://127.0.0.1:1\n");
        let failed = failed_step(&report(&setup));
        assert_eq!(failed["code"], "proxy_failed", "{failed:#}");
        let message = failed["message"].as_str().unwrap_or_default();
        let expected = format!("http://127.0.0.1:1 ({name}): connection refused: ");
        assert!(message.contains(&expected), "{failed:#}");
    }
}

#[test]
fn f152_a_byte_order_mark_and_a_line_break_of_a_file_are_never_sent() {
    let fixture = Fixture::new();
    fixture.volume.replace_token("\u{feff}eyJh.eyJi.canary\r\n");
    for (start, end) in [("\u{feff}", ""), ("\u{feff}", "\r\n"), ("", "\n")] {
        let setup = fixture.setup();
        let file = |name: &str, value: &str| {
            let path = setup.directory().join(name);
            fs::write(&path, format!("{start}{value}{end}")).expect("a temporary directory");
            path.to_str().expect("UTF-8").to_owned()
        };
        let (connector, client) = (file("connector", "k3s"), file("client", "incus:canary-secret"));
        let setup = setup
            .unset("dex_connector_id")
            .unset("dex_basic_auth")
            .set("dex_file_connector_id", connector)
            .set("dex_file_basic_auth", client);
        let once = setup.execute(&["once"]);
        assert_eq!(once.code, Some(0), "{}", once.stderr);
        let request = fixture.dex.requests().pop().expect("an exchange");
        assert_eq!(request.field("connector_id").as_deref(), Some("k3s"));
        assert_eq!(request.field("subject_token").as_deref(), Some("eyJh.eyJi.canary"));
        assert_eq!(request.header("authorization"), Some("Basic aW5jdXM6Y2FuYXJ5LXNlY3JldA=="));
    }
}

#[test]
fn f152_a_file_in_utf_16_is_a_failure_that_names_the_encoding() {
    let fixture = Fixture::new();
    for (variable, plain, code) in [
        ("dex_file_connector_id", "canary", "form_file_unreadable"),
        ("dex_file_basic_auth", "incus:canary", "form_file_unreadable"),
        ("dex_file_subject_token", "eyJh.eyJi.canary", "subject_token_malformed"),
    ] {
        for order in [u16::to_le_bytes, u16::to_be_bytes] {
            let setup = fixture.setup();
            let path = setup.directory().join("utf16");
            let content: Vec<u8> = format!("\u{feff}{plain}\r\n").encode_utf16().flat_map(order).collect();
            fs::write(&path, content).expect("a temporary directory");
            let setup =
                setup.unset(&variable.replace("file_", "")).set(variable, path.to_str().expect("UTF-8"));
            let once = setup.once_until_failure();
            assert_eq!(once.code, Some(1), "{variable}: {}", once.stderr);
            let failures = once.events(&format!("attempt_failed code={code}"));
            let error = failures.first().and_then(|failure| failure["error"].as_str()).unwrap_or_default();
            assert!(error.contains("it is UTF-16: save it as UTF-8"), "{variable}: {}", once.stderr);
        }
    }
    assert!(fixture.dex.requests().is_empty());
}

#[test]
fn f153_a_reference_that_kubernetes_did_not_expand_is_reported_and_sent_unchanged() {
    let fixture = Fixture::new();
    let setup =
        fixture.setup().set("dex_basic_auth", "incus:$(CLIENT_SECRET)").set("dex_resource", "$(literal)");
    let expected = [
        "dex_basic_auth contains $(CLIENT_SECRET), which Kubernetes did not expand: define CLIENT_SECRET before \
         dex_basic_auth in env, or in envFrom",
        "dex_resource contains $(literal), which Kubernetes did not expand",
    ];
    let once = setup.execute(&["once"]);
    assert_eq!(once.code, Some(0), "a reference may be meant literally: {}", once.stderr);
    let request = fixture.dex.requests().pop().expect("an exchange");
    assert_eq!(request.field("resource").as_deref(), Some("$(literal)"));
    let check = setup.execute(&["check"]);
    for warning in expected {
        assert_eq!(warnings(&once, warning), 1, "{}", once.stderr);
        assert!(check.stdout.contains(warning), "{}", check.stdout);
    }
}

#[test]
fn f153_a_missing_expansion_is_reported_beside_the_error_that_it_causes() {
    let volume = ProjectedVolume::with("eyJh.eyJi.canary");
    let setup = Setup::new()
        .subject(&volume)
        .set("dex_endpoint", "https://dex.example/token")
        .set("DEXSIDECAR_OUTPUT_MODE", "$(MODE)");
    let warning = "DEXSIDECAR_OUTPUT_MODE contains $(MODE), which Kubernetes did not expand";
    for command in ["run", "once"] {
        let completed = setup.execute(&[command]);
        assert_eq!(completed.code, Some(78), "{}", completed.stderr);
        assert_eq!(warnings(&completed, warning), 1, "{}", completed.stderr);
        assert_eq!(completed.logged("setting_invalid setting=DEXSIDECAR_OUTPUT_MODE"), 1);
    }
    let check = setup.execute(&["check"]);
    assert!(check.stdout.contains(warning), "{}", check.stdout);
}
