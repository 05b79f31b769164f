//! Outputs in each format: adopted, replaced in another format, and written again by their readers.

use std::fs;
use std::path::PathBuf;

use dexsidecar_core::output::Format;

use super::*;

fn formats() -> [Format; 5] {
    let header = Format::Raw { prefix: "Authorization: Bearer ".to_owned() };
    [Format::default(), header, Format::Json, Format::Incus, Format::ExecCredential]
}

/// A world whose token has one output, in this format.
fn world(format: &Format, script: impl Fn(f64) -> Played + 'static) -> World {
    let mut world = World::new(&[], script, first_key);
    world.set_format(format);
    world
}

impl World {
    /// The process begins again with this format.
    fn set_format(&mut self, format: &Format) {
        self.config.outputs[0].format = format.clone();
        self.restart(Logger::silent(self.clock));
    }

    fn content(&self) -> Secret {
        Secret::new(fs::read_to_string(self.directory.path().join("token")).unwrap())
    }

    fn write(&self, content: &str) {
        fs::write(self.directory.path().join("token"), content).unwrap();
    }

    /// What the file holds in the format of its output.
    fn stored(&self) -> Option<StoredToken> {
        self.config.outputs[0].format.read(&self.content())
    }

    fn adopts(&mut self) -> bool {
        self.scheduler.tokens[0].token.adopt(self.clock.now(), Jitter::NONE);
        self.refresher().on_disk().is_some()
    }
}

/// What the Incus command line writes at its exit: the token that it read at its start.
fn written_back(token: &Secret) -> String {
    format!(
        r#"{{"access_token":"{}","token_type":"Bearer","expiry":"0001-01-01T00:00:00Z","IDTokenClaims":null,"IDToken":""}}"#,
        token.expose()
    )
}

#[tokio::test(start_paused = true)]
async fn a_token_is_adopted_from_each_format() {
    for format in formats() {
        let mut world = world(&format, |_| Played::Token(3_600, "first"));
        world.run(60.0, |_, _| {}).await;
        let stored = world.stored().unwrap();
        world.set_format(&format);
        assert!(world.adopts(), "{format:?}");
        assert_eq!(world.stored(), Some(stored), "{format:?}");
    }
}

/// The format was changed while the process was not running: readers get the token that is still
/// valid in the new format at once, also while Dex is away.
#[tokio::test(start_paused = true)]
async fn a_token_in_another_format_is_adopted_and_written_in_the_new_one_at_once() {
    for (old, new) in formats().iter().flat_map(|old| formats().map(|new| (old.clone(), new))) {
        let mut world =
            world(&old, |when| if when < 20.0 { Played::Token(3_600, "first") } else { Played::Away });
        world.run(60.0, |_, _| {}).await;
        let token = world.stored().unwrap().token;
        world.set_format(&new);
        world.run(1.0, |_, _| {}).await;
        assert_eq!(world.stored().map(|stored| stored.token), Some(token), "{old:?} {new:?}");
        assert_ne!(world.refresher().health(world.clock.now()), Health::Starting, "{old:?} {new:?}");
    }
}

