//! The table of Dex's errors: what causes each, what Dex 2.45.1 responds (server/handlers.go), and
//! the code that dexsidecar reports. A test sends every row to the real Dex.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::fake_api_server::{FakeApiServer, Flaw};
use crate::raw_http;

/// A request to the token endpoint.
#[derive(Clone, Debug)]
pub struct TokenRequest<'a> {
    /// The method, usually `POST`.
    pub method: &'a str,
    /// The content type, usually `application/x-www-form-urlencoded`.
    pub content_type: &'a str,
    /// The credentials of the Basic header before Base64; empty for no header.
    pub client: &'a str,
    /// The fields of the form.
    pub fields: Vec<(&'a str, &'a str)>,
    /// Bytes after the form.
    pub appended: &'a str,
}

impl<'a> TokenRequest<'a> {
    /// A valid exchange of this subject token by the public client `user`.
    #[must_use]
    pub fn exchange_of(subject: &'a str) -> Self {
        Self {
            method: "POST",
            content_type: "application/x-www-form-urlencoded",
            client: "user:",
            fields: vec![
                ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
                ("connector_id", "k3s"),
                ("scope", "openid profile federated:id"),
                ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
                ("subject_token_type", "urn:ietf:params:oauth:token-type:id_token"),
                ("subject_token", subject),
            ],
            appended: "",
        }
    }

    /// Sets the credentials of the client.
    #[must_use]
    pub const fn by(mut self, client: &'a str) -> Self {
        self.client = client;
        self
    }

    /// Sets fields of the form.
    #[must_use]
    pub fn with(mut self, fields: &[(&'a str, &'a str)]) -> Self {
        for field in fields {
            self = self.without(field.0);
            self.fields.push(*field);
        }
        self
    }

    /// Removes a field of the form.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.fields.retain(|field| field.0 != name);
        self
    }

    /// The bytes of the HTTP request.
    #[must_use]
    pub fn to_http(&self) -> String {
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.fields).finish();
        let client = match self.client {
            "" => String::new(),
            client => format!("Authorization: Basic {}\r\n", STANDARD.encode(client)),
        };
        format!(
            "{} /dex/token HTTP/1.1\r\nHost: dex\r\n{client}Connection: close\r\nContent-Type: {}\r\n\
             Content-Length: {}\r\n\r\n{form}{}",
            self.method,
            self.content_type,
            form.len() + self.appended.len(),
            self.appended
        )
    }
}

/// An error response of Dex.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ErrorResponse {
    /// The HTTP status.
    pub status: u16,
    /// `error`.
    pub error: &'static str,
    /// `error_description`; empty if Dex sends none.
    pub description: &'static str,
}

impl ErrorResponse {
    /// The bytes of the HTTP response, for the fake Dex.
    #[must_use]
    pub fn to_http(&self) -> Vec<u8> {
        let body = match self.description {
            "" => json!({"error": self.error}),
            description => json!({"error": self.error, "error_description": description}),
        };
        let status = match self.status {
            400 => "400 Bad Request",
            401 => "401 Unauthorized",
            _ => "500 Internal Server Error",
        };
        raw_http::answer(status, &[("Content-Type", "application/json")], &body.to_string())
    }
}

/// An error that a request of dexsidecar can cause.
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    /// What is wrong.
    pub name: &'static str,
    /// The fields that cause it. They replace those of a valid exchange.
    pub fields: &'static [(&'static str, &'static str)],
    /// The credentials that cause it, as `id:secret`; empty for no credentials, `None` for valid
    /// ones.
    pub client: Option<&'static str>,
    /// The flaw of the subject token.
    pub flaw: Option<Flaw>,
    /// The response of Dex.
    pub response: ErrorResponse,
    /// The code that dexsidecar reports.
    pub code: &'static str,
}

impl Refusal {
    /// The subject token of the request.
    #[must_use]
    pub fn subject(&self, issuer: &FakeApiServer) -> String {
        self.flaw.map_or_else(|| issuer.token(3_600), |flaw| issuer.flawed(flaw))
    }
}

