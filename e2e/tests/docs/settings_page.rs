//! docs/settings.md is generated from the table of settings.

use dexsidecar_core::settings::{Command, ORIGINAL, SETTINGS};

use crate::generated;

const PAGE: &str = "docs/settings.md";

const HEAD: &str = "\
# Settings

Settings are environment variables. Some of them, and a few more, are options of the command line. This page
is generated from the program's own table by `cargo xtask docs`.

If a setting is wrong, the program names every wrong setting at once and exits with code 78. Settings are
read at startup. The files that they name are read again at every attempt.

A duration is written as in Go: `90s`, `1h30m`, `1.5h`, `250ms`.

## Compatible with miscord-dev/dexsidecar

These names are stable. They are in lower case, exactly: Kubernetes injects variables that begin with `DEX_`
for a Service called `dex`.

| variable | default | meaning |
|---|---|---|
";

const FIELDS: &str = "\
| `dex_<field>` | - | the form field `<field>` of the exchange, for any other name; sent as it is |
| `dex_file_<field>` | - | a form field whose value is the content of this file, without line breaks at its end; read at every exchange |

Setting both `dex_X` and `dex_file_X` is an error.

## Options

An option of the command line overrides its variable. A variable that begins with `DEXSIDECAR_` and is not in
this table is an error; the message names the nearest known one.

| option | variable | default | range | commands | meaning |
|---|---|---|---|---|---|
";

const SYSTEM: &str = "
## Variables of the system

| variable | meaning |
|---|---|
| `SSL_CERT_FILE`, `SSL_CERT_DIR` | where the system's CA certificates are, as in Go |
| `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`, also in lower case | proxies, as in Go: [network.md](network.md) |
| `XDG_RUNTIME_DIR` | where `token` caches tokens between calls |
| `NO_COLOR` | no colours in `check`, which has them on a terminal only |

## Exit codes

| code | meaning |
|---|---|
| 0 | done |
| 1 | negative result: not ready, timed out, exchange failed, a step of `check` failed |
| 64 | wrong command line |
| 78 | wrong settings; `check` reports them and exits with 1 |
";

fn page() -> String {
    let mut text = HEAD.to_owned();
    for setting in ORIGINAL {
        text += &format!("| `dex_{}` | {} | {} |\n", setting.name, setting.default, setting.meaning);
    }
    text += FIELDS;
    for setting in SETTINGS {
        let value = match setting.placeholder() {
            none if none.is_empty() => none,
            some => format!(" {}", some.replace('|', "\\|")),
        };
        let variable = match setting.variable {
            "" => "-".to_owned(),
            variable => format!("`{variable}`"),
        };
        let commands = match setting.commands {
            all if all.len() == Command::ALL.len() => "all".to_owned(),
            some => some.iter().map(|command| command.name()).collect::<Vec<_>>().join(", "),
        };
        let range = setting.range_text().unwrap_or_else(|| "-".to_owned());
        text += &format!(
            "| `--{}{value}` | {variable} | {} | {range} | {commands} | {} |\n",
            setting.option,
            setting.default_text(),
            setting.meaning
        );
    }
    text + SYSTEM
}

#[test]
fn the_settings_page_is_up_to_date() {
    generated::page(PAGE, &page());
}
