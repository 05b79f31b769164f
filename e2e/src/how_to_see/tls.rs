//! TLS and certificates: what `openssl` shows of the server and of the CA file.

use super::{HowToSee, Line, NOTHING};

/// Prints the server's certificates, the server's own first.
const SHOW_CHAIN: &str =
    "kubectl exec POD -c APP -- openssl s_client -connect HOST:PORT -servername HOST -showcerts </dev/null";

/// How Go's TLS server logs a client that closes the connection.
const CLOSED: Line = Line {
    text: "http: TLS handshake error from …: EOF",
    cause: "the client closed the connection during the handshake: it does not accept the certificate. Probes \
            that only open a connection leave the same line",
};

/// A certificate that is shown by `openssl x509`.
macro_rules! shown_by {
    ($options:literal) => {
        concat!(
            "kubectl exec POD -c APP -- sh -c 'openssl s_client -connect HOST:PORT -servername HOST </dev/null \
             2>/dev/null | openssl x509 -noout ",
            $options,
            "'"
        )
    };
}

pub(super) const CA_FILE_UNREADABLE: HowToSee = HowToSee {
    look: "The message has the path and the reason.",
    commands: &["kubectl exec POD -c APP -- ls -lnL CA.pem", "kubectl describe pod POD"],
    ..NOTHING
};

pub(super) const CA_FILE_INVALID: HowToSee = HowToSee {
    look: "The message has the number of the certificate in the file and its line. openssl lists the \
           certificates up to the first that it cannot read.",
    commands: &[
        "kubectl exec POD -c APP -- sh -c 'openssl crl2pkcs7 -nocrl -certfile CA.pem | openssl pkcs7 -print_certs -noout'",
    ],
    ..NOTHING
};

pub(super) const NO_ROOTS: HowToSee = HowToSee {
    look: "The message has the paths that were looked at. The image has `/etc/ssl/certs/ca-certificates.crt`; a \
           volume that is mounted over `/etc/ssl/certs` hides it.",
    commands: &[
        "kubectl get pod POD -o yaml | grep -E -A1 'SSL_CERT_(FILE|DIR)|DEXSIDECAR_CA_FILE|/etc/ssl'",
    ],
    ..NOTHING
};

pub(super) const CERTIFICATE_UNTRUSTED: HowToSee = HowToSee {
    look: "The last `i:` line of the chain names the CA that must be in the CA file. With that CA the second \
           command prints `Verify return code: 0 (ok)`.",
    commands: &[
        SHOW_CHAIN,
        "kubectl exec POD -c APP -- openssl s_client -connect HOST:PORT -servername HOST -CAfile CA.pem </dev/null",
    ],
    dex_log: &[CLOSED],
    ..NOTHING
};

pub(super) const CERTIFICATE_IS_CA: HowToSee = HowToSee {
    look: "The output has `CA:TRUE`.",
    commands: &[shown_by!("-ext basicConstraints")],
    dex_log: &[CLOSED],
    ..NOTHING
};

pub(super) const CERTIFICATE_WRONG_NAME: HowToSee = HowToSee {
    look: "The output must have the host of `dex_endpoint`, as `DNS:` or `IP Address:`. The subject's common \
           name does not count.",
    commands: &[shown_by!("-ext subjectAltName")],
    dex_log: &[CLOSED],
    ..NOTHING
};

pub(super) const CERTIFICATE_EXPIRED: HowToSee = HowToSee {
    look: "`notAfter` is in the past, or the clock of the node is ahead. The message has both times.",
    commands: &[shown_by!("-dates"), "kubectl exec POD -c APP -- date -u"],
    dex_log: &[CLOSED],
    ..NOTHING
};

pub(super) const CERTIFICATE_NOT_YET_VALID: HowToSee = HowToSee {
    look: "`notBefore` is in the future, or the clock of the node is behind. The message has both times.",
    commands: &[shown_by!("-dates"), "kubectl exec POD -c APP -- date -u"],
    dex_log: &[CLOSED],
    ..NOTHING
};

pub(super) const CERTIFICATE_INVALID: HowToSee = HowToSee {
    look: "The message has the reason. A usable certificate has `Version: 3`, a subject alternative name, and \
           `TLS Web Server Authentication` if it lists extended key usages.",
    commands: &[shown_by!("-text")],
    dex_log: &[CLOSED],
    ..NOTHING
};

pub(super) const CERTIFICATE_EXTENSION_UNSUPPORTED: HowToSee = HowToSee {
    look: "The message has the extension and the certificate. openssl marks the extension with `critical`. The \
           certificate may be an intermediate: the first command prints them all.",
    commands: &[SHOW_CHAIN, shown_by!("-text")],
    dex_log: &[CLOSED],
    ..NOTHING
};

pub(super) const CERTIFICATE_KEY_UNSUPPORTED: HowToSee = HowToSee {
    look: "The message has the certificate and its key, which openssl shows as `Public Key Algorithm`. The \
           certificate may be an intermediate: the first command prints them all.",
    commands: &[SHOW_CHAIN, shown_by!("-text")],
    dex_log: &[CLOSED],
    ..NOTHING
};

pub(super) const CERTIFICATE_SIGNATURE_UNSUPPORTED: HowToSee = HowToSee {
    look: "The message has the certificate and the algorithm, which openssl shows as `Signature Algorithm`. The \
           certificate may be an intermediate: the first command prints them all.",
    commands: &[SHOW_CHAIN, shown_by!("-text")],
    dex_log: &[CLOSED],
    ..NOTHING
};

pub(super) const CERTIFICATE_CHAIN_TOO_LARGE: HowToSee = HowToSee {
    look: "The count is the number of certificates that the server sends. Two or three are usual.",
    commands: &[
        "kubectl exec POD -c APP -- sh -c 'openssl s_client -connect HOST:PORT -servername HOST -showcerts \
         </dev/null | grep -c BEGIN'",
    ],
    ..NOTHING
};

pub(super) const TLS_NOT_SPOKEN: HowToSee = HowToSee {
    look: "curl gets an answer over plain http.",
    commands: &["kubectl exec POD -c APP -- curl -si http://HOST:PORT/"],
    ..NOTHING
};

pub(super) const TLS_REFUSED: HowToSee = HowToSee {
    look: "The message has the reason. openssl shows the version, the cipher and the group that the server \
           takes, and `Acceptable client certificate CA names` if it requires a client certificate.",
    commands: &[
        "kubectl exec POD -c APP -- openssl s_client -connect HOST:PORT -servername HOST -tls1_3 </dev/null",
        "kubectl exec POD -c APP -- openssl s_client -connect HOST:PORT -servername HOST -tls1_2 </dev/null",
    ],
    ..NOTHING
};

pub(super) const TLS_FAILED: HowToSee = HowToSee {
    look: "openssl fails in the same way. From the node of Dex the same command works if the cause is on the \
           way.",
    commands: &[SHOW_CHAIN],
    ..NOTHING
};
