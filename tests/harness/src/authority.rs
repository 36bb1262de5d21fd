//! Certificates for tests, and an authority that vouches for them.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    IsCa, KeyIdMethod, KeyPair, PublicKeyData as _, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

/// An authority that nobody knows but the tests.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// A fresh one.
    pub fn new() -> anyhow::Result<Authority> {
        let mut params = CertificateParams::new(Vec::new())?;
        // Without a name of its own, what it signs would look as if signed by itself.
        params.distinguished_name.push(DnType::CommonName, "authority of the tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ok(Authority { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate()?)? })
    }

    /// Its certificate, as `tls.ca-file` holds it.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A store that trusts it and nobody else.
    pub fn roots(&self) -> anyhow::Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone())?;
        Ok(roots)
    }

    /// A server that proves to be `name`, which may be an address.
    pub fn server(&self, name: &str) -> anyhow::Result<Arc<ServerConfig>> {
        let key = KeyPair::generate()?;
        let certificate =
            CertificateParams::new([name.to_owned()])?.signed_by(&key, &self.issuer)?;
        server(certificate.der().clone(), key.serialize_der())
    }

    /// A server that proves to be one of `names`, and sends this authority's certificate along.
    pub fn certified(&self, names: &[&str]) -> anyhow::Result<Certified> {
        self.certified_at(names, |_| ())
    }

    /// The same by a certificate whose time is over.
    pub fn expired(&self, names: &[&str]) -> anyhow::Result<Certified> {
        self.certified_at(names, |params| params.not_after = date_time_ymd(2020, 1, 1))
    }

    fn certified_at(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> anyhow::Result<Certified> {
        let key = KeyPair::generate()?;
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer)?.der().clone();
        let (own, spki) = (certificate.to_vec(), key.subject_public_key_info());
        let chain = vec![certificate, self.issuer.der().clone()];
        let server = serve(chain, key.serialize_der())?;
        let (authority, authority_key) =
            (self.issuer.der().to_vec(), self.issuer.key().subject_public_key_info());
        Ok(Certified { server, own, key: spki, authority, authority_key })
    }

    /// A server that proves to be `name` and speaks only to who shows a certificate of `clients`.
    pub fn server_for(&self, name: &str, clients: &Authority) -> anyhow::Result<Arc<ServerConfig>> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(
            Arc::new(clients.roots()?),
            provider.clone(),
        );
        let (verifier, key) = (verifier.build()?, KeyPair::generate()?);
        let certificate =
            CertificateParams::new([name.to_owned()])?.signed_by(&key, &self.issuer)?;
        let secret = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate.der().clone()], secret)?;
        Ok(Arc::new(config))
    }

    /// A certificate for these names and its key, both as PEM.
    pub fn pair(&self, names: &[&str]) -> anyhow::Result<(String, String)> {
        let key = KeyPair::generate()?;
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let certificate = CertificateParams::new(names)?.signed_by(&key, &self.issuer)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    /// The same with a number, by which it can be revoked.
    pub fn numbered(&self, serial: u64, names: &[&str]) -> anyhow::Result<(String, String)> {
        let key = KeyPair::generate()?;
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params.serial_number = Some(SerialNumber::from(serial));
        Ok((params.signed_by(&key, &self.issuer)?.pem(), key.serialize_pem()))
    }

    /// A list of the numbers that it has revoked, as PEM, good until the year `until`.
    pub fn revoking(&self, serials: &[u64], until: i32) -> anyhow::Result<String> {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(until, 1, 1),
            crl_number: SerialNumber::from(serials.len() as u64 + 1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(list.signed_by(&self.issuer)?.pem()?)
    }

    /// A server whose certificate is no certificate at all.
    pub fn unparsable() -> anyhow::Result<Arc<ServerConfig>> {
        server(CertificateDer::from(&b"no certificate"[..]), KeyPair::generate()?.serialize_der())
    }
}

/// A server and what TLSA records can name of it, as DER.
#[derive(Debug, Clone)]
pub struct Certified {
    /// What it speaks TLS with.
    pub server: Arc<ServerConfig>,
    /// Its own certificate.
    pub own: Vec<u8>,
    /// Its public key.
    pub key: Vec<u8>,
    /// The certificate of the authority.
    pub authority: Vec<u8>,
    /// The public key of the authority.
    pub authority_key: Vec<u8>,
}

fn server(certificate: CertificateDer<'static>, key: Vec<u8>) -> anyhow::Result<Arc<ServerConfig>> {
    serve(vec![certificate], key)
}

fn serve(chain: Vec<CertificateDer<'static>>, key: Vec<u8>) -> anyhow::Result<Arc<ServerConfig>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key));
    let key = provider.key_provider.load_private_key(key)?;
    let certified = rustls::sign::CertifiedKey::new(chain, key);
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)));
    Ok(Arc::new(config))
}