/// An error that no request of dexsidecar causes.
#[derive(Clone, Copy, Debug)]
pub struct Malformed {
    /// What is wrong.
    pub name: &'static str,
    /// The method.
    pub method: &'static str,
    /// The content type.
    pub content_type: &'static str,
    /// The credentials of the Basic header.
    pub client: &'static str,
    /// Bytes after a valid form.
    pub appended: &'static str,
    /// The response of Dex.
    pub response: ErrorResponse,
}

const UNSUPPORTED_GRANT: ErrorResponse =
    ErrorResponse { status: 400, error: "unsupported_grant_type", description: "" };
const INVALID_CLIENT: ErrorResponse =
    ErrorResponse { status: 401, error: "invalid_client", description: "Invalid client credentials." };
const NO_CONNECTOR: ErrorResponse = ErrorResponse {
    status: 400,
    error: "invalid_request",
    description: "Requested connector does not exist.",
};
const SUBJECT_TYPE: ErrorResponse =
    ErrorResponse { status: 400, error: "request_not_supported", description: "Invalid subject_token_type." };
const DENIED: ErrorResponse = ErrorResponse { status: 401, error: "access_denied", description: "" };
const SERVER_ERROR: ErrorResponse = ErrorResponse { status: 500, error: "server_error", description: "" };

/// A valid exchange.
const BASE: Refusal =
    Refusal { name: "", fields: &[], client: None, flaw: None, response: DENIED, code: "access_denied" };

/// Every error that a request of dexsidecar can cause, in the order in which Dex checks for them.
pub const REFUSALS: &[Refusal] = &[
    Refusal {
        name: "no grant type",
        fields: &[("grant_type", "")],
        response: UNSUPPORTED_GRANT,
        code: "unsupported_grant_type",
        ..BASE
    },
    Refusal {
        name: "an unknown grant type",
        fields: &[("grant_type", "urn:x:unknown")],
        response: UNSUPPORTED_GRANT,
        code: "unsupported_grant_type",
        ..BASE
    },
    Refusal {
        name: "a disabled grant type",
        fields: &[("grant_type", "authorization_code")],
        response: UNSUPPORTED_GRANT,
        code: "unsupported_grant_type",
        ..BASE
    },
    Refusal { name: "no client", client: Some(""), response: INVALID_CLIENT, code: "invalid_client", ..BASE },
    Refusal {
        name: "an unknown client",
        client: Some("nobody:canary"),
        response: INVALID_CLIENT,
        code: "invalid_client",
        ..BASE
    },
    Refusal {
        name: "a wrong secret",
        client: Some("private+app:canary"),
        response: INVALID_CLIENT,
        code: "invalid_client",
        ..BASE
    },
    Refusal {
        name: "a missing secret",
        client: Some("private+app"),
        response: INVALID_CLIENT,
        code: "invalid_client",
        ..BASE
    },
    Refusal {
        name: "a secret for a public client",
        client: Some("user:canary"),
        response: INVALID_CLIENT,
        code: "invalid_client",
        ..BASE
    },
    Refusal {
        name: "no type of subject token",
        fields: &[("subject_token_type", "")],
        response: SUBJECT_TYPE,
        code: "request_not_supported",
        ..BASE
    },
    Refusal {
        name: "an unknown type of subject token",
        fields: &[("subject_token_type", "urn:ietf:params:oauth:token-type:jwt")],
        response: SUBJECT_TYPE,
        code: "request_not_supported",
        ..BASE
    },
    Refusal {
        name: "an empty subject token",
        fields: &[("subject_token", "")],
        response: ErrorResponse {
            status: 400,
            error: "invalid_request",
            description: "Missing subject_token",
        },
        code: "invalid_request",
        ..BASE
    },
    Refusal {
        name: "no connector",
        fields: &[("connector_id", "")],
        response: NO_CONNECTOR,
        code: "connector_unknown",
        ..BASE
    },
    Refusal {
        name: "an unknown connector",
        fields: &[("connector_id", "k3ss")],
        response: NO_CONNECTOR,
        code: "connector_unknown",
        ..BASE
    },
    Refusal {
        name: "a connector without token exchange",
        fields: &[("connector_id", "password")],
        response: NO_CONNECTOR,
        code: "connector_unknown",
        ..BASE
    },
    Refusal { name: "a malformed subject token", fields: &[("subject_token", "not.a.canary")], ..BASE },
    Refusal { name: "an expired subject token", flaw: Some(Flaw::Expired), ..BASE },
    Refusal { name: "a subject token that is not valid yet", flaw: Some(Flaw::NotYetValid), ..BASE },
    Refusal { name: "a subject token of another cluster", flaw: Some(Flaw::OtherIssuer), ..BASE },
    Refusal { name: "a subject token with an unknown signing key", flaw: Some(Flaw::UnknownKey), ..BASE },
    Refusal { name: "a forged subject token", flaw: Some(Flaw::Forged), ..BASE },
    Refusal {
        name: "a subject token without the claim that names the user",
        flaw: Some(Flaw::Nameless),
        ..BASE
    },
    Refusal {
        name: "an access token, but the connector has no userinfo endpoint",
        fields: &[("subject_token_type", "urn:ietf:params:oauth:token-type:access_token")],
        ..BASE
    },
    Refusal {
        name: "an unknown type of requested token",
        fields: &[("requested_token_type", "urn:ietf:params:oauth:token-type:jwt")],
        response: ErrorResponse {
            status: 400,
            error: "request_not_supported",
            description: "Invalid requested_token_type.",
        },
        code: "request_not_supported",
        ..BASE
    },
    Refusal {
        name: "the audience of a client that does not trust this one",
        fields: &[("scope", "openid audience:server:client_id:private+app")],
        response: SERVER_ERROR,
        code: "server_error",
        ..BASE
    },
    Refusal {
        name: "the audience of a client that does not exist",
        fields: &[("scope", "openid audience:server:client_id:nobody")],
        response: SERVER_ERROR,
        code: "server_error",
        ..BASE
    },
];

