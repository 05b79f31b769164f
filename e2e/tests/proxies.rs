//! Through a proxy, to a real Dex: it sees where to, and never what.

use std::fs;
use std::io::{self, copy};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dexsidecar_e2e::certificates::Authority;
use dexsidecar_e2e::dex::{Dex, Setup as DexSetup};
use dexsidecar_e2e::issuer::Issuer;
use dexsidecar_e2e::sidecar::{Setup, assert_no_secret};
use dexsidecar_e2e::volume::Volume;
use dexsidecar_e2e::wire::{Heard, Line, Wire, answer};

/// What a proxy heard, one each connection.
type Heads = Arc<Mutex<Vec<String>>>;

/// Makes a tunnel to whatever is asked for on this machine, or answers with these bytes.
fn proxy(heads: &Heads, refusal: Option<Vec<u8>>) -> Wire {
    let heads = Arc::clone(heads);
    Wire::start("127.0.0.1:0", None, move |heard: &Heard, line: &mut dyn Line| {
        heads.lock().expect("no thread has fallen").push(heard.head.clone() + &heard.body);
        match &refusal {
            Some(refusal) => line.write_all(refusal),
            None => tunnel(line.socket(), &heard.target),
        }
    })
}

/// Whatever the name, it is this machine: the proxy's view of names is its own.
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

/// Nothing that is this machine by its address or by `localhost` goes through a proxy, so that Dex has a name here that only
/// the proxy knows.
#[test]
fn f018_a_proxy_makes_a_tunnel_to_a_real_dex_and_learns_its_place_and_no_more() {
    let (issuer, authority) = (Issuer::start(), Authority::new());
    let certificate = Some(authority.server(&["dex.beyond.test"]));
    let dex = Dex::start(&issuer, &DexSetup { certificate, ..DexSetup::default() });
    let heads = Heads::default();
    let proxy = proxy(&heads, None);
    let volume = Volume::with(&issuer.token(600));
    let port = dex.endpoint().trim_end_matches("/dex/token").rsplit(':').next().expect("a port").to_owned();
    let setup = Setup::new()
        .subject(&volume)
        .set("dex_endpoint", format!("https://dex.beyond.test:{port}/dex/token"))
        .set("DEXSIDECAR_CA_FILE", authority.file().to_str().expect("UTF-8"))
        .set("HTTPS_PROXY", format!("http://me:canary-password@{}", proxy.address()));
    let done = setup.done(&["once", "--timeout", "10s"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(fs::read_to_string(setup.output()).expect("it is there").starts_with("eyJ"));
    let heads = heads.lock().expect("no thread has fallen").clone();
    assert_eq!(heads.len(), 1, "{heads:?}");
    // Its own password is all that it is told, and nothing is asked of it but a tunnel.
    let password = STANDARD.encode("me:canary-password");
    assert!(heads[0].starts_with(&format!("CONNECT dex.beyond.test:{port} ")), "{heads:?}");
    assert!(heads[0].contains(&format!("Basic {password}")), "{heads:?}");
    assert_no_secret(&heads[0].replace(&password, ""));
}

#[test]
fn f018_a_proxy_that_refuses_is_told_and_hears_nothing_of_the_exchange() {
    let heads = Heads::default();
    let refuses = proxy(&heads, Some(answer("407 Proxy Authentication Required", &[], "<html>")));
    let volume = Volume::with("eyJh.eyJi.canary");
    let setup = Setup::new()
        .subject(&volume)
        .set("dex_endpoint", "https://dex.beyond.test/token")
        .set("dex_basic_auth", "user:canary-secret")
        .set("HTTPS_PROXY", format!("http://{}", refuses.address()));
    let done = setup.done(&["once", "--timeout", "1s"]);
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert!(done.stderr.contains("code=proxy_failed") && done.stderr.contains("407"), "{}", done.stderr);
    let heads = heads.lock().expect("no thread has fallen").join("\n");
    assert!(heads.starts_with("CONNECT dex.beyond.test:443 "), "{heads}");
    assert_no_secret(&heads);
}
