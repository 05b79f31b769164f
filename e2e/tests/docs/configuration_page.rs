//! docs/configuration.md and docs/config.schema.json are generated from the table of keys. The
//! schema and the reader of the program agree on what is valid.

use dexsidecar_core::config::{Config, ConfigFile, Locate, Outputs, RawSettings};
use dexsidecar_core::settings::Kind;
use dexsidecar_core::settings::keys::{Key, Section, Shape};
use dexsidecar_e2e::config_schema;
use serde_json::Value;

use crate::generated;

const PAGE: &str = "docs/configuration.md";
const SCHEMA: &str = "docs/config.schema.json";
const EXAMPLE: &str = include_str!("../../../crates/core/src/config/file/example.yaml");

const HEAD: &str = "\
# The configuration file

One token is best configured by variables: [settings.md](settings.md). Several tokens, outputs in several
formats and actions need a file. This page is generated from the program's own tables by `cargo xtask docs`.

```sh
dexsidecar run --config /etc/dexsidecar/dexsidecar.yaml    # or DEXSIDECAR_CONFIG
dexsidecar config validate dexsidecar.yaml                 # 0, or 78 with a line for each mistake
```

The file is YAML, so JSON too. Every value is read as text and then by its key: `mode: 0640` is octal, and
`on` is no boolean. Anchors, aliases, tags, merge keys, duplicate keys and a second document are errors, and
variables are not expanded. A secret stands in a file of its own, never here: a ConfigMap is not a Secret.

Every mistake is reported at once, as `FILE:LINE:COLUMN: KEY: WHAT: FIX`. A syntax error hides what follows it.

