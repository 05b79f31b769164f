//! Many tokens in one process, with real token files.

use super::*;

/// What comes of an attempt of a token, as a function of the seconds since the start.
pub(super) type Fate = fn(f64, usize) -> Played;

/// A Dex that takes 20 ms for each answer.
#[derive(Clone)]
pub(super) struct SlowDex {
    clock: Clock,
    start: Now,
    fate: Fate,
    /// The seconds of each exchange, and its token.
    exchanges: Rc<RefCell<Vec<(f64, usize)>>>,
    /// The seconds of each request for the published keys.
    keys: Rc<RefCell<Vec<f64>>>,
    published: fn(f64) -> &'static str,
}

impl TokenEndpoint for SlowDex {
    async fn send(&self, request: &Request, _: usize) -> Result<Answer, Failure> {
        let now = self.clock.now();
        let seconds = now.boot.since(self.start.boot).as_secs_f64();
        tokio::time::sleep(Duration::from_millis(20)).await;
        let Some(form) = &request.form else {
            if request.url.target().ends_with("/keys") {
                self.keys.borrow_mut().push(seconds);
            }
            let body = format!(r#"{{"keys":[{{"kid":"{}"}}]}}"#, (self.published)(seconds));
            let status = if request.url.target().ends_with("/keys") { 200 } else { 404 };
            return Ok(Answer { status, body: body.into_bytes().into(), ..Answer::default() });
        };
        let (_, number) = form.expose().split_once("connector_id=token").expect("it is sent");
        let token = number.split('&').next().and_then(|number| number.parse().ok()).expect("a number");
        self.exchanges.borrow_mut().push((seconds, token));
        match (self.fate)(seconds, token) {
            Played::Away => Err(Failure::new(Code::ConnectRefused, "scripted")),
            Played::Failed(code) => Err(Failure::new(code, "scripted")),
            Played::Answer(status, body) => {
                Ok(Answer { status, body: body.as_bytes().to_vec().into(), ..Answer::default() })
            }
            Played::Late(seconds, ..) => {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                Err(Failure::new(Code::TimedOut, "scripted"))
            }
            Played::Token(length, key) => Ok(answer(now, length, key, seconds)),
        }
    }
}

impl Notify for SlowDex {
    async fn notify(&self, action: &HttpAction) -> Result<(), Failure> {
        actions::notify(self.clock, action).await
    }
}

pub(super) struct Many {
    pub(super) scheduler: Scheduler<SlowDex>,
    pub(super) exchanges: Rc<RefCell<Vec<(f64, usize)>>>,
    keys: Rc<RefCell<Vec<f64>>>,
    pub(super) clock: Clock,
    pub(super) directory: TempDir,
    count: usize,
}

impl Many {
    /// Tokens of one Dex. The last one has a Dex of its own if `elsewhere`.
    pub(super) fn new(count: usize, elsewhere: bool, fate: Fate, published: fn(f64) -> &'static str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tokens = (0..count).map(|index| {
            let host = if elsewhere && index + 1 == count { "other" } else { "dex" };
            let variables = [
                ("dex_endpoint", format!("https://{host}.test/dex/token")),
                ("dex_access_token_file", directory.path().join(index.to_string()).display().to_string()),
                ("dex_subject_token", "subject".to_owned()),
                ("dex_connector_id", format!("token{index}")),
            ];
            let variables = variables.map(|(name, value)| (name.to_owned(), Secret::new(value)));
            let config =
                Config::read(&RawSettings::of_variables(variables.to_vec()), Outputs::Required).unwrap();
            config.tokens[0].clone()
        });
        let tokens = tokens.collect();
        let start = Now {
            boot: BootTime::from_start(Duration::from_secs(9_000)),
            unix: EARLIEST_PLAUSIBLE_NOW + Duration::from_secs(9_000),
        };
        let clock = Clock::Paused(start, tokio::time::Instant::now());
        let (exchanges, keys) = (Rc::<RefCell<Vec<_>>>::default(), Rc::<RefCell<Vec<_>>>::default());
        let connect = |_: &Endpoint| SlowDex {
            clock,
            start,
            fate,
            exchanges: Rc::clone(&exchanges),
            keys: Rc::clone(&keys),
            published,
        };
        let log = Logger::silent(clock);
        let scheduler = Scheduler::new(tokens, connect, clock, log, Some("/dev/null".into()));
        Self { scheduler, exchanges, keys, clock, directory, count }
    }

    /// Runs the scheduler for this many seconds.
    pub(super) async fn run(&mut self, seconds: f64) {
        let mut refresh_signal = RefreshSignal::install().unwrap();
        tokio::select! {
            () = self.scheduler.run(&mut refresh_signal, None) => panic!("the loop never ends"),
            () = tokio::time::sleep(Duration::from_secs_f64(seconds)) => {}
        }
    }

    /// Changes the configuration of each token. They begin again.
    pub(super) fn configure(&mut self, change: impl Fn(usize, &mut TokenConfig)) {
        for (index, each) in self.scheduler.tokens.iter_mut().enumerate() {
            let mut config = each.token.config().clone();
            change(index, &mut config);
            let message = TerminationMessage::shared(Some("/dev/null".into()));
            let reporter = Reporter::new(Logger::silent(self.clock), message, index);
            each.token = Token::new(index, config, reporter, self.clock.now());
        }
    }

    pub(super) fn config(&self, token: usize) -> TokenConfig {
        self.scheduler.tokens[token].token.config().clone()
    }

    /// The tokens whose file holds no valid token.
    pub(super) fn without_token(&self) -> Vec<usize> {
        let now = self.clock.now().unix;
        let is_valid = |index: &usize| {
            let content = std::fs::read_to_string(self.directory.path().join(index.to_string()));
            content.is_ok_and(|content| {
                TokenFileState::of(&StoredToken::of(Secret::new(content)), Duration::ZERO, now).is_valid()
            })
        };
        (0..self.count).filter(|index| !is_valid(index)).collect()
    }
}

