//! Exchanges through proxies with a real Dex. A proxy sees the destination and nothing else.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::io::{self, copy};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dexsidecar_e2e::certificates::Authority;
use dexsidecar_e2e::dex::{Dex, DexSetup, free_port};
use dexsidecar_e2e::fake_api_server::FakeApiServer;
use dexsidecar_e2e::fake_dex::FakeDex;
use dexsidecar_e2e::log_events::select;
use dexsidecar_e2e::prebuilt::packages;
use dexsidecar_e2e::process::killed_with_parent;
use dexsidecar_e2e::projected_volume::ProjectedVolume;
use dexsidecar_e2e::raw_http::{Connection, HttpRequest, RawServer, answer};
use dexsidecar_e2e::sidecar::{Setup, assert_no_secret, failed_step, program, report};
use dexsidecar_fetch::counterparts::PROXIES;
use serde_json::json;
use tempfile::TempDir;

/// The requests that a proxy received, one for each connection.
type Heads = Arc<Mutex<Vec<String>>>;

/// A proxy that opens a tunnel to the requested port of this machine, or responds with these bytes.
fn proxy(heads: &Heads, refusal: Option<Vec<u8>>) -> RawServer {
    let heads = Arc::clone(heads);
    RawServer::start("127.0.0.1:0", None, move |request: &HttpRequest, connection: &mut dyn Connection| {
        heads.lock().expect("no thread has panicked").push(request.head.clone() + &request.body);
        match &refusal {
            Some(refusal) => connection.write_all(refusal),
            None => tunnel(connection.socket(), &request.target),
        }
    })
}

