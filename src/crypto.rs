//! What the agent's TLS can: the part of rustls' own list that servers of the web have.
//!
//! A list names each algorithm, so that the linker leaves out what is not on it. ChaCha20 would
//! be 50 KB on a PC: every server has AES-GCM (RFC 8446 section 9.1), and devices say a few
//! kilobytes a day.

use std::sync::Arc;
use std::time::Duration;

use rustls::SignatureScheme;
use rustls::SupportedCipherSuite;
use rustls::crypto::ring::cipher_suite as suite;
use rustls::crypto::ring::kx_group;
use rustls::crypto::{
    CryptoProvider, GetRandomFailed, KeyProvider, SecureRandom, SupportedKxGroup,
    WebPkiSupportedAlgorithms,
};
use rustls::pki_types::{PrivateKeyDer, UnixTime};
use rustls::sign::SigningKey;
use rustls::time_provider::TimeProvider;
use webpki::ring as signed;

use crate::base::wall;

/// Ciphers, keys and signatures for connections to servers.
#[must_use]
pub fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: SUITES.to_vec(),
        kx_groups: GROUPS.to_vec(),
        signature_verification_algorithms: SIGNATURES,
        secure_random: &System,
        key_provider: &System,
    }
}

const SUITES: [SupportedCipherSuite; 6] = [
    suite::TLS13_AES_128_GCM_SHA256,
    suite::TLS13_AES_256_GCM_SHA384,
    suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
];

const GROUPS: [&dyn SupportedKxGroup; 3] =
    [kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1];

/// All that rustls takes with ring, in its order.
const SIGNATURES: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[
        signed::ECDSA_P256_SHA256,
        signed::ECDSA_P256_SHA384,
        signed::ECDSA_P384_SHA256,
        signed::ECDSA_P384_SHA384,
        signed::ED25519,
        signed::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
        signed::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
        signed::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
        signed::RSA_PKCS1_2048_8192_SHA256,
        signed::RSA_PKCS1_2048_8192_SHA384,
        signed::RSA_PKCS1_2048_8192_SHA512,
        signed::RSA_PKCS1_2048_8192_SHA256_ABSENT_PARAMS,
        signed::RSA_PKCS1_2048_8192_SHA384_ABSENT_PARAMS,
        signed::RSA_PKCS1_2048_8192_SHA512_ABSENT_PARAMS,
    ],
    mapping: &[
        (
            SignatureScheme::ECDSA_NISTP384_SHA384,
            &[signed::ECDSA_P384_SHA384, signed::ECDSA_P256_SHA384],
        ),
        (
            SignatureScheme::ECDSA_NISTP256_SHA256,
            &[signed::ECDSA_P256_SHA256, signed::ECDSA_P384_SHA256],
        ),
        (SignatureScheme::ED25519, &[signed::ED25519]),
        (
            SignatureScheme::RSA_PSS_SHA512,
            &[signed::RSA_PSS_2048_8192_SHA512_LEGACY_KEY],
        ),
        (
            SignatureScheme::RSA_PSS_SHA384,
            &[signed::RSA_PSS_2048_8192_SHA384_LEGACY_KEY],
        ),
        (
            SignatureScheme::RSA_PSS_SHA256,
            &[signed::RSA_PSS_2048_8192_SHA256_LEGACY_KEY],
        ),
        (
            SignatureScheme::RSA_PKCS1_SHA512,
            &[signed::RSA_PKCS1_2048_8192_SHA512],
        ),
        (
            SignatureScheme::RSA_PKCS1_SHA384,
            &[signed::RSA_PKCS1_2048_8192_SHA384],
        ),
        (
            SignatureScheme::RSA_PKCS1_SHA256,
            &[signed::RSA_PKCS1_2048_8192_SHA256],
        ),
    ],
};

/// The clock that certificates are held against.
#[must_use]
pub fn clock() -> Arc<dyn TimeProvider> {
    Arc::new(System)
}

/// Randomness and time of the system, and no private keys: the device shows a server no certificate of its
/// own, and what would sign with one need not be in the program.
#[derive(Debug)]
struct System;

impl SecureRandom for System {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        getrandom::getrandom(bytes).map_err(|_| GetRandomFailed)
    }
}

impl TimeProvider for System {
    fn current_time(&self) -> Option<UnixTime> {
        let since = u64::try_from(wall::secs()).unwrap_or(0);
        Some(UnixTime::since_unix_epoch(Duration::from_secs(since)))
    }
}

impl KeyProvider for System {
    fn load_private_key(
        &self,
        _: PrivateKeyDer<'static>,
    ) -> Result<Arc<dyn SigningKey>, rustls::Error> {
        Err(rustls::Error::General("no private keys are used".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing of rustls' own list is missing but what the text above says.
    #[test]
    fn only_chacha20_is_left_out() {
        let (ours, all) = (provider(), rustls::crypto::ring::default_provider());
        let names = |suites: &[SupportedCipherSuite]| {
            let names = suites.iter().map(|suite| format!("{:?}", suite.suite()));
            let mut names: Vec<_> = names.filter(|name| !name.contains("CHACHA20")).collect();
            names.sort();
            names
        };
        assert_eq!(names(&ours.cipher_suites), names(&all.cipher_suites));
        let groups = |groups: &[&dyn SupportedKxGroup]| {
            let names = groups.iter().map(|group| group.name());
            names.collect::<Vec<_>>()
        };
        assert_eq!(groups(&ours.kx_groups), groups(&all.kx_groups));
        let (ours, all) = (
            ours.signature_verification_algorithms,
            all.signature_verification_algorithms,
        );
        assert_eq!(ours.supported_schemes(), all.supported_schemes());
        assert_eq!(ours.all.len(), all.all.len());
    }
}
