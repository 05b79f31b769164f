//! Questions to Dex's token endpoint, and its refusals as Dex 2.45.1 words them (server/handlers.go): what provokes each,
//! what Dex answers, and what dexsidecar makes of it. A test asks the real Dex for every row.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::issuer::{Flaw, Issuer};
use crate::wire;

/// A request to the token endpoint, put together by hand.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// `POST`, unless that is what is wrong.
    pub method: &'a str,
    /// `application/x-www-form-urlencoded`, unless that is what is wrong.
    pub content_type: &'a str,
    /// What Basic carries, as it is; empty for no header.
    pub client: &'a str,
    /// The form.
    pub fields: Vec<(&'a str, &'a str)>,
    /// What follows the form, as it is.
    pub appended: &'a str,
}

impl<'a> Question<'a> {
    /// A good exchange of this subject token, by the public client `user`.
    #[must_use]
    pub fn about(subject: &'a str) -> Self {
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

    /// The same by another client.
    #[must_use]
    pub const fn by(mut self, client: &'a str) -> Self {
        self.client = client;
        self
    }

    /// The same with these fields in place of their namesakes.
    #[must_use]
    pub fn with(mut self, fields: &[(&'a str, &'a str)]) -> Self {
        for field in fields {
            self = self.without(field.0);
            self.fields.push(*field);
        }
        self
    }

    /// The same without a field.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.fields.retain(|field| field.0 != name);
        self
    }

    /// What goes over the wire.
    #[must_use]
    pub fn request(&self) -> String {
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

/// A refusal as Dex sends it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Told {
    /// The status.
    pub status: u16,
    /// `error`.
    pub error: &'static str,
    /// `error_description`; empty where Dex gives none.
    pub description: &'static str,
}

impl Told {
    /// What goes over the wire, for the stand-in.
    #[must_use]
    pub fn answer(&self) -> Vec<u8> {
        let body = match self.description {
            "" => json!({"error": self.error}),
            description => json!({"error": self.error, "error_description": description}),
        };
        let status = match self.status {
            400 => "400 Bad Request",
            401 => "401 Unauthorized",
            _ => "500 Internal Server Error",
        };
        wire::answer(status, &[("Content-Type", "application/json")], &body.to_string())
    }
}

/// A refusal of something that dexsidecar can be made to ask.
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    /// What is wrong.
    pub name: &'static str,
    /// The fields that provoke it, put over those of a good exchange.
    pub fields: &'static [(&'static str, &'static str)],
    /// The client that provokes it, as `id:secret`, or empty for none; nothing for a good one.
    pub client: Option<&'static str>,
    /// What is wrong with the subject token.
    pub flaw: Option<Flaw>,
    /// What Dex answers.
    pub told: Told,
    /// The code under which dexsidecar reports it.
    pub code: &'static str,
}

impl Refusal {
    /// The subject token that goes with it.
    #[must_use]
    pub fn subject(&self, issuer: &Issuer) -> String {
        self.flaw.map_or_else(|| issuer.token(3_600), |flaw| issuer.flawed(flaw))
    }
}

/// A refusal of something that dexsidecar never asks.
#[derive(Clone, Copy, Debug)]
pub struct Malformed {
    /// What is wrong.
    pub name: &'static str,
    /// The method.
    pub method: &'static str,
    /// The content type.
    pub content_type: &'static str,
    /// What Basic carries.
    pub client: &'static str,
    /// What follows a good form.
    pub appended: &'static str,
    /// What Dex answers.
    pub told: Told,
}

const UNSUPPORTED_GRANT: Told = Told { status: 400, error: "unsupported_grant_type", description: "" };
const INVALID_CLIENT: Told =
    Told { status: 401, error: "invalid_client", description: "Invalid client credentials." };
const NO_CONNECTOR: Told =
    Told { status: 400, error: "invalid_request", description: "Requested connector does not exist." };
const SUBJECT_TYPE: Told =
    Told { status: 400, error: "request_not_supported", description: "Invalid subject_token_type." };
const DENIED: Told = Told { status: 401, error: "access_denied", description: "" };
const SERVER_ERROR: Told = Told { status: 500, error: "server_error", description: "" };

/// With nothing wrong.
const BASE: Refusal =
    Refusal { name: "", fields: &[], client: None, flaw: None, told: DENIED, code: "access_denied" };

