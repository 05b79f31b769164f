//! Reloads of the configuration in paused time, with real token files.

use std::cell::Cell;

use dexsidecar_core::config::Problem;
use dexsidecar_core::reload::ReloadLimits;

use super::many_tokens::{Fate, Many, SlowDex, slow_dex};
use super::*;
use crate::reload::ConfigSource;

/// A configuration file. Each change of its version is a change of its fingerprint.
struct File {
    version: Cell<u64>,
    tokens: RefCell<Vec<TokenConfig>>,
    is_valid: Cell<bool>,
    reads: Cell<usize>,
    dex: Rc<dyn Fn() -> SlowDex>,
}

impl File {
    fn config(&self) -> Config {
        let variables = [("dex_endpoint", "http://127.0.0.1/token"), ("dex_access_token_file", "/unused")];
        let variables = variables.map(|(name, value)| (name.to_owned(), Secret::new(value.to_owned())));
        let config = Config::read(&RawSettings::of_variables(variables.to_vec()), Outputs::Required).unwrap();
        Config { tokens: self.tokens.borrow().clone(), warnings: vec![], ..config }
    }

    fn change(&self, change: impl FnOnce(&mut Vec<TokenConfig>)) {
        change(&mut self.tokens.borrow_mut());
        self.version.set(self.version.get() + 1);
    }
}

impl ConfigSource<SlowDex> for File {
    fn fingerprint(&self) -> u64 {
        self.version.get()
    }

    fn read(&self) -> Result<Config, Vec<Problem>> {
        self.reads.set(self.reads.get() + 1);
        let problem = || Problem::new("tokens", "is wrong", "mend it");
        if self.is_valid.get() { Ok(self.config()) } else { Err(vec![problem(), problem()]) }
    }

    fn connect(&self, _: &Endpoint) -> SlowDex {
        (self.dex)()
    }
}

/// Tokens named `t0`, `t1` and so on, with the configuration file that they come from.
fn world(count: usize, fate: Fate) -> (Many, File) {
    logged_world(count, fate, Logger::silent)
}

fn logged_world(count: usize, fate: Fate, log: impl FnOnce(Clock) -> Logger) -> (Many, File) {
    let mut many = Many::new(count, false, fate, first_key);
    let mut tokens: Vec<_> = (0..count).map(|token| many.config(token)).collect();
    for (index, token) in tokens.iter_mut().enumerate() {
        token.name = format!("t{index}");
    }
    let dex = slow_dex(&many);
    let file = File {
        version: Cell::new(0),
        tokens: RefCell::new(tokens.clone()),
        is_valid: Cell::new(true),
        reads: Cell::new(0),
        dex: Rc::new(move || dex.clone()),
    };
    let (clock, log) = (many.clock, log(many.clock));
    many.scheduler = Scheduler::new(tokens, |_| (file.dex)(), clock, log, Some("/dev/null".into()));
    (many, file)
}

/// The same, with the number of lines that were logged.
fn counted_world(count: usize, fate: Fate) -> (Many, File, Rc<Cell<u32>>) {
    let lines = RefCell::new(None);
    let (many, file) = logged_world(count, fate, |clock| {
        let (logger, counted) = Logger::counting(clock);
        lines.replace(Some(counted));
        logger
    });
    let lines = lines.into_inner().unwrap();
    (many, file, lines)
}

/// Runs the scheduler beside `story`, which changes the file and waits.
async fn run(many: &mut Many, file: &File, story: impl Future<Output = ()>) {
    let mut refresh_signal = RefreshSignal::install().unwrap();
    let reload =
        Reload::new(file, ReloadLimits::of(&file.config()), file.fingerprint(), many.clock.now().unix);
    tokio::select! {
        () = many.scheduler.run(&mut refresh_signal, Some(reload)) => panic!("the loop never ends"),
        () = story => {}
    }
}

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn content(many: &Many, name: &str) -> Option<String> {
    std::fs::read_to_string(many.directory.path().join(name)).ok()
}

