//! The supported signature algorithms of certificates and handshakes: those of rustls with ring,
//! and ECDSA on P-521 with the p521 crate, because private CAs use it and Go accepts it. Also the
//! key exchange group secp521r1. P-521 adds 21 kB to the compressed image (docs/footprint.md).

use p521::ecdsa::signature::hazmat::PrehashVerifier as _;
use p521::ecdsa::{DerSignature, VerifyingKey};
use p521::elliptic_curve::sec1::ToSec1Point as _;
use p521::{PublicKey, Sec1Point, SecretKey};
use ring::digest::{self, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls::crypto::{ActiveKeyExchange, SharedSecret, SupportedKxGroup, WebPkiSupportedAlgorithms};
use rustls::pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, alg_id};
use rustls::{Error, NamedGroup, PeerMisbehaved, SignatureScheme};
use webpki::ring as algorithms;
use zeroize::Zeroizing;

/// The size of a field element of P-521, in bytes.
const FIELD_BYTES: usize = 66;

/// ECDSA on P-521 with one of the hashes that certificates use.
#[derive(Debug)]
struct P521 {
    signature: AlgorithmIdentifier,
    hash: &'static digest::Algorithm,
}

impl SignatureVerificationAlgorithm for P521 {
    fn verify_signature(&self, key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        let key = VerifyingKey::from_sec1_bytes(key).map_err(|_| InvalidSignature)?;
        let signature = DerSignature::try_from(signature).map_err(|_| InvalidSignature)?;
        let hash = digest(self.hash, message);
        // The crate rejects a hash shorter than half the field size. Leading zeros do not change
        // its value.
        let mut padded = [0; FIELD_BYTES];
        padded[FIELD_BYTES - hash.as_ref().len()..].copy_from_slice(hash.as_ref());
        key.verify_prehash(&padded, &signature).map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_P521
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.signature
    }
}

const fn ecdsa(signature: AlgorithmIdentifier, hash: &'static digest::Algorithm) -> P521 {
    P521 { signature, hash }
}

static WITH_SHA256: &P521 = &ecdsa(alg_id::ECDSA_SHA256, &digest::SHA256);
static WITH_SHA384: &P521 = &ecdsa(alg_id::ECDSA_SHA384, &digest::SHA384);
static WITH_SHA512: &P521 = &ecdsa(alg_id::ECDSA_SHA512, &digest::SHA512);

/// All supported signature algorithms.
pub(super) static ALGORITHMS: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[
        algorithms::ECDSA_P256_SHA256,
        algorithms::ECDSA_P256_SHA384,
        algorithms::ECDSA_P384_SHA256,
        algorithms::ECDSA_P384_SHA384,
        WITH_SHA256,
        WITH_SHA384,
        WITH_SHA512,
        algorithms::ED25519,
        algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
        algorithms::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
        algorithms::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
        algorithms::RSA_PKCS1_2048_8192_SHA256,
        algorithms::RSA_PKCS1_2048_8192_SHA384,
        algorithms::RSA_PKCS1_2048_8192_SHA512,
        algorithms::RSA_PKCS1_2048_8192_SHA256_ABSENT_PARAMS,
        algorithms::RSA_PKCS1_2048_8192_SHA384_ABSENT_PARAMS,
        algorithms::RSA_PKCS1_2048_8192_SHA512_ABSENT_PARAMS,
    ],
    // TLS 1.2 does not tie a hash to a curve (RFC 8422 §5.1.1), so all combinations are listed. TLS
    // 1.3 uses the first of each list.
    mapping: &[
        (
            SignatureScheme::ECDSA_NISTP384_SHA384,
            &[algorithms::ECDSA_P384_SHA384, algorithms::ECDSA_P256_SHA384, WITH_SHA384],
        ),
        (
            SignatureScheme::ECDSA_NISTP256_SHA256,
            &[algorithms::ECDSA_P256_SHA256, algorithms::ECDSA_P384_SHA256, WITH_SHA256],
        ),
        (SignatureScheme::ECDSA_NISTP521_SHA512, &[WITH_SHA512]),
        (SignatureScheme::ED25519, &[algorithms::ED25519]),
        (SignatureScheme::RSA_PSS_SHA512, &[algorithms::RSA_PSS_2048_8192_SHA512_LEGACY_KEY]),
        (SignatureScheme::RSA_PSS_SHA384, &[algorithms::RSA_PSS_2048_8192_SHA384_LEGACY_KEY]),
        (SignatureScheme::RSA_PSS_SHA256, &[algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY]),
        (SignatureScheme::RSA_PKCS1_SHA512, &[algorithms::RSA_PKCS1_2048_8192_SHA512]),
        (SignatureScheme::RSA_PKCS1_SHA384, &[algorithms::RSA_PKCS1_2048_8192_SHA384]),
        (SignatureScheme::RSA_PKCS1_SHA256, &[algorithms::RSA_PKCS1_2048_8192_SHA256]),
    ],
};

/// The key exchange group secp521r1. It is offered last, so a key share is generated only when the
/// server requests it (RFC 8446 §4.1.4).
#[derive(Debug)]
pub(super) struct Secp521r1;

impl SupportedKxGroup for Secp521r1 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let mut bytes = Zeroizing::new([0; FIELD_BYTES]);
        // Almost every number of 521 bits is below the order of the curve, so this rarely repeats.
        loop {
            SystemRandom::new().fill(&mut *bytes).map_err(|_| Error::FailedToGetRandomBytes)?;
            bytes[0] &= 1;
            if let Ok(secret) = SecretKey::from_slice(&*bytes) {
                let public = secret.public_key().to_sec1_point(false);
                return Ok(Box::new(KeyExchange { secret, public }));
            }
        }
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::secp521r1
    }
}

struct KeyExchange {
    secret: SecretKey,
    public: Sec1Point,
}

impl ActiveKeyExchange for KeyExchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let peer = PublicKey::from_sec1_bytes(peer).map_err(|_| PeerMisbehaved::InvalidKeyShare)?;
        let shared = p521::ecdh::diffie_hellman(self.secret.to_nonzero_scalar(), peer.as_affine());
        Ok(SharedSecret::from(shared.raw_secret_bytes().as_slice()))
    }

    fn pub_key(&self) -> &[u8] {
        self.public.as_bytes()
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::secp521r1
    }
}