const NONE: [usize; 0] = [];

#[tokio::test(start_paused = true)]
async fn p5_sixty_four_tokens_of_a_dex_that_takes_20_ms_are_on_disk_within_five_seconds() {
    let mut many = Many::new(64, false, |_, _| Played::Token(86_400, "first"), first_key);
    many.run(5.0).await;
    assert_eq!((many.without_token(), many.exchanges.borrow().len()), (NONE.to_vec(), 64));
}

#[tokio::test(start_paused = true)]
async fn p3_p5_an_outage_costs_many_tokens_no_more_attempts_than_one_and_all_return_within_30_s() {
    // Dex is away at the start, and later for so long that all tokens expire.
    for (from, to) in [(0.0, 2_000.0), (10.0, 3_500.0)] {
        let mut outage = vec![];
        for count in [1, 64] {
            let fate: Fate = if from == 0.0 {
                |when, _| if when < 2_000.0 { Played::Away } else { Played::Token(900, "first") }
            } else {
                |when, _| match when {
                    10.0..3_500.0 => Played::Away,
                    _ => Played::Token(900, "first"),
                }
            };
            let mut many = Many::new(count, false, fate, first_key);
            many.run(to + 30.0).await;
            assert_eq!(many.without_token(), NONE, "{count} tokens, {from}");
            let exchanges = many.exchanges.borrow();
            outage.push(exchanges.iter().filter(|(when, _)| (from..to).contains(when)).count());
        }
        // Jitter makes each delay half of its maximum at least: the numbers of two runs differ by
        // less than the double.
        assert!(outage[1] <= 2 * outage[0], "{outage:?} from {from} s");
        assert!(outage[1] > 50, "{outage:?}: they go on");
    }
}

