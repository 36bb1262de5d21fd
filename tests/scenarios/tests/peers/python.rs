//! The Python that has the programs of others.

use std::path::PathBuf;

/// The Python with aiosmtpd: `WAYPOST_TEST_PYTHON`, or where `cargo xtask setup` puts it.
pub(crate) fn python() -> String {
    if let Ok(python) = std::env::var("WAYPOST_TEST_PYTHON") {
        return python;
    }
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let python = target.parent().unwrap().join("test-venv/bin/python");
    assert!(python.exists(), "there is no {}: cargo xtask setup makes it", python.display());
    python.display().to_string()
}
