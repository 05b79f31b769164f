//! The rows of the table of failures: code, step, retry class, owner, summary, fix.
//!
//! A summary says what happened, so that details can follow after a colon. A fix is an instruction.
//! Neither ends with a full stop. Names are stable; texts may change. How each failure shows
//! elsewhere, in Dex's log for example, stands in docs/failures.md.

use super::{Entry, Owner, RetryClass, Step};

macro_rules! failures {
    ($($code:ident = $name:literal, $step:ident, $retry:ident, $owner:ident, $summary:literal, $fix:literal;)*) => {
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
                        step: Step::$step,
                        retry: RetryClass::$retry,
                        owner: Owner::$owner,
                        summary: $summary,
                        fix: $fix,
                    },)*
                }
            }
        }
    };
}

failures! {
    FormFileUnreadable = "form_file_unreadable", Settings, Local, Pod,
        "the file of a form field cannot be used",
        "mount the file where its setting points, as UTF-8 text that this uid or its fsGroup can read";

    SubjectTokenMissing = "subject_token_missing", SubjectToken, Local, Pod,
        "the subject token's file does not exist",
        "mount a projected serviceAccountToken volume whose path matches dex_file_subject_token; outside a pod, write a subject token to that file";
    SubjectTokenUnreadable = "subject_token_unreadable", SubjectToken, Local, Pod,
        "the subject token's file cannot be read",
        "set fsGroup in the pod's securityContext, or run all its containers as one uid";
    SubjectTokenNotAFile = "subject_token_not_a_file", SubjectToken, Local, Pod,
        "the subject token's path is not a regular file",
        "set dex_file_subject_token to the token's file in the volume, not to its directory";
    SubjectTokenEmpty = "subject_token_empty", SubjectToken, Local, Pod,
        "the subject token's file is empty",
        "mount a projected serviceAccountToken volume: the kubelet never leaves its file empty";
    SubjectTokenTooLarge = "subject_token_too_large", SubjectToken, Local, Pod,
        "the subject token's file is larger than 64 KiB",
        "set dex_file_subject_token to the file of the projected token";
    SubjectTokenMalformed = "subject_token_malformed", SubjectToken, Local, Pod,
        "the subject token's file does not hold a token",
        "set dex_file_subject_token to the file of the projected token; it must hold one JSON Web Token and nothing else";
    SubjectTokenExpired = "subject_token_expired", SubjectToken, Local, Pod,
        "the subject token on disk has expired by this node's clock",
        "mount the subject token's volume without subPath: with subPath, rotations by the kubelet do not arrive; without it, check the kubelet, the API server and this node's clock; outside a pod, write a new subject token to the file";
    SubjectTokenRequestFailed = "subject_token_request_failed", SubjectToken, Network, Network,
        "the subject token could not be requested from GitHub Actions",
        "if the status is 401 or 403, add permissions: id-token: write to the job; otherwise check the network of the runner and GitHub's status page";

    NameNotFound = "name_not_found", Dns, Network, Pod,
        "the host name does not exist or has no address",
        "correct the host in dex_endpoint, or the pod's dnsPolicy and dnsConfig; put a name outside DNS into hostAliases";
    NameLookupFailed = "name_lookup_failed", Dns, Network, Network,
        "the DNS lookup of the host name failed",
        "check the name servers in the error (the cluster's CoreDNS), and NetworkPolicies for port 53, UDP and TCP";
    ConnectRefused = "connect_refused", Tcp, Network, DexOperator,
        "connection refused",
        "start Dex if it is not running (it exits at startup when it cannot open a connector: its log has the reason), make sure that its Service has ready endpoints, and correct host and port in dex_endpoint";
    ConnectFailed = "connect_failed", Tcp, Network, Network,
        "the TCP connection failed",
        "check host and port in dex_endpoint, NetworkPolicies, and that Dex is running";
    PlainHttpRefused = "plain_http_refused", Tcp, Config, Pod,
        "plain http to a public address is not allowed",
        "use https:// in dex_endpoint; if the address is a proxy's, list Dex's host in NO_PROXY; DEXSIDECAR_ALLOW_INSECURE_HTTP=true allows plain http to public addresses";
    ProxyFailed = "proxy_failed", Tcp, Network, Network,
        "the proxy did not connect to Dex",
        "correct the proxy URL in the named variable, or the proxy's rules; to reach Dex without the proxy, list its host in NO_PROXY";

    CaFileUnreadable = "ca_file_unreadable", Tls, Local, Pod,
        "the CA file cannot be read",
        "mount the CA file where --ca-file (DEXSIDECAR_CA_FILE) points";
    CaFileInvalid = "ca_file_invalid", Tls, Local, Pod,
        "the CA file is not valid PEM",
        "replace or remove the named certificate in the CA file";
    NoRoots = "no_roots", Tls, Local, Pod,
        "no trusted CA certificate was found on this system",
        "mount a CA bundle and set DEXSIDECAR_CA_FILE or SSL_CERT_FILE to its path";
    CertificateUntrusted = "certificate_untrusted", Tls, Network, Pod,
        "the server's certificate is not signed by a trusted CA",
        "set DEXSIDECAR_CA_FILE to a file with the CA certificate that signed it, or with the server's own certificate";
    CertificateIsCa = "certificate_is_ca", Tls, Network, DexConfig,
        "the server's certificate is marked CA:TRUE",
        "issue the server's certificate without CA:TRUE, or put it into the CA file (DEXSIDECAR_CA_FILE)";
    CertificateWrongName = "certificate_wrong_name", Tls, Network, DexConfig,
        "the server's certificate is for another name",
        "use a host in dex_endpoint that the certificate names, or issue the certificate for this host too";
    CertificateExpired = "certificate_expired", Tls, Network, DexConfig,
        "the server's certificate has expired",
        "renew the certificate; if its dates are right, correct this node's clock";
    CertificateNotYetValid = "certificate_not_yet_valid", Tls, Network, DexConfig,
        "the server's certificate is not valid yet",
        "correct this node's clock if it is behind; otherwise issue the certificate with an earlier start";
    CertificateInvalid = "certificate_invalid", Tls, Network, DexConfig,
        "the server's certificate is invalid",
        "issue an X.509 v3 certificate for servers, with the host as a subject alternative name; or put the server's own certificate into the CA file (DEXSIDECAR_CA_FILE)";
    CertificateExtensionUnsupported = "certificate_extension_unsupported", Tls, Network, Pod,
        "a certificate has an unsupported critical extension",
        "put the named certificate, or the server's own certificate, into the CA file (DEXSIDECAR_CA_FILE)";
    CertificateKeyUnsupported = "certificate_key_unsupported", Tls, Network, DexConfig,
        "a certificate's key is unsupported",
        "issue the certificate with an RSA key of 2048 to 8192 bits, with ECDSA on P-256, P-384 or P-521, or with Ed25519";
    CertificateSignatureUnsupported = "certificate_signature_unsupported", Tls, Network, DexConfig,
        "a certificate's signature algorithm is unsupported",
        "issue the certificate again, signed with SHA-256 or SHA-384; or put the server's own certificate into the CA file (DEXSIDECAR_CA_FILE)";
    CertificateChainTooLarge = "certificate_chain_too_large", Tls, Network, DexConfig,
        "the server sends more than 64 KiB in the TLS handshake",
        "configure the server to send only its own certificate and the intermediates, without the bundle of root CAs";
    TlsNotSpoken = "tls_not_spoken", Tls, Network, Pod,
        "the server does not speak TLS on this port",
        "correct host and port in dex_endpoint, or use http:// if the server has no TLS";
    TlsRefused = "tls_refused", Tls, Network, DexConfig,
        "the TLS handshake was rejected",
        "configure the server for TLS 1.2 or 1.3 with AES-GCM or ChaCha20 and X25519, P-256, P-384 or P-521, and without a required client certificate";
    TlsFailed = "tls_failed", Tls, Network, Network,
        "the connection broke during the TLS handshake",
        "check the load balancer, service mesh or firewall between the pod and Dex";

    TimedOut = "timed_out", Exchange, Network, DexOperator,
        "the attempt timed out",
        "check the load of Dex and of its storage, and the ingress or proxy in front of Dex; --attempt-timeout sets the limit";
    ConnectionLost = "connection_lost", Exchange, Network, DexOperator,
        "the connection broke before the response was complete",
        "check whether Dex restarted, and the load balancer or service mesh in front of it";
    AnswerMalformed = "answer_malformed", Exchange, Network, Network,
        "the response is not HTTP",
        "check host and port in dex_endpoint, and the ingress or proxy in front of Dex";
    AnswerTooLarge = "answer_too_large", Exchange, Network, Network,
        "the response is too large",
        "check that dex_endpoint is Dex's token endpoint, and the ingress or proxy in front of Dex";
    AnswerUnusable = "answer_unusable", Exchange, Network, Network,
        "the response is not a token response",
        "check that dex_endpoint is Dex's token endpoint, and the ingress or proxy in front of Dex: a login page, compression, a captive portal";
    TokenMissing = "token_missing", Exchange, Network, Network,
        "the response has no access_token",
        "check that dex_endpoint is Dex's token endpoint, and the ingress or proxy in front of Dex";
    TokenMalformed = "token_malformed", Exchange, Network, DexOperator,
        "the issued token is not a valid bearer token: partial, larger than 256 KiB, or with characters that no header may carry",
        "check that dex_endpoint is Dex's token endpoint; if the token is too large, remove groups from dex_scope";
    TokenTypeUnsupported = "token_type_unsupported", Exchange, Network, Pod,
        "the token_type of the response is not bearer",
        "check dex_requested_token_type and dex_endpoint: Dex issues bearer tokens only";
    TokenExpired = "token_expired", Exchange, Network, DexOperator,
        "the issued token has expired or expires too soon",
        "check expiry.idTokens in Dex's configuration, the clocks of Dex and of this node, and whether there is a cache in front of Dex";
    TokenUnchanged = "token_unchanged", Exchange, Network, Network,
        "the same token was issued again",
        "exempt Dex's token endpoint from the cache in front of it";
    IssuerUnexpected = "issuer_unexpected", Exchange, Network, Pod,
        "the issued token is not from the configured issuer",
        "set issuer to the iss of Dex's tokens, and token_endpoint to the token endpoint of the same Dex";
    ServerError = "server_error", Exchange, Network, DexOperator,
        "Dex returned a server error",
        "read Dex's log and check its storage; Dex also answers like this when dex_scope has audience:server:client_id:X and client X does not list this client in trustedPeers";
    Unavailable = "unavailable", Exchange, Network, Network,
        "a proxy in front of Dex reports that Dex is unavailable",
        "check that Dex has ready pods (it exits at startup when it cannot open a connector: its log has the reason), then the ingress, gateway or service mesh in front of it";
    RateLimited = "rate_limited", Exchange, Network, Network,
        "too many requests",
        "raise the rate limit of the ingress, gateway or firewall in front of Dex; Dex itself has none";
    NotFromDex = "not_from_dex", Exchange, Network, Network,
        "the response does not come from Dex's token endpoint",
        "check the ingress, gateway or service mesh in front of Dex: its route for this path, client certificates, its limits and its protocol towards Dex; then host and path in dex_endpoint";
    Forbidden = "forbidden", Exchange, Network, Network,
        "a proxy in front of Dex denies the request",
        "check the rules of the ingress, the service mesh or the firewall in front of Dex; Dex itself never answers 403 here";
    Redirected = "redirected", Exchange, Network, Pod,
        "the endpoint answers with a redirect, which is not followed",
        "set dex_endpoint to the URL of Dex's token endpoint itself (https:// if only the scheme differs); where the redirect leads to a login page, exempt Dex's token endpoint from that login";
    TlsExpected = "tls_expected", Exchange, Network, Pod,
        "the server expects TLS on this port",
        "use https:// in dex_endpoint";
    EndpointNotFound = "endpoint_not_found", Exchange, Network, Pod,
        "there is no token endpoint at this path",
        "correct the path in dex_endpoint (Dex's issuer followed by /token, without a slash at the end); if it worked before, the ingress in front of Dex has no route or no ready pod for it";
    InvalidClient = "invalid_client", Exchange, Config, DexConfig,
        "Dex does not accept the client credentials",
        "add the client to staticClients in Dex's configuration, or set dex_basic_auth to the id and secret of an entry there; a public client has no secret";
    UnauthorizedClient = "unauthorized_client", Exchange, Config, DexConfig,
        "Dex does not allow this client to exchange tokens",
        "allow the token exchange grant for this client in Dex's configuration";
    UnsupportedGrantType = "unsupported_grant_type", Exchange, Config, DexConfig,
        "token exchange is not enabled in Dex, or the grant type is not token exchange",
        "set dex_grant_type to urn:ietf:params:oauth:grant-type:token-exchange, and add it to oauth2.grantTypes in Dex's configuration if that list exists; Dex must be 2.38 or later";
    InvalidScope = "invalid_scope", Exchange, Config, Pod,
        "Dex does not accept a scope",
        "remove the scope that the error names from dex_scope; Dex knows openid, profile, email, groups, federated:id, offline_access and audience:server:client_id:X";
    RequestNotSupported = "request_not_supported", Exchange, Config, Pod,
        "Dex does not support a token type of the request",
        "set dex_subject_token_type to urn:ietf:params:oauth:token-type:id_token, and dex_requested_token_type to that or …:access_token";
    ConnectorUnknown = "connector_unknown", Exchange, Refused, DexConfig,
        "Dex has no such connector, or could not open it",
        "add an oidc connector with the id of dex_connector_id to Dex's configuration, or correct dex_connector_id; if the connector exists, Dex could not open it: Dex's log says why; allow anonymous discovery (system:service-account-issuer-discovery) and set issuer, issuerAlias and rootCAs of the connector";
    AccessDenied = "access_denied", Exchange, Refused, DexConfig,
        "Dex does not accept the subject token",
        "in Dex's connector, set issuer or issuerAlias to the token's iss, userNameKey to sub, scopes to [openid] and getUserInfo to false; let Dex reach the issuer's keys; synchronise the clocks; Dex's log says what it found";
    InvalidRequest = "invalid_request", Exchange, Refused, Pod,
        "Dex does not accept the request",
        "compare the settings with those of the README";
    InvalidGrant = "invalid_grant", Exchange, Refused, DexConfig,
        "Dex does not accept the exchange",
        "check the client's allowedConnectors and the connector's grantTypes in Dex's configuration";
    InvalidTarget = "invalid_target", Exchange, Refused, Pod,
        "Dex does not issue tokens for this audience",
        "correct the audience; Dex takes it as a scope: audience:server:client_id:X";
    Rejected = "rejected", Exchange, Refused, DexConfig,
        "Dex refuses with an error code that this version does not know",
        "read Dex's log";

    OutputDirectoryMissing = "output_folder_missing", Output, Local, Pod,
        "the token file's directory does not exist",
        "mount a volume there, or correct dex_access_token_file";
    OutputNotPermitted = "output_not_permitted", Output, Local, Pod,
        "this uid may not write the token file",
        "use an emptyDir, or set fsGroup (or runAsUser) so that this uid may write; the image runs as uid 65532, that of miscord-dev/dexsidecar as root";
    OutputReadOnly = "output_read_only", Output, Local, Pod,
        "the token file's volume is read-only",
        "mount the volume without readOnly in this container";
    OutputDiskFull = "output_disk_full", Output, Local, Pod,
        "the token file's volume is full",
        "raise the volume's sizeLimit, or remove files from it";
    OutputIsADirectory = "output_is_a_folder", Output, Local, Pod,
        "the output path is a directory",
        "set dex_access_token_file to a file in it, as DIRECTORY/token";
    OutputIsAMount = "output_is_a_mount", Output, Local, Pod,
        "the token file is a mount point (subPath), so it cannot be replaced atomically",
        "mount the directory instead of the file, or set DEXSIDECAR_WRITE_MODE (--write-mode) to auto to overwrite the file in place";
    OutputRenameUnsupported = "output_rename_unsupported", Output, Local, Pod,
        "the token file's volume cannot rename files, so the file cannot be replaced atomically",
        "use an emptyDir, or set DEXSIDECAR_WRITE_MODE (--write-mode) to auto to overwrite the file in place";
    OutputModeRefused = "output_mode_refused", Output, Local, Pod,
        "the volume does not allow the configured mode for the token file",
        "use an emptyDir, or unset DEXSIDECAR_OUTPUT_MODE and set the mode with the volume's mount options (file_mode, fmask)";
    OutputGroupRefused = "output_group_refused", Output, Local, Pod,
        "the volume does not allow the configured group for the token file",
        "add the group to supplementalGroups, or unset DEXSIDECAR_OUTPUT_GROUP and use fsGroup or the volume's mount options (gid)";
    OutputFailed = "output_failed", Output, Local, Cluster,
        "the token file could not be written",
        "check the volume for the error of the named system call, for example in the node's kernel log";

    ActionFailed = "action_failed", Actions, Local, Pod,
        "the action failed",
        "correct the action in on_update, or the process that it concerns";
}
