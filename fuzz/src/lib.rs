//! Fuzz targets for all input from outside. Each is a function that panics where a property fails.
//!
//! `cargo xtask fuzz` searches for such input with libFuzzer. Each test run replays the files in
//! `corpus` on the stable toolchain: seeds, and input that has broken a property. The input of a
//! target is text where possible, so that a person can read and edit the corpus.

mod config_file;
mod dns;
mod format;

use std::cell::RefCell;
use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dexsidecar_core::claims::Claims;
use dexsidecar_core::config::{Config, Outputs, Probe, RawSettings, RawValue};
use dexsidecar_core::duration::{self, HumanDuration, NotADuration};
use dexsidecar_core::endpoint_url::EndpointUrl;
use dexsidecar_core::exchange::{self, Answer, Exchange, Field, Request, Source, TokenEndpoint as _};
use dexsidecar_core::failure::Failure;
use dexsidecar_core::output::StoredToken;
use dexsidecar_core::response::{self, RequestContext};
use dexsidecar_core::secret::Secret;
use dexsidecar_core::signing_keys::{self, Discovery, Published};
use dexsidecar_core::time::UnixTime;
use dexsidecar_core::token::is_bearer_token;
use dexsidecar_core::token_file::TokenFileState;
use dexsidecar_edge::http_client::{Certificate, HttpEndpoint, Proxies, Roots};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

pub use config_file::config_file;
pub use dns::dns;
pub use format::format;

/// A secret that may stand anywhere in an input. No message of the program contains it.
pub const CANARY: &str = "canary-5f0c1e9b";

/// A function that panics if a property does not hold for these bytes.
pub type Target = fn(&[u8]);

/// The targets by their names. A target's file in `fuzz_targets` and its directory in `corpus` have
/// the same name.
pub const TARGETS: [(&str, Target); 12] = [
    ("answer", answer),
    ("basic", basic),
    ("certificate", certificate),
    ("claims", claims),
    ("config_file", config_file),
    ("dns", dns),
    ("duration", duration),
    ("environment", environment),
    ("format", format),
    ("http", http),
    ("keys", keys),
    ("retry_after", retry_after),
];

/// The URL that the requests of the responses were sent to.
static ENDPOINT: LazyLock<EndpointUrl> =
    LazyLock::new(|| EndpointUrl::parse("http://dex.example/dex/token").expect("a URL").0);

/// The longest message of a failure, in characters.
const LONGEST_MESSAGE: usize = 1_000;

/// A certificate in DER. Its description is one bounded line.
pub fn certificate(data: &[u8]) {
    let Some(certificate) = Certificate::parse(data) else { return };
    for name in [&certificate.subject, &certificate.issuer] {
        // Names are cut after 120 characters, and the last one may be an escape.
        assert!(name.len() <= 140 && name.bytes().all(|b| b == b' ' || b.is_ascii_graphic()), "{name:?}");
    }
    assert!(certificate.key.to_string().len() <= 100);
}

/// A response in the form of `parse_response`. Reading it never panics. A token is a valid bearer
/// token with a bounded lifetime, and the message of a failure is one line without a secret.
pub fn answer(data: &[u8]) {
    let secrets = [Secret::new(CANARY.to_owned())];
    for requested_type in [None, Some("urn:ietf:params:oauth:token-type:id_token")] {
        let context = RequestContext {
            endpoint: &ENDPOINT,
            now: UnixTime::from_secs(1_800_000_000),
            requested_type,
            secrets: &secrets,
        };
        match response::read(&parse_response(data), context) {
            Ok(token) => {
                assert!(is_bearer_token(token.token.expose()));
                assert!(
                    !token.lifetime.is_zero() && token.lifetime <= Duration::from_secs(10 * 365 * 86_400)
                );
                assert!(!token.differing_type.is_some_and(|text| text.contains(CANARY)));
            }
            Err(failure) => check_message(&failure),
        }
    }
}

