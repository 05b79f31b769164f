//! Several name servers.

use super::*;

#[tokio::test]
async fn f128_servers_are_asked_in_order_and_the_next_one_only_in_trouble() {
    let knows = Server::acts(|_, _, _, question| vec![reply(question, 0, Some(7))]).await;
    let denies = Server::acts(|_, _, _, question| vec![reply(question, 3, None)]).await;
    let fails = Server::acts(|_, _, _, question| vec![reply(question, 2, None)]).await;
    let refuses = Server::acts(|_, _, _, question| vec![reply(question, 5, None)]).await;
    let lame = Server::acts(|_, _, _, question| {
        let mut answer = reply(question, 0, None);
        answer[3] = 0;
        vec![answer]
    })
    .await;
    let both: Result<BTreeSet<_>, _> = Ok(["127.0.0.7".to_owned(), "fd00::7".to_owned()].into());
    assert_eq!(looked_up(HASTY, &[&knows, &denies], "dex.example").await, both);
    assert!(denies.asked().is_empty());
    for trouble in [&fails, &refuses, &lame] {
        assert_eq!(looked_up(HASTY, &[trouble, &knows], "dex.example").await, both);
    }
    let absent = looked_up(HASTY, &[&denies, &knows], "dex.example").await.unwrap_err();
    assert!(
        absent.is_absent && absent.detail.contains("does not exist (NXDOMAIN), says 127.0.0.1"),
        "{absent}"
    );
    let failed = looked_up(HASTY, &[&fails, &refuses], "dex.example").await.unwrap_err();
    assert!(!failed.is_absent, "{failed}");
    assert!(
        failed.detail.contains("127.0.0.1 for A: SERVFAIL") && failed.detail.contains("REFUSED"),
        "{failed}"
    );
}

/// A silent first server costs its time-out once, not once for each name of the search list.
#[tokio::test]
async fn f128_a_silent_server_is_asked_last_from_then_on() {
    let silent = Server::acts(|_, _, _, _| vec![]).await;
    let denies = Server::acts(|name, _, _, question| {
        vec![if name == "dex.c" { reply(question, 0, Some(7)) } else { reply(question, 3, None) }]
    })
    .await;
    let found = looked_up("search a b c\noptions timeout:1", &[&silent, &denies], "dex").await.unwrap();
    assert_eq!(found.len(), 2);
    let asked: BTreeSet<String> = silent.asked().into_iter().collect();
    assert_eq!(asked, ["dex.a A EDNS".to_owned(), "dex.a AAAA EDNS".to_owned()].into());
}

/// The next server may be one that knows nothing of the names inside.
#[tokio::test]
async fn f128_a_server_in_trouble_with_one_name_stays_first_for_the_next() {
    let denies = Server::acts(|_, _, _, question| vec![reply(question, 3, None)]).await;
    for first in [
        |name: &str, _: Family, _: bool, question: &[u8]| {
            vec![if name == "dex.b" { reply(question, 0, Some(7)) } else { reply(question, 2, None) }]
        },
        |name, _, _, question| {
            vec![if name == "dex.b" { reply(question, 0, Some(7)) } else { reply(question, 5, None) }]
        },
        // AAAA is never answered, A is.
        |name, family, _, question| match (name, family) {
            ("dex.b", Family::V4) => vec![reply(question, 0, Some(7))],
            (_, Family::V4) => vec![reply(question, 3, None)],
            _ => vec![],
        },
    ] as [Act; 3]
    {
        let first = Server::acts(first).await;
        let found = looked_up("search a b\noptions timeout:1", &[&first, &denies], "dex").await.unwrap();
        assert!(found.contains("127.0.0.7"), "{found:?}");
    }
}