A change of the file is applied while the program runs, within 30 s or at SIGHUP: mount the directory of a
ConfigMap, never the file by `subPath`. [Reload](how-it-works.md#reload) has what may change.

## An example

```yaml
";

const AFTER_EXAMPLE: &str = "\
```

- `defaults` holds what a token does not set itself.
- A token that sets `token_endpoint` or `issuer` takes neither from `defaults`: they belong to one Dex. In the
  same way, `basic_auth_file` in a token replaces `client_id` and `client_secret_file` of `defaults`.
- The path of an output is used once: no other output, no file that is read, and not the directory of another.
- `--token NAME` selects one token for `ready`, `wait`, `check`, `refresh` and `token`. Without it, they are
  for all tokens; only `token` needs it where there are several.
- Options and variables override `log`, `listen` and `termination_log`. A setting of a token, such as
  `dex_scope` or `--ca-file`, is an error beside a file.

- A relative path begins in the working directory: `/` in the image.

## In a pod

```yaml
apiVersion: v1
kind: ConfigMap
metadata:
  name: dex-tokens
data:
  dexsidecar.yaml: |
    version: v1
    defaults:
      token_endpoint: https://dex.example.com/token
      connector_id: kubernetes
      subject_token_file: /var/run/secrets/subject/token
      scope: openid profile federated:id
    tokens:
      - name: incus
        client_id: incus
        outputs:
          - path: /var/run/secrets/dex/token
      - name: prometheus
        client_id: prometheus
        outputs:
          - path: /var/run/secrets/dex/prometheus.json
            format: json
```

```yaml
apiVersion: v1
kind: Pod
metadata:
  name: app
spec:
  serviceAccountName: app
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    fsGroup: 65532
    seccompProfile: {type: RuntimeDefault}
  initContainers:
    - name: dexsidecar
      image: dexsidecar:VERSION
      restartPolicy: Always
      env:
        - {name: DEXSIDECAR_CONFIG, value: /etc/dexsidecar/dexsidecar.yaml}
      startupProbe:                    # until every output holds a valid token
        exec: {command: [dexsidecar, ready]}
        periodSeconds: 1
        failureThreshold: 300
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      volumeMounts:
        - {name: config, mountPath: /etc/dexsidecar, readOnly: true}    # the directory, not the file
        - {name: dex-token, mountPath: /var/run/secrets/dex}
        - {name: subject-token, mountPath: /var/run/secrets/subject, readOnly: true}
  containers:
    - name: app
      image: example.com/app:1
      securityContext:
        allowPrivilegeEscalation: false
        capabilities: {drop: [ALL]}
      volumeMounts:
        - {name: dex-token, mountPath: /var/run/secrets/dex, readOnly: true}
  volumes:
    - {name: config, configMap: {name: dex-tokens}}
    - {name: dex-token, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
    - {name: subject-token, projected: {sources: [{serviceAccountToken: {audience: dex, path: token}}]}}
```

The kubelet writes a changed ConfigMap to the volume within a minute or two. Dex needs an entry of
`staticClients` for each `client_id`.

No file may have two uses. An output that is also another output, an input or the termination log is refused,
in each spelling: as a relative path, through a linked directory, or through a second mount of its directory.
The path of an output has no `..`.

`config validate` reads no file but the configuration. It finds links and mounts where it runs: validate in the
container to compare all spellings. `check` also tests the files that the configuration names, and Dex.

## From variables to a file

`config print` writes the configuration of the environment as a file, without its secrets:

```sh
kubectl exec POD -c dexsidecar -- dexsidecar config print > dexsidecar.yaml
```

Where a variable held a secret, the file says `TODO`: write the secret to a file, and its path in place of
`TODO`. A file that still has one is invalid. Mount the file from a ConfigMap, set `DEXSIDECAR_CONFIG` to its
path, and remove every variable of this table: beside a file they are errors.

| variable | key |
|---|---|
";

const EDITORS: &str = "
## Editors

[config.schema.json](config.schema.json) is a JSON Schema (draft-07). Editors with a YAML language server
complete and check a file that begins with the first line of the example, if the schema is beside it.
";

fn value(key: &Key) -> String {
    match key.shape {
        Shape::Section(section) => format!("map: [{}](#{})", section.title(), anchor(section)),
        Shape::Sections(section) => format!("list of [{}](#{})", section.title(), anchor(section)),
        Shape::Texts => "list of texts".to_owned(),
        Shape::Map => "map of texts".to_owned(),
        Shape::Of(_) | Shape::One(_) => match key.kind() {
            Some(Kind::Switch) => "true, false".to_owned(),
            Some(Kind::Word(words, _)) => words.join(", "),
            Some(Kind::Duration { .. }) => {
                let range = key.kind().and_then(Kind::range_text);
                range.map_or_else(|| "duration".to_owned(), |range| format!("duration: {range}"))
            }
            Some(Kind::Text(placeholder, _)) => placeholder.to_owned(),
            None => String::new(),
        },
    }
}

fn anchor(section: Section) -> String {
    format!("keys-of-{}", section.title().replace(' ', "-"))
}

fn page() -> String {
    let mut text = HEAD.to_owned() + EXAMPLE;
    text += &AFTER_EXAMPLE.replace("dexsidecar:VERSION", concat!("dexsidecar:", env!("CARGO_PKG_VERSION")));
    for key in Section::Token
        .keys()
        .chain(Section::Output.keys())
        .chain(Section::Document.keys())
        .chain(Section::Log.keys())
    {
        let variable = key.variable();
        if !variable.is_empty() && key.name != "outputs" {
            let place = match key.section {
                Section::Output => "outputs[].",
                Section::Log => "log.",
                _ => "",
            };
            text += &format!("| `{variable}` | `{place}{}` |\n", key.name);
        }
    }
    for section in Section::ALL {
        text += &format!(
            "\n## Keys of {}\n\n| key | value | default | meaning |\n|---|---|---|---|\n",
            section.title()
        );
        for key in section.keys() {
            text += &format!(
                "| `{}` | {} | {} | {} |\n",
                key.name,
                value(key),
                key.default_text(),
                key.meaning()
            );
        }
    }
    text + EDITORS
}

#[test]
fn the_configuration_page_is_up_to_date() {
    generated::page(PAGE, &page());
}

#[test]
fn the_schema_of_the_configuration_file_is_up_to_date() {
    generated::page(SCHEMA, &format!("{:#}\n", config_schema::schema()));
}

/// Whether the reader of the program accepts a file, and whether the schema does.
fn judged(text: &str) -> (bool, bool) {
    let file = ConfigFile { name: "x.yaml", path: std::path::Path::new("/x.yaml"), content: text.as_bytes() };
    let read = Config::read_file(file, &RawSettings::default(), Outputs::Required, Locate::AS_TEXT).is_ok();
    let value: Value = serde_saphyr::from_str(text).expect("YAML");
    let schema = jsonschema::draft7::new(&config_schema::schema()).expect("a schema");
    (read, schema.is_valid(&value))
}

const ONE: &str = "\
version: v1
tokens:
  - token_endpoint: https://dex.example/token
    subject_token_file: /subject
    outputs:
      - path: /run/token
";

#[test]
fn the_schema_and_the_reader_accept_the_examples() {
    let page = page();
    let blocks: Vec<_> =
        page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    // A manifest is no configuration file, and a ConfigMap holds one.
    let (manifests, files): (Vec<_>, Vec<_>) =
        blocks.into_iter().partition(|block| block.starts_with("apiVersion:"));
    let manifests = manifests.into_iter().map(|text| serde_saphyr::from_str::<Value>(text).expect("YAML"));
    let held: Vec<_> = manifests
        .filter_map(|manifest| manifest["data"]["dexsidecar.yaml"].as_str().map(str::to_owned))
        .collect();
    assert!(!files.is_empty() && !held.is_empty());
    for text in files.into_iter().chain([ONE]).chain(held.iter().map(String::as_str)) {
        assert_eq!(judged(text), (true, true), "{text}");
    }
}

#[test]
fn the_schema_refuses_each_mistake_that_it_can_express_as_the_reader_does() {
    let token = |line: &str| format!("{ONE}    {line}\n");
    let output = |line: &str| format!("{ONE}        {line}\n");
    let mistakes = [
        ONE.replace("v1", "v2"),
        ONE.replace("version: v1\n", ""),
        "version: v1\n".to_owned(),
        "version: v1\ntokens: []\n".to_owned(),
        "version: v1\ntokens: x\n".to_owned(),
        format!("{ONE}log: {{level: loud}}\n"),
        format!("{ONE}log: {{formt: json}}\n"),
        format!("{ONE}defaults: {{name: x}}\n"),
        format!("{ONE}defaults: {{outputs: []}}\n"),
        token("name: Prometheus"),
        token("client_secret: x"),
        token("ca_file: [x]"),
        token("ca_file: \"\""),
        token("attempt_timeout: 5"),
        token("attempt_timeout: soon"),
        token("allow_insecure_http: maybe"),
        token("audience: x"),
        token("audience: []"),
        token("form: {scope: x}"),
        token("form: {client_secret: x}"),
        token("form: [x]"),
        token("form_files: {subject_token: /x}"),
        format!("{ONE}    client_id: x\n    basic_auth_file: /x\n"),
        token("on_update: [{}]"),
        token("on_update: [{http: {url: \"http://127.0.0.1/\"}, exec: {command: [/x]}}]"),
        token("on_update: [{http: {}}]"),
        token("on_update: [{signal: {signal: HUP}}]"),
        token("on_update: [{signal: {process: x, pid_file: /x}}]"),
        token("on_update: [{exec: {command: []}}]"),
        token("on_update: [{exec: {timeout: 5s}}]"),
        ONE.replace("path:", "pth:"),
        ONE.replace("- path: /run/token", "- {}"),
        output("format: xml"),
        format!("{ONE}        format: json\n        prefix: x\n"),
        output("write_mode: sideways"),
        output("on_expiry: delete"),
    ];
    for text in &mistakes {
        assert_eq!(judged(text), (false, false), "(reader, schema) on:\n{text}");
    }
}
