//! The pages in Markdown: one for each interface, and an index.

use std::collections::BTreeSet;

use anyhow::Context;
use wit_parser::{Docs, Function, Interface, Type, TypeDef, TypeDefKind};

use super::contract::{Contract, functions};
use super::{Pages, fault};

const INDEX: &str = "README.md";
const MADE: &str = "<!-- Made by `cargo xtask docs` from wit/*.wit: change those. -->\n";

/// All pages. `example` finds the Rust code that shows a hook.
///
/// # Errors
/// When a hook has no example or says nothing of faults.
pub(super) fn all(
    contract: &Contract,
    example: impl Fn(&str) -> anyhow::Result<String>,
) -> anyhow::Result<Pages> {
    let mut pages = Pages::new();
    let name = |interface: &Interface| interface.name.clone().unwrap_or_default();
    pages.insert(INDEX.to_owned(), index(contract)?);
    pages.insert("types.md".to_owned(), types(contract)?);
    for interface in contract.host() {
        pages.insert(format!("{}.md", name(interface)), host(contract, interface));
    }
    for interface in contract.hooks() {
        let name = name(interface);
        let stage = name.trim_end_matches("-hook").replace('-', "_");
        let page = hook(contract, interface, &example(&stage)?)?;
        pages.insert(format!("{name}.md"), page);
    }
    Ok(pages)
}

fn index(contract: &Contract) -> anyhow::Result<String> {
    let mut page = format!(
        "{MADE}\n# The contract `{}`\n\n\
         What the relay and a plugin say to each other. A plugin is a WebAssembly component; its world \
         exports\nthe hooks it answers and imports what it asks of the host. The files themselves: \
         [`wit/`](../../../wit).\nFor operators: [plugins](../../plugins.md).\n",
        contract.package
    );
    let heads = "| interface | |\n|---|---|\n";
    page += &format!("\n## Hooks\n\n{}\n\n{heads}", text(&contract.every_hook()?.docs));
    contract.hooks().for_each(|interface| page += &line(interface));
    page += &format!("\n## The host\n\n{}\n\n{heads}", text(&contract.whole_host()?.docs));
    contract.host().for_each(|interface| page += &line(interface));
    page += "\n## Types\n\n[All of them](types.md).\n\n## Ready-made worlds\n\n\
             | world | | exports |\n|---|---|---|\n";
    for world in contract.worlds() {
        let exports: Vec<String> =
            contract.exports(world).iter().map(|name| page_of(name)).collect();
        page += &format!("| `{}` | {} | {} |\n", world.name, cell(&world.docs), exports.join(", "));
    }
    Ok(page)
}

/// An interface in the index: the first two sentences about it.
fn line(interface: &Interface) -> String {
    let name = interface.name.as_deref().unwrap_or_default();
    let text = cell(&interface.docs);
    let sentences: Vec<&str> = text.split(". ").take(2).collect();
    format!("| {} | {} |\n", page_of(name), sentences.join(". ").trim_end_matches('.'))
}

fn page_of(interface: &str) -> String {
    format!("[`{interface}`]({interface}.md)")
}

fn types(contract: &Contract) -> anyhow::Result<String> {
    let interface = contract.types()?;
    let mut page = format!("{MADE}\n# Types\n\n{}\n", text(&interface.docs));
    for (name, definition) in contract.own_types(interface) {
        page += &definition_of(contract, "types", name, definition);
    }
    Ok(page)
}

fn host(contract: &Contract, interface: &Interface) -> String {
    let name = interface.name.as_deref().unwrap_or_default();
    let mut page = format!("{MADE}\n# `{name}`\n\n{}\n", text(&interface.docs));
    page += &format!("\nImported as `{}`.\n", versioned(contract, name));
    for function in functions(interface) {
        page += &format!("\n## `{}`\n\n", function.name);
        page += &function_of(contract, name, function);
    }
    for (type_name, definition) in contract.own_types(interface) {
        page += &definition_of(contract, name, type_name, definition);
    }
    page
}

fn hook(contract: &Contract, interface: &Interface, example: &str) -> anyhow::Result<String> {
    let name = interface.name.as_deref().unwrap_or_default();
    let mut page = format!("{MADE}\n# `{name}`\n\n{}\n", text(&interface.docs));
    page += &format!("\nExported as `{}`.\n", versioned(contract, name));
    for function in functions(interface) {
        page += &format!("\n## `{}`\n\n", function.name);
        page += &function_of(contract, name, function);
        if name.ends_with("-hook") {
            let rows = fault::rows(&text(&function.docs))
                .with_context(|| format!("{name} does not say what a fault does"))?;
            page += "\n## What a fault does\n\n| `on-error` | what follows |\n|---|---|\n";
            for (word, follows) in rows {
                let word = if word.contains('`') { word.to_owned() } else { format!("`{word}`") };
                page += &format!("| {word} | {follows} |\n");
            }
        }
    }
    for (type_name, definition) in contract.own_types(interface) {
        page += &definition_of(contract, name, type_name, definition);
    }
    page += &format!(
        "\n## In Rust\n\nWith the SDK; a test compiles and runs this.\n\n```rust\n{}\n```\n\n\
         Whole plugins to start from, in [Rust](../../../examples/plugins/rust/README.md), \
         [JavaScript](../../../examples/plugins/javascript/README.md), \
         [Python](../../../examples/plugins/python/README.md) and \
         [C](../../../examples/plugins/c/README.md).\n",
        shown(example)
    );
    Ok(page)
}

