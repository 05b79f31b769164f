//! Who can read and who can replace the token file, for combinations of uids and fsGroup.

use dexsidecar_e2e::dex::DexSetup;
use dexsidecar_e2e::node::Node;
use dexsidecar_e2e::pod::{Manifest, Pod, sidecar};
use serde_json::json;

use crate::{NodeTest, dex, node_tests};

pub(crate) const TESTS: &[NodeTest] = node_tests![
    an_app_with_any_uid_reads_the_token,
    an_app_with_another_uid_cannot_replace_the_token,
    a_volume_that_only_root_can_write_is_explained,
];

/// The table of docs/kubernetes.md: mode and owner of directory and files for each combination.
fn an_app_with_any_uid_reads_the_token(node: &Node) {
    let dex = dex(node, "files-read", true, DexSetup::default());
    // Name, fsGroup, the app's uid, then mode and owner of the output's directory, of the token
    // file and of the subject token's file.
    let cases = [
        ("same-uid", None, None, "1777 0:0", "644 65532:0", "600 65532:0"),
        ("same-uid-group", Some(2000), None, "3777 0:2000", "640 65532:2000", "640 65532:2000"),
        ("two-uids", None, Some(1000), "1777 0:0", "644 65532:0", "644 0:0"),
        ("two-uids-group", Some(2000), Some(1000), "3777 0:2000", "640 65532:2000", "640 0:2000"),
    ];
    let pods: Vec<_> = cases
        .iter()
        .map(|(name, group, uid, ..)| {
            let mut manifest = Manifest::hardened(name, &dex).with(|pod| {
                pod["spec"]["securityContext"]["fsGroup"] = json!(group);
                pod["spec"]["containers"][0]["securityContext"]["runAsUser"] = json!(uid);
            });
            // So that the app can stat the subject token's file.
            let mounts = manifest.0["spec"]["containers"][0]["volumeMounts"].as_array_mut().expect("a list");
            mounts.push(json!({"name": "subject-token", "mountPath": "/subject", "readOnly": true}));
            Pod::apply(node, "files-read", &manifest)
        })
        .collect();
    for (pod, (name, _, uid, directory, file, subject)) in pods.iter().zip(cases) {
        pod.until_running();
        let id = pod.exec("app", &["id", "-u"]).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(id.trim(), uid.unwrap_or(65_532).to_string());
        assert!(pod.token().starts_with("eyJ"), "{name}: the app reads it");
        let mode_and_owner = |path: &str| {
            let stat = ["stat", "-L", "-c", "%a %u:%g", path];
            pod.exec("app", &stat).unwrap_or_else(|why| panic!("{why}")).trim().to_owned()
        };
        let paths = ["/var/run/secrets/dex", "/var/run/secrets/dex/token", "/subject/token"];
        assert_eq!(paths.map(mode_and_owner), [directory, file, subject], "{name}");
    }
}

fn an_app_with_another_uid_cannot_replace_the_token(node: &Node) {
    let dex = dex(node, "files-replace", true, DexSetup::default());
    let manifest = Manifest::hardened("app", &dex).with(|pod| {
        let app = &mut pod["spec"]["containers"][0];
        app["securityContext"]["runAsUser"] = 1000.into();
        // Against the advice of docs/kubernetes.md.
        app["volumeMounts"][0]["readOnly"] = false.into();
    });
    let pod = Pod::apply(node, "files-replace", &manifest);
    pod.until_running();
    let before = pod.token();
    let script = "cd /var/run/secrets/dex; echo mine >mine && for how in 'mv mine token' 'rm -f token'; do $how && echo \"$how worked\"; done; \
                  (echo mine >token) && echo writing worked; true";
    let printed = pod.exec("app", &["sh", "-c", script]).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(printed, "", "the directory's sticky bit and the file's mode prevent it");
    assert_eq!(pod.token(), before);
}

/// The original's image runs as root and can write to such a volume.
fn a_volume_that_only_root_can_write_is_explained(node: &Node) {
    let dex = dex(node, "files-root", false, DexSetup::default());
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().to_str().expect("UTF-8").to_owned();
    let manifest = Manifest::hardened("app", &dex).with(|pod| {
        let volumes = pod["spec"]["volumes"].as_array_mut().expect("a list");
        volumes.retain(|volume| volume["name"] != "dex-token");
        volumes.push(json!({"name": "dex-token", "hostPath": {"path": path, "type": "Directory"}}));
        pod["spec"]["initContainers"][0]["startupProbe"]["failureThreshold"] = 3.into();
    });
    let pod = Pod::apply(node, "files-root", &manifest);
    let log = pod.until_line("dexsidecar", "code=output_not_permitted");
    assert!(log.contains("fsGroup") && log.contains("runAsUser"), "{log}");
    let now =
        pod.until("the sidecar was restarted", |pod| sidecar(pod)["lastState"]["terminated"].is_object());
    let message = sidecar(&now)["lastState"]["terminated"]["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains("fsGroup"), "{message}");
}
