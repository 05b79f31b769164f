//! What Dex itself does: the facts that dexsidecar and the stand-in are built on, asked of the real one.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dexsidecar_e2e::dex::{Dex, SECRET, Setup};
use dexsidecar_e2e::dex_error_table::{MALFORMED, Question, REFUSALS, Told};
use dexsidecar_e2e::endpoint::{Answer, Endpoint};
use dexsidecar_e2e::issuer::{Flaw, Issuer, Mood};
use dexsidecar_e2e::signing_key::{claims, header, now};
use dexsidecar_e2e::wire::{Reply, ask};
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
fn issues_a_token_for_a_service_account() {
    let issuer = Issuer::start();
    let dex = Dex::start(&issuer, &Setup::default());
    let subject = issuer.token(600);
    let reply = dex.ask(&Question::about(&subject));
    let answer = reply.json();
    assert!(
        (86_390..=86_399).contains(&answer["expires_in"].as_u64().unwrap()),
        "not the subject token's 600"
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
    // A protobuf message: 1 is the user's id, 2 the connector's.
    let sub = URL_SAFE_NO_PAD.decode(claims["sub"].as_str().unwrap()).unwrap();
    assert_eq!(sub, [&[0x0a, 33], USER.as_bytes(), &[0x12, 3], b"k3s"].concat());
    let seconds = |name: &str| claims[name].as_u64().unwrap();
    assert_eq!(seconds("exp") - seconds("iat"), 86_400);
    assert!(dex.get("/dex/keys").unwrap().body.contains(header["kid"].as_str().unwrap()));
}

#[test]
fn claims_follow_the_scopes_and_the_client() {
    let issuer = Issuer::start();
    let dex = Dex::start(&issuer, &Setup::default());
    let subject = issuer.token(600);
    let issued = |fields: &[(&'static str, &'static str)]| {
        claims(&token(&dex.ask(&Question::about(&subject).with(fields))))
    };
    // The scope of the original's README is none that Dex knows.
    let ignored = issued(&[("scope", "federated_id offline_access nonsense")]);
    assert_eq!(names(&ignored), ["at_hash", "aud", "exp", "iat", "iss", "sub"]);
    let crossed = issued(&[("scope", "openid audience:server:client_id:target")]);
    assert_eq!((&crossed["aud"], &crossed["azp"]), (&json!(["target", "user"]), &json!("user")));
    assert_eq!(issued(&[("scope", "audience:server:client_id:user")])["aud"], "user");
    // Asked for or not, the token is in access_token.
    assert_eq!(
        issued(&[("requested_token_type", "urn:ietf:params:oauth:token-type:id_token")])["aud"],
        "user"
    );
    assert_eq!(issued(&[("requested_token_type", "")])["aud"], "user");
    assert_eq!(issued(&[("audience", "target"), ("resource", "https://other.test")])["aud"], "user");
    // Basic is decoded as RFC 6749 wants, and the form does as well.
    let encoded: String = form_urlencoded::byte_serialize(SECRET.as_bytes()).collect();
    let basic = format!("private%2Bapp:{encoded}");
    assert_eq!(claims(&token(&dex.ask(&Question::about(&subject).by(&basic))))["aud"], "private+app");
    let form =
        Question::about(&subject).by("").with(&[("client_id", "private+app"), ("client_secret", SECRET)]);
    assert_eq!(claims(&token(&dex.ask(&form)))["aud"], "private+app");
}

#[test]
fn f054_accepts_what_one_would_not_think() {
    let issuer = Issuer::start();
    let dex = Dex::start(&issuer, &Setup::default());
    for (what, claims) in [
        ("another audience", json!({"aud": ["https://kubernetes.default.svc"]})),
        ("no audience", json!({"aud": null})),
        ("a start in four minutes", json!({"nbf": now() + 240})),
        ("no start", json!({"nbf": null, "iat": null})),
    ] {
        let reply = dex.ask(&Question::about(&issuer.token_with(600, &claims)));
        assert_eq!(reply.status, 200, "{what}: {}\n{}", reply.body, dex.log());
    }
    // A key that was changed is fetched; the old one is forgotten with that.
    let old = issuer.token(600);
    issuer.rotate_key();
    assert_eq!(dex.ask(&Question::about(&issuer.token(600))).status, 200);
    assert_eq!(dex.ask(&Question::about(&old)).status, 401);
}

/// What Dex answered is what the table says, and the stand-in can say the same.
fn compare(name: &str, dex: &Reply, told: &Told) {
    let stand_in = Endpoint::start("127.0.0.1:0", None);
    stand_in.next(Answer::Bytes(told.answer()));
    let ours = ask(stand_in.address(), &Question::about("").request()).unwrap();
    assert_eq!((dex.status, &dex.body), (ours.status, &ours.body), "{name}");
    assert_eq!(headers(dex), headers(&ours), "{name}");
}

/// The headers in which an answer of Dex's may differ from another; not the date, nor the connection's.
fn headers(reply: &Reply) -> Vec<String> {
    let mut headers: Vec<_> = reply.head.lines().skip(1).map(str::to_ascii_lowercase).collect();
    headers.retain(|line| {
        !["date:", "connection:", "content-length:"].iter().any(|name| line.starts_with(name))
    });
    headers.sort();
    headers
}

#[test]
fn refuses_as_the_tables_say() {
    let issuer = Issuer::start();
    let dex = Dex::start(&issuer, &Setup::default());
    for row in REFUSALS {
        let subject = row.subject(&issuer);
        let question = Question::about(&subject).by(row.client.unwrap_or("user:")).with(row.fields);
        compare(row.name, &dex.ask(&question), &row.told);
        // Missing and empty are one.
        for (name, _) in row.fields.iter().filter(|(_, value)| value.is_empty()) {
            compare(row.name, &dex.ask(&question.clone().without(name)), &row.told);
        }
    }
    let subject = issuer.token(600);
    for row in MALFORMED {
        compare(row.name, &dex.ask(&row.question(&subject)), &row.told);
    }
    for target in ["/dex/token/", "/token", "/dex/dex/token"] {
        let lost = dex.get(target).unwrap();
        assert_eq!((lost.status, lost.body.as_str()), (404, "404 page not found\n"), "{target}");
        assert_eq!(lost.header("content-type"), Some("text/plain; charset=utf-8"), "{target}");
    }
}

#[test]
fn says_the_same_of_its_own_troubles() {
    let mut issuer = Issuer::start();
    let told = |dex: &Dex| {
        let answer = dex.ask(&Question::about(&issuer.token(600))).json();
        let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
        (text("error"), text("error_description"))
    };
    let denied = ("access_denied".to_owned(), String::new());
    let no_connector = ("invalid_request".to_owned(), "Requested connector does not exist.".to_owned());

    // The keys cannot be fetched when they are first needed; then they can.
    for mood in [Mood::Failing, Mood::Refusing] {
        let dex = Dex::start(&issuer, &Setup::default());
        issuer.serve_keys(mood);
        assert_eq!(told(&dex), denied, "{mood:?}\n{}", dex.log());
        issuer.serve_keys(Mood::Well);
        assert_eq!(told(&dex), (String::new(), String::new()), "{mood:?}\n{}", dex.log());
    }
    // Discovery cannot be had when Dex starts; each exchange looks again.
    for mood in [Mood::Failing, Mood::Refusing] {
        issuer.serve_discovery(mood);
        let dex = Dex::start(&issuer, &Setup::default());
        assert_eq!(told(&dex), no_connector, "{mood:?}\n{}", dex.log());
        issuer.serve_discovery(Mood::Well);
        assert_eq!(told(&dex), (String::new(), String::new()), "{mood:?}\n{}", dex.log());
    }
    // A connector that asks for what a ServiceAccount token does not have.
    for connector in [
        json!({"userNameKey": null}),
        json!({"scopes": null}),
        json!({"getUserInfo": true}),
        json!({"insecureEnableGroups": true, "claimMapping": {"groups": "sub"}, "allowedGroups": ["others"]}),
    ] {
        let dex = Dex::start(&issuer, &Setup { connector: connector.clone(), ..Setup::default() });
        assert_eq!(told(&dex), denied, "{connector}\n{}", dex.log());
    }
    // The same list lets this account in.
    let connector =
        json!({"insecureEnableGroups": true, "claimMapping": {"groups": "sub"}, "allowedGroups": [USER]});
    let dex = Dex::start(&issuer, &Setup { connector, ..Setup::default() });
    assert_eq!(told(&dex), (String::new(), String::new()), "{}", dex.log());
    drop(dex);
    let dex = Dex::start(&issuer, &Setup { exchange: false, ..Setup::default() });
    assert_eq!(told(&dex), ("unsupported_grant_type".to_owned(), String::new()));
    drop(dex);
    issuer.stop();
    let dex = Dex::start(&issuer, &Setup::default());
    let subject = issuer.flawed(Flaw::Expired);
    assert_eq!(dex.ask(&Question::about(&subject)).json()["error_description"], no_connector.1.as_str());
}

/// The head as it came, with the date and the length left out where they have the right shape.
fn head(reply: &Reply) -> String {
    let told = |name: &str| reply.header(name).map(str::to_owned).unwrap_or_default();
    let date = told("date");
    assert!(httpdate::parse_http_date(&date).is_ok(), "{date}");
    let length = told("content-length");
    assert_eq!(length, reply.body.len().to_string());
    reply.head.replace(&date, "DATE").replace(&format!("Content-Length: {length}"), "Content-Length: LENGTH")
}

#[test]
fn the_stand_in_s_good_answer_is_like_dex_s() {
    let issuer = Issuer::start();
    let dex = Dex::start(&issuer, &Setup::default());
    let stand_in = Endpoint::start("127.0.0.1:0", None);
    stand_in.always(Answer::Token(86_400));
    let subject = issuer.token(600);
    let question = Question::about(&subject);
    let theirs = dex.ask(&question);
    let ours = ask(stand_in.address(), &question.request()).unwrap();
    // Byte for byte, but for the token, its length and the second.
    assert_eq!(head(&ours), head(&theirs));
    let scrubbed = |reply: &Reply| {
        let answer = reply.json();
        let (token, left) =
            (answer["access_token"].as_str().unwrap(), answer["expires_in"].as_u64().unwrap());
        assert!((86_390..86_400).contains(&left));
        reply.body.replace(token, "TOKEN").replace(&left.to_string(), "LEFT")
    };
    assert_eq!(scrubbed(&ours), scrubbed(&theirs));
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
    // The documents beside it, as far as dexsidecar reads them.
    for (target, member) in [
        ("/dex/.well-known/openid-configuration", "jwks_uri"),
        ("/dex/.well-known/openid-configuration", "token_endpoint"),
        ("/dex/.well-known/openid-configuration", "grant_types_supported"),
        ("/dex/keys", "keys"),
    ] {
        let request =
            format!("GET {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", stand_in.address());
        let ours = ask(stand_in.address(), &request).unwrap();
        let theirs = dex.get(target).unwrap();
        assert_eq!(ours.header("content-type"), theirs.header("content-type"), "{target}");
        // A URL by what follows the address, a list by being one.
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
