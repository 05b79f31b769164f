//! The object identifiers in certificates, and their common names.

use der::asn1::ObjectIdentifier;

pub(super) const fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

pub(super) const RSA: ObjectIdentifier = oid("1.2.840.113549.1.1.1");
pub(super) const EC: ObjectIdentifier = oid("1.2.840.10045.2.1");
pub(super) const P256: ObjectIdentifier = oid("1.2.840.10045.3.1.7");
pub(super) const P384: ObjectIdentifier = oid("1.3.132.0.34");
pub(super) const P521: ObjectIdentifier = oid("1.3.132.0.35");
pub(super) const ED25519: ObjectIdentifier = oid("1.3.101.112");
pub(super) const ECDSA_SHA512: ObjectIdentifier = oid("1.2.840.10045.4.3.4");
pub(super) const SUBJECT_ALT_NAME: ObjectIdentifier = oid("2.5.29.17");
pub(super) const BASIC_CONSTRAINTS: ObjectIdentifier = oid("2.5.29.19");
pub(super) const EXTENDED_KEY_USAGE: ObjectIdentifier = oid("2.5.29.37");
pub(super) const SERVER_AUTH: ObjectIdentifier = oid("1.3.6.1.5.5.7.3.1");
pub(super) const ANY_PURPOSE: ObjectIdentifier = oid("2.5.29.37.0");

/// The critical extensions that webpki supports (its cert.rs): key usage, subject alternative
/// names, basic constraints, name constraints, CRL distribution points, extended key usage.
pub(super) const KNOWN_EXTENSIONS: [ObjectIdentifier; 6] = [
    oid("2.5.29.15"),
    SUBJECT_ALT_NAME,
    BASIC_CONSTRAINTS,
    oid("2.5.29.30"),
    oid("2.5.29.31"),
    EXTENDED_KEY_USAGE,
];

/// The supported signature algorithms: RSA (PKCS #1 and PSS) and ECDSA with SHA-256, SHA-384 or
/// SHA-512; Ed25519.
pub(super) const SIGNATURES: [ObjectIdentifier; 8] = [
    oid("1.2.840.113549.1.1.11"),
    oid("1.2.840.113549.1.1.12"),
    oid("1.2.840.113549.1.1.13"),
    oid("1.2.840.113549.1.1.10"),
    oid("1.2.840.10045.4.3.2"),
    oid("1.2.840.10045.4.3.3"),
    ECDSA_SHA512,
    ED25519,
];

/// The common name with the identifier in parentheses, or the identifier alone if no name is known.
pub(super) fn name_of(oid: ObjectIdentifier) -> String {
    const NAMES: [(&str, &str); 15] = [
        ("2.5.29.32", "certificatePolicies"),
        ("2.5.29.33", "policyMappings"),
        ("2.5.29.36", "policyConstraints"),
        ("2.5.29.54", "inhibitAnyPolicy"),
        ("1.3.6.1.5.5.7.1.24", "tlsFeature"),
        ("1.3.6.1.5.5.7.3.2", "clientAuth"),
        ("1.3.6.1.5.5.7.3.3", "codeSigning"),
        ("1.3.6.1.5.5.7.3.4", "emailProtection"),
        ("1.2.840.113549.1.1.4", "MD5 with RSA"),
        ("1.2.840.113549.1.1.5", "SHA-1 with RSA"),
        ("1.2.840.10045.4.1", "SHA-1 with ECDSA"),
        ("1.2.840.10040.4.1", "DSA"),
        ("1.3.132.0.33", "ECDSA P-224"),
        ("1.3.132.0.10", "ECDSA secp256k1"),
        ("1.3.101.113", "Ed448"),
    ];
    let oid = oid.to_string();
    match NAMES.iter().find(|(known, _)| *known == oid) {
        Some((_, name)) => format!("{name} ({oid})"),
        None => oid,
    }
}
