//! The manifest of the original's README, with only the image's name and the host's changed, and Dex's connector as printed.

use dexsidecar_e2e::app_image::{self, APP};
use dexsidecar_e2e::dex::Setup;
use dexsidecar_e2e::doc_manifests;
use dexsidecar_e2e::image::Image;
use dexsidecar_e2e::node::{Node, image};
use dexsidecar_e2e::pod::{Pod, status};
use dexsidecar_e2e::signing_key::claims;

use crate::{Story, dex};

pub(crate) const STORIES: &[Story] =
    &[("the_original_s_manifest_works_unchanged", the_original_s_manifest_works, false)];

fn the_original_s_manifest_works(node: &Node) {
    // Its pod says nothing of security, as was usual.
    let dex = dex(node, "original", false, Setup { as_printed: true, ..Setup::default() });
    // The original's Dex has a public certificate: so the image that is used here trusts this Dex's CA among the public ones.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut part = Image::open(&image()).part("linux/amd64");
    let ca = std::fs::read(dex.ca_file()).expect("the CA");
    for (path, _, content) in &mut part.files {
        if path.ends_with("ca-certificates.crt") {
            content.extend(&ca);
        }
    }
    let name = "localhost/dexsidecar-that-trusts-dex:1";
    node.import(&app_image::of_files(folder.path(), name, &["/bin/dexsidecar"], &part.files));
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
    node.until("the Deployment has made its pod", || {
        node.get(pods)["items"][0]["metadata"]["name"].is_string()
    });
    let name = node.get(pods)["items"][0]["metadata"]["name"].as_str().expect("a name").to_owned();
    let pod = Pod::named(node, "original", &name);
    pod.until_said("init-incus", "token written");
    // It has no startup probe, so the app may come later than the token, or before.
    pod.until("the app runs", |pod| status(pod, "manager")["state"]["running"].is_object());
    let token = pod.exec("manager", &["cat", "/var/run/secrets/miscord.win/dex/token"]);
    let token = claims(&token.unwrap_or_else(|why| panic!("{why}\n{}", pod.told())));
    assert_eq!(token["aud"], "user");
    assert!(pod.log("init-incus").contains("did you mean federated:id?"), "{}", pod.log("init-incus"));
    node.plane.kubectl(&["--namespace", "original", "delete", "deployment", "nginx", "--wait=false"]);
}
