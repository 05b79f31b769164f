//! docs/failures.md is generated from the table of failures, the delays of the schedule, and how
//! each failure shows.

use std::time::Duration;

use dexsidecar_core::duration::HumanDuration;
use dexsidecar_core::failure::{Code, RetryClass, Step, WRONG_SETTINGS};
use dexsidecar_core::schedule::{SHORT_POLL_INTERVAL, Schedule};
use dexsidecar_core::time::Jitter;
use dexsidecar_e2e::dex_error_table::{ErrorResponse, MALFORMED, REFUSALS};
use dexsidecar_e2e::how_to_see::{self, HowToSee, how_to_see};

use crate::generated;

const PAGE: &str = "docs/failures.md";

const HEAD: &str = "\
# Failures

Every failure has a stable code. This page says for each code what it means, who can fix it, how, and where
else the failure shows. It is generated from the program's own tables by `cargo xtask docs`.

## Find your code

```sh
kubectl exec POD -c dexsidecar -- dexsidecar check   # tests each step, explains the first failure
kubectl logs POD -c dexsidecar | grep code=          # every failure so far
kubectl describe pod POD                             # the last failure, once the container has ended
```

A failure never ends `dexsidecar run`: it is logged and the attempt is repeated. Only wrong settings at
startup end it, with exit code 78.

The log line, `check` and the termination message may name another owner or fix than this page, if they know
more about the cause.

The **owner** is who can fix the failure: the author of the pod's manifest or of Dex's configuration, or the
operator of the network, of Dex or of the cluster. Answers are shown as status and body.

";

const PLACEHOLDERS: &str = "
## The commands on this page

Words in capitals are placeholders.

| placeholder | stands for |
|---|---|
| `POD` | the pod with the container `dexsidecar` |
| `APP` | a container of that pod with a shell and the tool; or add one: `kubectl debug -it POD --image=IMAGE --target=dexsidecar` |
| `NODE`, `IMAGE` | the pod's node; an image that has the tool |
| `ENDPOINT`, `HOST`, `PORT` | `dex_endpoint`, its host and its port |
| `SUBJECT`, `FILE` | the subject token (`dex_file_subject_token`); the file of another form field |
| `TOKEN`, `DIRECTORY` | the token file (`dex_access_token_file`) and its directory |
| `CA.pem` | the CA file (`DEXSIDECAR_CA_FILE`) |
| `PROXY` | the URL of the proxy |

Dex is the Deployment `dex` in the namespace `dex`. Its log lines are those of Dex 2.45, without `time` and
`request_id`; `…` stands for what varies.
";

const DELAYS: &str = "
## Delays

The delay before the next attempt depends on the retry class of the failure. It starts at the initial delay
and doubles with each failure in a row, up to the maximum. Jitter then takes up to half of it away.

| retry class | without a valid token | with a valid token on disk |
|---|---|---|
";

/// A row of the table of delays.
fn delays(name: &str, step: Step, class: RetryClass) -> String {
    let delay =
        |attempts, left| Schedule::default().retry_delay(step, class, attempts, left, Jitter::new(1.0));
    let (short, long) = (Some(Duration::from_secs(1)), Some(Duration::from_secs(1_000_000)));
    assert_eq!(delay(2, None), delay(1, None) * 2, "{name}: delays double");
    let without = format!("{} to {}", HumanDuration(delay(1, None)), HumanDuration(delay(1_000, None)));
    let (least, most) = (delay(1_000, short), delay(1_000, long));
    let maximum = if least == most {
        HumanDuration(most).to_string()
    } else {
        assert_eq!(delay(1_000, Some(least * 11)), least * 11 / 10, "{name}: a tenth between the two");
        format!("a tenth of the remaining validity ({} to {})", HumanDuration(least), HumanDuration(most))
    };
    format!("| {name} | {without} | {} to {maximum} |\n", HumanDuration(delay(1, long)))
}

/// What changes the delays.
fn exceptions() -> String {
    format!(
        "\n- After a failure of the class refused, config or local, or of the step TLS, the input files are polled every \
         {}. A change starts an attempt at once.\n\
         - `Retry-After` of the answer is honoured up to 5m.\n\
         - A token that expires during the delay starts an attempt at once.\n\
         - `dex_refresh_interval` replaces the maximum while the token on disk is valid (2s at least).\n\
         - While a token cannot be written, Dex is not asked again.\n\
         - At most 20 attempts start in any minute, whatever the reason.\n",
        HumanDuration(SHORT_POLL_INTERVAL)
    )
}