/// What has no token in any format is replaced by the first exchange.
#[tokio::test(start_paused = true)]
async fn nothing_is_adopted_from_content_without_a_token() {
    for format in formats() {
        for content in ["", "{}", "<html>eyJ</html>", "{\"access_token\":", "eyJhbGciOiJ", "a b c"] {
            let mut world = world(&format, |_| Played::Token(3_600, "first"));
            world.write(content);
            assert!(!world.adopts(), "{format:?}: {content}");
            world.run(1.0, |_, _| {}).await;
            assert!(world.stored().is_some(), "{format:?}: {content}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_opaque_token_keeps_its_expiry_over_a_restart_in_every_format_but_raw() {
    for format in formats() {
        let body = r#"{"access_token":"opaque","token_type":"bearer","expires_in":3600}"#;
        let mut world = world(&format, |_| Played::Answer(200, body));
        world.run(60.0, |_, _| {}).await;
        world.set_format(&format);
        assert_eq!(world.adopts(), !matches!(format, Format::Raw { .. }), "{format:?}");
    }
}

/// A reader that writes the file of a running process. It is called every ten seconds.
struct Reader {
    path: PathBuf,
    format: Format,
}

impl Reader {
    fn of(world: &World) -> Self {
        let output = &world.config.outputs[0];
        Self { path: output.path.clone(), format: output.format.clone() }
    }

    fn content(&self) -> Secret {
        Secret::new(fs::read_to_string(&self.path).unwrap())
    }

    /// The token in the file: readers see one at any time.
    fn token(&self) -> Secret {
        self.format.read(&self.content()).unwrap().token
    }
}

#[tokio::test(start_paused = true)]
async fn the_current_token_in_another_spelling_is_left_alone() {
    for (format, spelling) in [
        (Format::Incus, written_back as fn(&Secret) -> String),
        (Format::Json, |token| {
            format!("{{\n  \"issued_token_type\": \"t\",\n  \"access_token\": \"{}\"\n}}\n", token.expose())
        }),
        (Format::ExecCredential, |token| {
            let (kind, api) = ("ExecCredential", "client.authentication.k8s.io/v1");
            format!(r#"{{"kind":"{kind}","apiVersion":"{api}","status":{{"token":"{}"}}}}"#, token.expose())
        }),
    ] {
        let mut world = world(&format, |_| Played::Token(86_400, "first"));
        let (logger, lines) = Logger::counting(world.clock);
        world.restart(logger);
        let reader = Reader::of(&world);
        let (mut written, mut logged) = (None, 0);
        world
            .run(4_000.0, |when, _| match &written {
                None => {
                    let content = spelling(&reader.token());
                    fs::write(&reader.path, &content).unwrap();
                    (written, logged) = (Some(content), lines.get());
                }
                Some(content) => assert_eq!(reader.content().expose(), content, "{format:?}: at {when} s"),
            })
            .await;
        assert_eq!((world.exchanges().len(), lines.get()), (1, logged), "{format:?}: nothing is logged");
    }
}

/// Commands that started before a refresh write the older token back, one every ten seconds.
#[tokio::test(start_paused = true)]
async fn an_older_token_that_a_reader_writes_back_is_replaced_at_most_once_a_minute() {
    let mut world = world(&Format::Incus, |_| Played::Token(3_600, "first"));
    let reader = Reader::of(&world);
    let (mut first, mut current, mut restored) = (None, None, 0);
    world
        .run(3_000.0, |when, _| {
            let (token, first) = (reader.token(), first.get_or_insert_with(|| reader.token()).clone());
            match when {
                // Until the refresh, which comes between 25:30 and 30:00 min.
                ..1_900.0 => {}
                1_900.0..2_600.0 => {
                    let current = current.get_or_insert_with(|| token.clone());
                    assert_ne!(*current, first, "it was refreshed");
                    if token == *current {
                        restored += 1;
                        fs::write(&reader.path, written_back(&first)).unwrap();
                    } else {
                        assert_eq!(token, first, "at {when} s");
                    }
                }
                2_600.0..2_700.0 => {}
                _ => assert_eq!(Some(token), current, "it is restored after the last command"),
            }
        })
        .await;
    assert!((6..=13).contains(&restored), "{restored} restores in 700 s");
    assert_eq!(world.exchanges().len(), 2, "no exchange is needed");
}

/// Commands that run longer than their token is valid.
#[tokio::test(start_paused = true)]
async fn an_expired_token_that_a_reader_writes_back_is_replaced_at_the_next_poll() {
    let mut world = world(&Format::Incus, |_| Played::Token(3_600, "first"));
    let reader = Reader::of(&world);
    let (mut first, mut written) = (None, 0.0);
    world
        .run(5_000.0, |when, _| {
            let (token, first) = (reader.token(), first.get_or_insert_with(|| reader.token()).clone());
            if when > 3_700.0 && token != first {
                fs::write(&reader.path, written_back(&first)).unwrap();
                written = when;
            }
            assert!(when < 3_700.0 || token != first || when - written <= 40.0, "at {when} s");
        })
        .await;
    assert!(written > 4_900.0, "it was replaced each time: {written}");
}