/// Connects to this machine whatever the name is, since the proxy resolves names itself.
fn tunnel(client: &TcpStream, to: &str) -> io::Result<()> {
    let port = to.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or_default();
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    let (mut out, mut back) = (client.try_clone()?, client.try_clone()?);
    io::Write::write_all(&mut back, b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    let (mut there, mut from) = (server.try_clone()?, server);
    let sending = std::thread::spawn(move || copy(&mut out, &mut there));
    copy(&mut from, &mut back)?;
    back.shutdown(std::net::Shutdown::Both)?;
    let _ = sending.join();
    Ok(())
}

/// Requests to loopback addresses and `localhost` use no proxy, so Dex has a name that only the
/// proxy knows.
#[test]
fn f018_a_proxy_opens_a_tunnel_to_dex_and_sees_only_host_and_port() {
    let (issuer, authority) = (FakeApiServer::start(), Authority::new());
    let certificate = Some(authority.server(&["dex.behind-proxy.test"]));
    let dex = Dex::start(&issuer, &DexSetup { certificate, ..DexSetup::default() });
    let heads = Heads::default();
    let proxy = proxy(&heads, None);
    let volume = ProjectedVolume::with(&issuer.token(600));
    let port = dex.endpoint().trim_end_matches("/dex/token").rsplit(':').next().expect("a port").to_owned();
    let setup = Setup::new()
        .subject(&volume)
        .set("dex_endpoint", format!("https://dex.behind-proxy.test:{port}/dex/token"))
        .set("DEXSIDECAR_CA_FILE", authority.file().to_str().expect("UTF-8"))
        .set("HTTPS_PROXY", format!("http://me:canary-password@{}", proxy.address()));
    let done = setup.execute(&["once", "--timeout", "10s"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(fs::read_to_string(setup.output()).expect("the token file exists").starts_with("eyJ"));
    let heads = heads.lock().expect("no thread has panicked").clone();
    assert_eq!(heads.len(), 1, "{heads:?}");
    // It gets CONNECT with its own password, and nothing else.
    let password = STANDARD.encode("me:canary-password");
    assert!(heads[0].starts_with(&format!("CONNECT dex.behind-proxy.test:{port} ")), "{heads:?}");
    assert!(heads[0].contains(&format!("Basic {password}")), "{heads:?}");
    assert_no_secret(&heads[0].replace(&password, ""));
}

#[test]
fn f018_a_proxy_that_refuses_is_reported_and_sees_nothing_of_the_exchange() {
    let heads = Heads::default();
    let refuses = proxy(&heads, Some(answer("407 Proxy Authentication Required", &[], "<html>")));
    let volume = ProjectedVolume::with("eyJh.eyJi.canary");
    let setup = Setup::new()
        .subject(&volume)
        .set("dex_endpoint", "https://dex.behind-proxy.test/token")
        .set("dex_basic_auth", "user:canary-secret")
        .set("HTTPS_PROXY", format!("http://{}", refuses.address()));
    let done = setup.execute(&["once", "--timeout", "3s"]);
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    let failed = &select(&done.stderr, "attempt_failed")[0];
    assert_eq!((&failed["code"], &failed["step"]), (&json!("proxy_failed"), &json!("tcp")), "{failed:#}");
    assert!(failed["error"].as_str().is_some_and(|error| error.contains("407")), "{failed:#}");
    let heads = heads.lock().expect("no thread has panicked").join("\n");
    assert!(heads.starts_with("CONNECT dex.behind-proxy.test:443 "), "{heads}");
    assert_no_secret(&heads);
}

/// A real proxy in a mount namespace in which `dex.inside.test` is this machine.
struct RealProxy {
    child: Child,
    port: u16,
    directory: TempDir,
}

impl RealProxy {
    /// Starts it. `arguments` gets its port and a directory for its files.
    fn start(program: &str, arguments: impl Fn(u16, &Path) -> Vec<String>) -> Self {
        let program = packages(&PROXIES).join("usr/bin").join(program);
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("hosts"), "127.0.0.1 localhost dex.inside.test\n").unwrap();
        let port = free_port();
        let mut command = in_namespace(directory.path());
        command
            .arg(program)
            .args(arguments(port, directory.path()))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let proxy = Self { child, port, directory };
        let until = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(Instant::now() < until, "the proxy does not listen");
            std::thread::yield_now();
        }
        proxy
    }

    fn tinyproxy(more: &str) -> Self {
        Self::start("tinyproxy", |port, directory| {
            let file = directory.join("tinyproxy.conf");
            let text = format!("Port {port}\nListen 127.0.0.1\nAllow 127.0.0.1\nTimeout 20\n{more}\n");
            fs::write(&file, text).unwrap();
            vec!["-d".to_owned(), "-c".to_owned(), file.display().to_string()]
        })
    }

    /// Lets the sidecar run in a namespace like the proxy's.
    fn beside(&self, setup: Setup) -> Setup {
        let command = in_namespace(self.directory.path());
        let words: Vec<&Path> =
            std::iter::once(command.get_program()).chain(command.get_args()).map(Path::new).collect();
        let program = program();
        setup.program(&[&words[..], &[&program]].concat())
    }
}

impl Drop for RealProxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command prefix: the program after it sees the directory's `hosts` as `/etc/hosts`.
fn in_namespace(directory: &Path) -> Command {
    let mut command = killed_with_parent("/usr/bin/unshare".as_ref());
    command.args(["--user", "--map-root-user", "--mount", "/bin/sh", "-ec"]);
    command.arg("mount --bind \"$0\" /etc/hosts; exec \"$@\"").arg(directory.join("hosts"));
    command
}

/// tinyproxy allows CONNECT to port 443 only, like Squid by default.
#[test]
fn f150_plain_http_passes_a_real_proxy_that_allows_connect_to_443_only() {
    let endpoint = FakeDex::start();
    let volume = ProjectedVolume::with("eyJh.eyJi.canary");
    let port = endpoint.address().port();
    for (more, user) in
        [("ConnectPort 443", ""), ("ConnectPort 443\nBasicAuth me canary-password", "me:canary-password@")]
    {
        let proxy = RealProxy::tinyproxy(more);
        let setup = proxy.beside(
            Setup::new()
                .subject(&volume)
                .set("dex_endpoint", format!("http://dex.inside.test:{port}/dex/token"))
                .set("HTTP_PROXY", format!("http://{user}127.0.0.1:{}", proxy.port)),
        );
        let done = setup.execute(&["once"]);
        assert_eq!(done.code, Some(0), "{more}: {}", done.stderr);
        let requests = endpoint.requests();
        let host = format!("dex.inside.test:{port}");
        assert_eq!(requests.last().and_then(|request| request.header("host")), Some(host.as_str()));
        assert!(
            requests.last().is_some_and(|request| request.header("via").is_some()),
            "the request came through the proxy"
        );
    }
}

#[test]
fn f018_f151_real_proxies_carry_an_exchange_with_a_real_dex() {
    let (issuer, authority) = (FakeApiServer::start(), Authority::new());
    let certificate = Some(authority.server(&["dex.inside.test"]));
    let dex = Dex::start(&issuer, &DexSetup { certificate, ..DexSetup::default() });
    let volume = ProjectedVolume::with(&issuer.token(600));
    let port = dex.endpoint().trim_end_matches("/dex/token").rsplit(':').next().expect("a port").to_owned();
    const WITH_USER: &[&str] = &["-u", "me", "-P", "canary-password"];
    let socks = |more: &'static [&'static str]| {
        RealProxy::start("microsocks", move |port, _| {
            let own = ["-i", "127.0.0.1", "-p"].map(str::to_owned);
            let more = more.iter().map(|word| (*word).to_owned());
            own.into_iter().chain([port.to_string()]).chain(more).collect()
        })
    };
    for (scheme, user, proxy) in [
        ("http", "", RealProxy::tinyproxy("")),
        ("socks5", "", socks(&[])),
        ("socks5h", "", socks(&[])),
        ("socks5", "me:canary-password@", socks(WITH_USER)),
    ] {
        let setup = proxy.beside(
            Setup::new()
                .subject(&volume)
                .set("dex_endpoint", format!("https://dex.inside.test:{port}/dex/token"))
                .set("DEXSIDECAR_CA_FILE", authority.file().to_str().expect("UTF-8"))
                .set("HTTPS_PROXY", format!("{scheme}://{user}127.0.0.1:{}", proxy.port)),
        );
        let done = setup.execute(&["once"]);
        assert_eq!(done.code, Some(0), "{scheme} {user}: {}", done.stderr);
        let report = report(&setup);
        let connect = report["steps"].as_array().unwrap().iter().find(|step| step["step"] == "tcp").unwrap();
        let message = connect["message"].as_str().unwrap();
        assert!(message.contains("through the proxy") && message.contains("HTTPS_PROXY"), "{connect:#}");
    }
    // A wrong password is reported as such.
    let proxy = socks(WITH_USER);
    let setup = proxy.beside(
        Setup::new()
            .subject(&volume)
            .set("dex_endpoint", "https://dex.inside.test/dex/token")
            .set("HTTPS_PROXY", format!("socks5://me:canary-wrong@127.0.0.1:{}", proxy.port)),
    );
    let failed = failed_step(&report(&setup));
    assert_eq!(failed["code"], "proxy_failed");
    assert!(
        failed["message"].as_str().unwrap().ends_with("(HTTPS_PROXY): rejected the user and password"),
        "{failed}"
    );
}

