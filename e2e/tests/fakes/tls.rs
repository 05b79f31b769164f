//! Certificates of many kinds, served by Go's crypto/tls. For each, Go's client shows whether a Go
//! program accepts it. The program is the one that ships, with the cryptography that it links.

#![expect(clippy::unwrap_used, reason = "a test fails where it panics")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Stdio};

use dexsidecar_e2e::prebuilt;
use dexsidecar_e2e::process::killed_with_parent;
use dexsidecar_e2e::projected_volume::ProjectedVolume;
use dexsidecar_e2e::sidecar::{Setup, failed_step, report, shipped};
use dexsidecar_fetch::counterparts::GO_TLS_SERVER;

/// A server in Go, which is killed when dropped.
struct Server {
    child: Child,
    stdin: ChildStdin,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    directory: tempfile::TempDir,
}

/// One kind of certificate that is served.
struct Served {
    port: u16,
    trusted: String,
    /// The result of Go's client: `ok`, or its error.
    go: String,
}

impl Server {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let program = prebuilt::program(&GO_TLS_SERVER);
        let mut child = killed_with_parent(&program)
            .arg(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, stdin, lines, directory }
    }

    fn serves(&mut self, kind: &str) -> Served {
        writeln!(self.stdin, "{kind}").unwrap();
        let line = self.lines.next().expect("an answer").unwrap();
        let mut words = line.splitn(4, ' ');
        assert_eq!(words.next(), Some(kind));
        Served {
            port: words.next().unwrap().parse().unwrap(),
            trusted: words.next().unwrap().to_owned(),
            go: words.next().unwrap().to_owned(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = self.directory.path();
    }
}

fn setup(served: &Served, volume: &ProjectedVolume) -> Setup {
    Setup::new()
        .subject(volume)
        .program(&[&shipped()])
        .set("dex_endpoint", format!("https://127.0.0.1:{}/token", served.port))
        .set("DEXSIDECAR_CA_FILE", served.trusted.clone())
}

/// Asserts that Go and the program accept these kinds.
fn accepted(kinds: &[&str]) {
    let mut server = Server::start();
    let volume = ProjectedVolume::with("eyJh.eyJi.canary");
    for kind in kinds {
        let served = server.serves(kind);
        assert_eq!(served.go, "ok", "{kind}");
        let done = setup(&served, &volume).execute(&["once"]);
        assert_eq!(done.code, Some(0), "{kind}: {}", done.stderr);
    }
}

/// Asserts that the program refuses these kinds, with this code and these words in the failure.
fn refused(kinds: &[(&str, &str, &[&str])]) {
    let mut server = Server::start();
    let volume = ProjectedVolume::with("eyJh.eyJi.canary");
    for (kind, code, words) in kinds {
        let served = server.serves(kind);
        let setup = setup(&served, &volume);
        let failed = failed_step(&report(&setup));
        assert_eq!(failed["code"], *code, "{kind} (Go: {}): {failed:#}", served.go);
        let text = failed.to_string();
        for word in *words {
            assert!(text.contains(word), "{kind} (Go: {}): {word} is not in {failed:#}", served.go);
        }
        for raw in ["Other(", "OtherError", "http://", "AlgorithmIdentifier", "["] {
            let message = failed["message"].as_str().unwrap();
            assert!(!message.contains(raw), "{kind}: {message}");
        }
    }
}

#[test]
fn f134_a_certificate_in_the_ca_file_is_accepted_whoever_issued_it() {
    accepted(&[
        "plain",
        "leaf-trusted-itself",
        "leaf-trusted-itself-tls12",
        "leaf-trusted-itself-expired-intermediate",
        "leaf-ca-true-trusted-itself",
    ]);
    refused(&[
        ("leaf-trusted-itself-expired", "certificate_expired", &[]),
        (
            "leaf-trusted-itself-other-name",
            "certificate_wrong_name",
            &["not valid for 127.0.0.1; subject alternative names: dex.example"],
        ),
        ("leaf-of-another-trusted", "certificate_untrusted", &["CN=leaf is issued by CN=root"]),
        ("issued-by-a-trusted-leaf", "certificate_untrusted", &[]),
        ("client-only-ca-true-trusted-itself", "certificate_invalid", &["extended key usage: clientAuth ("]),
    ]);
}

#[test]
fn f135_an_unsupported_critical_extension_is_named_and_accepted_if_the_certificate_is_in_the_ca_file() {
    accepted(&[
        "leaf-policies-trusted-itself",
        "leaf-policies-trusted-itself-tls12",
        "intermediate-constraints-trusted-itself",
    ]);
    let code = "certificate_extension_unsupported";
    refused(&[
        ("leaf-policies", code, &["certificatePolicies (2.5.29.32) of CN=leaf", "CA file"]),
        ("intermediate-constraints", code, &["policyConstraints (2.5.29.36) of CN=inspection", "CA file"]),
        ("intermediate-inhibit", code, &["inhibitAnyPolicy (2.5.29.54) of CN=inspection"]),
        (
            "leaf-policies-trusted-itself-other-name",
            "certificate_wrong_name",
            &["subject alternative names: dex.example"],
        ),
    ]);
}

#[test]
fn f136_p_521_is_accepted_in_every_certificate_and_as_a_group() {
    accepted(&[
        "p521-ca",
        "p521-intermediate-sha256",
        "p521-intermediate-sha384",
        "p521-key",
        "p521-key-tls12",
        "p521-group",
    ]);
}

#[test]
fn f136_other_keys_and_signatures_are_accepted_or_named() {
    accepted(&["p384-group", "rsa2048-pss", "rsa4096-root-sha512", "ed25519"]);
    refused(&[(
        "p256-sha512",
        "certificate_signature_unsupported",
        &["CN=leaf is signed with ECDSA and SHA-512"],
    )]);
}

#[test]
fn f137_an_rsa_key_that_is_too_small_is_named() {
    let code = "certificate_key_unsupported";
    refused(&[
        ("rsa1024-key", code, &["the key of CN=leaf is RSA 1024", "too small", "2048"]),
        ("rsa1024-intermediate", code, &["the key of CN=between is RSA 1024"]),
        ("rsa1024-root", code, &["the key of the trusted issuer is RSA 1024"]),
    ]);
}

#[test]
fn f138_a_large_chain_is_accepted_or_named_and_not_reported_as_plain_http() {
    accepted(&["chain-60k"]);
    let code = "certificate_chain_too_large";
    refused(&[("chain-100k", code, &["64 KiB"]), ("chain-300k", code, &["64 KiB"])]);
}

#[test]
fn f140_an_issued_certificate_with_ca_true_is_refused_with_a_fix() {
    refused(&[
        (
            "leaf-ca-true",
            "certificate_is_ca",
            &["CA:TRUE", "only if the certificate itself is in the CA file"],
        ),
        (
            "client-only",
            "certificate_invalid",
            &["CN=leaf is not a server certificate (extended key usage: clientAuth (", "codeSigning ("],
        ),
        ("name-constraints", "certificate_invalid", &["the name constraints of a CA in the chain"]),
    ]);
}
