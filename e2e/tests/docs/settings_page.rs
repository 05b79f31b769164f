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

## Form fields

The form fields that an exchange with Dex needs. Each can be read from a file instead: `dex_file_<field>`.

| variable | default | meaning |
|---|---|---|
| `dex_grant_type` | required by Dex | `urn:ietf:params:oauth:grant-type:token-exchange` |
| `dex_connector_id` | required by Dex | the `id` of Dex's connector for this cluster |
| `dex_file_subject_token` | required by Dex | the path of the subject token: the pod's projected ServiceAccount token |
| `dex_subject_token_type` | required by Dex | `urn:ietf:params:oauth:token-type:id_token` |
| `dex_requested_token_type` | `…:access_token` | `urn:ietf:params:oauth:token-type:access_token` or `…:id_token`; Dex issues a JSON Web Token for both |
| `dex_scope` | none | scopes, separated by spaces: `openid`, `profile` (adds `name`), `email`, `groups`, `federated:id` (adds `federated_claims`), `audience:server:client_id:X` (the audience of client X); Dex ignores any other |

If a required field is missing, a warning is logged at startup, and Dex rejects the exchange.

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
| `REQUEST_METHOD` | if it is set, `HTTP_PROXY` and `http_proxy` are ignored: in a CGI program, a request header can set `HTTP_PROXY` |
| `XDG_RUNTIME_DIR` | where `token` caches tokens between calls |
| `NO_COLOR` | no colours in `check`, which has them on a terminal only |
| `TERM` | `dumb`: no colours in `check`, and no rewritten progress line in `wait` |

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
