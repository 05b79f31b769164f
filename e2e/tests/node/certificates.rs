//! Which certificates the image trusts, and how users add theirs without a setting of ours.

use dexsidecar_e2e::dex::Setup;
use dexsidecar_e2e::image::Image;
use dexsidecar_e2e::node::{Node, image};
use dexsidecar_e2e::pod::{Manifest, Pod};
use serde_json::json;

use crate::{Story, dex};

pub(crate) const STORIES: &[Story] =
    &[("a_ca_in_etc_ssl_certs_is_trusted", a_ca_in_etc_ssl_certs_is_trusted, false)];

/// Beside the public ones as a file of its own, and in their file, appended: both as Go would find it.
fn a_ca_in_etc_ssl_certs_is_trusted(node: &Node) {
    let dex = dex(node, "certificates", true, Setup::default());
    let ca = std::fs::read_to_string(dex.ca_file()).expect("the CA");
    let part = Image::open(&image()).part("linux/amd64");
    let public = String::from_utf8(part.file("etc/ssl/certs/ca-certificates.crt").1.to_vec()).expect("PEM");
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
            mounts.last_mut().expect("it was added just now")["subPath"] = (*key).into();
            Pod::apply(node, "certificates", &manifest)
        })
        .collect();
    for pod in pods {
        pod.until_running();
        pod.until_said("dexsidecar", "token written");
    }
}
