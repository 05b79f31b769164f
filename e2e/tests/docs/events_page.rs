//! docs/events.md is up to date with the table of events.

use dexsidecar_core::event::Event;

use crate::generated;

const INTRODUCTION: &str = "\
# Events

Generated from the table of events: `cargo xtask docs`.

Each log line is one event on standard error. In text it has a time, a level, a message and fields:

```
2026-11-18T11:06:40.123Z info  token written file=/var/run/secrets/dex/token expires_in=24h refresh_in=15h36m
```

With `DEXSIDECAR_LOG_FORMAT=json` it is a JSON object. `event` is a stable name; `message` may change between versions.
Numbers are numbers, and durations are seconds:

```json
{\"time\":\"2026-11-18T11:06:40.123Z\",\"level\":\"info\",\"event\":\"token_written\",\"message\":\"token written\",\
\"file\":\"/var/run/secrets/dex/token\",\"expires_in\":86400,\"refresh_in\":56160}
```

With several tokens, or one token that has a name, the lines of a token have a field `token` with its name before the
other fields.

No event holds a token or a client secret, unless a command of `on_update` prints the secret of a client
(`action_output`). The value of a form field is logged only if it is public:
`connector_id`, `client_id`, `scope`, `audience`, `resource`, token types.

## Is the token valid?

Health `fresh` has no event of its own. The last of these events shows the state:

| event | the token file |
|---|---|
| `token_written`, `token_adopted` | holds a token that is valid for `expires_in` from the time of the line |
| `recovered` | holds a valid token; an attempt succeeded after failures |
| `attempt_failed` with `health=stale` | holds a token that is still valid, but refreshing or writing fails |
| `attempt_failed` with `health=starting` | has no token yet |
| `token_expired`, `attempt_failed` with `health=expired` | holds an expired token, or was removed (`--on-expiry remove`) |

## All events

`once` after the level: the event is logged once for each token, however often it happens.

| event | level | message | fields | when |
|---|---|---|---|---|
";

fn page() -> String {
    let mut text = INTRODUCTION.to_owned();
    for entry in Event::TABLE {
        let fields: Vec<_> = entry.fields.iter().map(|field| format!("`{field}`")).collect();
        let once = if entry.once { ", once" } else { "" };
        text += &format!(
            "| `{}` | {}{once} | {} | {} | {} |\n",
            entry.name,
            entry.level.name(),
            entry.message,
            fields.join(", "),
            entry.meaning
        );
    }
    text
}

#[test]
fn the_events_page_is_up_to_date() {
    generated::page("docs/events.md", &page());
}