fn output(config: &TokenConfig, name: &str) -> dexsidecar_core::output::Output {
    let path = config.outputs[0].path.with_file_name(name);
    dexsidecar_core::output::Output { path, ..config.outputs[0].clone() }
}

const DAY_TOKEN: Fate = |_, _| Played::Token(86_400, "first");

#[tokio::test(start_paused = true)]
async fn an_unchanged_token_keeps_its_state_and_a_new_output_gets_the_token_without_an_exchange() {
    let (mut many, file) = world(3, DAY_TOKEN);
    run(&mut many, &file, async {
        seconds(10).await;
        file.change(|tokens| {
            let added = output(&tokens[1], "added");
            tokens[1].outputs.push(added);
            tokens[2].schedule.before = Some(Duration::from_secs(3_600));
        });
        seconds(120).await;
    })
    .await;
    assert_eq!(many.exchanges.borrow().len(), 3, "no exchange was needed");
    assert!(content(&many, "1").is_some() && content(&many, "added") == content(&many, "1"));
    assert_eq!(file.reads.get(), 1, "the file was read once");
    let names: Vec<_> = many.scheduler.tokens.iter().map(|each| each.token.name().to_owned()).collect();
    assert_eq!(names, ["t0", "t1", "t2"]);
    assert!(many.scheduler.reload_status.is_some_and(|status| status.is_successful));
}

#[tokio::test(start_paused = true)]
async fn a_removed_token_is_not_refreshed_any_more_and_an_added_one_is_exchanged() {
    let (mut many, file) = world(3, |_, _| Played::Token(3_600, "first"));
    let fourth = {
        let mut fourth = many.config(0);
        fourth.name = "new".to_owned();
        fourth.outputs[0] = output(&fourth, "new");
        fourth
    };
    run(&mut many, &file, async {
        seconds(10).await;
        file.change(|tokens| tokens[1] = fourth);
        seconds(10_000).await;
    })
    .await;
    let exchanges = many.exchanges.borrow();
    let of = |token| exchanges.iter().filter(|(_, of)| *of == token).count();
    assert_eq!(of(1), 1, "only before it was removed");
    assert!(content(&many, "1").is_some(), "its file stays");
    assert!(content(&many, "new").is_some() && of(0) > of(2), "the new one has the connector of the first");
    let ids: Vec<_> = many.scheduler.tokens.iter().map(|each| each.token.id()).collect();
    assert_eq!(ids, [0, 3, 2], "no number is used twice while the token that had it is known");
}

#[tokio::test(start_paused = true)]
async fn a_token_with_another_exchange_keeps_its_file_and_is_exchanged_within_30_s() {
    let (mut many, file) = world(2, DAY_TOKEN);
    let before = RefCell::new(None);
    let path = many.directory.path().join("1");
    run(&mut many, &file, async {
        seconds(10).await;
        *before.borrow_mut() = std::fs::read_to_string(&path).ok();
        file.change(|tokens| tokens[1].exchange.fields.retain(|(name, _)| name != "subject_token"));
        seconds(1).await;
        assert_eq!(std::fs::read_to_string(&path).ok(), *before.borrow(), "the old token stays");
        seconds(70).await;
    })
    .await;
    assert_eq!(many.exchanges.borrow().len(), 3);
    assert!(content(&many, "1") != before.take());
}

/// Dex is away, and the file has the token already.
#[tokio::test(start_paused = true)]
async fn a_file_gets_its_new_format_and_mode_although_the_exchange_has_changed_too() {
    use std::os::unix::fs::PermissionsExt as _;
    for (format, mode) in [(true, None), (false, Some(0o600)), (true, Some(0o604))] {
        let (mut many, file) =
            world(1, |when, _| if when < 5.0 { Played::Token(86_400, "first") } else { Played::Away });
        let raw = RefCell::new(None);
        let path = many.directory.path().join("0");
        run(&mut many, &file, async {
            seconds(10).await;
            raw.replace(std::fs::read_to_string(&path).ok());
            file.change(|tokens| {
                tokens[0].exchange.fields.retain(|(name, _)| name != "subject_token");
                tokens[0].outputs[0].mode = mode;
                if format {
                    tokens[0].outputs[0].format = dexsidecar_core::output::Format::Json;
                }
            });
            seconds(60).await;
        })
        .await;
        let (raw, now) = (raw.take().unwrap(), content(&many, "0").unwrap());
        assert_eq!((now.starts_with('{'), now.contains(&raw)), (format, true), "{now}");
        let found = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode.unwrap_or(0o644));
    }
}

