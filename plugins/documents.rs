//! What the documents of a plugin show must be what the plugin takes: shared by the tests of all of them.
#![allow(clippy::expect_used, reason = "a file of tests")]

use serde_json::Value;

/// The configurations in a README's blocks of TOML, `[plugin.config]`, as the host hands them over.
pub(crate) fn configs(readme: &str, plugin: &str) -> Vec<Value> {
    let blocks = readme.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let config = |block: &str| {
        let document: Value = toml::from_str(block).expect("a block of the README is not TOML");
        let plugins = document.get("plugin")?.as_array()?.iter();
        let named = |entry: &&Value| entry.get("name").is_some_and(|name| name == plugin);
        plugins.filter(named).find_map(|entry| entry.get("config").cloned())
    };
    blocks.filter_map(config).collect()
}

/// Panics unless the schema takes the configuration.
pub(crate) fn must_fit(schema: &str, config: &Value) {
    let schema: Value = serde_json::from_str(schema).expect("the schema is not JSON");
    let validator = jsonschema::validator_for(&schema).expect("the schema is no schema");
    let wrong: Vec<String> =
        validator.iter_errors(config).map(|e| format!("{}: {e}", e.instance_path)).collect();
    assert!(wrong.is_empty(), "{config}: {wrong:?}");
}

/// Panics unless every key of the schema is in the README, as `code`.
pub(crate) fn must_tell_all(schema: &str, readme: &str) {
    let schema: Value = serde_json::from_str(schema).expect("the schema is not JSON");
    let mut keys = Vec::new();
    gather(&schema, &mut keys);
    assert!(!keys.is_empty());
    for key in keys {
        assert!(readme.contains(&format!("`{key}`")), "the README does not tell of `{key}`");
    }
}

fn gather(schema: &Value, keys: &mut Vec<String>) {
    match schema {
        Value::Object(members) => {
            if let Some(Value::Object(properties)) = members.get("properties") {
                keys.extend(properties.keys().cloned());
            }
            members.values().for_each(|value| gather(value, keys));
        }
        Value::Array(items) => items.iter().for_each(|value| gather(value, keys)),
        _ => {}
    }
}
