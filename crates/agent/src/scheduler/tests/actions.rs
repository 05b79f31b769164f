//! Actions in paused time: requests whose answers a script has.

use std::cell::{Cell, RefCell};

use dexsidecar_core::action::{Action, ExecAction, SignalAction, SignalTarget};
use dexsidecar_core::endpoint_url::EndpointUrl;
use dexsidecar_core::pending_actions::MAX_DELAY;
use dexsidecar_edge::action::AttemptSlot;

use super::many_tokens::Many;
use super::*;
use crate::action::{OutputLog, perform};

/// What comes of a request.
#[derive(Clone, Copy)]
pub(super) enum Fate {
    Works,
    Fails,
    /// It fails after so many seconds.
    Hangs(u64),
}

/// The seconds since the start, and the path of the URL.
pub(super) type Fates = fn(f64, &str) -> Fate;

thread_local! {
    pub(super) static FATES: Cell<Fates> = const { Cell::new(|_, _| Fate::Works) };
    /// The seconds and the path of each request.
    static REQUESTS: RefCell<Vec<(f64, String)>> = const { RefCell::new(Vec::new()) };
    /// The hosts of the requests that are being answered: each token has its own.
    static RUNNING: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

pub(super) async fn notify(clock: Clock, action: &HttpAction) -> Result<(), Failure> {
    let seconds = clock.now().boot.since_start().as_secs_f64() - 9_000.0;
    let (host, path) = (action.url.host().to_owned(), action.url.target().to_owned());
    REQUESTS.with_borrow_mut(|requests| requests.push((seconds, path.clone())));
    RUNNING.with_borrow_mut(|running| {
        assert!(!running.contains(&host), "two actions of one token run at once");
        running.push(host.clone());
    });
    let fate = FATES.get()(seconds, &path);
    if let Fate::Hangs(pause) = fate {
        tokio::time::sleep(Duration::from_secs(pause)).await;
    }
    RUNNING.with_borrow_mut(|running| running.retain(|other| *other != host));
    match fate {
        Fate::Works => Ok(()),
        Fate::Fails | Fate::Hangs(_) => Err(Failure::new(Code::ActionFailed, "scripted")),
    }
}

pub(super) fn http(host: &str, path: &str) -> Action {
    let (url, _) = EndpointUrl::parse(&format!("http://{host}/{path}")).unwrap();
    let timeout = Duration::from_secs(5);
    Action::Http(HttpAction {
        url,
        method: "POST".into(),
        headers: vec![],
        success: vec![200..=299],
        timeout,
    })
}

pub(super) fn requests() -> Vec<(f64, String)> {
    REQUESTS.with_borrow(Clone::clone)
}

fn paths() -> Vec<String> {
    requests().into_iter().map(|(_, path)| path).collect()
}

/// One token with these actions.
fn world(script: fn(f64) -> Played, fates: Fates, actions: &[Action]) -> World {
    FATES.set(fates);
    let mut world = World::new(&[], script, first_key);
    world.config.actions = actions.to_vec();
    world.restart(Logger::silent(world.clock));
    world
}

fn hourly(_: f64) -> Played {
    Played::Token(3_600, "first")
}

#[tokio::test(start_paused = true)]
async fn the_actions_run_in_order_once_for_each_token() {
    let mut world = world(hourly, |_, _| Fate::Works, &[http("a", "1"), http("a", "2"), http("a", "3")]);
    world.run(20_000.0, |_, _| {}).await;
    let tokens = world.exchanges().len();
    assert!(tokens > 8, "{tokens}");
    assert_eq!(paths(), ["/1", "/2", "/3"].repeat(tokens));
}

#[tokio::test(start_paused = true)]
async fn the_actions_wait_until_every_output_holds_the_token() {
    let mut world = world(|_| Played::Token(600, "first"), |_, _| Fate::Works, &[http("a", "1")]);
    let second = world.directory.path().join("second");
    let mut output = world.config.outputs[0].clone();
    output.path.clone_from(&second);
    world.config.outputs.push(output);
    world.restart(Logger::silent(world.clock));
    std::fs::create_dir(&second).unwrap();
    world
        .run(1_040.0, |when, _| {
            if when.round() <= 1_000.0 {
                assert_eq!(paths(), [""; 0]);
                let _ = (when.round() == 1_000.0).then(|| std::fs::remove_dir(&second));
            }
        })
        .await;
    assert_eq!(paths(), ["/1"]);
}

#[tokio::test(start_paused = true)]
async fn p14_a_failing_action_is_repeated_for_the_newest_token_and_delays_no_refresh() {
    let fates = |seconds, path: &str| match path {
        "/1" if seconds < 10_000.0 => Fate::Fails,
        _ => Fate::Works,
    };
    let mut world = world(hourly, fates, &[http("a", "1"), http("a", "2")]);
    world
        .run(9_999.0, |when, verdict| assert!(verdict.is_some_and(TokenFileState::is_valid), "at {when} s"))
        .await;
    assert!(world.exchanges().len() > 4 && world.refresher().failures() == 0);
    assert_eq!(world.refresher().health(world.clock.now()), Health::Fresh, "the token stays ready");
    let failed = requests();
    assert!(failed.iter().all(|(_, path)| path == "/1"), "the second one waits for the first");
    let delays: Vec<f64> = failed.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    let (shortest, longest) = (1.0, MAX_DELAY.as_secs_f64() + 0.1);
    assert!(delays.iter().all(|delay| (shortest..longest).contains(delay)), "{delays:?}");
    // After each token it begins again with the shortest delay.
    assert!(delays.iter().filter(|delay| **delay < 2.1).count() >= world.exchanges().len(), "{delays:?}");
    world.run(61.0, |_, _| {}).await;
    // Both run once for the token, and once more if another one is issued in that minute.
    let paths = paths().split_off(failed.len());
    assert!(!paths.is_empty() && paths.chunks(2).all(|pair| pair == ["/1", "/2"]), "{paths:?}");
}

#[tokio::test(start_paused = true)]
async fn p14_an_action_that_hangs_delays_no_refresh_and_starts_again_for_the_newest_token() {
    let fates = |seconds, path: &str| match path {
        "/2" if seconds < 100.0 => Fate::Hangs(5_000),
        _ => Fate::Works,
    };
    let mut world = world(hourly, fates, &[http("a", "1"), http("a", "2")]);
    world.run(8_000.0, |_, verdict| assert!(verdict.is_some_and(TokenFileState::is_valid))).await;
    let later: Vec<_> = requests().into_iter().skip(2).collect();
    assert!(later.iter().all(|(when, _)| *when >= 5_000.0), "{later:?}");
    assert_eq!((paths()[..4].join(" "), later[0].0.floor()), ("/1 /2 /1 /2".to_owned(), 5_000.0));
    assert!(world.exchanges().iter().filter(|when| **when < 5_000.0).count() >= 3);
}

/// The consumer may have missed the last update because of the restart.
#[tokio::test(start_paused = true)]
async fn the_actions_run_once_for_an_adopted_token() {
    // Dex is away after the restart, or issues a new token, for which the actions run as well.
    for (script, requests) in
        [(at_first as fn(f64) -> Played, [1, 1, 2]), (|_| Played::Token(86_400, "first"), [1, 2, 2])]
    {
        REQUESTS.take();
        let mut world = world(script, |_, _| Fate::Works, &[http("a", "1")]);
        world.run(100.0, |_, _| {}).await;
        let mut seen = vec![paths().len()];
        world.restart(Logger::silent(world.clock));
        world
            .run(3_000.0, |when, _| {
                if [40.0, 3_000.0].contains(&when.round()) {
                    seen.push(paths().len());
                }
            })
            .await;
        assert_eq!(seen, requests);
    }
}

fn at_first(when: f64) -> Played {
    if when < 100.0 { Played::Token(86_400, "first") } else { Played::Away }
}

#[tokio::test(start_paused = true)]
async fn the_actions_run_for_a_newer_token_of_another_process_and_not_for_a_restored_one() {
    let mut world = world(|_| Played::Token(86_400, "first"), |_, _| Fate::Works, &[http("a", "1")]);
    let path = world.directory.path().join("token");
    let mut ours = None;
    world
        .run(300.0, |when, _| match when.round() {
            100.0 => {
                ours = std::fs::read_to_string(&path).ok();
                std::fs::write(&path, "something else").unwrap();
            }
            200.0 => {
                assert_eq!((std::fs::read_to_string(&path).ok(), paths().len()), (ours.clone(), 1));
                let exp = (EARLIEST_PLAUSIBLE_NOW + Duration::from_secs(300_000)).as_duration().as_secs();
                let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"iat":{},"exp":{exp}}}"#, exp - 300_000));
                std::fs::write(&path, format!("e30.{claims}.sig")).unwrap();
            }
            _ => {}
        })
        .await;
    assert_eq!(paths().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn p14_the_actions_of_64_tokens_run_independently() {
    // Of four tokens, the actions of one work, of one fail, of one hang, and one has none.
    FATES.set(|_, path| match path {
        "/fails" => Fate::Fails,
        "/hangs" => Fate::Hangs(300),
        _ => Fate::Works,
    });
    let mut many = Many::new(64, false, |_, _| Played::Token(3_600, "first"), first_key);
    many.configure(|index, config| {
        let host = format!("host{index}");
        config.actions = match index % 4 {
            0 => vec![http(&host, "works"), http(&host, "also")],
            1 => vec![http(&host, "fails"), http(&host, "never")],
            2 => vec![http(&host, "hangs"), http(&host, "never")],
            _ => vec![],
        };
    });
    many.run(7_000.0).await;
    assert_eq!(many.without_token(), [0; 0]);
    let tokens = many.exchanges.borrow().iter().filter(|(_, token)| token % 4 == 0).count();
    let count = |wanted: &str| paths().iter().filter(|path| *path == wanted).count();
    assert!(tokens >= 16 * 4, "{tokens}");
    assert_eq!((count("/works"), count("/also"), count("/never")), (tokens, tokens, 0));
    assert!(count("/fails") > 16 * 7_000 / 60, "each goes on");
}

#[tokio::test(start_paused = true)]
async fn once_runs_no_action() {
    let mut world = world(hourly, |_, _| Fate::Works, &[http("a", "1")]);
    world.scheduler.run_once().await;
    assert_eq!((world.exchanges().len(), paths()), (1, vec![]));
}

/// With real processes, in real time. What `exec` and `signal` do is tested where they are.
#[tokio::test]
async fn commands_and_signals_are_performed_and_no_line_with_a_secret_is_logged() {
    let secret = Secret::new("a-token-that-is-a-canary".to_owned());
    let script = "echo one; echo has a-token-that-is-a-canary; echo two >&2";
    let shell = |script: &str| {
        let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        Action::Exec(ExecAction { command, timeout: Duration::from_secs(60) })
    };
    let no_process = SignalTarget::Process("dexsidecar-no-such-process".to_owned());
    let signal = Action::Signal(SignalAction { target: no_process, signal: 1 });
    for (action, works, lines) in [
        // Two lines, and one that says how many were dropped.
        (shell(script), true, 3),
        (shell("exit 1"), false, 0),
        (shell("echo why; exit 1"), false, 1),
        (shell("i=0; while [ $i -lt 150 ]; do echo $i; i=$((i+1)); done"), true, 101),
        (signal, false, 0),
    ] {
        let (log, logged) = Logger::counting(Clock::System);
        let client = Rc::clone(world(hourly, |_, _| Fate::Works, &[]).client.as_ref().unwrap());
        let (slot, secrets) = (AttemptSlot::default(), RefCell::new(vec![secret.clone()]));
        let attempt =
            |known| perform(&action, &*client, &slot, OutputLog::new("exec", &secrets, &log, known));
        let result = attempt(None).await;
        assert_eq!((result.is_ok(), logged.get()), (works, lines), "{result:?}");
        let failure = result.map_err(|failure| failure.detail).err();
        // A failure that repeats: its output is not logged again. That of another one is, and that
        // of the attempt that works.
        for (known, more) in [(failure.as_deref(), 0), (Some("another failure"), lines)] {
            let before = logged.replace(0);
            let again = attempt(known).await;
            let expected = if known.is_none() { before } else { more };
            assert_eq!((again.is_ok(), logged.get()), (works, expected), "{again:?}");
        }
        let hanging = slot.begin().expect("the attempt is over");
        assert_eq!(attempt(None).await.unwrap_err().detail, "the attempt before this one hangs");
        drop(hanging);
    }
}

/// A command that runs through a refresh prints the token of its start and the next one.
#[tokio::test]
async fn a_token_that_is_issued_while_a_command_runs_is_not_logged() {
    // The lines are logged at once, or kept until it is known how the attempt ends.
    for known in [None, Some("another failure")] {
        let directory = tempfile::tempdir().unwrap();
        let goes_on = directory.path().join("goes-on");
        let script = format!(
            "while [ ! -e {} ]; do sleep 0.01; done; echo an-older-canary; echo a-newer-canary",
            goes_on.display()
        );
        let command = ["/bin/sh", "-c", &script].map(str::to_owned).to_vec();
        let action = Action::Exec(ExecAction { command, timeout: Duration::from_secs(60) });
        let (log, logged) = Logger::counting(Clock::System);
        let client = Rc::clone(world(hourly, |_, _| Fate::Works, &[]).client.as_ref().unwrap());
        let canary = |text: &str| Secret::new(text.to_owned());
        let (slot, secrets) = (AttemptSlot::default(), RefCell::new(vec![canary("an-older-canary")]));
        let running = perform(&action, &*client, &slot, OutputLog::new("exec", &secrets, &log, known));
        let refresh = async {
            tokio::task::yield_now().await;
            secrets.borrow_mut().push(canary("a-newer-canary"));
            std::fs::write(&goes_on, "").unwrap();
        };
        let (result, ()) = tokio::join!(running, refresh);
        assert_eq!((result, logged.get()), (Ok(()), 1), "the line that says how many were dropped");
    }
}
