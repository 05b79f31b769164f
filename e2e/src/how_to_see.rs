//! How each failure shows: the command to run, the answer, the line in Dex's log. For
//! docs/failures.md.
//!
//! The texts stand here and not in the table of failures, so that the binary that ships does not
//! carry them. Each code needs one: without it this file does not compile.

mod exchange;
mod network;
mod output;
mod pod;
mod tls;

use dexsidecar_core::failure::Code;

/// How a failure shows.
#[derive(Clone, Copy, Debug)]
pub struct HowToSee {
    /// What to look for, in full sentences.
    pub look: &'static str,
    /// Commands to paste. Words in capitals are placeholders, which the head of the page explains.
    pub commands: &'static [&'static str],
    /// What Dex answers: the status and the body.
    pub answers: &'static [&'static str],
    /// What Dex logs. Empty where Dex logs nothing, or where the request does not reach Dex.
    pub dex_log: &'static [Line],
}

/// A line in Dex's log, and what it means.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// The line as Dex 2.45 writes it, without `time` and `request_id`. `…` stands for what varies.
    pub text: &'static str,
    /// What causes it.
    pub cause: &'static str,
}

impl Line {
    /// The parts that do not vary, in their order.
    pub fn parts(&self) -> impl Iterator<Item = &'static str> {
        self.text.split('…').filter(|part| !part.is_empty())
    }

    /// Whether a log has this line.
    #[must_use]
    pub fn is_in(&self, log: &str) -> bool {
        log.lines().any(|line| {
            let mut rest = line;
            self.parts().all(|part| match rest.split_once(part) {
                Some((_, after)) => {
                    rest = after;
                    true
                }
                None => false,
            })
        })
    }
}

/// A failure that shows in nothing but what the program itself reports.
const NOTHING: HowToSee = HowToSee { look: "", commands: &[], answers: &[], dex_log: &[] };

/// Wrong settings, which `check` reports and which end `run` at startup: no failure of an attempt.
pub const WRONG_SETTINGS: HowToSee = pod::WRONG_SETTINGS;