/// A `Retry-After`, and a `Date` on the second line. The delay is at most five minutes. If the
/// `Date` is valid, the delay does not depend on the clock of this node.
pub fn retry_after(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.split('\n').map(str::to_owned);
    let answer = Answer { status: 503, retry_after: lines.next(), date: lines.next(), ..Answer::default() };
    let wait = |now: u64| {
        let context = RequestContext {
            endpoint: &ENDPOINT,
            now: UnixTime::from_secs(now),
            requested_type: None,
            secrets: &[],
        };
        response::read(&answer, context).expect_err("503 brings no token").retry_after
    };
    let (early, late) = (wait(0), wait(4_000_000_000));
    for wait in [early, late] {
        assert!(wait.is_none_or(|wait| wait <= Duration::from_secs(300)));
    }
    let asked_for = answer.retry_after.as_deref().unwrap_or_default().trim();
    match asked_for.parse::<u64>() {
        Ok(seconds) if asked_for.bytes().all(|byte| byte.is_ascii_digit()) => {
            assert_eq!(early, Some(Duration::from_secs(seconds.min(300))));
        }
        _ => {}
    }
    // A `Retry-After` that equals a valid `Date` is a delay of zero.
    let echoed = Answer { retry_after: answer.date.clone(), ..answer.clone() };
    let context = RequestContext {
        endpoint: &ENDPOINT,
        now: UnixTime::from_secs(0),
        requested_type: None,
        secrets: &[],
    };
    let from_itself = response::read(&echoed, context).expect_err("503 brings no token").retry_after;
    let is_number = answer.date.as_deref().is_some_and(|d| d.trim().bytes().all(|b| b.is_ascii_digit()));
    if from_itself == Some(Duration::ZERO) && !is_number {
        assert_eq!(early, late);
    }
}

/// A duration in Go's notation. Durations add up as in Go, and an error does not quote the text.
pub fn duration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let read = duration::parse(text);
    if let Err(why) = &read {
        assert!(!why.to_string().contains(CANARY));
    }
    let Ok(length) = read else { return };
    assert!(HumanDuration(length).to_string().len() <= 24);
    let same = duration::parse(&format!("{}ns", length.as_nanos()));
    assert_eq!(same, Ok(length), "written in nanoseconds");
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    assert_eq!(duration::parse(&format!("+{unsigned}")), Ok(length), "with a sign");
    if unsigned != "0" {
        // A duration is the sum of its elements, in any number and order.
        let twice = duration::parse(&format!("{unsigned}{unsigned}"));
        assert!(twice == Ok(length * 2) || twice == Err(NotADuration::TooLong), "{twice:?}");
        assert_eq!(duration::parse(&format!("0s{unsigned}")), Ok(length), "after 0s");
        assert_eq!(duration::parse(&format!("{unsigned}.0h")), duration::parse(&format!("{unsigned}0.0h")));
    }
}

/// Lines of `NAME=VALUE` and `--option=VALUE`. They are a configuration, or problems that name the
/// setting and the fix. No message quotes a value.
pub fn environment(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut raw = RawSettings::default();
    let mut canary_in_a_name = false;
    for line in text.lines() {
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        canary_in_a_name |= name.contains(CANARY);
        let value = Secret::new(value.to_owned());
        raw.values.push(match name.strip_prefix("--") {
            Some(option) => RawValue::option(option.to_owned(), value),
            None => RawValue::variable(name.to_owned(), value),
        });
    }
    let no_value = |message: &str| assert!(canary_in_a_name || !message.contains(CANARY), "{message}");
    for outputs in [Outputs::Required, Outputs::Optional] {
        match Config::read(&raw, outputs) {
            Ok(config) => {
                config.warnings.iter().for_each(|warning| no_value(&warning.to_string()));
                config.tokens.iter().for_each(|token| sendable(&token.exchange));
            }
            Err(problems) => {
                assert!(!problems.is_empty());
                for problem in problems {
                    assert!(!problem.what.is_empty() && !problem.fix.is_empty());
                    no_value(&problem.to_string());
                }
            }
        }
    }
    if let Err(problems) = Probe::read(&raw) {
        problems.iter().for_each(|problem| no_value(&problem.to_string()));
    }
}

