//! Who may read and who may replace the token's file, for each way of giving uids and groups.

use dexsidecar_e2e::dex::Setup;
use dexsidecar_e2e::node::Node;
use dexsidecar_e2e::pod::{Manifest, Pod, sidecar};
use serde_json::json;

use crate::{Story, dex};

pub(crate) const STORIES: &[Story] = &[
    ("an_app_of_any_uid_reads_the_token", an_app_of_any_uid_reads_the_token, false),
    ("another_uid_cannot_replace_the_token", another_uid_cannot_replace_the_token, false),
    ("a_volume_that_only_root_may_write_is_explained", a_root_s_volume_is_explained, false),
];

/// The table of docs/kubernetes.md, seen on the node: the folders and files of each combination.
fn an_app_of_any_uid_reads_the_token(node: &Node) {
    let dex = dex(node, "files-read", true, Setup::default());
    // Name; fsGroup; the app's own uid; the output's folder and file; the subject token's file.
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
            // So that the app can look at it too; it could not read one of another uid.
            let mounts = manifest.0["spec"]["containers"][0]["volumeMounts"].as_array_mut().expect("a list");
            mounts.push(json!({"name": "subject-token", "mountPath": "/subject", "readOnly": true}));
            Pod::apply(node, "files-read", &manifest)
        })
        .collect();
    for (pod, (name, _, uid, folder, file, subject)) in pods.iter().zip(cases) {
        pod.until_running();
        let id = pod.exec("app", &["id", "-u"]).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(id.trim(), uid.unwrap_or(65_532).to_string());
        assert!(pod.token().starts_with("eyJ"), "{name}: the app reads it");
        let seen = |path: &str| {
            let stat = ["stat", "-L", "-c", "%a %u:%g", path];
            pod.exec("app", &stat).unwrap_or_else(|why| panic!("{why}")).trim().to_owned()
        };
        let all = [seen("/var/run/secrets/dex"), seen("/var/run/secrets/dex/token"), seen("/subject/token")];
        assert_eq!(all, [folder, file, subject], "{name}");
    }
}

fn another_uid_cannot_replace_the_token(node: &Node) {
    let dex = dex(node, "files-replace", true, Setup::default());
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
    let said = pod.exec("app", &["sh", "-c", script]).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(said, "", "the folder's sticky bit and the file's mode hold");
    assert_eq!(pod.token(), before);
}

/// The original's image ran as root, and could write anywhere.
fn a_root_s_volume_is_explained(node: &Node) {
    let dex = dex(node, "files-root", false, Setup::default());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().to_str().expect("UTF-8").to_owned();
    let manifest = Manifest::hardened("app", &dex).with(|pod| {
        let volumes = pod["spec"]["volumes"].as_array_mut().expect("a list");
        volumes.retain(|volume| volume["name"] != "dex-token");
        volumes.push(json!({"name": "dex-token", "hostPath": {"path": path, "type": "Directory"}}));
        pod["spec"]["initContainers"][0]["startupProbe"]["failureThreshold"] = 3.into();
    });
    let pod = Pod::apply(node, "files-root", &manifest);
    let log = pod.until_said("dexsidecar", "code=output_not_permitted");
    assert!(log.contains("fsGroup") && log.contains("runAsUser"), "{log}");
    let now = pod.until("it was restarted", |pod| sidecar(pod)["lastState"]["terminated"].is_object());
    let left = sidecar(&now)["lastState"]["terminated"]["message"].as_str().unwrap_or_default().to_owned();
    assert!(left.contains("fsGroup"), "{left}");
}