/// How the failure with this code shows.
#[must_use]
pub const fn how_to_see(code: Code) -> &'static HowToSee {
    match code {
        Code::FormFileUnreadable => &pod::FORM_FILE_UNREADABLE,
        Code::SubjectTokenMissing => &pod::SUBJECT_TOKEN_MISSING,
        Code::SubjectTokenUnreadable => &pod::SUBJECT_TOKEN_UNREADABLE,
        Code::SubjectTokenNotAFile => &pod::SUBJECT_TOKEN_NOT_A_FILE,
        Code::SubjectTokenEmpty => &pod::SUBJECT_TOKEN_EMPTY,
        Code::SubjectTokenTooLarge => &pod::SUBJECT_TOKEN_TOO_LARGE,
        Code::SubjectTokenMalformed => &pod::SUBJECT_TOKEN_MALFORMED,
        Code::SubjectTokenExpired => &pod::SUBJECT_TOKEN_EXPIRED,
        Code::SubjectTokenRequestFailed => &pod::SUBJECT_TOKEN_REQUEST_FAILED,
        Code::NameNotFound => &network::NAME_NOT_FOUND,
        Code::NameLookupFailed => &network::NAME_LOOKUP_FAILED,
        Code::ConnectRefused => &network::CONNECT_REFUSED,
        Code::ConnectFailed => &network::CONNECT_FAILED,
        Code::PlainHttpRefused => &network::PLAIN_HTTP_REFUSED,
        Code::ProxyFailed => &network::PROXY_FAILED,
        Code::CaFileUnreadable => &tls::CA_FILE_UNREADABLE,
        Code::CaFileInvalid => &tls::CA_FILE_INVALID,
        Code::NoRoots => &tls::NO_ROOTS,
        Code::CertificateUntrusted => &tls::CERTIFICATE_UNTRUSTED,
        Code::CertificateIsCa => &tls::CERTIFICATE_IS_CA,
        Code::CertificateWrongName => &tls::CERTIFICATE_WRONG_NAME,
        Code::CertificateExpired => &tls::CERTIFICATE_EXPIRED,
        Code::CertificateNotYetValid => &tls::CERTIFICATE_NOT_YET_VALID,
        Code::CertificateInvalid => &tls::CERTIFICATE_INVALID,
        Code::CertificateExtensionUnsupported => &tls::CERTIFICATE_EXTENSION_UNSUPPORTED,
        Code::CertificateKeyUnsupported => &tls::CERTIFICATE_KEY_UNSUPPORTED,
        Code::CertificateSignatureUnsupported => &tls::CERTIFICATE_SIGNATURE_UNSUPPORTED,
        Code::CertificateChainTooLarge => &tls::CERTIFICATE_CHAIN_TOO_LARGE,
        Code::TlsNotSpoken => &tls::TLS_NOT_SPOKEN,
        Code::TlsRefused => &tls::TLS_REFUSED,
        Code::TlsFailed => &tls::TLS_FAILED,
        Code::TimedOut => &network::TIMED_OUT,
        Code::ConnectionLost => &network::CONNECTION_LOST,
        Code::AnswerMalformed => &exchange::ANSWER_MALFORMED,
        Code::AnswerTooLarge => &exchange::ANSWER_TOO_LARGE,
        Code::AnswerUnusable => &exchange::ANSWER_UNUSABLE,
        Code::TokenMissing => &exchange::TOKEN_MISSING,
        Code::TokenMalformed => &exchange::TOKEN_MALFORMED,
        Code::TokenTypeUnsupported => &exchange::TOKEN_TYPE_UNSUPPORTED,
        Code::TokenExpired => &exchange::TOKEN_EXPIRED,
        Code::TokenUnchanged => &exchange::TOKEN_UNCHANGED,
        Code::IssuerUnexpected => &exchange::ISSUER_UNEXPECTED,
        Code::ServerError => &exchange::SERVER_ERROR,
        Code::Unavailable => &exchange::UNAVAILABLE,
        Code::RateLimited => &exchange::RATE_LIMITED,
        Code::NotFromDex => &exchange::NOT_FROM_DEX,
        Code::Forbidden => &exchange::FORBIDDEN,
        Code::Redirected => &exchange::REDIRECTED,
        Code::TlsExpected => &exchange::TLS_EXPECTED,
        Code::EndpointNotFound => &exchange::ENDPOINT_NOT_FOUND,
        Code::InvalidClient => &exchange::INVALID_CLIENT,
        Code::UnauthorizedClient => &exchange::UNAUTHORIZED_CLIENT,
        Code::UnsupportedGrantType => &exchange::UNSUPPORTED_GRANT_TYPE,
        Code::InvalidScope => &exchange::INVALID_SCOPE,
        Code::RequestNotSupported => &exchange::REQUEST_NOT_SUPPORTED,
        Code::ConnectorUnknown => &exchange::CONNECTOR_UNKNOWN,
        Code::AccessDenied => &exchange::ACCESS_DENIED,
        Code::InvalidRequest => &exchange::INVALID_REQUEST,
        Code::InvalidGrant => &exchange::INVALID_GRANT,
        Code::InvalidTarget => &exchange::INVALID_TARGET,
        Code::Rejected => &exchange::REJECTED,
        Code::OutputDirectoryMissing => &output::DIRECTORY_MISSING,
        Code::OutputNotPermitted => &output::NOT_PERMITTED,
        Code::OutputReadOnly => &output::READ_ONLY,
        Code::OutputDiskFull => &output::DISK_FULL,
        Code::OutputIsADirectory => &output::IS_A_DIRECTORY,
        Code::OutputIsAMount => &output::IS_A_MOUNT,
        Code::OutputRenameUnsupported => &output::RENAME_UNSUPPORTED,
        Code::OutputModeRefused => &output::MODE_REFUSED,
        Code::OutputGroupRefused => &output::GROUP_REFUSED,
        Code::OutputFailed => &output::FAILED,
        Code::ActionFailed => &output::ACTION_FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that the page shows.
    fn all() -> impl Iterator<Item = (&'static str, &'static HowToSee)> {
        let of_codes = Code::ALL.iter().map(|code| (code.entry().name, how_to_see(*code)));
        [("wrong_settings", &pod::WRONG_SETTINGS)].into_iter().chain(of_codes)
    }

    #[test]
    fn every_failure_has_a_command_and_full_sentences() {
        for (name, see) in all() {
            assert!(!see.commands.is_empty() && see.look.ends_with('.'), "{name}");
            for line in see.dex_log {
                assert!(line.text.len() > 8 && !line.cause.ends_with('.'), "{name}: {}", line.text);
                assert!(!line.text.contains(['|', '`']), "{name}: {}", line.text);
            }
        }
    }

    /// As style.md has it.
    #[test]
    fn no_sentence_has_more_than_25_words() {
        for (name, see) in all() {
            let sentences = see.look.split(". ").chain(see.dex_log.iter().map(|line| line.cause));
            for sentence in sentences {
                let words = sentence.split(' ').count();
                assert!(words <= 25, "{name}: {words} words: {sentence}");
            }
        }
    }

    #[test]
    fn every_command_is_one_that_a_shell_can_parse() {
        for (name, see) in all() {
            for command in see.commands {
                let parsed = std::process::Command::new("sh").args(["-nc", command]).status();
                assert!(parsed.is_ok_and(|status| status.success()), "{name}: {command}");
            }
        }
    }

    #[test]
    fn a_line_is_found_whatever_stands_in_its_gaps() {
        let line = Line { text: "level=INFO msg=\"x\" id=… end", cause: "" };
        assert!(line.is_in("before\ntime=1 level=INFO msg=\"x\" id=7 end request_id=2\n"));
        for other in
            ["level=INFO msg=\"x\" id=7", "end level=INFO msg=\"x\" id=7", "level=INFO\nmsg=\"x\" id= end"]
        {
            assert!(!line.is_in(other), "{other}");
        }
    }
}