/// URL and form of an exchange are valid in HTTP, and parsing them again gives the same values.
pub(crate) fn sendable(exchange: &Exchange) {
    let url = &exchange.endpoint.url;
    let (again, userinfo) = EndpointUrl::parse(&url.to_url()).expect("a parsed URL can be parsed again");
    assert_eq!((&again, userinfo.is_none()), (url, true));
    for part in [url.host(), &url.authority(), url.target()] {
        assert!(part.bytes().all(|byte| byte > b' ' && byte != 0x7f), "{part:?}");
    }
    let fields: Vec<Field> = exchange
        .fields
        .iter()
        .filter_map(|(name, source)| match source {
            Source::Text(value) => Some(Field { name: name.clone(), value: value.clone() }),
            Source::File(_) | Source::GithubActions { .. } => None,
        })
        .collect();
    let form = exchange::form(&fields);
    let read: Vec<_> = form_urlencoded::parse(form.expose().as_bytes()).collect();
    assert_eq!(read.len(), fields.len());
    for (read, field) in read.iter().zip(&fields) {
        assert!(read.0 == field.name && read.1 == field.value.expose());
    }
}

/// The content of a token file. It has a state, and each claim is within its range or absent.
pub fn claims(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let token = Secret::new(text.to_owned());
    let peeked = Claims::peek(&token);
    if let Some(claims) = &peeked {
        assert_eq!(text.split('.').count(), 3);
        for time in [claims.expires, claims.issued, claims.not_before].into_iter().flatten() {
            assert!(time.as_duration() < Duration::from_secs(100_000_000_000));
        }
        assert!(claims.lifetime().is_none_or(|length| !length.is_zero()));
    }
    let stored = StoredToken::of(token);
    for now in [0, 1_800_000_000, u64::from(u32::MAX) * 50] {
        let now = UnixTime::from_secs(now);
        match TokenFileState::of(&stored, Duration::from_secs(60), now) {
            TokenFileState::Valid(remaining) => {
                let is_enough = remaining.is_some_and(|remaining| remaining >= Duration::from_secs(60));
                assert!(is_bearer_token(text) && is_enough);
            }
            TokenFileState::InsufficientLifetime { remaining, required } => {
                assert!(remaining < required && required == Duration::from_secs(60));
            }
            TokenFileState::Expired(_) => {
                assert!(peeked.as_ref().and_then(|claims| claims.expires).is_some_and(|end| end <= now));
            }
            TokenFileState::NoExpiry => assert!(is_bearer_token(text)),
            TokenFileState::Malformed => assert!(!is_bearer_token(text) || text.starts_with("eyJ")),
            TokenFileState::Empty => assert!(text.is_empty()),
            TokenFileState::ClockUntrusted => panic!("no modification time was given"),
            TokenFileState::WrongFormat(_) => panic!("no format was given"),
        }
    }
}

/// `ID:SECRET`. The header decodes to the same id and secret as Dex decodes it: base64, the first
/// colon, then form encoding. A part that was form-encoded already is sent unchanged.
pub fn basic(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some(header) = exchange::basic_authorization(&Secret::new(text.to_owned())) else {
        assert!(text.is_empty());
        return;
    };
    let coded = header.expose().strip_prefix("Basic ").expect("the scheme");
    let decoded = STANDARD.decode(coded).expect("base64");
    let decoded = String::from_utf8(decoded).expect("ASCII");
    let (id, secret) = decoded.split_once(':').expect("a colon");
    let (given_id, given_secret) = text.split_once(':').unwrap_or((text, ""));
    for (sent, given) in [(id, given_id), (secret, given_secret)] {
        let encoded_already = given.contains('%')
            && given.split('%').skip(1).all(|after| {
                after.as_bytes().get(..2).is_some_and(|pair| pair.iter().all(u8::is_ascii_hexdigit))
            });
        assert!(
            query_unescape(sent) == given || sent == given && encoded_already,
            "{given:?} was sent as {sent:?}"
        );
    }
    let credentials = exchange::Credentials::parse(&Secret::new(text.to_owned()));
    for encoding in credentials.iter().flat_map(exchange::Credentials::secret_encodings) {
        assert!(!encoding.is_empty());
    }
}

/// Decodes form encoding as Go's `url.QueryUnescape` does.
fn query_unescape(text: &str) -> String {
    // A form is split at `=` and `&`, so they are encoded first.
    let whole = text.replace('&', "%26").replace('=', "%3D");
    form_urlencoded::parse(whole.as_bytes()).next().map_or_else(String::new, |(name, _)| name.into_owned())
}