fn page() -> String {
    let mut text = HEAD.to_owned();
    text += "| step | codes |\n|---|---|\n";
    let codes = |step| Code::ALL.iter().filter(move |code| code.entry().step == step);
    for step in Step::ALL.into_iter().chain([Step::Actions]) {
        let links = codes(step).map(|code| code.entry().name);
        let links = (step == Step::Settings).then_some(WRONG_SETTINGS).into_iter().chain(links);
        let links: Vec<_> = links.map(|name| format!("[{name}](#{name})")).collect();
        if !links.is_empty() {
            text += &format!("| {} | {} |\n", step.title(), links.join(", "));
        }
    }
    text += DELAYS;
    text += &delays("network", Step::Exchange, RetryClass::Network);
    text += &delays("refused", Step::Exchange, RetryClass::Refused);
    text += &delays("config", Step::Exchange, RetryClass::Config);
    text += &delays("local: reading a file", Step::SubjectToken, RetryClass::Local);
    text += &delays("local: writing the token", Step::Output, RetryClass::Local);
    text += &exceptions();
    text += PLACEHOLDERS;
    for step in Step::ALL.into_iter().chain([Step::Actions]) {
        let mut codes = codes(step).peekable();
        if step != Step::Settings && codes.peek().is_none() {
            continue;
        }
        text += &format!("\n## Step: {}\n", step.title());
        if step == Step::Settings {
            text += &entry(
                WRONG_SETTINGS,
                "settings are invalid",
                "pod",
                "none: the container exits with code 78, and Kubernetes starts it again",
                "correct each setting that the message names",
                &how_to_see::WRONG_SETTINGS,
            );
        }
        for code in codes {
            let row = code.entry();
            let retry = format!("{} ([delays](#delays))", row.retry.name());
            text += &entry(row.name, row.summary, row.owner.title(), &retry, row.fix, how_to_see(*code));
        }
    }
    text
}

fn entry(name: &str, summary: &str, owner: &str, retry: &str, fix: &str, see: &HowToSee) -> String {
    let mut text = format!(
        "\n### {name}\n\n{}.\n\n- **Owner**: {owner}\n- **Retry**: {retry}\n- **Fix**: {fix}\n\n\
         **How to see it**: {}\n\n```sh\n{}\n```\n",
        capitalised(summary),
        see.look,
        see.commands.join("\n")
    );
    if !see.answers.is_empty() {
        text += "\nDex's answer:\n\n```\n";
        text += &see.answers.join("\n");
        text += "\n```\n";
    }
    if !see.dex_log.is_empty() {
        text += "\n| Dex's log | cause |\n|---|---|\n";
        for line in see.dex_log {
            text += &format!("| `{}` | {} |\n", line.text, line.cause);
        }
    }
    text
}

fn capitalised(words: &str) -> String {
    let mut letters = words.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().collect::<String>() + letters.as_str())
}

#[test]
fn the_failures_page_is_up_to_date() {
    generated::page(PAGE, &page());
}

/// An answer as the page shows it.
fn shown(told: &ErrorResponse) -> String {
    let answer = String::from_utf8(told.to_http()).expect("an answer is text");
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    format!("{} {}", told.status, body.trim())
}

/// The tables of Dex's refusals are what a real Dex answers, by a test of their own.
#[test]
fn the_page_shows_every_refusal_of_dex_under_its_code() {
    for row in REFUSALS {
        let code =
            Code::ALL.iter().find(|code| code.entry().name == row.code).expect("the table has the code");
        let answer = shown(&row.response);
        assert!(how_to_see(*code).answers.contains(&answer.as_str()), "{}: {answer}", row.code);
    }
}

#[test]
fn what_the_page_calls_an_answer_of_dex_is_one() {
    let refusals = REFUSALS.iter().map(|row| shown(&row.response));
    let malformed = MALFORMED.iter().map(|row| shown(&row.response));
    // Of Go's server, and of Dex's router.
    let others = ["400 Client sent an HTTP request to an HTTPS server.", "404 404 page not found"];
    let known: Vec<String> = refusals.chain(malformed).chain(others.map(str::to_owned)).collect();
    for code in Code::ALL {
        for answer in how_to_see(*code).answers {
            assert!(known.iter().any(|known| known == answer), "{code}: {answer}");
        }
    }
}