/// The first token is of another exchange: another Dex may have issued it.
#[tokio::test(start_paused = true)]
async fn a_token_of_the_former_exchange_is_copied_to_no_new_output() {
    let (mut many, file) =
        world(1, |when, _| if when < 5.0 { Played::Token(86_400, "first") } else { Played::Away });
    run(&mut many, &file, async {
        seconds(10).await;
        file.change(|tokens| {
            let added = output(&tokens[0], "added");
            tokens[0].outputs.push(added);
            tokens[0].exchange.fields.retain(|(name, _)| name != "subject_token");
        });
        seconds(120).await;
    })
    .await;
    assert!(content(&many, "0").is_some() && content(&many, "added").is_none());
}

/// The file of a removed token is an output of the added one.
#[tokio::test(start_paused = true)]
async fn a_token_of_a_removed_token_is_copied_to_no_output_of_an_added_one() {
    let stays_away: Fate = |when, _| if when < 5.0 { Played::Token(86_400, "first") } else { Played::Away };
    let comes_back: Fate = |when, _| match when {
        5.0..200.0 => Played::Away,
        _ => Played::Token(86_400, "first"),
    };
    for (fate, comes_back) in [(stays_away, false), (comes_back, true)] {
        let (mut many, file) = world(1, fate);
        let former = RefCell::new(None);
        run(&mut many, &file, async {
            seconds(10).await;
            former.replace(std::fs::read_to_string(&file.tokens.borrow()[0].outputs[0].path).ok());
            file.change(|tokens| {
                let added = output(&tokens[0], "added");
                tokens[0].name = "added".to_owned();
                tokens[0].exchange.fields.retain(|(name, _)| name != "subject_token");
                tokens[0].outputs.push(added);
            });
            seconds(600).await;
        })
        .await;
        let (shared, added) = (content(&many, "0"), content(&many, "added"));
        if comes_back {
            assert!(shared != former.take() && added == shared, "the first token of the added one");
        } else {
            assert!(shared == former.take() && added.is_none(), "the former one stays where it was");
        }
    }
}

const AWAY_AFTER_THE_FIRST: Fate =
    |when, _| if when < 5.0 { Played::Token(100, "first") } else { Played::Away };

