//! Components that no toolchain makes: a core module by hand, made a component as toolchains do it, of
//! the contract or a version of it that never was.

use std::path::{Path, PathBuf};

use waypost_plugin::PluginConfig;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// What is to be made.
pub struct Forge<'a> {
    /// Texts of the contract and what stands there instead.
    pub changes: &'a [(&'a str, &'a str)],
    /// Lines of the world.
    pub world: &'a str,
    /// The core module.
    pub module: &'a str,
}

/// The world of who answers about recipients.
pub const RECIPIENTS: &str = "export waypost:policy/recipient-hook@0.1.0;";

/// A module that answers about recipients by `body`, which leaves the address of the answer. The answer
/// is a byte (0 for ok), a pointer at 4 and a length at 8; an outcome has 52 octets, and zeros are one
/// of the recipient 0, who proceeds.
pub fn recipients(rest: &str, body: &str) -> String {
    answering("waypost:policy/recipient-hook@0.1.0#on-recipients", rest, body)
}

pub fn answering(export: &str, rest: &str, body: &str) -> String {
    format!(
        r#"(module
            {rest}
            (memory (export "memory") 4)
            (global $next (mut i32) (i32.const 65536))
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                (global.set $next (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
                (global.get $next)
                (global.set $next (i32.add (global.get $next) (local.get 3))))
            (func (export "{export}") (param i32) (result i32)
                (global.set $next (i32.const 65536))
                {body}))"#
    )
}

impl Forge<'_> {
    pub fn octets(&self) -> Vec<u8> {
        let mut resolve = Resolve::default();
        resolve.push_str("contract.wit", &self.contract()).unwrap();
        let world = format!("package forged:plugin; world plugin {{ {} }}", self.world);
        let package = resolve.push_str("world.wit", &world).unwrap();
        let world = resolve.select_world(&[package], None).unwrap();
        let mut module = wat::parse_str(self.module).unwrap_or_else(|error| panic!("{error}"));
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
        let mut encoder = ComponentEncoder::default();
        let encoder = encoder.module(&module).unwrap();
        encoder.encode().unwrap_or_else(|error| panic!("{error:#}"))
    }

    fn contract(&self) -> String {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit");
        let package = "package waypost:policy@0.1.0;";
        let mut whole = package.to_owned();
        for file in ["types.wit", "host.wit", "hooks.wit", "worlds.wit"] {
            let text = std::fs::read_to_string(directory.join(file)).unwrap();
            whole += &text.replace(package, "");
        }
        for (from, to) in self.changes {
            assert!(whole.contains(from), "the contract has no {from:?}");
            whole = whole.replace(from, to);
        }
        whole
    }

    /// A plugin of it, whose file lies in `directory`.
    pub fn plugin(&self, directory: &Path) -> PluginConfig {
        PluginConfig::new("forged", write(directory, "forged.wasm", &self.octets()))
    }
}

pub fn write(directory: &Path, name: &str, octets: &[u8]) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, octets).unwrap();
    path
}

/// A plugin that answers about recipients by hand.
pub fn by_hand(directory: &Path, rest: &str, body: &str) -> PluginConfig {
    let module = recipients(rest, body);
    Forge { changes: &[], world: RECIPIENTS, module: &module }.plugin(directory)
}
