//! Compiling happens elsewhere, within limits, once.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use waypost_plugin::{Compiler, PluginConfig, Stage};

use crate::testbed::forge::write;
use crate::testbed::{Bed, Ground, hostile, policy};

/// The example of this crate that compiles as the relay's own program does.
fn compiler() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join("examples/compiler");
    let build = "cargo build -p waypost-plugin --example compiler";
    assert!(path.exists(), "{} is missing: run `{build}`", path.display());
    path
}

/// The same with stricter limits: seconds of processor time, and kilobytes.
fn strict(directory: &Path, seconds: u32, kilobytes: u32) -> PathBuf {
    let path = directory.join("compiler");
    let text = format!(
        "#!/bin/sh\nulimit -t {seconds}\nulimit -v {kilobytes}\nexec {} \"$@\"\n",
        compiler().display()
    );
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

async fn open(compiler: PathBuf, file: PathBuf) -> Result<Bed, String> {
    let ground = Ground { compiler: Compiler::Child(compiler), ..Ground::bare() };
    let config = policy([PluginConfig::new("p", file)]);
    ground.open(config).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_child_compiles() {
    let bed = open(compiler(), hostile("p", "").file).await.unwrap();
    bed.good(Stage::Recipients).await;
}

/// 37: a component that is made to keep a compiler busy.
#[tokio::test]
async fn a_compile_bomb_hits_the_limits() {
    let directory = tempfile::tempdir().unwrap();
    let bomb = write(directory.path(), "bomb.wasm", &bomb());
    let began = Instant::now();
    let said = open(strict(directory.path(), 2, 1 << 20), bomb.clone()).await.err().unwrap();
    assert!(said.contains("hit its limits") || said.contains("memory"), "{said}");
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}

/// Tables of jumps, nested in functions as large as the format allows.
fn bomb() -> Vec<u8> {
    let mut body = String::new();
    for _ in 0..2000 {
        body.push_str(
            "(block (block (block (br_table 0 1 2 0 1 2 0 1 2 0 1 2 0 1 2 (local.get 0)))))",
        );
        body.push_str(
            "(local.set 0 (i32.add (i32.mul (local.get 0) (local.get 1)) (i32.const 3)))",
        );
    }
    let mut module = String::from("(component (core module ");
    for index in 0..60 {
        let _ = write!(module, "(func (export \"f{index}\") (param i32 i32) {body})");
    }
    wat::parse_str(module + "))").unwrap()
}

#[tokio::test]
async fn a_compiler_that_is_not_there_is_named() {
    let said = open("/nowhere/waypost".into(), hostile("p", "").file).await.err().unwrap();
    assert!(said.contains("/nowhere/waypost"), "{said}");
}

/// What the child complains of reaches the operator.
#[tokio::test]
async fn complaints_of_the_child_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let whole = std::fs::read(hostile("p", "").file).unwrap();
    let half = write(directory.path(), "half.wasm", &whole[..whole.len() / 2]);
    let said = open(compiler(), half).await.err().unwrap();
    assert!(said.contains("cannot compile") && said.contains("out of bounds"), "{said}");
}

/// 38: what somebody else put into the cache is compiled anew, and never loaded.
#[tokio::test]
async fn a_poisoned_cache_is_compiled_anew() {
    let bed = Ground::bare().open(policy([hostile("p", "")])).await.unwrap();
    let poison = |path: &Path| {
        let mut code = std::fs::read(path).unwrap();
        let middle = code.len() / 2;
        code[middle] ^= 0xff;
        std::fs::remove_file(path).unwrap();
        std::fs::write(path, &code).unwrap();
        code
    };
    let code = |directory: &Path| {
        let entries = std::fs::read_dir(directory).unwrap().flatten();
        entries
            .map(|entry| entry.path())
            .find(|p| p.extension().is_some_and(|e| e == "code"))
            .unwrap()
    };
    let path = code(bed.directory.path());
    let poisoned = poison(&path);
    bed.reload(&bed.config, waypost_plugin::Change::by("test")).await.unwrap();
    bed.good(Stage::Recipients).await;
    assert_ne!(std::fs::read(&path).unwrap(), poisoned, "it was compiled anew");
}