/// A response with a discovery document or a key set. The URL of the keys has the origin of the
/// endpoint, and a key set contains no key that is not in the response.
pub fn keys(data: &[u8]) {
    let (endpoint, _) = EndpointUrl::parse("https://dex.example/dex/token").expect("a URL");
    let answer = parse_response(data);
    let discovery = Discovery::read(&answer);
    let url = signing_keys::keys_url(&endpoint, discovery.as_ref()).expect("a URL beside the endpoint");
    assert_eq!(url.origin(), endpoint.origin());
    assert!(url.target().bytes().all(|byte| byte > b' ' && byte != 0x7f));
    match signing_keys::published(&answer) {
        Published::Keys(keys) => {
            assert_eq!(answer.status, 200);
            assert!(!keys.has("no key that fits into an input: 0123456789012345678901234567890123456789"));
        }
        Published::NotServed | Published::Unknown => {}
    }
}

/// The bytes that a server sends before it closes the connection, read by the real HTTP client. The
/// client returns a response or a failure as soon as the connection is closed.
pub fn http(data: &[u8]) {
    thread_local! {
        static SERVER: RefCell<Option<(tokio::runtime::Runtime, TcpListener)>> = const { RefCell::new(None) };
    }
    SERVER.with_borrow_mut(|server| {
        let (runtime, listener) = server.get_or_insert_with(|| {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
            (runtime, listener)
        });
        runtime.block_on(request_and_serve(listener, data));
    });
}

async fn request_and_serve(listener: &TcpListener, data: &[u8]) {
    let port = listener.local_addr().expect("an address").port();
    let (url, _) = EndpointUrl::parse(&format!("http://127.0.0.1:{port}/token")).expect("a URL");
    let roots = Roots::File("/nowhere".into());
    let endpoint = HttpEndpoint::new(Duration::from_secs(20), roots, Proxies::default());
    let request = Request { url, authorization: None, form: Some(Secret::new(format!("a={CANARY}"))) };
    let serving = async {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        // The complete request is read. With unread data, closing would reset the connection, and
        // the client would lose the bytes that were sent.
        let mut request = Vec::new();
        while !request.ends_with(CANARY.as_bytes()) {
            let mut part = [0; 2048];
            match stream.read(&mut part).await {
                Ok(0) | Err(_) => break,
                Ok(length) => request.extend_from_slice(&part[..length]),
            }
        }
        let _ = stream.write_all(data).await;
        let _ = stream.shutdown().await;
        // This read ends when the client closes the connection.
        let _ = stream.read(&mut [0; 64]).await;
    };
    // 15 s are enough on a slow machine, and less than the client's timeout of 20 s.
    let both = async { tokio::join!(endpoint.send(&request, 0), serving) };
    let (answer, ()) = tokio::time::timeout(Duration::from_secs(15), both)
        .await
        .expect("a response or a failure before the timeout");
    match answer {
        Ok(answer) => {
            assert!((100..1_000).contains(&answer.status) && answer.body.len() <= data.len());
            let secrets = [Secret::new(CANARY.to_owned())];
            let context = RequestContext {
                endpoint: &ENDPOINT,
                now: UnixTime::from_secs(1_800_000_000),
                requested_type: None,
                secrets: &secrets,
            };
            if let Err(failure) = response::read(&answer, context) {
                check_message(&failure);
            }
        }
        Err(failure) => check_message(&failure),
    }
}

/// A response from text: the status, lines of `header: value`, an empty line, and the body. Missing
/// parts are empty; a missing status is 200.
fn parse_response(data: &[u8]) -> Answer {
    let mut lines = data.split(|byte| *byte == b'\n');
    let status = lines.next().unwrap_or_default();
    let status = String::from_utf8_lossy(status).trim().parse().unwrap_or(200);
    let mut answer = Answer { status, ..Answer::default() };
    for line in lines.by_ref().take_while(|line| !line.is_empty()) {
        let line = String::from_utf8_lossy(line);
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = Some(value.trim().to_owned());
        match name {
            "content-type" => answer.content_type = value,
            "content-encoding" => answer.content_encoding = value,
            "retry-after" => answer.retry_after = value,
            "date" => answer.date = value,
            "location" => answer.location = value,
            _ => {}
        }
    }
    answer.body = lines.collect::<Vec<_>>().join(&b'\n').into();
    answer
}

/// The message of a failure is one bounded line and does not contain the secret.
fn check_message(failure: &Failure) {
    let message = failure.to_string();
    assert!(!message.contains(CANARY), "{message}");
    assert!(!message.contains(|c: char| c.is_control()), "{message:?}");
    assert!(message.chars().count() <= LONGEST_MESSAGE, "{message}");
}
