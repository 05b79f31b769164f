//! What kubectl prints of injected pods, as docs/injection.md has it: of a pod with a token, of one
//! that Dex refuses, and of one whose Dex is down.

use std::fmt::Write as _;

use dexsidecar_e2e::app_image::APP;
use dexsidecar_e2e::consumer_page::{Page, Transcript};
use dexsidecar_e2e::dex::Dex;
use dexsidecar_e2e::node::Node;
use dexsidecar_e2e::pod::{Pod, app, sidecar};
use dexsidecar_e2e::shell_commands::Shell;

use crate::injection::{annotate, labelled, world};
use crate::{NodeTest, node_tests};

pub(crate) const TESTS: &[NodeTest] =
    node_tests![kubectl_prints_of_injected_pods_what_the_injection_page_has];

const NAMESPACE: &str = "injected-output";

/// Replaces what differs between two runs.
type Redaction = fn(&str) -> String;

/// The sections of `kubectl describe pod`, and in each the labels of the lines on the page.
/// `Conditions` and `Events` are there as a whole.
const DESCRIBED: [(&str, &[&str]); 2] = [
    ("Init Containers:", &["dexsidecar:", "State:", "Reason:", "Ready:", "Restart Count:", "Startup:"]),
    ("Containers:", &["app:", "State:", "Reason:", "Ready:", "Restart Count:"]),
];

fn kubectl_prints_of_injected_pods_what_the_injection_page_has(node: &Node) {
    let mut dex = world(node, NAMESPACE, true);
    let base = labelled(&dex);
    let named = |name: &str| base.clone().with(|pod| pod["metadata"]["name"] = name.into());
    let healthy = Pod::apply(node, NAMESPACE, &named("app"));
    let refused = Pod::apply(node, NAMESPACE, &annotate(named("refused"), "connector", "kubernets"));
    healthy.until("both containers are ready", |pod| app(pod)["ready"] == true);
    record(node, &dex, "app", "healthy pod");
    until_waiting(node, &refused, "connector_unknown");
    record(node, &dex, "refused", "refused pod");
    dex.stop();
    let waiting = Pod::apply(node, NAMESPACE, &named("waiting"));
    until_waiting(node, &waiting, "connect_refused");
    record(node, &dex, "waiting", "waiting pod");
}

/// Waits until the sidecar has logged a failure, and its startup probe has failed twice.
fn until_waiting(node: &Node, pod: &Pod<'_>, code: &str) {
    pod.until_line("dexsidecar", &format!("code={code}"));
    pod.until("the sidecar runs", |pod| sidecar(pod)["state"]["running"].is_object());
    node.until("the startup probe has failed twice", || {
        pod.describe().lines().any(|line| line.contains("Unhealthy") && line.contains("(x"))
    });
}

/// Compares what kubectl prints of a pod with the page.
fn record(node: &Node, dex: &Dex, pod: &str, name: &str) {
    let shell = Shell::new(&node.plane, NAMESPACE);
    let programs = std::env::var("PATH").unwrap_or_default();
    let programs = format!("{}:{programs}", shell.path("bin").display());
    let kubeconfig = shell.path("kubeconfig").display().to_string();
    // Without a home, kubectl would write its cache into the current directory.
    let home = shell.path("home").display().to_string();
    let kubectl = Transcript::with(&[("PATH", &programs), ("KUBECONFIG", &kubeconfig), ("HOME", &home)]);
    let endpoint = dex.endpoint();
    let address = endpoint.trim_start_matches("https://").trim_end_matches("/dex/token");
    let mut text = String::new();
    let redactions: [(&str, Redaction); 3] =
        [("get pod POD", of_one_age), ("logs POD -c dexsidecar", of_one_time), ("describe pod POD", excerpt)];
    for (arguments, redacted) in redactions {
        let line = format!("kubectl {}", arguments.replace("POD", pod));
        let printed = kubectl.quietly(&line);
        let printed = printed
            .replace(&endpoint, "https://dex.example.com/token")
            .replace(address, "192.0.2.10:443")
            .replace(NAMESPACE, "default")
            .replace(APP, "example.com/app:1");
        let _ = write!(text, "$ {line}\n{}", redacted(&printed));
    }
    Page::at("docs/injection.md").result(name, &format!("```console\n{text}```\n"));
}

/// Output of `kubectl get pod` with the age 12s.
fn of_one_age(printed: &str) -> String {
    let lines = printed.lines().map(|line| match line.rsplit_once(' ') {
        Some((before, age)) if age.ends_with('s') => format!("{before} 12s\n"),
        _ => format!("{line}\n"),
    });
    lines.collect()
}

/// The log with one time, and without the jitter of the refresh schedule and of the backoff.
fn of_one_time(log: &str) -> String {
    let line = |line: &str| {
        let (_, rest) = line.split_once(' ').unwrap_or_else(|| panic!("no time: {line}"));
        let rest = with_field(&with_field(rest, "refresh_in", "15h"), "retry_in", "560ms");
        format!("2026-11-28T09:00:00.000Z {rest}\n")
    };
    log.lines().map(line).collect()
}

/// A log line with this value of a field, if it has the field.
fn with_field(line: &str, field: &str, value: &str) -> String {
    let Some((before, rest)) = line.split_once(&format!(" {field}=")) else { return line.to_owned() };
    let after = rest.find(' ').map_or("", |end| &rest[end..]);
    format!("{before} {field}={value}{after}")
}

/// The lines of `kubectl describe pod` that show whether the sidecar has a token. An ellipsis
/// stands for lines that are left out.
fn excerpt(described: &str) -> String {
    let (mut section, mut left_out, mut text) = ("", false, String::new());
    for line in described.lines() {
        if !line.starts_with(' ') {
            section = line;
        }
        let label = line.trim_start();
        let kept = match section {
            "Conditions:" => Some(format!("{}\n", line.trim_end())),
            _ if section.starts_with("Events:") => event(line),
            _ => DESCRIBED.iter().find(|(name, _)| section == *name).and_then(|(_, labels)| {
                let is_kept = line == section || labels.iter().any(|wanted| label.starts_with(wanted));
                is_kept.then(|| format!("{line}\n"))
            }),
        };
        let Some(kept) = kept else {
            left_out |= !section.starts_with("Events:");
            continue;
        };
        if std::mem::take(&mut left_out) {
            text.push_str("…\n");
        }
        text.push_str(&kept);
    }
    text
}

/// A line of the events with one age. Two kinds are left out: that this kubelet has no cluster DNS,
/// and a failed probe with another reason than the missing token, which a busy machine may cause.
fn event(line: &str) -> Option<String> {
    let columns: Vec<&str> = line.split("  ").map(str::trim).filter(|column| !column.is_empty()).collect();
    let [kind, reason, age, from, message @ ..] = columns.as_slice() else {
        return Some(format!("{line}\n"));
    };
    let other_probe = *reason == "Unhealthy" && !message.concat().contains("cannot be read");
    if *reason == "MissingClusterDNS" || other_probe {
        return None;
    }
    let age = match *age {
        "Age" | "----" => age,
        _ if *reason == "Unhealthy" => "1s (x11 over 11s)",
        _ => "12s",
    };
    Some(format!("  {kind:<7}  {reason:<9}  {age:<17}  {from:<17}  {}\n", message.join("  ")))
}
