//! The exchange: what Dex answers and logs, and how to tell Dex from what stands in front of it.

use super::{HowToSee, Line, NOTHING};

/// A request that is answered by whatever serves the token endpoint. It has no credentials.
const ASK: &str = "kubectl exec POD -c APP -- curl -si ENDPOINT";

/// Dex's log from the last ten minutes.
const DEX_LOG: &str = "kubectl -n dex logs deploy/dex --since=10m";

/// How to tell Dex from anything else.
const WHO_ANSWERS: HowToSee = HowToSee {
    look: "Dex answers a GET with status 400 and the JSON below. Any other answer comes from something else, \
           which often names itself in the header `Server`.",
    commands: &[ASK],
    answers: &[r#"400 {"error":"invalid_request","error_description":"method not allowed"}"#],
    ..NOTHING
};

/// A code that Dex 2.45 and earlier do not give to an exchange (server/handlers.go,
/// handleTokenExchange).
const NOT_OF_DEX_2_45: HowToSee = HowToSee {
    look: "Dex 2.45 and earlier never give this answer to a token exchange. A later version or another server \
           may: the message quotes the answer, and the server's log may have the reason.",
    commands: &[DEX_LOG],
    ..NOTHING
};

pub(super) const ANSWER_MALFORMED: HowToSee = WHO_ANSWERS;
pub(super) const ANSWER_TOO_LARGE: HowToSee = WHO_ANSWERS;
pub(super) const TOKEN_MISSING: HowToSee = WHO_ANSWERS;
pub(super) const NOT_FROM_DEX: HowToSee = WHO_ANSWERS;
pub(super) const ANSWER_UNUSABLE: HowToSee = WHO_ANSWERS;
pub(super) const UNAUTHORIZED_CLIENT: HowToSee = NOT_OF_DEX_2_45;
pub(super) const INVALID_SCOPE: HowToSee = NOT_OF_DEX_2_45;
pub(super) const INVALID_GRANT: HowToSee = NOT_OF_DEX_2_45;
pub(super) const INVALID_TARGET: HowToSee = NOT_OF_DEX_2_45;
pub(super) const REJECTED: HowToSee = NOT_OF_DEX_2_45;

pub(super) const TOKEN_MALFORMED: HowToSee = HowToSee {
    look: "The message has the reason. Dex's own tokens are JSON Web Tokens of about 1,000 bytes, and longer \
           with many groups.",
    ..WHO_ANSWERS
};

pub(super) const TOKEN_TYPE_UNSUPPORTED: HowToSee = HowToSee {
    look: "The message has the `token_type` of the answer. Dex always answers `bearer`, so something else may \
           serve the endpoint. Dex answers a GET with status 400 and the JSON below.",
    ..WHO_ANSWERS
};

pub(super) const TOKEN_EXPIRED: HowToSee = HowToSee {
    look: "Dex logs the lifetime of its tokens at startup. The clocks of Dex and of the sidecar's node must \
           agree; a cached answer has a header `Age` or `X-Cache`.",
    commands: &[
        "kubectl -n dex logs deploy/dex | grep 'config id tokens'",
        "kubectl exec POD -c APP -- date -u",
        ASK,
    ],
    dex_log: &[Line {
        text: "level=INFO msg=\"config id tokens\" valid_for=…",
        cause: "the lifetime of issued tokens (`expiry.idTokens`)",
    }],
    ..NOTHING
};

pub(super) const TOKEN_UNCHANGED: HowToSee = HowToSee {
    look: "A cached answer has a header `Age` or `X-Cache`. Dex forbids caches to keep a token, with \
           `Cache-Control: no-store`.",
    commands: &[ASK],
    ..NOTHING
};

pub(super) const ISSUER_UNEXPECTED: HowToSee = HowToSee {
    look: "Dex's discovery document has its issuer. The key `issuer` of the configuration file must be equal to it.",
    commands: &[ASK],
    ..NOTHING
};

pub(super) const SERVER_ERROR: HowToSee = HowToSee {
    look: "Dex's log has the reason.",
    commands: &[DEX_LOG],
    answers: &[r#"500 {"error":"server_error"}"#],
    dex_log: &[
        Line {
            text: "level=ERROR msg=\"token exchange failed to create new token\" requested_token_type=… \
                   err=\"peer (…) does not trust client\"",
            cause: "`dex_scope` asks for the audience of a client that does not exist, or does not list this \
                    client in `trustedPeers`",
        },
        Line {
            text: "level=ERROR msg=\"failed to get client\" err=…",
            cause: "Dex's storage fails; `err` has the reason",
        },
    ],
};

pub(super) const UNAVAILABLE: HowToSee = HowToSee {
    look: "The message has the status (502, 503 or 504, or one of Cloudflare's from 520 to 530) and the server \
           that answered. Dex itself answers none of them.",
    commands: &[
        "kubectl -n dex get pods,services,endpointslices",
        "kubectl -n dex logs deploy/dex --previous",
        ASK,
    ],
    dex_log: &[Line {
        text: "failed to initialize server: server: failed to open all connectors (…)",
        cause: "Dex 2.45 exits, because it can open none of its connectors. Dex 2.44 and earlier exit when they \
                cannot open one of them",
    }],
    ..NOTHING
};

pub(super) const RATE_LIMITED: HowToSee = HowToSee {
    look: "The status is 429. Dex has no rate limit, so the answer comes from what stands in front of it; its \
           header `Server` may name it. `Retry-After` is honoured.",
    commands: &[ASK],
    ..NOTHING
};

pub(super) const FORBIDDEN: HowToSee = HowToSee {
    look: "The status is 403. Dex never answers 403 at its token endpoint; the header `Server` may name what \
           does.",
    commands: &[ASK],
    ..NOTHING
};

pub(super) const REDIRECTED: HowToSee =
    HowToSee { look: "The header `Location` has the target.", commands: &[ASK], ..NOTHING };

pub(super) const TLS_EXPECTED: HowToSee = HowToSee {
    look: "The answer to plain http says that TLS is expected. Dex's own answer is the one below.",
    commands: &[ASK],
    answers: &["400 Client sent an HTTP request to an HTTPS server."],
    dex_log: &[Line {
        text: "http: TLS handshake error from …: client sent an HTTP request to an HTTPS server",
        cause: "`dex_endpoint` is plain http, and Dex expects https on this port",
    }],
};

pub(super) const ENDPOINT_NOT_FOUND: HowToSee = HowToSee {
    look: "At a path that it does not serve, Dex answers with the text below. At the path of its token endpoint \
           it answers a GET with status 400.",
    commands: &[ASK],
    answers: &["404 404 page not found"],
    ..NOTHING
};

pub(super) const INVALID_CLIENT: HowToSee = HowToSee {
    look: "Dex answers the same to an unknown client and to a wrong secret. Its log has a line for a wrong \
           secret, and nothing for a client that is not in `staticClients`.",
    commands: &["kubectl -n dex logs deploy/dex --since=10m | grep client_secret"],
    answers: &[r#"401 {"error":"invalid_client","error_description":"Invalid client credentials."}"#],
    dex_log: &[
        Line {
            text: "level=INFO msg=\"invalid client_secret on token request\" client_id=…",
            cause: "the secret is wrong, or the client is public and a secret was sent",
        },
        Line {
            text: "level=INFO msg=\"missing client_secret on token request\" client_id=…",
            cause: "the client has a secret, and none was sent",
        },
    ],
};

pub(super) const UNSUPPORTED_GRANT_TYPE: HowToSee = HowToSee {
    look: "Dex's log has the grant type that it was asked for. If that is token exchange, `oauth2.grantTypes` \
           lacks it, or Dex is older than 2.38.",
    commands: &["kubectl -n dex logs deploy/dex --since=10m | grep grant_type"],
    answers: &[r#"400 {"error":"unsupported_grant_type"}"#],
    dex_log: &[Line {
        text: "level=ERROR msg=\"unsupported grant type\" grant_type=…",
        cause: "this grant type is unknown to Dex, or not in `oauth2.grantTypes`",
    }],
};

pub(super) const REQUEST_NOT_SUPPORTED: HowToSee = HowToSee {
    look: "The answer names the field. Dex logs nothing.",
    commands: &["kubectl get pod POD -o yaml | grep -A1 token_type"],
    answers: &[
        r#"400 {"error":"request_not_supported","error_description":"Invalid subject_token_type."}"#,
        r#"400 {"error":"request_not_supported","error_description":"Invalid requested_token_type."}"#,
    ],
    ..NOTHING
};

pub(super) const CONNECTOR_UNKNOWN: HowToSee = HowToSee {
    look: "Dex answers the same to an unknown connector and to one that it could not open. Its log has the \
           reason.",
    commands: &["kubectl -n dex logs deploy/dex --since=10m | grep connector"],
    answers: &[
        r#"400 {"error":"invalid_request","error_description":"Requested connector does not exist."}"#,
    ],
    dex_log: &[
        Line {
            text: "level=ERROR msg=\"failed to get connector\" err=\"failed to get connector object from \
                   storage: not found\"",
            cause: "`dex_connector_id` names no connector of Dex",
        },
        Line {
            text: "level=ERROR msg=\"connector doesn't implement token exchange\" connector_id=…",
            cause: "the connector is not of type `oidc`",
        },
        Line {
            text: "level=ERROR msg=\"failed to get connector\" err=\"failed to open connector: … failed to get \
                   provider: 403 Forbidden: …",
            cause: "anonymous requests may not read the cluster's discovery document: bind the group \
                    `system:unauthenticated` to the ClusterRole `system:service-account-issuer-discovery`",
        },
        Line {
            text: "level=ERROR msg=\"failed to get connector\" err=\"failed to open connector: … failed to get \
                   provider: 401 Unauthorized: …",
            cause: "the API server refuses all anonymous requests, whatever is bound to their group \
                    (`--anonymous-auth=false`)",
        },
        Line {
            text: "level=ERROR msg=\"failed to get connector\" err=\"failed to open connector: … did not match \
                   the issuer URL returned by provider (…)\"",
            cause: "the issuer in the discovery document is not the connector's `issuer`: set `issuerAlias` to \
                    the issuer in the document (Dex 2.42 or later)",
        },
        Line {
            text: "level=ERROR msg=\"failed to get connector\" err=\"failed to open connector: … x509: \
                   certificate signed by unknown authority…",
            cause: "the connector's `rootCAs` lacks the API server's CA",
        },
        Line {
            text: "level=ERROR msg=\"failed to get connector\" err=\"failed to open connector: … connect: \
                   connection refused\"",
            cause: "Dex cannot reach the connector's `issuer`",
        },
    ],
};

pub(super) const ACCESS_DENIED: HowToSee = HowToSee {
    look: "Dex answers the same to every subject token that it does not accept. Its log has the reason.",
    commands: &["kubectl -n dex logs deploy/dex --since=10m | grep 'failed to verify subject token'"],
    answers: &[r#"401 {"error":"access_denied"}"#],
    dex_log: &[
        Line {
            text: "err=\"oidc: failed to verify token: oidc: token is expired (Token Expiry: …)\"",
            cause: "the subject token has expired, or the clock of Dex's node is ahead",
        },
        Line {
            text: "err=\"oidc: failed to verify token: oidc: current time … before the nbf (not before) time: …\"",
            cause: "the clock of Dex's node is more than five minutes behind",
        },
        Line {
            text: "err=\"oidc: failed to verify token: oidc: id token issued by a different provider, expected \
                   … got …\"",
            cause: "the connector's `issuer`, or its `issuerAlias`, is not the token's `iss`",
        },
        Line {
            text: "err=\"oidc: failed to verify token: failed to verify signature: failed to verify id token \
                   signature\"",
            cause: "the issuer does not publish the key that signed the token: another cluster issued it, or \
                    the keys were changed since",
        },
        Line {
            text: "err=\"oidc: failed to verify token: failed to verify signature: fetching keys oidc: get keys \
                   failed: …\"",
            cause: "Dex cannot fetch the issuer's keys; the status of the API server follows",
        },
        Line {
            text: "err=\"missing \\\"…\\\" claim\"",
            cause: "the token does not have this claim: set the connector's `userNameKey` to `sub`",
        },
        Line {
            text: "err=\"missing email claim, not found \\\"email\\\" key\"",
            cause: "the connector's `scopes` is not `[openid]`",
        },
        Line {
            text: "err=\"oidc: error loading userinfo: oidc: user info endpoint is not supported by this \
                   provider\"",
            cause: "the connector's `getUserInfo` is `true`",
        },
        Line {
            text: "err=\"oidc: getUserInfo is required for access token exchange\"",
            cause: "`dex_subject_token_type` is `…:access_token`; it must be `…:id_token`",
        },
        Line {
            text: "err=\"user not a member of allowed groups\"",
            cause: "the connector's `allowedGroups` has no group of this ServiceAccount",
        },
        Line {
            text: "err=\"oidc: failed to verify token: oidc: malformed jwt: …\"",
            cause: "the subject token is not a JSON Web Token",
        },
    ],
};

pub(super) const INVALID_REQUEST: HowToSee = HowToSee {
    look: "The answer names what is wrong with the request.",
    commands: &[DEX_LOG],
    answers: &[r#"400 {"error":"invalid_request","error_description":"Missing subject_token"}"#],
    dex_log: &[Line {
        text: "level=ERROR msg=\"could not parse request body\" err=…",
        cause: "something on the way changed the request",
    }],
};
