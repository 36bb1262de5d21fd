//! From the model to what intake verifies, and to who vouches for what leaves.

use waypost_identity::{CopyRequest, Keyring, SealError, SealRequest, SignError};
use waypost_intake::{OnFail, Verification};

use crate::file::{File, Vouching};
use crate::mistake::Notes;
use crate::section::nearest;

/// `keys` are those that could be read; what is wrong with the others is told already.
pub(super) fn verify(file: &File, keys: &Keyring, notes: &mut Notes<'_>) -> Verification {
    let given = &file.verify;
    let id = given.id.as_ref().unwrap_or(&file.hostname);
    let mut verification = Verification::by(id.value.to_string());
    verification.mail = given.mail.unwrap_or(verification.mail);
    verification.listeners = file
        .listeners
        .iter()
        .filter_map(|listener| Some((listener.name.value.clone(), listener.door.verify?)))
        .collect();
    verification.checks = given.checks.as_ref().map_or(verification.checks, |checks| checks.value);
    verification.limits.signatures = given.signatures.unwrap_or(verification.limits.signatures);
    let timeout = given.timeout.as_ref().map(|timeout| timeout.value);
    verification.limits.time = timeout.unwrap_or(verification.limits.time);
    let usual = OnFail::default();
    verification.on_fail = OnFail {
        dmarc: given.dmarc_fail.as_ref().map_or(usual.dmarc, |action| action.value),
        spf: given.spf_fail.as_ref().map_or(usual.spf, |action| action.value),
        iprev: given.iprev_fail.as_ref().map_or(usual.iprev, |action| action.value),
        mail: given.act_on.unwrap_or(usual.mail),
    };
    verification.seal = given.seal.as_ref().map(|given| seal(file, given, keys, notes));
    verification
}

fn seal(file: &File, given: &Vouching, keys: &Keyring, notes: &mut Notes<'_>) -> SealRequest {
    let request = SealRequest {
        key: given.key.value.clone(),
        domain: given.domain.value.clone(),
        selector: given.selector.value.clone(),
    };
    match keys.check_seal(&request) {
        Ok(()) => {}
        Err(SealError::Sign(error)) => note(file, given, &error, notes),
        Err(error @ SealError::NotRsa(_)) => notes.add(&given.key.at, error.to_string(), ""),
    }
    request
}

/// The keys, and who signs copies with them.
pub(super) fn copy_signers(file: &File, keys: Keyring, notes: &mut Notes<'_>) -> Keyring {
    let mut requests = Vec::new();
    for given in &file.dkim2 {
        let request = CopyRequest {
            key: given.key.value.clone(),
            domain: given.domain.value.clone(),
            selector: given.selector.value.clone(),
        };
        match keys.clone().with_copy_signers(std::slice::from_ref(&request)) {
            Ok(_) => requests.push(request),
            Err(error) => note(file, given, &error, notes),
        }
    }
    keys.clone().with_copy_signers(&requests).unwrap_or(keys)
}

fn note(file: &File, given: &Vouching, error: &SignError, notes: &mut Notes<'_>) {
    let named: Vec<&str> = file.keys.iter().map(|(name, _)| name.value.0.as_str()).collect();
    match error {
        // The key's file could not be read, which is told where it stands.
        SignError::NoSuchKey(name) if named.contains(&name.as_str()) => {}
        SignError::NoSuchKey(name) => {
            let hint = nearest(&named, name)
                .unwrap_or_else(|| format!("[keys.{name}] with file = \"FILE\""));
            notes.add(&given.key.at, format!("there is no signing key '{name}'"), &hint);
        }
        SignError::Name(_) => notes.add(&given.domain.at, error.to_string(), ""),
        _ => notes.add(&given.key.at, error.to_string(), ""),
    }
}
