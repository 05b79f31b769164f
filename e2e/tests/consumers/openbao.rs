//! OpenBao's JWT login, and its agent, which deletes the token file unless it is configured not to.

use std::fs;
use std::path::{Path, PathBuf};

use dexsidecar_e2e::consumer_page::{Page, Transcript};
use dexsidecar_e2e::process::Process;
use dexsidecar_fetch::counterparts::{OPENBAO, Source};
use serde_json::json;

use crate::world::{HOME, Sidecar, World, install, start, transcript, until, until_expired};
use crate::{ConsumerTest, test};

pub(crate) const TESTS: &[ConsumerTest] = &[
    test!(openbao_accepts_each_new_token_and_no_other, NEEDS),
    test!(a_token_file_that_the_agent_of_openbao_deletes_is_restored, NEEDS),
];

const NEEDS: &[Source] = &[Source::Wheel(OPENBAO)];

fn program() -> PathBuf {
    OPENBAO.unpacked().expect("it is in the cache")
}

/// A server in dev mode with the set-up of the page, whose tokens live for 10 s, and an agent.
struct OpenBao {
    address: String,
    /// The directory in which the agent puts its token of OpenBao.
    directory: PathBuf,
    _server: Process,
}

impl OpenBao {
    fn start(page: &Page, port: u16, directory: &str) -> Self {
        install("bao", &program());
        fs::create_dir_all(directory).expect("/run is writable");
        let arguments = format!(
            "server -dev -dev-root-token-id=root -dev-listen-address=127.0.0.1:{port} -dev-no-store-token"
        );
        let server = start("bao", &program(), &arguments, &[("HOME", HOME)]);
        let bao = Self {
            address: format!("http://127.0.0.1:{port}"),
            directory: directory.into(),
            _server: server,
        };
        let administrator = bao.transcript("root");
        until("OpenBao is ready", || {
            administrator.quietly("bao status -format=json").contains("\"sealed\": false")
        });
        let set_up = page.file("/etc/openbao/setup.sh").replace("15m", "10s");
        let done = administrator.quietly(&format!("set -e\n{set_up}echo done"));
        assert!(done.ends_with("done\n"), "{done}");
        bao
    }

    /// A transcript whose commands have this token of OpenBao.
    fn transcript(&self, token: &str) -> Transcript {
        transcript(&[("BAO_ADDR", &self.address), ("BAO_TOKEN", token)])
    }

    /// The status of a login with this token of Dex.
    fn login(&self, token: Option<&str>) -> String {
        let body = json!({"role": "app", "jwt": token.unwrap_or_default()});
        transcript(&[]).quietly(&format!(
            "curl -sS -o /dev/null -w '%{{http_code}}' -d '{body}' {}/v1/auth/jwt/login",
            self.address
        ))
    }

    /// The agent's token of OpenBao.
    fn sink(&self) -> PathBuf {
        self.directory.join("token")
    }

    /// Starts the agent of the page with this configuration.
    fn agent(&self, config: &str) -> Process {
        let config = config.replace("http://127.0.0.1:8200", &self.address);
        let config = config.replace("/var/run/openbao/token", &self.sink().display().to_string());
        let file = self.directory.join("agent.hcl");
        fs::write(&file, config).expect("/run is writable");
        start("bao agent", &program(), &format!("agent -config={}", file.display()), &[("HOME", HOME)])
    }

    /// Whether the agent has logged in with another token than this one, and its own token reads
    /// the secret.
    fn has_logged_in(&self, than: &str) -> bool {
        let token = fs::read_to_string(self.sink()).unwrap_or_default();
        token != than && self.transcript(&token).quietly(READ) == "hunter2"
    }
}

/// Reads the secret of the page.
const READ: &str = "bao kv get -mount=secret -field=password app";

fn openbao_accepts_each_new_token_and_no_other(world: &World) {
    let page = Page::of("openbao");
    let mut sidecar = Sidecar::start(&page, "/etc/dexsidecar/openbao.yaml");
    let first = sidecar.until_another_token("");
    let bao = OpenBao::start(&page, 8200, "/var/run/openbao");
    page.result("answers", &world.answers("openbao", "200", |token| bao.login(token)));

    let config = page.file("/etc/openbao/agent.hcl");
    let mut agent = bao.agent(config);
    agent.until("the agent has logged in", |_| bao.has_logged_in(""));
    let mut transcript = transcript(&[("BAO_ADDR", &bao.address)]);
    let with_the_sink = format!("BAO_TOKEN=$(cat /var/run/openbao/token) {READ}");
    transcript.run(&with_the_sink);
    sidecar.until_another_token(&first);
    until_expired(&first);
    until("the first token is refused", || bao.login(Some(&first)) == "400");
    let before = fs::read_to_string(bao.sink()).expect("a sink");
    agent.until("the agent has logged in with a new token", |_| bao.has_logged_in(&before));
    transcript.meanwhile(
        "dexsidecar refreshed the token, OpenBao refuses the first one, and the agent logged in again",
    );
    assert_eq!(transcript.run(&with_the_sink), "hunter2");
    page.result("transcript", &transcript.block());
}

fn a_token_file_that_the_agent_of_openbao_deletes_is_restored(_: &World) {
    let page = Page::of("openbao");
    let token = Path::new("/var/run/secrets/dex/openbao-default/token");
    let mut sidecar = Sidecar::start_with(&page, "/etc/dexsidecar/openbao.yaml", |config| {
        // Files are polled every 30 s by default.
        config.replace("/openbao/token", "/openbao-default/token") + "    refresh_interval: 1s\n"
    });
    sidecar.until_another_token("");
    let bao = OpenBao::start(&page, 8210, "/run/openbao-default");
    let config = page.file("/etc/openbao/agent.hcl").replace("/openbao/token", "/openbao-default/token");
    let config = config.replace("      remove_jwt_after_reading = false\n", "");
    let mut agent = bao.agent(&config);
    let mut before = String::new();
    for times in 1..=3 {
        agent.until("the agent has logged in", |_| bao.has_logged_in(&before));
        before = fs::read_to_string(bao.sink()).expect("a sink");
        sidecar.process.until_logged("output_restored", times);
    }
    agent.kill();
    sidecar.process.until("the token file is there", |_| token.exists());
}
