//! What Dex itself does: the facts that dexsidecar and the stand-in are built on, asked of the real one.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use dexsidecar_e2e::dex::{Dex, SECRET, Setup, refusal};
use dexsidecar_e2e::dex_answers::REFUSALS;
use dexsidecar_e2e::endpoint::Endpoint;
use dexsidecar_e2e::issuer::Issuer;
use dexsidecar_e2e::signing_key::claims;
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};

#[test]
fn issues_a_token_for_a_service_account() {
    let issuer = Issuer::start();
    let dex = Dex::start(&issuer, &Setup::default());
    let (status, _, body) = dex.ask(&issuer.token(600), "user:", &[]);
    assert_eq!(status, 200, "{body}\n{}", dex.log());
    let claims = claims(body["access_token"].as_str().unwrap());
    assert_eq!(claims["aud"], "user");
    assert_eq!(claims["name"], "system:serviceaccount:default:app");
    assert_eq!(
        claims["federated_claims"],
        json!({"connector_id": "k3s", "user_id": "system:serviceaccount:default:app"})
    );
    assert!((86_390..=86_400).contains(&body["expires_in"].as_u64().unwrap()));
}

#[test]
fn refuses_as_the_table_says_and_the_stand_in_can_say_the_same() {
    let issuer = Issuer::start();
    let dex = Dex::start(&issuer, &Setup::default());
    let subject = issuer.token(600);
    for row in REFUSALS {
        let (status, head, body) = dex.ask(&subject, row.client.unwrap_or("user:"), row.fields);
        assert_eq!(status, row.status, "{}: {body}", row.name);
        assert_eq!(body["error"], row.error, "{}", row.name);
        assert_eq!(body["error_description"].as_str().unwrap_or_default(), row.description, "{}", row.name);
        let ours = String::from_utf8(refusal(row.status, row.error, row.description)).unwrap();
        assert_eq!(shape(&format!("{head}\r\n\r\n{body}")), shape(&ours), "{}", row.name);
    }
    // A badly encoded client, which dexsidecar cannot be made to send.
    let (status, _, body) = dex.ask(&subject, "a%zz:x", &[]);
    assert_eq!((status, body["error_description"].as_str()), (400, Some("client_id improperly encoded")));
    // Another path.
    assert_eq!(dex.get("/dex/token/").unwrap().0, 404);
    // The right secret, encoded as RFC 6749 wants.
    let encoded: String = form_urlencoded::byte_serialize(SECRET.as_bytes()).collect();
    assert_eq!(dex.ask(&subject, &format!("private%2Bapp:{encoded}"), &[]).0, 200);
}

/// Status, the headers that matter, and the members with their kinds in order.
fn shape(answer: &str) -> (String, Vec<String>, Vec<(String, &'static str)>) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.lines().next().unwrap().split(' ').nth(1).unwrap().to_owned();
    let mut headers: Vec<_> = head
        .lines()
        .skip(1)
        .map(str::to_ascii_lowercase)
        .filter(|line| ["content-type", "cache-control", "pragma"].iter().any(|name| line.starts_with(name)))
        .collect();
    headers.sort();
    let value: Value = serde_json::from_str(body).unwrap();
    let kind = |value: &Value| match value {
        Value::String(_) => "string",
        Value::Number(_) => "number",
        _ => "other",
    };
    // serde_json keeps members in the order of their names; the text tells the real one.
    let mut members: Vec<_> =
        value.as_object().unwrap().iter().map(|(name, v)| (name.clone(), kind(v))).collect();
    members.sort_by_key(|(name, _)| body.find(&format!("\"{name}\"")));
    (status, headers, members)
}

#[test]
fn the_stand_in_s_good_answer_has_the_shape_of_dex_s() {
    let issuer = Issuer::start();
    let dex = Dex::start(&issuer, &Setup::default());
    let (status, head, body) = dex.ask(&issuer.token(600), "user:", &[]);
    assert_eq!(status, 200);
    // `ask` gives the body parsed; its order is that of Dex's struct, which the raw text of a second question shows.
    let stand_in = Endpoint::start("127.0.0.1:0", None);
    let mut stream = std::net::TcpStream::connect(stand_in.address()).unwrap();
    stream.write_all(b"POST /dex/token HTTP/1.1\r\nContent-Length: 0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (ours, theirs) = (shape(&answer), shape(&format!("{head}\r\n\r\n{body}")));
    assert_eq!((&ours.0, &ours.1), (&theirs.0, &theirs.1));
    let sorted = |mut members: Vec<(String, &'static str)>| {
        members.sort();
        members
    };
    assert_eq!(sorted(ours.2), sorted(theirs.2));
    let header = |token: &str| claims(&format!("x.{}.x", token.split('.').next().unwrap()));
    let [ours, theirs] = [&stand_in.issued()[0], body["access_token"].as_str().unwrap()].map(header);
    assert!(ours["kid"].is_string() && theirs["kid"].is_string(), "{ours} {theirs}");
}
