//! What can go wrong while a token is kept fresh: the one table of failures.
//!
//! Log lines, `check`, the metrics' labels and docs/failures.md are made from it. A failure never ends the
//! program: it changes the pace of the next try and what is said, no more. Dex answers 400 and 401 for transient
//! trouble too (its own look-up of the cluster's keys, for one), so no answer proves that trying is in vain.

use std::fmt;
use std::time::Duration;

/// The part of the way on which it happened; the rungs of `check` are the same, in the same order.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Stage {
    /// Form fields and credentials that are read from files.
    Settings,
    /// Reading the subject token.
    SubjectToken,
    /// Resolving the endpoint's (or the proxy's) name.
    Name,
    /// The TCP connection, and the tunnel through a proxy.
    Connect,
    /// The TLS handshake and the certificates it is judged by.
    Tls,
    /// What the token endpoint publishes beside itself.
    Discovery,
    /// The request and its answer.
    Exchange,
    /// Putting the token into its file.
    Output,
}

impl Stage {
    /// Its name in logs, in reports and as a label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::SubjectToken => "subject token",
            Self::Name => "name",
            Self::Connect => "connect",
            Self::Tls => "TLS",
            Self::Discovery => "discovery",
            Self::Exchange => "exchange",
            Self::Output => "output",
        }
    }
}

/// How soon another try makes sense; the figures are in [`crate::schedule`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pace {
    /// The network, or a server in trouble: soon.
    Network,
    /// Refused, perhaps only for now: soon at first, then patiently.
    Refused,
    /// Looks like a wrong setting here or in Dex: patiently, and at once when something changes here.
    Config,
    /// A file of ours: looked at often, since looking is cheap.
    Local,
}

/// Whose move it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mover {
    /// Whoever wrote the pod's manifest.
    Pod,
    /// Whoever runs the network between the pod and Dex.
    Network,
    /// Whoever writes Dex's configuration.
    DexConfig,
    /// Whoever keeps Dex running.
    DexHealth,
    /// Whoever provides the volume with the output file.
    Volume,
}

impl Mover {
    /// As words for a sentence that begins "whose move: ".
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pod => "the pod's manifest",
            Self::Network => "the network",
            Self::DexConfig => "Dex's configuration",
            Self::DexHealth => "Dex's operation",
            Self::Volume => "the output volume",
        }
    }
}

/// What the table says of one code.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Stable name in lower-case with underscores.
    pub name: &'static str,
    /// Where it happens.
    pub stage: Stage,
    /// How soon to try again.
    pub pace: Pace,
    /// Whose move it is.
    pub mover: Mover,
    /// What happened, to stand before the details.
    pub summary: &'static str,
    /// What to change.
    pub hint: &'static str,
}

