//! Guests in other languages than Rust: the starters in `examples/plugins`. The commands are those of
//! their READMEs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::inputs::Inputs;
use super::tools::Tools;
use super::{Language, finish};

#[derive(Debug)]
pub(super) struct Starter {
    pub(super) name: &'static str,
    pub(super) language: Language,
    folder: &'static str,
}

impl Starter {
    pub(super) const ALL: &[Self] = &[
        Self {
            name: "guard-javascript",
            language: Language::Javascript,
            folder: "examples/plugins/javascript",
        },
        Self {
            name: "guard-python",
            language: Language::Python,
            folder: "examples/plugins/python",
        },
        Self { name: "guard-c", language: Language::C, folder: "examples/plugins/c" },
    ];

    /// It was built from what is in the tree now.
    pub(super) fn is_fresh(&self, directory: &Path) -> anyhow::Result<bool> {
        Ok(self.component(directory).exists() && self.inputs(directory)?.are_unchanged())
    }

    pub(super) fn build(&self, tools: &Tools, directory: &Path) -> anyhow::Result<()> {
        eprintln!("building {}", self.name);
        let inputs = self.inputs(directory)?;
        // What is half done stays out of the way.
        let scratch = directory.join("scratch");
        fs::create_dir_all(&scratch)?;
        let partial = scratch.join(format!("{}.partial", self.name));
        for command in &mut self.commands(tools, &partial) {
            finish(command.current_dir(crate::workspace()))?;
        }
        fs::rename(&partial, self.component(directory))?;
        inputs.record()
    }

    fn component(&self, directory: &Path) -> PathBuf {
        directory.join(format!("{}.wasm", self.name))
    }

    /// The tools' versions are in files of the folders; this file is the recipe.
    fn inputs(&self, directory: &Path) -> anyhow::Result<Inputs> {
        let folders = ["wit", self.folder, "examples/plugins/javascript"];
        // jco, which makes components of C, is installed beside the tools for JavaScript.
        let folders = if self.language == Language::C { &folders[..] } else { &folders[..2] };
        Inputs::of(include_str!("starters.rs"), folders, &self.component(directory))
    }

    fn commands(&self, tools: &Tools, output: &Path) -> Vec<Command> {
        let source = |file: &str| Path::new(self.folder).join(file);
        match self.language {
            Language::Rust => Vec::new(),
            Language::Javascript => {
                let mut componentize = tools.node("componentize-qjs");
                componentize.args(["--sync", "--stub-wasi", "--wit", "wit", "--world", "filter"]);
                componentize.arg("--js").arg(source("guard.js")).arg("--output").arg(output);
                vec![componentize]
            }
            Language::Python => {
                let mut componentize = tools.python("componentize-py");
                componentize.args(["--quiet", "--wit-path", "wit", "--world", "filter"]);
                componentize.args(["componentize", "guard", "--stub-wasi", "--python-path"]);
                componentize.arg(self.folder).arg("--output").arg(output);
                vec![componentize]
            }
            Language::C => {
                let core = output.with_extension("core");
                let mut compile = tools.python("python");
                compile.args(["-m", "ziglang", "cc", "-target", "wasm32-wasi"]);
                compile.args(["-mexec-model=reactor", "-Os", "-s", "-std=c11", "-Wall", "-Wextra"]);
                compile.args(["guard.c", "json.c", "bindings/guard.c"].map(source));
                compile.arg(source("bindings/guard_component_type.o")).arg("-o").arg(&core);
                let mut componentize = tools.node("jco");
                componentize.arg("new").arg(core).arg("--output").arg(output);
                vec![compile, componentize]
            }
        }
    }
}
