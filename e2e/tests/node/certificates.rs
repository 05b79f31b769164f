//! The CAs that the image trusts, and how users add their own without a setting of dexsidecar.

use dexsidecar_e2e::dex::DexSetup;
use dexsidecar_e2e::image::Image;
use dexsidecar_e2e::node::{Node, sidecar_image};
use dexsidecar_e2e::pod::{Manifest, Pod};
use serde_json::json;

use crate::{NodeTest, dex, node_tests};

pub(crate) const TESTS: &[NodeTest] = node_tests![a_ca_in_etc_ssl_certs_is_trusted];

/// In a file of its own beside the public CAs, and appended to their file: Go finds both.
fn a_ca_in_etc_ssl_certs_is_trusted(node: &Node) {
    let dex = dex(node, "certificates", true, DexSetup::default());
    let ca = std::fs::read_to_string(dex.ca_file()).expect("the CA");
    let image = Image::open(&sidecar_image()).for_platform("linux/amd64");
    let public = String::from_utf8(image.file("etc/ssl/certs/ca-certificates.crt").1.to_vec()).expect("PEM");
    let map = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "certificates"},
        "data": {"beside.pem": ca, "appended.pem": public + &ca}
    });
    node.plane
        .apply(&map.to_string(), &["--namespace", "certificates", "--server-side"])
        .unwrap_or_else(|why| panic!("{why}"));
    let cases = [
        ("beside", "beside.pem", "/etc/ssl/certs/company.pem"),
        ("appended", "appended.pem", "/etc/ssl/certs/ca-certificates.crt"),
    ];
    let pods: Vec<_> = cases
        .iter()
        .map(|(name, key, path)| {
            let mut manifest = Manifest::hardened(name, &dex).with(|pod| {
                let variables = pod["spec"]["initContainers"][0]["env"].as_array_mut().expect("a list");
                variables.retain(|variable| variable["name"] != "DEXSIDECAR_CA_FILE");
            });
            manifest.mount("certificates", json!({"configMap": {"name": "certificates"}}), path);
            let mounts = manifest.sidecar()["volumeMounts"].as_array_mut().expect("a list");
            mounts.last_mut().expect("the mount was added above")["subPath"] = (*key).into();
            Pod::apply(node, "certificates", &manifest)
        })
        .collect();
    for pod in pods {
        pod.until_running();
        pod.until_event("dexsidecar", "token_written");
    }
}
