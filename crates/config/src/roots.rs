//! The authorities that may vouch for the hosts we send to.

use std::path::PathBuf;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::mistake::Notes;
use crate::section::At;

/// The system's authorities, and those of `tls.ca-file` besides. A system without any is no
/// mistake: only routes with `tls = "verify"` need them.
pub(crate) fn load(ca_file: Option<&At<PathBuf>>, notes: &mut Notes<'_>) -> Option<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(system.certs);
    let Some(path) = ca_file else { return Some(roots) };
    let shown = path.value.display();
    let read =
        CertificateDer::pem_file_iter(&path.value).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let problem = match read {
        Ok(own) => match roots.add_parsable_certificates(own) {
            (0, _) => format!("{shown} has no certificate that can be used"),
            (_, 0) => return Some(roots),
            (_, bad) => format!("{shown} has {bad} certificates that cannot be used"),
        },
        Err(error) => format!("cannot read the certificates in {shown}: {error}"),
    };
    notes.add(&path.at, problem, "it must be a PEM file of CA certificates");
    None
}
