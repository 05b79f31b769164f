//! The behaviour of a real Dex on which dexsidecar and the fake Dex depend.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dexsidecar_e2e::dex::{Dex, DexSetup, SECRET};
use dexsidecar_e2e::dex_error_table::{ErrorResponse, MALFORMED, REFUSALS, TokenRequest};
use dexsidecar_e2e::fake_api_server::{FakeApiServer, Flaw, Mood};
use dexsidecar_e2e::fake_dex::{Answer, FakeDex};
use dexsidecar_e2e::raw_http::{Reply, send};
use dexsidecar_e2e::signing_key::{claims, header, now};
use serde_json::{Value, json};

const USER: &str = "system:serviceaccount:default:app";

fn token(reply: &Reply) -> String {
    assert_eq!(reply.status, 200, "{}", reply.body);
    reply.json()["access_token"].as_str().unwrap().to_owned()
}

fn names(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn dex_issues_a_token_for_a_service_account() {
    let issuer = FakeApiServer::start();
    let dex = Dex::start(&issuer, &DexSetup::default());
    let subject = issuer.token(600);
    let reply = dex.request_token(&TokenRequest::exchange_of(&subject));
    let answer = reply.json();
    assert!(
        (86_390..=86_399).contains(&answer["expires_in"].as_u64().unwrap()),
        "the lifetime is Dex's, not the subject token's 600 s"
    );
    assert_eq!(answer["token_type"], "bearer");
    assert_eq!(answer["issued_token_type"], "urn:ietf:params:oauth:token-type:access_token");

    let token = token(&reply);
    let (header, claims) = (header(&token), claims(&token));
    assert_eq!((names(&header), header["alg"].as_str()), (vec!["alg", "kid"], Some("RS256")));
    assert_eq!(header["kid"].as_str().unwrap().len(), 40);
    assert_eq!(
        names(&claims),
        ["at_hash", "aud", "exp", "federated_claims", "iat", "iss", "name", "sub"],
        "no nbf, no jti"
    );
    assert_eq!(claims["iss"], dex.issuer());
    assert_eq!(claims["aud"], "user");
    assert_eq!(claims["name"], USER);
    assert_eq!(claims["federated_claims"], json!({"connector_id": "k3s", "user_id": USER}));
    // A protobuf message: field 1 is the user's id, field 2 the connector's.
    let sub = URL_SAFE_NO_PAD.decode(claims["sub"].as_str().unwrap()).unwrap();
    assert_eq!(sub, [&[0x0a, 33], USER.as_bytes(), &[0x12, 3], b"k3s"].concat());
    let seconds = |name: &str| claims[name].as_u64().unwrap();
    assert_eq!(seconds("exp") - seconds("iat"), 86_400);
    assert!(dex.get("/dex/keys").unwrap().body.contains(header["kid"].as_str().unwrap()));
}

#[test]
fn claims_follow_the_scopes_and_the_client() {
    let issuer = FakeApiServer::start();
    let dex = Dex::start(&issuer, &DexSetup::default());
    let subject = issuer.token(600);
    let issued = |fields: &[(&'static str, &'static str)]| {
        claims(&token(&dex.request_token(&TokenRequest::exchange_of(&subject).with(fields))))
    };
    // Dex does not know the scope in the original's README.
    let ignored = issued(&[("scope", "federated_id offline_access nonsense")]);
    assert_eq!(names(&ignored), ["at_hash", "aud", "exp", "iat", "iss", "sub"]);
    let crossed = issued(&[("scope", "openid audience:server:client_id:target")]);
    assert_eq!((&crossed["aud"], &crossed["azp"]), (&json!(["target", "user"]), &json!("user")));
    assert_eq!(issued(&[("scope", "audience:server:client_id:user")])["aud"], "user");
    // The token is in access_token whatever type is requested.
    assert_eq!(
        issued(&[("requested_token_type", "urn:ietf:params:oauth:token-type:id_token")])["aud"],
        "user"
    );
    assert_eq!(issued(&[("requested_token_type", "")])["aud"], "user");
    assert_eq!(issued(&[("audience", "target"), ("resource", "https://other.test")])["aud"], "user");
    // Credentials are accepted in the Basic header, decoded as in RFC 6749 section 2.3.1, and in
    // the form.
    let encoded: String = form_urlencoded::byte_serialize(SECRET.as_bytes()).collect();
    let basic = format!("private%2Bapp:{encoded}");
    assert_eq!(
        claims(&token(&dex.request_token(&TokenRequest::exchange_of(&subject).by(&basic))))["aud"],
        "private+app"
    );
    let form = TokenRequest::exchange_of(&subject)
        .by("")
        .with(&[("client_id", "private+app"), ("client_secret", SECRET)]);
    assert_eq!(claims(&token(&dex.request_token(&form)))["aud"], "private+app");
}

#[test]
fn f054_dex_checks_neither_audience_nor_start_of_validity_strictly() {
    let issuer = FakeApiServer::start();
    let dex = Dex::start(&issuer, &DexSetup::default());
    for (what, claims) in [
        ("another audience", json!({"aud": ["https://kubernetes.default.svc"]})),
        ("no audience", json!({"aud": null})),
        ("a start in four minutes", json!({"nbf": now() + 240})),
        ("no start", json!({"nbf": null, "iat": null})),
    ] {
        let reply = dex.request_token(&TokenRequest::exchange_of(&issuer.token_with(600, &claims)));
        assert_eq!(reply.status, 200, "{what}: {}\n{}", reply.body, dex.log());
    }
    // Dex fetches a new key, and no longer accepts the old one then.
    let old = issuer.token(600);
    issuer.rotate_key();
    assert_eq!(dex.request_token(&TokenRequest::exchange_of(&issuer.token(600))).status, 200);
    assert_eq!(dex.request_token(&TokenRequest::exchange_of(&old)).status, 401);
}

/// The response of Dex is the one in the table, and the fake Dex sends the same.
fn compare(name: &str, dex: &Reply, expected: &ErrorResponse) {
    let fake = FakeDex::start();
    fake.next(Answer::Bytes(expected.to_http()));
    let ours = send(fake.address(), &TokenRequest::exchange_of("").to_http()).unwrap();
    assert_eq!((dex.status, &dex.body), (ours.status, &ours.body), "{name}");
    assert_eq!(headers(dex), headers(&ours), "{name}");
}

/// The headers that are compared: not the date, and not those about the connection.
fn headers(reply: &Reply) -> Vec<String> {
    let mut headers: Vec<_> = reply.head.lines().skip(1).map(str::to_ascii_lowercase).collect();
    headers.retain(|line| {
        !["date:", "connection:", "content-length:"].iter().any(|name| line.starts_with(name))
    });
    headers.sort();
    headers
}

#[test]
fn dex_refuses_as_the_tables_say() {
    let issuer = FakeApiServer::start();
    let dex = Dex::start(&issuer, &DexSetup::default());
    for row in REFUSALS {
        let subject = row.subject(&issuer);
        let request = TokenRequest::exchange_of(&subject).by(row.client.unwrap_or("user:")).with(row.fields);
        compare(row.name, &dex.request_token(&request), &row.response);
        // A missing field is refused like an empty one.
        for (name, _) in row.fields.iter().filter(|(_, value)| value.is_empty()) {
            compare(row.name, &dex.request_token(&request.clone().without(name)), &row.response);
        }
    }
    let subject = issuer.token(600);
    for row in MALFORMED {
        compare(row.name, &dex.request_token(&row.request(&subject)), &row.response);
    }
    for target in ["/dex/token/", "/token", "/dex/dex/token"] {
        let reply = dex.get(target).unwrap();
        assert_eq!((reply.status, reply.body.as_str()), (404, "404 page not found\n"), "{target}");
        assert_eq!(reply.header("content-type"), Some("text/plain; charset=utf-8"), "{target}");
    }
}

#[test]
fn dex_refuses_in_the_same_words_when_issuer_or_connector_fail() {
    let mut issuer = FakeApiServer::start();
    let error = |dex: &Dex| {
        let response = dex.request_token(&TokenRequest::exchange_of(&issuer.token(600))).json();
        let text = |name: &str| response[name].as_str().unwrap_or_default().to_owned();
        (text("error"), text("error_description"))
    };
    let denied = ("access_denied".to_owned(), String::new());
    let no_connector = ("invalid_request".to_owned(), "Requested connector does not exist.".to_owned());

    // The keys cannot be fetched when they are first needed. Each exchange tries again.
    for mood in [Mood::Failing, Mood::Refusing] {
        let dex = Dex::start(&issuer, &DexSetup::default());
        issuer.serve_keys(mood);
        assert_eq!(error(&dex), denied, "{mood:?}\n{}", dex.log());
        issuer.serve_keys(Mood::Well);
        assert_eq!(error(&dex), (String::new(), String::new()), "{mood:?}\n{}", dex.log());
    }
    // Discovery fails when Dex starts. Each exchange tries again.
    for mood in [Mood::Failing, Mood::Refusing] {
        issuer.serve_discovery(mood);
        let dex = Dex::start(&issuer, &DexSetup::default());
        assert_eq!(error(&dex), no_connector, "{mood:?}\n{}", dex.log());
        issuer.serve_discovery(Mood::Well);
        assert_eq!(error(&dex), (String::new(), String::new()), "{mood:?}\n{}", dex.log());
    }
    // A connector that requires what a ServiceAccount token does not have.
    for connector in [
        json!({"userNameKey": null}),
        json!({"scopes": null}),
        json!({"getUserInfo": true}),
        json!({"insecureEnableGroups": true, "claimMapping": {"groups": "sub"}, "allowedGroups": ["others"]}),
    ] {
        let dex = Dex::start(&issuer, &DexSetup { connector: connector.clone(), ..DexSetup::default() });
        assert_eq!(error(&dex), denied, "{connector}\n{}", dex.log());
    }
    // A list of groups with this account accepts it.
    let connector =
        json!({"insecureEnableGroups": true, "claimMapping": {"groups": "sub"}, "allowedGroups": [USER]});
    let dex = Dex::start(&issuer, &DexSetup { connector, ..DexSetup::default() });
    assert_eq!(error(&dex), (String::new(), String::new()), "{}", dex.log());
    drop(dex);
    let dex = Dex::start(&issuer, &DexSetup { token_exchange: false, ..DexSetup::default() });
    assert_eq!(error(&dex), ("unsupported_grant_type".to_owned(), String::new()));
    drop(dex);
    issuer.stop();
    let dex = Dex::start(&issuer, &DexSetup::default());
    let subject = issuer.flawed(Flaw::Expired);
    assert_eq!(
        dex.request_token(&TokenRequest::exchange_of(&subject)).json()["error_description"],
        no_connector.1.as_str()
    );
}

/// The head of a response without its date and length, which are checked.
fn head(reply: &Reply) -> String {
    let value = |name: &str| reply.header(name).map(str::to_owned).unwrap_or_default();
    let date = value("date");
    assert!(httpdate::parse_http_date(&date).is_ok(), "{date}");
    let length = value("content-length");
    assert_eq!(length, reply.body.len().to_string());
    reply.head.replace(&date, "DATE").replace(&format!("Content-Length: {length}"), "Content-Length: LENGTH")
}

#[test]
fn the_fake_dex_responds_like_the_real_one() {
    let issuer = FakeApiServer::start();
    let dex = Dex::start(&issuer, &DexSetup::default());
    let fake = FakeDex::start();
    fake.always(Answer::Token(86_400));
    let subject = issuer.token(600);
    let request = TokenRequest::exchange_of(&subject);
    let theirs = dex.request_token(&request);
    let ours = send(fake.address(), &request.to_http()).unwrap();
    // The bodies are equal except for the token and its remaining seconds.
    assert_eq!(head(&ours), head(&theirs));
    let redacted = |reply: &Reply| {
        let response = reply.json();
        let (token, expires_in) =
            (response["access_token"].as_str().unwrap(), response["expires_in"].as_u64().unwrap());
        assert!((86_390..86_400).contains(&expires_in));
        reply.body.replace(token, "TOKEN").replace(&expires_in.to_string(), "EXPIRES_IN")
    };
    assert_eq!(redacted(&ours), redacted(&theirs));
    let [mine, dexs] = [token(&ours), token(&theirs)];
    assert_eq!(names(&header(&mine)), names(&header(&dexs)));
    let kinds = |token: &str| -> Vec<(String, &'static str)> {
        let kind = |value: &Value| match value {
            Value::String(_) => "string",
            Value::Number(_) => "number",
            Value::Object(_) => "object",
            _ => "other",
        };
        claims(token).as_object().unwrap().iter().map(|(name, value)| (name.clone(), kind(value))).collect()
    };
    assert_eq!(kinds(&mine), kinds(&dexs));
    // The members of other documents that dexsidecar reads.
    for (target, member) in [
        ("/dex/.well-known/openid-configuration", "jwks_uri"),
        ("/dex/.well-known/openid-configuration", "token_endpoint"),
        ("/dex/.well-known/openid-configuration", "grant_types_supported"),
        ("/dex/keys", "keys"),
    ] {
        let request =
            format!("GET {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", fake.address());
        let ours = send(fake.address(), &request).unwrap();
        let theirs = dex.get(target).unwrap();
        assert_eq!(ours.header("content-type"), theirs.header("content-type"), "{target}");
        // A URL without its address; for a list, that it is one.
        let tail = |reply: &Reply| match &reply.json()[member] {
            Value::String(url) => url.rsplit_once("/dex/").map(|(_, tail)| tail.to_owned()),
            Value::Array(_) => Some("a list".to_owned()),
            _ => None,
        };
        assert_eq!(tail(&ours), tail(&theirs), "{target}: {member}");
    }
    let published = dex.get("/dex/keys").unwrap().json();
    assert_eq!(published["keys"][0]["kid"], header(&dexs)["kid"]);
}