/// Some corporate proxies require a User-Agent (psf/requests#2708).
#[test]
fn f149_a_proxy_gets_the_user_agent() {
    let heads = Heads::default();
    let noted = Arc::clone(&heads);
    let proxy = RawServer::start(
        "127.0.0.1:0",
        None,
        move |request: &HttpRequest, connection: &mut dyn Connection| {
            noted.lock().expect("no thread has panicked").push(request.head.clone());
            let agent = request.header("user-agent").unwrap_or_default();
            let status = if agent.starts_with("dexsidecar/") { "502 Bad Gateway" } else { "403 Forbidden" };
            connection.write_all(&answer(status, &[], ""))
        },
    );
    let volume = ProjectedVolume::with("eyJh.eyJi.canary");
    let setup = Setup::new()
        .subject(&volume)
        .set("dex_endpoint", "https://dex.behind-proxy.test/token")
        .set("HTTPS_PROXY", format!("http://{}", proxy.address()));
    let mut sidecar = setup.run();
    sidecar.process.until_logged("attempt_failed code=proxy_failed", 1);
    let failed = &select(&sidecar.process.output(), "attempt_failed")[0];
    let error = failed["error"].as_str().unwrap();
    assert!(error.contains("502") && error.contains("(HTTPS_PROXY)"), "{failed:#}");
}
