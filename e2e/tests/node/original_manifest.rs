//! The manifest in the original's README with another image and another host, and the Dex connector
//! in the original's README.

use dexsidecar_e2e::app_image::{self, APP};
use dexsidecar_e2e::dex::DexSetup;
use dexsidecar_e2e::doc_manifests;
use dexsidecar_e2e::image::Image;
use dexsidecar_e2e::node::{Node, sidecar_image};
use dexsidecar_e2e::pod::{Pod, status};
use dexsidecar_e2e::signing_key::claims;

use crate::{NodeTest, dex, node_tests};

pub(crate) const TESTS: &[NodeTest] = node_tests![the_original_s_manifest_works_unchanged];

fn the_original_s_manifest_works_unchanged(node: &Node) {
    // Its pod has no security context, so that the restricted standard refuses it.
    let dex =
        dex(node, "original", false, DexSetup { connector_of_the_original: true, ..DexSetup::default() });
    // The original's Dex has a public certificate. The image here trusts this Dex's CA as a public
    // one.
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut image = Image::open(&sidecar_image()).for_platform("linux/amd64");
    let ca = std::fs::read(dex.ca_file()).expect("the CA");
    for (path, _, content) in &mut image.files {
        if path.ends_with("ca-certificates.crt") {
            content.extend(&ca);
        }
    }
    let name = "localhost/dexsidecar-that-trusts-dex:1";
    node.import(&app_image::write_files(directory.path(), name, &["/bin/dexsidecar"], &image.files));
    let mut deployment = doc_manifests::original_deployment();
    let pod = &mut deployment["spec"]["template"]["spec"];
    pod["initContainers"][0]["image"] = name.into();
    pod["containers"][0]["image"] = APP.into();
    let variables = pod["initContainers"][0]["env"].as_array_mut().expect("a list");
    for variable in variables {
        if variable["name"] == "dex_endpoint" {
            variable["value"] = dex.endpoint().into();
        }
    }
    node.apply("original", &deployment).unwrap_or_else(|why| panic!("{why}"));
    let pods = "/api/v1/namespaces/original/pods";
    node.until("the Deployment has created its pod", || {
        node.get(pods)["items"][0]["metadata"]["name"].is_string()
    });
    let name = node.get(pods)["items"][0]["metadata"]["name"].as_str().expect("a name").to_owned();
    let pod = Pod::named(node, "original", &name);
    pod.until_event("init-incus", "token_written");
    // It has no startup probe, so the app may start before the token file exists.
    pod.until("the app is running", |pod| status(pod, "manager")["state"]["running"].is_object());
    let token = pod.exec("manager", &["cat", "/var/run/secrets/miscord.win/dex/token"]);
    let token = claims(&token.unwrap_or_else(|why| panic!("{why}\n{}", pod.diagnostics())));
    assert_eq!(token["aud"], "user");
    assert!(pod.log("init-incus").contains("did you mean federated:id?"), "{}", pod.log("init-incus"));
    node.plane.kubectl(&["--namespace", "original", "delete", "deployment", "nginx", "--wait=false"]);
}
