//! DNS, TCP, proxies, and connections that end early: what the pod, the network and Dex's pods
//! show.

use super::{HowToSee, Line, NOTHING};

pub(super) const NAME_NOT_FOUND: HowToSee = HowToSee {
    look: "`getent` prints nothing. The message has the name servers that were asked and the search list.",
    commands: &[
        "kubectl exec POD -c APP -- getent ahosts HOST",
        "kubectl exec POD -c APP -- cat /etc/resolv.conf",
    ],
    ..NOTHING
};

pub(super) const NAME_LOOKUP_FAILED: HowToSee = HowToSee {
    look: "The message has each name server with what it answered, or that it did not answer. The pods of \
           CoreDNS must be ready, and a NetworkPolicy must let port 53 through.",
    commands: &[
        "kubectl -n kube-system get pods -l k8s-app=kube-dns",
        "kubectl -n kube-system logs -l k8s-app=kube-dns",
        "kubectl get networkpolicy -A",
    ],
    ..NOTHING
};

pub(super) const CONNECT_REFUSED: HowToSee = HowToSee {
    look: "The message has the address that refused. If it is the address of a Service, the Service has no \
           ready endpoint.",
    commands: &[
        "kubectl -n dex get pods,services,endpointslices",
        "kubectl -n dex logs deploy/dex --previous",
    ],
    dex_log: &[
        Line {
            text: "level=ERROR msg=\"server: Failed to open connector\" id=… err=\"failed to open connector: …\"",
            cause: "Dex cannot open this connector; the reason follows",
        },
        Line {
            text: "failed to initialize server: server: failed to open all connectors (…)",
            cause: "Dex 2.45 exits, because it can open none of its connectors. Dex 2.44 and earlier exit when \
                    they cannot open one of them",
        },
    ],
    ..NOTHING
};

pub(super) const CONNECT_FAILED: HowToSee = HowToSee {
    look: "The message has each address and its error, such as `no route to host`. A firewall or NetworkPolicy \
           that drops packets shows as `timed out`.",
    commands: &[
        "kubectl exec POD -c APP -- nc -vz -w 5 HOST PORT",
        "kubectl get networkpolicy -A",
        "kubectl -n dex get pods,services,endpointslices",
    ],
    ..NOTHING
};

pub(super) const PLAIN_HTTP_REFUSED: HowToSee = HowToSee {
    look: "The message has the public address. Addresses that are not public are those of loopback, RFC 1918, \
           RFC 4193, link-local and RFC 6598.",
    commands: &["kubectl exec POD -c APP -- getent ahosts HOST"],
    ..NOTHING
};

pub(super) const PROXY_FAILED: HowToSee = HowToSee {
    look: "The message has the proxy, the variable that names it and what went wrong. curl shows the proxy's \
           own answer. If `PROXY` has credentials, the output contains them (`Proxy-Authorization`): do not \
           paste it anywhere.",
    commands: &[
        "kubectl get pod POD -o yaml | grep -iE -A1 '(http|https|no)_proxy'",
        "kubectl exec POD -c APP -- curl -sv -x PROXY ENDPOINT",
    ],
    ..NOTHING
};

pub(super) const TIMED_OUT: HowToSee = HowToSee {
    look: "The message has the step at which the time ran out. If it is DNS, TCP or TLS, the network is the \
           cause. If it is a later step, Dex or a proxy in front of it does not answer. Dex itself may be \
           waiting for the cluster's issuer.",
    commands: &[
        "kubectl exec POD -c APP -- curl -sv --max-time 20 ENDPOINT",
        "kubectl -n dex get pods",
        "kubectl -n dex top pods",
    ],
    ..NOTHING
};

pub(super) const CONNECTION_LOST: HowToSee = HowToSee {
    look: "The count of restarts shows whether Dex was restarted. A server that expects TLS may end a plain \
           http connection like this.",
    commands: &["kubectl -n dex get pods", "kubectl -n dex logs deploy/dex --previous"],
    dex_log: &[Line {
        text: "http: TLS handshake error from …: client sent an HTTP request to an HTTPS server",
        cause: "`dex_endpoint` is plain http, and Dex expects https on this port",
    }],
    ..NOTHING
};
