//! Turns the packs in `providers/` into two pieces of JSON that are compiled in: the rules, which every
//! instance reads, and their samples, which only the self-test does.

use std::path::Path;
use std::{env, error, fs};

use serde_json::{Map, Value};

fn main() -> Result<(), Box<dyn error::Error>> {
    println!("cargo::rerun-if-changed=providers");
    let mut paths: Vec<_> = fs::read_dir("providers")?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_, std::io::Error>>()?;
    paths.retain(|path| path.extension().is_some_and(|ext| ext == "toml"));
    paths.sort();
    let (mut packs, mut samples) = (Vec::new(), Map::new());
    for path in paths {
        let text = fs::read_to_string(&path)?;
        let mut pack: Value =
            toml::from_str(&text).map_err(|wrong| format!("{}: {wrong}", path.display()))?;
        for rule in pack["rules"].as_array_mut().into_iter().flatten() {
            let Some(rule) = rule.as_object_mut() else { continue };
            let id = rule.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
            samples.insert(id, rule.remove("samples").unwrap_or(Value::Null));
        }
        packs.push(pack);
    }
    let out = env::var("OUT_DIR")?;
    fs::write(Path::new(&out).join("packs.json"), Value::Array(packs).to_string())?;
    fs::write(Path::new(&out).join("samples.json"), Value::Object(samples).to_string())?;
    Ok(())
}
