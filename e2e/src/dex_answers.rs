//! Dex's refusals of a token exchange, as Dex 2.45.1 words them (server/handlers.go): what provokes each, what Dex
//! answers, and what dexsidecar makes of it. A test asks the real Dex for every row.

/// One refusal.
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    /// What is wrong.
    pub name: &'static str,
    /// The fields that provoke it, put over those of a good exchange.
    pub fields: &'static [(&'static str, &'static str)],
    /// The client that provokes it, as `id:secret`; nothing for a good one.
    pub client: Option<&'static str>,
    /// The status.
    pub status: u16,
    /// `error`.
    pub error: &'static str,
    /// `error_description`; empty where Dex gives none.
    pub description: &'static str,
    /// The code under which dexsidecar reports it.
    pub code: &'static str,
}

const BASE: Refusal =
    Refusal { name: "", fields: &[], client: None, status: 400, error: "", description: "", code: "" };

/// Every row that a running Dex can be made to show by what is sent.
pub const REFUSALS: &[Refusal] = &[
    Refusal {
        name: "an unknown grant type",
        fields: &[("grant_type", "urn:x:unknown")],
        error: "unsupported_grant_type",
        code: "unsupported_grant_type",
        ..BASE
    },
    Refusal {
        name: "an unknown client",
        client: Some("nobody:canary"),
        status: 401,
        error: "invalid_client",
        description: "Invalid client credentials.",
        code: "invalid_client",
        ..BASE
    },
    Refusal {
        name: "a wrong secret",
        client: Some("private+app:canary"),
        status: 401,
        error: "invalid_client",
        description: "Invalid client credentials.",
        code: "invalid_client",
        ..BASE
    },
    Refusal {
        name: "a missing secret",
        client: Some("private+app"),
        status: 401,
        error: "invalid_client",
        description: "Invalid client credentials.",
        code: "invalid_client",
        ..BASE
    },
    Refusal {
        name: "an unknown type of subject token",
        fields: &[("subject_token_type", "urn:ietf:params:oauth:token-type:jwt")],
        error: "request_not_supported",
        description: "Invalid subject_token_type.",
        code: "request_not_supported",
        ..BASE
    },
    Refusal {
        name: "an empty subject token",
        fields: &[("subject_token", "")],
        error: "invalid_request",
        description: "Missing subject_token",
        code: "invalid_request",
        ..BASE
    },
    Refusal {
        name: "an unknown connector",
        fields: &[("connector_id", "k3ss")],
        error: "invalid_request",
        description: "Requested connector does not exist.",
        code: "connector_unknown",
        ..BASE
    },
    Refusal {
        name: "no connector",
        fields: &[("connector_id", "")],
        error: "invalid_request",
        description: "Requested connector does not exist.",
        code: "connector_unknown",
        ..BASE
    },
    Refusal {
        name: "a connector without token exchange",
        fields: &[("connector_id", "password")],
        error: "invalid_request",
        description: "Requested connector does not exist.",
        code: "connector_unknown",
        ..BASE
    },
    Refusal {
        name: "a malformed subject token",
        fields: &[("subject_token", "not.a.canary")],
        status: 401,
        error: "access_denied",
        code: "access_denied",
        ..BASE
    },
    Refusal {
        name: "an access token, which the connector has no userinfo for",
        fields: &[("subject_token_type", "urn:ietf:params:oauth:token-type:access_token")],
        status: 401,
        error: "access_denied",
        code: "access_denied",
        ..BASE
    },
    Refusal {
        name: "an unknown type of requested token",
        fields: &[("requested_token_type", "urn:ietf:params:oauth:token-type:jwt")],
        error: "request_not_supported",
        description: "Invalid requested_token_type.",
        code: "request_not_supported",
        ..BASE
    },
    Refusal {
        name: "the audience of a client that does not trust this one",
        fields: &[("scope", "openid audience:server:client_id:private+app")],
        status: 500,
        error: "server_error",
        code: "server_error",
        ..BASE
    },
];
