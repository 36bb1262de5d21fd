//! Who vouches for certificates of clients, as files say it; they are read again when they change.

use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use waypost_mail::Fingerprint;

/// Who vouches for certificates of clients.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Vouchers {
    /// Authorities that sign them (RFC 5280 §6), for the use of clients. Without any, what is
    /// listed below is taken as it is, whoever signed it and until whenever.
    pub authorities: Vec<CertificateDer<'static>>,
    /// What these authorities have revoked (RFC 5280 §5). With any list, a certificate counts only
    /// when its authority has one that is not outdated.
    pub revoked: Vec<CertificateRevocationListDer<'static>>,
    /// The only certificates that count. Empty: all that an authority signed.
    pub fingerprints: Vec<Fingerprint>,
    /// Where the first two come from.
    pub files: VoucherFiles,
}

/// PEM files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VoucherFiles {
    /// The certificates of the authorities.
    pub authorities: Option<PathBuf>,
    /// Their lists of what is revoked.
    pub revoked: Option<PathBuf>,
}

/// A file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}; it must be a PEM file of {}", .wanted, path = .path.display())]
pub struct VoucherError {
    /// The file.
    pub path: PathBuf,
    /// What should be in it.
    pub wanted: &'static str,
    /// What is wrong.
    pub problem: String,
}

impl Vouchers {
    /// Reads the files.
    ///
    /// # Errors
    /// When one of them cannot be read, or has nothing of its kind in it.
    pub fn read(
        files: VoucherFiles,
        fingerprints: Vec<Fingerprint>,
    ) -> Result<Vouchers, VoucherError> {
        let authorities = all(files.authorities.as_deref(), "CA certificates")?;
        let revoked = all(files.revoked.as_deref(), "revocation lists (X509 CRL)")?;
        Ok(Vouchers { authorities, revoked, fingerprints, files })
    }

    /// What the files say now, if that is something else.
    ///
    /// # Errors
    /// As [`Vouchers::read`].
    pub fn changed(&self) -> Result<Option<Vouchers>, VoucherError> {
        if self.files == VoucherFiles::default() {
            return Ok(None);
        }
        let now = Vouchers::read(self.files.clone(), self.fingerprints.clone())?;
        Ok((now != *self).then_some(now))
    }
}

fn all<T: PemObject>(path: Option<&Path>, wanted: &'static str) -> Result<Vec<T>, VoucherError> {
    let Some(path) = path else { return Ok(Vec::new()) };
    let failed = |problem| VoucherError { path: path.to_owned(), wanted, problem };
    let read = T::pem_file_iter(path).and_then(Iterator::collect);
    let all: Vec<T> = read.map_err(|error| failed(error.to_string()))?;
    if all.is_empty() { Err(failed("it has none".to_owned())) } else { Ok(all) }
}
