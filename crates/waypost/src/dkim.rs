//! `waypost dkim …`: keys for signatures, and the DNS records that publish them.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::{Context as _, Result};
use waypost_identity::SigningKey;
use waypost_identity::keygen::{self, Algorithm, dns_record};

use crate::args::{DkimCommand, KeyAlgorithm, KeyNameArgs};

/// Carries out a `waypost dkim` command.
///
/// # Errors
/// Whatever went wrong, in words for the person who typed it.
pub fn dkim(command: DkimCommand) -> Result<()> {
    match command {
        DkimCommand::Keygen { name, algorithm, out } => {
            let key = keygen::generate(match algorithm {
                KeyAlgorithm::Rsa2048 => Algorithm::Rsa2048,
                KeyAlgorithm::Rsa3072 => Algorithm::Rsa3072,
                KeyAlgorithm::Rsa4096 => Algorithm::Rsa4096,
                KeyAlgorithm::Ed25519 => Algorithm::Ed25519,
            })?;
            // A key that is there already may be in use: it is never overwritten.
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&out);
            let mut file =
                file.with_context(|| format!("cannot make the key file {}", out.display()))?;
            file.write_all(key.private_pem().as_bytes())?;
            file.sync_all()?;
            eprintln!("the private key is in {}; publish this record:", out.display());
            print_record(&name, key.public())
        }
        DkimCommand::Record { name, key } => {
            let loaded = SigningKey::load(&key)?;
            print_record(&name, loaded.key.public())
        }
    }
}

fn print_record(name: &KeyNameArgs, key: &waypost_identity::PublicKey) -> Result<()> {
    let record = dns_record(&name.selector, &name.domain, key)?;
    println!("{}", record.zone_text.trim_end());
    Ok(())
}