/// A request as dexsidecar sends it.
const WELL_FORMED: Malformed = Malformed {
    name: "",
    method: "POST",
    content_type: "application/x-www-form-urlencoded",
    client: "user:",
    appended: "",
    response: ErrorResponse { status: 400, error: "invalid_request", description: "" },
};

/// Every error that a malformed request causes.
pub const MALFORMED: &[Malformed] = &[
    Malformed {
        name: "another method",
        method: "GET",
        response: ErrorResponse { status: 400, error: "invalid_request", description: "method not allowed" },
        ..WELL_FORMED
    },
    Malformed { name: "a body that cannot be parsed", appended: "&x=%zz", ..WELL_FORMED },
    Malformed {
        name: "a body that is not a form",
        content_type: "application/json",
        response: UNSUPPORTED_GRANT,
        ..WELL_FORMED
    },
    Malformed {
        name: "a client id with invalid percent-encoding",
        client: "a%zz:x",
        response: ErrorResponse {
            status: 400,
            error: "invalid_request",
            description: "client_id improperly encoded",
        },
        ..WELL_FORMED
    },
    Malformed {
        name: "a client secret with invalid percent-encoding",
        client: "user:%zz",
        response: ErrorResponse {
            status: 400,
            error: "invalid_request",
            description: "client_secret improperly encoded",
        },
        ..WELL_FORMED
    },
];

impl Malformed {
    /// The request that causes it.
    #[must_use]
    pub fn request<'a>(&self, subject: &'a str) -> TokenRequest<'a> {
        TokenRequest {
            method: self.method,
            content_type: self.content_type,
            client: self.client,
            appended: self.appended,
            ..TokenRequest::exchange_of(subject)
        }
    }
}
