//! Incus trusts Dex, and its command line reads the token from a file that it also writes.

use std::fs;
use std::process::Command;

use dexsidecar_e2e::consumer_page::Page;
use dexsidecar_e2e::incus::Incus;
use dexsidecar_fetch::counterparts::{INCUS, Source};
use serde_json::Value;

use crate::world::{CA_FILE, Sidecar, World, install, transcript, until, until_expired};
use crate::{ConsumerTest, test};

pub(crate) const TESTS: &[ConsumerTest] =
    &[test!(incus_and_its_command_line_use_each_new_token, NEEDS).as_root()];

const NEEDS: &[Source] = &[Source::Debian(INCUS)];

const URL: &str = "https://incus.example.com:8443/1.0";
const FILE: &str = "/var/run/secrets/dex/incus/prod.json";

/// How Incus authenticates this token. Without a token it answers 200, too.
fn authentication(token: Option<&str>) -> String {
    let mut command = Command::new("curl");
    command.args(["-sS", "--insecure", "--max-time", "30", URL]);
    if let Some(token) = token {
        command.args(["-H", &format!("Authorization: Bearer {token}")]);
    }
    let output = command.output().expect("curl is installed");
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let auth = answer["metadata"]["auth"].as_str();
    auth.map_or_else(|| answer["error_code"].to_string(), |auth| format!("200, `auth: {auth}`"))
}

/// The token in the file of the command line.
fn token_in_file() -> String {
    let text = fs::read_to_string(FILE).unwrap_or_default();
    let file: Value = serde_json::from_str(&text).unwrap_or_default();
    file["access_token"].as_str().unwrap_or_default().to_owned()
}

fn incus_and_its_command_line_use_each_new_token(world: &World) {
    let page = Page::of("incus");
    page.write_files();
    let mut sidecar = Sidecar::start_with(&page, "/etc/dexsidecar/incus.yaml", |config| {
        // Files are polled every 30 s by default.
        format!("{config}    refresh_interval: 1s\n")
    });
    sidecar.until_another_token("");
    let first = token_in_file();
    let incus = Incus::start_at(&world.dex, 8443);
    until("Incus has Dex's keys", || authentication(Some(&world.issue("incus"))) == "200, `auth: trusted`");
    page.result("answers", &world.answers("incus", "200, `auth: trusted`", authentication));

    // The directory of the file is mounted into the configuration of the command line.
    install("incus", &incus.client_program());
    let libraries = incus.libraries();
    let client = |conf: &str, option: &str| {
        let client =
            transcript(&[("LD_LIBRARY_PATH", &*libraries), ("INCUS_CONF", conf), ("SSL_CERT_FILE", CA_FILE)]);
        let mounted = client.quietly(&format!(
            "mkdir -p {conf}/oidctokens && mount --bind /var/run/secrets/dex/incus {conf}/oidctokens &&
             mount -o remount,bind,{option} {conf}/oidctokens"
        ));
        assert_eq!(mounted, "");
        client
    };
    let add = "timeout 20 incus remote add prod https://incus.example.com:8443 --auth-type oidc --accept-certificate";
    let query = "timeout 20 incus query prod:/1.0 | grep auth_user_name";
    let trusted = "\"auth_user_name\": \"system:serviceaccount:default:app\"";

    // Read-only: the command line leaves the file as it is.
    let mut transcript = client("/run/incus/read-only", "ro");
    transcript.run(add);
    let printed = transcript.run(query);
    assert!(printed.contains(trusted), "{printed}");
    until("a new token is in the file", || token_in_file() != first);
    until_expired(&first);
    until("the first token is refused", || authentication(Some(&first)) == "401");
    transcript.meanwhile("dexsidecar refreshed the token, and Incus refuses the first one");
    let printed = transcript.run(query);
    assert!(printed.contains(trusted), "{printed}");
    assert_eq!(sidecar.process.logged("output_restored"), 0, "{}", sidecar.process.output());

    // Writable: the command line writes the file at its exit.
    let client = client("/run/incus/writable", "rw");
    let added = client.quietly(add);
    assert_eq!(added, "", "the remote is added");
    let writes = sidecar.process.logged("token_written");
    let token = token_in_file();
    let printed = client.quietly(query);
    assert!(printed.contains(trusted), "{printed}");
    if token_in_file() == token {
        sidecar.process.until_logged("token_written", writes + 1);
        assert_eq!(sidecar.process.logged("output_restored"), 0, "{}", sidecar.process.output());
    }
    // As a command does that started before a refresh and exits after it.
    let old = fs::read_to_string(FILE).expect("a token file");
    let old_token = token_in_file();
    until("a new token is in the file", || token_in_file() != old_token);
    let restored = sidecar.process.logged("output_restored");
    fs::write(FILE, old).expect("the file is writable");
    sidecar.process.until_logged("output_restored", restored + 1);
    sidecar.process.until("a new token is in the file", |_| token_in_file() != old_token);
    page.result("transcript", &transcript.block());
}
