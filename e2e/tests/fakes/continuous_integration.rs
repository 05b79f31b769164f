//! Subject tokens of jobs: from the endpoint of GitHub Actions, and from a variable as in GitLab.

use std::fs;

use dexsidecar_e2e::fake_github_actions::{FakeGithubActions, Reply};
use dexsidecar_e2e::fixture::Fixture;
use dexsidecar_e2e::sidecar::{Setup, failed_step, report};
use dexsidecar_e2e::signing_key::claims;

#[test]
fn a_job_of_github_actions_exchanges_a_token_that_it_requests() {
    let (fixture, github) = (Fixture::new(), FakeGithubActions::start());
    for (audience, expected) in [(None, "https://github.com/octo-org"), (Some("dex & co"), "dex & co")] {
        let setup = github.job(fixture.setup());
        let setup = match audience {
            Some(audience) => setup.set("DEXSIDECAR_SUBJECT_TOKEN_AUDIENCE", audience),
            None => setup,
        };
        let once = setup.execute(&["once"]);
        assert_eq!(once.code, Some(0), "{}", once.stderr);
        let sent = fixture.dex.requests().pop().unwrap().field("subject_token");
        assert_eq!(sent, github.issued().pop());
        assert_eq!(claims(&sent.unwrap())["aud"], expected);
        assert_eq!(Some(fs::read_to_string(setup.output()).unwrap()), fixture.dex.issued().pop());
        let token = setup.unset("dex_access_token_file").execute(&["token"]);
        assert_eq!((token.code, Some(token.stdout)), (Some(0), fixture.dex.issued().pop()));
    }
    let request = github.requests().remove(0);
    assert_eq!(request.target, "/idtoken/4711?api-version=2.0");
    assert_eq!(github.requests().pop().unwrap().target, "/idtoken/4711?api-version=2.0&audience=dex+%26+co");
}

#[test]
fn once_requests_a_token_again_after_a_failure_and_reports_what_to_do() {
    let (fixture, github) = (Fixture::new(), FakeGithubActions::start());
    github.next(Reply::Status("503 Service Unavailable", "canary"));
    let setup = github.job(fixture.setup());
    let once = setup.execute(&["once"]);
    assert_eq!((once.code, github.requests().len()), (Some(0), 2), "{}", once.stderr);
    let failed = &once.events("attempt_failed")[0];
    assert_eq!(
        (&failed["code"], &failed["owner"]),
        (&"subject_token_request_failed".into(), &"network".into())
    );
    for (reply, detail) in [
        (Reply::Status("403 Forbidden", "canary"), "status 403"),
        (Reply::Status("302 Found", "canary"), "status 302"),
        (Reply::Status("200 OK", "{\"value\":\"canary canary\"}"), "the answer has no token"),
    ] {
        github.next(reply);
        let token = setup.execute(&["token", "--timeout", "30s", "--min-ttl", "2h"]);
        assert_eq!((token.code, token.stdout.as_str()), (Some(1), ""), "{reply:?}");
        assert!(token.stderr.contains(detail), "{}", token.stderr);
        assert!(token.stderr.contains("code:  subject_token_request_failed\n"), "{}", token.stderr);
        assert!(token.stderr.contains("id-token: write"), "{}", token.stderr);
    }
    github.next(Reply::Status("401 Unauthorized", "{}"));
    let step = failed_step(&report(&setup));
    assert_eq!(
        (&step["step"], &step["code"]),
        (&"subject_token".into(), &"subject_token_request_failed".into())
    );
}

#[test]
fn a_job_without_the_permission_is_refused_at_once() {
    let fixture = Fixture::new();
    let setup = |more: &[(&str, &str)]| {
        let setup = fixture.setup().unset("dex_file_subject_token");
        more.iter()
            .fold(setup.set("DEXSIDECAR_SUBJECT_TOKEN_SOURCE", "github-actions"), |setup, (name, value)| {
                setup.set(name, *value)
            })
    };
    let url = ("ACTIONS_ID_TOKEN_REQUEST_URL", "http://127.0.0.1:1/");
    let token = ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "canary");
    let subject = ("dex_subject_token", "canary");
    let refused = |setup: &Setup, command: &str| {
        let refused = setup.execute(&[command]);
        assert_eq!(refused.code, Some(78), "{}", refused.stderr);
        let invalid = refused.events("setting_invalid");
        assert!(invalid.iter().all(|event| event["fix"].as_str().is_some_and(|fix| !fix.is_empty())));
        invalid.iter().map(|event| event["setting"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for command in ["once", "token", "run"] {
        assert_eq!(refused(&setup(&[]), command), [token.0, url.0]);
    }
    assert_eq!(refused(&setup(&[url, token, subject]), "once"), ["DEXSIDECAR_SUBJECT_TOKEN_SOURCE"]);
    let audience = fixture.setup().set("DEXSIDECAR_SUBJECT_TOKEN_AUDIENCE", "dex");
    assert_eq!(refused(&audience, "once"), ["DEXSIDECAR_SUBJECT_TOKEN_AUDIENCE"]);
    assert_eq!(fixture.dex.requests().len(), 0);
}

#[test]
fn a_job_of_gitlab_gives_its_token_in_a_variable() {
    let fixture = Fixture::new();
    let setup =
        fixture.setup().unset("dex_file_subject_token").set("dex_subject_token", "eyJh.eyJi.canary-gitlab");
    assert_eq!(setup.execute(&["once"]).code, Some(0));
    let sent = fixture.dex.requests().pop().unwrap().field("subject_token");
    assert_eq!(sent.as_deref(), Some("eyJh.eyJi.canary-gitlab"));
    assert_eq!(failed_step(&report(&setup)), serde_json::Value::Null);
}