/// Every row that a running Dex can be made to show by what dexsidecar sends, in the order in which Dex looks.
pub const REFUSALS: &[Refusal] = &[
    Refusal {
        name: "no grant type",
        fields: &[("grant_type", "")],
        told: UNSUPPORTED_GRANT,
        code: "unsupported_grant_type",
        ..BASE
    },
    Refusal {
        name: "an unknown grant type",
        fields: &[("grant_type", "urn:x:unknown")],
        told: UNSUPPORTED_GRANT,
        code: "unsupported_grant_type",
        ..BASE
    },
    Refusal {
        name: "a grant type that is switched off",
        fields: &[("grant_type", "authorization_code")],
        told: UNSUPPORTED_GRANT,
        code: "unsupported_grant_type",
        ..BASE
    },
    Refusal {
        name: "no client at all",
        client: Some(""),
        told: INVALID_CLIENT,
        code: "invalid_client",
        ..BASE
    },
    Refusal {
        name: "an unknown client",
        client: Some("nobody:canary"),
        told: INVALID_CLIENT,
        code: "invalid_client",
        ..BASE
    },
    Refusal {
        name: "a wrong secret",
        client: Some("private+app:canary"),
        told: INVALID_CLIENT,
        code: "invalid_client",
        ..BASE
    },
    Refusal {
        name: "a missing secret",
        client: Some("private+app"),
        told: INVALID_CLIENT,
        code: "invalid_client",
        ..BASE
    },
    Refusal {
        name: "a secret where there is none",
        client: Some("user:canary"),
        told: INVALID_CLIENT,
        code: "invalid_client",
        ..BASE
    },
    Refusal {
        name: "no type of subject token",
        fields: &[("subject_token_type", "")],
        told: SUBJECT_TYPE,
        code: "request_not_supported",
        ..BASE
    },
    Refusal {
        name: "an unknown type of subject token",
        fields: &[("subject_token_type", "urn:ietf:params:oauth:token-type:jwt")],
        told: SUBJECT_TYPE,
        code: "request_not_supported",
        ..BASE
    },
    Refusal {
        name: "an empty subject token",
        fields: &[("subject_token", "")],
        told: Told { status: 400, error: "invalid_request", description: "Missing subject_token" },
        code: "invalid_request",
        ..BASE
    },
    Refusal {
        name: "no connector",
        fields: &[("connector_id", "")],
        told: NO_CONNECTOR,
        code: "connector_unknown",
        ..BASE
    },
    Refusal {
        name: "an unknown connector",
        fields: &[("connector_id", "k3ss")],
        told: NO_CONNECTOR,
        code: "connector_unknown",
        ..BASE
    },
    Refusal {
        name: "a connector without token exchange",
        fields: &[("connector_id", "password")],
        told: NO_CONNECTOR,
        code: "connector_unknown",
        ..BASE
    },
    Refusal { name: "a malformed subject token", fields: &[("subject_token", "not.a.canary")], ..BASE },
    Refusal { name: "an expired subject token", flaw: Some(Flaw::Expired), ..BASE },
    Refusal { name: "a subject token from the future", flaw: Some(Flaw::NotYetValid), ..BASE },
    Refusal { name: "another cluster's subject token", flaw: Some(Flaw::OtherIssuer), ..BASE },
    Refusal { name: "a subject token of an unknown key", flaw: Some(Flaw::UnknownKey), ..BASE },
    Refusal { name: "a forged subject token", flaw: Some(Flaw::Forged), ..BASE },
    Refusal {
        name: "a subject token without the claim that names the user",
        flaw: Some(Flaw::Nameless),
        ..BASE
    },
    Refusal {
        name: "an access token, which the connector has no userinfo for",
        fields: &[("subject_token_type", "urn:ietf:params:oauth:token-type:access_token")],
        ..BASE
    },
    Refusal {
        name: "an unknown type of requested token",
        fields: &[("requested_token_type", "urn:ietf:params:oauth:token-type:jwt")],
        told: Told {
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
        told: SERVER_ERROR,
        code: "server_error",
        ..BASE
    },
    Refusal {
        name: "the audience of a client that does not exist",
        fields: &[("scope", "openid audience:server:client_id:nobody")],
        told: SERVER_ERROR,
        code: "server_error",
        ..BASE
    },
];

/// As dexsidecar asks.
const WELL_FORMED: Malformed = Malformed {
    name: "",
    method: "POST",
    content_type: "application/x-www-form-urlencoded",
    client: "user:",
    appended: "",
    told: Told { status: 400, error: "invalid_request", description: "" },
};

/// The rows that take a client which asks badly.
pub const MALFORMED: &[Malformed] = &[
    Malformed {
        name: "another method",
        method: "GET",
        told: Told { status: 400, error: "invalid_request", description: "method not allowed" },
        ..WELL_FORMED
    },
    Malformed { name: "a body that cannot be parsed", appended: "&x=%zz", ..WELL_FORMED },
    Malformed {
        name: "a body that is no form",
        content_type: "application/json",
        told: UNSUPPORTED_GRANT,
        ..WELL_FORMED
    },
    Malformed {
        name: "an id that is badly encoded",
        client: "a%zz:x",
        told: Told { status: 400, error: "invalid_request", description: "client_id improperly encoded" },
        ..WELL_FORMED
    },
    Malformed {
        name: "a secret that is badly encoded",
        client: "user:%zz",
        told: Told { status: 400, error: "invalid_request", description: "client_secret improperly encoded" },
        ..WELL_FORMED
    },
];

impl Malformed {
    /// The question that provokes it.
    #[must_use]
    pub fn question<'a>(&self, subject: &'a str) -> Question<'a> {
        Question {
            method: self.method,
            content_type: self.content_type,
            client: self.client,
            appended: self.appended,
            ..Question::about(subject)
        }
    }
}
