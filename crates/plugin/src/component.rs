//! What a component is before anything of it runs: what it exports and imports, and whether this host
//! can take it.

use wasmtime::Engine;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, InstancePre, Linker};

use crate::context::Context;
use crate::engine::Room;
use crate::question::Hooks;
use crate::{Stage, host};

/// The package of the contract and the version this host serves.
const PACKAGE: &str = "waypost:policy/";
const VERSION: &str = "0.1";

/// Why a component cannot be taken, in words for its author.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// It wants WASI.
    #[error(
        "it imports {0}, and this host offers no WASI: a plugin has the contract alone. Build it \
         without: Rust for wasm32-unknown-unknown with the linker wasm-component-ld; JavaScript with \
         componentize-qjs --sync --stub-wasi; Python with componentize-py … componentize --stub-wasi; C \
         as examples/plugins/c does"
    )]
    Wasi(String),
    /// It was built against another version of the contract.
    #[error(
        "it imports {import}, and this host serves waypost:policy@{VERSION}: build it against that"
    )]
    OtherVersion {
        /// What it imports.
        import: String,
    },
    /// It imports something else.
    #[error("it imports {0}, which is no interface of waypost:policy@{VERSION}")]
    Unknown(String),
    /// It exports a hook of another version.
    #[error(
        "it exports {export}, and this host serves waypost:policy@{VERSION}: build it against that"
    )]
    OtherHook {
        /// What it exports.
        export: String,
    },
    /// There is nothing to call.
    #[error(
        "it exports no hook, so there is nothing to call: its world must export interfaces such as \
         waypost:policy/recipient-hook@0.1.0"
    )]
    NothingToCall,
    /// A function has another type.
    #[error("{0}")]
    Type(String),
    /// It wants asynchronous functions.
    #[error(
        "it uses the asynchronous ABI of components, which this host does not: build it with synchronous \
         exports (componentize-qjs --sync)"
    )]
    Asynchronous,
}

/// What a component exports and imports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shape {
    /// Names of exported interfaces.
    pub exports: Vec<String>,
    /// Names of imported interfaces.
    pub imports: Vec<String>,
}

impl Shape {
    /// What the type of the component says.
    pub(crate) fn of(engine: &Engine, component: &Component) -> Shape {
        let kind = component.component_type();
        let interface = |(name, item): (&str, ComponentItem)| {
            matches!(item, ComponentItem::ComponentInstance(_)).then(|| name.to_owned())
        };
        Shape {
            exports: kind
                .exports(engine)
                .map(|(name, item)| (name, item.ty))
                .filter_map(interface)
                .collect(),
            imports: kind
                .imports(engine)
                .map(|(name, item)| (name, item.ty))
                .filter_map(interface)
                .collect(),
        }
    }

    /// Everything that can be said against it without running it.
    fn misfits(&self) -> Vec<Misfit> {
        let mut misfits = Vec::new();
        let wasi: Vec<&str> = self
            .imports
            .iter()
            .filter(|import| import.starts_with("wasi:"))
            .map(String::as_str)
            .collect();
        if !wasi.is_empty() {
            misfits.push(Misfit::Wasi(wasi.join(", ")));
        }
        for import in self.imports.iter().filter(|import| !import.starts_with("wasi:")) {
            match import.strip_prefix(PACKAGE) {
                Some(rest) if !is_ours(rest) => {
                    misfits.push(Misfit::OtherVersion { import: import.clone() });
                }
                Some(_) => {}
                None => misfits.push(Misfit::Unknown(import.clone())),
            }
        }
        for export in &self.exports {
            if export.strip_prefix(PACKAGE).is_some_and(|rest| !is_ours(rest)) {
                misfits.push(Misfit::OtherHook { export: export.clone() });
            }
        }
        misfits
    }

    /// Names of imported interfaces of the contract, without package and version.
    pub fn imported(&self) -> impl Iterator<Item = &str> {
        self.imports.iter().filter_map(|import| {
            let rest = import.strip_prefix(PACKAGE)?;
            Some(rest.split('@').next().unwrap_or(rest))
        })
    }
}

/// `recipient-hook@0.1.7`: 0.1 is one track.
fn is_ours(rest: &str) -> bool {
    let version = rest.split_once('@').map_or("", |(_, version)| version);
    version.strip_prefix(VERSION).is_some_and(|patch| patch.starts_with('.'))
}

/// A component that fits, linked to the host.
pub(crate) struct Linked {
    pub(crate) pre: InstancePre<Context>,
    pub(crate) hooks: Hooks,
    pub(crate) stages: Vec<Stage>,
}

/// Links a component to the host.
///
/// # Errors
/// Everything that does not fit.
pub(crate) fn link(engine: &Engine, component: &Component) -> Result<Linked, Vec<Misfit>> {
    let shape = Shape::of(engine, component);
    let misfits = shape.misfits();
    if !misfits.is_empty() {
        return Err(misfits);
    }
    let typed = |error: wasmtime::Error| vec![Misfit::Type(format!("{error:#}"))];
    let mut linker = Linker::new(engine);
    host::link(&mut linker).map_err(typed)?;
    let pre = linker.instantiate_pre(component).map_err(typed)?;
    let hooks = Hooks::probe(&pre);
    let stages = crate::instance::stages(&hooks);
    if stages.is_empty() {
        return Err(vec![Misfit::NothingToCall]);
    }
    Ok(Linked { pre, hooks, stages })
}

/// How much room `slots` instances of a component take in the pooling allocator.
///
/// # Errors
/// When it imports modules, so that nobody can say.
pub(crate) fn room(component: &Component, slots: u32, memory: usize) -> Result<Room, Misfit> {
    let needs = component
        .resources_required()
        .ok_or_else(|| Misfit::Unknown("a core module".to_owned()))?;
    Ok(Room {
        instances: slots,
        memories: needs.num_memories.saturating_mul(slots),
        tables: needs.num_tables.saturating_mul(slots),
        memories_of_one: needs.num_memories,
        tables_of_one: needs.num_tables,
        memory,
    })
}

impl Room {
    /// Room for both.
    pub(crate) fn and(self, other: Room) -> Room {
        Room {
            instances: self.instances.saturating_add(other.instances),
            memories: self.memories.saturating_add(other.memories),
            tables: self.tables.saturating_add(other.tables),
            memories_of_one: self.memories_of_one.max(other.memories_of_one),
            tables_of_one: self.tables_of_one.max(other.tables_of_one),
            memory: self.memory.max(other.memory),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_does_not_fit() {
        let shape = Shape {
            exports: vec!["waypost:policy/recipient-hook@0.2.0".into(), "exports".into()],
            imports: vec![
                "wasi:cli/environment@0.2.6".into(),
                "waypost:policy/log@0.1.9".into(),
                "waypost:policy/dns@0.2.0".into(),
                "acme:own/thing".into(),
            ],
        };
        let said: Vec<String> = shape.misfits().iter().map(ToString::to_string).collect();
        assert_eq!(said.len(), 4, "{said:?}");
        assert!(said[0].contains("wasi:cli/environment@0.2.6") && said[0].contains("--stub-wasi"));
        assert!(said[1].contains("dns@0.2.0") && said[2].contains("acme:own/thing"));
        assert!(said[3].contains("recipient-hook@0.2.0"));
        assert_eq!(shape.imported().collect::<Vec<_>>(), ["log", "dns"]);
    }
}
