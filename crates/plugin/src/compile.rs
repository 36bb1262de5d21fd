//! From a component's file to code that runs: compiled by a child process with limits, kept by digest.
//!
//! What is kept is vouched for by a code that only this host can make: a file in the cache that somebody
//! else wrote is compiled anew, never loaded.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use hmac::{Hmac, Mac as _};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rand::Rng as _;
use sha2::Sha256;
use tokio::process::Command;
use tracing::{debug, warn};
use wasmparser::{Validator, WasmFeatures};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::{Compiler, Digest, Misfit, engine};

/// Largest file that is taken for a component.
pub(crate) const MAX_FILE: u64 = 64 * 1024 * 1024;
/// Limits of the child: address space, processor time, and time by the clock.
const CHILD_MEMORY: u64 = 4 * 1024 * 1024 * 1024;
const CHILD_CPU: u64 = 120;
const CHILD_WALL: Duration = Duration::from_secs(300);
/// What the child says at most.
const MAX_COMPLAINT: usize = 4096;
const KEY: &str = "cache.key";

/// Why there is no code.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The file cannot be read.
    #[error("cannot read {path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The file is no component.
    #[error("{path} {problem}")]
    NoComponent {
        /// The file.
        path: PathBuf,
        /// What it is instead, and what to do.
        problem: String,
    },
    /// The file is not what the configuration says.
    #[error("{path} has the digest sha256:{found}, not the one in the configuration")]
    OtherDigest {
        /// The file.
        path: PathBuf,
        /// What it hashes to.
        found: Digest,
    },
    /// The compiler refused, or ran into its limits.
    #[error("cannot compile {path}: {complaint}")]
    Compiler {
        /// The file.
        path: PathBuf,
        /// What the compiler says.
        complaint: String,
    },
    /// The cache does not work.
    #[error("the directory of compiled plugins, {path}: {error}")]
    Cache {
        /// The directory or file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

/// The content of a component's file.
#[derive(Debug)]
pub(crate) struct Binary {
    pub(crate) path: PathBuf,
    pub(crate) octets: Vec<u8>,
    pub(crate) digest: Digest,
}

impl Binary {
    /// Reads a file and sees that it is a component.
    pub(crate) fn read(path: &Path, wanted: Option<Digest>) -> Result<Binary, CompileError> {
        let io = |error| CompileError::Io { path: path.to_owned(), error };
        let no = |problem: &str| CompileError::NoComponent {
            path: path.to_owned(),
            problem: problem.to_owned(),
        };
        let file = fs::File::open(path).map_err(io)?;
        let size = file.metadata().map_err(io)?.len();
        if size > MAX_FILE {
            return Err(no("is over 64 MiB, too large for a plugin"));
        }
        let mut octets = Vec::with_capacity(size as usize);
        file.take(MAX_FILE + 1).read_to_end(&mut octets).map_err(io)?;
        match octets.get(..8) {
            Some([0, b'a', b's', b'm', 0x0d, 0, 1, 0]) => {}
            Some([0, b'a', b's', b'm', 1, 0, 0, 0]) => {
                return Err(no(
                    "is a core module, not a component: link it with wasm-component-ld, or make a \
                     component of it with `wasm-tools component new` or `jco new`",
                ));
            }
            Some([0, b'a', b's', b'm', ..]) => {
                return Err(no("is WebAssembly of a version that this host does not know"));
            }
            Some([0x7f, b'E', b'L', b'F', ..]) => {
                return Err(no("is compiled code; give the component (.wasm) it was made from"));
            }
            _ => return Err(no("is no WebAssembly component")),
        }
        let digest = Digest::of(&octets);
        if wanted.is_some_and(|wanted| wanted != digest) {
            return Err(CompileError::OtherDigest { path: path.to_owned(), found: digest });
        }
        Ok(Binary { path: path.to_owned(), octets, digest })
    }
}

/// Compiles and remembers.
#[derive(Debug)]
pub(crate) struct Workshop {
    compiler: Compiler,
    cache: PathBuf,
    seal: Seal,
    /// What engines and compiled code must have in common.
    kind: u64,
}

impl Workshop {
    /// A workshop that keeps what it made in `directory`, which is made and is the owner's alone.
    pub(crate) fn open(compiler: Compiler, directory: &Path) -> Result<Workshop, CompileError> {
        let cache_error = |error| CompileError::Cache { path: directory.to_owned(), error };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(cache_error)?;
        let seal = Seal(key(&directory.join(KEY)).map_err(cache_error)?);
        let workshop = engine::workshop()
            .map_err(|error| cache_error(io::Error::other(format!("{error:#}"))))?;
        Ok(Workshop { compiler, cache: directory.to_owned(), seal, kind: kind(&workshop) })
    }

    /// The compiled code of a component.
    pub(crate) async fn code(&self, binary: &Binary) -> Result<Vec<u8>, CompileError> {
        let place = self.cache.join(format!("{}-{:016x}.code", binary.digest, self.kind));
        let (seal, kept) = (self.seal, place.clone());
        match aside(move || seal.kept(&kept)).await {
            Ok(Some(code)) => return Ok(code),
            Ok(None) => {}
            Err(error) => {
                warn!(file = %place.display(), %error, "compiled code is not what was kept, compiling anew");
            }
        }
        debug!(file = %binary.path.display(), "compiling");
        let code = match &self.compiler {
            Compiler::Here => self.here(binary).await?,
            Compiler::Child(program) => self.in_child(program, binary).await?,
        };
        let seal = self.seal;
        Ok(aside(move || {
            if let Err(error) = seal.keep(&place, &code) {
                warn!(file = %place.display(), %error, "compiled code is not kept");
            }
            code
        })
        .await)
    }

    async fn here(&self, binary: &Binary) -> Result<Vec<u8>, CompileError> {
        let octets = binary.octets.clone();
        let compiled = aside(move || compile(&octets)).await;
        compiled.map_err(|complaint| self.refused(binary, complaint))
    }

    async fn in_child(&self, program: &Path, binary: &Binary) -> Result<Vec<u8>, CompileError> {
        let failed = |error: io::Error| CompileError::Compiler {
            path: binary.path.clone(),
            complaint: format!("{}: {error}", program.display()),
        };
        let scratch =
            tempfile::Builder::new().prefix("compile-").tempdir_in(&self.cache).map_err(failed)?;
        // The child gets the octets that were looked at, not the file, which may have changed.
        let (from, to) = (scratch.path().join("component"), scratch.path().join("code"));
        fs::write(&from, &binary.octets).map_err(failed)?;
        let mut command = Command::new(program);
        command.args(["plugin", "compile"]).arg(&from).arg(&to);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.env_clear().kill_on_drop(true);
        let child = command.spawn().map_err(failed)?;
        let ended = tokio::time::timeout(CHILD_WALL, child.wait_with_output()).await;
        let ended = match ended {
            Ok(ended) => ended.map_err(failed)?,
            Err(_) => {
                return Err(self.refused(binary, format!("it took over {CHILD_WALL:?}")));
            }
        };
        if !ended.status.success() {
            let mut complaint = String::from_utf8_lossy(&ended.stderr).trim().to_owned();
            complaint.truncate(complaint.floor_char_boundary(MAX_COMPLAINT));
            let complaint = match complaint.as_str() {
                "" => format!(
                    "the compiler ended by {}: it hit its limits of 4 GiB and {CHILD_CPU} s",
                    ended.status
                ),
                complaint => complaint.to_owned(),
            };
            return Err(self.refused(binary, complaint));
        }
        fs::read(&to).map_err(failed)
    }

    fn refused(&self, binary: &Binary, complaint: String) -> CompileError {
        CompileError::Compiler { path: binary.path.clone(), complaint }
    }

    /// Removes code that none of `wanted` needs.
    pub(crate) fn clean(&self, wanted: &[Digest]) {
        let Ok(entries) = fs::read_dir(&self.cache) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let kept = |digest: &Digest| name.starts_with(&digest.to_string());
            if name.ends_with(".code") && !wanted.iter().any(kept) {
                // What stays is in nobody's way.
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// What vouches for code that is kept: a key that only this host has.
#[derive(Debug, Clone, Copy)]
struct Seal([u8; 32]);

impl Seal {
    /// Code that was kept; nothing when there is none.
    fn kept(self, place: &Path) -> io::Result<Option<Vec<u8>>> {
        let whole = match fs::read(place) {
            Ok(whole) => whole,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let forged = || io::Error::other("its code of authenticity is wrong");
        let Some((seal, code)) = whole.split_first_chunk::<32>() else { return Err(forged()) };
        self.mac(place, code).verify_slice(seal).map_err(|_| forged())?;
        Ok(Some(code.to_vec()))
    }

    fn keep(self, place: &Path, code: &[u8]) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(place.parent().unwrap_or(Path::new(".")))?;
        file.write_all(&self.mac(place, code).finalize().into_bytes())?;
        file.write_all(code)?;
        file.persist(place).map(drop).map_err(|error| error.error)
    }

    /// Over the name too: code of one component is not that of another.
    fn mac(self, place: &Path, code: &[u8]) -> Hmac<Sha256> {
        let mut mac = <Hmac<Sha256> as hmac::Mac>::new_from_slice(&self.0)
            .unwrap_or_else(|_| unreachable!("a key of any length is legal (RFC 2104 §2)"));
        mac.update(place.file_name().unwrap_or_default().as_encoded_bytes());
        mac.update(code);
        mac
    }
}

/// What an engine has in common with code that it can run.
fn kind(engine: &Engine) -> u64 {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.finish()
}

fn key(path: &Path) -> io::Result<[u8; 32]> {
    match fs::read(path) {
        Ok(octets) => match octets.try_into() {
            Ok(key) => return Ok(key),
            Err(_) => warn!(file = %path.display(), "the key of the cache is damaged, made anew"),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let key: [u8; 32] = rand::rng().random();
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(&key)?;
    Ok(key)
}

/// Work that takes a while, where it keeps nobody's mail waiting.
pub(crate) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The program ends, and nobody waits for this any more.
            Err(_) => std::future::pending().await,
        },
    }
}

/// Compiles a component in this process.
fn compile(octets: &[u8]) -> Result<Vec<u8>, String> {
    let engine = engine::workshop().map_err(|error| format!("{error:#}"))?;
    engine.precompile_component(octets).map_err(|error| match is_asynchronous(octets) {
        true => Misfit::Asynchronous.to_string(),
        false => format!("{error:#}"),
    })
}

/// True of what would be a component if its functions could be asynchronous.
fn is_asynchronous(octets: &[u8]) -> bool {
    let features = WasmFeatures::default()
        | WasmFeatures::CM_ASYNC
        | WasmFeatures::CM_ASYNC_STACKFUL
        | WasmFeatures::CM_THREADING;
    Validator::new_with_features(features).validate_all(octets).is_ok()
}

/// What the child does: `PROGRAM plugin compile FROM TO`. Puts limits on this whole process first.
///
/// # Errors
/// What the compiler complains of.
pub fn compile_as_child(from: &Path, to: &Path) -> Result<(), String> {
    let limit = |resource, most: u64| {
        // What is stricter already stays so.
        let strict = |(_, hard): (u64, u64)| setrlimit(resource, most.min(hard), most.min(hard));
        let limited = getrlimit(resource).and_then(strict);
        limited.map_err(|error| format!("no limit can be set: {error}"))
    };
    limit(Resource::RLIMIT_AS, CHILD_MEMORY)?;
    limit(Resource::RLIMIT_CPU, CHILD_CPU)?;
    limit(Resource::RLIMIT_CORE, 0)?;
    give_way();
    let octets = fs::read(from).map_err(|error| format!("{}: {error}", from.display()))?;
    let code = compile(&octets)?;
    fs::write(to, code).map_err(|error| format!("{}: {error}", to.display()))
}

/// Mail comes first.
#[allow(unsafe_code, reason = "the system has no safe word for it")]
fn give_way() {
    // SAFETY: it takes a number and touches no memory. Who may not be nicer goes on as before.
    let _ = unsafe { nix::libc::nice(19) };
}

/// Code for this engine.
///
/// # Errors
/// When it was made for another.
#[allow(
    unsafe_code,
    reason = "running compiled code is as safe as where the code comes from: `code` is what our own \
              compiler made, fresh from it or sealed by a key that only this host has"
)]
pub(crate) fn component(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `code` came from `Workshop::code`, so a compiler of this very version made it; what lay in
    // the cache meanwhile had its seal verified after it was read into memory, which nobody else writes.
    unsafe { Component::deserialize(engine, code) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binary(directory: &Path) -> Binary {
        let path = directory.join("p.wasm");
        fs::write(&path, wat::parse_str("(component)").unwrap()).unwrap();
        Binary::read(&path, None).unwrap()
    }

    #[tokio::test]
    async fn forged_code_is_compiled_anew() {
        let directory = tempfile::tempdir().unwrap();
        let binary = binary(directory.path());
        let cache = directory.path().join("cache");
        let workshop = Workshop::open(Compiler::Here, &cache).unwrap();
        let code = workshop.code(&binary).await.unwrap();
        let place = fs::read_dir(&cache)
            .unwrap()
            .flatten()
            .map(|e| e.path())
            .find(|path| path.extension().is_some_and(|e| e == "code"))
            .unwrap();
        let again = Workshop::open(Compiler::Here, &cache).unwrap();
        assert_eq!(again.seal.kept(&place).unwrap().as_ref(), Some(&code));
        let mut forged = fs::read(&place).unwrap();
        let last = forged.len() - 1;
        forged[last] ^= 1;
        fs::write(&place, forged).unwrap();
        assert!(again.seal.kept(&place).is_err());
        assert_eq!(again.code(&binary).await.unwrap(), code);
        assert_eq!(again.seal.kept(&place).unwrap().as_ref(), Some(&code));
        again.clean(&[]);
        assert_eq!(again.seal.kept(&place).unwrap(), None);
    }

    #[test]
    fn what_is_no_component_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let says = |octets: &[u8]| {
            let path = directory.path().join("x");
            fs::write(&path, octets).unwrap();
            Binary::read(&path, None).unwrap_err().to_string()
        };
        assert!(says(b"\0asm\x01\0\0\0").contains("is a core module"));
        assert!(says(b"\x7fELF\0\0\0\0\0").contains("is compiled code"));
        assert!(says(b"\0asm\x0d").contains("is no WebAssembly component"));
        assert!(says(b"hello").contains("is no WebAssembly component"));
        let big = directory.path().join("big");
        fs::File::create(&big).unwrap().set_len(500 * 1024 * 1024).unwrap();
        assert!(Binary::read(&big, None).unwrap_err().to_string().contains("over 64 MiB"));
        let other = Some(Digest::of(b"other"));
        let path = binary(directory.path()).path;
        assert!(matches!(Binary::read(&path, other), Err(CompileError::OtherDigest { .. })));
    }
}