/// The token lives for 20 s, and the other exchange fails. Readers have a valid token until then.
#[tokio::test(start_paused = true)]
async fn a_reload_of_the_exchange_keeps_the_health_of_a_short_token() {
    const SHORT: Fate = |when, _| if when < 5.0 { Played::Token(20, "first") } else { Played::Away };
    let (mut many, file) = world(1, SHORT);
    run(&mut many, &file, async {
        seconds(1).await;
        file.change(|tokens| {
            tokens[0].exchange.fields.retain(|(name, _)| name != "subject_token");
            tokens[0].outputs[0].remove_expired = true;
        });
        seconds(10).await;
    })
    .await;
    let health = |many: &Many| {
        let (now, token) = (many.clock.now(), &many.scheduler.tokens[0].token);
        (token.refresher().health(now), token.refresher().has_failed())
    };
    assert_eq!(health(&many), (Health::Stale, true));
    run(&mut many, &file, seconds(30)).await;
    assert_eq!((health(&many), content(&many, "0")), ((Health::Expired, true), None));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_expires_soon_after_a_reload_of_its_exchange_is_removed() {
    for is_removed in [false, true] {
        let (mut many, file) = world(1, AWAY_AFTER_THE_FIRST);
        run(&mut many, &file, async {
            seconds(60).await;
            file.change(|tokens| {
                tokens[0].exchange.fields.retain(|(name, _)| name != "subject_token");
                tokens[0].outputs[0].remove_expired = is_removed;
            });
            seconds(30).await;
            assert!(file.tokens.borrow()[0].outputs[0].path.exists(), "it is still valid");
            seconds(60).await;
        })
        .await;
        assert_eq!(content(&many, "0").is_none(), is_removed);
    }
}

/// Its directory is away while the output has another mode or format.
#[tokio::test(start_paused = true)]
async fn an_expired_token_is_removed_although_a_changed_output_could_not_be_written() {
    for format in [None, Some(dexsidecar_core::output::Format::Json)] {
        let (mut many, file) = world(1, AWAY_AFTER_THE_FIRST);
        let [directory, away] = ["sub", "away"].map(|name| many.directory.path().join(name));
        std::fs::create_dir(&directory).unwrap();
        run(&mut many, &file, async {
            seconds(1).await;
            file.change(|tokens| {
                tokens[0].outputs[0].path = directory.join("token");
                tokens[0].outputs[0].remove_expired = true;
            });
            seconds(40).await;
            assert!(directory.join("token").exists());
            std::fs::rename(&directory, &away).unwrap();
            file.change(|tokens| match format {
                Some(format) => tokens[0].outputs[0].format = format,
                None => tokens[0].outputs[0].mode = Some(0o600),
            });
            seconds(80).await;
            std::fs::rename(&away, &directory).unwrap();
            seconds(40).await;
        })
        .await;
        assert!(!directory.join("token").exists());
    }
}

/// The same failure of another configuration is another one.
#[tokio::test(start_paused = true)]
async fn the_first_failure_after_a_reload_is_logged() {
    let (mut many, file, lines) = counted_world(1, |_, _| Played::Away);
    run(&mut many, &file, async {
        seconds(60).await;
        let before = lines.get();
        seconds(60).await;
        assert_eq!(lines.get(), before, "the same failure again");
        file.change(|tokens| tokens[0].schedule.before = Some(Duration::from_secs(3_600)));
        seconds(120).await;
        assert_eq!(lines.get(), before + 2, "the reload and the failure");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_token_of_another_issuer_than_the_configured_one_is_not_adopted() {
    let (mut many, file) = world(1, DAY_TOKEN);
    run(&mut many, &file, async {
        seconds(10).await;
        file.change(|tokens| tokens[0].exchange.issuer = Some("https://elsewhere".to_owned()));
        seconds(60).await;
    })
    .await;
    assert!(many.scheduler.tokens[0].token.last_failure().is_some(), "no token of that issuer comes");
    assert!(!many.scheduler.tokens[0].token.is_written());
}

/// The file may have been unreadable for a moment, which its fingerprint does not show.
#[tokio::test(start_paused = true)]
async fn a_refused_file_changes_nothing_is_logged_once_and_is_read_again_until_it_is_valid() {
    let (mut many, file, lines) = counted_world(2, DAY_TOKEN);
    run(&mut many, &file, async {
        seconds(60).await;
        let before = lines.get();
        file.is_valid.set(false);
        file.change(|tokens| tokens.truncate(1));
        seconds(600).await;
        assert_eq!(lines.get(), before + 3, "two problems, and what they mean");
        file.is_valid.set(true);
        seconds(60).await;
        assert_eq!(lines.get(), before + 4, "the reload");
        let reads = file.reads.get();
        seconds(600).await;
        assert_eq!((file.reads.get(), lines.get()), (reads, before + 4));
        // A change of nothing but a comment is logged too: it may have mended the file.
        file.change(|_| ());
        seconds(60).await;
        assert_eq!(lines.get(), before + 5);
    })
    .await;
    assert_eq!((many.without_token(), many.scheduler.tokens.len()), (vec![], 1));
    let status = many.scheduler.reload_status.expect("there was a reload");
    assert!(status.is_successful);
}

#[tokio::test(start_paused = true)]
async fn while_a_file_is_refused_the_former_configuration_stays_in_use() {
    let (mut many, file) = world(2, DAY_TOKEN);
    run(&mut many, &file, async {
        seconds(10).await;
        file.is_valid.set(false);
        file.change(Vec::clear);
        seconds(600).await;
    })
    .await;
    assert_eq!((many.without_token(), many.scheduler.tokens.len()), (vec![], 2));
    assert!(many.scheduler.reload_status.is_some_and(|status| !status.is_successful));
}

#[tokio::test(start_paused = true)]
async fn a_dex_that_is_not_used_any_more_is_forgotten_and_one_that_stays_is_kept() {
    let (mut many, file) = world(3, DAY_TOKEN);
    let elsewhere = Many::new(1, true, DAY_TOKEN, first_key).config(0).exchange.endpoint;
    run(&mut many, &file, async {
        seconds(10).await;
        file.change(|tokens| tokens[2].exchange.endpoint = elsewhere.clone());
        seconds(100).await;
        file.change(|tokens| tokens.truncate(2));
        seconds(100).await;
    })
    .await;
    assert_eq!(many.scheduler.upstreams.len(), 1);
    assert_eq!(many.exchanges.borrow().len(), 4);
}

/// Reloads come while exchanges hang, fail and succeed, and while Dex is away. It works once they
/// have ended: an outage that goes on leaves a token without an attempt for minutes.
#[tokio::test(start_paused = true)]
async fn p14_reloads_at_any_time_leave_no_token_behind_and_exceed_no_rate() {
    let fate: Fate = |when, token| match (when as u64 / 50 + token as u64) % 4 {
        _ if when > 430.0 => Played::Token(120, "first"),
        0 => Played::Away,
        1 => Played::Late(12, 0, ""),
        _ => Played::Token(120, "first"),
    };
    let (mut many, file) = world(8, fate);
    run(&mut many, &file, async {
        for round in 0..60_u64 {
            seconds(7).await;
            file.change(|tokens| {
                let count = tokens.len();
                let token = &mut tokens[round as usize % count];
                match round % 3 {
                    0 => token.exchange.fields.retain(|(name, _)| name != "subject_token"),
                    1 => token.schedule.before = Some(Duration::from_secs(20 + round)),
                    _ => {
                        let more = output(token, &format!("more{round}"));
                        token.outputs.push(more);
                    }
                }
                tokens.rotate_left(1);
            });
        }
        seconds(400).await;
    })
    .await;
    for token in 0..8 {
        let exchanges = many.exchanges.borrow();
        let of: Vec<_> = exchanges.iter().filter(|(_, of)| *of == token).map(|(when, _)| *when).collect();
        let most =
            of.iter().map(|first| of.iter().filter(|when| (*first..first + 60.0).contains(*when)).count());
        let most = most.max().unwrap_or(0);
        assert!(most <= 20, "token {token}: {most} attempts in a minute");
        assert!(of.last().is_some_and(|last| *last > 600.0), "token {token} is refreshed to the end: {of:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_number_of_exchanges_does_not_go_backwards_when_a_dex_is_removed() {
    let (mut many, file) = world(2, DAY_TOKEN);
    let elsewhere = Many::new(1, true, DAY_TOKEN, first_key).config(0).exchange.endpoint;
    run(&mut many, &file, async {
        seconds(10).await;
        file.change(|tokens| tokens.iter_mut().for_each(|each| each.exchange.endpoint = elsewhere.clone()));
        seconds(120).await;
    })
    .await;
    assert_eq!(many.scheduler.upstreams.len(), 1, "the former Dex is removed");
    let ended = many.scheduler.snapshot().exchanges_ended.0;
    assert_eq!((ended, many.exchanges.borrow().len()), (4, 4));
}

/// Each reload asks for an exchange: another name with another file, another exchange, or both.
#[tokio::test(start_paused = true)]
async fn p5_reloads_give_no_token_a_further_attempt() {
    type Change = fn(&mut TokenConfig, usize);
    let rename: Change = |token, round| {
        token.name = format!("n{round}");
        token.outputs[0] = output(token, &format!("n{round}"));
    };
    let other_exchange: Change = |token, round| {
        token.exchange.endpoint.attempt_timeout += Duration::from_millis(round as u64 + 1);
    };
    let both: Change = |token, round| {
        token.name = format!("n{}", round % 2);
        token.outputs[0] = output(token, &format!("n{round}"));
        token.exchange.endpoint.attempt_timeout += Duration::from_millis(round as u64 + 1);
    };
    for (kind, change) in [rename, other_exchange, both].into_iter().enumerate() {
        let mut many = Many::new(1, false, DAY_TOKEN, first_key);
        let dex = slow_dex(&many);
        for round in 0..120 {
            let mut config = many.config(0);
            change(&mut config, round);
            // A file with SIGHUP: it is read, and each token is refreshed.
            many.scheduler.apply(vec![config], &|_| dex.clone());
            many.scheduler.refresh_requested("SIGHUP");
            many.run(1.0).await;
        }
        let times: Vec<_> = many.exchanges.borrow().iter().map(|(seconds, _)| *seconds).collect();
        let most =
            times.iter().map(|from| times.iter().filter(|time| (*from..from + 60.0).contains(time)).count());
        assert!(most.max().is_some_and(|most| (5..=20).contains(&most)), "kind {kind}: {times:?}");
    }
}

/// The second of two requests is delayed by five seconds. `refresh` has reported that it comes.
#[tokio::test(start_paused = true)]
async fn a_reload_of_the_exchange_keeps_the_refresh_that_a_signal_has_requested() {
    let other_exchange = |many: &Many| {
        let mut config = many.config(0);
        config.exchange.endpoint.attempt_timeout += Duration::from_secs(1);
        config
    };
    let mut is_spread = false;
    for is_requested in [true, false].repeat(10) {
        let mut many = Many::new(1, false, DAY_TOKEN, first_key);
        let dex = slow_dex(&many);
        many.run(60.0).await;
        for _ in 0..if is_requested { 2 } else { 0 } {
            many.scheduler.refresh_requested("SIGUSR1");
            many.run(0.3).await;
        }
        let now = many.clock.now();
        many.scheduler.apply(vec![other_exchange(&many)], &|_| dex.clone());
        let due = many.scheduler.tokens[0].token.figures(now).refresh_due.unwrap();
        let is_late = due > now.unix + Duration::from_secs(5);
        assert!(!(is_late && is_requested), "{due:?}");
        is_spread |= is_late;
    }
    assert!(is_spread, "without a request");
}

/// Only a change of the actions, or of the token that they are for, gives up one that runs.
#[tokio::test(start_paused = true)]
async fn a_reload_that_leaves_the_actions_as_they_were_does_not_disturb_them() {
    use actions::{FATES, Fate, http, requests};
    FATES.set(|_, _| Fate::Hangs(100));
    let (mut many, file) = world(1, DAY_TOKEN);
    run(&mut many, &file, async {
        file.change(|tokens| tokens[0].actions = vec![http("host", "slow")]);
        seconds(60).await;
        assert_eq!(requests().len(), 1);
        file.change(|tokens| tokens[0].key_check = Some(Duration::from_secs(1_800)));
        seconds(60).await;
        assert_eq!((file.reads.get(), requests().len()), (2, 1));
        seconds(100).await;
        assert_eq!(requests().len(), 2, "it has failed, and is repeated");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_file_is_polled_in_time_while_something_else_happens_all_the_time() {
    use actions::{FATES, Fate, http};
    FATES.set(|_, _| Fate::Hangs(8));
    let (mut many, file) = world(1, DAY_TOKEN);
    file.change(|tokens| {
        tokens[0].actions = (0..64).map(|number| http("host", &number.to_string())).collect()
    });
    run(&mut many, &file, async {
        seconds(60).await;
        let before = file.reads.get();
        file.change(|tokens| tokens[0].key_check = Some(Duration::from_secs(1_800)));
        seconds(31).await;
        assert_eq!(file.reads.get(), before + 1);
    })
    .await;
}
