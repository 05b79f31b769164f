//! The pod of docs/kubernetes.md whose app waits for the token, to which what kustomize and Helm
//! build is compared.

use dexsidecar_e2e::doc_manifests;
use serde_json::{Value, json};

/// What two of these pods have in common: without resources, which the page leaves out, and with
/// each list in the order of the names.
pub(crate) fn outline(spec: &Value) -> Value {
    let sorted = |list: &Value| {
        let mut list = list.as_array().expect("a list").clone();
        list.sort_by_key(|entry| entry["name"].to_string());
        Value::Array(list)
    };
    let mut containers = spec["initContainers"].as_array().expect("a list").clone();
    for container in &mut containers {
        container.as_object_mut().expect("an object").remove("resources");
        for key in ["env", "volumeMounts"] {
            if container[key].is_array() {
                container[key] = sorted(&container[key]);
            }
        }
    }
    let app = &spec["containers"][0];
    json!({
        "initContainers": containers,
        "volumes": sorted(&spec["volumes"]),
        "command": app["command"],
        "args": app["args"],
        "mounts": sorted(&app["volumeMounts"])
    })
}

/// The same pod with the program in an image volume, as the page says.
pub(crate) fn with_image_volume(spec: &Value) -> Value {
    let mut spec = spec.clone();
    doc_manifests::use_image_volume(&mut spec);
    spec
}
