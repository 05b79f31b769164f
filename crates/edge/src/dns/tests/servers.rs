//! Lookups with several name servers.

use super::*;

#[tokio::test]
async fn f128_the_next_server_is_queried_only_after_an_error() {
    let knows = Server::start(|_, _, _, question| vec![reply(question, 0, Some(7))]).await;
    let denies = Server::start(|_, _, _, question| vec![reply(question, 3, None)]).await;
    let fails = Server::start(|_, _, _, question| vec![reply(question, 2, None)]).await;
    let refuses = Server::start(|_, _, _, question| vec![reply(question, 5, None)]).await;
    let lame = Server::start(|_, _, _, question| {
        let mut answer = reply(question, 0, None);
        answer[3] = 0;
        vec![answer]
    })
    .await;
    let both: Result<BTreeSet<_>, _> = Ok(["127.0.0.7".to_owned(), "fd00::7".to_owned()].into());
    assert_eq!(resolve(ONE_SECOND, &[&knows, &denies], "dex.example").await, both);
    assert!(denies.queries().is_empty());
    for failing in [&fails, &refuses, &lame] {
        assert_eq!(resolve(ONE_SECOND, &[failing, &knows], "dex.example").await, both);
    }
    let absent = resolve(ONE_SECOND, &[&denies, &knows], "dex.example").await.unwrap_err();
    assert!(
        absent.is_absent && absent.detail.contains("does not exist (NXDOMAIN from 127.0.0.1)"),
        "{absent}"
    );
    let failed = resolve(ONE_SECOND, &[&fails, &refuses], "dex.example").await.unwrap_err();
    assert!(!failed.is_absent, "{failed}");
    assert!(
        failed.detail.contains("127.0.0.1 for A: SERVFAIL") && failed.detail.contains("REFUSED"),
        "{failed}"
    );
}

/// A silent first server costs its timeout once, not once per name of the search list.
#[tokio::test]
async fn f128_a_server_that_timed_out_is_queried_last_afterwards() {
    let silent = Server::start(|_, _, _, _| vec![]).await;
    let denies = Server::start(|name, _, _, question| {
        vec![if name == "dex.c" { reply(question, 0, Some(7)) } else { reply(question, 3, None) }]
    })
    .await;
    let found = resolve("search a b c\noptions timeout:1", &[&silent, &denies], "dex").await.unwrap();
    assert_eq!(found.len(), 2);
    let queries: BTreeSet<String> = silent.queries().into_iter().collect();
    assert_eq!(queries, ["dex.a A EDNS".to_owned(), "dex.a AAAA EDNS".to_owned()].into());
}

/// The next server may be a public one without the internal names.
#[tokio::test]
async fn f128_a_server_that_answers_with_an_error_keeps_its_place() {
    let denies = Server::start(|_, _, _, question| vec![reply(question, 3, None)]).await;
    for first in [
        |name: &str, _: Family, _: bool, question: &[u8]| {
            vec![if name == "dex.b" { reply(question, 0, Some(7)) } else { reply(question, 2, None) }]
        },
        |name, _, _, question| {
            vec![if name == "dex.b" { reply(question, 0, Some(7)) } else { reply(question, 5, None) }]
        },
        // A is answered, AAAA is not.
        |name, family, _, question| match (name, family) {
            ("dex.b", Family::V4) => vec![reply(question, 0, Some(7))],
            (_, Family::V4) => vec![reply(question, 3, None)],
            _ => vec![],
        },
    ] as [Handler; 3]
    {
        let first = Server::start(first).await;
        let found = resolve("search a b\noptions timeout:1", &[&first, &denies], "dex").await.unwrap();
        assert!(found.contains("127.0.0.7"), "{found:?}");
    }
}
