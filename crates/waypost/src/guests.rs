//! The four plugins that come with the program, compiled once and carried in it: `waypost demo` and
//! `waypost plugin unpack` work where nobody can compile to WebAssembly.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Name and component. `cargo xtask guests --embed` makes them anew; a test holds them against their
/// sources.
pub const EMBEDDED: [(&str, &[u8]); 4] = [
    ("rewrite", include_bytes!("../guests/rewrite.wasm")),
    ("route", include_bytes!("../guests/route.wasm")),
    ("sign", include_bytes!("../guests/sign.wasm")),
    ("retry", include_bytes!("../guests/retry.wasm")),
];

/// Writes them into a directory, which is made; those that are there are replaced.
///
/// # Errors
/// When they cannot be written.
pub fn unpack(directory: &Path) -> Result<Vec<PathBuf>> {
    let failed = || format!("cannot write plugins into {}", directory.display());
    fs::create_dir_all(directory).with_context(failed)?;
    let mut written = Vec::new();
    for (name, component) in EMBEDDED {
        let path = directory.join(format!("{name}.wasm"));
        // A running relay reads the old one or the new one, never half of it.
        let mut file = tempfile::NamedTempFile::new_in(directory).with_context(failed)?;
        file.write_all(component).with_context(failed)?;
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        file.as_file().set_permissions(open).with_context(failed)?;
        file.persist(&path).map_err(|error| error.error).with_context(failed)?;
        written.push(path);
    }
    Ok(written)
}
