//! The contract as its files say it. What has no doc comment is refused.

use std::path::Path;

use anyhow::{Context, ensure};
use wit_parser::{
    Docs, Function, Interface, Resolve, Type, TypeDef, TypeDefKind, TypeId, TypeOwner, World,
    WorldItem,
};

/// The world that exports every hook, and the one that imports all there is.
const HOOKS: &str = "host-view";
const HOST: &str = "imports";
/// The interface with nothing but types.
const TYPES: &str = "types";

pub(super) struct Contract {
    resolve: Resolve,
    /// `waypost:policy@0.1.0`.
    pub(super) package: String,
    hooks: Vec<String>,
    host: Vec<String>,
}

impl Contract {
    /// Reads the files of a folder.
    ///
    /// # Errors
    /// When they are no contract, or something in them has no doc comment.
    pub(super) fn read(folder: &Path) -> anyhow::Result<Contract> {
        let mut resolve = Resolve::default();
        let (id, _) =
            resolve.push_dir(folder).with_context(|| format!("{} is no WIT", folder.display()))?;
        let package = resolve.packages[id].name.to_string();
        let mut contract = Contract { resolve, package, hooks: Vec::new(), host: Vec::new() };
        contract.hooks = interfaces(&contract.resolve, &contract.every_hook()?.exports);
        contract.host = interfaces(&contract.resolve, &contract.whole_host()?.imports);
        contract.host.retain(|name| name != TYPES);
        let missing = contract.undocumented();
        ensure!(missing.is_empty(), "no doc comment in wit/ for: {}", missing.join(", "));
        Ok(contract)
    }

    /// What a plugin may export, in the order of a message's way.
    pub(super) fn hooks(&self) -> impl Iterator<Item = &Interface> {
        self.hooks.iter().filter_map(|name| self.interface(name))
    }

    /// What a plugin may import.
    pub(super) fn host(&self) -> impl Iterator<Item = &Interface> {
        self.host.iter().filter_map(|name| self.interface(name))
    }

    /// What both exchange.
    pub(super) fn types(&self) -> anyhow::Result<&Interface> {
        self.interface(TYPES).context("no interface types")
    }

    /// The world that exports every hook.
    pub(super) fn every_hook(&self) -> anyhow::Result<&World> {
        self.world(HOOKS)
    }

    /// The world that imports all there is.
    pub(super) fn whole_host(&self) -> anyhow::Result<&World> {
        self.world(HOST)
    }

    /// The other ones, for plugins of usual kinds.
    pub(super) fn worlds(&self) -> impl Iterator<Item = &World> {
        let worlds = self.resolve.worlds.iter().map(|(_, world)| world);
        worlds.filter(|world| ![HOOKS, HOST].contains(&world.name.as_str()))
    }

    fn world(&self, name: &str) -> anyhow::Result<&World> {
        let mut worlds = self.resolve.worlds.iter().map(|(_, world)| world);
        worlds.find(|world| world.name == name).with_context(|| format!("no world {name}"))
    }

    /// Names of the interfaces that a world exports.
    pub(super) fn exports(&self, world: &World) -> Vec<String> {
        interfaces(&self.resolve, &world.exports)
    }

    fn interface(&self, name: &str) -> Option<&Interface> {
        let mut interfaces = self.resolve.interfaces.iter().map(|(_, interface)| interface);
        interfaces.find(|interface| interface.name.as_deref() == Some(name))
    }

