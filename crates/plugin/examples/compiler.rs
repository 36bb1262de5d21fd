//! What the relay's program does when it is called as `waypost plugin compile FROM TO`; for the tests.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [plugin, compile, from, to] = arguments.as_slice() else {
        eprintln!("usage: compiler plugin compile FROM TO");
        return ExitCode::FAILURE;
    };
    if (plugin.as_str(), compile.as_str()) != ("plugin", "compile") {
        eprintln!("this compiles, and nothing else");
        return ExitCode::FAILURE;
    }
    match waypost_plugin::compile_as_child(Path::new(from), Path::new(to)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(complaint) => {
            eprintln!("{complaint}");
            ExitCode::FAILURE
        }
    }
}
