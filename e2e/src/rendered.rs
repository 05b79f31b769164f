//! Manifests that kustomize and Helm render, and a real API server that judges them.

use std::fs;

use serde_json::Value;

use crate::control_plane::{ControlPlane, PlaneSetup};
use crate::doc_manifests;
use crate::process::PATIENCE;

/// The documents of a rendered text.
///
/// # Panics
/// If it is not YAML.
#[must_use]
pub fn documents(text: &str) -> Vec<Value> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(text).unwrap_or_else(|why| panic!("{why}\n{text}"));
    documents.into_iter().filter(|document| !document.is_null()).collect()
}

/// The pod's specification in a pod, or in what makes pods.
#[must_use]
pub fn pod_spec(manifest: &Value) -> &Value {
    match manifest["kind"].as_str() {
        Some("Pod") => &manifest["spec"],
        Some("CronJob") => &manifest["spec"]["jobTemplate"]["spec"]["template"]["spec"],
        _ => &manifest["spec"]["template"]["spec"],
    }
}

/// The sidecar's container in a pod's specification.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn sidecar(pod: &Value) -> &Value {
    let containers = pod["initContainers"].as_array().unwrap_or_else(|| panic!("no init container: {pod:#}"));
    let found = containers.iter().find(|container| container["name"] == "dexsidecar");
    found.unwrap_or_else(|| panic!("no dexsidecar: {pod:#}"))
}

/// An API server that enforces the *restricted* Pod Security Standard, and knows the kinds of the
/// Prometheus Operator.
pub struct Judge {
    plane: ControlPlane,
}

impl Judge {
    /// Starts it.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start() -> Self {
        // Kubernetes 1.36 drops the volume source clusterTrustBundle unless these are enabled.
        let plane = ControlPlane::start_with(PlaneSetup {
            arguments: vec![
                "--feature-gates=ClusterTrustBundle=true,ClusterTrustBundleProjection=true",
                "--runtime-config=certificates.k8s.io/v1beta1/clustertrustbundles=true",
            ],
            ..PlaneSetup::default()
        });
        // The charts create it.
        plane.kubectl(&["delete", "clusterrolebinding", "dex-discovery"]);
        plane.kubectl(&["create", "namespace", "monitoring"]);
        for namespace in ["default", "monitoring"] {
            for mode in ["enforce", "warn"] {
                let label = format!("pod-security.kubernetes.io/{mode}=restricted");
                plane.kubectl(&["label", "namespace", namespace, &label]);
            }
            if namespace != "default" {
                plane.kubectl(&["create", "serviceaccount", "app", "--namespace", namespace]);
            }
        }
        let path = doc_manifests::root().join("e2e/fixtures/prometheus-operator.yaml");
        let text = fs::read_to_string(path).expect("the fixture");
        plane.apply(&text, &[]).unwrap_or_else(|why| panic!("{why}"));
        let timeout = format!("--timeout={}s", PATIENCE.as_secs());
        plane.kubectl(&[
            "wait",
            "--for=condition=established",
            "customresourcedefinitions",
            "--all",
            &timeout,
        ]);
        Self { plane }
    }

    /// The API server.
    #[must_use]
    pub const fn plane(&self) -> &ControlPlane {
        &self.plane
    }

    /// Asks for a dry run of all documents, and that the API server drops no field of a sidecar or
    /// volume. Gives its lines, one for each document.
    ///
    /// # Panics
    /// If it refuses one of them, or warns.
    pub fn accepts(&self, rendered: &str) -> Vec<String> {
        let flags = ["--dry-run=server", "--validate=strict"];
        let said = self.plane.apply(rendered, &flags).unwrap_or_else(|why| panic!("{why}\n{rendered}"));
        assert!(!said.contains("Warning"), "{said}");
        let stored = self.plane.apply(rendered, &[&flags[..], &["--output=json"]].concat());
        let stored: Value = serde_json::from_str(&stored.expect("it was accepted")).expect("JSON");
        let stored = stored["items"].as_array().cloned().unwrap_or_else(|| vec![stored]);
        let documents = documents(rendered);
        assert_eq!(stored.len(), documents.len());
        for given in &documents {
            let same = |one: &&Value| {
                one["kind"] == given["kind"] && one["metadata"]["name"] == given["metadata"]["name"]
            };
            let kept = stored.iter().find(same).expect("each document");
            assert_kept(given, kept, &given["kind"].to_string());
        }
        said.lines().map(str::to_owned).collect()
    }
}

/// Fails if a field that is given is not kept with its value.
fn assert_kept(given: &Value, kept: &Value, path: &str) {
    match (given, kept) {
        (Value::Object(fields), Value::Object(others)) => {
            for (name, value) in fields {
                let path = format!("{path}.{name}");
                let other = others.get(name).unwrap_or_else(|| panic!("the API server drops {path}"));
                assert_kept(value, other, &path);
            }
        }
        (Value::Array(items), Value::Array(others)) => {
            // Admission adds the volume of the pod's own token at the end.
            assert!(items.len() <= others.len(), "the API server drops an item of {path}");
            items.iter().zip(others).for_each(|(item, other)| assert_kept(item, other, path));
        }
        _ => assert_eq!(given, kept, "{path}"),
    }
}