macro_rules! failures {
    ($($(#[$doc:meta])* $code:ident = $name:literal, $stage:ident, $pace:ident, $mover:ident, $summary:literal, $hint:literal;)*) => {
        /// The stable code of a failure.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub enum Code {
            $(#[doc = $summary] $code,)*
        }

        impl Code {
            /// Every code, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$code,)*];

            /// Its row of the table.
            #[must_use]
            pub const fn entry(self) -> Entry {
                match self {
                    $(Self::$code => Entry {
                        name: $name,
                        stage: Stage::$stage,
                        pace: Pace::$pace,
                        mover: Mover::$mover,
                        summary: $summary,
                        hint: $hint,
                    },)*
                }
            }
        }
    };
}

failures! {
    FormFileUnreadable = "form_file_unreadable", Settings, Local, Pod,
        "a file named by a dex_file_ variable cannot be used",
        "mount the file where the variable points, as UTF-8 and readable for this uid or its fsGroup";

    SubjectTokenMissing = "subject_token_missing", SubjectToken, Local, Pod,
        "the subject token's file does not exist",
        "mount a projected serviceAccountToken volume whose path matches dex_file_subject_token";
    SubjectTokenUnreadable = "subject_token_unreadable", SubjectToken, Local, Pod,
        "the subject token's file cannot be read",
        "set fsGroup in the pod's securityContext, or run all its containers as one uid";
    SubjectTokenNotAFile = "subject_token_not_a_file", SubjectToken, Local, Pod,
        "the subject token's path is not a regular file",
        "point dex_file_subject_token at the token inside the volume, not at its folder";
    SubjectTokenEmpty = "subject_token_empty", SubjectToken, Local, Pod,
        "the subject token's file is empty",
        "see what writes it; the kubelet never leaves it empty";
    SubjectTokenTooLarge = "subject_token_too_large", SubjectToken, Local, Pod,
        "the subject token's file is larger than 64 KiB",
        "point dex_file_subject_token at a token";
    SubjectTokenMalformed = "subject_token_malformed", SubjectToken, Local, Pod,
        "the subject token's file does not hold a token",
        "it must hold one JSON Web Token and nothing else; point dex_file_subject_token at the projected token";
    SubjectTokenExpired = "subject_token_expired", SubjectToken, Local, Pod,
        "the subject token on disk has expired by this node's clock",
        "the kubelet replaces it in time: mount its volume without subPath; then check the kubelet, the API server and this node's clock";

    NameNotFound = "name_not_found", Name, Network, Pod,
        "the host's name does not exist, or has no address",
        "correct the host in dex_endpoint, or the pod's dnsPolicy and dnsConfig; a name outside DNS goes into hostAliases";
    NameLookupFailed = "name_lookup_failed", Name, Network, Network,
        "the host's name could not be looked up",
        "look at the name servers named here (the cluster's CoreDNS), and at NetworkPolicies on port 53, UDP and TCP";
    ConnectRefused = "connect_refused", Connect, Network, DexHealth,
        "nothing listens there",
        "check that Dex runs (it exits at startup when it cannot open a connector: its log has the reason), that its Service has ready endpoints, and host and port in dex_endpoint";
    ConnectFailed = "connect_failed", Connect, Network, Network,
        "no connection could be made",
        "check host and port in dex_endpoint, NetworkPolicies, and whether Dex runs";
    PlainHttpRefused = "plain_http_refused", Connect, Config, Pod,
        "plain http would go to a public address",
        "use https:// in dex_endpoint, or, for the address of a proxy, list Dex's host in NO_PROXY; DEXSIDECAR_ALLOW_INSECURE_HTTP=true allows plain http to public addresses";
    ProxyFailed = "proxy_failed", Connect, Network, Network,
        "the proxy made no connection to Dex",
        "correct the proxy that the named variable sets, or its rules; NO_PROXY lists the hosts to reach without it";

    CaFileUnreadable = "ca_file_unreadable", Tls, Local, Pod,
        "the CA file cannot be read",
        "mount it where --ca-file (DEXSIDECAR_CA_FILE) points";
    CaFileInvalid = "ca_file_invalid", Tls, Local, Pod,
        "the CA file is not valid",
        "replace or remove the named certificate; the file must be PEM";
    NoRoots = "no_roots", Tls, Local, Pod,
        "no trusted certificate was found on this system",
        "mount a CA bundle and name it with DEXSIDECAR_CA_FILE or SSL_CERT_FILE";
    CertificateUntrusted = "certificate_untrusted", Tls, Network, Pod,
        "the server's certificate is not signed by a trusted CA",
        "name the CA that signed it with DEXSIDECAR_CA_FILE; the server's certificate itself may be in that file too";
    CertificateIsCa = "certificate_is_ca", Tls, Network, DexConfig,
        "the server's certificate is marked CA:TRUE",
        "issue a server's certificate without CA:TRUE, or put this one into the CA file (DEXSIDECAR_CA_FILE)";
    CertificateWrongName = "certificate_wrong_name", Tls, Network, DexConfig,
        "the server's certificate is for another name",
        "use a host in dex_endpoint that the certificate names, or add this host to the certificate";
    CertificateExpired = "certificate_expired", Tls, Network, DexConfig,
        "the server's certificate has expired",
        "renew it; if it is in date, this node's clock is wrong";
    CertificateNotYetValid = "certificate_not_yet_valid", Tls, Network, DexConfig,
        "the server's certificate is not valid yet",
        "this node's clock is likely behind; otherwise the certificate was made for the future";
    CertificateInvalid = "certificate_invalid", Tls, Network, DexConfig,
        "the server's certificate cannot be accepted",
        "issue a new one: X.509 v3, for servers, with the host as a subject alternative name; or put the server's own into the CA file (DEXSIDECAR_CA_FILE)";
    CertificateExtensionUnsupported = "certificate_extension_unsupported", Tls, Network, Pod,
        "a certificate has a critical extension that is not supported",
        "put the named certificate, or the server's own, into the CA file (DEXSIDECAR_CA_FILE): it is then trusted by itself";
    CertificateKeyUnsupported = "certificate_key_unsupported", Tls, Network, DexConfig,
        "a certificate's key is not supported",
        "issue the certificate with an RSA key of 2048 to 8192 bits, with ECDSA on P-256, P-384 or P-521, or with Ed25519";
    CertificateSignatureUnsupported = "certificate_signature_unsupported", Tls, Network, DexConfig,
        "a certificate is signed with an algorithm that is not accepted",
        "issue it again, signed with SHA-256 or SHA-384; or put the server's own into the CA file (DEXSIDECAR_CA_FILE)";
    CertificateChainTooLarge = "certificate_chain_too_large", Tls, Network, DexConfig,
        "the server sends more than 64 KiB in the handshake, as a long chain of certificates does",
        "let the server send its own certificate and the intermediates, and not a whole bundle of CAs";
    TlsNotSpoken = "tls_not_spoken", Tls, Network, Pod,
        "the server does not speak TLS on this port",
        "check the host and the port in dex_endpoint, and what listens there";
    TlsRefused = "tls_refused", Tls, Network, DexConfig,
        "no TLS session could be agreed on",
        "let the server offer TLS 1.2 or 1.3 with AES-GCM or ChaCha20 and X25519, P-256, P-384 or P-521, and not demand a client certificate";
    TlsFailed = "tls_failed", Tls, Network, Network,
        "the connection broke during the TLS handshake",
        "look at what stands between the pod and Dex: load balancer, service mesh, firewall";

    TimedOut = "timed_out", Exchange, Network, DexHealth,
        "there was no answer in time",
        "see at which step it stopped: up to TLS check the network, after that Dex's load and what stands in front of it; --attempt-timeout sets how long one attempt may take";
    ConnectionLost = "connection_lost", Exchange, Network, DexHealth,
        "the connection broke before the whole answer was there",
        "see whether Dex restarted, and check what stands in front of it (load balancer, service mesh)";
    AnswerMalformed = "answer_malformed", Exchange, Network, Network,
        "the answer is not HTTP",
        "check host and port in dex_endpoint, and what stands in front of Dex";
    AnswerTooLarge = "answer_too_large", Exchange, Network, Network,
        "the answer is larger than a token endpoint's can be",
        "check that dex_endpoint is Dex's token endpoint, and what stands in front of Dex";
    AnswerUnusable = "answer_unusable", Exchange, Network, Network,
        "the answer cannot be read as a token endpoint's",
        "check that dex_endpoint is Dex's token endpoint, and what stands in front of Dex: a login page, a compressing proxy, a captive portal";
    TokenMissing = "token_missing", Exchange, Network, Network,
        "the answer is a JSON object without an access_token",
        "check that dex_endpoint is Dex's token endpoint, and what stands in front of Dex";
    TokenMalformed = "token_malformed", Exchange, Network, DexHealth,
        "the issued token is incomplete, larger than 256 KiB, or has characters that no header may carry",
        "check that dex_endpoint is Dex's token endpoint; a token grows with the user's groups";
    TokenTypeUnsupported = "token_type_unsupported", Exchange, Network, Pod,
        "the issued token is not a bearer token",
        "check dex_requested_token_type and dex_endpoint: Dex issues bearer tokens only";
    TokenExpired = "token_expired", Exchange, Network, DexHealth,
        "the issued token has expired already, or nearly",
        "check expiry.idTokens in Dex's configuration, the clocks of Dex and of this node, and whether a cache stands in front of Dex";
    TokenUnchanged = "token_unchanged", Exchange, Network, Network,
        "the same token was issued again",
        "exempt Dex's token endpoint from the cache in front of it";
    ServerError = "server_error", Exchange, Network, DexHealth,
        "Dex reports an internal error",
        "see Dex's log and its storage; Dex also answers so when dex_scope has audience:server:client_id:X and client X does not list this client in trustedPeers";
    Unavailable = "unavailable", Exchange, Network, Network,
        "something in front of Dex answers that Dex is not available",
        "check that Dex has ready pods (it exits at startup when it cannot open a connector: its log has the reason), then the ingress, gateway or service mesh in front of it";
    RateLimited = "rate_limited", Exchange, Network, Network,
        "too many requests",
        "Dex has no rate limit: raise the limit of the ingress, gateway or firewall in front of it";
    NotFromDex = "not_from_dex", Exchange, Network, Network,
        "the answer does not come from Dex's token endpoint",
        "check the ingress, gateway or service mesh in front of Dex: its rules for this path, client certificates, its limits and its protocol towards Dex; then host and path in dex_endpoint";
    Forbidden = "forbidden", Exchange, Network, Network,
        "something in front of Dex refuses the request",
        "Dex never answers 403 here: check the rules of the ingress, the service mesh or the firewall in front of it";
    Redirected = "redirected", Exchange, Network, Pod,
        "the endpoint answers with a redirect, which is never followed with a token",
        "set dex_endpoint to the URL of Dex's token endpoint itself (https:// if only the scheme differs); where the redirect leads to a login page, exempt Dex's token endpoint from that login";
    TlsExpected = "tls_expected", Exchange, Network, Pod,
        "the server expects TLS on this port",
        "write https:// in dex_endpoint";
    EndpointNotFound = "endpoint_not_found", Exchange, Network, Pod,
        "nothing serves a token endpoint at this path",
        "check the path in dex_endpoint (Dex's issuer followed by /token, without a slash at the end); if it worked before, the ingress in front of Dex has no route or no ready pod for it";
    InvalidClient = "invalid_client", Exchange, Config, DexConfig,
        "Dex does not accept the client",
        "the client's id and secret in dex_basic_auth (id:secret) must be those of a staticClients entry; a public one has none";
    UnauthorizedClient = "unauthorized_client", Exchange, Config, DexConfig,
        "Dex does not allow this client to exchange tokens",
        "allow the token exchange grant for this client in Dex's configuration";
    UnsupportedGrantType = "unsupported_grant_type", Exchange, Config, DexConfig,
        "Dex does not accept the grant type",
        "set dex_grant_type to urn:ietf:params:oauth:grant-type:token-exchange, and add it to oauth2.grantTypes in Dex's configuration, if there is such a list; Dex must be 2.38 or later";
    InvalidScope = "invalid_scope", Exchange, Config, Pod,
        "Dex does not accept a scope",
        "correct dex_scope";
    RequestNotSupported = "request_not_supported", Exchange, Config, Pod,
        "Dex does not support a token type of the request",
        "dex_subject_token_type must be urn:ietf:params:oauth:token-type:id_token, and dex_requested_token_type that or …:access_token";
    ConnectorUnknown = "connector_unknown", Exchange, Refused, DexConfig,
        "Dex has no such connector, or could not open it",
        "dex_connector_id must be the id of an oidc connector; if it is, Dex could not open it: it must reach the cluster's issuer (system:service-account-issuer-discovery, rootCAs), and what that calls itself must be the connector's issuer or issuerAlias: see Dex's log";
    AccessDenied = "access_denied", Exchange, Refused, DexConfig,
        "Dex does not accept the subject token",
        "the connector's issuer or issuerAlias must equal the token's iss, userNameKey must be sub, scopes must be [openid], getUserInfo false; Dex must reach the issuer's keys, and clocks must agree: Dex's log has the reason";
    InvalidRequest = "invalid_request", Exchange, Refused, Pod,
        "Dex does not accept the request",
        "compare the dex_ variables with the README's manifest";
    InvalidGrant = "invalid_grant", Exchange, Refused, DexConfig,
        "Dex does not accept the exchange",
        "see the client's allowedConnectors and the connector's grantTypes in Dex";
    InvalidTarget = "invalid_target", Exchange, Refused, Pod,
        "Dex does not issue tokens for this audience",
        "correct the audience; Dex takes it as a scope audience:server:client_id:X";
    Rejected = "rejected", Exchange, Refused, DexConfig,
        "Dex refuses with an error code that this version does not know",
        "see Dex's log";

    OutputFolderMissing = "output_folder_missing", Output, Local, Volume,
        "the token file's directory does not exist",
        "mount a volume there, or correct dex_access_token_file";
    OutputNotPermitted = "output_not_permitted", Output, Local, Volume,
        "this uid may not write the token file",
        "use an emptyDir, or set fsGroup (or runAsUser) so that this uid may write; the image runs as uid 65532, the original's ran as root";
    OutputReadOnly = "output_read_only", Output, Local, Volume,
        "the token file's volume is read-only",
        "mount it without readOnly in this container";
    OutputDiskFull = "output_disk_full", Output, Local, Volume,
        "the token file's volume is full",
        "raise the volume's sizeLimit or remove what fills it";
    OutputIsAFolder = "output_is_a_folder", Output, Local, Pod,
        "the output path is a directory",
        "set dex_access_token_file to a file in it, as DIRECTORY/token";
    OutputIsAMount = "output_is_a_mount", Output, Local, Pod,
        "the token file is a mount point (subPath), so it cannot be replaced",
        "mount the directory instead of the file, or set DEXSIDECAR_WRITE_MODE (--write-mode) to auto to overwrite the file in place";
    OutputRenameUnsupported = "output_rename_unsupported", Output, Local, Volume,
        "the token file's volume cannot rename files, so the file cannot be replaced atomically",
        "use an emptyDir, or set DEXSIDECAR_WRITE_MODE (--write-mode) to auto to overwrite the file in place";
    OutputModeRefused = "output_mode_refused", Output, Local, Volume,
        "the token file does not get the mode that DEXSIDECAR_OUTPUT_MODE (--output-mode) asks for",
        "use an emptyDir, or unset DEXSIDECAR_OUTPUT_MODE and set the mode with the volume's mount options (file_mode, fmask)";
    OutputGroupRefused = "output_group_refused", Output, Local, Volume,
        "the token file does not get the group that DEXSIDECAR_OUTPUT_GROUP (--output-group) asks for",
        "add the group to supplementalGroups, or unset DEXSIDECAR_OUTPUT_GROUP and use fsGroup or the volume's mount options (gid)";
    OutputFailed = "output_failed", Output, Local, Volume,
        "the token file could not be written",
        "check the volume: the reason names the system call that failed";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.entry().name)
    }
}

