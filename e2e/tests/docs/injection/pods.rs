//! What is added to pods, as snapshots: one whole sidecar, and what differs from it in other pods.

use std::fmt::Write as _;

use dexsidecar_e2e::control_plane::{ControlPlane, PlaneSetup};
use dexsidecar_e2e::doc_manifests;
use dexsidecar_e2e::injection::{self, container, pod, submit};
use serde_json::{Value, json};

use super::{annotated, containers, plane, sidecar};

/// A pod, its name in the snapshot, and its namespace.
type Case = (&'static str, &'static str, Value);

/// Sets a field of a pod's spec.
fn with(mut pod: Value, field: &str, value: Value) -> Value {
    pod["spec"][field] = value;
    pod
}

/// A container with a command or other fields.
fn container_with(name: &str, field: &str, value: Value) -> Value {
    let mut container = container(name);
    container[field] = value;
    container
}

fn cases() -> Vec<Case> {
    let unlabelled = |label: Option<&str>| {
        let mut pod = pod("app");
        pod["metadata"]["labels"] =
            label.map_or_else(|| json!({}), |label| json!({"dexsidecar.io/inject": label}));
        pod
    };
    let with_init = |annotations: &[(&str, &str)]| {
        with(annotated(annotations), "initContainers", json!([container("migrate")]))
    };
    let own_volume = with(pod("app"), "volumes", json!([{"name": "data", "emptyDir": {}}]));
    let data = json!([{"name": "data", "mountPath": "/data"}]);
    let own_mount = json!([{"name": "dexsidecar-token", "mountPath": "/tokens", "readOnly": true}]);
    let commands =
        json!([container_with("app", "command", json!(["/bin/app", "--serve"])), container("proxy"),]);
    let migrate = json!([container_with("migrate", "command", json!(["/bin/migrate"]))]);
    let wait = with(annotated(&[("start", "wait"), ("containers", "app,migrate")]), "containers", commands);
    let root = json!({"runAsUser": 0});
    let by_hand = || {
        let mut pod = doc_manifests::hardened_pod();
        pod["metadata"]["labels"] = json!({"dexsidecar.io/inject": "true"});
        pod
    };
    let once = |mut pod: Value| {
        let sidecar = &mut pod["spec"]["initContainers"][0];
        sidecar["args"] = json!(["once"]);
        let sidecar = sidecar.as_object_mut().expect("an object");
        sidecar.retain(|key, _| key != "restartPolicy" && key != "startupProbe");
        pod
    };
    vec![
        ("in a restricted namespace", "restricted", pod("app")),
        ("in a labelled namespace, without a label", "labelled", unlabelled(None)),
        ("in a labelled namespace, with a label", "labelled", unlabelled(Some("true"))),
        ("opted out of a labelled namespace", "labelled", unlabelled(Some("false"))),
        ("without a label", "default", unlabelled(None)),
        ("own volume and mount", "default", {
            with(own_volume, "containers", json!([container_with("app", "volumeMounts", data)]))
        }),
        ("own mount of the token volume", "default", {
            with(pod("app"), "containers", json!([container_with("app", "volumeMounts", own_mount)]))
        }),
        ("init container", "restricted", with_init(&[])),
        ("init container that needs the token", "restricted", with_init(&[("containers", "migrate, app")])),
        ("one container of two", "default", {
            let two = json!([container("app"), container("proxy")]);
            with(annotated(&[("containers", "app")]), "containers", two)
        }),
        ("start: wait", "restricted", with(wait, "initContainers", migrate)),
        ("start: none", "default", annotated(&[("start", "none")])),
        ("listener", "restricted", annotated(&[("listen-port", "9090")])),
        ("listener, in a labelled namespace, without a label", "labelled", {
            let mut pod = annotated(&[("listen-port", "1024")]);
            pod["metadata"].as_object_mut().expect("an object").remove("labels");
            pod
        }),
        ("listener that is not to be scraped", "default", {
            let mut pod = annotated(&[("listen-port", "65535")]);
            pod["metadata"]["labels"]["dexsidecar.io/scrape"] = "false".into();
            pod
        }),
        ("listener and several tokens", "default", {
            annotated(&[("listen-port", "9090"), ("tokens-configmap", "dex-tokens")])
        }),
        ("listener beside other ports", "default", {
            let ports = json!([{"containerPort": 8080}, {"containerPort": 9090, "protocol": "UDP"}]);
            with(
                annotated(&[("listen-port", "9090")]),
                "containers",
                json!([container_with("app", "ports", ports)]),
            )
        }),
        ("several tokens", "default", {
            annotated(&[("tokens-configmap", "dex-tokens"), ("ca-configmap", "dex-ca")])
        }),
        ("CA of a Secret", "default", annotated(&[("ca-secret", "dex-ca")])),
        ("CA of a ClusterTrustBundle", "default", annotated(&[("ca-trust-bundle", "dex.example.com:ca:v1")])),
        ("every other annotation", "restricted", {
            annotated(&[
                ("endpoint", "https://dex.example.org/dex/token"),
                ("client-id", "grafana"),
                ("connector", "k8s"),
                ("scope", "openid"),
                ("path", "/etc/tokens/grafana"),
                ("audience", "https://dex.example.org"),
                ("expiration-seconds", "7200"),
                ("cpu-request", "2m"),
                ("memory-request", "8Mi"),
                ("memory-limit", "32Mi"),
            ])
        }),
        ("quotes, backslashes and braces", "default", {
            annotated(&[("connector", r#"a"b'c\d{{e}}$f"#), ("client-id", "${g}%h"), ("scope", "a:'b'")])
        }),
        ("root", "default", with(pod("app"), "securityContext", root)),
        ("host network", "default", with(pod("app"), "hostNetwork", true.into())),
        (
            "no API token in the app",
            "default",
            with(pod("app"), "automountServiceAccountToken", false.into()),
        ),
        ("empty lists", "default", {
            let app = container_with("app", "command", json!([]));
            let pod = with(annotated(&[("start", "probe")]), "containers", json!([app]));
            with(with(pod, "initContainers", json!([])), "volumes", json!([]))
        }),
        ("static pod", "labelled", {
            let mut mirror = with(pod("app"), "nodeName", "node".into());
            mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
            mirror["spec"].as_object_mut().expect("an object").remove("serviceAccountName");
            mirror
        }),
        ("Windows by its node selector", "default", {
            with(pod("app"), "nodeSelector", json!({"kubernetes.io/os": "windows"}))
        }),
        ("Windows", "default", {
            let windows = with(pod("app"), "os", json!({"name": "windows"}));
            let windows = with(windows, "securityContext", json!({}));
            with(windows, "containers", json!([{"name": "app", "image": "example.com/app:1"}]))
        }),
        ("sidecar by hand", "restricted", by_hand()),
        ("init container by hand", "restricted", once(by_hand())),
    ]
}

/// Creates a workload of every kind with this pod, each in a namespace of its own. Gives their
/// kinds and namespaces.
fn workloads(plane: &mut ControlPlane, pod: &Value) -> Vec<(&'static str, String)> {
    let template = |restart: &str| {
        let mut template = pod.clone();
        template["spec"]["restartPolicy"] = restart.into();
        template["metadata"]["labels"]["app"] = "app".into();
        template["metadata"].as_object_mut().expect("an object").remove("name");
        json!({"metadata": template["metadata"], "spec": template["spec"]})
    };
    let selector = json!({"matchLabels": {"app": "app"}});
    let job = json!({"template": template("Never")});
    let running = json!({"selector": selector, "template": template("Always")});
    let objects = [
        ("apps/v1", "Deployment", running.clone()),
        ("apps/v1", "StatefulSet", running.clone()),
        ("apps/v1", "DaemonSet", running),
        ("batch/v1", "Job", job.clone()),
        ("batch/v1", "CronJob", json!({"schedule": "0 0 1 1 *", "jobTemplate": {"spec": job}})),
    ];
    plane.start_controllers();
    // A DaemonSet creates a pod for each node.
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node"}});
    plane.apply(&node.to_string(), &[]).unwrap_or_else(|why| panic!("{why}"));
    let mut created = vec![];
    for (version, kind, spec) in objects {
        let namespace = kind.to_lowercase();
        plane.kubectl(&["create", "namespace", &namespace]);
        plane.kubectl(&["--namespace", &namespace, "create", "serviceaccount", "app"]);
        let object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": "app"}, "spec": spec});
        let applied = plane.apply(&object.to_string(), &["--namespace", &namespace]);
        applied.unwrap_or_else(|why| panic!("{why}"));
        if kind == "CronJob" {
            plane.kubectl(&["--namespace", &namespace, "create", "job", "now", "--from=cronjob/app"]);
        }
        created.push((kind, namespace));
    }
    created
}

/// The sidecar and the volumes of a pod, without what differs between two pods.
fn injected(pod: &Value) -> Value {
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    let volumes: Vec<&Value> =
        volumes.filter(|volume| !volume["name"].as_str().is_some_and(is_api_token)).collect();
    json!({"sidecar": sidecar(pod), "volumes": volumes})
}

fn is_api_token(volume: &str) -> bool {
    volume.starts_with("kube-api-access-")
}

/// What differs between a pod and the plain one: fields of the sidecar, volumes, the label of the
/// PodMonitor, and the mounts and commands of containers.
fn outline(pod: &Value, plain: &Value) -> String {
    let mut text = String::new();
    let (sidecar, usual) = (sidecar(pod), sidecar(plain));
    if sidecar.is_null() {
        return "not injected\n".to_owned();
    }
    let keys = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    for key in keys(&usual).into_iter().filter(|key| sidecar[key].is_null()) {
        let _ = writeln!(text, "sidecar: no {key}");
    }
    for key in keys(&sidecar).into_iter().filter(|key| sidecar[key] != usual[key]) {
        let Some(entries) = sidecar[&key].as_array() else {
            let _ = writeln!(text, "sidecar: {key}: {}", sidecar[&key]);
            continue;
        };
        let usual = usual[&key].as_array().cloned().unwrap_or_default();
        for entry in entries.iter().filter(|entry| !usual.contains(entry)) {
            let _ = writeln!(text, "sidecar: {key}: {entry}");
        }
    }
    let usual = injected(plain)["volumes"].as_array().expect("a list").clone();
    for volume in injected(pod)["volumes"].as_array().expect("a list") {
        if !usual.contains(volume) {
            let _ = writeln!(text, "volume: {volume}");
        }
    }
    let scraped = &pod["metadata"]["labels"]["dexsidecar.io/scrape"];
    if !scraped.is_null() {
        let _ = writeln!(text, "label: dexsidecar.io/scrape: {scraped}");
    }
    for container in containers(pod) {
        let name = container["name"].as_str().expect("a name");
        let _ = write!(text, "{name}:");
        if container["command"].is_array() {
            let _ = write!(text, " {}", container["command"]);
        }
        for mount in container["volumeMounts"].as_array().into_iter().flatten() {
            let volume = mount["name"].as_str().expect("a name");
            let mode = if mount["readOnly"] == true { "ro" } else { "rw" };
            if !is_api_token(volume) {
                let path = mount["mountPath"].as_str().expect("a path");
                let _ = write!(text, " {volume}={path}:{mode}");
            }
        }
        text.push('\n');
    }
    text
}

#[test]
fn what_is_added_to_each_pod_is_as_recorded() {
    let arguments = vec![
        "--feature-gates=ClusterTrustBundle=true,ClusterTrustBundleProjection=true",
        "--runtime-config=certificates.k8s.io/v1beta1/clustertrustbundles=true",
    ];
    let mut plane = plane(PlaneSetup { arguments, ..PlaneSetup::default() });
    let plain = submit(&plane, "default", &pod("app")).expect("it is admitted");
    insta::assert_snapshot!("injected", format!("{:#}\n", injected(&plain)));
    let mut text = String::new();
    for (name, namespace, given) in cases() {
        let admitted = submit(&plane, namespace, &given).unwrap_or_else(|why| panic!("{name}: {why}"));
        let _ = writeln!(text, "# {name}\n{}", outline(&admitted, &plain));
    }
    for (kind, namespace) in workloads(&mut plane, &pod("app")) {
        let list = || {
            let list = plane.kubectl(&["--namespace", &namespace, "get", "pods", "-o", "json"]);
            serde_json::from_str::<Value>(&list).expect("kubectl prints JSON")["items"].clone()
        };
        injection::until(&format!("the {kind} has a pod"), || list()[0].is_object());
        let _ = writeln!(text, "# {kind}\n{}", outline(&list()[0], &plain));
    }
    insta::with_settings!({filters => [("kube-api-access-[a-z0-9]{5}", "kube-api-access-…")]}, {
        insta::assert_snapshot!("pods", text);
    });
}

/// The sidecar by hand and the injected one are the same, so that one page describes both.
#[test]
fn the_injected_sidecar_is_the_one_of_the_page_with_another_subject_token_directory() {
    let plane = plane(PlaneSetup::default());
    let injected = submit(&plane, "default", &pod("app")).expect("it is admitted");
    let by_hand = submit(&plane, "default", &doc_manifests::hardened_pod());
    let subject = "/var/run/secrets/kubernetes.io/serviceaccount";
    // The page's sidecar also mounts the API's token there, unless the pod refuses it.
    let mut by_hand = sidecar(&by_hand.expect("it is admitted"));
    let mounts = by_hand["volumeMounts"].as_array_mut().expect("a list");
    mounts.retain(|mount| !mount["name"].as_str().is_some_and(is_api_token));
    let text = by_hand.to_string().replace("/var/run/secrets/subject", subject);
    let text = text
        .replace("\"dex-token\"", "\"dexsidecar-token\"")
        .replace("\"subject-token\"", "\"dexsidecar-subject\"");
    let mut by_hand: Value = serde_json::from_str(&text).expect("it is JSON");
    let mut injected = sidecar(&injected);
    // The page sets these two for the whole pod.
    let context = injected["securityContext"].as_object_mut().expect("an object");
    context.retain(|key, _| key != "runAsNonRoot" && key != "seccompProfile");
    for sidecar in [&mut injected, &mut by_hand] {
        let variables = sidecar["env"].as_array_mut().expect("a list");
        variables.sort_by_key(|variable| variable["name"].to_string());
    }
    assert_eq!(injected, by_hand);
}

/// `kubectl apply` of a workload succeeds, so the message must be where its owner looks.
#[test]
fn the_message_is_an_event_of_a_workload_whose_pods_are_refused() {
    let mut plane = plane(PlaneSetup::default());
    let message = "annotation dexsidecar.io/start is 'later': it must be probe, wait or none";
    for (kind, namespace) in workloads(&mut plane, &annotated(&[("start", "later")])) {
        // As the page has it.
        let events = ["get", "events", "--field-selector", "reason=FailedCreate"];
        let command = [&["--namespace", &namespace], &events[..]].concat();
        injection::until(&format!("{kind}: an event"), || plane.kubectl(&command).contains(message));
    }
    let replica_set = plane.kubectl(&["--namespace", "deployment", "describe", "replicaset"]);
    assert!(replica_set.contains(message), "{replica_set}");
}

/// The API server stops an expression that costs too much, and refuses the pod.
#[test]
fn a_pod_of_400_containers_with_20_mounts_each_is_injected() {
    let plane = plane(PlaneSetup::default());
    let plain = submit(&plane, "default", &pod("app")).unwrap_or_else(|why| panic!("{why}"));
    let many = |prefix: &str| -> Value {
        let mounts: Vec<Value> =
            (0..20).map(|number| json!({"name": "data", "mountPath": format!("/data/{number}")})).collect();
        let containers = (0..200)
            .map(|number| container_with(&format!("{prefix}{number}"), "volumeMounts", json!(mounts)));
        containers.collect()
    };
    let mut large = with(pod("app"), "containers", many("app"));
    large["spec"]["initContainers"] = many("init");
    large["spec"]["volumes"] = json!([{"name": "data", "emptyDir": {}}]);
    // An annotation has at most 1000 characters.
    let names: Vec<String> = (0..120).map(|number| format!("init{number}")).collect();
    let mut named = large.clone();
    named["metadata"]["annotations"]["dexsidecar.io/containers"] = names.join(",").into();
    for (given, is_chosen) in [
        (large, &(|name: &str| name.starts_with("app")) as &dyn Fn(&str) -> bool),
        (named, &|name| names.iter().any(|chosen| chosen == name)),
    ] {
        let admitted = submit(&plane, "default", &given).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(injected(&admitted)["sidecar"], injected(&plain)["sidecar"]);
        let (before, after) = (containers(&given), containers(&admitted));
        assert_eq!((before.len(), after.len()), (400, 401));
        for (before, after) in before.iter().zip(&after[1..]) {
            let name = before["name"].as_str().expect("a name");
            let mut mounts = before["volumeMounts"].as_array().expect("a list").clone();
            if is_chosen(name) {
                let path = "/var/run/secrets/dex";
                mounts.push(json!({"name": "dexsidecar-token", "mountPath": path, "readOnly": true}));
            }
            let mut found = after["volumeMounts"].as_array().expect("a list").clone();
            found.retain(|mount| !mount["name"].as_str().is_some_and(is_api_token));
            assert_eq!((after["name"].as_str(), found), (Some(name), mounts));
        }
    }
}
