//! Whom `cargo xtask guests` asks for a compiler, on machines that are made of shell scripts: no test
//! runs the machine's own rustup or apt-get.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

const TARGET_WITHOUT_STD: &str = r#"
case "$*" in
    *target-libdir*) echo "$MACHINE/lib" ;;
    *sysroot*) echo "$MACHINE/sysroot" ;;
    *host-tuple*) echo x86_64-unknown-linux-gnu ;;
esac"#;
const RUSTUP: &str = r#"echo "$@" >>"$MACHINE/rustup-was-asked"; : >"$MACHINE/lib/libstd-1.rlib""#;
const REFUSES: &str = "echo no network >&2; exit 1";
/// With lists of packages in which the compiler is not.
const APT_GET: &str = r#"echo "$@" >>"$MACHINE/apt-was-asked""#;

struct Machine(TempDir);

impl Machine {
    fn with(programs: &[(&str, &str)]) -> Self {
        let machine = Self(TempDir::new().unwrap());
        for folder in ["bin", "lib", "home", "sysroot/lib/rustlib/x86_64-unknown-linux-gnu/bin"] {
            fs::create_dir_all(machine.path().join(folder)).unwrap();
        }
        for (name, script) in programs.iter().chain(&[("rustc", TARGET_WITHOUT_STD)]) {
            let program = machine.path().join("bin").join(name);
            fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        }
        machine
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn find(&self, variables: &[(&str, &str)]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_xtask"))
            .args(["guests", "--toolchain"])
            .env_clear()
            .env("PATH", self.path().join("bin"))
            .env("HOME", self.path().join("home"))
            .env("MACHINE", self.path())
            .envs(variables.iter().copied())
            .output()
            .unwrap()
    }

    fn asked(&self, whom: &str) -> Option<String> {
        fs::read_to_string(self.path().join(format!("{whom}-was-asked"))).ok()
    }
}

fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}", complaint(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn complaint(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

const OWN: &str = "export WASM_RUSTC='rustc'\n\
                   export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=wasm-component-ld\n";

#[test]
fn an_installed_target_is_used_and_nobody_asked() {
    let machine = Machine::with(&[("rustup", RUSTUP), ("apt-get", APT_GET)]);
    fs::write(machine.path().join("lib/libstd-1.rlib"), "").unwrap();
    let programs = machine.path().join("sysroot/lib/rustlib/x86_64-unknown-linux-gnu/bin");
    fs::write(programs.join("wasm-component-ld"), "").unwrap();
    assert_eq!(printed(&machine.find(&[("WAYPOST_WASM_TARGET", "rustup")])), OWN);
    assert_eq!((machine.asked("rustup"), machine.asked("apt")), (None, None));
}

#[test]
fn an_installed_target_without_its_linker_says_how_to_get_it() {
    let machine = Machine::with(&[]);
    fs::write(machine.path().join("lib/libstd-1.rlib"), "").unwrap();
    let said = complaint(&machine.find(&[]));
    assert!(said.contains("cargo install wasm-component-ld"), "{said}");
}

#[test]
fn without_packages_rustup_adds_the_target() {
    let machine = Machine::with(&[("rustup", RUSTUP)]);
    assert_eq!(printed(&machine.find(&[])), OWN);
    assert_eq!(machine.asked("rustup").as_deref(), Some("target add wasm32-unknown-unknown\n"));
}

#[test]
fn a_distribution_without_the_compiler_leaves_it_to_rustup() {
    let machine =
        Machine::with(&[("rustup", RUSTUP), ("apt-get", APT_GET), ("apt-cache", REFUSES)]);
    assert_eq!(printed(&machine.find(&[])), OWN);
    assert!(machine.asked("apt").unwrap().starts_with("--version\n"));
    assert_eq!(machine.asked("rustup").as_deref(), Some("target add wasm32-unknown-unknown\n"));
}

#[test]
fn rustup_is_asked_first_when_it_is_preferred() {
    let machine = Machine::with(&[("rustup", RUSTUP), ("apt-get", APT_GET), ("apt-cache", "")]);
    assert_eq!(printed(&machine.find(&[("WAYPOST_WASM_TARGET", "rustup")])), OWN);
    assert_eq!(machine.asked("apt"), None);
}

#[test]
fn packages_that_cannot_be_fetched_are_an_error_and_not_a_reason_to_ask_rustup() {
    let depends = "case \"$*\" in
        *recurse*) ;;
        *libstd-rust-web-dev*) echo '  Depends: libstd-rust-web-1.96' ;;
        *depends*) echo '  Depends: libstd-rust-web-dev' ;;
    esac";
    let apt_get = "case \"$1\" in download) echo no network >&2; exit 100 ;; esac";
    let machine =
        Machine::with(&[("rustup", RUSTUP), ("apt-get", apt_get), ("apt-cache", depends)]);
    let programs = machine.path().join("sysroot/lib/rustlib/x86_64-unknown-linux-gnu/bin");
    for lent in ["rust-lld", "gcc-ld", "wasm-component-ld", "rust-objcopy"] {
        fs::write(programs.join(lent), "").unwrap();
    }
    let output = machine.find(&[]);
    let said = complaint(&output);
    assert!(!output.status.success() && said.contains("apt-get could not download"), "{said}");
    assert_eq!(machine.asked("rustup"), None);
    assert!(!machine.path().join("home/.cache/waypost-wasm").exists());
}

#[test]
fn a_rustup_that_fails_is_told_of_with_the_other_way() {
    let machine = Machine::with(&[("rustup", REFUSES)]);
    let output = machine.find(&[]);
    assert!(!output.status.success());
    let said = complaint(&output);
    assert!(said.contains("no network") && said.contains("WAYPOST_WASM_TARGET=packages"), "{said}");
}

#[test]
fn a_machine_with_neither_says_what_to_do() {
    let output = Machine::with(&[]).find(&[]);
    assert!(!output.status.success());
    let said = complaint(&output);
    assert!(said.contains("rustup target add wasm32-unknown-unknown"), "{said}");
}

#[test]
fn an_unknown_preference_is_refused() {
    let output = Machine::with(&[("rustup", RUSTUP)]).find(&[("WAYPOST_WASM_TARGET", "snap")]);
    let said = complaint(&output);
    assert!(said.contains("`packages` or `rustup`"), "{said}");
}