/// An example without its test and what only the test needs.
fn shown(example: &str) -> &str {
    example.split("\n#[test]").next().unwrap_or(example).trim()
}

fn versioned(contract: &Contract, interface: &str) -> String {
    match contract.package.split_once('@') {
        Some((package, version)) => format!("{package}/{interface}@{version}"),
        None => format!("{}/{interface}", contract.package),
    }
}

fn function_of(contract: &Contract, here: &str, function: &Function) -> String {
    let plain = |_: &str, name: &str| name.to_owned();
    let parameter = |parameter: &wit_parser::Param| {
        format!("{}: {}", parameter.name, contract.spelt(&parameter.ty, &plain))
    };
    let parameters: Vec<String> = function.params.iter().map(parameter).collect();
    let arrow = function
        .result
        .as_ref()
        .map_or_else(String::new, |ty| format!(" -> {}", contract.spelt(ty, &plain)));
    let flat = format!("{}: func({}){arrow};", function.name, parameters.join(", "));
    let signature = match flat.len() {
        0..=100 => flat,
        _ => format!("{}: func(\n    {},\n){arrow};", function.name, parameters.join(",\n    ")),
    };
    let mut page = format!("```wit\n{signature}\n```\n\n{}\n", text(&function.docs));
    let types = used(contract, here, function);
    if !types.is_empty() {
        page += &format!("\nTypes: {}.\n", types.join(", "));
    }
    page
}

/// Links to the types in a signature, each once, in order.
fn used(contract: &Contract, here: &str, function: &Function) -> Vec<String> {
    let found = std::cell::RefCell::new(Vec::new());
    let note = |interface: &str, name: &str| {
        found.borrow_mut().push(link(here, interface, name));
        String::new()
    };
    for parameter in &function.params {
        contract.spelt(&parameter.ty, &note);
    }
    if let Some(result) = &function.result {
        contract.spelt(result, &note);
    }
    let mut seen = BTreeSet::new();
    found.into_inner().into_iter().filter(|link| seen.insert(link.clone())).collect()
}

fn link(here: &str, interface: &str, name: &str) -> String {
    let page = if here == interface { String::new() } else { format!("{interface}.md") };
    format!("[`{name}`]({page}#{name})")
}

fn definition_of(contract: &Contract, here: &str, name: &str, definition: &TypeDef) -> String {
    let mut page = format!("\n## `{name}`\n\n{}\n", text(&definition.docs));
    let ty = |ty: &Type| linked(contract, here, ty);
    let row = |name: &str, ty: Option<String>, docs: &Docs| {
        let ty = ty.map_or_else(String::new, |ty| format!(" {ty} |"));
        format!("| `{name}` |{ty} {} |\n", cell(docs))
    };
    match &definition.kind {
        TypeDefKind::Record(record) => {
            page += "\n| field of the record | type | |\n|---|---|---|\n";
            for field in &record.fields {
                page += &row(&field.name, Some(ty(&field.ty)), &field.docs);
            }
        }
        TypeDefKind::Variant(variant) => {
            page += "\n| case of the variant | carries | |\n|---|---|---|\n";
            for case in &variant.cases {
                let carried = case.ty.as_ref().map_or_else(|| "–".to_owned(), ty);
                page += &row(&case.name, Some(carried), &case.docs);
            }
        }
        TypeDefKind::Enum(cases) => {
            page += "\n| case of the enum | |\n|---|---|\n";
            for case in &cases.cases {
                page += &row(&case.name, None, &case.docs);
            }
        }
        _ => {}
    }
    page
}

/// A type with its name as a link: code cannot hold one, so the code is cut around it.
fn linked(contract: &Contract, here: &str, ty: &Type) -> String {
    let cut = |interface: &str, name: &str| format!("`{}`", link(here, interface, name));
    format!("`{}`", contract.spelt(ty, &cut)).replace("``", "")
}

fn text(docs: &Docs) -> String {
    docs.contents.as_deref().unwrap_or_default().trim().to_owned()
}

/// For a table: in one line, without what would end a cell.
fn cell(docs: &Docs) -> String {
    let words: Vec<&str> =
        docs.contents.as_deref().unwrap_or_default().split_whitespace().collect();
    words.join(" ").replace('|', "\\|")
}