    /// Types that an interface defines itself, in order.
    pub(super) fn own_types<'a>(
        &'a self,
        interface: &'a Interface,
    ) -> impl Iterator<Item = (&'a str, &'a TypeDef)> {
        let types = interface.types.iter();
        let types = types.map(|(name, id)| (name.as_str(), &self.resolve.types[*id]));
        types.filter(|(_, definition)| !is_alias(definition))
    }

    /// A type in the words of WIT. `name` writes one that has a name.
    pub(super) fn spelt(&self, ty: &Type, name: &dyn Fn(&str, &str) -> String) -> String {
        let Type::Id(id) = ty else { return primitive(ty).to_owned() };
        let definition = &self.resolve.types[*id];
        if let Some((interface, text)) = self.named(*id) {
            return name(&interface, &text);
        }
        let of = |ty: &Type| self.spelt(ty, name);
        match &definition.kind {
            TypeDefKind::List(item) => format!("list<{}>", of(item)),
            TypeDefKind::Option(item) => format!("option<{}>", of(item)),
            TypeDefKind::Tuple(tuple) => {
                format!("tuple<{}>", tuple.types.iter().map(of).collect::<Vec<_>>().join(", "))
            }
            TypeDefKind::Result(result) => {
                let part = |ty: &Option<Type>| ty.as_ref().map_or_else(|| "_".to_owned(), of);
                format!("result<{}, {}>", part(&result.ok), part(&result.err))
            }
            other => other.as_str().to_owned(),
        }
    }

    /// Interface and name of a type, seen through `use`.
    fn named(&self, id: TypeId) -> Option<(String, String)> {
        let definition = &self.resolve.types[id];
        let name = definition.name.clone()?;
        match definition.kind {
            TypeDefKind::Type(Type::Id(original)) => self.named(original),
            _ => match definition.owner {
                TypeOwner::Interface(interface) => {
                    Some((self.resolve.interfaces[interface].name.clone()?, name))
                }
                _ => None,
            },
        }
    }

    /// Everything without a doc comment.
    fn undocumented(&self) -> Vec<String> {
        let mut missing = Vec::new();
        let mut look = |docs: &Docs, what: String| {
            if docs.contents.as_deref().is_none_or(|text| text.trim().is_empty()) {
                missing.push(what);
            }
        };
        for (_, interface) in &self.resolve.interfaces {
            let place = interface.name.clone().unwrap_or_default();
            look(&interface.docs, place.clone());
            for (name, function) in &interface.functions {
                look(&function.docs, format!("{place}.{name}"));
            }
            for (name, definition) in self.own_types(interface) {
                look(&definition.docs, format!("{place}.{name}"));
                for (part, docs) in parts(definition) {
                    look(docs, format!("{place}.{name}.{part}"));
                }
            }
        }
        for (_, world) in &self.resolve.worlds {
            look(&world.docs, format!("world {}", world.name));
        }
        missing
    }
}

fn is_alias(definition: &TypeDef) -> bool {
    matches!(definition.kind, TypeDefKind::Type(Type::Id(_)))
}

/// Fields and cases.
fn parts(definition: &TypeDef) -> Vec<(&str, &Docs)> {
    match &definition.kind {
        TypeDefKind::Record(record) => {
            record.fields.iter().map(|field| (field.name.as_str(), &field.docs)).collect()
        }
        TypeDefKind::Variant(variant) => {
            variant.cases.iter().map(|case| (case.name.as_str(), &case.docs)).collect()
        }
        TypeDefKind::Enum(cases) => {
            cases.cases.iter().map(|case| (case.name.as_str(), &case.docs)).collect()
        }
        _ => Vec::new(),
    }
}

fn interfaces<'a>(
    resolve: &Resolve,
    items: impl IntoIterator<Item = (&'a wit_parser::WorldKey, &'a WorldItem)>,
) -> Vec<String> {
    let name = |(_, item): (_, &WorldItem)| match item {
        WorldItem::Interface { id, .. } => resolve.interfaces[*id].name.clone(),
        _ => None,
    };
    items.into_iter().filter_map(name).collect()
}

/// The one function of a hook, or all of a host interface.
pub(super) fn functions(interface: &Interface) -> impl Iterator<Item = &Function> {
    interface.functions.values()
}

fn primitive(ty: &Type) -> &'static str {
    match ty {
        Type::Bool => "bool",
        Type::U8 => "u8",
        Type::U16 => "u16",
        Type::U32 => "u32",
        Type::U64 => "u64",
        Type::S8 => "s8",
        Type::S16 => "s16",
        Type::S32 => "s32",
        Type::S64 => "s64",
        Type::F32 => "f32",
        Type::F64 => "f64",
        Type::Char => "char",
        Type::String => "string",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> anyhow::Result<Contract> {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("a.wit"), text)?;
        Contract::read(folder.path())
    }

    #[test]
    fn what_has_no_doc_comment_is_named() {
        let text = "package a:b@0.1.0;\n/// T.\ninterface types { /// R.\n record r { f: u8 } }\n\
             interface h { use types.{r}; /// F.\n f: func(r: r); }\n\
             /// I.\nworld imports { import types; }\nworld host-view { export h; }\n";
        let error = read(text).err().unwrap().to_string();
        assert!(error.ends_with("types.r.f, h, world host-view"), "{error}");
    }
}