/// One token at a time makes an attempt. The others are as late as that one.
#[tokio::test(start_paused = true)]
async fn p11_in_an_outage_every_token_is_overdue_and_has_the_failure() {
    for from in [0.0, 60.0] {
        let fate: Fate = match from {
            0.0 => |_, _| Played::Away,
            _ => |when, _| if when < 60.0 { Played::Token(240, "first") } else { Played::Away },
        };
        let mut many = Many::new(30, false, fate, first_key);
        many.run(230.0).await;
        let attempts = many.exchanges.borrow().iter().filter(|(when, _)| *when >= from).count();
        assert!(attempts < 30, "{attempts} attempts: not every token has made one");
        let now = many.clock.now();
        for (index, each) in many.scheduler.tokens.iter().enumerate() {
            let due = each.token.figures(now).refresh_due;
            assert!(due.is_some_and(|due| due < now.unix), "{index} is not overdue, from {from} s");
            assert_eq!(each.token.readiness(now).failure, Some(Code::ConnectRefused), "{index}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn p14_a_token_that_dex_refuses_delays_no_other() {
    let fate = |_, token| match token {
        3 => Played::Answer(401, r#"{"error":"access_denied"}"#),
        _ => Played::Token(3_600, "first"),
    };
    let mut many = Many::new(64, false, fate, first_key);
    for _ in 0..5 {
        many.run(5.0).await;
        assert_eq!(many.without_token(), [3]);
        many.run(1_500.0).await;
        assert_eq!(many.without_token(), [3]);
    }
}

#[tokio::test(start_paused = true)]
async fn p14_a_token_whose_own_dex_hangs_delays_no_other() {
    let fate = |_, token| match token {
        63 => Played::Late(15, 0, ""),
        _ => Played::Token(3_600, "first"),
    };
    let mut many = Many::new(64, true, fate, first_key);
    assert_eq!(many.scheduler.upstreams.len(), 2);
    many.run(5.0).await;
    assert_eq!(many.without_token(), [63]);
    many.run(7_000.0).await;
    assert_eq!(many.without_token(), [63]);
}

/// They differ in the time limit of an attempt, for example.
#[tokio::test(start_paused = true)]
async fn tokens_of_one_dex_share_it_also_if_their_clients_differ() {
    let many = Many::new(3, true, |_, _| Played::Away, first_key);
    let mut configs = [many.config(0), many.config(1), many.config(2), many.config(0)];
    configs[1].exchange.endpoint.attempt_timeout *= 2;
    let made = std::cell::Cell::new(0);
    let connect = |_: &Endpoint| {
        made.set(made.get() + 1);
        slow_dex(&many)
    };
    let (clock, log) = (many.clock, Logger::silent(many.clock));
    let scheduler = Scheduler::new(configs.to_vec(), connect, clock, log, Some("/dev/null".into()));
    let upstreams: Vec<usize> = scheduler.tokens.iter().map(|each| each.upstream).collect();
    assert_eq!((upstreams, made.get()), (vec![0, 0, 1, 0], 3));
}

#[tokio::test(start_paused = true)]
async fn p13_the_published_keys_are_read_once_for_all_tokens_of_a_dex() {
    let key = |when| if when < 5_000.0 { "first" } else { "second" };
    let mut many = Many::new(
        64,
        false,
        |when, _| Played::Token(86_400, if when < 5_000.0 { "first" } else { "second" }),
        key,
    );
    many.run(5_000.0).await;
    let before = many.keys.borrow().len();
    assert!((8..=11).contains(&before), "{before} in 5,000 s: every ten minutes, and the first earlier");
    many.run(660.0).await;
    // Every token was signed with the lost key, and is replaced.
    assert_eq!(many.exchanges.borrow().len(), 128);
    assert_eq!(many.without_token(), NONE);
}

#[tokio::test(start_paused = true)]
async fn a_signal_refreshes_all_tokens() {
    let mut many = Many::new(8, false, |_, _| Played::Token(86_400, "first"), first_key);
    many.run(10.0).await;
    many.scheduler.refresh_requested("SIGHUP");
    many.run(1.0).await;
    assert_eq!(many.exchanges.borrow().len(), 16);
}

/// One timer serves all tokens: an idle process wakes up twice a minute.
#[tokio::test(start_paused = true)]
async fn an_idle_process_with_many_tokens_polls_their_files_at_the_same_time() {
    let mut many = Many::new(64, false, |_, _| Played::Token(86_400, "first"), first_key);
    many.run(300.0).await;
    let waits: Vec<_> = many.scheduler.tokens.iter().map(|each| each.wait).collect();
    assert!(waits.iter().all(|wait| wait.is_some() && *wait == waits[0]), "{waits:?}");
}

/// Two outputs of one token, each in a directory of its own.
fn with_two_outputs(script: fn(f64) -> Played) -> (World, PathBuf) {
    let mut world = World::new(&[], script, first_key);
    let second = world.directory.path().join("second");
    let mut output = world.config.outputs[0].clone();
    output.path.clone_from(&second);
    world.config.outputs.push(output);
    world.restart(Logger::silent(world.clock));
    (world, second)
}

fn valid(path: &std::path::Path, clock: Clock) -> bool {
    let content = std::fs::read_to_string(path).map(Secret::new);
    content.is_ok_and(|content| {
        TokenFileState::of(&StoredToken::of(content), Duration::ZERO, clock.now().unix).is_valid()
    })
}

#[tokio::test(start_paused = true)]
async fn a_token_is_written_to_all_its_outputs_and_refreshed_in_all() {
    let (mut world, second) = with_two_outputs(|_| Played::Token(3_600, "first"));
    let clock = world.clock;
    world
        .run(20_000.0, |when, first| {
            assert!(first.is_some_and(TokenFileState::is_valid) && valid(&second, clock), "at {when} s");
        })
        .await;
    assert!((8..=13).contains(&world.exchanges().len()), "{:?}", world.exchanges());
}

#[tokio::test(start_paused = true)]
async fn p14_an_output_that_cannot_be_written_delays_no_other_output() {
    let (mut world, second) = with_two_outputs(|_| Played::Token(600, "first"));
    std::fs::create_dir(&second).unwrap();
    world
        .run(3_000.0, |when, first| assert!(first.is_some_and(TokenFileState::is_valid), "at {when} s"))
        .await;
    assert_eq!(world.refresher().health(world.clock.now()), Health::Starting, "the worst output counts");
    std::fs::remove_dir(&second).unwrap();
    world.run(31.0, |_, _| {}).await;
    assert!(valid(&second, world.clock));
}

#[tokio::test(start_paused = true)]
async fn a_token_found_in_one_output_is_copied_to_the_others() {
    // At startup, and when another process replaces it.
    let (mut world, second) =
        with_two_outputs(|when| if when < 100.0 { Played::Away } else { Played::Token(3_600, "first") });
    let exp = (EARLIEST_PLAUSIBLE_NOW + Duration::from_secs(9_000 + 5_000)).as_duration().as_secs();
    let theirs = |exp: u64| {
        let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"iat":{},"exp":{exp}}}"#, exp - 6_000));
        format!("e30.{claims}.sig")
    };
    std::fs::write(&second, theirs(exp)).unwrap();
    let first = world.directory.path().join("token");
    world.run(10.0, |_, _| {}).await;
    assert_eq!(std::fs::read_to_string(&first).unwrap(), theirs(exp));
    world.run(200.0, |_, _| {}).await;
    std::fs::write(&first, theirs(exp + 50_000)).unwrap();
    world.run(70.0, |_, _| {}).await;
    assert_eq!(std::fs::read_to_string(&second).unwrap(), theirs(exp + 50_000));
}

#[tokio::test(start_paused = true)]
async fn the_published_keys_are_read_once_at_a_time() {
    let mut many = Many::new(16, false, |_, _| Played::Token(86_400, "first"), first_key);
    let mut refresh_signal = RefreshSignal::install().unwrap();
    let keys = Rc::clone(&many.keys);
    tokio::select! {
        () = many.scheduler.run(&mut refresh_signal, None) => panic!("the loop never ends"),
        () = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            keys.borrow_mut().clear();
            // The process sleeps for longer than the period of the key check.
            tokio::time::advance(Duration::from_secs(1_300)).await;
            tokio::time::sleep(Duration::from_secs(30)).await;
        } => {}
    }
    assert_eq!(many.keys.borrow().len(), 1, "all tokens use the same answer");
}

#[tokio::test(start_paused = true)]
async fn f011_attempts_that_fail_together_rotate_the_address_once() {
    let mut upstream = Upstream::default();
    let failure = Failure::new(Code::TimedOut, "");
    for _ in 0..4 {
        upstream.attempt_failed(&failure, 0);
    }
    assert_eq!(upstream.rotation, 1);
    upstream.attempt_failed(&Failure::new(Code::SubjectTokenMissing, ""), 1);
    assert_eq!(upstream.rotation, 1, "a local failure says nothing of the address");
}

#[tokio::test(start_paused = true)]
async fn a_signal_restarts_each_attempt_that_hangs() {
    let fate = |when, _| if when < 20.0 { Played::Late(300, 0, "") } else { Played::Token(3_600, "first") };
    let mut many = Many::new(8, false, |_, _| Played::Token(86_400, "first"), first_key);
    many.run(10.0).await;
    let hanging = Rc::new(SlowDex { fate, ..slow_dex(&many) });
    for each in &mut many.scheduler.tokens {
        each.client = Rc::clone(&hanging);
    }
    many.scheduler.refresh_requested("SIGHUP");
    many.run(7.0).await;
    assert_eq!(many.exchanges.borrow().len(), 8 + 4, "four hang");
    many.scheduler.refresh_requested("SIGHUP");
    many.run(4.0).await;
    assert_eq!(many.exchanges.borrow().len(), 8 + 4 + 4, "each of them is started again");
}

pub(super) fn slow_dex(many: &Many) -> SlowDex {
    let dex = &many.scheduler.tokens[0].client;
    SlowDex {
        clock: dex.clock,
        start: dex.start,
        fate: dex.fate,
        exchanges: Rc::clone(&dex.exchanges),
        keys: Rc::clone(&dex.keys),
        published: dex.published,
    }
}

#[tokio::test(start_paused = true)]
async fn once_leaves_a_written_token_alone_while_another_fails() {
    let fate = |_, token| if token == 1 { Played::Away } else { Played::Token(20, "first") };
    let mut many = Many::new(3, false, fate, first_key);
    let timed_out = tokio::time::timeout(Duration::from_secs(120), many.scheduler.run_once()).await;
    assert!(timed_out.is_err() && many.scheduler.tokens[1].token.last_failure().is_some());
    assert_eq!(many.exchanges.borrow().iter().filter(|(_, token)| *token != 1).count(), 2);
}

#[tokio::test(start_paused = true)]
async fn without_tokens_or_outputs_nothing_happens() {
    let mut many = Many::new(0, false, |_, _| Played::Away, first_key);
    many.run(3_600.0).await;
    let mut world = World::new(&[], |_| Played::Token(600, "first"), first_key);
    world.config.outputs.clear();
    world.restart(Logger::silent(world.clock));
    world.run(3_600.0, |_, state| assert_eq!(state, None)).await;
    assert!(world.exchanges().is_empty());
}

#[tokio::test(start_paused = true)]
async fn each_file_that_another_process_changes_is_logged_once() {
    let (mut world, second) = with_two_outputs(|_| Played::Token(86_400, "first"));
    let (logger, lines) = Logger::counting(world.clock);
    world.restart(logger);
    let first = world.directory.path().join("token");
    let mut counted = vec![];
    world
        .run(700.0, |when, _| {
            let changed = match when.round() {
                100.0 | 500.0 => &first,
                300.0 => &second,
                _ => return,
            };
            counted.push(lines.get());
            std::fs::write(changed, "something else").unwrap();
        })
        .await;
    counted.push(lines.get());
    let more: Vec<_> = counted.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(more, [1, 1, 0], "lines after each change");
}