/// One failure as it happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure {
    /// Which one.
    pub code: Code,
    /// What is particular to this time: a path, an address, a status. Empty when there is nothing to add.
    /// Made by [`plain`] wherever it quotes anything from outside.
    pub detail: String,
    /// How long the server asked to be left alone.
    pub retry_after: Option<Duration>,
    /// Who owns it, where more is known than the table says.
    pub owner: Option<Mover>,
}

impl Failure {
    /// A failure with its details.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), retry_after: None, owner: None }
    }

    /// The same with another owner than the table's: a time-out belongs to whoever owns the step that took too long.
    #[must_use]
    pub fn owned_by(self, owner: Mover) -> Self {
        Self { owner: Some(owner), ..self }
    }

    /// Who owns it.
    #[must_use]
    pub const fn owner(&self) -> Mover {
        match self.owner {
            Some(owner) => owner,
            None => self.code.entry().mover,
        }
    }

    /// Its row of the table.
    #[must_use]
    pub const fn entry(&self) -> Entry {
        self.code.entry()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.entry().summary)?;
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        Ok(())
    }
}

/// Text from outside, made fit for a log line: about `longest` characters at most, all of them printable ASCII; others
/// are escaped, so that no answer can forge a line (F122).
#[must_use]
pub fn plain(text: &str, longest: usize) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if out.len() >= longest {
            out.push_str("...");
            break;
        }
        if c == ' ' || c.is_ascii_graphic() {
            out.push(c);
        } else {
            out.extend(c.escape_default());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_in_one_style() {
        let names: BTreeSet<_> = Code::ALL.iter().map(|code| code.entry().name).collect();
        assert_eq!(names.len(), Code::ALL.len());
        for name in names {
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
        }
    }

    #[test]
    fn stages_and_movers_are_told_apart() {
        let of_table = |name: fn(Entry) -> &'static str| -> BTreeSet<_> {
            Code::ALL.iter().map(|code| name(code.entry())).collect()
        };
        let (stages, movers) = (of_table(|entry| entry.stage.name()), of_table(|entry| entry.mover.name()));
        assert_eq!((stages.len(), movers.len()), (7, 5), "{stages:?} {movers:?}");
        assert!(!stages.contains("") && !movers.contains(""));
    }

    /// P3: an ingress, a gateway or a login wall that answers while Dex is away delays no token by more than 30 s.
    #[test]
    fn f145_only_an_oauth_error_of_dex_has_longer_delays_than_the_network() {
        let patient = |code: &&Code| {
            let entry = code.entry();
            entry.stage == Stage::Exchange && entry.pace != Pace::Network
        };
        let patient: Vec<_> = Code::ALL.iter().filter(patient).map(|code| code.entry().name).collect();
        let oauth_errors = [
            "invalid_client",
            "unauthorized_client",
            "unsupported_grant_type",
            "invalid_scope",
            "request_not_supported",
            "connector_unknown",
            "access_denied",
            "invalid_request",
            "invalid_grant",
            "invalid_target",
            "rejected",
        ];
        assert_eq!(patient, oauth_errors);
    }

    #[test]
    fn a_failure_says_what_happened_and_what_is_particular_to_it() {
        let refused = Failure::new(Code::ConnectRefused, "127.0.0.1:1");
        assert_eq!(refused.to_string(), "nothing listens there: 127.0.0.1:1");
        assert_eq!(Failure::new(Code::ConnectRefused, "").to_string(), "nothing listens there");
        assert_eq!(refused.code.to_string(), "connect_refused");
    }

    #[test]
    fn every_row_speaks_in_half_sentences() {
        for code in Code::ALL {
            let entry = code.entry();
            for text in [entry.summary, entry.hint] {
                assert!(!text.is_empty() && !text.ends_with('.'), "{code}: {text}");
            }
        }
    }

    /// A connector that cannot be opened is an exchange's `connector_unknown` only where Dex starts without it. Dex 2.44 and
    /// earlier exit at startup (server/server.go, newServer), and so does 2.45 when no connector can be opened.
    #[test]
    fn connect_refused_and_unavailable_name_a_dex_that_exits_at_startup() {
        for code in [Code::ConnectRefused, Code::Unavailable] {
            assert!(code.entry().hint.contains("exits at startup when it cannot open a connector"), "{code}");
        }
        assert!(Code::ConnectorUnknown.entry().hint.contains("could not open it"));
    }

    #[test]
    fn f122_text_from_outside_cannot_forge_a_line() {
        assert_eq!(plain("a\r\nlevel=error \u{202e}x", 64), "a\\r\\nlevel=error \\u{202e}x");
        assert_eq!((plain("abcdef", 3), plain("abc", 3)), ("abc...".to_owned(), "abc".to_owned()));
        assert_eq!(plain("\u{7f}\u{7f}\u{7f}", 7), "\\u{7f}\\u{7f}...");
        assert_eq!(plain("say \"a\\b\"", 9), "say \"a\\b\"");
    }
}
